//! What a question asks of a project's tree, whoever reads it: a scan of our own or a daemon that
//! watches.

use std::future::Future;
use std::path::PathBuf;

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
