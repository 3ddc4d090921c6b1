//! A question that no record answers: build, ask cargo for the plan, run it, keep the outcome.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::early::EarlyRuns;
use super::execute::{Execution, Interrupted};
use super::extra_inputs::extra_inputs;
use super::fingerprint::Fingerprints;
use super::keep::{Keeper, WholeRun, is_green};
use super::look_up::{Finding, LookUp, answer_of, known_failure};
use super::options::{RunError, RunOptions, Step};
use super::ran::RanTarget;
use super::target_discovery::DiscoveredNames;
use super::{Facts, ProjectTree, Question, TreeState, code_hash, provenance};
use crate::cache::{Cache, Record};
use crate::compiler::{Build, BuildProgress, BuildSpec, CompileError, TestCompiler};
use crate::model::{Answer, Digest, TargetAnswer, Timestamp};
use crate::process::Suspender;
use crate::protocol::RanProgram;

/// How often a build is repeated because files changed while it ran. A build that writes into
/// its own sources settles in the second round; a developer who types settles later.
const BUILD_ROUNDS: usize = 3;

/// An answer, and what it can be compared with.
#[derive(Debug)]
pub(crate) struct RunOutcome {
    /// The answer.
    pub answer: Answer,
    /// The green record that would have answered, had it been allowed to.
    pub recorded: Option<Arc<Record>>,
    /// The green records of single targets that did answer, or would have.
    pub of_targets: Vec<Arc<Record>>,
    /// The programs that ran, for a comparison with earlier runs.
    pub ran: Vec<RanProgram>,
    /// Nothing of the tree has changed since before the build, and what ran is what was built.
    pub is_steady: bool,
}

