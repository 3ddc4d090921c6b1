//! Questions to a project: the lookup for the tree as it is, and what changed since.

use std::path::PathBuf;
use std::time::Instant;

use tracing::debug;

use super::actor::Actor;
use super::reading::Trust;
use super::tree::WatchedTree;
use crate::model::{Digest, OsText};
use crate::protocol::{Ask, Mark, Miss, Reply};
use crate::verdict::{self, Finding, Question, TreeState, answer_of, code_hash, known_failure};

/// How many marks are remembered: some for each question that is being run somewhere. One that
/// is forgotten costs the record of a run.
const MARKS: usize = 4_096;
/// How often a tree that changes while it is asked about is looked up anew.
const ROUNDS: usize = 3;
/// How many changed files are named in a reply.
const NAMED: usize = 20;

impl Actor {
    /// Answers from records, or says what the asker needs to go on.
    pub(super) async fn answer(&mut self, ask: Ask, seen: bool) -> Reply {
        let typed = ask.cargo_args().map(|cargo| (ask.dir.clone(), cargo));
        let (harness, settings) = (ask.harness_args(), self.settings.clone());
        let question = Question::asked(&self.root, typed, harness, ask.environment, settings);
        let (question, facts) = match self.facts(question).await {
            Ok(facts) => facts,
            Err(message) => return Reply::Error { message },
        };
        self.note_question(&question);
        self.is_called_from(question.environment.clone());
        self.tell_place(&question, &facts);
        self.identity = Some(facts.identity.clone());
        self.catch_up(seen).await;
        self.note_edits();
        self.follow(&question, &facts).await;
        if self.tree.as_ref().is_some_and(WatchedTree::is_small) {
            self.look_at_files().await;
        }
        let mut rounds = 0;
        let (tree, mark, reason, known) = loop {
            let Some(TreeState { digest, mark }) = self.tree.as_ref().map(WatchedTree::look) else {
                let message = self.trouble.clone().unwrap_or_default();
                return Reply::Error { message };
            };
            let tree = match digest {
                Ok(tree) => tree,
                Err(why) => {
                    let reason = format!("the snapshot is unknown: {}", why.join("; "));
                    let mark = self.remember(mark);
                    return Reply::Miss(Miss { tree: None, mark, reason, known_failure: None });
                }
            };
            let (reason, known) = if ask.no_cache {
                ("asked to run".to_owned(), None)
            } else {
                match self.shared.find(&tree, &question, &facts) {
                    Finding::Green(record) => {
                        self.shared.claim(&question, &tree, &facts, &record);
                        self.sample(question);
                        return Reply::Answer(answer_of(&record));
                    }
                    Finding::Red(record) => {
                        ("it failed before".to_owned(), Some(known_failure(&record)))
                    }
                    Finding::Nothing(why) => (why, None),
                }
            };
            // What is run now will be kept for this tree: it must be the one on disk. Where
            // somebody writes all the time, the run will be found to have been disturbed.
            rounds += 1;
            if rounds > ROUNDS || !self.look_at_files().await {
                break (tree, mark, reason, known);
            }
        };
        // The asker builds now. Work on the very same thing goes on: the asker joins it, if it
        // gets on.
        let wanted = super::work::Built::new(tree, &question, &facts);
        self.work.stop_unless(&wanted, self.shared.conditions.hold_back()).await;
        let mark = self.remember(mark);
        Reply::Miss(Miss { tree: Some(tree), mark, reason, known_failure: known })
    }

    /// What was touched since a mark that this daemon gave out.
    pub(super) async fn settle(&mut self, mark: Mark, seen: bool) -> Reply {
        self.catch_up(seen).await;
        self.look_at_files().await;
        let Some(tree) = &self.tree else {
            return Reply::Error { message: self.trouble.clone().unwrap_or_default() };
        };
        let look = tree.look();
        let own = mark.daemon == self.shared.id;
        let then = self.marks.iter().find(|(moment, _)| own && *moment == mark.moment);
        let mut changed = then.and_then(|(_, then)| tree.changed_since(then));
        // Of a moment that is not known, or is that of another question with other files, it
        // cannot be told what changed, nor is this the tree that is meant.
        let tree = changed.as_ref().and_then(|_| look.digest.ok());
        if let Some(changed) = &mut changed {
            changed.truncate(NAMED);
        }
        Reply::Settled { tree, mark: self.remember(look.mark), changed }
    }

    /// Takes note of an answer from cache: some are verified.
    fn sample(&mut self, question: Question) {
        self.owed += self.settings.verify_percent;
        if self.owed >= 100 {
            self.owed -= 100;
            self.doubtful = Some(question);
            self.debounce.touch(Instant::now());
        }
    }

    /// Looks at every file: no event tells of a write through a shared memory map, or through a
    /// link that was made outside the tree. Tells whether some file was not as it was known.
    async fn look_at_files(&mut self) -> bool {
        let mark = |tree: &WatchedTree| tree.look().mark;
        let Some(before) = self.tree.as_ref().map(mark) else { return false };
        self.refresh(Trust::Folders).await;
        let Some(tree) = &self.tree else { return true };
        let changed = tree.changed_since(&before).unwrap_or_default();
        if let Some(first) = changed.first() {
            // Or it changed after the question came.
            debug!(project = %self.name, count = changed.len(), %first, "no event told of a change");
        }
        !changed.is_empty()
    }

    /// Which of the files does no snapshot hold?
    pub(super) fn uncounted(&self, paths: Vec<PathBuf>) -> Reply {
        let Some(tree) = &self.tree else {
            return Reply::Error { message: self.trouble.clone().unwrap_or_default() };
        };
        let hasher = tree.scope().hasher();
        let paths = paths.into_iter().filter(|path| !hasher.counts(path));
        Reply::Paths { paths: paths.map(|path| OsText(path.into_os_string())).collect() }
    }

    /// The code hash of a tree as this project's own questions have it.
    pub(super) fn own_code_hash(&self, tree: &Digest) -> Option<Digest> {
        self.identity.as_ref().map(|identity| code_hash(tree, identity))
    }

    pub(super) fn remember(&mut self, mark: verdict::FilesMark) -> Mark {
        let moment = self.next_moment;
        self.next_moment += 1;
        self.marks.push_back((moment, mark));
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
        Mark { daemon: self.shared.id, moment }
    }
}
