//! The project's task: what it does when messages come, quiet periods pass and builds end.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::calm::Calm;
use super::courtesy::Courtesy;
use super::foresight::Foresight;
use super::inbox::Inbox;
use super::reading::Trust;
use super::rivalry::Rivalry;
use super::tree::WatchedTree;
use super::work::{Built, News, Work};
use super::{Message, Shared};
use crate::config;
use crate::model::Digest;
use crate::process::Environment;
use crate::protocol::{self, CacheUse, ProjectStatus, Reply, State};
use crate::verdict::{FilesMark, Question};
use crate::watcher::{Debounce, Polling};
use crate::workspace::{BuildVariables, Identity};

/// The state of one project; nobody else touches it.
pub(super) struct Actor {
    pub(super) root: PathBuf,
    pub(super) name: String,
    pub(super) settings: config::Settings,
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Arc<Inbox>,
    /// For background work to speak to this task; weak, so that it does not keep it alive.
    pub(super) messages: mpsc::WeakUnboundedSender<Message>,
    pub(super) status: watch::Sender<ProjectStatus>,
    /// None while the folder is not there.
    pub(super) tree: Option<WatchedTree>,
    /// Why there is no tree.
    pub(super) trouble: Option<String>,
    pub(super) debounce: Debounce,
    pub(super) polling: Polling,
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
    pub(super) built: Option<Built>,
    /// Of which tree the tests in the background were given up for good, and why.
    pub(super) overdue: Option<(Digest, String)>,
    /// Whether ours and somebody else's builds undo each other's work.
    pub(super) rivalry: Rivalry,
    /// What of a command's environment decides a build, as it is kept over a restart. Without it
    /// the environment is the one that we were started with.
    pub(super) shell: Option<BuildVariables>,
    /// When the target directory was last looked through for what is stale.
    pub(super) cleaned: Option<Instant>,
    /// The tree as edits were last looked for.
    pub(super) seen: Option<(Digest, FilesMark)>,
    /// When files were last found changed.
    pub(super) changed: Option<Instant>,
    /// What will be wanted next.
    pub(super) foresight: Foresight,
    /// What git does.
    pub(super) calm: Calm,
    /// A batch of changes waits until git has written all of its files.
    postponed: bool,
    /// The memo on disk lacks digests.
    pub(super) memo_is_old: bool,
    /// Marks that were given out: the number on the wire and the hasher's own.
    pub(super) marks: VecDeque<(u64, FilesMark)>,
    pub(super) next_moment: u64,
}

impl Actor {
    pub(super) fn new(
        project: &config::Project,
        shared: Arc<Shared>,
        inbox: Arc<Inbox>,
        messages: mpsc::WeakUnboundedSender<Message>,
    ) -> (Self, watch::Receiver<ProjectStatus>) {
        let known = shared.cache.state(&project.path);
        let environment = shared.environment.clone();
        let environment = match &known.shell {
            Some(shell) => shell.within(environment),
            None => environment,
        };
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
            last_verdict: known.last,
            cache: CacheUse::default(),
            verified: 0,
            wrong: 0,
            flaky: Vec::new(),
            courtesy: protocol::Courtesy::default(),
        });
        let actor = Self {
            root: project.path.clone(),
            name: project.name().into_owned(),
            environment,
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
            shell: known.shell,
            cleaned: None,
            overdue: None,
            seen: None,
            changed: None,
            foresight: Foresight::new(known.inseparable),
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
                    // It no longer goes before everybody else: it begins again, like any other.
                    News::Deserted => {
                        self.work.stop().await;
                        self.consider().await;
                    }
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
                self.is_called_from(*environment);
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
}

/// Sleeps until `deadline`; for ever without one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
