//! The state of a project in words, for every view that shows text.

use crate::model::{Source, TestCounts, Timestamp, Verdict};
use crate::protocol::{LiveProject, State};

/// What the state says of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Every project's tests pass.
    Green,
    /// Some tests fail, or do not compile.
    Red,
    /// Neither is known for the trees as they are.
    Unknown,
}

/// What the state of a project says of its tests.
pub(super) fn standing(project: &LiveProject) -> Standing {
    let is_red = |target: &Verdict| *target != Verdict::Pass;
    let verdict = project.verdict.as_ref().and_then(|verdict| verdict.verdict);
    let mut targets = project.targets.values().map(|target| target.event.verdict);
    let is_known_red = verdict.as_ref().is_some_and(is_red) || targets.any(|it| is_red(&it));
    if has_failed_build(project) || is_known_red {
        return Standing::Red;
    }
    if verdict.is_some() { Standing::Green } else { Standing::Unknown }
}

/// Whether the tests of the tree as it is do not compile.
pub(super) fn has_failed_build(project: &LiveProject) -> bool {
    project.build.as_ref().is_some_and(|build| !build.success && build.ended.is_none())
}

/// The state in one line: `red, 2 passed, 1 failed, 3m ago, run`, or why it is unknown.
pub(super) fn state_text(project: &LiveProject, now: Timestamp) -> String {
    let verdict = project.verdict.as_ref().filter(|verdict| verdict.verdict.is_some());
    let (counts, when, source) = match verdict {
        Some(verdict) => (verdict.counts, verdict.when, verdict.source),
        None => of_targets(project),
    };
    let word = match standing(project) {
        Standing::Green => "green",
        Standing::Red => "red",
        Standing::Unknown => return format!("unknown: {}", why_unknown(project)),
    };
    let mut words = vec![word.to_owned()];
    if verdict.is_some() || !project.targets.is_empty() {
        words.push(counts_text(counts));
    } else {
        words.push("the tests do not compile".to_owned());
    }
    words.extend(when.map(|when| when.ago(now)));
    words.extend(source.map(|source| source_text(source).to_owned()));
    words.join(", ")
}

/// Counts in words: `2 passed, 1 failed`.
pub(super) fn counts_text(counts: TestCounts) -> String {
    let others = [(counts.failed, "failed"), (counts.ignored, "ignored")];
    let others = others.into_iter().filter(|(count, _)| *count > 0);
    let others = others.map(|(count, word)| format!(", {count} {word}"));
    format!("{} passed{}", counts.passed, others.collect::<String>())
}

/// Where a verdict comes from, in words.
pub(super) fn source_text(source: Source) -> &'static str {
    match source {
        Source::Cache => "cached",
        Source::Run => "run",
        Source::Mixed => "run and cached",
    }
}

/// The sums over the targets whose verdicts are known.
fn of_targets(project: &LiveProject) -> (TestCounts, Option<Timestamp>, Option<Source>) {
    let mut counts = TestCounts::default();
    project.targets.values().for_each(|target| counts += target.event.counts);
    let when = project.targets.values().map(|target| target.event.when).min();
    let mut sources = project.targets.values().map(|target| target.event.source);
    let source = sources.next().map(|first| match sources.all(|other| other == first) {
        true => first,
        false => Source::Mixed,
    });
    (counts, when, source)
}

fn why_unknown(project: &LiveProject) -> String {
    let Some(activity) = &project.activity else { return "nothing is known yet".to_owned() };
    let why = match activity.state {
        State::Idle => project.verdict.as_ref().and_then(|verdict| verdict.reason.clone()),
        _ => None,
    };
    let reason = why.or_else(|| activity.reason.clone());
    let state = (activity.state != State::Idle).then(|| activity.state.as_str().to_owned());
    let words: Vec<_> = [state, reason].into_iter().flatten().collect();
    match words.is_empty() {
        true => "the tests have not run".to_owned(),
        false => one_line(&words.join(": ")),
    }
}

/// An error of the compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CompilerError {
    /// Its first line.
    pub(super) title: String,
    /// The file with line and column, as the compiler wrote them.
    pub(super) place: Option<String>,
    /// The lines below the first, as the compiler wrote them.
    pub(super) lines: Vec<String>,
}

/// The errors in what the compiler printed.
pub(super) fn compiler_errors(rendered: &str) -> Vec<CompilerError> {
    let rendered = anstream::adapter::strip_str(rendered).to_string();
    let mut found: Vec<CompilerError> = Vec::new();
    let mut is_inside = false;
    let mut lines = rendered.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("error: ") || line.starts_with("error[") {
            let place = lines.next_if(|line| line.trim_start().starts_with("--> "));
            let place = place.map(|place| place.trim().trim_start_matches("--> ").to_owned());
            found.push(CompilerError { title: line.to_owned(), place, lines: Vec::new() });
            is_inside = true;
        } else if line.starts_with("warning") {
            is_inside = false;
        } else if let Some(error) = found.last_mut().filter(|_| is_inside) {
            error.lines.push(line.to_owned());
        }
    }
    for error in &mut found {
        let is_end = |line: &String| line.trim().is_empty();
        while error.lines.pop_if(|line| is_end(line)).is_some() {}
    }
    found
}

/// All lines of a text as one.
pub(super) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_compiler_ends_where_the_next_message_begins() {
        let text = "error[E0425]: cannot find value `x`\n --> src/lib.rs:1:2\n  |\n1 | x\n\n\
                    warning: unused\n --> src/a.rs:2:1\n\nerror: could not compile `p`\n";
        let found = compiler_errors(text);
        let places: Vec<_> = found.iter().map(|error| error.place.as_deref()).collect();
        assert_eq!(places, [Some("src/lib.rs:1:2"), None]);
        assert_eq!(found[0].lines, ["  |", "1 | x"]);
        assert_eq!(found[1].lines, [""; 0]);
    }
}
