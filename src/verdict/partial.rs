//! A run of only those tests of a target that a change can affect, and one report of it and of what is
//! known of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::sync::Arc;

use super::binary::{Cacheability, ObservedRun};
use super::ran::EndedTarget;
use crate::cache::Record;
use crate::model::{End, Outcome, TargetReport, TestCounts, TestReport};
use crate::runner::TestJob;

/// More names than this would make an odd command line: then all tests are run.
const MOST: usize = 500;

/// Some of the tests of a target are to be run.
#[derive(Debug)]
pub(super) struct PartialRun {
    /// Those that run.
    tests: BTreeSet<String>,
    /// The outcomes of the others, none of which failed.
    others: BTreeMap<String, Outcome>,
    /// The record that says so.
    record: Arc<Record>,
}

impl PartialRun {
    /// A run of `tests` of `all`; `None` unless `record`, which is green, tells of all the others, and
    /// the names fit a command line.
    pub(super) fn of<'t>(
        tests: BTreeSet<String>,
        all: impl Iterator<Item = &'t String>,
        record: Arc<Record>,
    ) -> Option<Self> {
        let [report] = &record.targets[..] else { return None };
        let known: BTreeMap<_, _> =
            report.tests.iter().map(|test| (&test.name, test.outcome)).collect();
        let known = |name: &String| known.get(name).filter(|known| **known != Outcome::Failed);
        let others = all.filter(|name| !tests.contains(*name));
        let others = others.map(|name| Some((name.clone(), *known(name)?))).collect::<Option<_>>();
        let can_be_named =
            (1..=MOST).contains(&tests.len()) && tests.iter().all(|name| !name.starts_with('-'));
        let others = others.filter(|_| can_be_named)?;
        Some(Self { tests, others, record })
    }

    /// Why only these run, for a person.
    pub(super) fn reason(&self) -> String {
        let (some, others) = (self.tests.len(), self.others.len());
        format!("{some} of {} tests run: the others reach what they reached", some + others)
    }

    /// The job that runs these of all tests of `job`.
    pub(super) fn job(&self, job: TestJob) -> TestJob {
        let mut job = job;
        job.args.push("--exact".into());
        job.args.extend(self.tests.iter().map(OsString::from));
        job
    }

    /// The record that answers for the others.
    pub(super) fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// What the target came to; `None` if all tests must run. A green run must have been observed, and
    /// depends on what both runs consulted.
    pub(super) fn ended(
        &self,
        report: TargetReport,
        observed: Option<ObservedRun>,
    ) -> Option<EndedTarget> {
        let report = self.merge(report)?;
        let rest = Some(Arc::clone(&self.record));
        if report.counts.failed > 0 {
            // Nothing is kept of it.
            let cacheability = Cacheability::WholeTree(Vec::new());
            return Some(EndedTarget { report, cacheability, unseen: Vec::new(), rest });
        }
        let ObservedRun { cacheability, interfered: false, needs_all: false, unseen, .. } =
            observed?
        else {
            return None;
        };
        let Cacheability::Observed(mut inputs) = cacheability else { return None };
        let own: BTreeSet<_> =
            inputs.iter().map(|input| (input.path.clone(), input.state)).collect();
        let is_new =
            |input: &&crate::cache::Input| !own.contains(&(input.path.clone(), input.state));
        inputs.extend(self.record.inputs.iter().filter(is_new).cloned());
        let cacheability = Cacheability::Observed(inputs);
        Some(EndedTarget { report, cacheability, unseen, rest })
    }

    /// The report of all tests; `None` unless exactly the wanted ones have run, to an ordinary end.
    fn merge(&self, report: TargetReport) -> Option<TargetReport> {
        let ran: BTreeMap<_, _> =
            report.tests.iter().map(|test| (test.name.clone(), test.outcome)).collect();
        let of = |outcomes: &BTreeMap<String, Outcome>| {
            let mut counts = TestCounts::default();
            for outcome in outcomes.values() {
                match outcome {
                    Outcome::Ok => counts.passed += 1,
                    Outcome::Failed => counts.failed += 1,
                    Outcome::Ignored => counts.ignored += 1,
                }
            }
            counts
        };
        let counts = TestCounts { filtered: self.others.len() as u64, ..of(&ran) };
        let end = End::Exit(if counts.failed > 0 { 101 } else { 0 });
        let is_ordinary = report.tests.len() == ran.len()
            && ran.keys().eq(&self.tests)
            && (report.counts, report.end) == (counts, end);
        if !is_ordinary {
            return None;
        }
        let mut outcomes = ran;
        outcomes.extend(self.others.clone());
        let counts = of(&outcomes);
        let test = |(name, outcome)| TestReport { name, outcome };
        let tests = outcomes.into_iter().map(test).collect();
        // As long as all took: that is what a limit on its time compares.
        let all_took = self.record.targets.iter().map(|report| report.duration_ms).max();
        let duration_ms = report.duration_ms.max(all_took.unwrap_or_default());
        Some(TargetReport { tests, counts, duration_ms, ..report })
    }
}
