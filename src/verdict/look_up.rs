//! The look-up: what the records say of a question about a tree, before anything is built.

use std::cell::LazyCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::fingerprint::{Aspect, Fingerprints};
use super::key::source_key;
use super::obstacles::{BarredTargets, obstacle_here};
use super::other_environments::OtherEnvironments;
use super::proof::{Changes, changes, proof_of, renewed};
use super::{Facts, Question, code_hash};
use crate::cache::{Cache, Input, InputState, Lookup, MissReason, Record, RecordKey};
use crate::hasher::{FileDigest, file_digest};
use crate::model::{Answer, Digest, Outcome, Source, TargetAnswer, Timestamp, Verdict};
use crate::protocol::KnownFailure;
use crate::workspace::{FileKind, PathStamp};

/// Why a record answers that was made of the very same question.
const SAME: &str = "same code, settings and environment";
/// Why a record of another environment answers.
const SAME_BUT_VARIABLES: &str = "same code and settings; no variable that differs counts";

/// At most so many failed tests of a known failure are named.
const NAMED_FAILURES: usize = 20;

/// A question that the records are asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookUp<'a> {
    /// The records.
    pub cache: &'a Cache,
    /// The question.
    pub question: &'a Question,
    /// What is known of it besides the tree.
    pub facts: &'a Facts,
}

/// What the records say of a tree.
#[derive(Clone, Debug)]
pub(super) enum Finding {
    /// Green, and everything it depended on is still as it was.
    Green {
        /// The record.
        record: Arc<Record>,
        /// Why it answers.
        reason: &'static str,
    },
    /// The same code failed before. Shown, never the answer.
    Red(Arc<Record>),
    /// Nothing that answers: why.
    Nothing(String),
}

impl Finding {
    pub(super) fn green(&self) -> Option<&Arc<Record>> {
        if let Self::Green { record, .. } = self { Some(record) } else { None }
    }

    pub(super) fn red(&self) -> Option<&Arc<Record>> {
        if let Self::Red(record) = self { Some(record) } else { None }
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.green().or(self.red()).map(|record| &**record)
    }
}

/// A record that tells of a tree.
#[derive(Clone, Debug)]
pub(crate) struct KnownRecord {
    /// The record.
    pub record: Arc<Record>,
    /// Why it does.
    pub reason: &'static str,
}

/// Why no record answers.
#[derive(Clone, Debug)]
pub(crate) struct Unanswered {
    /// The reason in one line.
    pub reason: String,
    /// The same code is known to fail.
    pub known_failure: Option<KnownFailure>,
}

