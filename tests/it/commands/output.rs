//! Output that cannot be written: each case has an exit status of its own, and nothing panics.

use std::time::Duration;

use crate::home::{EXE, Home};

/// Runs a bash script with the program's path as `$0`, and gives the `status N` that it prints to
/// standard error, and all of standard error.
fn statuses(home: &Home, script: &str) -> (Vec<String>, String) {
    let ran = home.start("bash", &["-c", script, EXE]).end(Duration::from_secs(120));
    let lines = ran.stderr.lines();
    let statuses = lines.filter_map(|line| line.strip_prefix("status ")).map(ToOwned::to_owned);
    (statuses.collect(), ran.stderr)
}

const COMMANDS: [&str; 11] = [
    "config schema",
    "config show",
    "config path",
    "completions bash",
    "cache stats --format json",
    "stats --format json",
    "test --no-daemon --format json",
    "check --format json",
    "test --no-daemon --format junit",
    "--help",
    "--version",
];

fn project() -> Home {
    let home = Home::with(&[("src/lib.rs", "#[test] fn t() {}")]);
    home.test(&["--no-daemon"]).green_from("run");
    home
}

/// `/dev/full` refuses every write, as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_has_a_status_of_its_own() {
    let home = project();
    for command in COMMANDS {
        let script = format!("\"$0\" {command} > /dev/full; echo status $? >&2");
        let (statuses, stderr) = statuses(&home, &script);
        assert_eq!(statuses, ["9"], "{command}: {stderr}");
        assert!(stderr.contains("standard output cannot be written"), "{command}: {stderr}");
        assert!(!stderr.contains("panicked"), "{command}: {stderr}");
    }
}

#[test]
fn a_closed_pipe_has_a_status_of_its_own_and_no_message() {
    let home = project();
    for command in COMMANDS {
        let script = format!("exec 9> >(:); wait $!; \"$0\" {command} >&9; echo status $? >&2");
        let (statuses, stderr) = statuses(&home, &script);
        assert_eq!(statuses, ["141"], "{command}: {stderr}");
        assert!(!stderr.contains("error") && !stderr.contains("panicked"), "{command}: {stderr}");
    }
}

/// Messages are for people: where nobody can read them, the verdict alone counts.
#[cfg(target_os = "linux")]
#[test]
fn a_standard_error_that_cannot_be_written_changes_no_verdict() {
    let home = project();
    home.write("src/lib.rs", "#[test] fn t() {} #[test] fn u() { panic!(\"no\") }");
    for (command, expected) in
        [("test --no-daemon", "101"), ("config check", "0"), ("test --nonsense", "2")]
    {
        for target in ["/dev/full", "&9"] {
            let script = format!(
                "exec 9> >(:); wait $!; exec 8>&2; \"$0\" {command} 2> {target}; echo status $? >&8"
            );
            let script = script.replace("2> &9", "2>&9");
            let (statuses, stderr) = statuses(&home, &script);
            assert_eq!(statuses, [expected], "{command} 2> {target}: {stderr}");
        }
    }
}

/// Standard output and the lines of standard error that a test has written.
fn said(home: &Home, args: &[&str]) -> (String, Vec<String>) {
    let ran = home.run(&[&["test", "--no-daemon"], args].concat());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let errors = ran.stderr.lines().filter(|line| line.contains("murmured"));
    (ran.stdout, errors.map(ToOwned::to_owned).collect())
}

#[test]
fn shown_output_is_the_same_from_a_run_and_from_a_record() {
    let test = "#[test] fn t() { println!(\"said\"); eprintln!(\"murmured\"); }\n#[test] fn u() {}";
    let home = Home::with(&[("src/lib.rs", test)]);
    for (args, expected) in [
        (&["--lib", "--", "--nocapture"][..], "said\n"),
        (&["--", "--nocapture", "--test-threads=1"], "said\n"),
        (&["--", "--show-output"], "---- t stdout ----\nsaid\n"),
        (&["--", "--list"], "t: test\nu: test\n"),
    ] {
        let first = said(&home, args);
        assert_eq!(first.0.matches(expected).count(), 1, "{args:?}: {first:?}");
        let captured = !args.contains(&"--nocapture");
        assert_eq!(first.1.len(), usize::from(!captured), "{args:?}: {first:?}");
        assert_eq!(said(&home, args), first, "{args:?}");
        let json = home.test(&[&["--no-daemon"], args].concat());
        json.green_from("cache");
        assert!(!json.ran.stdout.contains("said"), "JSON alone: {json:#?}");
    }
}

#[test]
fn a_question_that_runs_no_test_says_so() {
    let home = Home::with(&[("src/lib.rs", "#[test] fn t() {}")]);
    for (args, expected) in [
        (&["no_such_test"][..], "no test matches, 1 test filtered out"),
        (&["--no-run"], "the tests are built, none was run"),
        (&["--", "--list"], "the tests are listed, none was run"),
    ] {
        for _ in 0..2 {
            let ran = home.run(&[&["test", "--no-daemon"], args].concat());
            assert_eq!(ran.code, Some(0), "{args:?}: {ran:#?}");
            assert!(ran.stderr.contains(expected), "{args:?}: {ran:#?}");
            assert!(!ran.stderr.contains("Green"), "{args:?}: {ran:#?}");
        }
    }
    let ran = home.run(&["test", "+nightly"]);
    assert_eq!(ran.code, Some(2), "{ran:#?}");
    assert!(ran.stderr.contains("RUSTUP_TOOLCHAIN"), "{ran:#?}");
}

#[test]
fn the_first_question_without_a_lock_file_says_each_thing_once() {
    let home = Home::with(&[("src/lib.rs", "#[test] fn t() {}")]);
    std::fs::remove_file(home.root.join("Cargo.lock")).unwrap_or_default();
    let ran = home.run(&["test", "--no-daemon"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let lines: Vec<_> = ran.stderr.lines().collect();
    let once: std::collections::BTreeSet<_> = lines.iter().collect();
    assert_eq!(lines.len(), once.len(), "{ran:#?}");
    assert!(ran.stderr.contains("Cargo.lock"), "{ran:#?}");
}
