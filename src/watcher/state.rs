//! The state that the callback on notify's thread and the caller's thread share.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};

use super::queue::EventQueue;
use super::table::{Inode, Table};
use super::{CookieId, WatchEvent};

/// The watches, the cookies and the queue. The lock is never held while notify is asked for
/// something: its thread may be inside the callback, waiting for the lock.
#[derive(Debug)]
pub(super) struct WatcherShared {
    state: Mutex<WatcherState>,
    pub(super) queue: Arc<EventQueue>,
}

#[derive(Debug, Default)]
pub(super) struct WatcherState {
    pub(super) table: Table,
    /// The cookie folders; the inode is `None` when the watch on it is in doubt.
    pub(super) jars: HashMap<PathBuf, Option<Inode>>,
    /// The cookie files whose event has not come yet.
    pub(super) cookies: HashMap<PathBuf, CookieId>,
    /// Events of a notify watcher that was replaced count no more.
    pub(super) epoch: u64,
    /// Notify's thread ended by itself.
    pub(super) dead: bool,
}

impl WatcherShared {
    pub(super) fn new(queue: Arc<EventQueue>) -> Self {
        Self { state: Mutex::default(), queue }
    }

    /// A panic of another thread leaves at worst a watch that is thought to be in place and is
    /// not wanted; the table is never half-changed in a way that hides a lost one.
    pub(super) fn lock(&self) -> MutexGuard<'_, WatcherState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the watches at and below `path` in doubt and says so.
    pub(super) fn vanish(&self, state: &mut WatcherState, path: &Path) {
        for gone in state.table.vanish(path) {
            self.queue.push(WatchEvent::Gone(gone.to_path_buf()));
        }
    }

    /// Everything may have changed. Whoever receives this looks at everything later, so the
    /// cookies that are under way are answered by it: their own events may never come.
    pub(super) fn rescan(&self, state: &mut WatcherState) {
        self.queue.push(WatchEvent::Rescan);
        for (file, id) in state.cookies.drain() {
            let _ = fs::remove_file(file);
            self.queue.push(WatchEvent::Cookie(id));
        }
    }
}

/// The meaning of an event for its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// What is at the path changed: its content, mode, owner, times or links.
    Content,
    /// Something is at this path that was not there.
    Appeared,
    /// What was at this path is not there any more.
    Vanished,
}

impl Effect {
    /// `None` for what changes nothing, and for what was told already.
    fn of(kind: EventKind) -> Option<Self> {
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Self::Content),
            EventKind::Access(_) => None,
            EventKind::Create(_) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                Some(Self::Appeared)
            }
            // On Linux the two halves came before it.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) if cfg!(target_os = "linux") => {
                None
            }
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Some(Self::Vanished),
            // Also what a platform does not name.
            _ => Some(Self::Content),
        }
    }
}

/// Notify's callback.
pub(super) struct Handler {
    pub(super) shared: Arc<WatcherShared>,
    pub(super) epoch: u64,
    /// Dropped with the handler, which tells that the kernel's side is closed.
    pub(super) _alive: std::sync::mpsc::Sender<()>,
}

impl notify::EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        let mut state = self.shared.lock();
        if state.epoch != self.epoch {
            return;
        }
        match event {
            Ok(event) if event.need_rescan() => {
                // Lost events may have been removals: every watch is in doubt.
                state.table.lose_all();
                self.shared.rescan(&mut state);
            }
            Ok(event) => {
                if let Some(effect) = Effect::of(event.kind) {
                    for path in &event.paths {
                        self.happened(&mut state, path, effect);
                    }
                }
            }
            Err(error) => {
                self.shared.queue.push(WatchEvent::Failed(error.to_string()));
                state.table.lose_all();
                self.shared.rescan(&mut state);
            }
        }
    }
}

impl Handler {
    /// The path of an event is that of an entry, which its folder's watch reports, or that of a
    /// watched folder, reported by its own watch: notify does not say which, so it is both.
    fn happened(&self, state: &mut WatcherState, path: &Path, effect: Effect) {
        let (shared, Some(parent)) = (&self.shared, path.parent()) else { return };
        if state.jars.contains_key(parent) {
            if effect == Effect::Appeared
                && let Some(id) = state.cookies.remove(path)
            {
                let _ = fs::remove_file(path);
                shared.queue.push(WatchEvent::Cookie(id));
            }
            return;
        }
        let name = path.file_name().map(ToOwned::to_owned);
        // Notify knows the folder under the name that was watched last, which may be one that it
        // had before a rename.
        let names = state.table.aliases(parent);
        self.befell(state, path, effect);
        for other in names.iter().filter(|other| ***other != *parent) {
            self.befell(state, &other.join(name.as_deref().unwrap_or_default()), effect);
        }
        for dir in state.table.reported(parent) {
            let (dir, name) = (dir.to_path_buf(), name.clone());
            shared.queue.push(WatchEvent::Changed { dir, name });
        }
    }

    /// Applies an event to the watches at `path` and below it.
    fn befell(&self, state: &mut WatcherState, path: &Path, effect: Effect) {
        let shared = &self.shared;
        let elsewhere = match effect {
            // Notify takes away the watches at and below a path that it saw removed, even those
            // that were added after the removal.
            Effect::Vanished => true,
            // Mostly a folder that was watched before its own creation is told. Otherwise it is
            // not what was watched here, and the end of that may never be told: whoever has it
            // open keeps it.
            Effect::Appeared => {
                let here = || fs::symlink_metadata(path).ok().as_ref().map(Inode::from);
                state.table.leads_elsewhere(path)
                    || state.jars.get(path).is_some_and(|jar| *jar != here())
            }
            Effect::Content => false,
        };
        if elsewhere && let Some(jar) = state.jars.get_mut(path) {
            *jar = None;
            // The cookies in it may never be reported.
            shared.rescan(state);
        }
        if elsewhere {
            shared.vanish(state, path);
        } else if effect == Effect::Appeared {
            for gone in state.table.appear(path) {
                shared.queue.push(WatchEvent::Gone(gone.to_path_buf()));
            }
        } else {
            for dir in state.table.reported(path) {
                let dir = dir.to_path_buf();
                shared.queue.push(WatchEvent::Changed { dir, name: None });
            }
        }
    }
}

impl Drop for Handler {
    /// Notify's thread ends with its watcher; if it ends before, nothing is seen any more.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if state.epoch == self.epoch {
            state.dead = true;
            state.table.lose_all();
            let why = "the thread that reads file events ended".to_owned();
            self.shared.queue.push(WatchEvent::Failed(why));
            self.shared.rescan(&mut state);
        }
    }
}