/// Answers `question`: from a record if there is one for the tree as it is, else by a run.
///
/// # Errors
/// If there is nothing to answer: the build failed, or something stood in the way.
pub(crate) async fn run<T: ProjectTree>(
    question: &Question,
    facts: &Facts,
    tree: &mut T,
    cache: &Cache,
    options: &RunOptions,
    on_step: &mut dyn FnMut(Step<'_>),
) -> Result<RunOutcome, RunError> {
    let look_up = LookUp { cache, question, facts };
    let keeper = Keeper { look_up, options, asked: Instant::now() };
    let session = Answering { question, facts, cache, options, keeper };
    on_step(Step::Looking);
    let mut state = tree.look().await?;
    let mut known = session.known(state.digest.as_ref().ok(), on_step);
    if let Some(outcome) = session.answer_from(&known) {
        return Ok(outcome);
    }
    let mut early = EarlyRuns::new(question, facts, cache, options);
    let mut not_kept = Vec::new();
    let mut round = 1;
    let (build, built_at) = loop {
        let built_at = SystemTime::now();
        let is_red = known.red().is_some();
        early.expect(&session.compiler(), state.digest.as_ref().ok(), is_red);
        let build = session.build(&mut early, on_step, &state).await?;
        let changed = match tree.changed_since(&state.mark).await {
            Some(changed) if changed.is_empty() => break (build, built_at),
            Some(changed) => changed,
            // Nothing will be kept: no use in building until the tree is known.
            None if state.digest.is_err() => break (build, built_at),
            None => vec!["it cannot be told what".to_owned()],
        };
        if round == BUILD_ROUNDS {
            not_kept.push(format!("changed while it was built: {}", changed.join(", ")));
            break (build, built_at);
        }
        round += 1;
        on_step(Step::BuildingAgain(&changed));
        state = tree.look().await?;
        // Other code than was asked about at first: a record may answer for this one.
        known = session.known(state.digest.as_ref().ok(), on_step);
        if let Some(outcome) = session.answer_from(&known) {
            return Ok(outcome);
        }
    };
    on_step(Step::Built(&build));
    // Cargo may call a build fresh that is not this tree's: a record by the tree would claim it.
    let is_of_tree = build.sources.unseen.is_empty() && build.sources.missing.is_empty();
    let names = DiscoveredNames::look(&question.root, &build.sources);
    let execution = session.execution(state.digest.as_ref().ok(), &known);
    let mut ran = match execution.execute(&build, &mut early, on_step).await {
        Ok(ran) => ran,
        Err(Interrupted { error, finished }) => {
            if let Some(mut finished) = finished {
                finished.replaced |= !is_of_tree;
                keeper.keep_finished(finished, tree, &state, known.record()).await;
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
    let products = std::mem::take(&mut ran.products);
    let conditions =
        provenance::conditions(question, facts, &build.sources, &products, cache.dir(), tree).await;
    let is_proven = conditions.as_ref().is_ok_and(Vec::is_empty);
    let names = DiscoveredNames::look(&question.root, &build.sources).since(names);
    let still = match tree.changed_since(&state.mark).await {
        Some(changed) if changed.is_empty() => state.digest.as_ref().ok(),
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
    let is_steady = still.is_some();
    if still.is_some() {
        // Other products may have been built of this code: an earlier run was perhaps of those.
        let is_same = is_proven && build.sources.unseen.is_empty();
        let before = known.record().filter(|_| is_same);
        keeper.note_flaky(&mut ran, before, when);
    }
    let proven = still.filter(|_| is_of_tree);
    not_kept.extend(keeper.keep_targets(&mut ran, state.digest.as_ref().ok(), proven, when));
    let reports: Vec<_> = ran.targets.iter().map(|target| target.report.clone()).collect();
    match &state.digest {
        Err(why) => not_kept.extend(why.iter().cloned()),
        Ok(digest) if session.is_kept() => {
            if not_kept.is_empty() {
                let inputs = names.and_then(|names| {
                    Ok(outside.into_iter().chain(names).chain(conditions?).collect())
                });
                let oldest = ran.targets.iter().map(|target| target.when(when)).min();
                not_kept = keeper.keep_whole(&WholeRun {
                    tree_digest: digest,
                    build: &build,
                    built_at,
                    sources: &sources,
                    inputs,
                    reports: &reports,
                    when: oldest.unwrap_or(when),
                });
            }
            if not_kept.is_empty() {
                let code = code_hash(digest, &facts.identity);
                tree.keep_listing(cache, digest, &code).await;
            } else if !is_green(&reports) {
                // Too doubtful to be kept as a failure, and enough not to trust a green of it.
                keeper.disprove(digest);
            }
        }
        Ok(_) => {}
    }
    let code_hash = state.digest.ok().map(|tree| code_hash(&tree, &facts.identity));
    let answered = |target: &RanTarget| {
        let (source, when) = (target.source(), target.when(when));
        let reason = target.reason.clone();
        let answer = TargetAnswer::from_report(&target.report, source, reason, when);
        TargetAnswer { flaky: target.flaky.clone(), ..answer }
    };
    let targets = ran.targets.iter().map(answered).collect();
    let programs = std::mem::take(&mut ran.programs);
    let of_targets = ran.targets.into_iter().filter_map(|target| target.recorded).collect();
    let answer = Answer { code_hash, targets, not_kept };
    let recorded = known.green().cloned();
    Ok(RunOutcome { answer, recorded, of_targets, ran: programs, is_steady })
}

/// What one question needs.
struct Answering<'a> {
    question: &'a Question,
    facts: &'a Facts,
    cache: &'a Cache,
    options: &'a RunOptions,
    keeper: Keeper<'a>,
}

impl<'a> Answering<'a> {
    /// Whether the outcome is one that can be kept at all: a build alone proves nothing.
    fn is_kept(&self) -> bool {
        !self.question.selection.is_no_run()
    }

    /// What is recorded of this tree. A failure of other circumstances is told and then forgotten.
    fn known(&self, tree_digest: Option<&Digest>, on_step: &mut dyn FnMut(Step<'_>)) -> Finding {
        let Some(digest) = tree_digest.filter(|_| self.is_kept()) else {
            return Finding::Nothing(String::new());
        };
        let finding = self.keeper.look_up.find(digest);
        match &finding {
            Finding::Green(record) => self.keeper.look_up.claim(digest, record),
            Finding::Red(record) => {
                on_step(Step::KnownFailure(&known_failure(record)));
                let mut fingerprints = Fingerprints::new(&self.question.settings);
                let changed = fingerprints.first_changed(&self.question.root, &record.inputs);
                if let Some(changed) = changed {
                    return Finding::Nothing(format!("{} changed", changed.path.display()));
                }
            }
            Finding::Nothing(why) => on_step(Step::Missed(why)),
        }
        finding
    }

    fn answer_from(&self, known: &Finding) -> Option<RunOutcome> {
        let recorded = known.green().filter(|_| !self.options.no_cache)?;
        let answer = answer_of(recorded);
        let recorded = Some(Arc::clone(recorded));
        let (of_targets, ran) = (Vec::new(), Vec::new());
        Some(RunOutcome { answer, recorded, of_targets, ran, is_steady: true })
    }

    fn execution(&self, tree_digest: Option<&Digest>, known: &Finding) -> Execution<'a> {
        let no_cache = self.options.no_cache;
        Execution {
            question: self.question,
            facts: self.facts,
            cache: self.cache,
            options: self.options,
            compiler: self.compiler(),
            tree_digest: tree_digest.copied(),
            failed: known.red().filter(|_| !no_cache).map(Arc::clone),
            why: if no_cache { "asked to run" } else { "no record of this code" },
        }
    }

    fn compiler(&self) -> TestCompiler {
        TestCompiler::new(BuildSpec {
            workspace_root: self.question.root.clone(),
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

    /// Builds, and runs what is linked meanwhile.
    async fn build<M>(
        &self,
        early: &mut EarlyRuns<'_>,
        on_step: &mut dyn FnMut(Step<'_>),
        state: &TreeState<M>,
    ) -> Result<Build, RunError> {
        self.question.mark_target();
        let made = RefCell::new(Vec::new());
        let progress = |progress: BuildProgress| {
            if let BuildProgress::Made(product) = &progress {
                made.borrow_mut().push((**product).clone());
            }
            on_step(Step::Building(progress));
        };
        let compiler = self.compiler();
        let build = compiler.build(&self.options.cancel, progress);
        match early.beside(build, || made.take()).await {
            Err(CompileError::Cancelled) => Err(RunError::Cancelled),
            Ok(build) => {
                self.question.note_build(&build, self.cache.dir());
                Ok(build)
            }
            Err(error) => {
                if let Some(digest) = state.digest.as_ref().ok().filter(|_| self.is_kept()) {
                    self.keeper.disprove(digest);
                }
                Err(error.into())
            }
        }
    }

    /// What cargo read, and `more`. What lies in a target directory is among it: it may have been
    /// put there.
    fn sources(&self, build: &Build, more: Vec<PathBuf>) -> Vec<PathBuf> {
        build.sources.files.iter().cloned().chain(more).collect()
    }
}
