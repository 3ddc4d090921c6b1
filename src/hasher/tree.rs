//! The tree in memory: folders in one slab, each with its entries in two pieces of memory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::rules::Rules;
use super::system::FolderIdentity;
use crate::model::{Digest, Digester};
use crate::workspace::{FileKind, Repository, Stamp};

/// A folder's number in the slab. It is packed, so that an entry's content needs no padding for it.
#[repr(Rust, packed)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FolderId(u32);

/// How a folder is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkMode {
    /// By git's rules.
    Normal = 0,
    /// Everything counts: it is an extra input.
    Whole = 1,
    /// Ignored, but it may hold something that counts all the same.
    Reaching = 2,
    /// A target folder, of which only tracked files count.
    Tracked = 3,
}

impl WalkMode {
    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Normal, Self::Whole, Self::Reaching, Self::Tracked].into_iter().nth(byte.into())
    }

    /// Whether the folder itself counts, even with nothing in it.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Normal | Self::Whole)
    }
}

/// The content of an entry, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryContent {
    /// The digest of a file's bytes, or of a link's text.
    Digest(Digest),
    /// A folder; `None` only until it has been entered.
    Folder(Option<FolderId>),
    /// A device, a socket: what it is is all that counts.
    Nothing,
    /// It could not be read; the tree's problems say why.
    Unknown,
}

/// A counted name in a folder. A tree has many entries, so an entry holds only those parts of its
/// stamp that differ from file to file: [`FolderListing::stamp`] puts the whole together.
#[derive(Clone, Copy, Debug)]
pub(super) struct TreeEntry {
    /// Length in bytes.
    pub size: u64,
    pub inode: u64,
    content_modified: i64,
    inode_changed: i64,
    pub content: EntryContent,
    /// The scan in which anything about it last changed.
    pub changed: u32,
    start: u32,
    length: u16,
    /// The place of the other parts of its stamp among the listing's `commons`.
    common: u8,
    kind: FileKind,
    is_executable: bool,
    flags: u8,
}

const _: () = assert!(size_of::<TreeEntry>() <= 80, "a tree has very many of them");

impl TreeEntry {
    /// The stamp was settled when the content was read: an equal stamp means equal content.
    pub(super) const SETTLED: u8 = 1;
    /// It counts only because it is tracked or an extra input; the rules would ignore it.
    pub(super) const FORCED: u8 = 2;
    /// It has other names, through which it can change unseen by whoever watches this folder.
    pub(super) const SHARED: u8 = 4;

    /// A manifest that names a build script.
    pub(super) const NAMES_SCRIPT: u8 = 8;
    /// A manifest whose package has a build script if `build.rs` lies beside it.
    pub(super) const FINDS_SCRIPT: u8 = 16;
    /// A manifest that lists the package's files itself.
    pub(super) const LISTS_FILES: u8 = 32;
    /// All that a manifest says.
    pub(super) const MANIFEST: u8 = Self::NAMES_SCRIPT | Self::FINDS_SCRIPT | Self::LISTS_FILES;

    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn flags(&self) -> u8 {
        self.flags
    }

    pub(super) fn kind(&self) -> FileKind {
        self.kind
    }

    /// One byte for what a test can see of it besides name and content.
    pub(super) fn sort(&self) -> u8 {
        match self.kind {
            FileKind::File if self.is_executable => b'x',
            FileKind::File => b'f',
            FileKind::Folder => b'd',
            FileKind::Symlink => b'l',
            FileKind::Fifo => b'p',
            FileKind::Socket => b's',
            FileKind::Character => b'c',
            FileKind::Block => b'b',
            FileKind::Odd => b'?',
        }
    }
}

/// The counted entries of a folder, sorted by name.
#[derive(Clone, Debug)]
pub(super) struct FolderListing {
    names: Box<[u8]>,
    entries: Box<[TreeEntry]>,
    /// The parts of stamps that neighbours share, each combination once: the files of a folder
    /// mostly have one device, one owner and one mode. The other parts of each are zero.
    commons: Box<[Stamp]>,
    /// The digest of all entries but the folders.
    digest: Digest,
    /// The ignore files that were in force.
    pub rules: Digest,
    pub mode: WalkMode,
}

impl FolderListing {
    /// A folder with nothing in it.
    pub(super) fn empty(mode: WalkMode) -> Self {
        FolderListingBuilder::default().finish(Rules::default().digest(), mode)
    }

    pub(super) fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut [TreeEntry] {
        &mut self.entries
    }

