//! One test for each kind of input that a cache can miss. Each begins with a stored green, changes
//! one thing, and expects red.

#[cfg(target_os = "linux")]
mod builds;
#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod names;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::{Duration, SystemTime};

use crate::home::{EXE, Home, LIMIT, answered, takes_long, until_old};

/// Asserts a green that is stored.
#[track_caller]
fn proven(home: &Home) {
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
}

/// The same for an input outside the tree: a run that reads a young file is uncacheable.
#[track_caller]
fn proven_with(home: &Home, file: &std::path::Path) {
    until_old(file);
    proven(home);
}

#[test]
fn a_variable_that_a_build_script_sets_is_seen_by_the_run() {
    // The program stays the same to the byte: only its environment is another.
    let script = "fn main() {\n\
         \x20   println!(\"cargo::rerun-if-changed=value\");\n\
         \x20   let value = std::fs::read_to_string(\"value\").unwrap();\n\
         \x20   println!(\"cargo::rustc-env=VALUE={}\", value.trim());\n}\n";
    let test = "#[test]\nfn value() { assert_eq!(std::env::var(\"VALUE\").unwrap(), \"good\"); }\n";
    let home = Home::with(&[("build.rs", script), ("value", "good"), ("tests/it.rs", test)]);
    proven(&home);
    home.write("value", "evil");
    home.test(&["--no-daemon"]).red();
    home.write("value", "good");
    home.test(&["--no-daemon"]).green_from("cache");
}

#[test]
fn a_build_script_that_watches_a_variable() {
    let script = "fn main() {\n\
         \x20   println!(\"cargo::rerun-if-env-changed=KNOB\");\n\
         \x20   println!(\"cargo::rustc-env=SET={}\", std::env::var(\"KNOB\").unwrap());\n}\n";
    let test = "#[test]\nfn set() { assert_eq!(env!(\"SET\"), \"good\"); }\n";
    let mut home = Home::with(&[("build.rs", script), ("tests/it.rs", test)]);
    home.environment.set("KNOB", "good");
    proven(&home);
    home.environment.set("KNOB", "evil");
    home.test(&["--no-daemon"]).red();
    home.environment.set("KNOB", "good");
    home.test(&["--no-daemon"]).green_from("cache");
}

#[test]
fn a_file_that_is_included_from_outside() {
    let home = Home::with(&[]);
    let outside = home.base.join("out/included.txt");
    fs::write(&outside, "good").unwrap();
    let test =
        format!("#[test]\nfn text() {{ assert_eq!(include_str!({outside:?}), \"good\"); }}\n");
    home.write("tests/it.rs", &test);
    proven_with(&home, &outside);
    fs::write(&outside, "evil").unwrap();
    home.test(&["--no-daemon"]).red();
}

#[test]
fn a_procedural_macro_that_reads_a_file() {
    let home = Home::new();
    home.write("Cargo.toml", "[workspace]\nmembers = ['mac', 'user']\nresolver = '2'\n");
    home.write(".gitignore", "/target\n");
    home.write(
        "mac/Cargo.toml",
        "[package]\nname = 'mac'\nversion = '0.1.0'\nedition = '2021'\n\
         [lib]\nproc-macro = true\ndoctest = false\n",
    );
    home.write(
        "mac/src/lib.rs",
        "#[proc_macro]\n\
         pub fn data(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n\
         \x20   let dir = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();\n\
         \x20   let path = format!(\"{dir}/data.txt\");\n\
         \x20   let text = std::fs::read_to_string(&path).unwrap();\n\
         \x20   format!(\"{{ const _: &str = include_str!({path:?}); {text:?} }}\").parse().unwrap()\n\
         }\n",
    );
    home.write(
        "user/Cargo.toml",
        "[package]\nname = 'user'\nversion = '0.1.0'\nedition = '2021'\n\
         [lib]\ndoctest = false\n[dependencies]\nmac = { path = '../mac' }\n",
    );
    home.write("user/src/lib.rs", "#[test]\nfn data() { assert_eq!(mac::data!(), \"good\"); }\n");
    home.write("user/data.txt", "good");
    proven(&home);
    home.write("user/data.txt", "evil");
    home.test(&["--no-daemon"]).red();
}

#[test]
fn another_toolchain() {
    let home = Home::with(&[]);
    let rustc = home.base.join("out/rustc");
    let script = |more: &str| {
        // A file that is written while it runs could not be executed.
        let fresh = rustc.with_extension("fresh");
        fs::write(&fresh, format!("#!/bin/sh\n{more}exec rustc \"$@\"\n")).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(fresh, &rustc).unwrap();
    };
    script("");
    home.write(".cargo/config.toml", &format!("[build]\nrustc = {rustc:?}\n"));
    proven_with(&home, &rustc);
    script("# another one\n");
    let answer = home.test(&["--no-daemon"]);
    assert_ne!(answer.source(), "cache", "{answer:#?}");
    // One that cannot compile: a record of before must not answer for it.
    script("test \"$1\" = -vV || exit 1\n");
    home.test(&["--no-daemon"]).error();
}

