//! All that the server's one loop waits for.

use std::path::PathBuf;

use lsp_server::Message;

use crate::protocol::StreamEvent;

/// Something has happened.
#[derive(Debug)]
pub(super) enum ServerInput {
    /// The editor has said something.
    Client(Message),
    /// The editor is gone, or what it says makes no sense.
    ClientGone,
    /// The daemon has said something.
    Event {
        /// The project that is followed.
        project: PathBuf,
        /// The event.
        event: StreamEvent,
    },
    /// There will be no more events of a project.
    FeedEnded {
        /// The project.
        project: PathBuf,
        /// Why.
        reason: String,
    },
    /// A command that the user asked for has ended.
    CommandEnded(CommandResult),
}

/// How a command has ended.
#[derive(Debug)]
pub(super) struct CommandResult {
    /// What was done, for a person: `test a::b`.
    pub(super) what: String,
    /// Its exit status; none if it could not be started or was ended.
    pub(super) status: Option<i32>,
    /// Everything that it printed.
    pub(super) output: String,
    /// The output is what the user wants to see.
    pub(super) is_shown: bool,
}
