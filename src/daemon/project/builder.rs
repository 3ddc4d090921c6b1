//! Builds a project's tests in the background, in the environment of the developer's last shell:
//! the packages that will be wanted first, then the rest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::super::schedule::{JobKind, JobSpec};
use super::super::shared::Shared;
use super::super::sync::off_thread;
use super::background_build::{self, BuildPlan};
use super::build_order::{BuildOrder, Lesson};
use super::history;
use super::job::{BackgroundJob, BuildKey, InFlight, JobNews, Waiter, Worker};
use super::prebuild::Prebuild;
use super::prefetch;
use super::status::StatusTeller;
use super::target_dir::{self, TargetDirCleaner};
use super::thrashing::{BuiltWith, Thrashing};
use crate::cache::ProjectState;
use crate::compiler::{Build, BuildSpec};
use crate::config;
use crate::model::{Digest, Digester};
use crate::predict::Commit;
use crate::process::{Environment, Priority, Suspender};
use crate::protocol::{LastBuild, State};
use crate::verdict::{Facts, Question};
use crate::workspace::{BuildVariables, Members, Repository, SelectionPart};

/// Something that was learned on another thread.
#[derive(Debug)]
pub(super) enum Learned {
    /// By a build.
    Lesson(Lesson),
    /// From git.
    History(Vec<Commit>),
}

/// News for the project.
#[derive(Debug)]
pub(super) enum BuilderNews {
    /// News of the job in flight.
    Job(JobNews),
    /// For [`Builder::learn`].
    Learned(Learned),
}

/// The background builds of a project, and the job in flight.
pub(super) struct Builder {
    root: PathBuf,
    shared: Arc<Shared>,
    status: StatusTeller,
    settings: config::Settings,
    /// The environment of the developer's shell, as the last question brought it.
    environment: Arc<Environment>,
    /// The variables of a shell that decide a build, as they are kept over a restart. None: the
    /// environment is the one that the daemon was started with.
    shell: Option<BuildVariables>,
    in_flight: InFlight,
    /// The last background build, good or bad.
    built: Option<BuildKey>,
    /// The build that what other machines have proven makes needless.
    spared: Option<BuildKey>,
    thrashing: Thrashing,
    order: BuildOrder,
    cleaner: TargetDirCleaner,
    tell_learned: mpsc::UnboundedSender<Box<Learned>>,
    learned: mpsc::UnboundedReceiver<Box<Learned>>,
}

impl Builder {
    pub(super) fn new(
        root: PathBuf,
        settings: config::Settings,
        known: ProjectState,
        shared: Arc<Shared>,
        status: StatusTeller,
    ) -> Self {
        let inherited = shared.test_environment();
        let environment = match &known.shell {
            Some(shell) => Arc::new(shell.within((*inherited).clone())),
            None => inherited,
        };
        let (tell_learned, learned) = mpsc::unbounded_channel();
        Self {
            root,
            shared,
            status,
            settings,
            environment,
            shell: known.shell,
            in_flight: InFlight::default(),
            built: None,
            spared: None,
            thrashing: Thrashing::default(),
            order: BuildOrder::new(known.inseparable),
            cleaner: TargetDirCleaner::default(),
            tell_learned,
            learned,
        }
    }

    /// The environment of background builds.
    pub(super) fn environment(&self) -> &Arc<Environment> {
        &self.environment
    }

    /// The question that the project asks itself.
    pub(super) fn own_question(&self) -> Question {
        Question::of_project(&self.root, (*self.environment).clone(), self.settings.clone())
    }

    pub(super) fn settings(&self) -> &config::Settings {
        &self.settings
    }

    /// Other settings are in force.
    pub(super) async fn set_settings(&mut self, settings: config::Settings) {
        self.settings = settings;
        self.in_flight.cancel().await;
        (self.built, self.spared) = (None, None);
        self.thrashing = Thrashing::default();
    }

    /// Builds in the environment of this client from now on, and after a restart.
    pub(super) fn set_environment(&mut self, environment: Environment) {
        let shell = BuildVariables::of(&environment);
        self.environment = Arc::new(environment);
        if self.shell.as_ref() != Some(&shell) {
            self.shell = Some(shell.clone());
            self.status.keep(|state| state.shell = Some(shell));
        }
    }

    /// These files were edited.
    pub(super) fn note_edits(&mut self, files: &[PathBuf]) {
        self.shared.scheduler.edited(&self.root);
        self.order.edited(files, Instant::now());
    }

    /// A client asked.
    pub(super) fn note_question(&mut self, question: &Question) {
        self.shared.scheduler.asked(&self.root);
        for package in question.selection.packages() {
            self.order.asked(package, Instant::now());
        }
    }

    /// Tells where the tests are built, and what is unusual about that.
    pub(super) fn tell_target_dirs(&self, question: &Question, facts: &Facts) {
        target_dir::tell(question, facts, self.shell.is_some(), &self.status);
    }

