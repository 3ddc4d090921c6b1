//! Statistics, `clear`, and carrying out a removal plan.
//!
//! Only files whose folder and name are exactly ours are removed, and only under the lock that
//! keeps writers out: no record is removed that a project claims in the meantime.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{self, Access, Lock, remedy};
use super::index::{self, RecordFile};
use super::layout::{Layout, RecordClaim};
use super::memos::KINDS;
use super::programs::{self, MemoSubject};
use super::record::{RecordKey, RecordLevel, project_digest};
use super::retention::{self, CacheContents, RemovalPlan, RemovalReason};
use super::{Cache, Limits};
use crate::model::{Digest, Timestamp};

/// How long `clear` and `gc` wait for writers.
const WRITERS_WAIT: Duration = Duration::from_secs(10);

/// Something that was, or in a dry run would be, removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemovedItem {
    /// The removed thing.
    pub item: CacheItem,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// The reason.
    pub why: RemovalReason,
}

/// A file in the cache folder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum CacheItem {
    /// The record of this key.
    Record(RecordKey),
    /// The listing of the snapshot with this code hash.
    Manifest(Digest),
    /// The memo about the program at this path.
    Program(PathBuf),
    /// Another file.
    File(PathBuf),
}

impl fmt::Display for CacheItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(key) => write!(f, "record {key}"),
            Self::Manifest(code_hash) => write!(f, "listing of snapshot {code_hash}"),
            Self::Program(path) => write!(f, "memo of program {}", path.display()),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// The result of a `clear` or `gc`.
#[derive(Debug, Default)]
pub(crate) struct SweepReport {
    /// The removed files, with the reasons.
    pub removed: Vec<RemovedItem>,
    /// Files that could not be read or removed, with the system's errors.
    pub failed: Vec<(PathBuf, io::Error)>,
    /// How many records had no claim because the index was lost. Each belongs again to the project
    /// that recorded it.
    pub adopted: usize,
    /// How many records are left.
    pub entries: u64,
}

impl SweepReport {
    /// How many bytes were freed.
    #[must_use]
    pub(crate) fn freed(&self) -> u64 {
        self.removed.iter().map(|removed| removed.bytes).sum()
    }
}

/// Why the cache could not be read or swept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SweepError {
    /// A folder cannot be read or written.
    #[error("look through `{}`: {source}; {}", dir.display(), remedy(source))]
    Io {
        /// The folder.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other processes have held the lock for all of this time.
    #[error(
        "lock `{}`: others have held it for {} s; see which ones with `fuser` and end them",
        lock.display(), WRITERS_WAIT.as_secs()
    )]
    Busy {
        /// The lock file.
        lock: PathBuf,
    },
}

/// How much there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// How many records.
    pub entries: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many listings of snapshots.
    pub manifests: u64,
    /// Their size in bytes.
    pub manifest_bytes: u64,
    /// How many memos about programs.
    pub programs: u64,
    /// Their size in bytes.
    pub program_bytes: u64,
    /// The same by project, in the order of their paths. A record that several projects use
    /// counts in each of them.
    pub projects: Vec<ProjectStats>,
}

/// How much there is of one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProjectStats {
    /// Its root; `None` where the file that says so is lost.
    pub path: Option<PathBuf>,
    /// How many records.
    pub entries: u64,
    /// How many of them are of calls of test programs by cargo itself.
    pub calls: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// How many snapshots they belong to. Calls belong to none.
    pub snapshots: u64,
    /// When the newest was recorded or first used.
    pub newest: Option<Timestamp>,
}

