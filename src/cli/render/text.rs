//! The answer as text.

use std::time::Duration;

use super::{ERROR, GOOD, HINT, NOTE, WARN, label, seconds};
use crate::model::{Answer, End, Source, TargetReport, TestCounts, Timestamp, Verdict};

/// `1143 passed, 2 failed, 3 ignored`; what is zero is left out, but for passed.
pub(crate) fn counts_text(counts: TestCounts) -> String {
    let mut text = format!("{} passed", counts.passed);
    for (count, word) in
        [(counts.failed, "failed"), (counts.ignored, "ignored"), (counts.filtered, "filtered out")]
    {
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    text
}

/// One target that has just been run.
pub(crate) fn report_text(report: &TargetReport) -> String {
    let (style, word) = match (report.verdict, report.end) {
        (Verdict::Pass, _) => (GOOD, "Passed"),
        (_, End::TimedOut) => (ERROR, "Timed out"),
        (_, End::Signal(_)) => (ERROR, "Crashed"),
        _ => (ERROR, "Failed"),
    };
    let took = seconds(Duration::from_millis(report.duration_ms));
    let mut rest = format!("{} ({}, {took})", report.id, counts_text(report.counts));
    if report.verdict != Verdict::Pass && report.failures().next().is_none() {
        rest.push_str(&format!(": {}", report.end));
    }
    label(style, word, rest)
}

/// A size: `512 B`, `1.4 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A message without the line breaks at its end.
pub(crate) fn fit(message: &str) -> &str {
    message.trim_end()
}

/// A question, as its last line names it.
pub(crate) struct AskedQuestion {
    /// The selection.
    pub scope: String,
    pub for_what: AskedFor,
}

/// The purpose of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AskedFor {
    /// The verdict.
    Verdict,
    /// The build alone.
    Build,
    /// The names of the tests.
    List,
}

/// The last lines of an answer: what came from where, and the sum.
pub(crate) fn answer_lines(
    answer: &Answer,
    asked: &AskedQuestion,
    elapsed: Duration,
    now: Timestamp,
) -> Vec<String> {
    let mut lines = Vec::new();
    let kept: Vec<_> = answer.targets.iter().filter(|t| t.source == Source::Cache).collect();
    if let Some(oldest) = kept.iter().map(|target| target.when).min() {
        let targets = plural(kept.len(), "target");
        lines.push(label(NOTE, "Cached", format!("{targets}, run {}", oldest.ago(now))));
    }
    if answer.targets.is_empty() && asked.for_what != AskedFor::Build {
        lines.push(label(WARN, "Warning", "there are no tests in this selection"));
    }
    for reason in &answer.not_kept {
        lines.push(label(HINT, "Not cached", reason));
    }
    let scope = &asked.scope;
    let took = seconds(elapsed);
    if let Some(why) = nothing_ran(answer, asked.for_what) {
        let (style, word) = match asked.for_what {
            AskedFor::Build => (GOOD, "Built"),
            AskedFor::List => (GOOD, "Listed"),
            AskedFor::Verdict => (WARN, "No match"),
        };
        lines.push(label(style, word, format!("{scope}: {why} in {took}")));
        return lines;
    }
    let (style, word) = match answer.verdict() {
        Verdict::Pass => (GOOD, "Green"),
        _ => (ERROR, "Not green"),
    };
    let failed = answer.targets.iter().filter(|t| t.verdict != Verdict::Pass).count();
    let mut text = counts_text(answer.counts());
    if failed > 0 {
        text.push_str(&format!(" in {}", plural(failed, "failed target")));
    }
    lines.push(label(style, word, format!("{scope}: {text} in {took}")));
    lines
}

