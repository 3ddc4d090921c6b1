//! What the records of other machines say of each target, or why none answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::package::PackageLevel;
use super::super::shared_store::{OTHER_TARGETS, ask, signer_of};
use super::super::{Facts, ProjectTree, Question, TreeState};
use crate::cache::{Cache, Record};
use crate::model::{TargetId, Timestamp};
use crate::shared::{SharedError, SharedStore};

/// The shared store asks for nothing where cargo has less to do than a build of the whole.
const BUILT_HERE: &str = "not asked where a build is already here";

/// What the shared store says of a question.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedReasons {
    /// The reason for the whole.
    pub whole: String,
    /// The reason for each target that a build is known to have.
    pub targets: BTreeMap<TargetId, SharedReason>,
}

/// What the shared store says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SharedReason {
    /// Whether a record of another machine would answer.
    pub answers: bool,
    /// The signer of that record.
    pub signer: Option<String>,
    /// The reason in one line.
    pub reason: String,
}

/// Asks the store about the tree as `look` saw it.
pub(crate) async fn shared_reasons<T: ProjectTree>(
    store: Result<SharedStore, SharedError>,
    cache: &Cache,
    question: &Question,
    facts: &Facts,
    tree: &mut T,
    look: &TreeState<T::Mark>,
) -> SharedReasons {
    let whole = |whole: String| SharedReasons { whole, targets: BTreeMap::new() };
    let store = match store {
        Ok(store) if store.reads() => store,
        Ok(_) => return whole("`read` is off".to_owned()),
        Err(error) => return whole(error.to_string()),
    };
    let digest = match &look.digest {
        Ok(digest) => digest,
        Err(why) => return whole(format!("the snapshot is unknown: {}", why.join("; "))),
    };
    let Some(mut level) = PackageLevel::at(cache, question, facts, tree, digest).await else {
        return whole("this selection is not known package by package".to_owned());
    };
    let asked = ask(&store, question, facts, &mut level).await;
    let Ok(known) = level.find() else {
        return whole(if asked.has_records { OTHER_TARGETS.to_owned() } else { asked.why() });
    };
    let is_built = question.is_built(facts, cache.dir());
    let now = Timestamp::now();
    let reason = |(target, found): (TargetId, Result<Arc<Record>, String>)| {
        let signer = found.as_deref().ok().and_then(signer_of).map(str::to_owned);
        let mut reason = match (&found, &signer) {
            (Err(why), _) => asked.why_not(&target, why),
            (Ok(_), None) => "not asked: a record here answers".to_owned(),
            (Ok(record), Some(signer)) => {
                format!("proven by {signer} {}", record.created.ago(now))
            }
        };
        if is_built && signer.is_some() {
            reason = format!("{BUILT_HERE}; {reason}");
        }
        (target, SharedReason { answers: signer.is_some() && !is_built, signer, reason })
    };
    let targets: BTreeMap<_, _> = known.targets.into_iter().map(reason).collect();
    let answering = targets.values().filter(|reason| reason.answers).count();
    let whole = match (is_built, asked.why()) {
        (true, _) => BUILT_HERE.to_owned(),
        (false, why) if why.is_empty() => {
            format!("records of other machines answer for {answering} of {} targets", targets.len())
        }
        (false, why) => why,
    };
    SharedReasons { whole, targets }
}
