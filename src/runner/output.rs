//! The whole standard output of a libtest program that has ended, read at once.

use super::evidence::{Circumstances, judge};
use super::lines;
use super::scan::{Listing, Names, OutputMark, Scan};
use crate::model::{End, TestCounts, TestReport};

/// What a libtest program printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LibtestOutput {
    /// The counts of a green run; `None` if the output is not libtest's alone.
    pub(crate) counts: Option<TestCounts>,
    /// All tests that ran, with their outcomes; none if it cannot be told which they all were.
    pub(crate) tests: Vec<TestReport>,
}

/// Reads what a program that ended with `end` has printed. `only_test` is the one test that it was
/// asked to run, as nextest does.
pub(crate) fn read_output(stdout: &str, end: End, only_test: Option<&str>) -> LibtestOutput {
    read(stdout, end, only_test, false)
}

/// The same of a program that was asked for JSON.
pub(crate) fn read_json_output(stdout: &str, end: End, only_test: Option<&str>) -> LibtestOutput {
    read(stdout, end, only_test, true)
}

fn read(stdout: &str, end: End, only_test: Option<&str>, json: bool) -> LibtestOutput {
    let names = match only_test {
        Some(name) => Names::Known(Listing::one(name)),
        None => Names::Any,
    };
    let mut scan = Scan::new(names, json);
    scan.feed(stdout.as_bytes(), &mut |_, _| {});
    scan.finish(&mut |_, _| {});
    let announced = scan.marks.iter().find_map(|mark| match mark {
        OutputMark::Header(count) => Some(*count),
        OutputMark::Summary(..) => None,
    });
    let is_one = |count| only_test.is_none() || count == Some(1);
    let running = if is_one(announced) { scan.running(1, true) } else { Vec::new() };
    let about = Circumstances { end, filtered: true, ignored: None, running };
    let mut tests = judge(&scan, &about).tests;
    if announced != u64::try_from(tests.len()).ok() {
        tests.clear();
    }
    LibtestOutput { counts: counts(&scan, stdout, end, json), tests }
}

/// The counts of the one summary that ends the output, the header of as many tests being its begin.
fn counts(scan: &Scan, stdout: &str, end: End, json: bool) -> Option<TestCounts> {
    let mut lines = stdout.lines().filter(|line| !line.trim().is_empty());
    let is_header = |line: &str| match json {
        true => is_suite_event(line, "started"),
        false => lines::header(line.trim()).is_some(),
    };
    let is_summary = |line: &str| {
        let plain = lines::plain(line.trim().as_bytes());
        match json {
            true => is_suite_event(line, "ok"),
            false => lines::summary(&String::from_utf8_lossy(&plain)).is_some(),
        }
    };
    let is_framed =
        lines.next().is_some_and(is_header) && lines.next_back().is_some_and(is_summary);
    match scan.marks.iter().collect::<Vec<_>>()[..] {
        [OutputMark::Header(count), OutputMark::Summary(summary, _)]
            if end == End::Exit(0) && is_framed && summary.ok && summary.total() == *count =>
        {
            Some(summary.counts)
        }
        _ => None,
    }
}

