//! When git has the floor: nothing is begun while it writes, nor in the middle of a rebase.
//!
//! A pure state machine; [`super::git`] does the looking. Every wait here has an end: a lock can
//! be left behind by a git that was killed, and a merge can stay open for days.

use std::time::{Duration, Instant};

use crate::workspace::{LockId, Operation};

/// How long one lock file is waited for. Past that, whoever made it is gone.
const LOCK: Duration = Duration::from_secs(30);
/// How long git may be seen with one lock after the other.
const LOCKS: Duration = Duration::from_secs(120);
/// How often a lock is looked for.
const LOCK_LOOK: Duration = Duration::from_millis(50);
/// How often a lock that is waited for no more is looked for, to tell of it.
const STALE_LOOK: Duration = Duration::from_secs(10);
/// How quiet the tree must be in the middle of a rebase for its state to be worth a build.
const QUIET: Duration = Duration::from_secs(120);
/// How long an operation may be under way before it is no reason any more.
const OPERATION: Duration = Duration::from_secs(30 * 60);
/// How often it is looked whether it is done.
const OPERATION_LOOK: Duration = Duration::from_secs(1);

/// What git was seen to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) lock: Option<LockId>,
    pub(super) operation: Option<Operation>,
}

/// Whether to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Go on.
    Begin,
    /// Not yet.
    Wait(String),
}

/// What is known of git in one project.
#[derive(Debug, Default)]
pub(super) struct Calm {
    /// The lock that is there, since when, and since when there was one or another.
    lock: Option<(LockId, Instant, Instant)>,
    /// It was waited for long enough.
    stale: bool,
    operation: Option<(Operation, Instant)>,
    reason: Option<String>,
    due: Option<Instant>,
}

impl Calm {
    /// Takes note of what is seen; whether that lets files be read.
    pub(super) fn may_read(&mut self, sight: Sight, now: Instant) -> Advice {
        self.stale = false;
        let Some(lock) = sight.lock else {
            self.lock = None;
            return self.say(Advice::Begin, None);
        };
        let (since, all) = match self.lock {
            Some((same, since, all)) if same == lock => (since, all),
            Some((_, _, all)) => (now, all),
            None => (now, now),
        };
        self.lock = Some((lock, since, all));
        self.stale = now - since >= LOCK || now - all >= LOCKS;
        match self.stale {
            true => self.say(Advice::Begin, Some(now + STALE_LOOK)),
            false => self.say(Advice::Wait("git is at work".to_owned()), Some(now + LOCK_LOOK)),
        }
    }

    /// The same for work: builds and runs. `changed`: when a file last changed.
    pub(super) fn may_work(
        &mut self,
        sight: Sight,
        changed: Option<Instant>,
        now: Instant,
    ) -> Advice {
        if let wait @ Advice::Wait(_) = self.may_read(sight, now) {
            return wait;
        }
        let Some(operation) = sight.operation else {
            self.operation = None;
            return Advice::Begin;
        };
        let since = match self.operation {
            Some((same, since)) if same == operation => since,
            _ => now,
        };
        self.operation = Some((operation, since));
        let quiet = now - changed.map_or(since, |changed| changed.max(since)).min(now);
        if quiet >= QUIET || now - since >= OPERATION {
            return Advice::Begin;
        }
        self.say(Advice::Wait(format!("{operation} is under way")), Some(now + OPERATION_LOOK))
    }

    /// When to look again; `None` if there is no need.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time to look again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// What is waited for.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// A lock lies about that nobody seems to hold.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    fn say(&mut self, advice: Advice, due: Option<Instant>) -> Advice {
        self.due = due;
        self.reason = match &advice {
            Advice::Begin => None,
            Advice::Wait(reason) => Some(reason.clone()),
        };
        advice
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock(number: u64) -> LockId {
        LockId::of_parts(1, number, 0)
    }

    fn locked(number: u64) -> Sight {
        Sight { lock: Some(lock(number)), operation: None }
    }

    fn rebase() -> Sight {
        Sight { lock: None, operation: Some(Operation::Rebase) }
    }

    #[test]
    fn a_lock_is_waited_for_and_a_stale_one_is_not() {
        let start = Instant::now();
        let mut calm = Calm::default();
        assert_eq!(calm.may_read(Sight::default(), start), Advice::Begin);
        assert_eq!(calm.due(), None, "nothing is looked at without need");
        assert_eq!(calm.may_read(locked(1), start), Advice::Wait("git is at work".into()));
        assert!(!calm.is_due(start) && calm.is_due(start + LOCK_LOOK));
        let late = start + LOCK;
        // Another one is a git that is alive.
        assert!(matches!(calm.may_work(locked(2), None, late), Advice::Wait(_)));
        assert!(!calm.is_stale());
        assert_eq!(calm.may_work(locked(2), None, late + LOCK), Advice::Begin);
        assert!(calm.is_stale() && calm.reason().is_none());
        assert_eq!(calm.may_read(Sight::default(), late + LOCK), Advice::Begin);
        assert!(!calm.is_stale());
        // One after the other, for ever.
        for second in 0..LOCKS.as_secs() {
            let now = start + Duration::from_secs(1_000 + second);
            assert!(matches!(calm.may_read(locked(second), now), Advice::Wait(_)));
        }
        let now = start + Duration::from_secs(1_000) + LOCKS;
        assert_eq!(calm.may_read(locked(u64::MAX), now), Advice::Begin);
    }

    #[test]
    fn a_rebase_is_waited_for_as_long_as_it_moves() {
        let start = Instant::now();
        let mut calm = Calm::default();
        let wait = || Advice::Wait("a rebase is under way".into());
        assert_eq!(calm.may_read(rebase(), start), Advice::Begin, "a question's tree is read");
        assert_eq!(calm.may_work(rebase(), None, start), wait());
        assert_eq!(calm.reason(), Some("a rebase is under way"));
        assert!(matches!(calm.may_work(rebase(), None, start + QUIET / 2), Advice::Wait(_)));
        let saved = start + QUIET / 2;
        assert_eq!(calm.may_work(rebase(), Some(saved), start + QUIET), wait());
        assert_eq!(calm.may_work(rebase(), Some(saved), saved + QUIET), Advice::Begin);
        assert_eq!(calm.may_work(rebase(), Some(saved + QUIET), saved + QUIET), wait());
        let end = start + OPERATION;
        assert_eq!(calm.may_work(rebase(), Some(end), end), Advice::Begin);
        // The next one is another one.
        assert_eq!(calm.may_work(Sight::default(), Some(end), end), Advice::Begin);
        assert_eq!(calm.may_work(rebase(), Some(end), end), wait());
    }

    proptest! {
        /// Whatever git does, with a look at every due moment: a wait always has a next look, and
        /// ends in bounded time.
        #[test]
        fn no_wait_is_for_ever(sights in prop::collection::vec((0..3_u64, any::<bool>()), 1..20)) {
            let start = Instant::now();
            let mut calm = Calm::default();
            let (mut now, mut begun) = (start, false);
            for step in 0..200_000 {
                let (number, operation) = sights[step % sights.len()];
                let sight = Sight {
                    lock: (number > 0).then(|| lock(step as u64 / 7 + number)),
                    operation: operation.then_some(Operation::Merge),
                };
                match calm.may_work(sight, Some(now), now) {
                    Advice::Begin => { begun = true; break; }
                    Advice::Wait(_) => now = calm.due().expect("a next look"),
                }
            }
            prop_assert!(begun);
            prop_assert!(now - start <= OPERATION + LOCKS + OPERATION_LOOK);
        }
    }
}
