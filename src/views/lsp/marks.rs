//! The mark of a test function: what the state of a project says of it, as a pure function.

use crate::model::{Outcome, Source, TargetId, TargetKind, Timestamp};
use crate::protocol::{LiveProject, LiveTarget};

/// A test function of a file on the screen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PlacedTest {
    /// The line of its name, from 1.
    pub(super) line: usize,
    /// Its path inside its target.
    pub(super) name: String,
    /// It makes several tests, whose names begin with its own.
    pub(super) has_cases: bool,
    /// The target that it is built into.
    pub(super) target: TargetId,
}

/// What is shown beside a test function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestMark {
    /// Nothing is known of it for the text on the screen.
    Unknown,
    /// It is being run.
    Running,
    /// It passed.
    Passed { when: Timestamp, source: Source },
    /// It failed.
    Failed { when: Timestamp },
    /// It was not run because it is marked `#[ignore]`.
    Ignored,
}

impl TestMark {
    /// The mark of a function that is part of several targets, or makes several tests.
    fn and(self, other: Self) -> Self {
        use TestMark::{Failed, Ignored, Passed, Running, Unknown};
        match (self, other) {
            (Failed { when: one }, Failed { when: two }) => Failed { when: one.max(two) },
            (failed @ Failed { .. }, _) | (_, failed @ Failed { .. }) => failed,
            (Running, _) | (_, Running) => Running,
            (Unknown, _) | (_, Unknown) => Unknown,
            (Passed { when: one, source }, Passed { when: two, source: other }) => {
                let source = if source == other { source } else { Source::Mixed };
                Passed { when: one.min(two), source }
            }
            (passed @ Passed { .. }, Ignored) | (Ignored, passed @ Passed { .. }) => passed,
            (Ignored, Ignored) => Ignored,
        }
    }

    /// The mark in words.
    pub(super) fn title(self, now: Timestamp) -> String {
        match self {
            Self::Unknown => "? unknown for this text".to_owned(),
            Self::Running => "… running".to_owned(),
            Self::Passed { when, source } => {
                let source = if source == Source::Cache { "cached" } else { "run" };
                format!("✓ passed {} ({source})", when.ago(now))
            }
            Self::Failed { when } => format!("✗ failed {}", when.ago(now)),
            Self::Ignored => "– ignored".to_owned(),
        }
    }
}

/// The mark of one function, by all targets that it is part of. `project` is what is known of the
/// very text on the screen; none where that is another text.
pub(super) fn mark<'a>(
    project: Option<&LiveProject>,
    tests: impl IntoIterator<Item = &'a PlacedTest>,
) -> TestMark {
    let Some(project) = project.filter(|project| project.code_hash.is_some()) else {
        return TestMark::Unknown;
    };
    let marks = tests.into_iter().map(|test| mark_in_target(project, test));
    marks.reduce(TestMark::and).unwrap_or(TestMark::Unknown)
}

fn mark_in_target(project: &LiveProject, test: &PlacedTest) -> TestMark {
    let is_same = |id: &TargetId| {
        (&id.package, id.kind) == (&test.target.package, test.target.kind)
            && (id.kind == TargetKind::Lib || id.target == test.target.target)
    };
    if project.running.keys().any(is_same) {
        return TestMark::Running;
    }
    let Some((_, target)) = project.targets.iter().find(|(id, _)| is_same(id)) else {
        return TestMark::Unknown;
    };
    let begin = format!("{}::", test.name);
    let cases =
        target.tests.range(begin.clone()..).take_while(|(name, _)| name.starts_with(&begin));
    let cases = cases.filter(|_| test.has_cases).map(|(_, entry)| entry.outcome);
    let own = target.tests.get(&test.name).map(|entry| entry.outcome);
    let marks = own.into_iter().chain(cases).map(|outcome| mark_of(outcome, target));
    marks.reduce(TestMark::and).unwrap_or(TestMark::Unknown)
}

