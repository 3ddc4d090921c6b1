//! Takes readings: what is cheap each time, what costs more less often, and only what the settings
//! ask for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::asked;
use super::files::{self, Processors};
use super::readings::{Readings, Supply};
use crate::config::{BackgroundSettings, Effort};
use crate::process::Environment;

/// How long a reading may take: some firmware answers for a battery when it likes.
const PATIENCE: Duration = Duration::from_secs(2);
/// How old what was asked of firmware may be, and what was asked of a program.
const FIRMWARE: Duration = Duration::from_secs(5);
const PROGRAM: Duration = Duration::from_secs(10);
/// Over how long the work of others is counted at most; what was longer ago says nothing of now.
const SPAN: Duration = Duration::from_secs(15);

/// Where a machine tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Machine {
    /// In files, as Linux does; the roots are `/proc` and `/sys`.
    Files { proc: PathBuf, sys: PathBuf },
    /// By programs, as macOS does.
    Programs,
}

impl Machine {
    /// This machine.
    pub(in crate::daemon) fn native() -> Self {
        match cfg!(target_os = "macos") {
            true => Self::Programs,
            false => Self::Files { proc: "/proc".into(), sys: "/sys".into() },
        }
    }
}

/// A value, and when it was read.
#[derive(Debug)]
struct Aged<T>(Option<(Instant, T)>);

impl<T> Default for Aged<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Copy> Aged<T> {
    fn younger_than(&self, age: Duration, now: Instant) -> Option<T> {
        self.0.filter(|(then, _)| now - *then < age).map(|(_, value)| value)
    }
}

/// What is read of files in one go.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    memory: Option<f64>,
    processors: Option<Processors>,
    supply: Option<Supply>,
    power_save: Option<bool>,
}

/// Supply and whether to save power.
type Power = (Option<Supply>, Option<bool>);

/// The reader of one machine.
#[derive(Debug)]
pub(super) struct Sensors {
    machine: Arc<Machine>,
    environment: Environment,
    processors: Aged<Processors>,
    power: Aged<Power>,
    locked: Aged<Option<bool>>,
    /// A reading of files that has not come back.
    pending: Option<JoinHandle<Found>>,
}

impl Sensors {
    pub(super) fn new(machine: Machine, environment: Environment) -> Self {
        Self {
            machine: Arc::new(machine),
            environment,
            processors: Aged::default(),
            power: Aged::default(),
            locked: Aged::default(),
            pending: None,
        }
    }

    /// What the machine says now, as far as `settings` ask for it. Takes a few seconds at most.
    pub(super) async fn read(&mut self, settings: &BackgroundSettings) -> Readings {
        let now = Instant::now();
        let wants_power = settings.on_battery != Effort::Run || settings.power_save != Effort::Run;
        let power = self.power.younger_than(FIRMWARE, now).filter(|_| wants_power);
        let mut readings = Readings::default();
        match &*Arc::clone(&self.machine) {
            Machine::Files { .. } => {
                let fresh_power = wants_power && power.is_none();
                let found = self.files(settings.memory_pressure.is_some(), fresh_power).await;
                readings.memory = found.memory;
                readings.others = found.processors.and_then(|processors| {
                    let before = self.processors.younger_than(SPAN, now);
                    processors.others(before.as_ref())
                });
                self.processors.0 = found.processors.map(|processors| (now, processors));
                if fresh_power {
                    self.power.0 = Some((now, (found.supply, found.power_save)));
                }
            }
            Machine::Programs => {
                let known = self.power.younger_than(PROGRAM, now).is_some();
                if wants_power && !known {
                    let supply = asked::mac_supply(&self.environment).await;
                    let power_save = asked::mac_power_save(&self.environment).await;
                    self.power.0 = Some((now, (supply, power_save)));
                }
            }
        }
        if let Some((_, (supply, power_save))) = self.power.0.filter(|_| wants_power) {
            (readings.supply, readings.power_save) = (supply, power_save);
        }
        if settings.session_locked != Effort::Run {
            if self.locked.younger_than(PROGRAM, now).is_none() {
                self.locked.0 = Some((now, asked::locked(&self.environment).await));
            }
            readings.locked = self.locked.younger_than(PROGRAM, now).flatten();
        }
        readings
    }

    /// Reads files on a thread of their own, as firmware can take its time; what does not come in
    /// time is not told, and waited for before anything is read again.
    async fn files(&mut self, memory: bool, power: bool) -> Found {
        let machine = Arc::clone(&self.machine);
        let mut reading = self.pending.take().unwrap_or_else(|| {
            tokio::task::spawn_blocking(move || {
                let Machine::Files { proc, sys } = &*machine else { return Found::default() };
                Found {
                    memory: memory.then(|| files::memory(proc)).flatten(),
                    processors: Processors::now(proc),
                    supply: power.then(|| files::supply(sys)).flatten(),
                    power_save: power.then(|| files::power_save(sys)).flatten(),
                }
            })
        });
        match timeout(PATIENCE, &mut reading).await {
            Ok(found) => found.unwrap_or_default(),
            Err(_) => {
                self.pending = Some(reading);
                Found::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SETTINGS: BackgroundSettings = BackgroundSettings {
        on_battery: Effort::Pause,
        battery_below: 40,
        power_save: Effort::Slow,
        memory_pressure: Some(10),
        session_locked: Effort::Run,
        processors_busy: Effort::Pause,
        jobs: None,
    };

    fn write(root: &std::path::Path, name: &str, text: &str) {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[tokio::test]
    async fn only_what_is_asked_for_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "pressure/memory", "some avg10=20.00 avg60=0 avg300=0 total=0\n");
        write(root, "stat", "cpu  1 2 3 4\ncpu0 1 2 3 4\nprocs_running 2\n");
        write(root, "class/power_supply/BAT0/type", "Battery");
        write(root, "class/power_supply/BAT0/status", "Discharging");
        write(root, "firmware/acpi/platform_profile", "low-power");
        let machine = Machine::Files { proc: root.into(), sys: root.into() };
        let sensors = || Sensors::new(machine.clone(), Environment::default());
        let all = sensors().read(&SETTINGS).await;
        let expected = Readings {
            memory: Some(20.0),
            supply: Some(Supply::Battery(None)),
            power_save: Some(true),
            locked: None,
            others: Some(1.0),
        };
        assert_eq!(all, expected);
        let less = BackgroundSettings {
            on_battery: Effort::Run,
            power_save: Effort::Run,
            memory_pressure: None,
            ..SETTINGS
        };
        let some = sensors().read(&less).await;
        assert_eq!(some, Readings { others: Some(1.0), ..Readings::default() });
    }

    #[tokio::test]
    async fn a_machine_that_tells_nothing_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = dir.path().join("none");
        let machine = Machine::Files { proc: nothing.clone(), sys: nothing };
        let settings = BackgroundSettings { session_locked: Effort::Pause, ..SETTINGS };
        let readings = Sensors::new(machine, Environment::default()).read(&settings).await;
        assert_eq!(readings, Readings::default());
        let readings =
            Sensors::new(Machine::Programs, Environment::default()).read(&settings).await;
        assert_eq!(readings, Readings::default());
    }
}
