//! When a batch of changes is complete: after a quiet period, or after a longest wait.
//!
//! Pure: time is an argument, and nothing here knows what changed.

use std::time::{Duration, Instant};

/// How many quiet periods a steady stream of changes may postpone its batch, unless said
/// otherwise: a program that writes forever must not keep the tree unknown forever.
const LONGEST_DEBOUNCE: u32 = 10;

/// Collects changes into batches.
///
/// A batch begins with the first [`touch`](Self::touch) and is due when nothing was touched for
/// the quiet period, but never later than the longest wait after it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Debounce {
    quiet: Duration,
    longest: Duration,
    batch: Option<PendingBatch>,
}

/// When the changes of the open batch came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PendingBatch {
    first: Instant,
    last: Instant,
}

impl Default for Debounce {
    /// One second of quiet.
    fn default() -> Self {
        Self::new(Duration::from_secs(1))
    }
}

impl Debounce {
    /// A batch is due after `quiet` without a change, or ten times that after its first change.
    #[must_use]
    pub(crate) fn new(quiet: Duration) -> Self {
        Self::with_longest_wait(quiet, quiet.saturating_mul(LONGEST_DEBOUNCE))
    }

    /// The same with a longest wait of its own; one shorter than `quiet` counts as `quiet`.
    #[must_use]
    pub(crate) fn with_longest_wait(quiet: Duration, longest: Duration) -> Self {
        Self { quiet, longest: longest.max(quiet), batch: None }
    }

    /// Something changed at `now`.
    pub(crate) fn touch(&mut self, now: Instant) {
        let batch = self.batch.get_or_insert(PendingBatch { first: now, last: now });
        // A caller whose clock readings crossed must not pull the deadline back.
        batch.last = batch.last.max(now);
    }

    /// When the open batch is due; `None` while there is none. It only ever moves later, and
    /// never beyond the longest wait.
    #[must_use]
    pub(crate) fn due(&self) -> Option<Instant> {
        self.batch.map(|batch| (batch.last + self.quiet).min(batch.first + self.longest))
    }

    /// Closes the batch if it is due at `now`, and says whether it was.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.batch = None;
        }
        due
    }

    /// Closes the batch at once, because someone asks; `false` if there was none.
    pub(crate) fn flush(&mut self) -> bool {
        self.batch.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_batch_is_due_after_one_quiet_second() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.due(), None);
        assert!(!debounce.take(start));
        debounce.touch(start);
        debounce.touch(start + 600 * MS);
        assert_eq!(debounce.due(), Some(start + 1600 * MS));
        assert!(!debounce.take(start + 1599 * MS));
        assert!(debounce.take(start + 1600 * MS));
        assert!(!debounce.take(start + 9000 * MS), "a batch is taken once");
    }

    #[test]
    fn a_steady_stream_waits_no_longer_than_ten_quiet_periods() {
        let start = Instant::now();
        let mut debounce = Debounce::new(100 * MS);
        for step in 0..200 {
            debounce.touch(start + step * 50 * MS);
        }
        assert_eq!(debounce.due(), Some(start + 1000 * MS));
    }

    #[test]
    fn a_question_flushes_and_begins_a_new_batch() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert!(!debounce.flush());
        debounce.touch(start);
        assert!(debounce.flush());
        assert!(!debounce.flush());
        debounce.touch(start + 5000 * MS);
        assert_eq!(debounce.due(), Some(start + 6000 * MS));
    }

    #[test]
    fn a_longest_wait_below_the_quiet_period_is_the_quiet_period() {
        let start = Instant::now();
        let mut debounce = Debounce::with_longest_wait(50 * MS, MS);
        debounce.touch(start);
        assert_eq!(debounce.due(), Some(start + 50 * MS));
    }

    proptest! {
        /// Every change is in exactly one batch, no batch is taken while changes still come
        /// unless the longest wait is over, and none later than that.
        #[test]
        fn no_change_is_lost_or_kept_too_long(
            quiet in 1u32..50,
            factor in 1u32..20,
            steps in proptest::collection::vec((0u32..80, any::<bool>()), 1..200),
        ) {
            let start = Instant::now();
            let (quiet, longest) = (quiet * MS, quiet * factor * MS);
            let mut debounce = Debounce::with_longest_wait(quiet, longest);
            let mut now = start;
            let mut open: Option<(Instant, Instant)> = None;
            for (gap, touches) in steps {
                // The caller sleeps until the deadline, whenever that comes before the change.
                let next = now + gap * MS;
                if let Some(due) = debounce.due().filter(|due| *due <= next) {
                    let (first, last) = open.take().expect("a deadline without a change");
                    prop_assert!(due <= first + longest);
                    prop_assert!(due >= last + quiet || due == first + longest);
                    prop_assert!(!debounce.take(due - Duration::from_nanos(1)));
                    prop_assert!(debounce.take(due));
                    prop_assert_eq!(debounce.due(), None);
                }
                now = next;
                if touches {
                    debounce.touch(now);
                    open = Some((open.map_or(now, |(first, _)| first), now));
                }
                prop_assert_eq!(open.is_some(), debounce.due().is_some());
            }
            prop_assert_eq!(debounce.flush(), open.is_some());
        }
    }
}
