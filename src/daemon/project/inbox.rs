//! Where events collect until the project looks: a set, so that its size is bounded by the number
//! of folders and not by the number of events.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::verdict::Refresh;

/// Folders whose content changed since the last look.
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    folders: BTreeSet<PathBuf>,
    /// Events were lost: every folder may have changed.
    lost_track: bool,
}

impl Content {
    fn is_empty(&self) -> bool {
        self.folders.is_empty() && !self.lost_track
    }
}

impl Inbox {
    /// Adds a folder; tells whether the inbox was empty before.
    pub(super) fn touched(&self, folder: &Path) -> bool {
        self.change(|content| {
            if !content.lost_track && !content.folders.contains(folder) {
                content.folders.insert(folder.to_owned());
            }
        })
    }

    /// Adds every folder; tells whether the inbox was empty before.
    pub(super) fn lost_track(&self) -> bool {
        self.change(|content| {
            content.lost_track = true;
            content.folders.clear();
        })
    }

    /// Empties the inbox; `None` if there was nothing in it.
    pub(super) fn take(&self) -> Option<Refresh> {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let content = std::mem::take(&mut *content);
        if content.lost_track {
            Some(Refresh::All)
        } else if content.folders.is_empty() {
            None
        } else {
            Some(Refresh::Folders(content.folders))
        }
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> bool {
        let mut content = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        assert!(inbox.touched(Path::new("/a")));
        assert!(!inbox.touched(Path::new("/a")));
        assert!(!inbox.touched(Path::new("/b")));
        let both = ["/a", "/b"].map(PathBuf::from).into();
        assert_eq!(inbox.take(), Some(Refresh::Folders(both)));
        assert!(inbox.touched(Path::new("/a")), "it was emptied");
    }

    #[test]
    fn lost_events_outweigh_all_others() {
        let inbox = Inbox::default();
        inbox.touched(Path::new("/a"));
        assert!(!inbox.lost_track());
        inbox.touched(Path::new("/b"));
        assert_eq!(inbox.take(), Some(Refresh::All));
        assert_eq!(inbox.take(), None);
    }
}
