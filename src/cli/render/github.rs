//! The answer as GitHub Actions reads it: annotations at the failing lines, groups of output, and a
//! table for the job's summary.

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::excerpt::{Excerpt, compile_errors, excerpt, last_lines, plain_output};
use super::{AskedQuestion, counts_text, seconds};
use crate::model::{Answer, Source, TargetAnswer, Timestamp, Verdict};

/// Where the sources lie.
pub(crate) struct Checkout<'a> {
    /// The workspace's root, to which compilers name files.
    pub root: &'a Path,
    /// The repository's root, to which annotations name files.
    pub repository: Option<PathBuf>,
}

impl Checkout<'_> {
    /// The properties of a place; none for a file that is not of this checkout.
    fn properties(&self, excerpt: &Excerpt) -> Vec<(&'static str, String)> {
        let Some(place) = excerpt.source_place() else { return Vec::new() };
        let path = self.root.join(&place.file);
        let top = self.repository.as_deref().filter(|top| path.starts_with(top));
        match path.strip_prefix(top.unwrap_or(self.root)) {
            Ok(file) if path.is_file() => vec![
                ("file", file.display().to_string()),
                ("line", place.line.to_string()),
                ("col", place.column.to_string()),
            ],
            _ => Vec::new(),
        }
    }

    fn annotation(&self, title: &str, excerpt: &Excerpt) -> String {
        let mut properties = self.properties(excerpt);
        properties.push(("title", title.to_owned()));
        let properties: Vec<_> =
            properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
        format!("::error {}::{}", properties.join(","), data(&excerpt.message.join("\n")))
    }
}

/// An annotation for each failure.
pub(crate) fn annotations(answer: &Answer, checkout: &Checkout<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for target in failed(answer) {
        let output = plain_output(target);
        let last_words = || Excerpt {
            place: None,
            message: [vec![target.end.to_string()], last_lines(&output)].concat(),
        };
        if target.failures.is_empty() {
            lines.push(checkout.annotation(&target.id.to_string(), &last_words()));
        }
        for name in &target.failures {
            let excerpt = excerpt(&output, name).unwrap_or_else(last_words);
            lines.push(checkout.annotation(&format!("{} {name}", target.id), &excerpt));
        }
    }
    lines
}

/// An annotation for each error of a build that failed, or for what stood in the way otherwise.
pub(crate) fn error_annotations(
    message: &str,
    build_errors: &str,
    checkout: &Checkout<'_>,
) -> Vec<String> {
    if build_errors.is_empty() {
        let message = message.lines().map(str::to_owned).collect();
        return vec![checkout.annotation("knhk-test-cache", &Excerpt { place: None, message })];
    }
    compile_errors(build_errors)
        .iter()
        .map(|excerpt| checkout.annotation("build", excerpt))
        .collect()
}

/// What each failed target has printed, in a group of its own.
pub(crate) fn groups(answer: &Answer) -> Vec<String> {
    failed(answer)
        .map(|target| {
            let title = data(&format!("{} ({})", target.id, target.end));
            let output = plain_output(target);
            // A test that prints commands gives none.
            let token = token();
            let output = output.trim_end();
            format!(
                "::group::{title}\n::stop-commands::{token}\n{output}\n::{token}::\n::endgroup::"
            )
        })
        .collect()
}

/// The table of the targets, in Markdown.
pub(crate) fn summary_table(
    answer: &Answer,
    asked: &AskedQuestion,
    elapsed: Duration,
    now: Timestamp,
) -> String {
    let word = if answer.verdict() == Verdict::Pass { "green" } else { "not green" };
    let (scope, counts) = (&asked.scope, counts_text(answer.counts()));
    let took = seconds(elapsed);
    let mut text = format!("### {}: {word}, {counts} in {took}\n\n", cell(scope));
    text.push_str("| target | verdict | passed | failed | ignored | from | time |\n");
    text.push_str("|---|---|---:|---:|---:|---|---:|\n");
    for target in &answer.targets {
        let TargetAnswer { id, verdict, counts, .. } = target;
        let from = match target.source {
            Source::Cache => format!("cache, run {}", target.when.ago(now)),
            Source::Run | Source::Mixed => "run".to_owned(),
        };
        let took = match target.source {
            Source::Cache => String::new(),
            Source::Run | Source::Mixed => seconds(Duration::from_millis(target.duration_ms)),
        };
        let verdict = if *verdict == Verdict::Pass { "pass" } else { "**fail**" };
        text.push_str(&format!(
            "| {} | {verdict} | {} | {} | {} | {from} | {took} |\n",
            cell(&id.to_string()),
            counts.passed,
            counts.failed,
            counts.ignored,
        ));
    }
    for target in failed(answer) {
        for name in &target.failures {
            text.push_str(&format!("\n- {} {}", cell(&target.id.to_string()), code(name)));
        }
    }
    text.push('\n');
    text
}

/// The summary of a question without an answer.
pub(crate) fn summary_error(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    format!("### knhk-test-cache: no verdict\n\n{}\n", code(first))
}

