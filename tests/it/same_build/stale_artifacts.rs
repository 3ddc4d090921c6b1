//! Stale artifacts of the service's builds are removed; all others are left alone.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{by_hand, workspace};
use crate::home::{Home, takes_long, until};

const FLAGS: &str = "[build]\nrustflags = ['--cfg', 'new']\n";

/// The digests in the names of what lies in `target/<profile>/deps`.
fn units(home: &Home, profile: &str) -> Vec<String> {
    let dir = home.root.join("target").join(profile).join("deps");
    let mut found: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    found
}

/// Builds by hand in another way; returns the number of stale artifacts.
fn fresh_by_hand(home: &Home, words: &[&str]) -> usize {
    let ran = home.cargo(&[words, &["--workspace", "--message-format=json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let messages = ran.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.filter(|message| message["fresh"] == false).count()
}

/// All builds by hand: like the service's, and others.
fn all_by_hand(home: &mut Home) -> Vec<usize> {
    let plain = home.environment.clone();
    let mut counts = vec![by_hand(home)];
    counts.push(fresh_by_hand(home, &["check"]));
    counts.push(fresh_by_hand(home, &["build", "--release"]));
    home.environment.set("RUSTFLAGS", "--cfg theirs");
    counts.push(by_hand(home));
    home.environment = plain;
    counts
}

fn edit(home: &Home, round: usize) {
    // Newer than whatever was compiled.
    let source = home.root.join("src/lib.rs");
    fs::write(&source, format!("#[test] fn one() {{ assert_eq!(q::q(), {round}) }}\n")).unwrap();
    home.write("q/src/lib.rs", &format!("pub fn q() -> u32 {{ {round} }}\n"));
}

/// Builds by the service with the first flags, by the developer, and by the service with other flags.
fn two_generations() -> Home {
    let home = workspace("");
    home.config("", "");
    home.test(&[]).green();
    home.write(".cargo/config.toml", FLAGS);
    home.test(&[]).green();
    home
}

#[test]
fn only_artifacts_that_are_fresh_for_nobody_are_removed() {
    if takes_long() {
        return;
    }
    let mut home = two_generations();
    let both = units(&home, "debug");
    // All of it is fresh for a build with the first flags: it stays.
    let gc = home.run(&["cache", "gc", "--target"]);
    assert!(gc.stderr.contains("0 stale artifacts"), "{gc:#?}");
    assert_eq!(units(&home, "debug"), both);
    home.environment.set("RUSTFLAGS", "");
    assert_eq!(by_hand(&home), 0);
    home.environment.remove("RUSTFLAGS");
    // An edit: the first flags' are of another tree now.
    edit(&home, 2);
    home.test(&[]).green();
    all_by_hand(&mut home);
    let before = units(&home, "debug");
    let dry = home.run(&["cache", "gc", "--target", "--dry-run"]);
    assert!(dry.stderr.contains("src/lib.rs is newer"), "{dry:#?}");
    assert_eq!(units(&home, "debug"), before);
    let gc = home.run(&["cache", "gc", "--target", "--project", home.root.to_str().unwrap()]);
    assert_eq!(gc.code, Some(0), "{gc:#?}");
    let after = units(&home, "debug");
    let gone: Vec<_> = before.iter().filter(|name| !after.contains(name)).collect();
    // Library, tests of it, and what is linked with it, though its own source is as it was.
    for name in ["libp-", "libq-", "p-", "q-", "it-"] {
        assert!(gone.iter().any(|gone| gone.starts_with(name)), "{name}: {gone:?}");
    }
    assert!(gone.iter().all(|name| both.contains(name)), "ours of the first flags: {gone:?}");
    assert_eq!(all_by_hand(&mut home), [0; 4]);
    home.test(&[]).green_from("cache");
    // And nothing more.
    home.ok(&["cache", "gc", "--target"]);
    assert_eq!(units(&home, "debug"), after);
    // A build with the first flags works again.
    fs::remove_file(home.root.join(".cargo/config.toml")).unwrap();
    home.test(&["--no-cache"]).green();
    assert_eq!(by_hand(&home), 0);
}

#[test]
fn artifacts_of_the_developer_are_never_removed() {
    if takes_long() {
        return;
    }
    let mut home = workspace("");
    home.config("", "");
    // All of it by hand first: ours find everything fresh and make nothing.
    all_by_hand(&mut home);
    home.test(&[]).green();
    home.write(".cargo/config.toml", FLAGS);
    edit(&home, 3);
    by_hand(&home);
    home.test(&[]).green();
    let before = [units(&home, "debug"), units(&home, "release")];
    home.ok(&["cache", "gc", "--target"]);
    assert_eq!([units(&home, "debug"), units(&home, "release")], before);
}

#[test]
fn a_cargo_at_work_is_left_alone() {
    let home = two_generations();
    edit(&home, 4);
    home.test(&[]).green();
    let before = units(&home, "debug");
    let lock = fs::File::open(home.root.join("target/debug/.cargo-lock")).unwrap();
    lock.lock().unwrap();
    let refused = home.run(&["cache", "gc", "--target"]);
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.contains("a cargo builds in"), "{refused:#?}");
    assert_eq!(units(&home, "debug"), before);
    drop(lock);
    home.ok(&["cache", "gc", "--target"]);
    assert!(units(&home, "debug").len() < before.len());
}

#[test]
fn the_service_removes_stale_artifacts_if_configured() {
    if takes_long() {
        return;
    }
    let home = workspace("");
    let place = home.base.join("build");
    let deps = |place: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(place.join("debug/deps")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let config = format!("build-dir = {place:?}\n");
    home.write(".cargo/config.toml", &format!("[build]\n{config}"));
    home.config("", "");
    home.test(&[]).green();
    let first = deps(&place);
    assert!(!first.is_empty());
    home.write(".cargo/config.toml", &format!("{FLAGS}{config}"));
    edit(&home, 5);
    for (setting, goes) in [("", false), ("clean_target = true", true)] {
        home.config("", &format!("debounce = '1ms'\n{setting}"));
        edit(&home, 6 + usize::from(goes));
        let daemon = home.daemon();
        until("it is built", || {
            let status = home.project_status();
            (status["state"] == "idle" && status["last_build"]["success"] == true).then_some(())
        });
        if goes {
            until("the first flags' are gone", || {
                let left = deps(&place);
                let gone = first.iter().filter(|path| !left.contains(path)).count();
                (gone >= 5).then_some(())
            });
        } else {
            let left = deps(&place);
            assert!(first.iter().all(|path| left.contains(path)));
        }
        daemon.stop();
        assert_eq!(by_hand(&home), 0);
    }
}
