//! The daemon where there is no service manager: `start` runs it detached, and the other commands of
//! the service drive it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};

use crate::home::{EXE, Home, Ran, SOON, is_gone, takes_long, until};

/// A user without a service manager.
fn without_manager() -> Home {
    let mut home = Home::with(&[]);
    let folder = home.base.join("manager");
    fs::create_dir(&folder).unwrap();
    let systemctl = folder.join("systemctl");
    let says =
        "#!/bin/sh\necho 'System has not been booted with systemd as init system' >&2\nexit 1\n";
    fs::write(&systemctl, says).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
    home.environment.set("PATH", format!("{}:{path}", folder.display()));
    home.environment.set("XDG_STATE_HOME", home.base.join("state"));
    home.config("", "");
    home
}

fn log(home: &Home) -> PathBuf {
    home.base.join("state/knhk-test-cache/daemon.log")
}

/// Runs a command with success; gives what it said.
#[track_caller]
fn says(home: &Home, args: &[&str], words: &str) -> Ran {
    let ran = home.run(args);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains(words), "not said: {words}\n{ran:#?}");
    ran
}

fn pid(home: &Home) -> i32 {
    i32::try_from(home.status()["pid"].as_i64().unwrap()).unwrap()
}

/// Ends the daemon even if the test fails.
struct Stopping<'a>(&'a Home);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        let ran = self.0.run(&["stop"]);
        if !std::thread::panicking() {
            assert_eq!(ran.code, Some(0), "{ran:#?}");
            assert_eq!(self.0.left_over(), Vec::<String>::new());
        }
    }
}

#[test]
fn start_runs_the_daemon_detached_and_stop_ends_it() {
    let home = without_manager();
    let _stopping = Stopping(&home);
    let started = says(&home, &["start"], "Running process ");
    assert!(started.stderr.contains("knhk-test-cache stop"), "{started:#?}");
    let first = pid(&home);
    // A session of its own: no terminal's end reaches it.
    let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3).unwrap();
    assert_eq!(session, first.to_string());
    home.test(&[]).green();
    home.test(&[]).green_from("cache");
    assert_eq!(home.project_status()["watch"], "events");

    says(&home, &["start"], &format!("Running process {first}"));
    assert_eq!(pid(&home), first, "a second start changes nothing");
    let logs = home.ok(&["logs", "-n", "5"]);
    assert!(!logs.is_empty() && fs::read_to_string(log(&home)).unwrap().contains(logs.trim()));
    says(&home, &["restart"], "Running process ");
    assert!(is_gone(first) && pid(&home) != first);
    says(&home, &["stop"], "Stopped");
    assert_eq!(home.status()["running"], false);
    says(&home, &["stop"], "Stopped");
    home.test(&[]).green_from("cache");
}

#[test]
fn two_starts_at_once_make_one_daemon() {
    let home = without_manager();
    let _stopping = Stopping(&home);
    let starts = [home.start(EXE, &["start"]), home.start(EXE, &["start"])];
    let said = starts.map(|start| start.end(SOON));
    let running = format!("Running process {}", pid(&home));
    for ran in said {
        assert!(ran.code == Some(0) && ran.stderr.contains(&running), "{ran:#?}");
    }
}

/// A lock and a socket that a killed daemon has left behind, and a number that another process has.
#[test]
fn a_stale_lock_is_no_daemon_and_nobody_is_ended_for_it() {
    let home = without_manager();
    let _stopping = Stopping(&home);
    let mut other = home.start("sleep", &["1000"]);
    let folder = home.paths().runtime_dir;
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let written = format!("process {}, version 0.1.0\n", other.pid().as_raw_nonzero());
    fs::write(home.paths().daemon_lock(), written).unwrap();
    drop(std::os::unix::net::UnixListener::bind(home.paths().socket()).unwrap());
    says(&home, &["stop"], "Stopped");
    assert!(!other.has_ended());
    says(&home, &["start"], "Running process ");
    assert_ne!(pid(&home), other.pid().as_raw_nonzero().get());
    assert!(!other.has_ended());
}

#[test]
fn a_daemon_that_hangs_is_killed_with_a_message() {
    if takes_long() {
        return;
    }
    let home = without_manager();
    let _stopping = Stopping(&home);
    says(&home, &["start"], "Running process ");
    let hung = pid(&home);
    kill_process(Pid::from_raw(hung).unwrap(), Signal::STOP).unwrap();
    says(&home, &["stop"], &format!("process {hung} did not end within 10 s and was killed"));
    assert!(is_gone(hung));
    says(&home, &["start"], "Running process ");
}

#[test]
fn it_ends_by_itself_when_nothing_happens() {
    let home = without_manager();
    let _stopping = Stopping(&home);
    home.config("[service]\nidle_timeout = '1s'\n", "");
    says(&home, &["start"], "Running process ");
    let started = pid(&home);
    until("the idle daemon has ended", || is_gone(started).then_some(()));
    assert!(fs::read_to_string(log(&home)).unwrap().contains("nothing has happened for long"));
    assert_eq!(home.status()["running"], false);
    assert!(!home.paths().socket().exists(), "it gave up its socket");
}

#[test]
fn without_a_runtime_folder_a_private_one_serves() {
    let mut home = without_manager();
    home.environment.remove("XDG_RUNTIME_DIR");
    says(&home, &["start"], "Running process ");
    let folder = home.base.join("cache/knhk-test-cache/run");
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    home.test(&[]).green();
    says(&home, &["stop"], "Stopped");
    // One that others could have prepared is refused.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let ran = home.run(&["start"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("chmod 700"), "{ran:#?}");
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let home = without_manager();
    fs::write(home.config_file(), "nonsense").unwrap();
    let ran = home.run(&["start"]);
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("the daemon: it ended (exit status: 4)"), "{ran:#?}");
    assert!(said.contains("config.toml"), "{ran:#?}");
    // A state folder that cannot be made: a file in its place stops root too.
    home.config("", "");
    fs::remove_dir_all(home.base.join("state")).unwrap();
    fs::write(home.base.join("state"), "").unwrap();
    let ran = home.run(&["start"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("XDG_STATE_HOME"), "{ran:#?}");
}

#[test]
fn installing_can_be_looked_at_on_any_machine() {
    let mut home = without_manager();
    let bare = home.base.join("manager");
    home.environment.set("PATH", &bare);
    let ran = home.run(&["install", "--dry-run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stdout.contains("[Service]") && ran.stdout.contains("[Socket]"), "{ran:#?}");
    for step in ["Would write", "Would run `systemctl --user daemon-reload`", "enable", "start"] {
        assert!(ran.stderr.contains(step), "not said: {step}\n{ran:#?}");
    }
    assert!(!home.base.join("config/systemd").exists());
    assert_eq!(home.run(&["install"]).code, Some(7));
}
