//! Builds by the service and by hand take turns without an edit: nothing is built twice.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use knhk_test_cache::Cache;
use serde_json::Value;

use super::{at_rest, by_hand, by_service, workspace};
use crate::home::{Home, takes_long};

const ROUNDS: usize = 10;

/// Starts the service, lets `shell` change the shell's environment, and lets both build in turns;
/// returns the status at the end.
#[track_caller]
fn take_turns(mut home: Home, shell: impl FnOnce(&mut Home)) -> (Home, Value) {
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    // A preempted build would resume later with the service's own environment.
    at_rest(&home);
    shell(&mut home);
    // The first of the two builds. Artifacts from the service's own environment may be fresh or not.
    home.write("q/src/lib.rs", "pub fn q() -> u32 { 0 + 1 }\n");
    assert_ne!(by_hand(&home), 0);
    for round in 0..ROUNDS {
        assert_eq!(by_service(&home), 0, "ours, round {round}");
        assert_eq!(by_hand(&home), 0, "theirs, round {round}");
    }
    let status = home.project_status();
    daemon.stop();
    (home, status)
}

#[test]
fn without_a_difference() {
    if takes_long() {
        return;
    }
    let (home, status) = take_turns(workspace("PATH"), |_| {});
    let own = home.root.join("target");
    assert_eq!(status["target_dirs"], serde_json::json!([own]));
    assert_eq!(status["notes"], serde_json::json!([]));
}

#[test]
fn flags_in_the_shell() {
    if takes_long() {
        return;
    }
    take_turns(workspace("RUSTFLAGS"), |home| home.environment.set("RUSTFLAGS", "--cfg shell"));
}

#[test]
fn after_a_restart_it_builds_like_the_last_shell() {
    if takes_long() {
        return;
    }
    let mut home = workspace("RUSTFLAGS");
    home.config("", "debounce = '10ms'");
    home.environment.set("RUSTFLAGS", "--cfg shell");
    // With a lock file the build changes nothing of the tree.
    by_hand(&home);
    let daemon = home.daemon();
    home.ok(&["rebuild"]);
    // Written after the answer.
    let state = || Cache::open(&home.paths().cache_dir).state(&home.root).shell;
    crate::home::until("the shell is kept", state);
    daemon.stop();
    home.environment.remove("RUSTFLAGS");
    home.write("q/src/lib.rs", "pub fn q() -> u32 { 0 + 1 }\n");
    let daemon = home.daemon();
    let status = at_rest(&home);
    assert_eq!(status["notes"], serde_json::json!([]));
    home.environment.set("RUSTFLAGS", "--cfg shell");
    assert_eq!(by_hand(&home), 0);
    daemon.stop();
}

#[test]
fn a_wrapper_around_the_compiler() {
    if takes_long() {
        return;
    }
    let home = workspace("RUSTC_WRAPPER");
    let wrapper = home.base.join("wrapper");
    let count = home.base.join("count");
    fs::write(&wrapper, format!("#!/bin/sh\necho x >> {}\nexec \"$@\"\n", count.display()))
        .unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    let _home = take_turns(home, |home| home.environment.set("RUSTC_WRAPPER", &wrapper));
    assert!(fs::read_to_string(count).unwrap().lines().count() >= 4, "it was called");
}

#[test]
fn a_toolchain_file() {
    let mut home = workspace("RUSTUP_TOOLCHAIN");
    // The one that these tests are built with, by its own name: none is fetched.
    let Some(name) = home.environment.get("RUSTUP_TOOLCHAIN").map(ToOwned::to_owned) else {
        return crate::home::skip("a toolchain file", "the toolchain is not rustup's");
    };
    let name = name.to_str().unwrap();
    home.write("rust-toolchain.toml", &format!("[toolchain]\nchannel = {name:?}\n"));
    home.environment.remove("RUSTUP_TOOLCHAIN");
    take_turns(home, |_| {});
}

#[test]
fn another_path_that_a_build_script_reads() {
    if takes_long() {
        return;
    }
    take_turns(workspace("PATH"), |home| {
        let path = home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
        home.environment.set("PATH", format!("{path}:{}/bin", home.base.display()));
    });
}

#[test]
fn a_target_directory_that_only_the_shell_knows() {
    if takes_long() {
        return;
    }
    let (home, status) = take_turns(workspace(""), |home| {
        let dir = home.base.join("elsewhere");
        home.environment.set("CARGO_TARGET_DIR", dir);
    });
    let elsewhere = home.base.join("elsewhere");
    assert_eq!(status["target_dirs"], serde_json::json!([elsewhere]), "{status:#?}");
    assert!(home.ok(&["explain"]).contains(elsewhere.to_str().unwrap()));
}

#[test]
fn a_build_directory_apart_from_the_target_directory() {
    if takes_long() {
        return;
    }
    let home = workspace("");
    let place = home.base.join("build");
    let dir = place.display();
    let config = format!("[build]\nbuild-dir = '{dir}/{{workspace-path-hash}}'\n");
    home.write(".cargo/config.toml", &config);
    let (home, status) = take_turns(home, |_| {});
    assert!(place.is_dir(), "cargo knows the setting");
    assert!(!home.root.join("target/debug/deps").exists());
    assert!(status["notes"][0].as_str().unwrap().contains("build-dir"), "{status:#?}");
}

#[test]
fn a_target_directory_behind_a_link() {
    if takes_long() {
        return;
    }
    let home = workspace("");
    // Outside of a repository a link named `target` counts like any other name.
    home.git(&["init", "-q"]);
    home.write(".gitignore", "/target\n");
    let disk = home.base.join("disk");
    fs::create_dir(&disk).unwrap();
    std::os::unix::fs::symlink(&disk, home.root.join("target")).unwrap();
    let (home, status) = take_turns(home, |_| {});
    assert!(disk.join("debug").is_dir());
    assert!(status["notes"][0].as_str().unwrap().contains("is a link to"), "{status:#?}");
    // What is built is no source.
    let first = home.test(&[]);
    first.green_from("run");
    home.cargo(&["build", "--workspace"]);
    let again = home.test(&[]);
    again.green_from("cache");
    assert_eq!(first.code_hash(), again.code_hash());
}
