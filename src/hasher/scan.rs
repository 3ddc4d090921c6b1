//! Bringing the tree up to date, by a scan of everything or a rescan of some folders.
//!
//! What did not hold still, and what git turns out to track, takes another round.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::changes::ScanChanges;
use super::tree::FolderId;
use super::update::Update;
use super::{CodeHasher, DirChange};

/// How many rounds may follow the first.
const MORE_ROUNDS: usize = 4;

impl CodeHasher {
    /// Lists and stats the whole tree, on all cores, and reads what is not proven unchanged.
    pub fn scan(&mut self, on_dir: &mut dyn FnMut(DirChange<'_>)) -> ScanChanges {
        self.refresh(true, BTreeSet::new(), on_dir)
    }

    /// Lists these folders again (absolute paths), and new ones below them with all that is in
    /// them. Needed before every snapshot that is to be answered, with no folder if none changed:
    /// what cannot be watched is looked at too, and what could not be read is tried again. A path
    /// that is no folder of the tree stands for the nearest one above it.
    #[doc(hidden)]
    pub fn rescan(
        &mut self,
        dirs: &BTreeSet<PathBuf>,
        on_dir: &mut dyn FnMut(DirChange<'_>),
    ) -> ScanChanges {
        let changed = self.changed_elsewhere();
        self.rescan_with(dirs, changed, on_dir)
    }

    /// Does the same, and looks at every file: no event tells of a write through a memory map, or
    /// through a link from outside the tree. Folders are trusted to have told of their names.
    pub(crate) fn rescan_files(
        &mut self,
        dirs: &BTreeSet<PathBuf>,
        on_dir: &mut dyn FnMut(DirChange<'_>),
    ) -> ScanChanges {
        let changed = self.changed_files();
        self.rescan_with(dirs, changed, on_dir)
    }

    fn rescan_with(
        &mut self,
        dirs: &BTreeSet<PathBuf>,
        changed: BTreeSet<FolderId>,
        on_dir: &mut dyn FnMut(DirChange<'_>),
    ) -> ScanChanges {
        let mut dirty = changed;
        for (id, _) in self.problems.keys() {
            dirty.insert(*id);
        }
        for path in dirs {
            dirty.extend(self.locate(path).map(|(id, _)| id));
            if path.file_name().is_some_and(|name| name == "target") {
                // The tag that makes it cargo's lies in it, and its parent's listing decides.
                dirty.extend(path.parent().and_then(|path| self.locate(path)).map(|(id, _)| id));
            }
            for (root, top) in self.scope.roots.iter().zip(&self.tops) {
                dirty.extend(top.folder.filter(|_| root.path.starts_with(path)));
            }
        }
        self.refresh(false, dirty, on_dir)
    }

    fn refresh(
        &mut self,
        all: bool,
        dirty: BTreeSet<FolderId>,
        on_dir: &mut dyn FnMut(DirChange<'_>),
    ) -> ScanChanges {
        self.generation += 1;
        let all = all || !self.current;
        let (mut changes, mut stale_memo) = Update::new(self, on_dir, all).run(dirty);
        if changes.linked > 0 && !all {
            // The file's other names may be anywhere in the tree, no event tells of them, and
            // what is written through one of them changes the others.
            let (more, stale) = Update::new(self, on_dir, true).run(BTreeSet::new());
            changes.add(&more);
            stale_memo |= stale;
        }
        self.current = true;
        if stale_memo || (self.memo.is_none() && !changes.is_empty()) {
            self.saved = None;
        }
        self.memo = None;
        let tops: Vec<_> = self.tops.iter().filter_map(|top| top.folder).collect();
        tops.into_iter().for_each(|top| self.tree.settle(top));
        let mut links = std::mem::take(&mut self.links);
        links.refresh(&self.eye(&|path, stamp| self.digest_of(path, stamp)), self.generation);
        self.links = links;
        changes
    }
}

impl Update<'_, '_> {
    /// Lists `dirty` (or everything) and whatever follows from it, until nothing does. Returns
    /// what changed, and whether a memo from before is out of date.
    fn run(mut self, mut dirty: BTreeSet<FolderId>) -> (ScanChanges, bool) {
        for id in std::mem::take(&mut self.hasher.dropped) {
            self.detach(id, true);
        }
        self.tell_gone();
        self.refresh_rules(&mut dirty);
        self.find_untracked(&mut dirty);
        self.round(&dirty);
        self.all = false;
        let mut stale_memo = self.rules_changed;
        for _ in 0..MORE_ROUNDS {
            self.forget_repositories();
            let mut next = std::mem::take(&mut self.again);
            next.extend(self.find_hidden());
            next.retain(|id| !self.detached.contains(id));
            if next.is_empty() {
                break;
            }
            self.round(&next);
            stale_memo |= self.rules_changed;
        }
        let mut unsettled = std::mem::take(&mut self.again);
        if self.rules_changed {
            unsettled.extend(self.hasher.tops.iter().filter_map(|top| top.folder));
        }
        for id in unsettled.difference(&self.detached.iter().copied().collect()) {
            let why = "it changes while it is listed".to_owned();
            self.hasher.problems.insert((*id, Vec::new()), why);
        }
        stale_memo |= self.asked || self.changes.read_files > 0;
        for id in self.detached {
            self.hasher.tree.remove(id);
        }
        (self.changes, stale_memo)
    }
}
