//! The binary level: a test target that is the same program as when it was green, and would
//! consult the same things, is green.
//!
//! ```text
//! plan ─▶ key (the program's loadable parts, arguments, folder, variables, toolchain)
//!      ─▶ records under the key ─▶ every input as it was? ─▶ green from its record
//!      ─▶ else run, observed ─▶ what it consulted, if it holds still ─▶ a new record
//! ```
//!
//! **What makes a record believable.** A path's stamp is taken while the run waits in its first
//! call on it. After the run the stamp must be the same, and the path must have been left alone
//! for so long before the run that no change can hide behind equal times; then what is digested
//! now is what the run could read. Anything else keeps nothing.
//!
//! **What is no input.** What the run made itself; what it cleared away of an earlier run's
//! leftovers below the target folder and the temporary one; facts that tell how large the machine
//! is. The system's libraries and the toolchain's files count as the very files they were, not by
//! content: they are large, and replaced rather than edited.
//!
//! **Where nothing can be observed**, or something may have been missed, the digest of the whole
//! tree joins the key, and what was seen counts beside it. What spoke to others than itself is not
//! kept at all, unless the project vouches for them.

#[cfg(target_os = "linux")]
mod call;
mod inputs;
mod key;
mod memo;
mod uncacheable;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_os = "linux")]
pub(super) use self::call::CallRecords;
pub(super) use self::inputs::Cacheability;
use self::inputs::InputJudge;
#[cfg(test)]
pub(super) use self::key::variable;
pub(super) use self::key::{PROGRAM, PROGRAM_FILE, Subject, selection_text, variable_of};
pub use self::memo::store_program_digest;
pub(super) use self::uncacheable::Uncacheable;
pub(super) use self::watch::ObservedRun;
use self::watch::Observing;
use super::calls::{self, Red};
use super::checkout::found_elsewhere;
use super::fingerprint::Fingerprints;
use super::patterns::{AlwaysRun, Excluded, Trusted};
use super::{Facts, Question};
use crate::cache::{Cache, Input, Lookup, Record, RecordKey};
use crate::compiler::PlannedTarget;
use crate::model::{Digest, TargetReport, Timestamp, Verdict};
use crate::observer::Observer;
use crate::protocol::VERSION;
use crate::runner::TestJob;

/// Why no record answers for a target.
pub(super) const FLAKY: &str = "some of its tests are flaky";

/// The binary level of one plan.
pub(super) struct TargetRecords<'a> {
    question: &'a Question,
    facts: &'a Facts,
    cache: &'a Cache,
    fingerprints: Fingerprints,
    targets: Vec<TargetEntry>,
    watching: Option<Observing>,
}

/// One target of the plan.
struct TargetEntry {
    /// Why there is none: it can neither be answered nor kept.
    subject: Result<Subject, String>,
    found: TargetFinding,
}

/// What the records say of a target.
#[derive(Clone, Debug)]
pub(super) enum TargetFinding {
    /// Green, and all that it depends on is as it was.
    Green(Arc<Record>),
    /// It must run: why, and how long that took when it did.
    Nothing {
        /// For a person.
        why: String,
        /// Of the last record with this key.
        expected: Option<Duration>,
    },
}

impl<'a> TargetRecords<'a> {
    /// Looks up all targets of a plan. `tree` is the digest of the tree; if that is not known,
    /// nothing is answered and nothing will be kept: a file that cannot be read is reason enough.
    pub(super) fn look_up(
        question: &'a Question,
        facts: &'a Facts,
        cache: &'a Cache,
        plan: &[PlannedTarget],
        tree: Option<&Digest>,
    ) -> Self {
        let mut this = Self {
            question,
            facts,
            cache,
            fingerprints: Fingerprints::default(),
            targets: Vec::new(),
            watching: None,
        };
        let always = AlwaysRun::of(&question.settings);
        let flaky = cache.state(&question.root).flaky;
        for planned in plan {
            let subject = Subject::of(planned, question, facts, (&mut this.fingerprints, cache));
            let nothing =
                |why: &str| TargetFinding::Nothing { why: why.to_owned(), expected: None };
            let found = match (&subject, tree) {
                _ if always.names(&planned.id) => nothing(&Uncacheable::AlwaysRun.to_string()),
                _ if flaky.contains_key(&planned.id.to_string()) => nothing(FLAKY),
                (Ok(subject), Some(_)) => this.find(subject, tree),
                (Ok(_), None) => nothing("the snapshot is unknown"),
                (Err(why), _) => nothing(why),
            };
            this.targets.push(TargetEntry { subject, found });
        }
        this
    }

