//! A question that no record answers: build, ask cargo for the plan, run it, keep the outcome.

mod by_part;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::binary::TargetRecords;
use super::early::EarlyRuns;
use super::execute::{Execution, Interrupted};
use super::extra_inputs::{extra_inputs, products_consulted};
use super::facts::ProductFolders;
use super::fingerprint::Fingerprints;
use super::keep::{Keeper, WholeRun, is_green};
use super::look_up::{Finding, LookUp, answer_of, known_failure};
use super::options::{RunError, RunOptions, RunScope, Step};
use super::package::{BuildScope, KnownTargets, PackageLevel, ProvenRun, unseen_reads};
use super::provenance::{Proof, provenance};
use super::ran::{RanTarget, RanTargets};
use super::shared_store::{self, Shareable};
use super::target_discovery::{DiscoveredNames, manifests_above};
use super::{Facts, ProjectTree, Question, TreeState, code_hash};
use crate::cache::{Cache, Record, RecordedProducts, UnseenReads};
use crate::compiler::{Build, BuildProgress, BuildSpec, CompileError, TestCompiler};
use crate::model::{Answer, Digest, TargetAnswer, TargetReport, Timestamp, Verdict};
use crate::process::{Priority, Suspender};
use crate::protocol::RanProgram;
use crate::shared::SharedStore;

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
    /// Nothing of the tree has changed since before the build, and what ran is what was built of it.
    pub is_steady: bool,
    /// What was proven that other machines may be told.
    pub shareable: Option<Shareable>,
}

impl RunOutcome {
    /// The outcome that is this answer, of a tree that has not changed, and nothing else.
    fn of(answer: Answer) -> Self {
        let (of_targets, ran) = (Vec::new(), Vec::new());
        Self { answer, recorded: None, of_targets, ran, is_steady: true, shareable: None }
    }

    /// The outcome of targets that have ended just before `when`.
    fn of_run(
        ran: RanTargets<'_>,
        code_hash: Option<Digest>,
        not_kept: Vec<String>,
        when: Timestamp,
    ) -> Self {
        let targets = ran.targets.iter().map(|target| answer_of_target(target, when)).collect();
        let of_targets = ran.targets.into_iter().filter_map(|target| target.recorded).collect();
        let answer = Answer { code_hash, targets, not_kept };
        Self { of_targets, ran: ran.programs, ..Self::of(answer) }
    }
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
    let session = Answering::of(question, facts, cache, options, Instant::now());
    on_step(Step::Looking);
    let state = tree.look().await?;
    let known = session.known(state.digest.as_ref().ok(), on_step);
    if let Some(outcome) = session.answer_from(&known) {
        return Ok(outcome);
    }
    if let Some(store) = session.store() {
        store.prepare();
    }
    let mut level = session.package_level(tree, &state).await;
    let mut of_packages = Vec::new();
    if let Some(level) = &mut level
        && known.red().is_none()
    {
        session.ask_others(level, on_step).await;
        match session.by_packages(level, tree, &state, on_step).await? {
            ByPackages::Answer(outcome) => return Ok(*outcome),
            ByPackages::Unanswered(recorded) => of_packages = recorded,
        }
    }
    let mut outcome = session.by_build(tree, BuildStart { state, known, level }, on_step).await?;
    outcome.of_targets.extend(of_packages);
    Ok(outcome)
}

/// Where a build of the whole begins.
struct BuildStart<'a, M> {
    state: TreeState<M>,
    known: Finding,
    level: Option<PackageLevel<'a>>,
}

/// What the package level has come to.
enum ByPackages {
    /// The answer.
    Answer(Box<RunOutcome>),
    /// The whole must be built. These records would have answered, had they been allowed to.
    Unanswered(Vec<Arc<Record>>),
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
    fn of(
        question: &'a Question,
        facts: &'a Facts,
        cache: &'a Cache,
        options: &'a RunOptions,
        asked: Instant,
    ) -> Self {
        let keeper = Keeper { look_up: LookUp { cache, question, facts }, options, asked };
        Self { question, facts, cache, options, keeper }
    }

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
            Finding::Green { record, .. } => self.keeper.look_up.claim(digest, record),
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
        let Finding::Green { record, reason } = known else { return None };
        if self.options.no_cache {
            return None;
        }
        let recorded = Some(Arc::clone(record));
        Some(RunOutcome { recorded, ..RunOutcome::of(answer_of(record, reason)) })
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
            environment: {
                let mut environment = self.question.environment.clone();
                if let Some(agent) = &self.options.agent {
                    environment.set("SSH_AUTH_SOCK", agent);
                }
                environment
            },
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

