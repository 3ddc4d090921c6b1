//! A background test run, which keeps its verdict.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::mailbox::Message;
use super::super::schedule::{JobAction, JobKind, JobSpec, Limit, News};
use super::super::shared::Shared;
use super::super::sync::lock;
use super::broadcast::RunReporter;
use super::job::{BackgroundJob, BuildKey, JobEnd, TestedRun, Worker};
use crate::cache::Cache;
use crate::model::{Digest, TargetId};
use crate::process::lower_thread_priority;
use crate::protocol::{Mark, Reply, State};
use crate::runner::RunEvent;
use crate::verdict::{
    self, Facts, ProjectTree, Question, RunError, RunScope, Shareable, Step, TreeError, TreeState,
    background_scope, code_hash,
};

/// Targets that run unasked were quick the last time: one that finishes no test for so long has
/// become another.
const LONGEST_UNASKED_SILENCE: Duration = Duration::from_secs(60);
/// At most so many targets are named that have not ended.
const NAMED_TARGETS: usize = 3;

/// The purpose of a background run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The verdict ahead of the question, as far as these targets tell.
    Verdict(RunScope),
    /// A comparison with the records, which answer nothing then.
    Verify,
}

/// A background run.
pub(super) struct BackgroundTestPlan {
    pub(super) question: Question,
    pub(super) facts: Facts,
    pub(super) purpose: Purpose,
    /// The packages whose targets start before the others.
    pub(super) packages: Vec<String>,
    /// The tree when the run was decided on.
    pub(super) first: TreeState<Mark>,
    /// Tells the clients that watch.
    pub(super) reporter: RunReporter,
}

/// What may run in the background of the project's own question, if anything.
pub(super) async fn scope(question: Question, shared: &Arc<Shared>) -> Option<RunScope> {
    let shared = Arc::clone(shared);
    let scope = tokio::task::spawn_blocking(move || {
        background_scope(&question, &shared.cache.state(&question.root))
    });
    scope.await.ok()?
}

/// Begins a run.
pub(super) fn start(
    plan: BackgroundTestPlan,
    of: BuildKey,
    messages: mpsc::UnboundedSender<Box<Message>>,
    shared: &Arc<Shared>,
) -> BackgroundJob {
    let spec = JobSpec {
        workspace_root: plan.question.root.clone(),
        target_dirs: plan.facts.target_dirs.clone(),
        kind: JobKind::Tests,
    };
    let (job, worker) = Worker::start(of, spec, &shared.scheduler);
    let shared = Arc::clone(shared);
    let first = plan.first.clone();
    let tree = OwnTree::new(messages, Arc::clone(&shared), first, worker.cancel.clone());
    // The runner needs a thread of its own that lives longer than all its children: they die with
    // the thread that started them. Without one, `worker` is dropped: cancelled.
    let spawned = std::thread::Builder::new().name("tests".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(run(plan, tree, shared, worker)),
            Err(error) => warn!(%error, "cannot run tests in the background"),
        }
    });
    if let Err(error) = spawned {
        warn!(%error, "cannot run tests in the background");
    }
    job
}

/// Runs the tests to the end, however many attempts that takes.
async fn run(plan: BackgroundTestPlan, mut tree: OwnTree, shared: Arc<Shared>, mut worker: Worker) {
    let project = plan.question.root.display();
    let control = worker.ticket.control();
    let mut stall_limit = plan.question.settings.background_timeout;
    if plan.purpose == Purpose::Verdict(RunScope::Unasked) {
        let longest = stall_limit.unwrap_or(LONGEST_UNASKED_SILENCE);
        stall_limit = Some(longest.min(LONGEST_UNASKED_SILENCE));
        // Not before it is known that nothing is left out.
        worker.teller().answers(false);
    }
    let end = loop {
        let Some(limit) = worker.granted().await else { break JobEnd::Cancelled };
        worker.ticket.begin_attempt(None);
        let teller = worker.teller();
        let tell = |text: &str| teller.tell(State::Testing, &limit.describe(text));
        tell("testing");
        let cancel = worker.cancel.child_token();
        let progress = RefCell::new(TestProgress::default());
        let on_step = |step: &Step<'_>| {
            if let Step::Planned { run, left } = step {
                tell(&format!("testing {run} targets"));
                teller.answers(*left == 0);
            }
            if progress.borrow_mut().note(step) {
                control.report(News { finished_unit: true, is_blocked: false, stall_limit });
            }
        };
        let attempt = run_once(&plan, &mut tree, &shared, &limit, cancel.clone(), on_step);
        let mut attempt = std::pin::pin!(attempt);
        let mut stopped = None;
        let end = loop {
            let action = tokio::select! {
                biased;
                end = &mut attempt => break end,
                action = worker.ticket.next_action(), if stopped.is_none() => action,
            };
            match action {
                JobAction::Yield(reason) => stopped = Some(Err(reason)),
                JobAction::TimeOut(silence) => {
                    stopped = Some(Ok(progress.borrow().stalled(silence)));
                }
                JobAction::Run(_) | JobAction::Suspend(_) | JobAction::Wait(_) => continue,
            }
            cancel.cancel();
        };
        match stopped {
            // It ended just then, or was cancelled for good.
            _ if !matches!(end, JobEnd::Cancelled) || worker.cancel.is_cancelled() => break end,
            None => break end,
            Some(Ok(why)) => {
                warn!(%project, reason = %why, "no verdict");
                break JobEnd::TimedOut(why);
            }
            Some(Err(reason)) => {
                info!(%project, %reason, "the test run yields");
                worker.ticket.requeue();
            }
        }
    };
    worker.end(end);
}

