//! Uploads what was proven to the shared store, one after the other, in the background.
//!
//! What waits lies in files, so that the next daemon uploads what this one has not.

use std::collections::VecDeque;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use super::sync::lock;
use crate::model::{OsText, Timestamp};
use crate::paths::create_private_folder;
use crate::shared::{Publication, SharedError, StoreFinding};

/// How many publications wait at most: one more drops the oldest.
const WAITING: usize = 64;

/// How often a publication is tried.
const ATTEMPTS: u32 = 8;

/// The pause after a failure, doubled after each further one: the store is left alone for that long.
pub(super) const FIRST_UPLOAD_PAUSE: Duration = Duration::from_secs(31);

/// The longest pause.
const LONGEST_UPLOAD_PAUSE: Duration = Duration::from_secs(31 * 60);

/// The publications that wait.
#[derive(Debug)]
pub(super) struct Publisher {
    queue: Mutex<PublicationQueue>,
    wake: Notify,
    /// The folder of the files.
    dir: PathBuf,
}

#[derive(Debug, Default)]
struct PublicationQueue {
    waiting: VecDeque<PendingPublication>,
    /// How many files were written.
    written: usize,
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
    /// Its file; one that could not be written is lost with this daemon.
    file: PathBuf,
    attempts: u32,
}

/// One as its file has it.
#[derive(Serialize, Deserialize)]
struct SavedPublication {
    workspace_root: OsText,
    publication: Publication,
}

impl PendingPublication {
    fn save(&self) -> io::Result<()> {
        let Self { workspace_root, publication, file, .. } = self;
        let (workspace_root, publication) = (OsText::from(workspace_root), publication.clone());
        let text = serde_json::to_vec(&SavedPublication { workspace_root, publication })?;
        create_private_folder(file.parent().unwrap_or(file))?;
        fs::write(file, text)
    }

    fn load(file: PathBuf) -> Option<Self> {
        let saved = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        let SavedPublication { workspace_root, publication } = saved;
        Some(Self { workspace_root: workspace_root.0.into(), publication, file, attempts: 0 })
    }

    /// It waits no longer.
    fn forget(&self) {
        // Without its folder it is forgotten already: the records were cleared.
        let _ = fs::remove_file(&self.file);
    }
}

impl Publisher {
    /// Has what an earlier daemon left in this folder published, and all else that comes.
    pub(super) fn new(dir: PathBuf) -> Self {
        let queue = PublicationQueue { waiting: saved_in(&dir), ..PublicationQueue::default() };
        Self { queue: Mutex::new(queue), wake: Notify::new(), dir }
    }