    /// Waits for news.
    pub(super) async fn news(&mut self) -> BuilderNews {
        tokio::select! {
            biased;
            // Before the end of the build that has taught it. The sender lives as long as this.
            Some(learned) = self.learned.recv() => BuilderNews::Learned(*learned),
            news = self.in_flight.news() => BuilderNews::Job(news),
        }
    }

    /// The job in flight, a build or not.
    pub(super) fn in_flight(&mut self) -> &mut InFlight {
        &mut self.in_flight
    }

    /// Its activity, for `status`. Prefetching is nothing to wait for.
    pub(super) fn activity(&self) -> Option<(State, String)> {
        let activity = self.in_flight.activity()?;
        (activity.state != State::Idle).then_some((activity.state, activity.text))
    }

    /// Cancels the job in flight unless it builds `wanted` at full speed. A client that asks is
    /// faster by itself than a job that waits, or is held back: an idle-priority build gets nowhere
    /// on a busy machine, and no priority can be raised again. Tests of some targets only, or that
    /// the client repeats anyway (`runs_all`), would have it wait for nothing.
    pub(super) async fn cancel_unless_useful(&mut self, wanted: &BuildKey, runs_all: bool) {
        let waits = self.activity().is_some_and(|(state, _)| state == State::Paused);
        let is_useful = self.in_flight.is_useful(wanted, runs_all);
        if waits || self.shared.scheduler.holds_back() || !is_useful {
            self.in_flight.cancel().await;
        }
    }

    /// Whether the last background build was this one.
    pub(super) fn has_built(&self, key: &BuildKey) -> bool {
        self.built.as_ref() == Some(key)
    }

    /// Whether no build is needed, by what other machines have proven.
    pub(super) fn is_spared(&self, key: &BuildKey) -> bool {
        self.spared.as_ref() == Some(key)
    }

    /// Other machines have proven what this build is of.
    pub(super) fn spare(&mut self, key: BuildKey) {
        self.spared = Some(key);
    }

    /// The tree of the last background build.
    pub(super) fn built_tree(&self) -> Option<&Digest> {
        self.built.as_ref().map(BuildKey::tree_digest)
    }

    /// The current tree needs no build.
    pub(super) fn note_up_to_date(&mut self) {
        self.order.is_built();
    }

    /// Whether builds with these settings do not undo another cargo's work.
    pub(super) fn may_build(&mut self, key: &BuildKey, question: &Question) -> bool {
        self.thrashing.may_build(key.identity(), &question.environment)
    }

    /// Why nothing is built ahead, if another cargo and ours undo each other's work.
    pub(super) fn thrashing_reason(&self) -> Option<String> {
        self.thrashing.reason()
    }

    /// A client wants it tried again.
    pub(super) fn forgive_thrashing(&mut self) {
        self.thrashing.forgive();
    }

    /// Begins a build. `manifests`: digest and paths of the workspace's manifests. Nothing is built
    /// before the rest for `waiters`, who wait for the whole build.
    pub(super) async fn build(
        &mut self,
        question: &Question,
        facts: &Facts,
        key: BuildKey,
        manifests: Option<(Digest, Vec<PathBuf>)>,
        waiters: Vec<Waiter>,
    ) {
        let manifests_digest = manifests.as_ref().map(|(digest, _)| *digest);
        if let Some((digest, manifests)) = manifests {
            self.look_around(digest, manifests).await;
        }
        let mut whole = Digester::new("what a build is made of 1");
        whole.digest(&manifests_digest.unwrap_or_else(|| Digester::new("none").finish()));
        whole.digest(key.identity());
        whole.field(&question.selection.canonical(&question.root));
        let whole = whole.finish();
        let prebuilds = match waiters.is_empty() {
            true => self.prebuilds(question, whole),
            false => Vec::new(),
        };
        let plan = self.plan(question, facts, whole, prebuilds);
        let spec = JobSpec {
            workspace_root: self.root.clone(),
            target_dirs: facts.target_dirs.clone(),
            kind: JobKind::Build,
        };
        let (job, mut worker) = Worker::start(key, spec, &self.shared.scheduler);
        let marked = question.clone();
        tokio::spawn(async move {
            let _ = tokio::task::spawn_blocking(move || marked.mark_target()).await;
            let end = background_build::build(&plan, &mut worker).await;
            worker.end(end);
        });
        self.in_flight.begin(job);
        waiters.into_iter().for_each(|waiter| self.in_flight.wait(waiter));
    }

    /// Begins another job.
    pub(super) fn begin(&mut self, job: BackgroundJob) {
        self.in_flight.begin(job);
    }

