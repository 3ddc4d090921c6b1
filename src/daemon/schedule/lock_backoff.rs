//! When a background build may take cargo's lock, and when it gives it back.
//!
//! A foreign cargo that waits for the lock gets it at once; our compilers' unfinished units are
//! lost, finished ones are not. So no build begins right behind a foreign one, where the next one is
//! likely. The more time was lost, the longer we back off. An editor that checks at every save must
//! not starve us either: a build that has waited long begins all the same, and after several
//! fruitless attempts one of them is allowed to finish a unit.

use std::time::{Duration, Instant};

use crate::daemon::time::milliseconds;
use crate::protocol::InterruptionStats;

/// The shortest and the longest time for which the lock must have been free.
const SHORTEST_LOCK_PAUSE: Duration = Duration::from_millis(300);
const LONGEST_LOCK_PAUSE: Duration = Duration::from_secs(20);
/// A build that has waited this long begins as soon as the lock is free.
const STARVED: Duration = Duration::from_secs(60);
/// Pauses grow while more than one part in this many is lost.
const TOLERATED_LOSS: u32 = 5;
/// This many attempts in a row may finish nothing before one insists.
const FRUITLESS_ATTEMPTS: u32 = 4;
/// The longest time that an attempt insists.
const LONGEST_INSISTENCE: Duration = Duration::from_secs(10);
/// The time over which losses are counted; older ones fade.
const LOSS_MEMORY: Duration = Duration::from_secs(600);

/// The history of a project's attempts to build.
#[derive(Debug, Default)]
pub(super) struct LockBackoff {
    pause: Duration,
    spent: Duration,
    lost: Duration,
    fruitless: u32,
    suspended: Duration,
    total: InterruptionStats,
}

/// One call of cargo. Its times are moved by as long as it was suspended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) started: Instant,
    /// When it finished its last unit; its start if it has finished none.
    pub(super) last_unit: Instant,
    pub(super) finished_unit: bool,
}

impl Attempt {
    pub(super) fn new(now: Instant) -> Self {
        Self { started: now, last_unit: now, finished_unit: false }
    }
}

impl LockBackoff {
    /// Whether to begin, after the lock was free for `free` and the build waited for `waited`.
    pub(super) fn may_begin(&self, free: Duration, waited: Duration) -> bool {
        free >= self.pause || waited >= STARVED
    }

    /// Whether an attempt yields to a foreign cargo that waits for the lock.
    pub(super) fn yields(&self, attempt: &Attempt, now: Instant) -> bool {
        self.fruitless < FRUITLESS_ATTEMPTS
            || attempt.finished_unit
            || now - attempt.started >= LONGEST_INSISTENCE
    }

    /// An attempt yielded.
    pub(super) fn yielded(&mut self, attempt: &Attempt, now: Instant) {
        self.count(now - attempt.started, now - attempt.last_unit);
        self.total.times += 1;
        self.fruitless = if attempt.finished_unit { 0 } else { self.fruitless + 1 };
        self.pause = match self.loses_much() {
            true => (self.pause * 2).clamp(SHORTEST_LOCK_PAUSE, LONGEST_LOCK_PAUSE),
            false => SHORTEST_LOCK_PAUSE,
        };
    }

    /// An attempt came to its end, or was given up for another reason.
    pub(super) fn ended(&mut self, attempt: &Attempt, now: Instant) {
        self.count(now - attempt.started, Duration::ZERO);
        self.fruitless = 0;
        if !self.loses_much() {
            self.pause = Duration::ZERO;
        }
    }

    /// A build was suspended for this long.
    pub(super) fn suspended(&mut self, time: Duration) {
        self.suspended += time;
    }

    /// Sums since the daemon's start.
    pub(super) fn total(&self) -> InterruptionStats {
        InterruptionStats { suspended_ms: milliseconds(self.suspended), ..self.total }
    }

    fn loses_much(&self) -> bool {
        self.lost * TOLERATED_LOSS > self.spent
    }

