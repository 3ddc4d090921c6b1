//! The first minutes: `demo` in a workspace that it makes, `init` in one's own, and what tells a prompt
//! or an agent about it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::home::{EXE, Home, SOON, is_gone, takes_long, until};

/// A user whose temporary folder is empty.
fn with_temporary_folder() -> (Home, PathBuf) {
    let mut home = Home::new();
    let folder = home.base.join("tmp");
    fs::create_dir(&folder).unwrap();
    home.environment.set("TMPDIR", &folder);
    (home, folder)
}

/// The processes that have a folder below `tmp` as their runtime folder.
fn processes_of(tmp: &std::path::Path) -> Vec<String> {
    let mark = format!("XDG_RUNTIME_DIR={}", tmp.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).split('\0').any(|var| var.starts_with(&mark)) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

/// Nothing of a demo is there any more.
#[track_caller]
fn nothing_is_left(tmp: &std::path::Path) {
    let left: Vec<_> = fs::read_dir(tmp).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    let gone = |pid: &String| is_gone(pid.parse().unwrap());
    until("no process is left", || processes_of(tmp).iter().all(gone).then_some(()));
}

#[test]
fn the_demo_shows_each_step_and_leaves_nothing_behind() {
    if takes_long() {
        return;
    }
    let (home, tmp) = with_temporary_folder();
    let ran = home.run(&["demo"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    for step in [
        "first run",
        "nothing changed",
        "comment edited",
        "fixture edited",
        "code broken",
        "code mended",
        "another terminal",
        "git worktree",
    ] {
        assert!(ran.stdout.contains(&format!("\n{step}")), "{step}: {ran:#?}");
    }
    for line in ["all 7", "1 of 7: report::orders", " red", "knhk-test-cache init"] {
        assert!(ran.stdout.contains(line), "{line}: {ran:#?}");
    }
    let unchanged = ran.stdout.lines().find(|line| line.starts_with("nothing changed")).unwrap();
    assert!(unchanged.ends_with("none"), "{ran:#?}");
    nothing_is_left(&tmp);
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let (home, tmp) = with_temporary_folder();
    let demo = home.start(EXE, &["demo"]);
    until("the demo is at work", || (processes_of(&tmp).len() > 2).then_some(()));
    demo.signal(Signal::INT);
    let ran = demo.end(SOON);
    assert_eq!(ran.code, Some(130), "{ran:#?}");
    nothing_is_left(&tmp);
}

#[test]
fn a_demo_without_cargo_says_so() {
    let (mut home, tmp) = with_temporary_folder();
    home.environment.set("PATH", home.base.join("out"));
    home.environment.remove("CARGO_HOME");
    let ran = home.run(&["demo"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    assert!(ran.stderr.contains("there is no `cargo`"), "{ran:#?}");
    nothing_is_left(&tmp);
}

/// Without a service manager the daemon is started detached.
fn without_manager() -> Home {
    let mut home = Home::with(&[]);
    let folder = home.base.join("manager");
    fs::create_dir(&folder).unwrap();
    let says =
        "#!/bin/sh\necho 'System has not been booted with systemd as init system' >&2\nexit 1\n";
    fs::write(folder.join("systemctl"), says).unwrap();
    fs::set_permissions(folder.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
    home.environment.set("PATH", format!("{}:{path}", folder.display()));
    home
}

#[test]
fn init_does_every_step_for_a_script() {
    let home = without_manager();
    let told = home.ok(&["init"]);
    for command in ["add", "start", "config cargo --write", "doctor", "test"] {
        assert!(told.contains(&format!("knhk-test-cache {command} ")), "{command}: {told}");
    }
    assert!(!home.config_file().exists(), "nothing was done");
    let ran = home.run(&["init", "--yes"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let config = fs::read_to_string(home.config_file()).unwrap();
    assert!(config.contains(home.root.to_str().unwrap()), "{config}");
    assert!(home.root.join(".cargo/config.toml").exists());
    assert_eq!(home.status()["running"], true);
    assert!(ran.stderr.contains("Green ws: 2 passed"), "{ran:#?}");
    home.ok(&["stop"]);
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[test]
fn each_step_of_init_can_be_declined() {
    use std::io::Write as _;

    use crate::exec::terminal::Terminal;

    let home = without_manager();
    let answer = |typed: &[u8]| {
        let mut terminal = Terminal::start(&home, EXE, &["init"]);
        terminal.typed.write_all(typed).unwrap();
        let (shown, status) = terminal.end();
        assert_eq!(status.code(), Some(0), "{shown}");
        shown
    };
    assert!(answer(b"n\n").contains("nothing was done"));
    assert!(!home.config_file().exists());
    let shown = answer(b"y\nn\nn\nn\nn\n");
    assert_eq!(shown.matches("[Y/n]").count(), 5, "{shown}");
    let config = fs::read_to_string(home.config_file()).unwrap();
    assert!(config.contains(home.root.to_str().unwrap()), "{config}");
    assert_eq!(home.status()["running"], false);
    assert!(!home.root.join(".cargo").exists() && !home.root.join("target").exists());
}

#[test]
fn a_step_of_init_that_fails_keeps_the_others_from_nothing() {
    let home = without_manager();
    home.write(".cargo/config.toml", "[target\n");
    let before = fs::read_to_string(home.root.join(".cargo/config.toml")).unwrap();
    let ran = home.run(&["init", "--yes"]);
    assert_ne!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains(".cargo/config.toml"), "{ran:#?}");
    assert_eq!(fs::read_to_string(home.root.join(".cargo/config.toml")).unwrap(), before);
    assert!(home.config_file().exists());
    home.ok(&["stop"]);
    // A config that cannot be used stops before the first step.
    fs::write(home.config_file(), "nonsense").unwrap();
    assert_eq!(home.run(&["init", "--yes"]).code, Some(4));
}

#[test]
fn a_prompt_gets_a_word_or_two() {
    let home = Home::with(&[]);
    let short = || home.ok(&["status", "--short"]);
    assert_eq!(short(), "off\n");
    let outside = home.start_in(&home.base, EXE, &["status", "--short"], false).end(SOON);
    assert_eq!((outside.code, outside.stdout.as_str()), (Some(0), ""), "{outside:#?}");
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green();
    until("the verdict is shown", || (short() == "green 2\n").then_some(()));
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    home.test(&[]).red();
    until("the verdict is shown", || (short() == "red 1\n").then_some(()));
    daemon.stop();
}

#[test]
fn agents_get_ten_lines() {
    let home = Home::new();
    assert_eq!(home.ok(&["config", "agents"]).lines().count(), 10);
}
