//! What is left of Rust sources without their comments, remembered by the sources' contents: a source is
//! read once for this.

use serde::{Deserialize, Serialize};

use crate::model::Digest;

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
