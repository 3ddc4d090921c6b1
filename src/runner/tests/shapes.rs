//! Particular outputs that once were, or could be, misread.

use crate::model::{End, Outcome, TestCounts};
use crate::runner::evidence::{Circumstances, Findings, judge};
use crate::runner::scan::{Listing, Names, Scan};

fn known(names: &[&str]) -> Names {
    let list: String = names.iter().map(|name| format!("{name}: test\n")).collect();
    Names::Known(Listing::parse(list.as_bytes()).unwrap())
}

fn read(names: Names, end: End, output: &str) -> Findings {
    let mut scan = Scan::new(names, false);
    scan.feed(output.as_bytes(), &mut |_, _| {});
    scan.finish(&mut |_, _| {});
    let running = scan.running(1, true);
    judge(&scan, &Circumstances { end, filtered: false, ignored: None, running })
}

fn outcomes(findings: &Findings) -> Vec<(&str, Outcome)> {
    findings.tests.iter().map(|test| (test.name.as_str(), test.outcome)).collect()
}

fn result(word: &str, passed: u64, failed: u64) -> String {
    format!(
        "test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
    )
}

const PASS: End = End::Exit(0);
const FAIL: End = End::Exit(101);

#[test]
fn the_same_binary_started_by_a_test_does_not_answer_for_its_parent() {
    // The parent leaves before its own summary; its child's is complete.
    let child = format!("running 2 tests\ntest a ... ok\ntest b ... ok\n\n{}", result("ok", 2, 0));
    let output = format!("running 2 tests\n{child}");
    assert_eq!(outcomes(&read(known(&["a", "b"]), PASS, &output)), []);
    let output =
        format!("running 2 tests\n{child}test a ... ok\ntest b ... ok\n\n{}", result("ok", 2, 0));
    assert_eq!(outcomes(&read(known(&["a", "b"]), PASS, &output)).len(), 2);
}

#[test]
fn names_with_dots_and_reasons_with_outcomes() {
    let output = format!(
        "running 3 tests\ntest a ... b ... ok\ntest a ... ignored, until x ... ok\ntest a ... b - should panic ... FAILED\n\nfailures:\n    a ... b\n\n{}",
        "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n"
    );
    let findings = read(known(&["a ... b", "a", "c"]), FAIL, &output);
    let expected = [("a ... b", Outcome::Failed), ("a", Outcome::Ignored)];
    assert_eq!(outcomes(&findings), expected);
    assert_eq!(findings.counts, TestCounts { passed: 1, failed: 1, ignored: 1, filtered: 0 });
}

#[test]
fn a_summary_with_another_total_or_word_is_not_believed() {
    for lie in [result("ok", 3, 0), result("FAILED", 1, 1), result("ok", 1, 1)] {
        let findings = read(known(&["a", "b"]), PASS, &format!("running 2 tests\n{lie}"));
        assert_eq!(findings, Findings::default(), "{lie}");
    }
    let crashed = format!("running 1 test\ntest a ... ok\n\n{}", result("ok", 1, 0));
    assert_eq!(outcomes(&read(known(&["a"]), End::Signal(11), &crashed)), []);
    assert_eq!(outcomes(&read(known(&["a"]), End::Exit(1), &crashed)), []);
    assert_eq!(outcomes(&read(known(&["a"]), PASS, &crashed)), [("a", Outcome::Ok)]);
}

#[test]
fn two_summaries_that_differ_prove_no_pass() {
    // The real one, then what a process left behind may print; the real line of `a` is torn.
    let real = "test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n";
    let output = format!("running 2 tests\ntest a ... xignored\ntest b ... ok\n\n{real}");
    let disputed = format!("{output}{}", result("ok", 2, 0));
    assert_eq!(outcomes(&read(known(&["a", "b"]), PASS, &disputed)), []);
    let repeated = format!("{}{}", disputed.replace(real, ""), result("ok", 2, 0));
    assert_eq!(outcomes(&read(known(&["a", "b"]), PASS, &repeated)).len(), 2);
}

#[test]
fn a_list_of_failures_with_anything_else_in_it_proves_no_pass() {
    let output = |list: &str| {
        format!(
            "running 2 tests\ntest a ... ok\ntest b ... ok\n\nfailures:\n{list}\n{}",
            result("FAILED", 1, 1)
        )
    };
    let (a, b) = (("a", Outcome::Failed), ("b", Outcome::Ok));
    assert_eq!(outcomes(&read(known(&["a", "b"]), FAIL, &output("    a\n"))), [a, b]);
    // The real list names `b`; its line is torn, and a test has printed another.
    for torn in ["x    b\n    a\n", "    bx\n    a\n", "    a\n    a\n", "x\n    a\n"] {
        assert_eq!(outcomes(&read(known(&["a", "b"]), FAIL, &output(torn))), [a], "{torn}");
    }
}

