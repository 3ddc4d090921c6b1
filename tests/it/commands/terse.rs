//! `test --format terse`: few lines for programs, chosen by itself where an agent asks.

use std::fs;

use crate::home::{EXE, Home, LIMIT, Ran, can_observe};

/// A workspace with an ignored test, in which a coding agent asks.
fn asked_by_agent() -> Home {
    let lib = "pub fn f() -> i32 { 1 }\n#[test] fn one() { assert_eq!(f(), 1, \"f\"); }\n\
               #[test] #[ignore] fn later() {}\n";
    let mut home = Home::with(&[("src/lib.rs", lib)]);
    home.environment.set("CLAUDECODE", "1");
    home
}

/// The log that the last line names.
#[track_caller]
fn log(ran: &Ran) -> String {
    let path = ran.stdout.lines().last().unwrap().strip_prefix("log: ").unwrap();
    fs::read_to_string(path).unwrap()
}

#[test]
fn green_is_one_line_for_an_agent() {
    let mut home = asked_by_agent();
    let ran = home.run(&["test"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:#?}");
    assert!(ran.stdout.starts_with("green: 1 passed, 1 ignored; ran all of 1 target; tree "));
    let again = home.run(&["test"]);
    assert_eq!((again.code, again.stdout.lines().count()), (Some(0), 1), "{again:#?}");
    assert!(again.stdout.contains("1 passed, 1 ignored; run "), "{again:#?}");
    assert!(again.stdout.contains("nothing run now; tree "), "{again:#?}");
    assert_eq!(home.run(&["test", "--quiet"]).stdout, "");
    // What is asked for is given.
    let text = home.run(&["test", "--format", "text"]);
    assert_eq!(text.stdout, "", "{text:#?}");
    assert!(text.stderr.contains("Green ws: 1 passed"), "{text:#?}");
    home.test(&[]).green_from("cache");
    // An empty variable is none.
    home.environment.set("CLAUDECODE", "");
    assert_eq!(home.run(&["test"]).stdout, "");
}

#[test]
fn red_is_each_failure_and_where_all_of_it_is() {
    let home = asked_by_agent();
    let broken = fs::read_to_string(home.root.join("src/lib.rs")).unwrap();
    home.write("src/lib.rs", &broken.replace("{ 1 }", "{ 2 }"));
    let ran = home.run(&["test"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(101), ""), "{ran:#?}");
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "FAILED p one", "{ran:#?}");
    assert!(lines[1].starts_with("  src/lib.rs:2:"), "{ran:#?}");
    assert!(lines[1].ends_with(": assertion `left == right` failed: f"), "{ran:#?}");
    assert_eq!(lines[2..4], ["    left: 2", "   right: 1"], "{ran:#?}");
    assert!(lines[4].starts_with("red: 0 passed, 1 failed, 1 ignored in 1 failed target; "));
    assert!(log(&ran).contains("---- one stdout ----"), "{ran:#?}");
    assert_eq!(lines.len(), 6, "{ran:#?}");
}

#[test]
fn a_build_that_fails_is_its_errors_and_where_all_of_it_is() {
    let home = asked_by_agent();
    home.write("src/lib.rs", "#[test]\nfn one() { let _: u8 = nothing; }\n");
    let ran = home.run(&["test"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    let first = ran.stdout.lines().next().unwrap();
    assert!(first.starts_with("src/lib.rs:2:24: error[E0425]: "), "{ran:#?}");
    assert!(log(&ran).contains("not found in this scope"), "{ran:#?}");
    assert!(ran.stderr.contains("the build failed"), "{ran:#?}");
}

#[test]
fn a_log_that_cannot_be_kept_changes_no_verdict() {
    let home = asked_by_agent();
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    fs::create_dir_all(home.paths().cache_dir).unwrap();
    fs::write(home.paths().cache_dir.join("failures"), "no folder").unwrap();
    let ran = home.run(&["test"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    assert!(ran.stdout.lines().last().unwrap().starts_with("log: not kept: "), "{ran:#?}");
}

/// On a pipe nobody sees a line move: what cargo does is not told line by line.
#[test]
fn progress_on_a_pipe_is_quiet() {
    let home = Home::with(&[]);
    let ran = home.run(&["test"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(!ran.stderr.contains("Compiling"), "{ran:#?}");
    assert!(ran.stderr.contains("Passed p") && ran.stderr.contains("Green ws"), "{ran:#?}");
}

#[test]
fn an_agent_in_its_own_worktree_is_answered_by_what_the_developer_has_proven() {
    if !can_observe("answers in another worktree") {
        return;
    }
    let mut home = asked_by_agent();
    home.environment.remove("CLAUDECODE");
    home.git(&["init", "-q", "-b", "main"]);
    home.git(&["add", "."]);
    home.git(&["commit", "-qm", "first"]);
    home.test(&[]).green_from("run");
    home.git(&["worktree", "add", "-q", "../agent"]);
    for (agent, session) in
        [("CLAUDECODE", "CLAUDE_CODE_SESSION_ID"), ("CODEX_CI", "CODEX_THREAD_ID")]
    {
        home.environment.set(agent, "1");
        home.environment.set(session, "another");
        let worktree = home.root.with_file_name("agent");
        let ran = home.start_in(&worktree, EXE, &["test"], false).end(LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert!(ran.stdout.starts_with("green: 1 passed, 1 ignored; run "), "{ran:#?}");
        assert!(ran.stdout.contains("nothing run now; tree "), "{ran:#?}");
        home.environment.remove(agent);
        home.environment.remove(session);
    }
}
