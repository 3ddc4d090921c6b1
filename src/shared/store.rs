//! The store of the config: look-ups within a time limit, and uploads.
//!
//! All traffic takes place on a thread of its own: neither a mount that hangs nor a resolver that
//! does not answer can hold up a question or the end of a command.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::breaker::Breaker;
use super::bundle::{Bundle, BundledRecord, Distrust, FORMAT, MAX_OBJECT_BYTES, MAX_PAYLOAD_BYTES};
use super::retention::collect;
use super::signature::SigningKey;
use super::signers::{Signer, SignerTier, Signers};
use super::storage::{Storage, StorageError};
use super::store_url::StoreLocation;
use super::{
    BundleName, BundlePlace, FoundRecord, LAYOUT, ObjectKind, Publication, Retention,
    RetentionReport, SharedAnswer, SharedError, SharedRecord, StoreFinding, StoreOptions,
    WantedRecords,
};
use crate::model::{Digest, Timestamp};

/// How long a question waits for the store. With all that it does around that, a store that is silent costs it
/// 300 ms at most.
const LOOK_UP_LIMIT: Duration = Duration::from_millis(270);

/// How long a single object is waited for by nobody, so that a later look-up finds the way open.
const OBJECT_LIMIT: Duration = Duration::from_secs(2);

/// How long one upload with its retries may take.
const UPLOAD_LIMIT: Duration = Duration::from_secs(60);

/// How long `doctor` waits for each answer.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// How many signers are asked for at most.
const MAX_SIGNERS_ASKED: usize = 32;

/// What a signature and the first line add to a payload, at most.
const ENVELOPE_BYTES: usize = 8 << 10;

/// A task for the thread of the store.
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The store of the config.
#[derive(Clone)]
pub(crate) struct SharedStore {
    options: Arc<StoreOptions>,
    breaker: Breaker,
    place: StoragePlace,
    signers: Result<Signers, String>,
    key: Result<Option<Arc<SigningKey>>, String>,
    /// Uploads one after the other: each reads the latest records first.
    uploading: Arc<tokio::sync::Mutex<()>>,
    tasks: mpsc::UnboundedSender<Task>,
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").field("url", &self.options.url).finish_non_exhaustive()
    }
}

/// The storage, which is opened on the store's thread when it is first needed.
#[derive(Clone)]
struct StoragePlace {
    url: StoreLocation,
    options: Arc<StoreOptions>,
    opened: Arc<OnceLock<Result<Storage, StorageError>>>,
}

impl StoragePlace {
    fn storage(&self) -> Result<&Storage, StorageError> {
        let open = || {
            // A reader must not make the folder that a mount would be at.
            if let (StoreLocation::Folder(path), false) = (&self.url, self.options.write)
                && !path.is_dir()
            {
                return Err(StorageError::Failed(format!("there is no folder {}", path.display())));
            }
            Storage::open(&self.url, &self.options.environment)
        };
        self.opened.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>, StorageError> {
        self.storage()?.get(path).await
    }

    async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), StorageError> {
        self.storage()?.put(path, bytes).await
    }
}

/// The path of an object.
fn path_of(fingerprint: &str, name: &BundleName) -> String {
    let kind = match name.kind {
        ObjectKind::Tree => "tree",
        ObjectKind::Latest => "latest",
    };
    format!("{LAYOUT}/{fingerprint}/{}/{kind}/{}", name.project, name.digest)
}

fn names(place: &BundlePlace) -> [BundleName; 2] {
    let of = |kind, digest| BundleName { project: place.project.clone(), kind, digest };
    [of(ObjectKind::Tree, place.tree), of(ObjectKind::Latest, place.latest)]
}

/// Which signers are not believed now, because of the dates of their lines.
fn lapsed(signers: &Signers, now: Timestamp) -> Option<String> {
    let lapsed = signers.lapsed_at(now);
    let names = || lapsed.join("; ");
    (!lapsed.is_empty()).then(|| format!("`allowed_signers` does not believe {} now", names()))
}

#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn failed(error: impl ToString) -> SharedError {
    SharedError::Config(error.to_string())
}