    pub(super) fn name(&self, entry: &TreeEntry) -> &[u8] {
        &self.names[entry.start as usize..][..usize::from(entry.length)]
    }

    pub(super) fn position(&self, name: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|entry| self.name(entry).cmp(name)).ok()
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&TreeEntry> {
        self.position(name).map(|at| &self.entries[at])
    }

    /// The whole stamp of an entry.
    pub(super) fn stamp(&self, entry: &TreeEntry) -> Stamp {
        Stamp {
            size: entry.size,
            modified: entry.content_modified,
            changed: entry.inode_changed,
            inode: entry.inode,
            ..self.commons[usize::from(entry.common)]
        }
    }

    /// The content of an entry's file, if the file has this stamp now and that proves it unchanged.
    pub(super) fn proven(&self, entry: &TreeEntry, now: &Stamp) -> Option<EntryContent> {
        let is_known = matches!(entry.content, EntryContent::Digest(_) | EntryContent::Nothing);
        let is_unchanged = entry.is(TreeEntry::SETTLED) && self.stamp(entry) == *now;
        (is_known && is_unchanged).then_some(entry.content)
    }

    /// All names with their entries, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &TreeEntry)> {
        self.entries.iter().map(|entry| (self.name(entry), entry))
    }

    /// How many entries are no folders.
    pub(super) fn files(&self) -> u64 {
        self.entries.iter().filter(|entry| entry.kind() != FileKind::Folder).count() as u64
    }

    /// The folders in it.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&[u8], FolderId)> {
        self.iter().filter_map(|(name, entry)| match entry.content {
            EntryContent::Folder(Some(id)) => Some((name, id)),
            _ => None,
        })
    }
}

/// Takes entries in the order of their names.
#[derive(Default)]
pub(super) struct FolderListingBuilder {
    names: Vec<u8>,
    entries: Vec<TreeEntry>,
    commons: Vec<Stamp>,
}

impl FolderListingBuilder {
    /// Room for so many entries, and so many bytes of names: what is kept is not moved.
    pub(super) fn with_room(entries: usize, names: usize) -> Self {
        Self {
            names: Vec::with_capacity(names),
            entries: Vec::with_capacity(entries),
            commons: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, name: &[u8], stamp: Stamp, content: EntryContent, flags: u8) {
        let common = self.common(&stamp);
        // A stamp that is not kept whole proves nothing.
        let flags = if common.is_some() { flags } else { flags & !TreeEntry::SETTLED };
        self.entries.push(TreeEntry {
            size: stamp.size,
            inode: stamp.inode,
            content_modified: stamp.modified,
            inode_changed: stamp.changed,
            content,
            changed: 0,
            start: u32::try_from(self.names.len()).unwrap_or(u32::MAX),
            length: u16::try_from(name.len()).unwrap_or(u16::MAX),
            common: common.unwrap_or(0),
            kind: stamp.kind(),
            is_executable: stamp.is_executable(),
            flags,
        });
        self.names.extend_from_slice(name);
    }

    /// The place of a stamp's shared parts among `commons`; `None` if no more combinations fit.
    fn common(&mut self, stamp: &Stamp) -> Option<u8> {
        let common = Stamp { size: 0, modified: 0, changed: 0, inode: 0, ..*stamp };
        let known = self.commons.iter().position(|known| *known == common);
        let place = u8::try_from(known.unwrap_or(self.commons.len())).ok()?;
        if known.is_none() {
            self.commons.push(common);
        }
        Some(place)
    }

    /// A listing to compare with; its digest is not computed.
    pub(super) fn finish_remembered(self, rules: Digest, mode: WalkMode) -> FolderListing {
        FolderListing {
            names: self.names.into_boxed_slice(),
            entries: self.entries.into_boxed_slice(),
            commons: self.commons.into_boxed_slice(),
            digest: Digest::from_bytes([0; 32]),
            rules,
            mode,
        }
    }

    pub(super) fn finish(self, rules: Digest, mode: WalkMode) -> FolderListing {
        let mut listing = self.finish_remembered(rules, mode);
        // One field for all of them: framed here, because a call for each costs more than
        // digesting it.
        let mut bytes = Vec::with_capacity(listing.names.len() + listing.entries.len() * 40);
        for (name, entry) in listing.iter() {
            if let EntryContent::Digest(digest) = entry.content {
                frame(&mut bytes, name, entry.sort(), digest.as_bytes());
            } else if entry.kind() != FileKind::Folder {
                frame(&mut bytes, name, entry.sort(), &[]);
            }
        }
        listing.digest = Digest::of(&bytes);
        listing
    }
}

/// Lengths first, so that no two different entries are the same bytes.
fn frame(bytes: &mut Vec<u8>, name: &[u8], sort: u8, content: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(name);
    bytes.push(sort);
    bytes.push(content.len() as u8);
    bytes.extend_from_slice(content);
}

/// One folder that is walked.
#[derive(Debug)]
pub(super) struct TreeFolder {
    /// `None` for a root.
    pub parent: Option<FolderId>,
    /// In its parent; the whole path of a root.
    pub name: Box<[u8]>,
    /// Which root it belongs to.
    pub root: usize,
    /// `None` while it cannot be listed: whatever is there next is entered as another one.
    pub identity: Option<FolderIdentity>,
    /// The number of the folder that was told to be entered here, until it is told gone: whose
    /// watch goes then, whatever has become of the folder.
    pub told: Option<(u64, u64)>,
    pub listing: FolderListing,
    /// In force in it, its own ignore file included.
    pub rules: Rules,
    /// In force around it.
    pub inherited: Digest,
    /// In force in it before its own ignore file: as around it, unless a repository begins here.
    pub base: Digest,
    /// The repository that begins here, below a root.
    pub repository: Option<Repository>,
    /// How many files lie in it and below, and their bytes; valid with the digest.
    totals: (u64, u64),
    /// The digest of everything in it and below; `None` after a change, `Some(None)` if it does
    /// not count.
    digest: Option<Option<Digest>>,
}

impl TreeFolder {
    pub(super) fn new(parent: Option<FolderId>, name: &[u8], root: usize, mode: WalkMode) -> Self {
        Self {
            parent,
            name: name.into(),
            root,
            identity: None,
            told: None,
            listing: FolderListing::empty(mode),
            rules: Rules::default(),
            inherited: Rules::default().digest(),
            base: Rules::default().digest(),
            repository: None,
            totals: (0, 0),
            digest: None,
        }
    }
}

/// All folders of all roots.
#[derive(Default)]
pub(super) struct FileTree {
    slots: Vec<Option<Box<TreeFolder>>>,
    free: Vec<FolderId>,
}

impl FileTree {
    pub(super) fn insert(&mut self, folder: TreeFolder) -> FolderId {
        let folder = Some(Box::new(folder));
        if let Some(id) = self.free.pop() {
            self.slots[id.0 as usize] = folder;
            return id;
        }
        self.slots.push(folder);
        FolderId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
    }

