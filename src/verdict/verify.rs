//! Whether a run bears out the record that would have answered.

use crate::cache::Record;
use crate::model::{Answer, TargetId, Verdict};

/// A target about which the record and the run disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which target.
    pub id: TargetId,
    /// What the record said; none if it did not know the target.
    pub recorded: Option<Verdict>,
    /// What the run said; none if it did not run the target.
    pub run: Option<Verdict>,
}

/// Compares verdicts target by target.
#[must_use]
pub fn compare(record: &Record, answer: &Answer) -> Vec<Difference> {
    let recorded = |id: &TargetId| {
        record.targets.iter().find(|target| target.id == *id).map(|target| target.verdict)
    };
    let run = |id: &TargetId| {
        answer.targets.iter().find(|target| target.id == *id).map(|target| target.verdict)
    };
    let mut ids: Vec<_> = record.targets.iter().map(|target| &target.id).collect();
    ids.extend(answer.targets.iter().map(|target| &target.id));
    ids.sort();
    ids.dedup();
    ids.into_iter()
        .map(|id| Difference { id: id.clone(), recorded: recorded(id), run: run(id) })
        .filter(|difference| difference.recorded != difference.run)
        .collect()
}
