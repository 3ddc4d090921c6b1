//! Holds back reading while git writes to the tree, and background jobs in the middle of a rebase.
//!
//! A state machine that takes the time as an argument. Every hold ends: a killed git leaves its lock behind, and a merge can stay open for days.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::workspace::{LockId, Operation, Repository};

/// How long one `index.lock` holds back; past that, its git is gone.
const LONGEST_LOCK: Duration = Duration::from_secs(30);
/// How long one lock after the other holds back.
const LONGEST_LOCK_SERIES: Duration = Duration::from_secs(120);
/// How quiet the tree must be in the middle of an operation to be worth a build.
const QUIET_IN_OPERATION: Duration = Duration::from_secs(120);
/// How long an operation holds back.
const LONGEST_OPERATION: Duration = Duration::from_secs(30 * 60);
/// How often to look for a lock, for one that is ignored, and for the end of an operation.
const LOOK_FOR_LOCK: Duration = Duration::from_millis(50);
const LOOK_FOR_LEFTOVER_LOCK: Duration = Duration::from_secs(10);
const LOOK_FOR_OPERATION: Duration = Duration::from_secs(1);

/// What git is seen to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GitActivity {
    lock: Option<LockId>,
    operation: Option<Operation>,
}

impl GitActivity {
    /// What git does around `root`. Stats a few files.
    pub(super) fn around(root: &Path) -> Self {
        match Repository::around(root) {
            Some(git) => Self { lock: git.lock(), operation: git.under_way() },
            None => Self::default(),
        }
    }
}

/// A lock file, and the series that it belongs to.
#[derive(Clone, Copy, Debug)]
struct SeenLock {
    id: LockId,
    since: Instant,
    series_since: Instant,
}

/// What git was seen to do in one project.
#[derive(Debug, Default)]
pub(super) struct GitGate {
    lock: Option<SeenLock>,
    has_leftover_lock: bool,
    operation: Option<(Operation, Instant)>,
    reason: Option<String>,
    due: Option<Instant>,
}

impl GitGate {
    /// Whether files may be read.
    pub(super) fn may_read(&mut self, git: GitActivity, now: Instant) -> bool {
        (self.reason, self.due, self.has_leftover_lock) = (None, None, false);
        self.lock = git.lock.map(|id| match self.lock {
            Some(seen) if seen.id == id => seen,
            Some(seen) => SeenLock { id, since: now, ..seen },
            None => SeenLock { id, since: now, series_since: now },
        });
        let Some(SeenLock { since, series_since, .. }) = self.lock else { return true };
        if now - since < LONGEST_LOCK && now - series_since < LONGEST_LOCK_SERIES {
            (self.reason, self.due) =
                (Some("git is at work".to_owned()), Some(now + LOOK_FOR_LOCK));
            return false;
        }
        self.has_leftover_lock = true;
        self.due = Some(now + LOOK_FOR_LEFTOVER_LOCK);
        true
    }

    /// Whether background jobs may begin. `last_change`: when a file last changed.
    pub(super) fn may_work(
        &mut self,
        git: GitActivity,
        last_change: Option<Instant>,
        now: Instant,
    ) -> bool {
        if !self.may_read(git, now) {
            return false;
        }
        self.operation = git.operation.map(|operation| match self.operation {
            Some((same, since)) if same == operation => (operation, since),
            _ => (operation, now),
        });
        let Some((operation, since)) = self.operation else { return true };
        let quiet_since = last_change.map_or(since, |changed| changed.max(since)).min(now);
        if now - quiet_since >= QUIET_IN_OPERATION || now - since >= LONGEST_OPERATION {
            return true;
        }
        self.reason = Some(format!("{operation} is under way"));
        self.due = Some(now + LOOK_FOR_OPERATION);
        false
    }

