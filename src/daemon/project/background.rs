//! The tree of a project as its own background run sees it: by messages, as everybody else.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::super::Shared;
use super::Message;
use crate::cache::Cache;
use crate::model::Digest;
use crate::protocol::{Mark, Reply};
use crate::verdict::{Look, Tree, TreeError};

/// Asks the project's task.
pub(super) struct ActorTree {
    messages: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
}

impl ActorTree {
    pub(super) fn new(messages: mpsc::UnboundedSender<Message>, shared: Arc<Shared>) -> Self {
        Self { messages, shared }
    }

    async fn settle(&self, mark: Mark) -> Option<Reply> {
        let seen = self.shared.barrier().await;
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Settle { mark, seen, reply }).ok()?;
        answer.await.ok()
    }
}

impl Tree for ActorTree {
    type Mark = Mark;

    async fn look(&mut self) -> Result<Look<Mark>, TreeError> {
        // No moment is older than the daemon's first: what changed since is of no interest here.
        let never = Mark { daemon: self.shared.id, moment: u64::MAX };
        match self.settle(never).await {
            Some(Reply::Settled { tree, mark, .. }) => {
                let digest = tree.ok_or_else(|| vec!["the snapshot is unknown".to_owned()]);
                Ok(Look { digest, mark })
            }
            Some(Reply::Error { message }) => Err(TreeError(message)),
            _ => Err(TreeError("the project is being closed".to_owned())),
        }
    }

    async fn changed_since(&mut self, mark: &Mark) -> Option<Vec<String>> {
        match self.settle(*mark).await? {
            Reply::Settled { changed, .. } => changed,
            _ => None,
        }
    }

    async fn keep_listing(&mut self, _: &Cache, tree: &Digest, code_hash: &Digest) {
        let (reply, answer) = oneshot::channel();
        let message = Message::KeepListing { tree: *tree, code_hash: *code_hash, reply };
        if self.messages.send(message).is_ok() {
            // Without the listing an explanation names no files: nothing else is lost.
            let _ = answer.await;
        }
    }

    async fn uncounted(&mut self, paths: Vec<std::path::PathBuf>) -> Vec<std::path::PathBuf> {
        let (reply, answer) = oneshot::channel();
        let all = paths.clone();
        if self.messages.send(Message::Uncounted { paths, reply }).is_err() {
            return all;
        }
        match answer.await {
            Ok(Reply::Paths { paths }) => paths.into_iter().map(|path| path.0.into()).collect(),
            _ => all,
        }
    }
}
