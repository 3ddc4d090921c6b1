//! Switching branches: git changes thousands of files at once.

use std::fs::File;

use crate::home::{Home, Started, takes_long, until};

/// How often the daemon has begun to build.
fn begun(daemon: &Started) -> usize {
    daemon.stderr().matches("building the tests").count()
}

fn state(home: &Home) -> (String, String) {
    let status = home.project_status();
    let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn code_hash(home: &Home) -> String {
    home.project_status()["code_hash"].as_str().unwrap_or_default().to_owned()
}

fn write_many(home: &Home, content: &str) {
    for number in 0..3_000 {
        home.write(&format!("data/{}/{number}.txt", number % 50), content);
    }
}

fn commit(home: &Home, name: &str) {
    home.git(&["checkout", "-qb", name]);
    home.git(&["add", "-A"]);
    home.git(&["commit", "-qm", name]);
}

/// A repository with a target folder and a lock file, so that the first build changes nothing.
fn repository() -> Home {
    let home = Home::with(&[]);
    home.git(&["init", "-q", "-b", "main"]);
    assert_eq!(home.cargo(&["test", "--no-run"]).code, Some(0));
    home
}

#[test]
fn known_branches_are_green_at_once_and_an_unknown_one_is_one_batch() {
    if takes_long() {
        return;
    }
    let home = repository();
    home.config("", "debounce = '1ms'");
    let mut hashes = Vec::new();
    for name in ["first", "second"] {
        write_many(&home, name);
        home.write("src/lib.rs", &format!("#[test] fn {name}() {{}}\n"));
        commit(&home, name);
        let answer = home.test(&["--no-daemon"]);
        answer.green_from("run");
        hashes.push(answer.code_hash().to_owned());
    }
    write_many(&home, "unknown");
    home.write("src/lib.rs", "#[test] fn unknown() {}\n");
    commit(&home, "unknown");
    home.git(&["checkout", "-q", "second"]);

    let daemon = home.daemon();
    until("the daemon is idle", || (state(&home).0 == "idle").then_some(()));
    for (branch, hash) in [("first", 0), ("second", 1), ("first", 0)] {
        home.git(&["checkout", "-q", branch]);
        until("the branch is seen", || {
            let seen = code_hash(&home) == hashes[hash] && state(&home).0 == "idle";
            seen.then_some(())
        });
        home.test(&[]).green_from("cache");
    }
    assert_eq!(begun(&daemon), 0, "{}", daemon.stderr());
    home.git(&["checkout", "-q", "unknown"]);
    until("the unknown one is built", || {
        (home.project_status()["last_build"]["success"] == true && state(&home).0 == "idle")
            .then_some(())
    });
    assert_eq!(begun(&daemon), 1, "{}", daemon.stderr());
    daemon.stop();
}

#[test]
fn no_build_starts_while_git_writes_but_questions_are_answered() {
    if takes_long() {
        return;
    }
    let home = repository();
    home.write("src/lib.rs", "#[test] fn zero() {}\n");
    home.test(&["--no-daemon"]).green_from("run");
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    until("the daemon is idle", || (state(&home).0 == "idle").then_some(()));
    let lock = home.root.join(".git/index.lock");
    File::create(&lock).unwrap();
    for number in 0..5 {
        home.write("src/lib.rs", &format!("#[test] fn number{number}() {{}}\n"));
        until("it waits for git", || {
            (state(&home) == ("paused".to_owned(), "git is at work".to_owned())).then_some(())
        });
    }
    assert_eq!(begun(&daemon), 0, "{}", daemon.stderr());
    home.test(&[]).green_from("run");
    assert_eq!(begun(&daemon), 0, "{}", daemon.stderr());
    home.write("src/lib.rs", "#[test] fn last() {}\n");
    std::fs::remove_file(&lock).unwrap();
    until("it is built", || {
        (home.project_status()["last_build"]["success"] == true && state(&home).0 == "idle")
            .then_some(())
    });
    assert_eq!(begun(&daemon), 1, "{}", daemon.stderr());
    daemon.stop();
}

#[test]
fn a_rebase_stopped_at_a_conflict_starts_nothing() {
    if takes_long() {
        return;
    }
    let home = repository();
    home.write("src/lib.rs", "#[test] fn zero() {}\n");
    commit(&home, "zero");
    for name in ["ours", "theirs"] {
        home.git(&["checkout", "-q", "zero"]);
        home.write("src/lib.rs", &format!("#[test] fn {name}() {{}}\n"));
        commit(&home, name);
    }
    home.test(&["--no-daemon"]).green_from("run");
    home.config("", "debounce = '1ms'");
    let daemon = home.daemon();
    until("the daemon is idle", || (state(&home).0 == "idle").then_some(()));
    let rebase = home.start("git", &["rebase", "-q", "ours"]).end(crate::home::LIMIT);
    assert_ne!(rebase.code, Some(0), "{rebase:#?}");
    let paused = || {
        until("it is paused", || {
            let paused = ("paused".to_owned(), "a rebase is under way".to_owned());
            (state(&home) == paused).then_some(())
        });
    };
    paused();
    home.write("src/lib.rs", "#[test] fn ours() {}\n#[test] fn theirs() {}\n");
    home.test(&[]).green_from("run");
    home.write("src/lib.rs", "#[test] fn ours() {}\n#[test] fn mine() {}\n");
    paused();
    assert_eq!(begun(&daemon), 0, "{}", daemon.stderr());
    home.git(&["add", "-A"]);
    home.git(&["-c", "core.editor=true", "rebase", "--continue"]);
    until("the rebase is done and its outcome built", || {
        (home.project_status()["last_build"]["success"] == true && state(&home).0 == "idle")
            .then_some(())
    });
    assert_eq!(begun(&daemon), 1, "{}", daemon.stderr());
    daemon.stop();
}
