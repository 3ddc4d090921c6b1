//! The state of a daemon and its projects, as `status --format json` prints it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cache::{LastVerdict, SelectionRecord};
use crate::model::{Digest, OsText, State, Timestamp, os_text};

/// The whole state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Whether a daemon answered.
    pub running: bool,
    /// Its process.
    pub pid: Option<u32>,
    /// Its version; the command's own where none runs.
    pub version: String,
    /// The control socket.
    #[serde(with = "os_text")]
    pub socket: PathBuf,
    /// The config file.
    #[serde(with = "os_text")]
    pub config: PathBuf,
    /// What is wrong with the config file as it is now; the daemon runs on the one before.
    pub config_error: Option<String>,
    /// Every project of the config.
    pub projects: Vec<ProjectStatus>,
}

/// The state of one project.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProjectStatus {
    /// The workspace's root.
    #[serde(with = "os_text")]
    pub path: PathBuf,
    /// What it is about.
    pub state: State,
    /// More about the state: progress, what is missing, what stands in the way.
    pub reason: Option<String>,
    /// When a pause by hand is over, where one with a duration is in force.
    #[serde(default)]
    pub paused_until: Option<Timestamp>,
    /// The digest of the code as the daemon last saw it.
    pub code_hash: Option<Digest>,
    /// How the tree is watched: `events`, `polling`, with the reason for the latter.
    pub watch: String,
    /// Where the tests are built.
    #[serde(default)]
    pub target_dirs: Vec<OsText>,
    /// What is out of the ordinary, and what to do about it if anything.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The last build by the daemon.
    pub last_build: Option<LastBuild>,
    /// The last verdict that anyone reached.
    pub last_verdict: Option<LastVerdict>,
    /// Its records.
    pub cache: CacheUse,
    /// How many answers from records were run as well and compared.
    pub verified: u64,
    /// How many of those were wrong.
    pub wrong: u64,
    /// Tests that both passed and failed on the same code, as `target: test`.
    pub flaky: Vec<String>,
    /// What a selection per test would have run.
    #[serde(default)]
    pub selection: SelectionRecord,
    /// What yielding to other programs has cost the background builds.
    #[serde(default, rename = "courtesy")]
    pub yields: InterruptionStats,
}

/// How often background builds have yielded cargo's lock to another cargo, and how long they were
/// suspended for other programs, since the daemon was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptionStats {
    /// How often.
    pub times: u64,
    /// How long builds have run, in milliseconds, without suspended time.
    pub spent_ms: u64,
    /// How much of that was lost by yielding, in milliseconds: the time since the last finished
    /// unit.
    pub lost_ms: u64,
    /// How long they were suspended, in milliseconds, while other programs used all cores.
    #[serde(default, rename = "stood_ms")]
    pub suspended_ms: u64,
}

/// How a build came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastBuild {
    /// When it ended.
    pub when: Timestamp,
    /// Whether the tests compile.
    pub success: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What cargo said of it, rendered: the errors of a failed one.
    pub errors: String,
    /// How many artifacts were built, not found up to date.
    #[serde(default)]
    pub rebuilt: u64,
    /// Why, as cargo says it, for some of what had been built before.
    #[serde(default)]
    pub dirty: Vec<String>,
    /// Why it was ended before its end, if it was; then it says nothing of the code.
    #[serde(default)]
    pub ended: Option<String>,
}

/// A project's share of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheUse {
    /// Records.
    pub entries: u64,
    /// How many of them are of calls by plain `cargo test`.
    #[serde(default)]
    pub calls: u64,
    /// Their bytes on disk.
    pub bytes: u64,
}
