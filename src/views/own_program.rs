//! Calls of this very program, so that a view does what the user would have done in a terminal.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::{End, OsText, TargetId, TargetKind};
use crate::process::{Environment, Spec, capture};

/// A call that takes longer is given up.
const LONGEST_CALL: Duration = Duration::from_secs(3600);

/// How a call came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CallResult {
    /// Its exit status; none if it was given up or did not start.
    pub(super) status: Option<i32>,
    /// What it printed.
    pub(super) output: String,
}

/// Calls this program with these arguments in `dir`, and waits for its end on the calling thread.
pub(super) fn call(line: Vec<OsText>, dir: PathBuf, environment: &Environment) -> CallResult {
    let failed =
        |error: &dyn std::fmt::Display| CallResult { status: None, output: error.to_string() };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return failed(&error),
    };
    let spec = Spec::new(program, dir, environment.clone());
    match capture(&spec.args(line.into_iter().map(|word| word.0)), LONGEST_CALL) {
        Ok(ran) => {
            let output = [ran.stdout, ran.stderr].concat();
            let output = String::from_utf8_lossy(&output).into_owned();
            let status = if let End::Exit(status) = ran.end { Some(status) } else { None };
            CallResult { status, output }
        }
        Err(error) => failed(&error),
    }
}

/// The words of `cargo test` that select a target.
pub(super) fn selection(id: &TargetId) -> Vec<String> {
    let TargetId { package, target, kind } = id;
    let mut words = vec!["-p".to_owned(), package.clone(), format!("--{kind}")];
    if !matches!(kind, TargetKind::Lib | TargetKind::Doc) {
        words.push(target.clone());
    }
    words
}