    /// Has something published.
    pub(super) fn push(&self, workspace_root: PathBuf, publication: Publication) {
        let mut queue = lock(&self.queue);
        if queue.waiting.len() == WAITING
            && let Some(oldest) = queue.waiting.pop_front()
        {
            oldest.forget();
            queue.lost += 1;
            warn!("too much waits for the shared store: the oldest is not published");
        }
        queue.written += 1;
        // In the order of their names, they are in that of time.
        let name = format!("{:014}-{:06}.json", Timestamp::now().0, queue.written);
        let file = self.dir.join(name);
        let pending = PendingPublication { workspace_root, publication, file, attempts: 0 };
        if let Err(error) = pending.save() {
            debug!(%error, "an upload that waits is lost if the daemon stops");
        }
        queue.waiting.push_back(pending);
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
            let (of, project) = (next.file.clone(), next.workspace_root.clone());
            let project = project.display();
            match publish(next).await {
                Ok(records) => {
                    info!(%project, records, "published");
                    self.ended(&of, None);
                    pause = first_pause;
                }
                Err(SharedError::Config(why)) => {
                    warn!(%project, %why, "not published");
                    self.ended(&of, Some(why));
                }
                Err(SharedError::Store(why)) => {
                    warn!(%project, %why, seconds = pause.as_secs(), "not published: tried again");
                    self.failed(why);
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(LONGEST_UPLOAD_PAUSE);
                }
            }
        }
    }

    /// The first one is done with, unless it was dropped meanwhile.
    fn ended(&self, of: &Path, failure: Option<String>) {
        let mut queue = lock(&self.queue);
        queue.lost += usize::from(failure.is_some());
        queue.failure = failure;
        if queue.waiting.front().is_some_and(|first| first.file == of)
            && let Some(first) = queue.waiting.pop_front()
        {
            first.forget();
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
            first.forget();
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

/// What an earlier daemon left, the oldest first, as far as it may wait.
fn saved_in(dir: &Path) -> VecDeque<PendingPublication> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    let mut waiting = VecDeque::new();
    for file in files.split_off(files.len().saturating_sub(WAITING)) {
        match PendingPublication::load(file.clone()) {
            Some(pending) => waiting.push_back(pending),
            // It was not written to the end, or by another version.
            None => files.push(file),
        }
    }
    for file in files {
        let _ = fs::remove_file(file);
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;
    use crate::shared::{BundlePlace, BundleSubject};

    fn publication(number: usize) -> Publication {
        let digest = Digest::of(number.to_string().as_bytes());
        let subject = BundleSubject { project: digest, host: String::new() };
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
        let dir = tempfile::tempdir().unwrap();
        let publisher = Publisher::new(dir.path().join("waiting"));
        publisher.push("/w".into(), publication(1));
        publisher.push("/w".into(), publication(2));
        let tried = attempts(&publisher, vec![off(), Ok(1), Ok(1)]).await;
        assert_eq!(tried, [1, 2, 1].map(publication));
        assert_eq!(publisher.findings(), []);
    }

    #[tokio::test]
    async fn it_is_given_up_in_the_end_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = Publisher::new(dir.path().join("waiting"));
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
        let dir = tempfile::tempdir().unwrap();
        let publisher = Publisher::new(dir.path().join("waiting"));
        publisher.push("/w".into(), publication(1));
        let forbidden = Err(SharedError::Config("no key".to_owned()));
        assert_eq!(attempts(&publisher, vec![forbidden]).await.len(), 1);
        let what = "1 uploads were given up: no key".to_owned();
        assert_eq!(publisher.findings(), [StoreFinding { is_good: false, what }]);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = Publisher::new(dir.path().join("waiting"));
        (0..WAITING + 5).for_each(|number| publisher.push("/w".into(), publication(number)));
        let results = (0..WAITING).map(|_| Ok(1)).collect();
        let tried = attempts(&publisher, results).await;
        assert_eq!(tried, (5..WAITING + 5).map(publication).collect::<Vec<_>>());
        let what = "5 uploads were given up".to_owned();
        assert_eq!(publisher.findings(), [StoreFinding { is_good: false, what }]);
    }

    #[tokio::test]
    async fn what_a_daemon_has_not_uploaded_the_next_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("waiting");
        let files = || fs::read_dir(&folder).unwrap().count();
        let stopped = Publisher::new(folder.clone());
        (0..3).for_each(|number| stopped.push("/w".into(), publication(number)));
        assert_eq!(attempts(&stopped, vec![Ok(1), off()]).await, [0, 1].map(publication));
        drop(stopped);
        assert_eq!(files(), 2);
        // One that was not written to the end.
        fs::write(folder.join("00000000000000-000001.json"), "{").unwrap();
        let next = Publisher::new(folder.clone());
        next.push("/other".into(), publication(3));
        let tried = attempts(&next, vec![Ok(1), Ok(1), Ok(1)]).await;
        assert_eq!(tried, [1, 2, 3].map(publication));
        assert_eq!((files(), next.findings()), (0, Vec::new()));
    }

    #[test]
    fn no_more_is_taken_over_than_may_wait() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..2 {
            let publisher = Publisher::new(dir.path().join(number.to_string()));
            (0..WAITING).for_each(|at| publisher.push("/w".into(), publication(at)));
        }
        let (from, to) = (dir.path().join("0"), dir.path().join("1"));
        for entry in fs::read_dir(from).unwrap().flatten() {
            let name = format!("0{}", entry.file_name().to_str().unwrap());
            fs::rename(entry.path(), to.join(name)).unwrap();
        }
        let publisher = Publisher::new(to.clone());
        assert_eq!(lock(&publisher.queue).waiting.len(), WAITING);
        assert_eq!(fs::read_dir(to).unwrap().count(), WAITING);
    }
}
