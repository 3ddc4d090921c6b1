//! What decides a test target's outcome and is known before it runs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::super::fingerprint::{Aspect, Fingerprints};
use super::super::{Facts, Question};
use super::memo;
use crate::cache::{Cache, Input, InputState, RecordKey, RecordLevel};
use crate::compiler::PlannedTarget;
use crate::model::{Digest, Digester, TargetId};
use crate::process::Environment;
use crate::workspace::PathStamp;
use crate::workspace::{is_terminal_variable, without_root};

/// The rules by which keys of this level are made and their records judged. Raise it with every
/// change of either: an old record then is a miss.
const VERSION: u32 = 3;

/// The same for calls by cargo itself.
const CALL_VERSION: u32 = 3;

/// How many records one target can have under one key: fingerprints of what it reads. A branch and back,
/// a fixture and back, are found again.
pub(super) const SLOTS: u64 = 8;

/// What nextest gives another value in every run: its number of the run, of the try, of the place
/// in its queue.
const OF_NEXTEST: &[&str] = &[
    "NEXTEST_RUN_ID",
    "NEXTEST_ATTEMPT_ID",
    "NEXTEST_TEST_GLOBAL_SLOT",
    "NEXTEST_TEST_GROUP_SLOT",
];

/// What the names of parts begin with that are of variables.
const VARIABLE: &str = "environment variable ";

/// The name of the part that says what is loaded of the program.
pub(in crate::verdict) const PROGRAM: &str = "program";
/// The name under which the record of a call says where its program was.
pub(in crate::verdict) const PROGRAM_FILE: &str = "file of the program";

/// A test target about to be run.
#[derive(Clone, Debug)]
pub(in crate::verdict) struct Subject {
    pub(in crate::verdict) id: TargetId,
    /// Everything that decides the outcome and is known beforehand, by name: digests, for keys and
    /// for explanations.
    pub(in crate::verdict) parts: BTreeMap<String, String>,
    /// The program, if cargo built it.
    pub(super) program: Option<BuiltProgram>,
    /// What else decides what is built from a tree.
    build: Digest,
}

/// A program that cargo built.
#[derive(Clone, Debug)]
pub(super) struct BuiltProgram {
    /// Without symlinks, as the observer tells it.
    pub(super) path: PathBuf,
    /// As it was before it was digested.
    pub(super) stamp: PathStamp,
    /// What is loaded of it.
    pub(super) state: InputState,
}

impl Subject {
    /// A subject without a program, for judging what runs were seen to do.
    #[cfg(test)]
    pub(super) fn sample(id: TargetId) -> Self {
        Self { id, parts: BTreeMap::new(), program: None, build: Digest::of(b"") }
    }

    /// The subject of a planned target. The cache remembers what is loaded of its program.
    ///
    /// # Errors
    /// If its program cannot be read: then nothing can be looked up or kept for it.
    pub(in crate::verdict) fn of(
        planned: &PlannedTarget,
        question: &Question,
        facts: &Facts,
        (fingerprints, cache): (&mut Fingerprints, &Cache),
    ) -> Result<Self, String> {
        let root = &question.root;
        let short = |path: &Path| without_root(path.as_os_str().as_bytes(), root);
        let mut parts = BTreeMap::new();
        let mut part = |name: &str, digest: Digest| {
            parts.insert(name.to_owned(), digest.to_string());
        };
        part("target", Digest::of(planned.id.to_string().as_bytes()));
        part("path of the program", Digest::of(&short(&planned.program)));
        let is_made = facts.target_dirs.iter().any(|dir| planned.program.starts_with(dir));
        // Others are seen to be executed, and count like everything that the run consults.
        let program = if is_made {
            Some(memo::program(&planned.program, fingerprints, cache)?)
        } else {
            None
        };
        if let Some(BuiltProgram { state: InputState::Program(digest), .. }) = &program {
            part(PROGRAM, *digest);
        }
        let mut arguments = Digester::new("arguments 1");
        for argument in &planned.args {
            arguments.field(&without_root(argument.as_bytes(), root));
        }
        part("arguments", arguments.finish());
        part("folder", Digest::of(&short(&planned.dir)));
        if let Some(toolchain) = facts.identity.build.get("toolchain") {
            part("toolchain", *toolchain);
        }
        // What may be read and written is another matter for another user.
        part("user", Digest::of(&rustix::process::geteuid().as_raw().to_le_bytes()));
        for (name, value) in planned.environment.iter() {
            if !is_terminal_variable(name) {
                part(&variable(name), Digest::of(&without_root(value.as_bytes(), root)));
            }
        }
        let mut build = Digester::new("build of a selection 1");
        build.digest(&facts.identity.build_digest()).field(&question.selection.canonical(root));
        Ok(Self { id: planned.id.clone(), parts, program, build: build.finish() })
    }

