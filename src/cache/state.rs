//! The small state of a project besides its records: counts that outlive restarts, and its last
//! verdict, which `status` shows without a daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Cache;
use super::files::{self, Access, Durability, Lock, Unread, remedy};
use super::record::project_digest;
use super::{format, index};
use crate::model::{Digest, Source, TargetId, TestCounts, Timestamp, Verdict};
use crate::workspace::BuildVariables;

/// How long an update waits for another one. An update takes well under a millisecond.
const STATE_LOCK_WAIT: Duration = Duration::from_secs(5);

/// The last answer that was given for a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerdict {
    /// When the answer was given.
    pub when: Timestamp,
    /// The verdict.
    pub verdict: Verdict,
    /// Whether it came from the cache or from a run.
    pub source: Source,
    /// Its snapshot; `None` if the snapshot was unknown.
    pub code_hash: Option<Digest>,
    /// Its selection, in canonical text.
    pub selection: String,
    /// The counts of its tests.
    pub counts: TestCounts,
    /// How long the answer took, in milliseconds.
    pub elapsed_ms: u64,
}

/// Why a green run was not cached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncached {
    /// When the run took place.
    pub when: Timestamp,
    /// The reasons, for a person.
    pub why: Vec<String>,
    /// Advice how to make the run cacheable, for a person.
    pub advice: Vec<String>,
}

/// Why a green call by cargo itself was not cached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncachedCall {
    /// The call's arguments, for a person.
    pub args: String,
    /// The reasons.
    #[serde(flatten)]
    pub uncached: Uncached,
}

/// How a test target behaved in its last observed run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunConduct {
    /// Digest of the words that its program was given: the filter and the harness's options.
    pub words: Digest,
    /// What speaks against another run that nobody has asked for; nothing if nobody notices it.
    pub obstacles: Vec<String>,
}

/// What observing a run of a test target has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservationCost {
    /// How many calls of the run were notified.
    pub calls: u64,
    /// How long such a call takes on this machine, in nanoseconds.
    pub call_ns: u64,
    /// How long the run took, in milliseconds.
    pub run_ms: u64,
}

impl ObservationCost {
    /// All of it. Programs that run at a time share it.
    #[must_use]
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.calls.saturating_mul(self.call_ns))
    }

    /// Its share of the run.
    #[must_use]
    pub(crate) fn percent(&self) -> u64 {
        let total = u64::try_from(self.total().as_micros()).unwrap_or(u64::MAX);
        total / (self.run_ms * 10).max(1)
    }
}

/// For a person.
impl fmt::Display for ObservationCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, call_ns, run_ms } = self;
        let (total, percent) = (self.total().as_millis(), self.percent());
        let call = format!("{}.{} µs", call_ns / 1_000, call_ns % 1_000 / 100);
        write!(f, "{total} ms of {run_ms} ms ({percent} %): {calls} calls of {call} each")
    }
}

/// What a selection per test would have run of the runs so far, and what it would have missed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelectionRecord {
    /// How many runs of test targets were compared with an earlier run.
    pub runs: u64,
    /// How many tests they ran.
    pub tests: u64,
    /// How many of those a selection would have run.
    pub selected: u64,
    /// How many others came to another outcome than before. Anything but zero is a reason to
    /// distrust a selection.
    pub missed: u64,
    /// The last of those, as `target: test`.
    pub missed_tests: Vec<String>,
    /// How many of the runs a selection would have run whole.
    pub whole: u64,
    /// Why, the last time, by target.
    pub why_whole: BTreeMap<String, String>,
}

impl SelectionRecord {
    /// Adds what later runs have shown.
    pub(crate) fn add(&mut self, later: Self) {
        self.runs += later.runs;
        self.tests += later.tests;
        self.selected += later.selected;
        self.missed += later.missed;
        self.whole += later.whole;
        self.why_whole.extend(later.why_whole);
        if !later.missed_tests.is_empty() {
            self.missed_tests = later.missed_tests;
        }
    }
}

/// A test with two outcomes on the same code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlakyTest {
    /// Its path inside the target; empty for a target of which no single tests are known.
    pub test: String,
    /// When this was noticed.
    pub since: Timestamp,
    /// How often the test has passed in a row since it last failed.
    pub agreed: u32,
}

/// Sets of packages that differ when they are built without the rest of the workspace, as builds
/// have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InseparablePackages {
    /// Digest of everything that decides it: manifests, toolchain, selection and the like.
    key: Option<Digest>,
    /// Each set, as arguments of `-p`.
    sets: BTreeSet<Vec<String>>,
}

impl InseparablePackages {
    /// How many sets are stored.
    const MOST_SETS: usize = 100;

