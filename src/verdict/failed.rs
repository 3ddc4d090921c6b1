//! After a failure: the failed tests come first, and while they fail on the very same code, only
//! they.
//!
//! For a red answer that is enough. A green one needs a run of all: if a failed test passes now,
//! something that no key holds is another, and the tests that passed then may fail for it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::cache::Record;
use crate::model::{End, Harness, Outcome, TargetId, TargetReport, TestCounts, TestReport};
use crate::runner::TestJob;

/// More names than this would make an odd command line: then all tests are run.
const MOST_NAMED_TESTS: usize = 500;

/// Whether a command line can name these tests, and no others.
pub(super) fn can_be_named<'n>(mut names: impl ExactSizeIterator<Item = &'n str>) -> bool {
    (1..=MOST_NAMED_TESTS).contains(&names.len()) && names.all(|name| !name.starts_with('-'))
}

/// The job that runs only these tests of `job`.
pub(super) fn only<'n>(mut job: TestJob, names: impl IntoIterator<Item = &'n str>) -> TestJob {
    job.args.push("--exact".into());
    job.args.extend(names.into_iter().map(OsString::from));
    job
}

/// What a record of a failed run says of a target.
pub(super) fn before<'a>(record: Option<&'a Record>, id: &TargetId) -> Option<&'a TargetReport> {
    let report = record?.targets.iter().find(|report| report.id == *id)?;
    (report.failures().next().is_some() || report.end != End::Exit(0)).then_some(report)
}

/// The job that runs only the tests of `before` that failed; `None` if they alone would not do: the
/// run was not whole, or chosen by arguments, or its tests cannot be named.
pub(super) fn only_failed(job: &TestJob, before: &TargetReport) -> Option<TestJob> {
    let counts = before.counts;
    let all = counts.passed + counts.failed + counts.ignored;
    let is_whole = before.end == End::Exit(101)
        && counts.filtered == 0
        && usize::try_from(all) == Ok(before.tests.len());
    let names: Vec<_> = before.failures().collect();
    let are_all = names.len() as u64 == counts.failed;
    if job.harness == Harness::Doctest {
        // One cannot be chosen by its name: all of them are run.
        return (before.end == End::Exit(101) && !names.is_empty()).then(|| job.clone());
    }
    if job.harness != Harness::Libtest || job.args.len() > job.wrapper_args {
        return None;
    }
    let may_run = is_whole && are_all && can_be_named(names.iter().copied());
    may_run.then(|| only(job.clone(), names))
}

/// The whole target's report, if the failed tests were run alone and some of them failed again;
/// the others are told as they were.
pub(super) fn still_red(before: &TargetReport, again: TargetReport) -> Option<TargetReport> {
    let now: BTreeMap<_, _> = again.tests.iter().map(|test| (&*test.name, test.outcome)).collect();
    let test = |test: &TestReport| {
        let outcome = match test.outcome {
            Outcome::Failed => *now.get(&*test.name)?,
            other => other,
        };
        Some(TestReport { name: test.name.clone(), outcome })
    };
    let tests = before.tests.iter().map(test).collect::<Option<Vec<_>>>()?;
    let counts = TestCounts::of(tests.iter().map(|test| test.outcome));
    let is_red = again.end == End::Exit(101) && counts.failed > 0;
    is_red.then_some(TargetReport { tests, counts, ..again })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Verdict;
    use crate::process::Environment;

    fn job(args: &[&str]) -> TestJob {
        let args = args.iter().map(OsString::from).collect();
        let id = TargetReport::sample(&[]).id;
        TestJob::new(id, "/t", args, "/", Environment::default(), Harness::Libtest)
    }

    const BEFORE: &[(&str, Outcome)] =
        &[("a", Outcome::Failed), ("b", Outcome::Ok), ("c", Outcome::Ignored)];

    #[test]
    fn only_a_whole_run_that_failed_by_named_tests_is_repeated_in_part() {
        let before = TargetReport::sample(BEFORE);
        assert_eq!(only_failed(&job(&[]), &before).unwrap().args, ["--exact", "a"]);
        assert!(only_failed(&job(&["a"]), &before).is_none(), "chosen by arguments");
        let killed = TargetReport { end: End::Signal(6), ..before.clone() };
        assert!(only_failed(&job(&[]), &killed).is_none());
        let mut unknown = before.clone();
        unknown.counts.failed = 2;
        assert!(only_failed(&job(&[]), &unknown).is_none());
        let mut custom = job(&[]);
        custom.harness = Harness::Custom;
        assert!(only_failed(&custom, &before).is_none());
        assert!(
            only_failed(&job(&[]), &TargetReport::sample(&[("-a", Outcome::Failed)])).is_none()
        );
    }

    #[test]
    fn only_a_red_is_told_from_the_failed_tests_alone() {
        let before = TargetReport::sample(BEFORE);
        let bad = still_red(&before, TargetReport::sample(&[("a", Outcome::Failed)])).unwrap();
        assert_eq!((bad.verdict, bad.counts), (Verdict::Fail, before.counts));
        assert!(
            still_red(&before, TargetReport::sample(&[("a", Outcome::Ok)])).is_none(),
            "all must run"
        );
        let mut odd = TargetReport::sample(&[("a", Outcome::Failed)]);
        odd.end = End::Signal(6);
        assert!(still_red(&before, odd).is_none());
        let two = TargetReport::sample(&[("a", Outcome::Failed), ("b", Outcome::Failed)]);
        let one = [("a", Outcome::Failed), ("b", Outcome::Ok)];
        let mixed = still_red(&two, TargetReport::sample(&one)).unwrap();
        assert_eq!((mixed.counts.passed, mixed.counts.failed), (1, 1));
        assert!(
            still_red(&two, TargetReport::sample(&one[..1])).is_none(),
            "nothing is known of the other"
        );
    }
}
