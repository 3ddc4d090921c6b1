//! Records of test runs by content: what was proven once need not be run again.
//!
//! A record is found by its [`RecordKey`], a digest of everything that decides the outcome. It answers
//! ([`Lookup::Hit`]) only if it is green, whole, young enough and not from the future; in every
//! other case [`MissReason`] says why not, and an unreadable file is one of those cases and never an
//! error. Whether a record's [`Input`]s are still what they were is for the caller to see: the
//! cache knows no workspace.
//!
//! Records are files, one a key, that are written under another name and renamed into place, so
//! that any number of processes may read and write at once without ever seeing half of one. Only
//! removing needs a lock. Nothing waits for the disk: a file that a power failure cut short is
//! found out by the digest inside.
//!
//! | module | what it knows |
//! |---|---|
//! | `record` | what a record says |
//! | `format` | how it lies in a file and proves itself |
//! | `layout` | where files lie and which names are ours |
//! | `files` | whole writes, suspicious reads, patient locks |
//! | `memory` | the records that were read last |
//! | `index` | which project keeps which records |
//! | `retention` | what may go, as a pure plan |
//! | `programs` | what is loaded of the programs that cargo calls |
//! | `put` | keeping records and listings |
//! | `sweep` | statistics, `clear`, carrying out a plan |
//! | `gc` | what is odd, unfinished or abandoned |
//! | `state` | counts and the last verdict of a project |
//! | `targets` | target directories that projects have to themselves |

mod files;
mod format;
mod gc;
mod index;
mod layout;
mod memory;
mod programs;
mod put;
mod record;
mod retention;
mod state;
mod sweep;
mod targets;

pub use gc::GcOptions;
pub use put::{PutError, StoredRecord};
pub use record::{Input, InputState, ParseRecordLevelError, Record, RecordKey, RecordLevel};
pub use retention::RemovalReason;
pub use state::{
    FlakyTest, InseparablePackages, LastVerdict, ProjectState, StateError, Uncached, UncachedCall,
};
pub use sweep::{CacheItem, ProjectStats, RemovedItem, Stats, SweepError, SweepReport};
pub use targets::{OwnTargetDir, mark_own_target_dir, own_target_dirs, remove_leftovers};

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::model::{Timestamp, Verdict};
use files::{Stamp, Unread};
use layout::Layout;
use memory::RecentRecords;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many distinct snapshots a project keeps records of; at least one.
    pub keep_snapshots: usize,
    /// How many bytes all records and listings of all projects may have together.
    pub max_bytes: u64,
    /// How old a record may grow; none sets no limit.
    pub max_age: Option<Duration>,
}

impl Default for Limits {
    /// Ten snapshots a project and 512 MiB, however old.
    fn default() -> Self {
        Self { keep_snapshots: 10, max_bytes: 512 << 20, max_age: None }
    }
}

/// What a question to the cache came to.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Green, if the record's inputs are still what they were.
    Hit(Arc<Record>),
    /// Unknown: the tests must run.
    Miss(MissReason),
}

/// RemovalReason the cache has no answer.
#[derive(Clone, Debug)]
pub enum MissReason {
    /// Nothing was recorded for this key, or it is not kept any more.
    Absent,
    /// The record is older than records may be.
    Expired {
        /// How old it is.
        age: Duration,
    },
    /// The record was made later than it is now: the clock was set back, and ages mean nothing.
    FromTheFuture,
    /// The file is not a readable record: what is odd about it.
    Malformed(String),
    /// These tests failed. That is known, but it is no answer: they must run again.
    NotGreen(Arc<Record>),
}

impl fmt::Display for MissReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("nothing is recorded for this state of the tree"),
            Self::Expired { age } => write!(f, "the record is {} s old", age.as_secs()),
            Self::FromTheFuture => {
                f.write_str("the record is from the future: the clock was set back")
            }
            Self::Malformed(what) => write!(f, "the record cannot be used: {what}"),
            Self::NotGreen(_) => f.write_str("the tests failed in this state of the tree"),
        }
    }
}

/// All records of one user. Cheap to open; can be shared by threads and opened by any number of
/// processes at once.
#[derive(Debug)]
pub struct Cache {
    layout: Layout,
    memory: Mutex<RecentRecords>,
}

