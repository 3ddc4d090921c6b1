//! Uploads what was proven to the shared store, one after the other, in the background.
//!
//! Each publication waits in a file, so that the next daemon uploads what this one has not. The queue
//! has one owner, which writes and removes these files on a thread where blocking holds up nobody.

use std::collections::VecDeque;
use std::fs;
use std::future::{Future, pending, ready};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use super::sync::off_thread;
use crate::model::{OsText, Timestamp};
use crate::paths::create_private_folder;
use crate::shared::{Publication, SharedError, StoreFinding};

/// How many publications wait at most: one more drops the oldest.
const WAITING: usize = 64;

/// How often a publication is tried.
const ATTEMPTS: u32 = 8;

/// The pause after a failure, doubled after each further one: the store is left alone for that long.
const FIRST_UPLOAD_PAUSE: Duration = Duration::from_secs(31);

/// The longest pause.
const LONGEST_UPLOAD_PAUSE: Duration = Duration::from_secs(31 * 60);

/// Hands publications to the [`PublicationQueue`], and tells what became of them.
#[derive(Debug)]
pub(super) struct Publisher {
    arrivals: mpsc::UnboundedSender<PushedPublication>,
    progress: watch::Receiver<UploadProgress>,
}

/// The publications that wait.
#[derive(Debug)]
pub(super) struct PublicationQueue {
    arrivals: mpsc::UnboundedReceiver<PushedPublication>,
    waiting: VecDeque<PendingPublication>,
    /// How many files were named.
    named: usize,
    /// The folder of the files.
    dir: PathBuf,
    progress: watch::Sender<UploadProgress>,
}

/// A publication that is not in the queue yet.
#[derive(Debug)]
struct PushedPublication {
    workspace_root: PathBuf,
    publication: Publication,
    /// Fires once its file is written, or cannot be.
    queued: oneshot::Sender<()>,
}

/// What `doctor` tells of the queue.
#[derive(Clone, Debug, Default)]
struct UploadProgress {
    /// How many publications wait.
    waiting: usize,
    /// How many were given up.
    lost: usize,
    /// Why the last attempt failed.
    failure: Option<String>,
}

/// A publication that waits.
#[derive(Clone, Debug)]
pub(super) struct PendingPublication {
    /// The workspace that it is about.
    pub(super) workspace_root: PathBuf,
    /// What is published.
    pub(super) publication: Publication,
    /// Its file; a publication whose file could not be written is lost with this daemon.
    file: PathBuf,
    attempts: u32,
}

/// A publication as its file has it.
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

    /// Removes its file: it waits no longer.
    fn forget(&self) {
        // Without its folder it is forgotten already: the records were cleared.
        let _ = fs::remove_file(&self.file);
    }
}

impl Publisher {
    /// A publisher, and its queue of what has files in `dir`. Nothing is published before
    /// [`PublicationQueue::run`].
    pub(super) fn new(dir: PathBuf) -> (Self, PublicationQueue) {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let progress = watch::Sender::new(UploadProgress::default());
        let publisher = Self { arrivals: sender, progress: progress.subscribe() };
        let waiting = VecDeque::new();
        (publisher, PublicationQueue { arrivals, waiting, named: 0, dir, progress })
    }

    /// Has something published. What is returned ends once the next daemon would find it too, or the
    /// queue is gone.
    pub(super) fn push(
        &self,
        workspace_root: PathBuf,
        publication: Publication,
    ) -> oneshot::Receiver<()> {
        let (queued, is_queued) = oneshot::channel();
        // The daemon may be stopping.
        let _ = self.arrivals.send(PushedPublication { workspace_root, publication, queued });
        is_queued
    }

    /// What waits or was given up, for `doctor`.
    pub(super) fn findings(&self) -> Vec<StoreFinding> {
        let UploadProgress { waiting, lost, failure } = self.progress.borrow().clone();
        let why = failure.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let mut findings = Vec::new();
        if waiting > 0 {
            let is_good = failure.is_none();
            findings.push(StoreFinding { is_good, what: format!("{waiting} uploads wait{why}") });
        }
        if lost > 0 {
            let what = format!("{lost} uploads were given up{why}");
            findings.push(StoreFinding { is_good: false, what });
        }
        findings
    }
}

impl PublicationQueue {
    /// Publishes with `publish` what an earlier daemon has left, and whatever is pushed, until this is
    /// dropped.
    pub(super) async fn run<F: Future<Output = Result<usize, SharedError>>>(
        mut self,
        publish: impl Fn(PendingPublication) -> F,
    ) {
        self.load().await;
        let mut pause = FIRST_UPLOAD_PAUSE;
        loop {
            pause = self.publish_next(&publish, FIRST_UPLOAD_PAUSE, pause).await;
        }
    }

