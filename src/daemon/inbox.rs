//! Collects events until the project looks. It is a set of folders, so that its size is bounded by
//! their number and not by the number of events.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::verdict::Refresh;

/// Folders whose content changed since the last look.
#[derive(Debug)]
pub(super) struct Inbox {
    content: Mutex<InboxContent>,
    /// The project reads folders outside its root, or that is unknown yet.
    beyond: AtomicBool,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { content: Mutex::default(), beyond: AtomicBool::new(true) }
    }
}

/// What is to be read again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) refresh: Refresh,
    /// Some watches are in doubt and must be made anew first.
    pub(super) doubt: bool,
}

impl Taken {
    /// The same, and each file that has changed without an event.
    pub(super) fn with_files(taken: Option<Self>) -> Self {
        let Some(taken) = taken else {
            return Self { refresh: Refresh::Files(BTreeSet::new()), doubt: false };
        };
        let refresh = match taken.refresh {
            Refresh::Folders(folders) => Refresh::Files(folders),
            more => more,
        };
        Self { refresh, doubt: taken.doubt }
    }
}

#[derive(Debug, Default)]
struct InboxContent {
    folders: BTreeSet<PathBuf>,
    /// Events were lost: every folder may have changed.
    lost_track: bool,
    doubt: bool,
}

impl InboxContent {
    fn is_empty(&self) -> bool {
        self.folders.is_empty() && !self.lost_track
    }
}

impl Inbox {
    /// Whether folders outside the root may be of interest.
    pub(super) fn is_beyond(&self) -> bool {
        self.beyond.load(Ordering::SeqCst)
    }

    /// Says whether folders outside the root are read. Must be said before one is watched.
    pub(super) fn set_beyond(&self, beyond: bool) {
        self.beyond.store(beyond, Ordering::SeqCst);
    }

    /// Adds a folder, with its watch in doubt or not; tells whether the inbox was empty before.
    pub(super) fn touched(&self, folder: &Path, doubt: bool) -> bool {
        self.change(|content| {
            content.doubt |= doubt;
            if !content.lost_track && !content.folders.contains(folder) {
                content.folders.insert(folder.to_owned());
            }
        })
    }

    /// Adds every folder; tells whether the inbox was empty before.
    pub(super) fn lost_track(&self) -> bool {
        self.change(|content| {
            content.lost_track = true;
            content.doubt = true;
            content.folders.clear();
        })
    }

    /// Empties the inbox; `None` if there was nothing in it.
    pub(super) fn take(&self) -> Option<Taken> {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let content = std::mem::take(&mut *content);
        if content.is_empty() {
            return None;
        }
        let refresh = match content.lost_track {
            true => Refresh::All,
            false => Refresh::Folders(content.folders),
        };
        Some(Taken { refresh, doubt: content.doubt })
    }

    fn change(&self, change: impl FnOnce(&mut InboxContent)) -> bool {
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = content.is_empty();
        change(&mut content);
        was_empty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_entry_rings() {
        let inbox = Inbox::default();
        assert_eq!(inbox.take(), None);
        assert!(inbox.touched(Path::new("/a"), false));
        assert!(!inbox.touched(Path::new("/a"), false));
        assert!(!inbox.touched(Path::new("/b"), false));
        let both = ["/a", "/b"].map(PathBuf::from).into();
        let refresh = Refresh::Folders(both);
        assert_eq!(inbox.take(), Some(Taken { refresh, doubt: false }));
        assert!(inbox.touched(Path::new("/a"), false), "it was emptied");
    }

    #[test]
    fn lost_events_outweigh_all_others() {
        let inbox = Inbox::default();
        inbox.touched(Path::new("/a"), false);
        assert!(!inbox.lost_track());
        inbox.touched(Path::new("/b"), false);
        assert_eq!(inbox.take(), Some(Taken { refresh: Refresh::All, doubt: true }));
        assert_eq!(inbox.take(), None);
    }
}
