//! The project's task: what it does when messages come, quiet periods pass and builds end.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::super::lock;
use super::calm::Calm;
use super::courtesy::Courtesy;
use super::foresight::Foresight;
use super::inbox::{Inbox, Taken};
use super::rivalry::Rivalry;
use super::tree::WatchedTree;
use super::work::{self, Built, End, News, Work};
use super::{Message, Shared};
use crate::config;
use crate::model::Digest;
use crate::process::Environment;
use crate::protocol::{self, CacheUse, LastBuild, LastVerdict, ProjectStatus, Reply, State};
use crate::verdict::{Facts, Finding, Look, Mark, Question, Refresh, Scope, code_hash};
use crate::watcher::{Debounce, PollReason, Polling};
use crate::workspace::Identity;

/// So many barriers may leave watches in doubt before the tree is read as if there were none.
const BARRIERS: usize = 5;

/// How far events are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// What no event told is as it was.
    Events,
    /// Folders are watched, but every file is looked at.
    Folders,
    /// The watches themselves are in doubt.
    Nothing,
}

/// The state of one project; nobody else touches it.
pub(super) struct Actor {
    pub(super) root: PathBuf,
    pub(super) name: String,
    pub(super) settings: config::Settings,
    pub(super) shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    /// For background work to speak to this task; weak, so that it does not keep it alive.
    pub(super) messages: mpsc::WeakUnboundedSender<Message>,
    pub(super) status: watch::Sender<ProjectStatus>,
    /// None while the folder is not there.
    pub(super) tree: Option<WatchedTree>,
    /// Why there is no tree.
    pub(super) trouble: Option<String>,
    pub(super) debounce: Debounce,
    polling: Polling,
    /// The environment of the developer's shell, as the last question brought it.
    pub(super) environment: Environment,
    /// How many askers build in the foreground.
    pub(super) holds: usize,
    pub(super) work: Work,
    /// What giving way has cost; shared with the build that is running.
    pub(super) courtesy: Arc<Mutex<Courtesy>>,
    /// The identity of the last question, for the code hash in `status`.
    pub(super) identity: Option<Identity>,
    /// Hundredths of a verification that are owed for answers from cache.
    pub(super) owed: u32,
    /// An answer that is to be verified as soon as there is nothing else to do.
    pub(super) doubtful: Option<Question>,
    /// What the last background build was of, good or bad.
    built: Option<Built>,
    /// Whether ours and somebody else's builds undo each other's work.
    pub(super) rivalry: Rivalry,
    /// Whether the environment is that of a command, and not the one we were started with.
    pub(super) is_asked: bool,
    /// When the target directory was last looked through for what is stale.
    pub(super) cleaned: Option<Instant>,
    /// The tree as edits were last looked for.
    pub(super) seen: Option<(Digest, Mark)>,
    /// When files were last found changed.
    pub(super) changed: Option<Instant>,
    /// What will be wanted next.
    pub(super) foresight: Foresight,
    /// What git does.
    pub(super) calm: Calm,
    /// A batch of changes waits until git has written all of its files.
    postponed: bool,
    /// The memo on disk lacks digests.
    memo_is_old: bool,
    /// Marks that were given out: the number on the wire and the hasher's own.
    pub(super) marks: VecDeque<(u64, Mark)>,
    pub(super) next_moment: u64,
}

