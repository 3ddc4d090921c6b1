//! When a build in the background may hold cargo's lock, as a matter of times alone.
//!
//! Whoever builds by hand gets the lock at once, and what our compilers were doing then is lost;
//! the units that they had finished are not. So nothing is begun right behind somebody else's
//! build, where the next one is likely; the more was thrown away, the longer we wait. An editor
//! that checks at every save must not starve us either: what has waited long begins all the same,
//! and what was interrupted again and again before a single unit was finished finishes one.

use std::time::Duration;

use crate::protocol;

/// How long the lock must be free at least.
const SHORTEST: Duration = Duration::from_millis(300);
/// And at most.
const LONGEST: Duration = Duration::from_secs(20);
/// Who has waited so long begins as soon as the lock is free.
const STARVED: Duration = Duration::from_secs(60);
/// The share of time that may be thrown away before pauses grow, as one in so many.
const LOSS: u32 = 5;
/// So many attempts in a row may come to nothing before one insists.
const FRUITLESS: u32 = 4;
/// How long it insists at most.
const INSISTENCE: Duration = Duration::from_secs(10);

/// Attempts of so much time are remembered: what was long ago tells little of today's editor.
const MEMORY: Duration = Duration::from_secs(600);

/// What became of the attempts at a project's builds, of one snapshot after the other: an editor
/// that checks at every save makes a new one each time.
#[derive(Debug, Default)]
pub(super) struct Courtesy {
    pause: Duration,
    spent: Duration,
    lost: Duration,
    fruitless: u32,
    /// How long the attempt under way has stood still, and all of them.
    stands: Duration,
    stood: Duration,
    total: protocol::Courtesy,
}

/// How an attempt goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempt {
    /// How long it has been running, less what it stood still.
    pub(super) ran: Duration,
    /// How long ago it finished its last unit; since its start if it has finished none.
    pub(super) since_unit: Duration,
    /// Whether it has finished one.
    pub(super) finished: bool,
}

impl Courtesy {
    /// Whether to begin, the lock having been free for `free` and the build waiting for `waited`.
    pub(super) fn may_begin(&self, free: Duration, waited: Duration) -> bool {
        free >= self.pause || waited >= STARVED
    }

    /// Whether an attempt gives way to somebody who waits for the lock.
    pub(super) fn gives_way(&self, attempt: Attempt) -> bool {
        self.fruitless < FRUITLESS || attempt.finished || attempt.ran >= INSISTENCE
    }

    /// The attempt under way was made to stand still for this long.
    pub(super) fn stood(&mut self, time: Duration) {
        self.stands += time;
        self.stood += time;
    }

    /// An attempt gave way.
    pub(super) fn gave_way(&mut self, attempt: Attempt) {
        self.stands = Duration::ZERO;
        self.enter(attempt.ran, attempt.since_unit);
        self.total.times += 1;
        self.fruitless = if attempt.finished { 0 } else { self.fruitless + 1 };
        self.pause = match self.lost * LOSS > self.spent {
            true => (self.pause * 2).clamp(SHORTEST, LONGEST),
            false => SHORTEST,
        };
    }

    /// An attempt of this length came to its end, or became needless.
    pub(super) fn ended(&mut self, length: Duration) {
        let stood = std::mem::take(&mut self.stands);
        self.enter(length.saturating_sub(stood), Duration::ZERO);
        self.fruitless = 0;
        if self.lost * LOSS <= self.spent {
            self.pause = Duration::ZERO;
        }
    }

    fn enter(&mut self, ran: Duration, lost: Duration) {
        self.spent += ran;
        self.lost += lost;
        if self.spent > MEMORY {
            (self.spent, self.lost) = (self.spent / 2, self.lost / 2);
        }
        self.total.spent_ms += milliseconds(ran);
        self.total.lost_ms += milliseconds(lost);
    }

    /// Sums since the daemon's start.
    pub(super) fn total(&self) -> protocol::Courtesy {
        protocol::Courtesy { stood_ms: milliseconds(self.stood), ..self.total }
    }

