//! Inputs that no watch covers: ignore files above the root and the user's own, the index of
//! each repository, and files that have names elsewhere. All of it is looked at in every scan.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::CodeHasher;
use super::git::{self, Tracked};
use super::options;
use super::parallel;
use super::rules::Anchor;
use super::system;
use super::tree::{FolderId, TreeEntry, WalkMode};
use super::update::Update;
use crate::workspace::{FileKind, Repository, Stamp};

/// A tree with more folders than this is worth several threads.
const MANY_FOLDERS: usize = 512;

impl CodeHasher {
    /// Folders with files that were changed under another name.
    pub(super) fn changed_elsewhere(&self) -> BTreeSet<FolderId> {
        let is_changed =
            |id: &FolderId| self.has_changed_file(*id, |entry| entry.is(TreeEntry::SHARED));
        self.shared.iter().copied().filter(is_changed).collect()
    }

    /// Folders with files that are not as they were, whether an event told of it or not. Folders
    /// are not listed.
    pub(super) fn changed_files(&self) -> BTreeSet<FolderId> {
        let tops = self.tops.iter().filter_map(|top| top.folder);
        let folders: Vec<_> = tops.flat_map(|top| self.tree.subtree(top)).collect();
        let threads = if folders.len() > MANY_FOLDERS { self.threads } else { 1 };
        let is_file = |entry: &TreeEntry| entry.kind() != FileKind::Folder;
        let changed = parallel::map(&folders, threads, &mut (), |(), id| {
            // An ignore file that does not count itself is in no listing.
            let folder = self.tree.folder(*id);
            folder.rules.digest() != folder.base && folder.listing.find(b".gitignore").is_none()
                || self.has_changed_file(*id, is_file)
        });
        folders.into_iter().zip(changed).filter_map(|(id, changed)| changed.then_some(id)).collect()
    }

    /// Whether one of these files is not provably the one that was listed.
    fn has_changed_file(&self, id: FolderId, which: impl Fn(&TreeEntry) -> bool) -> bool {
        let listing = &self.tree.folder(id).listing;
        let mut files = listing.iter().filter(|(_, entry)| which(entry)).peekable();
        if files.peek().is_none() {
            return false;
        }
        let Ok(folder) = system::open_folder(&self.tree.path(id), true) else { return true };
        files.any(|(name, entry)| {
            !entry.is(TreeEntry::SETTLED)
                || Stamp::at(&folder, name).map_or(true, |stamp| stamp != listing.stamp(entry))
        })
    }

    /// The repositories of the tree, each with the folder to ask in.
    fn repositories(&self) -> Vec<(PathBuf, Repository)> {
        let tops = self.tops.iter().zip(&self.scope.roots);
        let outer =
            tops.filter_map(|(top, root)| Some((root.path.clone(), top.repository.clone()?)));
        let nested = self.nested.iter().filter_map(|id| {
            Some((self.tree.path(*id), self.tree.folder(*id).repository.clone()?))
        });
        outer.chain(nested).collect()
    }

    /// The folder of the tree at this path, or the deepest one on the way to it.
    pub(super) fn locate(&self, path: &Path) -> Option<(FolderId, bool)> {
        let roots = self.scope.roots.iter().zip(&self.tops);
        let mut found: Option<(usize, FolderId, bool)> = None;
        for (root, top) in roots {
            if let (Ok(way), Some(top)) = (path.strip_prefix(&root.path), top.folder) {
                let depth = root.path.components().count();
                // If one root lies in another, the inner one walks the path.
                if found.is_none_or(|(other, ..)| depth > other) {
                    let (id, whole) = self.tree.descend(top, way);
                    found = Some((depth, id, whole));
                }
            }
        }
        found.map(|(_, id, whole)| (id, whole))
    }
}

impl Update<'_, '_> {
    /// Reads the ignore files that lie outside of the tree; folders for which they changed become
    /// dirty.
    pub(super) fn refresh_rules(&mut self, dirty: &mut BTreeSet<FolderId>) {
        let hasher = &mut *self.hasher;
        for (top, root) in hasher.tops.iter_mut().zip(&hasher.scope.roots) {
            let (repository, rules) = git::outer_rules(&root.path, &hasher.scope.environment);
            if rules.digest() != top.rules.digest() {
                top.rules = rules;
                dirty.extend(top.folder);
            }
            top.repository = repository;
        }
        for id in &hasher.nested {
            let folder = hasher.tree.folder(*id);
            let Some(repository) = &folder.repository else { continue };
            let below = hasher.below(folder.root, &hasher.tree.path(*id));
            let rules =
                git::rules_of(repository, &Anchor::inside(&below), &hasher.scope.environment);
            if folder.base != rules.digest() {
                dirty.insert(*id);
            }
        }
    }

    /// Before the first round: asks git where an index is not provably the one that it was asked
    /// about. Folders that hold what is no longer tracked become dirty, and so do packages of
    /// which git now lists the files, or does no longer.
    pub(super) fn find_untracked(&mut self, dirty: &mut BTreeSet<FolderId>) {
        for (folder, repository) in self.hasher.repositories() {
            let mut tracked = self.hasher.tracked.remove(&folder).unwrap_or_default();
            if !tracked.is_of(&repository)
                && let Some(list) = self.ask(&folder, &repository, &mut tracked, dirty)
            {
                let all: BTreeSet<&[u8]> = list.iter().map(Vec::as_slice).collect();
                let (kept, dropped) =
                    tracked.files.into_iter().partition(|file| all.contains(&**file));
                tracked.files = kept;
                self.dirty_parents(&dropped, dirty);
                self.lists.insert(folder.clone(), list);
            }
            self.hasher.tracked.insert(folder, tracked);
        }
    }

