//! Targets whose own last run has made their record stale: they run again until one holds.
//!
//! A test that numbers its folders in the temporary folder, in the order in which its threads come,
//! looks for other names at each run. What one run has left there, the next one finds, so that its
//! record does not answer before all of these names are there.

use std::sync::Arc;
use std::time::Duration;

use super::super::shared::Shared;
use super::job::BuildKey;
use super::prepared::Prepared;
use crate::model::Verdict;
use crate::protocol::LastVerdict;
use crate::verdict::{Unanswered, code_hash};

/// At most so many runs of one build follow each other.
const MOST_RUNS: u32 = 16;
/// Records that hold for less than this may be too old already.
const LEAST_TTL: Duration = Duration::from_secs(60);

/// The runs that nobody asked for, of a build that is green and whose records do not answer.
#[derive(Debug, Default)]
pub(super) struct Settling {
    of: Option<BuildKey>,
    runs: u32,
    /// The last verdict, until it is looked at.
    verdict: Option<LastVerdict>,
}

impl Settling {
    /// Takes note of a run.
    pub(super) fn note_verdict(&mut self, verdict: &LastVerdict) {
        self.verdict = Some(verdict.clone());
    }

    /// Whether this build has just been green, and its records do not answer all the same though
    /// all of it could be kept.
    pub(super) async fn is_due(
        &mut self,
        build: &BuildKey,
        own: &Arc<Prepared>,
        shared: &Arc<Shared>,
    ) -> bool {
        let Some(last) = self.verdict.take() else { return false };
        let tree_digest = *build.tree_digest();
        let is_of_build = last.code_hash == Some(code_hash(&tree_digest, &own.facts.identity))
            && last.selection == own.question.selection_text();
        let can_hold = own.question.settings.ttl >= LEAST_TTL;
        if last.verdict != Verdict::Pass || !is_of_build || !can_hold {
            return false;
        }
        let looked_up = own.look_up(tree_digest, shared).await;
        matches!(looked_up, Err(Unanswered { known_failure: None, .. }))
            && own.may_keep_all(shared).await
            && self.count(build)
    }

    /// Counts a run of this build; whether that many may follow each other.
    fn count(&mut self, build: &BuildKey) -> bool {
        if self.of.as_ref() != Some(build) {
            (self.of, self.runs) = (Some(build.clone()), 0);
        }
        self.runs += 1;
        self.runs <= MOST_RUNS
    }
}
