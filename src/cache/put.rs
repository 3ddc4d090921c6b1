//! Storing a record, whole or not at all, and then enforcing the limits.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::{debug, warn};

use super::files::{self, Access, Durability, Lock, Unread, remedy};
use super::layout::RecordClaim;
use super::record::{Record, RecordKey, RecordLevel, project_digest};
use super::sweep::{self, RemovedItem};
use super::{Cache, Limits, format, index};
use crate::model::{Answer, Digest, TargetId, TargetReport, Timestamp, Verdict};

/// How long a `put` waits for another process that removes records. After that (the other one may
/// be stopped) the put goes on: at worst its record is removed, which is a miss.
const REMOVER_WAIT: Duration = Duration::from_secs(1);
/// The largest listing of a snapshot that is stored, in bytes: a million files fit.
const MANIFEST_LIMIT: u64 = 64 << 20;
/// The first bytes of a manifest's file; its digest and a line feed follow.
const MANIFEST_HEAD: &str = "knhk-test-cache manifest 1 ";
/// The text that the CACHEDIR.TAG convention asks for.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This folder holds test results of knhk-test-cache; all of them can be made again.\n";

/// Why something is not stored. The caller reports it and goes on: the answer itself stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// The folder cannot be written.
    #[error("store the result in `{}`: {source}; {}", dir.display(), remedy(source))]
    Write {
        /// The folder, or what lies in its place.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The record is not a whole outcome.
    #[error("store the result: {0}")]
    NotWhole(String),
    /// The record alone exceeds the limit for the whole cache.
    #[error(
        "store the result: it has {bytes} bytes and all results together may have {max}; \
         raise the cache's size limit in the config"
    )]
    TooLarge {
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        max: u64,
    },
}

/// A record that was stored.
#[derive(Debug)]
#[allow(dead_code, reason = "the tests look at it")]
pub(crate) struct StoredRecord {
    /// The size of its file in bytes.
    pub bytes: u64,
    /// The records that were evicted for it.
    pub removed: Vec<RemovedItem>,
}

/// The content of a report about records that a run has contradicted.
#[derive(serde::Serialize)]
struct ContradictionReport<'a> {
    records: &'a [&'a Record],
    run: &'a Answer,
}

impl Cache {
    /// Stores a record, in place of an older one with its key, and then evicts until the record's
    /// project and the whole cache are within `limits`.
    ///
    /// # Errors
    /// If the record is not a whole outcome, or cannot be written. Then nothing of it is stored. An
    /// older record with its key stays, unless this one says that the tests fail: a green that was
    /// seen to be wrong must not answer again.
    pub(crate) fn put(&self, record: &Record, limits: Limits) -> Result<StoredRecord, PutError> {
        let index_is_lost = self.layout.records().exists() && !self.layout.projects().exists();
        let bytes = self.store(record, limits)?;
        if index_is_lost {
            self.rebuild_index();
        }
        let removed = self.retain(&record.workspace_root, limits, record.created);
        let removed = removed.unwrap_or_else(|error| {
            // The record is in place, and the next put or gc tries again.
            let dir = self.layout.root.display();
            warn!(folder = %dir, %error, "could not remove old records");
            Vec::new()
        });
        Ok(StoredRecord { bytes, removed })
    }

    /// Stores a record without enforcing the limits, for many records in a row; a [`Cache::put`]
    /// or [`Cache::gc`] afterwards enforces them. Returns the file's size in bytes.
    ///
    /// # Errors
    /// As [`Cache::put`].
    pub(crate) fn store(&self, record: &Record, limits: Limits) -> Result<u64, PutError> {
        if let Some(flaw) = record.flaw() {
            return Err(PutError::NotWhole(flaw));
        }
        let stored = self.store_whole(record, limits);
        if stored.is_err() && record.verdict != Verdict::Pass {
            self.disprove(&record.key);
        }
        stored
    }

    fn store_whole(&self, record: &Record, limits: Limits) -> Result<u64, PutError> {
        let path = self.layout.record(&record.key);
        let failed = write_error(&path);
        let content = format::encode("record", record).map_err(|e| failed(e.into()))?;
        let bytes = content.len() as u64;
        if bytes > limits.max_bytes {
            return Err(PutError::TooLarge { bytes, max: limits.max_bytes });
        }
        self.tag();
        let claim = RecordClaim::new(
            &record.workspace_root,
            record.code_hash,
            record,
            record.created,
            bytes,
        );
        let file = files::prepare(&path, &[&content], Durability::Process).map_err(&failed)?;
        let _held = self.share()?;
        // The claim comes first: a claim without a record means nothing, while only gc would find
        // a record without a claim.
        let claimed = self.layout.claim(&claim);
        let kept = index::enter(&self.layout, &record.workspace_root, &claim)
            .map_err(write_error(&claimed))
            .and_then(|()| file.persist(&path).map_err(|error| failed(error.error)));
        if let Err(error) = kept {
            let _ = files::remove(&claimed);
            return Err(error);
        }
        Ok(bytes)
    }

