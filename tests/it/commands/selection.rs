//! Selection per test, in the shadow of runs that run everything.

// Runs can be observed, and objects are read, on this platform only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use crate::home::{Answered, Home, Started, can_observe, takes_long, until};

/// Two tests: one sets a number, and the other one reads it, if both share a process and this order.
fn library(number: u32) -> String {
    format!(
        "use std::sync::atomic::{{AtomicU32, Ordering}};\n\
         static SHARED: AtomicU32 = AtomicU32::new(0);\n\
         pub fn number() -> u32 {{ {number} }}\n\
         #[test] fn first() {{ SHARED.store(number(), Ordering::SeqCst); }}\n\
         #[test] fn second() {{ assert!(SHARED.load(Ordering::SeqCst) < 3); }}\n"
    )
}

fn home(settings: &str) -> Option<(Home, Started)> {
    if !can_observe("comparisons with a selection per test") {
        return None;
    }
    let mut home = Home::with(&[("src/lib.rs", &library(1))]);
    // What tests reach is read from the objects of an incremental build.
    home.environment.set("CARGO_INCREMENTAL", "1");
    let settings =
        format!("debounce = '1h'\nargs = ['--workspace', '--', '--test-threads=1']\n{settings}");
    home.config("[log]\nlevel = 'debug'", &settings);
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    Some((home, daemon))
}

/// Waits until so many runs were compared.
fn compared(daemon: &Started, runs: usize) {
    until("the run is compared", || {
        let line = "compared a run with earlier ones";
        let done = daemon.stderr().lines().filter(|log| log.contains(line)).count();
        (done == runs).then_some(())
    });
}

#[test]
fn the_shadow_tells_what_selection_would_have_run_and_missed() {
    let Some((home, daemon)) = home("") else { return };
    compared(&daemon, 1);
    let record = || home.project_status()["selection"].clone();
    assert_eq!(record()["runs"], 0, "there was no earlier run");
    home.write("src/lib.rs", &library(2));
    home.test(&[]).green_from("run");
    compared(&daemon, 2);
    let known = record();
    assert_eq!(
        (&known["runs"], &known["tests"], &known["selected"]),
        (&1.into(), &2.into(), &1.into())
    );
    assert_eq!((&known["missed"], &known["whole"]), (&0.into(), &0.into()), "{known}");
    // The second test reaches what it reached, and fails because of what the first one did.
    home.write("src/lib.rs", &library(3));
    home.test(&[]).red();
    compared(&daemon, 3);
    let known = record();
    assert_eq!((&known["runs"], &known["selected"]), (&2.into(), &2.into()), "{known}");
    assert_eq!(known["missed_tests"], serde_json::json!(["p: second"]), "{known}");
    assert!(daemon.stderr().contains("selection per test would have missed a change"));
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("would have run 2 of 4 tests in 2 runs"), "{explained}");
    daemon.stop();
    assert_eq!(record(), known, "without a daemon");
}

#[test]
fn nothing_is_compared_where_selection_is_off() {
    let Some((home, daemon)) = home("selection = 'off'") else { return };
    home.write("src/lib.rs", &library(2));
    home.test(&[]).green_from("run");
    home.ok(&["rebuild"]);
    assert!(!daemon.stderr().contains("compared a run"), "{}", daemon.stderr());
    daemon.stop();
    assert_eq!(home.project_status()["selection"]["runs"], 0);
}

/// The reason for the answer of the one target.
fn reason(answer: &Answered) -> &str {
    answer.targets[0]["reason"].as_str().unwrap()
}

#[test]
fn a_target_of_which_no_test_reaches_the_change_keeps_its_verdict() {
    if takes_long() {
        return;
    }
    const UNREACHED: &str = "no test of it reaches what has changed";
    let Some((home, daemon)) = home("selection = 'on'") else { return };
    compared(&daemon, 1);
    // Every line moves, and with it what a panic would say.
    home.write("src/lib.rs", &format!("// a comment\n{}", library(1)));
    let answer = home.test(&[]);
    answer.green_from("cache");
    assert_eq!(reason(&answer), UNREACHED);
    let more = "pub fn more() -> u32 { number() + 1 }\n";
    home.write("src/lib.rs", &format!("{more}{}", library(1)));
    let answer = home.test(&[]);
    answer.green_from("cache");
    assert_eq!(reason(&answer), UNREACHED);
    home.test(&["--verify"]).green_from("run");
    compared(&daemon, 2);
    home.write("src/lib.rs", &format!("{}#[test] fn third() {{}}\n", library(1)));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert_eq!((reason(&answer), answer.count("passed")), ("it has other tests", 3));
    compared(&daemon, 3);

    // All tests run: the second one fails because of what the first one does now.
    home.write("src/lib.rs", &format!("{}#[test] fn third() {{}}\n", library(3)));
    let answer = home.test(&[]);
    answer.red();
    assert_eq!(reason(&answer), "1 of its 3 tests reach something else, so that all run");
    // What was red has no base any more, whatever its tests reach.
    home.write("src/lib.rs", &format!("// a comment\n{}#[test] fn third() {{}}\n", library(1)));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert_eq!(reason(&answer), "the record of its last green run is gone");
}

#[test]
fn another_input_environment_or_optimized_code_runs_all_tests() {
    if takes_long() {
        return;
    }
    let Some((mut home, daemon)) = home("selection = 'on'") else { return };
    compared(&daemon, 1);
    let reads = |comment: &str| {
        format!("{comment}#[test] fn reads() {{ std::fs::read_to_string(\"note\").unwrap(); }}\n")
    };
    home.write("note", "one");
    home.write("src/lib.rs", &reads(""));
    home.test(&[]).green_from("run");
    compared(&daemon, 2);
    home.write("note", "two");
    home.write("src/lib.rs", &reads("// a comment\n"));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(reason(&answer).contains("note"), "{answer:#?}");
    compared(&daemon, 3);
    // The compiler may have made other code of the readers of lines.
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n\
                    [profile.dev]\nopt-level=1\n";
    home.write("Cargo.toml", manifest);
    home.test(&[]).green_from("run");
    compared(&daemon, 4);
    home.write("src/lib.rs", &reads("// a comment\n// another\n"));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(reason(&answer).contains("1 of its 1 tests reach something else"), "{answer:#?}");
    compared(&daemon, 5);
    home.environment.set("OTHER", "1");
    home.write("src/lib.rs", &reads("// a comment\n// another\n// third\n"));
    let answer = home.test(&["--no-daemon"]);
    answer.green_from("run");
    assert_eq!(reason(&answer), "no earlier run is known to compare with");
}
