//! Targets that are observed in full: they run or load code of which a cheaper observation cannot tell all.

use std::path::Path;

use crate::cache::{Cache, ProjectState};
use crate::model::TargetId;

/// Whether nothing of this target's runs may pass unnotified.
pub(super) fn is_needed(state: &ProjectState, target: &TargetId) -> bool {
    state.observe_in_full.contains(&target.to_string())
}

/// Remembers that these targets must be observed in full.
pub(super) fn remember<'a>(
    cache: &Cache,
    root: &Path,
    targets: impl Iterator<Item = &'a TargetId>,
) {
    let names: Vec<_> = targets.map(ToString::to_string).collect();
    let noted = cache.update_state(root, |state| state.observe_in_full.extend(names));
    if let Err(error) = noted {
        tracing::warn!(%error, "cannot remember which targets are observed in full");
    }
}
