//! What one connection may ask, and what it holds while it is open.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::mailbox::{Lease, Mailbox, Message};
use super::server::{Doing, Session};
use super::shared::{Command, Shared};
use crate::protocol::{Ask, Call, Reply};

/// One connection's side of the daemon.
pub(super) struct Client {
    shared: Arc<Shared>,
    /// Keeps background work away after a miss, until the connection closes.
    lease: Option<Lease>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, lease: None }
    }

    /// Sends a message to a project and waits for its reply.
    async fn tell(
        &self,
        project: PathBuf,
        message: impl FnOnce(oneshot::Sender<Reply>) -> Message,
    ) -> (Reply, Option<Mailbox>) {
        let Some(handle) = self.shared.project(project).await else {
            return (Reply::Unwatched, None);
        };
        let (reply, answer) = oneshot::channel();
        handle.send(message(reply));
        let answer = answer.await.unwrap_or_else(|_| Reply::Error {
            message: "the project is being taken out of the config, or the daemon is stopping"
                .into(),
        });
        (answer, Some(handle))
    }
}

impl Session for Client {
    async fn answer(&mut self, call: Call, doing: &Doing) -> Reply {
        let doing = || watch::Sender::clone(doing);
        match call {
            Call::Ask(ask) => {
                if let Some(message) = self.goes_by_another_config(&ask) {
                    return Reply::Error { message };
                }
                let seen = self.shared.barrier().await;
                let (project, doing) = (ask.project.clone(), doing());
                let message = |reply| Message::Ask { ask: Box::new(ask), seen, doing, reply };
                let (reply, handle) = self.tell(project, message).await;
                if let (Reply::Miss(_), Some(handle)) = (&reply, handle) {
                    self.lease = Some(Lease::new(handle));
                }
                reply
            }
            Call::Settle { project, mark } => {
                let seen = self.shared.barrier().await;
                self.tell(project, |reply| Message::Settle { mark, seen, reply }).await.0
            }
            Call::Uncounted { project, paths } => {
                let paths = paths.into_iter().map(|path| path.0.into()).collect();
                self.tell(project, |reply| Message::Uncounted { paths, reply }).await.0
            }
            Call::KeepListing { project, tree, code_hash } => {
                let message = |reply| Message::KeepListing { tree, code_hash, reply };
                self.tell(project, message).await.0
            }
            Call::Join { project } => {
                let doing = doing();
                self.tell(project, |reply| Message::Join { doing, reply }).await.0
            }
            Call::Rebuild { project, environment } => {
                let (environment, doing) = (Box::new(environment), doing());
                let message = |reply| Message::Rebuild { environment, doing, reply };
                self.tell(project, message).await.0
            }
            Call::Report { project, verdict } => match self.shared.project(project).await {
                Some(handle) => {
                    handle.send(Message::Report(Box::new(verdict)));
                    Reply::Done
                }
                None => Reply::Unwatched,
            },
            Call::Status => self.ask(Command::Status).await.map_or_else(stopping, Reply::Status),
            Call::Pauses => {
                self.shared.scheduler.read_pauses().await;
                Reply::Done
            }
            Call::Reload => self.ask(Command::Reload).await.unwrap_or_else(stopping),
        }
    }
}

impl Client {
    /// What to say to an asker whose settings are not this daemon's.
    fn goes_by_another_config(&self, ask: &Ask) -> Option<String> {
        let own = &self.shared.paths.config_file;
        let same = || {
            own.canonicalize()
                .is_ok_and(|own| ask.config_file.canonicalize().is_ok_and(|other| other == own))
        };
        (*own != ask.config_file && !same())
            .then(|| format!("the daemon goes by another config file, {}", own.display()))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.commands.send(command(reply)).ok()?;
        answer.await.ok()
    }
}

fn stopping() -> Reply {
    Reply::Error { message: "the daemon is stopping".to_owned() }
}
