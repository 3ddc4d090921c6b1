//! A question that no record answers: build, ask cargo for the plan, run it, keep the outcome.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::look_up::{Finding, answer_of, input_now};
use super::{Facts, Look, Question, Tree, TreeError, code_hash, known_failure, source_key};
use crate::cache::{Cache, Input, Key, Limits, Record};
use crate::compiler::{Build, BuildSpec, CompileError, Planned, Progress, TestCompiler};
use crate::config::Runner;
use crate::model::{Answer, Digest, End, Source, TargetAnswer, TargetReport, Timestamp, Verdict};
use crate::process::Priority;
use crate::protocol::{KnownFailure, VERSION};
use crate::runner;
use crate::runner::nextest::{self, NextestError};
use crate::workspace::Stamp;

/// How often a build is repeated because files changed while it ran. A build that writes into
/// its own sources settles in the second round; a developer who types settles later.
const ROUNDS: usize = 3;

/// How old a link that only the build knows must be before the build for its target to be
/// certain: the coarsest granularity of file times, and a rounded second.
const LINK_MARGIN: Duration = Duration::from_secs(3);

/// How to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Our own executable, for cargo's runner hook.
    pub hook: PathBuf,
    /// Test binaries at a time.
    pub jobs: NonZeroUsize,
    /// Whether someone waits.
    pub priority: Priority,
    /// Whether cargo's messages are coloured.
    pub color: bool,
    /// Let no record answer.
    pub no_cache: bool,
    /// What is kept.
    pub limits: Limits,
    /// Ends everything.
    pub cancel: CancellationToken,
}

