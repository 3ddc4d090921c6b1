//! Runs a project's tests through cargo-nextest and reports them as the runner itself would.
//!
//! Two calls: `cargo nextest list`, which builds and names every test, then `cargo nextest run
//! --no-fail-fast` with its machine-readable events. The exit status decides: 0 is a pass of
//! every suite, whatever the events say. Of the events only those of single tests are used:
//! nextest 0.9.143 closes a suite too early when it holds ignored tests, opens it again and
//! counts them twice. Its events name a test by package and binary without the kind, so that the
//! lib and the bin of one package can share a name; then a test is given as passed only if all
//! that share it passed. Doctests are not run: nextest has none.

mod arguments;
mod events;
mod suites;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::model::{End, TargetReport};
use crate::process::{self, Environment, SpawnError, Spec, Stream};

use super::bounded::{Bounded, KEEP};
use super::{RunEvent, RunnerOptions, describe_end};
use arguments::NextestArguments;
use events::EventReader;
use suites::Suites;

/// What nextest exits with when a test failed.
const TESTS_FAILED: i32 = 100;
/// What it exits with when there was no test to run.
const NO_TESTS: i32 = 4;
/// What it, and cargo, exit with when the build failed.
const BUILD_FAILED: i32 = 101;

/// Which tests to run, and with what.
#[derive(Clone, Debug)]
pub struct NextestRequest {
    /// The cargo to call.
    pub cargo: PathBuf,
    /// The folder to call it in.
    pub dir: PathBuf,
    /// The whole environment.
    pub environment: Environment,
    /// cargo test's selection, before `--`. cargo's `--profile`, `--jobs` and the like keep
    /// cargo's meaning; options that only nextest has are handed on.
    pub selection: Vec<OsString>,
    /// What stands after `--`.
    pub harness: Vec<OsString>,
}

/// What a run through nextest came to.
#[derive(Clone, Debug)]
pub struct NextestRun {
    /// One report for each test binary that was not left out by the selection.
    pub reports: Vec<TargetReport>,
    /// nextest's own report for people, from its standard error; with `--nocapture` also what
    /// the tests printed.
    #[cfg_attr(not(test), allow(dead_code))] // The runner's own tests read it.
    pub text: String,
}

/// Why there is no verdict from nextest.
#[derive(Debug, thiserror::Error)]
pub enum NextestError {
    /// cargo has no such subcommand.
    #[error(
        "cargo-nextest is not installed where `{}` finds it: run `cargo install --locked \
         cargo-nextest`, or take `runner = \"cargo\"` for this project", cargo.display()
    )]
    NotInstalled {
        /// The cargo that was asked.
        cargo: PathBuf,
    },
    /// cargo itself could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The selection asks for something that nextest cannot do.
    #[error("`{option}` cannot be used with cargo-nextest: {why}")]
    Unsupported {
        /// The argument.
        option: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// The tests do not compile.
    #[error("the build failed:\n{stderr}")]
    Build {
        /// cargo's messages.
        stderr: String,
    },
    /// The selection has no tests, which nextest holds to be a mistake.
    #[error("no tests to run: cargo-nextest fails then, unless told `--no-tests pass`")]
    NoTests,
    /// Another of nextest's errors: its config, its arguments, its own death.
    #[error("`{command}` failed ({end}):\n{stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended, in cargo's words.
        end: String,
        /// What it said.
        stderr: String,
    },
    /// The list of tests is not of the form that is known.
    #[error("the test list of cargo-nextest cannot be read: {0}; is it older than 0.9.60?")]
    List(String),
}

