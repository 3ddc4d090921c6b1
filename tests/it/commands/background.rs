//! The daemon's work before a question.

use super::pauses::begun;
use crate::home::{EXE, Home, LIMIT, SOON, Started, can_observe, takes_long, until};
use crate::waiting;

/// The lines of a foreground build about stale artifacts.
fn stale_by_hand(home: &Home) -> Vec<String> {
    let ran = home.cargo(&["test", "--workspace", "--no-run", "-v"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("Fresh p "), "{ran:#?}");
    let stale = ["Compiling", "Dirty", "Running"];
    let is_stale = |line: &&str| stale.iter().any(|verb| line.trim().starts_with(verb));
    ran.stdout.lines().filter(is_stale).map(str::to_owned).collect()
}

fn built(home: &Home, what: &str) {
    until(what, || {
        let status = home.project_status();
        (status["state"] == "idle" && status["last_build"]["success"] == true).then_some(())
    });
}

#[test]
fn a_save_is_built_in_the_background_and_a_foreground_build_is_fresh() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[("tests/it.rs", "#[test] fn it() {}\n")]);
    home.config("", "debounce = '20ms'");
    let daemon = home.daemon();
    built(&home, "the first build");
    assert_eq!(stale_by_hand(&home), Vec::<String>::new());
    let before = home.project_status()["last_build"]["when"].clone();
    home.write("src/lib.rs", "pub fn f() {}\n#[test] fn one() {}\n");
    until("the save is built", || {
        (home.project_status()["last_build"]["when"] != before).then_some(())
    });
    built(&home, "the save is built");
    assert_eq!(stale_by_hand(&home), Vec::<String>::new());
    // A foreground build changes no input, and a build alone stores no record.
    assert_eq!(home.records(), 0);
    home.test(&[]).green_from("run");
    assert_eq!(stale_by_hand(&home), Vec::<String>::new(), "after our run");
    daemon.stop();
}

#[test]
fn built_programs_are_digested_in_the_background() {
    let home = Home::with(&[("tests/it.rs", "#[test] fn it() {}\n")]);
    home.config("", "debounce = '1h'");
    let programs = || {
        let stats = home.ok(&["cache", "stats", "--format", "json"]);
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        stats["programs"].as_u64().unwrap()
    };
    home.ok(&["pause"]);
    let daemon = home.daemon();
    home.ok(&["rebuild"]);
    assert_eq!(programs(), 0, "paused by hand");
    home.ok(&["resume"]);
    until("its programs are known", || (programs() == 2).then_some(()));
    assert_eq!(home.records(), 0, "nothing was run");
    let first = home.test(&[]);
    first.green_from("run");
    assert_eq!(programs(), 2);
    // The stored digests tell a changed program from an unchanged one.
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    home.test(&[]).red();
    home.write("src/lib.rs", "#[test] fn one() {}\n#[test] fn two() {}\n");
    home.test(&[]).green_from("cache");
    daemon.stop();
}

#[test]
fn rebuild_builds_now() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    // This build preempts or joins the daemon's first build.
    home.ok(&["rebuild"]);
    assert_eq!(stale_by_hand(&home), Vec::<String>::new());
    home.write("src/lib.rs", "#[test] fn one() {}\n");
    home.ok(&["rebuild"]);
    assert_eq!(stale_by_hand(&home), Vec::<String>::new());
    let other = Home::with(&[]);
    let refused = home.run(&["rebuild", other.root.to_str().unwrap()]);
    assert_eq!(refused.code, Some(4), "{refused:#?}");
    daemon.stop();
}

#[test]
fn background_tests_reach_a_verdict_by_themselves() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[]);
    home.config("", "debounce = '20ms'\nbackground_tests = true");
    let daemon = home.daemon();
    let verdict = |wanted: &str, passed: u64| {
        until("the tests were run in the background", || {
            let last = &home.project_status()["last_verdict"];
            let there = last["verdict"] == wanted && last["counts"]["passed"] == passed;
            there.then_some(())
        });
    };
    verdict("pass", 2);
    home.test(&[]).green_from("cache");
    home.write("src/lib.rs", "#[test] fn one() {}\n#[test] fn two() { panic!() }\n");
    verdict("fail", 1);
    home.test(&[]).red();
    home.write("src/lib.rs", "#[test] fn one() {}\n");
    verdict("pass", 1);
    home.test(&[]).green_from("cache");
    assert_eq!(home.project_status()["last_verdict"]["source"], "run");
    daemon.stop();
}

/// Notes each run outside the workspace.
const NOISY: &str = "#[test] fn noisy() {\n\
     \x20   use std::io::Write;\n\
     \x20   let noise = std::fs::File::options().create(true).append(true).open(\"../noise\");\n\
     \x20   noise.unwrap().write_all(b\"x\").unwrap();\n}\n";

/// A workspace with a noisy test, whose first answer shows which targets may run unasked.
fn home_with_noise() -> Option<(Home, Started)> {
    if !can_observe("tests that run in the background without being asked") {
        return None;
    }
    let mut home =
        Home::with(&[("tests/noisy.rs", NOISY), ("tests/quiet.rs", "#[test] fn quiet() {}\n")]);
    // Not one around the workspace: the noise is to lie outside of it.
    let temporary = home.base.join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    home.environment.set("TMPDIR", temporary);
    home.config("[log]\nlevel = 'debug'", "debounce = '1ms'\nbackground_tests = 'auto'");
    let daemon = home.daemon();
    built(&home, "the first build");
    assert!(!daemon.stderr().contains("ran a target"), "nothing is known yet");
    let first = home.test(&[]);
    first.green_from("run");
    assert_eq!(first.count("passed"), 4);
    Some((home, daemon))
}

