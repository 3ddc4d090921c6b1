//! What the live view hears besides the keyboard.

use super::super::feed::FeedError;
use crate::model::StreamEvent;

/// An input.
#[derive(Debug)]
pub(super) enum ScreenInput {
    Event(StreamEvent),
    /// No more events come.
    FeedEnded(Result<(), FeedError>),
    CommandEnded(CommandEnd),
    /// The user's editor has ended, or did not start.
    EditorEnded {
        note: Option<String>,
    },
}

/// What there is to show of a command.
#[derive(Debug)]
pub(super) struct CommandEnd {
    /// The title of the text, or the line that is all.
    pub(super) title: String,
    pub(super) text: Option<String>,
}

impl CommandEnd {
    /// One line.
    pub(super) fn note(title: String) -> Self {
        Self { title, text: None }
    }

    /// A text.
    pub(super) fn panel(title: String, text: String) -> Self {
        Self { title, text: Some(text) }
    }
}
