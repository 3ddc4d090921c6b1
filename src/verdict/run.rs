//! A question that no record answers: build, ask cargo for the plan, run it, keep the outcome.

mod targets;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio_util::sync::CancellationToken;

use super::execute::{Execution, Interrupted, RanTarget, RanTargets};
use super::extra_inputs::extra_inputs;
use super::fingerprint::Fingerprints;
use super::flaky;
use super::look_up::{Finding, answer_of, input_now};
use super::target_discovery::DiscoveredNames;
use super::{
    Facts, ProjectTree, Question, TreeError, TreeState, code_hash, known_failure, source_key,
};
use crate::cache::{Cache, Input, Limits, ProjectState, Record, RecordKey};
use crate::compiler::{Build, BuildProgress, BuildSpec, CompileError, TestCompiler};
use crate::model::{Answer, Digest, End, TargetAnswer, TargetReport, Timestamp, Verdict};
use crate::process::{Priority, Suspender};
use crate::protocol::{KnownFailure, VERSION};
use crate::runner;
use crate::runner::nextest::NextestError;
use crate::workspace::PathStamp;

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
    /// At most so many compilers at a time; none leaves it to cargo.
    pub build_jobs: Option<NonZeroUsize>,
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
    Building(BuildProgress),
    /// Cargo has built.
    Built(&'a Build),
    /// Files changed while cargo built: it builds again.
    BuildingAgain(&'a [String]),
    /// So many targets will be run.
    Planned(usize),
    /// The tests run.
    Running(runner::RunEvent<'a>),
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
pub struct RunOutcome {
    /// The answer.
    pub answer: Answer,
    /// The green record that would have answered, had it been allowed to.
    pub recorded: Option<Arc<Record>>,
    /// The green records of single targets that did answer, or would have.
    pub of_targets: Vec<Arc<Record>>,
}

/// Answers `question`: from a record if there is one for the tree as it is, else by a run.
///
/// # Errors
/// If there is nothing to answer: the build failed, or something stood in the way.
pub async fn run<T: ProjectTree>(
    question: &Question,
    facts: &Facts,
    tree: &mut T,
    cache: &Cache,
    options: &RunOptions,
    on_step: &mut dyn FnMut(Step<'_>),
) -> Result<RunOutcome, RunError> {
    let session = Answering { question, facts, cache, options, started: Instant::now() };
    on_step(Step::Looking);
    let mut look = tree.look().await?;
    let mut known = session.known(look.digest.as_ref().ok(), on_step);
    if let Some(outcome) = session.answer_from(&known) {
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
        known = session.known(look.digest.as_ref().ok(), on_step);
        if let Some(outcome) = session.answer_from(&known) {
            return Ok(outcome);
        }
    };
    on_step(Step::Built(&build));
    let names = DiscoveredNames::look(&question.root, &build.sources);
    let execution = session.execution(look.digest.as_ref().ok(), &known);
    let mut ran = match execution.execute(on_step).await {
        Ok(ran) => ran,
        Err(Interrupted { error, finished }) => {
            if let Some(finished) = finished {
                session.keep_finished(finished, (tree, &look), &known).await;
            }
            return Err(error);
        }
    };
    let when = Timestamp::now();
    not_kept.extend(ran.doubt.take());
    // Before the last look at the tree: what it counts now, it counted all the time.
    let runners = std::mem::take(&mut ran.runners);
    let sources = tree.uncounted(session.sources(&build, runners)).await;
    let outside = extra_inputs(question, facts, &ran, tree).await;
    let names = DiscoveredNames::look(&question.root, &build.sources).since(names);
    let still = match tree.changed_since(&look.mark).await {
        Some(changed) if changed.is_empty() => look.digest.as_ref().ok(),
        Some(changed) => {
            not_kept.push(format!("changed while the tests ran: {}", changed.join(", ")));
            None
        }
        None => {
            not_kept.push("it cannot be told what changed while the tests ran".to_owned());
            None
        }
    };
    // What ran need not be what this tree is built into.
    let still = still.filter(|_| !ran.replaced);
    if still.is_some() {
        // What cargo did not see is not built: an earlier run of this code was of another one.
        let before = known.record().filter(|_| build.sources.unseen.is_empty());
        session.note_flaky(&mut ran, before, when);
    }
    not_kept.extend(session.keep_targets(&mut ran, look.digest.as_ref().ok(), still, when));
    let reports: Vec<_> = ran.targets.iter().map(|target| target.report.clone()).collect();
    match &look.digest {
        Err(why) => not_kept.extend(why.iter().cloned()),
        Ok(digest) if session.is_kept() => {
            if not_kept.is_empty() {
                let oldest = ran.targets.iter().map(|target| target.when(when)).min();
                let outcome = (&reports[..], oldest.unwrap_or(when));
                let inputs = names.map(|names| outside.into_iter().chain(names).collect());
                not_kept =
                    session.keep_if_sure(digest, (&sources, inputs), &build, built_at, outcome);
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
    let answered = |target: &RanTarget| {
        let (source, when) = (target.source(), target.when(when));
        let reason = target.reason.clone();
        let answer = TargetAnswer::from_report(&target.report, source, reason, when);
        TargetAnswer { flaky: target.flaky.clone(), ..answer }
    };
    let targets = ran.targets.iter().map(answered).collect();
    let recorded = known.green();
    let of_targets = ran.targets.into_iter().filter_map(|target| target.recorded).collect();
    Ok(RunOutcome { answer: Answer { code_hash, targets, not_kept }, recorded, of_targets })
}

/// What is recorded of the very tree and question.
enum Known {
    Green(Arc<Record>),
    Red(Arc<Record>),
    Nothing,
}

impl Known {
    fn record(&self) -> Option<&Record> {
        match self {
            Self::Green(record) | Self::Red(record) => Some(record),
            Self::Nothing => None,
        }
    }

    fn green(&self) -> Option<Arc<Record>> {
        match self {
            Self::Green(record) => Some(Arc::clone(record)),
            _ => None,
        }
    }

    fn red(&self) -> Option<&Arc<Record>> {
        match self {
            Self::Red(record) => Some(record),
            _ => None,
        }
    }
}

struct Answering<'a> {
    question: &'a Question,
    facts: &'a Facts,
    cache: &'a Cache,
    options: &'a RunOptions,
    started: Instant,
}

impl Answering<'_> {
    fn key(&self, tree: &Digest) -> (Digest, RecordKey) {
        let Question { root, selection, settings, .. } = self.question;
        let code = code_hash(tree, &self.facts.identity);
        let runner = settings.runner.as_str();
        (code, source_key(&code, root, selection, runner, &self.facts.identity))
    }

    /// Whether the outcome is one that can be kept at all: a build alone proves nothing.
    fn is_kept(&self) -> bool {
        !self.question.selection.is_no_run()
    }

    /// What is recorded of this tree.
    fn known(&self, tree: Option<&Digest>, on_step: &mut dyn FnMut(Step<'_>)) -> Known {
        let Some(tree) = tree.filter(|_| self.is_kept()) else { return Known::Nothing };
        let (code, key) = self.key(tree);
        let now = Timestamp::now();
        match Finding::of(self.cache, &key, self.question, now) {
            Finding::Green(record) => {
                // Another checkout's record is now this project's too. If that cannot be
                // written, retention may remove the record earlier: no harm to this answer.
                let _ = self.cache.claim(&self.question.root, code, &record, now);
                Known::Green(record)
            }
            Finding::Red(record) => {
                on_step(Step::KnownFailure(&known_failure(&record)));
                let inputs = &record.inputs;
                match Fingerprints::default().first_changed(&self.question.root, inputs) {
                    None => Known::Red(record),
                    Some(_) => Known::Nothing,
                }
            }
            Finding::Nothing(why) => {
                on_step(Step::Missed(&why));
                Known::Nothing
            }
        }
    }

    fn answer_from(&self, known: &Known) -> Option<RunOutcome> {
        let recorded = known.green().filter(|_| !self.options.no_cache)?;
        let answer = answer_of(&recorded);
        Some(RunOutcome { answer, recorded: Some(recorded), of_targets: Vec::new() })
    }

    /// Compares with an earlier run of the very same code.
    fn note_flaky(&self, ran: &mut RanTargets<'_>, before: Option<&Record>, when: Timestamp) {
        let (root, wanted) = (&self.question.root, self.question.settings.flaky_runs);
        let mut noted = false;
        let mut note = |state: &mut ProjectState| {
            flaky::judge(state, &mut ran.targets, before, wanted, when);
        };
        // A look first: nearly always there is nothing to write.
        let mut state = self.cache.state(root);
        if before.is_some() || !state.flaky.is_empty() {
            noted = self.cache.update_state(root, &mut note).is_ok();
            if !noted {
                tracing::warn!("what is known of flaky tests is not kept");
            }
        }
        if !noted {
            note(&mut state);
        }
    }

    fn why_run(&self) -> &'static str {
        if self.options.no_cache { "asked to run" } else { "no record of this code" }
    }

    fn execution(&self, tree: Option<&Digest>, known: &Known) -> Execution<'_> {
        Execution {
            question: self.question,
            facts: self.facts,
            cache: self.cache,
            options: self.options,
            compiler: self.compiler(),
            tree: tree.copied(),
            failed: known.red().filter(|_| !self.options.no_cache).map(Arc::clone),
            why: self.why_run(),
        }
    }

    fn compiler(&self) -> TestCompiler {
        TestCompiler::new(BuildSpec {
            root: self.question.root.clone(),
            selection: self.question.selection.clone(),
            environment: self.question.environment.clone(),
            toolchain: self.facts.toolchain.clone(),
            config: self.facts.cargo_config.clone(),
            target_dir: self.question.target_dir.clone(),
            priority: self.options.priority,
            jobs: self.options.build_jobs,
            brake: Suspender::default(),
            colour: self.options.color,
            hook: self.options.hook.clone(),
        })
    }

    async fn build<M>(
        &self,
        on_step: &mut dyn FnMut(Step<'_>),
        look: &TreeState<M>,
    ) -> Result<Build, RunError> {
        self.question.mark_target();
        let progress = |progress| on_step(Step::Building(progress));
        match self.compiler().build(&self.options.cancel, progress).await {
            Err(CompileError::Cancelled) => Err(RunError::Cancelled),
            Ok(build) => {
                self.question.note_build(&build, self.cache.dir());
                Ok(build)
            }
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

    /// What cargo read, and `more`. What lies in a target directory is among it: it may have been
    /// put there.
    fn sources(&self, build: &Build, more: Vec<PathBuf>) -> Vec<PathBuf> {
        build.sources.files.iter().cloned().chain(more).collect()
    }

    /// Keeps the outcome unless there is a doubt; the doubts.
    fn keep_if_sure(
        &self,
        tree: &Digest,
        (sources, more): (&[PathBuf], Result<Vec<Input>, String>),
        build: &Build,
        built_at: SystemTime,
        (reports, when): (&[TargetReport], Timestamp),
    ) -> Vec<String> {
        let changed = match Facts::gather(self.question, self.cache.dir()) {
            Ok(now) => now.changed_since(self.facts),
            Err(error) => vec![error.to_string()],
        };
        if !changed.is_empty() {
            return vec![format!("while the tests ran: {}", changed.join(", "))];
        }
        match (self.inputs(sources, build, built_at), more) {
            (Ok(mut inputs), Ok(more)) => {
                inputs.extend(more);
                self.keep(tree, inputs, reports, when).into_iter().collect()
            }
            (inputs, more) => inputs.err().into_iter().flatten().chain(more.err()).collect(),
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
        // No snapshot has what lies there, and nobody sees a new file.
        doubts.extend(self.facts.target_among_sources(&self.question.root).map(|dir| {
            let dir = dir.strip_prefix(&self.question.root).unwrap_or(dir).display();
            format!("the target directory {dir} is one of sources too: choose another")
        }));
        let (mut inputs, mut fingerprints) = (Vec::new(), Fingerprints::default());
        for path in sources {
            let young = is_young(path, built_at);
            match input_now(path, &self.question.root, &mut fingerprints).filter(|_| !young) {
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
            workspace_root: self.question.root.clone(),
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

fn is_green(reports: &[TargetReport]) -> bool {
    reports.iter().all(|report| report.verdict == Verdict::Pass)
}

/// Whether the file, or the link that leads to it, may have been another one at `time`. Not by
/// its time of modification alone: a file that is moved here keeps that.
fn is_young(path: &Path, time: SystemTime) -> bool {
    !PathStamp::of(path).is_settled(time) || !PathStamp::followed(path).is_settled(time)
}
