//! A client that is told of changes. It is told what fits into its queue: one that does not read is
//! dropped, and nobody waits for it.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::protocol::StreamEvent;

/// How many batches of events may wait for a client to read.
const WAITING_BATCHES: usize = 1024;

/// Events that are told together.
pub(super) type Batch = Arc<[StreamEvent]>;

/// The sending side, of which every project has one.
#[derive(Clone, Debug)]
pub(super) struct Subscriber {
    batches: mpsc::Sender<Batch>,
    dropped: CancellationToken,
}

/// The receiving side, held by the connection.
#[derive(Debug)]
pub(super) struct Subscription {
    batches: mpsc::Receiver<Batch>,
    dropped: CancellationToken,
}

/// Both sides of a client's queue.
pub(super) fn subscribe() -> (Subscriber, Subscription) {
    let (tell, batches) = mpsc::channel(WAITING_BATCHES);
    let dropped = CancellationToken::new();
    let subscriber = Subscriber { batches: tell, dropped: dropped.clone() };
    (subscriber, Subscription { batches, dropped })
}

impl Subscriber {
    /// Tells a batch. A client that has no room for it is dropped.
    pub(super) fn tell(&self, batch: Batch) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.batches.try_send(batch) {
            self.dropped.cancel();
        }
    }

    /// Whether nobody will be told any more.
    pub(super) fn is_gone(&self) -> bool {
        self.dropped.is_cancelled() || self.batches.is_closed()
    }
}

impl Subscription {
    /// The next batch; none for a client that is dropped, or when nobody is left to tell it
    /// anything.
    pub(super) async fn next(&mut self) -> Option<Batch> {
        tokio::select! {
            biased;
            () = self.dropped.cancelled() => None,
            batch = self.batches.recv() => batch,
        }
    }

    /// Fires when the client is dropped.
    pub(super) fn dropped(&self) -> CancellationToken {
        self.dropped.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_does_not_read_is_dropped_and_nobody_waits() {
        let (subscriber, mut subscription) = subscribe();
        let batch: Batch = [StreamEvent::Synced].into();
        for _ in 0..WAITING_BATCHES {
            subscriber.tell(Arc::clone(&batch));
            assert!(!subscriber.is_gone());
        }
        subscriber.tell(batch);
        assert!(subscriber.is_gone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(runtime.block_on(subscription.next()).is_none(), "what waits is not told late");
    }
}
