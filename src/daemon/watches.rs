//! The daemon's one watcher, shared by projects whose folders may be the same.
//!
//! A path dependency can belong to two projects, and one project can lie in the folder of
//! another. The watcher itself knows only whether a folder is watched; here it is counted by how
//! many, so that one project that lets go of a folder does not make another one blind.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tracing::warn;

use crate::watcher::{CookieId, FileWatcher, WatchStartError, Unwatched, WatchError, WatchEvent};

/// The one watcher of the daemon. Its lock is held for single calls only.
pub(super) type SharedWatcher = Arc<Mutex<Watches>>;

/// The watcher, and how many projects want each folder.
#[derive(Debug)]
pub(super) struct Watches {
    /// Or why there is none: everything is polled then.
    watcher: Result<FileWatcher, WatchError>,
    /// For the watcher's cookies.
    runtime_dir: PathBuf,
    /// For its events.
    events: mpsc::Sender<WatchEvent>,
    /// How many want each folder. By the hash of its path, which takes a tenth of the memory: two
    /// folders with one hash cost a watch that stays too long, never one that is missing.
    wanted: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Watches {
    /// Makes the watcher, if the system allows it.
    pub(super) fn new(runtime_dir: &Path, events: mpsc::Sender<WatchEvent>) -> Self {
        let watcher = Self::make(runtime_dir, &events);
        if let Err(reason) = &watcher {
            warn!(%reason, "no folder can be watched: polling every project");
        }
        let runtime_dir = runtime_dir.to_owned();
        let (wanted, hasher) = (HashMap::new(), RandomState::new());
        Self { watcher, runtime_dir, events, wanted, hasher }
    }

    fn make(
        runtime_dir: &Path,
        events: &mpsc::Sender<WatchEvent>,
    ) -> Result<FileWatcher, WatchError> {
        FileWatcher::new(runtime_dir, events.clone()).map_err(|error| match error {
            WatchStartError::Limit(limit) => WatchError::Limit(limit),
            error => WatchError::Broken(error.to_string()),
        })
    }

    /// Watches `dir` for one more project, which calls [`Self::unwatch`] once it no longer wants it,
    /// whether this succeeded or not.
    ///
    /// # Errors
    /// Those of [`FileWatcher::watch`].
    pub(super) fn watch(&mut self, dir: &Path) -> Result<(), WatchError> {
        *self.wanted.entry(self.hasher.hash_one(dir)).or_default() += 1;
        self.watcher.as_mut().map_err(|why| why.clone())?.watch(dir)
    }

    /// Tries again to watch folders that are wanted already; gives those that are not watched.
    pub(super) fn watch_again<'a>(
        &mut self,
        dirs: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Vec<Unwatched> {
        if self.watcher.is_err() {
            // Limits get raised, and other programs end.
            self.watcher = Self::make(&self.runtime_dir, &self.events);
        }
        match &mut self.watcher {
            Ok(watcher) => watcher.watch_all(dirs),
            Err(why) => dirs
                .into_iter()
                .map(|dir| Unwatched { dir: dir.clone(), why: why.clone() })
                .collect(),
        }
    }

    /// One project no longer wants `dir`.
    pub(super) fn unwatch(&mut self, dir: &Path) {
        let hash = self.hasher.hash_one(dir);
        match self.wanted.get_mut(&hash) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.wanted.remove(&hash);
                if let Ok(watcher) = &mut self.watcher {
                    watcher.unwatch(dir);
                }
            }
        }
    }

    /// Puts back the watches that are in doubt. Each project looks for its own lost ones with
    /// [`Self::is_watched`]: another one may have been told of them.
    pub(super) fn renew(&mut self) {
        if let Ok(watcher) = &mut self.watcher {
            watcher.renew();
        }
    }

    /// Whether `dir` is watched without a doubt.
    pub(super) fn is_watched(&self, dir: &Path) -> bool {
        self.watcher.as_ref().is_ok_and(|watcher| watcher.is_watched(dir))
    }

    /// Whether some watch is in doubt, anybody's; [`Self::renew`] puts it back. No answer may be
    /// given by events then.
    pub(super) fn in_doubt(&self) -> bool {
        self.watcher.as_ref().is_ok_and(FileWatcher::in_doubt)
    }

    /// Asks for the proof that all events up to now have been reported.
    ///
    /// # Errors
    /// Those of [`FileWatcher::cookie`].
    pub(super) fn cookie(&mut self) -> io::Result<CookieId> {
        match &mut self.watcher {
            Ok(watcher) => watcher.cookie(),
            Err(why) => Err(io::Error::other(why.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_watcher_everything_is_polled_until_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (events, _seen) = mpsc::channel(64);
        // No folder can be made below a file.
        let runtime_dir = base.join("run");
        std::fs::write(&runtime_dir, "").unwrap();
        let mut watches = Watches::new(&runtime_dir, events);
        let why = watches.watch(&base).unwrap_err();
        assert!(matches!(why, WatchError::Broken(_)), "{why}");
        assert!(!watches.is_watched(&base) && !watches.in_doubt());
        assert!(watches.cookie().is_err());
        assert_eq!(watches.watch_again([&base]).len(), 1);
        std::fs::remove_file(&runtime_dir).unwrap();
        assert!(watches.watch_again([&base]).is_empty());
        assert!(watches.is_watched(&base) && watches.cookie().is_ok());
    }

    #[test]
    fn a_folder_stays_watched_as_long_as_anybody_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (events, _seen) = tokio::sync::mpsc::channel(64);
        let mut watches = Watches::new(&base.join("run"), events);
        let (shared, own) = (base.join("shared"), base.join("own"));
        for folder in [&shared, &own] {
            std::fs::create_dir(folder).unwrap();
            watches.watch(folder).unwrap();
        }
        watches.watch(&shared).unwrap();
        watches.unwatch(&shared);
        watches.unwatch(&own);
        assert!(watches.is_watched(&shared) && !watches.is_watched(&own));
        assert!(watches.watch_again([&shared]).is_empty());
        watches.unwatch(&shared);
        assert!(!watches.is_watched(&shared), "trying again is not wanting it twice");
    }
}
