//! How fast background work may go, as a matter of readings, settings and times alone.
//!
//! It gets worse at once and better only when it has been better for a while, so that a reading at
//! the edge does not start and stop a compiler every second. Memory has a memory of its own: our
//! build may be what fills it, so after a relapse the next pause is twice as long.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use super::readings::{Readings, Supply};
use crate::config::{BackgroundSettings, Effort};

/// How long it must have been better.
const CALM: Duration = Duration::from_secs(5);
/// What was found longer ago than this says nothing of now.
const STALE: Duration = Duration::from_secs(15);
/// How many percent a battery must be charged beyond its limit before it is no longer low.
const CHARGED: u32 = 3;
/// How long a pause for memory lasts at least, and at most after many relapses.
const FIRST_HOLD: Duration = Duration::from_secs(10);
const LAST_HOLD: Duration = Duration::from_secs(300);
/// Pressure that comes back within this time is a relapse.
const RELAPSE: Duration = Duration::from_secs(120);
/// How many cores others must keep busy before one is left to them, and how few before not.
const BUSY: f64 = 0.75;
const QUIET: f64 = 0.4;

/// How background work goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Decision {
    pub(super) effort: Effort,
    /// At most so many compilers or test programs; none leaves it to cargo.
    pub(super) jobs: Option<NonZeroUsize>,
    /// Why not at full speed; none where it is.
    pub(super) reason: Option<String>,
    /// Whether a build stands still while others use all cores.
    pub(super) stands: bool,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Memory(f64),
    Battery(Option<u32>),
    PowerSave,
    Locked,
}

impl Cause {
    /// The same cause, whatever its figure is now.
    fn is_same(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(share) => write!(f, "programs wait for memory {share:.0} % of the time"),
            Self::Battery(Some(charge)) => write!(f, "on battery, {charge} % left"),
            Self::Battery(None) => f.write_str("on battery"),
            Self::PowerSave => f.write_str("the machine saves power"),
            Self::Locked => f.write_str("the session is locked"),
        }
    }
}

/// What was found before, so that the next reading does not flap.
#[derive(Debug, Default)]
pub(super) struct Judge {
    last: Option<Instant>,
    /// What holds, and its cause.
    now: Option<(Effort, Option<Cause>)>,
    /// Since when it would be better.
    better_since: Option<Instant>,
    low: bool,
    busy: bool,
    memory: Memory,
}

/// Pressure and relapses.
#[derive(Debug, Default)]
struct Memory {
    pressed: Option<Instant>,
    released: Option<Instant>,
    hold: Duration,
}

impl Judge {
    /// What `readings` mean under `settings` on a machine of `cores`.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        readings: &Readings,
        settings: &BackgroundSettings,
        cores: NonZeroUsize,
    ) -> Decision {
        if self.last.replace(now).is_none_or(|last| now - last > STALE) {
            (self.now, self.better_since) = (None, None);
            (self.low, self.busy) = (false, false);
            self.memory.pressed = None;
        }
        let found = self.worst(now, readings, settings);
        let (effort, cause) = self.settle(now, found);
        let cares = settings.processors_busy != Effort::Run;
        self.busy = readings.others.filter(|_| cares).is_some_and(|others| {
            let limit = if self.busy { QUIET } else { BUSY };
            others >= limit
        });
        // One core less, where that leaves any.
        let left = NonZeroUsize::new(cores.get() - 1).filter(|_| self.busy);
        let (jobs, reason) = match (effort, settings.jobs) {
            (Effort::Pause | Effort::Slow, _) => (Some(NonZeroUsize::MIN), None),
            (Effort::Run, Some(jobs)) => (Some(jobs), None),
            (Effort::Run, None) => {
                (left, left.map(|_| "one core is left to other programs".to_owned()))
            }
        };
        let reason = cause.map(|cause| cause.to_string()).or(reason);
        let stands = settings.processors_busy == Effort::Pause;
        Decision { effort, jobs, reason, stands }
    }

    /// The worst of all that stands in the way now; of equals the first.
    fn worst(
        &mut self,
        now: Instant,
        readings: &Readings,
        settings: &BackgroundSettings,
    ) -> (Effort, Option<Cause>) {
        let pressed = self.memory.is_pressed(now, readings.memory, settings.memory_pressure);
        self.low = match readings.supply {
            Some(Supply::Battery(charge)) => {
                let below = settings.battery_below;
                let limit = if self.low { below.saturating_add(CHARGED) } else { below };
                below == 100 || charge.is_some_and(|charge| charge < limit)
            }
            Some(Supply::Mains) | None => false,
        };
        let charge = match readings.supply {
            Some(Supply::Battery(charge)) => charge,
            _ => None,
        };
        let is = |reading: Option<bool>| reading == Some(true);
        [
            (pressed, Effort::Pause, Cause::Memory(readings.memory.unwrap_or(0.0))),
            (self.low, settings.on_battery, Cause::Battery(charge)),
            (is(readings.power_save), settings.power_save, Cause::PowerSave),
            (is(readings.locked), settings.session_locked, Cause::Locked),
        ]
        .into_iter()
        .filter(|(holds, effort, _)| *holds && *effort != Effort::Run)
        .fold((Effort::Run, None), |worst, (_, effort, cause)| {
            if effort > worst.0 { (effort, Some(cause)) } else { worst }
        })
    }

    /// Worse at once, better after a while; a cause keeps the figure with which it began.
    fn settle(&mut self, now: Instant, found: (Effort, Option<Cause>)) -> (Effort, Option<Cause>) {
        let Some((effort, cause)) = self.now else {
            self.now = Some(found);
            return found;
        };
        if found.0 >= effort {
            self.better_since = None;
            let same = cause.zip(found.1).is_some_and(|(cause, found)| cause.is_same(found));
            if found.0 > effort || !same {
                self.now = Some(found);
            }
        } else if now - *self.better_since.get_or_insert(now) >= CALM {
            self.better_since = None;
            self.now = Some(found);
        }
        self.now.unwrap_or(found)
    }
}

