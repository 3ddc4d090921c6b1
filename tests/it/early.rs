//! Test programs that run while cargo still builds others.
//!
//! A build script waits for a file that a test of another package writes: the build ends only if
//! that test runs meanwhile.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::fs;
use std::path::PathBuf;

use crate::commands::compared;
use crate::home::{Answered, Home, can_observe, takes_long, until};

/// Why a target that ran early has its verdict.
pub(crate) const EARLY: &str = "it ran while cargo built the rest";

/// Waits for the file that `hold` names, and then fails if `hold` says so.
const SCRIPT: &str = r#"
use std::time::{Duration, Instant};
fn main() {
    println!("cargo::rerun-if-changed=hold");
    let hold = std::fs::read_to_string("hold").unwrap();
    let Some(awaited) = hold.lines().next() else { return };
    let end = Instant::now() + Duration::from_secs(100);
    while !std::path::Path::new(awaited).exists() {
        assert!(Instant::now() < end, "nothing runs early");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!hold.contains("broken"), "broken");
}
"#;

/// Gives the tests of its package a variable.
const GIVER: &str = r#"
fn main() {
    println!("cargo::rerun-if-changed=given");
    println!("cargo::rustc-env=GIVEN={}", std::fs::read_to_string("given").unwrap());
}
"#;

/// A workspace whose package `a` tells that its tests run, and `b` and `c` wait for it.
struct Early {
    home: Home,
    mark: PathBuf,
}

impl Early {
    /// With one answer to learn from; `None` on a machine that runs nothing early.
    fn new() -> Option<Self> {
        Self::with("")
    }

    /// The same with these settings of the project.
    fn with(settings: &str) -> Option<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        if processors < 2 || !can_observe("early runs") {
            return None;
        }
        let mut home =
            Home::with(&[("Cargo.toml", "[workspace]\nmembers=['a','b','c']\nresolver='2'\n")]);
        for name in ["a", "b", "c"] {
            let manifest = format!(
                "[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n"
            );
            home.write(&format!("{name}/Cargo.toml"), &manifest);
            home.write(&format!("{name}/src/lib.rs"), "");
        }
        home.write("a/build.rs", GIVER);
        home.write("a/given", "0");
        for name in ["b", "c"] {
            home.write(&format!("{name}/build.rs"), SCRIPT);
            home.write(&format!("{name}/hold"), "");
        }
        home.write("b/tests/it.rs", "#[test] fn t() { env!(\"CARGO_BIN_EXE_b\"); }");
        // What tests reach is read from the objects of an incremental build.
        home.environment.set("CARGO_INCREMENTAL", "1");
        home.config("[log]\nlevel = 'debug'", &format!("debounce = '1h'\n{settings}"));
        let mark = home.base.join("out/mark");
        let this = Self { home, mark };
        this.prints("one");
        this.test("assert!(true);");
        this.ask().green_from("run");
        Some(this)
    }

    fn ask(&self) -> Answered {
        self.home.test(&["--no-daemon"])
    }

    /// Gives `a` a test that does this, and then tells that it has run.
    fn test(&self, body: &str) {
        let _ = fs::remove_file(&self.mark);
        let mark = format!("std::fs::write({:?}, \"\").unwrap();", self.mark);
        self.home.write("a/src/lib.rs", &format!("#[test] fn t() {{ {body} {mark} }}\n"));
    }

    /// Has the build of this package wait for that test.
    fn hold(&self, package: &str, more: &str) {
        let text = format!("{}\n{more}", self.mark.display());
        self.home.write(&format!("{package}/hold"), &text);
    }

    fn release(&self, package: &str) {
        self.home.write(&format!("{package}/hold"), "");
    }

    /// Has the program `b` print this.
    fn prints(&self, text: &str) {
        self.home.write("b/src/main.rs", &format!("fn main() {{ print!({text:?}) }}\n"));
    }

    /// A test body that wants the program `b` to print this.
    fn wants(&self, text: &str) -> String {
        let program = self.home.root.join("target/debug/b");
        format!(
            "let out = std::process::Command::new({program:?}).output().unwrap();\n\
             assert_eq!(out.stdout, {text:?}.as_bytes());"
        )
    }
}

/// Why the target of `a` has its verdict.
fn reason(answer: &Answered) -> &str {
    let target = answer.targets.iter().find(|target| target["package"] == "a").unwrap();
    target["reason"].as_str().unwrap()
}

#[test]
fn what_an_early_run_left_is_no_reason_to_run_it_again() {
    if takes_long() {
        return;
    }
    let Some(early) = Early::new() else { return };
    let left = early.home.base.join("left");
    early.test(&format!(
        "let left = std::path::Path::new({left:?}); assert!(!left.exists());\n\
         std::fs::create_dir(left).unwrap();"
    ));
    early.hold("c", "");
    let answer = early.ask();
    // A second run would be red.
    answer.green_from("mixed");
    assert_eq!(reason(&answer), EARLY);
    early.release("c");
    early.ask().red();
}

