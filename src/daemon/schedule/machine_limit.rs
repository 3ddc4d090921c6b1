//! How much background work the machine allows now.
//!
//! It gets less at once. It gets more only after it has been possible for a while, so that a
//! reading at the edge does not start and stop a compiler every second. If the same trouble comes
//! back soon after that, our own work may be the cause: the next wait is twice as long.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use crate::config::{BackgroundSettings, Effort};
use crate::daemon::machine::{Readings, Supply};

/// The shortest and the longest time that things must be better before more work is allowed.
const SHORTEST_HOLD: Duration = Duration::from_secs(5);
const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// Trouble that comes back within this time doubles the hold.
const RELAPSE: Duration = Duration::from_secs(120);
/// Readings older than this say nothing of now.
const READINGS_LIFETIME: Duration = Duration::from_secs(15);
/// One core is left to other programs once they keep this many busy, until they keep fewer busy
/// than the second figure.
const CORES_BUSY: f64 = 0.75;
const CORES_QUIET: f64 = 0.4;

/// How much background work is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Limit {
    pub(super) effort: Effort,
    /// The number of compilers or test programs at a time; none leaves it to cargo.
    pub(in crate::daemon) jobs: Option<NonZeroUsize>,
    /// Why work is limited; none if it is not.
    pub(super) reason: Option<String>,
}

impl Limit {
    /// No limit, as for work that a client waits for.
    pub(super) const NONE: Self = Self { effort: Effort::Run, jobs: None, reason: None };

    /// Whether work is limited at all.
    pub(super) fn holds_back(&self) -> bool {
        self.effort != Effort::Run || self.jobs.is_some()
    }

    /// `doing`, followed by the reason if work is limited.
    pub(in crate::daemon) fn describe(&self, doing: &str) -> String {
        match (&self.reason, self.effort) {
            (Some(reason), Effort::Slow) => format!("{doing} (one job: {reason})"),
            (Some(reason), _) => format!("{doing} ({reason})"),
            (None, _) => doing.to_owned(),
        }
    }
}

/// A reason to limit work.
#[derive(Clone, Copy, Debug)]
enum Cause {
    MemoryPressure(f64),
    Battery(Option<u32>),
    PowerSave,
    SessionLocked,
}

impl Cause {
    /// Whether this is the same cause with another figure.
    fn is_same(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MemoryPressure(share) => {
                write!(f, "programs wait for memory {share:.0} % of the time")
            }
            Self::Battery(Some(charge)) => write!(f, "on battery, {charge} % left"),
            Self::Battery(None) => f.write_str("on battery"),
            Self::PowerSave => f.write_str("the machine saves power"),
            Self::SessionLocked => f.write_str("the session is locked"),
        }
    }
}

/// The state between readings.
#[derive(Debug)]
pub(super) struct MachineLimit {
    last_reading: Option<Instant>,
    /// What holds, and why; the figure is that of its beginning.
    effort: Effort,
    cause: Option<Cause>,
    better_since: Option<Instant>,
    /// How long it must be better.
    hold: Duration,
    /// When the last hold was over.
    released: Option<Instant>,
    leaves_core: bool,
}

impl Default for MachineLimit {
    fn default() -> Self {
        Self {
            last_reading: None,
            effort: Effort::Run,
            cause: None,
            better_since: None,
            hold: SHORTEST_HOLD,
            released: None,
            leaves_core: false,
        }
    }
}

