//! What all parts of a daemon know: folders, records, the watcher, and how to reach the
//! dispatcher. Nothing here changes but through its own owner.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::mailbox::Mailbox;
use super::scheduler::Scheduler;
use super::sync::lock;
use super::watches::SharedWatcher;
use crate::cache::{Cache, Limits, Record};
use crate::config::{self, ConfigError, Loaded};
use crate::model::{Digest, Timestamp};
use crate::paths::Paths;
use crate::process::{Environment, Priority};
use crate::protocol::{Reply, StatusReport};
use crate::verdict::{Facts, Finding, Question, RunOptions, code_hash, source_key};

/// How long a barrier may take. Past it, the tree is read as if no event had ever come.
const BARRIER: Duration = Duration::from_millis(500);

/// What the dispatcher is asked.
#[derive(Debug)]
pub(super) enum Command {
    /// Tell when every event that has happened by now has been handed on.
    Barrier(oneshot::Sender<()>),
    /// How to reach the project at this path, if the config has one.
    Find { root: PathBuf, reply: oneshot::Sender<Option<Mailbox>> },
    /// The state of everything.
    Status(oneshot::Sender<StatusReport>),
    /// A project's state is another one.
    StatusChanged,
    /// Read the config again.
    Reload(oneshot::Sender<Reply>),
}

/// Known to all.
pub(super) struct Shared {
    /// Tells this daemon's marks from another's.
    pub(super) id: u64,
    pub(super) paths: Paths,
    pub(super) cache: Cache,
    /// The environment that the daemon was started with.
    pub(super) environment: Environment,
    pub(super) watcher: SharedWatcher,
    pub(super) scheduler: Scheduler,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// What all records together may grow to; the dispatcher sets it.
    pub(super) bounds: Mutex<config::CacheSettings>,
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
    /// Waits until all events that have happened have reached their projects; false if that
    /// cannot be told in time.
    pub(super) async fn barrier(&self) -> bool {
        let (passed, seen) = oneshot::channel();
        if self.commands.send(Command::Barrier(passed)).is_err() {
            return false;
        }
        let in_time = tokio::time::timeout(BARRIER, seen).await;
        let seen = matches!(in_time, Ok(Ok(())));
        if !seen {
            warn!("the barrier did not come back: reading everything again");
        }
        seen
    }

    /// The project at `root`, if the config has one.
    pub(super) async fn project(&self, root: PathBuf) -> Option<Mailbox> {
        let (reply, found) = oneshot::channel();
        self.commands.send(Command::Find { root, reply }).ok()?;
        found.await.ok().flatten()
    }

    pub(super) fn status_changed(&self) {
        // Nobody is left to tell when the daemon is stopping.
        let _ = self.commands.send(Command::StatusChanged);
    }

    /// What the records say of a question.
    pub(super) fn find(&self, tree: &Digest, question: &Question, facts: &Facts) -> Finding {
        let code = code_hash(tree, &facts.identity);
        let runner = question.settings.runner.as_str();
        let key = source_key(&code, &question.root, &question.selection, runner, &facts.identity);
        Finding::of(&self.cache, &key, question, Timestamp::now())
    }

    /// Another checkout's record served this project: it is now this project's too.
    pub(super) fn claim(&self, question: &Question, tree: &Digest, facts: &Facts, record: &Record) {
        let code = code_hash(tree, &facts.identity);
        if let Err(error) = self.cache.claim(&question.root, code, record, Timestamp::now()) {
            debug!(%error, "cannot claim a record");
        }
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
            hook: self.hook.clone(),
            jobs: jobs.unwrap_or(all),
            build_jobs: jobs,
            priority: Priority::Background,
            color: false,
            no_cache: false,
            limits: self.limits(settings),
            cancel,
        }
    }

    pub(super) fn limits(&self, settings: &config::Settings) -> Limits {
        let bounds = *lock(&self.bounds);
        Limits {
            keep_snapshots: settings.keep_snapshots as usize,
            max_bytes: bounds.max_size,
            max_age: bounds.max_age,
        }
    }
}
