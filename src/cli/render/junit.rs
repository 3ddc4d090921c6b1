//! The answer as a JUnit report: a suite for each target, named as cargo-nextest names it.
//!
//! Cases from records carry the property `cached`, and no time, so that no dashboard counts them as
//! runs.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::excerpt::{excerpt, plain_output};
use crate::model::{Answer, Outcome, Source, TargetAnswer, Verdict};

/// The report's name.
const REPORT_NAME: &str = "knhk-test-cache";

/// The report of an answer whose targets name their tests.
pub(crate) fn answer_report(answer: &Answer, elapsed: Duration) -> Result<String, SerializeError> {
    let mut report = Report::new(REPORT_NAME);
    report.set_time(elapsed).add_test_suites(answer.targets.iter().map(suite));
    report.to_string()
}

/// The report of a question without an answer.
pub(crate) fn error_report(
    message: &str,
    build_errors: &str,
    elapsed: Duration,
) -> Result<String, SerializeError> {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    let kind = if build_errors.is_empty() { "error" } else { "build error" };
    status.set_message(message).set_type(kind);
    if !build_errors.is_empty() {
        status.set_description(build_errors);
    }
    let mut case = TestCase::new("test", status);
    case.set_classname(REPORT_NAME);
    let mut suite = TestSuite::new(REPORT_NAME);
    suite.add_test_case(case);
    let mut report = Report::new(REPORT_NAME);
    report.set_time(elapsed).add_test_suite(suite);
    report.to_string()
}

fn suite(target: &TargetAnswer) -> TestSuite {
    let name = target.id.to_string();
    let is_cached = target.source == Source::Cache;
    let output = plain_output(target);
    let mut suite = TestSuite::new(name.as_str());
    suite.add_property(("reason", target.reason.as_str()));
    for test in &target.tests {
        let status = match test.outcome {
            Outcome::Ok => TestCaseStatus::success(),
            Outcome::Ignored => TestCaseStatus::skipped(),
            Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        };
        let mut case = TestCase::new(test.name.as_str(), status);
        if test.outcome == Outcome::Failed {
            describe(&mut case, target, &output, &test.name);
        }
        if target.flaky.contains(&test.name) {
            case.add_property(("flaky", "true"));
        }
        suite.add_test_case(case);
    }
    if target.verdict != Verdict::Pass && target.failures.is_empty() {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(target.end.to_string()).set_type("test program");
        suite.add_test_case(TestCase::new(target.id.target.as_str(), status));
    }
    for case in &mut suite.test_cases {
        case.set_classname(name.as_str());
        if is_cached {
            case.add_property(("cached", "true"));
        }
    }
    if !is_cached {
        suite.set_time(Duration::from_millis(target.duration_ms));
    }
    if target.verdict != Verdict::Pass {
        suite.set_system_out(target.output.as_str());
        if let Some(stderr) = &target.stderr {
            suite.set_system_err(stderr.as_str());
        }
    }
    suite
}

/// Says where and why a test failed.
fn describe(case: &mut TestCase, target: &TargetAnswer, output: &str, name: &str) {
    case.status.set_type("test failure");
    let Some(excerpt) = excerpt(output, name) else {
        case.status.set_message(target.end.to_string());
        return;
    };
    case.status.set_message(excerpt.message.first().map_or("", String::as_str));
    if let Some(place) = excerpt.source_place() {
        case.extra.insert("file".into(), place.file.into());
        case.extra.insert("line".into(), place.line.to_string().into());
    }
    case.status.set_description(excerpt.into_lines().join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{End, TargetId};

    fn target(source: Source, tests: &[(&str, Outcome)]) -> TargetAnswer {
        TargetAnswer {
            id: TargetId::sample("it"),
            reason: "why".into(),
            end: End::Exit(0),
            output:
                "---- b stdout ----\nthread 'b' panicked at src/lib.rs:7:39:\n1 < 2 & \u{1b}[1m\
                     x\u{0}\nmore\n"
                    .into(),
            duration_ms: 1_200,
            ..TargetAnswer::sample(source, tests)
        }
    }

    fn parsed(targets: Vec<TargetAnswer>) -> Report {
        let answer = Answer { code_hash: None, targets, not_kept: Vec::new() };
        let text = answer_report(&answer, Duration::from_secs(2)).unwrap();
        Report::deserialize_from_str(&text).unwrap()
    }

    fn properties(case: &TestCase) -> Vec<(&str, &str)> {
        case.properties.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect()
    }

    #[test]
    fn each_test_is_a_case_of_its_targets_suite() {
        let tests = [("a", Outcome::Ok), ("b", Outcome::Failed), ("c", Outcome::Ignored)];
        let report = parsed(vec![target(Source::Run, &tests)]);
        assert_eq!((report.tests, report.failures, report.errors, report.skipped), (3, 1, 0, 1));
        let suite = &report.test_suites[0];
        assert_eq!(
            (suite.name.as_str(), suite.time),
            ("p::it", Some(Duration::from_millis(1_200)))
        );
        let failed = &suite.test_cases[1];
        assert_eq!(failed.classname.as_ref().unwrap().as_str(), "p::it");
        assert_eq!(failed.extra.get("file").unwrap().as_str(), "src/lib.rs");
        assert_eq!(failed.extra.get("line").unwrap().as_str(), "7");
        let TestCaseStatus::NonSuccess { message, description, .. } = &failed.status else {
            panic!("{failed:?}");
        };
        assert_eq!(message.as_ref().unwrap().as_str(), "1 < 2 & x");
        assert!(description.as_ref().unwrap().as_str().starts_with("src/lib.rs:7:39: 1 < 2"));
        assert!(suite.system_out.as_ref().unwrap().as_str().contains("more"));
    }

    #[test]
    fn cached_cases_say_so_and_take_no_time() {
        let tests = [("a", Outcome::Ok), ("c", Outcome::Ignored)];
        let report =
            parsed(vec![target(Source::Cache, &tests), target(Source::Run, &[("a", Outcome::Ok)])]);
        let [cached, ran] = &report.test_suites[..] else { panic!("{report:?}") };
        assert_eq!((cached.time, cached.system_out.as_ref()), (None, None));
        assert!(cached.test_cases.iter().all(|case| properties(case) == [("cached", "true")]));
        assert!(ran.test_cases.iter().all(|case| properties(case).is_empty()));
    }

    #[test]
    fn a_program_that_names_no_failure_is_an_error_of_its_own() {
        let mut crashed = target(Source::Run, &[("a", Outcome::Ok)]);
        (crashed.verdict, crashed.end) = (Verdict::Fail, End::Signal(6));
        let report = parsed(vec![crashed]);
        assert_eq!((report.tests, report.failures, report.errors), (2, 0, 1));
        assert_eq!(report.test_suites[0].test_cases[1].name.as_str(), "it");
    }

    #[test]
    fn no_answer_is_a_report_of_one_error() {
        let text = error_report("the build failed", "error: <T>", Duration::ZERO).unwrap();
        let report = Report::deserialize_from_str(&text).unwrap();
        assert_eq!((report.tests, report.errors), (1, 1));
        assert!(text.contains("the build failed") && text.contains("error: &lt;T&gt;"), "{text}");
    }
}
