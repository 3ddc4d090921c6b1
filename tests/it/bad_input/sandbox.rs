//! Clients in a container or sandbox: a path can name another file there than for the daemon, and runs
//! perhaps cannot be observed.

#![cfg(target_os = "linux")]

use std::path::Path;

use knhk_test_cache::internals::observer::{ObserveOptions, Observer};
use knhk_test_cache::internals::process::{Spec, capture};
use serde_json::Value;

use crate::home::{EXE, Home, LIMIT, Ran, answered, can_observe, is_root, skip};

/// Runs a shell command in a mount namespace of its own; none where the system does not allow that.
pub(crate) fn in_sandbox(home: &Home, script: &str) -> Option<Ran> {
    let flags: &[&str] = if is_root() { &["--mount"] } else { &["--mount", "--user", "-r"] };
    let sandbox = |script: &str| {
        let args = [flags, &["--propagation", "private", "sh", "-c", script]].concat();
        home.start("unshare", &args).end(LIMIT)
    };
    let allowed = sandbox("true").code == Some(0);
    allowed.then(|| sandbox(script))
}

#[test]
fn a_client_that_sees_another_tree_answers_by_itself() {
    let home = Home::with(&[]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    home.test(&[]).green_from("cache");
    // The daemon sees the green tree at this path, the client a red one.
    let red = home.base.join("red");
    std::fs::create_dir_all(red.join("src")).unwrap();
    for file in ["Cargo.toml", "Cargo.lock"] {
        std::fs::copy(home.root.join(file), red.join(file)).unwrap();
    }
    std::fs::write(red.join("src/lib.rs"), "#[test] fn one() { panic!() }\n").unwrap();
    let root = home.root.display();
    let script = format!(
        "mount --bind {} {root} && cd {root} && exec {EXE} test --format json",
        red.display()
    );
    let Some(ran) = in_sandbox(&home, &script) else {
        return skip("a client in a sandbox", "mount namespaces are not allowed here");
    };
    assert!(ran.stderr.contains("container or sandbox"), "{ran:#?}");
    assert!(ran.stderr.contains("working without it"), "{ran:#?}");
    answered(ran).red();
    assert!(daemon.stderr().contains("refused a connection"), "{}", daemon.stderr());
    home.test(&[]).green_from("cache");
    daemon.stop();
}

/// Forbids seccomp to the program that it becomes, as some containers do.
const FORBID: &str = r#"
use std::os::unix::process::CommandExt as _;

#[repr(C)]
struct Instruction(u16, u8, u8, u32);
#[repr(C)]
struct Program(u16, *const Instruction);
unsafe extern "C" { fn prctl(option: i32, ...) -> i32; }

fn main() {
    let seccomp = if cfg!(target_arch = "x86_64") { 317 } else { 277 };
    let filter = [
        Instruction(0x20, 0, 0, 0),
        Instruction(0x15, 0, 1, seccomp),
        Instruction(0x06, 0, 0, 0x0005_0001),
        Instruction(0x06, 0, 0, 0x7fff_0000),
    ];
    let program = Program(4, filter.as_ptr());
    unsafe {
        assert_eq!(prctl(38, 1_u64, 0_u64, 0_u64, 0_u64), 0);
        assert_eq!(prctl(22, 2_u64, &raw const program), 0);
    }
    let mut args = std::env::args_os().skip(1);
    panic!("{}", std::process::Command::new(args.next().unwrap()).args(args).exec());
}
"#;

/// Where runs cannot be observed, every file counts for every target, and `explain` says why: `run`
/// runs the command there and gives its standard output.
fn every_file_counts(home: &Home, why: &str, run: &dyn Fn(&[&str]) -> String) {
    let source = || -> Value {
        let told = run(&["test", "--no-daemon", "--format", "json"]);
        let summary: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        assert_eq!(summary["verdict"], "pass", "{told}");
        summary["source"].clone()
    };
    home.write("notes.txt", "one");
    assert_eq!(source(), "run");
    assert_eq!(source(), "cache", "the tree is the same");
    home.write("notes.txt", "two");
    assert_eq!(source(), "run", "a file that no test reads");
    home.write("notes.txt", "three");
    let explained = run(&["explain"]);
    assert!(explained.contains(why), "{explained}");
}

#[test]
fn where_seccomp_is_denied_every_file_counts() {
    let home = Home::with(&[]);
    if !can_observe("a sandbox that denies seccomp") {
        return;
    }
    let program = home.base.join("forbid");
    std::fs::write(home.base.join("forbid.rs"), FORBID).unwrap();
    let args = ["--edition", "2024", "-o", program.to_str().unwrap(), "../forbid.rs"];
    let compiled = home.start("rustc", &args).end(LIMIT);
    assert_eq!(compiled.code, Some(0), "{compiled:#?}");
    every_file_counts(&home, "runs cannot be observed here: not allowed here", &|args| {
        let args = [&[EXE], args].concat();
        let ran = home.start(program.to_str().unwrap(), &args).end(LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran.stdout
    });
    // The same user outside of the sandbox: only what the test read counts.
    home.test(&["--no-daemon"]).green_from("run");
    home.write("notes.txt", "four");
    home.test(&["--no-daemon"]).green_from("cache");
}

#[test]
fn below_another_observer_every_file_counts() {
    let home = Home::with(&[]);
    if !can_observe("a client below another observer") {
        return;
    }
    every_file_counts(&home, "this process is itself observed", &|args| {
        let spec = Spec::new(Path::new(EXE), &home.root, home.environment.clone()).args(args);
        let (spec, running) = Observer::observe(&spec, ObserveOptions::default()).unwrap();
        let ran = capture(&spec, LIMIT).unwrap();
        drop(running.finish());
        assert!(ran.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap()
    });
}