impl LookUp<'_> {
    /// The answer of a record for this tree. The record then belongs to this tree of this project
    /// too, so that retention keeps it.
    ///
    /// # Errors
    /// If no record answers.
    pub(crate) fn answer(&self, tree_digest: &Digest) -> Result<Answer, Unanswered> {
        match self.find(tree_digest) {
            Finding::Green { record, reason } => {
                self.claim(tree_digest, &record);
                Ok(answer_of(&record, reason))
            }
            Finding::Red(record) => Err(Unanswered {
                reason: "it failed before".to_owned(),
                known_failure: Some(known_failure(&record)),
            }),
            Finding::Nothing(reason) => Err(Unanswered { reason, known_failure: None }),
        }
    }

    /// The record that tells of this tree, green or red, for a view. A red one is shown and never
    /// the answer.
    ///
    /// # Errors
    /// If there is none, or what it depended on is not what it was.
    pub(crate) fn known(&self, tree_digest: &Digest) -> Result<KnownRecord, String> {
        match self.find(tree_digest) {
            Finding::Green { record, reason } => Ok(KnownRecord { record, reason }),
            Finding::Red(record) => {
                let Question { root, settings, .. } = self.question;
                match Fingerprints::new(settings).first_changed(root, &record.inputs) {
                    None => Ok(KnownRecord { record, reason: SAME }),
                    Some(changed) => Err(format!("{} changed", changed.path.display())),
                }
            }
            Finding::Nothing(reason) => Err(reason),
        }
    }

    /// What the records say of this tree.
    pub(super) fn find(&self, tree_digest: &Digest) -> Finding {
        let Question { root, settings, .. } = self.question;
        // Read after a record, and once: what another command has found out since counts.
        let barred = LazyCell::new(|| BarredTargets::of(settings, &self.cache.state(root)));
        match self.cache.get(&self.key(tree_digest), Timestamp::now(), settings.ttl) {
            Lookup::Hit(record) => match self.obstacle(&record, &barred) {
                None => Finding::Green { record, reason: SAME },
                Some(why) => Finding::Nothing(why),
            },
            Lookup::Miss(MissReason::NotGreen(record)) => Finding::Red(record),
            Lookup::Miss(reason) => {
                let Self { cache, question, facts } = *self;
                let code_hash = code_hash(tree_digest, &facts.identity);
                let others = OtherEnvironments::of(cache, question, facts, &code_hash);
                match others.find(|record| self.obstacle(record, &barred)) {
                    Ok(record) => Finding::Green { record, reason: SAME_BUT_VARIABLES },
                    Err(Some(why)) => Finding::Nothing(why),
                    Err(None) => Finding::Nothing(in_words(&reason, settings.ttl)),
                }
            }
        }
    }

    /// Removes every green record that answers for this tree: it does not build, or fails, now.
    pub(super) fn disprove(&self, tree_digest: &Digest) {
        self.cache.disprove(&self.key(tree_digest));
        while let Finding::Green { record, .. } = self.find(tree_digest) {
            self.cache.disprove(&record.key);
            let settings = &self.question.settings;
            if let Lookup::Hit(_) = self.cache.get(&record.key, Timestamp::now(), settings.ttl) {
                // It cannot be removed: a read-only disk, already told of.
                return;
            }
        }
    }

    /// Why a green record does not answer; `None` if it does.
    fn obstacle(&self, record: &Arc<Record>, barred: &BarredTargets) -> Option<String> {
        let Question { root, settings, .. } = self.question;
        let mut fingerprints = Fingerprints::remembering(settings, self.cache);
        let why = barred.why_not(record);
        let why =
            why.or_else(|| obstacle_here(record, self.cache, self.question, &mut fingerprints));
        if why.is_some() {
            return why;
        }
        let products = &record.products;
        let proof = self.cache.proof_of(root, record);
        let Changes { product, input, stale } = match &proof {
            Some(proof) => changes(record, proof, &mut fingerprints),
            None => Changes {
                product: fingerprints.first_changed(root, &products.consulted),
                input: fingerprints.first_changed(root, &record.inputs),
                stale: Vec::new(),
            },
        };
        if let Some(product) = product
            && fingerprints.first_changed(root, &products.lists).is_none()
        {
            return Some(format!("{} changed after it was built", product.path.display()));
        }
        if let Some(changed) = input {
            return Some(format!("{} changed", changed.path.display()));
        }
        match &proof {
            // Not all of it holds: a build has followed.
            _ if product.is_some() => {}
            None => self.cache.note_proof(record, || proof_of(record, root, &mut fingerprints)),
            Some(proof) => {
                if let Some(proof) = renewed(record, proof, &stale, &mut fingerprints) {
                    self.cache.note_proof(record, || proof);
                }
            }
        }
        None
    }

    /// Whether a product that runs of this tree consulted was changed by hand.
    pub(super) fn has_changed_product(&self, tree_digest: &Digest) -> bool {
        let Question { root, settings, .. } = self.question;
        let found = self.cache.get(&self.key(tree_digest), Timestamp::now(), settings.ttl);
        let Lookup::Hit(record) = found else { return false };
        changed_product(&record, root, &mut Fingerprints::new(settings)).is_some()
    }

    /// Notes that the record serves this tree of this project too.
    pub(super) fn claim(&self, tree_digest: &Digest, record: &Record) {
        let code_hash = code_hash(tree_digest, &self.facts.identity);
        let claimed = self.cache.claim(&self.question.root, code_hash, record, Timestamp::now());
        if let Err(error) = claimed {
            // Retention may remove the record earlier: no harm to this answer.
            tracing::debug!(%error, "a record is not claimed for another tree");
        }
    }

    /// The key of the records of this tree.
    pub(super) fn key(&self, tree_digest: &Digest) -> RecordKey {
        let code_hash = code_hash(tree_digest, &self.facts.identity);
        source_key(&code_hash, self.question, &self.facts.identity)
    }
}

/// The first product that is not as the run consulted it, if nothing was built anew since.
fn changed_product<'r>(
    record: &'r Record,
    root: &Path,
    fingerprints: &mut Fingerprints,
) -> Option<&'r Input> {
    let changed = fingerprints.first_changed(root, &record.products.consulted)?;
    fingerprints.first_changed(root, &record.products.lists).is_none().then_some(changed)
}