/// What is going on, for a progress line.
#[derive(Debug)]
pub enum Step<'a> {
    /// The tree is being read.
    Looking,
    /// No record answers, and why.
    Missed(&'a str),
    /// This very code is known to fail.
    KnownFailure(&'a KnownFailure),
    /// Cargo builds.
    Building(Progress),
    /// Cargo has built.
    Built(&'a Build),
    /// Files changed while cargo built: it builds again.
    BuildingAgain(&'a [String]),
    /// So many targets will be run.
    Planned(usize),
    /// The tests run.
    Running(runner::Event<'a>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The build failed, or cargo did.
    #[error(transparent)]
    Build(#[from] CompileError),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Cargo-nextest could not run.
    #[error(transparent)]
    Nextest(#[from] NextestError),
    /// It was ended.
    #[error("cancelled")]
    Cancelled,
}

/// An answer, and what it can be compared with.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// The green record that would have answered, had it been allowed to.
    pub recorded: Option<Arc<Record>>,
}

/// Answers `question`: from a record if there is one for the tree as it is, else by a run.
///
/// # Errors
/// If there is nothing to answer: the build failed, or something stood in the way.
pub async fn run<T: Tree>(
    question: &Question,
    facts: &Facts,
    tree: &mut T,
    cache: &Cache,
    options: &RunOptions,
    on_step: &mut dyn FnMut(Step<'_>),
) -> Result<Outcome, RunError> {
    let session = Session { question, facts, cache, options, started: Instant::now() };
    on_step(Step::Looking);
    let mut look = tree.look().await?;
    let mut recorded = session.recorded(look.digest.as_ref().ok(), on_step);
    if let Some(outcome) = session.answer_from(&recorded) {
        return Ok(outcome);
    }
    let mut not_kept = Vec::new();
    let mut round = 1;
    let (build, built_at) = loop {
        let built_at = SystemTime::now();
        let build = session.build(on_step, &look).await?;
        let changed = match tree.changed_since(&look.mark).await {
            Some(changed) if changed.is_empty() => break (build, built_at),
            Some(changed) => changed,
            // Nothing will be kept: no use in building until somebody can tell.
            None if look.digest.is_err() => break (build, built_at),
            None => vec!["it cannot be told what".to_owned()],
        };
        if round == ROUNDS {
            not_kept.push(format!("changed while it was built: {}", changed.join(", ")));
            break (build, built_at);
        }
        round += 1;
        on_step(Step::BuildingAgain(&changed));
        look = tree.look().await?;
        // Other code than was asked about at first: a record may answer for this one.
        recorded = session.recorded(look.digest.as_ref().ok(), on_step);
        if let Some(outcome) = session.answer_from(&recorded) {
            return Ok(outcome);
        }
    };
    on_step(Step::Built(&build));
    let ran = session.execute(on_step).await?;
    let reports = ran.reports;
    not_kept.extend(ran.doubt);
    let when = Timestamp::now();
    // Before the last look at the tree: what it counts now, it counted all the time.
    let sources = tree.uncounted(session.sources(&build, ran.runners)).await;
    match tree.changed_since(&look.mark).await {
        Some(changed) if changed.is_empty() => {}
        Some(changed) => {
            not_kept.push(format!("changed while the tests ran: {}", changed.join(", ")));
        }
        None => not_kept.push("it cannot be told what changed while the tests ran".to_owned()),
    }
    match &look.digest {
        Err(why) => not_kept.extend(why.iter().cloned()),
        Ok(digest) if session.is_kept() => {
            if not_kept.is_empty() {
                not_kept = session.keep_if_sure(digest, &sources, &build, built_at, &reports, when);
            }
            if not_kept.is_empty() {
                let code = code_hash(digest, &facts.identity);
                tree.keep_listing(cache, digest, &code).await;
            } else if !is_green(&reports) {
                // Too doubtful to be kept as a failure, and enough not to trust a green of it.
                session.disprove(digest);
            }
        }
        Ok(_) => {}
    }
    let code_hash = look.digest.ok().map(|tree| code_hash(&tree, &facts.identity));
    let why = session.why_run();
    let targets = reports
        .iter()
        .map(|report| TargetAnswer::from_report(report, Source::Run, why, when))
        .collect();
    Ok(Outcome { answer: Answer { code_hash, targets, not_kept }, recorded })
}

struct Session<'a> {
    question: &'a Question,
    facts: &'a Facts,
    cache: &'a Cache,
    options: &'a RunOptions,
    started: Instant,
}

impl Session<'_> {
    fn key(&self, tree: &Digest) -> (Digest, Key) {
        let Question { root, selection, settings, .. } = self.question;
        let code = code_hash(tree, &self.facts.identity);
        let runner = settings.runner.as_str();
        (code, source_key(&code, root, selection, runner, &self.facts.identity))
    }

    /// Whether the outcome is one that can be kept at all: a build alone proves nothing.
    fn is_kept(&self) -> bool {
        !self.question.selection.is_no_run()
    }

    /// The green record of this tree, if there is one.
    fn recorded(
        &self,
        tree: Option<&Digest>,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Option<Arc<Record>> {
        if !self.is_kept() {
            return None;
        }
        let (code, key) = self.key(tree?);
        let now = Timestamp::now();
        match Finding::of(self.cache, &key, self.question, now) {
            Finding::Green(record) => {
                // Another checkout's record is now this project's too. If that cannot be
                // written, retention may remove the record earlier: no harm to this answer.
                let _ = self.cache.claim(&self.question.root, code, &record, now);
                return Some(record);
            }
            Finding::Red(record) => on_step(Step::KnownFailure(&known_failure(&record))),
            Finding::Nothing(why) => on_step(Step::Missed(&why)),
        }
        None
    }

    fn answer_from(&self, recorded: &Option<Arc<Record>>) -> Option<Outcome> {
        let record = recorded.as_ref().filter(|_| !self.options.no_cache)?;
        Some(Outcome { answer: answer_of(record), recorded: recorded.clone() })
    }

    fn why_run(&self) -> &'static str {
        if self.options.no_cache { "asked to run" } else { "no record of this code" }
    }

    fn compiler(&self) -> TestCompiler {
        TestCompiler::new(BuildSpec {
            root: self.question.root.clone(),
            selection: self.question.selection.clone(),
            environment: self.question.environment.clone(),
            toolchain: self.facts.toolchain.clone(),
            config: self.facts.cargo_config.clone(),
            priority: self.options.priority,
            colour: self.options.color,
            hook: self.options.hook.clone(),
        })
    }

    async fn build<M>(
        &self,
        on_step: &mut dyn FnMut(Step<'_>),
        look: &Look<M>,
    ) -> Result<Build, RunError> {
        let progress = |progress| on_step(Step::Building(progress));
        match self.compiler().build(&self.options.cancel, progress).await {
            Err(CompileError::Cancelled) => Err(RunError::Cancelled),
            Ok(build) => Ok(build),
            Err(error) => {
                if let Ok(digest) = &look.digest {
                    self.disprove(digest);
                }
                Err(error.into())
            }
        }
    }

    /// What was green does not build, or fails, now.
    fn disprove(&self, tree: &Digest) {
        if self.is_kept() {
            self.cache.disprove(&self.key(tree).1);
        }
    }

    /// Runs all that cargo would run.
    async fn execute(&self, on_step: &mut dyn FnMut(Step<'_>)) -> Result<Ran, RunError> {
        let Question { selection, settings, environment, .. } = self.question;
        if selection.is_no_run() {
            return Ok(Ran::default());
        }
        let cancel = &self.options.cancel;
        let mut options = runner::Options {
            jobs: self.options.jobs.get(),
            timeout: settings.timeout,
            cancel: cancel.clone(),
            priority: self.options.priority,
            ..runner::Options::default()
        };
        if settings.runner == Runner::Nextest {
            let request = nextest::Request {
                cargo: self.facts.toolchain.cargo.clone(),
                dir: selection.dir.clone(),
                environment: environment.clone(),
                selection: selection.cargo.clone(),
                harness: selection.harness.clone(),
            };
            let events = |event: runner::Event<'_>| on_step(Step::Running(event));
            let ran = nextest::run(&request, &options, events).await?;
            let reports = ran.ok_or(RunError::Cancelled)?.reports;
            return Ok(Ran { reports, ..Ran::default() });
        }
        let plan = match self.compiler().plan(cancel).await {
            Err(CompileError::Cancelled) => return Err(RunError::Cancelled),
            plan => plan?,
        };
        let mut doubt = (!plan.fresh)
            .then(|| "something was compiled again between the build and the run".to_owned());
        let stamped = |path: PathBuf| (Stamp::of(&path), path);
        let products: Vec<_> = plan.products.into_iter().map(stamped).collect();
        let runners = self.runners(&plan.targets);
        on_step(Step::Planned(plan.targets.len()));
        let jobs: Vec<_> = plan.targets.into_iter().map(job).collect();
        // One target alone may speak to the terminal as it goes, as it does under cargo.
        options.live = jobs.len() == 1 && jobs[0].wants_output();
        let reports = runner::run(&jobs, &options, |event| on_step(Step::Running(event))).await;
        if cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        let reports = reports.into_iter().collect::<Option<_>>().ok_or(RunError::Cancelled)?;
        // Another cargo, with other flags, may have put other programs in the place of these.
        if let Some((_, path)) = products.iter().find(|(stamp, path)| !stamp.proves(path)) {
            doubt = Some(format!("{} was built anew while the tests ran", path.display()));
        }
        Ok(Ran { reports, runners, doubt })
    }

    fn is_made(&self, path: &Path) -> bool {
        self.facts.target_dirs.iter().any(|dir| path.starts_with(dir))
    }

    /// The programs of the developer's own that test binaries are run by: what they do decides
    /// the verdict too.
    fn runners(&self, targets: &[Planned]) -> Vec<PathBuf> {
        let runs = |planned: &&Planned| planned.harness != crate::compiler::Harness::Doctest;
        let find = |planned: &Planned| {
            let (name, dir) = (&planned.program, &planned.dir);
            if name.components().count() > 1 {
                return dir.join(name);
            }
            planned.environment.find_program(name, dir).unwrap_or_else(|| name.clone())
        };
        let programs: BTreeSet<_> = targets.iter().filter(runs).map(find).collect();
        programs.into_iter().filter(|path| !self.is_made(path)).collect()
    }

    /// What cargo read, less what it made itself: that is decided by the rest. And `more`.
    fn sources(&self, build: &Build, more: Vec<PathBuf>) -> Vec<PathBuf> {
        let read = build.sources.files.iter().filter(|path| !self.is_made(path)).cloned();
        read.chain(more).collect()
    }

    /// Keeps the outcome unless there is a doubt; the doubts.
    fn keep_if_sure(
        &self,
        tree: &Digest,
        sources: &[PathBuf],
        build: &Build,
        built_at: SystemTime,
        reports: &[TargetReport],
        when: Timestamp,
    ) -> Vec<String> {
        let changed = match Facts::gather(self.question, self.cache.dir()) {
            Ok(now) => now.changed_since(self.facts),
            Err(error) => vec![error.to_string()],
        };
        if !changed.is_empty() {
            return vec![format!("while the tests ran: {}", changed.join(", "))];
        }
        match self.inputs(sources, build, built_at) {
            Ok(inputs) => self.keep(tree, inputs, reports, when).into_iter().collect(),
            Err(doubts) => doubts,
        }
    }

    /// The inputs of a record for files that no snapshot holds, or what is doubtful about them.
    fn inputs(
        &self,
        sources: &[PathBuf],
        build: &Build,
        built_at: SystemTime,
    ) -> Result<Vec<Input>, Vec<String>> {
        let lost =
            |path: &PathBuf| format!("{} is gone: what was read is not known", path.display());
        let mut doubts: Vec<_> = build.sources.missing.iter().map(lost).collect();
        doubts.extend(build.sources.unseen.iter().map(|path| {
            let path = path.strip_prefix(&self.question.root).unwrap_or(path).display();
            format!("{path} was replaced by an older file, which cargo does not see: touch it")
        }));
        let mut inputs = Vec::new();
        for path in sources {
            let young = is_young(path, built_at);
            match input_now(path, &self.question.root).filter(|_| !young) {
                Some(input) => inputs.push(input),
                None if young => doubts.push(format!("{} has only just changed", path.display())),
                None => doubts.push(format!("{} cannot be read", path.display())),
            }
        }
        if doubts.is_empty() { Ok(inputs) } else { Err(doubts) }
    }

    /// Stores the outcome; what stood in the way, if anything.
    fn keep(
        &self,
        tree: &Digest,
        inputs: Vec<Input>,
        reports: &[TargetReport],
        when: Timestamp,
    ) -> Option<String> {
        let odd = |end: End| matches!(end, End::TimedOut | End::Cancelled | End::NotStarted);
        if let Some(report) = reports.iter().find(|report| odd(report.end)) {
            return Some(format!("{}: {}", report.id, report.end));
        }
        let (code_hash, key) = self.key(tree);
        let green = is_green(reports);
        let identity = &self.facts.identity;
        let record = Record {
            key,
            created: when,
            project: self.question.root.clone(),
            code_hash,
            selection: self.question.selection_text(),
            verdict: if green { Verdict::Pass } else { Verdict::Fail },
            inputs,
            targets: reports.to_vec(),
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tool_version: VERSION.to_owned(),
            identity: identity
                .build
                .iter()
                .chain(&identity.run)
                .map(|(name, digest)| (name.clone(), digest.to_string()))
                .collect(),
        };
        self.cache.put(&record, self.options.limits).err().map(|error| error.to_string())
    }
}

/// What a run came to.
#[derive(Default)]
struct Ran {
    reports: Vec<TargetReport>,
    /// Programs outside the target folders that tests were run by.
    runners: Vec<PathBuf>,
    /// Why it may not be what cargo would have run.
    doubt: Option<String>,
}

fn is_green(reports: &[TargetReport]) -> bool {
    reports.iter().all(|report| report.verdict == Verdict::Pass)
}

/// Whether the file, or the link that leads to it, may have been another one at `time`. Not by
/// its time of modification alone: a file that is moved here keeps that.
fn is_young(path: &Path, time: SystemTime) -> bool {
    let link = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_symlink);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let before = i64::try_from(since.saturating_sub(LINK_MARGIN).as_secs()).unwrap_or(i64::MAX);
    Stamp::of(path).is_young(time) || link.is_some_and(|link| link.ctime() >= before)
}

/// A planned target as the runner takes it.
fn job(planned: Planned) -> runner::Job {
    use crate::compiler::Harness;
    let harness = match planned.harness {
        Harness::Libtest => runner::Harness::Libtest,
        Harness::Custom => runner::Harness::Custom,
        Harness::Doctest => runner::Harness::Doctest,
    };
    let Planned { id, program, args, dir, environment, .. } = planned;
    runner::Job::new(id, program, args, dir, environment, harness)
}
