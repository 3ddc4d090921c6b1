//! Keeps a project's tree fresh: takes events, polls what has no events, waits for quiet and for
//! git, and answers what the tree is now and what has changed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info, warn};

use super::super::inbox::{Inbox, Taken};
use super::super::shared::Shared;
use super::super::sync::{lock, off_thread};
use super::git_gate::{GitActivity, GitGate};
use super::status::StatusTeller;
use super::tree::WatchedTree;
use crate::config;
use crate::model::{Digest, OsText};
use crate::process::Environment;
use crate::protocol::{Mark, Reply, State};
use crate::verdict::{self, Facts, ProjectFiles, Question, Refresh, TreeState};
use crate::watcher::{Debounce, PollReason, Polling};

/// So many barriers may leave watches in doubt before the tree is read as if there were none.
const DOUBTFUL_BARRIERS: usize = 5;
/// How many marks are remembered: some for each run by a client. A forgotten one costs the record of
/// a run.
const REMEMBERED_MARKS: usize = 4_096;
/// How many changed files a reply names.
const NAMED_FILES: usize = 20;

/// How far events are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventTrust {
    /// What no event told of is unchanged.
    All,
    /// Folders are watched, but every file is looked at: no event tells of a write through a
    /// memory map, or through a link that was made outside the tree.
    Folders,
    /// The watches themselves are in doubt.
    Nothing,
}

/// A project's tree, and what keeps it fresh.
pub(super) struct FreshTree {
    root: PathBuf,
    shared: Arc<Shared>,
    status: StatusTeller,
    inbox: Arc<Inbox>,
    /// The tree is opened for the project's own question: in this environment, by these settings.
    environment: Arc<Environment>,
    settings: config::Settings,
    /// None while the folder is not there.
    tree: Option<WatchedTree>,
    /// Why there is no tree.
    trouble: Option<String>,
    debounce: Debounce,
    polling: Polling,
    git: GitGate,
    /// A batch of changes waits until git has written all of its files.
    is_postponed: bool,
    /// The memo on disk lacks digests.
    is_memo_old: bool,
    /// The tree when edits were last taken.
    last_seen: Option<(Digest, verdict::FilesMark)>,
    /// When files were last found changed.
    last_edit: Option<Instant>,
    /// The marks that were given out, by their numbers.
    marks: VecDeque<(u64, verdict::FilesMark)>,
    next_moment: u64,
}

impl FreshTree {
    pub(super) fn new(
        root: PathBuf,
        environment: Arc<Environment>,
        settings: config::Settings,
        shared: Arc<Shared>,
        inbox: Arc<Inbox>,
        status: StatusTeller,
    ) -> Self {
        Self {
            root,
            shared,
            status,
            inbox,
            debounce: Debounce::new(settings.debounce),
            environment,
            settings,
            tree: None,
            trouble: None,
            polling: Polling::default(),
            git: GitGate::default(),
            is_postponed: false,
            is_memo_old: false,
            last_seen: None,
            last_edit: None,
            marks: VecDeque::new(),
            next_moment: 0,
        }
    }

    /// The snapshot as of the last refresh; none without a tree.
    pub(super) fn look(&self) -> Option<TreeState<verdict::FilesMark>> {
        self.tree.as_ref().map(WatchedTree::look)
    }

    /// The snapshot's digest, if it is known.
    pub(super) fn tree_digest(&self) -> Option<Digest> {
        self.look()?.digest.ok()
    }

    /// Why there is no tree; empty if there is one.
    pub(super) fn trouble(&self) -> String {
        self.trouble.clone().unwrap_or_default()
    }

    /// How the tree is watched, for `status`.
    pub(super) fn watch_text(&self) -> String {
        match self.tree.as_ref().map(WatchedTree::blind) {
            None => "nothing: the folder is not there".to_owned(),
            Some(None) => "events".to_owned(),
            Some(Some(why)) => format!("polling: {why}"),
        }
    }

    /// Digest and paths of the workspace's manifests.
    pub(super) fn manifests(&self) -> Option<(Digest, Vec<PathBuf>)> {
        let hasher = self.tree.as_ref()?.scope().hasher();
        Some((hasher.manifests_digest(), hasher.manifests()))
    }

