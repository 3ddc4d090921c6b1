//! Readings from the files of `/proc` and `/sys` on Linux; their roots are arguments.

use std::fs;
use std::path::Path;

use super::{CpuUse, Power, Supply};

/// A file's trimmed content; none if it cannot be read.
fn text(file: &Path) -> Option<String> {
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

/// The share of the last ten seconds in which some program waited for memory, in percent.
pub(super) fn memory_pressure(proc: &Path) -> Option<f64> {
    pressure(&text(&proc.join("pressure/memory"))?)
}

/// `some avg10=0.26 avg60=0.17 avg300=0.16 total=736121334`.
fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let share = some.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?;
    share.parse().ok().filter(|share: &f64| share.is_finite())
}

/// The processors' tick counters since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct CpuCounters {
    /// Programs of normal priority.
    user: u64,
    /// Programs of low priority, as our background jobs.
    nice: u64,
    /// The kernel, for any program.
    kernel: u64,
    idle: u64,
    /// Ticks that the host of this virtual machine took.
    stolen: u64,
    total: u64,
    /// The number of processors.
    count: u32,
}

impl CpuCounters {
    pub(super) fn now(proc: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(proc.join("stat")).ok()?)
    }

    /// `/proc/stat`: a line `cpu` with the ticks of all, and one `cpu0` for each.
    fn parse(stat: &str) -> Option<Self> {
        let mut ticks = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two.
        let ticks: Vec<u64> = ticks.by_ref().take(8).map_while(|word| word.parse().ok()).collect();
        let of = |line: &&str| {
            let number = line.strip_prefix("cpu").and_then(|rest| rest.chars().next());
            number.is_some_and(|c| c.is_ascii_digit())
        };
        let count = u32::try_from(stat.lines().filter(of).count()).ok()?;
        let of = |place: usize| ticks.get(place).copied().unwrap_or(0);
        (ticks.len() >= 4).then(|| Self {
            user: of(0),
            nice: of(1),
            kernel: of(2) + of(5) + of(6),
            idle: of(3) + of(4),
            stolen: of(7),
            total: ticks.iter().sum(),
            count,
        })
    }

    /// How many cores programs of normal priority have kept busy since `before`. `None` if no tick has
    /// passed, or the counters have been set back.
    #[expect(clippy::cast_precision_loss, reason = "a share of a few seconds")]
    pub(super) fn busy_cores(&self, before: &Self) -> Option<f64> {
        let total = self.total.checked_sub(before.total).filter(|total| *total > 0)?;
        let user = self.user.checked_sub(before.user)?;
        Some(user as f64 / total as f64 * f64::from(self.count))
    }

    /// The use since `before`. The kernel does not say for which program it worked: its time is
    /// split like the programs' own.
    #[expect(clippy::cast_precision_loss, reason = "a share of a moment")]
    pub(in crate::daemon) fn used_since(&self, before: &Self) -> Option<CpuUse> {
        let since = |of: fn(&Self) -> u64| of(self).checked_sub(of(before));
        let (user, nice) = (since(|all| all.user)?, since(|all| all.nice)?);
        let (kernel, idle) = (since(|all| all.kernel)?, since(|all| all.idle)?);
        let there = since(|all| all.total)?.checked_sub(since(|all| all.stolen)?)?;
        let theirs = if user + nice == 0 { 1.0 } else { user as f64 / (user + nice) as f64 };
        (there > 0).then(|| CpuUse {
            others: (user as f64 + kernel as f64 * theirs) / there as f64,
            all: there.saturating_sub(idle) as f64 / there as f64,
        })
    }
}

/// The power supply and the power profile.
pub(super) fn power(sys: &Path) -> Power {
    Power { supply: supply(sys), saving: is_saving(sys) }
}

/// The power supply. A machine that shows none has no battery.
fn supply(sys: &Path) -> Option<Supply> {
    let devices = fs::read_dir(sys.join("class/power_supply")).ok()?;
    let (mut plugged, mut discharging) = (false, false);
    let mut charges = Vec::new();
    for device in devices.flatten() {
        let device = device.path();
        let fact = |name: &str| text(&device.join(name));
        // The battery of a mouse or a headset.
        if fact("scope").as_deref() == Some("Device") {
            continue;
        }
        match fact("type").as_deref() {
            Some("Battery" | "UPS") if fact("present").as_deref() != Some("0") => {
                discharging |= fact("status").as_deref() == Some("Discharging");
                charges.extend(fact("capacity").and_then(|charge| charge.parse::<u32>().ok()));
            }
            Some("Mains" | "USB" | "Wireless") => {
                // 2: one of several on the same port; it supplies.
                plugged |= fact("online").is_some_and(|online| online != "0");
            }
            _ => {}
        }
    }
    if plugged || !discharging {
        return Some(Supply::Mains);
    }
    let count = u32::try_from(charges.len()).unwrap_or(u32::MAX);
    Some(Supply::Battery(charges.iter().sum::<u32>().checked_div(count)))
}

