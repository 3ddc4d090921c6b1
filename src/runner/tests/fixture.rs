//! A real test binary, compiled once for all tests, that does what its environment says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;

use crate::model::Harness;
use crate::model::{Outcome, TargetId, TargetKind, TargetReport};
use crate::process::{self, Environment, Spec};
use crate::runner::{RunnerOptions, TestJob};

/// The tests: `FAIL` fails `beta` and `res`; `NOISE` is printed to the real output by `noisy`;
/// `DIE` says how `last` ends.
const SOURCE: &str = r##"
use std::io::Write;
fn var(name: &str) -> String { std::env::var(name).unwrap_or_default() }
#[test] fn alpha() { println!("captured by alpha") }
#[test] fn beta() { println!("captured by beta"); assert!(var("FAIL").is_empty(), "beta is broken") }
#[test] #[ignore] fn gamma() {}
#[test] #[ignore = "because ... ok"] fn gamma_why() {}
#[test] #[should_panic] fn delta() { panic!("as it should") }
#[test] #[should_panic(expected = "this")] fn delta_bad() {
    if var("FAIL").is_empty() { panic!("this") } else { panic!("that") }
}
#[test] fn noisy() { std::io::stdout().write_all(var("NOISE").as_bytes()).unwrap(); }
#[test] fn res() -> Result<(), String> {
    if var("FAIL").is_empty() { Ok(()) } else { Err("bad".into()) }
}
#[test] fn zz_last() {
    match var("DIE").as_str() {
        "" => {}
        "abort" => std::process::abort(),
        "exit" => std::process::exit(7),
        "exit 0" => std::process::exit(0),
        "kill" => { std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status().unwrap(); }
        "segv" => unsafe { (8 as *mut u8).write_volatile(1) },
        "hang" => {
            let child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
            println!("{child:?}");
            std::fs::write(var("PIDS"), format!("{} {}", std::process::id(), child.id())).unwrap();
            loop { std::thread::park() }
        }
        "flood" => {
            let line = [b"x".repeat(99), b"\n".to_vec()].concat().repeat(10_000);
            for _ in 0..200 { std::io::stdout().write_all(&line).unwrap(); }
            panic!("after the flood");
        }
        other => panic!("{other}"),
    }
}
"##;

/// The tests that the binary holds, in its order.
pub(super) const ALL: [&str; 9] =
    ["alpha", "beta", "delta", "delta_bad", "gamma", "gamma_why", "noisy", "res", "zz_last"];

/// What a compiler needs of the environment that the tests were started in.
pub(super) fn environment() -> Environment {
    let kept = ["PATH", "HOME", "RUSTUP_HOME", "CARGO_HOME", "RUSTUP_TOOLCHAIN", "TMPDIR"];
    let inherited = Environment::inherited();
    let kept = kept.iter().filter_map(|name| Some((name.into(), inherited.get(name)?.into())));
    kept.collect::<Environment>()
}

/// Compiles `source` as a test binary.
pub(super) fn compile(dir: &Path, name: &str, source: &str) -> PathBuf {
    let file = dir.join(format!("{name}.rs"));
    std::fs::write(&file, source).unwrap();
    let binary = dir.join(name);
    let mut environment = environment();
    environment.set("RUSTC_BOOTSTRAP", "1");
    let spec = Spec::new("rustc", dir, environment)
        .args(["--edition", "2024", "--test", "-Cdebuginfo=0", "-Awarnings", "-o"])
        .arg(&binary)
        .arg(&file);
    let output = process::capture(&spec, Duration::from_secs(300)).unwrap();
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    binary
}

/// The binary, compiled by whoever needs it first.
pub(super) fn binary() -> &'static Path {
    static BINARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, binary) = BINARY.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let binary = compile(dir.path(), "behaves", SOURCE);
        (dir, binary)
    });
    binary
}

pub(super) fn id(target: &str) -> TargetId {
    TargetId { package: "p".into(), target: target.into(), kind: TargetKind::Test }
}

/// A job that runs the fixture.
pub(super) fn job(args: &[&str], variables: &[(&str, &str)]) -> TestJob {
    let mut environment = environment();
    for (name, value) in variables {
        environment.set(name, value);
    }
    let args = args.iter().map(OsString::from).collect();
    TestJob::new(id("behaves"), binary(), args, "/", environment, Harness::Libtest)
}

/// A job that runs a shell script with another harness.
pub(super) fn script(name: &str, script: &str, harness: Harness) -> TestJob {
    let args = ["-c", script].map(OsString::from).to_vec();
    TestJob::new(id(name), "/bin/sh", args, "/", environment(), harness)
}

/// Runs one job that nobody cancels.
pub(super) async fn run(job: TestJob) -> TargetReport {
    let reports = crate::runner::run(&[job], &RunnerOptions::default(), |_| {}).await;
    reports.into_iter().next().flatten().expect("not cancelled")
}

/// The names with this outcome.
pub(super) fn names(report: &TargetReport, outcome: Outcome) -> Vec<&str> {
    let tests = report.tests.iter().filter(|test| test.outcome == outcome);
    tests.map(|test| test.name.as_str()).collect()
}
