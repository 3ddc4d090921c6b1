//! A question that no record answers: build, ask cargo for the plan, run it, keep the outcome.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::look_up::{Finding, answer_of, input_now};
use super::{Facts, Question, Tree, TreeError, code_hash, known_failure, source_key};
use crate::cache::{Cache, Input, Key, Limits, Record};
use crate::compiler::{Build, BuildSpec, CompileError, Planned, Progress, TestCompiler};
use crate::config::Runner;
use crate::model::{
    Answer, Digest, End, Source, TargetAnswer, TargetReport, Timestamp, Verdict,
};
use crate::process::Priority;
use crate::protocol::{KnownFailure, VERSION};
use crate::runner;

/// How often a build is repeated because files changed while it ran. A build that writes into
/// its own sources settles in the second round; a developer who types settles later.
const ROUNDS: usize = 3;

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
    /// Look at no record.
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
    /// Cargo has built: what it warned of, rendered.
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
    /// The runner could not run.
    #[error(transparent)]
    Runner(#[from] runner::RunError),
    /// It was ended.
    #[error("cancelled")]
    Cancelled,
}

/// An answer, and the code that it is about.
#[derive(Debug)]
pub struct Outcome {
    /// The answer.
    pub answer: Answer,
    /// What every run target came to; empty for an answer from cache.
    pub reports: Vec<TargetReport>,
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
    on_step: &mut (dyn FnMut(Step<'_>) + Send),
) -> Result<Outcome, RunError> {
    let mut session = Session { question, facts, cache, options, started: Instant::now() };
    on_step(Step::Looking);
    let mut look = tree.look().await?;
    if !options.no_cache {
        if let Some(answer) = session.recorded(look.digest.as_ref().ok(), on_step) {
            return Ok(Outcome { answer, reports: Vec::new() });
        }
    }
    let mut not_kept = Vec::new();
    let mut round = 1;
    let (build, built_at) = loop {
        let built_at = SystemTime::now();
        let build = session.build(on_step).await?;
        let changed = tree.changed_since(&look.mark).await;
        match changed {
            Some(changed) if changed.is_empty() => break (build, built_at),
            changed => {
                let changed = changed.unwrap_or_else(|| vec!["(not known)".to_owned()]);
                if round == ROUNDS {
                    not_kept.push(format!("changed while it was built: {}", changed.join(", ")));
                    break (build, built_at);
                }
                on_step(Step::BuildingAgain(&changed));
                round += 1;
                look = tree.look().await?;
            }
        }
    };
    on_step(Step::Built(&build));
    // Other code than was asked about at first: a record may answer for this one.
    if round > 1 && !options.no_cache {
        if let Some(answer) = session.recorded(look.digest.as_ref().ok(), on_step) {
            return Ok(Outcome { answer, reports: Vec::new() });
        }
    }
    let reports = session.execute(&build, on_step).await?;
    let when = Timestamp::now();
    match tree.changed_since(&look.mark).await {
        Some(changed) if changed.is_empty() => {}
        Some(changed) => {
            not_kept.push(format!("changed while the tests ran: {}", changed.join(", ")));
        }
        None => not_kept.push("it cannot be told what changed while the tests ran".to_owned()),
    }
    match &look.digest {
        Err(why) => not_kept.extend(why.iter().cloned()),
        Ok(digest) if not_kept.is_empty() => {
            let sources = tree.uncounted(session.sources(&build)).await;
            let (inputs, doubts) = session.inputs(&sources, built_at);
            if doubts.is_empty() {
                not_kept.extend(session.keep(digest, inputs, &reports, when));
            } else {
                not_kept = doubts;
            }
        }
        Ok(_) => {}
    }
    let code = look.digest.ok().map(|tree| code_hash(&tree, &facts.identity));
    let targets = reports
        .iter()
        .map(|report| TargetAnswer::from_report(report, Source::Run, session.why_run(), when))
        .collect();
    Ok(Outcome { answer: Answer { code_hash: code, targets, not_kept }, reports })
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

    /// The answer of a record, if there is a green one.
    fn recorded(
        &self,
        tree: Option<&Digest>,
        on_step: &mut (dyn FnMut(Step<'_>) + Send),
    ) -> Option<Answer> {
        let (_, key) = self.key(tree?);
        match Finding::of(self.cache, &key, self.question, Timestamp::now()) {
            Finding::Green(record) => return Some(answer_of(&record)),
            Finding::Red(record) => on_step(Step::KnownFailure(&known_failure(&record))),
            Finding::Nothing(why) => on_step(Step::Missed(&why)),
        }
        None
    }

    fn why_run(&self) -> &'static str {
        if self.options.no_cache { "asked to run" } else { "no record of this code" }
    }

    fn compiler(&self) -> TestCompiler {
        TestCompiler::new(BuildSpec {
            toolchain: self.facts.toolchain.clone(),
            cargo_config: self.facts.cargo_config.clone(),
            root: self.question.root.clone(),
            selection: self.question.selection.clone(),
            environment: self.question.environment.clone(),
            priority: self.options.priority,
            color: self.options.color,
        })
    }

    async fn build(
        &self,
        on_step: &mut (dyn FnMut(Step<'_>) + Send),
    ) -> Result<Build, RunError> {
        let progress = |progress| on_step(Step::Building(progress));
        match self.compiler().build(&self.options.cancel, progress).await {
            Err(CompileError::Cancelled) => Err(RunError::Cancelled),
            result => Ok(result?),
        }
    }

    /// Runs all that cargo would run.
    async fn execute(
        &self,
        build: &Build,
        on_step: &mut (dyn FnMut(Step<'_>) + Send),
    ) -> Result<Vec<TargetReport>, RunError> {
        if self.question.selection.is_no_run() {
            return Ok(Vec::new());
        }
        let cancel = &self.options.cancel;
        let plan = match self.compiler().plan(build, &self.options.hook, cancel).await {
            Err(CompileError::Cancelled) => return Err(RunError::Cancelled),
            plan => plan?,
        };
        on_step(Step::Planned(plan.targets.len()));
        let jobs: Vec<_> = plan.targets.into_iter().map(job).collect();
        let options = runner::Options {
            jobs: self.options.jobs,
            timeout: self.question.settings.timeout,
            cancel: cancel.clone(),
            priority: self.options.priority,
        };
        let outcomes = runner::run(jobs, options, |event| on_step(Step::Running(event))).await;
        if cancel.is_cancelled() {
            return Err(RunError::Cancelled);
        }
        Ok(outcomes)
    }

    /// What cargo read, less what it made itself: that is decided by the rest.
    fn sources(&self, build: &Build) -> Vec<PathBuf> {
        let made = |path: &PathBuf| self.facts.target_dirs.iter().any(|dir| path.starts_with(dir));
        build.sources().into_iter().filter(|path| !made(path)).collect()
    }

    /// What cargo read besides the snapshot's files, and what is doubtful about it.
    fn inputs(&self, sources: &[PathBuf], built_at: SystemTime) -> (Vec<Input>, Vec<String>) {
        let (mut inputs, mut doubts) = (Vec::new(), Vec::new());
        for path in sources {
            let touched = std::fs::symlink_metadata(path).and_then(|m| m.modified());
            if touched.is_ok_and(|touched| touched + Duration::from_secs(2) > built_at) {
                doubts.push(format!("{} is too young to be sure of", path.display()));
                continue;
            }
            match input_now(path, &self.question.root) {
                Some(input) => inputs.push(input),
                None => doubts.push(format!("{} cannot be read", path.display())),
            }
        }
        (inputs, doubts)
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
        let green = reports.iter().all(|report| report.verdict == Verdict::Pass);
        let record = Record {
            key,
            created: when,
            project: self.question.root.clone(),
            code_hash,
            selection: self.question.selection.to_string(),
            verdict: if green { Verdict::Pass } else { Verdict::Fail },
            inputs,
            targets: reports.to_vec(),
            duration_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tool_version: VERSION.to_owned(),
            identity: self.facts.identity.parts(),
        };
        match self.cache.put(&record, &self.options.limits) {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

fn job(planned: Planned) -> runner::Job {
    planned.into()
}
