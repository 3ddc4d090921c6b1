//! Ignore files, members and configuration by cargo's rules, not by git's or by the root's alone.
//! With and without a daemon.

use std::fs;

use crate::home::{Answered, EXE, Home, LIMIT, answered, takes_long};

/// Plays a scene in a workspace of these files; the second argument asks in a folder of it.
fn play(files: &[(&str, &str)], scene: impl Fn(&Home, &dyn Fn(&str) -> Answered)) {
    for way in [&["--no-daemon"][..], &[]] {
        let home = Home::new();
        files.iter().for_each(|(path, text)| home.write(path, text));
        home.config("", "debounce = '1h'");
        let daemon = way.is_empty().then(|| home.daemon());
        let line = [&["test", "--format", "json"], way].concat();
        let ask =
            |dir: &str| answered(home.start_in(&home.root.join(dir), EXE, &line, false).end(LIMIT));
        scene(&home, &ask);
        drop(daemon);
    }
}

const PACKAGE: &str = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n";

#[test]
fn an_ignore_file_outside_of_a_repository_hides_nothing() {
    if takes_long() {
        return;
    }
    let script = "fn main() { println!(\"cargo:rustc-env=V={}\", \
                  std::fs::read_to_string(\"gen/x\").unwrap()) }\n";
    let files = [
        ("Cargo.toml", PACKAGE),
        (".gitignore", "/target\n/gen\n"),
        ("gen/x", "good"),
        ("build.rs", script),
        ("src/lib.rs", "#[test] fn t() { assert_eq!(env!(\"V\"), \"good\") }\n"),
    ];
    play(&files, |home, ask| {
        ask("").green_from("run");
        ask("").green();
        home.write("gen/x", "bad");
        ask("").red();
    });
}

#[test]
fn an_ignored_folder_that_a_pattern_matches_is_a_member() {
    if takes_long() {
        return;
    }
    let files = [
        ("Cargo.toml", "[workspace]\nmembers=['crates/*']\nresolver='2'\n"),
        (".gitignore", "/target\n/crates/scratch*\n"),
        ("crates/a/Cargo.toml", PACKAGE),
        ("crates/a/src/lib.rs", "#[test] fn t() {}\n"),
    ];
    play(&files, |home, ask| {
        home.git(&["init", "-q"]);
        ask("").green_from("run");
        ask("").green();
        home.write("crates/scratch/Cargo.toml", &PACKAGE.replace("'p'", "'scratch'"));
        home.write("crates/scratch/src/lib.rs", "#[test] fn t() { panic!() }\n");
        ask("").red();
        fs::remove_dir_all(home.root.join("crates/scratch")).unwrap();
        ask("").green();
        fs::create_dir(home.root.join("crates/scratch2")).unwrap();
        assert_eq!(ask("").verdict(), "error", "cargo refuses a member without a manifest");
    });
}

#[test]
fn the_configuration_of_the_folder_that_is_asked_in_is_in_force() {
    let files = [
        ("Cargo.toml", "[workspace]\nmembers=['a']\nresolver='2'\n"),
        (".gitignore", "/target\n"),
        ("a/Cargo.toml", PACKAGE),
        ("a/src/lib.rs", "#[test] fn t() { assert!(std::env::var(\"KNOB\").is_err()) }\n"),
        ("a/.cargo/config.toml", "[env]\nKNOB = 'set'\n"),
        ("none/Cargo.toml", PACKAGE),
        ("none/src/lib.rs", "#[test] fn t() { panic!() }\n"),
    ];
    play(&files, |_, ask| {
        ask("").green_from("run");
        ask("a").red();
        ask("a/src").red();
        ask("").green();
        let refused = ask("none");
        assert!(refused.error().contains("believes it's in a workspace when it's not"));
        assert_eq!(refused.ran.code, Some(101));
    });
}
