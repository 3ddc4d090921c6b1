//! What cargo asks for, and what came of it.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cache::AnsweredTargets;
use crate::model::End;
use crate::process::Environment;

/// The variable that, with the value `off`, has every program run as it is, and with `verify` run
/// and compared with its record. Whoever runs tests to see what they come to now sets it.
pub(in crate::verdict) const SWITCH: &str = "KNHK_TEST_CACHE_EXEC";

/// What cargo wants to be run.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The folder.
    pub dir: PathBuf,
    /// All variables.
    pub environment: Environment,
}

/// What came of a call.
#[derive(Debug)]
pub(crate) enum Called {
    /// Green by its record.
    Kept {
        /// What it printed on its standard output.
        stdout: String,
        /// Where that comes from, for a person.
        note: String,
        /// The workspace's root.
        root: PathBuf,
        /// What the history is to tell of it.
        answered: AnsweredTargets,
    },
    /// It ran; all that it printed has been printed.
    Ran {
        /// How it ended.
        end: End,
        /// What a person should know.
        note: Option<String>,
    },
    /// Nothing is known about it, and nothing may come between it and who called: the program is
    /// to be run by `process::become_program`. If it has a reason for a person, it ran already.
    Pass(Option<String>),
}
