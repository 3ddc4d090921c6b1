//! The command lines by which editors and git hooks run tests: each is answered from its record.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{built, cargo};
use crate::home::{EXE, LIMIT, takes_long};

const TESTS: &str = "#[test] fn says() { println!(\"said aloud\") }\n\
                     #[test] fn other() { eprintln!(\"said softly\") }\n";

/// The lines of each editor for one test, and for all.
const LINES: &[&[&str]] = &[
    // rust-analyzer: the lens, and its Test Explorer.
    &["test", "--package", "p", "--test", "it", "--", "says", "--exact", "--nocapture"],
    &["test", "--package", "p", "--no-fail-fast", "--", "-Z", "unstable-options", "--format=json"],
    // Zed.
    &["test", "-p", "p", "--", "--nocapture", "--include-ignored", "says"],
    &["test", "-p", "p"],
    // RustRover.
    &[
        "test",
        "--color=always",
        "--no-fail-fast",
        "--package",
        "p",
        "--test",
        "it",
        "says",
        "--",
        "--format=json",
        "--exact",
        "-Z",
        "unstable-options",
        "--show-output",
    ],
    // Helix and neotest in Neovim, which take rust-analyzer's runnables; neotest with nextest is tested there.
    &["test", "--package", "p", "--test", "it", "--", "--nocapture"],
    &["test", "--workspace", "--quiet"],
];

#[test]
fn each_editor_s_command_line_is_answered_from_its_record() {
    if takes_long() {
        return;
    }
    let Some(mut home) = built(&[("tests/it.rs", TESTS)]) else { return };
    // Without it libtest has no JSON.
    home.environment.set("RUSTC_BOOTSTRAP", "1");
    cargo(&home, &["test", "--no-run"]);
    for line in LINES {
        let first = cargo(&home, line);
        assert_eq!((first.code, first.cached()), (Some(0), 0), "{line:?}: {first:#?}");
        let second = cargo(&home, line);
        let programs = if line.contains(&"it") { 1 } else { 2 };
        assert_eq!((second.code, second.cached()), (Some(0), programs), "{line:?}: {second:#?}");
        assert_eq!(second.stdout, first.stdout, "{line:?}");
    }
    home.write("tests/it.rs", &TESTS.replace(" println!", " panic!"));
    for line in LINES {
        let ran = cargo(&home, line);
        assert_eq!(ran.code, Some(101), "{line:?}: {ran:#?}");
    }
}

#[test]
fn a_hook_before_a_push_is_answered_from_records_and_stops_what_is_red() {
    let Some(home) = built(&[("tests/it.rs", TESTS)]) else { return };
    home.write(".cargo/config.toml", &format!("target.'cfg(all())'.runner = [{EXE:?}, 'exec']\n"));
    home.git(&["init", "-q", "-b", "main"]);
    home.git(&["init", "-q", "--bare", "../far"]);
    home.git(&["remote", "add", "far", "../far"]);
    let hook = home.root.join(".git/hooks/pre-push");
    fs::write(&hook, "#!/bin/sh\nexec cargo test --workspace </dev/null\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    let push = |text: &str, cached: usize| {
        home.write("note", text);
        home.git(&["add", "-A"]);
        home.git(&["commit", "-q", "-m", text]);
        let ran = home.start("git", &["push", "-q", "far", "main"]).end(LIMIT);
        assert_eq!(ran.cached(), cached, "{ran:#?}");
        ran.code
    };
    assert_eq!(push("one", 0), Some(0));
    assert_eq!(push("two", 2), Some(0));
    home.write("tests/it.rs", &TESTS.replace(" println!", " panic!"));
    assert_eq!(push("three", 1), Some(1));
}