fn failed(answer: &Answer) -> impl Iterator<Item = &TargetAnswer> {
    answer.targets.iter().filter(|target| target.verdict != Verdict::Pass)
}

/// A word that no test can know, because it is made after the tests have ended.
fn token() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// The message of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace(['\r', '\n'], " ")
}

/// Words of a program, in Markdown.
fn code(text: &str) -> String {
    format!("`` {} ``", text.replace(['`', '\r', '\n'], " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::AskedFor;
    use crate::model::{Digest, End, TargetId, TestCounts};

    fn target(name: &str, source: Source, failures: &[&str], output: &str) -> TargetAnswer {
        let failed = failures.len() as u64;
        TargetAnswer {
            id: TargetId::sample(name),
            verdict: if failed > 0 { Verdict::Fail } else { Verdict::Pass },
            counts: TestCounts { passed: 2, failed, ignored: 1, filtered: 0 },
            failures: failures.iter().map(|name| (*name).to_owned()).collect(),
            end: End::Exit(if failed > 0 { 101 } else { 0 }),
            output: output.to_owned(),
            duration_ms: 1_200,
            ..TargetAnswer::sample(source, &[])
        }
    }

    fn answer(targets: Vec<TargetAnswer>) -> Answer {
        Answer { code_hash: Some(Digest::of(b"")), targets, not_kept: Vec::new() }
    }

    const OUTPUT: &str = "---- one stdout ----\nthread 'one' panicked at a/lib.rs:7:39:\n100% of \
                          a, b: no\n left: 1\n---- two stdout ----\nthread 'two' panicked at \
                          /elsewhere/x.rs:1:1:\nx\n::error::forged\n";

    #[test]
    fn an_annotation_is_at_the_failing_line_and_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("ws");
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::write(root.join("a/lib.rs"), "").unwrap();
        let red = answer(vec![target("it", Source::Run, &["one", "two"], OUTPUT)]);
        let checkout = Checkout { root: &root, repository: Some(dir.path().to_owned()) };
        let expected = [
            "::error file=ws/a/lib.rs,line=7,col=39,title=p%3A%3Ait one::100%25 of a, b: no%0A left: 1",
            "::error title=p%3A%3Ait two::x%0A::error::forged",
        ];
        assert_eq!(annotations(&red, &checkout), expected);
        let alone = Checkout { root: &root, repository: None };
        assert!(annotations(&red, &alone)[0].starts_with("::error file=a/lib.rs,line=7,"));
        let mut crash = target("it", Source::Run, &[], "last words\n");
        (crash.verdict, crash.end) = (Verdict::Fail, End::Signal(6));
        let lines = annotations(&answer(vec![crash]), &alone);
        assert_eq!(lines, ["::error title=p%3A%3Ait::signal 6%0Alast words"]);
    }

    #[test]
    fn each_error_of_a_build_is_at_its_line() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.rs"), "").unwrap();
        let checkout = Checkout { root: dir.path(), repository: None };
        let rendered = "error[E0425]: no `x`\n --> x.rs:1:10\n  |\nerror: could not compile `p`\n";
        assert_eq!(
            error_annotations("the build failed", rendered, &checkout),
            [
                "::error file=x.rs,line=1,col=10,title=build::error[E0425]: no `x`",
                "::error title=build::error: could not compile `p`"
            ]
        );
        let other = error_annotations("no workspace\nhere", "", &checkout);
        assert_eq!(other, ["::error title=knhk-test-cache::no workspace%0Ahere"]);
    }

    #[test]
    fn output_in_a_group_gives_no_commands() {
        let red = answer(vec![target("it", Source::Run, &["two"], OUTPUT)]);
        let text = groups(&red).join("\n");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "::group::p::it (exit status 101)");
        let token = lines[1].strip_prefix("::stop-commands::").unwrap();
        assert_eq!(lines[lines.len() - 2..], [format!("::{token}::").as_str(), "::endgroup::"]);
        assert!(lines.contains(&"::error::forged"), "{text}");
        assert!(!groups(&red)[0].contains(token), "a token is used once");
    }

    #[test]
    fn the_table_marks_what_was_cached() {
        let targets =
            vec![target("a", Source::Cache, &[], ""), target("b", Source::Run, &["one"], OUTPUT)];
        let asked = AskedQuestion { scope: "ws".into(), for_what: AskedFor::Verdict };
        let (elapsed, now) = (Duration::from_millis(20), Timestamp(180_000));
        let expected = "### ws: not green, 4 passed, 1 failed, 2 ignored in 0.02s\n\n\
                        | target | verdict | passed | failed | ignored | from | time |\n\
                        |---|---|---:|---:|---:|---|---:|\n\
                        | p::a | pass | 2 | 0 | 1 | cache, run 3m ago |  |\n\
                        | p::b | **fail** | 2 | 1 | 1 | run | 1.20s |\n\n\
                        - p::b `` one ``\n";
        assert_eq!(summary_table(&answer(targets), &asked, elapsed, now), expected);
    }
}
