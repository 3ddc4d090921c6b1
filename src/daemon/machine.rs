//! What the machine says of itself: memory pressure, power supply, power saving, session lock and
//! processor use. It reads only what the settings ask for, and expensive sources less often.
//!
//! `None` in a reading means that the machine does not say.

mod linux;
mod programs;
mod survey;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::config::{BackgroundSettings, Effort};
use crate::process::Environment;

pub(super) use self::linux::CpuCounters;
pub(crate) use self::survey::{Surveyed, survey};

/// How long one reading of files may take: some firmware answers slowly.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer about power and the session stays valid.
const ANSWER_LIFETIME: Duration = Duration::from_secs(5);
/// The longest period over which the processor use of other programs is averaged.
const CPU_AVERAGE: Duration = Duration::from_secs(15);

/// The shortest such period, of ten ticks a core: what runs at a single moment may be a thread of ours.
const SHORTEST_CPU_AVERAGE: Duration = Duration::from_millis(100);

/// The source of readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReadingsSource {
    /// Files, as on Linux; the roots are `/proc` and `/sys`.
    Files { proc: PathBuf, sys: PathBuf },
    /// Programs, as on macOS.
    Programs,
}

impl ReadingsSource {
    /// This machine.
    pub(super) fn native() -> Self {
        match cfg!(target_os = "macos") {
            true => Self::Programs,
            false => Self::Files { proc: "/proc".into(), sys: "/sys".into() },
        }
    }

    /// The processors' counters now. Reads one file of a few kilobytes.
    pub(super) fn cpu_counters(&self) -> Option<CpuCounters> {
        match self {
            Self::Files { proc, .. } => CpuCounters::now(proc),
            Self::Programs => None,
        }
    }
}

/// One reading of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Readings {
    /// The share of the last ten seconds in which some program waited for memory, in percent.
    pub(super) memory_pressure: Option<f64>,
    pub(super) power: Power,
    /// Whether the user's session is locked.
    pub(super) locked: Option<bool>,
    /// How many cores programs of normal priority keep busy. Background work has idle priority and
    /// does not count.
    pub(super) busy_cores: Option<f64>,
}

/// The power supply and whether the machine is told to save power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Power {
    pub(super) supply: Option<Supply>,
    pub(super) saving: Option<bool>,
}

/// The power supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Supply {
    /// Mains, or a machine without a battery.
    Mains,
    /// A battery, with its charge in percent if the machine says it.
    Battery(Option<u32>),
}

/// Shares of all processors over a short period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CpuUse {
    /// Programs of normal priority.
    pub(super) others: f64,
    /// The share of all programs.
    pub(super) all: f64,
}

/// The file readings of one look.
#[derive(Clone, Copy, Debug, Default)]
struct FileReadings {
    memory_pressure: Option<f64>,
    cpu: Option<CpuCounters>,
    power: Option<Power>,
}

/// Reads one machine.
#[derive(Debug)]
pub(super) struct Sensors {
    machine: Arc<ReadingsSource>,
    environment: Environment,
    cpu: Option<(Instant, CpuCounters)>,
    power: Option<(Instant, Power)>,
    locked: Option<(Instant, Option<bool>)>,
    /// A reading of files that timed out and has not ended yet.
    pending: Option<JoinHandle<FileReadings>>,
}

impl Sensors {
    pub(super) fn new(machine: ReadingsSource, environment: Environment) -> Self {
        let machine = Arc::new(machine);
        Self { machine, environment, cpu: None, power: None, locked: None, pending: None }
    }

