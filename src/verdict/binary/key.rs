//! What decides a test target's outcome and is known before it runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::program::BuiltProgram;
use crate::cache::{Cache, InputState, RecordKey, RecordLevel};
use crate::compiler::PlannedTarget;
use crate::config::Settings;
use crate::model::{Digest, Digester, TargetId, TargetKind, Timestamp};
use crate::process::Environment;
use crate::verdict::environment::{AskedEnvironment, EnvironmentJudge, text_of_package};
use crate::verdict::facts::{Facts, Question};
use crate::verdict::fingerprint::{Fingerprints, digest_of_stamp};
use crate::verdict::key::settings_of_tree;
use crate::verdict::patterns::{VariablePlace, VariableRules};
use crate::verdict::processor::PROCESSOR;
use crate::workspace::{is_terminal_variable, names_default_target_dir, without_root};

/// The rules by which keys of these levels are made and their records judged. Raise it with every
/// change of either: an old record then is a miss.
const VERSION: u32 = 9;

/// How many records one target can have under one key: one for each state of what it reads. A
/// branch and back, a fixture and back, are found again.
const SLOTS: u64 = 8;

/// Variables that nextest sets to another value in every run: its number of the run, of the try, of
/// the place in its queue.
const CHANGING_NEXTEST_VARIABLES: &[&str] = &[
    "NEXTEST_RUN_ID",
    "NEXTEST_ATTEMPT_ID",
    "NEXTEST_TEST_GLOBAL_SLOT",
    "NEXTEST_TEST_GROUP_SLOT",
];

/// The prefix of the names of parts that are variables.
const VARIABLE: &str = "environment variable ";

/// The name of the part that says where the program is.
const PATH_OF_PROGRAM: &str = "path of the program";
/// The name of the part that says what is loaded of the program.
pub(in crate::verdict) const PROGRAM: &str = "program";
/// The name of the part that says what the one test of a call reaches; then the rest of the program
/// decides nothing.
pub(in crate::verdict) const REACHED: &str = "reached code";
/// The name under which the record of a call says where its program was.
pub(in crate::verdict) const PROGRAM_FILE: &str = "file of the program";
/// The name under which a record says which variables its project ignored.
pub(super) const IGNORED: &str = "ignored variables";

/// What the targets of a plan have in common.
#[derive(Clone, Debug)]
pub(in crate::verdict) struct PlanContext<'a> {
    pub(in crate::verdict) cache: &'a Cache,
    pub(in crate::verdict) root: &'a Path,
    pub(in crate::verdict) settings: &'a Settings,
    /// The folder in which cargo is called, or the program.
    pub(in crate::verdict) dir: &'a Path,
    /// The client's environment.
    pub(in crate::verdict) environment: &'a Environment,
    /// Where cargo builds.
    pub(in crate::verdict) target_dirs: Vec<PathBuf>,
    /// Folders of the toolchain, which the key tells of.
    pub(in crate::verdict) covered: Vec<PathBuf>,
    pub(in crate::verdict) origin: PlanOrigin,
    /// When the question came; `None` for a call.
    pub(in crate::verdict) asked: Option<Timestamp>,
}

/// Where a plan comes from, with what decides the outcome of its targets besides the plan.
#[derive(Clone, Debug)]
pub(in crate::verdict) enum PlanOrigin {
    /// A question: cargo was asked what it would run.
    Question {
        /// The toolchain, and the processor if the build is for that one, by their names.
        made_by: Vec<(&'static str, Digest)>,
        /// What else decides what is built from a tree.
        build: Digest,
    },
    /// A call of one test program, by cargo itself or by nextest.
    Call {
        /// What else the run can see of where it runs.
        surroundings: String,
        /// The part of the program that counts; `None` if the whole program does.
        reached: Option<ReachedCode>,
    },
}

/// The code that the one test of a call reaches, alone in its process.
#[derive(Clone, Copy, Debug)]
pub(in crate::verdict) struct ReachedCode {
    /// The digest of it and of the toolchain.
    pub(in crate::verdict) digest: Digest,
    /// Digest of the stamp of the program that was looked at.
    pub(in crate::verdict) program: Digest,
}

impl<'a> PlanContext<'a> {
    /// The context of a question's plan.
    pub(in crate::verdict) fn of(
        cache: &'a Cache,
        question: &'a Question,
        facts: &Facts,
        asked: Timestamp,
    ) -> Self {
        let Question { root, selection, environment, settings, .. } = question;
        let mut build = Digester::new("build of a selection 2");
        build.digest(&facts.identity.build_digest()).field(&selection.canonical(root));
        build.digest(&settings_of_tree(settings));
        let known = |name| facts.identity.build.get(name).map(|digest| (name, *digest));
        let made_by = ["toolchain", PROCESSOR].into_iter().filter_map(known).collect();
        Self {
            cache,
            root,
            settings,
            dir: &selection.dir,
            environment,
            target_dirs: facts.target_dirs.clone(),
            covered: facts.toolchain.folders(),
            origin: PlanOrigin::Question { made_by, build: build.finish() },
            asked: Some(asked),
        }
    }

