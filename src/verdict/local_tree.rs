//! A project's tree that is scanned at each question.

use std::path::{Path, PathBuf};

use super::project_files::{FilesMark, ProjectFiles, Refresh};
use super::tree::{ProjectTree, TreeError, TreeState};
use crate::cache::Cache;
use crate::model::Digest;

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
    pub(crate) fn scope(&self) -> &ProjectFiles {
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
    type Mark = FilesMark;

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