fn mark_of(outcome: Outcome, target: &LiveTarget) -> TestMark {
    let when = target.event.when;
    match outcome {
        Outcome::Ok => TestMark::Passed { when, source: target.event.source },
        Outcome::Failed => TestMark::Failed { when },
        Outcome::Ignored => TestMark::Ignored,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Digest, EventOf, StreamEvent, TargetEvent, TestEntry, Verdict};

    /// A project of one tree in which a target's tests came to `tests`.
    pub(in super::super) fn project(tests: &[(&str, Outcome)]) -> LiveProject {
        let code_hash = Digest::of(b"tree");
        let of = EventOf { project: "/p".into(), code_hash };
        let mut project = LiveProject { code_hash: Some(code_hash), ..LiveProject::default() };
        project.apply(StreamEvent::Target(TargetEvent {
            when: Timestamp(1_000),
            ..TargetEvent::sample(of.clone(), target(), Verdict::Pass)
        }));
        let tests = tests.iter().map(|(name, outcome)| TestEntry::sample(name, *outcome)).collect();
        let (source, when) = (Source::Run, Timestamp(1_000));
        project.apply(StreamEvent::Tests { of, id: target(), source, when, tests });
        project
    }

    pub(in super::super) fn target() -> TargetId {
        TargetId::sample("p")
    }

    fn test(name: &str, has_cases: bool) -> PlacedTest {
        PlacedTest { line: 1, name: name.into(), has_cases, target: target() }
    }

    const PASSED: TestMark = TestMark::Passed { when: Timestamp(1_000), source: Source::Run };
    const FAILED: TestMark = TestMark::Failed { when: Timestamp(1_000) };

    #[test]
    fn each_outcome_has_its_mark_and_nothing_else_has_one() {
        let project =
            project(&[("a", Outcome::Ok), ("b", Outcome::Failed), ("c", Outcome::Ignored)]);
        let mark = |name: &str| mark(Some(&project), [&test(name, false)]);
        assert_eq!([mark("a"), mark("b"), mark("c")], [PASSED, FAILED, TestMark::Ignored]);
        assert_eq!(mark("d"), TestMark::Unknown);
        assert_eq!(super::mark(None, [&test("a", false)]), TestMark::Unknown);
        let other = PlacedTest {
            target: TargetId { kind: TargetKind::Bin, ..target() },
            ..test("a", false)
        };
        assert_eq!(super::mark(Some(&project), [&other]), TestMark::Unknown);
        let both = [&test("a", false), &other];
        assert_eq!(super::mark(Some(&project), both), TestMark::Unknown, "not in both targets");
    }

    #[test]
    fn a_tree_that_is_not_known_has_no_marks() {
        let mut project = project(&[("a", Outcome::Ok)]);
        project.apply(StreamEvent::Tree { project: "/p".into(), code_hash: None });
        assert_eq!(mark(Some(&project), [&test("a", false)]), TestMark::Unknown);
    }

    #[test]
    fn a_function_with_cases_is_as_its_worst_case() {
        let outcomes = [
            ("f::case_1", Outcome::Ok),
            ("f::case_2", Outcome::Ignored),
            ("fa::case_1", Outcome::Failed),
        ];
        let mut project = project(&outcomes);
        assert_eq!(mark(Some(&project), [&test("f", true)]), PASSED);
        assert_eq!(mark(Some(&project), [&test("f", false)]), TestMark::Unknown);
        let target = project.targets.get_mut(&target()).unwrap();
        target.tests.get_mut("f::case_2").unwrap().outcome = Outcome::Failed;
        assert_eq!(mark(Some(&project), [&test("f", true)]), FAILED);
    }

    #[test]
    fn tests_of_a_target_that_runs_are_running() {
        let mut project = project(&[("a", Outcome::Ok)]);
        project.running.insert(target(), Timestamp(2_000));
        assert_eq!(mark(Some(&project), [&test("a", false)]), TestMark::Running);
    }

    #[test]
    fn marks_say_age_and_source() {
        let title = |mark: TestMark| mark.title(Timestamp(61_000));
        assert_eq!(title(PASSED), "✓ passed 1m ago (run)");
        let cached = TestMark::Passed { when: Timestamp(61_000), source: Source::Cache };
        assert_eq!(title(cached), "✓ passed just now (cached)");
        assert_eq!(title(FAILED), "✗ failed 1m ago");
    }

    #[test]
    fn the_worse_of_two_marks_counts() {
        let all = [FAILED, TestMark::Running, TestMark::Unknown, PASSED, TestMark::Ignored];
        for (at, worse) in all.iter().enumerate() {
            for better in &all[at..] {
                assert_eq!(worse.and(*better), *worse);
                assert_eq!(better.and(*worse), *worse);
            }
        }
    }
}