    /// What is known of the targets' packages for the tree as it is.
    async fn package_level<T: ProjectTree>(
        &self,
        tree: &mut T,
        state: &TreeState<T::Mark>,
    ) -> Option<PackageLevel<'a>> {
        let digest = state.digest.as_ref().ok().filter(|_| self.is_kept())?;
        PackageLevel::at(self.cache, self.question, self.facts, tree, digest).await
    }

    /// Keeps what green targets came to by their packages, unless the circumstances have changed; that
    /// may be shared.
    fn keep_packages(
        &self,
        level: &mut PackageLevel<'_>,
        run: &ProvenRun<'_>,
    ) -> Option<Shareable> {
        let now = Facts::gather(self.question, self.cache.dir());
        let is_same = now.is_ok_and(|now| now.changed_since(self.facts).is_empty());
        let kept = (is_same && run.proof != Proof::Nothing).then(|| level.keep(run))?;
        Shareable::of(level, kept)
    }

    /// Removes the records of targets that a run has shown to fail. Where other machines are asked, it
    /// remembers the failure, so that their records do not answer instead.
    fn disprove_red<'r>(
        &self,
        level: Option<&PackageLevel<'_>>,
        reports: impl Iterator<Item = &'r TargetReport>,
    ) {
        let red: Vec<_> = reports.filter(|report| report.verdict != Verdict::Pass).collect();
        let Some(level) = level.filter(|_| !red.is_empty()) else { return };
        level.disprove(|id| red.iter().any(|report| report.id == *id));
        if self.options.remembers_red {
            red.into_iter().for_each(|report| level.note_red(report, self.options.limits));
        }
    }

    /// The store of the config, if it is asked for what no record here answers.
    fn store(&self) -> Option<&'a SharedStore> {
        let is_asked = || self.may_answer_by_packages() && !self.needs_all_packages();
        self.options.store.as_ref().filter(|_| is_asked())
    }

    /// Asks other machines for what no record here answers.
    async fn ask_others(&self, level: &mut PackageLevel<'a>, on_step: &mut dyn FnMut(Step<'_>)) {
        let Some(store) = self.store() else { return };
        let is_known = |known: KnownTargets| known.targets.iter().all(|(_, found)| found.is_ok());
        if level.find().is_ok_and(is_known) {
            return;
        }
        let asked = shared_store::ask(store, self.question, self.facts, level).await;
        if let Some(news) = &asked.news {
            on_step(Step::StoreFailed(news));
        }
        for why in &asked.lines(level) {
            on_step(Step::NotShared(why));
        }
    }

    /// Whether records of the package level may answer: somebody waits. A run in the background that
    /// answers nobody is compared with them all the same.
    fn may_answer_by_packages(&self) -> bool {
        let is_of_use = match self.options.priority {
            Priority::Foreground => true,
            Priority::Background => self.options.no_cache,
        };
        is_of_use && self.options.scope == RunScope::All
    }

    /// Whether records of the package level may answer for all targets or for none: the whole has been
    /// built here.
    fn needs_all_packages(&self) -> bool {
        self.options.priority == Priority::Foreground
            && self.question.is_built(self.facts, self.cache.dir())
    }

    /// Builds the whole, and runs what no record answers.
    async fn by_build<T: ProjectTree>(
        &self,
        tree: &mut T,
        start: BuildStart<'a, T::Mark>,
        on_step: &mut dyn FnMut(Step<'_>),
    ) -> Result<RunOutcome, RunError> {
        let Self { question, facts, cache, keeper, .. } = self;
        let BuildStart { mut state, mut known, mut level } = start;
        let mut early = EarlyRuns::new(question, facts, cache, self.options);
        let mut not_kept = Vec::new();
        let mut round = 1;
        let (build, built_at) = loop {
            let built_at = SystemTime::now();
            let is_red = known.red().is_some();
            early.expect(&self.compiler(), state.digest.as_ref().ok(), is_red);
            let build = match self.build(&mut early, on_step, &state).await {
                Ok(build) => build,
                Err(error) => {
                    if let (RunError::Build(_), Some(level)) = (&error, &level) {
                        level.disprove(|_| true);
                    }
                    return Err(error);
                }
            };
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
            known = self.known(state.digest.as_ref().ok(), on_step);
            if let Some(outcome) = self.answer_from(&known) {
                return Ok(outcome);
            }
            level = self.package_level(tree, &state).await;
        };
        on_step(Step::Built(&build));
        // A record by the tree would claim more.
        let is_of_tree = build.sources.are_of_tree();
        let root = &question.root;
        let manifests = tree.uncounted(manifests_above(root, &build.sources)).await;
        let names = DiscoveredNames::look(root, &build.sources, &manifests);
        let execution = self.execution(state.digest.as_ref().ok(), &known);
        let mut ran = match execution.execute(&build, level.as_ref(), &mut early, on_step).await {
            Ok(ran) => ran,
            Err(Interrupted { mut error, finished }) => {
                if let Some(mut finished) = finished {
                    finished.replaced |= !is_of_tree;
                    let is_replaced = finished.replaced;
                    let ended = finished.ended.values().map(|ended| &ended.report);
                    self.disprove_red(level.as_ref(), ended);
                    keeper.keep_finished(finished, tree, &state, known.record()).await;
                    if let RunError::Left { is_steady, .. } = &mut error {
                        let changed = tree.changed_since(&state.mark).await;
                        *is_steady = !is_replaced && changed.is_some_and(|all| all.is_empty());
                    }
                }
                return Err(error);
            }
        };
        let when = Timestamp::now();
        not_kept.extend(ran.doubt.take());
        // Before the last look at the tree: what it counts now, it counted all the time.
        let runners = std::mem::take(&mut ran.runners);
        // A runner is looked up by name: in another environment it may be another one.
        let has_runner = !runners.is_empty();
        let sources = self.sources(&build, runners);
        // The tree has the text of such a link alone.
        let links = ProductFolders::of(&facts.target_dirs).links(&sources);
        let mut sources = tree.uncounted(sources).await;
        sources.extend(links);
        let outside = extra_inputs(question, facts, &build.sources, &ran, tree).await;
        let consulted = products_consulted(question, facts, &build.sources, &ran);
        let products = std::mem::take(&mut ran.products);
        let provenance =
            provenance(question, facts, &build.sources, &products, cache.dir(), tree).await;
        let proof = provenance.proof;
        let names = DiscoveredNames::look(root, &build.sources, &manifests).since(names);
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
        if still.is_some() {
            // Other products may have been built of this code: an earlier run was perhaps of those.
            let is_same = proof == Proof::All && build.sources.unseen.is_empty();
            let before = known.record().filter(|_| is_same);
            keeper.note_flaky(&mut ran, before, when);
        }
        let proven = still.filter(|_| is_of_tree);
        let is_steady = proven.is_some();
        let records = ran.records.as_ref().map(TargetRecords::proven).unwrap_or_default();
        not_kept.extend(keeper.keep_targets(&mut ran, state.digest.as_ref().ok(), proven, when));
        let records = records.take();
        let mut shareable = None;
        if let (Some(level), Some(_), Ok(names)) = (&mut level, proven, &names)
            && proof != Proof::Nothing
        {
            let ids: Vec<_> = ran.targets.iter().map(|target| target.report.id.clone()).collect();
            level.learn(&build, &ids, names.clone());
            let (build, limits, scope) = (&build, self.options.limits, BuildScope::Packages);
            let green = ran.targets.iter().map(|target| &target.report);
            let green = green.filter(|report| report.verdict == Verdict::Pass);
            let green = green.map(|report| report.id.clone()).collect();
            let run = ProvenRun { build, built_at, records: &records, limits, proof, scope, green };
            shareable = self.keep_packages(level, &run);
        }
        // By the plan that was just learned, if there was none.
        let reports = ran.targets.iter().map(|target| &target.report);
        self.disprove_red(level.as_ref(), reports);
        let plan = level.as_ref().map(PackageLevel::plan_digest);
        let unseen = unseen_reads(question, cache, &build, plan);
        let compared = match proof {
            Proof::All => provenance.products.clone().ok(),
            // All records of such a build depend on them.
            Proof::Nothing | Proof::Listed => Some(Vec::new()),
        };
        let compared = compared.filter(|_| unseen != UnseenReads::Nothing);
        let consulted = RecordedProducts { unseen, compared, ..consulted };
        let reports: Vec<_> = ran.targets.iter().map(|target| target.report.clone()).collect();
        match &state.digest {
            Err(why) => not_kept.extend(why.iter().cloned()),
            Ok(digest) if self.is_kept() => {
                if not_kept.is_empty() {
                    let inputs = names.and_then(|names| {
                        Ok(outside
                            .into_iter()
                            .chain(names)
                            .chain(provenance.conditions()?)
                            .collect())
                    });
                    let oldest = ran.targets.iter().map(|target| target.when(when)).min();
                    not_kept = keeper.keep_whole(&WholeRun {
                        tree_digest: digest,
                        build: &build,
                        built_at,
                        sources: &sources,
                        inputs,
                        products: provenance.products.ok().filter(|_| !has_runner),
                        consulted,
                        records: &records,
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
        let outcome = RunOutcome::of_run(ran, code_hash, not_kept, when);
        Ok(RunOutcome { recorded: known.green().cloned(), is_steady, shareable, ..outcome })
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
                self.question.note_build(&self.facts.identity, &build, self.cache.dir());
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

/// What a target came to, as it is told.
fn answer_of_target(target: &RanTarget, now: Timestamp) -> TargetAnswer {
    let reason = target.reason.clone();
    let answer =
        TargetAnswer::from_report(&target.report, target.source(), reason, target.when(now));
    TargetAnswer { flaky: target.flaky.clone(), ..answer }
}