#[test]
fn a_program_runs_as_soon_as_it_is_linked() {
    if takes_long() {
        return;
    }
    let Some(early) = Early::new() else { return };
    // Its build script gives it another value than the last time.
    early.home.write("a/given", "1");
    early.test("assert_eq!(std::env::var(\"GIVEN\").unwrap(), \"1\");");
    early.hold("c", "");
    let answer = early.ask();
    answer.green_from("mixed");
    assert_eq!(reason(&answer), EARLY);
    assert!(answer.run().contains(&"a".to_owned()), "{answer:#?}");
    early.ask().green_from("cache");

    // A build that fails afterwards proves nothing of the tree, and all of the program.
    early.test("println!(\"2\");");
    let (go, before) = (early.home.base.join("out/go"), early.home.records());
    early.home.write("c/hold", &format!("{}\nbroken", go.display()));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| early.ask());
        until("the early run is recorded", || (early.home.records() > before).then_some(()));
        fs::write(&go, "").unwrap();
        asked.join().unwrap().error();
    });
    // The same tree again: its build fails at once.
    early.ask().error();
    let check = early.home.run(&["check"]);
    assert_eq!(check.code, Some(10), "{check:#?}");
    early.release("c");
    let answer = early.ask();
    answer.green();
    assert!(!answer.run().contains(&"a".to_owned()), "{answer:#?}");

    // What fails early fails again; what is repaired runs early again.
    early.test("if true { std::fs::write(MARK, \"\").unwrap(); panic!() }");
    let text = fs::read_to_string(early.home.root.join("a/src/lib.rs")).unwrap();
    let mark = format!("{:?}", early.mark);
    early.home.write("a/src/lib.rs", &text.replace("MARK", &mark));
    early.hold("c", "");
    let answer = early.ask();
    answer.red();
    assert_eq!(reason(&answer), "it failed while cargo built the rest, and again");
    early.test("println!(\"3\");");
    early.hold("c", "more");
    let answer = early.ask();
    answer.green();
    assert_eq!(reason(&answer), EARLY);
}

#[test]
fn where_tests_are_selected_a_program_runs_early_if_that_selects_all() {
    if takes_long() {
        return;
    }
    let Some(early) = Early::with("selection = 'on'") else { return };
    // There is nothing to compare with.
    early.test("println!(\"1\");");
    early.hold("c", "");
    let answer = early.ask();
    answer.green_from("mixed");
    assert_eq!(reason(&answer), EARLY);
    early.release("c");
    early.ask().green();
    let daemon = early.home.daemon();
    early.test("println!(\"2\");");
    early.home.test(&[]).green();
    compared(&daemon, 1);
    early.test("println!(\"2\"); /* a comment */");
    let answer = early.home.test(&[]);
    answer.green();
    assert_eq!(reason(&answer), "no test of it reaches what has changed");
    assert!(!early.mark.exists(), "it ran early");
    early.test("println!(\"3\");");
    early.hold("c", "");
    let answer = early.home.test(&[]);
    answer.green();
    assert_eq!(reason(&answer), EARLY);
    daemon.stop();
}

#[test]
fn a_run_of_what_is_replaced_afterwards_does_not_count() {
    if takes_long() {
        return;
    }
    let Some(early) = Early::new() else { return };
    // The program that it starts is built after it has run.
    early.test(&early.wants("one"));
    early.prints("two");
    early.hold("b", "");
    let answer = early.ask();
    answer.red();
    assert!(early.mark.exists() && reason(&answer) != EARLY, "{answer:#?}");
    early.test(&early.wants("two"));
    early.release("b");
    early.ask().green();

    // Now it is known to read that program, and waits for it; the build is held by another.
    early.test(&early.wants("three"));
    early.prints("three");
    early.hold("c", "");
    let answer = early.ask();
    answer.green();
    assert_eq!(reason(&answer), EARLY);

    // The first run puts another program in the place of its own.
    early.release("c");
    let replace = format!(
        "if !std::path::Path::new({:?}).exists() {{\n\
         let own = std::env::current_exe().unwrap();\n\
         let mut bytes = std::fs::read(&own).unwrap();\nbytes.push(0);\n\
         let new = own.with_extension(\"new\");\nstd::fs::copy(&own, &new).unwrap();\n\
         std::fs::write(&new, bytes).unwrap();\nstd::fs::rename(&new, &own).unwrap();\n}}",
        early.mark
    );
    early.test(&replace);
    early.hold("c", "again");
    let answer = early.ask();
    answer.green();
    assert!(answer.run().contains(&"a".to_owned()) && reason(&answer) != EARLY, "{answer:#?}");
}

#[test]
fn what_somebody_could_notice_does_not_run_early() {
    if takes_long() {
        return;
    }
    let Some(early) = Early::new() else { return };
    // It writes into the workspace, where cargo still reads.
    let write = |text: &str| format!("std::fs::write(\"noted\", {text:?}).unwrap();");
    early.test(&write("one"));
    early.ask().green();
    early.test(&write("two"));
    let answer = early.ask();
    answer.green();
    assert_ne!(reason(&answer), EARLY);
    early.test("println!(\"0\");");
    early.ask().green();
    early.test("println!(\"1\");");
    let run_all = early.home.test(&["--no-daemon", "--no-cache"]);
    run_all.green();
    assert_ne!(reason(&run_all), EARLY);
}