/// The input as it is now, for a new record; `None` where that cannot be told.
pub(super) fn input_now(
    path: &Path,
    root: &Path,
    fingerprints: &mut Fingerprints,
) -> Option<Input> {
    match PathStamp::of(path).kind() {
        Some(FileKind::File) => return fingerprints.read(root, path, Aspect::Content).ok(),
        Some(FileKind::Symlink) | None => {}
        Some(_) => return None,
    }
    // The compiler follows links.
    let state = match file_digest(path) {
        FileDigest::Known(digest) => InputState::Digest(digest),
        FileDigest::Absent => InputState::Absent,
        FileDigest::Unknown(_) => return None,
    };
    let path = path.strip_prefix(root).unwrap_or(path).to_owned();
    Some(Input { path, state, proof: None })
}

fn in_words(reason: &MissReason, ttl: Duration) -> String {
    match reason {
        MissReason::Absent => "no record of this code".to_owned(),
        MissReason::Expired { age } => {
            format!(
                "its record is {} s old, more than the ttl of {} s",
                age.as_secs(),
                ttl.as_secs()
            )
        }
        MissReason::FromTheFuture => {
            "its record is from the future: the clock was set back".to_owned()
        }
        MissReason::Malformed(what) => format!("its record cannot be used: {what}"),
        MissReason::NotGreen(_) => "it failed before".to_owned(),
    }
}

/// The answer that a green record gives, for this reason.
pub(super) fn answer_of(record: &Record, reason: &str) -> Answer {
    let targets = record
        .targets
        .iter()
        .map(|report| TargetAnswer::from_report(report, Source::Cache, reason, record.created))
        .collect();
    Answer { code_hash: Some(record.code_hash), targets, not_kept: Vec::new() }
}

/// What is known of a failure of the very same code.
pub(super) fn known_failure(record: &Record) -> KnownFailure {
    let failed = record.targets.iter().filter(|target| target.verdict != Verdict::Pass);
    let failures = failed
        .flat_map(|target| {
            let tests: Vec<_> = target
                .tests
                .iter()
                .filter(|test| test.outcome == Outcome::Failed)
                .map(|test| format!("{} {}", target.id, test.name))
                .collect();
            if tests.is_empty() { vec![format!("{}: {}", target.id, target.end)] } else { tests }
        })
        .take(NAMED_FAILURES)
        .collect();
    KnownFailure { when: record.created, failures }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::SystemTime;

    use super::*;
    use crate::cache::Limits;
    use crate::config::shipped_settings;
    use crate::model::TargetReport;
    use crate::process::Environment;

    #[test]
    fn a_proof_of_which_looks_went_stale_is_renewed_once() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (root, folder) = (base.join("w"), base.join("folder"));
        fs::create_dir_all(root.join("src")).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(root.join("src/lib.rs"), "").unwrap();
        fs::write(root.join("Cargo.toml"), "[package]\nname = 'w'\nedition = '2021'\n").unwrap();
        let question = Question::of_project(&root, Environment::inherited(), shipped_settings());
        let facts = Facts::gather(&question, &base.join("memo")).unwrap();
        let cache = Cache::open_to_stay(base.join("cache"));
        let look_up = LookUp { cache: &cache, question: &question, facts: &facts };
        let (tree, selection) = (Digest::of(b"tree"), question.selection_text());
        let (key, code_hash) = (look_up.key(&tree), code_hash(&tree, &facts.identity));
        let absent = |name: &str| {
            let (path, state) = (folder.join(name), InputState::Absent);
            Input { path, state, proof: None }
        };
        let record = Record {
            inputs: ["a", "b", "c"].map(absent).into(),
            ..Record::new(key, &root, code_hash, selection, vec![TargetReport::sample(&[])])
        };
        cache.put(&record, Limits::default()).unwrap();
        let until_settled = || {
            while !PathStamp::of(&folder).is_settled(SystemTime::now()) {
                std::thread::yield_now();
            }
        };
        until_settled();
        // Nothing is remembered of the record before its own file has settled.
        let proof = || loop {
            let Finding::Green { record, .. } = look_up.find(&tree) else { panic!("no answer") };
            if let Some(proof) = cache.proof_of(&root, &record) {
                return proof;
            }
        };
        let first = proof();
        assert!(Arc::ptr_eq(&first, &proof()));
        fs::write(folder.join("other"), "").unwrap();
        until_settled();
        let second = proof();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &proof()), "nothing is stale any more");
        fs::write(folder.join("b"), "").unwrap();
        assert!(matches!(look_up.find(&tree), Finding::Nothing(_)));
    }
}
