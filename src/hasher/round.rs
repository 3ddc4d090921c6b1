//! One round of a scan: which folders are listed, in which order, and what becomes of the results.
//!
//! A round lists the folders that are in the tree already, those nearer to the root first; tells
//! which ones are gone; and only then enters the new ones, level by level. Whoever watches folders
//! can thus watch each before it is listed, and never drops the watch of a folder that was only
//! moved.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::ffi::OsStrExt as _;

use super::DirChange;
use super::name_filter::NameFilter;
use super::parallel;
use super::read;
use super::tree::{EntryContent, FolderId, TreeFolder, WalkMode};
use super::update::Update;
use super::walk::{KnownBefore, ListJob, ListOutcome, ListedFolder, Walk};
use crate::workspace::FileKind;

/// Folders of the tree to be listed, by how deep they lie, each with how to walk it.
type ListQueue = BTreeMap<usize, BTreeMap<FolderId, WalkMode>>;

impl Update<'_, '_> {
    /// Lists the folders `dirty`, or everything, and the new ones below them.
    pub(super) fn round(&mut self, dirty: &BTreeSet<FolderId>) {
        self.listed.clear();
        let mut entering = Vec::new();
        let mut queue = ListQueue::new();
        for root in 0..self.hasher.tops.len() {
            match self.hasher.tops[root].folder {
                Some(top) if self.all => self.enqueue(&mut queue, top, WalkMode::Normal),
                Some(_) => {}
                None => entering.push(self.root_job(root)),
            }
        }
        for id in dirty {
            self.enqueue(&mut queue, *id, self.hasher.tree.folder(*id).listing.mode);
        }
        while let Some((_, folders)) = queue.pop_first() {
            let mut jobs = Vec::with_capacity(folders.len());
            for (id, mode) in folders {
                if !self.detached.contains(&id) && self.listed.insert(id) {
                    jobs.push(self.known_job(id, mode));
                }
            }
            for (job, outcome) in self.list(jobs) {
                self.relisted(&job, outcome, &mut queue, &mut entering);
            }
        }
        self.tell_gone();
        while !entering.is_empty() {
            for job in &entering {
                self.displace(job);
            }
            self.tell_gone();
            let mut once = HashSet::new();
            let mut level = std::mem::take(&mut entering);
            level.retain(|job| self.is_awaited(job) && once.insert(job.path.clone()));
            for job in &mut level {
                if job.inode == 0 {
                    job.inode = job.inode_now();
                } else if let (KnownBefore::Memo, Some(id)) =
                    (job.previous, self.moved.get(&job.inode))
                {
                    job.previous = KnownBefore::Elsewhere(*id);
                }
                (self.on_dir)(DirChange::Entering(&job.path));
            }
            for (job, outcome) in self.list(level) {
                self.entered(&job, outcome, &mut entering);
            }
        }
    }

    /// Whether the tree has a place for the folder of this job, and nothing in it.
    fn is_awaited(&self, job: &ListJob) -> bool {
        let Some(parent) = job.parent else {
            return self.hasher.tops[job.root].folder.is_none();
        };
        !self.detached.contains(&parent)
            && self.hasher.tree.folder(parent).listing.find(&job.name).map(|entry| entry.content)
                == Some(EntryContent::Folder(None))
    }

    fn enqueue(&self, queue: &mut ListQueue, id: FolderId, mode: WalkMode) {
        let depth = self.hasher.tree.depth(id);
        queue.entry(depth).or_default().insert(id, mode);
    }

    /// Tells which folders are gone. A watch belongs to the folder, not to its path: one that was
    /// entered elsewhere before its old place was found gone loses it too, and is entered again.
    pub(super) fn tell_gone(&mut self) {
        for (path, number) in std::mem::take(&mut self.gone) {
            (self.on_dir)(DirChange::Removed(&path));
            let living = number.and_then(|number| self.hasher.live.get(&number).copied());
            if let Some(id) = living.filter(|id| !self.detached.contains(id)) {
                self.enter_again(id);
            }
        }
    }

    fn list(&mut self, jobs: Vec<ListJob>) -> Vec<(ListJob, ListOutcome)> {
        let hasher = &*self.hasher;
        let walk = Walk {
            tree: &hasher.tree,
            judge: NameFilter { scope: &hasher.scope, tracked: &hasher.tracked },
            memo: hasher.memo.as_ref(),
            generation: hasher.generation,
            threads: hasher.threads,
            same_options: hasher.current,
            probe: &hasher.probe,
        };
        let outcomes = parallel::map(&jobs, hasher.threads, &mut self.scratch, |scratch, job| {
            walk.list(job, scratch)
        });
        jobs.into_iter().zip(outcomes).collect()
    }

