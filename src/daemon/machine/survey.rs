//! The readings that the settings ask for, in words for `doctor`.

use super::{Readings, ReadingsSource, Sensors, Supply};
use crate::config::{BackgroundSettings, Effort};
use crate::process::Environment;

/// One condition that the settings ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Surveyed {
    /// The key in the config.
    pub key: &'static str,
    /// The reading; none if the machine does not say, which counts as `run`.
    pub found: Option<String>,
}

/// Reads every condition once that could hold background work back.
#[must_use]
pub(crate) async fn survey(
    settings: &BackgroundSettings,
    environment: Environment,
) -> Vec<Surveyed> {
    let readings = Sensors::new(ReadingsSource::native(), environment).read(settings).await;
    describe(settings, &readings)
}

fn describe(settings: &BackgroundSettings, readings: &Readings) -> Vec<Surveyed> {
    let supply = readings.power.supply.map(|supply| match supply {
        Supply::Mains => "on the mains".to_owned(),
        Supply::Battery(Some(charge)) => format!("on battery, {charge} %"),
        Supply::Battery(None) => "on battery, its charge is not told".to_owned(),
    });
    let saves = |saves| if saves { "saves power" } else { "saves no power" };
    let locked = |locked| if locked { "locked" } else { "not locked" };
    [
        (
            settings.memory_pressure.is_some(),
            "memory_pressure",
            readings
                .memory_pressure
                .map(|share| format!("memory waited for {share:.0} % of the time")),
        ),
        (settings.on_battery != Effort::Run, "on_battery", supply),
        (
            settings.power_save != Effort::Run,
            "power_save",
            readings.power.saving.map(|reading| saves(reading).to_owned()),
        ),
        (
            settings.session_locked != Effort::Run,
            "session_locked",
            readings.locked.map(|reading| locked(reading).to_owned()),
        ),
        (
            settings.processors_busy != Effort::Run,
            "processors_busy",
            readings.busy_cores.map(|cores| format!("other programs use {cores:.1} cores")),
        ),
    ]
    .into_iter()
    .filter(|(asked, ..)| *asked)
    .map(|(_, key, found)| Surveyed { key, found })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::machine::Power;

    #[test]
    fn what_is_asked_is_told_or_known_to_be_unknown() {
        let settings = BackgroundSettings {
            power_save: Effort::Run,
            session_locked: Effort::Pause,
            ..BackgroundSettings::SAMPLE
        };
        let readings = Readings {
            power: Power { supply: Some(Supply::Battery(Some(7))), saving: Some(true) },
            locked: Some(false),
            busy_cores: Some(1.25),
            ..Readings::default()
        };
        let of = |key, found: Option<&str>| Surveyed { key, found: found.map(str::to_owned) };
        assert_eq!(
            describe(&settings, &readings),
            [
                of("memory_pressure", None),
                of("on_battery", Some("on battery, 7 %")),
                of("session_locked", Some("not locked")),
                of("processors_busy", Some("other programs use 1.2 cores")),
            ]
        );
    }
}
