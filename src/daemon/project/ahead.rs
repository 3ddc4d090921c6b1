//! Feeds the foresight of a project: which files were edited, what was asked, what git remembers,
//! what the last build was made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::Message;
use super::actor::Actor;
use super::foresight::Known;
use super::history;
use super::stages::Stage;
use super::tree::WatchedTree;
use super::warm;
use super::work::{self, Built};
use crate::model::{Digest, Digester};
use crate::predict::Commit;
use crate::verdict::{Facts, Question};
use crate::workspace::{Members, Part, Repository};

/// What a build has taught.
#[derive(Debug)]
pub(in super::super) enum Lesson {
    /// What the whole is made of.
    Whole(Known),
    /// These packages are other ones by themselves.
    Inseparable(Digest, Vec<String>),
}

impl Actor {
    /// Takes note of what changed since the last time.
    pub(super) fn note_edits(&mut self) {
        let Some(look) = self.tree.as_ref().map(WatchedTree::look) else { return };
        let Ok(digest) = look.digest else { return };
        let before = self.seen.replace((digest, look.mark));
        let Some((_, mark)) = before.filter(|(old, _)| *old != digest) else { return };
        let changed = self.tree.as_ref().and_then(|tree| tree.changed_since(&mark));
        // Of another question's tree it cannot be told, and that is no edit either.
        let Some(changed) = changed.filter(|changed| !changed.is_empty()) else { return };
        let now = Instant::now();
        self.changed = Some(now);
        self.shared.queue.edited(&self.root);
        let files: Vec<_> = changed.into_iter().map(PathBuf::from).collect();
        self.foresight.edited(&files, now);
    }

    /// Takes note of a question.
    pub(super) fn note_question(&mut self, question: &Question) {
        self.shared.queue.asked(&self.root);
        for package in question.selection.packages() {
            self.foresight.asked(package, Instant::now());
        }
    }

    /// Brings up to date what can be known before a build: the packages, and in the background
    /// what git remembers of them.
    async fn look_around(&mut self) {
        let Some(tree) = &self.tree else { return };
        let hasher = tree.scope().hasher();
        let digest = hasher.manifests_digest();
        if self.foresight.members.as_ref().is_none_or(|(known, _)| *known != digest) {
            let (root, manifests) = (self.root.clone(), hasher.manifests());
            let read = tokio::task::spawn_blocking(move || members(&root, &manifests));
            let Ok(members) = read.await else { return };
            self.foresight.members = Some((digest, Arc::new(members)));
        }
        let (Some(git), Some(messages)) = (Repository::around(&self.root), self.messages.upgrade())
        else {
            return;
        };
        let head = git.head();
        if head.is_none() || head == self.foresight.head {
            return;
        }
        let Some((_, members)) = self.foresight.members.clone() else { return };
        // Once for each commit, whatever comes of it.
        self.foresight.head = head;
        let (root, environment) = (self.root.clone(), self.environment.clone());
        tokio::task::spawn_blocking(move || {
            let commits = history::read(&git, &root, &members, &environment);
            debug!(project = %root.display(), commits = commits.len(), "read the history");
            // The project may have left the config meanwhile.
            let _ = messages.send(Message::History(commits));
        });
    }

    /// Takes over what git remembers.
    pub(super) fn remember_history(&mut self, commits: Vec<Commit>) {
        self.foresight.history = commits;
    }

    /// What to build before the whole, and by which key what comes of it is to be remembered.
    pub(super) async fn stages(
        &mut self,
        question: &Question,
        facts: &Facts,
    ) -> (Digest, Vec<Stage>) {
        self.look_around().await;
        let manifests = self.tree.as_ref().map(|tree| tree.scope().hasher().manifests_digest());
        let mut key = Digester::new("what a build is made of 1");
        key.digest(&manifests.unwrap_or_else(|| Digester::new("none").finish()));
        key.digest(&facts.identity.digest());
        key.field(&question.selection.canonical(&question.root));
        let key = key.finish();
        let choices = self.foresight.choose(key, Instant::now());
        let stages = choices.into_iter().filter_map(|choice| {
            let selection = question.selection.narrowed(&Part {
                packages: &choice.specs,
                targets: &choice.filters,
                only_targets: choice.only_filters,
                has_feature: &|feature| choice.features.has(feature),
            })?;
            let (specs, what, units) = (choice.specs, choice.what, choice.units);
            Some(Stage { selection, specs, what, units })
        });
        (key, stages.collect())
    }

    /// Builds in the background, the stages first.
    pub(super) fn build(
        &mut self,
        of: (&Question, &Facts),
        wanted: Built,
        key: Digest,
        stages: Vec<Stage>,
    ) {
        let teach = (key, self.messages.clone());
        let courtesy = Arc::clone(&self.courtesy);
        self.work = work::build(of, wanted, stages, teach, courtesy, &self.shared);
    }

    /// Has what was built looked at, unless somebody is about to do so.
    pub(super) fn warm_up(&mut self, of: Built) {
        if self.holds == 0 {
            let programs = self.foresight.all_programs(Instant::now());
            self.work = warm::look_at(programs, of, &self.root, &self.shared);
        }
    }

    /// Takes note of what a build has taught.
    pub(super) fn learn(&mut self, lesson: Lesson) {
        match lesson {
            Lesson::Whole(known) => {
                self.foresight.learn(known);
                warm::read_in(self.foresight.programs(Instant::now()));
            }
            Lesson::Inseparable(key, specs) => {
                debug!(project = %self.root.display(), ?specs, "not the same by themselves");
                if let Some(known) = self.foresight.learn_inseparable(key, specs).cloned() {
                    self.keep(|state| state.inseparable = known);
                }
            }
        }
    }

    /// The tree as it is needs no build any more.
    pub(super) fn note_built(&mut self, of: Option<&Built>) {
        let tree = self.tree.as_ref().map(WatchedTree::look).and_then(|look| look.digest.ok());
        if of.is_none_or(|of| Some(of.tree()) == tree.as_ref()) {
            self.foresight.is_built();
        }
    }
}

/// The packages of these manifests, relative to the root; those outside are nobody's edits.
fn members(root: &Path, manifests: &[PathBuf]) -> Members {
    Members::of(manifests.iter().filter_map(|manifest| {
        let below = manifest.strip_prefix(root).ok()?.to_owned();
        Some((below, std::fs::read_to_string(manifest).ok()?))
    }))
}