    /// Stores records that a run has contradicted, with the run's answer, for a bug report. Returns
    /// the file's path.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn keep_evidence(
        &self,
        records: &[&Record],
        run: &Answer,
    ) -> Result<PathBuf, PutError> {
        let path = self.layout.evidence(Timestamp::now());
        let failed = write_error(&path);
        let content = serde_json::to_vec_pretty(&ContradictionReport { records, run });
        let content = content.map_err(|error| failed(error.into()))?;
        files::write(&path, &[&content], Durability::Process).map_err(failed)?;
        Ok(path)
    }

    /// Removes the record of `key`, which a run has disproved that itself is not stored.
    pub(crate) fn disprove(&self, key: &RecordKey) {
        let path = self.layout.record(key);
        if let Err(error) = files::remove(&path) {
            // A read-only disk: a warning is all that can be done.
            warn!(file = %path.display(), %error, "could not remove what a run disproved");
        }
    }

    /// Removes the record of `key`, of one target, and the records of every snapshot for which a project
    /// claims it: they say the same of that target.
    pub(crate) fn disprove_with_snapshots(&self, key: &RecordKey) {
        // The index decides no answer: if it cannot be read, `ttl` is the limit.
        let claims = index::claims(&self.layout).unwrap_or_default();
        let of: BTreeSet<Digest> =
            claims.iter().filter(|claim| claim.key == *key).map(|claim| claim.code_hash).collect();
        self.disprove(key);
        // A snapshot's record answers in every checkout of it.
        let snapshots = claims.iter().filter(|claim| {
            claim.key.level == RecordLevel::Source && of.contains(&claim.code_hash)
        });
        snapshots.for_each(|claim| self.disprove(&claim.key));
    }

    /// Removes the records of the snapshot `code_hash` that say green of this target: a run of it
    /// has failed. They answer in every checkout of the snapshot.
    pub(crate) fn disprove_in_snapshot(&self, code_hash: Digest, id: &TargetId) {
        // The index decides no answer: where it cannot be read, `ttl` is the bound.
        let projects = index::projects(&self.layout).unwrap_or_default().into_iter();
        let claims = projects.flat_map(|project| {
            index::snapshot_claims(&self.layout, project, code_hash).unwrap_or_default()
        });
        let claims: Vec<_> = claims.collect();
        let is_wide = |level| matches!(level, RecordLevel::Source | RecordLevel::Package);
        for claim in claims.iter().filter(|claim| is_wide(claim.key.level)) {
            let is_green =
                |target: &TargetReport| target.id == *id && target.verdict == Verdict::Pass;
            let record = index::load(&self.layout, &claim.key);
            if record.is_ok_and(|(record, _)| record.targets.iter().any(is_green)) {
                self.disprove(&claim.key);
            }
        }
    }

    /// Claims this record for `workspace_root` too, as of its snapshot `code_hash`: another checkout of
    /// the same content, or a record that outlives the snapshot that it was made for. The record is
    /// not removed before this project drops the claim. Returns whether the claim is new; a
    /// repeated claim costs one look into a folder, and one of the same time less than that.
    ///
    /// # Errors
    /// If it cannot be written; the record still answers.
    pub(crate) fn claim(
        &self,
        workspace_root: &Path,
        code_hash: Digest,
        record: &Record,
        now: Timestamp,
    ) -> Result<bool, PutError> {
        let digest = project_digest(workspace_root);
        let path = self.layout.snapshots(&digest).join(code_hash.to_string());
        let claimed = |bytes| RecordClaim::new(workspace_root, code_hash, record, now, bytes);
        let length = || self.layout.record(&record.key).symlink_metadata().map(|file| file.len());
        if length().is_ok_and(|bytes| self.layout.claim(&claimed(bytes)).exists()) {
            return Ok(false);
        }
        let known = index::snapshot_claims(&self.layout, digest, code_hash);
        if known.map_err(write_error(&path))?.iter().any(|claim| claim.key == record.key) {
            return Ok(false);
        }
        let _held = self.share()?;
        // Removed since it answered: then there is nothing to claim.
        let Ok(bytes) = length() else { return Ok(false) };
        index::enter(&self.layout, workspace_root, &claimed(bytes)).map_err(write_error(&path))?;
        Ok(true)
    }

    /// Stores the listing of a snapshot for as long as a record of that snapshot exists. The bytes
    /// mean nothing to the cache.
    ///
    /// # Errors
    /// If it cannot be written, or is larger than any listing should be.
    pub(crate) fn put_manifest(&self, code_hash: Digest, listing: &[u8]) -> Result<(), PutError> {
        let bytes = listing.len() as u64;
        if bytes > MANIFEST_LIMIT {
            return Err(PutError::TooLarge { bytes, max: MANIFEST_LIMIT });
        }
        self.tag();
        let path = self.layout.manifest(&code_hash);
        let head = manifest_head(listing);
        files::write(&path, &[head.as_bytes(), listing], Durability::Process)
            .map_err(write_error(&path))
    }

    /// The listing of a snapshot, if it is still stored. A malformed one is a warning and `None`.
    #[must_use]
    pub(crate) fn manifest(&self, code_hash: Digest) -> Option<Vec<u8>> {
        let path = self.layout.manifest(&code_hash);
        match read_manifest(&path) {
            Ok(listing) => Some(listing),
            Err(Unread::Absent) => None,
            Err(Unread::Malformed(reason)) => {
                warn!(file = %path.display(), %reason, "ignoring a listing");
                None
            }
            Err(Unread::Failed(error)) => {
                warn!(file = %path.display(), reason = %error, "ignoring a listing");
                None
            }
        }
    }

    /// Marks the folder for backup programs. A failure is ignored: the record's own write follows.
    fn tag(&self) {
        let path = self.layout.tag();
        if !path.exists() {
            let _ = files::write(&path, &[TAG.as_bytes()], Durability::Process);
        }
    }

    /// Keeps processes that remove records out, until the lock is dropped. One put waits for a
    /// process that does not let go, and those after it do not.
    fn share(&self) -> Result<Option<Lock>, PutError> {
        let path = self.layout.records_lock();
        let held = Lock::take(&path, Access::Shared, self.lock_wait());
        let held = held.map_err(write_error(&path))?;
        let was_stuck = self.is_lock_stuck.swap(held.is_none(), Ordering::Relaxed);
        if held.is_none() && !was_stuck {
            warn!(
                file = %path.display(),
                "another process holds the lock of the records: going on without it; `fuser` tells \
                 which one"
            );
        }
        Ok(held)
    }

    /// How long to wait for the records' lock.
    fn lock_wait(&self) -> Duration {
        if self.is_lock_stuck.load(Ordering::Relaxed) { Duration::ZERO } else { REMOVER_WAIT }
    }

    /// Removes the records that exceed the limits, as far as this project knows them.
    fn retain(
        &self,
        workspace_root: &Path,
        limits: Limits,
        now: Timestamp,
    ) -> io::Result<Vec<RemovedItem>> {
        let own = project_digest(workspace_root);
        let keep = |project: &Digest| (*project == own).then_some(limits.keep_snapshots);
        if sweep::plan(&self.layout, &keep, &limits, now)?.is_empty() {
            return Ok(Vec::new());
        }
        let path = self.layout.records_lock();
        let Some(_held) = Lock::take(&path, Access::Exclusive, self.lock_wait())? else {
            debug!("old records stay: another process holds the lock");
            return Ok(Vec::new());
        };
        // Planned again: under the lock no process adds a record or a claim.
        let plan = sweep::plan(&self.layout, &keep, &limits, now)?;
        let mut report = sweep::SweepReport::default();
        sweep::carry_out(&self.layout, &plan, &mut report);
        for (path, error) in &report.failed {
            warn!(file = %path.display(), %error, "could not remove an old record");
        }
        Ok(report.removed)
    }

    /// Rebuilds the index from the records. A failure is only logged: gc rebuilds it, too.
    fn rebuild_index(&self) {
        let rebuild = || -> io::Result<usize> {
            let _held = Lock::take(&self.layout.records_lock(), Access::Shared, REMOVER_WAIT)?;
            let files = index::record_files(&self.layout)?;
            let adopted = index::adopt(&self.layout, &index::claims(&self.layout)?, &files);
            for (root, claim) in &adopted {
                index::enter(&self.layout, root, claim)?;
            }
            Ok(adopted.len())
        };
        match rebuild() {
            Ok(0) => {}
            Ok(records) => warn!(records, "the index of projects was lost and has been rebuilt"),
            Err(error) => warn!(%error, "the index of projects was lost and cannot be rebuilt"),
        }
    }
}

/// An error that names what is in the way of `path`.
fn write_error(path: &Path) -> impl Fn(io::Error) -> PutError + '_ {
    |source| PutError::Write { dir: files::nearest(path).to_owned(), source }
}

fn manifest_head(listing: &[u8]) -> String {
    format!("{MANIFEST_HEAD}{}\n", Digest::of(listing))
}

/// Reads and checks a manifest.
pub(super) fn read_manifest(path: &Path) -> Result<Vec<u8>, Unread> {
    let (mut bytes, _) = files::read(path)?;
    // Any digest gives a header of the same length.
    let length = manifest_head(b"").len();
    let found = bytes.split_at_checked(length);
    if found.is_none_or(|(head, listing)| head != manifest_head(listing).as_bytes()) {
        return Err(Unread::Malformed("truncated, changed, or of another version".to_owned()));
    }
    Ok(bytes.split_off(length))
}