/// Whether the line is libtest's JSON for this event of the whole run.
fn is_suite_event(line: &str, event: &str) -> bool {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return false };
    value["type"] == "suite" && value["event"] == event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;

    const RED: End = End::Exit(101);
    const GREEN: End = End::Exit(0);
    const FAILED: &str = "\nrunning 3 tests\ntest a::b ... ok\ntest c - should panic ... FAILED\n\
                          test d ... ignored, why not\n\nfailures:\n\n---- c stdout ----\n\
                          test x ... ok\n\nfailures:\n    c\n\ntest result: FAILED. 1 passed; \
                          1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";

    fn outcomes(output: &str, end: End, only: Option<&str>) -> Vec<(String, Outcome)> {
        let tests = read_output(output, end, only).tests;
        tests.into_iter().map(|test| (test.name, test.outcome)).collect()
    }

    #[test]
    fn the_tests_of_an_output_are_all_of_them_or_none() {
        let known = [("a::b", Outcome::Ok), ("c", Outcome::Failed), ("d", Outcome::Ignored)];
        let known = known.map(|(name, outcome)| (name.to_owned(), outcome));
        assert_eq!(outcomes(FAILED, RED, None), known);
        let coloured = FAILED.replace(" ok\n", " \u{1b}[32mok\u{1b}(B\u{1b}[m\n");
        assert_eq!(outcomes(&coloured, RED, None), known);
        let torn = FAILED.replace("test a::b ... ok", "test a::b ... hello\nok");
        for bad in [&torn, &FAILED.replace("a::b", "d"), "", "running 1 test\n.\n"] {
            assert!(outcomes(bad, RED, None).is_empty(), "{bad}");
        }
    }

    #[test]
    fn the_one_test_that_was_asked_for_is_known_whatever_it_prints() {
        let output = "\nrunning 1 test\nnoise test a ... ok\n\ntest result: ok. 1 passed; \
                      0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let outcome = |output: &str, end| Some(outcomes(output, end, Some("a")).pop()?.1);
        assert_eq!(outcome(output, GREEN), Some(Outcome::Ok));
        assert_eq!(outcome("running 1 test\nabort", End::Signal(6)), Some(Outcome::Failed));
        assert_eq!(outcome("running 1 test\nexit", RED), Some(Outcome::Failed));
        let ignored = output.replace("1 passed", "0 passed").replace("0 ignored", "1 ignored");
        let ignored = ignored.replace("... ok", "... ignored");
        assert_eq!(outcome(&ignored, GREEN), Some(Outcome::Ignored));
        assert_eq!(outcome("running 0 tests\n", RED), None);
    }

    #[test]
    fn the_counts_of_json_are_those_of_an_output_that_is_json_alone() {
        let good = "{ \"type\": \"suite\", \"event\": \"started\", \"test_count\": 1 }\n\
                    { \"type\": \"test\", \"event\": \"started\", \"name\": \"a\" }\n\
                    { \"type\": \"test\", \"name\": \"a\", \"event\": \"ok\" }\n\
                    { \"type\": \"suite\", \"event\": \"ok\", \"passed\": 1, \"failed\": 0, \
                    \"ignored\": 0, \"measured\": 0, \"filtered_out\": 2, \"exec_time\": 0.1 }\n";
        let read = |output: &str| read_json_output(output, GREEN, None);
        let found = read(good);
        let counts = found.counts.unwrap();
        assert_eq!((counts.passed, counts.filtered, found.tests.len()), (1, 2, 1));
        for bad in [
            good.replace("\"failed\": 0", "\"failed\": 1"),
            good.replace("test_count\": 1", "test_count\": 2"),
            format!("{good}bye\n"),
            format!("hello\n{good}"),
            format!("{good}{good}"),
        ] {
            assert_eq!(read(&bad).counts, None, "{bad}");
        }
        assert_eq!(read_output(good, GREEN, None).counts, None);
    }

    #[test]
    fn the_counts_are_those_of_an_output_that_is_libtest_s_alone() {
        let good = "\nrunning 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
                    test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; \
                    finished in 0.00s\n\n";
        let counts = |output: &str| read_output(output, GREEN, None).counts;
        let found = counts(good).unwrap();
        assert_eq!((found.passed, found.ignored, found.filtered), (1, 1, 3));
        assert!(counts(&good.replace("ok. ", "\u{1b}[32mok\u{1b}[m. ")).is_some());
        assert_eq!(read_output(good, RED, None).counts, None);
        assert_eq!(counts(&good.replace("running 2", "running 3")), None);
        assert_eq!(counts(&good.replace("0 failed", "1 failed")), None);
        for bad in ["", "hello", "running 0 tests", "running 1 test\ntest result: ok"] {
            assert_eq!(counts(bad), None, "{bad}");
        }
        assert_eq!(counts(&format!("hello\n{good}")), None);
        assert_eq!(counts(&format!("{good}bye\n")), None);
    }
}
