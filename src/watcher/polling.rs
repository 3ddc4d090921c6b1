//! Which folders must be looked at by stat, because no event tells of their changes.
//!
//! Pure: time is an argument, and the caller does the looking.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The wait after a look that found a change, and before the first look.
pub(super) const SHORTEST_POLL_WAIT: Duration = Duration::from_secs(1);
/// The wait that looks without a change back off to.
pub(super) const LONGEST_POLL_WAIT: Duration = Duration::from_secs(30);

/// Why a folder is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PollReason {
    /// It is not there (a project's folder that was removed, or lies on a disk that is not
    /// mounted); the look finds out whether it came back.
    Missing,
    /// The system did not let us watch it.
    Unwatched,
    /// Its file system does not report every change.
    #[cfg(test)]
    Untrusted,
}

/// The folders that are polled, each with a wait of its own.
///
/// A folder that [`take_due`](Self::take_due) gave away is not due again before
/// [`looked`](Self::looked) says that the look is over: a slow disk is never asked twice at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Polling {
    folders: BTreeMap<PathBuf, PolledFolder>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PolledFolder {
    reason: PollReason,
    wait: Duration,
    /// `None` while the look is under way.
    due: Option<Instant>,
}

impl Polling {
    /// Polls `folder` from now on, first after the shortest wait. One that is polled already
    /// keeps its wait and takes the new reason.
    pub(crate) fn add(&mut self, folder: impl Into<PathBuf>, reason: PollReason, now: Instant) {
        self.folders.entry(folder.into()).and_modify(|known| known.reason = reason).or_insert(
            PolledFolder { reason, wait: SHORTEST_POLL_WAIT, due: Some(now + SHORTEST_POLL_WAIT) },
        );
    }

    /// Polls `folder` no more; `false` if it was not polled.
    pub(crate) fn remove(&mut self, folder: &Path) -> bool {
        self.folders.remove(folder).is_some()
    }

    /// Why `folder` is polled.
    #[cfg(test)]
    pub(crate) fn reason(&self, folder: &Path) -> Option<PollReason> {
        self.folders.get(folder).map(|folder| folder.reason)
    }

    /// The polled folders at and below `root`, with their reasons.
    #[cfg(test)]
    pub(crate) fn below<'a>(
        &'a self,
        root: &'a Path,
    ) -> impl Iterator<Item = (&'a Path, PollReason)> {
        self.folders
            .iter()
            .filter(move |(folder, _)| folder.starts_with(root))
            .map(|(folder, known)| (folder.as_path(), known.reason))
    }

    /// When the next folder is due; `None` if none is, so that nobody wakes up for nothing.
    #[must_use]
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.folders.values().filter_map(|folder| folder.due).min()
    }

    /// The folders to look at now, sorted. Each must be given back with [`Self::looked`].
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<PathBuf> {
        let mut due = Vec::new();
        for (path, folder) in &mut self.folders {
            if folder.due.is_some_and(|at| at <= now) {
                folder.due = None;
                due.push(path.clone());
            }
        }
        due
    }

    /// The look at `folder` ended at `now` and found a change or none. A change brings back the
    /// shortest wait, no change doubles the wait.
    pub(crate) fn looked(&mut self, folder: &Path, changed: bool, now: Instant) {
        if let Some(folder) = self.folders.get_mut(folder) {
            folder.wait = if changed {
                SHORTEST_POLL_WAIT
            } else {
                folder.wait.saturating_mul(2).min(LONGEST_POLL_WAIT)
            };
            folder.due = Some(now + folder.wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn quiet_folders_back_off_and_a_change_brings_them_back() {
        let mut now = Instant::now();
        let mut polling = Polling::default();
        assert_eq!(polling.next_due(), None);
        polling.add("/p", PollReason::Missing, now);
        let mut waits = Vec::new();
        for changed in [false, false, false, false, false, false, true, false] {
            let due = polling.next_due().unwrap();
            waits.push((due - now).as_secs());
            assert!(polling.take_due(due - Duration::from_nanos(1)).is_empty());
            assert_eq!(polling.take_due(due), [PathBuf::from("/p")]);
            now = due;
            polling.looked(Path::new("/p"), changed, now);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 1]);
    }

    #[test]
    fn a_look_that_is_under_way_is_not_started_twice() {
        let now = Instant::now();
        let mut polling = Polling::default();
        polling.add("/slow", PollReason::Untrusted, now);
        assert_eq!(polling.take_due(now + SECOND).len(), 1);
        polling.add("/slow", PollReason::Unwatched, now + SECOND);
        assert_eq!(polling.next_due(), None);
        assert!(polling.take_due(now + 100 * SECOND).is_empty());
        // The wait counts from the end of the look.
        polling.looked(Path::new("/slow"), false, now + 100 * SECOND);
        assert_eq!(polling.next_due(), Some(now + 102 * SECOND));
        assert_eq!(polling.reason(Path::new("/slow")), Some(PollReason::Unwatched));
    }

    #[test]
    fn a_removed_folder_is_forgotten_even_while_it_is_looked_at() {
        let now = Instant::now();
        let mut polling = Polling::default();
        polling.add("/p/a", PollReason::Unwatched, now);
        polling.add("/pa", PollReason::Unwatched, now);
        assert_eq!(polling.below(Path::new("/p")).count(), 1);
        polling.take_due(now + SECOND);
        assert!(polling.remove(Path::new("/p/a")));
        assert!(!polling.remove(Path::new("/p/a")));
        polling.looked(Path::new("/p/a"), true, now);
        assert_eq!(polling.next_due(), None);
        assert_eq!(polling.reason(Path::new("/p/a")), None);
    }

    proptest! {
        /// Whatever happens, a folder that nobody looks at is due within the longest wait, and
        /// never sooner than the shortest.
        #[test]
        fn every_folder_is_looked_at_between_1_and_30_seconds(
            steps in proptest::collection::vec((0usize..4, 0u32..40, any::<bool>()), 1..100),
        ) {
            let mut now = Instant::now();
            let mut polling = Polling::default();
            for (folder, gap, changed) in steps {
                let folder = PathBuf::from(format!("/{folder}"));
                let unknown = polling.reason(&folder).is_none();
                polling.add(&folder, PollReason::Missing, now);
                if unknown {
                    prop_assert!(polling.next_due().unwrap() <= now + SHORTEST_POLL_WAIT);
                }
                now += gap * SECOND;
                for due in polling.take_due(now) {
                    polling.looked(&due, changed, now);
                }
                let next = polling.next_due().unwrap();
                prop_assert!(next > now && next <= now + LONGEST_POLL_WAIT);
            }
        }
    }
}
