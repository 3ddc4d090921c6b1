//! What the service is doing for a project.

use serde::{Deserialize, Serialize};

/// What a project is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing to do.
    Idle,
    /// The tree is being read.
    Hashing,
    /// The tests are being compiled.
    Building,
    /// Stale tests are being run in the background.
    Testing,
    /// The last build failed.
    Failed,
    /// Kept from working; `reason` says by what.
    Paused,
    /// The folder is not there.
    Missing,
}

impl State {
    /// The word of the JSON.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Hashing => "hashing",
            Self::Building => "building",
            Self::Testing => "testing",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Missing => "missing",
        }
    }
}
