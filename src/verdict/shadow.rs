//! Selection per test, in the shadow of runs that run everything: what it would have run, and
//! whether a test that it would have left out came to another outcome.
//!
//! The base of a comparison is the target's last green run of which a record names all inputs.
//! Selection would leave a test out if its reached code is that of the base, no test of its group
//! has changed ([`isolation`](super::isolation)), and all inputs of the base are unchanged; where either is not known, it would run the whole program. Nobody waits
//! for a comparison: it follows the answer, and is lost if the program is built anew before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Question;
use super::fingerprint::{Fingerprints, describe_change};
use super::started_programs::{KnownPrograms, StartedReader};
use super::unreached_base::{
    Base, BaseTest, Bases, BuiltPrograms, ProgramTests, StartedPrograms, reached_tests, stamp_of,
};
use crate::cache::{Cache, Lookup, RecordKey, SelectionRecord};
use crate::config::Settings;
use crate::model::Timestamp;
use crate::paths::create_private_folder;
use crate::protocol::RanProgram;
use crate::reach::ReachReader;

/// So many tests that would have been missed are named.
const NAMED_TESTS: usize = 10;

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
    known: KnownPrograms,
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
            file: Bases::file(&question.root, cache.dir()),
            bases: None,
            reader: None,
            known: KnownPrograms::default(),
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
            self.found.why_whole.insert(name.clone(), why.clone());
        }
        let mut bases = self.bases.take().unwrap_or_else(|| Bases::load(&self.file));
        let is_like = |base: &&Base| base.context == ran.context && base.variables == ran.variables;
        let base = bases.targets.get(&name).filter(is_like);
        // What did not run tells nothing about a selection.
        if let Some(base) = base.filter(|_| !ran.is_part) {
            let whole = match &reached {
                Err(why) => Some(why.clone()),
                Ok(_) => self.changed_input(base, ran, cache),
            };
            if !is_unchanged(ran) {
                self.bases = Some(bases);
                return;
            }
            let reached = reached.as_ref().ok().filter(|_| whole.is_none());
            judge(base, ran, reached, &mut self.found);
            if let Some(why) = whole {
                self.found.whole += 1;
                self.found.why_whole.insert(name.clone(), why);
            }
        }
        if let (Some(record), Ok(reached)) = (ran.record, reached) {
            let outcomes = ran.tests.iter().map(|test| (test.name.clone(), test.outcome));
            let tests = outcomes.filter_map(|(test, outcome)| {
                let group = *reached.groups.get(&test)?;
                let reached = reached.reached.get(&test).copied().flatten();
                Some((test, BaseTest { reached, outcome, group }))
            });
            let RanProgram { context, variables, unoptimized, .. } = *ran;
            let id = ran.id.clone();
            let tests = tests.collect();
            let started = self.started(ran, record, cache);
            // What has been read must be what ran.
            if !is_unchanged(ran) {
                self.bases = Some(bases);
                return;
            }
            let ProgramTests { path, program, .. } = reached;
            let base =
                Base { id, context, variables, record, path, program, unoptimized, tests, started };
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
        let lost = "what selection would have run is not kept";
        cache.note_state(&root, lost, |state| state.selection.add(found));
    }

    /// What each test of the program reaches; none for a test for which the whole program counts.
    fn reached(&mut self, ran: &RanProgram) -> Result<ProgramTests, String> {
        let programs = BuiltPrograms { sysroot: &self.sysroot, unoptimized: ran.unoptimized };
        reached_tests(&mut self.reader, &ran.program, programs)
    }

    /// What the programs reach that this run has started, as far as they are known.
    fn started(
        &mut self,
        ran: &RanProgram,
        (key, when): (RecordKey, Timestamp),
        cache: &Cache,
    ) -> StartedPrograms {
        let found = cache.get(&key, Timestamp::now(), std::time::Duration::MAX);
        match found {
            Lookup::Hit(record) if record.created == when => {
                let mut fingerprints = Fingerprints::new(&self.settings);
                self.started_reader(ran, &mut fingerprints, &unoptimized_of(ran)).started(&record)
            }
            _ => StartedPrograms::default(),
        }
    }

    fn started_reader<'r>(
        &'r mut self,
        ran: &RanProgram,
        fingerprints: &'r mut Fingerprints,
        unoptimized: &'r BTreeSet<PathBuf>,
    ) -> StartedReader<'r> {
        let Self { root, sysroot, reader, known, .. } = self;
        let built = BuiltPrograms { sysroot, unoptimized: ran.unoptimized };
        StartedReader { root, built, fingerprints, reader, unoptimized, known }
    }

    /// Why the inputs of the base do not hold any more.
    fn changed_input(&mut self, base: &Base, ran: &RanProgram, cache: &Cache) -> Option<String> {
        let (key, when) = &base.record;
        let Lookup::Hit(record) = cache.get(key, Timestamp::now(), std::time::Duration::MAX) else {
            return Some("the record of its last green run is gone".to_owned());
        };
        if record.created != *when {
            return Some("the record of its last green run was replaced".to_owned());
        }
        let mut fingerprints = Fingerprints::new(&self.settings);
        let unoptimized = unoptimized_of(ran);
        let mut started = self.started_reader(ran, &mut fingerprints, &unoptimized);
        let replaced = started.replaced(&record, &base.started);
        let record = replaced.record_of(&record);
        let changed = fingerprints.first_changed(&self.root, &record.inputs)?;
        Some(replaced.explain(describe_change(&changed.path)))
    }
}

