//! Garbage collection: removes malformed, unfinished and abandoned files, repairs the index, and
//! enforces the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::files::{self, Access, Lock, Unread};
use super::history::remove_old_days;
use super::index::{self, RecordFile};
use super::layout::{Layout, RecordClaim, UNFINISHED};
use super::memos::KINDS;
use super::programs::{self, MemoSubject};
use super::record::{RecordKey, project_digest};
use super::retention::{self, ABANDONED_AFTER, CacheContents, RemovalReason};
use super::sweep::{
    CacheItem, SweepError, SweepReport, carry_out, holdings, remove, remove_files, tidy,
};
use super::{Cache, Limits, put};
use crate::model::{Digest, Timestamp};
use crate::workspace::{PathStamp, Stamp};

/// How old an unfinished file or an unclaimed manifest must be: its writer may still be running.
const WRITER_GRACE: Duration = Duration::from_secs(60 * 60);
/// How long after a project's last answer its counts are removed.
const STATE_UNUSED_FOR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Options of [`Cache::gc`].
#[derive(Clone, Debug, Default)]
pub(crate) struct GcOptions {
    /// The limits.
    pub limits: Limits,
    /// How many snapshots single projects keep, where that differs from `limits`.
    pub keep: BTreeMap<PathBuf, usize>,
    /// Only report the files that would be removed.
    pub dry_run: bool,
}

impl Cache {
    /// Removes malformed, unfinished and abandoned files and all beyond the limits, and repairs the
    /// index.
    /// Every record is read and checked, before the lock is taken.
    ///
    /// # Errors
    /// As [`Cache::clear`].
    pub(crate) fn gc(
        &self,
        now: Timestamp,
        options: &GcOptions,
    ) -> Result<SweepReport, SweepError> {
        let mut report = SweepReport::default();
        if !self.layout.root.exists() {
            return Ok(report);
        }
        let failed = self.sweep_error();
        // The slow part comes before the lock: writers must not wait while everything is read.
        let malformed = malformed_files(&self.layout, &mut report).map_err(&failed)?;
        let _held = if options.dry_run { None } else { Some(self.lock_out()?) };
        let gone = remove_malformed(malformed, options.dry_run, &mut report);
        // From here on the index is read under the lock: no process adds a record or a claim.
        let mut records = index::record_files(&self.layout).map_err(&failed)?;
        records.retain(|file| !gone.contains(&file.path));
        let mut holdings = holdings(&self.layout).map_err(&failed)?;
        for (root, claim) in index::adopt(&self.layout, &holdings.claims, &records) {
            report.adopted += 1;
            holdings.claims.push(claim);
            if !options.dry_run {
                index::enter(&self.layout, &root, &claim).map_err(&failed)?;
            }
        }
        let sizes: BTreeMap<RecordKey, u64> =
            records.iter().map(|file| (file.key, file.bytes)).collect();
        // A process that ended between its claim and its record leaves the claim alone.
        let (claims, dangling): (Vec<RecordClaim>, Vec<RecordClaim>) =
            holdings.claims.into_iter().partition(|claim| sizes.contains_key(&claim.key));
        holdings.claims = update_sizes(&self.layout, claims, &sizes, options.dry_run, &mut report);
        let (unclaimed, used) = split_manifests(&self.layout, &holdings, now).map_err(&failed)?;
        holdings.manifests = used;
        let keeps: BTreeMap<Digest, usize> =
            options.keep.iter().map(|(root, keep)| (project_digest(root), *keep)).collect();
        let keep = |project: &Digest| {
            Some(keeps.get(project).copied().unwrap_or(options.limits.keep_snapshots))
        };
        let mut plan = retention::plan(&holdings, &keep, &options.limits, now);
        plan.manifests
            .extend(unclaimed.into_iter().map(|code_hash| (code_hash, RemovalReason::Unclaimed)));
        report.entries = (sizes.len() - plan.records.len()) as u64;
        if options.dry_run {
            remove_files(&self.layout, &plan, true, &mut report);
            lost_programs(&self.layout, true, &mut report).map_err(&failed)?;
            leftovers(&self.layout, now, true, &mut report).map_err(&failed)?;
            remove_old_days(&self.layout, now, true, &mut report);
            return Ok(report);
        }
        plan.claims.extend(dangling);
        carry_out(&self.layout, &plan, &mut report);
        lost_programs(&self.layout, false, &mut report).map_err(&failed)?;
        leftovers(&self.layout, now, false, &mut report).map_err(&failed)?;
        remove_old_days(&self.layout, now, false, &mut report);
        forget_projects(&self.layout, now).map_err(&failed)?;
        tidy(&self.layout);
        Ok(report)
    }
}

/// Removes the malformed files, but not good ones that have replaced them in the meantime.
fn remove_malformed(
    malformed: Vec<UnreadableFile>,
    dry_run: bool,
    report: &mut SweepReport,
) -> BTreeSet<PathBuf> {
    let mut gone = BTreeSet::new();
    for UnreadableFile { item, path, stamp, why } in malformed {
        if PathStamp::of(&path) == PathStamp::Present(stamp) {
            remove(&path, item, stamp.size, why, dry_run, report);
            gone.insert(path);
        }
    }
    gone
}

/// Updates the sizes in the claims' names: another project may have written a record again.
fn update_sizes(
    layout: &Layout,
    mut claims: Vec<RecordClaim>,
    sizes: &BTreeMap<RecordKey, u64>,
    dry_run: bool,
    report: &mut SweepReport,
) -> Vec<RecordClaim> {
    for claim in &mut claims {
        let before = layout.claim(claim);
        claim.bytes = sizes.get(&claim.key).copied().unwrap_or(claim.bytes);
        let after = layout.claim(claim);
        if !dry_run
            && before != after
            && let Err(error) = fs::rename(&before, after)
        {
            report.failed.push((before, error));
        }
    }
    claims
}

