//! The service builds with the developer's environment, so neither rebuilds the other's artifacts.
//! Where that is impossible, the service backs off.

mod own_target_dir;
mod shells;
mod stale_artifacts;
mod thrashing;

use serde_json::Value;

use crate::home::{Home, until};

/// Two packages, one of which the other depends on. The build script looks at what `watches` says.
pub(crate) fn workspace(watches: &str) -> Home {
    let script = format!(
        "fn main() {{\n    println!(\"cargo::rerun-if-changed=build.rs\");\n{}}}\n",
        watches.split_whitespace().fold(String::new(), |lines, name| {
            lines + &format!("    println!(\"cargo::rerun-if-env-changed={name}\");\n")
        })
    );
    Home::with(&[
        (
            "Cargo.toml",
            "[workspace]\nmembers=['q']\n[package]\nname='p'\nversion='0.1.0'\n\
             edition='2021'\n[dependencies]\nq={path='q'}\n[lib]\ndoctest=false\n",
        ),
        ("q/Cargo.toml", "[package]\nname='q'\nversion='0.1.0'\nedition='2021'\n"),
        ("q/build.rs", &script),
        ("q/src/lib.rs", "pub fn q() -> u32 { 1 }\n"),
        ("src/lib.rs", "#[test] fn one() { assert_eq!(q::q(), 1) }\n"),
        ("tests/it.rs", "#[test] fn it() {}\n"),
    ])
}

/// Builds with cargo in the current shell of `home`; returns the number of stale artifacts.
#[track_caller]
pub(crate) fn by_hand(home: &Home) -> usize {
    let line = ["test", "--workspace", "--no-run", "--message-format=json"];
    let ran = home.start("cargo", &line).end(crate::home::LIMIT);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let fresh: Vec<bool> = ran
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?["fresh"].as_bool())
        .collect();
    assert!(fresh.len() >= 4, "{ran:#?}");
    fresh.iter().filter(|fresh| !**fresh).count()
}

/// Has the service build with the shell's environment; returns the number of rebuilt artifacts.
#[track_caller]
pub(crate) fn by_service(home: &Home) -> u64 {
    home.ok(&["rebuild"]);
    let build = home.project_status()["last_build"].clone();
    assert_eq!(build["success"], true, "{build:#?}");
    build["rebuilt"].as_u64().unwrap()
}

/// Waits until the service is idle; returns the status of the workspace.
pub(crate) fn at_rest(home: &Home) -> Value {
    until("the service is at rest", || {
        let status = home.project_status();
        let busy = ["hashing", "building", "testing"].iter().any(|state| status["state"] == *state);
        (!busy && !status["last_build"].is_null()).then_some(status)
    })
}
