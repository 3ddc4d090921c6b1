//! Whether the tests that a change selects are all tests that it can break.
//!
//! ```text
//! cargo bench --bench reach -- WORKSPACE [MUTANTS] [SEED]
//! ```
//!
//! Breaks `MUTANTS` (50) places of a workspace, one at a time: by turns a function that panics at
//! once, and an operator or a constant that becomes another. After each build it compares what
//! every test reaches with what it reached before, runs every test program that differs or that
//! starts a program that differs, and looks for failures among the tests that were not selected.
//! There must be none; the exit status says so.
//!
//! WORKSPACE has to be a copy that is under git: it is built in, and its files are written to and
//! put back. The places come from all its files of Rust but those of tests, benchmarks, examples
//! and build scripts. A test that fails without a change is left out. A failure is looked at again
//! in a process of its own before it counts as missed, because tests of one process disturb each
//! other.

#![allow(clippy::disallowed_methods, reason = "cargo and tests run as a shell would run them")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use knhk_test_cache::internals::model::Digest;
use knhk_test_cache::internals::reach::{Masking, Policy, ReachReader, TestIdentity};
use serde_json::Value;

const USAGE: &str = "cargo bench --bench reach -- WORKSPACE [MUTANTS] [SEED]";
/// Limits for the run of one test program, and of one test.
const PROGRAM_RUN: Duration = Duration::from_secs(120);
const TEST_RUN: Duration = Duration::from_secs(20);
/// The text that makes a function panic.
const BREAK: &str = "\nif true { panic!(\"broken\") }\n";
/// Operators and constants with their replacements.
const EXCHANGES: [(&str, &str); 9] = [
    (" == ", " != "),
    (" != ", " == "),
    (" < ", " >= "),
    (" && ", " || "),
    (" || ", " && "),
    (" + 1", " + 2"),
    (" - 1", " - 0"),
    ("(true)", "(false)"),
    ("(false)", "(true)"),
];

