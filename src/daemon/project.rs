//! One project. Its task owns three parts and is the only one that knows them all: the tree that is
//! kept fresh, the background builds, and the background tests. The rest of the daemon sends
//! messages.

mod activity;
mod background_build;
mod background_tests;
mod broadcast;
mod build_order;
mod builder;
mod fresh_tree;
mod git_gate;
mod history;
mod job;
mod prebuild;
mod prefetch;
mod prepared;
mod settling;
mod shadow;
mod status;
mod target_dir;
mod thrashing;
mod tree;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::activity::ProjectActivity;
use self::background_tests::{BackgroundTestPlan, Purpose};
use self::broadcast::Broadcast;
use self::builder::{Builder, BuilderNews};
use self::fresh_tree::{EventTrust, FreshTree};
use self::job::{Awaits, BuildKey, JobEnd, JobNews, TestedRun, Waiter};
use self::prepared::Prepared;
use self::settling::Settling;
use self::status::StatusTeller;
use self::verifier::Verifier;
use super::inbox::Inbox;
use super::mailbox::{Mailbox, Message};
use super::shared::Shared;
use super::time::sleep_until;
use crate::config;
use crate::model::Answer;
use crate::process::Environment;
use crate::protocol::{Ask, LastVerdict, Miss, RanProgram, Reply};
use crate::verdict::{Question, RunScope, TreeState, Unanswered, code_hash};
use crate::workspace::Identity;

/// How often a tree that changes while it is asked about is looked up anew.
const LOOK_UP_ROUNDS: usize = 3;

/// A project that has been started.
pub(super) struct Started {
    pub(super) mailbox: Mailbox,
    /// Ends when nothing of the project is left running.
    pub(super) task: JoinHandle<()>,
    /// Ends the project.
    pub(super) stop: CancellationToken,
    /// Fires once the tree has been read for the first time, or cannot be read.
    pub(super) ready: oneshot::Receiver<()>,
}

/// Starts the task of a project.
pub(super) fn start(project: &config::Project, shared: &Arc<Shared>) -> Started {
    // An empty channel has room for 32 messages already, so they are boxed; the builder's too.
    let (messages, receiver) = mpsc::unbounded_channel();
    let inbox = Arc::new(Inbox::default());
    let stop = shared.stop.child_token();
    let (tell_ready, ready) = oneshot::channel();
    let status = StatusTeller::new(project.path.clone(), Arc::clone(shared));
    let weak_messages = messages.downgrade();
    let mailbox = Mailbox::new(&project.path, Arc::clone(&inbox), messages, status.subscribe());
    let (project, shared) = (project.clone(), Arc::clone(shared));
    let stopped = stop.clone();
    let task = tokio::spawn(async move {
        let task = ProjectTask::new(project, shared, inbox, status, weak_messages);
        // What is rarely awaited is boxed, here and below: thousands of projects wait most of the time.
        let mut task = Box::pin(task).await;
        task.run(receiver, tell_ready, stopped).await;
    });
    Started { mailbox, task, stop, ready }
}

/// The task of one project.
struct ProjectTask {
    root: PathBuf,
    name: String,
    shared: Arc<Shared>,
    status: StatusTeller,
    broadcast: Broadcast,
    tree: FreshTree,
    builder: Builder,
    verifier: Verifier,
    settling: Settling,
    /// How many clients build by themselves.
    holds: usize,
    /// The programs of the last run, until they are compared with earlier runs.
    uncompared: Vec<RanProgram>,
    /// The build identity of the last question, for the code hash in `status`.
    identity: Option<Identity>,
    /// Why the facts of the project's own question are not known.
    prepare_error: Option<String>,
}

