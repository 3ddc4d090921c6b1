//! Tests that both pass and fail on the same code: two outcomes under one key are proof.
//!
//! A flaky test's green says little, so its target is not kept until the test has agreed with
//! itself often enough.

use std::collections::BTreeMap;

use super::binary::{Cacheability, Uncacheable};
use super::ran::RanTarget;
use crate::cache::{FlakyTest, ProjectState, Record};
use crate::model::{End, Outcome, TargetReport, Timestamp, Verdict};

/// What the log says where the project's state cannot be written.
pub(super) const FLAKY_LOST: &str = "what is known of flaky tests is not kept";

/// Every test of a report that passed or failed; the target itself, under no name, where its tests
/// are not known.
fn outcomes(report: &TargetReport) -> BTreeMap<&str, bool> {
    let ran = report.tests.iter().filter(|test| test.outcome != Outcome::Ignored);
    let mut all: BTreeMap<_, _> =
        ran.map(|test| (&*test.name, test.outcome == Outcome::Ok)).collect();
    if report.tests.is_empty() || (report.verdict != Verdict::Pass && all.values().all(|ok| *ok)) {
        all.insert("", report.verdict == Verdict::Pass);
    }
    all
}

/// Whether a run says anything about its tests: one that was ended does not.
pub(super) fn is_evidence(report: &TargetReport) -> bool {
    !matches!(report.end, End::TimedOut | End::Cancelled | End::NotStarted)
}

/// Takes the outcomes of a target's run into account; `before` is the report of the very same
/// code. Gives what is flaky of it now.
pub(super) fn note(
    known: Vec<FlakyTest>,
    before: Option<&TargetReport>,
    report: &TargetReport,
    wanted: u32,
    now: Timestamp,
) -> Vec<FlakyTest> {
    if !is_evidence(report) {
        return known;
    }
    let outcomes = outcomes(report);
    // The target itself has an outcome in any case.
    let whole = report.verdict == Verdict::Pass;
    let outcome = |name: &str| outcomes.get(name).copied().or(name.is_empty().then_some(whole));
    let mut flaky = Vec::new();
    let mut names = Vec::new();
    for mut test in known {
        names.push(test.test.clone());
        match outcome(&test.test) {
            Some(true) => test.agreed += 1,
            Some(false) => test.agreed = 0,
            None => {}
        }
        if test.agreed < wanted {
            flaky.push(test);
        }
    }
    let before = before.filter(|report| is_evidence(report)).map(self::outcomes);
    for (name, passed) in before.into_iter().flatten() {
        let is_other = outcome(name).is_some_and(|now| now != passed);
        if is_other && !names.iter().any(|known| known == name) {
            let agreed = u32::from(!passed).min(wanted);
            flaky.push(FlakyTest { test: name.to_owned(), since: now, agreed });
        }
    }
    flaky
}

/// Notes what the run says about flaky tests, and takes away what could be kept of their targets.
/// `before` is the record of an earlier run of the very same code.
pub(super) fn judge(
    state: &mut ProjectState,
    targets: &mut [RanTarget],
    before: Option<&Record>,
    wanted: u32,
    now: Timestamp,
) {
    for target in targets.iter_mut().filter(|target| target.kept.is_none()) {
        let id = target.report.id.to_string();
        let known = state.flaky.remove(&id).unwrap_or_default();
        let earlier = before
            .and_then(|record| record.targets.iter().find(|report| report.id == target.report.id));
        let flaky = note(known, earlier, &target.report, wanted, now);
        // The very first disagreement is told too, even if one agreement is all that is wanted.
        target.flaky = flaky.iter().map(|flaky| flaky.test.clone()).collect();
        if !flaky.is_empty() {
            let agreed = flaky.iter().map(|flaky| flaky.agreed).min().unwrap_or_default();
            let doubt = Uncacheable::Flaky { tests: target.flaky.clone(), agreed, wanted };
            match &mut target.cacheability {
                Cacheability::Uncacheable(doubts) => doubts.push(doubt),
                cacheability => *cacheability = Cacheability::Uncacheable(vec![doubt]),
            }
            state.flaky.insert(id, flaky);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, Outcome)] =
        &[("a", Outcome::Ok), ("b", Outcome::Ok), ("c", Outcome::Ignored)];
    const BAD: &[(&str, Outcome)] =
        &[("a", Outcome::Failed), ("b", Outcome::Ok), ("c", Outcome::Ignored)];

    fn names(flaky: &[FlakyTest]) -> Vec<(&str, u32)> {
        flaky.iter().map(|flaky| (&*flaky.test, flaky.agreed)).collect()
    }

    #[test]
    fn two_outcomes_are_proof_and_agreement_is_counted_from_the_last_failure() {
        let now = Timestamp(1);
        let (good, bad) = (TargetReport::sample(GOOD), TargetReport::sample(BAD));
        let step = |known, before, run| note(known, before, run, 3, now);
        assert!(step(vec![], None, &bad).is_empty(), "one outcome is none");
        assert!(step(vec![], Some(&bad), &bad).is_empty());
        let flaky = step(vec![], Some(&bad), &good);
        assert_eq!(names(&flaky), [("a", 1)]);
        let flaky = step(flaky, Some(&bad), &good);
        assert_eq!(names(&flaky), [("a", 2)]);
        let again = step(flaky.clone(), Some(&bad), &bad);
        assert_eq!(names(&again), [("a", 0)]);
        assert!(step(flaky, Some(&bad), &good).is_empty(), "three times in a row");
        assert_eq!(names(&step(vec![], Some(&good), &bad)), [("a", 0)], "the other way round");
    }

    #[test]
    fn a_run_without_the_test_says_nothing_about_it() {
        let known = vec![FlakyTest { test: "x".into(), since: Timestamp(0), agreed: 1 }];
        assert_eq!(note(known.clone(), None, &TargetReport::sample(GOOD), 3, Timestamp(1)), known);
        let mut ended = TargetReport::sample(BAD);
        ended.end = End::TimedOut;
        assert!(
            note(vec![], Some(&TargetReport::sample(GOOD)), &ended, 3, Timestamp(1)).is_empty()
        );
    }

    #[test]
    fn a_target_without_names_is_flaky_as_a_whole() {
        let (mut good, mut bad) = (TargetReport::sample(&[]), TargetReport::sample(&[]));
        (bad.verdict, bad.end) = (Verdict::Fail, End::Signal(6));
        let flaky = note(vec![], Some(&bad), &good, 3, Timestamp(1));
        assert_eq!(names(&flaky), [("", 1)]);
        // It is killed before any test fails.
        good.tests = TargetReport::sample(GOOD).tests;
        bad.tests = vec![];
        assert_eq!(names(&note(vec![], Some(&bad), &good, 3, Timestamp(1))), [("", 1)]);
    }
}
