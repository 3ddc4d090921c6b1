//! Values for tests: a test names what it is about, and takes the rest from here.

use super::{
    Digest, End, EventOf, Outcome, Source, TargetAnswer, TargetEvent, TargetId, TargetKind,
    TargetReport, TestCounts, TestEntry, TestReport, Timestamp, Verdict, VerdictEvent,
};

impl TargetId {
    /// A target of the package `p`: its library if the name is `p`, else an integration test.
    pub(crate) fn sample(name: &str) -> Self {
        let kind = if name == "p" { TargetKind::Lib } else { TargetKind::Test };
        Self { package: "p".into(), target: name.into(), kind }
    }
}

impl TestReport {
    /// Tests and their outcomes.
    pub(crate) fn samples(tests: &[(&str, Outcome)]) -> Vec<Self> {
        let test = |(name, outcome): &(&str, Outcome)| Self {
            name: (*name).to_owned(),
            outcome: *outcome,
        };
        tests.iter().map(test).collect()
    }
}

impl TargetReport {
    /// The report of `p::t`, whose tests had these outcomes.
    pub(crate) fn sample(tests: &[(&str, Outcome)]) -> Self {
        let count = |wanted| tests.iter().filter(|(_, outcome)| *outcome == wanted).count() as u64;
        let failed = count(Outcome::Failed);
        let (passed, ignored) = (count(Outcome::Ok), count(Outcome::Ignored));
        Self {
            id: TargetId::sample("t"),
            verdict: if failed > 0 { Verdict::Fail } else { Verdict::Pass },
            end: End::Exit(if failed > 0 { 101 } else { 0 }),
            counts: TestCounts { passed, failed, ignored, filtered: 0 },
            tests: TestReport::samples(tests),
            output: String::new(),
            stderr: None,
            duration_ms: 1,
        }
    }
}

impl TargetAnswer {
    /// The answer of [`TargetReport::sample`].
    pub(crate) fn sample(source: Source, tests: &[(&str, Outcome)]) -> Self {
        Self::from_report(&TargetReport::sample(tests), source, "", Timestamp(0))
    }
}

impl EventOf {
    /// The tree of a number, in the project `/p`.
    pub(crate) fn sample(tree: u8) -> Self {
        Self { project: "/p".into(), code_hash: Digest::of(&[tree]) }
    }
}

impl TargetEvent {
    /// The verdict of a run.
    pub(crate) fn sample(of: EventOf, id: TargetId, verdict: Verdict) -> Self {
        Self {
            of,
            id,
            verdict,
            source: Source::Run,
            reason: "r".into(),
            when: Timestamp(3),
            duration_ms: 1,
            counts: TestCounts::default(),
            message: None,
        }
    }
}

impl TestEntry {
    /// A test of which no more is known than its outcome.
    pub(crate) fn sample(name: &str, outcome: Outcome) -> Self {
        Self { name: name.into(), outcome, place: None, message: None, panic: None }
    }
}

impl VerdictEvent {
    /// The verdict of a run of no tests.
    pub(crate) fn sample(of: EventOf, verdict: Verdict) -> Self {
        Self {
            of,
            verdict: Some(verdict),
            reason: None,
            source: Some(Source::Run),
            when: None,
            counts: TestCounts::default(),
        }
    }
}
