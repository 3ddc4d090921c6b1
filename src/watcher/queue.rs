//! The ordered queue between the kernel's events and whoever receives them.
//!
//! Notify calls us on the one thread that also adds and removes watches. Were that thread to
//! wait for a receiver that itself waits for a watch to be added, both would wait forever. So
//! the callback never waits: it puts events here, and a thread of ours waits for the receiver.
//! Memory stays bounded because a queue that grows too long turns into one
//! [`Rescan`](WatchEvent::Rescan).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::Sender;

use super::WatchEvent;

/// Waiting changes beyond this many become a rescan. As many as the kernel's own queue keeps.
pub(super) const QUEUE_LENGTH: usize = 16_384;

/// Events in order, from any thread, never blocking the one who pushes.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<WatchEvent>,
    /// A rescan waits: every change until it is received is part of it.
    rescan: bool,
    closed: bool,
}

impl EventQueue {
    /// A queue whose events a thread of its own hands to `receiver` until either is closed.
    pub(super) fn to(receiver: Sender<WatchEvent>) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let source = Arc::clone(&queue);
        std::thread::Builder::new().name("watch-events".to_owned()).stack_size(128 * 1024).spawn(
            move || {
                while let Some(event) = source.next() {
                    if receiver.blocking_send(event).is_err() {
                        source.close();
                    }
                }
            },
        )?;
        Ok(queue)
    }

    /// Adds an event, unless one that still waits already says the same.
    pub(super) fn push(&self, event: WatchEvent) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        match event {
            // The receiver gets the rescan later than this, and scans everything after that.
            WatchEvent::Changed { .. } | WatchEvent::Rescan if waiting.rescan => return,
            WatchEvent::Changed { .. } | WatchEvent::Failed(_)
                if waiting.events.back() == Some(&event) =>
            {
                return;
            }
            WatchEvent::Changed { .. } if waiting.events.len() >= QUEUE_LENGTH => {
                waiting.events.retain(|event| !matches!(event, WatchEvent::Changed { .. }));
                // In front: a cookie that waits behind the changes must not overtake them.
                waiting.events.push_front(WatchEvent::Rescan);
                waiting.rescan = true;
            }
            WatchEvent::Rescan => {
                waiting.rescan = true;
                waiting.events.push_back(event);
            }
            event => waiting.events.push_back(event),
        }
        drop(waiting);
        self.ready.notify_one();
    }

    /// Ends the thread; what waits is dropped.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.events = VecDeque::new();
        drop(waiting);
        self.ready.notify_all();
    }

    /// The next event; waits for one, and is `None` after the close.
    fn next(&self) -> Option<WatchEvent> {
        let mut waiting = self
            .ready
            .wait_while(self.lock(), |waiting| !waiting.closed && waiting.events.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let event = waiting.events.pop_front()?;
        if event == WatchEvent::Rescan {
            waiting.rescan = false;
        }
        if waiting.events.is_empty() && waiting.events.capacity() > 1024 {
            // A burst must not keep its memory for the life of an idle daemon.
            waiting.events = VecDeque::new();
        }
        Some(event)
    }

    /// A panic between two statements of ours leaves the queue whole, so poison means nothing.
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::CookieId;
    use std::path::PathBuf;
    use std::time::Duration;

    fn changed(name: usize) -> WatchEvent {
        WatchEvent::Changed { dir: "/p".into(), name: Some(name.to_string().into()) }
    }

    fn all(queue: &EventQueue) -> Vec<WatchEvent> {
        let count = queue.lock().events.len();
        (0..count).filter_map(|_| queue.next()).collect()
    }

    #[test]
    fn only_consecutive_duplicates_are_one() {
        let queue = EventQueue::default();
        let cookie = || WatchEvent::Cookie(CookieId(1));
        for event in [changed(1), changed(1), changed(2), changed(1), cookie(), changed(1)] {
            queue.push(event);
        }
        let expected = [changed(1), changed(2), changed(1), cookie(), changed(1)];
        assert_eq!(all(&queue), expected);
    }

    #[test]
    fn too_many_changes_become_a_rescan_before_every_cookie() {
        let queue = EventQueue::default();
        let cookie = |id| WatchEvent::Cookie(CookieId(id));
        let gone = WatchEvent::Gone(PathBuf::from("/p/x"));
        queue.push(changed(0));
        queue.push(gone.clone());
        queue.push(cookie(1));
        for name in 0..2 * QUEUE_LENGTH {
            queue.push(changed(name));
        }
        queue.push(WatchEvent::Rescan);
        queue.push(cookie(2));
        queue.push(changed(1));
        assert_eq!(all(&queue), [WatchEvent::Rescan, gone, cookie(1), cookie(2)]);
        queue.push(changed(1));
        assert_eq!(all(&queue), [changed(1)], "changes count again once the rescan is received");
    }

    #[test]
    fn a_closed_queue_gives_and_takes_nothing() {
        let queue = EventQueue::default();
        queue.push(changed(0));
        queue.close();
        queue.push(changed(1));
        assert_eq!(queue.next(), None);
    }

    #[test]
    fn a_receiver_that_is_gone_closes_the_queue() {
        let (send, receive) = tokio::sync::mpsc::channel(1);
        let queue = EventQueue::to(send).unwrap();
        drop(receive);
        queue.push(changed(0));
        let waiting = queue
            .ready
            .wait_timeout_while(queue.lock(), Duration::from_secs(20), |waiting| !waiting.closed)
            .unwrap();
        assert!(waiting.0.closed);
    }
}
