//! A project's tree together with its watches: what is watched is what was read, and a folder is
//! watched before it is read.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::hasher::{DirChange, Mark};
use crate::verdict::{Facts, Look, Refresh, Scope};
use crate::watcher::{FileWatcher, Trust, WatchError, events_are_trustworthy};

/// The one watcher of the daemon. Its lock is held for single calls only.
pub(super) type SharedWatcher = Arc<Mutex<FileWatcher>>;

/// A tree that events keep true.
#[derive(Debug)]
pub(super) struct WatchedTree {
    root: PathBuf,
    /// Which folder it was when the watches were made: another one at the same path needs new
    /// watches.
    identity: (u64, u64),
    scope: Scope,
    watcher: SharedWatcher,
    /// Folders that could not be watched: as long as there is one, events do not tell all.
    unwatched: BTreeSet<PathBuf>,
    /// Why events do not tell all, for `status`.
    blind: Option<String>,
    /// The file system does not report every change.
    untrusted: Option<String>,
}

impl WatchedTree {
    /// The tree of `scope`; nothing is read or watched before the first refresh.
    ///
    /// # Errors
    /// If the folder is not there.
    pub(super) fn new(root: &Path, scope: Scope, watcher: SharedWatcher) -> std::io::Result<Self> {
        let identity = identity(root)?;
        let untrusted = match events_are_trustworthy(root)? {
            Trust::Trusted => None,
            Trust::Untrusted { name, .. } => Some(format!("{name} does not report every change")),
        };
        Ok(Self {
            root: root.to_owned(),
            identity,
            scope,
            watcher,
            unwatched: BTreeSet::new(),
            blind: None,
            untrusted,
        })
    }

    /// Whether the folder at the root's path is still the one that is watched.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.root).is_ok_and(|now| now == self.identity)
    }

    /// Why events do not tell all; `None` if they do.
    pub(super) fn blind(&self) -> Option<&str> {
        self.untrusted.as_deref().or(self.blind.as_deref())
    }

    /// Reads again what changed. With no events to trust, that is everything. Tells whether the
    /// memo on disk is out of date.
    pub(super) fn refresh(&mut self, how: Option<Refresh>) -> bool {
        let how = match (self.blind().is_some(), how) {
            (true, _) => Refresh::All,
            (false, Some(how)) => how,
            // Nothing was touched; settings may still have changed.
            (false, None) => Refresh::Folders(BTreeSet::new()),
        };
        let Self { scope, watcher, unwatched, blind, .. } = self;
        let mut on_dir = |change: DirChange<'_>| {
            let mut watcher = watcher.lock().unwrap_or_else(PoisonError::into_inner);
            match change {
                DirChange::Removed(dir) => {
                    watcher.unwatch(dir);
                    unwatched.remove(dir);
                }
                DirChange::Entering(dir) => match watcher.watch(dir) {
                    Ok(()) => {
                        unwatched.remove(dir);
                    }
                    // It vanished meanwhile: its parent's event says so.
                    Err(WatchError::Gone { .. }) => {}
                    Err(error) => {
                        unwatched.insert(dir.to_owned());
                        *blind = Some(error.to_string());
                    }
                },
            }
        };
        let hashed = scope.refresh(how, &mut on_dir);
        self.watch_again();
        hashed
    }

    /// Tries again what could not be watched, a few at a time: limits get raised.
    fn watch_again(&mut self) {
        if self.unwatched.is_empty() {
            self.blind = None;
            return;
        }
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = self.unwatched.iter().cloned().collect();
        for dir in all {
            match watcher.watch(&dir) {
                Ok(()) | Err(WatchError::Gone { .. }) => {
                    self.unwatched.remove(&dir);
                }
                Err(error) => {
                    self.blind = Some(error.to_string());
                    return;
                }
            }
        }
        // `blind` stays until the next refresh has read what changed before these watches.
    }

    /// Follows what another environment says of target folders.
    pub(super) fn follow(&mut self, facts: &Facts) {
        self.scope.follow(facts);
    }

    pub(super) fn look(&mut self) -> Look<Mark> {
        self.scope.look()
    }

    pub(super) fn changed_since(&self, mark: &Mark) -> Option<Vec<String>> {
        self.scope.changed_since(mark)
    }

    pub(super) fn scope_mut(&mut self) -> &mut Scope {
        &mut self.scope
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }
}

impl Drop for WatchedTree {
    fn drop(&mut self) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        for dir in self.scope.directories() {
            watcher.unwatch(&dir);
        }
    }
}

fn identity(root: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(root)?;
    Ok((metadata.dev(), metadata.ino()))
}