impl Cache {
    /// The cache in this folder, which need not exist: it is created with the first record.
    pub fn open(cache_dir: impl Into<PathBuf>) -> Self {
        let layout = Layout { root: cache_dir.into() };
        Self { layout, memory: Mutex::default() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.layout.root
    }

    /// Asks for the record of `key`, which may be `ttl` old.
    pub fn get(&self, key: &RecordKey, now: Timestamp, ttl: Duration) -> Lookup {
        match self.read(key) {
            Ok(record) => judge(record, now, ttl),
            Err(reason) => Lookup::Miss(reason),
        }
    }

    /// The newest record of a project and selection, whatever its key, age and verdict: what
    /// explanations compare with. Never an answer.
    #[must_use]
    pub fn latest(&self, project: &Path, selection: &str) -> Option<Record> {
        let digest = record::project_digest(project);
        let tag = layout::selection_tag(selection);
        // A folder that cannot be read is a project without records.
        let mut claims = index::claims_of(&self.layout, digest).unwrap_or_default();
        claims.retain(|claim| claim.selection == tag);
        let now = Timestamp::now();
        claims.sort_unstable_by_key(|claim| (claim.at <= now, claim.at, claim.key));
        claims
            .iter()
            .rev()
            .filter_map(|claim| Some(index::load(&self.layout, &claim.key).ok()?.0))
            .find(|record| record.selection == selection)
    }

    /// All readable records of a project and selection, whatever their age and verdict, the newest
    /// first. Nothing of them is an answer before its key, age and inputs have been looked at.
    #[must_use]
    pub fn records_of(&self, project: &Path, selection: &str) -> Vec<Record> {
        let tag = layout::selection_tag(selection);
        let claims = index::claims_of(&self.layout, record::project_digest(project));
        let keys: BTreeSet<RecordKey> = claims
            .unwrap_or_default()
            .iter()
            .filter(|claim| claim.selection == tag)
            .map(|claim| claim.key)
            .collect();
        let load = |key: &RecordKey| Some(index::load(&self.layout, key).ok()?.0);
        let mut records: Vec<_> = keys.iter().filter_map(load).collect();
        records.retain(|record| record.selection == selection && record.project == project);
        records.sort_unstable_by_key(|record| Reverse(record.created));
        records
    }

    /// The record as it lies on the disk or is remembered, whatever it says.
    fn read(&self, key: &RecordKey) -> Result<Arc<Record>, MissReason> {
        let path = self.layout.record(key);
        // The clock before the file: a file that changes from here on cannot look settled.
        let now = SystemTime::now();
        if let Ok(metadata) = path.symlink_metadata()
            && let Some(record) = self.memory().get(key, &Stamp::of(&metadata))
        {
            return Ok(record);
        }
        match index::load(&self.layout, key) {
            Ok((record, stamp)) => {
                let record = Arc::new(record);
                if stamp.is_settled(now) {
                    self.memory().insert(stamp, Arc::clone(&record));
                }
                Ok(record)
            }
            Err(unread) => {
                self.memory().forget(key);
                let reason = match unread {
                    Unread::Absent => return Err(MissReason::Absent),
                    Unread::Malformed(reason) => reason,
                    Unread::Failed(error) => format!("it cannot be read: {error}"),
                };
                warn!(file = %path.display(), %reason, "ignoring a record");
                Err(MissReason::Malformed(reason))
            }
        }
    }

    /// A thread that panicked inside left at worst a record forgotten: the stamps still hold.
    fn memory(&self) -> std::sync::MutexGuard<'_, RecentRecords> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a readable record is an answer.
fn judge(record: Arc<Record>, now: Timestamp, ttl: Duration) -> Lookup {
    if record.verdict != Verdict::Pass {
        return Lookup::Miss(MissReason::NotGreen(record));
    }
    match record.created.age(now) {
        None => Lookup::Miss(MissReason::FromTheFuture),
        Some(age) if age >= ttl => Lookup::Miss(MissReason::Expired { age }),
        Some(_) => Lookup::Hit(record),
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