    fn root_job(&self, root: usize) -> ListJob {
        let path = &self.hasher.scope.roots[root].path;
        ListJob {
            id: None,
            parent: None,
            name: path.as_os_str().as_bytes().into(),
            root,
            path: path.clone(),
            below: Vec::new(),
            mode: WalkMode::Normal,
            inherited: self.hasher.tops[root].rules.clone(),
            previous: KnownBefore::Memo,
            expected: None,
            inode: 0,
        }
    }

    fn known_job(&self, id: FolderId, mode: WalkMode) -> ListJob {
        let tree = &self.hasher.tree;
        let folder = tree.folder(id);
        let path = tree.path(id);
        ListJob {
            id: Some(id),
            parent: folder.parent,
            name: folder.name.clone(),
            root: folder.root,
            below: self.hasher.below(folder.root, &path),
            path,
            mode,
            inherited: match folder.parent {
                Some(parent) => tree.folder(parent).rules.clone(),
                None => self.hasher.tops[folder.root].rules.clone(),
            },
            previous: KnownBefore::Here(id),
            expected: folder.identity,
            inode: folder.identity.map_or(0, |identity| identity.inode),
        }
    }

    /// A folder of the tree was listed again.
    fn relisted(
        &mut self,
        job: &ListJob,
        outcome: ListOutcome,
        queue: &mut ListQueue,
        entering: &mut Vec<ListJob>,
    ) {
        // Only jobs for folders of the tree come here.
        let Some(id) = job.id else { return };
        if self.detached.contains(&id) {
            return;
        }
        match outcome {
            ListOutcome::Listed(listed) => self.adopt(id, job, *listed, queue, entering),
            ListOutcome::Replaced => {
                self.detach(id, false);
                self.set_child(job, None);
                entering.push(ListJob {
                    id: None,
                    parent: job.parent,
                    name: job.name.clone(),
                    root: job.root,
                    path: job.path.clone(),
                    below: job.below.clone(),
                    mode: job.mode,
                    inherited: job.inherited.clone(),
                    previous: KnownBefore::Here(id),
                    expected: None,
                    inode: 0,
                });
            }
            ListOutcome::Failed(error) => {
                if let Some(parent) = job.parent
                    && read::is_absence(&error)
                {
                    if self.listed.contains(&parent) {
                        self.again.insert(parent);
                    } else {
                        let mode = self.hasher.tree.folder(parent).listing.mode;
                        self.enqueue(queue, parent, mode);
                    }
                }
                self.fail(id, &error);
            }
        }
    }

    /// A folder that was not in the tree was listed.
    fn entered(&mut self, job: &ListJob, outcome: ListOutcome, entering: &mut Vec<ListJob>) {
        let around = job.parent.and_then(|parent| self.hasher.tree.folder(parent).identity);
        let mut folder = TreeFolder::new(job.parent, &job.name, job.root, job.mode);
        folder.told = around.map(|around| (around.device, job.inode));
        let id = self.hasher.tree.insert(folder);
        self.set_child(job, Some(id));
        self.changes.folders_added += 1;
        match outcome {
            ListOutcome::Listed(listed) => {
                let identity = listed.identity;
                if job.inode == identity.inode {
                    self.hasher.tree.folder_mut(id).told = Some(identity.number());
                }
                self.adopt(id, job, *listed, &mut ListQueue::new(), entering);
                if job.inode != identity.inode {
                    // Not the one that was there when it was told that it is entered: the watch
                    // is on the other. (Or something is mounted here, and the parent's listing
                    // tells the inode of what is below.)
                    self.enter_again(id);
                }
            }
            ListOutcome::Replaced => {
                self.again.insert(id);
            }
            ListOutcome::Failed(error) => {
                if let Some(parent) = job.parent
                    && read::is_absence(&error)
                {
                    self.again.insert(parent);
                }
                self.fail(id, &error);
            }
        }
    }

    /// Hangs a folder into its parent, or takes it out.
    fn set_child(&mut self, job: &ListJob, child: Option<FolderId>) {
        let Some(parent) = job.parent else {
            self.hasher.tops[job.root].folder = child;
            return;
        };
        let listing = &mut self.hasher.tree.folder_mut(parent).listing;
        if let Some(at) = listing.position(&job.name) {
            listing.entries_mut()[at].content = EntryContent::Folder(child);
        }
        self.hasher.tree.invalidate(parent);
    }

