//! Flaky tests are detected, failed tests run first, and hits are verified.

use std::fs;

use crate::home::{EXE, Home, LIMIT, answered, takes_long, until};

/// A workspace whose test `sometimes` fails while a file outside is there that no snapshot holds,
/// and whose test `always` counts how often it was run.
fn unsteady() -> (Home, std::path::PathBuf) {
    let home = Home::new();
    let flag = home.base.join("out/broken");
    let count = home.base.join("out/count");
    home.write(".gitignore", "/target\n");
    home.write("Cargo.toml", "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n");
    home.write("src/lib.rs", "");
    let test = format!(
        "use std::io::Write;\n#[test]\nfn sometimes() {{ assert!(!std::path::Path::new({flag:?})\
         .exists()); }}\n#[test]\nfn always() {{\n    let file = std::fs::File::options()\
         .append(true).create(true).open({count:?});\n    file.unwrap().write_all(b\"x\").unwrap();\
         \n}}\n#[test]\n#[ignore]\nfn never() {{}}\n"
    );
    home.write("tests/it.rs", &test);
    (home, flag)
}

fn runs(home: &Home) -> usize {
    fs::read(home.base.join("out/count")).unwrap().len()
}

#[test]
fn a_flaky_test_stays_flaky_until_its_outcomes_agree() {
    let (home, flag) = unsteady();
    home.config("", "debounce = '1h'\nflaky_runs = 3");
    fs::write(&flag, "").unwrap();
    home.test(&["--no-daemon"]).red();
    let mut ran = runs(&home);
    let again = home.test(&["--no-daemon"]);
    again.red();
    assert_eq!((again.count("passed"), again.count("failed")), (1, 1), "{again:#?}");
    assert!(again.ran.stderr.contains("Known"), "told at once: {again:#?}");
    assert_eq!(runs(&home), ran, "only the failed test was run again");
    fs::remove_file(&flag).unwrap();
    for round in 1..=3 {
        let green = home.test(&["--no-daemon"]);
        assert_eq!(green.verdict(), "pass", "{green:#?}");
        assert_eq!((green.count("passed"), green.count("ignored")), (2, 1), "{green:#?}");
        let it = green.targets.iter().find(|target| target["target"] == "it").unwrap();
        assert_eq!(it["source"], "run", "{green:#?}");
        let now = runs(&home);
        assert!(now > ran, "green needs a run of all: {green:#?}");
        ran = now;
        let status = home.project_status();
        if round < 3 {
            assert_eq!(it["flaky"][0], "sometimes", "{green:#?}");
            let not_kept = green.summary["not_kept"].to_string();
            assert!(not_kept.contains(&format!("agreed {round} of 3 times")), "{not_kept}");
            assert!(status["flaky"][0].as_str().unwrap().ends_with(": sometimes"), "{status:#}");
            assert!(home.ok(&["status"]).contains("sometimes"));
            assert!(home.ok(&["explain", "it"]).contains("flaky: `sometimes`"));
        } else {
            assert!(status["flaky"].as_array().unwrap().is_empty(), "{status:#}");
        }
    }
    home.test(&["--no-daemon"]).green_from("cache");
    // Another code is run as a whole.
    home.write("src/lib.rs", "pub fn f() {}\n");
    assert_eq!(home.test(&["--no-daemon", "--no-cache"]).verdict(), "pass");
    assert!(runs(&home) > ran);
}

#[test]
fn a_fix_for_one_test_may_break_another() {
    // Both read a file outside the tree: at most one of them is green.
    let home = Home::new();
    let file = home.base.join("out/file");
    home.write(".gitignore", "/target\n");
    home.write("Cargo.toml", "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n");
    let read = format!("std::fs::read({file:?}).unwrap()");
    home.write(
        "src/lib.rs",
        &format!(
            "#[test]\nfn one() {{ assert_eq!({read}, b\"1\"); }}\n\
             #[test]\nfn two() {{ assert_eq!({read}, b\"2\"); }}\n"
        ),
    );
    for text in ["2", "1", "2", "1"] {
        fs::write(&file, text).unwrap();
        home.test(&["--no-daemon"]).red();
        home.test(&["--no-daemon"]).red();
    }
}

#[test]
fn a_green_that_turns_red_on_the_same_code_is_flaky() {
    let (home, flag) = unsteady();
    assert_eq!(home.test(&["--no-daemon"]).verdict(), "pass");
    fs::write(&flag, "").unwrap();
    let red = home.test(&["--no-daemon", "--no-cache"]);
    red.red();
    let it = red.targets.iter().find(|target| target["target"] == "it").unwrap();
    // Unless what was observed told that the flag decides.
    let known = it["flaky"][0] == "sometimes" || red.ran.stderr.contains("changed");
    assert!(known, "{red:#?}");
}

#[test]
fn a_share_of_the_hits_is_verified_in_the_background() {
    if takes_long() {
        return;
    }
    let home = Home::with(&[("tests/it.rs", "#[test] fn it() {}\n")]);
    home.config("", "debounce = '1ms'\nverify_percent = 50");
    let daemon = home.daemon();
    assert_eq!(home.test(&[]).verdict(), "pass");
    for _ in 0..2 {
        home.test(&[]).green_from("cache");
    }
    until("one of two is verified", || (home.project_status()["verified"] == 1).then_some(()));
    assert_eq!(home.project_status()["wrong"], 0);
    assert!(home.ok(&["status"]).contains("verified 1, wrong 0"));
    daemon.stop();
    assert_eq!(home.project_status()["verified"], 1, "it outlives the daemon");
}

#[test]
fn a_program_replaced_by_another_cargo_proves_nothing() {
    // Is green only as it is built by hand, and cannot be followed.
    let good = "#[test] fn good() {\n\
         \x20   assert!(option_env!(\"GOOD\").is_some());\n\
         \x20   let dir = std::env::temp_dir().join(format!(\"lost-{}\", std::process::id()));\n\
         \x20   std::fs::create_dir(&dir).unwrap();\n\
         \x20   std::env::set_current_dir(&dir).unwrap();\n\
         \x20   std::fs::remove_dir(&dir).unwrap();\n\
         \x20   assert!(std::fs::read(\"nothing\").is_err());\n}\n";
    // As many as run at a time, so that the program is another one before it is started.
    let first = "#[test] fn first() {\n\
         \x20   std::fs::write(\"target/begun\", \"\").unwrap();\n\
         \x20   while !std::path::Path::new(\"target/go\").exists() {\n\
         \x20       std::thread::sleep(std::time::Duration::from_millis(5));\n\
         \x20   }\n}\n";
    let mut home = Home::with(&[("tests/z.rs", good)]);
    for number in 0..std::thread::available_parallelism().unwrap().get() {
        home.write(&format!("tests/a{number}.rs"), first);
    }
    home.config("", "debounce = '1h'");
    let asked = home.start(EXE, &["test", "--no-daemon", "--format", "json"]);
    until("they run", || home.root.join("target/begun").exists().then_some(()));
    home.environment.set("GOOD", "yes");
    assert_eq!(home.cargo(&["test", "--workspace", "--no-run"]).code, Some(0));
    home.environment.remove("GOOD");
    home.write("target/go", "");
    answered(asked.end(LIMIT)).green();
    let answer = home.test(&["--no-daemon"]);
    answer.red();
    assert!(answer.run().contains(&"z".to_owned()), "{answer:#?}");
}
