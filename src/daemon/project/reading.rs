//! Brings the project's tree up to date, and opens and closes it.

use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info, warn};

use super::super::lock;
use super::actor::Actor;
use super::inbox::Taken;
use super::tree::WatchedTree;
use crate::protocol::State;
use crate::verdict::{Facts, ProjectFiles, Question, Refresh};
use crate::watcher::PollReason;

/// So many barriers may leave watches in doubt before the tree is read as if there were none.
const BARRIERS: usize = 5;

/// How far events are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// What no event told is as it was.
    Events,
    /// Folders are watched, but every file is looked at.
    Folders,
    /// The watches themselves are in doubt.
    Nothing,
}

impl Actor {
    /// Brings the tree up to what it was when a barrier was passed (`seen`), or later; with no
    /// barrier, to what it is now.
    pub(super) async fn catch_up(&mut self, mut seen: bool) {
        for _ in 0..BARRIERS {
            if !seen {
                break;
            }
            self.refresh(Trust::Events).await;
            if !lock(&self.shared.watcher).in_doubt() {
                return;
            }
            // To deal with events can bring up more: a folder that was replaced while its parent
            // had no watch.
            seen = self.shared.barrier().await;
        }
        self.refresh(Trust::Nothing).await;
    }

    /// Brings the tree up to date.
    pub(super) async fn refresh(&mut self, trust: Trust) {
        if self.tree.as_ref().is_some_and(|tree| !tree.is_in_place()) {
            info!(project = %self.root.display(), "the project's folder is gone or another one");
            self.drop_tree().await;
        }
        if self.tree.is_none() {
            self.open_tree().await;
        }
        let Some(mut tree) = self.tree.take() else { return };
        self.debounce.flush();
        let taken = self.inbox.take();
        let all = |doubt| Some(Taken { refresh: Refresh::All, doubt });
        let how = match trust {
            Trust::Events => taken,
            Trust::Folders => all(taken.is_some_and(|taken| taken.doubt)),
            Trust::Nothing => all(true),
        };
        if how.is_some() || tree.blind().is_some() {
            self.set_state(State::Hashing, None);
        }
        // Reading takes long in a large tree, and other projects have questions too.
        let refreshed = tokio::task::spawn_blocking(move || {
            let memo_is_old = tree.refresh(how);
            (tree, memo_is_old)
        });
        match refreshed.await {
            Ok((tree, memo_is_old)) => {
                self.memo_is_old |= memo_is_old;
                match tree.blind() {
                    Some(_) => {
                        self.polling.add(&self.root, PollReason::Unwatched, Instant::now());
                    }
                    None => {
                        self.polling.remove(&self.root);
                    }
                }
                self.tree = Some(tree);
            }
            // A panic in the hasher: the tree is gone with it, and the next refresh starts anew.
            Err(error) => warn!(project = %self.root.display(), %error, "reading the tree failed"),
        }
    }

    /// Makes the tree that of this question, and reads it anew if that is another one.
    pub(super) async fn follow(&mut self, question: &Question, facts: &Facts) {
        if self.tree.as_mut().is_some_and(|tree| tree.follow(question, facts)) {
            debug!(project = %self.root.display(), "another environment: reading everything again");
            self.refresh(Trust::Events).await;
        }
    }

    /// Makes the tree of a project that has none, if its folder is there.
    pub(super) async fn open_tree(&mut self) {
        let question = self.own_question();
        let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.inbox));
        let root = self.root.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let facts = Facts::gather(&question, &shared.paths.cache_dir)
                .map_err(|error| error.to_string())?;
            let mut scope =
                ProjectFiles::new(&question, &facts).map_err(|error| error.to_string())?;
            scope.load_memo(&scope.memo_file(&shared.paths.cache_dir));
            WatchedTree::new(&root, scope, Arc::clone(&shared.watcher), inbox)
                .map_err(|error| format!("cannot open {}: {error}", root.display()))
        });
        let opened = opened.await.unwrap_or_else(|error| Err(error.to_string()));
        match opened {
            Ok(tree) => {
                self.trouble = None;
                self.polling.remove(&self.root);
                self.tree = Some(tree);
                // Everything is new.
                self.inbox.lost_track();
            }
            Err(trouble) => {
                if self.trouble.as_ref() != Some(&trouble) {
                    warn!(project = %self.root.display(), reason = %trouble, "the project cannot be watched");
                }
                self.trouble = Some(trouble);
                self.polling.add(&self.root, PollReason::Missing, Instant::now());
            }
        }
    }

    /// Gives up the tree and its watches.
    pub(super) async fn drop_tree(&mut self) {
        self.marks.clear();
        if let Some(tree) = self.tree.take() {
            // Thousands of watches take their time.
            let _ = tokio::task::spawn_blocking(move || drop(tree)).await;
        }
    }

    /// Writes the memo of digests if it lacks some. Its loss costs time, never an answer.
    pub(super) async fn save_memo(&mut self) {
        if !std::mem::take(&mut self.memo_is_old) {
            return;
        }
        let Some(tree) = self.tree.take() else { return };
        let cache_dir = self.shared.paths.cache_dir.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let mut tree = tree;
            let file = tree.scope().memo_file(&cache_dir);
            let result = tree.scope_mut().save_memo(&file);
            // Seldom, and after a look at very much of the tree.
            crate::process::trim_memory();
            (tree, result)
        });
        if let Ok((tree, result)) = saved.await {
            self.tree = Some(tree);
            if let Err(error) = result {
                warn!(project = %self.root.display(), %error, "cannot keep the memo of digests");
            }
        }
    }
}
