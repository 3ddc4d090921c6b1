//! How a snapshot is had: from a scan of our own, or from a daemon that watches.

use std::future::Future;
use std::path::{Path, PathBuf};

use super::{ProjectFiles, Refresh};
use crate::cache::Cache;
use crate::model::Digest;

/// A snapshot's digest, and the moment at which it was true.
#[derive(Clone, Debug)]
pub struct TreeState<M> {
    /// The digest, or why there is none: then nothing is looked up and nothing is kept.
    pub digest: Result<Digest, Vec<String>>,
    /// The moment, for [`ProjectTree::changed_since`].
    pub mark: M,
}

/// The tree could not be looked at at all.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot take a snapshot: {0}")]
pub struct TreeError(pub String);

/// A project's files, whoever reads them.
pub trait ProjectTree {
    /// A moment in the tree's life.
    type Mark: Clone;

    /// The snapshot as of now: no change made before the call is missed.
    fn look(&mut self) -> impl Future<Output = Result<TreeState<Self::Mark>, TreeError>>;

    /// Every file that was touched since `mark`, even if its content is the same again; `None`
    /// where that cannot be told, which counts as changed. Includes all changes made before the
    /// call.
    fn changed_since(&mut self, mark: &Self::Mark) -> impl Future<Output = Option<Vec<String>>>;

    /// Those of `paths` (absolute) that the snapshot does not count. Where that cannot be told,
    /// all of them.
    fn uncounted(&mut self, paths: Vec<PathBuf>) -> impl Future<Output = Vec<PathBuf>>;

    /// Keeps the listing of the snapshot `tree` beside the records of `code_hash`, if that is
    /// still the snapshot. Without it, an explanation cannot name files: nothing else is lost.
    fn keep_listing(
        &mut self,
        cache: &Cache,
        tree: &Digest,
        code_hash: &Digest,
    ) -> impl Future<Output = ()>;
}

/// The tree read by this process itself, with a memo of digests on disk.
pub struct LocalTree {
    scope: ProjectFiles,
    memo: PathBuf,
    loaded: bool,
}

impl LocalTree {
    /// The tree of `scope`; its memo lies below `cache_dir`.
    #[must_use]
    pub fn new(scope: ProjectFiles, cache_dir: &Path) -> Self {
        let memo = scope.memo_file(cache_dir);
        Self { scope, memo, loaded: false }
    }

    /// The scope, for explanations.
    #[must_use]
    pub fn scope(&self) -> &ProjectFiles {
        &self.scope
    }

    fn scan(&mut self) {
        if !self.loaded {
            self.scope.load_memo(&self.memo);
            self.loaded = true;
        }
        let hashed = self.scope.refresh(Refresh::All, &mut |_| {});
        if hashed && let Err(error) = self.scope.save_memo(&self.memo) {
            tracing::warn!(%error, file = %self.memo.display(), "cannot keep the memo of digests");
        }
    }
}

impl ProjectTree for LocalTree {
    type Mark = super::FilesMark;

    async fn look(&mut self) -> Result<TreeState<Self::Mark>, TreeError> {
        self.scan();
        Ok(self.scope.look())
    }

    async fn changed_since(&mut self, mark: &Self::Mark) -> Option<Vec<String>> {
        self.scan();
        self.scope.changed_since(mark)
    }

    async fn uncounted(&mut self, paths: Vec<PathBuf>) -> Vec<PathBuf> {
        paths.into_iter().filter(|path| !self.scope.hasher().counts(path)).collect()
    }

    async fn keep_listing(&mut self, cache: &Cache, tree: &Digest, code_hash: &Digest) {
        self.scope.keep_listing(cache, tree, code_hash);
    }
}
