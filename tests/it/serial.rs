//! Test programs that disturb each other, and runs through cargo-nextest: a run's verdict is the one
//! that cargo gives, and everything that it consults counts.

use crate::home::{Home, LIMIT, can_observe, skip, takes_long, until_old};

/// Fails while another test program is inside its folder.
const EXCLUSIVE: &str = "#[test] fn holds() {\n\
    let held = std::path::Path::new(env!(\"CARGO_TARGET_TMPDIR\")).join(\"held\");\n\
    std::fs::create_dir(&held).expect(\"another program holds it\");\n\
    std::thread::sleep(std::time::Duration::from_millis(1500));\n\
    std::fs::remove_dir(&held).unwrap();\n}\n";

fn exclusive() -> Home {
    let home = Home::with(&[("tests/a.rs", EXCLUSIVE), ("tests/b.rs", EXCLUSIVE)]);
    home.config("", "");
    home
}

#[test]
fn a_failure_beside_other_programs_is_repeated_alone() {
    if takes_long() {
        return;
    }
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        skip("programs beside each other", "there is one processor");
        return;
    }
    let home = exclusive();
    home.test(&["--no-daemon"]).green_from("run");
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("runs alone"), "{explained}");
    home.test(&["--no-daemon", "--no-cache"]).green();
}

#[test]
fn one_job_or_one_test_thread_runs_one_program_at_a_time() {
    if takes_long() {
        return;
    }
    for line in [&["-j", "1"][..], &["--", "--test-threads=1"]] {
        let home = exclusive();
        home.test(&[&["--no-daemon"], line].concat()).green_from("run");
        let explained = home.ok(&["explain"]);
        assert!(!explained.contains("runs alone"), "{line:?}: {explained}");
    }
}

#[test]
fn a_serial_project_runs_one_program_at_a_time() {
    let home = exclusive();
    home.config("", "serial = true");
    home.test(&["--no-daemon"]).green_from("run");
    let explained = home.ok(&["explain"]);
    assert!(!explained.contains("runs alone"), "{explained}");
}

#[test]
fn a_target_that_fails_alone_too_stays_red() {
    let home = Home::with(&[
        ("tests/a.rs", "#[test] fn fails() { panic!() }\n"),
        ("tests/b.rs", "#[test] fn passes() {}\n"),
    ]);
    home.config("", "");
    home.test(&["--no-daemon"]).red();
    let explained = home.ok(&["explain"]);
    assert!(!explained.contains("runs alone"), "{explained}");
}

#[test]
fn a_run_through_nextest_depends_on_everything_that_it_consulted() {
    if takes_long() {
        return;
    }
    let reads = "#[test] fn outside() { assert_eq!(read(\"../outside\"), \"1\") }\n\
                 #[test] fn ignored() { assert_eq!(read(\"ignored.dat\"), \"1\") }\n\
                 #[cfg(test)] fn read(path: &str) -> String { std::fs::read_to_string(path).unwrap() }\n";
    let home = Home::with(&[
        ("src/lib.rs", reads),
        (".gitignore", "/target\n*.dat\n"),
        ("ignored.dat", "1"),
        ("../outside", "1"),
    ]);
    home.config("", "runner = 'nextest'");
    let version = home.start("cargo", &["nextest", "--version"]).end(LIMIT);
    if version.code != Some(0) {
        skip("runs through nextest", &version.stderr);
        return;
    }
    if !can_observe("runs through nextest") {
        return;
    }
    until_old(&home.base.join("outside"));
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
    home.write("../outside", "2");
    home.test(&["--no-daemon"]).red();
    home.write("../outside", "1");
    home.write("ignored.dat", "2");
    home.test(&["--no-daemon"]).red();
}

/// Doctests are compiled anew for each run.
#[test]
fn a_red_doctest_target_is_repeated_only_if_others_ran_beside_it() {
    let manifest = "[package]\nname = 'p'\nversion = '0.1.0'\nedition = '2021'\n";
    let home = Home::with(&[("Cargo.toml", manifest), ("src/lib.rs", "")]);
    let runs = home.base.join("runs");
    let doctest = format!(
        "//! ```\n//! use std::io::Write as _;\n//! let mut runs = std::fs::OpenOptions::new()\n\
         //!     .append(true).create(true).open({runs:?}).unwrap();\n\
         //! runs.write_all(b\"x\").unwrap();\n//! panic!();\n//! ```\n"
    );
    home.write("src/lib.rs", &doctest);
    let count = |args: &[&str]| {
        let _ = std::fs::remove_file(&runs);
        home.test(&[&["--no-daemon"], args].concat()).red();
        std::fs::read(&runs).unwrap().len()
    };
    assert_eq!(count(&["--doc"]), 1, "nothing ran beside it");
    assert_eq!(count(&["--doc"]), 1, "it is red on this very code");
    assert_eq!(count(&[]), 2, "beside the library's tests, then alone");
}
