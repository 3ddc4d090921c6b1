//! What is known of a project besides its records: counts that outlive restarts, and its last
//! verdict, so that it can be told without a daemon.

use std::collections::{BTreeMap, BTreeSet};
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

/// How long an update waits for another one. Updates take well under a millisecond.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last answer that was given for a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerdict {
    /// When it was given.
    pub when: Timestamp,
    /// What it was.
    pub verdict: Verdict,
    /// Where it came from.
    pub source: Source,
    /// For which snapshot; `None` if the snapshot was unknown.
    pub code_hash: Option<Digest>,
    /// For which selection, in canonical text.
    pub selection: String,
    /// Its tests.
    pub counts: TestCounts,
    /// How long the answer took, in milliseconds.
    pub elapsed_ms: u64,
}

/// RemovalReason nothing could be kept of a green run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncached {
    /// When it was.
    pub when: Timestamp,
    /// The reasons, for a person.
    pub why: Vec<String>,
    /// What would have it kept, for a person.
    pub advice: Vec<String>,
}

/// RemovalReason nothing could be kept of a green call by cargo itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncachedCall {
    /// The call's arguments, for a person.
    pub args: String,
    /// The reasons.
    #[serde(flatten)]
    pub unkept: Uncached,
}

/// A test with two outcomes on the same code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlakyTest {
    /// Its path inside the target; empty for a target of which no single tests are known.
    pub test: String,
    /// When it was found out.
    pub since: Timestamp,
    /// How often it has passed in a row since it last failed.
    pub agreed: u32,
}

/// Packages of a project that come out as other ones when they are built without the rest of it, as
/// builds have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InseparablePackages {
    /// What that depends on: manifests, toolchain, selection and the like.
    key: Option<Digest>,
    /// Each set as `-p` takes it.
    sets: BTreeSet<Vec<String>>,
}

impl InseparablePackages {
    /// So many sets are kept.
    const MOST: usize = 100;

    /// Whether these packages are known to be such with this key.
    #[must_use]
    pub fn holds(&self, key: &Digest, packages: &[String]) -> bool {
        self.key.as_ref() == Some(key) && self.sets.contains(packages)
    }

    /// Takes note of that; what is known of another key is forgotten. Tells whether it is news.
    pub fn learn(&mut self, key: Digest, packages: Vec<String>) -> bool {
        if self.key != Some(key) || self.sets.len() >= Self::MOST {
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
    /// Test targets of whose last green run nothing could be kept, by name.
    pub unkept: BTreeMap<String, Uncached>,
    /// RemovalReason every file of the workspace counts for a test target, for a person: not all that its
    /// last run consulted was seen. By name.
    pub unseen: BTreeMap<String, Vec<String>>,
    /// The last calls of test programs of which nothing could be kept, by their target's plain
    /// name.
    pub unkept_calls: BTreeMap<String, UncachedCall>,
    /// What the last command's shell had that decides a build, if there was one: a daemon that is
    /// started builds with it before the next one comes.
    pub shell: Option<BuildVariables>,
    /// Tests that were seen to pass and to fail on the same code, by their target's name.
    pub flaky: BTreeMap<String, Vec<FlakyTest>>,
    /// What need not be built first.
    pub inseparable: InseparablePackages,
    /// What a newer program keeps here: carried along, so that an older one does not lose it.
    #[serde(flatten)]
    newer: BTreeMap<String, serde_json::Value>,
}

/// RemovalReason a project's state was not updated.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or the file cannot be written.
    #[error("write the project's state in `{}`: {source}; {}", dir.display(), remedy(source))]
    Write {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process holds the lock for longer than any update takes.
    #[error(
        "lock `{}`: another process has held it for {} s; see which one with `fuser` and end it",
        lock.display(), PATIENCE.as_secs()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
    },
}

impl ProjectState {
    /// The flaky tests for a person, as `target: test`.
    #[must_use]
    pub fn flaky_names(&self) -> Vec<String> {
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
    /// What is known of a project. Nothing is known of a new one, nor of one whose file is odd
    /// (told as a warning).
    #[must_use]
    pub fn state(&self, project: &Path) -> ProjectState {
        let path = self.layout.state(&project_digest(project));
        read_state(&path).unwrap_or_else(|error| {
            warn!(file = %path.display(), reason = %error, "cannot tell the project's counts");
            ProjectState::default()
        })
    }

    /// Changes what is known of a project, safe against others that do the same at the same
    /// time, and returns what it is now. `change` must not take long: others wait for it.
    ///
    /// Changed counts of verifications reach the disk before this returns, since they are
    /// evidence; a last verdict alone does not wait for the disk.
    ///
    /// # Errors
    /// If it cannot be written, or the lock is not to be had; then nothing has changed.
    pub fn update_state(
        &self,
        project: &Path,
        change: impl FnOnce(&mut ProjectState),
    ) -> Result<ProjectState, StateError> {
        let digest = project_digest(project);
        let path = self.layout.state(&digest);
        let failed = |source| StateError::Write { dir: files::nearest(&path).to_owned(), source };
        let lock = self.layout.state_lock();
        let held = Lock::take(&lock, Access::Exclusive, PATIENCE).map_err(failed)?;
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
        index::name_project(&self.layout, &digest, project).map_err(failed)?;
        files::write(&path, &[&bytes], durability).map_err(failed)?;
        Ok(state)
    }
}

/// The state in this file. What cannot be read *now* is an error and must not be written over;
/// what is odd will never be readable and begins again.
fn read_state(path: &Path) -> io::Result<ProjectState> {
    let decoded = match files::read(path) {
        Ok((bytes, _)) => format::decode("state", &bytes),
        Err(Unread::Absent) => return Ok(ProjectState::default()),
        Err(Unread::Malformed(what)) => Err(what),
        Err(Unread::Failed(error)) => return Err(error),
    };
    Ok(decoded.unwrap_or_else(|what| {
        warn!(file = %path.display(), reason = %what, "the project's counts begin again");
        ProjectState::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digester;

    #[test]
    fn what_was_learnt_of_another_key_is_forgotten_and_no_more_than_some_is_kept() {
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
        for number in 0..2 * InseparablePackages::MOST {
            known.learn(keys[1], set(&number.to_string()));
        }
        assert!(known.sets.len() <= InseparablePackages::MOST);
        assert!(known.holds(&keys[1], &set(&(2 * InseparablePackages::MOST - 1).to_string())));
    }
}
