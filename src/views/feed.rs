//! The stream of events that a view reads: from the daemon, connected again after it was restarted,
//! or from a daemon in this very process where none runs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::client::{ClientError, Connection, EventStream};
use crate::daemon::Daemon;
use crate::paths::{Paths, create_private_folder};
use crate::process::Environment;
use crate::protocol::StreamEvent;

/// How long to wait before the first try to connect again; twice as long before each other.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest wait between two tries.
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// How many tries without a daemon precede a watch by this process itself.
const TRIES_BEFORE_OWN_WATCH: u32 = 6;

/// The projects that a view shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Every project of the config.
    All,
    /// This workspace, which the config need not list.
    Project(PathBuf),
}

/// Where a view's events come from.
#[derive(Debug)]
pub(crate) struct Feed {
    paths: Paths,
    environment: Environment,
    wanted: Wanted,
    handle: FeedHandle,
    ended: mpsc::Receiver<()>,
}

/// Ends a feed.
#[derive(Clone, Debug)]
pub(crate) struct FeedHandle {
    /// The daemon in this process, if there is one.
    own: Arc<Mutex<Option<OwnDaemon>>>,
    end: mpsc::Sender<()>,
}

impl FeedHandle {
    /// Ends the daemon in this process if there is one, and waits until nothing of it is left.
    pub(crate) fn end(&self) {
        // The feed may have ended.
        let _ = self.end.send(());
        drop(self.own().take());
    }

    /// Has the daemon in this process, if there is one, begin anew: it does not hear of runs of other
    /// processes.
    pub(crate) fn restart_own(&self) {
        drop(self.own().take());
    }

    /// The socket of the daemon that tells the feed: the one in this process, or the user's.
    pub(crate) fn socket(&self, paths: &Paths) -> PathBuf {
        self.own().as_ref().map_or_else(|| paths.socket(), |own| own.socket.clone())
    }

    fn own(&self) -> MutexGuard<'_, Option<OwnDaemon>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    /// A feed that is not connected yet.
    pub(crate) fn new(paths: Paths, environment: Environment, wanted: Wanted) -> Self {
        let (end, ended) = mpsc::channel();
        let handle = FeedHandle { own: Arc::default(), end };
        Self { paths, environment, wanted, handle, ended }
    }

    /// What must be ended before the process is.
    pub(crate) fn handle(&self) -> FeedHandle {
        self.handle.clone()
    }

    /// Hands every event to `tell`, until that says that it wants no more. Blocks; a loss of the
    /// connection is an event too ([`StreamEvent::Disconnected`]).
    ///
    /// # Errors
    /// If there is no daemon, and this process cannot watch by itself.
    pub(crate) fn follow(self, mut tell: impl FnMut(StreamEvent) -> bool) -> Result<(), FeedError> {
        let mut tries = 0;
        let mut retry = FIRST_RETRY;
        let mut has_watched_itself = false;
        loop {
            // The first time, nobody waits for a daemon that is not there.
            let may_watch_itself =
                tries == 0 || tries >= TRIES_BEFORE_OWN_WATCH || has_watched_itself;
            let reason = match self.connect(may_watch_itself)? {
                Ok(mut events) => {
                    (tries, retry) = (0, FIRST_RETRY);
                    has_watched_itself = self.handle.own().is_some();
                    loop {
                        match events.next() {
                            Ok(mut event) => {
                                if let StreamEvent::Hello { daemon, .. } = &mut event {
                                    *daemon = self.handle.own().is_none();
                                }
                                if !tell(event) {
                                    return Ok(());
                                }
                            }
                            Err(error) => break error.to_string(),
                        }
                    }
                }
                Err(reason) => reason,
            };
            let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
            if !tell(StreamEvent::Disconnected { reason, retry_ms }) {
                return Ok(());
            }
            if self.ended.recv_timeout(retry) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
            tries += 1;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    /// The socket of the daemon that tells this feed.
    fn connect(&self, may_watch_itself: bool) -> Result<Result<EventStream, String>, FeedError> {
        let project = match &self.wanted {
            Wanted::All => None,
            Wanted::Project(root) => Some(root.as_path()),
        };
        let mut own = self.handle.own();
        if own.is_none() {
            match subscribe(&self.paths.socket(), project) {
                Ok(Some(events)) => return Ok(Ok(events)),
                Ok(None) if may_watch_itself => {}
                Ok(None) => return Ok(Err("no daemon is running".to_owned())),
                // One that does not answer must not be in the way, however it is broken.
                Err(_) if may_watch_itself => {}
                Err(error) => return Ok(Err(error.to_string())),
            }
            *own = Some(OwnDaemon::start(&self.paths, self.environment.clone(), project)?);
        }
        let Some(own) = &*own else { return Err(FeedError::Ended) };
        match subscribe(&own.socket, project)? {
            Some(events) => Ok(Ok(events)),
            None => Err(FeedError::Ended),
        }
    }
}

/// Why there are no events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    /// This process cannot watch.
    #[error("cannot watch without a daemon: {0}")]
    Watch(String),
    /// The system refused.
    #[error("cannot watch without a daemon: {0}")]
    Io(#[from] io::Error),
    /// The daemon in this process does not answer.
    #[error("cannot watch without a daemon: {0}")]
    Client(#[from] ClientError),
    /// It has ended.
    #[error("watching has ended")]
    Ended,
}

/// Asks for events; none where no daemon runs, or it does not watch the project.
fn subscribe(socket: &Path, project: Option<&Path>) -> Result<Option<EventStream>, ClientError> {
    match Connection::open(socket)? {
        Some(connection) => connection.subscribe(project),
        None => Ok(None),
    }
}

/// A daemon in this process, with a socket of its own: it is in nobody's way, and ends with the view.
#[derive(Debug)]
struct OwnDaemon {
    socket: PathBuf,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl OwnDaemon {
    fn start(
        paths: &Paths,
        environment: Environment,
        project: Option<&Path>,
    ) -> Result<Self, FeedError> {
        create_private_folder(&paths.runtime_dir)?;
        let private = fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new()
            .prefix("watch-")
            .permissions(private)
            .tempdir_in(&paths.runtime_dir)?;
        let paths = Paths { runtime_dir: folder.path().to_owned(), ..paths.clone() };
        let socket = paths.socket();
        let daemon = Daemon::of_config(environment).with_project(project).with_paths(paths);
        let (tell, ready) = mpsc::channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        // One thread: children die with the thread that started them.
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error.to_string()))),
            };
            runtime.block_on(async {
                let started = daemon.start().await.map_err(|error| error.to_string());
                let is_started = started.is_ok();
                // The view may have ended.
                let _ = tell.send(started);
                if is_started {
                    stopped.cancelled().await;
                    daemon.stop().await;
                }
            });
        })?;
        let own = Self { socket, stop, thread: Some(thread), _folder: folder };
        match ready.recv() {
            Ok(Ok(())) => Ok(own),
            Ok(Err(error)) => Err(FeedError::Watch(error)),
            Err(_) => Err(FeedError::Ended),
        }
    }
}

impl Drop for OwnDaemon {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was told by the panic hook.
            let _ = thread.join();
        }
    }
}
