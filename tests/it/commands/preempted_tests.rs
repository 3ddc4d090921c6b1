//! Background tests that were preempted: finished targets are not run again.

// Runs can be observed on these platforms only.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use crate::home::{Home, Started, can_observe, takes_long, until};
use crate::waiting;

/// Reads a file of the tree, and one outside of it.
const READS: &str = "#[test] fn reads() {\n\
     \x20   assert!(!std::fs::read(\"fixture.txt\").unwrap().is_empty());\n\
     \x20   let _ = std::fs::read(\"../outside.txt\");\n}\n";

/// Uses a path relative to a removed folder, which makes the run uncacheable.
const LOST: &str = "#[test] fn lost() {\n\
     \x20   let dir = std::env::temp_dir().join(format!(\"lost-{}\", std::process::id()));\n\
     \x20   std::fs::create_dir(&dir).unwrap();\n\
     \x20   std::env::set_current_dir(&dir).unwrap();\n\
     \x20   std::fs::remove_dir(&dir).unwrap();\n\
     \x20   assert!(std::fs::read(\"nothing\").is_err());\n}\n";

/// A workspace with these settings; none where its runs cannot be observed.
fn home(settings: &str) -> Option<Home> {
    if !can_observe("background tests that were given up") {
        return None;
    }
    let home = Home::with(&[
        ("tests/a.rs", READS),
        ("tests/lost.rs", LOST),
        ("tests/waits.rs", &waiting::test("waits")),
        ("fixture.txt", "1"),
    ]);
    let settings = format!("debounce = '1ms'\nbackground_tests = true\n{settings}");
    home.config("[log]\nlevel = 'debug'", &settings);
    Some(home)
}

/// The number of targets that ran to their end.
fn ran(daemon: &Started) -> usize {
    daemon.stderr().matches("ran a target").count()
}

fn kept(daemon: &Started, targets: usize) {
    let line = "given up: what has ended is kept";
    until("it is given up", || daemon.stderr().contains(line).then_some(()));
    let log = daemon.stderr();
    let line = log.lines().find(|log| log.contains(line)).unwrap();
    assert!(line.contains(&format!("targets={targets}")), "{line}");
}

fn verdict(home: &Home, wanted: &str) {
    until("there is a verdict", || {
        (home.project_status()["last_verdict"]["verdict"] == wanted).then_some(())
    });
}

/// Starts the daemon and waits until all targets but the waiting one have ended.
fn waiting(home: &Home) -> Started {
    let daemon = home.daemon();
    until("the others have ended", || {
        let begun = home.root.join("target/begun").exists();
        (begun && ran(&daemon) == 3).then_some(())
    });
    daemon
}

#[test]
fn preempted_tests_resume_with_the_targets_that_the_edit_concerns() {
    if takes_long() {
        return;
    }
    let Some(home) = home("") else { return };
    let daemon = waiting(&home);
    home.write("tests/waits.rs", "#[test] fn waits() {}\n");
    kept(&daemon, 2);
    verdict(&home, "pass");
    // Also the target whose inputs are not all known.
    assert_eq!(ran(&daemon), 5, "{}", daemon.stderr());
    assert_eq!(home.test(&[]).run(), ["lost"], "never cached");
    daemon.stop();
}

#[test]
fn a_finished_target_runs_again_if_its_inputs_changed_since() {
    let Some(home) = home("") else { return };
    let daemon = waiting(&home);
    home.write("fixture.txt", "");
    kept(&daemon, 2);
    home.write("target/go", "");
    verdict(&home, "fail");
    let answer = home.test(&[]);
    answer.red();
    assert_eq!(answer.run(), ["a", "lost"], "{answer:#?}");
    daemon.stop();
}

#[test]
fn paused_tests_resume_with_the_unfinished_targets() {
    let Some(home) = home("") else { return };
    let daemon = waiting(&home);
    home.ok(&["pause", "--project", "."]);
    kept(&daemon, 2);
    // A file outside the tree.
    std::fs::write(home.base.join("outside.txt"), "").unwrap();
    home.write("target/go", "");
    home.ok(&["resume", "--project", "."]);
    verdict(&home, "pass");
    assert_eq!(ran(&daemon), 6, "all but the library: {}", daemon.stderr());
    assert_eq!(home.test(&[]).run(), ["lost"], "never cached");
    daemon.stop();
}

#[test]
fn tests_that_stall_are_ended_for_good_and_never_green() {
    if takes_long() {
        return;
    }
    let Some(home) = home("background_timeout = '5s'") else { return };
    let daemon = waiting(&home);
    kept(&daemon, 2);
    let why = "the tests were given up: none ended for 5 s (p::waits did not)";
    until("status says so", || {
        let status = home.project_status();
        (status["state"] == "idle" && status["reason"] == why).then_some(())
    });
    assert!(daemon.stderr().contains(why), "{}", daemon.stderr());
    assert_eq!(home.project_status()["last_verdict"], serde_json::Value::Null);
    // The same tree is not tried again, whatever happens meanwhile.
    std::fs::remove_file(home.root.join("target/begun")).unwrap();
    home.write("target/noise", "");
    home.ok(&["explain"]);
    assert!(!home.root.join("target/begun").exists());
    assert_eq!(home.project_status()["reason"], why);
    // A question runs it.
    home.write("target/go", "");
    let answer = home.test(&[]);
    answer.green();
    assert_eq!(answer.run(), ["lost", "waits"], "{answer:#?}");
    until("there is a verdict", || (home.project_status()["reason"] != why).then_some(()));
    daemon.stop();
}
