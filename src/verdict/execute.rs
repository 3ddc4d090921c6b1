//! Running what cargo would run: asks cargo for the plan, answers from records of single targets
//! what they can answer, and runs the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::altered;
use super::binary::{
    Cacheability, ObservedRun, PlanContext, TargetFinding, TargetRecords, Uncacheable,
};
use super::by_nextest::{MOST_NAMED, run_by_nextest};
use super::conduct::may_run_unasked;
use super::early::{EarlyRuns, parallel_jobs};
use super::obstacles::BarredTargets;
use super::options::{RunError, RunOptions, RunScope, Step};
use super::package::{PackageLevel, SAME_PACKAGES};
use super::partial::PartialRun;
use super::patterns::AlwaysRun;
use super::ran::{EndedTarget, RanTarget, RanTargets};
use super::unreached::UnreachedTargets;
use super::{Facts, Question};
use super::{failed, in_full};
use crate::cache::{Cache, ProjectState, Record};
use crate::compiler::{Build, CompileError, PlannedTarget, TestCompiler};
use crate::config::Runner;
use crate::model::{Digest, Harness, TargetId, TargetKind, TargetReport, Timestamp, Verdict};
use crate::observer::LoaderCalls;
use crate::process::Priority;
use crate::runner::{self, RunEvent, TestJob};
use crate::workspace::{PathStamp, until_settled};

/// A run that did not come to its end.
pub(super) struct Interrupted<'a> {
    pub(super) error: RunError,
    /// What had ended by then and is believed, if anything.
    pub(super) finished: Option<FinishedTargets<'a>>,
}

/// Targets that had ended when the others were given up.
pub(super) struct FinishedTargets<'a> {
    /// By their place in the plan.
    pub(super) ended: BTreeMap<usize, EndedTarget>,
    pub(super) records: TargetRecords<'a>,
    /// As in [`RanTargets::replaced`].
    pub(super) replaced: bool,
}

/// Those of the jobs that are to run, and how.
#[derive(Clone, Copy)]
struct JobsToRun<'j> {
    jobs: &'j [TestJob],
    /// Their places among the jobs.
    wanted: &'j [usize],
    options: &'j runner::RunnerOptions,
    /// Those of which only some tests run.
    parts: &'j BTreeMap<usize, PartialRun>,
    /// Which calls of the dynamic loader may pass at most where they are observed.
    pass: LoaderCalls,
}

/// All tests of every target run.
static WHOLE: BTreeMap<usize, PartialRun> = BTreeMap::new();

impl<E: Into<RunError>> From<E> for Interrupted<'_> {
    fn from(error: E) -> Self {
        Self { error: error.into(), finished: None }
    }
}

/// Everything that running needs.
pub(super) struct Execution<'a> {
    pub(super) question: &'a Question,
    pub(super) facts: &'a Facts,
    pub(super) cache: &'a Cache,
    pub(super) options: &'a RunOptions,
    pub(super) compiler: TestCompiler,
    /// The digest of the tree, if it is known.
    pub(super) tree_digest: Option<Digest>,
    /// The record of a run of the very same code that failed.
    pub(super) failed: Option<Arc<Record>>,
    /// Why targets are run that no record is asked about.
    pub(super) why: &'static str,
}

