//! Whether a record answers, and if not, why not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Question;
use super::binary::{FLAKY, Uncacheable};
use super::checkout::found_elsewhere;
use super::fingerprint::{Aspect, Fingerprints};
use super::patterns::AlwaysRun;
use crate::cache::{Cache, Input, InputState, Lookup, MissReason, Record, RecordKey};
use crate::hasher::{FileDigest, file_digest};
use crate::model::{Answer, Outcome, Source, TargetAnswer, TargetReport, Timestamp, Verdict};
use crate::protocol::KnownFailure;
use crate::workspace::{FileKind, PathStamp};

/// What the records say of a key.
#[derive(Clone, Debug)]
pub enum Finding {
    /// Green, and everything it depended on is still as it was.
    Green(Arc<Record>),
    /// The same code failed before. Shown, never the answer.
    Red(Arc<Record>),
    /// Nothing that answers: why.
    Nothing(String),
}

impl Finding {
    /// Asks the records for `key`.
    #[must_use]
    pub fn of(cache: &Cache, key: &RecordKey, question: &Question, now: Timestamp) -> Self {
        match cache.get(key, now, question.settings.ttl) {
            Lookup::Hit(record) => {
                let always = AlwaysRun::of(&question.settings);
                if let Some(target) = record.targets.iter().find(|target| always.names(&target.id))
                {
                    return Self::Nothing(format!("{}: {}", target.id, Uncacheable::AlwaysRun));
                }
                // Found out since by somebody else: by a plain `cargo test`.
                let flaky = cache.state(&question.root).flaky;
                let flaky_ones =
                    |target: &&TargetReport| flaky.contains_key(&target.id.to_string());
                if let Some(target) = record.targets.iter().find(flaky_ones) {
                    return Self::Nothing(format!("{}: {FLAKY}", target.id));
                }
                match changed_input(&record, question) {
                    None => Self::Green(record),
                    Some(why) => Self::Nothing(why),
                }
            }
            Lookup::Miss(MissReason::NotGreen(record)) => Self::Red(record),
            Lookup::Miss(reason) => Self::Nothing(in_words(&reason, question.settings.ttl)),
        }
    }
}

/// The first input of the record that is not as it was, in words.
fn changed_input(record: &Record, question: &Question) -> Option<String> {
    if let Some(input) = found_elsewhere(record, &question.root, &question.environment) {
        let (path, project) = (input.path.display(), record.workspace_root.display());
        return Some(format!("its record is of {project}, where {path} was consulted"));
    }
    let changed = Fingerprints::default().first_changed(&question.root, &record.inputs)?;
    Some(format!("{} changed", changed.path.display()))
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

/// The answer that a green record gives.
#[must_use]
pub fn answer_of(record: &Record) -> Answer {
    let reason = "same code, settings and environment";
    let targets = record
        .targets
        .iter()
        .map(|report| TargetAnswer::from_report(report, Source::Cache, reason, record.created))
        .collect();
    Answer { code_hash: Some(record.code_hash), targets, not_kept: Vec::new() }
}

/// What is known of a failure of the very same code.
#[must_use]
pub fn known_failure(record: &Record) -> KnownFailure {
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
        .take(20)
        .collect();
    KnownFailure { when: record.created, failures }
}
