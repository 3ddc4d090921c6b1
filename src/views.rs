//! Views of the one stream of events: where people look, the state of their tests is shown.
//!
//! Each view is a module and a client of the stream, which [`Feed`] keeps connected.

mod feed;
mod lines;
mod lsp;

pub(crate) use feed::{Feed, Wanted};
pub(crate) use lines::{LineReport, Standing};
pub(crate) use lsp::serve as serve_editor;
