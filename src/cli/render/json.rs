//! The JSON of `test`: a contract with scripts; fields are added, never renamed.

use std::time::Duration;

use serde::Serialize;

use crate::model::{Answer, Digest, Source, TargetAnswer, TargetKind, Verdict};

#[derive(Serialize)]
struct TargetLine<'a> {
    r#type: &'static str,
    package: &'a str,
    target: &'a str,
    kind: TargetKind,
    verdict: Verdict,
    source: Source,
    reason: &'a str,
    passed: u64,
    failed: u64,
    ignored: u64,
    filtered: u64,
    failures: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    flaky: &'a [String],
    end: String,
    duration_ms: u64,
}

/// One target.
pub(crate) fn target_line(target: &TargetAnswer) -> String {
    let counts = target.counts;
    line(&TargetLine {
        r#type: "target",
        package: &target.id.package,
        target: &target.id.target,
        kind: target.id.kind,
        verdict: target.verdict,
        source: target.source,
        reason: &target.reason,
        passed: counts.passed,
        failed: counts.failed,
        ignored: counts.ignored,
        filtered: counts.filtered,
        failures: &target.failures,
        flaky: &target.flaky,
        end: target.end.to_string(),
        duration_ms: target.duration_ms,
    })
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    r#type: &'static str,
    verdict: Verdict,
    source: Source,
    code_hash: Option<Digest>,
    passed: u64,
    failed: u64,
    ignored: u64,
    targets_cached: usize,
    targets_run: usize,
    elapsed_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    not_kept: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    distrusted: &'a [String],
}

/// The last line. Without an answer the verdict is `error`, and `error` says why. No record answers for
/// the `distrusted` targets.
pub(crate) fn summary_line(
    answer: Option<&Answer>,
    error: Option<&str>,
    distrusted: &[String],
    elapsed: Duration,
) -> String {
    let counts = answer.map(Answer::counts).unwrap_or_default();
    let cached = answer.map_or(0, Answer::cached);
    line(&SummaryLine {
        r#type: "summary",
        verdict: answer.map_or(Verdict::Error, Answer::verdict),
        source: answer.map_or(Source::Run, Answer::source),
        code_hash: answer.and_then(|answer| answer.code_hash),
        passed: counts.passed,
        failed: counts.failed,
        ignored: counts.ignored,
        targets_cached: cached,
        targets_run: answer.map_or(0, |answer| answer.targets.len()) - cached,
        // Microseconds are what can be told apart.
        elapsed_ms: (elapsed.as_secs_f64() * 1e6).round() / 1e3,
        error,
        not_kept: answer.map_or(&[], |answer| &answer.not_kept),
        distrusted,
    })
}

fn line(value: &impl Serialize) -> String {
    // These types hold only text and numbers: nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{End, TargetId, TestCounts};

    fn answer() -> Answer {
        let target = TargetAnswer {
            id: TargetId::sample("it"),
            verdict: Verdict::Fail,
            reason: "no record".into(),
            counts: TestCounts { passed: 2, failed: 1, ignored: 3, filtered: 0 },
            failures: vec!["a::b".into()],
            end: End::Exit(101),
            output: "noise".into(),
            duration_ms: 7,
            ..TargetAnswer::sample(Source::Run, &[])
        };
        Answer { code_hash: Some(Digest::of(b"")), targets: vec![target], not_kept: Vec::new() }
    }

    #[test]
    fn the_contract_of_a_target_line() {
        let line = target_line(&answer().targets[0]);
        let start = r#"{"type":"target","package":"p","target":"it","kind":"test","verdict":"fail","source":"run","reason":"no record","passed":2,"failed":1,"ignored":3,"#;
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(r#""failures":["a::b"]"#), "{line}");
    }

    #[test]
    fn the_contract_of_the_summary_line() {
        let line = summary_line(Some(&answer()), None, &[], Duration::from_micros(1_234));
        let expected = format!(
            r#"{{"type":"summary","verdict":"fail","source":"run","code_hash":"{}","passed":2,"failed":1,"ignored":3,"targets_cached":0,"targets_run":1,"elapsed_ms":1.234}}"#,
            Digest::of(b"")
        );
        assert_eq!(line, expected);
        let wrong = ["p::it".to_owned()];
        let line = summary_line(Some(&answer()), None, &wrong, Duration::ZERO);
        assert!(line.contains(r#","distrusted":["p::it"]"#), "{line}");
    }

    #[test]
    fn no_answer_is_an_error_with_its_reason() {
        let line = summary_line(None, Some("the build failed"), &[], Duration::ZERO);
        assert!(line.contains(r#""verdict":"error""#), "{line}");
        assert!(line.contains(r#""error":"the build failed""#), "{line}");
    }
}
