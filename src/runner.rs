//! Runs test binaries exactly as cargo would, several at a time, and reports their outcomes.
//!
//! A [`TestJob`] is one test target: program, arguments, folder and environment are cargo's own and
//! nothing is added to them. The exit status alone decides the verdict, as it does for cargo.
//! Counts and the outcomes of single tests are read from libtest's stable output, checked against
//! the list of tests, and omitted in any doubt. A test that failed or did not run is never reported
//! as passed, whatever tests print; `evidence` has the rules.
//!
//! ```text
//! arguments  libtest's arguments            bounded   output in bounded memory
//! lines      libtest's grammar, stateless   words     ends and failures for people
//! scan       claims in a stream of output   parallel  a few futures at a time
//! output     a whole output at once
//! evidence   which claims are proven        target    one job from start to report
//!                                           nextest   a whole run through cargo-nextest
//! ```
//!
//! The runner keeps no state between runs, and a cancelled target has no report.

mod arguments;
mod bounded;
mod evidence;
mod failure;
mod lines;
pub(crate) mod nextest;
mod output;
mod parallel;
mod scan;
mod target;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use arguments::LibtestArguments;
pub(crate) use failure::failure_texts;
pub(crate) use output::{read_json_output, read_output};
pub(crate) use words::describe_end;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::model::{Harness, Outcome, TargetId, TargetKind, TargetReport};
use crate::process::{Environment, Priority, Spec, Stream};

/// A hook around the process that runs a job's tests, but not around the one that lists them.
pub(crate) trait ProcessHook: fmt::Debug + Send + Sync {
    /// Called before the start; returns the process to start instead of `spec`.
    fn start(&self, spec: Spec) -> Spec;

    /// Fires if the run need not go on. Then it is ended, with [`End::Cancelled`](crate::model::End) in its report.
    fn is_enough(&self) -> CancellationToken {
        CancellationToken::new()
    }

    /// Called when the process is reaped or could not be started, but not if all runs are cancelled.
    fn end(&self);
}

/// One test target to run.
#[derive(Clone, Debug)]
pub(crate) struct TestJob {
    /// The target.
    pub id: TargetId,
    /// The test binary (or rustdoc, or a wrapper).
    pub program: PathBuf,
    /// All arguments, as cargo gives them.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub dir: PathBuf,
    /// Its whole environment.
    pub environment: Environment,
    /// The harness that prints the results.
    pub harness: Harness,
    /// Start it before the others: it failed the last time.
    pub urgent: bool,
    /// Its last duration, if known: the longest is started first.
    pub expected: Option<Duration>,
    /// Run it while no other job runs: it has failed beside others and passed alone.
    pub alone: bool,
    /// How many of the first arguments belong to a wrapper around the test binary (the user's own
    /// `runner`: its options and the test binary itself). Usually 0.
    pub wrapper_args: usize,
    /// The hook around its process.
    pub around: Option<Arc<dyn ProcessHook>>,
}

impl TestJob {
    /// A job without a wrapper, of unknown duration.
    pub(crate) fn new(
        id: TargetId,
        program: impl Into<PathBuf>,
        args: Vec<OsString>,
        dir: impl Into<PathBuf>,
        environment: Environment,
        harness: Harness,
    ) -> Self {
        Self {
            id,
            program: program.into(),
            args,
            dir: dir.into(),
            environment,
            harness,
            urgent: false,
            expected: None,
            alone: false,
            wrapper_args: 0,
            around: None,
        }
    }

    /// Whether the arguments or the environment ask to see what tests print even if they pass
    /// (`--nocapture`, `--no-capture`, `--show-output`): the report's output is kept for a pass
    /// too.
    #[must_use]
    pub(crate) fn wants_output(&self) -> bool {
        let request = self.request();
        request.wants_output || request.prints_only
    }

    /// Whether the tests run in random order.
    #[must_use]
    pub(crate) fn is_random(&self) -> bool {
        self.request().shuffled
    }

    /// What its arguments and environment ask of libtest.
    fn request(&self) -> LibtestArguments {
        LibtestArguments::of(self.split_args().1, &self.environment, self.harness)
    }

    /// The arguments of the wrapper, and those of the test binary.
    fn split_args(&self) -> (&[OsString], &[OsString]) {
        self.args.split_at(self.wrapper_args.min(self.args.len()))
    }
}

/// How the jobs run.
#[derive(Clone, Debug)]
pub(crate) struct RunnerOptions {
    /// How many targets run at a time. With 1 they run in the order of the plan.
    pub jobs: usize,
    /// How long one target may run.
    pub timeout: Option<Duration>,
    /// Ends everything that runs.
    pub cancel: CancellationToken,
    /// After which time, and then how often, a running target is reported as slow.
    pub slow_after: Duration,
    /// Report all output as it comes ([`RunEvent::Output`]); meant for one job at a time.
    pub live: bool,
    /// How much of the machine the tests may take.
    pub priority: Priority,
}

