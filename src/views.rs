//! Views of the one stream of events: where people look, the state of their tests is shown.
//!
//! Each view is a module and a client of the stream, which [`Feed`] keeps connected.

mod feed;
mod lines;
mod lsp;
mod notify;
mod own_program;
mod places;
mod screen;
mod summary;

pub(crate) use feed::{Feed, Wanted};
pub(crate) use lines::LineReport;
pub(crate) use lsp::serve as serve_editor;
pub(crate) use notify::{NoticeForm, Notices};
pub(crate) use places::PlaceFinder;
pub(crate) use screen::{ScreenEnd, ScreenSetup, watch_on_screen};
pub(crate) use summary::Standing;