impl SharedStore {
    /// The store that the options name; says nothing to it yet.
    ///
    /// # Errors
    /// If the URL names none, or no thread can be had.
    pub(crate) fn open(options: StoreOptions) -> Result<Self, SharedError> {
        let url = StoreLocation::parse(&options.url).map_err(failed)?;
        let root = &options.workspace_root;
        let signers = match &options.allowed_signers {
            Some(path) => Signers::read(path, root).map_err(|error| error.to_string()),
            None => Err("`allowed_signers` is not set, so that no signer is trusted".to_owned()),
        };
        let key = match &options.sign_with {
            Some(path) => {
                let key = SigningKey::read(path, root).map_err(|error| error.to_string());
                key.map(|key| Some(Arc::new(key)))
            }
            None => Ok(None),
        };
        let breaker = Breaker::new(options.state_dir.join("store.json"), &options.url);
        let options = Arc::new(options);
        let place = StoragePlace { url, options: options.clone(), opened: Arc::default() };
        let (tasks, mut todo) = mpsc::unbounded_channel::<Task>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let work = move || {
            runtime.block_on(async {
                while let Some(task) = todo.recv().await {
                    tokio::spawn(task);
                }
            });
            // What hangs is left behind.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name("shared".to_owned()).spawn(work).map_err(failed)?;
        let uploading = Arc::default();
        Ok(Self { options, breaker, place, signers, key, uploading, tasks })
    }

    /// Whether its records may answer.
    pub(crate) fn reads(&self) -> bool {
        self.options.read
    }

    /// Whether the config has it written to.
    pub(crate) fn writes(&self) -> bool {
        self.options.write
    }

    /// Whether it signs without an agent, so that any process of the user can.
    pub(crate) fn signs_alone(&self) -> bool {
        matches!(&self.key, Ok(Some(key)) if key.is_private())
    }

    /// The file of the key that records are signed with.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        self.options.sign_with.as_deref()
    }