impl Default for RunnerOptions {
    /// As many as there are cores, without a time limit.
    fn default() -> Self {
        Self {
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            timeout: None,
            cancel: CancellationToken::new(),
            slow_after: Duration::from_secs(10),
            live: false,
            priority: Priority::Foreground,
        }
    }
}

/// An event during a run, for a person who waits.
#[derive(Debug)]
pub(crate) enum RunEvent<'a> {
    /// A target begins.
    Started {
        /// The target.
        id: &'a TargetId,
    },
    /// A test's outcome was read. A hint, not evidence: a test that prints to the real standard
    /// output can say anything; the report at the end is what was checked.
    #[cfg_attr(not(test), allow(dead_code))] // The runner's own tests read it.
    TestFinished {
        /// Its name.
        name: &'a str,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Output as it comes, if [`RunnerOptions::live`] is set.
    Output {
        /// The stream.
        stream: Stream,
        /// The output, cut anywhere.
        bytes: &'a [u8],
    },
    /// A target still runs.
    Slow {
        /// The target.
        id: &'a TargetId,
        /// How long it has been running.
        elapsed: Duration,
        /// The tests that are running, as far as the output tells.
        running: &'a [String],
    },
    /// A target has ended.
    Finished {
        /// Its report.
        report: &'a TargetReport,
    },
}

/// Runs all `jobs` and reports them in the given order; `None` for those that were cancelled. Jobs
/// that must run alone come last, one after the other.
///
/// Targets of unknown duration start first (doctests before the others), then the longest: no long
/// target should start last and be waited for.
///
/// Must be awaited on a current-thread runtime, on the thread that lives as long as the process.
/// Dropping the future ends all children.
pub(crate) async fn run(
    jobs: &[TestJob],
    options: &RunnerOptions,
    events: impl FnMut(RunEvent<'_>),
) -> Vec<Option<TargetReport>> {
    let order = start_order(jobs, options.jobs);
    let events = RefCell::new(events);
    let tell = |event: RunEvent<'_>| (events.borrow_mut())(event);
    let (alone, beside): (Vec<usize>, _) = order.into_iter().partition(|index| jobs[*index].alone);
    let mut in_plan_order: Vec<Option<TargetReport>> = jobs.iter().map(|_| None).collect();
    for (indices, limit) in [(beside, options.jobs), (alone, 1)] {
        let work = indices.iter().map(|index| target::run(&jobs[*index], options, &tell));
        let reports = parallel::in_parallel(work, limit).await;
        for (index, report) in indices.into_iter().zip(reports) {
            in_plan_order[index] = report;
        }
    }
    in_plan_order
}

/// The indices of `jobs` in the order in which they are started.
fn start_order(jobs: &[TestJob], at_a_time: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    if at_a_time > 1 {
        let urgency = |job: &TestJob| (job.expected.is_none(), job.expected, job.id.kind);
        let urgent = |index: usize| jobs[index].urgent;
        order.sort_by_key(|index| {
            let (unknown, expected, kind) = urgency(&jobs[*index]);
            let doctests_first = unknown && kind == TargetKind::Doc;
            std::cmp::Reverse((urgent(*index), unknown, doctests_first, expected))
        });
    }
    order
}

/// A list of tests and the output of their run, with a zero byte between.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    use crate::model::End;
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let (list, output) = bytes.split_at(cut);
    let known = scan::Listing::parse(list).map(scan::Names::Known);
    for names in [known, Some(scan::Names::Doctests), Some(scan::Names::Any)].into_iter().flatten()
    {
        let json = output.first().is_some_and(|byte| *byte == b'{');
        let mut scan = scan::Scan::new(names, json);
        let (first, second) = output.split_at(output.len() / 2);
        scan.feed(first, &mut |_, _| {});
        scan.feed(second, &mut |_, _| {});
        scan.finish(&mut |_, _| {});
        for end in [End::Exit(0), End::Exit(101), End::Signal(6)] {
            let running = scan.running(2, false);
            let about = evidence::Circumstances { end, filtered: false, ignored: None, running };
            let found = evidence::judge(&scan, &about);
            // The exit status decides: a green run has no failures, and a test is told once.
            assert!(end != End::Exit(0) || found.counts.failed == 0);
            let told: std::collections::HashSet<_> =
                found.tests.iter().map(|test| &test.name).collect();
            assert_eq!(told.len(), found.tests.len());
        }
    }
    let _ = words::failure_sections(output);
}
