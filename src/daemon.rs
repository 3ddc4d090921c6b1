//! The daemon: watches projects, keeps their snapshots in memory and their tests built, answers
//! questions.
//!
//! # Who owns what
//! - the dispatcher owns the list of projects, the config in force and the barriers;
//! - the scheduler owns the background jobs of all projects, and decides which of them runs;
//! - one task a project owns its tree, its builds and its tests;
//! - one task a connection owns what that connection holds.
//!
//! A question enters each room once: connection, dispatcher, project, tree, records, and back.
//! Everything ends when one token is cancelled: connections are closed, children are ended, memos are
//! written, and then the endpoint is given up.

mod config_file;
mod dispatcher;
mod endpoint;
mod inbox;
mod life;
mod machine;
mod mailbox;
mod pauses;
mod peer;
mod project;
mod publisher;
mod schedule;
mod scheduler;
mod server;
mod session;
mod shared;
mod shared_target_dirs;
mod subscriber;
mod sync;
mod time;
mod watches;

pub(crate) use endpoint::{Endpoint, EndpointError};
pub(crate) use life::Life;
pub(crate) use machine::{Surveyed, survey};
pub(crate) use pauses::{Left, PauseError};
pub use pauses::{Pause, Pauses};

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::config_file::WatchedConfigFile;
use self::dispatcher::Dispatcher;
use self::machine::ReadingsSource;
use self::publisher::Publisher;
use self::scheduler::Scheduler;
use self::session::Client;
use self::shared::Shared;
use self::sync::lock;
use self::watches::Watches;
use crate::cache::Cache;
use crate::config::{ConfigError, Loaded};
use crate::paths::{NoHome, Paths};
use crate::process::Environment;
use crate::protocol::StatusReport;
use crate::verdict::waiting_uploads;
use crate::watcher::{self, FileWatcher};

/// How many trees are opened at once.
const TREES_OPENED_AT_ONCE: usize = 8;
/// How many events may wait for the dispatcher; beyond that they wait in the watcher's queue.
const WAITING_EVENTS: usize = 1024;

/// A daemon, before and while it runs.
///
/// ```
/// use knhk_test_cache::{Daemon, CodeHasher, Cache, TestCompiler};
/// # use knhk_test_cache::internals::{paths::Paths, process::Environment};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let project_root = folder.path().join("project");
/// # std::fs::create_dir_all(project_root.join("src"))?;
/// # std::fs::write(project_root.join("Cargo.toml"), "[package]\nname = \"p\"\nedition = \"2024\"\n")?;
/// # std::fs::write(project_root.join("src/lib.rs"), "")?;
/// # let paths = Paths {
/// #     home: folder.path().into(),
/// #     config_file: folder.path().join("config.toml"),
/// #     cache_dir: folder.path().join("cache"),
/// #     runtime_dir: folder.path().join("run"),
/// # };
/// // Create daemon
/// let daemon = Daemon::new(project_root);
/// # let daemon = daemon.with_paths(paths);
///
/// // Start daemon
/// daemon.start().await?;
///
/// // Check status
/// let status = daemon.status()?;
/// println!("Running: {}", status.running);
/// # assert!(status.running);
/// # daemon.stop().await;
/// # assert!(!daemon.status()?.running);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })
/// # }
/// ```
#[derive(Debug)]
pub struct Daemon {
    /// The one project that is watched; none for those of the config.
    project: Option<PathBuf>,
    paths: Option<Paths>,
    environment: Environment,
    inherited: Mutex<Option<UnixListener>>,
    heartbeat: Option<Duration>,
    idle_timeout: Option<Duration>,
    hook: Option<PathBuf>,
    machine: ReadingsSource,
    running: Mutex<Option<StartedDaemon>>,
}

