//! A target directory of the project's own.

use std::fs;
use std::path::PathBuf;

use super::{at_rest, by_hand, workspace};
use crate::home::{EXE, Home, LIMIT, takes_long};

/// The existing ones.
fn own(home: &Home) -> Vec<PathBuf> {
    let dir = home.paths().own_targets();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // Cargo makes it under a longer name first. That stays if cargo is ended at this moment.
    let is_own =
        |path: &PathBuf| path.is_dir() && path.file_name().is_some_and(|name| name.len() == 16);
    let mut found: Vec<_> = entries.map(|e| e.path()).filter(is_own).collect();
    found.sort();
    found
}

#[test]
fn the_developers_target_directory_is_never_touched() {
    if takes_long() {
        return;
    }
    let home = workspace("");
    home.config("", "debounce = '1ms'\ntarget_dir = 'own'\nbackground_tests = true");
    // The developer's build directory must stay untouched too.
    let build = home.base.join("build");
    home.write(".cargo/config.toml", &format!("[build]\nbuild-dir = {build:?}\n"));
    let daemon = home.daemon();
    let status = at_rest(&home);
    assert_eq!(status["last_build"]["success"], true, "{status:#?}");
    home.test(&[]).green();
    home.write("src/lib.rs", "#[test] fn one() { assert_eq!(q::q(), 1 + 0) }\n");
    home.test(&[]).green();
    home.ok(&["rebuild"]);
    daemon.stop();
    home.write("src/lib.rs", "#[test] fn one() { assert_eq!(q::q(), 0 + 1) }\n");
    home.test(&[]).green();
    home.test(&[]).green_from("cache");
    home.test(&["--no-cache", "-p", "q"]).green();
    assert!(!home.root.join("target").exists() && !build.exists());
    let [own] = &own(&home)[..] else { panic!("{:?}", own(&home)) };
    assert!(own.join("debug/deps").is_dir());
    assert!(home.ok(&["explain"]).contains(own.to_str().unwrap()));
    // The developer's build does not use ours, and neither directory counts as source.
    let answer = home.test(&[]);
    assert_ne!(by_hand(&home), 0);
    assert!(build.join("debug/deps").is_dir());
    assert_eq!(home.test(&[]).code_hash(), answer.code_hash());
    home.test(&[]).green_from("cache");
}

#[test]
fn a_developers_target_directory_that_git_does_not_ignore_is_no_source() {
    let home = workspace("");
    home.write(".gitignore", "");
    home.config("", "target_dir = 'own'");
    let before = home.test(&[]);
    before.green_from("run");
    by_hand(&home);
    let after = home.test(&[]);
    after.green_from("cache");
    assert_eq!(before.code_hash(), after.code_hash());
}

#[test]
fn a_typed_target_directory_takes_precedence() {
    let home = workspace("");
    home.config("", "target_dir = 'own'");
    home.test(&["--target-dir", "typed"]).green();
    assert!(home.root.join("typed/debug").is_dir() && own(&home).is_empty());
}

#[test]
fn the_own_target_directory_is_counted_and_removed_when_unused() {
    if takes_long() {
        return;
    }
    let home = workspace("");
    home.config("", "target_dir = 'own'");
    home.test(&[]).green();
    let [target] = &own(&home)[..] else { panic!("{:?}", own(&home)) };
    let stats = |home: &Home| -> serde_json::Value {
        serde_json::from_str(&home.ok(&["cache", "stats", "--format", "json"])).unwrap()
    };
    let of = &stats(&home)["targets"][0];
    assert_eq!(of["project"], home.root.to_str().unwrap());
    assert!(of["bytes"].as_u64().unwrap() > 100_000, "{of:#?}");
    assert!(home.ok(&["cache", "stats"]).contains("target directory of"));
    // In use: kept.
    home.ok(&["cache", "gc"]);
    assert!(target.is_dir());
    // Unused: removed.
    home.config("", "target_dir = 'cargo'");
    let dry = home.run(&["cache", "gc", "--dry-run"]);
    assert!(dry.stderr.contains(target.to_str().unwrap()), "{dry:#?}");
    assert!(target.is_dir());
    home.ok(&["cache", "gc"]);
    assert!(own(&home).is_empty());
    assert_eq!(stats(&home)["targets"], serde_json::json!([]));
    // Removed with the project's records.
    home.config("", "target_dir = 'own'");
    home.test(&["--no-cache"]).green();
    assert_eq!(own(&home).len(), 1);
    home.ok(&["cache", "clear", "--project", home.root.to_str().unwrap()]);
    assert!(own(&home).is_empty());
    // Removed with the project.
    home.test(&["--no-cache"]).green();
    assert_eq!(own(&home).len(), 1);
    let removed = home.run(&["remove"]);
    assert!(removed.code == Some(0) && removed.stderr.contains("targets"), "{removed:#?}");
    assert!(own(&home).is_empty());
}

#[test]
fn uninstall_purges_the_own_target_directory() {
    let home = workspace("");
    home.config("", "target_dir = 'own'");
    home.test(&[]).green();
    let target = home.paths().own_targets();
    assert!(target.is_dir());
    let base = home.base.clone();
    // No supervisor is needed to remove what is not installed.
    let ran = home.start_in(&base, EXE, &["uninstall", "--purge"], false).end(LIMIT);
    assert!(ran.code == Some(0) || ran.code == Some(7), "{ran:#?}");
    assert_eq!(ran.code == Some(0), !target.exists(), "{ran:#?}");
}
