//! What a record claims, and when it may claim it no longer: each test begins green and cached, and
//! takes away something on which the record rests.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::home::{Answered, Home, can_observe, takes_long, until_old};

const READS: &str =
    "#[test] fn reads() { assert_eq!(std::fs::read_to_string(\"fx/x\").unwrap(), \"good\") }\n";

/// Passes on the value that the build script has read.
const HAS_VALUE: &str = "#[test] fn has() { assert_eq!(env!(\"VALUE\"), \"good\") }\n";

/// Reads a file that it does not declare.
const BUILD_SCRIPT: &str = "fn main() {\n\
     println!(\"cargo::rerun-if-changed=build.rs\");\n\
     println!(\"cargo::rustc-env=VALUE={}\", std::fs::read_to_string(\"fx/x\").unwrap());\n}\n";

/// Reads a variable that it does not declare.
const BUILD_SCRIPT_WITH_VARIABLE: &str = "fn main() {\n\
     println!(\"cargo::rerun-if-changed=build.rs\");\n\
     println!(\"cargo::rustc-env=VALUE={}\", std::env::var(\"MODE\").unwrap());\n}\n";

fn ask(home: &Home) -> Answered {
    home.test(&["--no-daemon"])
}

/// Green, and cached.
#[track_caller]
fn proven(home: &Home) {
    until_old(&home.root.join("src/lib.rs"));
    ask(home).green_from("run");
    ask(home).green_from("cache");
}

#[test]
fn an_exclusion_that_is_taken_back_excludes_nothing_in_a_record() {
    if !can_observe("what the settings exclude") {
        return;
    }
    let home = Home::with(&[("fx/x", "good"), ("tests/it.rs", READS)]);
    home.config("", "exclude = ['fx/**']");
    proven(&home);
    home.write("fx/x", "bad");
    ask(&home).green_from("cache");
    home.config("", "exclude = ['docs/**']");
    ask(&home).red();
    home.config("", "exclude = ['fx/**']");
    home.write("fx/x", "good");
    ask(&home).green();
    // Without the file the digest of the tree is what it was.
    home.config("", "");
    fs::remove_file(home.root.join("fx/x")).unwrap();
    ask(&home).red();
}

#[test]
fn a_run_that_took_longer_than_the_time_limit_answers_no_more() {
    if takes_long() {
        return;
    }
    let slow = "#[test] fn sleeps() { std::thread::sleep(std::time::Duration::from_secs(2)) }\n";
    let home = Home::with(&[("tests/it.rs", slow)]);
    proven(&home);
    home.config("", "timeout = '1s'");
    ask(&home).red();
}

#[test]
fn a_product_that_cargo_wrongly_calls_fresh_proves_nothing_of_the_tree() {
    let home =
        Home::with(&[("fx/x", "good"), ("build.rs", BUILD_SCRIPT), ("tests/it.rs", HAS_VALUE)]);
    proven(&home);
    home.write("fx/x", "bad");
    ask(&home).green();
    // As long as the products are there, cargo says the same, and so does the record.
    ask(&home).green_from("cache");
    home.cargo(&["clean"]);
    ask(&home).red();
}

#[test]
fn a_record_of_doubtful_products_is_none_of_another_target_directory() {
    let mut home =
        Home::with(&[("fx/x", "good"), ("build.rs", BUILD_SCRIPT), ("tests/it.rs", HAS_VALUE)]);
    proven(&home);
    home.write("fx/x", "bad");
    ask(&home).green();
    ask(&home).green_from("cache");
    home.environment.set("CARGO_TARGET_DIR", home.root.join("target/other"));
    ask(&home).red();
}

#[test]
fn a_variable_that_a_build_read_unseen_proves_nothing_of_another_build() {
    let mut home =
        Home::with(&[("build.rs", BUILD_SCRIPT_WITH_VARIABLE), ("tests/it.rs", HAS_VALUE)]);
    home.environment.set("MODE", "good");
    proven(&home);
    home.environment.set("MODE", "bad");
    ask(&home).green();
    ask(&home).green_from("cache");
    home.cargo(&["clean"]);
    ask(&home).red();
}

#[test]
fn a_build_of_the_tree_as_it_is_answers_after_its_products_are_gone() {
    let home = Home::with(&[("fx/x", "good"), ("tests/it.rs", READS)]);
    proven(&home);
    home.cargo(&["clean"]);
    ask(&home).green_from("cache");
}