/// Runs the tests to the end, or until `cancel` fires.
async fn run_once(
    plan: &BackgroundTestPlan,
    tree: &mut OwnTree,
    shared: &Arc<Shared>,
    limit: &Limit,
    cancel: CancellationToken,
    also: impl Fn(&Step<'_>),
) -> JobEnd {
    let BackgroundTestPlan { question, facts, purpose, packages, .. } = plan;
    let project = question.root.display();
    let mut options = shared.background_options(&question.settings, limit.jobs, cancel);
    match purpose {
        Purpose::Verdict(scope) => options.scope = *scope,
        Purpose::Verify => {
            options.no_cache = true;
            options.store = shared.store_to_read(&question.root);
        }
    }
    options.first.clone_from(packages);
    let started = Instant::now();
    let (digest, messages) = (Arc::clone(&tree.digest), tree.messages.clone());
    let mut reporter = plan.reporter.clone();
    let mut on_step = |step: Step<'_>| {
        also(&step);
        if let Some(digest) = lock(&digest).filter(|_| reporter.is_watched()) {
            reporter.set_code_hash(code_hash(&digest, &facts.identity));
        }
        let events = reporter.events_of(&step);
        if !events.is_empty() {
            // The project may be ending.
            let _ = messages.send(Box::new(Message::RunNews { run: reporter.run(), events }));
        }
        if let Step::Running(RunEvent::Finished { report }) = step {
            debug!(
                %project,
                package = %report.id.package,
                target = %report.id.target,
                duration = report.duration_ms,
                outcome = %report.verdict,
                "ran a target"
            );
        }
    };
    match verdict::run(question, facts, tree, &shared.cache, &options, &mut on_step).await {
        Ok(outcome) => {
            let (cache, answer) = (&shared.cache, &outcome.answer);
            if *purpose == Purpose::Verify {
                // It tells of a difference itself.
                drop(verdict::verify(cache, &question.root, &outcome));
            }
            if let Some(run) = outcome.shareable {
                share(shared, question, facts, run);
            }
            let last = verdict::remember(cache, question, answer, started.elapsed());
            let answer = outcome.is_steady.then_some(outcome.answer);
            JobEnd::Tested(Box::new(TestedRun { last, ran: outcome.ran, answer }))
        }
        Err(RunError::Cancelled) => JobEnd::Cancelled,
        Err(RunError::Left { left, is_steady }) => {
            debug!(%project, left, "the other targets run when a client asks");
            JobEnd::TestedInPart { is_steady }
        }
        Err(error) => {
            warn!(%project, %error, "background tests were not run");
            JobEnd::Cancelled
        }
    }
}

/// Has published what was proven, on a thread of its own: build scripts are run once more for it, and
/// nobody waits for that.
fn share(shared: &Arc<Shared>, question: &Question, facts: &Facts, run: Shareable) {
    let (shared, question, facts) = (Arc::clone(shared), question.clone(), facts.clone());
    let share = move || {
        lower_thread_priority();
        shared.share(&question, &facts, &run);
    };
    if let Err(error) = std::thread::Builder::new().name("publication".to_owned()).spawn(share) {
        warn!(%error, "what was proven is not published");
    }
}

