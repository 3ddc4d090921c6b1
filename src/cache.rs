//! Records of test runs by content: a run that was proven once need not be repeated.
//!
//! A record is found by its [`RecordKey`], a digest of everything that decides the outcome. It answers
//! ([`Lookup::Hit`]) only if it is green, whole, young enough and not from the future; in every
//! other case [`MissReason`] says why not. An unreadable file is a miss, never an error. The caller
//! checks whether a record's [`Input`]s are unchanged, because the cache knows no workspace.
//!
//! Records are files, one for each key. They are written under another name and renamed into
//! place, so that any number of processes can read and write at once and never see half a file.
//! Only removal needs a lock. Writes do not wait for the disk: the digest inside a file tells when
//! a power failure has cut it short.
//!
//! | module | what it knows |
//! |---|---|
//! | `record` | the content of a record |
//! | `format` | the file format, with its digest |
//! | `layout` | paths, and which names are ours |
//! | `files` | atomic writes, checked reads, locks with a time-out |
//! | `recent_records` | the records that were read last, in memory |
//! | `proof` | by which looks a recent record was proven, in memory |
//! | `index` | which project keeps which records |
//! | `retention` | which records may be removed, as a pure plan |
//! | `memos` | what was found out once, by what decides it |
//! | `mentions` | which files can name which variables |
//! | `script_runs` | what build scripts consulted |
//! | `absences` | which names were absent in which folders, in memory |
//! | `code_digests` | what is left of sources without their comments |
//! | `environments` | in which environments a whole was proven |
//! | `plans` | what cargo builds and runs for a workspace, as it was the last time |
//! | `programs` | digests of the loadable parts of programs |
//! | `put` | storing records and listings |
//! | `sweep` | statistics, `clear`, and carrying out a removal plan |
//! | `gc` | malformed, unfinished and abandoned files |
//! | `history` | answers and verifications by day |
//! | `state` | counts, last verdict and other small state of a project |
//! | `target_dirs` | target directories that the service builds into |

mod absences;
mod code_digests;
mod environments;
mod files;
mod format;
mod gc;
mod history;
mod index;
mod layout;
mod memos;
mod mentions;
mod plans;
mod programs;
mod proof;
mod put;
mod recent_records;
mod record;
mod retention;
mod state;
mod sweep;
mod target_dirs;

pub(crate) use absences::KnownAbsences;
pub(crate) use code_digests::SourceCode;
pub(crate) use environments::{ProvenEnvironment, ProvenEnvironments};
pub(crate) use gc::GcOptions;
pub(crate) use history::{AnsweredTargets, HISTORY_DAYS, HistoryEvent};
pub(crate) use memos::ReachedTests;
pub(crate) use mentions::KnownMentions;
pub(crate) use plans::{KeyBasis, PackagePlan, TargetPlan, WorkspacePlan, carrier_of};
pub(crate) use proof::{EnvironmentProof, Found, Look, Looks, RecordProof};
pub(crate) use put::PutError;
pub(crate) use record::{
    Input, InputState, Record, RecordKey, RecordLevel, RecordReference, RecordedEnvironment,
    RecordedProducts, UnseenReads,
};
pub(crate) use script_runs::{KnownAnswer, KnownScriptRun};
pub(crate) use state::{
    FlakyTest, InseparablePackages, LastVerdict, ObservationCost, ProjectState, RunConduct,
    SelectionRecord, Uncached, UncachedCall,
};
pub(crate) use sweep::{SweepError, SweepReport};
pub(crate) use target_dirs::{
    OwnTargetDir, mark_own_target_dir, own_target_dirs, remove_leftovers,
};

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::warn;

use crate::model::{Digest, Timestamp, Verdict};
use crate::workspace::PathStamp;
use files::Unread;
use layout::Layout;
use proof::KnownEnvironments;
use recent_records::RecentRecords;

/// Limits on the size and age of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
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

/// The cache's answer to a look-up.
#[derive(Clone, Debug)]
pub(crate) enum Lookup {
    /// Green, if the record's inputs are still what they were.
    Hit(Arc<Record>),
    /// Unknown: the tests must run.
    Miss(MissReason),
}