fn unoptimized_of(ran: &RanProgram) -> BTreeSet<PathBuf> {
    ran.started_unoptimized.iter().map(|path| PathBuf::from(&path.0)).collect()
}

/// Whether the program is still the one that ran, and so are those that it started.
fn is_unchanged(ran: &RanProgram) -> bool {
    let mut started = ran.started.iter();
    stamp_of(&ran.program) == ran.stamp
        && started.all(|(path, stamp)| stamp_of(Path::new(&path.0)) == *stamp)
}

/// Counts what selection would have run, and what it would have missed. `now` is none where the whole
/// program counts.
fn judge(base: &Base, ran: &RanProgram, now: Option<&ProgramTests>, found: &mut SelectionRecord) {
    found.runs += 1;
    let left_out = now.map(|now| {
        let affected = base.affected(now);
        now.reached.keys().filter(|name| !affected.contains(*name)).collect::<BTreeSet<_>>()
    });
    let left_out = left_out.unwrap_or_default();
    for test in &ran.tests {
        found.tests += 1;
        match base.tests.get(&test.name).filter(|_| left_out.contains(&test.name)) {
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
    use crate::model::{Digest, Outcome, TargetId, TestReport};
    use crate::verdict::unreached_base::VERSION;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn base(tests: &[(&str, Option<&str>)]) -> Base {
        let test = |(group, (name, reached)): (usize, &(&str, Option<&str>))| {
            let (reached, group) = (reached.map(digest), group as u32);
            ((*name).to_owned(), BaseTest { reached, outcome: Outcome::Ok, group })
        };
        let key = RecordKey { level: RecordLevel::Binary, version: 1, digest: digest("key") };
        Base {
            id: TargetId::sample("t"),
            context: digest("context"),
            variables: digest("variables"),
            record: (key, Timestamp(1)),
            path: digest("path"),
            program: None,
            unoptimized: false,
            tests: tests.iter().enumerate().map(test).collect(),
            started: StartedPrograms::default(),
        }
    }

    fn ran(tests: &[(&str, Outcome)]) -> RanProgram {
        RanProgram {
            id: TargetId::sample("t"),
            program: "/nowhere".into(),
            stamp: stamp_of(Path::new("/nowhere")),
            context: digest("context"),
            variables: digest("variables"),
            record: None,
            unoptimized: false,
            is_part: false,
            started: Vec::new(),
            started_unoptimized: Vec::new(),
            tests: TestReport::samples(tests),
        }
    }

    fn found(
        base: &Base,
        ran: &RanProgram,
        reached: &[(&str, Option<&str>)],
    ) -> (u64, u64, u64, Vec<String>) {
        let groups = reached.iter().zip(0..).map(|((name, _), group)| ((*name).to_owned(), group));
        let now = ProgramTests {
            reached: reached
                .iter()
                .map(|(name, of)| ((*name).to_owned(), of.map(digest)))
                .collect(),
            program: None,
            groups: groups.collect(),
            path: digest("path"),
            see_arguments: BTreeSet::new(),
            see_path: BTreeSet::new(),
        };
        let mut found = SelectionRecord::default();
        judge(base, ran, Some(&now).filter(|_| !reached.is_empty()), &mut found);
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
        let first = compare(&ran).found;
        assert_eq!((first.runs, first.whole), (0, 0), "no earlier run");
        assert!(!first.why_whole["p::t"].is_empty());
        let mut bases = Bases { version: VERSION, ..Bases::default() };
        bases.targets.insert("p::t".to_owned(), base(&[("one", Some("1"))]));
        let file = Question::ledger_file(&root, cache.dir()).with_extension("reach");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, serde_json::to_vec(&bases).unwrap()).unwrap();
        let found = compare(&ran).found;
        assert_eq!((found.runs, found.selected, found.missed, found.whole), (1, 1, 0, 1));
        assert!(!found.why_whole["p::t"].is_empty());
        ran.context = digest("other arguments");
        assert_eq!(compare(&ran).found.runs, 0);
        ran.context = digest("context");
        std::fs::write(&program, "another program").unwrap();
        assert_eq!(compare(&ran).found, SelectionRecord::default(), "built anew since");
    }
}
