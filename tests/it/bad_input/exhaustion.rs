//! What is taken from under a running daemon, or given to it in excess: it is survived, and SIGTERM
//! is honoured in time.

use std::fs;
use std::time::{Duration, Instant};

use crate::home::{Home, Started, takes_long, until};

/// How long a daemon may take to end.
const TO_END: Duration = Duration::from_secs(5);

/// Ends the daemon as its supervisor does.
fn ends_in_time(daemon: Started) {
    let asked = Instant::now();
    let ran = daemon.stop();
    assert!(asked.elapsed() <= TO_END, "{:?}: {ran:#?}", asked.elapsed());
}

#[test]
fn the_runtime_folder_is_removed() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    home.test(&[]).green();
    fs::remove_dir_all(home.paths().runtime_dir).unwrap();
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    home.test(&[]).red();
    home.write("src/lib.rs", "#[test] fn one() {}\n#[test] fn two() {}\n");
    home.test(&[]).green();
    ends_in_time(daemon);
}

#[test]
fn the_config_is_replaced_by_a_pipe() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let mut daemon = home.daemon();
    home.test(&[]).green_from("run");
    let file = home.config_file();
    fs::remove_file(&file).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    until("the daemon has noticed", || {
        daemon.stderr().contains("the config does not parse").then_some(())
    });
    assert_eq!(home.status()["running"], true, "it still answers");
    assert!(!daemon.has_ended());
    ends_in_time(daemon);
}

#[test]
fn five_thousand_projects_are_missing() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[]);
    let missing: String =
        (0..5_000).map(|number| format!("[[project]]\npath = \"/no/such/{number}\"\n")).collect();
    home.config("", "debounce = '1h'");
    let file = home.config_file();
    let own = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{own}{missing}")).unwrap();
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    let answer = home.test(&[]);
    answer.green_from("cache");
    assert!(!answer.ran.stderr.contains("working without it"), "{answer:#?}");
    #[cfg(target_os = "linux")]
    {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().as_raw_nonzero()));
        let status = status.unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kib < 150 * 1024, "{kib} KiB");
    }
    ends_in_time(daemon);
}

#[test]
fn tests_that_change_the_tree_are_not_run_for_ever() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[(
        "src/lib.rs",
        "#[test] fn s() {\n\
         \x20   let now = format!(\"{:?}\", std::time::SystemTime::now());\n\
         \x20   std::fs::write(\"a.snap.new\", now).unwrap();\n\
         \x20   panic!();\n}\n",
    )]);
    home.config("", "debounce = '1ms'\nbackground_tests = true");
    let daemon = home.daemon();
    let verdicts = || daemon.stderr().matches(" verdict").count();
    until("status says so", || {
        let status = home.project_status();
        let reason = status["reason"].as_str().unwrap_or_default();
        (status["state"] == "idle" && reason.contains("the tests change files")).then_some(())
    });
    let before = verdicts();
    assert!((1..=3).contains(&before), "{}", daemon.stderr());
    for _ in 0..40 {
        // Each question takes longer than one of the runs.
        home.project_status();
        assert_eq!(verdicts(), before, "{}", daemon.stderr());
    }
    // An edit starts a run again.
    home.write("src/lib.rs", "#[test] fn s() {}\n");
    until("the edit was tested", || {
        (home.project_status()["last_verdict"]["verdict"] == "pass").then_some(())
    });
    ends_in_time(daemon);
}
