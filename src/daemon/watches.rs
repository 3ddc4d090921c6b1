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

use crate::watcher::{CookieId, FileWatcher, Unwatched, WatchError};

/// The one watcher of the daemon. Its lock is held for single calls only.
pub(super) type SharedWatcher = Arc<Mutex<Watches>>;

/// The watcher, and how many projects want each folder.
#[derive(Debug)]
pub(super) struct Watches {
    watcher: FileWatcher,
    /// How many want each folder. By the hash of its path, which takes a tenth of the memory: two
    /// folders with one hash cost a watch that stays too long, never one that is missing.
    wanted: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Watches {
    pub(super) fn new(watcher: FileWatcher) -> Self {
        Self { watcher, wanted: HashMap::new(), hasher: RandomState::new() }
    }

    /// Watches `dir` for one more, who calls [`Self::unwatch`] once it is not wanted any more,
    /// whether this succeeded or not.
    ///
    /// # Errors
    /// Those of [`FileWatcher::watch`].
    pub(super) fn watch(&mut self, dir: &Path) -> Result<(), WatchError> {
        *self.wanted.entry(self.hasher.hash_one(dir)).or_default() += 1;
        self.watcher.watch(dir)
    }

    /// Tries again to watch folders that are wanted already; gives those that are not watched.
    pub(super) fn watch_again<'a>(
        &mut self,
        dirs: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Vec<Unwatched> {
        self.watcher.watch_all(dirs)
    }

    /// One of those who wanted `dir` does so no more.
    pub(super) fn unwatch(&mut self, dir: &Path) {
        let hash = self.hasher.hash_one(dir);
        match self.wanted.get_mut(&hash) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.wanted.remove(&hash);
                self.watcher.unwatch(dir);
            }
        }
    }

    /// Puts back the watches that are in doubt. What cannot be put back is told to whoever asks
    /// first, and may be somebody else's: everyone looks for their own with
    /// [`Self::is_watched`].
    pub(super) fn renew(&mut self) {
        self.watcher.renew();
    }

    /// Whether `dir` is watched without a doubt.
    pub(super) fn is_watched(&self, dir: &Path) -> bool {
        self.watcher.is_watched(dir)
    }

    /// Whether some watch is in doubt, anybody's; [`Self::renew`] puts it back. No answer may be
    /// given by events then.
    pub(super) fn in_doubt(&self) -> bool {
        self.watcher.in_doubt()
    }

    /// Asks for the proof that all events up to now have been reported.
    ///
    /// # Errors
    /// Those of [`FileWatcher::cookie`].
    pub(super) fn cookie(&mut self) -> io::Result<CookieId> {
        self.watcher.cookie()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stays_watched_as_long_as_anybody_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (events, _seen) = tokio::sync::mpsc::channel(64);
        let watcher = FileWatcher::new(&base.join("run"), events).unwrap();
        let mut watches = Watches::new(watcher);
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
