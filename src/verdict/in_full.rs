//! Targets that are observed more closely: they run or load code of which a cheaper observation cannot
//! tell all.

use std::path::Path;

use crate::cache::{Cache, ProjectState};
use crate::model::TargetId;
use crate::observer::LoaderCalls;

/// Which calls of the dynamic loader may pass unnotified in this target's runs.
pub(super) fn passing(state: &ProjectState, target: &TargetId) -> LoaderCalls {
    let name = target.to_string();
    if state.observe_in_full.contains(&name) {
        LoaderCalls::Notified
    } else if state.observe_libraries.contains(&name) {
        LoaderCalls::QuestionsPass
    } else {
        LoaderCalls::SearchPasses
    }
}

/// Remembers that no more than `pass` may pass in runs of these targets.
pub(super) fn remember<'a>(
    cache: &Cache,
    root: &Path,
    targets: impl Iterator<Item = &'a TargetId>,
    pass: LoaderCalls,
) {
    let names: Vec<_> = targets.map(ToString::to_string).collect();
    let lost = "cannot remember which targets are observed in full";
    cache.note_state(root, lost, |state| match pass {
        LoaderCalls::Notified => state.observe_in_full.extend(names),
        LoaderCalls::QuestionsPass => state.observe_libraries.extend(names),
        LoaderCalls::SearchPasses => {}
    });
}
