//! `lsp`: the language server.

use super::context::Context;
use super::exit::{Exit, Stop};
use crate::views;

/// Serves an editor at standard input and output.
pub(super) fn lsp(context: &Context) -> Result<(), Stop> {
    match views::serve_editor(context.paths.clone(), context.environment.clone())? {
        true => Ok(()),
        false => Err(Stop::error(Exit::Failure, "the editor left without `shutdown` and `exit`")),
    }
}