/// Why an answer that is not red says nothing of any test, if so.
pub(super) fn nothing_ran(answer: &Answer, for_what: AskedFor) -> Option<String> {
    let counts = answer.counts();
    let ran = counts.passed + counts.failed + counts.ignored;
    match (answer.verdict(), for_what) {
        (Verdict::Fail | Verdict::Error, _) => None,
        (_, AskedFor::Build) => Some("the tests are built, none was run".to_owned()),
        (_, AskedFor::List) => Some("the tests are listed, none was run".to_owned()),
        (_, AskedFor::Verdict) if ran == 0 && counts.filtered > 0 => {
            let tests = plural(usize::try_from(counts.filtered).unwrap_or(usize::MAX), "test");
            Some(format!("no test matches, {tests} filtered out"))
        }
        (_, AskedFor::Verdict) => None,
    }
}

/// `1 target`, `2 targets`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TargetAnswer, TargetId};

    fn target(verdict: Verdict, source: Source) -> TargetAnswer {
        TargetAnswer {
            id: TargetId::sample("p"),
            verdict,
            counts: TestCounts { passed: 5, failed: 0, ignored: 1, filtered: 0 },
            end: if verdict == Verdict::Pass { End::Exit(0) } else { End::Signal(11) },
            duration_ms: 1_200,
            ..TargetAnswer::sample(source, &[])
        }
    }

    fn asked(scope: &str, for_what: AskedFor) -> AskedQuestion {
        AskedQuestion { scope: scope.to_owned(), for_what }
    }

    fn plain(lines: &[String]) -> String {
        anstream::adapter::strip_str(&lines.join("\n")).to_string()
    }

    #[test]
    fn what_is_kept_carries_its_age() {
        let targets =
            vec![target(Verdict::Pass, Source::Cache), target(Verdict::Pass, Source::Run)];
        let answer = Answer { code_hash: None, targets, not_kept: vec!["a.txt changed".into()] };
        let lines = answer_lines(
            &answer,
            &asked("p", AskedFor::Verdict),
            Duration::from_millis(20),
            Timestamp(180_000),
        );
        assert_eq!(
            plain(&lines),
            "      Cached 1 target, run 3m ago\n  Not cached a.txt changed\n       Green p: 10 passed, 2 ignored in 0.02s"
        );
    }

    #[test]
    fn a_crash_is_named() {
        let report = TargetReport {
            id: TargetId::sample("p"),
            verdict: Verdict::Fail,
            end: End::Signal(11),
            duration_ms: 1_200,
            ..TargetReport::sample(&[])
        };
        let line = report_text(&report);
        assert_eq!(plain(&[line]), "     Crashed p (0 passed, 1.20s): signal 11");
    }

    #[test]
    fn no_tests_at_all_is_green_with_a_warning() {
        let answer = Answer { code_hash: None, targets: vec![], not_kept: vec![] };
        let asked = asked("p", AskedFor::Verdict);
        let text = plain(&answer_lines(&answer, &asked, Duration::ZERO, Timestamp(0)));
        assert!(text.contains("no tests") && text.contains("Green p: 0 passed"), "{text}");
    }

    #[test]
    fn a_question_that_ran_no_test_is_never_called_green() {
        let mut none = target(Verdict::Pass, Source::Run);
        none.counts = TestCounts { filtered: 1, ..TestCounts::default() };
        let filtered = Answer { code_hash: None, targets: vec![none], not_kept: vec![] };
        let empty = Answer { code_hash: None, targets: vec![], not_kept: vec![] };
        let last = |answer: &Answer, scope: &str, for_what| {
            let asked = asked(scope, for_what);
            plain(&answer_lines(answer, &asked, Duration::ZERO, Timestamp(0)))
        };
        assert_eq!(
            last(&filtered, "p (x)", AskedFor::Verdict),
            "    No match p (x): no test matches, 1 test filtered out in 0.00s"
        );
        assert_eq!(
            last(&empty, "p (--no-run)", AskedFor::Build),
            "       Built p (--no-run): the tests are built, none was run in 0.00s"
        );
        assert_eq!(
            last(&filtered, "p", AskedFor::List),
            "      Listed p: the tests are listed, none was run in 0.00s"
        );
    }
}