/// A file with one of our names that is not readable as what the name says.
struct UnreadableFile {
    item: CacheItem,
    path: PathBuf,
    /// Its stamp before it was read.
    stamp: Stamp,
    why: RemovalReason,
}

/// Records and manifests that are not readable as such, with their stamps.
fn malformed_files(layout: &Layout, report: &mut SweepReport) -> io::Result<Vec<UnreadableFile>> {
    let mut malformed = Vec::new();
    let mut check = |item: CacheItem, path: PathBuf, looked: &dyn Fn() -> Result<(), Unread>| {
        // The stamp comes before the read: a file that is replaced in between has another one.
        let PathStamp::Present(stamp) = PathStamp::of(&path) else { return };
        match looked() {
            Ok(()) | Err(Unread::Absent) => {}
            Err(Unread::Malformed(what)) => {
                malformed.push(UnreadableFile {
                    item,
                    path,
                    stamp,
                    why: RemovalReason::Malformed(what),
                });
            }
            Err(Unread::Failed(error)) => report.failed.push((path, error)),
        }
    };
    for RecordFile { key, path, .. } in index::record_files(layout)? {
        check(CacheItem::Record(key), path, &|| index::load(layout, &key).map(drop));
    }
    for (hash, path, _) in index::manifest_files(layout)? {
        let at = path.clone();
        check(CacheItem::Manifest(hash), path, &|| put::read_manifest(&at).map(drop));
    }
    Ok(malformed)
}

/// Manifests without a record that are too old to wait for one, and the others with their sizes.
fn split_manifests(
    layout: &Layout,
    holdings: &CacheContents,
    now: Timestamp,
) -> io::Result<(Vec<Digest>, BTreeMap<Digest, u64>)> {
    let needed: BTreeSet<&Digest> = holdings.claims.iter().map(|claim| &claim.code_hash).collect();
    let (mut unclaimed, mut used) = (Vec::new(), BTreeMap::new());
    for (hash, _, metadata) in index::manifest_files(layout)? {
        if !needed.contains(&hash) && older_than(&metadata, WRITER_GRACE, now) {
            unclaimed.push(hash);
        } else {
            used.insert(hash, metadata.len());
        }
    }
    Ok((unclaimed, used))
}

/// Whether a file was last written longer ago than `limit`; not if its time is unknown or ahead.
fn older_than(metadata: &fs::Metadata, limit: Duration, now: Timestamp) -> bool {
    let modified = metadata.modified().map(Timestamp::from);
    modified.ok().and_then(|at| at.age(now)).is_some_and(|age| age > limit)
}

/// Removes memos about programs that are gone, and malformed memos.
fn lost_programs(layout: &Layout, dry_run: bool, report: &mut SweepReport) -> io::Result<()> {
    for memo in programs::memos(layout)? {
        let (item, why) = match memo.program {
            // Only if it certainly is gone: a folder that cannot be read may hold it.
            MemoSubject::Program(path) => match path.try_exists() {
                Ok(false) => (CacheItem::Program(path), RemovalReason::Gone),
                _ => continue,
            },
            MemoSubject::Malformed(what) => {
                (CacheItem::File(memo.file.clone()), RemovalReason::Malformed(what))
            }
            MemoSubject::Unknown => continue,
        };
        remove(&memo.file, item, memo.size, why, dry_run, report);
    }
    Ok(())
}

/// Removes unfinished files of processes that have ended.
fn leftovers(
    layout: &Layout,
    now: Timestamp,
    dry_run: bool,
    report: &mut SweepReport,
) -> io::Result<()> {
    let mut found: Vec<PathBuf> = Vec::new();
    for (level, shard, name) in index::three_deep(&layout.records())? {
        found.push(layout.records().join(level).join(shard).join(name));
    }
    for dir in [layout.manifests(), layout.projects()] {
        let names = index::two_deep(&dir)?.into_iter();
        found.extend(names.map(|(folder, name)| dir.join(folder).join(name)));
    }
    let memos = KINDS.iter().map(|kind| kind.folder(layout));
    for dir in memos.chain([layout.programs()]) {
        let names = files::names(&dir)?.into_iter();
        found.extend(names.map(|(name, _)| dir.join(name)));
    }
    found.extend(files::names(&layout.root)?.into_iter().map(|(name, _)| layout.root.join(name)));
    for path in found {
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_none_or(|name| !name.starts_with(UNFINISHED)) {
            continue;
        }
        if let Ok(metadata) = path.symlink_metadata()
            && metadata.is_file()
            && older_than(&metadata, WRITER_GRACE, now)
        {
            let item = CacheItem::File(path.clone());
            remove(&path, item, metadata.len(), RemovalReason::Unfinished, dry_run, report);
        }
    }
    Ok(())
}

/// Removes the name and state of projects that have had no record and no answer for a long time.
fn forget_projects(layout: &Layout, now: Timestamp) -> io::Result<()> {
    // The lock keeps updates of the state out; if one is running, the next gc does this.
    let Some(_held) = Lock::take(&layout.state_lock(), Access::Exclusive, Duration::ZERO)? else {
        return Ok(());
    };
    for project in index::projects(layout)? {
        let old = |path: PathBuf, limit| match path.symlink_metadata() {
            Ok(metadata) => older_than(&metadata, limit, now),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let silent = old(layout.state(&project), STATE_UNUSED_FOR)
            && old(layout.project_path(&project), ABANDONED_AFTER);
        if silent && index::claims_of(layout, project)?.is_empty() {
            files::remove(&layout.state(&project))?;
            files::remove(&layout.project_path(&project))?;
        }
    }
    Ok(())
}
