//! The requests of one connection, and what it holds while it is open.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::mailbox::{Lease, Mailbox, Message};
use super::server::{Doing, Session};
use super::shared::{Command, Shared};
use super::subscriber::{Subscription, subscribe};
use super::sync::off_thread;
use crate::protocol::{Ask, Call, Reply, StreamEvent, hello};

/// One connection's side of the daemon.
pub(super) struct Client {
    shared: Arc<Shared>,
    /// Keeps a project from background jobs after a miss, until the connection closes.
    lease: Option<Lease>,
    /// The last question that no record here answered.
    missed: Option<Box<Ask>>,
    /// What it is told, once it wants to be.
    subscription: Option<Subscription>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, lease: None, missed: None, subscription: None }
    }

    async fn ask(&mut self, mut ask: Ask, doing: watch::Sender<String>) -> Reply {
        ask.environment = self.shared.for_tests(ask.environment);
        if let Some(message) = self.has_another_config(&ask).await {
            return Reply::Error { message };
        }
        let Some((mailbox, seen)) = self.shared.project_after_barrier(ask.project.clone()).await
        else {
            return Reply::Unwatched;
        };
        let asked = Box::new(ask);
        let ask = asked.clone();
        let reply = tell(&mailbox, |reply| Message::Ask { ask, seen, doing, reply }).await;
        if matches!(reply, Reply::Miss(_)) && !asked.only_known {
            self.lease = Some(Lease::new(mailbox));
            self.missed = Some(asked);
        }
        reply
    }

    /// Has this connection told of a project, or of all.
    async fn subscribe(&mut self, project: Option<PathBuf>) -> Reply {
        let (subscriber, subscription) = subscribe();
        subscriber.tell([hello()].into());
        let client = subscriber.clone();
        let wanted = |reply| Command::Subscribe { project, client, reply };
        let told = match self.shared.ask(wanted).await {
            Some(Some(told)) => told,
            Some(None) => return Reply::Unwatched,
            None => return stopping(),
        };
        tokio::spawn(async move {
            for told in told {
                // It is dropped, not sent.
                let _ = told.await;
            }
            subscriber.tell([StreamEvent::Synced].into());
        });
        self.subscription = Some(subscription);
        Reply::Subscribed
    }

    /// What to say to a client whose settings are not this daemon's.
    async fn has_another_config(&self, ask: &Ask) -> Option<String> {
        let (own, other) = (self.shared.paths.config_file.clone(), ask.config_file.clone());
        if own == other {
            return None;
        }
        let told = format!("the daemon uses another config file, {}", own.display());
        let is_same = move || {
            own.canonicalize().is_ok_and(|own| other.canonicalize().is_ok_and(|other| other == own))
        };
        (!off_thread(is_same).await).then_some(told)
    }

    /// Sends a message to a project and waits for its reply.
    async fn tell_project(
        &self,
        project: PathBuf,
        message: impl FnOnce(oneshot::Sender<Reply>) -> Message,
    ) -> Reply {
        match self.shared.project(project).await {
            Some(mailbox) => tell(&mailbox, message).await,
            None => Reply::Unwatched,
        }
    }
}

impl Session for Client {
    async fn answer(&mut self, call: Call, doing: &Doing) -> Reply {
        let doing = || watch::Sender::clone(doing);
        match call {
            Call::Ask(ask) => self.ask(ask, doing()).await,
            Call::Settle { project, mark } => {
                match self.shared.project_after_barrier(project).await {
                    Some((mailbox, seen)) => {
                        tell(&mailbox, |reply| Message::Settle { mark, seen, reply }).await
                    }
                    None => Reply::Unwatched,
                }
            }
            Call::Confirm { project, token } => {
                match self.shared.project_after_barrier(project.0.into()).await {
                    Some((mailbox, seen)) => {
                        tell(&mailbox, |reply| Message::Confirm { token, seen, reply }).await
                    }
                    None => Reply::Unwatched,
                }
            }
            Call::Uncounted { project, paths } => {
                let paths = paths.into_iter().map(|path| path.0.into()).collect();
                self.tell_project(project, |reply| Message::Uncounted { paths, reply }).await
            }
            Call::KeepListing { project, tree, code_hash } => {
                let message = |reply| Message::KeepListing { tree, code_hash, reply };
                self.tell_project(project, message).await
            }
            Call::Join { project } => {
                let doing = doing();
                self.tell_project(project, |reply| Message::Join { doing, reply }).await
            }
            Call::Rebuild { project, environment } => {
                let environment = Box::new(self.shared.for_tests(environment));
                let doing = doing();
                let message = |reply| Message::Rebuild { environment, doing, reply };
                self.tell_project(project, message).await
            }
            Call::Report { project, verdict, ran, answer, by_others } => {
                match self.shared.project(project).await {
                    Some(mailbox) => {
                        let (verdict, answer) = (Box::new(verdict), answer.map(Box::new));
                        mailbox.send(Message::Report { verdict, ran, answer });
                        if let Some(ask) = self.missed.take().filter(|_| by_others) {
                            mailbox.send(Message::AnsweredByOthers { ask });
                        }
                        Reply::Done
                    }
                    None => Reply::Unwatched,
                }
            }
            Call::Publish { project, publication } => {
                // Where the queue is gone, the daemon is stopping.
                let _ = self.shared.publisher.push(project, publication).await;
                Reply::Done
            }
            Call::Status => self.shared.status().await.map_or_else(stopping, Reply::Status),
            Call::Pauses => {
                self.shared.scheduler.read_pauses().await;
                // The dispatcher may have ended.
                let _ = self.shared.commands.send(Command::Paused);
                Reply::Done
            }
            Call::ProbeStore { project } => self.shared.probe_store(project).await,
            Call::Reload => self.shared.ask(Command::Reload).await.unwrap_or_else(stopping),
            Call::Subscribe { project } => self.subscribe(project.map(|path| path.0.into())).await,
        }
    }

    fn holds(&self) -> bool {
        self.lease.is_some()
    }

    fn take_subscription(&mut self) -> Option<Subscription> {
        self.subscription.take()
    }
}

/// Sends a message to a project and waits for its reply.
async fn tell(mailbox: &Mailbox, message: impl FnOnce(oneshot::Sender<Reply>) -> Message) -> Reply {
    let (reply, answer) = oneshot::channel();
    mailbox.send(message(reply));
    answer.await.unwrap_or_else(|_| Reply::Error {
        message: "the project is leaving the config, or the daemon is stopping".to_owned(),
    })
}

fn stopping() -> Reply {
    Reply::Error { message: "the daemon is stopping".to_owned() }
}
