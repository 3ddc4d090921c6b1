//! `test --format github` and `junit`: what CI reads.

use std::fs;

use quick_junit::{Report, TestCaseStatus};

use crate::home::{Home, Ran};

/// A workspace of which one target is always red.
fn half_red() -> Home {
    Home::with(&[
        ("tests/red.rs", "#[test]\nfn bad() {\n    assert_eq!(1, 2, \"50%, no\");\n}\n"),
        ("tests/calm.rs", "#[test] fn good() {}\n#[test] #[ignore] fn later() {}\n"),
    ])
}

#[track_caller]
fn report(text: &str) -> Report {
    Report::deserialize_from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Whether each case of the suite has the property `cached`.
#[track_caller]
fn is_cached(report: &Report, suite: &str) -> bool {
    let suite = report.test_suites.iter().find(|one| one.name.as_str() == suite).unwrap();
    assert!(!suite.test_cases.is_empty(), "{suite:?}");
    let cached = |case: &quick_junit::TestCase| {
        case.properties
            .iter()
            .any(|one| (one.name.as_str(), one.value.as_str()) == ("cached", "true"))
    };
    let count = suite.test_cases.iter().filter(|case| cached(case)).count();
    assert!(count == 0 || count == suite.test_cases.len(), "{suite:?}");
    count > 0
}

#[track_caller]
fn annotation(ran: &Ran) -> &str {
    ran.stdout
        .lines()
        .find(|line| line.starts_with("::error "))
        .unwrap_or_else(|| panic!("{ran:#?}"))
}

#[test]
fn github_gets_annotations_groups_and_a_summary() {
    let mut home = half_red();
    let summary = home.base.join("summary.md");
    fs::write(&summary, "before\n").unwrap();
    home.environment.set("GITHUB_STEP_SUMMARY", &summary);
    home.environment.set("GITHUB_WORKSPACE", &home.base);
    let ran = home.run(&["test", "--format", "github"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    let expected = "::error file=ws/tests/red.rs,line=3,col=5,title=p%3A%3Ared bad::assertion \
                    `left == right` failed: 50%25, no%0A  left: 1%0A right: 2";
    assert_eq!(annotation(&ran), expected);
    assert!(ran.stdout.starts_with("::group::p::red (exit status 101)\n::stop-commands::"));
    assert!(ran.stderr.contains("Failed p::red bad") && ran.stderr.contains("Not green ws"));
    assert_eq!(ran.stderr.matches("50%, no").count(), 0, "in the group alone: {ran:#?}");
    let text = fs::read_to_string(&summary).unwrap();
    assert!(text.starts_with("before\n### ws: not green, 3 passed, 1 failed, 1 ignored"), "{text}");
    assert!(text.contains("\n| p::red | **fail** | 0 | 1 | 0 | run | "), "{text}");
    assert!(text.contains("\n| p::calm | pass | 1 | 0 | 1 | run | "), "{text}");
    // A green answer from cache: nothing but the table, which marks it.
    home.run(&["test", "--format", "github", "--test", "calm"]);
    fs::remove_file(&summary).unwrap();
    let ran = home.run(&["test", "--format", "github", "--test", "calm"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:#?}");
    let text = fs::read_to_string(&summary).unwrap();
    assert!(text.contains("\n| p::calm | pass | 1 | 0 | 1 | cache, run "), "{text}");
    // A summary that cannot be written changes no verdict.
    home.environment.set("GITHUB_STEP_SUMMARY", &home.base);
    let ran = home.run(&["test", "--format", "github", "--test", "calm"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("Summary not written to "), "{ran:#?}");
}

#[test]
fn a_build_that_fails_is_annotated_and_reported() {
    let home = half_red();
    home.write("tests/calm.rs", "#[test]\nfn good() { nothing(); }\n");
    let ran = home.run(&["test", "--format", "github"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    let expected = "::error file=tests/calm.rs,line=2,col=13,title=build::error[E0425]: cannot";
    assert!(annotation(&ran).starts_with(expected), "{ran:#?}");
    assert!(ran.stderr.contains("the build failed"), "{ran:#?}");
    let ran = home.run(&["test", "--format", "junit"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    let report = report(&ran.stdout);
    assert_eq!((report.tests, report.errors), (1, 1), "{ran:#?}");
    let TestCaseStatus::NonSuccess { description, .. } =
        &report.test_suites[0].test_cases[0].status
    else {
        panic!("{ran:#?}");
    };
    assert!(description.as_ref().unwrap().as_str().contains("tests/calm.rs:2:13"), "{ran:#?}");
    // No workspace at all.
    let nowhere = home.base.join("out");
    let ran = home.run(&["test", "--format", "junit", "--project", nowhere.to_str().unwrap()]);
    assert_eq!((ran.code, self::report(&ran.stdout).errors), (Some(101), 1), "{ran:#?}");
}

#[test]
fn a_junit_report_names_every_test_and_marks_what_was_cached() {
    let home = half_red();
    let ran = home.run(&["test", "--format", "junit", "--", "--nocapture"]);
    assert_eq!(ran.code, Some(101), "{ran:#?}");
    let all = report(&ran.stdout);
    assert_eq!((all.tests, all.failures, all.skipped), (5, 1, 1), "{ran:#?}");
    assert!(ran.stderr.contains("Not green ws"), "{ran:#?}");
    let bad = all.test_suites.iter().find(|suite| suite.name.as_str() == "p::red").unwrap();
    assert_eq!(bad.test_cases[0].extra.get("line").unwrap().as_str(), "3");
    for args in [&["test", "--no-daemon"][..], &["test"]] {
        let file = home.base.join("report.xml");
        let args = [args, &["--test", "calm", "--junit", file.to_str().unwrap()]].concat();
        let ran = home.run(&args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:#?}");
        let known = report(&fs::read_to_string(&file).unwrap());
        assert_eq!((known.tests, known.skipped), (2, 1), "{ran:#?}");
        assert_eq!(is_cached(&known, "p::calm"), args.len() == 5, "{ran:#?}");
    }
    // By the daemon too, which names tests only where that is asked for.
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    let ran = home.run(&["test", "--test", "calm", "--format", "junit"]);
    let known = report(&ran.stdout);
    assert!(is_cached(&known, "p::calm"), "{ran:#?}");
    assert_eq!((ran.code, known.tests, known.skipped), (Some(0), 2, 1), "{ran:#?}");
    daemon.stop();
}

#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let home = Home::with(&[]);
    let ran = home.run(&["test", "--junit", "no/such/folder.xml"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("the report cannot be written to "), "{ran:#?}");
    assert!(ran.stderr.contains("Green ws"), "{ran:#?}");
}

#[test]
fn a_statement_is_of_this_question_or_there_is_none() {
    let home = Home::with(&[]);
    let file = home.base.join("statement.json");
    let args = ["test", "--no-daemon", "--attest", file.to_str().unwrap()];
    let stated = || -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap()
    };
    home.ok(&args);
    let first = stated();
    assert_eq!(first["predicate"]["result"], "PASSED", "{first}");
    assert_eq!(first["predicate"]["passedTests"], serde_json::json!(["p one", "p two"]), "{first}");
    let hash = home.test(&["--no-daemon"]).code_hash().to_owned();
    assert_eq!(first["subject"][0]["digest"]["sha256"], hash, "{first}");
    home.ok(&args);
    assert_eq!(stated()["subject"][0]["annotations"]["source"], "cache");
    // Nothing that is no verdict leaves a statement, of an earlier question neither.
    assert_eq!(home.run(&[&args[..], &["--no-run"]].concat()).code, Some(1));
    assert!(!file.exists());
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n");
    assert_eq!(home.run(&args).code, Some(101));
    let red = stated();
    assert_eq!(red["predicate"]["result"], "FAILED", "{red}");
    assert_eq!(red["predicate"]["failedTests"], serde_json::json!(["p one"]), "{red}");
    home.write("src/lib.rs", "no rust\n");
    assert_eq!(home.run(&args).code, Some(101));
    assert!(!file.exists());
}
