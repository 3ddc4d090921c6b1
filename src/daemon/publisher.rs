//! Uploads what was proven to the shared store, one after the other, in the background.

use std::collections::VecDeque;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{info, warn};

use super::sync::lock;
use crate::model::Digest;
use crate::shared::{Publication, SharedError, StoreFinding};

/// How many publications wait at most: one more drops the oldest.
const WAITING: usize = 64;

/// How often a publication is tried.
const ATTEMPTS: u32 = 8;

/// The pause after a failure, doubled after each further one: the store is left alone for that long.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(31);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(31 * 60);

/// The publications that wait.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    queue: Mutex<PublicationQueue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct PublicationQueue {
    waiting: VecDeque<PendingPublication>,
    /// How many were given up.
    lost: usize,
    /// Why the last attempt failed.
    failure: Option<String>,
}

/// One that waits.
#[derive(Clone, Debug)]
pub(super) struct PendingPublication {
    /// The workspace that it is about.
    pub(super) workspace_root: PathBuf,
    /// What is published.
    pub(super) publication: Publication,
    attempts: u32,
}

impl Publisher {
    /// Has something published.
    pub(super) fn push(&self, workspace_root: PathBuf, publication: Publication) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() == WAITING {
            queue.waiting.pop_front();
            queue.lost += 1;
            warn!("too much waits for the shared store: the oldest is not published");
        }
        queue.waiting.push_back(PendingPublication { workspace_root, publication, attempts: 0 });
        self.wake.notify_one();
    }

    /// Publishes with `publish` whatever is pushed, until this is dropped.
    pub(super) async fn run<F: Future<Output = Result<usize, SharedError>>>(
        &self,
        first_pause: Duration,
        publish: impl Fn(PendingPublication) -> F,
    ) {
        let mut pause = first_pause;
        loop {
            let next = lock(&self.queue).waiting.front().cloned();
            let Some(next) = next else {
                self.wake.notified().await;
                continue;
            };
            let (of, project) = (next.publication.place.tree, next.workspace_root.clone());
            let project = project.display();
            match publish(next).await {
                Ok(records) => {
                    info!(%project, records, "published");
                    self.ended(of, None);
                    pause = first_pause;
                }
                Err(SharedError::Config(why)) => {
                    warn!(%project, %why, "not published");
                    self.ended(of, Some(why));
                }
                Err(SharedError::Store(why)) => {
                    warn!(%project, %why, seconds = pause.as_secs(), "not published: tried again");
                    self.failed(why);
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// The first one is done with, unless it was dropped meanwhile.
    fn ended(&self, tree: Digest, failure: Option<String>) {
        let mut queue = lock(&self.queue);
        queue.lost += usize::from(failure.is_some());
        queue.failure = failure;
        if queue.waiting.front().is_some_and(|first| first.publication.place.tree == tree) {
            queue.waiting.pop_front();
        }
    }

    /// The first one failed: it is tried again after the others, or given up.
    fn failed(&self, why: String) {
        let mut queue = lock(&self.queue);
        queue.failure = Some(why);
        let Some(mut first) = queue.waiting.pop_front() else { return };
        first.attempts += 1;
        if first.attempts < ATTEMPTS {
            queue.waiting.push_back(first);
        } else {
            queue.lost += 1;
        }
    }

    /// What waits or was given up, for `doctor`.
    pub(super) fn findings(&self) -> Vec<StoreFinding> {
        let queue = lock(&self.queue);
        let why = queue.failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let mut findings = Vec::new();
        if !queue.waiting.is_empty() {
            let (is_good, waiting) = (queue.failure.is_none(), queue.waiting.len());
            findings.push(StoreFinding { is_good, what: format!("{waiting} uploads wait{why}") });
        }
        if queue.lost > 0 {
            let what = format!("{} uploads were given up{why}", queue.lost);
            findings.push(StoreFinding { is_good: false, what });
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::{BundlePlace, Subject};

    fn publication(number: usize) -> Publication {
        let digest = Digest::of(number.to_string().as_bytes());
        let subject = Subject { project: digest, host: String::new() };
        let project = "project".to_owned();
        let place = BundlePlace { project, tree: digest, latest: digest, subject };
        Publication { place, records: Vec::new() }
    }

    /// Runs until as many attempts have been made as there are results; what was tried.
    async fn attempts(
        publisher: &Publisher,
        results: Vec<Result<usize, SharedError>>,
    ) -> Vec<Publication> {
        let (results, tried) = (Mutex::new(VecDeque::from(results)), Mutex::new(Vec::new()));
        let done = Notify::new();
        let run = publisher.run(Duration::ZERO, |next| {
            let result = lock(&results).pop_front();
            if result.is_some() {
                lock(&tried).push(next.publication);
            } else {
                done.notify_one();
            }
            async move {
                match result {
                    Some(result) => result,
                    None => std::future::pending().await,
                }
            }
        });
        let idle = async {
            while !lock(&results).is_empty() {
                tokio::task::yield_now().await;
            }
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = run => {}
            () = idle => {}
            () = done.notified() => {}
        }
        tried.into_inner().unwrap()
    }

    fn off() -> Result<usize, SharedError> {
        Err(SharedError::Store("off".to_owned()))
    }

    #[tokio::test]
    async fn what_a_store_does_not_take_is_tried_again_after_the_others() {
        let publisher = Publisher::default();
        publisher.push("/w".into(), publication(1));
        publisher.push("/w".into(), publication(2));
        let tried = attempts(&publisher, vec![off(), Ok(1), Ok(1)]).await;
        assert_eq!(tried, [1, 2, 1].map(publication));
        assert_eq!(publisher.findings(), []);
    }

    #[tokio::test]
    async fn it_is_given_up_in_the_end_and_told() {
        let publisher = Publisher::default();
        publisher.push("/w".into(), publication(1));
        attempts(&publisher, vec![off()]).await;
        let waits = StoreFinding { is_good: false, what: "1 uploads wait: off".to_owned() };
        assert_eq!(publisher.findings(), [waits]);
        let tried = attempts(&publisher, (1..ATTEMPTS).map(|_| off()).collect()).await;
        assert_eq!(tried.len(), ATTEMPTS as usize - 1);
        let lost = StoreFinding { is_good: false, what: "1 uploads were given up: off".to_owned() };
        assert_eq!(publisher.findings(), [lost]);
    }

    #[tokio::test]
    async fn what_the_config_forbids_is_tried_once() {
        let publisher = Publisher::default();
        publisher.push("/w".into(), publication(1));
        let forbidden = Err(SharedError::Config("no key".to_owned()));
        assert_eq!(attempts(&publisher, vec![forbidden]).await.len(), 1);
        let what = "1 uploads were given up: no key".to_owned();
        assert_eq!(publisher.findings(), [StoreFinding { is_good: false, what }]);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_keeps_the_newest() {
        let publisher = Publisher::default();
        (0..WAITING + 5).for_each(|number| publisher.push("/w".into(), publication(number)));
        let results = (0..WAITING).map(|_| Ok(1)).collect();
        let tried = attempts(&publisher, results).await;
        assert_eq!(tried, (5..WAITING + 5).map(publication).collect::<Vec<_>>());
        let what = "5 uploads were given up".to_owned();
        assert_eq!(publisher.findings(), [StoreFinding { is_good: false, what }]);
    }
}
