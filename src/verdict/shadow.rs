//! Selection per test, in the shadow of runs that run everything: what it would have run, and
//! whether a test that it would have left out came to another outcome.
//!
//! The base of a comparison is the target's last green run of which a record names all inputs.
//! Selection would leave a test out if its reached code is that of the base, and if all inputs of
//! the base are unchanged; where either is not known, it would run the whole program. Nobody waits
//! for a comparison: it follows the answer, and is lost if the program is built anew before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Question;
use super::fingerprint::{Fingerprints, digest_of_stamp};
use crate::cache::{Cache, Lookup, RecordKey, SelectionRecord};
use crate::config::Settings;
use crate::model::{Digest, Outcome, Timestamp};
use crate::paths::create_private_folder;
use crate::protocol::RanProgram;
use crate::reach::{Policy, ReachReader, TestIdentity};
use crate::workspace::PathStamp;

/// The version of the stored bases. Those of another are ignored.
const VERSION: u32 = 1;
/// Larger programs are not read: their objects take as much memory.
const LARGEST_PROGRAM: u64 = 128 << 20;
/// So many tests that would have been missed are named.
const NAMED_TESTS: usize = 10;

/// What is assumed of all tests: nothing that would leave out more of them.
const POLICY: Policy = Policy {
    unoptimized: false,
    programs: Digest::from_bytes([0; 32]),
    starts_itself: true,
    backtraces: true,
};

/// The bases of a project.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Bases {
    version: u32,
    /// By the target's name.
    targets: BTreeMap<String, Base>,
}

/// A green run of a target.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Base {
    /// Digest of everything besides the program that decides the outcome and is known beforehand.
    context: Digest,
    /// Its record, which names its inputs, and when that was made.
    record: (RecordKey, Timestamp),
    tests: BTreeMap<String, BaseTest>,
}

/// A test in a green run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct BaseTest {
    /// Digest of what it reaches; none if the whole program counts for it.
    reached: Option<Digest>,
    outcome: Outcome,
}

/// The comparison of a run's targets with earlier runs.
#[derive(Debug)]
pub(crate) struct ShadowComparison {
    root: PathBuf,
    settings: Settings,
    sysroot: PathBuf,
    file: PathBuf,
    /// None until a target is compared.
    bases: Option<Bases>,
    reader: Option<ReachReader>,
    /// What is to be added to the project's record.
    found: SelectionRecord,
}

impl ShadowComparison {
    /// A comparison of runs for `question`, built by the toolchain at `sysroot`. Reads nothing yet.
    pub(crate) fn new(question: &Question, sysroot: &Path, cache: &Cache) -> Self {
        Self {
            root: question.root.clone(),
            settings: question.settings.clone(),
            sysroot: sysroot.to_owned(),
            file: Question::ledger_file(&question.root, cache.dir()).with_extension("reach"),
            bases: None,
            reader: None,
            found: SelectionRecord::default(),
        }
    }

    /// Compares one target, and makes it the base of the next comparison if it may be one.
    pub(crate) fn compare(&mut self, ran: &RanProgram, cache: &Cache) {
        let name = ran.id.to_string();
        let reached = self.reached(ran);
        if !is_unchanged(ran) {
            tracing::debug!(%name, "built anew before it was compared");
            return;
        }
        if let Err(why) = &reached {
            tracing::debug!(%name, %why, "it is not known what its tests reach");
        }
        let mut bases = self.bases.take().unwrap_or_else(|| self.load());
        let base = bases.targets.get(&name).filter(|base| base.context == ran.context);
        if let Some(base) = base {
            let whole = match &reached {
                Err(why) => Some(why.clone()),
                Ok(_) => self.changed_input(base, cache),
            };
            let nothing = BTreeMap::new();
            let reached = reached.as_ref().ok().filter(|_| whole.is_none()).unwrap_or(&nothing);
            judge(base, ran, reached, &mut self.found);
            if let Some(why) = whole {
                self.found.whole += 1;
                self.found.why_whole.insert(name.clone(), why);
            }
        }
        if let (Some(record), Ok(reached)) = (ran.record, reached) {
            let outcomes = ran.tests.iter().map(|test| (test.name.clone(), test.outcome));
            let tests = outcomes.map(|(test, outcome)| {
                let reached = reached.get(&test).copied().flatten();
                (test, BaseTest { reached, outcome })
            });
            let base = Base { context: ran.context, record, tests: tests.collect() };
            bases.targets.insert(name, base);
        }
        self.bases = Some(bases);
    }