/// A started daemon, seen from outside.
#[derive(Debug)]
struct StartedDaemon {
    stop: CancellationToken,
    reload: mpsc::Sender<()>,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

/// Why a daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonStartError {
    /// The user's folders are not known.
    #[error(transparent)]
    NoHome(#[from] NoHome),
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another daemon runs, or the socket cannot be made.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The file watcher cannot start.
    #[error(transparent)]
    Watcher(#[from] watcher::WatchStartError),
    /// The system refused something else.
    #[error("cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// It ended before it was ready.
    #[error("the daemon ended before it was ready")]
    Ended,
}

impl Daemon {
    /// A daemon for one project, with the shipped settings.
    pub fn new(project_root: impl Into<PathBuf>) -> Self {
        Self { project: Some(project_root.into()), ..Self::of_config(Environment::inherited()) }
    }

    /// A daemon for all projects of the user's config, in the environment given.
    #[must_use]
    #[doc(hidden)]
    pub fn of_config(environment: Environment) -> Self {
        Self {
            project: None,
            paths: None,
            environment,
            inherited: Mutex::new(None),
            heartbeat: None,
            idle_timeout: None,
            hook: None,
            machine: ReadingsSource::native(),
            running: Mutex::new(None),
        }
    }

    /// Watches this one project instead of those of the config, if it is given.
    #[must_use]
    pub(crate) fn with_project(mut self, project_root: Option<&Path>) -> Self {
        self.project = project_root.map(Path::to_owned).or(self.project);
        self
    }

    /// Uses these folders instead of the user's own.
    #[must_use]
    #[doc(hidden)]
    pub fn with_paths(mut self, paths: Paths) -> Self {
        self.paths = Some(paths);
        self
    }

    /// Listens on a socket that the supervisor has bound.
    #[must_use]
    pub(crate) fn with_listener(mut self, listener: Option<UnixListener>) -> Self {
        self.inherited = Mutex::new(listener);
        self
    }

    /// Tells [`Life::Alive`] this often, for a watchdog.
    #[must_use]
    pub(crate) fn with_heartbeat(mut self, every: Option<Duration>) -> Self {
        self.heartbeat = every;
        self
    }

    /// Ends by itself once nothing has happened for so long.
    #[must_use]
    pub(crate) fn with_idle_timeout(mut self, limit: Option<Duration>) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// The program that serves as cargo's runner hook for background tests: one whose `main`
    /// calls [`crate::compiler::record_invocation`] first. This program by default.
    #[must_use]
    #[doc(hidden)]
    pub fn with_hook(mut self, hook: PathBuf) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Reads the state of the machine (`[background]` in the config) below these folders instead of
    /// `/proc` and `/sys`.
    #[must_use]
    #[doc(hidden)]
    pub fn with_machine(mut self, proc: PathBuf, sys: PathBuf) -> Self {
        self.machine = ReadingsSource::Files { proc, sys };
        self
    }

    /// Starts the daemon on the current tokio runtime and returns once it can answer.
    ///
    /// # Errors
    /// If it cannot start; a second start of the same daemon finds the first one's lock.
    pub async fn start(&self) -> Result<(), DaemonStartError> {
        let (tell, mut life) = mpsc::unbounded_channel();
        let mut running = self.launch(tell)?;
        let ready = loop {
            match life.recv().await {
                Some(Life::Ready) => break true,
                Some(_) => {}
                None => break false,
            }
        };
        if !ready {
            if let Some(task) = running.task.take() {
                let _ = task.await;
            }
            return Err(DaemonStartError::Ended);
        }
        *lock(&self.running) = Some(running);
        Ok(())
    }

    /// Runs the daemon until `stop` fires, telling its life to a supervisor. A message on
    /// `reload` makes it read the config again.
    ///
    /// # Errors
    /// If it cannot start.
    pub(crate) async fn run(
        &self,
        stop: CancellationToken,
        mut reload: mpsc::Receiver<()>,
        life: mpsc::UnboundedSender<Life>,
    ) -> Result<(), DaemonStartError> {
        let mut running = self.launch(life)?;
        let Some(mut task) = running.task.take() else { return Err(DaemonStartError::Ended) };
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(()) = reload.recv() => drop(running.reload.send(()).await),
                _ = &mut task => return Ok(()),
            }
        }
        running.stop.cancel();
        // A panic of the loop was told by the panic hook.
        let _ = task.await;
        Ok(())
    }

    /// The state. A daemon that was not started, or has ended, says so.
    ///
    /// # Errors
    /// If the user's folders are not known.
    pub fn status(&self) -> Result<StatusReport, DaemonStartError> {
        let paths = self.paths()?;
        let alive = lock(&self.running).as_ref().is_some_and(|running| {
            !running.shared.commands.is_closed() && !running.stop.is_cancelled()
        });
        Ok(StatusReport {
            running: alive,
            pid: alive.then(std::process::id),
            version: crate::protocol::VERSION.to_owned(),
            socket: paths.socket(),
            config: paths.config_file,
            config_error: None,
            projects: Vec::new(),
        })
    }

