//! When a build in the background stands still for the work of others, as a matter of samples and
//! times alone.
//!
//! Idle priority decides who gets a processor, within one session or control group; it does not
//! decide who fills the caches, who is woken up sooner, and nothing at all between the service's
//! group and that of a terminal. What others compute on all cores takes longer beside a compiler
//! that is only let in through the gaps. So ours are stopped where they are, which costs nothing
//! of what they have done, unlike giving up.
//!
//! While ours run, others may want more than they get. Where that may be, ours stop for a moment,
//! in which it shows; the more often in vain, the less often.
//!
//! A machine that is always busy must not mean that nothing is ever built: after a while ours go on
//! for a slice of time, whatever others do.

use std::time::{Duration, Instant};

/// How often to look.
pub(super) const EVERY: Duration = Duration::from_millis(100);
/// The share of all processors with which others use nearly all of them.
const BUSY: f64 = 0.85;
/// And the share that they must use less of before ours go on.
const FREE: f64 = 0.7;
/// The share of others, and of all together, from which others may want more than they get.
const MAYBE: f64 = 0.4;
const FULL: f64 = 0.9;
/// So many samples in a row must say so, that nothing is begun by a moment between two compilers.
const STOPS: u32 = 2;
const GOES_ON: u32 = 5;
/// The same where ours were stopped to find out, and others never used nearly all.
const IN_VAIN: u32 = 3;
/// How long nothing is found out after that was in vain once, and at most.
const FIRST_TRUST: Duration = Duration::from_secs(1);
const LAST_TRUST: Duration = Duration::from_secs(16);
/// How long ours stand still at most, until they have gone on for [`SLICE`].
const LONGEST: Duration = Duration::from_secs(20);
/// How long ours go on whatever others do, once they have stood still for [`LONGEST`].
const SLICE: Duration = Duration::from_secs(2);

/// Shares of all processors since the last sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Used {
    /// By programs that are not at low priority, as ours are.
    pub(super) others: f64,
    /// By anything.
    pub(super) all: f64,
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(super) struct Stillness {
    stands: bool,
    last: Option<Instant>,
    /// Samples in a row that speak for a change.
    row: u32,
    /// Others have used nearly all processors since we stand.
    proven: bool,
    /// How long it took until it was found out in vain, and until when it is not tried again.
    trust: Duration,
    trusts: Duration,
    /// How long we have stood still and gone on, since the last time that we had gone on for
    /// [`SLICE`].
    stood: Duration,
    went: Duration,
    /// We go on whatever others do.
    insists: bool,
}

impl Stillness {
    /// Takes a sample, if there is one. Whether to stand still from now on.
    pub(super) fn sample(&mut self, now: Instant, used: Option<Used>) -> bool {
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.trusts = self.trusts.saturating_sub(since);
        self.count(since);
        let busy = used.is_some_and(|used| used.others >= BUSY);
        let stands = match self.stands {
            true => {
                self.proven |= busy;
                let enough = if self.proven { GOES_ON } else { IN_VAIN };
                !self.is_row(used.is_none_or(|used| used.others < FREE), enough)
            }
            false => {
                let maybe = used.is_some_and(|used| used.others >= MAYBE && used.all >= FULL);
                let maybe = maybe && self.trusts.is_zero();
                self.is_row(busy || maybe, STOPS)
            }
        };
        if self.stands && !stands {
            self.trust = match self.proven {
                true => Duration::ZERO,
                false => (self.trust * 2).clamp(FIRST_TRUST, LAST_TRUST),
            };
            self.trusts = self.trust;
        }
        self.turn(stands && !self.insists);
        self.stands
    }

    /// We go on, as we must not stand still now; what was seen says nothing of later.
    pub(super) fn go_on(&mut self) -> bool {
        self.turn(false);
        (self.last, self.row) = (None, 0);
        false
    }

    /// Whether we stand still.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    /// Counts what has passed, and whether it has been too long.
    fn count(&mut self, since: Duration) {
        if self.stands {
            self.stood += since;
        } else {
            self.went += since;
            if self.went >= SLICE {
                (self.stood, self.went, self.insists) = (Duration::ZERO, Duration::ZERO, false);
            }
        }
        if self.stood >= LONGEST && !self.insists {
            (self.went, self.insists) = (Duration::ZERO, true);
        }
    }

    fn is_row(&mut self, speaks: bool, enough: u32) -> bool {
        self.row = if speaks { self.row + 1 } else { 0 };
        self.row >= enough
    }

