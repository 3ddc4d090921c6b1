//! A second daemon, a broken config, a daemon that ends without warning.

use std::fs;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::Value;

use crate::home::{EXE, Home, SOON, takes_long, until};

#[test]
fn a_second_daemon_names_the_first() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let first = home.daemon();
    let second = home.run(&["daemon"]);
    assert_eq!(second.code, Some(6), "{second:#?}");
    let holder = format!("process {}", first.pid());
    assert!(second.stderr.contains(&holder), "{second:#?}");
    assert_eq!(home.status()["pid"], i64::from(first.pid().as_raw_nonzero().get()));
    first.stop();
    home.daemon().stop();
}

fn config_error(home: &Home) -> Value {
    home.status()["config_error"].clone()
}

#[test]
fn a_config_that_breaks_under_a_running_daemon() {
    let home = Home::with(&[]);
    home.config("[defaults]\nttl = '2h'", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");

    home.config("[defaults]\nttl = 7", "");
    let error = until("the daemon has seen the broken config", || {
        Some(config_error(&home)).filter(|error| !error.is_null())
    });
    let error = error.as_str().unwrap();
    assert!(error.contains("config.toml") && error.contains("2:7"), "line and column: {error}");
    assert!(error.contains("`ttl`"), "{error}");
    assert_eq!(home.status()["projects"].as_array().unwrap().len(), 1, "it keeps the old one");
    home.test(&[]).green_from("cache");
    assert_eq!(home.run(&["config", "check"]).code, Some(4));
    assert_eq!(home.run(&["test", "--no-daemon"]).code, Some(4));

    let other = Home::with(&[]);
    let entry = format!("[[project]]\npath = {:?}\ndebounce = '1h'\n", other.root);
    home.config(&entry, "debounce = '1h'");
    until("the repaired config is in force", || {
        let projects = home.status()["projects"].as_array().unwrap().len();
        (projects == 2 && config_error(&home).is_null()).then_some(())
    });
    daemon.stop();
}

#[test]
fn sighup_reads_the_config_again() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    // The folder that the link leads to is not watched.
    let real = home.base.join("out/real.toml");
    fs::rename(home.config_file(), &real).unwrap();
    std::os::unix::fs::symlink(&real, home.config_file()).unwrap();
    let daemon = home.daemon();
    fs::write(&real, "").unwrap();
    daemon.signal(Signal::HUP);
    until("the project has left the config", || {
        home.status()["projects"].as_array().unwrap().is_empty().then_some(())
    });
    daemon.stop();
}

#[test]
fn a_daemon_does_not_start_with_a_broken_config() {
    let home = Home::with(&[]);
    home.config("[defaults]\nttl = 7", "");
    let daemon = home.run(&["daemon"]);
    assert_eq!(daemon.code, Some(4), "{daemon:#?}");
    assert!(daemon.stderr.contains("2:7"), "{daemon:#?}");
}

/// A workspace whose build never ends, and the daemon in the middle of it.
fn mid_build() -> (Home, crate::home::Started) {
    let script = "fn main() { std::fs::write(std::env::var(\"MARK\").unwrap(), \"\").unwrap();\n\
                  loop { std::thread::park() } }\n";
    let mut home = Home::with(&[("build.rs", script)]);
    home.environment.set("MARK", home.base.join("out/mark"));
    home.config("", "debounce = '10ms'");
    let daemon = home.daemon();
    until("the build is under way", || home.base.join("out/mark").exists().then_some(()));
    (home, daemon)
}

#[test]
fn sigterm_in_the_middle_of_a_build_leaves_no_process() {
    if takes_long() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT] {
        let (home, daemon) = mid_build();
        daemon.signal(signal);
        let ran = daemon.end(SOON);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        assert_eq!(home.left_over(), Vec::<String>::new());
        assert!(!home.paths().socket().exists());
    }
}

#[test]
fn a_save_in_the_middle_of_a_build_abandons_it() {
    if takes_long() {
        return;
    }
    let (home, daemon) = mid_build();
    home.write("build.rs", "fn main() {}\n");
    until("the newer tree is built", || {
        (home.project_status()["last_build"]["success"] == true).then_some(())
    });
    // The old build script has ended.
    until("nothing else is running", || (home.left_over().len() == 1).then_some(()));
    daemon.stop();
}

#[test]
fn a_new_daemon_replaces_a_killed_one() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let first = home.daemon();
    home.test(&[]).green_from("run");
    first.signal(Signal::KILL);
    assert_eq!(first.end(SOON).code, None);
    assert!(home.paths().socket().exists(), "a stale socket is left");
    home.test(&[]).green_from("cache");
    let second = home.daemon();
    home.test(&[]).green_from("cache");
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    home.test(&[]).red();
    second.stop();
}

#[test]
fn a_daemon_that_ends_during_a_question_loses_no_record() {
    // The test itself waits until the daemon is gone.
    let body = "#[test] fn waits() {\n\
                std::fs::write(std::env::var(\"MARK\").unwrap(), \"\").unwrap();\n\
                while std::path::Path::new(&std::env::var(\"ALIVE\").unwrap()).exists() {\n\
                std::thread::yield_now() } }\n";
    let mut home = Home::with(&[("src/lib.rs", body)]);
    home.environment.set("MARK", home.base.join("out/mark"));
    home.environment.set("ALIVE", home.paths().socket());
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    let question = home.start(EXE, &["test", "--format", "json"]);
    until("the test runs", || home.base.join("out/mark").exists().then_some(()));
    daemon.stop();
    let answer = crate::home::answered(question.end(SOON));
    answer.green_from("run");
    // Without a daemon it is unknown whether a file changed meanwhile.
    assert_eq!(home.records(), 0);
    assert!(!answer.summary["not_kept"].is_null(), "{answer:#?}");
}

#[test]
fn a_supervisor_that_does_not_read_blocks_no_client() {
    let mut home = Home::with(&[]);
    let socket = home.base.join("out/notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    // Its queue is full from the beginning.
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    while filler.send_to(b"STATUS=full", &socket).is_ok() {}
    home.environment.set("NOTIFY_SOCKET", &socket);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    home.ok(&["rebuild"]);
    home.test(&[]).green_from("cache");
    daemon.stop();
    drop(manager);
}
