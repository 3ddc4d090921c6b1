//! What is kept of a target's calls by cargo itself (`exec`), and whether it would answer.

use super::super::Question;
use super::super::binary::{PROGRAM, REACHED, calls_text, plain_name, program_in};
use super::super::fingerprint::{Aspect, Fingerprints};
use super::super::obstacles::BarReason;
use crate::cache::{Cache, InputState, ProjectState, Record};
use crate::model::{TargetId, TargetKind, Timestamp, Verdict};

/// The calls of one target, by plain `cargo test` or nextest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallsExplanation {
    /// How many green ones are kept.
    pub kept: usize,
    /// How many of them would answer, if the next build gives the program that is there.
    pub answering: usize,
    /// Why the last one would not, or is not kept.
    pub why_not: Option<String>,
    /// What would have it kept.
    pub advice: Vec<String>,
}

/// What is kept of a target's calls; `None` if nothing is known of any. `barred`: why no record answers for
/// it.
pub(super) fn of(
    id: &TargetId,
    barred: Option<BarReason>,
    question: &Question,
    cache: &Cache,
    state: &ProjectState,
    fingerprints: &mut Fingerprints,
) -> Option<CallsExplanation> {
    if id.kind == TargetKind::Doc {
        return None;
    }
    let plain = plain_name(&id.package, &id.target);
    let mut records = cache.records_of(&question.root, &calls_text(&plain));
    records.retain(|record| record.verdict == Verdict::Pass);
    let uncached = state.uncached_calls.get(&plain);
    if records.is_empty() && uncached.is_none() {
        return None;
    }
    let now = Timestamp::now();
    let mut whys = records.iter().map(|record| match barred {
        Some(why) => Some(why.to_string()),
        None => why_not(record, question, now, fingerprints),
    });
    let mut explained = CallsExplanation { kept: records.len(), ..Default::default() };
    let first = whys.next();
    explained.answering =
        first.iter().chain(&whys.collect::<Vec<_>>()).filter(|why| why.is_none()).count();
    explained.why_not = first.flatten();
    let newest = records.first().map(|record| record.created);
    // The last word is that of the last call.
    if let Some(last) =
        uncached.filter(|last| newest.is_none_or(|newest| newest < last.uncached.when))
    {
        let call = if last.args.is_empty() { String::new() } else { format!(" (`{}`)", last.args) };
        explained.why_not = Some(format!("the last call{call}: {}", last.uncached.why.join("; ")));
        explained.advice.clone_from(&last.uncached.advice);
    }
    Some(explained)
}

/// Why the record would not answer the same call now.
fn why_not(
    record: &Record,
    question: &Question,
    now: Timestamp,
    fingerprints: &mut Fingerprints,
) -> Option<String> {
    let ttl = question.settings.ttl;
    match record.created.age(now) {
        None => return Some("its record is from the future: the clock was set back".to_owned()),
        Some(age) if age >= ttl => {
            return Some(format!(
                "its record is {} s old, and the ttl {} s",
                age.as_secs(),
                ttl.as_secs()
            ));
        }
        Some(_) => {}
    }
    let root = &question.root;
    let then = record.identity.get(PROGRAM);
    let now = program_in(root, record)
        .and_then(|file| fingerprints.read(root, &file, Aspect::Program).ok());
    match now.map(|input| input.state) {
        Some(InputState::Program(digest)) if then == Some(&digest.to_string()) => {}
        Some(InputState::Program(_)) if record.identity.contains_key(REACHED) => {
            return Some(
                "its program is another one now, in which its test may reach other code".to_owned(),
            );
        }
        Some(InputState::Program(_)) => return Some("its program is another one now".to_owned()),
        _ => return Some("its program is gone".to_owned()),
    }
    let changed = fingerprints.first_changed(root, &record.inputs)?;
    Some(format!("`{}` changed", changed.path.display()))
}
