//! What is left of Rust sources without their comments, remembered by the sources' contents: a source is
//! read once for this.

use serde::{Deserialize, Serialize};

use super::Cache;
use super::layout::Layout;
use super::memos::Memos;
use crate::model::Digest;

/// The most workspaces that are remembered. With one more, all are forgotten, and their sources are read again.
const MOST_WORKSPACES: usize = 128;

/// A Rust source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceCode {
    /// The digest of its content.
    pub content: Digest,
    /// The digest of what is left without comments.
    pub code: Digest,
    /// The digest of what is left without test modules too.
    pub library: Digest,
    /// Whether it may have the compiler embed the text of a source.
    pub embeds: bool,
}

impl Cache {
    /// What is known of the sources of a workspace.
    #[must_use]
    pub(crate) fn code_digests(&self, workspace: &Digest) -> Option<Vec<SourceCode>> {
        memos(&self.layout).get(workspace)
    }

    /// Remembers it. If it cannot be written, the sources are read again.
    pub(crate) fn store_code_digests(&self, workspace: &Digest, all: &[SourceCode]) {
        memos(&self.layout).put(workspace, &all);
    }
}

/// The memos of this kind.
pub(super) fn memos(layout: &Layout) -> Memos {
    Memos { folder: layout.code_digests(), format: "code digests 2", most: MOST_WORKSPACES }
}
