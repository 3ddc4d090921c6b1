//! `check`: the known answer by its exit status, with and without a daemon; nothing is built or run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::home::{EXE, Home, SOON};

const UNKNOWN: Option<i32> = Some(10);

/// The JSON of `check` and its exit status.
#[track_caller]
fn check(home: &Home, args: &[&str]) -> (Option<i32>, Value) {
    let ran = home.run(&[&["check", "--format", "json"], args].concat());
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:#?}");
    let line: Value = serde_json::from_str(&ran.stdout).unwrap();
    let expected = match line["verdict"].as_str().unwrap() {
        "pass" => Some(0),
        "fail" => Some(101),
        _ => UNKNOWN,
    };
    assert_eq!((ran.code, &line["type"]), (expected, &Value::from("check")), "{ran:#?}");
    (ran.code, line)
}

#[track_caller]
fn unknown(home: &Home, args: &[&str], why: &str) {
    let (code, line) = check(home, args);
    assert_eq!(code, UNKNOWN, "{line}");
    assert!(line["reason"].as_str().unwrap().contains(why), "{line}");
}

/// Green, red and unknown, by the daemon if there is one.
fn life(home: &Home) {
    unknown(home, &[], "no record");
    home.test(&[]).green_from("run");
    let (code, line) = check(home, &[]);
    assert_eq!((code, &line["passed"]), (Some(0), &Value::from(2)), "{line}");
    assert!(line["when"].is_number() && line["code_hash"].is_string(), "{line}");
    home.write("src/lib.rs", "#[test] fn one() {}\n#[test] fn two() { panic!() }\n");
    unknown(home, &[], "no record");
    home.test(&[]).red();
    let (code, line) = check(home, &[]);
    assert_eq!(code, Some(101), "{line}");
    assert_eq!(line["failures"], serde_json::json!(["p two"]), "{line}");
    let text = home.run(&["check"]);
    assert_eq!((text.code, text.stdout.as_str()), (Some(101), ""), "{text:#?}");
    assert!(text.stderr.contains("Failed p two"), "{text:#?}");
    // The tests alone decide: an older state that was green is known again.
    home.write("src/lib.rs", "#[test] fn one() {}\n#[test] fn two() {}\n");
    let (code, line) = check(home, &[]);
    assert_eq!(code, Some(0), "{line}");
}

#[test]
fn the_known_answer_is_the_exit_status() {
    let home = Home::with(&[]);
    unknown(&home, &[], "no record");
    assert!(!home.root.join("target").exists(), "something was built");
    life(&home);
    // From anywhere, by path.
    let ran = home.start_in(&home.base, EXE, &["check", "ws/src"], false).end(SOON);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("2 passed"), "{ran:#?}");
}

#[test]
fn the_daemon_gives_the_same_answers() {
    let home = Home::with(&[]);
    // What a build in the background leaves when it yields is nobody's, so that less is proven.
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    life(&home);
    daemon.stop();
}

