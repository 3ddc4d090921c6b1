//! The barrier: a file whose own event proves that all events before it have come.
//!
//! One inotify instance is one queue, so a file that is made in any watched folder orders the
//! events of all of them. Where a queue belongs to a part of the tree (FSEvents), the folder
//! for the cookie must lie in that part: [`FileWatcher::cookie_in`].

use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::table::Inode;
use super::{CookieId, FileWatcher, WatchError, WatchEvent, WatchLimit};
use crate::workspace::Mounted;

/// How the name of every cookie file begins, also those of other processes.
const COOKIE_PREFIX: &str = "cookie-";

/// Names that no other process uses, and the folder for them.
#[derive(Debug)]
pub(super) struct CookieNames {
    dir: PathBuf,
    process: String,
    next: u64,
}

/// Why a cookie folder cannot be used.
pub(super) enum JarError {
    Limit(WatchLimit),
    Io(io::Error),
}

impl From<io::Error> for JarError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<JarError> for io::Error {
    fn from(error: JarError) -> Self {
        match error {
            JarError::Limit(limit) => Self::other(limit.to_string()),
            JarError::Io(error) => error,
        }
    }
}

impl CookieNames {
    pub(super) fn new(dir: PathBuf) -> Self {
        // A process number is used again, the two together are not.
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let process = format!("{}-{:x}", std::process::id(), started.as_nanos());
        Self { dir, process, next: 0 }
    }

    /// The folder of [`FileWatcher::cookie`].
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn next(&mut self, dir: &Path) -> (PathBuf, CookieId) {
        self.next += 1;
        (dir.join(format!("{COOKIE_PREFIX}{}-{}", self.process, self.next)), CookieId(self.next))
    }
}

impl FileWatcher {
    /// Asks for the proof that everything up to now was reported: makes a file, and reports
    /// [`WatchEvent::Cookie`] when its own event comes, behind the
    /// events of everything that happened before this call.
    ///
    /// Also finds out, and reports before the cookie, what no event tells: that a folder above a
    /// watched one was moved away, or that something was mounted over one.
    ///
    /// # Errors
    /// If no cookie can be made: the question must be answered by a full stat scan. A cookie
    /// folder that was removed is made again for the next time. A cookie whose event does not
    /// come in good time is to be treated alike.
    pub fn cookie(&mut self) -> io::Result<CookieId> {
        let dir = self.cookies.dir().to_path_buf();
        self.cookie_in(&dir)
    }

    /// The same with a folder of the caller's choice, which is made if it is missing. It must
    /// not be one that is also watched for changes.
    ///
    /// # Errors
    /// As for [`Self::cookie`].
    pub fn cookie_in(&mut self, dir: &Path) -> io::Result<CookieId> {
        self.sweep();
        self.find_displaced();
        let known = {
            let state = self.shared.lock();
            if state.dead {
                return Err(io::Error::other("the file watcher does not work"));
            }
            state.jars.get(dir).copied()
        };
        let here = fs::symlink_metadata(dir).ok().map(|metadata| Inode::from(&metadata));
        if known.is_none() || known.flatten().is_none() || known.flatten() != here {
            self.open_jar(dir)?;
            if known.is_some() {
                let dir = dir.display();
                return Err(io::Error::other(format!("the cookie folder `{dir}` was replaced")));
            }
        }
        let (file, id) = self.cookies.next(dir);
        // Known before it is there: its event may come before the next statement.
        self.shared.lock().cookies.insert(file.clone(), id);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        if let Err(error) = made {
            self.shared.lock().cookies.remove(&file);
            let _ = self.open_jar(dir);
            return Err(error);
        }
        Ok(id)
    }

    /// Makes, cleans and watches a cookie folder.
    pub(super) fn open_jar(&mut self, dir: &Path) -> Result<(), JarError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
        }
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(COOKIE_PREFIX.as_bytes()) {
                // Left over by a process that was killed.
                let _ = fs::remove_file(entry.path());
            }
        }
        let inode = Inode::from(&metadata);
        self.shared.lock().jars.insert(dir.to_path_buf(), Some(inode));
        let held = self.backend.held(&[Arc::from(dir)]);
        let mut applied = self.backend.apply(held.iter().map(|path| &**path), [dir]);
        let refused = applied.failed.pop();
        self.settle(applied);
        let here = fs::symlink_metadata(dir).is_ok_and(|now| Inode::from(&now) == inode);
        if refused.is_some() || !here {
            self.shared.lock().jars.insert(dir.to_path_buf(), None);
        }
        match refused {
            None => Ok(()),
            Some((_, error)) => Err(match error.kind {
                notify::ErrorKind::MaxFilesWatch => {
                    let needed = self.shared.lock().table.len() as u64 + 1;
                    JarError::Limit(WatchLimit::watches(needed))
                }
                notify::ErrorKind::Io(error) => JarError::Io(error),
                _ => JarError::Io(io::Error::other(WatchError::Missing.to_string())),
            }),
        }
    }

    /// Reports the watched folders whose paths lead elsewhere by now, missing ones that are there,
    /// and files that something was mounted over. Within the watched trees events tell it; for the
    /// top folders, and after a mount, a look must.
    fn find_displaced(&mut self) {
        let mounted = self.mounts.changed();
        let mut state = self.shared.lock();
        let mut elsewhere = state.table.displaced(mounted != Mounted::Nothing);
        elsewhere.extend(state.table.overlooked(&HashSet::new()));
        for path in elsewhere {
            self.shared.vanish(&mut state, &path);
        }
        let Mounted::At(points) = mounted else { return };
        for point in points {
            let Some(parent) = point.parent() else { continue };
            for dir in state.table.reported(parent) {
                let (dir, name) = (dir.to_path_buf(), point.file_name().map(ToOwned::to_owned));
                self.shared.queue.push(WatchEvent::Changed { dir, name });
            }
        }
    }
}
