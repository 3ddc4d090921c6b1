//! Early runs: test programs that run as soon as cargo has linked them, while it builds the rest.
//!
//! An early run answers nothing by itself. A green one leaves a record of its program, as any run
//! does: it counts only if that record answers after the build, when cargo's plan is known (program,
//! arguments, folder, variables) and everything that the run consulted is as it was, or as the run
//! itself left it. What was replaced meanwhile, read too early or not wholly observed is run once
//! more. After a red one, the failed tests are run again.
//!
//! Only targets run early whose last observed run was quiet: nobody notices an order of runs that
//! cargo would not choose. A target waits for everything that its last run read in the target
//! folder. One program runs early for two that may run at a time, because the compiler works too. Where
//! tests are selected by what they reach, a program runs early if that selects all of them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::future::{Future, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::task::spawn_blocking;

use super::binary::{
    Cacheability, PlanContext, RunMoment, SeenConduct, Subject, TargetFinding, TargetRecords,
    selection_text,
};
use super::conduct::may_run_unasked;
use super::in_full;
use super::options::{RunOptions, RunScope};
use super::unreached_base::{Bases, would_run_all};
use super::{Facts, Question, code_hash};
use crate::cache::{Cache, Input, InputState, ProjectState, Record, RecordKey};
use crate::compiler::{PlannedTarget, Product, TestCompiler};
use crate::config::{Runner, TestSelection};
use crate::model::{Digest, Harness, TargetId, TargetReport, Timestamp, Verdict};
use crate::observer::{LoaderCalls, Observer};
use crate::process::Priority;
use crate::runner::{self, RunnerOptions, TestJob};
use crate::workspace::until_settled;

/// The early runs of one question.
pub(super) struct EarlyRuns<'a> {
    question: &'a Question,
    facts: &'a Facts,
    cache: &'a Cache,
    options: &'a RunOptions,
    state: ProjectState,
    at_a_time: usize,
    /// The digest of the tree that is being built.
    tree_digest: Option<Digest>,
    /// Where cargo builds, without links.
    target_dirs: Vec<PathBuf>,
    /// What may run early.
    planned: Vec<PlannedTarget>,
    /// The files that this build has made or found fresh.
    made: BTreeSet<PathBuf>,
    /// Linked programs that have not started.
    linked: Vec<LinkedTarget>,
    running: Vec<RunningTarget<'a>>,
    ended: BTreeMap<TargetId, EarlyEnd>,
}

/// A target whose program is linked.
struct LinkedTarget {
    planned: PlannedTarget,
    /// The files in the target folder that its last run read.
    reads: Vec<PathBuf>,
}

struct RunningTarget<'a> {
    id: TargetId,
    /// Set while it is asked whether it is to run early at all.
    is_asked: Rc<Cell<bool>>,
    run: Pin<Box<dyn Future<Output = Option<EarlyEnd>> + 'a>>,
}

/// What an early run came to.
pub(super) enum EarlyEnd {
    /// Green, and kept.
    Green(EarlyGreen),
    /// Red: the report, and the program and its circumstances.
    Red { report: TargetReport, parts: BTreeMap<String, String> },
}

/// A green early run.
pub(super) struct EarlyGreen {
    record: (RecordKey, Timestamp),
    /// How it behaved.
    pub(super) seen: SeenConduct,
    /// The reasons why its inputs are not all known, for a person.
    pub(super) unseen: Vec<String>,
}

impl<'a> EarlyRuns<'a> {
    /// Plans the early runs of a question; none has started.
    pub(super) fn new(
        question: &'a Question,
        facts: &'a Facts,
        cache: &'a Cache,
        options: &'a RunOptions,
    ) -> Self {
        let dirs = facts.target_dirs.iter();
        Self {
            question,
            facts,
            cache,
            options,
            state: ProjectState::default(),
            at_a_time: parallel_jobs(question, options) / 2,
            tree_digest: None,
            target_dirs: dirs.map(|dir| dir.canonicalize().unwrap_or(dir.clone())).collect(),
            planned: Vec::new(),
            made: BTreeSet::new(),
            linked: Vec::new(),
            running: Vec::new(),
            ended: BTreeMap::new(),
        }
    }