impl Cache {
    /// Counts everything. Only the projects' names and the short memos about programs are opened.
    ///
    /// # Errors
    /// If a folder cannot be read. An empty or missing cache is no error.
    pub(crate) fn stats(&self) -> Result<Stats, SweepError> {
        let failed = self.sweep_error();
        let files = index::record_files(&self.layout).map_err(&failed)?;
        let manifests = index::manifest_files(&self.layout).map_err(&failed)?;
        let sizes: BTreeMap<RecordKey, u64> =
            files.iter().map(|file| (file.key, file.bytes)).collect();
        let mut projects = Vec::new();
        for project in index::projects(&self.layout).map_err(&failed)? {
            let mut claims = index::claims_of(&self.layout, project).map_err(&failed)?;
            claims.retain(|claim| sizes.contains_key(&claim.key));
            let keys: BTreeSet<RecordKey> = claims.iter().map(|claim| claim.key).collect();
            let is_call = |claim: &&RecordClaim| claim.key.level == RecordLevel::Call;
            let others = claims.iter().filter(|claim| !is_call(claim));
            let snapshots: BTreeSet<Digest> = others.map(|claim| claim.code_hash).collect();
            projects.push(ProjectStats {
                path: index::root_of(&self.layout, &project),
                entries: keys.len() as u64,
                calls: keys.iter().filter(|key| key.level == RecordLevel::Call).count() as u64,
                bytes: keys.iter().filter_map(|key| sizes.get(key)).sum(),
                snapshots: snapshots.len() as u64,
                newest: claims.iter().map(|claim| claim.at).max(),
            });
        }
        projects.sort_by(|a, b| a.path.cmp(&b.path));
        let programs = programs::memos(&self.layout).map_err(&failed)?;
        Ok(Stats {
            entries: sizes.len() as u64,
            bytes: sizes.values().sum(),
            manifests: manifests.len() as u64,
            manifest_bytes: manifests.iter().map(|(_, _, metadata)| metadata.len()).sum(),
            programs: programs.len() as u64,
            program_bytes: programs.iter().map(|memo| memo.size).sum(),
            projects,
        })
    }

    /// Removes the records of one project, except those that another project uses too, or all
    /// records. Memos about programs below a project's folder are removed with it. The counts of
    /// [`Cache::state`] stay: they are history.
    ///
    /// # Errors
    /// If the folder cannot be read, or the lock is not free in time. Single files that could not be
    /// removed are listed in the report.
    pub(crate) fn clear(&self, workspace_root: Option<&Path>) -> Result<SweepReport, SweepError> {
        let mut report = SweepReport::default();
        if !self.layout.root.exists() {
            return Ok(report);
        }
        let failed = self.sweep_error();
        let _held = self.lock_out()?;
        let files = index::record_files(&self.layout).map_err(&failed)?;
        let manifests = index::manifest_files(&self.layout).map_err(&failed)?;
        let mut claims = index::claims(&self.layout).map_err(&failed)?;
        let orphans = index::adopt(&self.layout, &claims, &files);
        claims.extend(orphans.into_iter().map(|(_, claim)| claim));
        let own = workspace_root.map(project_digest);
        let mut plan = RemovalPlan::default();
        let (gone, kept): (Vec<RecordClaim>, Vec<RecordClaim>) =
            claims.into_iter().partition(|claim| own.is_none_or(|own| own == claim.project));
        plan.claims = gone.into_iter().collect();
        let kept_keys: BTreeSet<RecordKey> = kept.iter().map(|claim| claim.key).collect();
        let kept_hashes: BTreeSet<Digest> = kept.iter().map(|claim| claim.code_hash).collect();
        let keys: BTreeSet<RecordKey> = plan.claims.iter().map(|claim| claim.key).collect();
        let hashes: BTreeSet<Digest> = plan.claims.iter().map(|claim| claim.code_hash).collect();
        for RecordFile { key, .. } in files {
            if own.is_none() || (keys.contains(&key) && !kept_keys.contains(&key)) {
                plan.records.insert(key, RemovalReason::Cleared);
            }
        }
        for (code_hash, ..) in manifests {
            let needed = kept_hashes.contains(&code_hash);
            if own.is_none() || (hashes.contains(&code_hash) && !needed) {
                plan.manifests.insert(code_hash, RemovalReason::Cleared);
            }
        }
        carry_out(&self.layout, &plan, &mut report);
        for memo in programs::memos(&self.layout).map_err(&failed)? {
            let (item, goes) = match memo.program {
                MemoSubject::Program(path) => {
                    let goes = workspace_root.is_none_or(|root| path.starts_with(root));
                    (CacheItem::Program(path), goes)
                }
                _ => (CacheItem::File(memo.file.clone()), workspace_root.is_none()),
            };
            if goes {
                remove(&memo.file, item, memo.size, RemovalReason::Cleared, false, &mut report);
            }
        }
        if workspace_root.is_none() {
            KINDS.iter().for_each(|kind| kind.forget(&self.layout));
        }
        tidy(&self.layout);
        report.entries = index::record_files(&self.layout).map_err(&failed)?.len() as u64;
        Ok(report)
    }