    /// Whether these packages are known to be inseparable, with this key.
    #[must_use]
    pub(crate) fn holds(&self, key: &Digest, packages: &[String]) -> bool {
        self.key.as_ref() == Some(key) && self.sets.contains(packages)
    }

    /// Adds a set and drops all sets of another key. Returns whether the set is new.
    pub(crate) fn learn(&mut self, key: Digest, packages: Vec<String>) -> bool {
        if self.key != Some(key) || self.sets.len() >= Self::MOST_SETS {
            *self = Self { key: Some(key), sets: BTreeSet::new() };
        }
        self.sets.insert(packages)
    }
}

/// Counts and the last verdict of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectState {
    /// How many cached answers were run as well and compared.
    pub verified: u64,
    /// How many of those were wrong. Anything but zero is a bug.
    pub wrong: u64,
    /// The last answer.
    pub last: Option<LastVerdict>,
    /// The test targets of the last run, in cargo's order.
    pub targets: Vec<TargetId>,
    /// Test targets whose last green run was not cached, by name.
    #[serde(rename = "unkept")]
    pub uncached: BTreeMap<String, Uncached>,
    /// Why every file of the workspace counts for a test target whose last run was not observed
    /// completely, for a person. By name.
    pub unseen: BTreeMap<String, Vec<String>>,
    /// Test targets that failed beside other test programs and passed alone, with the time: they run
    /// alone from then on. By name.
    pub run_alone: BTreeMap<String, Timestamp>,
    /// Test targets whose runs observing changed and of which nothing could be kept, with the time:
    /// they run unobserved for a day. By name.
    pub run_unobserved: BTreeMap<String, Timestamp>,
    /// Test targets whose runs must be observed in full, by name.
    pub observe_in_full: BTreeSet<String>,
    /// Test targets in whose runs each attempt to open a library must be observed, by name.
    pub observe_libraries: BTreeSet<String>,
    /// The last calls of test programs that were not cached, by their target's plain name.
    #[serde(rename = "unkept_calls")]
    pub uncached_calls: BTreeMap<String, UncachedCall>,
    /// Targets that cargo itself has run through `exec`, as far as a call tells their names.
    pub called: BTreeSet<TargetId>,
    /// The build variables of the last command's shell: a daemon that has just been started builds
    /// with them before the next command comes.
    pub shell: Option<BuildVariables>,
    /// Tests that were seen to pass and to fail on the same code, by their target's name.
    pub flaky: BTreeMap<String, Vec<FlakyTest>>,
    /// Test targets of which a verified answer was wrong, with the time: no record answers for them
    /// until a person trusts them again. By name.
    pub distrusted: BTreeMap<String, Timestamp>,
    /// The signers of those wrong answers that were other machines', by the target's name.
    pub wrong_signers: BTreeMap<String, BTreeSet<String>>,
    /// Packages that are no use to build first.
    pub inseparable: InseparablePackages,
    /// The names of the test targets whose last run was red: they run first.
    pub failing: BTreeSet<String>,
    /// How test targets behaved in their last observed run, by name.
    pub conduct: BTreeMap<String, RunConduct>,
    /// What observing test targets cost of which that took more than the configured share of the last
    /// run, by name.
    pub over_budget: BTreeMap<String, ObservationCost>,
    /// What a selection per test would have run.
    pub selection: SelectionRecord,
    /// Fields of a newer program: carried along, so that an older program does not lose them.
    #[serde(flatten)]
    newer: BTreeMap<String, serde_json::Value>,
}

/// Why a project's state was not updated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The folder or the file cannot be written.
    #[error("write the project's state in `{}`: {source}; {}", dir.display(), remedy(source))]
    Write {
        /// The folder.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process holds the lock for longer than any update takes.
    #[error(
        "lock `{}`: another process has held it for {} s; see which one with `fuser` and end it",
        lock.display(), STATE_LOCK_WAIT.as_secs()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
    },
}

impl ProjectState {
    /// What every command says of the distrusted targets; none if there are none.
    #[must_use]
    pub(crate) fn distrust_note(&self) -> Option<String> {
        let name = |target: &String| match self.wrong_signers.get(target) {
            Some(signers) => {
                let signers: Vec<_> = signers.iter().map(String::as_str).collect();
                format!("{target} (by the record of {})", signers.join(" and "))
            }
            None => target.clone(),
        };
        let names: Vec<_> = self.distrusted.keys().map(name).collect();
        (!names.is_empty()).then(|| {
            format!(
                "a verified answer was wrong, so no record answers until `knhk-test-cache resume \
                 --trust`: {}",
                names.join(", ")
            )
        })
    }