    /// Reads what `settings` ask for. Takes a few seconds at most.
    pub(super) async fn read(&mut self, settings: &BackgroundSettings) -> Readings {
        let now = Instant::now();
        let is_fresh = |then: Instant| now - then < ANSWER_LIFETIME;
        let wants_power = settings.on_battery != Effort::Run || settings.power_save != Effort::Run;
        let wants_locked = settings.session_locked != Effort::Run;
        self.power.take_if(|(then, _)| !is_fresh(*then));
        self.locked.take_if(|(then, _)| !is_fresh(*then));
        let mut readings = Readings::default();
        match *self.machine {
            ReadingsSource::Files { .. } => {
                let reads_power = wants_power && self.power.is_none();
                let mut before = self.cpu.filter(|(then, _)| now - *then < CPU_AVERAGE);
                let wants_cpu = settings.processors_busy != Effort::Run;
                if before.is_none() && wants_cpu {
                    before = self.files(false, false).await.cpu.map(|cpu| (now, cpu));
                    sleep(SHORTEST_CPU_AVERAGE).await;
                }
                let found = self.files(settings.memory_pressure.is_some(), reads_power).await;
                readings.memory_pressure = found.memory_pressure;
                let since = found.cpu.zip(before);
                readings.busy_cores = since.and_then(|(cpu, (_, before))| cpu.busy_cores(&before));
                self.cpu = found.cpu.map(|cpu| (Instant::now(), cpu));
                self.power = self.power.or(found.power.map(|power| (now, power)));
            }
            ReadingsSource::Programs if wants_power && self.power.is_none() => {
                self.power = Some((now, programs::mac_power(&self.environment).await));
            }
            ReadingsSource::Programs => {}
        }
        if wants_locked && self.locked.is_none() {
            self.locked = Some((now, programs::is_locked(&self.environment).await));
        }
        readings.power =
            self.power.filter(|_| wants_power).map(|(_, power)| power).unwrap_or_default();
        readings.locked = self.locked.filter(|_| wants_locked).and_then(|(_, locked)| locked);
        readings
    }

    /// Reads files on a blocking thread. A reading that times out counts as unknown, and no other
    /// one begins before it has ended.
    async fn files(&mut self, memory: bool, power: bool) -> FileReadings {
        let machine = Arc::clone(&self.machine);
        let mut reading = self.pending.take().unwrap_or_else(|| {
            tokio::task::spawn_blocking(move || {
                let ReadingsSource::Files { proc, sys } = &*machine else {
                    return FileReadings::default();
                };
                FileReadings {
                    memory_pressure: memory.then(|| linux::memory_pressure(proc)).flatten(),
                    cpu: CpuCounters::now(proc),
                    power: power.then(|| linux::power(sys)),
                }
            })
        });
        match timeout(READ_TIMEOUT, &mut reading).await {
            Ok(found) => found.unwrap_or_default(),
            Err(_) => {
                self.pending = Some(reading);
                FileReadings::default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const SETTINGS: BackgroundSettings = BackgroundSettings::SAMPLE;

    fn write(root: &Path, name: &str, text: &str) {
        let file = root.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Reads twice, while one of two cores is busy.
    async fn busy(proc: &Path, mut sensors: Sensors, settings: &BackgroundSettings) -> Readings {
        let stat = |user: u32, idle: u32| {
            let text = format!("cpu  {user} 0 0 {idle}\ncpu0 1 0 0 1\ncpu1 1 0 0 1\n");
            write(proc, "stat", &text);
        };
        stat(100, 100);
        assert_eq!(sensors.read(settings).await.busy_cores, None, "no tick has passed");
        stat(200, 200);
        sensors.read(settings).await
    }

    #[tokio::test]
    async fn only_what_is_asked_for_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "pressure/memory", "some avg10=20.00 avg60=0 avg300=0 total=0\n");
        write(root, "class/power_supply/BAT0/type", "Battery");
        write(root, "class/power_supply/BAT0/status", "Discharging");
        write(root, "firmware/acpi/platform_profile", "low-power");
        let machine = ReadingsSource::Files { proc: root.into(), sys: root.into() };
        let sensors = || Sensors::new(machine.clone(), Environment::default());
        let all = busy(root, sensors(), &SETTINGS).await;
        let expected = Readings {
            memory_pressure: Some(20.0),
            power: Power { supply: Some(Supply::Battery(None)), saving: Some(true) },
            locked: None,
            busy_cores: Some(1.0),
        };
        assert_eq!(all, expected);
        let less = BackgroundSettings {
            on_battery: Effort::Run,
            power_save: Effort::Run,
            memory_pressure: None,
            ..SETTINGS
        };
        let some = busy(root, sensors(), &less).await;
        assert_eq!(some, Readings { busy_cores: Some(1.0), ..Readings::default() });
    }

    #[tokio::test]
    async fn a_machine_that_tells_nothing_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = dir.path().join("none");
        let machine = ReadingsSource::Files { proc: nothing.clone(), sys: nothing };
        let settings = BackgroundSettings { session_locked: Effort::Pause, ..SETTINGS };
        let readings = Sensors::new(machine, Environment::default()).read(&settings).await;
        assert_eq!(readings, Readings::default());
        let readings =
            Sensors::new(ReadingsSource::Programs, Environment::default()).read(&settings).await;
        assert_eq!(readings, Readings::default());
    }
}
