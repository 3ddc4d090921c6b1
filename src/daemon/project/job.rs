//! The background job of a project: at most one build, test run or prefetch at a time, of one
//! snapshot, and cancelled as soon as that snapshot is no longer the newest.

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::super::schedule::{JobKind, JobSpec, Limit};
use super::super::scheduler::{JobControl, Scheduler, Ticket};
use crate::model::{Answer, Digest};
use crate::protocol::{LastBuild, LastVerdict, RanProgram, Reply, State};
use crate::verdict::{Facts, Question};

/// The build that a job is of: equal ones need not be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BuildKey {
    tree_digest: Digest,
    /// Digest of everything that decides the outcome besides files.
    identity: Digest,
    /// The selected tests.
    selection: Vec<u8>,
}

impl BuildKey {
    pub(super) fn new(tree_digest: Digest, question: &Question, facts: &Facts) -> Self {
        Self {
            tree_digest,
            identity: facts.identity.digest(),
            selection: question.selection.canonical(&question.root),
        }
    }

    pub(super) fn tree_digest(&self) -> &Digest {
        &self.tree_digest
    }

    pub(super) fn identity(&self) -> &Digest {
        &self.identity
    }
}

/// How a job ended.
#[derive(Debug)]
pub(super) enum JobEnd {
    /// It was cancelled, or could not begin.
    Cancelled,
    /// The build ended, well or not.
    Built(LastBuild),
    /// The tests ran.
    Tested(Box<TestedRun>),
    /// Those tests ran that may run unasked. `is_steady`: the tree was the same all the time.
    TestedInPart { is_steady: bool },
    /// The tests were ended for good, for this reason.
    TimedOut(String),
    /// The test programs were read.
    Prefetched,
    /// A run was compared with earlier ones.
    Compared,
}

/// What a run of tests came to.
#[derive(Debug)]
pub(super) struct TestedRun {
    pub(super) last: LastVerdict,
    /// The programs that ran, to be compared with earlier runs.
    pub(super) ran: Vec<RanProgram>,
    /// What each target came to; none if the tree changed meanwhile.
    pub(super) answer: Option<Answer>,
}

/// News of the job in flight.
#[derive(Debug)]
pub(super) enum JobNews {
    /// It does something else now.
    Progress,
    /// It ended.
    Ended(JobEnd),
    /// All clients that waited for it have gone.
    Deserted,
}

/// A job's activity, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobActivity {
    pub(super) state: State,
    pub(super) text: String,
    /// Whether its end is worth a client's wait that asks about the same build.
    pub(super) answers: bool,
}

/// The reply that a waiting client expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// The end of the job, whatever it is.
    End,
    /// The outcome of a build.
    Build,
}

/// A client that waits for a job.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) awaits: Awaits,
    pub(super) doing: watch::Sender<String>,
    pub(super) reply: oneshot::Sender<Reply>,
}

impl Waiter {
    fn tell(self, end: &JobEnd) {
        let reply = match (self.awaits, end) {
            (Awaits::End, _) => Reply::Done,
            (Awaits::Build, JobEnd::Built(build)) => Reply::Built(build.clone()),
            (Awaits::Build, _) => Reply::Error {
                message: "the build was cancelled: a client asked, or the tree cannot be read"
                    .to_owned(),
            },
        };
        // The client may be gone.
        let _ = self.reply.send(reply);
    }
}

/// The job in flight and its waiting clients.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    job: Option<BackgroundJob>,
    waiters: Vec<Waiter>,
}

/// A job, seen from its project.
#[derive(Debug)]
pub(super) struct BackgroundJob {
    of: BuildKey,
    kind: JobKind,
    cancel: CancellationToken,
    control: JobControl,
    activity: watch::Receiver<JobActivity>,
    end: oneshot::Receiver<JobEnd>,
}

impl Drop for BackgroundJob {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl InFlight {
    /// Puts a job in flight; the one before must have ended.
    pub(super) fn begin(&mut self, job: BackgroundJob) {
        self.job = Some(job);
        let waiters = std::mem::take(&mut self.waiters);
        waiters.into_iter().for_each(|waiter| self.wait(waiter));
    }

