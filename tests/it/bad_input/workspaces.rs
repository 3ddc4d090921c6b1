//! A missing workspace, one that does not compile, one without tests.

use crate::home::{Home, until};

#[test]
fn no_workspace_at_all() {
    let home = Home::new();
    let answer = home.test(&[]);
    assert!(answer.error().contains("Cargo.toml"), "{answer:#?}");
    assert!(answer.ran.stderr.contains("Cargo.toml"), "{answer:#?}");
    assert_eq!(home.run(&["add"]).code, Some(101));
    assert_eq!(home.run(&["explain"]).code, Some(101));
}

#[test]
fn a_manifest_that_does_not_parse() {
    let home = Home::with(&[]);
    home.test(&["--no-daemon"]).green_from("run");
    home.write("Cargo.toml", "[package\n");
    let answer = home.test(&["--no-daemon"]);
    assert!(answer.error().contains("Cargo.toml"), "{answer:#?}");

    home.config("", "");
    let daemon = home.daemon();
    home.test(&[]).error();
    // A member's manifest: the workspace is found, and cargo says what is wrong.
    home.write("Cargo.toml", "[workspace]\nmembers = ['m']\n");
    home.write("m/Cargo.toml", "[package]\nname = 7\n");
    let answer = home.test(&[]);
    answer.error();
    assert!(answer.ran.stderr.contains("m/Cargo.toml"), "{answer:#?}");
    daemon.stop();
}

#[test]
fn a_workspace_that_does_not_compile() {
    let home = Home::with(&[("src/lib.rs", "#[test] fn t() { missing() }\n")]);
    let answer = home.test(&["--no-daemon"]);
    answer.error();
    assert!(answer.ran.stderr.contains("cannot find function `missing`"), "{answer:#?}");
    assert_eq!(answer.ran.stdout.lines().count(), 1);

    home.config("", "debounce = '10ms'");
    let _daemon = home.daemon();
    let status = until("the background build failed", || {
        let status = home.project_status();
        (status["state"] == "failed").then_some(status)
    });
    assert_eq!(status["last_build"]["success"], false, "{status:#}");
    let errors = status["last_build"]["errors"].as_str().unwrap();
    assert!(errors.contains("cannot find function `missing`"), "{errors}");
    assert!(home.ok(&["status"]).contains("cannot find function `missing`"));
    let answer = home.test(&[]);
    answer.error();
    assert!(answer.ran.stderr.contains("cannot find function `missing`"), "{answer:#?}");
    let rebuild = home.run(&["rebuild"]);
    assert_eq!(rebuild.code, Some(101));
    assert!(rebuild.stderr.contains("cannot find function `missing`"), "{rebuild:#?}");
    assert_eq!(home.records(), 0);

    home.write("src/lib.rs", "#[test] fn t() {}\n");
    home.test(&[]).green_from("run");
    until("the state says so", || (home.project_status()["state"] == "idle").then_some(()));
}

#[test]
fn no_tests_at_all() {
    let home = Home::with(&[("src/lib.rs", "")]);
    let answer = home.test(&["--no-daemon"]);
    answer.green_from("run");
    assert_eq!((answer.count("passed"), answer.count("targets_run")), (0, 1));
    home.test(&["--no-daemon"]).green_from("cache");

    home.write(
        "Cargo.toml",
        "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ntest=false\ndoctest=false\n",
    );
    for _ in 0..2 {
        let answer = home.test(&["--no-daemon"]);
        assert_eq!((answer.verdict(), answer.ran.code), ("pass", Some(0)), "{answer:#?}");
        assert_eq!(answer.targets.len(), 0);
        assert!(answer.ran.stderr.contains("no tests"), "{answer:#?}");
    }
}

#[test]
fn a_source_file_that_cannot_be_read() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let _daemon = home.daemon();
    home.test(&[]).green_from("run");
    home.test(&[]).green_from("cache");
    // Not even root can read this one: there is nothing at its beginning.
    let link = home.root.join("src/odd");
    std::os::unix::fs::symlink("/proc/self/mem", &link).unwrap();
    for way in [[].as_slice(), &["--no-daemon"]] {
        for _ in 0..2 {
            let answer = home.test(way);
            answer.green_from("run");
            assert_eq!(answer.code_hash(), "unknown");
            assert!(answer.summary["not_kept"].to_string().contains("src/odd"), "{answer:#?}");
        }
    }
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("src/odd"), "{explained}");
    std::fs::remove_file(link).unwrap();
    home.test(&[]).green_from("cache");
}
