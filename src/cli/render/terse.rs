//! The answer in few lines, for programs that pay for each word: one line of green; each failure's
//! message and place of red.

use std::time::Duration;

use super::excerpt::{Excerpt, FAILURE_LINES, compile_errors, excerpt, last_lines, plain_output};
use super::text::nothing_ran;
use super::{AskedFor, counts_text, plural, seconds};
use crate::model::{Answer, Source, TargetAnswer, Timestamp, Verdict};

/// So many targets that ran are named.
const NAMED_TARGETS: usize = 3;

/// The line of a green answer: what there is, how old, of which tree, and what was run for it.
pub(crate) fn green_line(
    answer: &Answer,
    for_what: AskedFor,
    elapsed: Duration,
    now: Timestamp,
) -> String {
    let mut text = match nothing_ran(answer, for_what) {
        Some(why) => format!("nothing run: {why}"),
        None => format!("green: {}; {}", counts_text(answer.counts()), origin(answer, now)),
    };
    let flaky: Vec<_> = answer.targets.iter().flat_map(|target| &target.flaky).collect();
    if !flaky.is_empty() {
        text.push_str(&format!("; {} flaky", plural(flaky.len(), "test")));
    }
    finish(&text, answer, elapsed)
}

/// The lines of a red answer, without the path of the log.
pub(crate) fn red_lines(answer: &Answer, elapsed: Duration, now: Timestamp) -> Vec<String> {
    let failed: Vec<_> = answer.targets.iter().filter(|t| t.verdict != Verdict::Pass).collect();
    let mut lines: Vec<_> = failed.iter().flat_map(|target| failures_of(target)).collect();
    let counts = counts_text(answer.counts());
    let targets = plural(failed.len(), "failed target");
    let text = format!("red: {counts} in {targets}; {}", origin(answer, now));
    lines.push(finish(&text, answer, elapsed));
    lines
}

/// The errors of a compiler or of cargo: message and place of each.
pub(crate) fn error_lines(rendered: &str) -> Vec<String> {
    compile_errors(rendered).into_iter().flat_map(Excerpt::into_lines).collect()
}

/// Which targets were run, and how old the answers of the others are.
fn origin(answer: &Answer, now: Timestamp) -> String {
    let cached = answer.targets.iter().filter(|target| target.source == Source::Cache);
    let age = cached.map(|target| target.when).min().map(|oldest| oldest.ago(now));
    let ran: Vec<_> = answer.targets.iter().filter(|t| t.source != Source::Cache).collect();
    let all = answer.targets.len();
    match age {
        None if all == 0 => "there are no tests in this selection".to_owned(),
        None => format!("ran all of {}", plural(all, "target")),
        Some(age) if ran.is_empty() => format!("run {age}, nothing run now"),
        Some(age) => {
            let names: Vec<_> =
                ran.iter().take(NAMED_TARGETS).map(|target| target.id.to_string()).collect();
            let more = match ran.len().saturating_sub(NAMED_TARGETS) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("ran {}{more} of {}, the others {age}", names.join(", "), plural(all, "target"))
        }
    }
}

fn finish(text: &str, answer: &Answer, elapsed: Duration) -> String {
    let tree = answer.code_hash.map_or_else(|| "unknown".to_owned(), |hash| hash.short());
    format!("{text}; tree {tree}; {}", seconds(elapsed))
}

/// The failures of a target, each with its name, place and message.
fn failures_of(target: &TargetAnswer) -> Vec<String> {
    let output = plain_output(target);
    if target.failures.is_empty() {
        let mut lines = vec![format!("FAILED {}: {}", target.id, target.end)];
        lines.extend(indented(last_lines(&output)));
        return lines;
    }
    let of = |name: &String| {
        let mut lines = vec![format!("FAILED {} {name}", target.id)];
        lines.extend(indented(match excerpt(&output, name) {
            Some(excerpt) => bounded(excerpt.into_lines()),
            None => [vec![target.end.to_string()], last_lines(&output)].concat(),
        }));
        lines
    };
    target.failures.iter().flat_map(of).collect()
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(FAILURE_LINES);
    lines.truncate(FAILURE_LINES);
    if more > 0 {
        lines.push(format!("and {}", plural(more, "more line")));
    }
    lines
}