#[test]
fn a_feature_that_another_package_turns_on() {
    let home = Home::new();
    home.write("Cargo.toml", "[workspace]\nmembers = ['base', 'user']\nresolver = '2'\n");
    home.write(".gitignore", "/target\n");
    home.write(
        "base/Cargo.toml",
        "[package]\nname = 'base'\nversion = '0.1.0'\nedition = '2021'\n\
         [lib]\ndoctest = false\n[features]\nextra = []\n",
    );
    home.write("base/src/lib.rs", "#[test]\nfn plain() { assert!(!cfg!(feature = \"extra\")); }\n");
    let user = |features: &str| {
        home.write(
            "user/Cargo.toml",
            &format!(
                "[package]\nname = 'user'\nversion = '0.1.0'\nedition = '2021'\n\
                 [lib]\ndoctest = false\n\
                 [dependencies]\nbase = {{ path = '../base', features = [{features}] }}\n"
            ),
        );
    };
    user("");
    home.write("user/src/lib.rs", "#[test]\nfn nothing() {}\n");
    proven(&home);
    user("'extra'");
    home.test(&["--no-daemon"]).red();
    user("");
    home.test(&["--no-daemon"]).green_from("cache");
    // The package alone is another question than the workspace.
    user("'extra'");
    assert_eq!(home.test(&["--no-daemon", "-p", "base"]).verdict(), "pass");
}

#[test]
fn a_file_from_the_future_that_keeps_its_time_and_size() {
    let test = "#[test]\nfn text() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"good\"); }\n";
    let home = Home::with(&[("tests/it.rs", test), ("data", "good")]);
    let later = SystemTime::now() + Duration::from_secs(24 * 60 * 60);
    let set = || {
        let file = fs::File::options().write(true).open(home.root.join("data")).unwrap();
        file.set_modified(later).unwrap();
    };
    set();
    for _ in 0..2 {
        // Nothing that reads it can be kept by what it read: its time proves nothing.
        assert_eq!(home.test(&["--no-daemon"]).verdict(), "pass");
    }
    home.write("data", "evil");
    set();
    home.test(&["--no-daemon"]).red();
}

#[test]
fn a_workspace_behind_a_symbolic_link() {
    let test = "#[test]\nfn text() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"good\"); }\n";
    let home = Home::with(&[("tests/it.rs", test), ("data", "good")]);
    let link = home.base.join("out/link");
    symlink(&home.root, &link).unwrap();
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    let line = ["test", "--format", "json"];
    let ask = || answered(home.start_in(&link, EXE, &line, false).end(LIMIT));
    ask().green_from("run");
    ask().green_from("cache");
    home.test(&[]).green_from("cache");
    home.write("data", "evil");
    ask().red();
    home.write("data", "good");
    ask().green_from("cache");
    // The link now leads to another workspace, with the same name and another content.
    let other = home.base.join("out/other");
    let copied =
        home.start("cp", &["-r", &home.root.display().to_string(), other.to_str().unwrap()]);
    assert_eq!(copied.end(LIMIT).code, Some(0));
    fs::write(other.join("data"), "evil").unwrap();
    fs::remove_file(&link).unwrap();
    symlink(&other, &link).unwrap();
    ask().red();
    daemon.stop();
}

#[test]
fn two_worktrees_of_one_repository() {
    let test = "#[test]\nfn text() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"good\"); }\n";
    let home = Home::with(&[("tests/it.rs", test), ("data", "good"), (".gitignore", "/target\n")]);
    home.git(&["init", "-q"]);
    // Cargo writes the lock file, which both must have.
    assert_eq!(home.cargo(&["generate-lockfile"]).code, Some(0));
    home.git(&["add", "."]);
    home.git(&["commit", "-q", "-m", "one"]);
    let second = home.base.join("out/second");
    home.git(&["worktree", "add", "-q", second.to_str().unwrap()]);
    let line = ["test", "--format", "json", "--no-daemon"];
    let ask = || answered(home.start_in(&second, EXE, &line, false).end(LIMIT));
    proven(&home);
    // The same content is proven wherever it lies; nothing was built there.
    ask().green_from("cache");
    assert!(!second.join("target").exists());
    fs::write(second.join("data"), "evil").unwrap();
    ask().red();
    home.test(&["--no-daemon"]).green_from("cache");
    fs::write(second.join("data"), "good").unwrap();
    ask().green_from("cache");
    home.write("data", "evil");
    home.test(&["--no-daemon"]).red();
}

/// Files in a target directory are no part of the snapshot.
#[test]
fn a_target_directory_that_holds_sources() {
    if takes_long() {
        return;
    }
    let good = "#[test]\nfn one() {}\n";
    for (dir, source) in [("src", "src/lib.rs"), ("tests", "tests/it.rs"), ("kept", "kept/lib.rs")]
    {
        let mut home = Home::with(&[]);
        home.write("Cargo.toml", "[package]\nname = \"p\"\nedition = \"2024\"\n");
        home.write(source, good);
        if dir == "kept" {
            let lib =
                "[package]\nname = \"p\"\nedition = \"2024\"\n[lib]\npath = \"kept/lib.rs\"\n";
            home.write("Cargo.toml", lib);
        }
        home.environment.set("CARGO_TARGET_DIR", home.root.join(dir));
        until_old(&home.root.join(source));
        home.test(&[]).green();
        home.test(&[]).green();
        home.write(source, "#[test]\nfn one() { panic!() }\n");
        home.test(&[]).red();
        home.write(source, good);
        home.test(&[]).green();
        if dir == "tests" {
            home.write("tests/more.rs", "#[test]\nfn two() { panic!() }\n");
            home.test(&[]).red();
        }
    }
}