    /// The state with that of every project; `None` if the daemon is not running.
    #[doc(hidden)]
    pub async fn projects(&self) -> Option<StatusReport> {
        let shared = Arc::clone(&lock(&self.running).as_ref()?.shared);
        shared.status().await
    }

    /// Stops the daemon and waits until nothing of it is left.
    pub async fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some(mut running) = running {
            running.stop.cancel();
            if let Some(task) = running.task.take() {
                // A panic of the loop was told by the panic hook.
                let _ = task.await;
            }
        }
    }

    fn paths(&self) -> Result<Paths, NoHome> {
        self.paths.clone().map_or_else(|| Paths::from_environment(&self.environment), Ok)
    }

    /// Claims the endpoint, makes the watcher, starts the loop.
    fn launch(&self, life: mpsc::UnboundedSender<Life>) -> Result<StartedDaemon, DaemonStartError> {
        let paths = self.paths()?;
        let config_file = WatchedConfigFile::new(&paths.config_file);
        let loaded = self.load(&paths)?;
        let endpoint = Endpoint::claim(&paths, lock(&self.inherited).take())?;
        let listener = tokio::net::UnixListener::from_std(endpoint.listener()?)?;
        let (events, seen) = mpsc::channel(WAITING_EVENTS);
        let watcher = FileWatcher::new(&paths.runtime_dir, events)?;
        let hook = match &self.hook {
            Some(hook) => hook.clone(),
            None => std::env::current_exe()?,
        };
        let (commands, asked) = mpsc::unbounded_channel();
        let (publisher, queue) = Publisher::new(waiting_uploads(&paths.cache_dir));
        let stop = CancellationToken::new();
        let scheduler = Scheduler::start(
            self.machine.clone(),
            self.environment.clone(),
            loaded.config.background,
            paths.cache_dir.clone(),
            stop.clone(),
        );
        let shared = Arc::new(Shared {
            id: instance(),
            cache: Cache::open_to_stay(&paths.cache_dir),
            environment: Arc::new(self.environment.clone()),
            watcher: Arc::new(Mutex::new(Watches::new(watcher))),
            scheduler,
            commands,
            opening: Arc::new(Semaphore::new(TREES_OPENED_AT_ONCE)),
            sharing: Mutex::new(loaded.config.shared.clone()),
            test_environment: Mutex::new(Arc::new(
                loaded.config.shared.test_environment(self.environment.clone()),
            )),
            publisher,
            bounds: Mutex::new(loaded.config.cache),
            hook,
            stop: stop.clone(),
            project: self.project.clone(),
            paths,
        });
        let (leave, running) = (CancellationToken::new(), Arc::clone(&shared));
        let dispatcher = Dispatcher::new(Arc::clone(&shared), life.clone(), config_file)
            .with_idle_timeout(self.idle_timeout);
        let (reload, reloads) = mpsc::channel(1);
        let heartbeat = self.heartbeat;
        let left = leave.clone();
        let task = tokio::spawn(async move {
            let answering = async {
                let make = || Client::new(Arc::clone(&shared));
                tokio::select! {
                    () = server::serve(listener, left.clone(), make) => {}
                    // The loop ended by itself: no question can be answered any more.
                    () = shared.stop.cancelled() => {}
                }
                // Only now that every question has its answer.
                shared.stop.cancel();
            };
            let stopping = async {
                left.cancelled().await;
                // The daemon may have no supervisor.
                let _ = life.send(Life::Stopping);
            };
            tokio::select! {
                ((), ()) = async {
                    tokio::join!(answering, dispatcher.run(loaded, seen, asked, reloads, heartbeat))
                } => {}
                () = shared.publish(queue) => {}
                () = async { stopping.await; std::future::pending().await } => {}
            }
            drop(endpoint);
        });
        Ok(StartedDaemon { stop: leave, reload, shared: running, task: Some(task) })
    }

    fn load(&self, paths: &Paths) -> Result<Loaded, ConfigError> {
        shared::load(self.project.as_deref(), paths, &self.environment)
    }
}

/// A number that no other daemon of this machine has: a mark is valid for one daemon only.
fn instance() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(std::process::id())
}
