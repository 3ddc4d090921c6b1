//! One queue for the background work of all projects: the one being edited first, then those that
//! were asked about, then the rest, and nobody for ever last.
//!
//! The order is a matter of [`order`]; here is only the waiting.

mod order;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::order::{Id, Order, Turn};
use super::lock;

pub(super) use self::order::{Contest, Wish, is_worth_it};

/// How often one that waits looks whether it has waited too long: no event tells of that.
const LOOK: Duration = Duration::from_secs(15);

/// The queue of one daemon.
#[derive(Debug)]
pub(super) struct Queue {
    order: Mutex<Order>,
    /// Rings when someone may have moved up.
    moved: watch::Sender<()>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { order: Mutex::default(), moved: watch::Sender::new(()) }
    }
}

impl Queue {
    /// A file of the project was edited.
    pub(super) fn edited(&self, project: &Path) {
        self.change(|order| order.edited(project, Instant::now()));
    }

    /// Somebody asked about the project.
    pub(super) fn asked(&self, project: &Path) {
        self.change(|order| order.asked(project, Instant::now()));
    }

    /// The project has left the config.
    pub(super) fn forget(&self, project: &Path) {
        self.change(|order| order.forget(project));
    }

    /// Enters the queue; one leaves it by dropping the ticket.
    pub(super) fn enter(self: &Arc<Self>, wish: Wish) -> Ticket {
        let id = self.change(|order| order.enter(wish, Instant::now()));
        Ticket { queue: Arc::clone(self), id, served: false }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Order) -> T) -> T {
        let result = change(&mut lock(&self.order));
        self.moved.send_replace(());
        result
    }
}

/// A place in the queue, and then the right to work.
#[derive(Debug)]
pub(super) struct Ticket {
    queue: Arc<Queue>,
    id: Id,
    served: bool,
}

impl Ticket {
    /// Waits for one's turn and says meanwhile where one stands. Safe to drop: one stays where
    /// one is.
    pub(super) async fn turn(&self, mut tell: impl FnMut(String)) {
        let mut moved = self.queue.moved.subscribe();
        loop {
            moved.mark_unchanged();
            let turn = lock(&self.queue.order).turn(self.id, Instant::now());
            match turn {
                Turn::Now => return,
                Turn::Later { position, behind } => tell(waits(position, behind.as_deref())),
            }
            // The sender lives as long as the queue; whoever is late only looks once more.
            let _ = tokio::time::timeout(LOOK, moved.changed()).await;
        }
    }

    /// Somebody waits for the end of this.
    pub(super) fn want(&self) {
        self.queue.change(|order| order.want(self.id));
    }

    /// Who matters more and waits for this.
    pub(super) fn contest(&self) -> Option<Contest> {
        lock(&self.queue.order).contest(self.id, Instant::now())
    }

    /// The work is done.
    pub(super) fn served(mut self) {
        self.served = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let (id, served) = (self.id, self.served);
        self.queue.change(|order| order.leave(id, served, Instant::now()));
    }
}

/// For `status`.
fn waits(position: usize, behind: Option<&str>) -> String {
    let ordinal = match (position % 10, position % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    let behind = behind.unwrap_or("another project's build");
    format!("waiting for {behind} ({position}{ordinal} in the queue)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: &str) -> Wish {
        let project = Path::new("/").join(name);
        let target_dirs = vec![project.join("target")];
        Wish { project, name: name.to_owned(), target_dirs, what: "build" }
    }

    #[test]
    fn places_are_told_as_people_count() {
        assert_eq!(waits(2, Some("p's build")), "waiting for p's build (2nd in the queue)");
        let nth = |position| waits(position, None);
        let ends = [(1, "1st"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st")];
        for (position, word) in ends {
            assert!(nth(position).contains(&format!("({word} in")), "{}", nth(position));
        }
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_whoever_goes() {
        let queue = Arc::new(Queue::default());
        let first = queue.enter(wish("a"));
        first.turn(|_| panic!("nobody is in the way")).await;
        let second = queue.enter(wish("b"));
        let (tell, mut told) = watch::channel(String::new());
        let waiting = tokio::spawn(async move {
            second.turn(|text| drop(tell.send_replace(text))).await;
            second
        });
        told.changed().await.unwrap();
        assert_eq!(*told.borrow(), "waiting for a's build (1st in the queue)");
        first.served();
        let second = tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        assert_eq!(second.contest(), None);
        // What goes back gives the place to the one that is being edited.
        let third = queue.enter(wish("c"));
        queue.edited(Path::new("/c"));
        assert_eq!(second.contest(), Some(Contest { by: "c".to_owned(), must: false }));
        drop(second);
        third.turn(|_| {}).await;
        assert_eq!(third.contest(), None);
    }
}
