//! What being observed costs, as a ratio within one run.
//!
//! `cargo bench --bench observer` measures a program that only computes (the bar is 1.01) and one
//! that spawns 500 shells (1.6), whose loaders search the folders that cargo puts into
//! `LD_LIBRARY_PATH`. `cargo bench --bench observer -- CHECKOUT` also measures the test suite of that
//! cargo workspace, with one and two test threads (1.10). On a machine that does other things look
//! at the processor time, in which waiting for others does not count.
//!
//! `OBSERVER_BENCH_ROUNDS` is how often each is run (15). `OBSERVER_BENCH_PATHS=1` lists what the
//! last run was seen to use. `OBSERVER_BENCH_ALL=1` has the dynamic loader's search for libraries
//! notified as well, as in targets that load libraries or make code at run time.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use knhk_test_cache::internals::observer::{LoaderCalls, Observation, ObserveOptions, Observer};
use knhk_test_cache::internals::process::{Environment, Spec, capture};

const LIMIT: Duration = Duration::from_secs(600);

fn main() {
    if let Err(reason) = Observer::available() {
        println!("observer: skipped: {reason}");
        return;
    }
    let environment = Environment::inherited();
    let variable = |name: &str| environment.get(name).map(PathBuf::from);
    let rounds = variable("OBSERVER_BENCH_ROUNDS")
        .and_then(|text| text.to_str()?.parse().ok())
        .unwrap_or(15);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let actor = compile(folder.path(), &environment);
    let computing = Spec::new(&actor, folder.path(), environment.clone()).arg("compute");
    compare("computing", &[computing], rounds);
    let target = folder.path().join("target/debug");
    let cargos = with_library_path(environment.clone(), &target);
    let spawns = Spec::new(&actor, folder.path(), cargos).args(["shells", "500"]);
    compare("500 spawns", &[spawns], rounds);
    // The cost of one call, apart from everything that a real program does between two.
    let storm = Spec::new(&actor, folder.path(), environment.clone()).args([
        "storm",
        "50000",
        "a",
        "b",
        "/usr/bin/env",
    ]);
    let mut calls: Vec<f64> = (0..rounds).map(|_| time_of_a_call(&storm)).collect();
    println!("observer: one call {:.2} us (median)", median(&mut calls));
    println!("observer: one call {:.2} us (fastest)", calls[0]);
    if let Some(checkout) = std::env::args_os().skip(1).find(|arg| arg != "--bench") {
        let checkout = PathBuf::from(checkout).canonicalize().expect("a checkout");
        for threads in ["1", "2"] {
            let suite = suite(&checkout, &environment, threads);
            compare(&format!("suite, {threads} test threads"), &suite, rounds);
        }
    }
}