    /// Takes over what an earlier daemon has left.
    async fn load(&mut self) {
        let dir = self.dir.clone();
        self.waiting = off_thread(move || saved_in(&dir)).await;
        self.tell(|_| {});
    }

    /// Waits for a publication, publishes it, and pauses for `pause` if the store does not take it; the
    /// pause after the next failure.
    async fn publish_next<F: Future<Output = Result<usize, SharedError>>>(
        &mut self,
        publish: impl Fn(PendingPublication) -> F,
        first_pause: Duration,
        pause: Duration,
    ) -> Duration {
        let next = self.next().await;
        let (file, project) = (next.file.clone(), next.workspace_root.clone());
        let project = project.display();
        match self.queue_during(publish(next)).await {
            Ok(records) => {
                info!(%project, records, "published");
                self.ended(&file, None).await;
                first_pause
            }
            Err(SharedError::Config(why)) => {
                warn!(%project, %why, "not published");
                self.ended(&file, Some(why)).await;
                pause
            }
            Err(SharedError::Store(why)) => {
                warn!(%project, %why, seconds = pause.as_secs(), "not published: tried again");
                self.failed(why).await;
                self.queue_during(tokio::time::sleep(pause)).await;
                pause.saturating_mul(2).min(LONGEST_UPLOAD_PAUSE)
            }
        }
    }

    /// The first of the queue, once there is one.
    async fn next(&mut self) -> PendingPublication {
        loop {
            // All that has arrived by now: it may drop the oldest.
            self.queue_during(ready(())).await;
            if let Some(first) = self.waiting.front() {
                return first.clone();
            }
            match self.arrivals.recv().await {
                Some(arrival) => self.queue(arrival).await,
                None => pending().await,
            }
        }
    }