impl MachineLimit {
    /// Takes a reading on a machine of `cores`; the limit from now on.
    pub(super) fn update(
        &mut self,
        now: Instant,
        readings: &Readings,
        settings: &BackgroundSettings,
        cores: NonZeroUsize,
    ) -> Limit {
        if self.last_reading.replace(now).is_none_or(|last| now - last > READINGS_LIFETIME) {
            *self = Self { last_reading: self.last_reading, ..Self::default() };
        }
        let (effort, cause) = self.worst(readings, settings);
        if effort > self.effort {
            let relapse = self.released.is_some_and(|released| now - released < RELAPSE);
            let hold = if relapse { self.hold * 2 } else { SHORTEST_HOLD };
            self.hold = hold.min(LONGEST_HOLD);
            (self.effort, self.cause, self.better_since) = (effort, cause, None);
        } else if effort == self.effort {
            self.better_since = None;
            if !self.cause.zip(cause).is_some_and(|(one, other)| one.is_same(other)) {
                self.cause = cause;
            }
        } else if now - *self.better_since.get_or_insert(now) >= self.hold {
            (self.effort, self.cause, self.better_since) = (effort, cause, None);
            self.released = Some(now);
        }
        let wants_core = settings.processors_busy != Effort::Run;
        let threshold = if self.leaves_core { CORES_QUIET } else { CORES_BUSY };
        self.leaves_core =
            wants_core && readings.busy_cores.is_some_and(|cores| cores >= threshold);
        let fewer = NonZeroUsize::new(cores.get() - 1).filter(|_| self.leaves_core);
        let (jobs, reason) = match (self.effort, settings.jobs) {
            (Effort::Pause | Effort::Slow, _) => (Some(NonZeroUsize::MIN), None),
            (Effort::Run, Some(jobs)) => (Some(jobs), None),
            (Effort::Run, None) => {
                (fewer, fewer.map(|_| "one core is left to other programs".to_owned()))
            }
        };
        let reason = self.cause.map(|cause| cause.to_string()).or(reason);
        Limit { effort: self.effort, jobs, reason }
    }

