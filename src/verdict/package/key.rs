//! The keys of the package level. No path of a checkout and no user's number is in one that is made
//! of packages alone, so that machines agree on it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::built_from;
use super::code::CodeDigests;
use super::listing::SourceListing;
use crate::cache::{KeyBasis, RecordKey, RecordLevel, TargetPlan, WorkspacePlan};
use crate::config::Runner;
use crate::model::{Digest, Digester, TargetKind};
use crate::paths::plain;
use crate::verdict::environment::each_variable;
use crate::verdict::facts::{Facts, Question};
use crate::verdict::key::settings_of_tree;
use crate::verdict::patterns::VariablePlace;
use crate::verdict::processor::is_for_compilers;
use crate::workspace::{is_for_build, paths_in_flags};

/// The rules by which keys of this level are made and their records judged. Raise it with every
/// change of either: an old record then is a miss.
const VERSION: u32 = 7;

/// The digest by which the plan of a question is found, with the listing of the tree. `None` if none
/// can tell what is built.
pub(super) fn plan_digest(
    question: &Question,
    facts: &Facts,
    listing: &SourceListing,
) -> Option<Digest> {
    let Question { root, selection, settings, .. } = question;
    let is_known = settings.runner == Runner::Cargo
        && facts.package_paths.is_empty()
        && !selection.is_no_run()
        && listing.holds("Cargo.lock".as_ref());
    let told = told_paths(question, facts).filter(|_| is_known)?;
    let (build, rules) = (facts.identity.build_digest(), settings_of_tree(settings));
    let parts: [&[u8]; 3] = [&selection.canonical(root), build.as_bytes(), rules.as_bytes()];
    Some(built_from::digest(&parts, &listing.of_plan(&told)))
}

/// Files that cargo's configuration, its arguments or a variable of the compilers could name in the
/// workspace, from its root: a linker, a script for one. `None` if that is not known.
fn told_paths(question: &Question, facts: &Facts) -> Option<BTreeSet<PathBuf>> {
    let Question { root, selection, environment, .. } = question;
    let files = facts.cargo_config.files().iter().map(|file| std::fs::read(&file.path).ok());
    let variables = environment.iter().filter(|(name, _)| is_for_build(name));
    let words = variables.map(|(_, value)| value).chain(selection.cargo.iter().map(|word| &**word));
    let words = words.map(|word| Some(std::os::unix::ffi::OsStrExt::as_bytes(word).to_vec()));
    let mut told = BTreeSet::new();
    for text in files.chain(words) {
        let text = String::from_utf8_lossy(&text?).into_owned();
        told.extend(paths_in_flags(&text).flat_map(|path| {
            [root, &selection.dir].into_iter().filter_map(move |folder| {
                let path = plain(&folder.join(path));
                let below = path.strip_prefix(root).ok().filter(|way| *way != Path::new(""));
                below.map(Path::to_owned)
            })
        }));
    }
    Some(told)
}

/// Whether flags could compile the tests of a library into it.
pub(super) fn has_test_flag(question: &Question, facts: &Facts) -> bool {
    let Question { selection, environment, .. } = question;
    let holds = |text: &[u8], word: &str| String::from_utf8_lossy(text).contains(word);
    let mut files = facts.cargo_config.files().iter().map(|file| std::fs::read(&file.path));
    let mut variables = environment.iter().filter(|(name, _)| is_for_compilers(name));
    files.any(|text| text.map_or(true, |text| holds(&text, "cfg")))
        || variables.any(|(_, value)| holds(value.as_encoded_bytes(), "cfg"))
        || selection.cargo.iter().any(|word| holds(word.as_encoded_bytes(), "cfg"))
}

