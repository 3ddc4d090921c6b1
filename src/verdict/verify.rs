//! Whether a run bears out the record that would have answered.

use super::Outcome;
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

/// Compares verdicts target by target: with the record of the whole, if there is one, and with
/// those of single targets.
#[must_use]
pub fn compare(outcome: &Outcome) -> Vec<Difference> {
    let answer = &outcome.answer;
    let whole = outcome.recorded.iter().flat_map(|record| compare_whole(record, answer));
    let mut differences: Vec<_> = whole.collect();
    for record in &outcome.of_targets {
        for report in &record.targets {
            let run = answer.targets.iter().find(|target| target.id == report.id);
            let run = run.map(|target| target.verdict);
            let recorded = Some(report.verdict);
            let difference = Difference { id: report.id.clone(), recorded, run };
            if recorded != run && !differences.contains(&difference) {
                differences.push(difference);
            }
        }
    }
    differences
}

/// Compares a record of all targets.
fn compare_whole(record: &Record, answer: &Answer) -> Vec<Difference> {
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
