//! Answers by records of the package level: nothing is built or run for them.

use std::sync::Arc;

use super::look_up::LookUp;
use super::package::{PackageLevel, SAME_PACKAGES};
use super::{ProjectTree, shared_store};
use crate::cache::Record;
use crate::model::{Answer, Digest, Source, TargetAnswer};

/// The answer for the tree with this digest, if each target has a record.
pub(crate) async fn answer_by_packages<T: ProjectTree>(
    asked: LookUp<'_>,
    tree: &mut T,
    tree_digest: &Digest,
) -> Option<Answer> {
    let LookUp { cache, question, facts } = asked;
    let level = PackageLevel::at(cache, question, facts, tree, tree_digest).await?;
    let targets = answers_of(&level, &level.find_all()?);
    Some(Answer { code_hash: Some(level.code_hash()), targets, not_kept: Vec::new() })
}

/// What these records answer. They serve the tree of this level from now on.
pub(super) fn answers_of(level: &PackageLevel<'_>, records: &[Arc<Record>]) -> Vec<TargetAnswer> {
    let mut answers = Vec::new();
    for record in records {
        level.claim(record);
        answers.extend(record.targets.iter().map(|report| {
            let reason = match shared_store::signer_of(record) {
                Some(signer) => format!("{SAME_PACKAGES}, proven by {signer}"),
                None => SAME_PACKAGES.to_owned(),
            };
            TargetAnswer::from_report(report, Source::Cache, reason, record.created)
        }));
    }
    answers
}
