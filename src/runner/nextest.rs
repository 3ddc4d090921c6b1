//! Runs a project's tests through cargo-nextest and reports them as the runner does.
//!
//! Two calls: `cargo nextest list`, which builds and names every test, then `cargo nextest run
//! --no-fail-fast` with its machine-readable events. If the run has a hook, it gets the binaries of
//! the first call, so that no build takes part in it. The exit status decides: 0 is a pass of
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
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::{End, TargetReport};
use crate::process::{self, Environment, SpawnError, Spec, Stream};

use super::bounded::{Bounded, MOST_OUTPUT};
use super::{ProcessHook, RunEvent, RunnerOptions, describe_end};
use arguments::NextestArguments;
use events::EventReader;
use suites::Suites;

/// The exit status of nextest when a test failed.
const TESTS_FAILED: i32 = 100;
/// Its exit status when there was no test to run.
const NO_TESTS: i32 = 4;
/// Its exit status, and cargo's, when the build failed.
const BUILD_FAILED: i32 = 101;

/// The tests to run, and the cargo to run them with.
#[derive(Clone, Debug)]
pub(crate) struct NextestRequest {
    /// The cargo to call.
    pub cargo: PathBuf,
    /// The working directory of the call.
    pub dir: PathBuf,
    /// The whole environment.
    pub environment: Environment,
    /// cargo test's selection, before `--`. cargo's `--profile`, `--jobs` and the like keep
    /// cargo's meaning; options that only nextest has are handed on.
    pub selection: Vec<OsString>,
    /// The arguments after `--`.
    pub harness: Vec<OsString>,
    /// The hook around the run of the built tests, if there is one.
    pub hook: Option<RunHook>,
}

/// A hook around the run of the built tests.
#[derive(Clone, Debug)]
pub(crate) struct RunHook {
    /// The hook.
    pub around: Arc<dyn ProcessHook>,
    /// A folder for the list of binaries and cargo's metadata.
    pub dir: PathBuf,
    /// The target triple of the toolchain's host.
    pub host: String,
}

/// The result of a run through nextest.
#[derive(Clone, Debug)]
pub(crate) struct NextestRun {
    /// One report for each selected test binary.
    pub reports: Vec<TargetReport>,
    /// nextest's own report for people, from its standard error; with `--nocapture` also what
    /// the tests printed.
    #[cfg_attr(not(test), allow(dead_code))] // The runner's own tests read it.
    pub text: String,
    /// The test binaries.
    pub binaries: Vec<PathBuf>,
    /// Why the hook was not called, although there is one.
    pub unhooked: Option<String>,
}

/// Why there is no verdict from nextest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NextestError {
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
        /// Its standard error.
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
pub(crate) async fn run(
    request: &NextestRequest,
    options: &RunnerOptions,
    mut events: impl FnMut(RunEvent<'_>),
) -> Result<Option<NextestRun>, NextestError> {
    let arguments = NextestArguments::translate(&request.selection, &request.harness)?;
    let Some((suites, json)) = list(request, &arguments, options, &mut events).await? else {
        return Ok(None);
    };
    let binaries = suites.0.iter().map(|suite| suite.binary.clone()).collect();
    let mut spec = request.spec(options).args(["nextest", "run", "--no-fail-fast"]);
    spec = spec.args(["--message-format", "libtest-json-plus", "--message-format-version", "0.1"]);
    let (mut around, mut unhooked) = (None, None);
    match &request.hook {
        None => spec = spec.args(&arguments.run),
        Some(hook) => match built(request, hook, &arguments, options, &json).await? {
            Ok(words) => (spec, around) = (spec.args(words), Some(&hook.around)),
            Err(why) => (spec, unhooked) = (spec.args(&arguments.run), Some(why)),
        },
    }
    spec = spec.arg("--").args(&arguments.harness);
    let spec = around.iter().fold(spec, |spec, around| around.start(spec));
    let mut reader = EventReader::new(suites, arguments.no_capture);
    let mut text = Bounded::new(MOST_OUTPUT);
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
    if let Some(around) = around.filter(|_| finished.end != End::Cancelled) {
        around.end();
    }
    reader.finish(&mut text);
    let text = String::from_utf8_lossy(&text.bytes()).into_owned();
    match finished.end {
        End::Cancelled => Ok(None),
        End::Exit(0 | TESTS_FAILED) | End::TimedOut => {
            let reports = reader.reports(finished.end, &text);
            for report in &reports {
                events(RunEvent::Finished { report });
            }
            Ok(Some(NextestRun { reports, text, binaries, unhooked }))
        }
        End::Exit(NO_TESTS) => Err(NextestError::NoTests),
        end => Err(failed(request, &spec, end, text)),
    }
}

/// The arguments of a run of the tests that `json` lists. The inner error says why there are none.
async fn built(
    request: &NextestRequest,
    hook: &RunHook,
    arguments: &NextestArguments,
    options: &RunnerOptions,
    json: &[u8],
) -> Result<Result<Vec<OsString>, String>, NextestError> {
    let words = match arguments.without_build() {
        Ok(words) => words,
        Err(option) => return Ok(Err(format!("`{option}` is no option of a run of built tests"))),
    };
    let spec = request.spec(options).args(["metadata", "--format-version", "1", "--all-features"]);
    let spec = spec.args(["--filter-platform", &hook.host]).args(&words.metadata);
    let mut metadata = Vec::new();
    let finished = process::run(&spec, &options.cancel, None, |stream, bytes| {
        if stream == Stream::Out {
            metadata.extend_from_slice(bytes);
        }
    })
    .await?;
    if finished.end != End::Exit(0) {
        return Ok(Err("cargo metadata failed".to_owned()));
    }
    let files = ["binaries.json", "metadata.json"].map(|name| hook.dir.join(name));
    let write = || -> Result<(), String> {
        let binaries = suites::binaries(json)?;
        std::fs::write(&files[0], binaries).map_err(|error| error.to_string())?;
        std::fs::write(&files[1], &metadata).map_err(|error| error.to_string())
    };
    Ok(write().map(|()| {
        let [binaries, metadata] = files.clone();
        let mut all = vec!["--binaries-metadata".into(), binaries.into()];
        all.extend(["--cargo-metadata".into(), metadata.into()]);
        all.extend(words.run);
        all
    }))
}

/// Builds the tests and lists them: parsed, and as JSON. `None` if that was cancelled.
async fn list(
    request: &NextestRequest,
    arguments: &NextestArguments,
    options: &RunnerOptions,
    events: &mut impl FnMut(RunEvent<'_>),
) -> Result<Option<(Suites, Vec<u8>)>, NextestError> {
    let spec = request.spec(options).args(["nextest", "list", "--message-format", "json"]);
    let spec = spec.args(&arguments.list).arg("--").args(&arguments.list_harness);
    let (mut json, mut text) = (Vec::new(), Bounded::new(MOST_OUTPUT));
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
        End::Exit(0) => {
            let suites = Suites::parse(&json).map_err(NextestError::List)?;
            Ok(Some((suites, json)))
        }
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
