//! Targets of which no test reaches what has changed (`selection = "on"`).
//!
//! A program that was built anew needs no run if it has the same tests as the program of the last
//! green run, each of them reaches the same code and data, and everything that this run consulted is
//! as it was. If one test reaches something else, all tests of the program run, also those that
//! reach what they reached: tests that share a process share its state, and an edited test can
//! fail another one.

use std::path::Path;
use std::sync::Arc;

use super::Question;
use super::binary::{BuiltSubject, TargetRecords};
use super::unreached_base::{Bases, BuiltPrograms, asks_for_backtraces, reached_tests, stamp_of};
use crate::cache::{Cache, Lookup, Record};
use crate::compiler::PlannedTarget;
use crate::config::TestSelection;
use crate::model::{Digest, Harness, Outcome, Timestamp};
use crate::reach::ReachReader;
use crate::runner::TestJob;

/// The look-up of targets by what their tests reach.
pub(super) struct UnreachedTargets<'a> {
    question: &'a Question,
    cache: &'a Cache,
    programs: BuiltPrograms<'a>,
    bases: Bases,
    reader: Option<ReachReader>,
}

impl<'a> UnreachedTargets<'a> {
    /// A look-up for programs built by the toolchain at `sysroot`; `None` unless the project asks
    /// for it.
    pub(super) fn new(
        question: &'a Question,
        cache: &'a Cache,
        sysroot: &'a Path,
        unoptimized: bool,
    ) -> Option<Self> {
        (question.settings.selection == TestSelection::On).then(|| {
            let bases = Bases::load(&Bases::file(&question.root, cache.dir()));
            let backtraces = asks_for_backtraces(&question.environment);
            let programs = BuiltPrograms { sysroot, unoptimized, backtraces };
            Self { question, cache, programs, bases, reader: None }
        })
    }

    /// The record that answers for the target with this index.
    ///
    /// # Errors
    /// Why all of its tests run.
    pub(super) fn find(
        &mut self,
        records: &mut TargetRecords<'_>,
        index: usize,
        planned: &PlannedTarget,
    ) -> Result<Arc<Record>, String> {
        let job = TestJob::from(planned.clone());
        if job.harness != Harness::Libtest || job.is_random() || records.is_measured(index) {
            return Err("what its tests reach is not known".to_owned());
        }
        let built = records.built(index).ok_or("cargo did not build its program")?;
        let BuiltSubject { program, stamp, context } = built;
        let base = self.bases.targets.get(&planned.id.to_string());
        let base = base.filter(|base| base.context == context);
        let base = base.ok_or("no earlier run is known to compare with")?;
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
        if let Some(why) = records.obstacle(&record) {
            return Err(why);
        }
        let now = reached_tests(&mut self.reader, &program, self.programs)?;
        if stamp_of(&program) != stamp {
            return Err("its program was built anew meanwhile".to_owned());
        }
        if !now.keys().eq(base.tests.keys()) {
            return Err("it has other tests".to_owned());
        }
        let is_same = |(name, reached): &(&String, &Option<Digest>)| {
            let before = &base.tests[*name];
            reached.is_some() && **reached == before.reached && before.outcome != Outcome::Failed
        };
        let other = now.iter().filter(|test| !is_same(test)).count();
        if other > 0 {
            let all = now.len();
            return Err(format!(
                "{other} of its {all} tests reach something else, so that all run"
            ));
        }
        Ok(record)
    }
}
