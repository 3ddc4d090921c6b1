//! Background work of one project: at most one build or test run at a time, of one snapshot,
//! given up as soon as that snapshot is no longer the newest.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::Shared;
use super::super::conditions::{Follower, Speed};
use super::Message;
use super::ahead::Lesson;
use super::background::ActorTree;
use super::courtesy::Courtesy;
use super::place::{self, Place, Runs};
use super::polite;
use super::stages::Stage;
use crate::compiler::{Build, BuildSpec};
use crate::model::Digest;
use crate::process::{Priority, Suspender};
use crate::protocol::{LastBuild, LastVerdict, Mark, Reply, State};
use crate::runner;
use crate::verdict::{self, Facts, Question, RunError, TreeState};

/// What work is of: equal ones need not be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Built {
    tree: Digest,
    /// Everything that decides the outcome besides files.
    identity: Digest,
    /// Which tests.
    selection: Vec<u8>,
}

impl Built {
    pub(super) fn tree(&self) -> &Digest {
        &self.tree
    }

    pub(super) fn identity(&self) -> &Digest {
        &self.identity
    }

    pub(super) fn new(tree: Digest, question: &Question, facts: &Facts) -> Self {
        Self {
            tree,
            identity: facts.identity.digest(),
            selection: question.selection.canonical(&question.root),
        }
    }
}

/// What work does that has not begun.
const WAITS: &str = "waiting for its turn";

/// How work ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was stopped, or became needless.
    GivenUp,
    /// The build ended, well or not.
    Built(LastBuild),
    /// The tests ran.
    Tested(Box<LastVerdict>),
    /// The tests were given up for good, and why.
    Overdue(String),
    /// What was built is looked at.
    Warm,
}

/// What is new of work under way.
#[derive(Debug)]
pub(super) enum News {
    /// It does something else now.
    Progress,
    /// It ended.
    Ended(End),
    /// Whoever waited for it has gone.
    Deserted,
}

/// The work of a project.
#[derive(Debug, Default)]
pub(super) struct Work {
    running: Option<Running>,
    /// Who waits until nothing is running.
    joined: Vec<(watch::Sender<String>, oneshot::Sender<Reply>)>,
    /// Who waits for the build's outcome.
    told: Vec<(watch::Sender<String>, oneshot::Sender<Reply>)>,
}

#[derive(Debug)]
struct Running {
    of: Built,
    cancel: CancellationToken,
    /// Somebody waits for it.
    wanted: CancellationToken,
    progress: watch::Receiver<Doing>,
    end: oneshot::Receiver<End>,
}

/// A state, and what is being done, for `status`.
pub(super) type Doing = (State, String);

impl Drop for Running {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Work {
    /// Waits for the end or the progress of what is running; for ever if nothing is.
    pub(super) async fn news(&mut self) -> News {
        let Self { running: Some(running), joined, told } = self else {
            return std::future::pending().await;
        };
        let departure = async {
            for (_, reply) in joined.iter_mut().chain(told) {
                reply.closed().await;
            }
        };
        tokio::select! {
            biased;
            end = &mut running.end => News::Ended(end.unwrap_or(End::GivenUp)),
            Ok(()) = running.progress.changed() => News::Progress,
            () = departure, if running.wanted.is_cancelled() => News::Deserted,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn is_of(&self, wanted: &Built) -> bool {
        self.running.as_ref().is_some_and(|running| running.of == *wanted)
    }

    pub(super) fn is_of_tree(&self, tree: &Digest) -> bool {
        self.running.as_ref().is_some_and(|running| running.of.tree == *tree)
    }

    /// The state and what it is doing, for `status`.
    pub(super) fn doing(&self) -> Option<(State, String)> {
        Some(self.running.as_ref()?.progress.borrow().clone())
    }

    /// Ends what is running and waits until nothing of it is left.
    pub(super) async fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.cancel.cancel();
            // The task ends in bounded time: a cancelled child is killed after a moment.
            let end = (&mut running.end).await.unwrap_or(End::GivenUp);
            self.tell_waiting(&end);
        }
    }

