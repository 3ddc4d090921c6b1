//! rustdoc as cargo runs it: one block, or two where doctests are merged.

use super::fixture::{environment, id, names, run};
use crate::model::Harness;
use crate::model::{End, Outcome, TestCounts, Verdict};
use crate::runner::TestJob;

const GOOD: &str = "\
/// ```
/// assert_eq!(1, 1);
/// ```
/// ```no_run
/// loop {}
/// ```
/// ```ignore
/// x
/// ```
/// ```should_panic
/// panic!()
/// ```
/// ```compile_fail
/// let x: u8 = \"\";
/// ```
/// ```standalone_crate
/// println!(\"alone\");
/// ```
pub fn f() {}
";

const BAD: &str = "\
/// ```
/// println!(\"test src/lib.rs - g (line 1) ... ok\"); panic!(\"merged fails\");
/// ```
/// ```standalone_crate
/// panic!(\"alone fails\");
/// ```
pub fn bad() {}
";

fn job(dir: &std::path::Path, source: &str, edition: &str, args: &[&str]) -> TestJob {
    std::fs::write(dir.join("lib.rs"), source).unwrap();
    let mut all = vec!["--test", "lib.rs", "--crate-name", "fixture", "--edition", edition];
    all.extend(args);
    let all = all.into_iter().map(Into::into).collect();
    let mut environment = environment();
    environment.set("RUST_BACKTRACE", "0");
    let mut id = id("fixture");
    id.kind = crate::model::TargetKind::Doc;
    let rustdoc = environment.find_program("rustdoc".as_ref(), dir).expect("rustdoc");
    TestJob::new(id, rustdoc, all, dir, environment, Harness::Doctest)
}

#[tokio::test]
async fn merged_and_standalone_doctests_are_one_sum() {
    let dir = tempfile::tempdir().unwrap();
    for (edition, args) in [
        ("2024", &[][..]),
        ("2021", &[]),
        ("2024", &["--test-args", "--test-threads=1"]),
        ("2024", &["--test-args", "--nocapture"]),
    ] {
        let report = run(job(dir.path(), GOOD, edition, args)).await;
        assert_eq!(report.verdict, Verdict::Pass, "{edition}: {}", report.output);
        let expected = TestCounts { passed: 5, failed: 0, ignored: 1, filtered: 0 };
        assert_eq!(report.counts, expected, "{edition} {args:?}");
        assert_eq!(names(&report, Outcome::Ok).len(), 5, "{edition} {args:?}");
        assert!(
            names(&report, Outcome::Ok).contains(&"lib.rs - f (line 4)"),
            "the mode is no name"
        );
        assert_eq!(names(&report, Outcome::Ignored), ["lib.rs - f (line 7)"]);
    }
}

#[tokio::test]
async fn failures_of_both_blocks_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let source = format!("{GOOD}{BAD}");
    for edition in ["2024", "2021"] {
        let report = run(job(dir.path(), &source, edition, &[])).await;
        assert_eq!((report.verdict, report.end), (Verdict::Fail, End::Exit(101)));
        let expected = TestCounts { passed: 5, failed: 2, ignored: 1, filtered: 0 };
        assert_eq!(report.counts, expected, "{edition}: {}", report.output);
        assert_eq!(
            names(&report, Outcome::Failed),
            ["lib.rs - bad (line 20)", "lib.rs - bad (line 23)"]
        );
        assert!(report.output.contains("merged fails") && report.output.contains("alone fails"));
        assert!(!names(&report, Outcome::Ok).contains(&"src/lib.rs - g (line 1)"));
    }
}

#[tokio::test]
async fn a_filter_counts_what_it_leaves_out_and_no_doctests_are_a_pass() {
    let dir = tempfile::tempdir().unwrap();
    let report = run(job(dir.path(), GOOD, "2024", &["--test-args", "nothing"])).await;
    assert_eq!((report.verdict, report.counts.filtered), (Verdict::Pass, 6));
    let report = run(job(dir.path(), "", "2024", &[])).await;
    assert_eq!((report.verdict, report.counts), (Verdict::Pass, TestCounts::default()));
    let report = run(job(dir.path(), "this is no rust", "2024", &[])).await;
    assert_eq!((report.verdict, report.counts), (Verdict::Fail, TestCounts::default()));
    assert!(report.output.contains("error"), "{}", report.output);
}
