//! Which project keeps which records, read from the names below `projects/`.
//!
//! The index serves retention, statistics and explanations only: no answer comes from it. A lost
//! or malformed index is rebuilt from the records ([`adopt`]). A project that used another
//! project's record claims it again with its next hit.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Unread};
use super::format;
use super::layout::{self, Layout, RecordClaim};
use super::record::{Record, RecordKey, project_digest};
use crate::model::Digest;
use crate::workspace::Stamp;

/// A record file and its size in bytes.
#[derive(Clone, Debug)]
pub(super) struct RecordFile {
    pub(super) key: RecordKey,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Projects that have a folder, whether they have records or not.
pub(super) fn projects(layout: &Layout) -> io::Result<BTreeSet<Digest>> {
    let names = files::names(&layout.projects())?.into_iter();
    Ok(names.filter(|(_, kind)| kind.is_dir()).filter_map(|(name, _)| name.parse().ok()).collect())
}

/// The claims of one project.
pub(super) fn claims_of(layout: &Layout, project: Digest) -> io::Result<Vec<RecordClaim>> {
    let mut claims = Vec::new();
    for (name, kind) in files::names(&layout.snapshots(&project))? {
        if let (true, Ok(code_hash)) = (kind.is_dir(), name.parse()) {
            claims.extend(snapshot_claims(layout, project, code_hash)?);
        }
    }
    Ok(claims)
}

/// The claims of all projects.
pub(super) fn claims(layout: &Layout) -> io::Result<Vec<RecordClaim>> {
    let mut all = Vec::new();
    for project in projects(layout)? {
        all.extend(claims_of(layout, project)?);
    }
    Ok(all)
}

/// The project's root; `None` where the file is lost or says something else than the folder.
pub(super) fn root_of(layout: &Layout, project: &Digest) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let (bytes, _) = files::read(&layout.project_path(project)).ok()?;
    let root = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    (project_digest(&root) == *project).then_some(root)
}

/// Writes down which root the project's folder stands for.
pub(super) fn name_project(layout: &Layout, project: &Digest, root: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = layout.project_path(project);
    if path.exists() {
        return Ok(());
    }
    files::write(&path, &[root.as_os_str().as_bytes()], files::Durability::Process)
}

/// Enters a claim, and lets those go that it replaces.
pub(super) fn enter(layout: &Layout, root: &Path, claim: &RecordClaim) -> io::Result<()> {
    name_project(layout, &claim.project, root)?;
    let place = layout.claim(claim);
    // First the new one and then the old ones away: in between there are two, never none.
    files::touch(&place)?;
    for other in snapshot_claims(layout, claim.project, claim.code_hash)? {
        if other.key == claim.key && other < *claim {
            files::remove(&layout.claim(&other))?;
        }
    }
    Ok(())
}

/// The claims of one project for one snapshot.
pub(super) fn snapshot_claims(
    layout: &Layout,
    project: Digest,
    code_hash: Digest,
) -> io::Result<Vec<RecordClaim>> {
    let dir = layout.snapshots(&project).join(code_hash.to_string());
    let names = files::names(&dir)?.into_iter();
    Ok(names.filter_map(|(name, _)| RecordClaim::parse(project, code_hash, &name)).collect())
}

/// All record files. Their content is not looked at.
pub(super) fn record_files(layout: &Layout) -> io::Result<Vec<RecordFile>> {
    let mut found = Vec::new();
    for (level, shard, name) in three_deep(&layout.records())? {
        if let Some(key) = layout::key_of(&level, &shard, &name) {
            let path = layout.record(&key);
            // Gone since it was listed: then it is not there.
            if let Ok(metadata) = path.symlink_metadata()
                && !metadata.is_dir()
            {
                found.push(RecordFile { key, path, bytes: metadata.len() });
            }
        }
    }
    Ok(found)
}

/// All manifest files: code hash, place, metadata.
pub(super) fn manifest_files(
    layout: &Layout,
) -> io::Result<Vec<(Digest, PathBuf, std::fs::Metadata)>> {
    let mut found = Vec::new();
    for (shard, name) in two_deep(&layout.manifests())? {
        if let Some(code_hash) = layout::manifest_of(&shard, &name) {
            let path = layout.manifest(&code_hash);
            if let Ok(metadata) = path.symlink_metadata()
                && !metadata.is_dir()
            {
                found.push((code_hash, path, metadata));
            }
        }
    }
    Ok(found)
}

/// Names of folders in `dir`, and names in those.
pub(super) fn two_deep(dir: &Path) -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (outer, kind) in files::names(dir)? {
        if kind.is_dir() {
            let names = files::names(&dir.join(&outer))?.into_iter();
            found.extend(names.map(|(name, _)| (outer.clone(), name)));
        }
    }
    Ok(found)
}

/// One level more.
pub(super) fn three_deep(dir: &Path) -> io::Result<Vec<(String, String, String)>> {
    let mut found = Vec::new();
    for (outer, kind) in files::names(dir)? {
        if kind.is_dir() {
            let below = two_deep(&dir.join(&outer))?.into_iter();
            found.extend(below.map(|(middle, name)| (outer.clone(), middle, name)));
        }
    }
    Ok(found)
}

/// Reads and checks the record of this key.
pub(super) fn load(layout: &Layout, key: &RecordKey) -> Result<(Record, Stamp), Unread> {
    let (bytes, stamp) = files::read(&layout.record(key))?;
    let record: Record = format::decode("record", &bytes).map_err(Unread::Malformed)?;
    // A file that was copied or moved to another name proves nothing under that name.
    if record.key != *key {
        return Err(Unread::Malformed(format!("it is the record of another key ({})", record.key)));
    }
    if let Some(flaw) = record.flaw() {
        return Err(Unread::Malformed(format!("it contradicts itself: {flaw}")));
    }
    Ok((record, stamp))
}

/// The claims that records without any claim would have, had the index not been lost: each belongs
/// to the project that recorded it.
pub(super) fn adopt(
    layout: &Layout,
    claims: &[RecordClaim],
    files: &[RecordFile],
) -> Vec<(PathBuf, RecordClaim)> {
    let claimed: BTreeSet<RecordKey> = claims.iter().map(|claim| claim.key).collect();
    let orphans = files.iter().filter(|file| !claimed.contains(&file.key));
    orphans
        .filter_map(|file| {
            // A malformed record has no owner; gc removes it.
            let (record, _) = load(layout, &file.key).ok()?;
            let root = record.workspace_root.clone();
            let claim =
                RecordClaim::new(&root, record.code_hash, &record, record.created, file.bytes);
            Some((root, claim))
        })
        .collect()
}