    /// What the records say of the target with this index.
    pub(super) fn found(&self, index: usize) -> &TargetFinding {
        &self.targets[index].found
    }

    fn find(&mut self, subject: &Subject, tree: Option<&Digest>) -> TargetFinding {
        let (root, ttl) = (&self.question.root, self.question.settings.ttl);
        let now = Timestamp::now();
        // The newest is the one to compare with.
        let mut last: Option<(Timestamp, String, Duration)> = None;
        for key in Self::keys(subject, tree) {
            let record = match self.cache.get(&key, now, ttl) {
                Lookup::Hit(record)
                    if is_of(&record, subject)
                        && found_elsewhere(&record, root, &self.question.environment).is_none() =>
                {
                    record
                }
                _ => continue,
            };
            let Some(changed) = self.fingerprints.first_changed(root, &record.inputs) else {
                return TargetFinding::Green(record);
            };
            if last.as_ref().is_none_or(|(then, ..)| *then < record.created) {
                let took = Duration::from_millis(record.duration_ms);
                let why = format!("`{}` changed", changed.path.display());
                last = Some((record.created, why, took));
            }
        }
        match last {
            Some((_, why, took)) => TargetFinding::Nothing { why, expected: Some(took) },
            None => {
                let why = "no record of this program with these arguments and variables".to_owned();
                TargetFinding::Nothing { why, expected: None }
            }
        }
    }

    /// All keys under which there can be records of a target as it is.
    fn keys(subject: &Subject, tree: Option<&Digest>) -> impl Iterator<Item = RecordKey> + use<> {
        let slots: Vec<_> = (0..key::SLOTS).map(|number| subject.slot(number)).collect();
        slots.into_iter().chain(tree.map(|tree| subject.with_tree(tree)))
    }

    /// Has the job of the target with this index observed, if that is possible.
    pub(super) fn observe(&mut self, index: usize, job: &mut TestJob) {
        let Ok(subject) = &self.targets[index].subject else { return };
        if Observer::available().is_err() {
            return;
        }
        if self.watching.is_none() {
            self.watching = Observing::begin(std::mem::take(&mut self.fingerprints)).ok();
        }
        let Some(watching) = &self.watching else { return };
        let temporary = job.environment.get("TMPDIR").map_or_else(|| "/tmp".into(), PathBuf::from);
        let judge = InputJudge {
            root: self.question.root.clone(),
            subject: subject.clone(),
            target_dirs: self.facts.target_dirs.iter().map(|dir| real(dir)).collect(),
            covered: vec![real(&self.facts.toolchain.sysroot)],
            temporary: real(&temporary),
            excluded: Excluded::of(&self.question.settings),
            trusted: Trusted::of(&self.question.settings),
        };
        job.around = Some(watching.around(index, judge));
    }

    /// What was seen of every observed run that has ended, by index. The jobs must be gone.
    pub(super) fn watched(&mut self) -> BTreeMap<usize, ObservedRun> {
        let Some(watching) = self.watching.take() else { return BTreeMap::new() };
        let (watched, fingerprints) = watching.finish();
        self.fingerprints = fingerprints;
        watched
    }

    /// Whether everything that a record depends on is still as it was: tests that have run
    /// meanwhile may have changed it.
    pub(super) fn first_changed(&mut self, record: &Record) -> Option<String> {
        let changed = self.fingerprints.first_changed(&self.question.root, &record.inputs)?;
        Some(format!("`{}` changed", changed.path.display()))
    }