    /// When to look again; `None` if there is no need.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Why nothing begins; none if git holds nothing back.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether a lock is ignored.
    pub(super) fn has_leftover_lock(&self) -> bool {
        self.has_leftover_lock
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock(number: u64) -> LockId {
        LockId::of_parts(1, number, 0)
    }

    fn locked(number: u64) -> GitActivity {
        GitActivity { lock: Some(lock(number)), operation: None }
    }

    fn rebase() -> GitActivity {
        GitActivity { lock: None, operation: Some(Operation::Rebase) }
    }

    #[test]
    fn a_lock_holds_back_and_a_leftover_one_does_not() {
        let start = Instant::now();
        let mut gate = GitGate::default();
        assert!(gate.may_read(GitActivity::default(), start));
        assert_eq!(gate.due(), None, "nothing is looked at without need");
        assert!(!gate.may_read(locked(1), start));
        assert_eq!(gate.reason(), Some("git is at work"));
        assert!(!gate.is_due(start) && gate.is_due(start + LOOK_FOR_LOCK));
        let late = start + LONGEST_LOCK;
        // Another one is a git that is alive.
        assert!(!gate.may_work(locked(2), None, late));
        assert!(!gate.has_leftover_lock());
        assert!(gate.may_work(locked(2), None, late + LONGEST_LOCK));
        assert!(gate.has_leftover_lock() && gate.reason().is_none());
        assert!(gate.may_read(GitActivity::default(), late + LONGEST_LOCK));
        assert!(!gate.has_leftover_lock());
        // One after the other, for ever.
        for second in 0..LONGEST_LOCK_SERIES.as_secs() {
            let now = start + Duration::from_secs(1_000 + second);
            assert!(!gate.may_read(locked(second), now));
        }
        let now = start + Duration::from_secs(1_000) + LONGEST_LOCK_SERIES;
        assert!(gate.may_read(locked(u64::MAX), now));
    }

    #[test]
    fn a_rebase_holds_back_as_long_as_it_moves() {
        let start = Instant::now();
        let mut gate = GitGate::default();
        assert!(gate.may_read(rebase(), start), "reading goes on");
        assert!(!gate.may_work(rebase(), None, start));
        assert_eq!(gate.reason(), Some("a rebase is under way"));
        assert!(!gate.may_work(rebase(), None, start + QUIET_IN_OPERATION / 2));
        let saved = start + QUIET_IN_OPERATION / 2;
        assert!(!gate.may_work(rebase(), Some(saved), start + QUIET_IN_OPERATION));
        assert!(gate.may_work(rebase(), Some(saved), saved + QUIET_IN_OPERATION));
        assert!(!gate.may_work(
            rebase(),
            Some(saved + QUIET_IN_OPERATION),
            saved + QUIET_IN_OPERATION
        ));
        let end = start + LONGEST_OPERATION;
        assert!(gate.may_work(rebase(), Some(end), end));
        // The next one is another one.
        assert!(gate.may_work(GitActivity::default(), Some(end), end));
        assert!(!gate.may_work(rebase(), Some(end), end));
    }

    proptest! {
        /// For all that git does, with a look at every due moment: a hold always has a next look,
        /// and ends in bounded time.
        #[test]
        fn every_hold_ends(seen in prop::collection::vec((0..3_u64, any::<bool>()), 1..20)) {
            let start = Instant::now();
            let mut gate = GitGate::default();
            let (mut now, mut begun) = (start, false);
            for step in 0..200_000 {
                let (number, operation) = seen[step % seen.len()];
                let git = GitActivity {
                    lock: (number > 0).then(|| lock(step as u64 / 7 + number)),
                    operation: operation.then_some(Operation::Merge),
                };
                if gate.may_work(git, Some(now), now) {
                    begun = true;
                    break;
                }
                now = gate.due().expect("a next look");
            }
            prop_assert!(begun);
            prop_assert!(now - start <= LONGEST_OPERATION + LONGEST_LOCK_SERIES + LOOK_FOR_OPERATION);
        }
    }
}