impl Memory {
    fn is_pressed(&mut self, now: Instant, share: Option<f64>, limit: Option<u32>) -> bool {
        let Some((share, limit)) = share.zip(limit) else {
            self.pressed = None;
            return false;
        };
        let limit = f64::from(limit);
        match self.pressed {
            None if share >= limit => {
                let relapse = self.released.is_some_and(|released| now - released < RELAPSE);
                self.hold = match relapse {
                    true => (self.hold * 2).clamp(FIRST_HOLD, LAST_HOLD),
                    false => FIRST_HOLD,
                };
                self.pressed = Some(now);
            }
            Some(since) if share < limit / 2.0 && now - since >= self.hold => {
                self.pressed = None;
                self.released = Some(now);
            }
            _ => {}
        }
        self.pressed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL_PAUSE: BackgroundSettings = BackgroundSettings {
        on_battery: Effort::Pause,
        battery_below: 40,
        power_save: Effort::Slow,
        memory_pressure: Some(10),
        session_locked: Effort::Pause,
        processors_busy: Effort::Pause,
        jobs: None,
    };

    /// A judge with a clock that is told how many seconds have passed.
    struct Court {
        judge: Judge,
        begun: Instant,
        settings: BackgroundSettings,
        cores: NonZeroUsize,
    }

    impl Court {
        fn new(settings: BackgroundSettings, cores: usize) -> Self {
            let cores = NonZeroUsize::new(cores).unwrap();
            Self { judge: Judge::default(), begun: Instant::now(), settings, cores }
        }

        fn at(&mut self, second: u64, readings: Readings) -> Decision {
            let now = self.begun + Duration::from_secs(second);
            self.judge.decide(now, &readings, &self.settings, self.cores)
        }

        /// The last of many equal readings, one a second.
        fn through(&mut self, seconds: std::ops::Range<u64>, readings: Readings) -> Decision {
            seconds.map(|second| self.at(second, readings)).last().unwrap()
        }
    }

    fn calm() -> Readings {
        Readings {
            memory: Some(0.0),
            supply: Some(Supply::Mains),
            power_save: Some(false),
            locked: Some(false),
            others: Some(0.0),
        }
    }

    fn battery(charge: u32) -> Readings {
        Readings { supply: Some(Supply::Battery(Some(charge))), ..calm() }
    }

    fn memory(share: f64) -> Readings {
        Readings { memory: Some(share), ..calm() }
    }

    fn others(cores: f64) -> Readings {
        Readings { others: Some(cores), ..calm() }
    }

    #[test]
    fn what_is_not_known_runs() {
        let decision = Court::new(ALL_PAUSE, 4).at(0, Readings::default());
        assert_eq!(
            decision,
            Decision { effort: Effort::Run, jobs: None, reason: None, stands: true }
        );
        let unknown = Readings { supply: Some(Supply::Battery(None)), ..calm() };
        assert_eq!(Court::new(ALL_PAUSE, 4).at(0, unknown).effort, Effort::Run);
    }

    #[test]
    fn each_condition_has_its_reason() {
        let all = BackgroundSettings { battery_below: 100, ..ALL_PAUSE };
        for (settings, readings, effort, reason) in [
            (ALL_PAUSE, battery(39), Effort::Pause, "on battery, 39 % left"),
            (all, battery(100), Effort::Pause, "on battery, 100 % left"),
            (
                all,
                Readings { supply: Some(Supply::Battery(None)), ..calm() },
                Effort::Pause,
                "on battery",
            ),
            (ALL_PAUSE, memory(10.0), Effort::Pause, "programs wait for memory 10 % of the time"),
            (
                ALL_PAUSE,
                Readings { power_save: Some(true), ..calm() },
                Effort::Slow,
                "the machine saves power",
            ),
            (
                ALL_PAUSE,
                Readings { locked: Some(true), ..calm() },
                Effort::Pause,
                "the session is locked",
            ),
            // The worst one is told.
            (
                ALL_PAUSE,
                Readings { power_save: Some(true), ..battery(5) },
                Effort::Pause,
                "on battery, 5 % left",
            ),
        ] {
            let decision = Court::new(settings, 4).at(0, readings);
            assert_eq!((decision.effort, decision.reason.as_deref()), (effort, Some(reason)));
            assert_eq!(decision.jobs, NonZeroUsize::new(1));
        }
        assert_eq!(Court::new(ALL_PAUSE, 4).at(0, battery(40)).effort, Effort::Run);
    }

    #[test]
    fn it_gets_worse_at_once_and_better_after_a_while() {
        let mut court = Court::new(ALL_PAUSE, 4);
        assert_eq!(court.at(0, calm()).effort, Effort::Run);
        assert_eq!(court.at(1, battery(20)).effort, Effort::Pause);
        assert_eq!(court.through(2..7, calm()).effort, Effort::Pause);
        // Plugged out for a moment: from the beginning.
        assert_eq!(court.at(7, battery(20)).effort, Effort::Pause);
        assert_eq!(court.through(8..13, calm()).effort, Effort::Pause);
        assert_eq!(court.at(13, calm()).effort, Effort::Run);
    }

    #[test]
    fn a_charge_at_the_edge_does_not_flap() {
        let mut court = Court::new(ALL_PAUSE, 4);
        court.at(0, battery(39));
        assert_eq!(court.through(1..30, battery(41)).effort, Effort::Pause);
        assert_eq!(court.through(30..40, battery(43)).effort, Effort::Run);
        assert_eq!(court.through(40..50, battery(41)).effort, Effort::Run);
    }

    #[test]
    fn the_figure_of_a_reason_does_not_run_along() {
        let mut court = Court::new(ALL_PAUSE, 4);
        let first = court.at(0, memory(20.0));
        assert_eq!(court.at(1, memory(30.0)), first);
        let worse = Readings { locked: Some(true), ..memory(0.0) };
        assert_eq!(court.through(2..20, worse).reason.as_deref(), Some("the session is locked"));
    }

    #[test]
    fn memory_holds_and_a_relapse_holds_longer() {
        let mut court = Court::new(ALL_PAUSE, 4);
        assert_eq!(court.at(0, memory(50.0)).effort, Effort::Pause);
        // Half the limit is what is waited for.
        assert_eq!(court.through(1..30, memory(6.0)).effort, Effort::Pause);
        assert_eq!(court.through(30..36, memory(4.0)).effort, Effort::Run);
        assert_eq!(court.at(36, memory(10.0)).effort, Effort::Pause);
        assert_eq!(court.through(37..60, memory(0.0)).effort, Effort::Pause, "20 s and calm");
        assert_eq!(court.through(60..62, memory(0.0)).effort, Effort::Run);
        // Much later it is as the first time.
        for minute in 0..30 {
            court.through(70 + minute * 10..80 + minute * 10, memory(0.0));
        }
        assert_eq!(court.at(400, memory(10.0)).effort, Effort::Pause);
        assert_eq!(court.through(401..417, memory(0.0)).effort, Effort::Run);
    }

    #[test]
    fn a_core_is_left_to_a_busy_machine() {
        let mut court = Court::new(ALL_PAUSE, 4);
        assert_eq!(court.at(0, others(0.5)).jobs, None);
        let busy = court.at(1, others(0.8));
        assert_eq!((busy.effort, busy.jobs), (Effort::Run, NonZeroUsize::new(3)));
        assert_eq!(busy.reason.as_deref(), Some("one core is left to other programs"));
        assert_eq!(court.at(2, others(0.5)).jobs, NonZeroUsize::new(3));
        assert_eq!(court.at(3, others(0.3)).jobs, None);
        assert_eq!(Court::new(ALL_PAUSE, 1).at(0, others(1.0)).jobs, None, "there is only one");
        let run = BackgroundSettings { processors_busy: Effort::Run, ..ALL_PAUSE };
        let heedless = Court::new(run, 4).at(0, others(4.0));
        assert_eq!((heedless.jobs, heedless.stands), (None, false));
        let slow = BackgroundSettings { processors_busy: Effort::Slow, ..ALL_PAUSE };
        let slowly = Court::new(slow, 4).at(0, others(4.0));
        assert_eq!((slowly.jobs, slowly.stands), (NonZeroUsize::new(3), false));
        let two = BackgroundSettings { jobs: NonZeroUsize::new(2), ..ALL_PAUSE };
        assert_eq!(Court::new(two, 8).at(0, others(8.0)).jobs, NonZeroUsize::new(2));
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let mut court = Court::new(ALL_PAUSE, 4);
        assert_eq!(court.at(0, battery(10)).effort, Effort::Pause);
        assert_eq!(court.at(100, calm()).effort, Effort::Run);
    }

    fn readings() -> impl Strategy<Value = Readings> {
        let supply = prop_oneof![
            Just(None),
            Just(Some(Supply::Mains)),
            proptest::option::of(0..=100_u32).prop_map(|charge| Some(Supply::Battery(charge))),
        ];
        let flag = || proptest::option::of(any::<bool>());
        let (memory, others) = (proptest::option::of(0.0..100.0), proptest::option::of(0.0..8.0));
        (memory, supply, flag(), flag(), others).prop_map(
            |(memory, supply, power_save, locked, others)| Readings {
                memory,
                supply,
                power_save,
                locked,
                others,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: it never gets better within the calm time after something was bad, what
        /// holds back always has a reason, and a machine where all is well runs in the end.
        #[test]
        fn it_does_not_flap_and_does_not_starve(
            all in proptest::collection::vec(readings(), 1..60),
            cores in 1..9_usize,
        ) {
            let mut court = Court::new(ALL_PAUSE, cores);
            let mut before: Option<(u64, Effort)> = None;
            let mut last_change = 0;
            let count = all.len() as u64;
            for (second, readings) in all.into_iter().enumerate() {
                let second = second as u64;
                let decision = court.at(second, readings);
                if let Some((_, effort)) = before {
                    if decision.effort < effort {
                        prop_assert!(second - last_change >= CALM.as_secs());
                    }
                    if decision.effort != effort {
                        last_change = second;
                    }
                }
                prop_assert!(decision.effort == Effort::Run || decision.reason.is_some());
                prop_assert!(decision.jobs.is_none_or(|jobs| jobs <= court.cores));
                before = Some((second, decision.effort));
            }
            let end = court.through(count..count + LAST_HOLD.as_secs() + 10, calm());
            prop_assert_eq!(end.effort, Effort::Run);
        }

        /// Nothing configured holds nothing back.
        #[test]
        fn run_means_run(all in proptest::collection::vec(readings(), 1..20)) {
            let settings = BackgroundSettings {
                on_battery: Effort::Run,
                battery_below: 100,
                power_save: Effort::Run,
                memory_pressure: None,
                session_locked: Effort::Run,
                processors_busy: Effort::Run,
                jobs: None,
            };
            let mut court = Court::new(settings, 4);
            for (second, readings) in all.into_iter().enumerate() {
                prop_assert_eq!(court.at(second as u64, readings).effort, Effort::Run);
            }
        }
    }
}