    /// Keeps what was found.
    pub(crate) fn finish(self, cache: &Cache) {
        let Self { root, file, bases: Some(bases), found, .. } = self else { return };
        let text = serde_json::to_vec(&bases).unwrap_or_default();
        let folder = file.parent().map_or(Ok(()), create_private_folder);
        let written = folder.and_then(|()| {
            // Whole or not at all: a reader never finds a part.
            let fresh = file.with_extension("reach-new");
            std::fs::write(&fresh, text)?;
            std::fs::rename(&fresh, &file)
        });
        if let Err(error) = written {
            tracing::debug!(%error, file = %file.display(), "cannot note what tests reach");
        }
        if found == SelectionRecord::default() {
            return;
        }
        if !found.missed_tests.is_empty() {
            let (project, tests) = (root.display(), found.missed_tests.join(", "));
            tracing::warn!(%project, %tests, "selection per test would have missed a change");
        }
        if let Err(error) = cache.update_state(&root, |state| state.selection.add(found)) {
            tracing::warn!(%error, "what selection would have run is not kept");
        }
    }

    fn load(&self) -> Bases {
        let bases = std::fs::read(&self.file).ok();
        let bases: Option<Bases> = bases.and_then(|text| serde_json::from_slice(&text).ok());
        let known = bases.filter(|bases| bases.version == VERSION);
        known.unwrap_or_else(|| Bases { version: VERSION, ..Bases::default() })
    }

    /// What each test of the program reaches; none for a test for which the whole program counts.
    fn reached(&mut self, ran: &RanProgram) -> Result<BTreeMap<String, Option<Digest>>, String> {
        if std::fs::metadata(&ran.program).is_ok_and(|file| file.len() > LARGEST_PROGRAM) {
            return Err(format!("it is larger than {} MiB", LARGEST_PROGRAM >> 20));
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => {
                let reader = ReachReader::new(&self.sysroot).map_err(|error| error.to_string())?;
                empty.insert(reader)
            }
        };
        let tests = reader.tests(&ran.program);
        // The objects of one program are remembered, not those of all.
        reader.end_round();
        let tests = tests.map_err(|error| error.to_string())?;
        let identity = |reached: crate::reach::Reached| match reached.identity(&POLICY) {
            TestIdentity::Reached(digest) => Some(digest),
            TestIdentity::WholeProgram(_) => None,
        };
        Ok(tests.into_iter().map(|(name, reached)| (name, identity(reached))).collect())
    }

    /// Why the inputs of the base do not hold any more.
    fn changed_input(&self, base: &Base, cache: &Cache) -> Option<String> {
        let (key, when) = &base.record;
        let Lookup::Hit(record) = cache.get(key, Timestamp::now(), std::time::Duration::MAX) else {
            return Some("the record of its last green run is gone".to_owned());
        };
        if record.created != *when {
            return Some("the record of its last green run was replaced".to_owned());
        }
        let mut fingerprints = Fingerprints::new(&self.settings);
        let changed = fingerprints.first_changed(&self.root, &record.inputs)?;
        Some(format!("`{}` changed", changed.path.display()))
    }
}

/// Whether the program is still the one that ran.
fn is_unchanged(ran: &RanProgram) -> bool {
    stamp_of(&ran.program) == ran.stamp
}

/// Digest of a program's stamp. A hard link to it changes nothing.
pub(super) fn stamp_of(program: &Path) -> Digest {
    digest_of_stamp(&PathStamp::of(program).without_links())
}

