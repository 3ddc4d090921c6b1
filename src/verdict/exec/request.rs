//! What the arguments of a test program say, and what its output does.

use std::ffi::{OsStr, OsString};

use crate::model::TestCounts;
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
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value)),
            _ => (arg, None),
        };
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