    /// After a round: which tracked files the rules hide now. Returns the folders to list for it.
    pub(super) fn find_hidden(&mut self) -> BTreeSet<FolderId> {
        let rules_changed = std::mem::take(&mut self.rules_changed);
        let mut dirty = BTreeSet::new();
        for (folder, repository) in self.hasher.repositories() {
            let known = self.hasher.tracked.contains_key(&folder);
            let mut tracked = self.hasher.tracked.remove(&folder).unwrap_or_default();
            // Asked before the round, or never looked at: nested ones are only known after it.
            let unseen = self.seen.insert(folder.clone());
            let other_index =
                unseen && (self.lists.contains_key(&folder) || !tracked.is_of(&repository));
            if !known || rules_changed || other_index {
                let list = match self.lists.remove(&folder) {
                    Some(list) => Some(list),
                    None => self.ask(&folder, &repository, &mut tracked, &mut dirty),
                };
                if let Some(list) = list {
                    let hidden = self.hasher.hidden(&list);
                    let changed = hidden.symmetric_difference(&tracked.files).cloned().collect();
                    self.dirty_parents(&changed, &mut dirty);
                    tracked.files = hidden;
                    self.lists.insert(folder.clone(), list);
                }
            }
            self.hasher.tracked.insert(folder, tracked);
        }
        dirty
    }

    /// Forgets repositories that are gone; folders that they spoke for become dirty.
    pub(super) fn forget_repositories(&mut self) {
        let there: BTreeSet<_> = self.hasher.repositories().into_iter().map(|(f, _)| f).collect();
        let mut dirty = BTreeSet::new();
        for (folder, tracked) in std::mem::take(&mut self.hasher.tracked) {
            if there.contains(&folder) {
                self.hasher.tracked.insert(folder, tracked);
            } else {
                self.dirty_parents(&tracked.files, &mut dirty);
                self.dirty_parents(&tracked.manifests, &mut dirty);
            }
        }
        self.hasher.doubts.retain(|folder, _| there.contains(folder));
        self.again.extend(dirty);
    }

    fn dirty_parents(&self, files: &BTreeSet<Vec<u8>>, dirty: &mut BTreeSet<FolderId>) {
        dirty.extend(files.iter().filter_map(|file| self.hasher.parent_of(file)));
    }

    /// Asks git, and notes as of which index, and which packages it knows: those for which that
    /// changed become dirty. `None` if it failed: then what was known stays, and the doubt is noted.
    fn ask(
        &mut self,
        folder: &Path,
        repository: &Repository,
        tracked: &mut Tracked,
        dirty: &mut BTreeSet<FolderId>,
    ) -> Option<Vec<Vec<u8>>> {
        let now = SystemTime::now();
        let index = git::index_stamp(repository);
        let list = match index {
            Some(_) => git::tracked(folder, &self.hasher.scope.environment),
            None => Ok(Vec::new()),
        };
        self.asked = true;
        match list {
            Ok(list) => {
                tracked.index = index.filter(|stamp| self.hasher.probe.is_settled(stamp, now));
                self.hasher.doubts.remove(folder);
                let is_manifest = |file: &&Vec<u8>| file.ends_with(b"/Cargo.toml");
                let manifests = list.iter().filter(is_manifest).cloned().collect();
                let changed = tracked.manifests.symmetric_difference(&manifests).cloned().collect();
                self.dirty_parents(&changed, dirty);
                tracked.manifests = manifests;
                Some(list)
            }
            Err(error) => {
                tracked.index = None;
                self.hasher.doubts.insert(folder.to_owned(), error.to_string());
                None
            }
        }
    }
}

impl CodeHasher {
    /// Tracked files that the rules alone do not count: files that are there and do not count,
    /// and what is not there and would be ignored.
    fn hidden(&self, list: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
        let mut hidden = BTreeSet::new();
        // Git's order keeps the files of a folder together.
        let (mut last, mut place): (&[u8], _) = (b"", None);
        for file in list {
            let Some(cut) = file.iter().rposition(|byte| *byte == b'/') else { continue };
            let (parent, name) = (&file[..cut], &file[cut + 1..]);
            if parent != last {
                (last, place) = (parent, self.locate(Path::new(OsStr::from_bytes(parent))));
            }
            let Some((id, whole)) = place else { continue };
            let listing = &self.tree.folder(id).listing;
            if whole && listing.find(name).is_some_and(|entry| !entry.is(TreeEntry::FORCED)) {
                continue;
            }
            let path = Path::new(OsStr::from_bytes(file));
            if path.symlink_metadata().is_ok() || self.would_ignore(id, path) {
                hidden.insert(file.clone());
            }
        }
        hidden
    }

    /// Whether a file that is not there would be ignored, `id` being the deepest folder on the
    /// way to it that is walked.
    fn would_ignore(&self, id: FolderId, file: &Path) -> bool {
        let folder = self.tree.folder(id);
        if folder.listing.mode != WalkMode::Normal {
            return true;
        }
        let here = self.tree.path(id);
        let Ok(rest) = file.strip_prefix(&here) else { return true };
        let mut below = self.below(folder.root, &here);
        let parts: Vec<_> = rest.components().collect();
        parts.iter().enumerate().any(|(at, part)| {
            below = options::join(&below, part.as_os_str().as_bytes());
            folder.rules.ignore(&below, at + 1 < parts.len())
        })
    }

    /// The folder to list for a file.
    fn parent_of(&self, file: &[u8]) -> Option<FolderId> {
        let parent = Path::new(OsStr::from_bytes(file)).parent()?;
        self.locate(parent).map(|(id, _)| id)
    }
}