/// Runs the tests; `None` if the run was cancelled.
///
/// `options.jobs` and the single tests' time limits are nextest's own business and come from its
/// config. `options.timeout` bounds the run as a whole, as that long for each test binary.
///
/// # Errors
/// If nextest is missing, the build fails, or nextest ends in any other way than with the tests
/// passed or failed.
pub async fn run(
    request: &NextestRequest,
    options: &RunnerOptions,
    mut events: impl FnMut(RunEvent<'_>),
) -> Result<Option<NextestRun>, NextestError> {
    let arguments = NextestArguments::translate(&request.selection, &request.harness)?;
    let Some(suites) = list(request, &arguments, options, &mut events).await? else {
        return Ok(None);
    };
    let mut spec = request.spec(options).args(["nextest", "run", "--no-fail-fast"]);
    spec = spec.args(["--message-format", "libtest-json-plus", "--message-format-version", "0.1"]);
    spec = spec.args(&arguments.run).arg("--").args(&arguments.harness);
    let mut reader = EventReader::new(suites, arguments.no_capture);
    let mut text = Bounded::new(KEEP);
    let count = u32::try_from(reader.suites().len().max(1)).unwrap_or(u32::MAX);
    let timeout = options.timeout.map(|timeout| timeout.saturating_mul(count));
    let finished = {
        let shared = std::cell::RefCell::new((&mut reader, &mut text, &mut events));
        let sink = |stream, bytes: &[u8]| {
            let mut shared = shared.borrow_mut();
            let (reader, text, events) = &mut *shared;
            match stream {
                Stream::Out => reader.feed(bytes, text, events),
                Stream::Err => text.push(bytes),
            }
            if options.live && (stream == Stream::Err || arguments.no_capture) {
                events(RunEvent::Output { stream, bytes });
            }
        };
        let started = Instant::now();
        let mut running = Box::pin(process::run(&spec, &options.cancel, timeout, sink));
        let slow_after = options.slow_after.max(Duration::from_millis(1));
        loop {
            match tokio::time::timeout(slow_after, &mut running).await {
                Ok(finished) => break finished?,
                Err(_) => {
                    let mut shared = shared.borrow_mut();
                    let (reader, _, events) = &mut *shared;
                    for (id, running) in reader.running() {
                        events(RunEvent::Slow {
                            id,
                            elapsed: started.elapsed(),
                            running: &running,
                        });
                    }
                }
            }
        }
    };
    reader.finish(&mut text);
    let text = String::from_utf8_lossy(&text.bytes()).into_owned();
    match finished.end {
        End::Cancelled => Ok(None),
        End::Exit(0 | TESTS_FAILED) | End::TimedOut => {
            let reports = reader.reports(finished.end, &text);
            for report in &reports {
                events(RunEvent::Finished { report });
            }
            Ok(Some(NextestRun { reports, text }))
        }
        End::Exit(NO_TESTS) => Err(NextestError::NoTests),
        end => Err(failed(request, &spec, end, text)),
    }
}

/// Builds the tests and asks for their names; `None` if that was cancelled.
async fn list(
    request: &NextestRequest,
    arguments: &NextestArguments,
    options: &RunnerOptions,
    events: &mut impl FnMut(RunEvent<'_>),
) -> Result<Option<Suites>, NextestError> {
    let spec = request.spec(options).args(["nextest", "list", "--message-format", "json"]);
    let spec = spec.args(&arguments.list).arg("--").args(&arguments.list_harness);
    let (mut json, mut text) = (Vec::new(), Bounded::new(KEEP));
    let finished = process::run(&spec, &options.cancel, None, |stream, bytes| match stream {
        Stream::Out => json.extend_from_slice(bytes),
        Stream::Err => {
            text.push(bytes);
            if options.live {
                events(RunEvent::Output { stream, bytes });
            }
        }
    })
    .await?;
    match finished.end {
        End::Cancelled => Ok(None),
        End::Exit(0) => Suites::parse(&json).map(Some).map_err(NextestError::List),
        end => {
            let text = String::from_utf8_lossy(&text.bytes()).into_owned();
            Err(failed(request, &spec, end, text))
        }
    }
}

impl NextestRequest {
    fn spec(&self, options: &RunnerOptions) -> Spec {
        let mut environment = self.environment.clone();
        environment.set("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1");
        Spec::new(&self.cargo, &self.dir, environment).priority(options.priority)
    }
}

fn failed(request: &NextestRequest, spec: &Spec, end: End, stderr: String) -> NextestError {
    // cargo exits with the same status for a subcommand that it does not find.
    if stderr.contains("no such command: `nextest`") {
        NextestError::NotInstalled { cargo: request.cargo.clone() }
    } else if end == End::Exit(BUILD_FAILED) {
        NextestError::Build { stderr }
    } else {
        NextestError::Failed { command: spec.command_line(), end: describe_end(end), stderr }
    }
}
