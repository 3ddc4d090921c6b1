//! Why a question would be answered from cache, or why it would be run.

use super::look_up::Finding;
use super::{Facts, Look, Question, code_hash, source_key};
use crate::cache::{Cache, Record};
use crate::hasher::{FileChange, Manifest};
use crate::model::{Digest, Timestamp};

/// What decides the next answer.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The code as it is now; none if a file could not be read.
    pub code_hash: Option<Digest>,
    /// Whether records answer.
    pub cached: bool,
    /// The reason in one line.
    pub reason: String,
    /// The files that differ from the last record of the same selection.
    pub files: Vec<FileChange>,
    /// The settings that differ from it: toolchain, cargo config, variables.
    pub settings: Vec<String>,
    /// The last record of the same selection, whatever it says.
    pub last: Option<Record>,
}

/// Explains what would happen to `question` for the tree as `look` saw it.
#[must_use]
pub fn explain<M>(
    question: &Question,
    facts: &Facts,
    look: &Look<M>,
    manifest: &Manifest,
    cache: &Cache,
) -> Explanation {
    let last = cache.latest(&question.root, &question.selection_text());
    let mut explanation = Explanation {
        code_hash: None,
        cached: false,
        reason: String::new(),
        files: Vec::new(),
        settings: Vec::new(),
        last,
    };
    let tree = match &look.digest {
        Ok(tree) => tree,
        Err(why) => {
            explanation.reason = format!("the snapshot is unknown: {}", why.join("; "));
            return explanation;
        }
    };
    let code = code_hash(tree, &facts.identity);
    explanation.code_hash = Some(code);
    let runner = question.settings.runner.as_str();
    let key = source_key(&code, &question.root, &question.selection, runner, &facts.identity);
    explanation.reason = match Finding::of(cache, &key, question, Timestamp::now()) {
        Finding::Green(record) => {
            explanation.cached = true;
            explanation.last = Some(Record::clone(&record));
            "same code, settings and environment".to_owned()
        }
        Finding::Red(record) => {
            explanation.last = Some(Record::clone(&record));
            "this very code failed before".to_owned()
        }
        Finding::Nothing(why) => why,
    };
    let Some(last) = explanation.last.as_ref().filter(|_| !explanation.cached) else {
        return explanation;
    };
    explanation.settings = changed_settings(last, facts);
    let then = cache.manifest(last.code_hash).and_then(|bytes| Manifest::from_bytes(bytes).ok());
    if let Some(then) = then {
        explanation.files = then.diff(manifest);
    }
    explanation
}

/// Names every part of the identity that is not as it was for `last`.
fn changed_settings(last: &Record, facts: &Facts) -> Vec<String> {
    let (build, run) = (&facts.identity.build, &facts.identity.run);
    let mut changed = Vec::new();
    for (name, digest) in build.iter().chain(run) {
        match last.identity.get(name) {
            None => changed.push(format!("{name} is new")),
            Some(then) if *then != digest.to_string() => {
                changed.push(format!("{name} has changed"));
            }
            Some(_) => {}
        }
    }
    let gone = |name: &&String| !build.contains_key(*name) && !run.contains_key(*name);
    changed.extend(last.identity.keys().filter(gone).map(|name| format!("{name} is gone")));
    changed
}
