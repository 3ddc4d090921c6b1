//! Readings from programs: `loginctl` for the session lock, `pmset` (macOS) for the power supply.
//! Each call has a time limit; an odd answer counts as unknown.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Power, Supply};
use crate::model::End;
use crate::process::{Environment, Spec, Stream, run};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The output of a program that succeeds in time.
async fn ask(environment: &Environment, program: &str, args: &[&str]) -> Option<String> {
    let spec = Spec::new(program, "/", environment.clone()).args(args);
    let mut out = Vec::new();
    // Dropping this future ends the child.
    let never = CancellationToken::new();
    let finished = run(&spec, &never, Some(ANSWER_TIMEOUT), |stream, bytes| {
        if stream == Stream::Out {
            out.extend_from_slice(bytes);
        }
    });
    let finished = finished.await.ok()?;
    (finished.end == End::Exit(0)).then(|| String::from_utf8_lossy(&out).into_owned())
}

/// Whether the user's graphical session is locked; a service belongs to no session itself.
pub(super) async fn is_locked(environment: &Environment) -> Option<bool> {
    let user = rustix::process::getuid().as_raw().to_string();
    let session = ask(environment, "loginctl", &["show-user", &user, "-p", "Display"]).await?;
    let session = property(&session, "Display").filter(|session| !session.is_empty())?;
    let hint = ask(environment, "loginctl", &["show-session", session, "-p", "LockedHint"]).await?;
    match property(&hint, "LockedHint")? {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// The value of a line `Name=value`.
fn property<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix('=');
    text.lines().find_map(value).map(str::trim)
}

/// The power supply and power mode of a Mac.
pub(super) async fn mac_power(environment: &Environment) -> Power {
    let supply = ask(environment, "pmset", &["-g", "batt"]).await;
    let saving = ask(environment, "pmset", &["-g"]).await;
    Power {
        supply: supply.and_then(|text| drawing_from(&text)),
        saving: saving.and_then(|text| low_power_mode(&text)),
    }
}

/// From `pmset -g batt`.
fn drawing_from(text: &str) -> Option<Supply> {
    let source = text.lines().find_map(|line| line.trim().strip_prefix("Now drawing from '"))?;
    match source.trim_end_matches('\'') {
        "AC Power" => Some(Supply::Mains),
        "Battery Power" | "UPS Power" => {
            let charge = |word: &str| word.strip_suffix("%;")?.parse().ok();
            Some(Supply::Battery(text.split_whitespace().find_map(charge)))
        }
        _ => None,
    }
}

/// From `pmset -g`: a line `lowpowermode 1`, which Macs without that mode do not have.
fn low_power_mode(text: &str) -> Option<bool> {
    let value = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "lowpowermode").then(|| words.next().map(|value| value != "0"))?
    };
    text.lines().find_map(value)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_mac_tells_its_supply() {
        let battery = "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=4522083)\t82%; \
                       discharging; 5:48 remaining present: true\n";
        assert_eq!(drawing_from(battery), Some(Supply::Battery(Some(82))));
        let mains = "Now drawing from 'AC Power'\n -InternalBattery-0 (id=4522083)\t100%; charged; \
                     0:00 remaining present: true\n";
        assert_eq!(drawing_from(mains), Some(Supply::Mains));
        assert_eq!(
            drawing_from("Now drawing from 'AC Power'\n"),
            Some(Supply::Mains),
            "no battery"
        );
        let starting =
            "Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t(no estimate)\n";
        assert_eq!(drawing_from(starting), Some(Supply::Battery(None)));
        assert_eq!(drawing_from("Now drawing from 'Nothing'"), None);
        assert_eq!(drawing_from(""), None);
    }

    #[test]
    fn a_mac_tells_its_low_power_mode() {
        let text = |mode: &str| {
            format!(
                "System-wide power settings:\nCurrently in use:\n standby              1\n\
                 \x20Sleep On Power Button 1\n{mode} hibernatemode        3\n displaysleep         10\n"
            )
        };
        assert_eq!(low_power_mode(&text(" lowpowermode         1\n")), Some(true));
        assert_eq!(low_power_mode(&text(" lowpowermode         0\n")), Some(false));
        assert_eq!(low_power_mode(&text("")), None);
    }

    #[test]
    fn properties_are_lines() {
        assert_eq!(property("Display=c2\n", "Display"), Some("c2"));
        assert_eq!(property("Display=\n", "Display"), Some(""));
        assert_eq!(property("DisplayName=x\n", "Display"), None);
    }

    /// An environment whose PATH has one program: this script.
    fn machine(name: &str, script: &str) -> (tempfile::TempDir, Environment) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut environment = Environment::default();
        environment.set("PATH", dir.path());
        (dir, environment)
    }

    #[tokio::test]
    async fn the_session_of_the_display_is_asked() {
        for (display, hint, expected) in [
            ("c2", "yes", Some(true)),
            ("c2", "no", Some(false)),
            ("", "yes", None),
            ("c2", "", None),
        ] {
            let script = format!(
                "case \"$*\" in\n\"show-user $(/usr/bin/id -u) -p Display\") echo Display={display};;\n\
                 \"show-session c2 -p LockedHint\") echo LockedHint={hint};;\n*) exit 1;;\nesac"
            );
            let (_dir, environment) = machine("loginctl", &script);
            assert_eq!(is_locked(&environment).await, expected, "{display:?} {hint:?}");
        }
        let (_dir, environment) = machine("loginctl", "echo No medium found >&2; exit 1");
        assert_eq!(is_locked(&environment).await, None);
        assert_eq!(is_locked(&Environment::default()).await, None, "there is no such program");
    }

    #[tokio::test]
    async fn a_program_that_never_answers_is_ended() {
        let (_dir, environment) = machine("pmset", "exec /bin/sleep 1000");
        assert_eq!(mac_power(&environment).await, Power::default());
        let (_dir, environment) = machine("pmset", "echo ' lowpowermode 1'");
        let power = Power { supply: None, saving: Some(true) };
        assert_eq!(mac_power(&environment).await, power);
    }
}
