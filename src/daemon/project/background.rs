//! The tree of a project as its own background run sees it: by messages, as everybody else.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::Shared;
use super::Message;
use crate::cache::Cache;
use crate::model::Digest;
use crate::protocol::{Mark, Reply};
use crate::verdict::{ProjectTree, TreeError, TreeState};

/// Asks the project's task, until the work is cancelled: whoever cancels it may be that very
/// task, and waits for the end of the work before it answers anybody.
pub(super) struct ActorTree {
    messages: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
    /// What the project saw when the work began, until it is looked at.
    first: Option<TreeState<Mark>>,
    mark: Mark,
    cancel: CancellationToken,
}

impl ActorTree {
    pub(super) fn new(
        messages: mpsc::UnboundedSender<Message>,
        shared: Arc<Shared>,
        first: TreeState<Mark>,
        cancel: CancellationToken,
    ) -> Self {
        Self { messages, shared, mark: first.mark, first: Some(first), cancel }
    }

    async fn settle(&self, mark: Mark) -> Option<Reply> {
        if self.cancel.is_cancelled() {
            return None;
        }
        let seen = self.shared.barrier().await;
        self.ask(|reply| Message::Settle { mark, seen, reply }).await
    }

    async fn ask(&self, message: impl FnOnce(oneshot::Sender<Reply>) -> Message) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(message(reply)).ok()?;
        tokio::select! {
            () = self.cancel.cancelled() => None,
            answer = answer => answer.ok(),
        }
    }
}

impl ProjectTree for ActorTree {
    type Mark = Mark;

    async fn look(&mut self) -> Result<TreeState<Mark>, TreeError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match self.settle(self.mark).await {
            Some(Reply::Settled { tree, mark, .. }) => {
                self.mark = mark;
                let digest = tree.ok_or_else(|| vec!["the snapshot is unknown".to_owned()]);
                Ok(TreeState { digest, mark })
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
        let (tree, code_hash) = (*tree, *code_hash);
        // Without the listing an explanation names no files: nothing else is lost.
        let _ = self.ask(|reply| Message::KeepListing { tree, code_hash, reply }).await;
    }

    async fn uncounted(&mut self, paths: Vec<std::path::PathBuf>) -> Vec<std::path::PathBuf> {
        let all = paths.clone();
        match self.ask(|reply| Message::Uncounted { paths, reply }).await {
            Some(Reply::Paths { paths }) => paths.into_iter().map(|path| path.0.into()).collect(),
            _ => all,
        }
    }
}