    /// The flaky tests for a person, as `target: test`.
    #[must_use]
    pub(crate) fn flaky_names(&self) -> Vec<String> {
        let of = |(target, tests): (&String, &Vec<FlakyTest>)| {
            let name = |flaky: &FlakyTest| match flaky.test.as_str() {
                "" => target.clone(),
                test => format!("{target}: {test}"),
            };
            tests.iter().map(name).collect::<Vec<_>>()
        };
        self.flaky.iter().flat_map(of).collect()
    }
}

impl Cache {
    /// The state of a project. That of a new project is empty, and so is one whose file is malformed
    /// (with a warning).
    #[must_use]
    #[doc(hidden)]
    pub fn state(&self, workspace_root: &Path) -> ProjectState {
        let path = self.layout.state(&project_digest(workspace_root));
        read_state(&path).unwrap_or_else(|error| {
            warn!(file = %path.display(), reason = %error, "cannot read the project's state");
            ProjectState::default()
        })
    }

    /// Changes the state of a project and returns the new state. Processes that do so at the same
    /// time wait for each other: `change` must not take long.
    ///
    /// Changed counts of verifications reach the disk before this returns, since they are
    /// evidence; a last verdict alone does not wait for the disk.
    ///
    /// # Errors
    /// If it cannot be written, or the lock is not free in time. Then nothing has changed.
    pub(crate) fn update_state(
        &self,
        workspace_root: &Path,
        change: impl FnOnce(&mut ProjectState),
    ) -> Result<ProjectState, StateError> {
        let digest = project_digest(workspace_root);
        let path = self.layout.state(&digest);
        let failed = |source| StateError::Write { dir: files::nearest(&path).to_owned(), source };
        let lock = self.layout.state_lock();
        let held = Lock::take(&lock, Access::Exclusive, STATE_LOCK_WAIT).map_err(failed)?;
        if held.is_none() {
            return Err(StateError::Busy { lock });
        }
        let before = read_state(&path).map_err(failed)?;
        let mut state = before.clone();
        change(&mut state);
        let counts = |state: &ProjectState| (state.verified, state.wrong);
        let durability =
            if counts(&state) == counts(&before) { Durability::Process } else { Durability::Power };
        let bytes = format::encode("state", &state).map_err(|e| failed(e.into()))?;
        index::name_project(&self.layout, &digest, workspace_root).map_err(failed)?;
        files::write(&path, &[&bytes], durability).map_err(failed)?;
        Ok(state)
    }

    /// Changes the state of a project where all goes on without that. Whether it was changed; if not, the log
    /// says why, and `lost`: what that means.
    pub(crate) fn note_state(
        &self,
        workspace_root: &Path,
        lost: &str,
        change: impl FnOnce(&mut ProjectState),
    ) -> bool {
        let changed = self.update_state(workspace_root, change);
        if let Err(error) = &changed {
            warn!(project = %workspace_root.display(), %error, "{lost}");
        }
        changed.is_ok()
    }
}

/// The state in this file. A file that cannot be read *now* is an error and must not be
/// overwritten; a malformed one will never be readable, and the state begins again.
fn read_state(path: &Path) -> io::Result<ProjectState> {
    let decoded = match files::read(path) {
        Ok((bytes, _)) => format::decode("state", &bytes),
        Err(Unread::Absent) => return Ok(ProjectState::default()),
        Err(Unread::Malformed(what)) => Err(what),
        Err(Unread::Failed(error)) => return Err(error),
    };
    Ok(decoded.unwrap_or_else(|what| {
        warn!(file = %path.display(), reason = %what, "the project's state begins again");
        ProjectState::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digester;

    #[test]
    fn sets_of_another_key_are_dropped_and_their_number_is_bounded() {
        let keys = ["a", "b"].map(|name| Digester::new(name).finish());
        let set = |name: &str| vec![name.to_owned(), "z".to_owned()];
        let mut known = InseparablePackages::default();
        assert!(!known.holds(&keys[0], &set("x")));
        assert!(known.learn(keys[0], set("x")) && !known.learn(keys[0], set("x")));
        assert!(known.holds(&keys[0], &set("x")) && !known.holds(&keys[1], &set("x")));
        assert!(!known.holds(&keys[0], &set("x")[..1]), "alone it may be");
        let text = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<InseparablePackages>(&text).unwrap(), known);
        assert!(known.learn(keys[1], set("y")));
        assert!(!known.holds(&keys[0], &set("x")));
        for number in 0..2 * InseparablePackages::MOST_SETS {
            known.learn(keys[1], set(&number.to_string()));
        }
        assert!(known.sets.len() <= InseparablePackages::MOST_SETS);
        assert!(known.holds(&keys[1], &set(&(2 * InseparablePackages::MOST_SETS - 1).to_string())));
    }
}