    /// Forgets one folder; its number may be used again.
    pub(super) fn remove(&mut self, id: FolderId) {
        if self.slots[id.0 as usize].take().is_some() {
            self.free.push(id);
        }
    }

    /// Numbers are handed out by this tree and dropped with the folder: a wrong one is a bug
    /// here, and better a panic than the digest of another folder.
    pub(super) fn folder(&self, id: FolderId) -> &TreeFolder {
        self.slots[id.0 as usize].as_deref().expect("a folder's number outlived the folder")
    }

    pub(super) fn folder_mut(&mut self, id: FolderId) -> &mut TreeFolder {
        self.slots[id.0 as usize].as_deref_mut().expect("a folder's number outlived the folder")
    }

    /// The path of a folder.
    pub(super) fn path(&self, id: FolderId) -> PathBuf {
        let mut names = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let folder = self.folder(id);
            names.push(OsStr::from_bytes(&folder.name));
            next = folder.parent;
        }
        names.iter().rev().collect()
    }

    pub(super) fn depth(&self, id: FolderId) -> usize {
        std::iter::successors(self.folder(id).parent, |id| self.folder(*id).parent).count()
    }

    /// The folder that lies `way` below `from`, or the deepest one on the way that is walked,
    /// and whether that was the end of the way.
    pub(super) fn descend(&self, from: FolderId, way: &Path) -> (FolderId, bool) {
        let mut at = from;
        for part in way.components() {
            let entry = self.folder(at).listing.find(part.as_os_str().as_bytes());
            match entry.map(|entry| entry.content) {
                Some(EntryContent::Folder(Some(next))) => at = next,
                _ => return (at, false),
            }
        }
        (at, true)
    }

    /// The folder and all folders below it, each before those in it.
    pub(super) fn subtree(&self, id: FolderId) -> Vec<FolderId> {
        let mut found = vec![id];
        let mut next = 0;
        while next < found.len() {
            let listing = &self.folder(found[next]).listing;
            found.extend(listing.folders().map(|(_, id)| id));
            next += 1;
        }
        found
    }

