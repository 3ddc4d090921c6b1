//! `exec` as cargo's runner: plain `cargo test` answered from records.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod contradictions;
mod editors;
mod nextest;
pub(crate) mod terminal;

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::home::{EXE, Home, LIMIT, Ran, SOON, can_observe, until, until_old};

/// Cargo with us as its runner, by both of its streams.
fn cargo(home: &Home, args: &[&str]) -> Ran {
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    let args = [&["--config", &runner], args].concat();
    home.start("cargo", &args).end(LIMIT)
}

/// The same in another checkout.
fn cargo_in(home: &Home, root: &Path, args: &[&str]) -> Ran {
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    home.start_in(root, "cargo", &[&["--config", &runner], args].concat(), false).end(LIMIT)
}

/// A workspace that is ready to be asked: built, and so old that its files are settled.
fn built(files: &[(&str, &str)]) -> Option<Home> {
    if !can_observe("exec as cargo's runner") {
        return None;
    }
    let home = Home::with(files);
    let ran = cargo(&home, &["test", "--no-run"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    until_old(&home.root.join("src/lib.rs"));
    Some(home)
}

impl Ran {
    /// How many test programs were answered from their records.
    fn cached(&self) -> usize {
        self.stderr.lines().filter(|line| line.contains("is cached:")).count()
    }

    #[track_caller]
    fn is(&self, code: i32, cached: usize) -> &Self {
        assert_eq!((self.code, self.cached()), (Some(code), cached), "{self:#?}");
        self
    }
}

const READS: &str =
    "#[test] fn reads() { assert_ne!(std::fs::read(\"data\").unwrap(), b\"bad\") }\n";

/// The same program from another text.
const READS_WITH_COMMENT: &str =
    "#[test] fn reads() { assert_ne!(std::fs::read(\"data\").unwrap(), b\"bad\") } // more\n";

/// Fails with the data with which the others pass.
const READS_AND_FAILS: &str =
    "#[test] fn reads() { assert_ne!(std::fs::read(\"data\").unwrap(), b\"1\") }\n";

#[test]
fn plain_cargo_test_is_answered_from_records_until_something_counts() {
    let Some(home) = built(&[("data", "1"), ("tests/it.rs", READS)]) else { return };
    let first = cargo(&home, &["test"]);
    first.is(0, 0);
    let second = cargo(&home, &["test"]);
    assert_eq!(second.is(0, 2).stdout, first.stdout, "even the time that it took");
    assert!(second.stdout.contains("test reads ... ok"), "{second:#?}");
    // Another call of the same program is another one.
    cargo(&home, &["test", "reads"]).is(0, 0);
    cargo(&home, &["test", "reads"]).is(0, 2);
    home.write("data", "2");
    cargo(&home, &["test"]).is(0, 1);
    home.write("data", "bad");
    cargo(&home, &["test", "--no-fail-fast"]).is(101, 1);
    cargo(&home, &["test", "--no-fail-fast"]).is(101, 1);
    home.write("data", "1");
    cargo(&home, &["test"]).is(0, 2);
    // Built anew, and the same program.
    home.write("tests/it.rs", READS_WITH_COMMENT);
    cargo(&home, &["test"]).is(0, 2);
    home.write("tests/it.rs", READS_AND_FAILS);
    cargo(&home, &["test", "--test", "it"]).is(101, 0);
}

#[test]
fn another_checkout_is_answered_where_its_program_is_the_same() {
    // Together with the path it is longer than the constants (of 4 to 32 bytes) that a linker merges, in an
    // order that depends on their letters.
    let held = "#[test] fn t() { assert!(std::fs::exists(concat!(env!(\"CARGO_MANIFEST_DIR\"), \
                \"/./././././././././data\")).unwrap()) }\n";
    let files = [("data", "1"), ("tests/held.rs", held), ("tests/it.rs", READS)];
    let Some(home) = built(&files) else { return };
    cargo(&home, &["test"]).is(0, 0);
    let copy = |name: &str| {
        let root = home.base.join(name);
        for folder in ["src", "tests"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in
            ["Cargo.toml", "Cargo.lock", "src/lib.rs", "data", "tests/held.rs", "tests/it.rs"]
        {
            fs::copy(home.root.join(file), root.join(file)).unwrap();
        }
        assert_eq!(cargo_in(&home, &root, &["test", "--no-run"]).code, Some(0));
        root
    };
    // A path of one length, and a longer one, which moves what follows it in a program.
    let (near, far) = (copy("wt"), copy("longer"));
    until_old(&far.join("data"));
    for (root, cached) in [(&near, 3), (&far, 2)] {
        let ran = cargo_in(&home, root, &["test"]);
        ran.is(0, cached);
        assert!(ran.stderr.contains(&format!(" ago in {}, ", home.root.display())), "{ran:#?}");
    }
    cargo_in(&home, &far, &["test"]).is(0, 3);
    fs::write(near.join("data"), "bad").unwrap();
    cargo_in(&home, &near, &["test", "--no-fail-fast"]).is(101, 1);
    fs::write(far.join("tests/it.rs"), READS_AND_FAILS).unwrap();
    cargo_in(&home, &far, &["test", "--no-fail-fast"]).is(101, 2);
}

#[test]
fn a_config_may_say_that_a_target_always_runs() {
    let Some(home) = built(&[("tests/to_it.rs", "#[test] fn t() {}\n")]) else { return };
    cargo(&home, &["test"]).is(0, 0);
    cargo(&home, &["test"]).is(0, 2);
    home.config("", "always_run = ['*::to-it']");
    cargo(&home, &["test"]).is(0, 1);
    home.config("", "ttl = '1ms'");
    cargo(&home, &["test"]).is(0, 0);
}

#[test]
fn variables_count_and_a_custom_harness_is_passed_through() {
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n\
                    [[test]]\nname='own-one'\npath='tests/x.rs'\nharness=false\n";
    let own =
        "fn main() { println!(\"running 0 tests\\n\\ntest result: ok. 0 passed; 0 failed\") }";
    let files = [("Cargo.toml", manifest), ("tests/x.rs", own)];
    let Some(mut home) = built(&files) else { return };
    cargo(&home, &["test"]).is(0, 0);
    cargo(&home, &["test"]).is(0, 1);
    home.environment.set("MODE", "other");
    cargo(&home, &["test"]).is(0, 0);
}

#[test]
fn programs_that_run_no_tests_are_passed_through() {
    let main = "fn main() { let args: Vec<_> = std::env::args().skip(1).collect();\n\
                println!(\"{args:?}\"); std::process::exit(7) }\n";
    let Some(home) = built(&[("src/main.rs", main)]) else { return };
    for _ in 0..2 {
        let ran = cargo(&home, &["run", "-q", "--", "--x", "y"]);
        assert_eq!(ran.is(7, 0).stdout, "[\"--x\", \"y\"]\n");
        let ran = cargo(&home, &["test", "--lib", "--", "--list"]);
        assert!(ran.is(0, 0).stdout.contains("one: test"), "{ran:#?}");
    }
    assert_eq!(home.records(), 0);
}

#[test]
fn exit_status_and_signals_are_those_of_the_program() {
    let files = [
        ("tests/aborts.rs", "#[test] fn t() { std::process::abort() }\n"),
        ("tests/exits.rs", "#[test] fn t() { std::process::exit(3) }\n"),
        (
            "tests/waits.rs",
            "#[test] fn t() { std::fs::write(std::env::var(\"MARK\").unwrap(), \
                            \"\").unwrap(); std::thread::sleep(std::time::Duration::MAX) }\n",
        ),
    ];
    let Some(mut home) = built(&files) else { return };
    let ran = cargo(&home, &["test", "--test", "aborts"]);
    assert!(ran.is(101, 0).stderr.contains("signal: 6, SIGABRT"), "{ran:#?}");
    let ran = cargo(&home, &["test", "--test", "exits"]);
    assert!(ran.stderr.contains("exit status: 3"), "{ran:#?}");
    // To compare with: no answers.
    assert_eq!(home.records(), 2);
    cargo(&home, &["test", "--test", "aborts"]).is(101, 0);
    // Sent to us alone.
    let mark = home.base.join("out/mark");
    let name = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let deps = fs::read_dir(home.root.join("target/debug/deps")).unwrap();
    let waits = deps
        .map(|entry| entry.unwrap().path())
        .find(|path| name(path).starts_with("waits-") && path.extension().is_none());
    home.environment.set("MARK", &mark);
    home.environment.set("CARGO_MANIFEST_DIR", home.root.clone());
    home.environment.set("CARGO_PKG_NAME", "p");
    let started = home.start(EXE, &["exec", waits.unwrap().to_str().unwrap()]);
    until("the test waits", || mark.exists().then_some(()));
    started.signal(Signal::TERM);
    assert_eq!(started.end(SOON).code, None, "ended by the signal");
    assert_eq!(home.left_over(), Vec::<String>::new());
}

#[test]
fn a_program_that_is_not_there_is_a_clear_error() {
    let home = Home::new();
    let ran = home.run(&["exec", "/nowhere/program", "--list"]);
    assert_eq!(ran.code, Some(127), "{ran:#?}");
    assert!(ran.stderr.contains("cannot start `/nowhere/program`"), "{ran:#?}");
    let ran = home.run(&["exec", "/bin/sh", "-c", "exit 9"]);
    assert_eq!(ran.code, Some(9), "{ran:#?}");
}

#[test]
fn cargo_accepts_the_printed_config() {
    let Some(mut home) = built(&[]) else { return };
    let lines = home.ok(&["config", "cargo"]);
    assert!(lines.contains(EXE), "{lines}");
    home.write(".cargo/config.toml", &lines);
    home.start("cargo", &["test"]).end(LIMIT).is(0, 0);
    home.start("cargo", &["test"]).end(LIMIT).is(0, 1);
    home.environment.set("KNHK_TEST_CACHE_EXEC", "off");
    home.start("cargo", &["test"]).end(LIMIT).is(0, 0);
}

#[test]
fn inherited_limits_and_umask_are_part_of_a_call() {
    let test = "#[test] fn t() { let all: Vec<_> = (0..60)\n\
                .map(|_| std::fs::File::open(\"Cargo.toml\").unwrap()).collect(); drop(all) }\n";
    let Some(home) = built(&[("tests/it.rs", test)]) else { return };
    let runner = format!("--config \"target.'cfg(all())'.runner=['{EXE}', 'exec']\"");
    let shell = |first: &str| {
        let line = format!("{first}; exec cargo {runner} test --test it");
        home.start("sh", &["-c", &line]).end(LIMIT)
    };
    shell("umask 022").is(0, 0);
    shell("umask 022").is(0, 1);
    shell("umask 077").is(0, 0);
    shell("umask 022").is(0, 1);
    shell("umask 022; ulimit -n 50").is(101, 0);
}
