//! Target directories of the service's own, one for each project that has one.
//!
//! ```text
//! targets/<name>/            cargo's, all of it
//! targets/<name>.project     the project's root as bytes; written at each build, so that its
//!                            time tells when that was
//! targets/.gone-<…>          a directory that is being removed
//! ```
//!
//! Nothing here reads what cargo writes, and nothing follows a link out of it.

use crate::paths::create_private_folder;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a target directory stays that no project of the config builds into.
const UNUSED_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The prefix of the names of directories that are being removed.
const GONE: &str = ".gone-";

/// A target directory of the service's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnTargetDir {
    /// The folder.
    pub path: PathBuf,
    /// The workspace root of its project; `None` if unknown.
    pub project: Option<PathBuf>,
    /// The time of the last build in it, if known.
    pub used: Option<SystemTime>,
}

impl OwnTargetDir {
    /// The size of its files in bytes. A file with two names counts once.
    #[must_use]
    pub(crate) fn bytes(&self) -> u64 {
        let mut seen = HashSet::new();
        let mut todo = vec![self.path.clone()];
        let mut bytes = 0;
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                // `DirEntry` does not follow links.
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.is_dir() {
                    todo.push(entry.path());
                } else if metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())) {
                    bytes += metadata.len();
                }
            }
        }
        bytes
    }

    /// Whether it may be removed. Projects of the config build into the `wanted` directories;
    /// `known` are the workspace roots of all projects of the config.
    #[must_use]
    pub(crate) fn is_unused(&self, wanted: &[PathBuf], known: &[PathBuf], now: SystemTime) -> bool {
        if wanted.contains(&self.path) {
            return false;
        }
        let age = self.used.and_then(|used| now.duration_since(used).ok());
        let Some(project) = &self.project else { return age.is_none_or(|age| age > UNUSED_FOR) };
        // A workspace that the config does not list may have one by the config's defaults.
        known.contains(project) || !project.is_dir() || age.is_some_and(|age| age > UNUSED_FOR)
    }

    /// Removes it: renamed away at once, and then file by file.
    ///
    /// # Errors
    /// If something could not be removed; the next attempt goes on.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let mut gone = OsString::from(GONE);
        gone.push(self.path.file_name().unwrap_or_default());
        gone.push(format!("-{}", std::process::id()));
        let gone = self.path.with_file_name(gone);
        match fs::rename(&self.path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        match fs::remove_file(note(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        match fs::remove_dir_all(&gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

fn note(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".project");
    name.into()
}

/// Notes that the project at `root` is about to be built into `target`, if `target` lies in `dir`.
///
/// # Errors
/// If that cannot be written.
pub(crate) fn mark_own_target_dir(dir: &Path, target: &Path, root: &Path) -> io::Result<()> {
    if target.parent() != Some(dir) {
        return Ok(());
    }
    create_private_folder(dir)?;
    fs::write(note(target), root.as_os_str().as_bytes())
}

/// All target directories in `dir`, sorted by name.
#[must_use]
pub(crate) fn own_target_dirs(dir: &Path) -> Vec<OwnTargetDir> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let path = entry.path();
        if !is_folder || !is_ours(&entry.file_name()) {
            continue;
        }
        let note = note(&path);
        let project = fs::read(&note).ok().filter(|root| !root.is_empty());
        let project = project.map(|root| PathBuf::from(OsString::from_vec(root)));
        let used = note.metadata().and_then(|metadata| metadata.modified()).ok();
        found.push(OwnTargetDir { path, project, used });
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Removes the leftovers of an interrupted removal.
pub(crate) fn remove_leftovers(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().as_bytes().starts_with(GONE.as_bytes()) {
            // The next attempt goes on.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a folder has the name of a target directory of ours.
fn is_ours(name: &OsStr) -> bool {
    name.len() == 16 && name.as_bytes().iter().all(u8::is_ascii_hexdigit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "0123456789abcdef";

    fn made() -> (tempfile::TempDir, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("targets");
        let target = dir.join(NAME);
        mark_own_target_dir(&dir, &target, Path::new("/no/such/project")).unwrap();
        fs::create_dir_all(target.join("debug/deps")).unwrap();
        fs::write(target.join("debug/deps/a"), "1234").unwrap();
        fs::hard_link(target.join("debug/deps/a"), target.join("debug/a")).unwrap();
        fs::create_dir(dir.join("elsewhere")).unwrap();
        (base, dir)
    }

    #[test]
    fn a_target_directory_is_listed_measured_and_removed() {
        let (base, dir) = made();
        let outside = base.path().join("outside");
        fs::write(&outside, "a long text").unwrap();
        std::os::unix::fs::symlink(base.path(), dir.join(NAME).join("link")).unwrap();
        let all = own_target_dirs(&dir);
        assert_eq!(all.len(), 1);
        let own = &all[0];
        assert_eq!(own.project.as_deref(), Some(Path::new("/no/such/project")));
        let link = fs::symlink_metadata(dir.join(NAME).join("link")).unwrap().len();
        assert_eq!(own.bytes(), 4 + link);
        own.remove().unwrap();
        own.remove().unwrap();
        assert_eq!(own_target_dirs(&dir), []);
        assert!(outside.exists() && dir.join("elsewhere").exists());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn a_target_directory_elsewhere_is_not_marked() {
        let (base, dir) = made();
        let other = base.path().join("target");
        mark_own_target_dir(&dir, &other, Path::new("/p")).unwrap();
        assert!(!base.path().join("target.project").exists());
    }

    #[test]
    fn one_is_unused_once_nobody_builds_into_it() {
        let (_base, dir) = made();
        let own = own_target_dirs(&dir).remove(0);
        let root = PathBuf::from("/no/such/project");
        let now = SystemTime::now();
        assert!(!own.is_unused(std::slice::from_ref(&own.path), &[root], now));
        assert!(own.is_unused(&[], &[], now), "its project is gone");
        let lives = OwnTargetDir { project: Some(dir.clone()), ..own.clone() };
        assert!(!lives.is_unused(&[], &[], now), "one that no config lists");
        assert!(lives.is_unused(&[], &[dir], now), "its project builds elsewhere now");
        assert!(lives.is_unused(&[], &[], now + UNUSED_FOR + Duration::from_secs(60)));
        let nobodys = OwnTargetDir { project: None, used: None, ..own };
        assert!(nobodys.is_unused(&[], &[], now));
    }

    #[test]
    fn leftovers_of_a_removal_are_removed() {
        let (_base, dir) = made();
        fs::rename(dir.join(NAME), dir.join(".gone-x")).unwrap();
        remove_leftovers(&dir);
        assert!(!dir.join(".gone-x").exists() && dir.join("elsewhere").exists());
    }
}