    /// The folder changed: nothing that was computed from it holds.
    pub(super) fn invalidate(&mut self, id: FolderId) {
        let mut next = Some(id);
        while let Some(id) = next {
            let folder = self.folder_mut(id);
            folder.digest = None;
            next = folder.parent;
        }
    }

    /// Brings the digests of the folder and all below it up to date.
    pub(super) fn settle(&mut self, id: FolderId) {
        // Not recursive: a tree may be deeper than a thread's stack.
        let mut order = vec![id];
        let mut next = 0;
        while next < order.len() {
            let listing = &self.folder(order[next]).listing;
            let stale = |id: &FolderId| self.folder(*id).digest.is_none();
            order.extend(listing.folders().map(|(_, id)| id).filter(stale));
            next += 1;
        }
        let mut bytes = Vec::new();
        for id in order.into_iter().rev() {
            if self.folder(id).digest.is_some() {
                continue;
            }
            let folder = self.folder(id);
            let mut totals = (0, 0);
            let mut counts = folder.listing.mode.counts();
            bytes.clear();
            for (name, entry) in folder.listing.iter() {
                let EntryContent::Folder(inner) = entry.content else {
                    counts = true;
                    if entry.kind() == FileKind::File {
                        totals.0 += 1;
                        totals.1 += entry.size;
                    }
                    continue;
                };
                let Some(inner) = inner.map(|inner| self.folder(inner)) else { continue };
                totals.0 += inner.totals.0;
                totals.1 += inner.totals.1;
                if let Some(Some(digest)) = &inner.digest {
                    counts = true;
                    frame(&mut bytes, name, b'd', digest.as_bytes());
                }
            }
            let mut digester = Digester::new("folder 1");
            digester.digest(&folder.listing.digest).field(&bytes);
            let digest = counts.then(|| digester.finish());
            let folder = self.folder_mut(id);
            folder.totals = totals;
            folder.digest = Some(digest);
        }
    }

    /// The digest of a settled folder; `None` if nothing in it counts.
    pub(super) fn digest(&self, id: FolderId) -> Option<Digest> {
        self.folder(id).digest.flatten()
    }

    /// Files in and below a settled folder, and their bytes.
    pub(super) fn totals(&self, id: FolderId) -> (u64, u64) {
        self.folder(id).totals
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp() -> impl Strategy<Value = Stamp> {
        let own = (any::<u64>(), any::<i64>(), any::<i64>(), any::<u64>());
        // Few of each, so that stamps have something in common.
        let common = (0_u64..3, 0_u32..4, 1_u32..4, 0_u32..2, 0_u32..2);
        (own, common).prop_map(|((size, modified, changed, inode), rest)| {
            let (device, mode, links, user, group) = rest;
            let mode = [0o100_644, 0o100_755, 0o120_777, 0o040_755][mode as usize];
            Stamp { size, modified, changed, inode, device, mode, links, user, group }
        })
    }

    fn listing(stamps: &[Stamp]) -> FolderListing {
        let mut builder = FolderListingBuilder::default();
        for (number, stamp) in stamps.iter().enumerate() {
            let name = format!("{number:05}");
            builder.push(name.as_bytes(), *stamp, EntryContent::Nothing, TreeEntry::SETTLED);
        }
        builder.finish(Rules::default().digest(), WalkMode::Normal)
    }

    proptest! {
        #[test]
        fn a_listing_has_every_stamp_whole(stamps in prop::collection::vec(stamp(), 0..40)) {
            let listing = listing(&stamps);
            for (entry, stamp) in listing.entries().iter().zip(&stamps) {
                prop_assert_eq!(listing.stamp(entry), *stamp);
                prop_assert_eq!(entry.kind(), stamp.kind());
                prop_assert_eq!(listing.proven(entry, stamp), Some(EntryContent::Nothing));
                let mut other = *stamp;
                other.user += 1;
                prop_assert_eq!(listing.proven(entry, &other), None);
            }
        }
    }

    #[test]
    fn where_stamps_have_too_little_in_common_the_rest_proves_nothing() {
        let mode = 0o100_644;
        let stamps: Vec<_> =
            (0..300).map(|links| Stamp { links, mode, ..Stamp::default() }).collect();
        let listing = listing(&stamps);
        for (number, (entry, stamp)) in listing.entries().iter().zip(&stamps).enumerate() {
            let proven = (number < 256).then_some(EntryContent::Nothing);
            assert_eq!(listing.proven(entry, stamp), proven);
            assert_eq!(entry.kind(), FileKind::File);
        }
    }
}