/// The progress of a run. Finished targets keep their records if the run is cancelled.
#[derive(Debug, Default)]
struct TestProgress {
    begun: bool,
    running: Vec<TargetId>,
}

impl TestProgress {
    /// Takes note of a step; whether it is news: the run began, or a test ended.
    fn note(&mut self, step: &Step<'_>) -> bool {
        match step {
            Step::Running(RunEvent::Started { id }) => {
                self.running.retain(|other| other != *id);
                self.running.push((*id).clone());
            }
            Step::Running(RunEvent::Finished { report }) => {
                self.running.retain(|other| *other != report.id);
            }
            _ => {}
        }
        let is_first = matches!(step, Step::Running(_)) && !self.begun;
        self.begun |= is_first;
        is_first
            || matches!(
                step,
                Step::Planned { .. }
                    | Step::Running(RunEvent::TestFinished { .. } | RunEvent::Finished { .. })
            )
    }

    /// Why it was ended after this silence.
    fn stalled(&self, silence: Duration) -> String {
        let names: Vec<_> =
            self.running.iter().take(NAMED_TARGETS).map(ToString::to_string).collect();
        let running = match names[..] {
            [] => String::new(),
            _ => format!(" ({} did not)", names.join(", ")),
        };
        format!("the tests were given up: none ended for {} s{running}", silence.as_secs())
    }
}

/// The project's tree as its own background run sees it: by messages, like every client.
struct OwnTree {
    messages: mpsc::UnboundedSender<Box<Message>>,
    shared: Arc<Shared>,
    /// The tree when the run was decided on, until it is looked at.
    first: Option<TreeState<Mark>>,
    mark: Mark,
    /// The tree's digest at the last look.
    digest: Arc<Mutex<Option<Digest>>>,
    /// The project itself may cancel the run, and waits for its end before it answers anybody.
    cancel: CancellationToken,
}

impl OwnTree {
    fn new(
        messages: mpsc::UnboundedSender<Box<Message>>,
        shared: Arc<Shared>,
        first: TreeState<Mark>,
        cancel: CancellationToken,
    ) -> Self {
        let digest = Arc::new(Mutex::new(first.digest.as_ref().ok().copied()));
        Self { messages, shared, mark: first.mark, digest, first: Some(first), cancel }
    }

    async fn settle(&self, mark: Mark) -> Option<Reply> {
        if self.cancel.is_cancelled() {
            return None;
        }
        let seen = self.shared.barrier().await;
        self.ask(|reply| Message::Settle { mark, seen, reply }).await
    }

    async fn ask(&self, message: impl FnOnce(oneshot::Sender<Reply>) -> Message) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.messages.send(Box::new(message(reply))).ok()?;
        tokio::select! {
            () = self.cancel.cancelled() => None,
            answer = answer => answer.ok(),
        }
    }
}

impl ProjectTree for OwnTree {
    type Mark = Mark;

    async fn look(&mut self) -> Result<TreeState<Mark>, TreeError> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        match self.settle(self.mark).await {
            Some(Reply::Settled { tree, mark, .. }) => {
                self.mark = mark;
                *lock(&self.digest) = tree.as_ref().ok().copied();
                Ok(TreeState { digest: tree, mark })
            }
            Some(Reply::Error { message }) => Err(TreeError(message)),
            _ => Err(TreeError("the project is being closed".to_owned())),
        }
    }

    async fn changed_since(&mut self, mark: &Mark) -> Option<Vec<String>> {
        match self.settle(*mark).await? {
            Reply::Settled { changed, .. } => changed,
            _ => None,
        }
    }

    async fn keep_listing(&mut self, _: &Cache, tree: &Digest, code_hash: &Digest) {
        let (tree, code_hash) = (*tree, *code_hash);
        // Without the listing an explanation names no files: nothing else is lost.
        let _ = self.ask(|reply| Message::KeepListing { tree, code_hash, reply }).await;
    }

    async fn uncounted(&mut self, paths: Vec<std::path::PathBuf>) -> Vec<std::path::PathBuf> {
        let all = paths.clone();
        match self.ask(|reply| Message::Uncounted { paths, reply }).await {
            Some(Reply::Paths { paths }) => paths.into_iter().map(|path| path.0.into()).collect(),
            _ => all,
        }
    }
}
