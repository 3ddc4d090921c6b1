//! A place among the work of all projects, for as long as nobody needs it more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing::info;

use super::super::queue::{Queue, Ticket, Wish, is_worth_it};
use super::work::Worker;
use crate::protocol::State;

/// The right to work.
pub(super) struct Place {
    ticket: Ticket,
    project: String,
    /// It was said that somebody waits for the end.
    wanted: AtomicBool,
}

/// What would be thrown away, and what is still to be done as far as that can be told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) lost: Duration,
    pub(super) left: Option<Duration>,
}

impl Cost {
    /// Of work that has taken `ran` for `done` of `total` steps of like size.
    pub(super) fn left_of(ran: Duration, done: u32, total: u32) -> Option<Duration> {
        (done > 0).then(|| ran * total.saturating_sub(done) / done)
    }
}

/// A wish for a place.
pub(super) fn wish(root: &Path, target_dirs: &[PathBuf], what: &'static str) -> Wish {
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
    Wish { project: root.to_owned(), name, target_dirs: target_dirs.to_vec(), what }
}

impl Place {
    /// Waits for a place; `None` if the work was given up. Who is waited for does not wait long.
    pub(super) async fn wait(queue: &Arc<Queue>, wish: &Wish, worker: &Worker) -> Option<Self> {
        let ticket = queue.enter(wish.clone());
        let place = Self { ticket, project: wish.name.clone(), wanted: AtomicBool::new(false) };
        let tell = |text: String| {
            worker.tell.send_if_modified(|doing| {
                let new = (State::Paused, text);
                let changed = *doing != new;
                *doing = new;
                changed
            });
        };
        loop {
            tokio::select! {
                biased;
                () = worker.cancel.cancelled() => return None,
                () = worker.wanted.cancelled(), if !place.is_wanted() => place.want(),
                () = place.ticket.turn(tell) => return Some(place),
            }
        }
    }

    /// Whether to give the place up for a project that matters more.
    pub(super) fn is_needed(&self, worker: &Worker, cost: impl FnOnce() -> Cost) -> bool {
        if worker.wanted.is_cancelled() {
            self.want();
            return false;
        }
        let Some(contest) = self.ticket.contest() else { return false };
        let needed = contest.must || {
            let Cost { lost, left } = cost();
            is_worth_it(lost, left)
        };
        if needed {
            info!(project = %self.project, outcome = "gave way", "{} goes first", contest.by);
        }
        needed
    }

    /// The work is done: to come back is to begin waiting anew.
    pub(super) fn served(self) {
        self.ticket.served();
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn want(&self) {
        if !self.wanted.swap(true, Ordering::Relaxed) {
            self.ticket.want();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_follows_from_what_was_done() {
        let ran = Duration::from_secs(10);
        assert_eq!(Cost::left_of(ran, 0, 5), None);
        assert_eq!(Cost::left_of(ran, 1, 5), Some(Duration::from_secs(40)));
        assert_eq!(Cost::left_of(ran, 5, 5), Some(Duration::ZERO));
        assert_eq!(Cost::left_of(ran, 6, 5), Some(Duration::ZERO));
    }
}