/// Counts what selection would have run, and what it would have missed. `reached` is empty where
/// the whole program counts.
fn judge(
    base: &Base,
    ran: &RanProgram,
    reached: &BTreeMap<String, Option<Digest>>,
    found: &mut SelectionRecord,
) {
    found.runs += 1;
    for test in &ran.tests {
        found.tests += 1;
        let now = reached.get(&test.name).copied().flatten();
        let before = base.tests.get(&test.name);
        let left_out = before.filter(|before| now.is_some() && before.reached == now);
        match left_out {
            None => found.selected += 1,
            Some(before) if before.outcome != test.outcome => {
                found.missed += 1;
                if found.missed_tests.len() < NAMED_TESTS {
                    found.missed_tests.push(format!("{}: {}", ran.id, test.name));
                }
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::RecordLevel;
    use crate::model::{TargetId, TargetKind, TestReport};

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn base(tests: &[(&str, Option<&str>)]) -> Base {
        let test = |(name, reached): &(&str, Option<&str>)| {
            let reached = reached.map(digest);
            ((*name).to_owned(), BaseTest { reached, outcome: Outcome::Ok })
        };
        let key = RecordKey { level: RecordLevel::Binary, version: 1, digest: digest("key") };
        Base {
            context: digest("context"),
            record: (key, Timestamp(1)),
            tests: tests.iter().map(test).collect(),
        }
    }

    fn ran(tests: &[(&str, Outcome)]) -> RanProgram {
        let report = |(name, outcome): &(&str, Outcome)| TestReport {
            name: (*name).to_owned(),
            outcome: *outcome,
        };
        RanProgram {
            id: TargetId { package: "p".into(), target: "t".into(), kind: TargetKind::Test },
            program: "/nowhere".into(),
            stamp: stamp_of(Path::new("/nowhere")),
            context: digest("context"),
            record: None,
            tests: tests.iter().map(report).collect(),
        }
    }

    fn found(
        base: &Base,
        ran: &RanProgram,
        reached: &[(&str, Option<&str>)],
    ) -> (u64, u64, u64, Vec<String>) {
        let reached = reached.iter().map(|(name, of)| ((*name).to_owned(), of.map(digest)));
        let mut found = SelectionRecord::default();
        judge(base, ran, &reached.collect(), &mut found);
        assert_eq!(found.runs, 1);
        assert_eq!(found.missed, found.missed_tests.len() as u64);
        (found.tests, found.selected, found.missed, found.missed_tests)
    }

    #[test]
    fn tests_that_reach_what_they_reached_are_left_out() {
        let base = base(&[("same", Some("1")), ("other", Some("2")), ("whole", None)]);
        let now = [("same", Some("1")), ("other", Some("3")), ("whole", None), ("new", Some("1"))];
        let all = ["same", "other", "whole", "new"].map(|name| (name, Outcome::Ok));
        assert_eq!(found(&base, &ran(&all), &now), (4, 3, 0, vec![]));
        // What is selected may fail; what is left out may not come to anything else.
        let failed = all.map(|(name, _)| (name, Outcome::Failed));
        let missed = vec!["p::t: same".to_owned()];
        assert_eq!(found(&base, &ran(&failed), &now), (4, 3, 1, missed.clone()));
        assert_eq!(found(&base, &ran(&[("same", Outcome::Ignored)]), &now), (1, 0, 1, missed));
        // The whole program is run: nothing is left out.
        assert_eq!(found(&base, &ran(&failed), &[]), (4, 4, 0, vec![]));
    }

    #[test]
    fn a_program_of_unknown_layout_counts_whole_and_another_one_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("cache"));
        let settings = crate::config::shipped_settings();
        let root = dir.path().join("w");
        let environment = crate::process::Environment::default();
        let question = Question::of_project(&root, environment, settings);
        let program = dir.path().join("program");
        std::fs::write(&program, "no program").unwrap();
        let mut ran = ran(&[("one", Outcome::Failed)]);
        ran.program.clone_from(&program);
        ran.stamp = stamp_of(&program);
        let compare = |ran: &RanProgram| {
            let mut shadow = ShadowComparison::new(&question, Path::new("/nowhere"), &cache);
            shadow.compare(ran, &cache);
            shadow
        };
        assert_eq!(compare(&ran).found, SelectionRecord::default(), "no earlier run");
        let mut bases = Bases { version: VERSION, ..Bases::default() };
        bases.targets.insert("p::t".to_owned(), base(&[("one", Some("1"))]));
        let file = Question::ledger_file(&root, cache.dir()).with_extension("reach");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, serde_json::to_vec(&bases).unwrap()).unwrap();
        let found = compare(&ran).found;
        assert_eq!((found.runs, found.selected, found.missed, found.whole), (1, 1, 0, 1));
        assert!(!found.why_whole["p::t"].is_empty());
        ran.context = digest("other arguments");
        assert_eq!(compare(&ran).found, SelectionRecord::default());
        ran.context = digest("context");
        std::fs::write(&program, "another program").unwrap();
        assert_eq!(compare(&ran).found, SelectionRecord::default(), "built anew since");
    }
}