    /// Ends what is running unless it is of `wanted`. What only waits, or is held back, is ended in
    /// any case: whoever asks is faster by himself. At idle priority, a build on a busy machine
    /// gets nowhere, and no priority can be raised again.
    pub(super) async fn stop_unless(&mut self, wanted: &Built, held_back: bool) {
        let waits = self.doing().is_some_and(|(state, _)| state == State::Paused);
        if waits || held_back || !self.is_of(wanted) {
            self.stop().await;
        }
    }

    /// Takes note of the end; tells what the work was of.
    pub(super) fn finish(&mut self, end: &End) -> Option<Built> {
        let of = self.running.take().map(|running| running.of.clone());
        self.tell_waiting(end);
        of
    }

    /// Replies once nothing is running.
    pub(super) fn join(&mut self, doing: watch::Sender<String>, reply: oneshot::Sender<Reply>) {
        match &self.running {
            Some(running) => {
                running.wanted.cancel();
                forward(running.progress.clone(), doing.clone());
                self.joined.push((doing, reply));
            }
            None => drop(reply.send(Reply::Done)),
        }
    }

    /// Replies with the outcome of the build that is running.
    pub(super) fn tell_build(
        &mut self,
        doing: watch::Sender<String>,
        reply: oneshot::Sender<Reply>,
    ) {
        if let Some(running) = &self.running {
            running.wanted.cancel();
            forward(running.progress.clone(), doing.clone());
        }
        self.told.push((doing, reply));
    }

    /// Who waits for the outcome of a build: another one is to tell them.
    pub(super) fn take_told(&mut self) -> Vec<(watch::Sender<String>, oneshot::Sender<Reply>)> {
        std::mem::take(&mut self.told)
    }

    fn tell_waiting(&mut self, end: &End) {
        for (_, reply) in self.joined.drain(..) {
            // Whoever waited may be gone.
            let _ = reply.send(Reply::Done);
        }
        for (_, reply) in self.told.drain(..) {
            let _ = reply.send(match end {
                End::Built(build) => Reply::Built(build.clone()),
                _ => Reply::Error {
                    message: "the build was given up: someone asked, or the tree cannot be read"
                        .into(),
                },
            });
        }
    }

    /// Work that has not begun, and its other end.
    pub(super) fn start(of: Built, state: State, doing: &str) -> (Self, Worker) {
        let (cancel, wanted) = (CancellationToken::new(), CancellationToken::new());
        let (tell, progress) = watch::channel((state, doing.to_owned()));
        let (done, end) = oneshot::channel();
        let worker = Worker { cancel: cancel.clone(), wanted: wanted.clone(), tell, done };
        let running = Running { of, cancel, wanted, progress, end };
        let work = Self { running: Some(running), joined: Vec::new(), told: Vec::new() };
        (work, worker)
    }
}

/// The other end of work under way.
pub(super) struct Worker {
    pub(super) cancel: CancellationToken,
    /// Fires when somebody waits for the end.
    pub(super) wanted: CancellationToken,
    pub(super) tell: watch::Sender<Doing>,
    pub(super) done: oneshot::Sender<End>,
}

impl Worker {
    /// Waits until the work may go on, and tells what it waits for; none if it was given up. Work
    /// that somebody waits for always may.
    pub(super) async fn may_go(&self, conditions: &mut Follower) -> Option<Speed> {
        let before = self.tell.borrow().clone();
        let mut told = false;
        let tell = |reason: String| {
            told = true;
            self.tell.send_if_modified(|doing| {
                let new = (State::Paused, reason);
                let changed = *doing != new;
                *doing = new;
                changed
            });
        };
        let speed = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return None,
            () = self.wanted.cancelled() => Speed::full(),
            speed = conditions.go(tell) => speed,
        };
        if told {
            self.tell.send_replace(before);
        }
        Some(speed)
    }