fn indented(lines: Vec<String>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, End, TargetId, TestCounts};

    fn target(name: &str, source: Source, failures: &[&str], output: &str) -> TargetAnswer {
        let failed = failures.len() as u64;
        TargetAnswer {
            id: TargetId::sample(name),
            verdict: if failed > 0 { Verdict::Fail } else { Verdict::Pass },
            counts: TestCounts { passed: 2, failed, ignored: 1, filtered: 3 },
            failures: failures.iter().map(|name| (*name).to_owned()).collect(),
            end: End::Exit(if failed > 0 { 101 } else { 0 }),
            output: output.to_owned(),
            duration_ms: 0,
            ..TargetAnswer::sample(source, &[])
        }
    }

    fn answer(targets: Vec<TargetAnswer>) -> Answer {
        Answer { code_hash: Some(Digest::of(b"")), targets, not_kept: Vec::new() }
    }

    fn green(targets: Vec<TargetAnswer>) -> String {
        let (elapsed, now) = (Duration::from_millis(10), Timestamp(240_000));
        green_line(&answer(targets), AskedFor::Verdict, elapsed, now)
    }

    #[test]
    fn green_is_one_line_that_hides_nothing() {
        let (ran, kept) = (target("a", Source::Run, &[], ""), target("b", Source::Cache, &[], ""));
        let tree = Digest::of(b"").short();
        assert_eq!(
            green(vec![kept.clone()]),
            format!(
                "green: 2 passed, 1 ignored, 3 filtered out; run 4m ago, nothing run now; tree {tree}; 0.01s"
            )
        );
        let mixed = green(vec![ran.clone(), kept]);
        assert!(mixed.contains("; ran p::a of 2 targets, the others 4m ago; "), "{mixed}");
        assert!(green(vec![ran.clone(), ran]).contains("; ran all of 2 targets; "));
        assert!(green(vec![]).contains("no tests in this selection"));
    }

    const OUTPUT: &str = "failures:\n\n---- two stdout ----\nhello\n\nthread 'two' (46) panicked at \
                          src/lib.rs:7:39:\nassertion failed: should be\nthree\n  left: 1\n \
                          right: 3\nstack backtrace:\n   0: x\nnote: run with\n\n---- three stdout \
                          ----\nError: ParseIntError\n\n---- doc (line 1) stdout ----\nTest \
                          executable failed.\n\nstderr:\n\nthread 'main' panicked at \
                          src/lib.rs:5:1:\nthe doc\n\n\nfailures:\n    two\n";

    #[test]
    fn red_is_each_failures_message_and_place() {
        let red = target("a", Source::Run, &["two", "three", "doc (line 1)"], OUTPUT);
        let lines = red_lines(&answer(vec![red]), Duration::from_secs(1), Timestamp(0));
        let tree = Digest::of(b"").short();
        let expected = [
            "FAILED p::a two",
            "  src/lib.rs:7:39: assertion failed: should be",
            "  three",
            "    left: 1",
            "   right: 3",
            "FAILED p::a three",
            "  Error: ParseIntError",
            "FAILED p::a doc (line 1)",
            "  src/lib.rs:5:1: the doc",
            &format!(
                "red: 2 passed, 3 failed, 1 ignored, 3 filtered out in 1 failed target; ran all of 1 target; tree {tree}; 1.00s"
            ),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_crash_shows_the_last_words() {
        let mut red = target("a", Source::Run, &["one"], "running 1 test\nabort\n");
        red.end = End::Signal(6);
        assert_eq!(
            failures_of(&red),
            ["FAILED p::a one", "  signal 6", "  running 1 test", "  abort"]
        );
        red.failures.clear();
        red.output = (1..20).map(|line| format!("{line}\n")).collect();
        let lines = failures_of(&red);
        assert_eq!((lines[0].as_str(), lines.len()), ("FAILED p::a: signal 6", 9));
        assert_eq!(lines[8], "  19");
    }

    #[test]
    fn a_long_message_is_cut_and_says_so() {
        let lines: String = (0..30).map(|line| format!("line {line}\n")).collect();
        let output = format!("---- t stdout ----\nthread 't' panicked at a.rs:1:1:\n{lines}");
        let shown = bounded(excerpt(&output, "t").unwrap().into_lines());
        assert_eq!(shown.len(), FAILURE_LINES + 1);
        assert_eq!((&*shown[0], &*shown[8]), ("a.rs:1:1: line 0", "and 22 more lines"));
        assert!(excerpt(&output, "other").is_none());
    }

    #[test]
    fn a_build_that_failed_shows_each_error_with_its_place() {
        let rendered = "error[E0425]: cannot find value `x`\n --> src/lib.rs:1:10\n  |\n1 | x\n\n\
                        error: could not compile `p`\n";
        assert_eq!(
            error_lines(rendered),
            [
                "src/lib.rs:1:10: error[E0425]: cannot find value `x`",
                "error: could not compile `p`"
            ]
        );
        assert_eq!(error_lines("odd\n\nwords"), ["odd", "words"]);
    }
}