/// Why the cache has no answer.
#[derive(Clone, Debug)]
pub(crate) enum MissReason {
    /// There is no record of this key, or it was evicted.
    Absent,
    /// The record is older than records may be.
    Expired {
        /// How old it is.
        age: Duration,
    },
    /// The record's time is in the future: the clock was set back, so that ages mean nothing.
    FromTheFuture,
    /// The file is not a readable record; the text says why.
    Malformed(String),
    /// These tests failed. A failure is never answered from the cache: they must run again.
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
    recent: Mutex<RecentRecords>,
    environments: Mutex<KnownEnvironments>,
    absences: Option<Arc<KnownAbsences>>,
    /// Another process held the records' lock for as long as a put waits, and no put has had it since.
    is_lock_stuck: AtomicBool,
}

impl Cache {
    /// The cache in this folder, which need not exist: it is created with the first record.
    pub fn open(cache_dir: impl Into<PathBuf>) -> Self {
        let layout = Layout { root: cache_dir.into() };
        Self {
            layout,
            recent: Mutex::default(),
            environments: Mutex::default(),
            absences: None,
            is_lock_stuck: AtomicBool::new(false),
        }
    }

    /// The same for a process that asks again and again. It remembers which names were absent, which
    /// would cost a process more that asks once.
    pub(crate) fn open_to_stay(cache_dir: impl Into<PathBuf>) -> Self {
        Self { absences: Some(Arc::default()), ..Self::open(cache_dir) }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.layout.root
    }

    /// What records found absent, for as long as this process lives.
    pub(crate) fn absences(&self) -> Option<Arc<KnownAbsences>> {
        self.absences.clone()
    }

    /// Asks for the record of `key`, which may be `ttl` old.
    pub(crate) fn get(&self, key: &RecordKey, now: Timestamp, ttl: Duration) -> Lookup {
        match self.read(key) {
            Ok(record) => look_up(record, now, ttl),
            Err(reason) => Lookup::Miss(reason),
        }
    }

    /// The newest record of a project and selection, whatever its key, age and verdict: what
    /// explanations compare with. It is never an answer.
    #[must_use]
    pub(crate) fn latest(&self, workspace_root: &Path, selection: &str) -> Option<Record> {
        self.newest(workspace_root, selection, 1).pop()
    }

    /// Up to so many of the newest ones, the newest first.
    #[must_use]
    pub(crate) fn newest(
        &self,
        workspace_root: &Path,
        selection: &str,
        limit: usize,
    ) -> Vec<Record> {
        let digest = record::project_digest(workspace_root);
        let tag = layout::selection_tag(selection);
        // A folder that cannot be read is a project without records.
        let mut claims = index::claims_of(&self.layout, digest).unwrap_or_default();
        claims.retain(|claim| claim.selection == tag);
        let now = Timestamp::now();
        claims.sort_unstable_by_key(|claim| (claim.at <= now, claim.at, claim.key));
        let mut seen = BTreeSet::new();
        claims
            .iter()
            .rev()
            .filter(|claim| seen.insert(claim.key))
            .filter_map(|claim| Some(index::load(&self.layout, &claim.key).ok()?.0))
            .filter(|record| record.selection == selection)
            .take(limit)
            .collect()
    }

    /// Whether there is a record of `key`, whatever it says.
    #[must_use]
    pub(crate) fn holds(&self, key: &RecordKey) -> bool {
        self.layout.record(key).exists()
    }

    /// The newest record of each of these selections, of this project where it has one, else of any:
    /// what explanations compare with. It is never an answer.
    #[must_use]
    pub(crate) fn latest_anywhere(
        &self,
        workspace_root: &Path,
        selections: impl IntoIterator<Item = String>,
    ) -> BTreeMap<String, Record> {
        let own = record::project_digest(workspace_root);
        let mut claims = index::claims(&self.layout).unwrap_or_default();
        claims.sort_unstable_by_key(|claim| (claim.project == own, claim.at, claim.key));
        let newest = |selection: String| {
            let tag = layout::selection_tag(&selection);
            let of_it = claims.iter().rev().filter(|claim| claim.selection == tag);
            let mut records =
                of_it.filter_map(|claim| Some(index::load(&self.layout, &claim.key).ok()?.0));
            let record = records.find(|record| record.selection == selection)?;
            Some((selection, record))
        };
        selections.into_iter().filter_map(newest).collect()
    }

    /// All readable records of a selection that a project keeps, its own and those of other checkouts
    /// that it has used, whatever their age and verdict, the newest first. None is an answer before its
    /// key, age and inputs have been checked.
    #[must_use]
    pub(crate) fn records_of(&self, workspace_root: &Path, selection: &str) -> Vec<Record> {
        let claims = index::claims_of(&self.layout, record::project_digest(workspace_root));
        self.records_among(&claims.unwrap_or_default(), selection)
    }