fn main() -> ExitCode {
    // Without arguments this is `cargo test --benches`, which only wants to know that it starts.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |at: usize, default: u64| words.get(at).map_or(Ok(default), |word| word.parse());
    let (Some(workspace), Ok(mutants), Ok(seed)) = (words.first(), number(1, 50), number(2, 1))
    else {
        if words.is_empty() {
            return ExitCode::SUCCESS;
        }
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match measure(Path::new(workspace), mutants, seed) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            eprintln!("{missed} failures were missed");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// One test program of a build.
struct TestProgram {
    /// Its package and target.
    target: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// The programs of one build.
struct Programs {
    tests: Vec<TestProgram>,
    /// Programs that tests can start.
    started: Vec<PathBuf>,
}

/// A test by its target and name.
type TestName = (String, String);

/// A tree's tests with what each depends on.
#[derive(Default)]
struct Seen {
    strict: BTreeMap<TestName, TestIdentity>,
    masked: BTreeMap<TestName, TestIdentity>,
    /// Each program's bytes.
    whole: BTreeMap<String, Digest>,
    /// The bytes of what tests can start.
    started: Vec<Digest>,
    /// The time that the engine needed for everything.
    took: Duration,
}

#[derive(Default)]
struct Tally {
    broken: usize,
    uncompiled: usize,
    harmful: usize,
    failures: usize,
    disturbed: usize,
    missed: Vec<String>,
    /// Shares of all tests that were selected, one for each change.
    strict: Vec<f64>,
    masked: Vec<f64>,
    binary: Vec<f64>,
    took: Vec<Duration>,
}

struct Bench {
    workspace: PathBuf,
    sysroot: PathBuf,
    scratch: tempfile::TempDir,
}

fn measure(workspace: &Path, mutants: u64, seed: u64) -> Result<usize, String> {
    let workspace = workspace.canonicalize().map_err(|error| error.to_string())?;
    let sysroot =
        Command::new("rustc").args(["--print", "sysroot"]).current_dir(&workspace).output();
    let sysroot = sysroot.map_err(|error| format!("rustc: {error}"))?.stdout;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let bench = Bench { workspace, sysroot, scratch };
    let mut mutations = bench.mutations()?;
    println!("{} functions, {} operators and constants", mutations[0].len(), mutations[1].len());
    let programs = bench.build()?.ok_or("the workspace does not build")?;
    let before = bench.look(&programs)?;
    let mut always = BTreeSet::new();
    for program in &programs.tests {
        let (failed, _) = bench.run(program, None, PROGRAM_RUN)?;
        always.extend(failed.into_iter().map(|name| (program.target.clone(), name)));
    }
    println!(
        "{} tests of {} programs, looked at in {:.2} s; {} fail always",
        before.strict.len(),
        programs.tests.len(),
        before.took.as_secs_f64(),
        always.len()
    );
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut tally = Tally::default();
    while (tally.broken as u64) < mutants {
        let kind = &mut mutations[tally.broken % 2];
        if kind.is_empty() {
            break;
        }
        let mutation = kind.swap_remove(random.below(kind.len()));
        let text = fs::read_to_string(&mutation.file).map_err(|error| error.to_string())?;
        let mut broken = text.clone();
        broken.replace_range(mutation.place.clone(), mutation.by);
        let judged = fs::write(&mutation.file, broken)
            .map_err(|error| error.to_string())
            .and_then(|()| bench.judge(&mutation, &before, &always, &mut tally));
        fs::write(&mutation.file, text).map_err(|error| error.to_string())?;
        judged?;
    }
    tally.print();
    Ok(tally.missed.len())
}

/// One change of one file.
struct Mutation {
    file: PathBuf,
    name: String,
    place: Range<usize>,
    by: &'static str,
}

impl Bench {
    /// Functions that may panic, and operators and constants that may become others.
    fn mutations(&self) -> Result<[Vec<Mutation>; 2], String> {
        let listed = Command::new("git")
            .args(["ls-files", "*.rs"])
            .current_dir(&self.workspace)
            .output()
            .map_err(|error| format!("git: {error}"))?;
        let mut mutations = [Vec::new(), Vec::new()];
        for file in String::from_utf8_lossy(&listed.stdout).lines() {
            let aside = ["tests", "benches", "examples", "fuzz"];
            if file.split('/').any(|part| aside.contains(&part) || part == "build.rs") {
                continue;
            }
            let path = self.workspace.join(file);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let mutation = |name: String, place, by| Mutation {
                file: path.clone(),
                name: format!("{file}: {name}"),
                place,
                by,
            };
            let functions = bodies(&text).into_iter();
            mutations[0].extend(functions.map(|(name, body)| mutation(name, body..body, BREAK)));
            for (from, by) in EXCHANGES {
                let places = places(&text, from).into_iter();
                mutations[1].extend(places.map(|at| {
                    let line = text[..at].matches('\n').count() + 1;
                    mutation(format!("{line}:{from}->{by}"), at..at + from.len(), by)
                }));
            }
        }
        Ok(mutations)
    }

    /// The test programs and what they start; `None` if it does not compile.
    fn build(&self) -> Result<Option<Programs>, String> {
        let built = Command::new("cargo")
            .args(["test", "--workspace", "--no-run", "--offline", "--message-format=json"])
            .current_dir(&self.workspace)
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        if !built.status.success() {
            return Ok(None);
        }
        let mut programs = Programs { tests: Vec::new(), started: Vec::new() };
        for line in String::from_utf8_lossy(&built.stdout).lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            let Some(executable) = message["executable"].as_str() else { continue };
            let executable = PathBuf::from(executable);
            if message["profile"]["test"] == true {
                let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
                let folder = manifest.parent().unwrap_or(&self.workspace).to_owned();
                let target = format!(
                    "{} {} {}",
                    folder.file_name().unwrap_or_default().display(),
                    message["target"]["kind"][0],
                    message["target"]["name"]
                );
                programs.tests.push(TestProgram { target, executable, folder });
            } else if message["target"]["kind"][0] == "bin" {
                programs.started.push(executable);
            }
        }
        Ok(Some(programs))
    }

    fn look(&self, programs: &Programs) -> Result<Seen, String> {
        let begun = Instant::now();
        let mut seen = Seen::default();
        let whole = |path: &Path| fs::read(path).map(|bytes| Digest::of(&bytes));
        let mut reader = ReachReader::new(&self.sysroot).map_err(|error| error.to_string())?;
        let started = reader.programs(&programs.started).map_err(|error| error.to_string())?;
        // Without a record of what tests started, those of the whole workspace count.
        let strict = Policy { masking: Masking::Nothing, programs: started, starts_itself: false };
        let masked = Policy { masking: Masking::All, ..strict };
        for program in &programs.tests {
            match reader.tests(&program.executable) {
                Ok(tests) => {
                    for (name, reached) in tests {
                        let name = (program.target.clone(), name);
                        seen.strict.insert(name.clone(), reached.identity(&strict));
                        seen.masked.insert(name, reached.identity(&masked));
                    }
                }
                Err(why) => return Err(format!("{}: {why}", program.executable.display())),
            }
        }
        seen.took = begun.elapsed();
        for program in &programs.tests {
            let digest = whole(&program.executable).map_err(|error| error.to_string())?;
            seen.whole.insert(program.target.clone(), digest);
        }
        let started = programs.started.iter().map(|path| whole(path));
        seen.started = started.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        Ok(seen)
    }

    /// Builds and runs the tree with one change.
    fn judge(
        &self,
        mutation: &Mutation,
        before: &Seen,
        always: &BTreeSet<TestName>,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let Some(programs) = self.build()? else {
            tally.uncompiled += 1;
            return Ok(());
        };
        let after = self.look(&programs)?;
        let strict = selected(&before.strict, &after.strict, before, &after);
        let masked = selected(&before.masked, &after.masked, before, &after);
        let mut differing = 0;
        let mut failures = 0;
        for program in &programs.tests {
            let tests = after.strict.keys().filter(|(target, _)| *target == program.target);
            let tests: Vec<_> = tests.collect();
            let same = before.whole.get(&program.target) == after.whole.get(&program.target);
            if same && (before.started == after.started || !program.target.contains("\"test\"")) {
                continue;
            }
            differing += tests.len();
            let (mut failed, ended) = self.run(program, None, PROGRAM_RUN)?;
            if !ended {
                // It stopped in the middle, so the tests that were not selected run one by one.
                for (target, name) in tests {
                    let name = (target.clone(), name.clone());
                    if !strict.contains(&name) || !masked.contains(&name) {
                        failed.extend(self.run(program, Some(&name.1), TEST_RUN)?.0);
                    }
                }
            }
            for name in failed {
                let test = (program.target.clone(), name);
                if always.contains(&test) {
                    continue;
                }
                failures += 1;
                let missed = [("strict", &strict), ("masked", &masked)]
                    .into_iter()
                    .filter(|(_, selected)| !selected.contains(&test))
                    .map(|(mode, _)| mode)
                    .collect::<Vec<_>>();
                if missed.is_empty() {
                    continue;
                }
                if self.run(program, Some(&test.1), TEST_RUN)?.0.is_empty() {
                    tally.disturbed += 1;
                } else {
                    tally.missed.push(format!("{}: {test:?} by {missed:?}", mutation.name));
                }
            }
        }
        let all = after.strict.len() as f64;
        tally.broken += 1;
        tally.harmful += usize::from(failures > 0);
        tally.failures += failures;
        tally.strict.push(strict.len() as f64 / all);
        tally.masked.push(masked.len() as f64 / all);
        tally.binary.push(differing as f64 / all);
        tally.took.push(after.took);
        println!(
            "{:3} {}: {failures} failed of {differing}, selected {} strict, {} masked, missed {}",
            tally.broken,
            mutation.name,
            strict.len(),
            masked.len(),
            tally.missed.len()
        );
        // A log that is read while it grows.
        let _ = std::io::stdout().flush();
        Ok(())
    }

    /// The tests that failed, and whether the program ended by itself with a summary.
    fn run(
        &self,
        program: &TestProgram,
        only: Option<&str>,
        limit: Duration,
    ) -> Result<(Vec<String>, bool), String> {
        let log = self.scratch.path().join("log");
        let temporary = self.scratch.path().join("tmp");
        fs::create_dir_all(&temporary).map_err(|error| error.to_string())?;
        let output = File::create(&log).map_err(|error| error.to_string())?;
        let mut command = Command::new(&program.executable);
        command
            .current_dir(&program.folder)
            .env("CARGO_MANIFEST_DIR", &program.folder)
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::null());
        if let Some(name) = only {
            command.args(["--exact", name]);
        }
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break Some(status);
            }
            if begun.elapsed() > limit {
                // The child may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let text = fs::read(&log).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&text);
        let line = |line: &str| {
            let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
            Some(name.trim_end_matches(" - should panic").to_owned())
        };
        let mut failed: Vec<_> = text.lines().filter_map(line).collect();
        let ended = status.is_some() && text.contains("test result: ");
        // A single test that takes its process down, or does not end, has failed.
        if let (Some(name), false) = (only, ended) {
            failed = vec![name.to_owned()];
        }
        Ok((failed, ended))
    }
}

/// The tests that are new or depend on something else than before.
fn selected(
    old: &BTreeMap<TestName, TestIdentity>,
    new: &BTreeMap<TestName, TestIdentity>,
    before: &Seen,
    after: &Seen,
) -> BTreeSet<TestName> {
    let differs = |(name, identity): &(&TestName, &TestIdentity)| match identity {
        TestIdentity::Reached(_) => old.get(name) != Some(identity),
        TestIdentity::WholeProgram(_) => {
            old.get(name) != Some(identity)
                || before.whole.get(&name.0) != after.whole.get(&name.0)
                || before.started != after.started
        }
    };
    new.iter().filter(differs).map(|(name, _)| name.clone()).collect()
}

impl Tally {
    fn print(&self) {
        for missed in &self.missed {
            println!("MISSED {missed}");
        }
        let mean = |shares: &[f64]| 100.0 * shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        let median = |shares: &[f64]| {
            let mut shares = shares.to_vec();
            shares.sort_by(f64::total_cmp);
            100.0 * shares.get(shares.len() / 2).copied().unwrap_or_default()
        };
        let looked: Vec<_> = self.took.iter().map(Duration::as_secs_f64).collect();
        println!("| changes | {} |\n|---|--:|", self.broken);
        println!("| of them, with failing tests | {} |", self.harmful);
        println!("| more that did not compile | {} |", self.uncompiled);
        println!("| failures | {} |", self.failures);
        println!("| failures only beside other tests | {} |", self.disturbed);
        println!("| failures missed | {} |", self.missed.len());
        for (name, shares) in [
            ("selected, strict", &self.strict),
            ("selected, masked", &self.masked),
            ("in programs that differ", &self.binary),
        ] {
            println!("| {name}: mean, median | {:.1} %, {:.1} % |", mean(shares), median(shares));
        }
        println!("| looking at all programs, median | {:.2} s |", median(&looked) / 100.0);
    }
}

/// The places of `what` in the code of a file of Rust before its tests.
fn places(text: &str, what: &str) -> Vec<usize> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    let is_code = |at: &usize| {
        let line = text[..*at].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line..*at].trim_start();
        !line.contains("//") && !line.starts_with('#') && !line.starts_with("debug_assert")
    };
    text[..end].match_indices(what).map(|(at, _)| at).filter(is_code).collect()
}

/// The functions in a file of Rust before its tests, with the places of their bodies.
fn bodies(text: &str) -> Vec<(String, usize)> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    let mut found = Vec::new();
    let mut at = 0;
    for line in text[..end].split_inclusive('\n') {
        let start = at;
        at += line.len();
        let words = line.trim_start();
        let heads = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn "];
        let Some(head) = heads.iter().find_map(|head| words.strip_prefix(head)) else { continue };
        let name =
            head.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        // The body begins with the first brace at the end of a line, unless there is none.
        let rest = &text[start..end];
        let body = rest.find("{\n");
        if let Some(body) = body.filter(|body| !rest[..*body].contains(';')) {
            found.push((name.to_owned(), start + body + 1));
        }
    }
    found
}

/// A small generator of numbers that are random enough to choose functions by.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