    /// Has the store's thread do something; its result, unless the thread has ended.
    fn on_thread<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (send, receive) = oneshot::channel();
        let task: Task = Box::pin(async move {
            // Nobody may be waiting any more.
            let _ = send.send(work.await);
        });
        let _ = self.tasks.send(task);
        receive
    }

    /// The signers whose records are looked for; why there are none.
    fn signers(&self, now: Timestamp) -> Result<Vec<Signer>, String> {
        let known = self.signers.as_ref().map_err(Clone::clone)?;
        let signers = known.at(now);
        match (signers.is_empty(), lapsed(known, now)) {
            (true, Some(why)) => Err(why),
            (true, None) => Err("`allowed_signers` names no signer".to_owned()),
            (false, _) => Ok(signers),
        }
    }

    /// Opens the storage while the question prepares its look-up. A server's takes long to open: it reads all
    /// certificates of the system.
    pub(crate) fn prepare(&self) {
        if self.options.read && self.breaker.open(Timestamp::now()).is_none() {
            let place = self.place.clone();
            drop(self.on_thread(async move { drop(place.storage().cloned()) }));
        }
    }

    /// What the store has. Comes back within [`LOOK_UP_LIMIT`], whatever the store
    /// does.
    pub(crate) async fn look_up(&self, wanted: &WantedRecords) -> SharedAnswer {
        let (mut answer, now) = (SharedAnswer::default(), Timestamp::now());
        if !self.options.read {
            return answer;
        }
        let mut signers = match self.signers(now) {
            Ok(signers) => signers,
            Err(why) => {
                answer.misses.push(why);
                return answer;
            }
        };
        if let Some(why) = self.breaker.open(now) {
            answer.misses.push(format!("the store is off: {why}"));
            return answer;
        }
        if signers.len() > MAX_SIGNERS_ASKED {
            let left = signers.len() - MAX_SIGNERS_ASKED;
            answer
                .misses
                .push(format!("{left} of the signers are not asked for: they are too many"));
            signers.truncate(MAX_SIGNERS_ASKED);
        }
        let mut asked = Vec::new();
        for signer in &signers {
            asked.extend(names(&wanted.place).map(|name| (signer, name)));
        }
        let (send, mut objects) = mpsc::unbounded_channel();
        for (index, (signer, name)) in asked.iter().enumerate() {
            let (place, send) = (self.place.clone(), send.clone());
            let path = path_of(&signer.fingerprint, name);
            drop(self.on_thread(async move {
                if let Ok(object) = timeout(OBJECT_LIMIT, place.get(&path)).await {
                    let _ = send.send((index, object));
                }
            }));
        }
        drop(send);
        let deadline = Instant::now() + LOOK_UP_LIMIT;
        // What takes time here must not count as the store's.
        let mut heard = Vec::new();
        while heard.len() < asked.len() {
            let Ok(Some(object)) = timeout_at(deadline, objects.recv()).await else { break };
            heard.push(object);
        }
        let is_late = heard.len() < asked.len();
        let (mut served, mut failure) = (0, None);
        for (index, object) in heard {
            let (signer, name) = &asked[index];
            match object {
                Ok(object) => {
                    served += 1;
                    match self.read(&object, signer, name, wanted, now) {
                        Ok(read) => {
                            answer.records.extend(read.records);
                            answer.refused.extend(read.refused);
                        }
                        Err(why) => {
                            let path = path_of(&signer.fingerprint, name);
                            let by = &signer.principals;
                            answer.misses.push(format!("{path} of {by} is not believed: {why}"));
                        }
                    }
                }
                Err(StorageError::Absent) => served += 1,
                Err(StorageError::Odd) => {
                    served += 1;
                    let path = path_of(&signer.fingerprint, name);
                    answer.misses.push(format!("{path}: {}", StorageError::Odd));
                }
                Err(error) => failure = Some(error.to_string()),
            }
        }
        if is_late && failure.is_none() {
            failure = Some(format!("no answer within {} ms", LOOK_UP_LIMIT.as_millis()));
        }
        match failure {
            Some(why) => {
                answer.misses.push(format!("the store: {why}"));
                if served == 0 && self.breaker.failed(&why, now) {
                    answer.news = Some(format!("{why}; going on without it"));
                }
            }
            None => self.breaker.answered(),
        }
        answer.records.sort_by_key(|found| (!found.may_answer, std::cmp::Reverse(found.created)));
        for found in &answer.records {
            answer.refused.remove(&found.key);
        }
        if answer.records.is_empty() && answer.misses.is_empty() {
            let refused: BTreeSet<&String> = answer.refused.values().collect();
            answer.misses.extend(refused.into_iter().cloned());
        }
        if answer.records.is_empty() && answer.misses.is_empty() {
            let names: Vec<_> = signers.iter().map(|signer| &*signer.principals).collect();
            answer.misses.push(format!("no record by {}", names.join("; ")));
            answer.misses.extend(self.signers.as_ref().ok().and_then(|known| lapsed(known, now)));
        }
        answer
    }

    /// What an object adds to the answer.
    fn read(
        &self,
        object: &[u8],
        signer: &Signer,
        name: &BundleName,
        wanted: &WantedRecords,
        now: Timestamp,
    ) -> Result<SharedAnswer, Distrust> {
        let bundle = Bundle::open(object, &signer.key, name, &wanted.place.subject, now)?;
        if !signer.covers(bundle.signed) {
            return Err(Distrust::OutOfDates);
        }
        let may_answer = signer.tier == SignerTier::Trusted || self.options.trust_peers;
        let own = self.key.as_ref().ok().and_then(Option::as_ref);
        let is_own = own.is_some_and(|own| *own.public() == signer.key);
        let (mut answer, by) = (SharedAnswer::default(), &signer.principals);
        for (key, BundledRecord { created, body }) in bundle.records {
            if created.age(now).is_some_and(|age| age > wanted.ttl) {
                answer.refused.insert(key, format!("a record by {by} is older than `ttl`"));
            } else if !signer.covers(created) {
                let why = format!("a record by {by} is of a time when it was not believed");
                answer.refused.insert(key, why);
            } else {
                let signer = by.clone();
                let found = FoundRecord { key, created, body, signer, is_own, may_answer };
                answer.records.push(found);
            }
        }
        Ok(answer)
    }

    /// Signs the records and uploads them, also into the latest ones of the project; how many fit.
    ///
    /// # Errors
    /// If the config does not allow it, there is no key, or the store does not take them.
    pub(crate) async fn publish(&self, publication: Publication) -> Result<usize, SharedError> {
        if !self.options.write {
            return Err(failed("`write` is off"));
        }
        let key = self.key.as_ref().map_err(failed)?;
        let key = key.clone().ok_or_else(|| failed("`sign_with` is not set"))?;
        if let Some(why) = self.breaker.open(Timestamp::now()) {
            return Err(SharedError::Store(format!("the store is off: {why}")));
        }
        let upload = Upload { store: self.place.clone(), options: self.options.clone(), key };
        let (uploading, breaker) = (self.uploading.clone(), self.breaker.clone());
        let work = async move {
            let _alone = uploading.lock().await;
            let uploaded = timeout(UPLOAD_LIMIT, upload.upload(publication)).await;
            let result = uploaded.unwrap_or_else(|_| {
                let limit = UPLOAD_LIMIT.as_secs();
                Err(StorageError::Failed(format!("not uploaded within {limit} s")).into())
            });
            match &result {
                Ok(_) => breaker.answered(),
                Err(UploadError::Storage(error)) => {
                    breaker.failed(&error.to_string(), Timestamp::now());
                }
                Err(UploadError::Key(_)) => {}
            }
            result.map_err(|error| match error {
                UploadError::Storage(_) => SharedError::Store(error.to_string()),
                UploadError::Key(_) => failed(error),
            })
        };
        self.on_thread(work).await.map_err(failed)?
    }

    /// Removes old objects.
    ///
    /// # Errors
    /// If the config does not allow it, or the store cannot be listed.
    pub(crate) async fn collect(&self, wanted: Retention) -> Result<RetentionReport, SharedError> {
        if !self.options.write {
            return Err(failed("`write` is off: only a machine that writes may remove"));
        }
        let place = self.place.clone();
        let work = async move {
            let storage = place.storage()?;
            collect(storage, &wanted, Timestamp::now()).await
        };
        let collected = self.on_thread(work).await.map_err(failed)?;
        collected.map_err(|error| SharedError::Store(format!("the store: {error}")))
    }

    /// What the store, the signers and the key are like, for `doctor`.
    pub(crate) async fn probe(&self) -> Vec<StoreFinding> {
        let mut findings = Vec::new();
        let mut say = |is_good: bool, what: String| findings.push(StoreFinding { is_good, what });
        let StoreOptions { url, read, write, .. } = &*self.options;
        let (project, kind, digest) = ("probe".to_owned(), ObjectKind::Tree, Digest::of(b"probe"));
        let nothing = BundleName { project, kind, digest };
        if *read {
            let (place, path) = (self.place.clone(), path_of("probe", &nothing));
            let got = self.on_thread(async move { place.get(&path).await });
            match timeout(PROBE_LIMIT, got).await {
                Ok(Ok(Ok(_) | Err(StorageError::Absent))) => {
                    self.breaker.answered();
                    say(true, format!("{url} may be read"));
                }
                Ok(Ok(Err(error))) => say(false, format!("{url} cannot be read: {error}")),
                _ => say(false, format!("{url} does not answer within {PROBE_LIMIT:?}")),
            }
            match (self.signers(Timestamp::now()), &self.signers) {
                (Ok(found), Ok(signers)) => {
                    let of = |tier| found.iter().filter(|signer| signer.tier == tier).count();
                    let (trusted, peers) = (of(SignerTier::Trusted), of(SignerTier::Peer));
                    say(true, format!("{trusted} trusted signers, {peers} peers"));
                    for why in &signers.refused {
                        say(false, format!("`allowed_signers` is not read in full: {why}"));
                    }
                }
                (Err(why), _) => say(false, why),
                (_, Err(why)) => say(false, why.clone()),
            }
        }
        if *write {
            match &self.key {
                Ok(Some(key)) => {
                    let (place, path) = (self.place.clone(), path_of("probe", &nothing));
                    let put = self.on_thread(async move { place.put(&path, Vec::new()).await });
                    match timeout(PROBE_LIMIT, put).await {
                        Ok(Ok(Ok(()))) => say(true, format!("{url} may be written")),
                        Ok(Ok(Err(error))) => {
                            say(false, format!("{url} cannot be written: {error}"));
                        }
                        _ => say(false, format!("{url} takes nothing within {PROBE_LIMIT:?}")),
                    }
                    let is_named =
                        self.signers.as_ref().is_ok_and(|signers| signers.name(key.public()));
                    let unknown = ", which `allowed_signers` here does not name";
                    let known = if is_named || !*read { "" } else { unknown };
                    say(true, format!("records are signed with {}{known}", key.describe()));
                }
                Ok(None) => say(false, "`write` is on and `sign_with` is not set".to_owned()),
                Err(why) => say(false, why.clone()),
            }
        }
        findings
    }
}

