//! The fields that log lines share, and the words of their values.
//!
//! A log line names its subject by these fields and no others, so that a script can rely on them.

use std::fmt;

/// The names of the fields.
pub mod field {
    /// The workspace root: an absolute path, never only the folder's name.
    pub const PROJECT: &str = "project";
    /// The package's name, of a target's run.
    pub const PACKAGE: &str = "package";
    /// The test target's name; on level `debug`, since there are many.
    pub const TARGET: &str = "target";
    /// The code hash: 64 hexadecimal digits.
    pub const SNAPSHOT: &str = "snapshot";
    /// Milliseconds, a whole number.
    pub const DURATION: &str = "duration";
    /// One of [`LogOutcome`](super::LogOutcome)'s four words.
    pub const OUTCOME: &str = "outcome";
}

/// The values of the field `outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogOutcome {
    /// Built, or every test passed.
    Pass,
    /// A test failed.
    Fail,
    /// No verdict: the build failed, timed out, or could not start.
    Error,
    /// Suspended or ended for something more urgent, or no longer wanted.
    Cancelled,
}

impl LogOutcome {
    /// The four words.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Fail, Self::Error, Self::Cancelled];

    /// The word in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for LogOutcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
