//! One test program that cargo, or nextest, runs by itself, through us as its `runner`.
//!
//! Either the call is surely one of a libtest program, with arguments that are understood: then its
//! record answers, or it runs in our place, observed, and is recorded if it is green. Or it is
//! anything else: then it is to be run as if we were not there.
//!
//! **What the run sees of us**: its standard output is a pipe. Everything else (terminal, group,
//! standard input and error, environment, folder) is what cargo gave. Which of the streams are
//! terminals is part of the key, and a run that had anything to read on its standard input is none
//! that is kept.
//!
//! **What a red run is good for.** It takes away every record that says otherwise, of other calls of
//! the same program and of its target. It is kept itself, as no answer: the same call with another
//! outcome is proof of a flaky test.

#[cfg(target_os = "linux")]
mod answer;
mod request;
#[cfg(target_os = "linux")]
mod stdin;
#[cfg(target_os = "linux")]
mod target;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::model::End;
use crate::process::Environment;

/// The variable that, with the value `off`, has every program run as it is, and with `verify` run
/// and compared with its record. Whoever runs tests to see what they come to now sets it.
pub(super) const SWITCH: &str = "KNHK_TEST_CACHE_EXEC";

/// What cargo wants to be run.
#[derive(Clone, Debug)]
pub struct Invocation {
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
pub enum Called {
    /// Green by its record.
    Kept {
        /// What it printed on its standard output.
        stdout: String,
        /// Where that comes from, for a person.
        note: String,
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

/// Answers a call from its record, runs it, or passes.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn call(_: &Invocation, _: &crate::paths::Paths) -> Called {
    Called::Pass(None)
}

#[cfg(target_os = "linux")]
pub use self::answer::call;