    /// Waits for news of the job; for ever if there is none.
    pub(super) async fn news(&mut self) -> JobNews {
        let Self { job: Some(job), waiters } = self else {
            return std::future::pending().await;
        };
        let is_awaited = !waiters.is_empty();
        let departure = async {
            for waiter in waiters {
                waiter.reply.closed().await;
            }
        };
        tokio::select! {
            biased;
            end = &mut job.end => JobNews::Ended(end.unwrap_or(JobEnd::Cancelled)),
            Ok(()) = job.activity.changed() => JobNews::Progress,
            () = departure, if is_awaited => JobNews::Deserted,
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    pub(super) fn is_of(&self, key: &BuildKey) -> bool {
        self.job.as_ref().is_some_and(|job| job.of == *key)
    }

    /// Whether the job of this build spares a client work that asks about it now; `runs_all`: the
    /// client has all tests run whatever is known.
    pub(super) fn is_useful(&self, key: &BuildKey, runs_all: bool) -> bool {
        let is_of_use = |job: &BackgroundJob| match job.kind {
            JobKind::Tests => job.activity.borrow().answers && !runs_all,
            JobKind::Build | JobKind::Prefetch => job.activity.borrow().answers,
        };
        self.is_of(key) && self.job.as_ref().is_some_and(is_of_use)
    }

    /// Whether tests run.
    pub(super) fn is_testing(&self) -> bool {
        self.job.as_ref().is_some_and(|job| job.kind == JobKind::Tests)
    }

    pub(super) fn is_of_tree(&self, tree_digest: &Digest) -> bool {
        self.job.as_ref().is_some_and(|job| job.of.tree_digest == *tree_digest)
    }

    pub(super) fn activity(&self) -> Option<JobActivity> {
        Some(self.job.as_ref()?.activity.borrow().clone())
    }

    /// Cancels the job and waits until nothing of it is left.
    pub(super) async fn cancel(&mut self) {
        if let Some(mut job) = self.job.take() {
            job.cancel.cancel();
            // It ends in bounded time: a cancelled child is killed after a moment.
            let end = (&mut job.end).await.unwrap_or(JobEnd::Cancelled);
            self.tell_waiters(&end);
        }
    }

    /// Takes note of the job's end; gives what it was of.
    pub(super) fn finish(&mut self, end: &JobEnd) -> Option<BuildKey> {
        let of = self.job.take().map(|job| job.of.clone());
        self.tell_waiters(end);
        of
    }

    /// Adds a client that waits for the job.
    pub(super) fn wait(&mut self, waiter: Waiter) {
        match &self.job {
            Some(job) => {
                job.control.want();
                forward(job.activity.clone(), waiter.doing.clone());
                self.waiters.push(waiter);
            }
            None if waiter.awaits == Awaits::End => waiter.tell(&JobEnd::Cancelled),
            // A build is about to begin.
            None => self.waiters.push(waiter),
        }
    }

    /// Takes out the clients that wait for a build: the next one is to tell them.
    pub(super) fn take_build_waiters(&mut self) -> Vec<Waiter> {
        let (build, end) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition(|waiter| waiter.awaits == Awaits::Build);
        self.waiters = end;
        build
    }

    fn tell_waiters(&mut self, end: &JobEnd) {
        self.waiters.drain(..).for_each(|waiter| waiter.tell(end));
    }
}

/// Passes a job's activity on until either side is gone.
fn forward(mut from: watch::Receiver<JobActivity>, to: watch::Sender<String>) {
    tokio::spawn(async move {
        loop {
            to.send_replace(from.borrow_and_update().text.clone());
            if to.is_closed() || from.changed().await.is_err() {
                return;
            }
        }
    });
}

/// The working side of a job.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) cancel: CancellationToken,
    pub(super) ticket: Ticket,
    activity: watch::Sender<JobActivity>,
    end: oneshot::Sender<JobEnd>,
}

impl Worker {
    /// A job that has not begun, and its working side.
    pub(super) fn start(
        of: BuildKey,
        spec: JobSpec,
        scheduler: &Scheduler,
    ) -> (BackgroundJob, Self) {
        let state = match spec.kind {
            JobKind::Build => State::Building,
            JobKind::Tests => State::Testing,
            JobKind::Prefetch => State::Idle,
        };
        let kind = spec.kind;
        let ticket = scheduler.enter(spec);
        let (control, cancel) = (ticket.control(), CancellationToken::new());
        let text = "waiting for its turn".to_owned();
        let first = JobActivity { state, text, answers: true };
        let (tell, activity) = watch::channel(first);
        let (done, end) = oneshot::channel();
        let worker = Self { cancel: cancel.clone(), ticket, activity: tell, end: done };
        (BackgroundJob { of, kind, cancel, control, activity, end }, worker)
    }

    /// Waits until the job may run; none if it was cancelled.
    pub(super) async fn granted(&mut self) -> Option<Limit> {
        let teller = self.teller();
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => None,
            limit = self.ticket.granted(|reason| teller.tell(State::Paused, reason)) => limit,
        }
    }

    pub(super) fn teller(&self) -> Teller {
        Teller(self.activity.clone())
    }

    /// Gives up the slot, and then tells the project.
    pub(super) fn end(self, end: JobEnd) {
        let Self { ticket, end: tell, .. } = self;
        match end {
            JobEnd::Cancelled => drop(ticket),
            _ => ticket.served(),
        }
        // The project may have left the config.
        let _ = tell.send(end);
    }
}

/// Tells a job's activity.
#[derive(Clone, Debug)]
pub(super) struct Teller(watch::Sender<JobActivity>);

impl Teller {
    pub(super) fn tell(&self, state: State, text: &str) {
        self.0.send_if_modified(|activity| {
            let changed = activity.state != state || activity.text != text;
            if changed {
                (activity.state, activity.text) = (state, text.to_owned());
            }
            changed
        });
    }

    /// Tells whether the job's end is worth the wait of a client.
    pub(super) fn answers(&self, answers: bool) {
        self.0.send_if_modified(|activity| {
            std::mem::replace(&mut activity.answers, answers) != answers
        });
    }
}