#[test]
fn what_stands_in_the_way_is_unknown_not_red() {
    let mut home = Home::with(&[]);
    let empty = home.base.join("out");
    unknown(&home, &[empty.to_str().unwrap()], "Cargo.toml");
    unknown(&home, &["/no/such/folder"], "/no/such/folder");
    home.environment.set("PATH", &empty);
    home.environment.remove("CARGO_HOME");
    unknown(&home, &[], "cargo");
    home.write("../config/knhk-test-cache/config.toml", "nonsense");
    let ran = home.run(&["check"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
}

/// A repository with a green commit.
fn repository() -> Home {
    let home = Home::with(&[("notes/a.txt", "a")]);
    home.config("", "exclude = ['notes/**']");
    home.git(&["init", "--quiet"]);
    home.git(&["config", "user.name", "tester"]);
    home.git(&["config", "user.email", "tester@localhost"]);
    home.test(&["--no-daemon"]).green_from("run");
    home.git(&["add", "."]);
    home
}

const STAGED: &[&str] = &["--staged"];

#[test]
fn the_staged_tree_is_known_only_where_it_is_on_disk() {
    let home = repository();
    assert_eq!(check(&home, STAGED).0, Some(0));
    home.git(&["commit", "--quiet", "-m", "one"]);
    assert_eq!(check(&home, STAGED).0, Some(0), "nothing is staged: the commit is on disk");

    let (old, new) =
        ("#[test] fn one() {}\n#[test] fn two() {}\n", "#[test] fn one() {}\n#[test] fn x() {}\n");
    home.write("src/lib.rs", new);
    unknown(&home, STAGED, "not staged: `src/lib.rs`");
    home.git(&["add", "."]);
    unknown(&home, STAGED, "no record");
    home.test(&["--no-daemon"]).green_from("run");
    assert_eq!(check(&home, STAGED).0, Some(0));
    // Staged, and green on disk without it.
    home.write("src/lib.rs", old);
    assert_eq!(check(&home, &[]).0, Some(0));
    unknown(&home, STAGED, "not staged: `src/lib.rs`");
    home.git(&["checkout", "--", "src/lib.rs"]);
    assert_eq!(check(&home, STAGED).0, Some(0));

    // An untracked file matters if it counts.
    home.write("notes/b.txt", "b");
    assert_eq!(check(&home, STAGED).0, Some(0));
    home.write("tests/later.rs", "#[test] fn later() {}\n");
    home.test(&["--no-daemon"]).green_from("mixed");
    assert_eq!(check(&home, &[]).0, Some(0));
    unknown(&home, STAGED, "`tests/later.rs` counts and is not staged");
    fs::remove_file(home.root.join("tests/later.rs")).unwrap();
    fs::remove_dir(home.root.join("tests")).unwrap();
    assert_eq!(check(&home, STAGED).0, Some(0));

    fs::remove_file(home.root.join("notes/a.txt")).unwrap();
    unknown(&home, STAGED, "not staged: `notes/a.txt`");
    home.git(&["checkout", "--", "notes"]);
    // Git's config has it overlook modes on disk.
    home.git(&["config", "core.fileMode", "false"]);
    home.git(&["update-index", "--chmod=+x", "src/lib.rs"]);
    unknown(&home, STAGED, "not staged: `src/lib.rs`");
    home.git(&["update-index", "--chmod=-x", "src/lib.rs"]);
    home.git(&["update-index", "--assume-unchanged", "src/lib.rs"]);
    home.write("src/lib.rs", old);
    unknown(&home, STAGED, "git is told not to look at `src/lib.rs`");
}

#[test]
fn other_line_endings_than_those_on_disk_are_another_tree() {
    let home = repository();
    home.git(&["config", "core.autocrlf", "input"]);
    assert_eq!(check(&home, STAGED).0, Some(0));
    home.write("src/a.txt", "a\r\n");
    home.git(&["add", "."]);
    home.test(&["--no-daemon"]).green();
    assert_eq!(check(&home, &[]).0, Some(0));
    unknown(&home, STAGED, "staged with other line endings: `src/a.txt`");
    home.git(&["config", "core.autocrlf", "false"]);
    home.git(&["add", "--renormalize", "."]);
    assert_eq!(check(&home, STAGED).0, Some(0));
    home.write(".gitattributes", "*.txt text\n");
    home.git(&["add", "."]);
    home.git(&["add", "--renormalize", "."]);
    home.test(&["--no-daemon"]).green();
    unknown(&home, STAGED, "staged with other line endings: `src/a.txt`");
}

#[test]
fn a_folder_without_git_has_no_staged_tree() {
    let home = Home::with(&[]);
    home.test(&["--no-daemon"]).green_from("run");
    unknown(&home, STAGED, "no git repository");
}

/// In a hook, git sets variables, a `PATH` and an index of its own.
#[test]
fn a_hook_of_git_lets_only_green_commits_pass() {
    let mut home = repository();
    for who in ["AUTHOR", "COMMITTER"] {
        home.environment.remove(format!("GIT_{who}_NAME"));
        home.environment.remove(format!("GIT_{who}_EMAIL"));
    }
    home.test(&["--no-daemon"]);
    let hook = home.root.join(".git/hooks/pre-commit");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\nexec '{EXE}' check --staged\n")).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    home.git(&["commit", "--quiet", "-m", "green"]);
    home.write("src/lib.rs", "#[test] fn one() {}\n");
    let commit = ["commit", "--quiet", "-a", "-m", "next"];
    let ran = home.start("git", &commit).end(SOON);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("Unknown ws: no record"), "{ran:#?}");
    home.test(&["--no-daemon"]).green_from("run");
    home.git(&commit);
}
