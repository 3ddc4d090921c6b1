//! Background work is paused by hand and by the state of the machine.

use std::path::Path;
use std::time::Duration;

use knhk_test_cache::Daemon;
use knhk_test_cache::internals::daemon::{Pause, Pauses};
use knhk_test_cache::internals::model::Timestamp;
use knhk_test_cache::internals::protocol::{ProjectStatus, State};

use crate::home::{EXE, Home, LIMIT, Started, takes_long, until};
use crate::waiting::{self, build_script};

/// How often a build script or a test that waits was started.
pub(super) fn begun(home: &Home) -> u64 {
    std::fs::metadata(home.root.join("target/begun")).map_or(0, |file| file.len())
}

fn reason(home: &Home) -> String {
    home.project_status()["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_pause_stops_what_runs_and_starts_nothing_until_resume() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[("build.rs", &build_script("", ""))]);
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    until("our build script runs", || (begun(&home) > 0).then_some(()));
    home.ok(&["pause"]);
    until("the build was given up", || {
        let status = home.project_status();
        let by_hand = status["reason"] == "by hand, until `knhk-test-cache resume`";
        (status["state"] == "paused" && by_hand && status["paused_until"].is_null()).then_some(())
    });
    let left = home.left_over();
    assert!(left.iter().all(|line| !line.contains("cargo test")), "{left:#?}");
    let text = home.ok(&["status"]);
    assert!(text.contains("paused (by hand, until"), "{text}");
    // The daemon has seen the edit (another code hash) and starts no build.
    let before = (begun(&home), home.project_status()["code_hash"].clone());
    home.write("src/lib.rs", "pub fn f() {}\n#[test] fn one() {}\n");
    until("the edit was seen", || (home.project_status()["code_hash"] != before.1).then_some(()));
    for _ in 0..20 {
        // A build would show in the status or start the script.
        let state = home.project_status()["state"].clone();
        assert_eq!((begun(&home), state), (before.0, "paused".into()));
    }
    // Questions are answered.
    home.write("target/go", "");
    home.test(&[]).green_from("run");
    home.test(&[]).green_from("cache");
    home.ok(&["explain"]);
    home.write("src/lib.rs", "pub fn g() {}\n#[test] fn one() {}\n");
    home.ok(&["rebuild"]);
    assert_eq!(home.project_status()["state"], "paused");
    home.write("src/lib.rs", "pub fn h() {}\n#[test] fn one() {}\n");
    let built = home.project_status()["last_build"]["when"].clone();
    home.ok(&["resume"]);
    until("it builds again", || {
        let status = home.project_status();
        (status["state"] == "idle" && status["last_build"]["when"] != built).then_some(())
    });
    assert!(home.project_status()["reason"].is_null());
    daemon.stop();
}

/// A daemon in a pause, and a `rebuild` whose build script runs.
fn rebuilding() -> (Home, Started, Started) {
    let home = Home::with(&[("build.rs", &build_script("", ""))]);
    home.config("", "debounce = '1ms'");
    home.ok(&["pause"]);
    let daemon = home.daemon();
    let asked = home.start(EXE, &["rebuild"]);
    until("our build script runs", || (begun(&home) == 1).then_some(()));
    (home, daemon, asked)
}

#[test]
fn a_waiting_client_gets_the_build_of_the_newest_tree() {
    let (home, daemon, asked) = rebuilding();
    home.write("src/lib.rs", "pub fn f() {}\n#[test] fn one() {}\n");
    until("it runs again", || (begun(&home) == 2).then_some(()));
    home.write("target/go", "");
    let ran = asked.end(LIMIT);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(home.project_status()["last_build"]["success"], true);
    daemon.stop();
}

#[test]
fn a_build_without_its_client_is_a_background_build_again() {
    let (home, daemon, asked) = rebuilding();
    assert_eq!(home.project_status()["state"], "building");
    asked.signal(rustix::process::Signal::INT);
    asked.end(LIMIT);
    until("it is given up", || (home.project_status()["state"] == "paused").then_some(()));
    let left = home.left_over();
    assert!(left.iter().all(|line| !line.contains("cargo test")), "{left:#?}");
    daemon.stop();
}

#[test]
fn a_pause_outlives_the_daemon_and_works_without_one() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1ms'");
    let said = home.run(&["pause", "1h", "30m", "--project", "."]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(said.stderr.contains("for 1h 30m"), "{said:#?}");
    assert!(said.stderr.contains("no daemon is running"), "{said:#?}");
    let paused = |home: &Home| {
        let status = home.project_status();
        assert_eq!(status["state"], "paused");
        let left = status["paused_until"].as_u64().unwrap() - Timestamp::now().0;
        assert!((5_000_000..=5_400_000).contains(&left), "{left}");
        assert_eq!(reason(home), "by hand, 1h 30m left");
    };
    paused(&home);
    for _ in 0..2 {
        let daemon = home.daemon();
        paused(&home);
        assert!(home.project_status()["last_build"].is_null());
        daemon.stop();
    }
    let daemon = home.daemon();
    // A short pause, written as a file: the command takes whole seconds only.
    let cache = home.paths().cache_dir;
    let soon = Pause::new(Timestamp::now(), Some(Duration::from_millis(700)));
    Pauses::pause(&cache, Some(&home.root), soon).unwrap();
    daemon.stop();
    let daemon = home.daemon();
    until("the time is over and it builds by itself", || {
        let status = home.project_status();
        (status["state"] == "idle" && status["last_build"]["success"] == true).then_some(())
    });
    daemon.stop();
}

#[test]
fn a_pause_without_a_time_or_project_is_an_error() {
    let home = Home::with(&[]);
    home.config("", "");
    for (args, code, says) in [
        (&["pause", "soon"][..], 2, "`soon` is not a whole number with a unit"),
        (&["pause", "10"], 2, "`10` has no unit; write how long"),
        (&["pause", "0s"], 2, "no time at all"),
        (&["resume", "1h"], 2, "unexpected argument"),
        (&["pause", "--project", "/no/such"], 4, "is no project of"),
        (&["resume", "--project", "/no/such"], 4, "is no project of"),
    ] {
        let ran = home.run(args);
        assert_eq!(ran.code, Some(code), "{ran:#?}");
        assert!(ran.stderr.contains(says), "{ran:#?}");
    }
    assert_eq!(home.project_status()["state"], "idle");
    home.ok(&["pause"]);
    let one = home.run(&["resume", "--project", "."]);
    assert!(one.stderr.contains("everything is paused; `knhk-test-cache resume` ends"), "{one:#?}");
    assert_eq!(home.project_status()["state"], "paused");
    home.ok(&["resume"]);
    assert_eq!(home.project_status()["state"], "idle");
    for (start, command) in [("pau", "pause"), ("resu", "resume")] {
        let words =
            ["KNHK_TEST_CACHE_COMPLETE=bash", "_CLAP_COMPLETE_INDEX=1", EXE, "--", "x", start];
        let completed = home.start("env", &words).end(LIMIT);
        assert_eq!(completed.stdout.trim(), command, "{completed:#?}");
    }
}

/// A daemon in this process that reads the machine's state from files.
pub(super) async fn on_machine(home: &Home, root: &Path) -> Daemon {
    let daemon = Daemon::of_config(home.environment.clone())
        .with_paths(home.paths())
        .with_hook(EXE.into())
        .with_machine(root.to_owned(), root.to_owned());
    daemon.start().await.unwrap();
    daemon
}

/// Waits until the project's status is as it should be.
pub(super) async fn until_status(
    daemon: &Daemon,
    what: &str,
    is: impl Fn(&ProjectStatus) -> bool,
) -> ProjectStatus {
    let look = async {
        loop {
            let report = daemon.projects().await.unwrap();
            if let Some(status) = report.projects.into_iter().find(|status| is(status)) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, look)
        .await
        .unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

fn pressure(root: &Path, share: &str) {
    let fresh = root.join("pressure/fresh");
    std::fs::create_dir_all(root.join("pressure")).unwrap();
    std::fs::write(&fresh, format!("some avg10={share} avg60=0.00 avg300=0.00 total=0\n")).unwrap();
    std::fs::rename(fresh, root.join("pressure/memory")).unwrap();
}

#[tokio::test]
async fn memory_pressure_preempts_a_build_until_it_falls() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[("build.rs", &build_script("", ""))]);
    home.config("[background]\nmemory_pressure = '20%'", "debounce = '1ms'");
    let machine = tempfile::tempdir().unwrap();
    pressure(machine.path(), "0.00");
    let daemon = on_machine(&home, machine.path()).await;
    until_status(&daemon, "it builds", |_| begun(&home) > 0).await;
    pressure(machine.path(), "35.50");
    let why = "programs wait for memory 36 % of the time";
    let paused = |status: &ProjectStatus| {
        status.state == State::Paused && status.reason.as_deref() == Some(why)
    };
    until_status(&daemon, "it is paused", paused).await;
    assert_eq!(begun(&home), 1);
    home.write("target/go", "");
    pressure(machine.path(), "1.00");
    let built = |status: &ProjectStatus| {
        status.state == State::Idle && status.last_build.as_ref().is_some_and(|build| build.success)
    };
    until_status(&daemon, "it goes on", built).await;
    assert_eq!(begun(&home), 2, "given up once, begun again once");
    daemon.stop().await;
}

#[tokio::test]
async fn a_config_change_applies_at_once_to_background_tests() {
    let home = Home::with(&[]);
    let settings = "debounce = '1ms'\nbackground_tests = true";
    home.config("[background]\npower_save = 'pause'", settings);
    let machine = tempfile::tempdir().unwrap();
    let profile = machine.path().join("firmware/acpi/platform_profile");
    std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
    std::fs::write(&profile, "low-power\n").unwrap();
    let daemon = on_machine(&home, machine.path()).await;
    let saves = |status: &ProjectStatus| {
        status.state == State::Paused && status.reason.as_deref() == Some("the machine saves power")
    };
    let status = until_status(&daemon, "it is paused", saves).await;
    assert_eq!(status.last_build, None);
    home.config("[background]\npower_save = 'slow'", settings);
    let tested = |status: &ProjectStatus| {
        status.last_verdict.as_ref().is_some_and(|verdict| verdict.counts.passed == 2)
    };
    until_status(&daemon, "the tests ran", tested).await;
    daemon.stop().await;
}

#[test]
fn running_tests_are_preempted_by_a_pause_and_repeated() {
    let home = Home::with(&[("src/lib.rs", &waiting::test("one"))]);
    home.config("", "debounce = '1ms'\nbackground_tests = true");
    let daemon = home.daemon();
    until("the test runs", || (begun(&home) > 0).then_some(()));
    home.ok(&["pause", "--project", "."]);
    until("nothing of it runs", || {
        let daemon_only = home.left_over().len() == 1;
        (daemon_only && home.project_status()["state"] == "paused").then_some(())
    });
    assert_eq!(begun(&home), 1);
    home.ok(&["resume", "--project", "."]);
    until("it runs again", || (begun(&home) == 2).then_some(()));
    home.write("target/go", "");
    until("there is a verdict", || {
        (home.project_status()["last_verdict"]["verdict"] == "pass").then_some(())
    });
    daemon.stop();
}

#[tokio::test]
async fn a_slow_build_has_one_job_until_a_client_waits() {
    let jobs = "std::fs::write(\"target/jobs\", std::env::var(\"NUM_JOBS\").unwrap()).unwrap();";
    let home = Home::with(&[("build.rs", &build_script(jobs, ""))]);
    home.config("[background]\npower_save = 'slow'", "debounce = '1ms'");
    let machine = tempfile::tempdir().unwrap();
    let profile = machine.path().join("firmware/acpi/platform_profile");
    std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
    std::fs::write(&profile, "low-power\n").unwrap();
    let daemon = on_machine(&home, machine.path()).await;
    let slowly = |status: &ProjectStatus| {
        let reason = status.reason.as_deref().unwrap_or_default();
        begun(&home) == 1 && reason.ends_with("(one job: the machine saves power)")
    };
    let status = until_status(&daemon, "it builds slowly", slowly).await;
    assert_eq!(status.state, State::Building);
    let seen = || std::fs::read_to_string(home.root.join("target/jobs")).unwrap();
    assert_eq!(seen(), "1");
    let asked = home.start(EXE, &["test"]);
    until_status(&daemon, "it begins again for who asks", |_| begun(&home) == 2).await;
    let all = std::thread::available_parallelism().unwrap().to_string();
    assert_eq!(seen(), all);
    home.write("target/go", "");
    // This thread is the daemon's.
    let ran = tokio::task::spawn_blocking(move || asked.end(LIMIT)).await.unwrap();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    daemon.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_builds_at_full_priority_beside_a_limited_background() {
    // The scheduling policy is the 41st field, and the third follows the name in brackets.
    let policy = "let stat = std::fs::read_to_string(\"/proc/self/stat\").unwrap();\n\
         \x20   let policy = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38).unwrap();\n\
         \x20   std::fs::write(\"target/policy\", policy).unwrap();";
    let home = Home::with(&[("build.rs", &build_script(policy, ""))]);
    home.config("[background]\njobs = 1", "debounce = '1ms'");
    let machine = tempfile::tempdir().unwrap();
    let daemon = on_machine(&home, machine.path()).await;
    until_status(&daemon, "it builds", |_| begun(&home) == 1).await;
    let seen = || std::fs::read_to_string(home.root.join("target/policy")).unwrap();
    let idle = libc::SCHED_IDLE.to_string();
    assert_eq!(seen(), idle);
    let asked = home.start(EXE, &["test"]);
    until_status(&daemon, "who asks begins again", |_| begun(&home) == 2).await;
    assert_ne!(seen(), idle);
    home.write("target/go", "");
    // This thread is the daemon's.
    let ran = tokio::task::spawn_blocking(move || asked.end(LIMIT)).await.unwrap();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    daemon.stop().await;
}
