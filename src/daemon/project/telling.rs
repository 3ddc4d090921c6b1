//! What `status` says of a project.

use std::sync::Arc;

use tracing::{info, warn};

use super::super::lock;
use super::actor::Actor;
use super::tree::WatchedTree;
use super::work::Built;
use crate::cache::ProjectState;
use crate::model::Digest;
use crate::protocol::{LastVerdict, State};
use crate::verdict::TreeState;

impl Actor {
    pub(super) fn report(&mut self, verdict: LastVerdict) {
        info!(
            project = %self.root.display(),
            outcome = %verdict.verdict,
            duration = verdict.elapsed_ms,
            snapshot = verdict.code_hash.map(|code| code.to_string()),
            passed = verdict.counts.passed,
            failed = verdict.counts.failed,
            "verdict"
        );
        self.overdue = None;
        self.status.send_modify(|status| status.last_verdict = Some(verdict));
    }

    /// Keeps something of the project over restarts. Nobody waits for it: whoever asks has an answer
    /// before the disk has, and what is lost is found out again.
    pub(super) fn keep(&self, change: impl FnOnce(&mut ProjectState) + Send + 'static) {
        let (root, shared) = (self.root.clone(), Arc::clone(&self.shared));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.cache.update_state(&root, change) {
                warn!(project = %root.display(), %error, "not kept over a restart");
            }
        });
    }

    pub(super) fn set_state(&self, state: State, reason: Option<String>) {
        self.status.send_modify(|status| {
            status.state = state;
            status.reason = reason;
        });
        self.shared.status_changed();
    }

    /// Why the tests of this tree were given up, if they were.
    fn why_no_verdict<M>(&self, look: Option<&TreeState<M>>) -> Option<String> {
        let tree = look?.digest.as_ref().ok()?;
        let (of, why) = self.overdue.as_ref()?;
        (of == tree).then(|| why.clone())
    }

    /// Brings the status up to date.
    pub(super) fn tell(&mut self) {
        let look = self.tree.as_ref().map(WatchedTree::look);
        // Of another tree that is no news: this one may be proven by a run of somebody else.
        let built = self.built.as_ref().map(Built::tree);
        let is_of_this =
            look.as_ref().is_some_and(|look| built.is_some() && look.digest.as_ref().ok() == built);
        let failed = is_of_this
            && self.status.borrow().last_build.as_ref().is_some_and(|build| !build.success);
        // What is done beside is nothing to wait for.
        let doing = self.work.doing().filter(|(state, _)| *state != State::Idle);
        let (state, reason) = match (&self.tree, doing) {
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
                Some(TreeState { digest: Err(why), .. }) => (State::Idle, Some(why.join("; "))),
                _ if self.calm.is_stale() => {
                    (State::Idle, Some("git's `index.lock` seems to be left behind".to_owned()))
                }
                _ => (
                    State::Idle,
                    self.trouble.clone().or_else(|| self.why_no_verdict(look.as_ref())),
                ),
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
