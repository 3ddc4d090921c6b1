//! Targets of which no test, or only some tests reach what has changed (`selection = "on"`).
//!
//! A program that was built anew needs no run if it has the same tests as the program of the last
//! green run, each of them reaches the same code and data, and everything that this run consulted is
//! as it was. If some tests reach something else, or are new, these run and all that they can affect
//! ([`isolation`](super::isolation)); the others keep their outcomes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Question;
use super::binary::{BuiltSubject, PROGRAM, TargetRecords};
use super::fingerprint::{Fingerprints, describe_change};
use super::partial::PartialRun;
use super::started_programs::{KnownPrograms, ReplacedPrograms, StartedReader};
use super::unreached_base::{Bases, BuiltPrograms, reached_tests, stamp_of};
use crate::cache::{Cache, Lookup, Record};
use crate::compiler::{Build, PlannedTarget};
use crate::config::TestSelection;
use crate::model::{Harness, Timestamp};
use crate::reach::ReachReader;
use crate::runner::TestJob;

/// The look-up of targets by what their tests reach.
pub(super) struct UnreachedTargets<'a> {
    question: &'a Question,
    cache: &'a Cache,
    programs: BuiltPrograms<'a>,
    bases: Bases,
    reader: Option<ReachReader>,
    fingerprints: Fingerprints,
    unoptimized: BTreeSet<PathBuf>,
    known: KnownPrograms,
    /// Why it is not known what the tests of targets reach, by the target's name.
    unknown: BTreeMap<String, String>,
    /// The targets of which only some tests must run, by index.
    pub(super) parts: BTreeMap<usize, PartialRun>,
}

impl<'a> UnreachedTargets<'a> {
    /// A look-up for programs built by the toolchain at `sysroot`; `None` unless the project asks
    /// for it.
    pub(super) fn new(
        question: &'a Question,
        cache: &'a Cache,
        sysroot: &'a Path,
        build: &Build,
    ) -> Option<Self> {
        (question.settings.selection == TestSelection::On).then(|| {
            let bases = Bases::load(&Bases::file(&question.root, cache.dir()));
            let programs = BuiltPrograms { sysroot, unoptimized: build.unoptimized };
            let fingerprints = Fingerprints::new(&question.settings);
            Self {
                question,
                cache,
                programs,
                bases,
                reader: None,
                fingerprints,
                unoptimized: build.unoptimized_executables(),
                known: KnownPrograms::default(),
                unknown: cache.state(&question.root).selection.why_whole,
                parts: BTreeMap::new(),
            }
        })
    }

    /// The record that answers for the target with this index, and why. `in_part`: some of its tests may
    /// run alone.
    ///
    /// # Errors
    /// Why its tests run, or some of them.
    pub(super) fn find(
        &mut self,
        records: &mut TargetRecords<'_>,
        index: usize,
        planned: &PlannedTarget,
        in_part: bool,
    ) -> Result<(Arc<Record>, String), String> {
        let job = TestJob::from(planned.clone());
        if job.harness != Harness::Libtest || job.is_random() || records.is_measured(index) {
            return Err("what its tests reach is not known".to_owned());
        }
        let built = records.built(index).ok_or("cargo did not build its program")?;
        let BuiltSubject { program, stamp, context } = built;
        let name = planned.id.to_string();
        let base = self.bases.targets.get(&name);
        if base.is_none()
            && let Some(why) = self.unknown.get(&name)
        {
            return Err(format!("what its tests reach is not known: {why}"));
        }
        let base = base.filter(|base| base.context == context);
        let base = base.ok_or("no earlier run is known to compare with")?;
        // What runs before `main` is counted with tests.
        if base.tests.is_empty() {
            return Err("it has no tests, so that nothing tells what it reaches".to_owned());
        }
        let (key, when) = base.record;
        let gone = || "the record of its last green run is gone".to_owned();
        let Lookup::Hit(record) =
            self.cache.get(&key, Timestamp::now(), self.question.settings.ttl)
        else {
            return Err(gone());
        };
        let is_of = matches!(&record.targets[..], [report] if report.id == planned.id
            && report.tests.len() == base.tests.len() && report.counts.filtered == 0);
        if record.created != when || !is_of {
            return Err(gone());
        }
        let replaced = StartedReader {
            root: &self.question.root,
            built: self.programs,
            fingerprints: &mut self.fingerprints,
            reader: &mut self.reader,
            unoptimized: &self.unoptimized,
            known: &mut self.known,
        }
        .replaced(&record, &base.started);
        let own = program.strip_prefix(&self.question.root).unwrap_or(&program);
        let by_base = Arc::new(replaced.record_of(&record));
        let record = match records.obstacle(&by_base) {
            None => by_base,
            // Another run of the very same program may have consulted what is as it was.
            Some(why) => match of_same_program(records, index, &record, &replaced) {
                Some(other) => other,
                None if why == describe_change(own) && !replaced.is_different(own) => {
                    return Err(format!(
                        "{why}, and the run has read it, as one does for a backtrace"
                    ));
                }
                None => return Err(replaced.explain(why)),
            },
        };
        if let Some(why) = records.other_environment_of_reached(index, &record) {
            return Err(why);
        }
        let note = &replaced.note;
        let now = reached_tests(&mut self.reader, &program, self.programs)?;
        if stamp_of(&program) != stamp {
            return Err("its program was built anew meanwhile".to_owned());
        }
        let all = now.reached.len();
        let changed = now.reached.keys().filter(|name| !base.is_same(name, &now)).count();
        let is_gone = base.tests.keys().any(|name| !now.reached.contains_key(name));
        if changed == 0 && !is_gone {
            return Ok((record, format!("no test of it reaches what has changed{note}")));
        }
        let affected = base.affected(&now);
        let how = match () {
            () if affected.is_empty() => return Err("tests of it are gone".to_owned()),
            // Arguments decide which tests run, and how.
            () if !in_part || !job.args.is_empty() || job.wants_output() => "",
            () if affected.len() == all && changed < all => " and can affect the others",
            () if affected.len() == all => "",
            () => match PartialRun::of(affected, now.reached.keys(), record) {
                Some(part) => {
                    let why = part.reason();
                    self.parts.insert(index, part);
                    return Err(why);
                }
                None => "",
            },
        };
        Err(format!("{changed} of its {all} tests reach something else{how}, so that all run"))
    }
}

/// A record that nothing speaks against, of another run of the program of `record` than that, if the
/// target with this index still has that program.
fn of_same_program(
    records: &mut TargetRecords<'_>,
    index: usize,
    record: &Record,
    replaced: &ReplacedPrograms,
) -> Option<Arc<Record>> {
    let program = records.subject(index)?.parts.get(PROGRAM)?;
    if record.identity.get(PROGRAM) != Some(program) {
        return None;
    }
    let others = records.of_same_program(index).into_iter();
    let others = others.filter(|other| other.key != record.key && replaced.is_like(other));
    let others: Vec<_> = others.map(|other| Arc::new(replaced.record_of(&other))).collect();
    others.into_iter().find(|other| {
        let is_whole = matches!(&other.targets[..], [report] if report.counts.filtered == 0);
        is_whole && records.obstacle(other).is_none()
    })
}
