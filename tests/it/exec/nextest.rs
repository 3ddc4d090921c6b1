//! Under nextest each test is a process and a call with a record of its own.

use super::{Ran, built, cargo};
use crate::home::{Home, LIMIT, skip, takes_long};

const TESTS: &str = "#[test] fn reads() { std::fs::read(\"data\").unwrap(); println!(\"said\"); }\n\
                     #[test] fn reads_nothing() {}\n\
                     #[test] fn fails() { assert!(std::env::var_os(\"FAIL\").is_none()) }\n";

/// Whether there is a nextest.
fn is_there(home: &Home) -> bool {
    let version = home.start("cargo", &["nextest", "--version"]).end(LIMIT);
    if version.code != Some(0) {
        skip("exec under nextest", &version.stderr);
    }
    version.code == Some(0)
}

/// With us as its runner by cargo's config, and what each test prints shown.
fn nextest(home: &Home) -> Ran {
    let args = ["nextest", "run", "--no-fail-fast", "--success-output", "immediate"];
    home.start("cargo", &args).end(LIMIT)
}

#[test]
fn each_test_is_a_record_of_its_own() {
    if takes_long() {
        return;
    }
    let Some(mut home) = built(&[("data", "1"), ("tests/it.rs", TESTS)]) else { return };
    if !is_there(&home) {
        return;
    }
    home.write(".cargo/config.toml", &home.ok(&["config", "cargo"]));
    let first = nextest(&home);
    first.is(0, 0);
    assert!(first.stderr.contains("5 passed"), "{first:#?}");
    assert_eq!(home.records(), 5);
    let second = nextest(&home);
    second.is(0, 5);
    assert!(second.stderr.contains("5 passed") && second.stderr.contains("said"), "{second:#?}");
    // As neotest asks for one test, each time with a config of another name.
    let neotest = |config: &str| {
        home.write(config, "[profile.neotest.junit]\npath = 'junit.xml'\n");
        let config = ["--config-file", config, "--profile", "neotest"];
        let one = ["--test", "it", "-E", "package(p) & test(/^reads(::.*)?$/)"];
        let run = ["nextest", "run", "--workspace", "--no-fail-fast"];
        let shown = ["--success-output", "immediate"];
        home.start("cargo", &[&run[..], &shown, &config, &one].concat()).end(LIMIT)
    };
    assert_eq!(neotest("../out/1.toml").code, Some(0));
    neotest("../out/2.toml").is(0, 1);
    home.write("data", "2");
    let ran = nextest(&home);
    ran.is(0, 4);
    // It says which one ran: what it printed stands behind its line.
    let of_reads = ran.stderr.split("PASS").find(|part| part.contains("p::it reads\n"));
    assert!(of_reads.is_some_and(|part| !part.contains("is cached:")), "{ran:#?}");
    home.environment.set("FAIL", "1");
    nextest(&home).is(100, 0);
    let ran = nextest(&home);
    assert!(ran.is(100, 4).stderr.contains("1 failed"), "{ran:#?}");
    home.environment.remove("FAIL");
    nextest(&home).is(0, 5);
    home.environment.set("KNHK_TEST_CACHE_EXEC", "off");
    nextest(&home).is(0, 0);
}

