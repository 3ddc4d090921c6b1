//! One project: its tree, its watches, its background work. One task owns all of it; everybody
//! else sends messages.
//!
//! Events do not travel as messages but collect in the [`Inbox`], so that a checkout of thousands
//! of files is one entry a folder however busy the project is. Whatever was put there before a
//! message was sent is seen before the message is handled: that, with the barrier's cookie, is
//! why no question is answered for an older tree.

mod actor;
mod ahead;
mod background;
mod calm;
mod courtesy;
mod deciding;
mod foresight;
mod git;
mod history;
mod inbox;
mod patience;
mod place;
mod polite;
mod question;
mod reading;
mod rivalry;
mod site;
mod stages;
mod telling;
mod tree;
mod warm;
mod work;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::actor::Actor;
use self::ahead::Lesson;
use self::inbox::Inbox;
use super::Shared;
use super::watches::Watches;
use crate::config;
use crate::model::Digest;
use crate::predict::Commit;
use crate::process::Environment;
use crate::protocol::{Ask, LastVerdict, Mark, ProjectStatus, Reply};

/// What a project is asked or told.
#[derive(Debug)]
pub(super) enum Message {
    /// Something is in the inbox.
    Touched,
    /// The question. `seen`: the barrier came back, so that the inbox tells all.
    Ask { ask: Box<Ask>, seen: bool, doing: watch::Sender<String>, reply: oneshot::Sender<Reply> },
    /// What changed since the mark?
    Settle { mark: Mark, seen: bool, reply: oneshot::Sender<Reply> },
    /// Which of these files does the snapshot not count?
    Uncounted { paths: Vec<PathBuf>, reply: oneshot::Sender<Reply> },
    /// Keep the listing of this snapshot for explanations.
    KeepListing { tree: Digest, code_hash: Digest, reply: oneshot::Sender<Reply> },
    /// Tell when no background work is running.
    Join { doing: watch::Sender<String>, reply: oneshot::Sender<Reply> },
    /// Build now.
    Rebuild {
        environment: Box<Environment>,
        doing: watch::Sender<String>,
        reply: oneshot::Sender<Reply>,
    },
    /// Someone builds in the foreground: keep away.
    Hold,
    /// They are done.
    Release,
    /// A verdict was reached.
    Report(Box<LastVerdict>),
    /// What git remembers of the project.
    History(Vec<Commit>),
    /// A build has taught something about builds.
    Learned(Box<Lesson>),
    /// The config says something else now.
    Settings(Box<config::Settings>),
}

/// The one watcher of the daemon. Its lock is held for single calls only.
pub(super) type SharedWatcher = Arc<Mutex<Watches>>;

/// How others reach a project; dropping the last one ends it.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    root: Arc<Path>,
    inbox: Arc<Inbox>,
    messages: mpsc::UnboundedSender<Message>,
    status: watch::Receiver<ProjectStatus>,
}

impl Handle {
    /// Whether an event in `dir` may be this project's business.
    pub(super) fn may_read(&self, dir: &Path) -> bool {
        dir.starts_with(&self.root) || self.inbox.is_beyond()
    }

    /// Puts a folder whose content changed into the inbox.
    pub(super) fn touched(&self, folder: &Path, doubt: bool) {
        if self.inbox.touched(folder, doubt) {
            self.send(Message::Touched);
        }
    }

    /// Puts "everything may have changed" into the inbox.
    pub(super) fn lost_track(&self) {
        if self.inbox.lost_track() {
            self.send(Message::Touched);
        }
    }

    /// Sends a message; one to a project that has just left the config is lost, and whoever waits
    /// for its reply notices.
    pub(super) fn send(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    /// The state as the project last told it.
    pub(super) fn status(&self) -> ProjectStatus {
        self.status.borrow().clone()
    }
}

/// Keeps background work away from a project as long as it lives.
#[derive(Debug)]
pub(super) struct Lease(Handle);

impl Lease {
    pub(super) fn new(handle: Handle) -> Self {
        handle.send(Message::Hold);
        Self(handle)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.send(Message::Release);
    }
}

/// A project that has been started.
pub(super) struct Started {
    /// How to reach it.
    pub(super) handle: Handle,
    /// Ends when the project has ended and nothing of it is left running.
    pub(super) task: JoinHandle<()>,
    /// Ends it.
    pub(super) stop: CancellationToken,
    /// Fires once its tree has been read for the first time, or cannot be read.
    pub(super) ready: oneshot::Receiver<()>,
}

/// Starts the task of a project.
pub(super) fn start(project: &config::Project, shared: &Arc<Shared>) -> Started {
    let (messages, receiver) = mpsc::unbounded_channel();
    let inbox = Arc::new(Inbox::default());
    let stop = shared.stop.child_token();
    let (tell_ready, ready) = oneshot::channel();
    let (actor, status) =
        Actor::new(project, Arc::clone(shared), Arc::clone(&inbox), messages.downgrade());
    let task = tokio::spawn(actor.run(receiver, tell_ready, stop.clone()));
    let root = project.path.as_path().into();
    Started { handle: Handle { root, inbox, messages, status }, task, stop, ready }
}