    /// Says that the target's record is used for this snapshot too, so that it stays.
    pub(super) fn claim(&self, record: &Record, code_hash: Digest) {
        // If it cannot be written, retention may remove the record earlier: no harm now.
        let _ = self.cache.claim(&self.question.root, code_hash, record, Timestamp::now());
    }

    /// A run was red: records that would answer green are wrong, those of calls by cargo itself
    /// too.
    pub(super) fn disprove(&mut self, index: usize, report: &TargetReport, tree: Option<&Digest>) {
        let subject = self.targets[index].subject.clone();
        let program = subject.as_ref().ok().and_then(|subject| subject.parts.get(PROGRAM));
        if let Some(red) = Red::of(report, program.map(String::as_str)) {
            let plain = calls::plain_name(&report.id.package, &report.id.target);
            let place = (self.cache, &*self.question.root);
            calls::disprove_calls(place, &plain, &red, &mut self.fingerprints);
        }
        let Ok(subject) = subject else { return };
        while let TargetFinding::Green(record) = self.find(&subject, tree) {
            self.cache.disprove(&record.key);
            if matches!(
                self.cache.get(&record.key, Timestamp::now(), Duration::MAX),
                Lookup::Hit(_)
            ) {
                // It cannot be removed: a read-only disk, already told of.
                return;
            }
        }
    }

    /// The record of a green run. `tree` is the digest of the tree if nothing of it has changed
    /// since before the build. `None` if there can be none.
    pub(super) fn record(
        &self,
        index: usize,
        report: &TargetReport,
        cacheability: &Cacheability,
        tree: Option<&Digest>,
        (code_hash, when): (Digest, Timestamp),
    ) -> Option<Record> {
        let subject = self.targets[index].subject.as_ref().ok()?;
        if report.verdict != Verdict::Pass {
            return None;
        }
        let (key, inputs) = match cacheability {
            Cacheability::Observed(inputs) => {
                (self.slot_for(subject, inputs, when), inputs.clone())
            }
            Cacheability::WholeTree(inputs) => (subject.with_tree(tree?), inputs.clone()),
            Cacheability::Uncacheable(_) => return None,
        };
        Some(Record {
            key,
            created: when,
            workspace_root: self.question.root.clone(),
            code_hash,
            selection: selection_text(&subject.id),
            verdict: report.verdict,
            inputs,
            targets: vec![report.clone()],
            duration_ms: report.duration_ms,
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            tool_version: VERSION.to_owned(),
            identity: subject.parts.clone(),
        })
    }

    /// Where a record of these inputs goes: in the place of one of the same, a free one, that of
    /// the oldest.
    fn slot_for(&self, subject: &Subject, inputs: &[Input], now: Timestamp) -> RecordKey {
        let of = |inputs: &[Input]| -> BTreeSet<_> {
            inputs.iter().map(|input| (input.path.clone(), input.state)).collect()
        };
        let wanted = of(inputs);
        let mut free: Option<RecordKey> = None;
        let mut oldest: Option<(Timestamp, RecordKey)> = None;
        for key in (0..key::SLOTS).map(|number| subject.slot(number)) {
            match self.cache.get(&key, now, self.question.settings.ttl) {
                Lookup::Hit(record) => {
                    if of(&record.inputs) == wanted {
                        return key;
                    }
                    if oldest.is_none_or(|(then, _)| record.created < then) {
                        oldest = Some((record.created, key));
                    }
                }
                Lookup::Miss(_) => free = free.or(Some(key)),
            }
        }
        free.or(oldest.map(|(_, key)| key)).unwrap_or_else(|| subject.slot(0))
    }
}

/// Whether the record is one of this target alone: the key says so, and a look costs nothing.
fn is_of(record: &Record, subject: &Subject) -> bool {
    matches!(&record.targets[..], [report] if report.id == subject.id)
}

/// A folder as the kernel knows it.
fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}
