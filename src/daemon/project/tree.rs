//! A project's tree with its watches. Every folder that is read is watched, and watched before it is
//! read.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::inbox::{Inbox, Taken};
use super::super::sync::lock;
use super::super::watches::SharedWatcher;
use crate::hasher::DirChange;
use crate::verdict::{Facts, FilesMark, ProjectFiles, Question, Refresh, TreeState};
use crate::watcher::WatchError;

/// A tree of so many files is looked at in some milliseconds.
const SMALL_TREE: u64 = 4_096;

/// A tree that events keep true.
pub(super) struct WatchedTree {
    root: PathBuf,
    /// Which folder it was when the watches were made: another one at the same path needs new
    /// watches.
    identity: (u64, u64),
    scope: ProjectFiles,
    watcher: SharedWatcher,
    inbox: Arc<Inbox>,
    /// Folders that could not be watched: as long as there is one, events do not tell all.
    unwatched: BTreeSet<PathBuf>,
    /// Why events do not tell all, for `status`.
    blind: Option<String>,
}

impl WatchedTree {
    /// The tree of `scope`; nothing is read or watched before the first refresh.
    ///
    /// # Errors
    /// If the folder is not there.
    pub(super) fn new(
        root: &Path,
        scope: ProjectFiles,
        watcher: SharedWatcher,
        inbox: Arc<Inbox>,
    ) -> std::io::Result<Self> {
        let identity = identity(root)?;
        let root = root.to_owned();
        Ok(Self { root, identity, scope, watcher, inbox, unwatched: BTreeSet::new(), blind: None })
    }

    /// Whether the folder at the root's path is still the one that is watched.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.root).is_ok_and(|now| now == self.identity)
    }

    /// Why events do not tell all; `None` if they do.
    pub(super) fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    /// Whether a look at every file takes no time that a client would notice.
    pub(super) fn is_small(&self) -> bool {
        self.scope.hasher().len() <= SMALL_TREE
    }

    /// Reads again what changed. With no events to trust, that is everything. Tells whether the
    /// memo on disk is out of date.
    pub(super) fn refresh(&mut self, taken: Option<Taken>) -> bool {
        let all_watched = !taken.as_ref().is_some_and(|taken| taken.doubt) || self.renew();
        let how = match (&self.blind, taken) {
            (Some(_), _) => Refresh::All,
            // What changed before these watches were put back is not known.
            _ if !all_watched => Refresh::All,
            (None, Some(taken)) => taken.refresh,
            // Nothing was touched; settings may still have changed, and what cannot be watched
            // is looked at every time.
            (None, None) => Refresh::Folders(BTreeSet::new()),
        };
        let Self { root, scope, watcher, inbox, unwatched, blind, .. } = self;
        let mut failed = Vec::new();
        let mut on_dir = |change: DirChange<'_>| match change {
            DirChange::Removed(dir) => {
                lock(watcher).unwatch(dir);
                unwatched.remove(dir);
            }
            DirChange::Entering(dir) => {
                if !dir.starts_with(&*root) {
                    inbox.set_beyond(true);
                }
                if let Err(why) = lock(watcher).watch(dir) {
                    failed.push((dir.to_owned(), why));
                }
            }
        };
        let before = scope.hasher().len();
        let hashed = scope.refresh(how, &mut on_dir);
        if scope.hasher().len() > before + SMALL_TREE {
            crate::process::trim_memory();
        }
        if unwatched.is_empty() && failed.is_empty() {
            // Every folder was watched before it was read just now.
            *blind = None;
        }
        for (dir, why) in failed {
            self.not_watched(&dir, &why);
        }
        self.inbox.set_beyond(self.scope.reaches_beyond());
        // Limits get raised. The tree stays blind until the next refresh has read what changed
        // before these watches.
        let unwatched = std::mem::take(&mut self.unwatched);
        self.watch_again(&unwatched);
        hashed
    }

    /// Puts back the watches that are in doubt. False if folders of this tree were without one
    /// after that: another project may have been told of them before, or nobody.
    fn renew(&mut self) -> bool {
        let lost: BTreeSet<PathBuf> = {
            let mut watcher = lock(&self.watcher);
            watcher.renew();
            self.scope.directories().filter(|dir| !watcher.is_watched(dir)).collect()
        };
        self.watch_again(&lost);
        lost.is_empty()
    }

    fn not_watched(&mut self, dir: &Path, why: &WatchError) {
        // One that is not there tells of itself through its parent's events.
        if !matches!(why, WatchError::Missing | WatchError::NotAFolder) {
            self.unwatched.insert(dir.to_owned());
            self.blind = Some(why.to_string());
        }
    }

    /// Tries again to watch these folders.
    fn watch_again(&mut self, dirs: &BTreeSet<PathBuf>) {
        if dirs.is_empty() {
            return;
        }
        let failed = lock(&self.watcher).watch_again(dirs);
        for failed in failed {
            // Of another project's folders it is told by its own question.
            if dirs.contains(&failed.dir) {
                self.not_watched(&failed.dir, &failed.why);
            }
        }
    }

    /// Becomes the tree of this question; see [`ProjectFiles::follow`].
    pub(super) fn follow(&mut self, question: &Question, facts: &Facts) -> bool {
        self.scope.follow(question, facts)
    }

    pub(super) fn look(&self) -> TreeState<FilesMark> {
        self.scope.look()
    }

    pub(super) fn changed_since(&self, mark: &FilesMark) -> Option<Vec<String>> {
        self.scope.changed_since(mark)
    }

    pub(super) fn scope_mut(&mut self) -> &mut ProjectFiles {
        &mut self.scope
    }

    pub(super) fn scope(&self) -> &ProjectFiles {
        &self.scope
    }
}

impl Drop for WatchedTree {
    fn drop(&mut self) {
        let mut watcher = lock(&self.watcher);
        for dir in self.scope.directories() {
            watcher.unwatch(&dir);
        }
    }
}

fn identity(root: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(root)?;
    Ok((metadata.dev(), metadata.ino()))
}
