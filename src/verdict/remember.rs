//! The last verdict of a project, kept over restarts for `status`.

use std::time::Duration;

use super::Question;
use crate::cache::{Cache, LastVerdict, ProjectState};
use crate::model::{Answer, Timestamp};

/// Keeps the verdict and gives it back. If it cannot be kept, `status` shows an older one.
pub(crate) fn remember(
    cache: &Cache,
    question: &Question,
    answer: &Answer,
    elapsed: Duration,
) -> LastVerdict {
    let last = LastVerdict {
        when: Timestamp::now(),
        verdict: answer.verdict(),
        source: answer.source(),
        code_hash: answer.code_hash,
        selection: question.selection_text(),
        counts: answer.counts(),
        elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
    };
    let keep = |state: &mut ProjectState| state.last = Some(last.clone());
    cache.note_state(&question.root, "the last verdict is not kept", keep);
    last
}