impl ProjectTask {
    async fn new(
        project: config::Project,
        shared: Arc<Shared>,
        inbox: Arc<Inbox>,
        status: StatusTeller,
        messages: mpsc::WeakUnboundedSender<Box<Message>>,
    ) -> Self {
        let (root, name) = (project.path.clone(), project.name().into_owned());
        let known = {
            let (root, shared) = (root.clone(), Arc::clone(&shared));
            // Never closed.
            let _turn = shared.opening.acquire().await;
            let reader = Arc::clone(&shared);
            tokio::task::spawn_blocking(move || reader.cache.state(&root)).await.unwrap_or_default()
        };
        status.change(|status| status.last_verdict.clone_from(&known.last));
        let settings = project.settings;
        let builder = Builder::new(
            root.clone(),
            settings.clone(),
            known,
            Arc::clone(&shared),
            status.clone(),
        );
        let tree = FreshTree::new(
            root.clone(),
            Arc::clone(builder.environment()),
            settings,
            Arc::clone(&shared),
            inbox,
            status.clone(),
        );
        let verifier = Verifier::new(Arc::clone(&shared), messages);
        Self {
            broadcast: Broadcast::new(root.clone()),
            root,
            name,
            shared,
            status,
            tree,
            builder,
            verifier,
            settling: Settling::default(),
            holds: 0,
            uncompared: Vec::new(),
            identity: None,
            prepare_error: None,
        }
    }