    fn count(&mut self, ran: Duration, lost: Duration) {
        self.spent += ran;
        self.lost += lost;
        if self.spent > LOSS_MEMORY {
            (self.spent, self.lost) = (self.spent / 2, self.lost / 2);
        }
        self.total.spent_ms += milliseconds(ran);
        self.total.lost_ms += milliseconds(lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A back-off, and attempts that all began at one moment.
    struct Course {
        backoff: LockBackoff,
        begun: Instant,
    }

    impl Course {
        fn new() -> Self {
            Self { backoff: LockBackoff::default(), begun: Instant::now() }
        }

        /// An attempt that has run for `ran` seconds, `since_unit` since its last unit.
        fn attempt(&self, ran: u64, since_unit: u64) -> Attempt {
            let last_unit = self.begun + seconds(ran - since_unit);
            Attempt { started: self.begun, last_unit, finished_unit: since_unit < ran }
        }

        fn yields(&self, ran: u64, since_unit: u64) -> bool {
            self.backoff.yields(&self.attempt(ran, since_unit), self.begun + seconds(ran))
        }

        fn yielded(&mut self, ran: u64, since_unit: u64) {
            let attempt = self.attempt(ran, since_unit);
            self.backoff.yielded(&attempt, self.begun + seconds(ran));
        }

        fn ended(&mut self, ran: u64) {
            self.backoff.ended(&self.attempt(ran, 0), self.begun + seconds(ran));
        }

        fn lost_percent(&self) -> u128 {
            self.backoff.lost.as_millis() * 100 / self.backoff.spent.as_millis().max(1)
        }
    }

    #[test]
    fn the_first_attempt_begins_at_once() {
        let course = Course::new();
        assert!(course.backoff.may_begin(Duration::ZERO, Duration::ZERO));
        assert!(course.yields(0, 0));
    }

    #[test]
    fn pauses_grow_with_the_loss_and_are_bounded() {
        let mut course = Course::new();
        course.yielded(2, 1);
        assert!(!course.backoff.may_begin(SHORTEST_LOCK_PAUSE / 2, seconds(1)));
        assert!(course.backoff.may_begin(SHORTEST_LOCK_PAUSE, seconds(1)));
        for _ in 0..20 {
            course.yielded(2, 2);
        }
        assert!(!course.backoff.may_begin(LONGEST_LOCK_PAUSE / 2, seconds(30)));
        assert!(course.backoff.may_begin(LONGEST_LOCK_PAUSE, seconds(30)));
        // Much was finished since: back to short pauses.
        course.yielded(1_000, 1);
        assert!(course.backoff.may_begin(SHORTEST_LOCK_PAUSE, seconds(1)));
        assert!(course.lost_percent() < 20);
    }

    #[test]
    fn builds_that_end_make_up_for_losses() {
        let mut course = Course::new();
        course.yielded(10, 10);
        course.ended(10);
        assert!(!course.backoff.may_begin(Duration::ZERO, seconds(1)), "half was lost");
        course.ended(30);
        assert!(course.backoff.may_begin(Duration::ZERO, seconds(1)));
        course.backoff.suspended(seconds(7));
        let total =
            InterruptionStats { times: 1, spent_ms: 50_000, lost_ms: 10_000, suspended_ms: 7_000 };
        assert_eq!(course.backoff.total(), total);
    }

    #[test]
    fn old_losses_fade() {
        let mut course = Course::new();
        course.yielded(600, 599);
        for _ in 0..60 {
            course.ended(60);
        }
        assert!(course.lost_percent() < 10, "{}", course.lost_percent());
        assert_eq!(course.backoff.total().lost_ms, 599_000);
    }

    #[test]
    fn no_build_starves() {
        let mut course = Course::new();
        for _ in 0..20 {
            course.yielded(1, 1);
        }
        assert!(course.backoff.may_begin(Duration::ZERO, STARVED));
        assert!(!course.yields(1, 1), "it insists on one unit");
        assert!(course.yields(2, 1), "which is finished");
        let longest = LONGEST_INSISTENCE.as_secs();
        assert!(course.yields(longest, longest));
        course.yielded(2, 1);
        assert!(course.yields(0, 0), "and yields again");
    }
}