/// The test programs of a workspace, as cargo would run them.
fn suite(checkout: &Path, environment: &Environment, threads: &str) -> Vec<Spec> {
    let args = ["test", "--workspace", "--no-run", "--message-format=json"];
    let build = capture(&Spec::new("cargo", checkout, environment.clone()).args(args), LIMIT);
    let build = build.expect("cargo starts");
    assert!(build.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let target = checkout.join("target/debug");
    let environment = with_library_path(environment.clone(), &target);
    let mut suite = Vec::new();
    for line in String::from_utf8_lossy(&build.stdout).lines() {
        let message: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let (Some(program), Some(true), Some(manifest)) = (
            message["executable"].as_str(),
            message["profile"]["test"].as_bool(),
            message["manifest_path"].as_str(),
        ) else {
            continue;
        };
        let package = Path::new(manifest).parent().expect("a folder");
        let mut environment = environment.clone();
        environment.set("CARGO_MANIFEST_DIR", package);
        let spec = Spec::new(program, package, environment);
        suite.push(spec.args(["--test-threads", threads]));
    }
    suite
}

/// Adds what cargo sets for every test program, which most of the dynamic loader's work is due to.
fn with_library_path(mut environment: Environment, target: &Path) -> Environment {
    let print = Spec::new("rustc", "/", environment.clone());
    let print = capture(&print.args(["--print", "target-libdir"]), LIMIT).expect("rustc starts");
    let library = PathBuf::from(String::from_utf8_lossy(&print.stdout).trim());
    let folders = [target.join("build/native/out"), target.join("deps"), target.into(), library];
    environment.set("LD_LIBRARY_PATH", std::env::join_paths(folders).expect("no colons"));
    environment
}

fn compile(folder: &Path, environment: &Environment) -> PathBuf {
    let program = folder.join("actor");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/programs/observed.rs");
    let spec = Spec::new("rustc", folder, environment.clone())
        .args(["--edition=2024", "-Copt-level=1", "-o"])
        .arg(&program)
        .arg(source);
    assert!(capture(&spec, LIMIT).expect("rustc starts").success());
    program
}

/// Runs the two in turn, so that whatever else the machine does meets both, and compares the
/// medians and the fastest.
fn compare(name: &str, specs: &[Spec], rounds: usize) {
    let (mut plain, mut observed, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut plain_work, mut observed_work) = (0.0, 0.0);
    let mut last = Vec::new();
    for _ in 0..rounds {
        let start = work();
        let without = time(|| specs.iter().for_each(run));
        let between = work();
        plain_work += between - start;
        let mut seen = Vec::new();
        let with = time(|| {
            for spec in specs {
                let (spec, running) = Observer::observe(spec, options()).expect("available");
                run(&spec);
                seen.push(running.finish());
            }
        });
        observed_work += work() - between;
        plain.push(without);
        observed.push(with);
        ratios.push(with / without);
        last = seen;
    }
    let sum = |count: fn(&Observation) -> usize| last.iter().map(count).sum::<usize>();
    let problems: Vec<_> = last.iter().flat_map(|seen| &seen.problems).collect();
    println!(
        "observer {name}: median {:.3} s plain, {:.3} s observed, ratio of medians {:.3}, \
         median ratio {:.3}, ratio of the fastest {:.3}, processor time {plain_work:.2} and \
         {observed_work:.2} s, ratio {:.3}; {} calls, {} paths, {} inputs, problems {problems:?}",
        median(&mut plain),
        median(&mut observed),
        median(&mut observed.clone()) / median(&mut plain.clone()),
        median(&mut ratios),
        observed[0] / plain[0],
        observed_work / plain_work,
        last.iter().map(|seen| seen.calls).sum::<u64>(),
        sum(|seen| seen.paths.len()),
        sum(|seen| seen.inputs().count()),
    );
    if std::env::var_os("OBSERVER_BENCH_PATHS").is_some() {
        for (path, seen) in last.iter().flat_map(|seen| &seen.paths) {
            println!("{:?} {:?} {} {:?}", seen.uses, seen.class, path.display(), seen.first);
        }
    }
}

/// As `test` observes.
fn options() -> ObserveOptions {
    let mut options = ObserveOptions::default();
    if std::env::var_os("OBSERVER_BENCH_ALL").is_none() {
        options.loader_calls = LoaderCalls::SearchPasses;
    }
    options
}

/// What the storm says of itself, observed, in microseconds.
fn time_of_a_call(storm: &Spec) -> f64 {
    let (spec, running) = Observer::observe(storm, options()).expect("available");
    let output = capture(&spec, LIMIT).expect("it starts");
    drop(running);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

fn run(spec: &Spec) {
    let output = capture(spec, LIMIT).expect("it starts");
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Processor time of this process and its children that have ended, in seconds.
fn work() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').skip(11).take(4);
    // Ticks are hundredths of a second on every Linux that runs Rust.
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn time(work: impl FnOnce()) -> f64 {
    let started = Instant::now();
    work();
    started.elapsed().as_secs_f64()
}

/// Sorts, and returns the middle.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
