//! Every exit status of this program, and the error that carries one. A test compares the guide's
//! table with it.

use std::fmt;

/// An exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Green, or done.
    Success,
    /// Something outside went wrong: a file, a disk, a socket.
    Failure,
    /// The command line cannot be parsed (clap's own number).
    Usage,
    /// `--verify` found a record that the run contradicts.
    VerifyDiffers,
    /// The config cannot be read as it is.
    Config,
    /// The command needs a running daemon, and none runs.
    NotRunning,
    /// Another daemon of this user is running.
    AlreadyRunning,
    /// The system's service supervisor is missing or refuses.
    Service,
    /// `doctor` found something wrong.
    Unwell,
    /// Standard output cannot be written.
    OutputLost,
    /// `check` knows no answer.
    Unknown,
    /// Tests failed, or the build did (cargo's own number).
    NotGreen,
    /// Ended by Ctrl-C.
    Interrupted,
    /// The reader of standard output closed it (the shell's number for SIGPIPE).
    OutputClosed,
    /// Ended by SIGTERM.
    Terminated,
}

impl Exit {
    /// All of them, in the order of the guide's table.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 15] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::VerifyDiffers,
        Self::Config,
        Self::NotRunning,
        Self::AlreadyRunning,
        Self::Service,
        Self::Unwell,
        Self::OutputLost,
        Self::Unknown,
        Self::NotGreen,
        Self::Interrupted,
        Self::OutputClosed,
        Self::Terminated,
    ];

    /// The number.
    #[must_use]
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::VerifyDiffers => 3,
            Self::Config => 4,
            Self::NotRunning => 5,
            Self::AlreadyRunning => 6,
            Self::Service => 7,
            Self::Unwell => 8,
            Self::OutputLost => 9,
            Self::Unknown => 10,
            Self::NotGreen => 101,
            Self::Interrupted => 130,
            Self::OutputClosed => 141,
            Self::Terminated => 143,
        }
    }

    /// One line for the guide's table.
    #[cfg(test)]
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "green, or done",
            Self::Failure => "something outside went wrong: a file, a disk, a socket",
            Self::Usage => "wrong usage",
            Self::VerifyDiffers => "`test --verify` found a record that the run contradicts",
            Self::Config => "the config cannot be used as it is",
            Self::NotRunning => "the daemon is needed and is not running",
            Self::AlreadyRunning => "another daemon of this user is running",
            Self::Service => "the system's service supervisor is missing or refuses",
            Self::Unwell => "`doctor` found something wrong",
            Self::OutputLost => "standard output cannot be written, such as on a full disk",
            Self::Unknown => "`check` knows no answer",
            Self::NotGreen => {
                "tests failed, the build failed, or there is no workspace or no cargo"
            }
            Self::Interrupted => "ended by Ctrl-C",
            Self::OutputClosed => "the reader of standard output closed it",
            Self::Terminated => "ended by SIGTERM",
        }
    }
}

/// What stopped a command, for a person, and the exit status that goes with it.
#[derive(Debug)]
pub(super) struct Stop {
    /// The exit status.
    pub exit: Exit,
    /// The message, without `error:` in front; empty if everything has been said already.
    pub message: String,
    /// Nothing has been printed for scripts yet: `test` owes them a last line.
    pub error_line: bool,
    /// The compiler's errors, if a build failed.
    pub build_errors: String,
}

impl Stop {
    /// Stops with a message.
    pub(super) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), error_line: false, build_errors: String::new() }
    }

    /// Stops a question that has no answer.
    pub(super) fn error(exit: Exit, message: impl fmt::Display) -> Self {
        Self { error_line: true, ..Self::new(exit, message) }
    }

    /// Stops, everything having been said.
    #[must_use]
    pub(super) const fn silent(exit: Exit) -> Self {
        Self { exit, message: String::new(), error_line: false, build_errors: String::new() }
    }
}

/// A failure that has no number of its own.
impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::error(Exit::Failure, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_reasons_share_a_number() {
        let mut codes: Vec<_> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }

    #[test]
    fn the_guide_lists_every_exit_status() {
        let page = include_str!("../guide/exit-status.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(page.contains(&row), "missing in the guide: {row}");
        }
    }
}
