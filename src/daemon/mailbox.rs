//! How the rest of the daemon reaches a project.
//!
//! Events do not travel as messages but collect in the [`Inbox`]. Whatever was put there before a
//! message was sent is seen before the message is handled: that, with the barrier's cookie, is why
//! no question is answered for an older tree.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::inbox::Inbox;
use super::subscriber::Subscriber;
use crate::config;
use crate::model::{Answer, Digest};
use crate::process::Environment;
use crate::protocol::{Ask, LastVerdict, Mark, ProjectStatus, RanProgram, Reply, StreamEvent};

/// Tells the background runs of a project apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RunNumber(pub(super) u64);

/// A message to a project.
#[derive(Debug)]
pub(super) enum Message {
    /// There is something in the inbox.
    Touched,
    /// The question. `seen`: the barrier came back, so that the inbox tells all.
    Ask { ask: Box<Ask>, seen: bool, doing: watch::Sender<String>, reply: oneshot::Sender<Reply> },
    /// What changed since the mark?
    Settle { mark: Mark, seen: bool, reply: oneshot::Sender<Reply> },
    /// Which of these files does the snapshot not count?
    Uncounted { paths: Vec<PathBuf>, reply: oneshot::Sender<Reply> },
    /// Keep the listing of this snapshot for explanations.
    KeepListing { tree: Digest, code_hash: Digest, reply: oneshot::Sender<Reply> },
    /// Tell when no background job is in flight.
    Join { doing: watch::Sender<String>, reply: oneshot::Sender<Reply> },
    /// Build now.
    Rebuild {
        environment: Box<Environment>,
        doing: watch::Sender<String>,
        reply: oneshot::Sender<Reply>,
    },
    /// A client builds by itself: do nothing in the background.
    Hold,
    /// It is done.
    Release,
    /// A verdict was reached.
    Report { verdict: Box<LastVerdict>, ran: Vec<RanProgram>, answer: Option<Box<Answer>> },
    /// Records of other machines have answered a question that none here did.
    AnsweredByOthers { ask: Box<Ask> },
    /// Tell this client the state, and then every change. `told` is dropped once the state is told.
    Subscribe { client: Subscriber, told: oneshot::Sender<()> },
    /// Tell the clients that watch when the tree is what a barrier has shown (`seen`), or later.
    Confirm { token: u64, seen: bool, reply: oneshot::Sender<Reply> },
    /// The project's own run has news for the clients that watch.
    RunNews { run: RunNumber, events: Vec<StreamEvent> },
    /// A pause by hand has begun or ended: the state may be another one.
    Paused,
    /// The config has other settings now.
    Settings(Box<config::Settings>),
}

/// A project's address; dropping the last one ends the project.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    workspace_root: Arc<Path>,
    inbox: Arc<Inbox>,
    messages: mpsc::UnboundedSender<Box<Message>>,
    status: watch::Receiver<ProjectStatus>,
}

impl Mailbox {
    pub(super) fn new(
        workspace_root: &Path,
        inbox: Arc<Inbox>,
        messages: mpsc::UnboundedSender<Box<Message>>,
        status: watch::Receiver<ProjectStatus>,
    ) -> Self {
        Self { workspace_root: workspace_root.into(), inbox, messages, status }
    }

    /// Whether an event in `dir` may concern this project.
    pub(super) fn may_read(&self, dir: &Path) -> bool {
        dir.starts_with(&self.workspace_root) || self.inbox.is_beyond()
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

    /// Sends a message. One to a project that has just left the config is lost, and whoever waits
    /// for its reply notices.
    pub(super) fn send(&self, message: Message) {
        let _ = self.messages.send(Box::new(message));
    }

    /// The state as the project last told it.
    pub(super) fn status(&self) -> ProjectStatus {
        self.status.borrow().clone()
    }
}

/// Keeps a project from background jobs as long as it lives.
#[derive(Debug)]
pub(super) struct Lease(Mailbox);

impl Lease {
    pub(super) fn new(mailbox: Mailbox) -> Self {
        mailbox.send(Message::Hold);
        Self(mailbox)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.send(Message::Release);
    }
}