    /// Waits until the work was given up, or somebody is faster without it.
    pub(super) async fn given_up_or_wanted(&self) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            () = self.wanted.cancelled() => {}
        }
    }

    /// Waits until work that has begun at `speed` must be given up; tells why.
    async fn objection(&self, conditions: &mut Follower, speed: &Speed) -> String {
        tokio::select! {
            biased;
            () = self.wanted.cancelled() => match speed.is_held_back() {
                true => "somebody waits for it".to_owned(),
                false => std::future::pending().await,
            },
            reason = conditions.until_objection(speed) => reason,
        }
    }
}

/// Passes progress on until either side is gone.
fn forward(mut from: watch::Receiver<Doing>, to: watch::Sender<String>) {
    tokio::spawn(async move {
        loop {
            to.send_replace(from.borrow_and_update().1.clone());
            if to.is_closed() || from.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Builds the tests of a question at low priority, once no other project builds and whenever
/// nobody else wants cargo's lock.
///
/// The `stages` come first; what is learned goes to `teach`.
pub(super) fn build(
    (question, facts): (&Question, &Facts),
    of: Built,
    stages: Vec<Stage>,
    teach: (Digest, mpsc::WeakUnboundedSender<Message>),
    courtesy: Arc<Mutex<Courtesy>>,
    shared: &Shared,
) -> Work {
    let queue = Arc::clone(&shared.queue);
    let wish = place::wish(&question.root, &facts.target_dirs, "build");
    let spec = BuildSpec {
        toolchain: facts.toolchain.clone(),
        config: facts.cargo_config.clone(),
        root: question.root.clone(),
        selection: question.selection.clone(),
        environment: question.environment.clone(),
        target_dir: question.target_dir.clone(),
        priority: Priority::Background,
        jobs: None,
        brake: Suspender::default(),
        colour: false,
        hook: shared.hook.clone(),
    };
    question.mark_target();
    let (key, messages) = teach;
    let teach = move |lesson: Lesson| {
        if let Some(messages) = messages.upgrade() {
            // The project may be ending.
            let _ = messages.send(Message::Learned(Box::new(lesson)));
        }
    };
    let (whole, cache_dir) = (question.clone(), shared.paths.cache_dir.clone());
    let note = Box::new(move |build: &Build| whole.note_build(build, &cache_dir));
    let limit = question.settings.build_timeout;
    let plan = polite::Plan { spec, key, stages, limit, note };
    let mut conditions = shared.conditions.follow(&question.root);
    let (work, worker) = Work::start(of, State::Building, WAITS);
    tokio::spawn(async move {
        let allowed = (&worker, &mut conditions);
        let end = polite::build(&plan, (&queue, &wish), &courtesy, allowed, &teach).await;
        // The project may have left the config meanwhile.
        let _ = worker.done.send(end);
    });
    work
}

/// What a run in the background is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The verdict, ahead of the question.
    Verdict,
    /// A comparison with the records, which answer nothing then.
    Verify,
}

/// Runs the tests of a question at low priority and keeps the outcome.
pub(super) fn test(
    (question, facts): (Question, Facts),
    aim: Aim,
    of: Built,
    first: TreeState<Mark>,
    messages: mpsc::UnboundedSender<Message>,
    shared: Arc<Shared>,
) -> Work {
    let (work, worker) = Work::start(of, State::Testing, WAITS);
    let tree = ActorTree::new(messages, Arc::clone(&shared), first, worker.cancel.clone());
    // The runner wants a thread of its own, which lives longer than all its children: they die
    // with the thread that started them. Without one, `worker` is dropped: given up.
    let spawned = std::thread::Builder::new().name("tests".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(run_tests(question, facts, aim, tree, shared, worker)),
            Err(error) => warn!(%error, "cannot run tests in the background"),
        }
    });
    if let Err(error) = spawned {
        warn!(%error, "cannot run tests in the background");
    }
    work
}

/// How often a run looks whether somebody needs its place more.
const LOOK: Duration = Duration::from_millis(200);

async fn run_tests(
    question: Question,
    facts: Facts,
    aim: Aim,
    mut tree: ActorTree,
    shared: Arc<Shared>,
    worker: Worker,
) {
    let wish = place::wish(&question.root, &facts.target_dirs, "tests");
    let mut conditions = shared.conditions.follow(&question.root);
    let end = loop {
        let Some(speed) = worker.may_go(&mut conditions).await else { break End::GivenUp };
        let Some(place) = Place::wait(&shared.queue, &wish, &worker).await else {
            break End::GivenUp;
        };
        let cancel = worker.cancel.child_token();
        let started = Instant::now();
        let runs = RefCell::new(Runs::default());
        let on_step = |step: &verdict::Step<'_>| runs.borrow_mut().note(step, Instant::now());
        let asked = (&question, &facts, aim);
        let by = (&*shared, &worker, &speed);
        let running = run_once(asked, &mut tree, by, cancel.clone(), on_step);
        let mut running = std::pin::pin!(running);
        let mut overdue = None;
        let end = loop {
            tokio::select! {
                biased;
                end = &mut running => break end,
                reason = worker.objection(&mut conditions, &speed), if !cancel.is_cancelled() => {
                    cancel.cancel();
                    let project = question.root.display();
                    info!(%project, outcome = "gave way", %reason, "the tests are put off");
                }
                () = tokio::time::sleep(LOOK), if !cancel.is_cancelled() => {}
            }
            if cancel.is_cancelled() {
                continue;
            }
            overdue = runs.borrow().overdue(question.settings.background_timeout, Instant::now());
            let cost = || runs.borrow().cost(started.elapsed(), Instant::now());
            if overdue.is_some() || place.is_needed(&worker, cost) {
                cancel.cancel();
            }
        };
        // What ended at that very moment has ended.
        let is_ours = cancel.is_cancelled() && !worker.cancel.is_cancelled();
        if !matches!(end, End::GivenUp) || !is_ours {
            place.served();
            break end;
        }
        if let Some(why) = overdue {
            warn!(project = %question.root.display(), reason = %why, "no verdict");
            place.served();
            break End::Overdue(why);
        }
    };
    // The project may have left the config meanwhile.
    let _ = worker.done.send(end);
}

/// Runs the tests to the end, or until `cancel` fires.
async fn run_once(
    (question, facts, aim): (&Question, &Facts, Aim),
    tree: &mut ActorTree,
    (shared, worker, speed): (&Shared, &Worker, &Speed),
    cancel: CancellationToken,
    also: impl Fn(&verdict::Step<'_>),
) -> End {
    let tell = |text: String| worker.tell.send_replace((State::Testing, speed.describe(text)));
    tell("testing".to_owned());
    let mut options = shared.background_options(&question.settings, speed, cancel);
    options.no_cache = aim == Aim::Verify;
    let started = Instant::now();
    let mut on_step = |step: verdict::Step<'_>| {
        also(&step);
        match step {
            verdict::Step::Planned(targets) => {
                tell(format!("testing {targets} targets"));
            }
            verdict::Step::Running(runner::RunEvent::Finished { report }) => debug!(
                project = %question.root.display(),
                package = %report.id.package,
                target = %report.id.target,
                duration = report.duration_ms,
                outcome = %report.verdict,
                "ran a target"
            ),
            _ => {}
        }
    };
    let result = verdict::run(question, facts, tree, &shared.cache, &options, &mut on_step).await;
    match result {
        Ok(outcome) => {
            let (cache, answer) = (&shared.cache, &outcome.answer);
            if aim == Aim::Verify {
                // It tells of a difference itself.
                drop(verdict::verify(cache, &question.root, &outcome));
            }
            End::Tested(Box::new(verdict::remember(cache, question, answer, started.elapsed())))
        }
        Err(RunError::Cancelled) => End::GivenUp,
        Err(error) => {
            warn!(project = %question.root.display(), %error, "background tests were not run");
            End::GivenUp
        }
    }
}
