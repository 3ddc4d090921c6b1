//! The barrier: a file whose own event proves that all events before it have come.
//!
//! One inotify instance is one queue, so a file that is made in any watched folder orders the
//! events of all of them. Where a queue belongs to a part of the tree (FSEvents), the folder
//! for the cookie must lie in that part: [`FileWatcher::cookie_in`](super::FileWatcher::cookie_in).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::event::CookieId;
use super::limit::WatchLimit;

/// How the name of every cookie file begins, also those of other processes.
pub(super) const COOKIE_PREFIX: &str = "cookie-";

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

    /// The folder of [`FileWatcher::cookie`](super::FileWatcher::cookie).
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn next(&mut self, dir: &Path) -> (PathBuf, CookieId) {
        self.next += 1;
        (dir.join(format!("{COOKIE_PREFIX}{}-{}", self.process, self.next)), CookieId(self.next))
    }
}