impl Actor {
    pub(super) fn new(
        project: &config::Project,
        shared: Arc<Shared>,
        inbox: Arc<Inbox>,
        messages: mpsc::WeakUnboundedSender<Message>,
    ) -> (Self, watch::Receiver<ProjectStatus>) {
        let (status, seen) = watch::channel(ProjectStatus {
            path: project.path.clone(),
            state: State::Hashing,
            reason: None,
            paused_until: None,
            code_hash: None,
            watch: "starting".to_owned(),
            target_dirs: Vec::new(),
            notes: Vec::new(),
            last_build: None,
            last_verdict: shared.cache.state(&project.path).last,
            cache: CacheUse::default(),
            verified: 0,
            wrong: 0,
            flaky: Vec::new(),
            courtesy: protocol::Courtesy::default(),
        });
        let actor = Self {
            root: project.path.clone(),
            name: project.name().into_owned(),
            environment: shared.environment.clone(),
            debounce: Debounce::new(project.settings.debounce),
            settings: project.settings.clone(),
            shared,
            inbox,
            messages,
            status,
            tree: None,
            trouble: None,
            polling: Polling::default(),
            holds: 0,
            work: Work::default(),
            courtesy: Arc::default(),
            identity: None,
            owed: 0,
            doubtful: None,
            built: None,
            rivalry: Rivalry::default(),
            is_asked: false,
            cleaned: None,
            seen: None,
            changed: None,
            foresight: Foresight::default(),
            calm: Calm::default(),
            postponed: false,
            memo_is_old: false,
            marks: VecDeque::new(),
            next_moment: 0,
        };
        (actor, seen)
    }

