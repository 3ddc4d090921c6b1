//! Looks at what git does before anything is begun.

use std::time::Instant;

use tracing::{info, warn};

use super::actor::Actor;
use super::calm::{Advice, Sight};
use crate::workspace::Repository;

impl Actor {
    /// Whether git is writing to the tree just now: what it leaves is one batch.
    pub(super) fn git_writes(&mut self) -> bool {
        let sight = self.look_at_git();
        let was_stale = self.calm.is_stale();
        let writes = self.calm.may_read(sight, Instant::now()) != Advice::Begin;
        self.warn_of_lock(was_stale);
        writes
    }

    /// Whether git is in the middle of something, so that nothing is begun ahead of a question.
    pub(super) fn git_has_the_floor(&mut self) -> bool {
        let sight = self.look_at_git();
        let (was_stale, before) = (self.calm.is_stale(), self.calm.reason().map(str::to_owned));
        let advice = self.calm.may_work(sight, self.changed, Instant::now());
        self.warn_of_lock(was_stale);
        match advice {
            Advice::Begin => false,
            Advice::Wait(reason) => {
                if before.as_ref() != Some(&reason) {
                    info!(project = %self.root.display(), %reason, "nothing is begun");
                }
                true
            }
        }
    }

    fn look_at_git(&self) -> Sight {
        match Repository::around(&self.root) {
            Some(git) => Sight { lock: git.lock(), operation: git.under_way() },
            None => Sight::default(),
        }
    }

    fn warn_of_lock(&self, was_stale: bool) {
        if self.calm.is_stale() && !was_stale {
            warn!(project = %self.root.display(), "git's `index.lock` seems to be left behind: going on");
        }
    }
}
