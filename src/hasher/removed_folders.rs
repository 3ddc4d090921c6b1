//! How folders leave the tree: gone, replaced, moved, or not to be listed any more.

use super::rules::Rules;
use super::system;
use super::tree::{EntryContent, FolderId, FolderListing};
use super::update::Update;
use super::walk::ListJob;

impl Update<'_, '_> {
    /// The folder cannot be listed: nothing is known of what is in it.
    pub(super) fn fail(&mut self, id: FolderId, error: &std::io::Error) {
        let inner: Vec<_> =
            self.hasher.tree.folder(id).listing.folders().map(|(_, id)| id).collect();
        inner.into_iter().for_each(|id| self.detach(id, true));
        self.hasher.forget_contents(id);
        self.hasher.forget_links(id);
        self.forget_identity(id);
        let files = self.hasher.tree.folder(id).listing.files();
        if files > 0 {
            self.changes.removed += files;
            self.hasher.removals.push(self.hasher.generation, self.hasher.tree.path(id));
        }
        let folder = self.hasher.tree.folder_mut(id);
        folder.listing = FolderListing::empty(folder.listing.mode);
        folder.identity = None;
        folder.rules = Rules::default();
        self.hasher.tree.invalidate(id);
        self.hasher.problems.insert((id, Vec::new()), error.to_string());
    }

    /// Takes a folder and all below it out of the tree. `log` says whether its files are to be
    /// reported as removed; not if another folder takes its place and is compared with it.
    pub(super) fn detach(&mut self, id: FolderId, log: bool) {
        if log {
            let path = self.hasher.tree.path(id);
            self.hasher.removals.push(self.hasher.generation, path);
        }
        for id in self.hasher.tree.subtree(id) {
            let told = self.hasher.tree.folder_mut(id).told.take();
            self.gone.push((self.hasher.tree.path(id), told));
            self.hasher.forget_contents(id);
            self.hasher.forget_links(id);
            self.detached.insert(id);
            self.changes.folders_removed += 1;
            let folder = self.hasher.tree.folder(id);
            if log {
                self.changes.removed += folder.listing.files();
            }
            if let Some(identity) = folder.identity {
                self.moved.insert(identity.inode, id);
            }
            self.forget_identity(id);
        }
    }

    /// A folder is about to be entered that the tree still has in another place, if it was moved
    /// and only the place it came to has been listed. Then it is gone from the other place, and
    /// that must be told first: a watch belongs to the folder, not to its path.
    pub(super) fn displace(&mut self, job: &ListJob) {
        let tree = &self.hasher.tree;
        let around = job.parent.and_then(|parent| tree.folder(parent).identity);
        let Some(around) = around else { return };
        let number = (around.device, job.inode);
        let Some(other) = self.hasher.live.get(&number).copied() else { return };
        let folder = tree.folder(other);
        let Some(parent) = folder.parent else { return };
        if tree.path(other) == job.path || self.is_there(other) {
            return;
        }
        let name = folder.name.clone();
        self.detach(other, true);
        let listing = &mut self.hasher.tree.folder_mut(parent).listing;
        if let Some(at) = listing.position(&name) {
            listing.entries_mut()[at].content = EntryContent::Folder(None);
        }
        self.hasher.tree.invalidate(parent);
        self.again.insert(parent);
    }

    /// Whether the folder at this path is still the one in the tree.
    pub(super) fn is_there(&self, id: FolderId) -> bool {
        let now = system::folder_at(&self.hasher.tree.path(id)).ok();
        now.is_some() && now.map(|now| now.identity) == self.hasher.tree.folder(id).identity
    }

    /// The folder is no longer found by its inode.
    pub(super) fn forget_identity(&mut self, id: FolderId) {
        if let Some(identity) = self.hasher.tree.folder(id).identity
            && self.hasher.live.get(&identity.number()) == Some(&id)
        {
            self.hasher.live.remove(&identity.number());
        }
    }
}