    /// Prepares for a build of this tree. `is_red`: the very same code failed before, so that its
    /// failed tests come first.
    pub(super) fn expect(
        &mut self,
        compiler: &TestCompiler,
        tree_digest: Option<&Digest>,
        is_red: bool,
    ) {
        let Self { question, options, .. } = self;
        self.tree_digest = tree_digest.copied();
        self.made.clear();
        self.linked.clear();
        self.planned.clear();
        let is_wanted = self.at_a_time > 0
            && tree_digest.is_some()
            && !is_red
            && !options.no_cache
            && options.scope == RunScope::All
            && options.priority == Priority::Foreground
            && question.settings.runner == Runner::Cargo
            && Observer::available().is_ok();
        if !is_wanted {
            return;
        }
        self.state = self.cache.state(&question.root);
        self.planned = compiler.last_plan(&question.plans_file(self.cache.dir()));
        let (state, dirs) = (&self.state, &self.facts.target_dirs);
        self.planned.retain(|planned| {
            let name = planned.id.to_string();
            planned.harness != Harness::Doctest
                // Not by a runner of the developer's.
                && dirs.iter().any(|dir| planned.program.starts_with(dir))
                && may_run_unasked(state, question, &planned.id)
                && !state.distrusted.contains_key(&name)
                && !state.run_alone.contains_key(&name)
                && !state.uncached.contains_key(&name)
        });
    }

    /// Takes note of a unit that cargo has built or found fresh.
    pub(super) fn note_made(&mut self, product: &Product) {
        if self.planned.is_empty() {
            return;
        }
        for file in &product.files {
            self.made.extend(file.canonicalize().ok());
            self.made.insert(file.clone());
        }
        let Some(program) = product.executable.as_ref().filter(|_| product.is_test()) else {
            return;
        };
        let Some(index) = self.planned.iter().position(|planned| planned.program == *program)
        else {
            return;
        };
        let mut planned = self.planned.swap_remove(index);
        // A script that names the commit gives another value at each.
        for (name, value) in &product.variables {
            planned.environment.set(name, value);
        }
        let last = self.cache.latest(&self.question.root, &selection_text(&planned.id));
        if let Some(last) = last {
            let reads = self.reads(&last, &planned.program);
            self.linked.push(LinkedTarget { planned, reads });
        }
    }

    /// The files in the target folder that the run of this record read, but for its program.
    fn reads(&self, record: &Record, program: &Path) -> Vec<PathBuf> {
        let program = program.canonicalize().unwrap_or_default();
        let is_read = |input: &&Input| {
            !matches!(
                input.state,
                InputState::Absent
                    | InputState::Kind(_)
                    | InputState::Overwritable
                    | InputState::Denied
                    | InputState::Listing(_)
                    | InputState::Targets(_)
            )
        };
        let path = |input: &Input| self.question.root.join(&input.path);
        let is_product = |path: &PathBuf| {
            let mut below = self.target_dirs.iter().filter_map(|dir| path.strip_prefix(dir).ok());
            below.any(|below| !below.starts_with("tmp")) && *path != program
        };
        record.inputs.iter().filter(is_read).map(path).filter(is_product).collect()
    }

    /// Runs what is linked until `build` has ended; `made` is where the build notes its products.
    pub(super) async fn beside<F: Future>(
        &mut self,
        build: F,
        mut made: impl FnMut() -> Vec<Product>,
    ) -> F::Output {
        let mut build = pin!(build);
        let built = poll_fn(|context| {
            let built = build.as_mut().poll(context);
            made().iter().for_each(|product| self.note_made(product));
            if built.is_pending() {
                self.poll(context);
            }
            built
        });
        let built = built.await;
        self.linked.clear();
        self.running.retain(|target| !target.is_asked.get());
        built
    }