    /// Takes over what was found in a folder.
    fn adopt(
        &mut self,
        id: FolderId,
        job: &ListJob,
        listed: ListedFolder,
        queue: &mut ListQueue,
        entering: &mut Vec<ListJob>,
    ) {
        let ListedFolder { identity, mut listing, rules, repository, modes, .. } = listed;
        self.changes.add(&listed.changes);
        self.rules_changed |= listed.rules_changed;
        let before = match job.previous {
            KnownBefore::Here(id) | KnownBefore::Elsewhere(id) => {
                let listing = &self.hasher.tree.folder(id).listing;
                listing.folders().map(|(name, id)| (name.to_vec(), id)).collect()
            }
            KnownBefore::Memo => BTreeMap::new(),
        };
        let mut missing = before.clone();
        let mut modes = modes.into_iter();
        for at in 0..listing.entries().len() {
            let entry = &listing.entries()[at];
            if entry.kind() != FileKind::Folder {
                continue;
            }
            let inode = entry.inode;
            let name = listing.name(entry);
            let mode = modes.next().unwrap_or(job.mode);
            missing.remove(name);
            let old = before.get(name).copied();
            let known = old.filter(|old| job.id.is_some() && !self.detached.contains(old));
            let Some(known) = known else {
                entering.push(ListJob {
                    mode,
                    inherited: rules.clone(),
                    previous: Self::previous(job, old),
                    inode,
                    ..job.within(id, name)
                });
                continue;
            };
            let folder = self.hasher.tree.folder(known);
            if self.all
                || folder.listing.mode != mode
                || folder.inherited != rules.digest()
                || !self.is_there(known)
            {
                self.enqueue(queue, known, mode);
            }
            if folder.listing.mode.counts() && !mode.counts() {
                let path = self.hasher.tree.path(known);
                self.hasher.removals.push(self.hasher.generation, path);
            }
            let counts_now = !folder.listing.mode.counts() && mode.counts();
            let entry = &mut listing.entries_mut()[at];
            entry.content = EntryContent::Folder(Some(known));
            if counts_now {
                entry.changed = self.hasher.generation;
            }
        }
        let here = matches!(job.previous, KnownBefore::Here(_));
        for (name, old) in missing.into_iter().filter(|_| here) {
            if self.detached.contains(&old) {
                let path = job.path.join(std::ffi::OsStr::from_bytes(&name));
                self.hasher.removals.push(self.hasher.generation, path);
            } else {
                self.detach(old, true);
            }
        }
        self.hasher.forget_contents(id);
        for (name, why) in listed.problems {
            self.hasher.problems.insert((id, name), why);
        }
        for name in &listed.removed {
            let path = job.path.join(std::ffi::OsStr::from_bytes(name));
            self.hasher.removals.push(self.hasher.generation, path);
        }
        let twin = self.hasher.live.insert(identity.number(), id).filter(|twin| *twin != id);
        // A twin that is still there is mounted in two places.
        let twin = twin.filter(|twin| !self.detached.contains(twin) && !self.is_there(*twin));
        let folder = self.hasher.tree.folder_mut(id);
        folder.identity = Some(identity);
        folder.listing = listing;
        folder.rules = rules;
        folder.inherited = job.inherited.digest();
        folder.base = listed.base;
        folder.repository = repository;
        if let Some(twin) = twin {
            // It was moved while both places were listed, and is entered twice. The other place
            // will turn out empty, and whoever then drops a watch there drops it here too.
            self.again.extend(self.hasher.tree.folder(twin).parent);
            self.enter_again(id);
        }
        self.hasher.tree.invalidate(id);
        self.hasher.note_contents(id, job);
    }

    /// In the next round the folder is told removed, and entered once more, after everything
    /// that is found gone till then.
    fn enter_again(&mut self, id: FolderId) {
        self.forget_identity(id);
        self.hasher.tree.folder_mut(id).identity = None;
        self.again.insert(id);
    }

    /// The earlier listing that may know the files of a folder that is entered.
    fn previous(parent: &ListJob, old: Option<FolderId>) -> KnownBefore {
        match (parent.previous, old) {
            (KnownBefore::Here(_), Some(old)) => KnownBefore::Here(old),
            (KnownBefore::Elsewhere(_), Some(old)) => KnownBefore::Elsewhere(old),
            _ => KnownBefore::Memo,
        }
    }
}