#[test]
fn stress_runs_and_other_limits_are_no_repetition() {
    if takes_long() {
        return;
    }
    let Some(home) = built(&[("tests/it.rs", "#[test] fn t() {}\n")]) else { return };
    if !is_there(&home) {
        return;
    }
    home.write(".cargo/config.toml", &home.ok(&["config", "cargo"]));
    nextest(&home).is(0, 0);
    let cached = nextest(&home).cached();
    assert!(cached > 0);
    // The same run again and again is what is asked for.
    let stress = ["nextest", "run", "--stress-count", "2", "--success-output", "immediate"];
    home.start("cargo", &stress).end(LIMIT).is(0, 0);
    nextest(&home).is(0, cached);
    // A test that takes too long fails.
    let limit = "[profile.default]\nslow-timeout = { period = '60s', terminate-after = 1 }\n";
    home.write(".config/nextest.toml", limit);
    nextest(&home).is(0, 0);
    nextest(&home).is(0, cached);
    // Wherever that is said.
    let under = |period: &str| {
        home.write("../strict.toml", &limit.replace("60s", period));
        let run = ["nextest", "run", "--config-file", "../strict.toml"];
        let shown = ["--success-output", "immediate"];
        home.start("cargo", &[&run[..], &shown].concat()).end(LIMIT)
    };
    under("50s").is(0, 0);
    under("50s").is(0, cached);
    under("40s").is(0, 0);
}

#[test]
fn an_edit_leaves_the_tests_that_do_not_reach_it() {
    if takes_long() {
        return;
    }
    let tests = |other: &str| {
        format!(
            "static STATE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);\n\
             fn shared() -> u8 {{ STATE.load(std::sync::atomic::Ordering::SeqCst) }}\n\
             #[test] fn reads() {{ std::fs::read(\"data\").unwrap(); }}\n\
             #[test] fn reaches() {{ assert_eq!(shared(), 1) }}\n\
             #[test] fn other() {{ assert!(std::env::var_os(\"FAIL\").is_none()); {other} }}\n"
        )
    };
    let Some(mut home) = built(&[("data", "1"), ("tests/it.rs", &tests(""))]) else { return };
    if !is_there(&home) {
        return;
    }
    home.write(".cargo/config.toml", &home.ok(&["config", "cargo"]));
    home.config("", "selection = 'on'");
    home.environment.set("CARGO_INCREMENTAL", "1");
    home.write("tests/it.rs", &tests("println!()"));
    nextest(&home).is(0, 0);
    nextest(&home).is(0, 5);
    let edit = |home: &Home, other: &str| home.write("tests/it.rs", &tests(other));
    edit(&home, "println!(\"said\");");
    let ran = nextest(&home);
    assert!(ran.is(0, 4).stderr.contains("same reached code and inputs"), "{ran:#?}");
    assert!(ran.stderr.contains("said"), "{ran:#?}");
    // The program is another one, and one test reads what has changed.
    home.write("data", "2");
    edit(&home, "println!(\"more\");");
    nextest(&home).is(0, 3);
    // What a test reaches through others counts.
    home.write("tests/it.rs", &tests("").replace("new(1)", "new(2)"));
    let ran = nextest(&home);
    assert!(ran.is(100, 3).stderr.contains("1 failed"), "{ran:#?}");
    edit(&home, "panic!()");
    nextest(&home).is(100, 4);
    nextest(&home).is(100, 4);
    edit(&home, "println!(\"last\")");
    nextest(&home).is(0, 4);
    // Every program can name this variable.
    home.environment.set("FAIL", "1");
    nextest(&home).is(100, 0);
}

#[test]
fn a_failure_seen_by_test_invalidates_nextest_records() {
    if takes_long() {
        return;
    }
    let reads = "#[test] fn reads() { assert_ne!(std::fs::read(\"secret\").unwrap(), b\"bad\") }\n\
                 #[test] fn other() {}\n";
    let Some(home) = built(&[("secret", "good"), ("tests/it.rs", reads)]) else { return };
    if !is_there(&home) {
        return;
    }
    // An unseen cause.
    home.config("", "exclude = ['secret']\nrunner = 'nextest'");
    home.write(".cargo/config.toml", &home.ok(&["config", "cargo"]));
    nextest(&home).is(0, 0);
    nextest(&home).is(0, 4);
    cargo(&home, &["test"]).is(0, 0);
    home.write("secret", "bad");
    home.test(&["--no-daemon", "--no-cache"]).red();
    // The others are known to pass.
    nextest(&home).is(100, 3);
    cargo(&home, &["test"]).is(101, 1);
}