    fn turn(&mut self, stands: bool) {
        if self.stands != stands {
            (self.stands, self.row, self.proven) = (stands, 0, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A clock that goes on by [`EVERY`] with each sample.
    struct Course {
        stillness: Stillness,
        now: Instant,
    }

    impl Course {
        fn new() -> Self {
            Self { stillness: Stillness::default(), now: Instant::now() }
        }

        /// A sample in which nobody wants more than he gets.
        fn next(&mut self, others: Option<f64>) -> bool {
            self.take(others.map(|others| Used { others, all: others }))
        }

        fn take(&mut self, used: Option<Used>) -> bool {
            self.now += EVERY;
            self.stillness.sample(self.now, used)
        }

        /// Whether it stood still after each of so many equal samples.
        fn through(&mut self, count: u32, others: f64) -> Vec<bool> {
            (0..count).map(|_| self.next(Some(others))).collect()
        }
    }

    fn samples(time: Duration) -> u32 {
        u32::try_from(time.as_millis() / EVERY.as_millis()).unwrap()
    }

    #[test]
    fn it_stands_still_soon_and_goes_on_once_there_is_room() {
        let mut course = Course::new();
        assert_eq!(course.through(3, 0.84), [false; 3]);
        assert_eq!(course.through(3, 1.0), [false, true, true]);
        // Between two compilers.
        assert_eq!(course.through(GOES_ON - 1, 0.0), [true; GOES_ON as usize - 1]);
        assert!(course.next(Some(0.7)), "from the beginning");
        assert_eq!(course.through(5, 0.69), [true, true, true, true, false]);
        assert_eq!(course.through(1, 1.0), [false]);
        assert_eq!(course.through(1, 0.8), [false], "not in a row");
        assert_eq!(course.through(2, 0.85), [false, true]);
    }

    #[test]
    fn what_is_not_known_never_stops_anything() {
        let mut course = Course::new();
        assert!((0..100).all(|_| !course.next(None)));
        course.through(3, 1.0);
        let unknown: Vec<_> = (0..GOES_ON).map(|_| course.next(None)).collect();
        assert_eq!(unknown, [true, true, true, true, false]);
    }

    #[test]
    fn a_machine_that_is_always_busy_gets_builds_all_the_same() {
        let mut course = Course::new();
        course.through(STOPS, 1.0);
        let (longest, slice) = (samples(LONGEST), samples(SLICE));
        for _ in 0..3 {
            let stood = course.through(longest, 1.0);
            assert_eq!(stood.iter().filter(|stands| **stands).count(), longest as usize - 1);
            assert!(!stood.last().unwrap());
            // The slice is over, and it stands again as soon as it may.
            assert!(course.through(slice - 1, 1.0).iter().all(|stands| !stands));
            assert!(course.next(Some(1.0)));
        }
    }

    #[test]
    fn a_gap_does_not_begin_the_count_anew() {
        let mut course = Course::new();
        let mut busy = Vec::new();
        // A compile that leaves room for half a second in every five and a half.
        for _ in 0..6 {
            busy.extend(course.through(50, 1.0));
            course.through(GOES_ON, 0.0);
        }
        let slice = busy.split(|stands| *stands).map(<[bool]>::len).max();
        assert!(slice >= Some(samples(SLICE) as usize - GOES_ON as usize), "{slice:?}");
    }

    #[test]
    fn who_gets_less_than_he_wants_is_found_out() {
        let mut course = Course::new();
        let contended = Some(Used { others: 0.6, all: 1.0 });
        let room = Some(Used { others: 0.6, all: 0.8 });
        assert!((0..50).all(|_| !course.take(room)), "there is room left");
        assert!(!course.take(contended));
        assert!(course.take(contended));
        // So they wanted all.
        assert_eq!(course.through(10, 0.95), [true; 10]);
        course.through(GOES_ON, 0.1);
        assert!(!course.take(contended));
        assert!(course.take(contended), "at once again");
        // This time they wanted no more than that.
        assert_eq!(course.through(IN_VAIN, 0.6), [true, true, false]);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push((0..1_000).take_while(|_| !course.take(contended)).count());
            course.through(IN_VAIN, 0.6);
        }
        let seconds = [1, 2, 4, 8, 16, 16, 16];
        assert_eq!(pauses, seconds.map(|seconds| seconds * 10 + STOPS as usize - 2));
        // Where all is seen to be used, nothing has to be found out.
        assert_eq!(course.through(2, 0.9), [false, true]);
    }

    #[test]
    fn who_waits_has_it_go_on() {
        let mut course = Course::new();
        course.through(STOPS, 1.0);
        course.stillness.go_on();
        assert!(!course.next(Some(1.0)), "it takes as many samples as at first");
        assert!(course.next(Some(1.0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: between any two slices' worth of going on it stands still no longer
        /// than it may, changes by no single sample, and goes on for good on a calm machine.
        #[test]
        fn it_neither_starves_nor_flaps(
            all in proptest::collection::vec(proptest::option::of((0.0..1.0, 0.0..1.0)), 1..900),
        ) {
            let mut course = Course::new();
            let (mut stood, mut went) = (Duration::ZERO, Duration::ZERO);
            let mut before = false;
            let mut same = 0;
            for used in all {
                let used = used.map(|(others, more): (f64, f64)| Used {
                    others,
                    all: others.max(more),
                });
                let stands = course.take(used);
                if before { stood += EVERY } else { went += EVERY }
                if went >= SLICE {
                    (stood, went) = (Duration::ZERO, Duration::ZERO);
                }
                prop_assert!(stood <= LONGEST + EVERY);
                same += 1;
                if stands != before {
                    prop_assert!(before || same >= STOPS);
                    prop_assert!(!stands || used.is_some_and(|used| used.others >= MAYBE));
                    same = 0;
                }
                before = stands;
            }
            course.through(GOES_ON, 0.0);
            prop_assert!(course.through(samples(LONGEST) * 2, 0.0).iter().all(|stands| !stands));
        }
    }
}