    pub(super) fn lock_out(&self) -> Result<Lock, SweepError> {
        let lock = self.layout.records_lock();
        let held =
            Lock::take(&lock, Access::Exclusive, WRITERS_WAIT).map_err(self.sweep_error())?;
        held.ok_or(SweepError::Busy { lock })
    }

    pub(super) fn sweep_error(&self) -> impl Fn(io::Error) -> SweepError {
        let dir = self.layout.root.clone();
        move |source| SweepError::Io { dir: dir.clone(), source }
    }
}

/// The plan for what lies below the folder now.
pub(super) fn plan(
    layout: &Layout,
    keep: &dyn Fn(&Digest) -> Option<usize>,
    limits: &Limits,
    now: Timestamp,
) -> io::Result<RemovalPlan> {
    Ok(retention::plan(&holdings(layout)?, keep, limits, now))
}

/// Everything that lies below the folder now.
pub(super) fn holdings(layout: &Layout) -> io::Result<CacheContents> {
    let manifests = index::manifest_files(layout)?.into_iter();
    let manifests = manifests.map(|(hash, _, metadata)| (hash, metadata.len())).collect();
    Ok(CacheContents { claims: index::claims(layout)?, manifests })
}

/// Removes what the plan names. The caller holds the lock.
pub(super) fn carry_out(layout: &Layout, plan: &RemovalPlan, report: &mut SweepReport) {
    remove_files(layout, plan, false, report);
    // The claims come last: after a kill here, gc finds claims without records.
    let mut folders = BTreeSet::new();
    for claim in &plan.claims {
        let path = layout.claim(claim);
        match files::remove(&path) {
            Ok(_) => folders.extend(path.parent().map(Path::to_owned)),
            Err(error) => report.failed.push((path, error)),
        }
    }
    for folder in folders {
        // Fails, and should, where another claim is left in it.
        let _ = fs::remove_dir(folder);
    }
}

/// The files of a plan, which a dry run only reports.
pub(super) fn remove_files(
    layout: &Layout,
    plan: &RemovalPlan,
    dry_run: bool,
    report: &mut SweepReport,
) {
    let records = plan.records.iter();
    let records = records.map(|(key, why)| (CacheItem::Record(*key), layout.record(key), why));
    let manifests = plan.manifests.iter();
    let manifests =
        manifests.map(|(hash, why)| (CacheItem::Manifest(*hash), layout.manifest(hash), why));
    for (item, path, why) in records.chain(manifests) {
        let bytes = path.symlink_metadata().map_or(0, |metadata| metadata.len());
        remove(&path, item, bytes, why.clone(), dry_run, report);
    }
}

/// Removes one file and reports it.
pub(super) fn remove(
    path: &Path,
    item: CacheItem,
    bytes: u64,
    why: RemovalReason,
    dry_run: bool,
    report: &mut SweepReport,
) {
    match if dry_run { Ok(true) } else { files::remove(path) } {
        Ok(true) => report.removed.push(RemovedItem { item, bytes, why }),
        Ok(false) => {}
        Err(error) => report.failed.push((path.to_owned(), error)),
    }
}

/// Removes our empty folders. The system itself refuses to remove the others.
pub(super) fn tidy(layout: &Layout) {
    let folders = |dir: &Path| -> Vec<PathBuf> {
        let names = files::names(dir).unwrap_or_default().into_iter();
        names.filter(|(_, kind)| kind.is_dir()).map(|(name, _)| dir.join(name)).collect()
    };
    let is_shard = |dir: &PathBuf| {
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() == 2 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let level_folders = folders(&layout.records());
    let shards = level_folders.iter().flat_map(|level| folders(level));
    for shard in shards.chain(folders(&layout.manifests())).filter(is_shard) {
        let _ = fs::remove_dir(shard);
    }
    let _ = fs::remove_dir(layout.programs());
    for project in index::projects(layout).unwrap_or_default() {
        let snapshots = layout.snapshots(&project);
        for folder in folders(&snapshots) {
            let name = folder.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.parse::<Digest>().is_ok()) {
                let _ = fs::remove_dir(folder);
            }
        }
        let _ = fs::remove_dir(snapshots);
        let _ = fs::remove_dir(layout.project(&project));
    }
}