    /// The judge of the variables of its targets.
    pub(super) fn environment_judge(&self) -> EnvironmentJudge<'_> {
        let Self { cache, root, settings, target_dirs, covered, .. } = self;
        EnvironmentJudge {
            cache,
            root,
            target_dirs,
            toolchain: covered.iter().filter_map(|dir| dir.canonicalize().ok()).collect(),
            rules: VariableRules::of(settings),
            known: RefCell::default(),
            told: BTreeMap::new(),
        }
    }

    fn is_of_call(&self) -> bool {
        matches!(self.origin, PlanOrigin::Call { .. })
    }
}

/// A test target about to be run.
#[derive(Clone, Debug)]
pub(in crate::verdict) struct Subject {
    pub(in crate::verdict) id: TargetId,
    /// Everything that decides the outcome and is known beforehand, by name: digests, for keys and
    /// for explanations.
    pub(in crate::verdict) parts: BTreeMap<String, String>,
    /// The program, if cargo built it.
    pub(super) program: Option<BuiltProgram>,
    /// The variables that count if something in the run can name them.
    pub(in crate::verdict) asked: AskedEnvironment,
    /// What else decides what is built from a tree; `None` for a call, which knows no tree.
    build: Option<Digest>,
    /// The slot in which a record of this checkout is first looked for. Checkouts share all slots, and
    /// each should find its own record without reading those of the others.
    first_slot: u64,
}

impl Subject {
    /// A subject without a program or a key, for judging runs.
    pub(super) fn unkeyed(id: TargetId) -> Self {
        let asked = AskedEnvironment::default();
        Self { id, parts: BTreeMap::new(), program: None, asked, build: None, first_slot: 0 }
    }

    /// The subject of a planned target. The cache remembers what is loaded of its program.
    ///
    /// # Errors
    /// If its program cannot be read: then nothing can be looked up or kept for it.
    pub(super) fn of(
        planned: &PlannedTarget,
        context: &PlanContext<'_>,
        fingerprints: &mut Fingerprints,
    ) -> Result<Self, String> {
        let is_of_call = context.is_of_call();
        // Records serve other checkouts too.
        let plain = |text: &OsStr| without_root(text.as_bytes(), context.root);
        let digest = |text: &OsStr| Digest::of(&plain(text));
        let mut parts = BTreeMap::new();
        let mut part = |name: &str, digest: Digest| {
            parts.insert(name.to_owned(), digest.to_string());
        };
        part("target", Digest::of(planned.id.to_string().as_bytes()));
        part(PATH_OF_PROGRAM, digest(planned.program.as_os_str()));
        part("folder", digest(planned.dir.as_os_str()));
        // What may be read and written is another matter for another user.
        part("user", Digest::of(&rustix::process::geteuid().as_raw().to_le_bytes()));
        let mut arguments = Digester::new("arguments 1");
        for argument in &planned.args {
            arguments.field(&plain(argument));
        }
        part("arguments", arguments.finish());
        let build = match &context.origin {
            PlanOrigin::Question { made_by, build } => {
                made_by.iter().for_each(|(name, digest)| part(name, *digest));
                Some(*build)
            }
            PlanOrigin::Call { surroundings, .. } => {
                part("surroundings", Digest::of(surroundings.as_bytes()));
                None
            }
        };
        let is_built = context.target_dirs.iter().any(|dir| planned.program.starts_with(dir));
        // Others are seen to be executed, and count like everything that the run consults.
        let program = match is_built {
            true => Some(BuiltProgram::known(
                &planned.program,
                context.root,
                fingerprints,
                context.cache,
            )?),
            false => None,
        };
        if let Some(BuiltProgram { state: InputState::Program(digest), stamp, .. }) = &program {
            part(PROGRAM, *digest);
            if let PlanOrigin::Call { reached: Some(reached), .. } = &context.origin
                && reached.program == digest_of_stamp(&stamp.without_links())
            {
                part(REACHED, reached.digest);
            }
        }
        let by_nextest = is_of_call && planned.environment.get("NEXTEST").is_some();
        let rules = VariableRules::of(context.settings);
        // What a program can name is in it; examples and calls of single tests are not looked at like that.
        let is_whole = !is_of_call && program.is_some();
        let mut asked = AskedEnvironment::new(&planned.environment, &planned.args);
        for (name, value) in planned.environment.iter() {
            let changes =
                by_nextest && CHANGING_NEXTEST_VARIABLES.iter().any(|known| name == *known);
            if changes {
                continue;
            }
            let is_beside = names_default_target_dir(name, value, context.dir, context.root)
                || is_whole && !rules.adds(name) && text_of_package(name).is_some();
            match rules.place(name, is_terminal_variable(name)) {
                VariablePlace::Nowhere => {}
                VariablePlace::Key if !is_beside => part(&variable(name), digest(value)),
                VariablePlace::Key | VariablePlace::Beside => asked.insert(name, digest(value)),
            }
        }
        let root = Digest::of(context.root.as_os_str().as_bytes());
        let [first_slot, ..] = *root.as_bytes();
        let first_slot = first_slot.into();
        Ok(Self { id: planned.id.clone(), parts, program, asked, build, first_slot })
    }

