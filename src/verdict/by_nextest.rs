//! Running what a question asks for through cargo-nextest.

use std::ffi::OsString;

use super::binary::{Cacheability, NextestObservation, Uncacheable};
use super::exec::SWITCH;
use super::options::{RunError, Step};
use super::ran::{RanTarget, RanTargets};
use super::{Facts, Question};
use crate::compiler::target_dir_args;
use crate::model::{TargetReport, Verdict};
use crate::runner::nextest;
use crate::runner::{self, RunEvent};

/// So many tests are named that failed only when they were observed.
pub(super) const MOST_NAMED: usize = 3;

/// Runs all through cargo-nextest, observed as one run where that is possible.
pub(super) async fn run_by_nextest<'a>(
    question: &Question,
    facts: &Facts,
    why: &str,
    options: &runner::RunnerOptions,
    on_step: &mut dyn FnMut(Step<'_>),
) -> Result<RanTargets<'a>, RunError> {
    let Question { selection, environment, .. } = question;
    let mut request = nextest::NextestRequest {
        cargo: facts.toolchain.cargo.clone(),
        dir: selection.dir.clone(),
        environment: {
            // With us as its runner too, it would be answered what is to be found out.
            let mut environment = environment.clone();
            environment.set(SWITCH, "off");
            environment
        },
        selection: {
            let mut words = selection.cargo.clone();
            let dir = question.target_dir.as_deref();
            words.extend(target_dir_args(dir, selection, &facts.cargo_config));
            words
        },
        harness: {
            let mut words = selection.harness.clone();
            let is_told = |word: &OsString| word.to_string_lossy().starts_with("--test-threads");
            if question.is_serial() && !words.iter().any(is_told) {
                words.push("--test-threads=1".into());
            }
            words
        },
        hook: None,
    };
    let (observation, around) = NextestObservation::begin(question, facts).unzip();
    request.hook = observation.as_ref().zip(around).map(|(observation, around)| {
        let host = facts.toolchain.host.clone();
        nextest::RunHook { around, dir: observation.dir.path().to_owned(), host }
    });
    let mut is_observed = request.hook.is_some();
    let events = |event: RunEvent<'_>| {
        // Not told before it is believed.
        let is_red = matches!(&event, RunEvent::Finished { report }
            if report.verdict != Verdict::Pass && is_observed);
        if !is_red {
            on_step(Step::Running(event));
        }
    };
    let mut ran = nextest::run(&request, options, events).await?.ok_or(RunError::Cancelled)?;
    // The observation ends when nothing holds its hook.
    request.hook = None;
    let observed = observation.and_then(NextestObservation::finish);
    let unobserved =
        |reason: String| (Cacheability::Uncacheable(vec![Uncacheable::Unobserved(reason)]), vec![]);
    let mut interfered = false;
    let (mut cacheability, unseen) = match (ran.unhooked.take(), observed) {
        (Some(why), _) => {
            is_observed = false;
            unobserved(why)
        }
        (None, Some(observed)) => {
            interfered = observed.interfered;
            (observed.cacheability, observed.unseen)
        }
        (None, None) if is_observed => unobserved("the observer could not start".to_owned()),
        (None, None) => (Cacheability::WholeTree(Vec::new()), Vec::new()),
    };
    let is_red = ran.reports.iter().any(|report| report.verdict != Verdict::Pass);
    if is_observed && (is_red || interfered) {
        let events = |event: RunEvent<'_>| on_step(Step::Running(event));
        let again = nextest::run(&request, options, events).await?;
        let again = again.ok_or(RunError::Cancelled)?;
        // Green now: it was red only because it was observed.
        let is_green = again.reports.iter().all(|report| report.verdict == Verdict::Pass);
        if is_red && is_green && !interfered {
            let tests = ran.reports.iter().flat_map(TargetReport::failures);
            let tests = tests.take(MOST_NAMED).map(str::to_owned).collect();
            cacheability = Cacheability::Uncacheable(vec![Uncacheable::Fickle(tests)]);
        }
        ran = again;
    }
    let target = |report| RanTarget {
        report,
        kept: None,
        rest: None,
        recorded: None,
        reason: why.to_owned(),
        cacheability: cacheability.clone(),
        unseen: unseen.clone(),
        flaky: Vec::new(),
    };
    Ok(RanTargets {
        targets: ran.reports.into_iter().map(target).collect(),
        products: ran.binaries,
        ..RanTargets::default()
    })
}
