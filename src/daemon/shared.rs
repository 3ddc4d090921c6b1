//! What all parts of a daemon share: folders, records, the watcher, the scheduler, and the address of
//! the dispatcher.

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::mailbox::Mailbox;
use super::publisher::{PendingPublication, PublicationQueue, Publisher};
use super::scheduler::Scheduler;
use super::shared_target_dirs::note_shared_target_dirs;
use super::subscriber::Subscriber;
use super::sync::{lock, off_thread};
use super::watches::SharedWatcher;
use crate::cache::{Cache, Limits};
use crate::config::{self, ConfigError, Loaded};
use crate::model::Timestamp;
use crate::paths::Paths;
use crate::process::{Environment, Priority};
use crate::protocol::{CacheUse, ProjectStatus, Reply, StatusReport};
use crate::shared::{SharedError, SharedStore};
use crate::verdict::{self, Facts, LookUp, Publishing, Question, RunOptions, RunScope, Shareable};
use crate::watcher::CookieId;

/// How long a barrier may take. Past it, the tree is read as if no event had ever come.
const BARRIER_TIMEOUT: Duration = Duration::from_millis(500);

/// A command to the dispatcher.
#[derive(Debug)]
pub(super) enum Command {
    /// Tell when every event that has happened by now has been handed on.
    Barrier(oneshot::Sender<()>),
    /// The cookie of a barrier was made.
    Cookie { cookie: io::Result<CookieId>, passed: oneshot::Sender<()> },
    /// The address of the project at this path, if the config has one.
    Find { root: PathBuf, reply: oneshot::Sender<Option<Mailbox>> },
    /// The state of everything, without what is on disk.
    Status(oneshot::Sender<StatusReport>),
    /// A project's status has changed.
    StatusChanged,
    /// Read the config again.
    Reload(oneshot::Sender<Reply>),
    /// A pause by hand has begun or ended.
    Paused,
    /// Tell this client of a project, or of all; none if the config lacks the project.
    Subscribe {
        project: Option<PathBuf>,
        client: Subscriber,
        reply: oneshot::Sender<Option<Vec<oneshot::Receiver<()>>>>,
    },
}

/// What all parts share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Tells this daemon's marks from another's.
    pub(super) id: u64,
    pub(super) paths: Paths,
    pub(super) cache: Cache,
    /// The environment that the daemon was started with.
    pub(super) environment: Arc<Environment>,
    pub(super) watcher: SharedWatcher,
    pub(super) scheduler: Scheduler,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// What all records together may grow to; the dispatcher sets it.
    pub(super) bounds: Mutex<config::CacheSettings>,
    /// The shared store of the config; the dispatcher sets it.
    pub(super) sharing: Mutex<config::SharedSettings>,
    /// The environment of tests where no client has given one, once for all projects; the dispatcher
    /// sets it.
    pub(super) test_environment: Mutex<Arc<Environment>>,
    /// What is to be in that store.
    pub(super) publisher: Publisher,
    /// Bounds how many trees are opened at once.
    pub(super) opening: Arc<Semaphore>,
    /// This very program, for cargo's runner hook.
    pub(super) hook: PathBuf,
    pub(super) stop: CancellationToken,
    /// The one project that is watched; none for those of the config.
    pub(super) project: Option<PathBuf>,
}

/// The config in force: the user's own, with the one project that was asked for if there is one.
pub(super) fn load(
    project: Option<&Path>,
    paths: &Paths,
    environment: &Environment,
) -> Result<Loaded, ConfigError> {
    let mut loaded = config::load(paths, environment)?;
    if let Some(path) = project {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let settings = loaded.config.settings_for(&path).clone();
        let written = path.display().to_string();
        loaded.config.projects = vec![config::Project { path, written, settings }];
    }
    Ok(loaded)
}

