//! Contradictions between records of `exec`, records of `test` and runs.

use super::{built, cargo};
use crate::home::Home;

const DATA: &str = "#[test] fn reads() { std::fs::read(\"data\").unwrap(); }\n";

/// Depends on a file that the project excludes: an unseen cause.
const READS: &str = "#[test] fn reads() { assert_ne!(std::fs::read(\"secret\").unwrap(), b\"bad\") }\n\
                     #[test] fn other() {}\n";

/// A built workspace with an unseen cause, where a flaky test must agree `flaky_runs` times.
fn fickle(flaky_runs: u32) -> Option<Home> {
    let home = built(&[("secret", "good"), ("tests/it.rs", READS)])?;
    home.config("", &format!("exclude = ['secret']\nflaky_runs = {flaky_runs}"));
    Some(home)
}

#[test]
fn a_failure_seen_by_test_invalidates_call_records() {
    let Some(home) = fickle(3) else { return };
    cargo(&home, &["test"]).is(0, 0);
    cargo(&home, &["test", "--test", "it", "other"]).is(0, 0);
    home.write("secret", "bad");
    cargo(&home, &["test"]).is(0, 2);
    home.test(&["--no-daemon", "--no-cache"]).red();
    cargo(&home, &["test"]).is(101, 1);
    // The record of the other test still answers.
    cargo(&home, &["test", "--test", "it", "other"]).is(0, 1);
}

#[test]
fn a_failed_call_invalidates_every_green_record() {
    let Some(home) = fickle(3) else { return };
    cargo(&home, &["test"]).is(0, 0);
    cargo(&home, &["test", "--test", "it", "reads"]).is(0, 0);
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
    home.write("secret", "bad");
    // Another call of the same program.
    cargo(&home, &["test", "--test", "it", "--", "--test-threads=1"]).is(101, 0);
    home.write("secret", "good");
    cargo(&home, &["test", "--test", "it", "reads"]).is(0, 0);
    home.write("secret", "bad");
    cargo(&home, &["test", "--test", "it"]).is(101, 0);
    let answer = home.test(&["--no-daemon"]);
    answer.red();
    assert_eq!(answer.run(), ["it"], "{answer:#?}");
}

#[test]
fn a_test_with_two_outcomes_stays_flaky_until_its_outcomes_agree() {
    let Some(home) = fickle(3) else { return };
    home.test(&["--no-daemon"]).green_from("run");
    home.write("secret", "bad");
    cargo(&home, &["test", "--test", "it"]).is(101, 0);
    assert_eq!(home.project_status()["flaky"].as_array().unwrap().len(), 0);
    home.write("secret", "good");
    cargo(&home, &["test", "--test", "it"]).is(0, 0);
    assert_eq!(home.project_status()["flaky"], serde_json::json!(["p::it: reads"]));
    let explained = home.ok(&["explain", "p::it"]);
    assert!(explained.contains("flaky: `reads`"), "{explained}");
    // `test` runs the flaky test too, and its outcome counts.
    let answer = home.test(&["--no-daemon"]);
    answer.green();
    let it = answer.targets.iter().find(|target| target["target"] == "it").unwrap();
    assert_eq!((&it["source"], &it["flaky"][0]), (&"run".into(), &"reads".into()), "{it:#?}");
    // Another test of the same program is as good as ever.
    cargo(&home, &["test", "--test", "it", "other"]).is(0, 0);
    cargo(&home, &["test", "--test", "it", "other"]).is(0, 1);
    cargo(&home, &["test", "--test", "it"]).is(0, 0);
    assert_eq!(home.project_status()["flaky"].as_array().unwrap().len(), 0);
    cargo(&home, &["test", "--test", "it"]).is(0, 1);
    home.test(&["--no-daemon"]).green();
}

#[test]
fn a_green_that_fails_on_the_same_code_is_flaky() {
    let Some(mut home) = fickle(1) else { return };
    cargo(&home, &["test", "--test", "it"]).is(0, 0);
    home.write("secret", "bad");
    home.environment.set("KNHK_TEST_CACHE_EXEC", "verify");
    let ran = cargo(&home, &["test", "--test", "it"]);
    assert!(ran.is(101, 0).stderr.contains("contradicts the record"), "{ran:#?}");
    let status = home.project_status();
    assert_eq!((&status["verified"], &status["wrong"]), (&1.into(), &1.into()), "{status:#?}");
    assert_eq!(status["flaky"], serde_json::json!(["p::it: reads"]));
    let evidence = std::fs::read_dir(home.paths().cache_dir.join("wrong")).unwrap().count();
    assert_eq!(evidence, 1);
    // It runs from now on, which each call says, until a person trusts it.
    home.write("secret", "good");
    home.environment.remove("KNHK_TEST_CACHE_EXEC");
    for _ in 0..3 {
        let ran = cargo(&home, &["test", "--test", "it"]);
        assert!(ran.is(0, 0).stderr.contains("resume --trust"), "{ran:#?}");
    }
    // So do answers for other targets.
    for cached in [0, 1] {
        let ran = cargo(&home, &["test", "--lib"]);
        assert!(ran.is(0, cached).stderr.contains("resume --trust"), "{ran:#?}");
    }
    home.ok(&["resume", "--trust"]);
    cargo(&home, &["test", "--test", "it"]).is(0, 1);
}