    /// A build has ended; `is_current`: it is of the current tree.
    pub(super) fn note_built(
        &mut self,
        of: Option<&BuildKey>,
        build: &LastBuild,
        is_current: bool,
    ) {
        let (project, duration) = (self.root.display(), build.duration_ms);
        if build.success {
            let rebuilt = build.rebuilt;
            info!(%project, duration, rebuilt, outcome = "pass", "the tests are ready");
        } else if let Some(reason) = &build.ended {
            warn!(%project, duration, outcome = "error", %reason, "the build was ended");
        } else {
            warn!(%project, duration, outcome = "fail", "the tests do not compile");
        }
        self.built = of.cloned();
        if build.success {
            if is_current {
                self.order.is_built();
            }
            if let Some(of) = of {
                let environment = (*self.environment).clone();
                let with =
                    BuiltWith { identity: *of.identity(), tree: *of.tree_digest(), environment };
                if self.thrashing.built(with, &build.dirty)
                    && let Some(reason) = self.thrashing.reason()
                {
                    warn!(%project, %reason, "builds undo each other's work");
                }
            }
            if self.settings.clean_target {
                self.cleaner.clean(&self.root, &self.shared.paths.cache_dir);
            }
        }
        self.status.change(|status| status.last_build = Some(build.clone()));
    }

    /// Has the test programs of a build read before they are needed.
    pub(super) fn prefetch(&mut self, of: BuildKey) {
        let programs = self.order.all_programs(Instant::now());
        self.in_flight.begin(prefetch::start(programs, of, &self.root, &self.shared));
    }

    /// The packages that were edited last, the newest edit first.
    pub(super) fn edited_packages(&self) -> Vec<String> {
        self.order.edited_packages()
    }

    /// Takes note of what was learned on another thread.
    pub(super) fn learn(&mut self, learned: Learned) {
        match learned {
            Learned::History(commits) => self.order.set_history(commits),
            Learned::Lesson(Lesson::Whole(whole)) => {
                self.order.learn(whole);
                prefetch::read_ahead(self.order.programs(Instant::now()));
            }
            Learned::Lesson(Lesson::Inseparable(key, specs)) => {
                let packages = specs.join(", ");
                debug!(project = %self.root.display(), %packages, "not the same by themselves");
                if let Some(known) = self.order.learn_inseparable(key, specs).cloned() {
                    self.status.keep(|state| state.inseparable = known);
                }
            }
        }
    }

    /// Brings up to date what is known before a build: the packages, and in the background their
    /// history.
    async fn look_around(&mut self, digest: Digest, manifests: Vec<PathBuf>) {
        if !self.order.knows_members(&digest) {
            let root = self.root.clone();
            let read = tokio::task::spawn_blocking(move || read_members(&root, &manifests));
            let Ok(members) = read.await else { return };
            self.order.set_members(digest, members);
        }
        let root = self.root.clone();
        let git = off_thread(move || {
            let git = Repository::around(&root)?;
            let head = git.head()?;
            Some((git, head))
        });
        let Some((git, head)) = git.await else { return };
        // Once for each commit, whatever comes of it.
        let Some(members) = self.order.set_head(head) else { return };
        let (root, environment) = (self.root.clone(), self.environment.clone());
        let tell = self.tell_learned.clone();
        tokio::task::spawn_blocking(move || {
            let commits = history::read(&git, &root, &members, &environment);
            debug!(project = %root.display(), commits = commits.len(), "read the history");
            // The project may have left the config.
            let _ = tell.send(Box::new(Learned::History(commits)));
        });
    }

    /// The builds before the whole one.
    fn prebuilds(&self, question: &Question, whole: Digest) -> Vec<Prebuild> {
        let choices = self.order.choose(whole, Instant::now());
        let prebuilds = choices.into_iter().filter_map(|choice| {
            let selection = question.selection.narrowed(&SelectionPart {
                packages: &choice.specs,
                targets: &choice.filters,
                only_targets: choice.only_filters,
                has_feature: &|feature| choice.features.has(feature),
            })?;
            let (specs, what, units) = (choice.specs, choice.what, choice.units);
            Some(Prebuild { selection, specs, what, units })
        });
        prebuilds.collect()
    }

    fn plan(
        &self,
        question: &Question,
        facts: &Facts,
        key: Digest,
        prebuilds: Vec<Prebuild>,
    ) -> BuildPlan {
        let spec = BuildSpec {
            toolchain: facts.toolchain.clone(),
            config: facts.cargo_config.clone(),
            workspace_root: question.root.clone(),
            selection: question.selection.clone(),
            environment: question.environment.clone(),
            target_dir: question.target_dir.clone(),
            priority: Priority::Background,
            jobs: None,
            brake: Suspender::default(),
            colour: false,
            hook: self.shared.hook.clone(),
        };
        let (noted, cache_dir) = (question.clone(), self.shared.paths.cache_dir.clone());
        let identity = facts.identity.clone();
        let tell = self.tell_learned.clone();
        BuildPlan {
            spec,
            key,
            prebuilds,
            stall_limit: question.settings.build_timeout,
            note: Arc::new(move |build: &Build| noted.note_build(&identity, build, &cache_dir)),
            // The project may be ending.
            teach: Box::new(move |lesson| drop(tell.send(Box::new(Learned::Lesson(lesson))))),
        }
    }
}

/// The packages of these manifests, relative to the root; files of those outside are no edits.
fn read_members(root: &Path, manifests: &[PathBuf]) -> Members {
    Members::of(manifests.iter().filter_map(|manifest| {
        let below = manifest.strip_prefix(root).ok()?.to_owned();
        Some((below, std::fs::read_to_string(manifest).ok()?))
    }))
}