#[test]
fn a_product_that_is_changed_by_hand_proves_nothing() {
    if !can_observe("which products a run consults") {
        return;
    }
    let script = "fn main() {\n\
         println!(\"cargo::rerun-if-changed=build.rs\");\n\
         let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         std::fs::write(out + \"/made\", \"good\").unwrap();\n}\n";
    let test = "const MADE: &str = include_str!(concat!(env!(\"OUT_DIR\"), \"/made\"));\n\
         #[test] fn made() { assert_eq!(MADE, \"good\") }\n\
         #[test] fn is_executable() {\n\
         let program = std::fs::metadata(env!(\"CARGO_BIN_EXE_p\")).unwrap();\n\
         let mode = std::os::unix::fs::PermissionsExt::mode(&program.permissions());\n\
         assert_ne!(mode & 0o100, 0);\n}\n";
    let home =
        Home::with(&[("build.rs", script), ("src/main.rs", "fn main() {}"), ("tests/it.rs", test)]);
    proven(&home);
    let program = home.root.join("target/debug/p");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    ask(&home).red();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    ask(&home).green();
    let scripts = fs::read_dir(home.root.join("target/debug/build")).unwrap().flatten();
    let made = scripts.map(|script| script.path().join("out/made")).find(|made| made.exists());
    fs::write(made.unwrap(), "bad").unwrap();
    ask(&home).red();
}

#[test]
fn an_edit_of_a_file_that_nothing_reads_is_cached_after_one_question() {
    let home = Home::with(&[("README.md", "one"), ("tests/it.rs", READS), ("fx/x", "good")]);
    proven(&home);
    home.write("README.md", "two");
    ask(&home).green();
    ask(&home).green_from("cache");
    // Cargo would build again.
    home.write("src/lib.rs", &fs::read_to_string(home.root.join("src/lib.rs")).unwrap());
    ask(&home).green();
}

#[test]
fn two_files_of_one_module_are_red_as_soon_as_cargo_looks() {
    let home = Home::with(&[("src/m.rs", "pub const V: u32 = 1;\n")]);
    home.write("src/lib.rs", "mod m;\n#[test] fn t() { assert_eq!(m::V, 1) }\n");
    proven(&home);
    home.write("src/m/mod.rs", "pub const V: u32 = 2;\n");
    ask(&home).green();
    home.write("src/lib.rs", &fs::read_to_string(home.root.join("src/lib.rs")).unwrap());
    ask(&home).error();
}

#[test]
fn the_way_up_from_a_link_leads_out_of_the_tree() {
    let home = Home::with(&[("src/x", "good")]);
    let away = home.root.parent().unwrap().join("away");
    fs::create_dir_all(away.join("b")).unwrap();
    fs::write(away.join("x"), "good").unwrap();
    symlink(away.join("b"), home.root.join("src/link")).unwrap();
    let text = "#[test] fn t() { assert_eq!(include_str!(\"link/../x\"), \"good\") }\n";
    home.write("src/lib.rs", text);
    until_old(&away.join("x"));
    proven(&home);
    fs::write(away.join("x"), "bad").unwrap();
    ask(&home).red();
}

#[test]
fn what_a_run_writes_into_the_workspace_must_be_there() {
    if !can_observe("what runs write") {
        return;
    }
    let writes = "#[test] fn export() {\n\
        std::fs::create_dir_all(\"gen\").unwrap();\n\
        std::fs::write(\"gen/a.ts\", \"type A\").unwrap();\n}\n";
    let home = Home::with(&[("tests/it.rs", writes)]);
    let output = home.root.join("gen/a.ts");
    ask(&home).green();
    let cached = || {
        until_old(&output);
        (0..4).any(|_| ask(&home).source() == "cache")
    };
    assert!(cached());
    fs::remove_file(&output).unwrap();
    ask(&home).green();
    assert_eq!(fs::read_to_string(&output).unwrap(), "type A");
    assert!(cached());
    fs::write(&output, "old").unwrap();
    ask(&home).green();
    assert_eq!(fs::read_to_string(&output).unwrap(), "type A");
}

#[test]
fn a_run_that_measures_coverage_is_never_answered_from_a_record() {
    let mut home = Home::with(&[]);
    home.environment.set("LLVM_PROFILE_FILE", home.root.join("target/%p.profraw"));
    for _ in 0..3 {
        ask(&home).green_from("run");
    }
}

#[test]
fn a_call_of_cargo_that_builds_nothing_costs_no_answer() {
    let home = Home::with(&[("examples/two-words.rs", "fn main() {}\n")]);
    let build = || assert_eq!(home.cargo(&["test", "--no-run"]).code, Some(0));
    // Nothing proves of which tree another's products are, so that the record depends on them.
    build();
    proven(&home);
    until_old(&home.root.join("target/debug/examples/two-words"));
    build();
    let ran = home.run(&["test", "--no-daemon"]);
    assert!(ran.code == Some(0) && !ran.stderr.contains("Stale"), "{ran:#?}");
}