    /// Digest of everything besides the program, its path and the variables of [`asked`](Self::asked) that
    /// decides the outcome and is known beforehand.
    pub(super) fn context(&self) -> Digest {
        let mut digester = Digester::new("parts besides the program 1");
        let is_of_program = |name: &str| [PROGRAM, PATH_OF_PROGRAM].contains(&name);
        for (name, digest) in self.parts.iter().filter(|(name, _)| !is_of_program(name)) {
            digester.field(name.as_bytes()).field(digest.as_bytes());
        }
        digester.finish()
    }

    /// Digest of all variables of [`asked`](Self::asked).
    pub(super) fn variables(&self) -> Digest {
        let mut digester = Digester::new("variables beside the key 1");
        for (name, digest) in self.asked.variables() {
            digester.field(name.as_bytes()).digest(digest);
        }
        digester.finish()
    }

    /// The keys of the records that name what the run consulted.
    pub(super) fn slots(&self) -> impl Iterator<Item = RecordKey> + use<'_> {
        let domain = if self.build.is_some() { "binary key 1" } else { "call key 1" };
        let parts = self.parts_digest(domain);
        let slots = self.first_slot..self.first_slot + SLOTS;
        slots.map(move |number| self.key(parts.clone().number(number % SLOTS)))
    }

    /// The key of the record of a call that failed: one is enough to compare with.
    pub(super) fn red_call(&self) -> Option<RecordKey> {
        self.build.is_none().then(|| self.key(&self.parts_digest("key of a failed call 1")))
    }

    /// The key of the record of a run of which not all is known: every file counts, and how all
    /// of them were built; another selection may build other programs for the tests to execute.
    pub(super) fn with_tree(&self, tree_digest: &Digest) -> Option<RecordKey> {
        let mut digester = self.parts_digest("binary key with the tree 1");
        Some(self.key(digester.digest(tree_digest).digest(&self.build?)))
    }

    fn key(&self, digester: &Digester) -> RecordKey {
        let level = if self.build.is_some() { RecordLevel::Binary } else { RecordLevel::Call };
        RecordKey { level, version: VERSION, digest: digester.clone().finish() }
    }

    fn parts_digest(&self, domain: &str) -> Digester {
        let mut digester = Digester::new(domain);
        digester.number(self.parts.len() as u64);
        let is_reached = self.parts.contains_key(REACHED);
        for (name, digest) in self.parts.iter().filter(|(name, _)| !is_reached || *name != PROGRAM)
        {
            digester.field(name.as_bytes()).field(digest.as_bytes());
        }
        digester
    }
}

/// A variable's name in the parts; one that is not UTF-8 is told apart by its escaped bytes.
pub(in crate::verdict) fn variable(name: &OsStr) -> String {
    format!("{VARIABLE}{}", name.as_bytes().escape_ascii())
}

/// The variable that a part is of, if it is of one.
pub(super) fn variable_of(part: &str) -> Option<&str> {
    part.strip_prefix(VARIABLE)
}

/// The canonical text that stands for a target in place of a selection, so that its last record
/// can be found.
pub(in crate::verdict) fn selection_text(id: &TargetId) -> String {
    format!("test target {id}")
}

/// The text that stands for a target's records of the package level in place of a selection.
pub(in crate::verdict) fn packages_text(id: &TargetId) -> String {
    format!("packages of test target {id}")
}

/// The plain name of a target, which a call can tell: its package, and its name as it stands in a
/// program's file name, in which `-` has become `_`; of whichever kind, and for whichever platform.
pub(in crate::verdict) fn plain_name(package: &str, target: &str) -> String {
    let name = target.split('@').next().unwrap_or_default();
    format!("{package}::{}", name.replace('-', "_"))
}

/// The text that stands for all calls of a target in place of a selection.
pub(in crate::verdict) fn calls_text(plain: &str) -> String {
    format!("calls of {plain}")
}

/// The targets among `ids` that have the plain name.
pub(in crate::verdict) fn named<'a>(
    ids: &'a [TargetId],
    plain: &str,
) -> impl Iterator<Item = &'a TargetId> {
    ids.iter().filter(move |id| {
        id.kind != TargetKind::Doc && plain_name(&id.package, &id.target) == plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_plain_name_in_every_spelling() {
        assert_eq!(plain_name("p-q", "my-it"), "p-q::my_it");
        assert_eq!(plain_name("p-q", "my_it@x86_64-unknown-linux-gnu"), "p-q::my_it");
        let id = |target: &str, kind| TargetId { package: "p".into(), target: target.into(), kind };
        let ids = [id("my-it", TargetKind::Test), id("my_it", TargetKind::Doc)];
        assert_eq!(named(&ids, "p::my_it").collect::<Vec<_>>(), [&ids[0]]);
    }
}
