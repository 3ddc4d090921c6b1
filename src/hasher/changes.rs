//! The difference between two looks at the tree.

use super::tree::{FolderListing, TreeEntry};
use crate::workspace::{FileKind, Stamp};

/// The difference between a scan and the one before it, in numbers of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanChanges {
    /// Counted now, and not before.
    pub added: u64,
    /// Counted before, and no more.
    pub removed: u64,
    /// With other content, or of another kind, or with another executable bit.
    pub modified: u64,
    /// Written, renamed or given other attributes, with the same outcome.
    pub touched: u64,
    /// Folders that were entered.
    pub folders_added: u64,
    /// Folders that are no longer walked.
    pub folders_removed: u64,
    /// Files that had to be read because their stamps proved nothing.
    pub read_files: u64,
    /// Bytes of those files.
    pub read_bytes: u64,
    /// Files with several names that had only one before, or were not there.
    pub linked: u64,
}

impl ScanChanges {
    /// Whether everything is as it was, stamps included.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        Self { read_files: 0, read_bytes: 0, linked: 0, ..*self } == Self::default()
    }

    /// Adds another part of the same scan.
    pub(super) fn add(&mut self, other: &Self) {
        self.added += other.added;
        self.removed += other.removed;
        self.modified += other.modified;
        self.touched += other.touched;
        self.folders_added += other.folders_added;
        self.folders_removed += other.folders_removed;
        self.read_files += other.read_files;
        self.read_bytes += other.read_bytes;
        self.linked += other.linked;
    }
}

/// A moment in the life of a hasher: what was seen to change after it can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScanMark(pub(super) u32);

/// Compares a folder's entries with those before, writes into each when it last changed, and
/// tells the names of files that are gone. Folders are compared by whoever enters them.
pub(super) fn compare(
    before: Option<&FolderListing>,
    now: &mut FolderListing,
    generation: u32,
) -> (ScanChanges, Vec<Vec<u8>>) {
    let mut changes = ScanChanges::default();
    let mut changed = Vec::with_capacity(now.entries().len());
    for (name, entry) in now.iter() {
        let old = before.and_then(|before| before.find(name));
        let old_stamp = before.zip(old).map(|(before, old)| before.stamp(old));
        let was_folder = old.is_some_and(|old| old.kind() == FileKind::Folder);
        let same = if entry.kind() == FileKind::Folder {
            was_folder
        } else {
            match old {
                Some(old) if !was_folder && same_outcome(old, entry) => {
                    let same = old_stamp == Some(now.stamp(entry));
                    changes.touched += u64::from(!same);
                    same
                }
                Some(_) if !was_folder => {
                    changes.modified += 1;
                    false
                }
                _ => {
                    changes.added += 1;
                    false
                }
            }
        };
        let was_linked = || {
            let file = |stamp: Stamp| (stamp.device, stamp.inode);
            old.is_some_and(|old| old.is(TreeEntry::SHARED))
                && old_stamp.map(file) == Some(file(now.stamp(entry)))
        };
        changes.linked += u64::from(entry.is(TreeEntry::SHARED) && !was_linked());
        changed.push(old.filter(|_| same).map_or(generation, |old| old.changed));
    }
    for (entry, changed) in now.entries_mut().iter_mut().zip(changed) {
        entry.changed = changed;
    }
    let mut removed = Vec::new();
    for (name, old) in before.into_iter().flat_map(FolderListing::iter) {
        let is_gone = |now: &TreeEntry| now.kind() == FileKind::Folder;
        if old.kind() != FileKind::Folder && now.find(name).is_none_or(is_gone) {
            changes.removed += 1;
            removed.push(name.to_vec());
        }
    }
    (changes, removed)
}

fn same_outcome(old: &TreeEntry, new: &TreeEntry) -> bool {
    use super::tree::EntryContent;
    old.sort() == new.sort() && old.content == new.content && new.content != EntryContent::Unknown
}
