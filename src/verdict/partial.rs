//! A run of only those tests of a target that a change can affect, and one report of it and of what is
//! known of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::binary::{Cacheability, ObservedRun};
use super::failed::{can_be_named, only};
use super::ran::EndedTarget;
use crate::cache::{Input, Record};
use crate::model::{End, Outcome, TargetReport, TestCounts, TestReport};
use crate::runner::TestJob;

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
        let others = others.filter(|_| can_be_named(tests.iter().map(String::as_str)))?;
        Some(Self { tests, others, record })
    }

    /// Why only these run, for a person.
    pub(super) fn reason(&self) -> String {
        let (some, others) = (self.tests.len(), self.others.len());
        format!("{some} of {} tests run: the others reach what they reached", some + others)
    }

    /// The job that runs these of all tests of `job`.
    pub(super) fn job(&self, job: TestJob) -> TestJob {
        only(job, self.tests.iter().map(String::as_str))
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
        let ObservedRun { cacheability, interfered: false, needs: None, unseen, .. } = observed?
        else {
            return None;
        };
        let Cacheability::Observed(mut inputs) = cacheability else { return None };
        let own: BTreeSet<_> =
            inputs.iter().map(|input| (input.path.clone(), input.state)).collect();
        let is_new = |input: &&Input| !own.contains(&(input.path.clone(), input.state));
        inputs.extend(self.record.inputs.iter().filter(is_new).cloned());
        let cacheability = Cacheability::Observed(inputs);
        Some(EndedTarget { report, cacheability, unseen, rest })
    }

    /// The report of all tests; `None` unless exactly the wanted ones have run, to an ordinary end.
    fn merge(&self, report: TargetReport) -> Option<TargetReport> {
        let ran: BTreeMap<_, _> =
            report.tests.iter().map(|test| (test.name.clone(), test.outcome)).collect();
        let of = |outcomes: &BTreeMap<String, Outcome>| TestCounts::of(outcomes.values().copied());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::InputState;
    use crate::model::{Harness, Timestamp, Verdict};
    use crate::observer::LoaderCalls;
    use crate::process::Environment;
    use crate::verdict::binary::SeenConduct;

    const FILTERED: u64 = 2;

    fn report(tests: &[(&str, Outcome)], filtered: u64) -> TargetReport {
        let report = TargetReport::sample(tests);
        TargetReport { counts: TestCounts { filtered, ..report.counts }, ..report }
    }

    fn input(path: &str) -> Input {
        Input { path: path.into(), state: InputState::Absent, proof: None }
    }

    fn part(names: &[&str], record: &[(&str, Outcome)]) -> Option<PartialRun> {
        let report = TargetReport { duration_ms: 900, ..report(record, 0) };
        let inputs = vec![input("both"), input("then")];
        let record = Record { inputs, duration_ms: 900, ..Record::sample(report) };
        let all = ["a", "b", "c"].map(str::to_owned);
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        PartialRun::of(names, all.iter(), Arc::new(record))
    }

    const KNOWN: [(&str, Outcome); 3] =
        [("a", Outcome::Ok), ("b", Outcome::Ok), ("c", Outcome::Ignored)];

    fn observed(cacheability: Cacheability) -> Option<ObservedRun> {
        let conduct = SeenConduct { obstacles: Vec::new(), calls: 0, panicked: false };
        let (interfered, needs, unseen) = (false, None, Vec::new());
        Some(ObservedRun { cacheability, interfered, unseen, needs, conduct })
    }

    #[test]
    fn some_tests_run_by_their_whole_names_if_all_others_are_known() {
        let id = report(&[], 0).id;
        let job = TestJob::new(id, "/t", vec![], "/", Environment::default(), Harness::Libtest);
        let part_of_a = part(&["a"], &KNOWN).unwrap();
        assert_eq!(part_of_a.job(job).args, ["--exact", "a"]);
        let reason = "1 of 3 tests run: the others reach what they reached";
        assert_eq!(part_of_a.reason(), reason);
        assert!(part(&["a"], &KNOWN[..2]).is_none(), "nothing is known of `c`");
        assert!(part(&[], &KNOWN).is_none(), "no filter runs none");
        let red = [("a", Outcome::Ok), ("b", Outcome::Failed), ("c", Outcome::Ok)];
        assert!(part(&["a"], &red).is_none());
        assert!(part(&["a", "b"], &red).is_some());
    }

    #[test]
    fn only_an_observed_run_of_exactly_these_tests_is_part_of_a_green_one() {
        let part = part(&["a"], &KNOWN).unwrap();
        let seen = || observed(Cacheability::Observed(vec![input("now"), input("both")]));
        let green = report(&[("a", Outcome::Ok)], FILTERED);
        let ended = part.ended(green.clone(), seen()).unwrap();
        assert_eq!((ended.report.counts.passed, ended.report.counts.ignored), (2, 1));
        assert_eq!((ended.report.counts.filtered, ended.report.duration_ms), (0, 900));
        assert_eq!(ended.when(Timestamp(9)), Timestamp(1), "as old as the oldest outcome");
        let Cacheability::Observed(inputs) = ended.cacheability else { panic!("observed") };
        assert_eq!(inputs, [input("now"), input("both"), input("then")]);

        let unseen = || observed(Cacheability::WholeTree(Vec::new()));
        assert!(part.ended(green.clone(), unseen()).is_none());
        assert!(part.ended(green.clone(), None).is_none());
        let interfered = seen().map(|run| ObservedRun { interfered: true, ..run });
        assert!(part.ended(green.clone(), interfered).is_none());
        let half = seen().map(|run| ObservedRun { needs: Some(LoaderCalls::Notified), ..run });
        assert!(part.ended(green.clone(), half).is_none());
        for odd in [
            report(&[], FILTERED),
            report(&[("b", Outcome::Ok)], FILTERED),
            report(&[("a", Outcome::Ok), ("b", Outcome::Ok)], FILTERED),
            report(&[("a", Outcome::Ok)], FILTERED - 1),
            TargetReport { end: End::Signal(6), ..green.clone() },
            TargetReport { end: End::Exit(0), ..report(&[("a", Outcome::Failed)], FILTERED) },
        ] {
            assert!(part.ended(odd.clone(), seen()).is_none(), "{odd:?}");
        }
        let red = part.ended(report(&[("a", Outcome::Failed)], FILTERED), None).unwrap();
        assert_eq!((red.report.verdict, red.report.counts.passed), (Verdict::Fail, 1));
    }
}