    /// Waits for something else, and meanwhile queues what arrives.
    async fn queue_during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                biased;
                Some(arrival) = self.arrivals.recv() => self.queue(arrival).await,
                result = &mut other => return result,
            }
        }
    }

    async fn queue(
        &mut self,
        PushedPublication { workspace_root, publication, queued }: PushedPublication,
    ) {
        let is_full = self.waiting.len() == WAITING;
        let oldest = is_full.then(|| self.waiting.pop_front()).flatten();
        if oldest.is_some() {
            warn!("too much waits for the shared store: the oldest is not published");
        }
        self.named += 1;
        // In the order of their names, they are in that of time.
        let name = format!("{:014}-{:06}.json", Timestamp::now().0, self.named);
        let file = self.dir.join(name);
        let pending = PendingPublication { workspace_root, publication, file, attempts: 0 };
        let lost = usize::from(oldest.is_some());
        let pending = off_thread(move || {
            if let Some(oldest) = oldest {
                oldest.forget();
            }
            if let Err(error) = pending.save() {
                debug!(%error, "an upload that waits is lost if the daemon stops");
            }
            pending
        });
        self.waiting.push_back(pending.await);
        self.tell(|progress| progress.lost += lost);
        // Nobody may be waiting for it.
        let _ = queued.send(());
    }

    /// The first one is done with, unless it was dropped meanwhile.
    async fn ended(&mut self, file: &Path, failure: Option<String>) {
        if self.waiting.front().is_some_and(|first| first.file == file) {
            self.forget_first().await;
        }
        self.tell(|progress| {
            progress.lost += usize::from(failure.is_some());
            progress.failure = failure;
        });
    }

    /// The first one failed: it is tried again after the others, or given up.
    async fn failed(&mut self, why: String) {
        let mut lost = 0;
        if let Some(first) = self.waiting.front_mut() {
            first.attempts += 1;
            if first.attempts < ATTEMPTS {
                self.waiting.rotate_left(1);
            } else {
                self.forget_first().await;
                lost = 1;
            }
        }
        self.tell(|progress| {
            progress.lost += lost;
            progress.failure = Some(why);
        });
    }

    async fn forget_first(&mut self) {
        if let Some(first) = self.waiting.pop_front() {
            off_thread(move || first.forget()).await;
        }
    }

    /// Tells what has become of the queue.
    fn tell(&self, change: impl FnOnce(&mut UploadProgress)) {
        self.progress.send_modify(|progress| {
            change(progress);
            progress.waiting = self.waiting.len();
        });
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
    use std::cell::RefCell;

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

    fn push(publisher: &Publisher, numbers: std::ops::Range<usize>) {
        numbers.for_each(|number| drop(publisher.push("/w".into(), publication(number))));
    }

    /// Makes as many attempts as there are results; what was tried.
    async fn attempts(
        queue: &mut PublicationQueue,
        results: Vec<Result<usize, SharedError>>,
    ) -> Vec<Publication> {
        let tried = RefCell::new(Vec::new());
        for result in results {
            let publish = |next: PendingPublication| {
                tried.borrow_mut().push(next.publication);
                ready(result.clone())
            };
            queue.publish_next(publish, Duration::ZERO, Duration::ZERO).await;
        }
        tried.into_inner()
    }

    fn off() -> Result<usize, SharedError> {
        Err(SharedError::Store("off".to_owned()))
    }

    #[tokio::test]
    async fn what_a_store_does_not_take_is_tried_again_after_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (publisher, mut queue) = Publisher::new(dir.path().join("waiting"));
        push(&publisher, 1..3);
        let tried = attempts(&mut queue, vec![off(), Ok(1), Ok(1)]).await;
        assert_eq!(tried, [1, 2, 1].map(publication));
        assert_eq!(publisher.findings(), []);
    }

    #[tokio::test]
    async fn it_is_given_up_in_the_end_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let (publisher, mut queue) = Publisher::new(dir.path().join("waiting"));
        push(&publisher, 1..2);
        attempts(&mut queue, vec![off()]).await;
        let waits = StoreFinding { is_good: false, what: "1 uploads wait: off".to_owned() };
        assert_eq!(publisher.findings(), [waits]);
        attempts(&mut queue, (1..ATTEMPTS).map(|_| off()).collect()).await;
        let lost = StoreFinding { is_good: false, what: "1 uploads were given up: off".to_owned() };
        assert_eq!(publisher.findings(), [lost]);
    }

    #[tokio::test]
    async fn what_the_config_forbids_is_tried_once() {
        let dir = tempfile::tempdir().unwrap();
        let (publisher, mut queue) = Publisher::new(dir.path().join("waiting"));
        push(&publisher, 1..2);
        attempts(&mut queue, vec![Err(SharedError::Config("no key".to_owned()))]).await;
        assert!(queue.waiting.is_empty());
        let what = "1 uploads were given up: no key".to_owned();
        assert_eq!(publisher.findings(), [StoreFinding { is_good: false, what }]);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let (publisher, mut queue) = Publisher::new(dir.path().join("waiting"));
        push(&publisher, 0..WAITING + 5);
        let tried = attempts(&mut queue, (0..WAITING).map(|_| Ok(1)).collect()).await;
        assert_eq!(tried, (5..WAITING + 5).map(publication).collect::<Vec<_>>());
        let what = "5 uploads were given up".to_owned();
        assert_eq!(publisher.findings(), [StoreFinding { is_good: false, what }]);
    }

    #[tokio::test]
    async fn what_a_daemon_has_not_uploaded_the_next_one_does() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("waiting");
        let files = || fs::read_dir(&folder).unwrap().count();
        let (publisher, mut stopped) = Publisher::new(folder.clone());
        push(&publisher, 0..3);
        assert_eq!(attempts(&mut stopped, vec![Ok(1), off()]).await, [0, 1].map(publication));
        drop(stopped);
        assert_eq!(files(), 2);
        // One that was not written to the end.
        fs::write(folder.join("00000000000000-000001.json"), "{").unwrap();
        let (next, mut queue) = Publisher::new(folder.clone());
        push(&next, 3..4);
        queue.load().await;
        let tried = attempts(&mut queue, vec![Ok(1), Ok(1), Ok(1)]).await;
        assert_eq!(tried, [1, 2, 3].map(publication));
        assert_eq!((files(), next.findings()), (0, Vec::new()));
    }

    #[tokio::test]
    async fn what_arrives_during_an_upload_is_in_its_file_before_that_ends() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("waiting");
        let (publisher, mut queue) = Publisher::new(folder.clone());
        push(&publisher, 0..1);
        let upload = |_| async {
            publisher.push("/w".into(), publication(1)).await.unwrap();
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
            Ok::<usize, SharedError>(1)
        };
        queue.publish_next(upload, Duration::ZERO, Duration::ZERO).await;
        assert_eq!(attempts(&mut queue, vec![Ok(1)]).await, [publication(1)]);
        drop(queue);
        assert!(
            publisher.push("/w".into(), publication(2)).await.is_err(),
            "nobody waits for ever"
        );
    }

    #[tokio::test]
    async fn no_more_is_taken_over_than_may_wait() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..2 {
            let (publisher, mut queue) = Publisher::new(dir.path().join(number.to_string()));
            push(&publisher, 0..WAITING);
            queue.next().await;
        }
        let (from, to) = (dir.path().join("0"), dir.path().join("1"));
        for entry in fs::read_dir(from).unwrap().flatten() {
            let name = format!("0{}", entry.file_name().to_str().unwrap());
            fs::rename(entry.path(), to.join(name)).unwrap();
        }
        let (_publisher, mut queue) = Publisher::new(to.clone());
        queue.load().await;
        assert_eq!(queue.waiting.len(), WAITING);
        assert_eq!(fs::read_dir(to).unwrap().count(), WAITING);
    }
}