    /// The strictest of all that applies now; of equal ones the first.
    fn worst(&self, readings: &Readings, settings: &BackgroundSettings) -> (Effort, Option<Cause>) {
        let pressure = readings.memory_pressure.unwrap_or(0.0);
        let pressed = settings.memory_pressure.is_some_and(|limit| {
            // The average falls slowly once our own work has stopped.
            let holds = matches!(self.cause, Some(Cause::MemoryPressure(_)));
            pressure >= f64::from(limit) / if holds { 2.0 } else { 1.0 }
        });
        let charge = match readings.power.supply {
            Some(Supply::Battery(charge)) => Some(charge),
            Some(Supply::Mains) | None => None,
        };
        let below = settings.battery_below;
        let low = charge
            .is_some_and(|charge| below == 100 || charge.is_some_and(|charge| charge < below));
        let charge = charge.flatten();
        let is = |reading: Option<bool>| reading == Some(true);
        [
            (pressed, Effort::Pause, Cause::MemoryPressure(pressure)),
            (low, settings.on_battery, Cause::Battery(charge)),
            (is(readings.power.saving), settings.power_save, Cause::PowerSave),
            (is(readings.locked), settings.session_locked, Cause::SessionLocked),
        ]
        .into_iter()
        .filter(|(holds, effort, _)| *holds && *effort != Effort::Run)
        .fold((Effort::Run, None), |worst, (_, effort, cause)| {
            if effort > worst.0 { (effort, Some(cause)) } else { worst }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::machine::Power;
    use proptest::prelude::*;

    const ALL_PAUSE: BackgroundSettings =
        BackgroundSettings { session_locked: Effort::Pause, ..BackgroundSettings::SAMPLE };

    /// A limit with a clock that is set to a number of seconds.
    struct Course {
        limit: MachineLimit,
        begun: Instant,
        settings: BackgroundSettings,
        cores: NonZeroUsize,
    }

    impl Course {
        fn new(settings: BackgroundSettings, cores: usize) -> Self {
            let cores = NonZeroUsize::new(cores).unwrap();
            Self { limit: MachineLimit::default(), begun: Instant::now(), settings, cores }
        }

        fn at(&mut self, second: u64, readings: Readings) -> Limit {
            let now = self.begun + Duration::from_secs(second);
            self.limit.update(now, &readings, &self.settings, self.cores)
        }

        /// The last of many equal readings, one a second.
        fn through(&mut self, seconds: std::ops::Range<u64>, readings: Readings) -> Limit {
            seconds.map(|second| self.at(second, readings)).last().unwrap()
        }
    }

    fn calm() -> Readings {
        Readings {
            memory_pressure: Some(0.0),
            power: Power { supply: Some(Supply::Mains), saving: Some(false) },
            locked: Some(false),
            busy_cores: Some(0.0),
        }
    }

    fn on(supply: Option<Supply>, saving: Option<bool>) -> Readings {
        Readings { power: Power { supply, saving }, ..calm() }
    }

    fn battery(charge: u32) -> Readings {
        on(Some(Supply::Battery(Some(charge))), Some(false))
    }

    fn pressure(share: f64) -> Readings {
        Readings { memory_pressure: Some(share), ..calm() }
    }

    fn others(cores: f64) -> Readings {
        Readings { busy_cores: Some(cores), ..calm() }
    }

    #[test]
    fn unknown_readings_limit_nothing() {
        assert_eq!(Course::new(ALL_PAUSE, 4).at(0, Readings::default()), Limit::NONE);
        let unknown = on(Some(Supply::Battery(None)), None);
        assert_eq!(Course::new(ALL_PAUSE, 4).at(0, unknown).effort, Effort::Run);
    }

    #[test]
    fn each_condition_has_its_reason() {
        let all = BackgroundSettings { battery_below: 100, ..ALL_PAUSE };
        for (settings, readings, effort, reason) in [
            (ALL_PAUSE, battery(39), Effort::Pause, "on battery, 39 % left"),
            (all, battery(100), Effort::Pause, "on battery, 100 % left"),
            (all, on(Some(Supply::Battery(None)), None), Effort::Pause, "on battery"),
            (ALL_PAUSE, pressure(10.0), Effort::Pause, "programs wait for memory 10 % of the time"),
            (ALL_PAUSE, on(None, Some(true)), Effort::Slow, "the machine saves power"),
            (
                ALL_PAUSE,
                Readings { locked: Some(true), ..calm() },
                Effort::Pause,
                "the session is locked",
            ),
            // The strictest one is named.
            (
                ALL_PAUSE,
                on(Some(Supply::Battery(Some(5))), Some(true)),
                Effort::Pause,
                "on battery, 5 % left",
            ),
        ] {
            let limit = Course::new(settings, 4).at(0, readings);
            assert_eq!((limit.effort, limit.reason.as_deref()), (effort, Some(reason)));
            assert_eq!(limit.jobs, NonZeroUsize::new(1));
        }
        assert_eq!(Course::new(ALL_PAUSE, 4).at(0, battery(40)).effort, Effort::Run);
    }

    #[test]
    fn it_limits_at_once_and_releases_after_a_while() {
        let mut course = Course::new(ALL_PAUSE, 4);
        assert_eq!(course.at(0, calm()).effort, Effort::Run);
        assert_eq!(course.at(1, battery(20)).effort, Effort::Pause);
        assert_eq!(course.through(2..7, calm()).effort, Effort::Pause);
        // Plugged out for a moment: from the beginning.
        assert_eq!(course.at(7, battery(20)).effort, Effort::Pause);
        assert_eq!(course.through(8..13, calm()).effort, Effort::Pause);
        assert_eq!(course.at(13, calm()).effort, Effort::Run);
    }

    #[test]
    fn a_charge_at_the_edge_changes_less_and_less_often() {
        let mut course = Course::new(ALL_PAUSE, 4);
        let mut changes = Vec::new();
        let mut before = Effort::Run;
        for second in 0..100 {
            // Ours run at 40 %, and bring it to 39 %.
            let charge = if before == Effort::Run { 39 } else { 40 };
            let effort = course.at(second, battery(charge)).effort;
            if effort != before {
                changes.push(second);
            }
            before = effort;
        }
        assert_eq!(changes, [0, 6, 7, 18, 19, 40, 41, 82, 83]);
    }

    #[test]
    fn a_reason_keeps_its_first_figure() {
        let mut course = Course::new(ALL_PAUSE, 4);
        let first = course.at(0, pressure(20.0));
        assert_eq!(course.at(1, pressure(30.0)), first);
        let worse = Readings { locked: Some(true), ..pressure(0.0) };
        assert_eq!(course.through(2..20, worse).reason.as_deref(), Some("the session is locked"));
    }

    #[test]
    fn a_relapse_holds_twice_as_long() {
        let mut course = Course::new(ALL_PAUSE, 4);
        assert_eq!(course.at(0, pressure(50.0)).effort, Effort::Pause);
        // Half the limit is what is waited for.
        assert_eq!(course.through(1..30, pressure(6.0)).effort, Effort::Pause);
        assert_eq!(course.through(30..36, pressure(4.0)).effort, Effort::Run);
        assert_eq!(course.at(36, pressure(10.0)).effort, Effort::Pause);
        assert_eq!(course.through(37..47, pressure(0.0)).effort, Effort::Pause, "twice as long");
        assert_eq!(course.through(47..48, pressure(0.0)).effort, Effort::Run);
        // Much later it is as the first time.
        for minute in 0..30 {
            course.through(70 + minute * 10..80 + minute * 10, pressure(0.0));
        }
        assert_eq!(course.at(400, pressure(10.0)).effort, Effort::Pause);
        assert_eq!(course.through(401..407, pressure(0.0)).effort, Effort::Run);
    }

    #[test]
    fn one_core_is_left_to_a_busy_machine() {
        let mut course = Course::new(ALL_PAUSE, 4);
        assert_eq!(course.at(0, others(0.5)).jobs, None);
        let busy = course.at(1, others(0.8));
        assert_eq!((busy.effort, busy.jobs), (Effort::Run, NonZeroUsize::new(3)));
        assert_eq!(busy.reason.as_deref(), Some("one core is left to other programs"));
        assert_eq!(course.at(2, others(0.5)).jobs, NonZeroUsize::new(3));
        assert_eq!(course.at(3, others(0.3)).jobs, None);
        assert_eq!(Course::new(ALL_PAUSE, 1).at(0, others(1.0)).jobs, None, "there is only one");
        let run = BackgroundSettings { processors_busy: Effort::Run, ..ALL_PAUSE };
        assert_eq!(Course::new(run, 4).at(0, others(4.0)).jobs, None);
        let slow = BackgroundSettings { processors_busy: Effort::Slow, ..ALL_PAUSE };
        assert_eq!(Course::new(slow, 4).at(0, others(4.0)).jobs, NonZeroUsize::new(3));
        let two = BackgroundSettings { jobs: NonZeroUsize::new(2), ..ALL_PAUSE };
        assert_eq!(Course::new(two, 8).at(0, others(8.0)).jobs, NonZeroUsize::new(2));
    }

    #[test]
    fn old_readings_do_not_count() {
        let mut course = Course::new(ALL_PAUSE, 4);
        assert_eq!(course.at(0, battery(10)).effort, Effort::Pause);
        assert_eq!(course.at(100, calm()).effort, Effort::Run);
    }

    fn readings() -> impl Strategy<Value = Readings> {
        let supply = prop_oneof![
            Just(None),
            Just(Some(Supply::Mains)),
            proptest::option::of(0..=100_u32).prop_map(|charge| Some(Supply::Battery(charge))),
        ];
        let flag = || proptest::option::of(any::<bool>());
        let (pressure, cores) = (proptest::option::of(0.0..100.0), proptest::option::of(0.0..8.0));
        (pressure, supply, flag(), flag(), cores).prop_map(
            |(memory_pressure, supply, saving, locked, busy_cores)| Readings {
                memory_pressure,
                power: Power { supply, saving },
                locked,
                busy_cores,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        /// For all readings: no more work is allowed within the shortest hold after trouble, a
        /// limit always has a reason, and a calm machine is not limited in the end.
        #[test]
        fn it_neither_flaps_nor_starves(
            all in proptest::collection::vec(readings(), 1..60),
            cores in 1..9_usize,
        ) {
            let mut course = Course::new(ALL_PAUSE, cores);
            let mut before: Option<(u64, Effort)> = None;
            let mut last_change = 0;
            let count = all.len() as u64;
            for (second, readings) in all.into_iter().enumerate() {
                let second = second as u64;
                let limit = course.at(second, readings);
                if let Some((_, effort)) = before {
                    if limit.effort < effort {
                        prop_assert!(second - last_change >= SHORTEST_HOLD.as_secs());
                    }
                    if limit.effort != effort {
                        last_change = second;
                    }
                }
                prop_assert!(limit.effort == Effort::Run || limit.reason.is_some());
                prop_assert!(limit.jobs.is_none_or(|jobs| jobs <= course.cores));
                before = Some((second, limit.effort));
            }
            let end = course.through(count..count + LONGEST_HOLD.as_secs() + 10, calm());
            prop_assert_eq!(end.effort, Effort::Run);
        }

        /// Settings that limit nothing.
        #[test]
        fn the_effort_run_never_limits(all in proptest::collection::vec(readings(), 1..20)) {
            let settings = BackgroundSettings {
                on_battery: Effort::Run,
                battery_below: 100,
                power_save: Effort::Run,
                memory_pressure: None,
                session_locked: Effort::Run,
                processors_busy: Effort::Run,
                jobs: None,
            };
            let mut course = Course::new(settings, 4);
            for (second, readings) in all.into_iter().enumerate() {
                prop_assert_eq!(course.at(second as u64, readings).effort, Effort::Run);
            }
        }
    }
}