fn noise(home: &Home) -> u64 {
    std::fs::metadata(home.base.join("noise")).unwrap().len()
}

#[test]
fn only_targets_that_nobody_notices_run_unasked() {
    if takes_long() {
        return;
    }
    let Some((home, daemon)) = home_with_noise() else { return };
    home.write("tests/noisy.rs", &format!("{NOISY}#[test] fn more() {{}}\n"));
    home.write("tests/quiet.rs", "#[test] fn quiet() {}\n#[test] fn more() {}\n");
    let left = "the other targets run when a client asks";
    until("the quiet target ran", || {
        let log = daemon.stderr();
        let last = log.rfind("ran a target").filter(|ran| log[*ran..].contains(left));
        last.map(|_| ())
    });
    assert_eq!(noise(&home), 1);
    let explained = home.ok(&["explain", "noisy"]);
    assert!(explained.contains("not in the background: it wrote to `"), "{explained}");
    let explained = home.ok(&["explain", "quiet"]);
    assert!(
        explained.contains("in the background: it is quick and has no side effects"),
        "{explained}"
    );
    let answer = home.test(&[]);
    answer.green();
    assert_eq!((answer.run(), noise(&home)), (vec!["noisy".to_owned()], 2), "{answer:#?}");
    // Without the noise, the verdict is there before the question.
    home.write("tests/noisy.rs", "#[test] fn noisy() {}\n");
    home.test(&[]).green();
    home.write("src/lib.rs", "#[test] fn one() {}\n");
    until("the verdict is there", || {
        let last = &home.project_status()["last_verdict"];
        (last["counts"]["passed"] == 4 && last["source"] == "mixed").then_some(())
    });
    home.test(&[]).green_from("cache");
    daemon.stop();
}

#[test]
fn a_question_does_not_wait_for_background_tests_of_some_targets() {
    if takes_long() {
        return;
    }
    let Some((home, daemon)) = home_with_noise() else { return };
    home.write("tests/noisy.rs", &format!("{NOISY}#[test] fn more() {{}}\n"));
    home.write("tests/quiet.rs", &waiting::test("quiet"));
    until("the quiet target runs", || (begun(&home) > 0).then_some(()));
    let before = begun(&home);
    let asked = home.start(EXE, &["test", "--format", "json"]);
    until("the client runs it itself", || (begun(&home) > before).then_some(()));
    home.write("target/go", "");
    let ran = asked.end(LIMIT);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(noise(&home), 2);
    daemon.stop();
}

#[test]
fn a_question_during_a_background_build_joins_or_replaces_it() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[("tests/it.rs", "#[test] fn it() {}\n")]);
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    for round in 0..4 {
        home.write("src/lib.rs", &format!("#[test] fn one() {{ assert!({round} < 3) }}\n"));
        let answer = home.test(&[]);
        if round < 3 { answer.green() } else { answer.red() }
    }
    daemon.stop();
}

#[test]
fn a_foreground_build_never_waits_for_a_background_build() {
    // The background build hangs in the build script and holds cargo's lock.
    let script = "fn main() {\n\
         \x20   println!(\"cargo::rerun-if-changed=build.rs\");\n\
         \x20   while std::env::var_os(\"QUICK\").is_none() && !std::path::Path::new(\"go\").exists() {\n\
         \x20       std::fs::write(\"target/begun\", \"\").unwrap();\n\
         \x20       std::thread::sleep(std::time::Duration::from_millis(5));\n\
         \x20   }\n}\n";
    let home = Home::with(&[("build.rs", script)]);
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    let begun = home.root.join("target/begun");
    until("our build script runs", || begun.exists().then_some(()));
    for _ in 0..2 {
        let by_hand = home.start("env", &["QUICK=1", "cargo", "check"]).end(SOON);
        assert_eq!(by_hand.code, Some(0), "{by_hand:#?}");
    }
    home.write("go", "");
    built(&home, "ours goes on afterwards");
    daemon.stop();
}

#[test]
fn a_background_build_backs_off_from_a_foreground_build() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1ms'");
    std::fs::create_dir_all(home.root.join("target/debug")).unwrap();
    let lock = std::fs::File::create(home.root.join("target/debug/.cargo-lock")).unwrap();
    lock.lock().unwrap();
    let daemon = home.daemon();
    until("it is paused", || {
        let status = home.project_status();
        let waits = status["reason"] == "waiting for another cargo";
        (status["state"] == "paused" && waits).then_some(())
    });
    assert!(home.left_over().iter().all(|line| !line.contains("cargo test")));
    drop(lock);
    built(&home, "the lock is free");
    daemon.stop();
}

/// As where tests number their folders in the order in which their threads come.
#[test]
fn a_target_whose_runs_leave_other_names_runs_until_its_record_holds() {
    if takes_long() || !can_observe("what runs leave") {
        return;
    }
    let numbered = "#[test] fn numbered() {\n\
        let dir = std::env::temp_dir().join(\"numbered\");\n\
        let mut free = (0..5).map(|n| dir.join(n.to_string())).filter(|dir| !dir.exists());\n\
        if let Some(free) = free.next() { std::fs::create_dir_all(free).unwrap(); }\n\
        }\n";
    let home = Home::with(&[("tests/numbered.rs", numbered)]);
    home.config("", "debounce = '20ms'\nbackground_tests = 'auto'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    until("a record holds", || (home.run(&["check"]).code == Some(0)).then_some(()));
    home.test(&[]).green_from("cache");
    daemon.stop();
}
