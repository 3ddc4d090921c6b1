//! Standard output and standard error.
//!
//! Standard output carries the result of a command. If it cannot be written, the command stops with
//! a status of its own, so that no script takes a lost result for a verdict. Standard error carries
//! messages for people; a message that cannot be written is dropped.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::exit::{Exit, Stop};

/// Writes a text to standard output, without colour if it is no terminal.
pub(super) fn text(text: impl Display) -> Result<(), Stop> {
    let mut out = anstream::stdout().lock();
    written(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes a line to standard output.
pub(super) fn line(line: impl Display) -> Result<(), Stop> {
    text(format_args!("{line}\n"))
}

/// Writes bytes to standard output as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Stop> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Writes bytes to standard error as they are, if possible.
pub(super) fn error_bytes(bytes: &[u8]) {
    let _ = std::io::stderr().lock().write_all(bytes);
}

/// Writes a line to standard error if possible.
pub(super) fn note(line: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}

/// Writes a text to standard error if possible.
pub(super) fn note_text(text: impl Display) {
    let _ = write!(anstream::stderr().lock(), "{text}");
}

/// The status of a write to standard output.
pub(super) fn written(result: std::io::Result<()>) -> Result<(), Stop> {
    match result {
        Ok(()) => Ok(()),
        // The reader has seen enough: nothing to complain about.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            Err(Stop::silent(Exit::OutputClosed))
        }
        Err(error) => {
            Err(Stop::new(Exit::OutputLost, format!("standard output cannot be written: {error}")))
        }
    }
}