/// Why an upload failed.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error("the store: {0}")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Key(#[from] super::signature::KeyError),
}

/// One upload.
struct Upload {
    store: StoragePlace,
    options: Arc<StoreOptions>,
    key: Arc<SigningKey>,
}

impl Upload {
    async fn upload(&self, publication: Publication) -> Result<usize, UploadError> {
        let Publication { place, records, .. } = publication;
        let [tree, latest] = names(&place);
        let count = self.put(&place, tree, records.clone()).await?;
        // What is lost to another writer at the same moment is lost to the latest records alone.
        let mut all = self.own(&place, &latest).await?;
        all.extend(records.into_iter().map(|record| (record.key, record)));
        self.put(&place, latest, all.into_values().collect()).await?;
        Ok(count)
    }

    /// The records of our own object; none where there is no good one.
    ///
    /// # Errors
    /// If it cannot be read now: what it has must not be lost.
    async fn own(
        &self,
        place: &BundlePlace,
        name: &BundleName,
    ) -> Result<BTreeMap<Digest, SharedRecord>, StorageError> {
        let path = path_of(&super::signature::fingerprint(self.key.public()), name);
        let object = match self.store.get(&path).await {
            Ok(object) => object,
            Err(StorageError::Absent | StorageError::Odd) => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let now = Timestamp::now();
        let bundle = Bundle::open(&object, self.key.public(), name, &place.subject, now);
        let records = bundle.map(|bundle| bundle.records).unwrap_or_default();
        let whole = records.iter().filter_map(|(key, record)| Some((*key, record.whole(*key)?)));
        Ok(whole.collect())
    }

    /// Signs and uploads the newest records that fit into one object; how many do.
    async fn put(
        &self,
        place: &BundlePlace,
        name: BundleName,
        mut records: Vec<SharedRecord>,
    ) -> Result<usize, UploadError> {
        records.sort_by_key(|record| std::cmp::Reverse(record.created));
        let payload = loop {
            let (subject, signed) = (place.subject.clone(), Timestamp::now());
            let of = |SharedRecord { key, created, body }: &SharedRecord| {
                (*key, BundledRecord { created: *created, body: body.clone().into() })
            };
            // The newer one of two with one key is left.
            let kept = records.iter().rev().map(of).collect();
            let bundle =
                Bundle { format: FORMAT, name: name.clone(), subject, signed, records: kept };
            let json = bundle.json();
            let payload = Bundle::payload(&json);
            let most = MAX_OBJECT_BYTES - ENVELOPE_BYTES;
            if (payload.len() <= most && json.len() <= MAX_PAYLOAD_BYTES) || records.is_empty() {
                break payload;
            }
            let fewer = (records.len() * most / payload.len())
                .min(records.len() * MAX_PAYLOAD_BYTES / json.len());
            // A little less than its share, and one less at least.
            records.truncate((fewer * 19 / 20).min(records.len() - 1));
        };
        let signature = self.key.sign(&payload, &self.options.environment).await?;
        let path = path_of(&super::signature::fingerprint(self.key.public()), &name);
        self.store.put(&path, Bundle::seal(&payload, &signature)).await?;
        Ok(records.len())
    }
}
