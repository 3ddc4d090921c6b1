//! Whether a run bears out the record that would have answered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tracing::{error, warn};

use super::run::RunOutcome;
use super::shared_store::signer_of;
use crate::cache::{Cache, HistoryEvent, Record};
use crate::model::{Answer, TargetId, Timestamp, Verdict};

/// A target about which the record and the run disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disagreement {
    /// Which target.
    pub id: TargetId,
    /// What the record said; none if it did not know the target.
    pub recorded: Option<Verdict>,
    /// What the run said; none if it did not run the target.
    pub run: Option<Verdict>,
}

/// Compares verdicts target by target: with the record of the whole, if there is one, and with
/// those of single targets.
fn compare(outcome: &RunOutcome) -> Vec<Disagreement> {
    let answer = &outcome.answer;
    let whole = outcome.recorded.iter().flat_map(|record| compare_whole(record, answer));
    let mut differences: Vec<_> = whole.collect();
    for record in &outcome.of_targets {
        for report in &record.targets {
            let run = answer.targets.iter().find(|target| target.id == report.id);
            let run = run.map(|target| target.verdict);
            let recorded = Some(report.verdict);
            let difference = Disagreement { id: report.id.clone(), recorded, run };
            if recorded != run && !differences.contains(&difference) {
                differences.push(difference);
            }
        }
    }
    differences
}

/// Compares a record of all targets.
fn compare_whole(record: &Record, answer: &Answer) -> Vec<Disagreement> {
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
        .map(|id| Disagreement { id: id.clone(), recorded: recorded(id), run: run(id) })
        .filter(|difference| difference.recorded != difference.run)
        .collect()
}

/// What came of a verification.
#[derive(Debug)]
pub(crate) struct Verification {
    /// What the records and the run disagree about.
    pub differences: Vec<Disagreement>,
    /// Where the records and the run are kept for a report, if they disagree.
    pub evidence: Option<PathBuf>,
}

/// Compares a run of everything with the records that would have answered, and keeps count; `None`
/// if there were none.
pub(crate) fn verify(cache: &Cache, root: &Path, outcome: &RunOutcome) -> Option<Verification> {
    let mut records: Vec<&Record> = outcome.recorded.iter().map(|record| &**record).collect();
    records.extend(outcome.of_targets.iter().map(|record| &**record));
    if records.is_empty() {
        return None;
    }
    Some(conclude(cache, root, compare(outcome), &records, &outcome.answer))
}

/// The signers of the records of other machines that are wrong, with the targets' names.
fn signers_of(differences: &[Disagreement], records: &[&Record]) -> Vec<(String, String)> {
    let is_wrong = |id: &TargetId| differences.iter().any(|difference| difference.id == *id);
    let mut signers = Vec::new();
    for record in records {
        let Some(signer) = signer_of(record) else { continue };
        let wrong = record.targets.iter().filter(|report| is_wrong(&report.id));
        signers.extend(wrong.map(|report| (report.id.to_string(), signer.to_owned())));
    }
    signers
}

/// Distrusts the targets of wrong records where these were made, in other checkouts than that at `root`.
fn distrust_elsewhere(
    cache: &Cache,
    root: &Path,
    differences: &[Disagreement],
    records: &[&Record],
) {
    for Disagreement { id, .. } in differences {
        // Another machine's is distrusted by its signer.
        let is_of = |record: &&&Record| {
            signer_of(record).is_none() && record.targets.iter().any(|report| report.id == *id)
        };
        let elsewhere = records.iter().filter(is_of).map(|record| &record.workspace_root);
        for other in elsewhere.filter(|other| *other != root) {
            let lost = "a wrong record of this checkout is not noted";
            cache.note_state(other, lost, |state| {
                state.distrusted.entry(id.to_string()).or_insert_with(Timestamp::now);
            });
        }
    }
}

/// Counts a comparison, and keeps what there is to report.
pub(super) fn conclude(
    cache: &Cache,
    root: &Path,
    differences: Vec<Disagreement>,
    records: &[&Record],
    answer: &Answer,
) -> Verification {
    let signers = signers_of(&differences, records);
    cache.note_state(root, "a verification is not counted", |state| {
        state.verified += 1;
        state.wrong += u64::from(!differences.is_empty());
        for difference in &differences {
            let name = difference.id.to_string();
            state.distrusted.entry(name).or_insert_with(Timestamp::now);
        }
        for (name, signer) in &signers {
            state.wrong_signers.entry(name.clone()).or_default().insert(signer.clone());
        }
    });
    distrust_elsewhere(cache, root, &differences, records);
    let wrong = differences.iter().map(|each| each.id.to_string()).collect();
    let wrong_signers: BTreeSet<String> = signers.into_iter().map(|(_, signer)| signer).collect();
    let by = wrong_signers.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    cache.note_history(root, HistoryEvent::Verified { wrong, signers: wrong_signers });
    let mut evidence = None;
    if !differences.is_empty() {
        evidence = match cache.keep_evidence(records, answer) {
            Ok(path) => Some(path),
            Err(error) => {
                warn!(%error, "the wrong records are not kept");
                None
            }
        };
        let named: Vec<_> = differences.iter().map(|each| each.id.to_string()).collect();
        let kept = evidence.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        error!(
            project = %root.display(),
            targets = %named.join(", "),
            signed_by = %by,
            evidence = %kept,
            "a run contradicts a record: this is a bug, please report it"
        );
    }
    Verification { differences, evidence }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TargetReport;

    #[test]
    fn a_wrong_record_is_distrusted_where_it_was_made_too() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let id = TargetId::sample("t");
        let record = Record::sample(TargetReport::sample(&[]));
        let record = Record { workspace_root: "/one".into(), ..record };
        let answer = Answer { code_hash: None, targets: Vec::new(), not_kept: Vec::new() };
        let conclude =
            |differences| conclude(&cache, Path::new("/two"), differences, &[&record], &answer);
        let distrusts = |root: &str| !cache.state(Path::new(root)).distrusted.is_empty();
        conclude(Vec::new());
        assert!(!distrusts("/one") && !distrusts("/two"));
        let (recorded, run) = (Some(Verdict::Pass), Some(Verdict::Fail));
        conclude(vec![Disagreement { id, recorded, run }]);
        assert!(distrusts("/one") && distrusts("/two") && !distrusts("/three"));
    }
}
