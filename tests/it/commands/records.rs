//! Records: their lifetime, their limits and their verification.

use std::fs;

use serde_json::Value;

use crate::home::Home;

/// A workspace whose test depends on a terminal variable, which is no input.
fn flaky() -> Home {
    let test = "#[test] fn t() { assert!(std::env::var_os(\"WINDOWID\").is_none()) }";
    Home::with(&[("src/lib.rs", test)])
}

#[test]
fn verify_finds_a_record_that_is_wrong() {
    let mut home = flaky();
    home.config("", "flaky_runs = 1");
    let ran = home.test(&["--no-daemon", "--verify"]);
    ran.green_from("run");
    assert!(ran.ran.stderr.contains("no record"), "{ran:#?}");
    let ran = home.test(&["--no-daemon", "--verify"]);
    ran.green_from("run");
    assert!(ran.ran.stderr.contains("confirms the record"), "{ran:#?}");

    home.environment.set("WINDOWID", "1");
    let wrong = home.test(&["--no-daemon", "--verify"]);
    assert_eq!((wrong.ran.code, wrong.verdict()), (Some(3), "fail"), "{wrong:#?}");
    assert!(wrong.ran.stderr.contains("the record says pass, the run fail"), "{wrong:#?}");
    // Both are kept for a report.
    let evidence = std::fs::read_dir(home.paths().cache_dir.join("wrong")).unwrap();
    let evidence = evidence.last().unwrap().unwrap().path();
    assert!(wrong.ran.stderr.contains(evidence.to_str().unwrap()), "{wrong:#?}");
    let evidence: serde_json::Value =
        serde_json::from_slice(&std::fs::read(evidence).unwrap()).unwrap();
    assert_eq!(evidence["records"][0]["verdict"], "pass", "{evidence:#}");
    assert_eq!(evidence["run"]["targets"][0]["verdict"], "fail", "{evidence:#}");
    // The wrong record is gone.
    home.test(&["--no-daemon"]).red();
    home.environment.remove("WINDOWID");
    home.test(&["--no-daemon"]).green_from("run");
    // One wrong answer is enough: no record answers for the target, and every command says so.
    let says = "`knhk-test-cache resume --trust`";
    let distrusted = home.test(&["--no-daemon"]);
    distrusted.green_from("run");
    assert!(distrusted.ran.stderr.contains(says), "{distrusted:#?}");
    for line in [
        "test --no-daemon -p p --lib --format terse",
        "test --no-daemon --format json",
        "check",
        "check --format json",
        "explain --format json",
        "select",
        "status",
        "status --format json",
        "stats",
        "stats --format json",
        "watch --once",
        "watch --once --format json",
        "list",
        "list --format json",
        "rebuild",
        "doctor",
        "doctor --format json",
    ] {
        let ran = home.run(&line.split(' ').collect::<Vec<_>>());
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(says), "{line}: {said}");
    }
    let short = home.run(&["status", "--short"]);
    assert_eq!((&*short.stdout, &*short.stderr), ("off, distrusted\n", ""), "{short:#?}");
    let trusted = home.run(&["resume", "--trust"]);
    assert!(trusted.code == Some(0) && trusted.stderr.contains("Trusted p"), "{trusted:#?}");
    home.test(&["--no-daemon"]).green_from("cache");
    assert!(home.run(&["resume", "--trust"]).stderr.contains("no verified answer was wrong"));
}

#[test]
fn no_cache_runs_everything_and_records_it() {
    let mut home = flaky();
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    for way in [&["--no-cache"][..], &["--no-cache", "--no-daemon"]] {
        home.test(way).green_from("run");
        home.test(&[]).green_from("cache");
    }
    home.environment.set("WINDOWID", "1");
    home.test(&["--no-cache"]).red();
    home.test(&[]).red();
    daemon.stop();
}

#[test]
fn a_record_lives_as_long_as_its_ttl() {
    let home = Home::with(&[]);
    home.config("", "ttl = '1ms'\ndebounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    home.test(&[]).green_from("run");
    home.test(&["--no-daemon"]).green_from("run");
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("ttl"), "{explained}");
    home.config("", "ttl = '1h'\ndebounce = '1h'");
    home.test(&["--no-daemon"]).green_from("cache");
    daemon.stop();
}

#[test]
fn only_the_last_snapshots_are_kept() {
    let test = "#[test] fn t() { std::fs::read(\"data\").unwrap(); }";
    let home = Home::with(&[("src/lib.rs", test)]);
    home.config("", "keep_snapshots = 2");
    for data in ["0", "1", "2", "3"] {
        home.write("data", data);
        home.test(&["--no-daemon"]).green_from("run");
    }
    let stats: Value =
        serde_json::from_str(&home.ok(&["cache", "stats", "--format", "json"])).unwrap();
    assert_eq!(stats["projects"][0]["snapshots"], 2, "{stats:#}");
    for (data, source) in [("3", "cache"), ("2", "cache"), ("0", "run")] {
        home.write("data", data);
        home.test(&["--no-daemon"]).green_from(source);
    }
    home.ok(&["cache", "gc", "--dry-run"]);
    home.ok(&["cache", "gc"]);
    home.test(&["--no-daemon"]).green_from("cache");
    home.ok(&["cache", "clear"]);
    assert_eq!(home.records(), 0);
    home.test(&["--no-daemon"]).green_from("run");
}

#[test]
fn a_damaged_record_is_a_miss_with_a_warning() {
    let home = Home::with(&[]);
    home.test(&["--no-daemon"]).green_from("run");
    let mut damaged = 0;
    let mut folders = vec![home.paths().cache_dir.join("records")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if let Ok(text) = fs::read_to_string(entry.path())
                && text.contains("\"tests\"")
            {
                fs::write(entry.path(), text.replacen("\"two\"", "\"tow\"", 1)).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 3, "the whole, its one target by program, and by packages");
    let answer = home.test(&["--no-daemon"]);
    answer.green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
}

#[test]
fn several_terminals_ask_at_once() {
    let home = Home::with(&[("tests/it.rs", "#[test] fn it() {}\n")]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    for way in [&[][..], &["--no-daemon"]] {
        home.write("data", &way.len().to_string());
        let answers: Vec<_> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| home.test(way))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        for answer in &answers {
            assert_eq!((answer.verdict(), answer.count("passed")), ("pass", 3), "{answer:#?}");
            assert_eq!(answer.code_hash(), answers[0].code_hash());
        }
        home.test(&[]).green_from("cache");
    }
    daemon.stop();
}

#[test]
fn explain_names_the_file_and_the_setting_that_decided() {
    let mut home = Home::with(&[("data", "0")]);
    assert!(home.ok(&["explain"]).contains("no record"));
    home.test(&["--no-daemon"]).green_from("run");
    assert!(home.ok(&["explain"]).contains("Cached"));
    home.write("data", "1");
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("data changed"), "{explained}");
    home.write("data", "0");
    home.environment.set("KNOB", "1");
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("KNOB"), "{explained}");
}