    /// Runs until `stop` fires or nobody can send a message any more.
    pub(super) async fn run(
        mut self,
        mut messages: mpsc::UnboundedReceiver<Message>,
        ready: oneshot::Sender<()>,
        stop: CancellationToken,
    ) {
        self.refresh(Trust::Events).await;
        self.tell();
        // The daemon may be stopping already.
        let _ = ready.send(());
        self.consider().await;
        loop {
            self.tell();
            let wake = [self.debounce.due(), self.polling.next_due(), self.calm.due()];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                message = messages.recv() => match message {
                    Some(message) => self.on(message).await,
                    None => break,
                },
                news = self.work.news() => match news {
                    News::Ended(end) => self.on_work_ended(end).await,
                    News::Progress => {}
                },
                () = at(wake) => self.on_time().await,
            }
        }
        self.work.stop().await;
        self.save_memo().await;
    }

    async fn on(&mut self, message: Message) {
        match message {
            Message::Touched => self.debounce.touch(Instant::now()),
            Message::Ask { ask, seen, doing, reply } => {
                doing.send_replace(format!("reading {}", self.name));
                let answer = self.answer(*ask, seen).await;
                // The asker may be gone.
                let _ = reply.send(answer);
            }
            Message::Settle { mark, seen, reply } => {
                let answer = self.settle(mark, seen).await;
                let _ = reply.send(answer);
            }
            Message::Uncounted { paths, reply } => {
                let _ = reply.send(self.uncounted(paths));
            }
            Message::KeepListing { tree, code_hash, reply } => {
                if let Some(watched) = &self.tree {
                    watched.scope().keep_listing(&self.shared.cache, &tree, &code_hash);
                }
                let _ = reply.send(Reply::Done);
            }
            Message::Join { doing, reply } => self.work.join(doing, reply),
            Message::Rebuild { environment, doing, reply } => {
                self.environment = *environment;
                self.is_asked = true;
                self.rivalry.forgive();
                self.rebuild(doing, reply).await;
            }
            Message::Hold => self.holds += 1,
            Message::Release => {
                self.holds = self.holds.saturating_sub(1);
                self.consider().await;
            }
            Message::Report(verdict) => self.report(*verdict),
            Message::History(commits) => self.remember_history(commits),
            Message::Learned(lesson) => self.learn(*lesson),
            Message::Settings(settings) => {
                self.debounce = Debounce::new(settings.debounce);
                self.settings = *settings;
                self.work.stop().await;
                self.built = None;
                self.rivalry = Rivalry::default();
                self.drop_tree().await;
                self.refresh(Trust::Events).await;
                self.consider().await;
            }
        }
    }

    /// A quiet period has passed, or a folder without events or what git does is due for a look.
    async fn on_time(&mut self) {
        let polled = !self.polling.take_due(Instant::now()).is_empty();
        let waited = self.calm.is_due(Instant::now());
        let read = self.debounce.take(Instant::now()) || polled || self.postponed;
        if !read && !waited {
            return;
        }
        if self.git_writes() {
            self.postponed |= read;
            if polled {
                self.polling.looked(&self.root, false, Instant::now());
            }
            return;
        }
        if !read {
            self.consider().await;
            return;
        }
        if std::mem::take(&mut self.postponed) {
            // Of the last files that git wrote the events may be on their way. Where that cannot
            // be told, they make another batch.
            self.shared.barrier().await;
        }
        let before = self.status.borrow().code_hash;
        self.refresh(Trust::Events).await;
        self.tell();
        if polled {
            let changed = self.status.borrow().code_hash != before;
            self.polling.looked(&self.root, changed, Instant::now());
        }
        self.consider().await;
    }

    /// Brings the tree up to what it was when a barrier was passed (`seen`), or later; with no
    /// barrier, to what it is now.
    pub(super) async fn catch_up(&mut self, mut seen: bool) {
        for _ in 0..BARRIERS {
            if !seen {
                break;
            }
            self.refresh(Trust::Events).await;
            if !lock(&self.shared.watcher).in_doubt() {
                return;
            }
            // To deal with events can bring up more: a folder that was replaced while its parent
            // had no watch.
            seen = self.shared.barrier().await;
        }
        self.refresh(Trust::Nothing).await;
    }

    /// Brings the tree up to date.
    pub(super) async fn refresh(&mut self, trust: Trust) {
        if self.tree.as_ref().is_some_and(|tree| !tree.is_in_place()) {
            info!(project = %self.root.display(), "the project's folder is gone or another one");
            self.drop_tree().await;
        }
        if self.tree.is_none() {
            self.open_tree().await;
        }
        let Some(mut tree) = self.tree.take() else { return };
        self.debounce.flush();
        let taken = self.inbox.take();
        let all = |doubt| Some(Taken { refresh: Refresh::All, doubt });
        let how = match trust {
            Trust::Events => taken,
            Trust::Folders => all(taken.is_some_and(|taken| taken.doubt)),
            Trust::Nothing => all(true),
        };
        if how.is_some() || tree.blind().is_some() {
            self.set_state(State::Hashing, None);
        }
        // Reading takes long in a large tree, and other projects have questions too.
        let refreshed = tokio::task::spawn_blocking(move || {
            let memo_is_old = tree.refresh(how);
            (tree, memo_is_old)
        });
        match refreshed.await {
            Ok((tree, memo_is_old)) => {
                self.memo_is_old |= memo_is_old;
                match tree.blind() {
                    Some(_) => {
                        self.polling.add(&self.root, PollReason::Unwatched, Instant::now());
                    }
                    None => {
                        self.polling.remove(&self.root);
                    }
                }
                self.tree = Some(tree);
            }
            // A panic in the hasher: the tree is gone with it, and the next refresh starts anew.
            Err(error) => warn!(project = %self.root.display(), %error, "reading the tree failed"),
        }
    }

    /// Makes the tree that of this question, and reads it anew if that is another one.
    pub(super) async fn follow(&mut self, question: &Question, facts: &Facts) {
        if self.tree.as_mut().is_some_and(|tree| tree.follow(question, facts)) {
            debug!(project = %self.root.display(), "another environment: reading everything again");
            self.refresh(Trust::Events).await;
        }
    }

    /// Makes the tree of a project that has none, if its folder is there.
    async fn open_tree(&mut self) {
        let question = self.own_question();
        let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.inbox));
        let root = self.root.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let facts = Facts::gather(&question, &shared.paths.cache_dir)
                .map_err(|error| error.to_string())?;
            let mut scope = Scope::new(&question, &facts).map_err(|error| error.to_string())?;
            scope.load_memo(&scope.memo_file(&shared.paths.cache_dir));
            WatchedTree::new(&root, scope, Arc::clone(&shared.watcher), inbox)
                .map_err(|error| format!("cannot open {}: {error}", root.display()))
        });
        let opened = opened.await.unwrap_or_else(|error| Err(error.to_string()));
        match opened {
            Ok(tree) => {
                self.trouble = None;
                self.polling.remove(&self.root);
                self.tree = Some(tree);
                // Everything is new.
                self.inbox.lost_track();
            }
            Err(trouble) => {
                if self.trouble.as_ref() != Some(&trouble) {
                    warn!(project = %self.root.display(), reason = %trouble, "the project cannot be watched");
                }
                self.trouble = Some(trouble);
                self.polling.add(&self.root, PollReason::Missing, Instant::now());
            }
        }
    }

    /// Gives up the tree and its watches.
    async fn drop_tree(&mut self) {
        self.marks.clear();
        if let Some(tree) = self.tree.take() {
            // Thousands of watches take their time.
            let _ = tokio::task::spawn_blocking(move || drop(tree)).await;
        }
    }

    /// What the project is asked when nobody says otherwise.
    pub(super) fn own_question(&self) -> Question {
        Question::of_project(&self.root, self.environment.clone(), self.settings.clone())
    }

    /// Decides what to do in the background for the tree as it is.
    pub(super) async fn consider(&mut self) {
        self.save_memo().await;
        self.note_edits();
        let Some(look) = self.tree.as_ref().map(WatchedTree::look) else {
            self.work.stop().await;
            return;
        };
        if self.holds > 0 {
            // The tree is the asker's for now: to follow our own question would take it away.
            // What they joined goes on as long as it is of that tree.
            if !look.digest.is_ok_and(|tree| self.work.is_of_tree(&tree)) {
                self.work.stop().await;
            }
            return;
        }
        if self.doubtful.is_some() && !self.git_has_the_floor() {
            if let Some(question) = self.doubtful.take() {
                self.verify(question).await;
            }
            return;
        }
        let question = self.own_question();
        let facts = match self.facts(question).await {
            Ok(facts) => facts,
            Err(trouble) => {
                self.trouble = Some(trouble);
                return;
            }
        };
        let (question, facts) = facts;
        self.identity = Some(facts.identity.clone());
        self.tell_place(&question, &facts);
        self.follow(&question, &facts).await;
        let look = self.tree.as_ref().map(WatchedTree::look);
        let Some(Look { digest: Ok(tree), .. }) = look else {
            self.work.stop().await;
            return;
        };
        let wanted = Built::new(tree, &question, &facts);
        if self.work.is_of(&wanted) {
            return;
        }
        self.work.stop().await;
        if self.built.as_ref() == Some(&wanted) {
            return;
        }
        if matches!(self.shared.find(&tree, &question, &facts), Finding::Green(_)) {
            debug!(project = %self.root.display(), "known green: nothing to build");
            self.note_built(None);
            return;
        }
        if !self.rivalry.may_build(wanted.identity(), &question.environment) {
            debug!(project = %self.root.display(), "standing down");
            return;
        }
        if self.git_has_the_floor() {
            return;
        }
        let snapshot = code_hash(&tree, &facts.identity);
        info!(project = %self.root.display(), %snapshot, "building the tests");
        let (key, stages) = self.stages(&question, &facts).await;
        self.build((&question, &facts), wanted, key, stages);
    }

    /// Builds now, whatever is known.
    async fn rebuild(&mut self, doing: watch::Sender<String>, reply: oneshot::Sender<Reply>) {
        self.shared.queue.asked(&self.root);
        self.refresh(Trust::Nothing).await;
        let (question, facts) = match self.facts(self.own_question()).await {
            Ok(found) => found,
            Err(message) => return drop(reply.send(Reply::Error { message })),
        };
        self.follow(&question, &facts).await;
        let tree = match self.tree.as_ref().map(WatchedTree::look).map(|look| look.digest) {
            Some(Ok(tree)) => tree,
            Some(Err(why)) => {
                return drop(reply.send(Reply::Error { message: why.join("; ") }));
            }
            None => {
                let message = self.trouble.clone().unwrap_or_default();
                return drop(reply.send(Reply::Error { message }));
            }
        };
        self.work.stop().await;
        let wanted = Built::new(tree, &question, &facts);
        // Somebody waits for the whole of it.
        let (key, _) = self.stages(&question, &facts).await;
        self.build((&question, &facts), wanted, key, Vec::new());
        self.work.tell_build(doing, reply);
    }

    async fn on_work_ended(&mut self, end: End) {
        let of = self.work.finish(&end);
        match end {
            End::GivenUp => {}
            End::Built(build) => {
                self.log_build(&build);
                let success = build.success;
                self.built = of.clone();
                if success {
                    self.note_built(of.as_ref());
                    if let Some(of) = &of {
                        self.judge(of, &build);
                    }
                    self.clean_target();
                }
                self.status.send_modify(|status| status.last_build = Some(build));
                if success && self.settings.background_tests {
                    self.test_in_background(of).await;
                }
            }
            End::Tested(verdict) => self.report(*verdict),
        }
        // What cargo said of thousands of files was held while it built.
        crate::process::trim_memory();
        // The tree may have moved on while this was running.
        if !self.work.is_running() {
            self.consider().await;
        }
    }

    /// Runs everything that was asked, to see whether the answer from records was right.
    async fn verify(&mut self, question: Question) {
        let Some(messages) = self.messages.upgrade() else { return };
        let Ok((question, facts)) = self.facts(question).await else { return };
        self.work.stop().await;
        self.follow(&question, &facts).await;
        let Some(Look { digest, mark }) = self.tree.as_ref().map(WatchedTree::look) else { return };
        let Ok(tree) = digest else { return };
        info!(project = %self.name, snapshot = %tree.short(), "verifying an answer from cache");
        let of = Built::new(tree, &question, &facts);
        let first = Look { digest, mark: self.remember(mark) };
        let shared = Arc::clone(&self.shared);
        let aim = work::Aim::Verify;
        self.work = work::test((question, facts), aim, of, first, messages, shared);
    }

    async fn test_in_background(&mut self, of: Option<Built>) {
        let (Some(of), Some(messages)) = (of, self.messages.upgrade()) else { return };
        // Whoever holds the project joined the build and runs the tests in a moment.
        if self.holds > 0 {
            return;
        }
        let Ok((question, facts)) = self.facts(self.own_question()).await else { return };
        self.follow(&question, &facts).await;
        let Some(Look { digest, mark }) = self.tree.as_ref().map(WatchedTree::look) else { return };
        let first = Look { digest, mark: self.remember(mark) };
        let shared = Arc::clone(&self.shared);
        let aim = work::Aim::Verdict;
        self.work = work::test((question, facts), aim, of, first, messages, shared);
    }

    /// Gathers the facts of a question away from this thread: it may have to ask rustc.
    pub(super) async fn facts(&self, question: Question) -> Result<(Question, Facts), String> {
        let memo = self.shared.paths.cache_dir.clone();
        tokio::task::spawn_blocking(move || match Facts::gather(&question, &memo) {
            Ok(facts) => Ok((question, facts)),
            Err(error) => Err(error.to_string()),
        })
        .await
        .unwrap_or_else(|error| Err(error.to_string()))
    }

    fn report(&mut self, verdict: LastVerdict) {
        info!(
            project = %self.root.display(),
            outcome = %verdict.verdict,
            duration = verdict.elapsed_ms,
            snapshot = verdict.code_hash.map(|code| code.to_string()),
            passed = verdict.counts.passed,
            failed = verdict.counts.failed,
            "verdict"
        );
        self.status.send_modify(|status| status.last_verdict = Some(verdict));
    }

    fn log_build(&self, build: &LastBuild) {
        let (project, duration) = (self.root.display(), build.duration_ms);
        if build.success {
            let rebuilt = build.rebuilt;
            info!(%project, duration, rebuilt, outcome = "pass", "the tests are ready");
        } else if let Some(reason) = &build.ended {
            warn!(%project, duration, outcome = "error", %reason, "the build was ended");
        } else {
            warn!(%project, duration, outcome = "fail", "the tests do not compile");
        }
    }

    /// Writes the memo of digests if it lacks some. Its loss costs time, never an answer.
    async fn save_memo(&mut self) {
        if !std::mem::take(&mut self.memo_is_old) {
            return;
        }
        let Some(tree) = self.tree.take() else { return };
        let cache_dir = self.shared.paths.cache_dir.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let mut tree = tree;
            let file = tree.scope().memo_file(&cache_dir);
            let result = tree.scope_mut().save_memo(&file);
            // Seldom, and after a look at very much of the tree.
            crate::process::trim_memory();
            (tree, result)
        });
        if let Ok((tree, result)) = saved.await {
            self.tree = Some(tree);
            if let Err(error) = result {
                warn!(project = %self.root.display(), %error, "cannot keep the memo of digests");
            }
        }
    }

    fn set_state(&self, state: State, reason: Option<String>) {
        self.status.send_modify(|status| {
            status.state = state;
            status.reason = reason;
        });
        self.shared.status_changed();
    }

    /// Brings the status up to date.
    fn tell(&mut self) {
        let look = self.tree.as_ref().map(WatchedTree::look);
        // Of another tree that is no news: this one may be proven by a run of somebody else.
        let built = self.built.as_ref().map(Built::tree);
        let is_of_this =
            look.as_ref().is_some_and(|look| built.is_some() && look.digest.as_ref().ok() == built);
        let failed = is_of_this
            && self.status.borrow().last_build.as_ref().is_some_and(|build| !build.success);
        let (state, reason) = match (&self.tree, self.work.doing()) {
            (None, _) => (State::Missing, self.trouble.clone()),
            (Some(_), Some((state, doing))) => (state, Some(doing)),
            (Some(_), None) if self.holds > 0 => {
                (State::Paused, Some("someone is testing in the foreground".to_owned()))
            }
            (Some(_), None) if self.calm.reason().is_some() => {
                (State::Paused, self.calm.reason().map(str::to_owned))
            }
            (Some(_), None) if failed => {
                let build = self.status.borrow().last_build.clone();
                let ended = build.and_then(|build| build.ended);
                let why = ended.unwrap_or_else(|| "the tests do not compile".to_owned());
                (State::Failed, Some(why))
            }
            (Some(_), None) if self.rivalry.why().is_some() => (State::Paused, self.rivalry.why()),
            (Some(_), None) => match &look {
                Some(Look { digest: Err(why), .. }) => (State::Idle, Some(why.join("; "))),
                _ if self.calm.is_stale() => {
                    (State::Idle, Some("git's `index.lock` seems to be left behind".to_owned()))
                }
                _ => (State::Idle, self.trouble.clone()),
            },
        };
        let watch = match self.tree.as_ref().map(WatchedTree::blind) {
            None => "nothing: the folder is not there".to_owned(),
            Some(None) => "events".to_owned(),
            Some(Some(why)) => format!("polling: {why}"),
        };
        let tree = look.and_then(|look| look.digest.ok());
        let code: Option<Digest> = tree.and_then(|tree| self.own_code_hash(&tree));
        let courtesy = lock(&self.courtesy).total();
        let changed = self.status.send_if_modified(|status| {
            let fresh = (state, &reason, code, &watch);
            let changed = fresh != (status.state, &status.reason, status.code_hash, &status.watch);
            (status.state, status.reason, status.code_hash, status.watch) =
                (state, reason, code, watch);
            status.courtesy = courtesy;
            changed
        });
        if changed {
            self.shared.status_changed();
        }
    }
}

/// Sleeps until `deadline`; for ever without one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
