//! When a background build is suspended for other programs' use of the processors.
//!
//! Idle priority does not suffice. Weights of control groups count between siblings only: where
//! the terminal is in a session scope beside the user's service manager, an idle group of ours gets
//! half of the machine, and the kernel's `cpu.idle` changes nothing about that. Caches and wake-ups
//! are shared in any case. So builds are suspended where they are, which loses nothing that they
//! have done.
//!
//! While ours run, other programs may want more than they get. Where that is possible, ours are
//! suspended for a moment to find out (a probe); after a probe in vain, the next one comes later.
//!
//! On a machine that is always busy, ours run for a slice of time now and then all the same.

use std::time::{Duration, Instant};

use crate::daemon::machine::CpuUse;

/// How often a sample is taken.
pub(in crate::daemon) const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);
/// Others use nearly all processors from this share on, and have left room below the second one.
const BUSY: f64 = 0.85;
const FREE: f64 = 0.7;
/// From these shares of others and of all on, others may want more than they get.
const CONTENDED_OTHERS: f64 = 0.4;
const CONTENDED_ALL: f64 = 0.9;
/// This many samples in a row suspend and resume: a moment between two compilers is no reason.
const SAMPLES_TO_SUSPEND: u32 = 2;
const SAMPLES_TO_RESUME: u32 = 5;
/// The same for a probe in which others did not use nearly all processors.
const SAMPLES_TO_END_PROBE: u32 = 3;
/// The shortest and the longest time without a probe after one in vain.
const SHORTEST_PROBE_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PROBE_PAUSE: Duration = Duration::from_secs(16);
/// After so much suspended time, a build runs for [`SLICE`] whatever others do.
const LONGEST_SUSPENSION: Duration = Duration::from_secs(20);
const SLICE: Duration = Duration::from_secs(2);

/// The state between samples.
#[derive(Debug, Default)]
pub(super) struct CpuSuspension {
    suspended: bool,
    last_sample: Option<Instant>,
    /// Samples in a row that speak for a change.
    row: u32,
    /// Others have used nearly all processors since the suspension began.
    proven: bool,
    /// The pause after the last probe, and what is left of it.
    probe_pause: Duration,
    until_probe: Duration,
    /// Suspended and running time since a build last ran for [`SLICE`].
    suspended_for: Duration,
    ran_for: Duration,
    /// It runs whatever others do.
    in_slice: bool,
}

impl CpuSuspension {
    /// Takes a sample, unknown or not. Whether builds are suspended from now on.
    pub(super) fn sample(&mut self, now: Instant, cpu: Option<CpuUse>) -> bool {
        let since = self.last_sample.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.until_probe = self.until_probe.saturating_sub(since);
        self.count(since);
        let busy = cpu.is_some_and(|cpu| cpu.others >= BUSY);
        let suspended = if self.suspended {
            self.proven |= busy;
            let enough = if self.proven { SAMPLES_TO_RESUME } else { SAMPLES_TO_END_PROBE };
            !self.is_row(cpu.is_none_or(|cpu| cpu.others < FREE), enough)
        } else {
            let contended =
                cpu.is_some_and(|cpu| cpu.others >= CONTENDED_OTHERS && cpu.all >= CONTENDED_ALL);
            self.is_row(busy || contended && self.until_probe.is_zero(), SAMPLES_TO_SUSPEND)
        };
        if self.suspended && !suspended {
            self.probe_pause = match self.proven {
                true => Duration::ZERO,
                false => (self.probe_pause * 2).clamp(SHORTEST_PROBE_PAUSE, LONGEST_PROBE_PAUSE),
            };
            self.until_probe = self.probe_pause;
        }
        self.set(suspended && !self.in_slice);
        self.suspended
    }

    /// Builds must not be suspended now.
    pub(super) fn resume(&mut self) {
        self.set(false);
        (self.last_sample, self.row) = (None, 0);
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.suspended
    }

    /// Counts the time that has passed, and begins or ends a slice.
    fn count(&mut self, since: Duration) {
        if self.suspended {
            self.suspended_for += since;
        } else {
            self.ran_for += since;
            if self.ran_for >= SLICE {
                (self.suspended_for, self.ran_for) = (Duration::ZERO, Duration::ZERO);
                self.in_slice = false;
            }
        }
        if self.suspended_for >= LONGEST_SUSPENSION && !self.in_slice {
            (self.ran_for, self.in_slice) = (Duration::ZERO, true);
        }
    }

    fn is_row(&mut self, speaks: bool, enough: u32) -> bool {
        self.row = if speaks { self.row + 1 } else { 0 };
        self.row >= enough
    }

