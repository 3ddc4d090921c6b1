//! What a run of test targets came to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::TargetId;

/// The answer for a target or a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Every test that ran passed.
    Pass,
    /// At least one test failed, or a test binary ended badly.
    Fail,
    /// No tests were run: the build failed, or something else stood in the way.
    Error,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
        })
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// From records alone.
    Cache,
    /// From a run alone.
    Run,
    /// Some targets from records, some from a run.
    Mixed,
}

/// What one test came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The test passed.
    Ok,
    /// The test failed.
    Failed,
    /// It was not run because it is marked `#[ignore]`.
    Ignored,
}

/// One test and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TestReport {
    /// The test's path inside its target, as libtest prints it.
    pub name: String,
    /// What it came to.
    pub outcome: Outcome,
}

/// How a test binary ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It exited with this status.
    Exit(i32),
    /// A signal of this number ended it.
    Signal(i32),
    /// It ran longer than it was allowed to and was ended.
    TimedOut,
    /// The person or a newer snapshot ended it: no verdict, and never recorded.
    Cancelled,
    /// It could not be started, for example because the file was gone.
    NotStarted,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit status {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::NotStarted => f.write_str("not started"),
        }
    }
}

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TestCounts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that are marked `#[ignore]` and were not asked for.
    pub ignored: u64,
    /// Tests that the filter left out.
    pub filtered: u64,
}

impl TestCounts {
    /// How many of these outcomes are of each kind; nothing was left out.
    pub(crate) fn of(outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes {
            match outcome {
                Outcome::Ok => counts.passed += 1,
                Outcome::Failed => counts.failed += 1,
                Outcome::Ignored => counts.ignored += 1,
            }
        }
        counts
    }
}

impl std::ops::AddAssign for TestCounts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.filtered += other.filtered;
    }
}

/// What one test target came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetReport {
    /// Which target.
    pub id: TargetId,
    /// Pass or fail; a cancelled target has none and is no report.
    pub verdict: Verdict,
    /// How its process ended.
    pub end: End,
    /// How many tests there were.
    pub counts: TestCounts,
    /// Every test that libtest named; empty for a harness of another kind.
    pub tests: Vec<TestReport>,
    /// What a person needs to see of a failure: the standard output's failure sections, and
    /// standard error. Empty for a pass.
    pub output: String,
    /// Standard error, if all output was asked for, as by `--nocapture`. `output` is then the whole
    /// standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// How long the process ran, in milliseconds.
    pub duration_ms: u64,
}

impl TargetReport {
    /// The names of the failed tests.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().filter(|t| t.outcome == Outcome::Failed).map(|t| t.name.as_str())
    }
}