    /// Starts what can start, and lets what runs go on.
    fn poll(&mut self, context: &mut Context<'_>) {
        loop {
            self.start();
            let running = self.running.len();
            let mut index = 0;
            while index < self.running.len() {
                let Poll::Ready(end) = self.running[index].run.as_mut().poll(context) else {
                    index += 1;
                    continue;
                };
                let id = self.running.swap_remove(index).id;
                self.ended.extend(end.map(|end| (id, end)));
            }
            if self.running.len() == running {
                return;
            }
        }
    }

    /// Starts linked programs, likely failures first.
    fn start(&mut self) {
        while self.running.len() < self.at_a_time {
            let is_ready = |target: &LinkedTarget| {
                let has_read = target.reads.iter().all(|path| self.made.contains(path));
                has_read && !self.is_running(&target.planned.id)
            };
            let urgency = |target: &LinkedTarget| {
                let id = &target.planned.id;
                (
                    self.state.failing.contains(&id.to_string()),
                    self.options.first.contains(&id.package),
                )
            };
            let ready = self.linked.iter().enumerate().filter(|(_, target)| is_ready(target));
            // Between equals, the one that was linked first goes first.
            let next = ready.rev().max_by_key(|(_, target)| urgency(target));
            let Some((index, _)) = next else { return };
            let LinkedTarget { planned, reads } = self.linked.remove(index);
            let id = planned.id.clone();
            let Some(tree_digest) = self.tree_digest else { return };
            let (question, facts, cache, options) =
                (self.question, self.facts, self.cache, self.options);
            let pass = in_full::passing(&self.state, &id);
            let is_asked = Rc::new(Cell::new(false));
            let asked = Rc::clone(&is_asked);
            let early = EarlyRun { question, facts, cache, options, tree_digest, pass, asked };
            let run = Box::pin(early.run(planned, reads));
            self.running.push(RunningTarget { id, is_asked, run });
        }
    }

    /// Ends the runs of targets that are not among `wanted`.
    pub(super) fn keep_running(&mut self, wanted: &BTreeSet<&TargetId>) {
        self.running.retain(|running| wanted.contains(&running.id));
    }

    /// Whether a target still runs.
    pub(super) fn is_running(&self, id: &TargetId) -> bool {
        self.running.iter().any(|running| running.id == *id)
    }

    /// Whether any target still runs.
    pub(super) fn runs(&self) -> bool {
        !self.running.is_empty()
    }