    /// The share of the time that was thrown away, in percent.
    pub(super) fn lost_percent(&self) -> u64 {
        let percent = self.lost.as_millis() * 100 / self.spent.as_millis().max(1);
        u64::try_from(percent).unwrap_or(100)
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn attempt(ran: u64, since_unit: u64) -> Attempt {
        let finished = since_unit < ran;
        Attempt { ran: seconds(ran), since_unit: seconds(since_unit), finished }
    }

    #[test]
    fn the_first_attempt_begins_at_once() {
        let courtesy = Courtesy::default();
        assert!(courtesy.may_begin(Duration::ZERO, Duration::ZERO));
        assert!(courtesy.gives_way(attempt(0, 0)));
    }

    #[test]
    fn pauses_grow_with_what_is_thrown_away_and_are_bounded() {
        let mut courtesy = Courtesy::default();
        courtesy.gave_way(attempt(2, 1));
        assert!(!courtesy.may_begin(SHORTEST / 2, seconds(1)));
        assert!(courtesy.may_begin(SHORTEST, seconds(1)));
        for _ in 0..20 {
            courtesy.gave_way(attempt(2, 2));
        }
        assert!(!courtesy.may_begin(LONGEST / 2, seconds(30)));
        assert!(courtesy.may_begin(LONGEST, seconds(30)));
        // Much was finished since: back to short pauses.
        courtesy.gave_way(attempt(1_000, 1));
        assert!(courtesy.may_begin(SHORTEST, seconds(1)));
        assert!(courtesy.lost_percent() < 20);
    }

    #[test]
    fn a_build_that_ends_in_peace_makes_up_for_losses() {
        let mut courtesy = Courtesy::default();
        courtesy.gave_way(attempt(10, 10));
        courtesy.ended(seconds(10));
        assert!(!courtesy.may_begin(Duration::ZERO, seconds(1)), "half was lost");
        courtesy.ended(seconds(30));
        assert!(courtesy.may_begin(Duration::ZERO, seconds(1)));
        let total = protocol::Courtesy { times: 1, spent_ms: 50_000, lost_ms: 10_000, stood_ms: 0 };
        assert_eq!(courtesy.total(), total);
    }

    #[test]
    fn standing_still_is_neither_spent_nor_lost() {
        let mut courtesy = Courtesy::default();
        courtesy.stood(seconds(5));
        courtesy.stood(seconds(15));
        courtesy.ended(seconds(30));
        courtesy.stood(seconds(7));
        courtesy.gave_way(attempt(10, 1));
        courtesy.ended(seconds(10));
        let total =
            protocol::Courtesy { times: 1, spent_ms: 30_000, lost_ms: 1_000, stood_ms: 27_000 };
        assert_eq!(courtesy.total(), total);
    }

    #[test]
    fn long_ago_counts_less() {
        let mut courtesy = Courtesy::default();
        courtesy.gave_way(attempt(600, 599));
        for _ in 0..60 {
            courtesy.ended(seconds(60));
        }
        assert!(courtesy.lost_percent() < 10, "{}", courtesy.lost_percent());
        assert_eq!(courtesy.total().lost_ms, 599_000);
    }

    #[test]
    fn nobody_starves() {
        let mut courtesy = Courtesy::default();
        for _ in 0..20 {
            courtesy.gave_way(attempt(1, 1));
        }
        assert!(courtesy.may_begin(Duration::ZERO, STARVED));
        assert!(!courtesy.gives_way(attempt(1, 1)), "one unit at last");
        assert!(courtesy.gives_way(attempt(2, 1)), "which is done");
        assert!(courtesy.gives_way(attempt(INSISTENCE.as_secs(), INSISTENCE.as_secs())));
        courtesy.gave_way(attempt(2, 1));
        assert!(courtesy.gives_way(attempt(0, 0)), "and is polite again");
    }
}
