//! Tests that have cargo build, or that link what cargo has built, are cached like any others.

use std::fs;

use knhk_test_cache::internals::observer::Observer;

use crate::home::{Home, skip, until_old};

/// Nothing can be cached per target where nothing is observed.
fn is_observed() -> bool {
    let available = Observer::available();
    if let Err(reason) = &available {
        skip("tests that build", &reason.to_string());
    }
    available.is_ok()
}

#[test]
fn a_test_that_runs_cargo_below_the_target_folder_is_cached_until_its_sources_change() {
    let test = "use std::process::Command;\n\
        #[test] fn t() {\n\
        let cargo = std::env::var(\"CARGO\").unwrap();\n\
        let built = Command::new(cargo).args([\"build\", \"--offline\", \"--manifest-path\", \"ui/Cargo.toml\"])\n\
        .env(\"CARGO_TARGET_DIR\", \"target/tests/ui\").status().unwrap();\n\
        assert!(built.success()); }\n";
    let manifest = "[package]\nname='ui'\nversion='0.1.0'\nedition='2021'\n[workspace]\n";
    let home = Home::with(&[
        ("ui/Cargo.toml", manifest),
        ("ui/src/lib.rs", "pub fn one() {}\n"),
        ("tests/it.rs", test),
    ]);
    if !is_observed() {
        return;
    }
    // The first run makes the lock file and the target folder, the second finds them.
    for _ in 0..2 {
        home.test(&["--no-daemon"]).green();
        until_old(&home.root.join("ui/Cargo.lock"));
    }
    home.test(&["--no-daemon", "--test", "it"]).green();
    home.test(&["--no-daemon", "--test", "it"]).green_from("cache");
    home.write("ui/src/lib.rs", "pub fn one() { 1 }\n");
    home.test(&["--no-daemon", "--test", "it"]).red();
}

#[test]
fn a_test_that_links_a_program_of_cargo_s_is_cached() {
    let test = "#[test] fn t() {\n\
        let link = concat!(env!(\"CARGO_TARGET_TMPDIR\"), \"/link\");\n\
        let _ = std::fs::remove_file(link);\n\
        std::fs::hard_link(env!(\"CARGO_BIN_EXE_p\"), link).unwrap();\n\
        assert!(std::process::Command::new(link).status().unwrap().success());\n\
        std::fs::remove_file(link).unwrap(); }\n";
    let home = Home::with(&[("src/main.rs", "fn main() {}\n"), ("tests/it.rs", test)]);
    if !is_observed() {
        return;
    }
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
    fs::remove_dir_all(home.root.join("src")).unwrap();
    home.write("src/lib.rs", "");
    home.write("src/main.rs", "fn main() { std::process::exit(1) }\n");
    home.test(&["--no-daemon"]).red();
}