/// Makes the keys of a plan's targets.
pub(super) struct KeyMaker {
    root: PathBuf,
    plan: Digest,
    tree: Digest,
    packages: Vec<Option<Digest>>,
    /// The same without plain comments.
    code: Vec<Option<Digest>>,
    /// The same without test modules; empty if flags may compile them into libraries.
    library: Vec<Option<Digest>>,
    /// Variables that always count, user class and umask.
    run: Digest,
    /// All variables, and the user.
    strict: Digest,
}

impl KeyMaker {
    /// For the targets of this plan.
    pub(super) fn new(
        question: &Question,
        facts: &Facts,
        listing: &SourceListing,
        digest: Digest,
        plan: &WorkspacePlan,
        tree: Digest,
    ) -> Self {
        let folders = folders(plan);
        Self {
            root: question.root.clone(),
            plan: digest,
            tree,
            packages: listing.of_packages(&folders, |entry| entry.content),
            code: Vec::new(),
            library: Vec::new(),
            run: run_digest(question),
            strict: strict_digest(question, facts),
        }
    }

    /// The same, for targets too of which the comments do not count.
    pub(super) fn with_code(
        self,
        listing: &SourceListing,
        plan: &WorkspacePlan,
        code: &CodeDigests,
        has_test_flag: bool,
    ) -> Self {
        let folders = folders(plan);
        let library = match has_test_flag {
            true => Vec::new(),
            false => listing.of_packages(&folders, |entry| code.library(entry)),
        };
        let code = listing.of_packages(&folders, |entry| code.content(entry));
        Self { code, library, ..self }
    }

    /// The key of the examples of a library, once a build has succeeded: they are compiled without tests.
    pub(super) fn key_after_build(&self, target: &TargetPlan) -> Option<RecordKey> {
        let is_known = target.ignores_comments && target.basis != KeyBasis::Tree;
        (is_known && target.id.kind == TargetKind::Doc)
            .then(|| self.key_by(target, &self.library, 2))?
    }

    /// The key of a target. `None` if it cannot be told what the target is built from.
    pub(super) fn key(&self, target: &TargetPlan) -> Option<RecordKey> {
        match target.ignores_comments {
            true => self.key_by(target, &self.code, 1),
            false => self.key_by(target, &self.packages, 0),
        }
    }

    /// The key of a target in this checkout, for as long as cargo does not run the workspace's build
    /// scripts again. `None` if that is not to be told of the target.
    pub(super) fn key_here(&self, target: &TargetPlan) -> Option<RecordKey> {
        let scripts = target.here.as_ref()?;
        let mut digester = Digester::new("package key here 1");
        digester.digest(&self.plan).field(target.id.to_string().as_bytes()).digest(&self.run);
        digester.digest(&self.strict).field(self.root.as_os_str().as_bytes());
        digester.number(target.built_from.len() as u64);
        for at in &target.built_from {
            let files = if scripts.contains(at) { &self.packages } else { &self.code };
            digester.digest(files.get(*at)?.as_ref()?);
        }
        Some(RecordKey { level: RecordLevel::Package, version: VERSION, digest: digester.finish() })
    }

    fn key_by(
        &self,
        target: &TargetPlan,
        packages: &[Option<Digest>],
        rule: u64,
    ) -> Option<RecordKey> {
        let mut digester = Digester::new("package key 2");
        digester.digest(&self.plan).field(target.id.to_string().as_bytes()).digest(&self.run);
        match target.basis {
            KeyBasis::Tree => drop(digester.number(3).digest(&self.tree)),
            KeyBasis::Variables | KeyBasis::Packages => {
                digester.number(if target.basis == KeyBasis::Packages { 1 } else { 2 });
                digester.number(rule).number(target.built_from.len() as u64);
                for at in &target.built_from {
                    digester.digest(packages.get(*at)?.as_ref()?);
                }
            }
        }
        if target.basis != KeyBasis::Packages {
            digester.digest(&self.strict);
        }
        Some(RecordKey { level: RecordLevel::Package, version: VERSION, digest: digester.finish() })
    }

