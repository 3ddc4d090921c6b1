//! The variables that differ from those of the last record, and whether each counts.

use std::ffi::OsStr;

use crate::cache::{Cache, Record};
use crate::model::{Digest, TargetId};
use crate::verdict::binary::selection_text;
use crate::verdict::environment::{AskedEnvironment, EnvironmentJudge, VariableDifference};
use crate::verdict::fingerprint::Fingerprints;
use crate::verdict::{Facts, Question};
use crate::workspace::without_root;

/// So many of the newest records are looked at for the one of the most similar environment: as many
/// environments of one tree are remembered.
pub(super) const ENVIRONMENTS: usize = 8;

/// The prefix of the names of parts that are variables.
const VARIABLE: &str = "environment variable ";

/// What the variables that differ mean for each test target.
pub(super) struct VariableChanges<'a> {
    question: &'a Question,
    names: Vec<String>,
    judge: EnvironmentJudge<'a>,
}

impl<'a> VariableChanges<'a> {
    /// The variables among the parts of the identity that have changed.
    pub(super) fn among(
        parts: &[&str],
        question: &'a Question,
        facts: &'a Facts,
        cache: &'a Cache,
    ) -> Self {
        let names = parts.iter().filter_map(|part| part.strip_prefix(VARIABLE)).map(str::to_owned);
        let judge = EnvironmentJudge::of(cache, question, facts);
        Self { question, names: names.collect(), judge }
    }

    /// The record of a target to compare with: the newest of the most similar environment.
    pub(super) fn closest(&self, id: &TargetId) -> Option<Record> {
        let asked = AskedEnvironment::of(self.question);
        let records =
            self.judge.cache.newest(&self.question.root, &selection_text(id), ENVIRONMENTS);
        // Records come newest first, and the first of the nearest is taken.
        let distance = |record: &Record| asked.differing(&record.environment.variables).len();
        records.into_iter().min_by_key(distance)
    }

    /// Each variable that may not count, and why it counts for the target of this record.
    pub(super) fn of_target(
        &self,
        record: &Record,
        fingerprints: &mut Fingerprints,
    ) -> Vec<VariableDifference> {
        let Question { root, environment, .. } = self.question;
        let asked = AskedEnvironment::new(environment, &[]);
        let mut asked = asked.in_place_of(&record.environment, std::iter::empty());
        for name in &self.names {
            match environment.get(name) {
                Some(value) => {
                    let value = without_root(value.as_encoded_bytes(), root);
                    asked.insert(OsStr::new(name), Digest::of(&value));
                }
                None => asked.remove(name),
            }
        }
        self.judge.differences(record, &asked, fingerprints)
    }

    /// What a change of this part means for the targets, where it is a variable.
    pub(super) fn meaning(
        &self,
        part: &str,
        targets: &[TargetId],
        fingerprints: &mut Fingerprints,
    ) -> Option<String> {
        let name = part.strip_prefix(VARIABLE)?;
        if self.judge.rules.ignores(OsStr::new(name)) {
            return Some("the config ignores it".to_owned());
        }
        let mut known = 0;
        for id in targets {
            let Some(record) = self.closest(id) else { continue };
            let differences = self.of_target(&record, fingerprints);
            let difference = differences.into_iter().find(|difference| difference.name == name)?;
            known += 1;
            if let Some(why) = difference.why {
                return Some(format!("it counts for {id}: {why}"));
            }
        }
        let nothing = "it does not count: nothing in the runs of the tests can name it";
        (known == targets.len() && known > 0).then(|| nothing.to_owned())
    }
}