    /// Runs until `stop` fires or no mailbox is left.
    async fn run(
        &mut self,
        mut messages: mpsc::UnboundedReceiver<Box<Message>>,
        ready: oneshot::Sender<()>,
        stop: CancellationToken,
    ) {
        Box::pin(self.tree.refresh(EventTrust::All)).await;
        self.tell();
        // The daemon may be stopping already.
        let _ = ready.send(());
        Box::pin(self.consider()).await;
        loop {
            self.tell();
            Box::pin(self.tell_clients()).await;
            let wake = self.tree.due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = messages.recv() => match message {
                    Some(message) => Box::pin(self.on_message(*message)).await,
                    None => break,
                },
                news = self.builder.news() => match news {
                    BuilderNews::Job(JobNews::Ended(end)) => Box::pin(self.on_job_ended(end)).await,
                    BuilderNews::Job(JobNews::Progress) => {}
                    // It no longer goes before all others: it begins again, like any other.
                    BuilderNews::Job(JobNews::Deserted) => {
                        Box::pin(self.builder.in_flight().cancel()).await;
                        Box::pin(self.consider()).await;
                    }
                    BuilderNews::Learned(learned) => self.builder.learn(learned),
                },
                () = sleep_until(wake) => if Box::pin(self.tree.on_time()).await {
                    self.tell();
                    Box::pin(self.consider()).await;
                },
            }
        }
        if !self.shared.stop.is_cancelled() {
            self.broadcast.tell_gone();
        }
        Box::pin(self.builder.in_flight().cancel()).await;
        Box::pin(self.tree.save_memo()).await;
    }

    async fn on_message(&mut self, message: Message) {
        // A client may be gone before its reply.
        match message {
            Message::Touched => self.touched().await,
            Message::Ask { ask, seen, doing, reply } => {
                doing.send_replace(format!("reading {}", self.name));
                let _ = reply.send(self.answer(*ask, seen).await);
            }
            Message::Settle { mark, seen, reply } => {
                let _ = reply.send(self.tree.settle(mark, seen).await);
            }
            Message::Uncounted { paths, reply } => {
                let _ = reply.send(self.tree.uncounted(paths));
            }
            Message::KeepListing { tree, code_hash, reply } => {
                let _ = reply.send(self.tree.keep_listing(tree, code_hash).await);
            }
            Message::Join { doing, reply } => {
                self.builder.in_flight().wait(Waiter { awaits: Awaits::End, doing, reply });
            }
            Message::Rebuild { environment, doing, reply } => {
                self.set_environment(*environment);
                self.builder.forgive_thrashing();
                self.rebuild(Waiter { awaits: Awaits::Build, doing, reply }).await;
            }
            Message::Hold => self.holds += 1,
            Message::Release => {
                self.holds = self.holds.saturating_sub(1);
                self.consider().await;
            }
            Message::Report { verdict, ran, answer } => {
                self.report(*verdict, ran, answer.map(|answer| *answer));
            }
            Message::AnsweredByOthers { ask } => self.note_hit(self.question_of(&ask)),
            Message::Subscribe { client, told: _told } => {
                self.broadcast.add(client);
                // The first one is told everything before `_told` is dropped.
                self.tell_clients().await;
            }
            Message::Confirm { token, seen, reply } => {
                self.look_early(Some(seen)).await;
                self.tell_clients().await;
                self.broadcast.tell_confirmed(token);
                let _ = reply.send(Reply::Done);
            }
            Message::RunNews { run, events } => self.broadcast.tell_run(run, events),
            // The state is told after each message.
            Message::Paused => {}
            Message::Settings(settings) => {
                self.builder.set_settings((*settings).clone()).await;
                self.tree.set_settings(*settings).await;
                self.consider().await;
            }
        }
    }

    fn question_of(&self, ask: &Ask) -> Question {
        let (typed, harness) = (ask.cargo_args(), ask.harness_args());
        let (settings, environment) = (self.builder.settings().clone(), ask.environment.clone());
        Question::asked(&self.root, &ask.dir, typed, harness, environment, settings)
    }

    /// Records have answered; perhaps that is verified once the project is quiet.
    fn note_hit(&mut self, question: Question) {
        if self.verifier.note_hit(question) {
            self.tree.touched();
        }
    }

    /// Answers from records, or says what the client needs to go on.
    async fn answer(&mut self, ask: Ask, seen: bool) -> Reply {
        let shared = Arc::clone(&self.shared);
        let facts = Prepared::gather(self.question_of(&ask), &shared.paths.cache_dir);
        let (asked, ()) = tokio::join!(facts, self.tree.catch_up(seen));
        let asked = match asked {
            Ok(asked) => asked,
            Err(message) => return Reply::Error { message },
        };
        if !ask.only_known {
            self.builder.note_question(&asked.question);
            self.set_environment(asked.question.environment.clone());
            self.note_prepared(&asked);
        }
        self.note_edits();
        self.tree.follow(&asked.question, &asked.facts).await;
        let mut found = None;
        if self.tree.is_small() {
            // The records are asked about the tree that is known meanwhile: nearly always that is it.
            let known = self.tree.tree_digest().filter(|_| !ask.no_cache);
            let ahead = async {
                let known = known?;
                Some((known, asked.look_up(known, &self.shared).await))
            };
            (_, found) = tokio::join!(self.tree.look_at_files(), ahead);
        }
        let mut rounds = 0;
        let (tree_digest, mark, reason, known_failure) = loop {
            let Some(TreeState { digest, mark }) = self.tree.look() else {
                return Reply::Error { message: self.tree.trouble() };
            };
            let tree_digest = match digest {
                Ok(tree_digest) => tree_digest,
                Err(why) => {
                    let reason = format!("the snapshot is unknown: {}", why.join("; "));
                    let mark = self.tree.remember(mark);
                    let edited = self.builder.edited_packages();
                    let known_failure = None;
                    return Reply::Miss(Miss { tree: None, mark, reason, known_failure, edited });
                }
            };
            let (reason, known) = if ask.no_cache {
                ("asked to run".to_owned(), None)
            } else {
                let ahead = found.take().filter(|(known, _)| *known == tree_digest);
                let looked_up = match ahead {
                    Some((_, looked_up)) => looked_up,
                    None => asked.look_up(tree_digest, &self.shared).await,
                };
                match looked_up {
                    Ok(answer) => {
                        self.note_hit(asked.question.clone());
                        let answer = if ask.names_tests { answer } else { answer.without_tests() };
                        return Reply::Answer(answer);
                    }
                    Err(Unanswered { reason, known_failure }) => (reason, known_failure),
                }
            };
            // A run now is kept for this tree: it must be the one on disk. If something writes all
            // the time, the run will be found to have been disturbed.
            rounds += 1;
            if rounds > LOOK_UP_ROUNDS || !self.tree.look_at_files().await {
                break (tree_digest, mark, reason, known);
            }
        };
        if !ask.only_known {
            // The client builds now. It joins a job of the very same build that gets on.
            let wanted = BuildKey::new(tree_digest, &asked.question, &asked.facts);
            self.builder.cancel_unless_useful(&wanted, ask.no_cache).await;
        }
        let mark = self.tree.remember(mark);
        let edited = self.builder.edited_packages();
        Reply::Miss(Miss { tree: Some(tree_digest), mark, reason, known_failure, edited })
    }

    /// Gathers the facts of a question.
    async fn prepare(&self, question: Question) -> Result<Arc<Prepared>, String> {
        Prepared::gather(question, &self.shared.paths.cache_dir).await
    }

    /// Takes note of the files that changed since the last time.
    fn note_edits(&mut self) {
        let edits = self.tree.take_edits();
        if !edits.is_empty() {
            self.verifier.note_change(self.builder.in_flight().is_testing());
            self.builder.note_edits(&edits);
        }
    }

    /// Tests have ended: what has changed by now changed while they ran.
    async fn note_changes_of_run(&mut self) {
        let seen = self.shared.barrier().await;
        self.tree.catch_up(seen).await;
        if !self.tree.take_edits().is_empty() {
            self.verifier.note_change(true);
        }
    }

    fn set_environment(&mut self, environment: Environment) {
        self.builder.set_environment(environment);
        self.tree.set_environment(Arc::clone(self.builder.environment()));
    }

    fn note_prepared(&mut self, prepared: &Prepared) {
        (self.identity, self.prepare_error) = (Some(prepared.facts.identity.clone()), None);
        self.builder.tell_target_dirs(&prepared.question, &prepared.facts);
    }

    /// Decides which background job the current tree needs.
    async fn consider(&mut self) {
        self.tree.save_memo().await;
        self.note_edits();
        let Some(look) = self.tree.look() else {
            self.builder.in_flight().cancel().await;
            return;
        };
        if self.holds > 0 {
            // The tree follows the client's question for now. A build that the client has joined
            // goes on as long as it is of that tree.
            if !look.digest.is_ok_and(|tree| self.builder.in_flight().is_of_tree(&tree)) {
                self.builder.in_flight().cancel().await;
            }
            return;
        }
        if self.verifier.is_due() && self.tree.git_lets_work_begin().await {
            if let Some(question) = self.verifier.take_due() {
                self.verify(question).await;
            }
            return;
        }
        let own = self.prepare(self.builder.own_question()).await;
        let Ok(own) = own.map_err(|message| self.prepare_error = Some(message)) else { return };
        self.note_prepared(&own);
        self.tree.follow(&own.question, &own.facts).await;
        let Some(tree_digest) = self.tree.tree_digest() else {
            self.builder.in_flight().cancel().await;
            return;
        };
        let wanted = BuildKey::new(tree_digest, &own.question, &own.facts);
        let is_own_write =
            self.builder.in_flight().is_testing() && self.verifier.writes_into_tree();
        if is_own_write || self.builder.in_flight().is_of(&wanted) {
            return;
        }
        if self.builder.in_flight().is_testing() {
            self.builder.in_flight().cancel().await;
            self.note_changes_of_run().await;
            // Any change since is told by an event of its own.
            return Box::pin(self.consider()).await;
        }
        // A waiting client always gets the build of the newest tree.
        let waiters = self.builder.in_flight().take_build_waiters();
        self.builder.in_flight().cancel().await;
        if !waiters.is_empty() || self.needs_build(&wanted, &own).await {
            self.build(&own, wanted, waiters).await;
        } else if self.settling.is_due(&wanted, &own, &self.shared).await
            && let Some(scope) = self.background_scope().await
        {
            info!(project = %self.root.display(), "the last run made its own record stale: testing again");
            self.run_tests(&own, Purpose::Verdict(scope)).await;
        } else if !self.uncompared.is_empty() {
            let ran = std::mem::take(&mut self.uncompared);
            let sysroot = &own.facts.toolchain.sysroot;
            let job = shadow::start(ran, wanted, &own.question, sysroot, &self.shared);
            self.builder.begin(job);
        }
    }

    /// Whether a build is of use that no client waits for.
    async fn needs_build(&mut self, wanted: &BuildKey, own: &Arc<Prepared>) -> bool {
        let project = self.root.display();
        if self.builder.has_built(wanted) {
            return false;
        }
        let tree_digest = *wanted.tree_digest();
        if own.look_up(tree_digest, &self.shared).await.is_ok() {
            debug!(%project, "known to be green: nothing to build");
            self.builder.note_up_to_date();
            return false;
        }
        if !self.builder.may_build(wanted, &own.question) {
            debug!(%project, "another cargo would undo the build");
            return false;
        }
        if self.is_spared(wanted, own).await {
            info!(project = %self.root.display(), "proven by other machines: nothing to build");
            return false;
        }
        self.tree.git_lets_work_begin().await
    }

    /// Whether a question is answered by what other machines have proven, where nothing is built yet.
    async fn is_spared(&mut self, wanted: &BuildKey, own: &Arc<Prepared>) -> bool {
        let is_new = !self.builder.is_spared(wanted);
        if is_new && self.shared.reads_store() {
            let tree_digest = *wanted.tree_digest();
            let code_hash = code_hash(&tree_digest, &own.facts.identity);
            self.tree.keep_listing(tree_digest, code_hash).await;
            if own.is_proven_elsewhere(tree_digest, &self.shared).await {
                self.builder.spare(wanted.clone());
            }
        }
        self.builder.is_spared(wanted)
    }

    async fn build(&mut self, own: &Prepared, wanted: BuildKey, waiters: Vec<Waiter>) {
        let snapshot = code_hash(wanted.tree_digest(), &own.facts.identity);
        info!(project = %self.root.display(), %snapshot, "building the tests");
        let manifests = self.tree.manifests();
        self.builder.build(&own.question, &own.facts, wanted, manifests, waiters).await;
    }

    /// Builds now, whatever is known.
    async fn rebuild(&mut self, waiter: Waiter) {
        self.builder.note_question(&self.builder.own_question());
        self.tree.refresh(EventTrust::Nothing).await;
        let own = match self.prepare(self.builder.own_question()).await {
            Ok(own) => own,
            Err(message) => return drop(waiter.reply.send(Reply::Error { message })),
        };
        self.note_prepared(&own);
        self.tree.follow(&own.question, &own.facts).await;
        let message = match self.tree.look().map(|look| look.digest) {
            Some(Ok(tree_digest)) => {
                self.builder.in_flight().cancel().await;
                let wanted = BuildKey::new(tree_digest, &own.question, &own.facts);
                return self.build(&own, wanted, vec![waiter]).await;
            }
            Some(Err(why)) => why.join("; "),
            None => self.tree.trouble(),
        };
        drop(waiter.reply.send(Reply::Error { message }));
    }

    async fn on_job_ended(&mut self, end: JobEnd) {
        let was_testing = self.builder.in_flight().is_testing();
        let of = self.builder.in_flight().finish(&end);
        if was_testing {
            self.note_changes_of_run().await;
        }
        match end {
            JobEnd::Cancelled | JobEnd::Prefetched | JobEnd::Compared => {}
            JobEnd::TestedInPart { is_steady } => self.broadcast.end_run(is_steady),
            JobEnd::Built(build) => {
                let tree_digest = self.tree.tree_digest();
                let built = of.as_ref().map(BuildKey::tree_digest);
                let is_current = built == tree_digest.as_ref();
                self.builder.note_built(of.as_ref(), &build, is_current);
                // A client that holds the project runs the tests in a moment.
                if let Some(of) = of.filter(|_| build.success && self.holds == 0) {
                    match self.background_scope().await {
                        Some(scope) => self.test_in_background(scope).await,
                        None => self.builder.prefetch(of),
                    }
                }
            }
            JobEnd::Tested(run) => {
                let TestedRun { last, ran, answer } = *run;
                self.broadcast.end_run(answer.is_some());
                self.report(last, ran, answer);
            }
            JobEnd::TimedOut(why) => {
                if let Some(of) = of {
                    self.verifier.timed_out(&of, why);
                }
            }
        }
        // What cargo said of thousands of files was held while it built.
        crate::process::trim_memory();
        // The tree may have moved on meanwhile.
        if !self.builder.in_flight().is_busy() {
            self.consider().await;
        }
    }

    /// Runs everything that was asked, to see whether the answer from records was right.
    async fn verify(&mut self, question: Question) {
        let Ok(asked) = self.prepare(question).await else { return };
        self.builder.in_flight().cancel().await;
        self.run_tests(&asked, Purpose::Verify).await;
    }

    /// What may run in the background, if anything.
    async fn background_scope(&self) -> Option<RunScope> {
        if self.verifier.writes_into_tree() {
            return None;
        }
        background_tests::scope(self.builder.own_question(), &self.shared).await
    }

    async fn test_in_background(&mut self, scope: RunScope) {
        let Ok(own) = self.prepare(self.builder.own_question()).await else { return };
        self.run_tests(&own, Purpose::Verdict(scope)).await;
    }

    async fn run_tests(&mut self, asked: &Prepared, purpose: Purpose) {
        let (question, facts) = (asked.question.clone(), asked.facts.clone());
        self.tree.follow(&question, &facts).await;
        let Some(TreeState { digest: Ok(digest), mark }) = self.tree.look() else { return };
        let is_own = question.selection_text() == self.builder.own_question().selection_text();
        let reporter = self.broadcast.reporter(code_hash(&digest, &facts.identity), is_own);
        let first = TreeState { digest: Ok(digest), mark: self.tree.remember(mark) };
        let packages = self.builder.edited_packages();
        let plan = BackgroundTestPlan { question, facts, purpose, packages, first, reporter };
        if let Some(job) = self.verifier.run(plan) {
            self.builder.begin(job);
        }
    }

    fn report(&mut self, verdict: LastVerdict, ran: Vec<RanProgram>, answer: Option<Answer>) {
        status::log_verdict(&self.root, &verdict);
        self.verifier.note_verdict();
        self.settling.note_verdict(&verdict);
        let own = self.builder.own_question().selection_text();
        self.broadcast.note_answer(answer.filter(|_| verdict.selection == own));
        shadow::await_comparison(&mut self.uncompared, ran);
        self.status.change(|status| status.last_verdict = Some(verdict));
    }

    /// Takes note of events. No verdict is shown for a text that is no longer there, so the tree is
    /// looked at before it is quiet; what is in flight goes on: it is seen to when all is.
    async fn touched(&mut self) {
        self.tree.touched();
        if self.broadcast.has_verdicts() || self.broadcast.has_run() {
            self.look_early(None).await;
        }
    }

    /// Looks at the tree, up to a barrier if there was one (see [`FreshTree::look_early`]).
    async fn look_early(&mut self, barrier: Option<bool>) {
        let is_testing = self.builder.in_flight().is_testing();
        if self.tree.look_early(barrier).await && is_testing {
            // Also where the content is the same again: the tests may have met another one.
            self.broadcast.disturb_run(self.status.get().code_hash);
        }
    }

    /// Tells the clients that watch what has changed.
    async fn tell_clients(&mut self) {
        if !self.broadcast.is_watched() {
            return;
        }
        if !self.builder.in_flight().is_testing() {
            // One that ended well is no longer under way.
            self.broadcast.end_run(false);
        }
        self.tell();
        self.tell_status_to_clients();
        // While a client tests, the tree follows its question.
        if self.broadcast.wants_records() && self.holds == 0 {
            self.tell_known().await;
        }
    }

    fn tell_status_to_clients(&mut self) {
        let mut status = self.status.get();
        self.shared.scheduler.show(&mut status);
        let tree_digest = self.tree.tree_digest();
        let is_built = tree_digest.is_some() && self.builder.built_tree() == tree_digest.as_ref();
        self.broadcast.tell_status(&status, is_built);
    }

    /// Tells the clients that watch what the records say of the project's own question.
    async fn tell_known(&mut self) {
        let own = self.prepare(self.builder.own_question()).await;
        let Ok(own) = own.map_err(|message| self.prepare_error = Some(message)) else { return };
        self.note_prepared(&own);
        self.tree.follow(&own.question, &own.facts).await;
        self.tell();
        self.tell_status_to_clients();
        let known = self.tree.tree_digest().zip(self.status.get().code_hash);
        let Some((tree_digest, code_hash)) = known else { return };
        let known = own.known(tree_digest, &self.shared).await;
        self.broadcast.tell_known(code_hash, known);
    }

    /// Brings the status up to date.
    fn tell(&mut self) {
        let (state, reason) = ProjectActivity {
            tree: &self.tree,
            builder: &self.builder,
            verifier: &self.verifier,
            is_held: self.holds > 0,
            prepare_error: self.prepare_error.as_deref(),
            last_build: self.status.get().last_build,
        }
        .state();
        let watch = self.tree.watch_text();
        let tree_digest = self.tree.tree_digest();
        let code_hash = tree_digest
            .zip(self.identity.as_ref())
            .map(|(tree_digest, identity)| code_hash(&tree_digest, identity));
        self.status.change(|status| {
            (status.state, status.reason) = (state, reason);
            (status.code_hash, status.watch) = (code_hash, watch);
        });
    }
}