    fn set(&mut self, suspended: bool) {
        if self.suspended != suspended {
            (self.suspended, self.row, self.proven) = (suspended, 0, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A clock that goes on by [`SAMPLE_INTERVAL`] with each sample.
    struct Course {
        cpu_suspension: CpuSuspension,
        now: Instant,
    }

    impl Course {
        fn new() -> Self {
            Self { cpu_suspension: CpuSuspension::default(), now: Instant::now() }
        }

        /// A sample in which no program wants more than it gets.
        fn next(&mut self, others: Option<f64>) -> bool {
            self.take(others.map(|others| CpuUse { others, all: others }))
        }

        fn take(&mut self, used: Option<CpuUse>) -> bool {
            self.now += SAMPLE_INTERVAL;
            self.cpu_suspension.sample(self.now, used)
        }

        /// Whether it was suspended after each of so many equal samples.
        fn through(&mut self, count: u32, others: f64) -> Vec<bool> {
            (0..count).map(|_| self.next(Some(others))).collect()
        }
    }

    fn samples(time: Duration) -> u32 {
        u32::try_from(time.as_millis() / SAMPLE_INTERVAL.as_millis()).unwrap()
    }

    #[test]
    fn a_build_is_suspended_soon_and_resumed_once_there_is_room() {
        let mut course = Course::new();
        assert_eq!(course.through(3, 0.84), [false; 3]);
        assert_eq!(course.through(3, 1.0), [false, true, true]);
        // Between two compilers.
        assert_eq!(
            course.through(SAMPLES_TO_RESUME - 1, 0.0),
            [true; SAMPLES_TO_RESUME as usize - 1]
        );
        assert!(course.next(Some(0.7)), "from the beginning");
        assert_eq!(course.through(5, 0.69), [true, true, true, true, false]);
        assert_eq!(course.through(1, 1.0), [false]);
        assert_eq!(course.through(1, 0.8), [false], "not in a row");
        assert_eq!(course.through(2, 0.85), [false, true]);
    }

    #[test]
    fn unknown_samples_suspend_nothing() {
        let mut course = Course::new();
        assert!((0..100).all(|_| !course.next(None)));
        course.through(3, 1.0);
        let unknown: Vec<_> = (0..SAMPLES_TO_RESUME).map(|_| course.next(None)).collect();
        assert_eq!(unknown, [true, true, true, true, false]);
    }

    #[test]
    fn builds_run_for_a_slice_on_a_machine_that_is_always_busy() {
        let mut course = Course::new();
        course.through(SAMPLES_TO_SUSPEND, 1.0);
        let (longest, slice) = (samples(LONGEST_SUSPENSION), samples(SLICE));
        for _ in 0..3 {
            let busy = course.through(longest, 1.0);
            assert_eq!(busy.iter().filter(|suspended| **suspended).count(), longest as usize - 1);
            assert!(!busy.last().unwrap());
            // The slice is over, and the build is suspended again as soon as possible.
            assert!(course.through(slice - 1, 1.0).iter().all(|suspended| !suspended));
            assert!(course.next(Some(1.0)));
        }
    }

    #[test]
    fn a_gap_does_not_restart_the_longest_suspension() {
        let mut course = Course::new();
        let mut busy = Vec::new();
        // A compile that leaves room for half a second in every five and a half.
        for _ in 0..6 {
            busy.extend(course.through(50, 1.0));
            course.through(SAMPLES_TO_RESUME, 0.0);
        }
        let slice = busy.split(|suspended| *suspended).map(<[bool]>::len).max();
        assert!(slice >= Some(samples(SLICE) as usize - SAMPLES_TO_RESUME as usize), "{slice:?}");
    }

    #[test]
    fn a_probe_finds_programs_that_want_more_than_they_get() {
        let mut course = Course::new();
        let contended = Some(CpuUse { others: 0.6, all: 1.0 });
        let room = Some(CpuUse { others: 0.6, all: 0.8 });
        assert!((0..50).all(|_| !course.take(room)), "there is room left");
        assert!(!course.take(contended));
        assert!(course.take(contended));
        // So they wanted all.
        assert_eq!(course.through(10, 0.95), [true; 10]);
        course.through(SAMPLES_TO_RESUME, 0.1);
        assert!(!course.take(contended));
        assert!(course.take(contended), "at once again");
        // This time they wanted no more than that.
        assert_eq!(course.through(SAMPLES_TO_END_PROBE, 0.6), [true, true, false]);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            pauses.push((0..1_000).take_while(|_| !course.take(contended)).count());
            course.through(SAMPLES_TO_END_PROBE, 0.6);
        }
        let seconds = [1, 2, 4, 8, 16, 16, 16];
        assert_eq!(pauses, seconds.map(|seconds| seconds * 10 + SAMPLES_TO_SUSPEND as usize - 2));
        // Where all is seen to be used, nothing has to be found out.
        assert_eq!(course.through(2, 0.9), [false, true]);
    }

    #[test]
    fn resume_restarts_the_count_of_samples() {
        let mut course = Course::new();
        course.through(SAMPLES_TO_SUSPEND, 1.0);
        course.cpu_suspension.resume();
        assert!(!course.next(Some(1.0)), "it takes as many samples as at first");
        assert!(course.next(Some(1.0)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// For all samples: between two slices it is suspended no longer than the limit, no single
        /// sample changes anything, and a calm machine resumes it for good.
        #[test]
        fn it_neither_starves_nor_flaps(
            all in proptest::collection::vec(proptest::option::of((0.0..1.0, 0.0..1.0)), 1..900),
        ) {
            let mut course = Course::new();
            let (mut suspended_for, mut ran_for) = (Duration::ZERO, Duration::ZERO);
            let mut before = false;
            let mut same = 0;
            for used in all {
                let used = used.map(|(others, more): (f64, f64)| CpuUse {
                    others,
                    all: others.max(more),
                });
                let suspended = course.take(used);
                if before { suspended_for += SAMPLE_INTERVAL } else { ran_for += SAMPLE_INTERVAL }
                if ran_for >= SLICE {
                    (suspended_for, ran_for) = (Duration::ZERO, Duration::ZERO);
                }
                prop_assert!(suspended_for <= LONGEST_SUSPENSION + SAMPLE_INTERVAL);
                same += 1;
                if suspended != before {
                    prop_assert!(before || same >= SAMPLES_TO_SUSPEND);
                    prop_assert!(!suspended || used.is_some_and(|used| used.others >= CONTENDED_OTHERS));
                    same = 0;
                }
                before = suspended;
            }
            course.through(SAMPLES_TO_RESUME, 0.0);
            prop_assert!(course.through(samples(LONGEST_SUSPENSION) * 2, 0.0).iter().all(|suspended| !suspended));
        }
    }
}
