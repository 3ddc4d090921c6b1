//! What to do in the background for the tree as it is, and what to make of it when it has ended.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};

use super::actor::Actor;
use super::reading::Trust;
use super::tree::WatchedTree;
use super::work::{self, Built, End};
use crate::protocol::{LastBuild, Reply};
use crate::verdict::{Facts, Finding, Question, TreeState, code_hash};

impl Actor {
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
        let Some(TreeState { digest: Ok(tree), .. }) = look else {
            self.work.stop().await;
            return;
        };
        let wanted = Built::new(tree, &question, &facts);
        if self.work.is_of(&wanted) {
            return;
        }
        // Who waits for a build waits for that of the newest tree.
        let told = self.work.take_told();
        self.work.stop().await;
        if told.is_empty() && !self.is_to_build(&wanted, &question, &facts) {
            return;
        }
        let snapshot = code_hash(wanted.tree(), &facts.identity);
        info!(project = %self.root.display(), %snapshot, "building the tests");
        let (key, stages) = self.stages(&question, &facts).await;
        let stages = if told.is_empty() { stages } else { Vec::new() };
        self.build((&question, &facts), wanted, key, stages);
        for (doing, reply) in told {
            self.work.tell_build(doing, reply);
        }
    }

    /// Whether there is a use in a build that nobody waits for.
    fn is_to_build(&mut self, wanted: &Built, question: &Question, facts: &Facts) -> bool {
        if self.built.as_ref() == Some(wanted) {
            return false;
        }
        if matches!(self.shared.find(wanted.tree(), question, facts), Finding::Green(_)) {
            debug!(project = %self.root.display(), "known green: nothing to build");
            self.note_built(None);
            return false;
        }
        if !self.rivalry.may_build(wanted.identity(), &question.environment) {
            debug!(project = %self.root.display(), "standing down");
            return false;
        }
        !self.git_has_the_floor()
    }

    /// Builds now, whatever is known.
    pub(super) async fn rebuild(
        &mut self,
        doing: watch::Sender<String>,
        reply: oneshot::Sender<Reply>,
    ) {
        self.shared.queue.asked(&self.root);
        self.refresh(Trust::Nothing).await;
        let (question, facts) = match self.facts(self.own_question()).await {
            Ok(found) => found,
            Err(message) => return drop(reply.send(Reply::Error { message })),
        };
        self.tell_place(&question, &facts);
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

    pub(super) async fn on_work_ended(&mut self, end: End) {
        let of = self.work.finish(&end);
        match end {
            End::GivenUp | End::Warm => {}
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
                match of.filter(|_| success) {
                    Some(of) if self.settings.background_tests => {
                        self.test_in_background(of).await;
                    }
                    Some(of) => self.warm_up(of),
                    None => {}
                }
            }
            End::Tested(verdict) => self.report(*verdict),
            End::Overdue(why) => self.overdue = of.map(|of| (*of.tree(), why)),
        }
        // What cargo said of thousands of files was held while it built.
        crate::process::trim_memory();
        // The tree may have moved on while this was running.
        if !self.work.is_running() {
            self.consider().await;
        }
    }

    /// Runs everything that was asked, to see whether the answer from records was right.
    pub(super) async fn verify(&mut self, question: Question) {
        let Some(messages) = self.messages.upgrade() else { return };
        let Ok((question, facts)) = self.facts(question).await else { return };
        self.work.stop().await;
        self.follow(&question, &facts).await;
        let Some(TreeState { digest, mark }) = self.tree.as_ref().map(WatchedTree::look) else {
            return;
        };
        let Ok(tree) = digest else { return };
        info!(project = %self.name, snapshot = %tree.short(), "verifying an answer from cache");
        let of = Built::new(tree, &question, &facts);
        let first = TreeState { digest, mark: self.remember(mark) };
        let shared = Arc::clone(&self.shared);
        let aim = work::Aim::Verify;
        self.work = work::test((question, facts), aim, of, first, messages, shared);
    }

    pub(super) async fn test_in_background(&mut self, of: Built) {
        let Some(messages) = self.messages.upgrade() else { return };
        // Whoever holds the project joined the build and runs the tests in a moment.
        if self.holds > 0 {
            return;
        }
        let Ok((question, facts)) = self.facts(self.own_question()).await else { return };
        self.follow(&question, &facts).await;
        let Some(TreeState { digest, mark }) = self.tree.as_ref().map(WatchedTree::look) else {
            return;
        };
        let first = TreeState { digest, mark: self.remember(mark) };
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

    pub(super) fn log_build(&self, build: &LastBuild) {
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
}
