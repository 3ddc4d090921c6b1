//! The answer to "are the tests green?", whoever gave it.

use serde::{Deserialize, Serialize};

use super::{
    Digest, End, Source, TargetId, TargetReport, TestCounts, TestReport, Timestamp, Verdict,
};

/// The answer for one test target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetAnswer {
    /// Which target.
    pub id: TargetId,
    /// Pass or fail.
    pub verdict: Verdict,
    /// From a record or from a run.
    pub source: Source,
    /// Why it was kept or run, for a person.
    pub reason: String,
    /// How many tests.
    pub counts: TestCounts,
    /// The names of the failed tests.
    pub failures: Vec<String>,
    /// Each test that ran, in the order of the program's output; none where nobody asked for names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<TestReport>,
    /// The names of tests that both passed and failed on the same code.
    #[serde(default)]
    pub flaky: Vec<String>,
    /// How its process ended.
    pub end: End,
    /// What a person needs to see of a failure.
    pub output: String,
    /// As in [`TargetReport`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// How long its process ran, when it ran, in milliseconds.
    pub duration_ms: u64,
    /// When it was run.
    pub when: Timestamp,
}

impl TargetAnswer {
    /// The answer that a report gives.
    #[must_use]
    pub(crate) fn from_report(
        report: &TargetReport,
        source: Source,
        reason: impl Into<String>,
        when: Timestamp,
    ) -> Self {
        Self {
            id: report.id.clone(),
            verdict: report.verdict,
            source,
            reason: reason.into(),
            counts: report.counts,
            failures: report.failures().map(str::to_owned).collect(),
            tests: report.tests.clone(),
            flaky: Vec::new(),
            end: report.end,
            output: report.output.clone(),
            stderr: report.stderr.clone(),
            duration_ms: report.duration_ms,
            when,
        }
    }
}

/// The answer for a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The snapshot's digest with the build identity; none where a file could not be read.
    pub code_hash: Option<Digest>,
    /// Every target, in cargo's order.
    pub targets: Vec<TargetAnswer>,
    /// What stood in the way of keeping this answer; empty for one that was kept.
    pub not_kept: Vec<String>,
}

impl Answer {
    /// The same without the names of tests that passed or were ignored.
    #[must_use]
    pub(crate) fn without_tests(mut self) -> Self {
        self.targets.iter_mut().for_each(|target| target.tests.clear());
        self
    }

    /// Pass if every target passed. No targets at all is a pass, as it is for cargo.
    #[must_use]
    pub(crate) fn verdict(&self) -> Verdict {
        if self.targets.iter().all(|target| target.verdict == Verdict::Pass) {
            Verdict::Pass
        } else {
            Verdict::Fail
        }
    }

    /// Cache, run or both.
    #[must_use]
    pub(crate) fn source(&self) -> Source {
        match (self.cached(), self.targets.len()) {
            (0, _) => Source::Run,
            (cached, all) if cached == all => Source::Cache,
            _ => Source::Mixed,
        }
    }

    /// How many targets were answered from records.
    #[must_use]
    pub(crate) fn cached(&self) -> usize {
        self.targets.iter().filter(|target| target.source == Source::Cache).count()
    }

    /// When the oldest of its results was run.
    #[must_use]
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.targets.iter().map(|target| target.when).min()
    }

    /// The sum of all targets' counts.
    #[must_use]
    pub(crate) fn counts(&self) -> TestCounts {
        let mut sum = TestCounts::default();
        for target in &self.targets {
            sum += target.counts;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(verdict: Verdict, source: Source) -> TargetAnswer {
        let counts = TestCounts { passed: 2, failed: 1, ignored: 0, filtered: 0 };
        TargetAnswer { verdict, counts, ..TargetAnswer::sample(source, &[]) }
    }

    fn answer(targets: Vec<TargetAnswer>) -> Answer {
        Answer { code_hash: None, targets, not_kept: Vec::new() }
    }

    #[test]
    fn one_failure_is_a_failure() {
        let pass = target(Verdict::Pass, Source::Run);
        assert_eq!(answer(vec![]).verdict(), Verdict::Pass);
        assert_eq!(answer(vec![pass.clone()]).verdict(), Verdict::Pass);
        let both = answer(vec![pass, target(Verdict::Fail, Source::Run)]);
        assert_eq!(both.verdict(), Verdict::Fail);
        assert_eq!((both.counts().passed, both.counts().failed), (4, 2));
    }

    #[test]
    fn the_source_is_mixed_only_when_it_is() {
        let (run, kept) =
            (target(Verdict::Pass, Source::Run), target(Verdict::Pass, Source::Cache));
        assert_eq!(answer(vec![]).source(), Source::Run);
        assert_eq!(answer(vec![kept.clone()]).source(), Source::Cache);
        assert_eq!(answer(vec![run.clone()]).source(), Source::Run);
        assert_eq!(answer(vec![run, kept]).source(), Source::Mixed);
    }
}