#[test]
fn explain_and_status_report_calls() {
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let talks = format!(
        "#[test] fn t() {{ std::os::unix::net::UnixStream::connect({path:?}).unwrap(); }}\n"
    );
    let files = [("data", "1"), ("tests/talks.rs", &*talks), ("tests/it.rs", DATA)];
    let Some(home) = built(&files) else { return };
    let explain = |target: &str| home.ok(&["explain", target]);
    home.test(&["--no-daemon"]).green();
    assert!(!explain("p::it").contains("plain"), "we are not cargo's runner");
    cargo(&home, &["test"]).is(0, 0);
    assert!(
        explain("p::it").contains("plain: 1 call cached, 1 would answer\n"),
        "{}",
        explain("p::it")
    );
    home.write("data", "2");
    let told = explain("p::it");
    assert!(told.contains("1 call cached, 0 would answer; `data` changed"), "{told}");
    let told = explain("p::talks");
    assert!(
        told.contains("plain: 0 calls cached, 0 would answer; the last call: it spoke to"),
        "{told}"
    );
    assert!(told.contains("trusted_services"), "{told}");
    home.config("", "always_run = ['*::it']");
    let told = explain("p::it");
    assert!(told.contains("0 would answer; the config has it always run"), "{told}");
    home.config("", "ttl = '1ms'");
    assert!(explain("p::it").contains("and the ttl 0 s"), "{}", explain("p::it"));
    assert_eq!(home.project_status()["cache"]["calls"], 2);
    assert!(home.ok(&["status"]).contains("(2 calls by plain cargo test)"));
    let lines = home.ok(&["explain", "--format", "json", "p::it"]);
    let target: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(target["calls"]["kept"], 1, "{target}");
    assert!(
        home.ok(&["cache", "stats"]).contains("and 2 calls"),
        "{}",
        home.ok(&["cache", "stats"])
    );
    let stats = || -> serde_json::Value {
        serde_json::from_str(&home.ok(&["cache", "stats", "--format", "json"])).unwrap()
    };
    assert_eq!(stats()["programs"], 3);
    let deps = home.root.join("target/debug/deps");
    let programs = std::fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    for talks in programs.filter(|path| path.to_string_lossy().contains("/talks-")) {
        std::fs::remove_file(talks).unwrap();
    }
    home.ok(&["cache", "gc"]);
    assert_eq!(stats()["programs"], 2);
    home.ok(&["cache", "clear"]);
    assert_eq!((&stats()["programs"], &stats()["entries"]), (&0.into(), &0.into()));
}

#[test]
fn answers_are_verified_on_demand_and_by_chance() {
    let Some(mut home) = built(&[]) else { return };
    cargo(&home, &["test"]).is(0, 0);
    home.environment.set("KNHK_TEST_CACHE_EXEC", "verify");
    let ran = cargo(&home, &["test"]);
    assert!(ran.is(0, 0).stderr.contains("bears the record out"), "{ran:#?}");
    home.environment.remove("KNHK_TEST_CACHE_EXEC");
    cargo(&home, &["test"]).is(0, 1);
    home.config("", "verify_percent = 100");
    cargo(&home, &["test"]).is(0, 0);
    let status = home.project_status();
    assert_eq!((&status["verified"], &status["wrong"]), (&2.into(), &0.into()), "{status:#?}");
}

#[test]
fn explain_knows_the_targets_of_plain_cargo() {
    let holds =
        "#[test] fn t() { std::process::Command::new(\"sleep\").arg(\"2\").spawn().unwrap(); }\n";
    let files = [("tests/holds.rs", holds), ("tests/it.rs", "#[test] fn t() {}\n")];
    let Some(home) = built(&files) else { return };
    cargo(&home, &["test"]).is(0, 0);
    let told = home.ok(&["explain"]);
    assert!(told.contains("p::it"), "{told}");
    assert!(told.contains("1 call cached, 1 would answer\n"), "{told}");
    assert!(told.contains("the last call: it left a process behind"), "{told}");
    assert!(told.contains("wait for every process that it starts"), "{told}");
}
