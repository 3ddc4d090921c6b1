//! A question with its facts, and what the records say of it: asked away from the project's own thread.

use std::path::Path;
use std::sync::Arc;

use super::super::shared::Shared;
use crate::cache::ProjectState;
use crate::model::{Answer, Digest, TargetId};
use crate::verdict::{Facts, KnownRecord, LookUp, Question, Unanswered, answers_for_all};

/// A question with its facts.
pub(super) struct Prepared {
    pub(super) question: Question,
    pub(super) facts: Facts,
}

impl Prepared {
    /// Gathers the facts of a question: rustc may have to be asked.
    ///
    /// # Errors
    /// If they cannot be had.
    pub(super) async fn gather(question: Question, memo_dir: &Path) -> Result<Arc<Self>, String> {
        let memo_dir = memo_dir.to_owned();
        tokio::task::spawn_blocking(move || match Facts::gather(&question, &memo_dir) {
            Ok(facts) => Ok(Arc::new(Self { question, facts })),
            Err(error) => Err(error.to_string()),
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
    }

    /// The answer of the records here. The inputs of one may be thousands of files.
    ///
    /// # Errors
    /// If none answers.
    pub(super) async fn look_up(
        self: &Arc<Self>,
        tree_digest: Digest,
        shared: &Arc<Shared>,
    ) -> Result<Answer, Unanswered> {
        let answered = self.ask(shared, move |records| records.answer(&tree_digest)).await;
        answered.unwrap_or_else(|reason| Err(Unanswered { reason, known_failure: None }))
    }

    /// What the records tell of the tree, green or red, for a view.
    ///
    /// # Errors
    /// Why they tell nothing.
    pub(super) async fn known(
        self: &Arc<Self>,
        tree_digest: Digest,
        shared: &Arc<Shared>,
    ) -> Result<KnownRecord, String> {
        self.ask(shared, move |records| records.known(&tree_digest)).await.and_then(|known| known)
    }

    /// Asks the records on a blocking thread.
    ///
    /// # Errors
    /// Why there was no thread, or how it ended, for a person.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        ask: impl FnOnce(LookUp<'_>) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (shared, this) = (Arc::clone(shared), Arc::clone(self));
        let asked = tokio::task::spawn_blocking(move || {
            let Self { question, facts } = &*this;
            ask(LookUp { cache: &shared.cache, question, facts })
        });
        asked.await.map_err(|error| error.to_string())
    }

    /// Whether no target of the last run is one of which nothing is kept, or no record answers for.
    pub(super) async fn may_keep_all(&self, shared: &Arc<Shared>) -> bool {
        let (shared, root) = (Arc::clone(shared), self.question.root.clone());
        let state = tokio::task::spawn_blocking(move || shared.cache.state(&root));
        let is_lost = |state: &ProjectState, target: &TargetId| {
            let name = target.to_string();
            state.uncached.contains_key(&name) || state.distrusted.contains_key(&name)
        };
        let may = |state: ProjectState| !state.targets.iter().any(|target| is_lost(&state, target));
        state.await.is_ok_and(may)
    }

    /// Whether a question would be answered by what other machines have proven of this tree, whose
    /// listing is kept.
    pub(super) async fn is_proven_elsewhere(
        self: &Arc<Self>,
        tree_digest: Digest,
        shared: &Arc<Shared>,
    ) -> bool {
        let (shared, this) = (Arc::clone(shared), Arc::clone(self));
        let runtime = tokio::runtime::Handle::current();
        let asked = tokio::task::spawn_blocking(move || {
            let Self { question, facts } = &*this;
            let Some(store) = shared.store_to_read(&question.root) else { return false };
            let look_up = LookUp { cache: &shared.cache, question, facts };
            runtime.block_on(answers_for_all(&store, &look_up, &tree_digest))
        });
        asked.await.unwrap_or(false)
    }
}
