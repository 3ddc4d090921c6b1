//! Targets whose runs observing would change, and of which nothing can be kept: they run as they are.
//!
//! Such a target otherwise runs twice after each edit, observed and as it is, and the first run
//! proves nothing.

use std::path::Path;
use std::time::Duration;

use crate::cache::{Cache, ProjectState};
use crate::model::{TargetId, Timestamp};

/// How long such a target is not observed. After that it is once more, since it may have been mended.
const OBSERVED_AGAIN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a run of this target is not worth observing now.
pub(super) fn runs_as_it_is(state: &ProjectState, target: &TargetId, now: Timestamp) -> bool {
    let since = state.run_unobserved.get(&target.to_string());
    since.and_then(|since| since.age(now)).is_some_and(|age| age < OBSERVED_AGAIN_AFTER)
}

/// Remembers that observing has changed the runs of these targets, and that nothing of them can be
/// kept.
pub(super) fn remember(cache: &Cache, root: &Path, targets: &[TargetId], now: Timestamp) {
    if targets.is_empty() {
        return;
    }
    cache.note_state(root, "cannot remember which targets run unobserved", |state| {
        state.run_unobserved.extend(targets.iter().map(|target| (target.to_string(), now)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_observed_again_after_a_day() {
        let target = TargetId::sample("t");
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let root = Path::new("/w");
        let now = Timestamp::now();
        assert!(!runs_as_it_is(&cache.state(root), &target, now));
        remember(&cache, root, std::slice::from_ref(&target), now);
        let state = cache.state(root);
        let later = |by: Duration| {
            let later = Timestamp(now.0 + u64::try_from(by.as_millis()).unwrap());
            runs_as_it_is(&state, &target, later)
        };
        assert!(later(Duration::ZERO) && later(OBSERVED_AGAIN_AFTER / 2));
        assert!(!later(OBSERVED_AGAIN_AFTER));
        let set_back = Timestamp(now.0 - 1);
        assert!(!runs_as_it_is(&state, &target, set_back), "the clock was set back");
    }
}
