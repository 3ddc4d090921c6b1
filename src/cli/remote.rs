//! The tree as a daemon sees it.

use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::client::{ClientError, Connection};
use crate::model::{Digest, OsText};
use crate::protocol::{Call, Mark, Miss, Reply};
use crate::verdict::{ProjectTree, TreeError, TreeState};

/// Asks the daemon over the connection on which it said that no record answers. As long as the
/// connection is open, the daemon builds nothing for this project.
pub(super) struct RemoteTree<'a> {
    connection: &'a mut Connection,
    project: PathBuf,
    /// What the daemon said last, until it is asked again.
    miss: Option<Miss>,
    mark: Mark,
}

impl<'a> RemoteTree<'a> {
    /// The tree as `miss` tells of it; `stale` says that this was some time ago, so that it is
    /// asked for again.
    pub(super) fn new(
        connection: &'a mut Connection,
        project: &Path,
        miss: Miss,
        stale: bool,
    ) -> Self {
        let (project, mark) = (project.to_owned(), miss.mark);
        Self { connection, project, mark, miss: Some(miss).filter(|_| !stale) }
    }

    fn settle(&mut self, mark: Mark) -> Result<Reply, ClientError> {
        self.connection.call(Call::Settle { project: self.project.clone(), mark }, |_| {})
    }
}

impl ProjectTree for RemoteTree<'_> {
    type Mark = Mark;

    async fn look(&mut self) -> Result<TreeState<Mark>, TreeError> {
        if let Some(miss) = self.miss.take() {
            let digest = miss.tree.ok_or_else(|| vec![miss.reason]);
            return Ok(TreeState { digest, mark: miss.mark });
        }
        // The tests can be run without it, only not kept: no reason to give up.
        let mark = self.mark;
        let unknown = |why: String| Ok(TreeState { digest: Err(vec![why]), mark });
        match self.settle(self.mark) {
            Ok(Reply::Settled { tree, mark, .. }) => {
                self.mark = mark;
                Ok(TreeState { digest: tree, mark })
            }
            Ok(_) => unknown("the daemon no longer knows this project".to_owned()),
            Err(error) => unknown(error.to_string()),
        }
    }

    async fn changed_since(&mut self, mark: &Mark) -> Option<Vec<String>> {
        match self.settle(*mark) {
            Ok(Reply::Settled { changed, .. }) => changed,
            _ => None,
        }
    }

    async fn keep_listing(&mut self, _: &Cache, tree: &Digest, code_hash: &Digest) {
        let (project, tree, code_hash) = (self.project.clone(), *tree, *code_hash);
        // Without the listing an explanation names no files: nothing else is lost.
        let _ = self.connection.call(Call::KeepListing { project, tree, code_hash }, |_| {});
    }

    async fn uncounted(&mut self, paths: Vec<PathBuf>) -> Vec<PathBuf> {
        let asked = paths.iter().map(OsText::from).collect();
        let call = Call::Uncounted { project: self.project.clone(), paths: asked };
        match self.connection.call(call, |_| {}) {
            Ok(Reply::Paths { paths }) => paths.into_iter().map(|path| path.0.into()).collect(),
            _ => paths,
        }
    }
}