impl<'a> Execution<'a> {
    /// Runs all that cargo would run after `build`.
    pub(super) async fn execute(
        &self,
        build: &Build,
        level: Option<&PackageLevel<'_>>,
        early: &mut EarlyRuns<'_>,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<RanTargets<'a>, Interrupted<'a>> {
        if self.question.selection.is_no_run() {
            return Ok(RanTargets::default());
        }
        let mut options = self.runner_options(parallel_jobs(self.question, self.options));
        if self.question.settings.runner == Runner::Nextest {
            let Self { question, facts, why, .. } = self;
            return Ok(run_by_nextest(question, facts, why, &options, on_step).await?);
        }
        let cancel = &self.options.cancel;
        let memo = self.question.plans_file(self.cache.dir());
        // What is to be run in any case is also to be found out in any case.
        let ask = self.options.no_cache;
        let plan = match self.compiler.plan_of(build, &memo, ask, cancel).await {
            Err(CompileError::Cancelled) => return Err(RunError::Cancelled.into()),
            plan => plan?,
        };
        let mut doubt = (!plan.fresh)
            .then(|| "something was compiled again between the build and the run".to_owned());
        let stamped = |path: PathBuf| (PathStamp::followed(&path).without_links(), path);
        let products: Vec<_> = plan.products.into_iter().map(stamped).collect();
        let runners = self.runners(&plan.targets);
        let state = self.cache.state(&self.question.root);
        let barred = BarredTargets::of(&self.question.settings, &state);
        let obstacle = |planned: &PlannedTarget| Some(barred.why(&planned.id)?.to_string());
        let context = PlanContext::of(self.cache, self.question, self.facts, self.options.asked);
        let tree_digest = self.tree_digest.as_ref();
        let mut records = TargetRecords::look_up(context, &plan.targets, tree_digest, obstacle);
        let mut unreached =
            UnreachedTargets::new(self.question, self.cache, &self.facts.toolchain.sysroot, build)
                .filter(|_| tree_digest.is_some());
        let mut by_reach = BTreeMap::new();
        for (index, planned) in plan.targets.iter().enumerate() {
            if let (Some(unreached), TargetFinding::Nothing { .. }, None) =
                (&mut unreached, records.found(index), obstacle(planned))
                && planned.harness != Harness::Doctest
            {
                // What is to be found out anew is to be found out of all tests.
                let was_red = failed::before(self.failed.as_deref(), &planned.id).is_some();
                let in_part = !was_red && !self.options.no_cache;
                by_reach.insert(index, unreached.find(&mut records, index, planned, in_part));
            }
        }
        let mut parts = unreached.map(|unreached| unreached.parts).unwrap_or_default();
        // Examples link libraries that differ by their sources' digests alone.
        let missing = plan.targets.iter().enumerate().filter(|(index, planned)| {
            let is_missing = matches!(records.found(*index), TargetFinding::Nothing { .. });
            planned.harness == Harness::Doctest && is_missing && tree_digest.is_some()
        });
        let missing: BTreeSet<_> = missing.map(|(_, planned)| &planned.id).collect();
        let by_packages = level.filter(|_| !missing.is_empty());
        let by_packages =
            by_packages.map(|level| level.find_after_build(|id| missing.contains(id)));
        let by_packages = by_packages.unwrap_or_default();
        let recorded: Vec<_> = (0..plan.targets.len())
            .map(|index| match (records.found(index), by_reach.get(&index)) {
                (TargetFinding::Green(record), _) | (_, Some(Ok((record, _)))) => {
                    Some(Arc::clone(record))
                }
                (TargetFinding::Nothing { .. }, _) => {
                    by_packages.get(&plan.targets[index].id).cloned()
                }
            })
            .collect();
        let mut kept: Vec<_> = recorded
            .iter()
            .map(|record| record.clone().filter(|_| !self.options.no_cache))
            .collect();
        let mut reasons: Vec<_> = (0..plan.targets.len())
            .map(|index| match records.found(index) {
                _ if self.options.no_cache => self.why.to_owned(),
                TargetFinding::Green(_) => "same program and inputs".to_owned(),
                TargetFinding::Nothing { why, expected } => {
                    match by_reach.get(&index) {
                        Some(Ok((_, why))) => return why.clone(),
                        _ if recorded[index].is_some() => return SAME_PACKAGES.to_owned(),
                        Some(Err(why)) => return why.clone(),
                        None => {}
                    }
                    let name = plan.targets[index].id.to_string();
                    let last = state.uncached.get(&name).filter(|_| expected.is_none());
                    match last.filter(|last| !last.why.contains(why)) {
                        Some(last) => format!("not kept the last time: {}", last.why.join("; ")),
                        None => why.clone(),
                    }
                }
            })
            .collect();
        let mut jobs: Vec<_> = plan.targets.into_iter().map(TestJob::from).collect();
        jobs.iter_mut().for_each(|job| self.options.hide_agent(job));
        for job in &mut jobs {
            job.alone = state.run_alone.contains_key(&job.id.to_string());
        }
        // One target alone may speak to the terminal as it goes, as it does under cargo.
        options.live = jobs.len() == 1 && jobs[0].wants_output();
        let mut to_run: Vec<_> = (0..jobs.len()).filter(|index| kept[*index].is_none()).collect();
        let may_run: Vec<_> = jobs
            .iter()
            .map(|job| match self.options.scope {
                RunScope::All => true,
                RunScope::Unasked => may_run_unasked(&state, self.question, &job.id),
            })
            .collect();
        let wanted = to_run.len();
        to_run.retain(|index| may_run[*index]);
        let mut left = wanted - to_run.len();
        likely_failures_first(&state, &self.options.first, &mut jobs);
        if self.options.priority == Priority::Background {
            // Also where they run one at a time, in the order of the plan.
            to_run.sort_by_key(|index| !jobs[*index].urgent);
        }
        early.keep_running(&to_run.iter().map(|index| &jobs[*index].id).collect());
        let is_early = |kept: &Option<Arc<Record>>| {
            kept.as_ref().is_some_and(|record| early.green(record).is_some())
        };
        let ran_early = kept.iter().filter(|kept| is_early(kept)).count();
        on_step(Step::Planned { run: to_run.len() + ran_early, left });
        let mut awaited: Vec<_> =
            to_run.extract_if(.., |index| early.is_running(&jobs[*index].id)).collect();
        if !to_run.is_empty() {
            let built: Vec<_> = products.iter().map(|(_, path)| path.clone()).collect();
            tokio::time::sleep(until_settled(&built, SystemTime::now())).await;
        }
        let mut results = self.failed_first(&jobs, &to_run, &options, on_step).await?;
        for index in results.keys() {
            "its failed tests fail again on this very code".clone_into(&mut reasons[*index]);
        }
        to_run.retain(|index| !results.contains_key(index));
        // Another cargo, with other flags, may have put other programs in the place of these.
        // A hard link that a test makes changes only the ctime.
        let replaced = || {
            products
                .iter()
                .find(|(stamp, path)| *stamp != PathStamp::followed(path).without_links())
        };
        while !to_run.is_empty() || !awaited.is_empty() {
            let red = self.red_early(&jobs, &to_run, early, &records, on_step).await?;
            for index in red.keys() {
                "it failed while cargo built the rest, and again".clone_into(&mut reasons[*index]);
            }
            to_run.retain(|index| !red.contains_key(index));
            results.extend(red);
            let some = JobsToRun {
                jobs: &jobs,
                wanted: &to_run,
                options: &options,
                parts: &parts,
                pass: LoaderCalls::SearchPasses,
            };
            let ran = self.run(some, &mut records, early, &mut results, on_step).await;
            if let Err(error) = ran {
                let replaced = replaced().is_some();
                let finished = Some(FinishedTargets { ended: results, records, replaced });
                return Err(Interrupted { error, finished });
            }
            to_run.clear();
            for index in awaited.drain(..) {
                records.look_again(index, tree_digest);
                match records.found(index) {
                    TargetFinding::Green(record) => kept[index] = Some(Arc::clone(record)),
                    TargetFinding::Nothing { .. } => to_run.push(index),
                }
            }
            // What ran may have changed what others depend on.
            parts.retain(|index, part| {
                let rest = results.get(index).map(|ended| ended.rest.is_some());
                let why = match rest {
                    Some(true) => records.obstacle(part.record()),
                    Some(false) => Some("not all is known of a run of some of its tests".into()),
                    None => None,
                };
                let Some(why) = why else { return true };
                reasons[*index] = why;
                if rest == Some(true) {
                    results.remove(index);
                    to_run.push(*index);
                }
                false
            });
            for (index, kept) in kept.iter_mut().enumerate() {
                let changed = kept.as_ref().and_then(|record| records.obstacle(record));
                if let Some(why) = changed {
                    (reasons[index], *kept) = (why, None);
                    match may_run[index] {
                        true => to_run.push(index),
                        false => left += 1,
                    }
                }
            }
        }
        if left > 0 {
            let replaced = replaced().is_some();
            let finished = Some(FinishedTargets { ended: results, records, replaced });
            return Err(Interrupted { error: RunError::Left { left, is_steady: false }, finished });
        }
        let replaced = replaced();
        if let Some((_, path)) = replaced {
            doubt = Some(format!("{} was built anew while the tests ran", path.display()));
        }
        let replaced = replaced.is_some();
        let mut targets = Vec::new();
        let all = kept.into_iter().zip(recorded).zip(reasons);
        for (index, ((mut kept, mut recorded), mut reason)) in all.enumerate() {
            let ran_early = kept.as_ref().and_then(|record| Some((record, early.green(record)?)));
            if let Some((record, run)) = ran_early {
                let report = record.targets[0].clone();
                on_step(Step::Running(RunEvent::Finished { report: &report }));
                records.note_seen(index, run.seen.clone());
                let cacheability = Cacheability::Observed(record.inputs.clone());
                let unseen = run.unseen.clone();
                results.insert(index, EndedTarget { report, cacheability, unseen, rest: None });
                "it ran while cargo built the rest".clone_into(&mut reason);
                // It answers nothing that was asked before.
                (kept, recorded) = (None, None);
            }
            let EndedTarget { report, cacheability, unseen, rest } =
                match (&kept, results.remove(&index)) {
                    (Some(record), _) => EndedTarget {
                        report: record.targets[0].clone(),
                        cacheability: Cacheability::Observed(record.inputs.clone()),
                        unseen: Vec::new(),
                        rest: None,
                    },
                    (None, Some(ended)) => ended,
                    (None, None) => return Err(RunError::Cancelled.into()),
                };
            let flaky = Vec::new();
            targets.push(RanTarget {
                report,
                kept,
                rest,
                recorded,
                reason,
                cacheability,
                unseen,
                flaky,
            });
        }
        let products = products.into_iter().map(|(_, path)| path).collect();
        Ok(RanTargets {
            targets,
            runners,
            products,
            doubt,
            replaced,
            unoptimized: build.unoptimized,
            unoptimized_executables: build.unoptimized_executables(),
            programs: Vec::new(),
            records: Some(records),
        })
    }