    /// The subject of a call of a test program by cargo itself, or by nextest. `surroundings` is
    /// what else the run can see of where it runs; the cache remembers what is loaded of the
    /// program.
    ///
    /// # Errors
    /// If its program cannot be read.
    pub(in crate::verdict) fn of_call(
        id: TargetId,
        root: &Path,
        spec: (&Path, &[std::ffi::OsString], &Path, &Environment),
        surroundings: &str,
        (fingerprints, cache): (&mut Fingerprints, &Cache),
    ) -> Result<Self, String> {
        let (program, args, dir, environment) = spec;
        let mut parts = BTreeMap::new();
        let mut part = |name: &str, digest: Digest| {
            parts.insert(name.to_owned(), digest.to_string());
        };
        part("target", Digest::of(id.to_string().as_bytes()));
        part("path of the program", Digest::of(program.as_os_str().as_bytes()));
        part("folder", Digest::of(dir.as_os_str().as_bytes()));
        part("workspace", Digest::of(root.as_os_str().as_bytes()));
        part("surroundings", Digest::of(surroundings.as_bytes()));
        part("user", Digest::of(&rustix::process::geteuid().as_raw().to_le_bytes()));
        let program = memo::program(program, fingerprints, cache)?;
        if let InputState::Program(digest) = &program.state {
            part(PROGRAM, *digest);
        }
        let mut arguments = Digester::new("arguments 1");
        for argument in args {
            arguments.field(argument.as_bytes());
        }
        part("arguments", arguments.finish());
        let of_nextest = environment.get("NEXTEST").is_some();
        for (name, value) in environment.iter() {
            let changes = of_nextest && OF_NEXTEST.iter().any(|known| name == *known);
            if !changes && !is_terminal_variable(name) {
                part(&variable(name), Digest::of(value.as_bytes()));
            }
        }
        let build = Digest::of(b"");
        Ok(Self { id, parts, program: Some(program), build })
    }

    /// The key of the record of a call that failed: one is enough to compare with.
    pub(super) fn red_call(&self) -> RecordKey {
        let digest = self.digest("key of a failed call 1").finish();
        RecordKey { level: RecordLevel::Call, version: CALL_VERSION, digest }
    }

    /// The key of one of the records of a call.
    pub(super) fn call(&self, number: u64) -> RecordKey {
        let mut digester = self.digest("call key 1");
        digester.number(number);
        RecordKey { level: RecordLevel::Call, version: CALL_VERSION, digest: digester.finish() }
    }

    fn digest(&self, domain: &str) -> Digester {
        let mut digester = Digester::new(domain);
        digester.number(self.parts.len() as u64);
        for (name, digest) in &self.parts {
            digester.field(name.as_bytes()).field(digest.as_bytes());
        }
        digester
    }

    /// The key of one of the records that name what the run consulted.
    pub(super) fn slot(&self, number: u64) -> RecordKey {
        let mut digester = self.digest("binary key 1");
        digester.number(number);
        RecordKey { level: RecordLevel::Binary, version: VERSION, digest: digester.finish() }
    }

    /// The key of the record of a run of which not all is known: every file counts, and how all
    /// of them were built; another selection may build other programs for the tests to execute.
    pub(super) fn with_tree(&self, tree: &Digest) -> RecordKey {
        let mut digester = self.digest("binary key with the tree 1");
        digester.digest(tree).digest(&self.build);
        RecordKey { level: RecordLevel::Binary, version: VERSION, digest: digester.finish() }
    }
}

impl BuiltProgram {
    pub(super) fn of(path: &Path, fingerprints: &mut Fingerprints) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("`{}`: {error}", path.display());
        let path = path.canonicalize().map_err(cannot)?;
        let stamp = PathStamp::of(&path);
        let Input { state, .. } = fingerprints.read(Path::new(""), &path, Aspect::Program)?;
        Ok(Self { path, stamp, state })
    }
}

/// A variable's name in the parts; one that is not UTF-8 is told apart by its escaped bytes.
pub(in crate::verdict) fn variable(name: &OsStr) -> String {
    format!("{VARIABLE}{}", name.as_bytes().escape_ascii())
}

/// The variable that a part is of, if it is of one.
pub(in crate::verdict) fn variable_of(part: &str) -> Option<&str> {
    part.strip_prefix(VARIABLE)
}

/// The canonical text that stands for a target in place of a selection, so that its last record
/// can be found.
#[must_use]
pub(in crate::verdict) fn selection_text(id: &TargetId) -> String {
    format!("test target {id}")
}