    /// Whether a look at every file takes no time that a client would notice.
    pub(super) fn is_small(&self) -> bool {
        self.tree.as_ref().is_some_and(WatchedTree::is_small)
    }

    /// There is something in the inbox.
    pub(super) fn touched(&mut self) {
        self.debounce.touch(Instant::now());
    }

    /// Reads what is in the inbox at once, for those who watch; everything else still waits for
    /// quiet. Whether something was touched.
    pub(super) async fn look_early(&mut self, barrier: Option<bool>) -> bool {
        let before = self.look();
        match barrier {
            Some(seen) => self.catch_up(seen).await,
            None => self.refresh(EventTrust::All).await,
        }
        self.touched();
        let Some((before, tree)) = before.zip(self.tree.as_ref()) else { return true };
        tree.changed_since(&before.mark).is_none_or(|changed| !changed.is_empty())
    }

    /// When [`Self::on_time`] has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let due = [self.debounce.due(), self.polling.next_due(), self.git.due()];
        due.into_iter().flatten().min()
    }

    /// Refreshes the tree after a quiet period, or when a folder without events or git is due for a
    /// look. Whether background jobs are to be considered.
    pub(super) async fn on_time(&mut self) -> bool {
        let now = Instant::now();
        let polled = !self.polling.take_due(now).is_empty();
        let git_due = self.git.is_due(now);
        let is_due = self.debounce.take(now) || polled || self.is_postponed;
        if !is_due && !git_due {
            return false;
        }
        if !self.ask_git(GitGate::may_read).await {
            self.is_postponed |= is_due;
            if polled {
                self.polling.looked(&self.root, false, Instant::now());
            }
            return false;
        }
        if !is_due {
            return true;
        }
        if std::mem::take(&mut self.is_postponed) {
            // Events of the files that git wrote last may be on their way. Where that cannot be
            // told, they make another batch.
            self.shared.barrier().await;
        }
        let before = self.tree_digest();
        self.refresh(EventTrust::All).await;
        if polled {
            self.polling.looked(&self.root, self.tree_digest() != before, Instant::now());
        }
        true
    }

    /// Whether git lets background jobs begin.
    pub(super) async fn git_lets_work_begin(&mut self) -> bool {
        let last_edit = self.last_edit;
        self.ask_git(|gate, git, now| gate.may_work(git, last_edit, now)).await
    }

    /// What git holds back, for `status`.
    pub(super) fn git_reason(&self) -> Option<&str> {
        self.git.reason()
    }

    /// Whether a lock of git is ignored.
    pub(super) fn has_leftover_lock(&self) -> bool {
        self.git.has_leftover_lock()
    }

    async fn ask_git(
        &mut self,
        ask: impl FnOnce(&mut GitGate, GitActivity, Instant) -> bool,
    ) -> bool {
        let root = self.root.clone();
        let activity = off_thread(move || GitActivity::around(&root)).await;
        let project = self.root.display();
        let had_leftover_lock = self.git.has_leftover_lock();
        let reason = self.git.reason().map(str::to_owned);
        let may = ask(&mut self.git, activity, Instant::now());
        if self.git.has_leftover_lock() && !had_leftover_lock {
            warn!(%project, "ignoring a leftover `index.lock` of git: remove it if no git runs");
        }
        if let Some(now) = self.git.reason().filter(|now| reason.as_deref() != Some(now)) {
            info!(%project, reason = now, "no background job begins");
        }
        may
    }

    /// The files that changed since the last call; none where that is unknown or no edit.
    pub(super) fn take_edits(&mut self) -> Vec<PathBuf> {
        let Some(TreeState { digest: Ok(digest), mark }) = self.look() else { return Vec::new() };
        let before = self.last_seen.replace((digest, mark));
        let Some((_, mark)) = before.filter(|(old, _)| *old != digest) else { return Vec::new() };
        // The mark may be one of another question's tree: no edit either.
        let changed = self.tree.as_ref().and_then(|tree| tree.changed_since(&mark));
        let changed = changed.unwrap_or_default();
        if !changed.is_empty() {
            self.last_edit = Some(Instant::now());
        }
        changed.into_iter().map(PathBuf::from).collect()
    }

    /// Brings the tree up to when a barrier was passed (`seen`), or later; without one, to now.
    pub(super) async fn catch_up(&mut self, mut seen: bool) {
        for _ in 0..DOUBTFUL_BARRIERS {
            if !seen {
                break;
            }
            self.refresh(EventTrust::All).await;
            if !lock(&self.shared.watcher).in_doubt() {
                return;
            }
            // A refresh can bring up more: a folder that was replaced while its parent had no
            // watch.
            seen = self.shared.barrier().await;
        }
        self.refresh(EventTrust::Nothing).await;
    }

    /// Brings the tree up to date.
    pub(super) async fn refresh(&mut self, trust: EventTrust) {
        let is_new = self.tree.is_none();
        if is_new {
            self.open().await;
        }
        if !self.read(trust, is_new).await {
            info!(project = %self.root.display(), "the project's folder is gone or another one");
            self.close().await;
            self.open().await;
            self.read(trust, true).await;
        }
    }

    /// Reads again what changed in the tree, if there is one. False, and nothing was read, if another
    /// folder is in its place by now; one that `is_new` was opened just now.
    async fn read(&mut self, trust: EventTrust, is_new: bool) -> bool {
        let Some(tree) = &self.tree else { return true };
        self.debounce.flush();
        let taken = self.inbox.take();
        let how = match trust {
            EventTrust::All => taken,
            EventTrust::Folders => Some(Taken::with_files(taken)),
            EventTrust::Nothing => Some(Taken { refresh: Refresh::All, doubt: true }),
        };
        if how.is_some() || tree.blind().is_some() {
            self.status.change(|status| (status.state, status.reason) = (State::Hashing, None));
        }
        let refreshed = self.on_blocking_thread(move |tree| {
            (is_new || tree.is_in_place()).then(|| (tree.refresh(how), tree.blind().is_some()))
        });
        // After a panic there is no tree.
        let Some(refreshed) = refreshed.await else { return true };
        let Some((is_memo_old, is_blind)) = refreshed else { return false };
        self.is_memo_old |= is_memo_old;
        match is_blind {
            true => self.polling.add(&self.root, PollReason::Unwatched, Instant::now()),
            false => drop(self.polling.remove(&self.root)),
        }
        true
    }

    /// Does something with the tree that may take long, while other projects have questions too.
    async fn on_blocking_thread<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut WatchedTree) -> T + Send + 'static,
    ) -> Option<T> {
        let mut tree = self.tree.take()?;
        let acted = tokio::task::spawn_blocking(move || {
            let result = act(&mut tree);
            (tree, result)
        });
        match acted.await {
            Ok((tree, result)) => {
                self.tree = Some(tree);
                Some(result)
            }
            // A panic: the tree is gone with it, and the next refresh starts anew.
            Err(error) => {
                warn!(project = %self.root.display(), %error, "reading the tree failed");
                None
            }
        }
    }

    /// Makes the tree that of this question, and reads it anew if that is another one.
    pub(super) async fn follow(&mut self, question: &Question, facts: &Facts) {
        if self.tree.as_mut().is_some_and(|tree| tree.follow(question, facts)) {
            debug!(project = %self.root.display(), "another environment: reading everything again");
            self.refresh(EventTrust::All).await;
        }
    }

    /// Looks at every file. Whether one was not as it was known.
    pub(super) async fn look_at_files(&mut self) -> bool {
        let Some(before) = self.look() else { return false };
        self.refresh(EventTrust::Folders).await;
        let Some(tree) = &self.tree else { return true };
        let changed = tree.changed_since(&before.mark).unwrap_or_default();
        if let Some(first) = changed.first() {
            let (project, count) = (self.root.display(), changed.len());
            // Or it changed after the question came.
            debug!(%project, count, %first, "no event told of a change");
        }
        !changed.is_empty()
    }

    /// What was touched since a mark that this daemon gave out.
    pub(super) async fn settle(&mut self, mark: Mark, seen: bool) -> Reply {
        self.catch_up(seen).await;
        self.look_at_files().await;
        let Some(tree) = &self.tree else { return Reply::Error { message: self.trouble() } };
        let look = tree.look();
        let own = mark.daemon == self.shared.id;
        let then = self.marks.iter().find(|(moment, _)| own && *moment == mark.moment);
        let mut changed = then.and_then(|(_, then)| tree.changed_since(then));
        // Since an unknown moment, or one of another question's tree, anything may have changed.
        let unknown = || vec!["what has changed since is not known".to_owned()];
        let tree = look.digest.and_then(|tree| changed.as_ref().map(|_| tree).ok_or_else(unknown));
        if let Some(changed) = &mut changed {
            changed.truncate(NAMED_FILES);
        }
        Reply::Settled { tree, mark: self.remember(look.mark), changed }
    }

    /// Which of the files does no snapshot hold?
    pub(super) fn uncounted(&self, paths: Vec<PathBuf>) -> Reply {
        let Some(tree) = &self.tree else { return Reply::Error { message: self.trouble() } };
        let hasher = tree.scope().hasher();
        let paths = paths.into_iter().filter(|path| !hasher.counts(path));
        Reply::Paths { paths: paths.map(|path| OsText(path.into_os_string())).collect() }
    }

    /// Keeps the listing of a snapshot for explanations.
    pub(super) async fn keep_listing(&mut self, tree: Digest, code_hash: Digest) -> Reply {
        let shared = Arc::clone(&self.shared);
        let keep = move |watched: &mut WatchedTree| {
            watched.scope().keep_listing(&shared.cache, &tree, &code_hash);
        };
        self.on_blocking_thread(keep).await;
        Reply::Done
    }

    /// Gives out a mark.
    pub(super) fn remember(&mut self, mark: verdict::FilesMark) -> Mark {
        let moment = self.next_moment;
        self.next_moment += 1;
        self.marks.push_back((moment, mark));
        if self.marks.len() > REMEMBERED_MARKS {
            self.marks.pop_front();
        }
        Mark { daemon: self.shared.id, moment }
    }

    /// The tree is opened in this environment from now on.
    pub(super) fn set_environment(&mut self, environment: Arc<Environment>) {
        self.environment = environment;
    }

    /// Other settings are in force.
    pub(super) async fn set_settings(&mut self, settings: config::Settings) {
        self.debounce = Debounce::new(settings.debounce);
        self.settings = settings;
        self.close().await;
        self.refresh(EventTrust::All).await;
    }

    /// Makes the tree of a project that has none, if its folder is there.
    async fn open(&mut self) {
        let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.inbox));
        let (root, settings) = (self.root.clone(), self.settings.clone());
        let environment = Arc::clone(&self.environment);
        // Never closed. Thousands of projects may be opened at once.
        let turn = Arc::clone(&self.shared.opening).acquire_owned().await;
        let opened = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            std::fs::metadata(&root)
                .map_err(|error| format!("cannot open {}: {error}", root.display()))?;
            let question = Question::of_project(&root, (*environment).clone(), settings);
            let facts = Facts::gather(&question, &shared.paths.cache_dir)
                .map_err(|error| error.to_string())?;
            let mut scope =
                ProjectFiles::new(&question, &facts).map_err(|error| error.to_string())?;
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
                    let project = self.root.display();
                    warn!(%project, reason = %trouble, "the project cannot be watched");
                }
                self.trouble = Some(trouble);
                self.polling.add(&self.root, PollReason::Missing, Instant::now());
            }
        }
    }

    /// Gives up the tree and its watches.
    async fn close(&mut self) {
        self.marks.clear();
        if let Some(tree) = self.tree.take() {
            // Thousands of watches take their time.
            let _ = tokio::task::spawn_blocking(move || drop(tree)).await;
        }
    }

    /// Writes the memo of digests if it lacks some. Its loss costs time, never an answer.
    pub(super) async fn save_memo(&mut self) {
        if !std::mem::take(&mut self.is_memo_old) {
            return;
        }
        let cache_dir = self.shared.paths.cache_dir.clone();
        let saved = self.on_blocking_thread(move |tree| {
            let file = tree.scope().memo_file(&cache_dir);
            let result = tree.scope_mut().save_memo(&file);
            // Seldom, and after much of the tree was read.
            crate::process::trim_memory();
            result
        });
        if let Some(Err(error)) = saved.await {
            warn!(project = %self.root.display(), %error, "cannot keep the memo of digests");
        }
    }
}
