//! One job from its list of tests to its report.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::model::{End, TargetReport, TestCounts, Verdict};
use crate::process::{self, SpawnError, Spec, Stream};

use super::arguments::{self, LibtestArguments};
use super::bounded::{Bounded, MOST_OUTPUT};
use super::evidence::{self, Circumstances};
use super::scan::{Listing, Names, Scan};
use super::words::{describe_end, failure_sections};
use super::{Harness, RunEvent, RunnerOptions, TestJob};

/// How long a binary may take to list its tests, unless its own time limit is shorter.
const LISTING_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest list that is read, in bytes.
const MOST_LIST_BYTES: usize = 64 * 1024 * 1024;

/// Runs `job`; `None` if it was cancelled.
pub(super) async fn run(
    job: &TestJob,
    options: &RunnerOptions,
    tell: &impl Fn(RunEvent<'_>),
) -> Option<TargetReport> {
    if options.cancel.is_cancelled() {
        return None;
    }
    tell(RunEvent::Started { id: &job.id });
    let request = job.request();
    let names = match job.harness {
        _ if request.prints_only => Names::Unknown,
        Harness::Doctest => Names::Doctests,
        Harness::Custom => Names::Any,
        Harness::Libtest => list(job, options, false).await.map_or(Names::Unknown, Names::Known),
    };
    let mut output = RunOutput {
        scan: Scan::new(names, request.json),
        out: Bounded::new(MOST_OUTPUT),
        err: Bounded::new(MOST_OUTPUT),
    };
    let spec = spec(job, &job.args, options);
    let spec = job.around.iter().fold(spec, |spec, around| around.start(spec));
    let finished = run_binary(&spec, &mut output, job, options, &request, tell).await;
    if options.cancel.is_cancelled()
        && matches!(&finished, Ok(finished) if finished.end == End::Cancelled)
    {
        return None;
    }
    if let Some(around) = &job.around {
        around.end();
    }
    let finished = match finished {
        Ok(finished) => finished,
        Err(error) => {
            let report = not_started(job, &error);
            tell(RunEvent::Finished { report: &report });
            return Some(report);
        }
    };
    let report = conclude(job, options, &request, &spec, output, finished).await?;
    tell(RunEvent::Finished { report: &report });
    Some(report)
}

/// The output of a run so far.
struct RunOutput {
    scan: Scan,
    out: Bounded,
    err: Bounded,
}

/// Runs the binary to its end and reports events.
async fn run_binary(
    spec: &Spec,
    output: &mut RunOutput,
    job: &TestJob,
    options: &RunnerOptions,
    request: &LibtestArguments,
    tell: &impl Fn(RunEvent<'_>),
) -> Result<process::Completion, SpawnError> {
    let started = Instant::now();
    let output = RefCell::new(output);
    let sink = |stream, bytes: &[u8]| {
        let mut output = output.borrow_mut();
        let RunOutput { scan, out, err } = &mut **output;
        match stream {
            Stream::Out => {
                out.push(bytes);
                scan.feed(bytes, &mut |name, outcome| {
                    tell(RunEvent::TestFinished { name, outcome });
                });
            }
            Stream::Err => err.push(bytes),
        }
        if options.live {
            tell(RunEvent::Output { stream, bytes });
        }
    };
    let cancel = options.cancel.child_token();
    let enough = job.around.as_ref().map_or_else(CancellationToken::new, |hook| hook.is_enough());
    let mut running = Box::pin(process::run(spec, &cancel, options.timeout, sink));
    let slow_after = options.slow_after.max(Duration::from_millis(1));
    let finished = loop {
        tokio::select! {
            finished = &mut running => break finished,
            () = enough.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
            () = tokio::time::sleep(slow_after) => {
                let running = running_tests(&output.borrow().scan, request);
                let elapsed = started.elapsed();
                tell(RunEvent::Slow { id: &job.id, elapsed, running: &running });
            }
        }
    };
    drop(running);
    output.borrow_mut().scan.finish(&mut |name, outcome| {
        tell(RunEvent::TestFinished { name, outcome });
    });
    finished
}

/// The tests that are running; none in the terse format, which does not say which have ended.
fn running_tests(scan: &Scan, request: &LibtestArguments) -> Vec<String> {
    if request.terse {
        return Vec::new();
    }
    scan.running(request.concurrency(), !request.shuffled)
}

/// The report of a run that has ended; `None` if it is cancelled now.
async fn conclude(
    job: &TestJob,
    options: &RunnerOptions,
    request: &LibtestArguments,
    spec: &Spec,
    output: RunOutput,
    finished: process::Completion,
) -> Option<TargetReport> {
    let RunOutput { scan, out, err } = output;
    let end = finished.end;
    let running = running_tests(&scan, request);
    let mut about =
        Circumstances { end, filtered: request.filtered, ignored: None, running: running.clone() };
    if let Names::Known(listing) = &scan.names
        && !request.runs_ignored
        && let Some(believed) = evidence::believed(&scan, listing, end, request.filtered)
        && believed.summary.counts.ignored > 0
    {
        let ignored = list(job, options, true).await;
        about.ignored = ignored.map(|listing| listing.names.into_iter().collect::<HashSet<_>>());
        if options.cancel.is_cancelled() {
            return None;
        }
    }
    let findings = evidence::judge(&scan, &about);
    let verdict = if end == End::Exit(0) { Verdict::Pass } else { Verdict::Fail };
    let (out, err) = (out.bytes(), err.bytes());
    let whole = request.wants_output || request.prints_only;
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    if whole {
        output.extend_from_slice(&out);
        errors.extend_from_slice(&err);
    } else if verdict != Verdict::Pass {
        output.extend_from_slice(failure_sections(&out).unwrap_or(&out));
        append(&mut output, &err);
    }
    let told = if whole { &mut errors } else { &mut output };
    append(told, ending(spec, finished, options, &running).as_bytes());
    Some(TargetReport {
        id: job.id.clone(),
        verdict,
        end,
        counts: findings.counts,
        tests: findings.tests,
        output: String::from_utf8_lossy(&output).into_owned(),
        stderr: whole.then(|| String::from_utf8_lossy(&errors).into_owned()),
        duration_ms: milliseconds(finished.elapsed),
    })
}

/// The message about an end other than passed or failed tests; else empty.
fn ending(
    spec: &Spec,
    finished: process::Completion,
    options: &RunnerOptions,
    running: &[String],
) -> String {
    const FAILED_TESTS: i32 = 101;
    let mut text = match finished.end {
        End::Exit(0 | FAILED_TESTS) => return String::new(),
        End::TimedOut => {
            let limit = options.timeout.unwrap_or(finished.elapsed);
            format!("`{}` was ended: it ran longer than {limit:?}\n", spec.command_line())
        }
        end => format!(
            "process didn't exit successfully: `{}` ({})\n",
            spec.command_line(),
            describe_end(end)
        ),
    };
    if !running.is_empty() {
        text.push_str("tests that were still running:\n");
        for name in running {
            text.push_str("    ");
            text.push_str(name);
            text.push('\n');
        }
    }
    text
}

/// Appends on a new line.
fn append(output: &mut Vec<u8>, more: &[u8]) {
    if !more.is_empty() && output.last().is_some_and(|last| *last != b'\n') {
        output.push(b'\n');
    }
    output.extend_from_slice(more);
}

fn not_started(job: &TestJob, error: &SpawnError) -> TargetReport {
    let hint = match error.source.kind() {
        io::ErrorKind::NotFound if !job.dir.is_dir() => {
            "its folder is gone: was the package moved or deleted meanwhile?"
        }
        io::ErrorKind::NotFound if error.program.is_absolute() && !job.program.exists() => {
            "the file was there when the tests were built and is gone now: ask again"
        }
        io::ErrorKind::NotFound => "the program, or its interpreter or loader, is missing",
        io::ErrorKind::PermissionDenied => "it may not be executed: is its disk mounted `noexec`?",
        _ => "see the system's message above",
    };
    TargetReport {
        id: job.id.clone(),
        verdict: Verdict::Fail,
        end: End::NotStarted,
        counts: TestCounts::default(),
        tests: Vec::new(),
        output: format!("{error}\n{hint}\n"),
        stderr: None,
        duration_ms: 0,
    }
}

/// The tests that `job` would run, or only the ones marked `#[ignore]`. `None` if the binary does
/// not list them: then no name is believed.
async fn list(job: &TestJob, options: &RunnerOptions, only_ignored: bool) -> Option<Listing> {
    let (wrapper, own) = job.split_args();
    let args = [wrapper, &arguments::listing(own, only_ignored)].concat();
    let spec = spec(job, &args, options);
    let limit = options.timeout.map_or(LISTING_TIMEOUT, |timeout| timeout.min(LISTING_TIMEOUT));
    let mut text = Vec::new();
    // A binary that prints without end has no list: it is ended at once.
    let enough = CancellationToken::new();
    let listing = process::run(&spec, &enough, Some(limit), |stream, bytes| {
        if stream == Stream::Out {
            if text.len() + bytes.len() > MOST_LIST_BYTES {
                enough.cancel();
            } else {
                text.extend_from_slice(bytes);
            }
        }
    });
    let finished = tokio::select! {
        finished = listing => finished.ok()?,
        // The run itself sees the cancellation too; dropping this one kills its tree.
        () = options.cancel.cancelled() => return None,
    };
    if finished.end != End::Exit(0) {
        return None;
    }
    Listing::parse(&text)
}

fn spec(job: &TestJob, args: &[std::ffi::OsString], options: &RunnerOptions) -> Spec {
    Spec::new(&job.program, &job.dir, job.environment.clone()).args(args).priority(options.priority)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