    /// The same of all projects.
    #[must_use]
    pub(crate) fn records_anywhere(&self, selection: &str) -> Vec<Record> {
        self.records_among(&index::claims(&self.layout).unwrap_or_default(), selection)
    }

    fn records_among(&self, claims: &[layout::RecordClaim], selection: &str) -> Vec<Record> {
        let tag = layout::selection_tag(selection);
        let claims = claims.iter().filter(|claim| claim.selection == tag);
        let keys: BTreeSet<RecordKey> = claims.map(|claim| claim.key).collect();
        let load = |key: &RecordKey| Some(index::load(&self.layout, key).ok()?.0);
        let mut records: Vec<_> = keys.iter().filter_map(load).collect();
        records.retain(|record| record.selection == selection);
        records.sort_unstable_by_key(|record| Reverse(record.created));
        records
    }

    /// The record from the disk or from memory, whatever its verdict.
    fn read(&self, key: &RecordKey) -> Result<Arc<Record>, MissReason> {
        let path = self.layout.record(key);
        // The clock before the file: a file that changes from here on cannot look settled.
        let now = SystemTime::now();
        if let PathStamp::Present(stamp) = PathStamp::of(&path)
            && let Some(record) = self.recent().get(key, &stamp)
        {
            return Ok(record);
        }
        match index::load(&self.layout, key) {
            Ok((record, stamp)) => {
                let record = Arc::new(record);
                if stamp.is_settled(now) {
                    self.recent().insert(stamp, Arc::clone(&record));
                }
                Ok(record)
            }
            Err(unread) => {
                self.recent().forget(key);
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

    /// By which looks this very record was proven for a workspace, if this process remembers that.
    pub(crate) fn proof_of(&self, root: &Path, record: &Arc<Record>) -> Option<Arc<RecordProof>> {
        self.recent().proof_of(record).filter(|proof| proof.root == root)
    }

    /// Remembers by which looks this very record is proven, if this process asks again and again.
    pub(crate) fn note_proof(&self, record: &Arc<Record>, proof: impl FnOnce() -> RecordProof) {
        if self.absences.is_some() && self.recent().holds(record) {
            let proof = proof();
            self.recent().note_proof(record, proof);
        }
    }

    /// Why another environment's record answered what has this digest, if this process remembers that.
    pub(crate) fn environment_proof(&self, asked: &Digest) -> Option<Arc<EnvironmentProof>> {
        self.known_environments().get(asked)
    }

    /// Remembers it, if this process asks again and again.
    pub(crate) fn note_environment_proof(
        &self,
        asked: Digest,
        proof: impl FnOnce() -> EnvironmentProof,
    ) {
        if self.absences.is_some() {
            let proof = proof();
            self.known_environments().insert(asked, proof);
        }
    }

    fn known_environments(&self) -> std::sync::MutexGuard<'_, KnownEnvironments> {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recent records. A poisoned lock is harmless: at worst a record is not remembered.
    fn recent(&self) -> std::sync::MutexGuard<'_, RecentRecords> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a readable record may answer.
fn look_up(record: Arc<Record>, now: Timestamp, ttl: Duration) -> Lookup {
    if record.verdict != Verdict::Pass {
        return Lookup::Miss(MissReason::NotGreen(record));
    }
    match record.created.age(now) {
        None => Lookup::Miss(MissReason::FromTheFuture),
        Some(age) if age >= ttl => Lookup::Miss(MissReason::Expired { age }),
        Some(_) => Lookup::Hit(record),
    }
}

/// Records and states, as they lie on a disk and with a header that fits.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = format::decode::<Record>("record", bytes);
    if let Ok(record) = format::decode::<Record>("record", &format::with_header("record", bytes)) {
        let written = format::encode("record", &record).expect("what was read can be written");
        assert_eq!(format::decode::<Record>("record", &written), Ok(record));
    }
    let state = format::decode::<ProjectState>("state", &format::with_header("state", bytes));
    if let Ok(state) = state {
        let written = format::encode("state", &state).expect("what was read can be written");
        assert!(format::decode::<ProjectState>("state", &written).is_ok());
    }
}

/// The memo of a program's digest.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_memo(bytes: &[u8]) {
    let _ = programs::parts(bytes);
}

#[cfg(test)]
mod samples;
mod script_runs;
#[cfg(test)]
mod tests;