    fn runner_options(&self, jobs: usize) -> runner::RunnerOptions {
        runner::RunnerOptions {
            jobs,
            timeout: self.question.settings.timeout,
            cancel: self.options.cancel.clone(),
            priority: self.options.priority,
            ..runner::RunnerOptions::default()
        }
    }

    /// Runs the failed tests of targets again that failed early, beside nothing else.
    async fn red_early(
        &self,
        jobs: &[TestJob],
        wanted: &[usize],
        early: &mut EarlyRuns<'_>,
        records: &TargetRecords<'_>,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<BTreeMap<usize, EndedTarget>, RunError> {
        let mut red = |index: &usize| Some((*index, early.take_red(records.subject(*index)?)?));
        let red: Vec<_> = wanted.iter().filter_map(&mut red).collect();
        if red.is_empty() {
            return Ok(BTreeMap::new());
        }
        early.finish().await;
        let befores = red.iter().map(|(index, report)| (*index, report)).collect();
        let one_by_one = self.runner_options(1);
        self.still_red(jobs, befores, &one_by_one, on_step).await
    }

    /// Runs nothing but the failed tests of targets that failed on this very code. Those that fail
    /// again are red, and done; of a target whose failed tests pass now nothing is known: what they
    /// depend on is not what it was, and the others may depend on it too.
    async fn failed_first(
        &self,
        jobs: &[TestJob],
        wanted: &[usize],
        options: &runner::RunnerOptions,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<BTreeMap<usize, EndedTarget>, RunError> {
        let before = |index: &usize| {
            Some((*index, failed::before(self.failed.as_deref(), &jobs[*index].id)?))
        };
        let befores = wanted.iter().filter_map(before).collect();
        // Beside each other they could fail again for that reason alone.
        let one_by_one = runner::RunnerOptions { jobs: 1, ..options.clone() };
        self.still_red(jobs, befores, &one_by_one, on_step).await
    }

    /// Runs nothing but the failed tests of these targets, as they are: those of which some fail
    /// again.
    async fn still_red(
        &self,
        jobs: &[TestJob],
        befores: Vec<(usize, &TargetReport)>,
        options: &runner::RunnerOptions,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<BTreeMap<usize, EndedTarget>, RunError> {
        let part =
            |(index, before)| Some(((index, before), failed::only_failed(&jobs[index], before)?));
        let (befores, parts): (Vec<_>, Vec<_>) = befores.into_iter().filter_map(part).unzip();
        let events = |event: RunEvent<'_>| {
            let is_green = matches!(&event, RunEvent::Finished { report }
                if report.verdict == Verdict::Pass);
            if !is_green {
                on_step(Step::Running(event));
            }
        };
        let reports = self.all(runner::run(&parts, options, events).await)?;
        let red = befores.into_iter().zip(reports).filter_map(|((index, before), report)| {
            let report = failed::still_red(before, report)?;
            Some((
                index,
                EndedTarget {
                    report,
                    cacheability: Cacheability::WholeTree(Vec::new()),
                    unseen: Vec::new(),
                    rest: None,
                },
            ))
        });
        Ok(red.collect())
    }

    /// Runs these of the jobs, beside what still runs early, observed where that is possible. What
    /// an observed run cannot prove is run once more as it is. What has ended is among the results
    /// even if not all has.
    ///
    /// A job that fails beside others is repeated alone. If it passes then, it runs alone from now
    /// on.
    async fn run(
        &self,
        JobsToRun { jobs, wanted, options, parts, pass }: JobsToRun<'_>,
        records: &mut TargetRecords<'_>,
        early: &mut EarlyRuns<'_>,
        results: &mut BTreeMap<usize, EndedTarget>,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<(), RunError> {
        let always = AlwaysRun::of(&self.question.settings);
        let (state, now) = (self.cache.state(&self.question.root), Timestamp::now());
        let runs_as_it_is = |id: &TargetId| altered::runs_as_it_is(&state, id, now);
        let job = |index: &usize| match parts.get(index) {
            Some(part) => part.job(jobs[*index].clone()),
            None => jobs[*index].clone(),
        };
        let mut observed: Vec<TestJob> = wanted.iter().map(job).collect();
        for (index, job) in wanted.iter().zip(&mut observed) {
            job.urgent |= failed::before(self.failed.as_deref(), &job.id).is_some();
            if let TargetFinding::Nothing { expected, .. } = records.found(*index) {
                job.expected = *expected;
            }
            if !job.is_random()
                && !always.names(&job.id)
                && !records.is_measured(*index)
                && !runs_as_it_is(&job.id)
            {
                records.observe(*index, job, pass.min(in_full::passing(&state, &job.id)));
            }
        }
        let is_observed: BTreeSet<_> =
            observed.iter().filter(|job| job.around.is_some()).map(|job| job.id.clone()).collect();
        let beside = observed.iter().filter(|job| !job.alone);
        let beside: BTreeSet<_> = match beside.clone().count() {
            // A random order decides as well: what failed then must not pass by a second try.
            // Beside what still runs early, or each other.
            1.. if early.runs() || (options.jobs > 1 && beside.clone().count() > 1) => {
                beside.filter(|job| !job.is_random()).map(|job| job.id.clone()).collect()
            }
            _ => BTreeSet::new(),
        };
        let is_part = |id: &TargetId| parts.keys().any(|index| jobs[*index].id == *id);
        let was_red = |id: &TargetId| failed::before(self.failed.as_deref(), id).is_some();
        let events = |event: RunEvent<'_>| {
            // Not told before it is believed, or whole.
            let is_doubtful = matches!(&event, RunEvent::Finished { report }
                if is_part(&report.id) || report.verdict != Verdict::Pass
                    && (beside.contains(&report.id) || is_observed.contains(&report.id)));
            if !is_doubtful {
                on_step(Step::Running(event));
            }
        };
        // From here on, nothing runs beside what is repeated.
        let (reports, ()) = tokio::join!(runner::run(&observed, options, events), early.finish());
        drop(observed);
        let mut watched = records.observed();
        let (mut again, mut doubtful, mut altered) = (Vec::new(), Vec::new(), Vec::new());
        let mut half_seen: BTreeMap<LoaderCalls, Vec<usize>> = BTreeMap::new();
        let mut whole = Vec::new();
        let mut all = true;
        for (index, report) in wanted.iter().zip(reports) {
            let Some(report) = report else {
                all = false;
                continue;
            };
            if let Some(part) = parts.get(index) {
                records.forget_quiet(*index);
                match part.ended(report, watched.remove(index)) {
                    Some(ended) if ended.report.verdict == Verdict::Pass => {
                        let report = &ended.report;
                        on_step(Step::Running(RunEvent::Finished { report }));
                        results.insert(*index, ended);
                    }
                    Some(red) => doubtful.push((*index, red.report)),
                    None => whole.push(*index),
                }
                continue;
            }
            let is_random = jobs[*index].is_random();
            let red = report.verdict != Verdict::Pass;
            let (cacheability, unseen) = match watched.remove(index) {
                // What came of it is not its own, red or green.
                Some(ObservedRun { interfered: true, cacheability, unseen, .. }) => {
                    if matches!(cacheability, Cacheability::Uncacheable(_)) {
                        altered.push(report.id);
                    }
                    again.push((*index, cacheability, unseen));
                    continue;
                }
                // It may be red only because other programs ran beside it.
                _ if red && beside.contains(&report.id) => {
                    doubtful.push((*index, report));
                    continue;
                }
                _ if always.names(&report.id) => {
                    (Cacheability::Uncacheable(vec![Uncacheable::AlwaysRun]), vec![])
                }
                _ if is_random => (Cacheability::Uncacheable(vec![Uncacheable::Random]), vec![]),
                _ if records.is_measured(*index) => {
                    (Cacheability::Uncacheable(vec![Uncacheable::Coverage]), vec![])
                }
                _ if runs_as_it_is(&report.id) => {
                    (Cacheability::Uncacheable(vec![Uncacheable::Altered]), vec![])
                }
                Some(ObservedRun { needs: Some(pass), .. }) if !red => {
                    half_seen.entry(pass).or_default().push(*index);
                    continue;
                }
                // It may be red only because it was observed. Doctests are compiled to be repeated:
                // they are if they were red before and then passed as they are.
                _ if red
                    && is_observed.contains(&report.id)
                    && (report.id.kind != TargetKind::Doc || was_red(&report.id)) =>
                {
                    doubtful.push((*index, report));
                    continue;
                }
                Some(ObservedRun { cacheability, unseen, .. }) => (cacheability, unseen),
                None => (Cacheability::WholeTree(Vec::new()), vec![]),
            };
            results.insert(*index, EndedTarget { report, cacheability, unseen, rest: None });
        }
        if !all || self.options.cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        altered::remember(self.cache, &self.question.root, &altered, now);
        for (pass, wanted) in half_seen {
            let targets = wanted.iter().map(|index| &jobs[*index].id);
            in_full::remember(self.cache, &self.question.root, targets, pass);
            let some = JobsToRun { jobs, wanted: &wanted, options, parts: &WHOLE, pass };
            Box::pin(self.run(some, records, early, results, on_step)).await?;
        }
        if !whole.is_empty() {
            let some = JobsToRun { jobs, wanted: &whole, options, parts: &WHOLE, pass };
            Box::pin(self.run(some, records, early, results, on_step)).await?;
        }
        // The failed tests say whether it is red as it is, whatever the others come to.
        let one_by_one = runner::RunnerOptions { jobs: 1, ..options.clone() };
        let befores = doubtful.iter().map(|(index, report)| (*index, report)).collect();
        let mut red = self.still_red(jobs, befores, &one_by_one, on_step).await?;
        for (index, report) in &doubtful {
            if let Some(ended) = red.get_mut(index) {
                ended.report.duration_ms += report.duration_ms;
                ended.rest = parts.get(index).map(|part| Arc::clone(part.record()));
            }
        }
        results.extend(red);
        doubtful.retain(|(index, _)| !results.contains_key(index));
        let (together, alone): (Vec<_>, Vec<_>) =
            doubtful.into_iter().partition(|(_, report)| beside.contains(&report.id));
        if !together.is_empty() {
            // Alone, and observed again: a pass is as good as any other.
            let jobs: Vec<_> =
                jobs.iter().map(|job| TestJob { alone: true, ..job.clone() }).collect();
            let wanted: Vec<_> = together.iter().map(|(index, _)| *index).collect();
            let (wanted, options, parts) = (&wanted, &one_by_one, &WHOLE);
            let some = JobsToRun { jobs: &jobs, wanted, options, parts, pass };
            Box::pin(self.run(some, records, early, results, on_step)).await?;
            self.remember_alone(wanted, results);
        }
        for (index, report) in alone {
            let tests = report.failures().take(MOST_NAMED).map(str::to_owned).collect();
            let fickle = Cacheability::Uncacheable(vec![Uncacheable::Fickle(tests)]);
            again.push((index, fickle, Vec::new()));
        }
        let repeated: Vec<_> = again.iter().map(|(index, ..)| jobs[*index].clone()).collect();
        let events = |event: RunEvent<'_>| on_step(Step::Running(event));
        let reports = self.all(runner::run(&repeated, &one_by_one, events).await)?;
        for ((index, cacheability, unseen), report) in again.into_iter().zip(reports) {
            results.insert(index, EndedTarget { report, cacheability, unseen, rest: None });
        }
        Ok(())
    }

    /// Remembers that these targets failed beside others, if they have passed alone.
    fn remember_alone(&self, targets: &[usize], results: &BTreeMap<usize, EndedTarget>) {
        let passed = targets.iter().filter_map(|index| results.get(index));
        let passed = passed.filter(|ended| ended.report.verdict == Verdict::Pass);
        let names: Vec<_> = passed.map(|ended| ended.report.id.to_string()).collect();
        if names.is_empty() {
            return;
        }
        let now = Timestamp::now();
        let lost = "cannot remember which targets run alone";
        self.cache.note_state(&self.question.root, lost, |state| {
            state.run_alone.extend(names.into_iter().map(|name| (name, now)));
        });
    }

    /// The reports of all jobs, unless some were given up.
    fn all(&self, reports: Vec<Option<TargetReport>>) -> Result<Vec<TargetReport>, RunError> {
        if self.options.cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        reports.into_iter().collect::<Option<_>>().ok_or(RunError::Cancelled)
    }

    /// The programs of the developer's own that test binaries are run by: what they do decides
    /// the verdict too.
    fn runners(&self, targets: &[PlannedTarget]) -> Vec<PathBuf> {
        let runs = |planned: &&PlannedTarget| planned.harness != Harness::Doctest;
        let find = |planned: &PlannedTarget| {
            let (name, dir) = (&planned.program, &planned.dir);
            if name.components().count() > 1 {
                return dir.join(name);
            }
            planned.environment.find_program(name, dir).unwrap_or_else(|| name.clone())
        };
        let programs: BTreeSet<_> = targets.iter().filter(runs).map(find).collect();
        programs.into_iter().filter(|path| !self.facts.is_made(path)).collect()
    }
}

impl From<PlannedTarget> for TestJob {
    fn from(planned: PlannedTarget) -> Self {
        let PlannedTarget { id, program, args, dir, environment, harness } = planned;
        Self::new(id, program, args, dir, environment, harness)
    }
}

/// Has those targets start first that failed the last time, and those of the packages in `first`.
fn likely_failures_first(state: &ProjectState, first: &[String], jobs: &mut [TestJob]) {
    for job in jobs {
        let is_first = first.contains(&job.id.package);
        job.urgent = is_first || state.failing.contains(&job.id.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TargetId, TargetKind};
    use crate::process::Environment;

    #[test]
    fn targets_that_failed_and_those_of_edited_packages_are_urgent() {
        let job = |package: &str| {
            let id =
                TargetId { package: package.into(), target: "t".into(), kind: TargetKind::Test };
            let (args, environment) = (Vec::new(), Environment::default());
            TestJob::new(id, "/nowhere", args, "/", environment, Harness::Libtest)
        };
        let mut jobs = ["a", "b", "c"].map(job);
        let mut state = ProjectState::default();
        state.failing.insert(jobs[2].id.to_string());
        likely_failures_first(&state, &["b".to_owned(), "x".to_owned()], &mut jobs);
        assert_eq!(jobs.map(|job| job.urgent), [false, true, true]);
    }
}