    /// Waits for what still runs.
    pub(super) async fn finish(&mut self) {
        poll_fn(|context| {
            self.poll(context);
            if self.running.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// The early run that left `record`.
    pub(super) fn green(&self, record: &Record) -> Option<&EarlyGreen> {
        let [report] = &record.targets[..] else { return None };
        match self.ended.get(&report.id)? {
            EarlyEnd::Green(green) if green.record == (record.key, record.created) => Some(green),
            _ => None,
        }
    }

    /// The red early run of this very program in these circumstances. It is told once.
    pub(super) fn take_red(&mut self, subject: &Subject) -> Option<TargetReport> {
        match self.ended.get(&subject.id)? {
            EarlyEnd::Red { parts, .. } if *parts == subject.parts => {}
            _ => return None,
        }
        match self.ended.remove(&subject.id)? {
            EarlyEnd::Red { report, .. } => Some(report),
            EarlyEnd::Green(_) => None,
        }
    }
}

/// One early run.
struct EarlyRun<'a> {
    question: &'a Question,
    facts: &'a Facts,
    cache: &'a Cache,
    options: &'a RunOptions,
    tree_digest: Digest,
    /// See [`in_full`].
    pass: LoaderCalls,
    /// Set while it is asked whether all tests would run.
    asked: Rc<Cell<bool>>,
}

impl EarlyRun<'_> {
    /// Runs the target unless a record answers; `None` if nothing is known of it afterwards.
    async fn run(self, planned: PlannedTarget, reads: Vec<PathBuf>) -> Option<EarlyEnd> {
        let files: Vec<_> = reads.into_iter().chain([planned.program.clone()]).collect();
        tokio::time::sleep(until_settled(&files, SystemTime::now())).await;
        let context = PlanContext::of(self.cache, self.question, self.facts, self.options.asked);
        let plan = std::slice::from_ref(&planned);
        let mut records = TargetRecords::look_up(context, plan, Some(&self.tree_digest), |_| None);
        let parts = records.subject(0)?.parts.clone();
        if matches!(records.found(0), TargetFinding::Green(_)) || records.is_measured(0) {
            return None;
        }
        let mut job = TestJob::from(planned.clone());
        self.options.hide_agent(&mut job);
        if job.is_random() || job.wants_output() {
            return None;
        }
        // What is certain of a selection is told by the whole build.
        if self.question.settings.selection == TestSelection::On {
            self.asked.set(true);
            let is_wanted = self.would_run_all(&planned).await;
            self.asked.set(false);
            if !is_wanted {
                return None;
            }
        }
        records.observe(0, &mut job, self.pass);
        job.around.as_ref()?;
        let options = RunnerOptions {
            timeout: self.question.settings.timeout,
            cancel: self.options.cancel.clone(),
            ..RunnerOptions::default()
        };
        let report = runner::run(std::slice::from_ref(&job), &options, |_| {}).await.pop();
        drop(job);
        let observed = records.observed().remove(&0)?;
        let report = report.flatten().filter(|_| !observed.interfered)?;
        if self.options.cancel.is_cancelled() {
            return None;
        }
        if report.verdict != Verdict::Pass {
            return Some(EarlyEnd::Red { report, parts });
        }
        if !matches!(observed.cacheability, Cacheability::Observed(_)) {
            return None;
        }
        let code_hash = Some(code_hash(&self.tree_digest, &self.facts.identity));
        let moment = RunMoment { code_hash, still: None, when: Timestamp::now(), rest: None };
        let record = records.record(0, &report, &observed.cacheability, moment)?;
        if let Err(error) = self.cache.store(&record, self.options.limits) {
            tracing::debug!(%error, "an early run is not kept");
            return None;
        }
        let (key, seen) = ((record.key, record.created), observed.conduct);
        Some(EarlyEnd::Green(EarlyGreen { record: key, seen, unseen: observed.unseen }))
    }

    async fn would_run_all(&self, planned: &PlannedTarget) -> bool {
        let bases = Bases::file(&self.question.root, self.cache.dir());
        let (id, program) = (planned.id.clone(), planned.program.clone());
        let sysroot = self.facts.toolchain.sysroot.clone();
        let told = spawn_blocking(move || would_run_all(&bases, &id, &program, &sysroot));
        told.await.unwrap_or(false)
    }
}

/// How many test programs run at a time. `--test-threads=1` and `--jobs 1` mean one, as do the
/// variable of libtest and `serial` in the config.
pub(super) fn parallel_jobs(question: &Question, options: &RunOptions) -> usize {
    let Question { selection, environment, settings, .. } = question;
    let typed = selection.jobs().and_then(|jobs| jobs.parse::<usize>().ok());
    let mut words = selection.harness.iter().map(|word| word.to_string_lossy());
    let mut threads = environment.get("RUST_TEST_THREADS").map(OsStr::to_string_lossy);
    while let Some(word) = words.next() {
        threads = match word.strip_prefix("--test-threads") {
            Some("") => words.next(),
            Some(value) => value.strip_prefix('=').map(|value| value.to_owned().into()),
            None => threads,
        };
    }
    if settings.serial || threads.is_some_and(|threads| threads == "1") {
        return 1;
    }
    let most = options.jobs.get();
    typed.filter(|jobs| *jobs > 0).map_or(most, |jobs| jobs.min(most))
}
