//! What the arguments of a test program say, and what its output does.

use std::ffi::{OsStr, OsString};

use crate::model::{Outcome, TestCounts, TestReport};
use crate::process::Environment;

/// Libtest's options by which the tests that run, or how many at a time, are chosen.
const PLAIN: &[&str] = &["--exact", "--test", "-q", "--quiet", "--ignored", "--include-ignored"];
/// The same with a value.
const WITH_VALUE: &[&str] = &["--skip", "--test-threads", "--color", "--format"];
/// What shows the output of tests that pass.
const SHOWING: &[&str] = &["--nocapture", "--no-capture", "--show-output"];

/// Whether this is a run of tests of which a record can say all that it would say. Anything that
/// is not known to be is not.
pub(super) fn is_understood(args: &[OsString], environment: &Environment, terminal: bool) -> bool {
    let set = |name: &str| environment.get(name).is_some_and(|value| value != OsStr::new("0"));
    let random = set("RUST_TEST_SHUFFLE") || environment.get("RUST_TEST_SHUFFLE_SEED").is_some();
    if random || (terminal && set("RUST_TEST_NOCAPTURE")) {
        return false;
    }
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let Some(arg) = arg.to_str() else { return false };
        let (name, value) = parts(arg);
        let understood = match name {
            _ if !name.starts_with('-') => true,
            _ if PLAIN.contains(&name) => value.is_none(),
            _ if SHOWING.contains(&name) => value.is_none() && !terminal,
            _ if WITH_VALUE.contains(&name) => {
                let value = match value {
                    Some(value) => Some(value),
                    None => args.next().and_then(|value| value.to_str()),
                };
                value.is_some_and(|value| {
                    name != "--format" || value == "pretty" || value == "terse"
                })
            }
            _ => false,
        };
        if !understood {
            return false;
        }
    }
    true
}

/// An option's name and its value, if that is in the same word.
fn parts(arg: &str) -> (&str, Option<&str>) {
    match arg.split_once('=') {
        Some((name, value)) if name.starts_with("--") => (name, Some(value)),
        _ => (arg, None),
    }
}

/// The one test that these arguments, which are understood, ask for: as nextest does.
pub(super) fn only_test(args: &[OsString]) -> Option<&str> {
    let mut names = Vec::new();
    let mut exact = false;
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    while let Some(arg) = args.next() {
        let (name, value) = parts(arg);
        if WITH_VALUE.contains(&name) && value.is_none() {
            args.next();
        } else if !name.starts_with('-') {
            names.push(name);
        }
        exact |= name == "--exact";
    }
    if let ([name], true) = (&names[..], exact) { Some(name) } else { None }
}

/// What came of the one test that was asked for; `None` if it cannot be told that it ran.
pub(super) fn outcome_of(name: &str, stdout: &str, is_green: bool) -> Option<TestReport> {
    if stdout.lines().map(str::trim).find(|line| !line.is_empty())? != "running 1 test" {
        return None;
    }
    let outcome = match is_green {
        false => Outcome::Failed,
        true if counts_of(stdout)?.passed == 1 => Outcome::Ok,
        true => Outcome::Ignored,
    };
    Some(TestReport { name: name.to_owned(), outcome })
}

/// The counts of the summary that ends the output of a green run; `None` if it is not what libtest
/// prints.
pub(super) fn counts_of(stdout: &str) -> Option<TestCounts> {
    let mut lines = stdout.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next()?.strip_prefix("running ")?;
    let all: u64 = first.split_once(" test")?.0.parse().ok()?;
    let last = lines.next_back()?.strip_prefix("test result: ")?;
    // Coloured or not.
    let rest = last.split_once("ok")?.1.split_once(". ")?.1;
    let mut counts = TestCounts::default();
    let mut measured = 0;
    for part in rest.split("; ") {
        let (number, what) = part.split_once(' ').unwrap_or_default();
        let place = match what {
            "passed" => &mut counts.passed,
            "failed" => &mut counts.failed,
            "ignored" => &mut counts.ignored,
            "measured" => &mut measured,
            "filtered out" => &mut counts.filtered,
            _ => continue,
        };
        *place = number.parse().ok()?;
    }
    let sum = counts.passed.checked_add(counts.ignored)?.checked_add(measured)?;
    (counts.failed == 0 && sum == all).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &str, terminal: bool) -> bool {
        let args: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        is_understood(&args, &Environment::default(), terminal)
    }

    #[test]
    fn only_what_runs_tests_is_understood() {
        for line in
            ["", "name --exact", "--skip x -q", "--test-threads=1 --ignored", "--color always"]
        {
            assert!(understood(line, true), "{line}");
        }
        for line in [
            "--list",
            "--bench",
            "--help",
            "-h",
            "--format json",
            "--format=junit",
            "--shuffle",
            "-Z unstable-options",
            "--logfile x",
            "--skip",
            "--exact=1",
            "-- --list",
            "--report-time",
            "--unknown",
        ] {
            assert!(!understood(line, false), "{line}");
        }
        assert!(understood("name --exact --nocapture", false));
        assert!(!understood("name --exact --nocapture", true));
        assert!(!understood("--show-output", true));
    }

    #[test]
    fn the_one_test_that_nextest_asks_for() {
        let only = |line: &str| {
            let args: Vec<_> = line.split_whitespace().map(OsString::from).collect();
            only_test(&args).map(str::to_owned)
        };
        assert_eq!(only("a::b --nocapture --exact"), Some("a::b".into()));
        assert_eq!(only("--exact a --color always --skip=b"), Some("a".into()));
        for line in ["", "a", "a b --exact", "--exact --skip a", "--skip a --exact"] {
            assert_eq!(only(line), None, "{line}");
        }
        let output = "\nrunning 1 test\nnoise test a ... ok\n\ntest result: ok. 1 passed; \
                      0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let outcome = |output: &str, green| Some(outcome_of("a", output, green)?.outcome);
        assert_eq!(outcome(output, true), Some(Outcome::Ok));
        assert_eq!(outcome("running 1 test\nabort", false), Some(Outcome::Failed));
        let ignored = output.replace("1 passed", "0 passed").replace("0 ignored", "1 ignored");
        assert_eq!(outcome(&ignored, true), Some(Outcome::Ignored));
        assert_eq!(outcome("running 0 tests\n", false), None);
    }

    #[test]
    fn order_by_chance_is_not_understood() {
        let mut environment = Environment::default();
        environment.set("RUST_TEST_SHUFFLE", "1");
        assert!(!is_understood(&[], &environment, false));
    }

    #[test]
    fn the_output_must_be_libtest_s() {
        let good = "\nrunning 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
                    test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; \
                    finished in 0.00s\n\n";
        let counts = counts_of(good).unwrap();
        assert_eq!((counts.passed, counts.ignored, counts.filtered), (1, 1, 3));
        assert!(counts_of(&good.replace("ok. ", "\u{1b}[32mok\u{1b}[m. ")).is_some());
        assert_eq!(counts_of(&good.replace("running 2", "running 3")), None);
        assert_eq!(counts_of(&good.replace("0 failed", "1 failed")), None);
        for bad in ["", "hello", "running 0 tests", "running 1 test\ntest result: ok"] {
            assert_eq!(counts_of(bad), None, "{bad}");
        }
    }
}
