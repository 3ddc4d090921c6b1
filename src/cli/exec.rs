//! `exec`: cargo's `runner`.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use super::output;
use crate::cache::{Cache, HistoryEvent};
use crate::model::End;
use crate::paths::Paths;
use crate::process::{self, Environment};
use crate::verdict::{Called, Invocation, call};

/// What a shell says of a program that is not there, and of one that cannot be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// Acts as the runner if that is what the arguments (the program's own name first) say in the form
/// in which cargo calls it, and gives the exit status. One answer takes less time than reading all
/// that can be typed, so this comes before it.
#[must_use]
pub fn run_for_cargo(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    if args.next()? != "exec" {
        return None;
    }
    let program = args.next().filter(|word| !word.as_encoded_bytes().starts_with(b"-"))?;
    Some(exec(Path::new(&program), args.collect()))
}

/// Answers for the program, runs it, or becomes it.
pub(super) fn exec(program: &Path, args: Vec<OsString>) -> ExitCode {
    let mut said = None;
    if let Some((invocation, paths)) = surroundings(program, &args) {
        match call(&invocation, &paths) {
            Called::Kept { stdout, note, root, answered } => {
                return match output::bytes(stdout.as_bytes()) {
                    Ok(()) => {
                        output::note(&note);
                        let cache = Cache::open(&paths.cache_dir);
                        cache.note_history(&root, HistoryEvent::Answered(answered));
                        ExitCode::SUCCESS
                    }
                    Err(stop) => {
                        output::note(&stop.message);
                        ExitCode::from(stop.exit.code())
                    }
                };
            }
            Called::Ran { end, note } => {
                if let Some(note) = note {
                    output::note(&note);
                }
                return ended(end);
            }
            Called::Pass(why) => said = why,
        }
    }
    if let Some(why) = said {
        output::note(format!("knhk-test-cache: {why}"));
    }
    let error = process::become_program(program, args);
    output::note(format!("knhk-test-cache exec: {error}"));
    let missing = error.source.kind() == std::io::ErrorKind::NotFound;
    ExitCode::from(if missing { NOT_FOUND } else { NOT_RUN })
}

/// What the call depends on; `None` where that cannot be told.
fn surroundings(program: &Path, args: &[OsString]) -> Option<(Invocation, Paths)> {
    // All of it: what a service manager said is said to the test as well.
    let environment: Environment = std::env::vars_os().collect();
    let dir = std::env::current_dir().ok()?;
    let mut paths = Paths::from_environment(&environment).ok()?;
    if let Some(file) = environment.get("KNHK_TEST_CACHE_CONFIG") {
        paths.config_file = dir.join(file);
    }
    Some((Invocation { program: program.to_owned(), args: args.to_vec(), dir, environment }, paths))
}

#[cfg(target_os = "linux")]
fn ended(end: End) -> ExitCode {
    let code = process::end_as(end);
    // The low byte is all that the system tells of a status.
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

/// Never called: nothing is run in our place where nothing can be observed.
#[cfg(not(target_os = "linux"))]
fn ended(_: End) -> ExitCode {
    ExitCode::from(Exit::Failure.code())
}
