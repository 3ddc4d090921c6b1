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

const COMMANDS: [&str; 9] = [
    "config schema",
    "config show",
    "config path",
    "completions bash",
    "cache stats --format json",
    "test --no-daemon --format json",
    "check --format json",
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