    /// The keys that a target may have had by other evidence of what its build can read.
    pub(super) fn all(&self, target: &TargetPlan) -> Vec<RecordKey> {
        let bases = [KeyBasis::Packages, KeyBasis::Variables, KeyBasis::Tree];
        let plans = bases.into_iter().flat_map(|basis| {
            let plan = |ignores_comments| TargetPlan { basis, ignores_comments, ..target.clone() };
            [true, false].map(plan)
        });
        let keys = plans.flat_map(|plan| [self.key(&plan), self.key_after_build(&plan)]);
        keys.chain([self.key_here(target)]).flatten().collect()
    }

    /// The keys of the packages that a target is built from, whatever else its own key holds.
    pub(super) fn of_packages(&self, target: &TargetPlan) -> impl Iterator<Item = RecordKey> {
        [true, false].into_iter().filter_map(|ignores_comments| {
            let basis = KeyBasis::Packages;
            self.key(&TargetPlan { basis, ignores_comments, ..target.clone() })
        })
    }

    /// The digest of the files of a package, by its place in the plan.
    pub(super) fn package(&self, at: usize) -> Option<Digest> {
        *self.packages.get(at)?
    }
}

/// The folders of a plan's packages.
pub(super) fn folders(plan: &WorkspacePlan) -> Vec<PathBuf> {
    plan.packages.iter().map(|package| PathBuf::from(&package.folder.0)).collect()
}

/// The beginning of the part of a record's identity that has a variable of its key.
const KEY_VARIABLE: &str = "key variable ";

/// The variable that a part of a record's identity is of, if it is of one of the key.
pub(super) fn key_variable(part: &str) -> Option<&str> {
    part.strip_prefix(KEY_VARIABLE)
}

/// The parts of a record's identity that have the variables of its key.
pub(super) fn key_variable_parts(question: &Question) -> impl Iterator<Item = (String, String)> {
    let variables = key_variables(question).into_iter();
    variables.map(|(name, digest)| (format!("{KEY_VARIABLE}{name}"), digest.to_string()))
}

/// The variables that every key holds.
pub(super) fn key_variables(question: &Question) -> BTreeMap<String, Digest> {
    let mut variables = BTreeMap::new();
    each_variable(question, |name, value, place| {
        if place == VariablePlace::Key {
            let name = std::os::unix::ffi::OsStrExt::as_bytes(name);
            variables.insert(name.escape_ascii().to_string(), value);
        }
    });
    variables
}

/// The names of the variables that a key of this kind holds.
pub(super) fn counted_variables(question: &Question, basis: KeyBasis) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    each_variable(question, |name, _, place| {
        let counts = match basis {
            KeyBasis::Packages => place == VariablePlace::Key,
            KeyBasis::Variables | KeyBasis::Tree => place != VariablePlace::Nowhere,
        };
        if counts {
            let name = std::os::unix::ffi::OsStrExt::as_bytes(name);
            names.insert(name.escape_ascii().to_string());
        }
    });
    names
}

/// What every run depends on, on whichever machine.
fn run_digest(question: &Question) -> Digest {
    let mut digester = Digester::new("run of a package 1");
    digester.number(rustix::process::geteuid().is_root().into());
    digester.field(umask().as_bytes());
    each_variable(question, |name, value, place| {
        if place == VariablePlace::Key {
            digester.field(std::os::unix::ffi::OsStrExt::as_bytes(name)).digest(&value);
        }
    });
    digester.finish()
}

fn strict_digest(question: &Question, facts: &Facts) -> Digest {
    let mut digester = Digester::new("all variables 1");
    digester.digest(&facts.identity.run_digest());
    each_variable(question, |name, value, place| {
        if place != VariablePlace::Nowhere {
            digester.field(std::os::unix::ffi::OsStrExt::as_bytes(name)).digest(&value);
        }
    });
    digester.finish()
}

/// The permissions that new files do not get; empty where the system does not say.
fn umask() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.unwrap_or_default().trim().to_owned()
}