#[test]
fn an_outcome_on_a_line_of_its_own_belongs_to_the_open_test() {
    let output = format!(
        "running 2 tests\ntest a ... noise\nok\ntest b ... noise\nFAILED\n\nfailures:\n    b\n\n{}",
        result("FAILED", 1, 1)
    );
    let expected = [("a", Outcome::Ok), ("b", Outcome::Failed)];
    assert_eq!(outcomes(&read(known(&["a", "b"]), FAIL, &output)), expected);
    // Two of them contradict each other: the test is left out.
    let output =
        output.replace("noise\nok\n", "ok\nFAILED\n").replace("test a ... ok", "test a ... x\nok");
    assert_eq!(outcomes(&read(known(&["a", "b"]), FAIL, &output)), [("b", Outcome::Failed)]);
}

#[test]
fn the_test_whose_line_was_begun_is_the_one_that_died() {
    let output = "running 3 tests\ntest a ... ok\ntest b ... ";
    let findings = read(known(&["a", "b", "c"]), End::Signal(6), output);
    assert_eq!(outcomes(&findings), [("b", Outcome::Failed)]);
    assert_eq!((findings.counts.passed, findings.counts.failed), (1, 1));
    let long = format!("{output}{}", "x".repeat(100_000));
    assert_eq!(read(known(&["a", "b", "c"]), End::Signal(6), &long), findings);
    let ended = format!("{output}\nnoise\n");
    assert_eq!(read(known(&["a", "b", "c"]), End::TimedOut, &ended), findings);
}

#[test]
fn blocks_pair_up_or_prove_nothing() {
    let block =
        |name: &str| format!("\nrunning 1 test\ntest {name} ... ok\n\n{}", result("ok", 1, 0));
    let (one, two) = ("src/lib.rs - f (line 1)", "src/lib.rs - (line 9) - compile");
    let good = block(one) + &block(two);
    let findings = read(Names::Doctests, PASS, &good);
    assert_eq!((findings.counts.passed, findings.tests.len()), (2, 2));
    // The second of them was never finished.
    let cut = block(one) + "\nrunning 1 test\n";
    let findings = read(Names::Doctests, FAIL, &cut);
    assert_eq!((findings.counts.passed, outcomes(&findings)), (1, vec![]));
    // A block inside a block is what a test printed.
    let nested = format!("running 3 tests\n{}{}", block(one), result("ok", 3, 0));
    let findings = read(Names::Doctests, PASS, &nested);
    assert_eq!((findings.counts.passed, outcomes(&findings)), (3, vec![]));
    // One outcome too many.
    let more = good.replace("\n\ntest result", "\ntest a.rs - x (line 2) ... ok\n\ntest result");
    assert_eq!(outcomes(&read(Names::Doctests, PASS, &more)), []);
}

#[test]
fn a_failure_of_a_test_with_a_kind_is_told_once() {
    let lines = "test      a ... ok\ntest [kind] b ... FAILED\ntest      c ... FAILED\n";
    let list = "failures:\n\n---- b ----\nno\n\n\nfailures:\n    b\n    c\n";
    let output = format!("\nrunning 3 tests\n{lines}\n{list}\n{}", result("FAILED", 1, 2));
    let expected = [("a", Outcome::Ok), ("b", Outcome::Failed), ("c", Outcome::Failed)];
    assert_eq!(outcomes(&read(Names::Any, FAIL, &output)), expected);
}

#[test]
fn more_claims_than_can_be_remembered_prove_nothing() {
    let lines: String = (0..200_010).map(|n| format!("test t{n} ... ok\n")).collect();
    let output = format!("running 200010 tests\n{lines}\n{}", result("ok", 200_010, 0));
    let findings = read(Names::Any, PASS, &output);
    assert_eq!((findings.counts.passed, findings.tests.len()), (200_010, 0));
}

#[test]
fn a_list_with_a_name_twice_is_no_list() {
    assert!(Listing::parse(b"a: test\nb: benchmark\nnoise\n").is_some_and(|list| list.len() == 2));
    assert!(Listing::parse(b"a: test\na: test\n").is_none());
}
