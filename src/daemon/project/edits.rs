//! Which files the developer edits, as far as the tree tells.

use std::time::Instant;

use super::actor::Actor;
use super::tree::WatchedTree;

impl Actor {
    /// Takes note of what changed since the last time.
    pub(super) fn note_edits(&mut self) {
        let Some(look) = self.tree.as_ref().map(WatchedTree::look) else { return };
        let Ok(digest) = look.digest else { return };
        let before = self.seen.replace((digest, look.mark));
        let Some((_, mark)) = before.filter(|(old, _)| *old != digest) else { return };
        let changed = self.tree.as_ref().and_then(|tree| tree.changed_since(&mark));
        // Of another question's tree it cannot be told, and that is no edit either.
        if changed.is_some_and(|changed| !changed.is_empty()) {
            self.changed = Some(Instant::now());
            self.shared.queue.edited(&self.root);
        }
    }
}
