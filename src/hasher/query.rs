//! Questions to a scanned tree.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::links::{LinkTarget, TargetReader};
use super::manifest::{self, Manifest, ManifestBuilder};
use super::options;
use super::read::Buffer;
use super::tree::{EntryContent, FolderId, FolderListing, TreeEntry};
use super::{CodeHasher, ScanMark};
use crate::model::{Digest, Digester};
use crate::workspace::{FileKind, Stamp};

/// The most reasons that a snapshot gives.
const REASON_LIMIT: usize = 20;

/// The tree's content at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Snapshot {
    /// Everything that counts was read.
    Known {
        /// The digest of all that counts: the code hash before the build identity joins it.
        digest: Digest,
        /// Files that count.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Something could not be read: nothing may be concluded.
    Unknown {
        /// What was not read, and why; at least one.
        why: Vec<String>,
    },
}

impl CodeHasher {
    /// The snapshot as of the last scan or rescan, with links' targets as they are now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut why = Vec::new();
        if !self.current {
            why.push(format!("`{}` has not been scanned", self.root.display()));
        }
        for ((id, name), what) in &self.problems {
            let path = self.tree.path(*id);
            let path = if name.is_empty() { path } else { path.join(OsStr::from_bytes(name)) };
            why.push(format!("`{}`: {what}", path.display()));
        }
        why.extend(self.doubts.values().cloned());
        let mut digester = Digester::new("tree 1");
        digester.number(self.tops.len() as u64);
        if !self.scope.exclusions().is_empty() {
            digester.field(b"without").field(self.scope.exclusions());
        }
        let (mut files, mut bytes) = (0, 0);
        for (top, root) in self.tops.iter().zip(&self.scope.roots) {
            let Some(digest) = top.folder.and_then(|top| self.tree.digest(top)) else { continue };
            digester.field(&root.label).digest(&digest);
            let totals = top.folder.map_or((0, 0), |top| self.tree.totals(top));
            files += totals.0;
            bytes += totals.1;
        }
        self.targets(|path, link, target, _| {
            digester.field(path);
            if !target.add_to(&mut digester)
                && let LinkTarget::Unknown(what) = target
            {
                why.push(format!("`{}`: {what}", link.display()));
            }
        });
        if why.is_empty() {
            return Snapshot::Known { digest: digester.finish(), files, bytes };
        }
        let more = why.len().saturating_sub(REASON_LIMIT);
        why.truncate(REASON_LIMIT);
        if more > 0 {
            why.push(format!("and {more} more"));
        }
        Snapshot::Unknown { why }
    }

    /// The number of files of the last scan that count.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        let tops = self.tops.iter().filter_map(|top| top.folder);
        tops.map(|top| self.tree.totals(top).0).sum()
    }

    /// This moment, for [`Self::changed_since`].
    #[must_use]
    pub(crate) fn mark(&self) -> ScanMark {
        ScanMark(self.generation)
    }

    /// What scans after `mark` found added, removed or changed in any way, stamps included, also
    /// if everything is as it was again: absolute paths, sorted. A folder stands for everything
    /// in it that is gone; the root, for more than is remembered.
    #[must_use]
    pub(crate) fn changed_since(&self, mark: ScanMark) -> Vec<PathBuf> {
        let removals = self.removals.paths.iter();
        let mut paths: Vec<PathBuf> = removals
            .filter(|(generation, _)| *generation > mark.0)
            .map(|(_, path)| path.clone())
            .collect();
        if self.removals.forgotten > mark.0 {
            paths.push(self.root.clone());
        }
        self.each_folder(|_, _, id| {
            let listing = &self.tree.folder(id).listing;
            let changed = |entry: &TreeEntry| {
                entry.changed > mark.0
                    && match entry.content {
                        // Folders that hold nothing that counts do not count themselves.
                        EntryContent::Folder(id) => {
                            id.and_then(|id| self.tree.digest(id)).is_some()
                        }
                        _ => true,
                    }
            };
            let mut path = None;
            for (name, _) in listing.iter().filter(|(_, entry)| changed(entry)) {
                let path = path.get_or_insert_with(|| self.tree.path(id));
                paths.push(path.join(OsStr::from_bytes(name)));
            }
        });
        self.targets(|_, path, target, link| {
            if link.changed > mark.0 || link.target.as_ref() != Some(target) {
                paths.push(path.to_owned());
            }
        });
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Every `Cargo.toml` of the tree, those of outside roots too, in the order of the walk.
    #[must_use]
    pub(crate) fn manifests(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        self.each_folder(|_, _, id| {
            let entry = self.tree.folder(id).listing.find(b"Cargo.toml");
            if entry.is_some_and(|entry| matches!(entry.kind(), FileKind::File | FileKind::Symlink))
            {
                found.push(self.tree.path(id).join("Cargo.toml"));
            }
        });
        found
    }

    /// A digest over every `Cargo.toml`, `Cargo.lock` and `.cargo/config*` of the tree: while it is
    /// the same, what was read from them holds.
    #[must_use]
    pub(crate) fn manifests_digest(&self) -> Digest {
        const CONFIG: [&[u8]; 2] = [b"config", b"config.toml"];
        const MANIFESTS: [&[u8]; 2] = [b"Cargo.lock", b"Cargo.toml"];
        let mut digester = Digester::new("manifests 1");
        self.each_folder(|root, below, id| {
            let is_config = below == b".cargo" || below.ends_with(b"/.cargo");
            let listing = &self.tree.folder(id).listing;
            for name in if is_config { CONFIG } else { MANIFESTS } {
                let Some(entry) = listing.find(name) else { continue };
                digester.field(&self.scope.roots[root].labelled(below)).field(name);
                digester.number(entry.sort().into());
                if let EntryContent::Digest(digest) = &entry.content {
                    digester.digest(digest);
                }
            }
        });
        self.targets(|path, _, target, _| {
            if [&CONFIG[..], &MANIFESTS].concat().iter().any(|name| path.ends_with(name)) {
                digester.field(path);
                target.add_to(&mut digester);
            }
        });
        digester.finish()
    }

    /// Every folder that must be watched: all that are walked, none that is ignored.
    pub(crate) fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let mut folders = Vec::new();
        self.each_folder(|_, _, id| folders.push(id));
        folders.into_iter().map(|id| self.tree.path(id))
    }

    /// Whether this path (a file's, a link's, a folder's) is one that counts.
    #[must_use]
    pub(crate) fn counts(&self, path: &Path) -> bool {
        if self.walks(path) {
            let found = self.locate(path);
            return found.is_some_and(|(id, _)| self.tree.digest(id).is_some());
        }
        self.entry(path).is_some()
    }

    /// Whether this is a folder that is walked, and so must be watched.
    #[must_use]
    pub(crate) fn walks(&self, path: &Path) -> bool {
        self.locate(path).is_some_and(|(_, whole)| whole)
    }

    /// Links to folders: what lies behind them is not walked, so nothing about it is known.
    #[must_use]
    pub(crate) fn unfollowed(&self) -> Vec<PathBuf> {
        let links = self.links.iter().filter(|(.., link)| link.target == Some(LinkTarget::Folder));
        links.map(|(.., link)| link.path.clone()).collect()
    }

    /// The files of the snapshot, small enough to keep beside a record.
    #[must_use]
    #[doc(hidden)]
    pub fn manifest(&self) -> Manifest {
        self.manifest_with(std::iter::empty())
    }

    /// The same, and these other files, by their paths from the main root.
    pub(crate) fn manifest_with(&self, more: impl Iterator<Item = (PathBuf, Digest)>) -> Manifest {
        let more = more
            .map(|(path, digest)| (path.into_os_string().into_encoded_bytes(), b'f', Some(digest)));
        let mut files: Vec<(Vec<u8>, u8, Option<Digest>)> = more.collect();
        self.each_folder(|root, below, id| {
            let root = &self.scope.roots[root];
            for (name, entry) in self.tree.folder(id).listing.iter() {
                let content = match entry.content {
                    EntryContent::Digest(digest) => Some(digest),
                    EntryContent::Folder(Some(id)) if self.holds_nothing(id) => None,
                    EntryContent::Folder(_) => continue,
                    EntryContent::Nothing | EntryContent::Unknown => None,
                };
                files.push((root.labelled(&options::join(below, name)), entry.sort(), content));
            }
        });
        // Roots and folders come one after the other, but paths of several may alternate.
        files.sort_unstable_by(|left, right| manifest::order(&left.0, &right.0));
        files.dedup_by(|left, right| left.0 == right.0);
        self.targets(|path, _, target, _| {
            let at = files.binary_search_by(|file| manifest::order(&file.0, path));
            if let (Ok(at), LinkTarget::File { digest, stamp, .. }) = (at, target) {
                let mut digester = Digester::new("link and target 1");
                if let Some(text) = &files[at].2 {
                    digester.digest(text);
                }
                digester.number(stamp.is_executable().into()).digest(digest);
                files[at].2 = Some(digester.finish());
            }
        });
        let mut builder = ManifestBuilder::new();
        for (path, sort, content) in &files {
            builder.push(path, *sort, content.as_ref());
        }
        builder.finish()
    }

    /// Whether a folder counts although nothing in it does.
    fn holds_nothing(&self, id: FolderId) -> bool {
        let inner_counts = |entry: &TreeEntry| match entry.content {
            EntryContent::Folder(id) => id.and_then(|id| self.tree.digest(id)).is_some(),
            _ => true,
        };
        self.tree.digest(id).is_some()
            && !self.tree.folder(id).listing.entries().iter().any(inner_counts)
    }

    /// Calls `see` with each folder's root, path from there, and number, in the order of the walk.
    fn each_folder(&self, mut see: impl FnMut(usize, &[u8], FolderId)) {
        for (root, top) in self.tops.iter().enumerate() {
            let mut next: Vec<(FolderId, Vec<u8>)> =
                top.folder.into_iter().map(|top| (top, Vec::new())).collect();
            while let Some((id, below)) = next.pop() {
                see(root, &below, id);
                let inner = self.tree.folder(id).listing.folders();
                let from = next.len();
                next.extend(inner.map(|(name, id)| (id, options::join(&below, name))));
                next[from..].reverse();
            }
        }
    }

    /// Calls `see` with each link's path from the main root, its path, and what it leads to now.
    fn targets(&self, mut see: impl FnMut(&[u8], &Path, &LinkTarget, &super::links::Link)) {
        let counted = |path: &Path, stamp: &Stamp| self.digest_of(path, stamp);
        let eye = self.eye(&counted);
        let mut buffer = None;
        for (root, below, link) in self.links.iter() {
            let buffer: &mut Buffer = buffer.get_or_insert_default();
            let target = eye.look(&link.path, link.target.as_ref(), buffer);
            see(&self.scope.roots[root].labelled(below), &link.path, &target, link);
        }
    }

    pub(super) fn eye<'a>(
        &'a self,
        counted: &'a dyn Fn(&Path, &Stamp) -> Option<Digest>,
    ) -> TargetReader<'a> {
        TargetReader { scope: &self.scope, counted, probe: &self.probe }
    }

    /// The digest of the counted file with this path and exactly this stamp, if it is settled.
    pub(super) fn digest_of(&self, path: &Path, stamp: &Stamp) -> Option<Digest> {
        let (listing, entry) = self.entry(path)?;
        match listing.proven(entry, stamp)? {
            EntryContent::Digest(digest) => Some(digest),
            _ => None,
        }
    }

    fn entry(&self, path: &Path) -> Option<(&FolderListing, &TreeEntry)> {
        let (id, true) = self.locate(path.parent()?)? else { return None };
        let listing = &self.tree.folder(id).listing;
        Some((listing, listing.find(path.file_name()?.as_bytes())?))
    }
}