/// Whether the machine is told to save power: by the firmware's profile, or by the processors'
/// energy preference, which power-profiles-daemon sets where there is no such profile.
fn is_saving(sys: &Path) -> Option<bool> {
    let profile = text(&sys.join("firmware/acpi/platform_profile"));
    let profile = profile.map(|profile| profile == "low-power");
    let policy = "devices/system/cpu/cpu0/cpufreq/energy_performance_preference";
    let preference = text(&sys.join(policy)).map(|preference| preference == "power");
    match (profile, preference) {
        (None, None) => None,
        (profile, preference) => Some(profile == Some(true) || preference == Some(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        dir
    }

    #[test]
    fn memory_pressure_is_read() {
        let text = "some avg10=12.50 avg60=0.17 avg300=0.16 total=736121334\n\
                    full avg10=0.18 avg60=0.14 avg300=0.12 total=150157812\n";
        let proc = root(&[("pressure/memory", text)]);
        assert_eq!(memory_pressure(proc.path()), Some(12.5));
        for odd in ["", "full avg10=1.0", "some avg60=1", "some avg10=x", "some avg10=NaN"] {
            assert_eq!(pressure(odd), None, "{odd}");
        }
        assert_eq!(memory_pressure(root(&[]).path()), None);
    }

    #[test]
    fn only_programs_of_normal_priority_count() {
        let stat = |user: u64, nice: u64, idle: u64| {
            let text = format!(
                "cpu  {user} {nice} 10 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1\ncpu1 1 1 1 1\nintr 5\n"
            );
            CpuCounters::parse(&text).unwrap()
        };
        let before = stat(100, 0, 1_000);
        // One core of two for them, one for us.
        assert_eq!(stat(200, 100, 1_000).busy_cores(&before), Some(1.0));
        assert_eq!(stat(100, 200, 1_000).busy_cores(&before), Some(0.0));
        assert_eq!(before.busy_cores(&before), None, "no time has passed");
        assert_eq!(stat(0, 0, 5_000).busy_cores(&before), None, "a counter was set back");
        for odd in ["", "cpu", "cpu  1 2\ncpu0 1 2\n"] {
            assert_eq!(CpuCounters::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn kernel_time_is_split_like_the_programs_time() {
        let stat = |user: u64, nice: u64, system: u64, idle: u64, steal: u64| {
            let ticks = format!("{user} {nice} {system} {idle} 0 0 0 {steal} 0 0");
            CpuCounters::parse(&format!("cpu  {ticks}\ncpu0 {ticks}\n")).unwrap()
        };
        let before = stat(1_000, 1_000, 1_000, 1_000, 1_000);
        let share = |user: u64, nice: u64, system: u64, idle: u64, steal: u64| {
            let now = stat(1_000 + user, 1_000 + nice, 1_000 + system, 1_000 + idle, 1_000 + steal);
            now.used_since(&before).map(|used| (used.others, used.all))
        };
        assert_eq!(share(20, 0, 0, 0, 0), Some((1.0, 1.0)));
        assert_eq!(share(15, 0, 5, 0, 0), Some((1.0, 1.0)));
        assert_eq!(share(5, 10, 3, 2, 0), Some((0.3, 0.9)), "a third of the kernel's");
        assert_eq!(share(0, 20, 0, 0, 0), Some((0.0, 1.0)), "all of it ours");
        assert_eq!(share(0, 0, 5, 15, 0), Some((0.25, 0.25)), "nobody but the kernel");
        assert_eq!(share(10, 0, 0, 0, 10), Some((1.0, 1.0)), "what is stolen is not there");
        assert_eq!(share(0, 0, 0, 0, 10), None);
        assert_eq!(share(0, 0, 0, 0, 0), None, "no tick has passed");
        assert_eq!(before.used_since(&stat(2_000, 2_000, 2_000, 2_000, 2_000)), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_cpu_counters() {
        assert!(CpuCounters::now(Path::new("/proc")).is_some());
    }

    #[test]
    fn the_supply_is_mains_unless_a_battery_discharges() {
        let of = |files: &[(&str, &str)]| {
            let files: Vec<_> = files
                .iter()
                .map(|(name, text)| (format!("class/power_supply/{name}"), *text))
                .collect();
            let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
            supply(root(&files).path())
        };
        let battery = [
            ("BAT0/type", "Battery\n"),
            ("BAT0/status", "Discharging\n"),
            ("BAT0/capacity", "35\n"),
        ];
        assert_eq!(of(&battery), Some(Supply::Battery(Some(35))));
        let with = |more: &[(&str, &str)]| of(&[&battery[..], more].concat());
        let off = [("AC/type", "Mains\n"), ("AC/online", "0\n")];
        assert_eq!(with(&off), Some(Supply::Battery(Some(35))));
        let on = [("AC/type", "Mains\n"), ("AC/online", "1\n")];
        assert_eq!(with(&on), Some(Supply::Mains));
        let port = [("ucsi/type", "USB\n"), ("ucsi/online", "1\n")];
        assert_eq!(with(&port), Some(Supply::Mains));
        let second =
            [("BAT1/type", "Battery"), ("BAT1/status", "Not charging"), ("BAT1/capacity", "95")];
        assert_eq!(with(&second), Some(Supply::Battery(Some(65))));
        let mouse = [
            ("hid/type", "Battery"),
            ("hid/scope", "Device"),
            ("hid/status", "Discharging"),
            ("hid/capacity", "5"),
        ];
        assert_eq!(of(&mouse), Some(Supply::Mains));
        let silent = [("BAT0/type", "Battery"), ("BAT0/status", "Discharging")];
        assert_eq!(of(&silent), Some(Supply::Battery(None)));
        assert_eq!(supply(root(&[]).path()), None, "not Linux, or no such folder");
    }

    #[test]
    fn power_saving_is_read_from_profile_and_preference() {
        const PROFILE: &str = "firmware/acpi/platform_profile";
        const POLICY: &str = "devices/system/cpu/cpu0/cpufreq/energy_performance_preference";
        for (files, expected) in [
            (&[][..], None),
            (&[(PROFILE, "low-power\n")], Some(true)),
            (&[(PROFILE, "balanced\n")], Some(false)),
            (&[(POLICY, "power\n")], Some(true)),
            (&[(POLICY, "balance_performance\n")], Some(false)),
            (&[(PROFILE, "balanced\n"), (POLICY, "power\n")], Some(true)),
        ] {
            assert_eq!(is_saving(root(files).path()), expected, "{files:?}");
        }
    }
}