impl Shared {
    /// Asks the dispatcher; none if it has ended.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).ok()?;
        answer.await.ok()
    }

    /// Waits until all events that have happened have reached their projects; false if that
    /// cannot be told in time.
    pub(super) async fn barrier(&self) -> bool {
        let in_time = tokio::time::timeout(BARRIER_TIMEOUT, self.ask(Command::Barrier)).await;
        let seen = matches!(in_time, Ok(Some(())));
        if !seen {
            warn!("the barrier did not come back: reading everything again");
        }
        seen
    }

    /// The project at `root`, if the config has one.
    pub(super) async fn project(&self, root: PathBuf) -> Option<Mailbox> {
        self.ask(|reply| Command::Find { root, reply }).await.flatten()
    }

    /// The same once a barrier has passed, or failed to.
    pub(super) async fn project_after_barrier(&self, root: PathBuf) -> Option<(Mailbox, bool)> {
        let (mailbox, seen) = tokio::join!(self.project(root), self.barrier());
        Some((mailbox?, seen))
    }

    /// The state of everything.
    pub(super) async fn status(self: &Arc<Self>) -> Option<StatusReport> {
        let mut report = self.ask(Command::Status).await?;
        let shared = Arc::clone(self);
        let filled = tokio::task::spawn_blocking(move || {
            shared.add_what_is_on_disk(&mut report.projects);
            report
        });
        filled.await.ok()
    }

    /// The environment of tests where no client has given one.
    pub(super) fn test_environment(&self) -> Arc<Environment> {
        Arc::clone(&lock(&self.test_environment))
    }

    /// The config has this shared store now.
    pub(super) fn set_sharing(&self, settings: config::SharedSettings) {
        *lock(&self.sharing) = settings;
        *lock(&self.test_environment) = Arc::new(self.for_tests((*self.environment).clone()));
    }

    /// An environment as tests may see it: without the agent where records are signed.
    pub(super) fn for_tests(&self, environment: Environment) -> Environment {
        lock(&self.sharing).test_environment(environment)
    }

    /// What the shared store is like.
    pub(super) async fn probe_store(self: &Arc<Self>, workspace_root: PathBuf) -> Reply {
        let store = self.open_store_off_thread(workspace_root).await;
        let mut findings = verdict::probe_store(store).await;
        findings.extend(self.publisher.findings());
        Reply::Store { findings }
    }

    /// Whether the config names a store whose records may answer.
    pub(super) fn reads_store(&self) -> bool {
        lock(&self.sharing).is_asked()
    }

    /// The store of other machines' records; none if the config has none, or it is not read.
    pub(super) fn store_to_read(&self, workspace_root: &Path) -> Option<SharedStore> {
        self.open_store(workspace_root)?.ok().filter(SharedStore::reads)
    }

    fn open_store(&self, workspace_root: &Path) -> Option<Result<SharedStore, SharedError>> {
        let settings = lock(&self.sharing).clone();
        let dir = &self.paths.cache_dir;
        verdict::open_store(&settings, workspace_root, dir, &self.environment)
    }

    /// The store of the config; none if it names none. The keys are read.
    async fn open_store_off_thread(
        self: &Arc<Self>,
        workspace_root: PathBuf,
    ) -> Option<Result<SharedStore, SharedError>> {
        let shared = Arc::clone(self);
        off_thread(move || shared.open_store(&workspace_root)).await
    }

    /// Has what a run has proven published, if the config says so. Blocks until that waits in its file.
    pub(super) fn share(&self, question: &Question, facts: &Facts, run: &Shareable) {
        let settings = lock(&self.sharing).clone();
        let look_up = LookUp { cache: &self.cache, question, facts };
        if settings.url.is_none() || !settings.write {
            verdict::remember_scripts(&self.hook, &look_up, run, None);
            return;
        }
        let publishing =
            Publishing { signing_key: settings.sign_with.as_deref(), hook: &self.hook };
        let published = verdict::publication(&publishing, &look_up, run);
        for why in published.kept_back {
            debug!(project = %question.root.display(), %why, "not published");
        }
        if let Some(publication) = published.publication {
            // Where the queue is gone, the daemon is stopping.
            let _ = self.publisher.push(question.root.clone(), publication).blocking_recv();
        }
    }

    /// Publishes in the background what is in this queue.
    pub(super) async fn publish(self: &Arc<Self>, queue: PublicationQueue) {
        let publish = |next: PendingPublication| async move {
            let PendingPublication { workspace_root, publication, .. } = next;
            match self.open_store_off_thread(workspace_root).await {
                Some(store) => store?.publish(publication).await,
                None => Err(SharedError::Config("the config names no store".to_owned())),
            }
        };
        queue.run(publish).await;
    }

    /// Adds the use of the cache, and what other processes may have found out.
    fn add_what_is_on_disk(&self, projects: &mut [ProjectStatus]) {
        let stats = self.cache.stats().unwrap_or_default();
        for status in projects.iter_mut() {
            let of = stats.projects.iter().find(|of| of.path.as_ref() == Some(&status.path));
            status.cache = of
                .map(|of| CacheUse { entries: of.entries, calls: of.calls, bytes: of.bytes })
                .unwrap_or_default();
            let known = self.cache.state(&status.path);
            (status.verified, status.wrong) = (known.verified, known.wrong);
            status.flaky = known.flaky_names();
            status.notes.extend(known.distrust_note());
            status.selection = known.selection;
        }
        note_shared_target_dirs(projects);
    }

    pub(super) fn status_changed(&self) {
        // The dispatcher may have ended.
        let _ = self.commands.send(Command::StatusChanged);
    }

    /// How background tests are run.
    pub(super) fn background_options(
        &self,
        settings: &config::Settings,
        jobs: Option<NonZeroUsize>,
        cancel: CancellationToken,
    ) -> RunOptions {
        let all = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        RunOptions {
            asked: Timestamp::now(),
            hook: self.hook.clone(),
            jobs: jobs.unwrap_or(all),
            build_jobs: jobs,
            priority: Priority::Background,
            color: false,
            no_cache: false,
            scope: RunScope::All,
            first: Vec::new(),
            limits: self.limits(settings),
            store: None,
            remembers_red: self.reads_store(),
            agent: lock(&self.sharing).hidden_agent(&self.environment),
            cancel,
        }
    }

    pub(super) fn limits(&self, settings: &config::Settings) -> Limits {
        verdict::limits(&lock(&self.bounds), settings)
    }
}
