//! The daemon's state as text.

use super::{ERROR, GOOD, NOTE, WARN, bytes, counts_text, label, plural, seconds};
use crate::cache::SelectionRecord;
use crate::model::{Timestamp, Verdict};
use crate::protocol::{ProjectStatus, State, StatusReport};

/// The state.
pub(crate) fn status_lines(report: &StatusReport, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    match report.pid {
        Some(pid) => {
            let text =
                format!("process {pid}, version {}, {}", report.version, report.socket.display());
            lines.push(label(GOOD, "Running", text));
        }
        None => {
            lines.push(label(WARN, "Not running", "`knhk-test-cache start` starts the service"));
        }
    }
    if let Some(error) = &report.config_error {
        lines.push(label(ERROR, "Config", error.trim_end()));
    }
    for project in &report.projects {
        lines.extend(project_lines(project, now));
    }
    if report.projects.is_empty() {
        lines.push(label(NOTE, "Projects", "none; `knhk-test-cache add` adds one"));
    }
    lines
}

/// A project in a word or two. A verdict on other code than the present is stale.
pub(crate) fn segment(project: &ProjectStatus) -> String {
    match project.state {
        State::Failed => return "broken".to_owned(),
        State::Idle => {}
        state => return state.as_str().to_owned(),
    }
    let last = project.last_verdict.as_ref();
    let is_present = |code| code == project.code_hash && project.code_hash.is_some();
    match last.filter(|last| is_present(last.code_hash)) {
        None => "stale".to_owned(),
        Some(last) => match last.verdict {
            Verdict::Pass => format!("green {}", last.counts.passed),
            Verdict::Fail => format!("red {}", last.counts.failed),
            Verdict::Error => "broken".to_owned(),
        },
    }
}

fn project_lines(project: &ProjectStatus, now: Timestamp) -> Vec<String> {
    let style = match project.state {
        State::Failed | State::Missing => ERROR,
        State::Paused => WARN,
        _ => NOTE,
    };
    let mut state = project.state.as_str().to_owned();
    if let Some(reason) = &project.reason {
        state.push_str(&format!(" ({reason})"));
    }
    let mut lines = vec![label(style, "Project", format!("{}: {state}", project.path.display()))];
    let mut fact = |word: &str, text: String| lines.push(label(NOTE, word, text));
    if let Some(code) = &project.code_hash {
        fact("code", code.short());
    }
    if project.watch != "events" {
        fact("watch", project.watch.clone());
    }
    if let Some(last) = &project.last_verdict {
        let word = match last.verdict {
            Verdict::Pass => "green",
            Verdict::Fail => "red",
            Verdict::Error => "no verdict",
        };
        fact("tests", format!("{word} {} ({})", last.when.ago(now), counts_text(last.counts)));
    }
    if let Some(build) = &project.last_build {
        let word = if build.success { "ready" } else { "failed" };
        let took = seconds(std::time::Duration::from_millis(build.duration_ms));
        fact("build", format!("{word} {} in {took}", build.when.ago(now)));
    }
    for dir in project.target_dirs.iter().filter(|dir| dir.0 != project.path.join("target")) {
        fact("target", dir.0.to_string_lossy().into_owned());
    }
    for note in &project.notes {
        fact("note", note.clone());
    }
    let count =
        |number: u64, what: &str| plural(usize::try_from(number).unwrap_or(usize::MAX), what);
    let mut records = count(project.cache.entries, "record");
    if project.cache.calls > 0 {
        records.push_str(&format!(" ({} by plain cargo test)", count(project.cache.calls, "call")));
    }
    fact("cache", format!("{records}, {}", bytes(project.cache.bytes)));
    if project.verified > 0 {
        fact("verified", format!("{}, wrong {}", project.verified, project.wrong));
    }
    let yields = project.yields;
    if yields.times > 0 {
        let times = plural(usize::try_from(yields.times).unwrap_or(usize::MAX), "time");
        let lost = seconds(std::time::Duration::from_millis(yields.lost_ms));
        let spent = seconds(std::time::Duration::from_millis(yields.spent_ms));
        fact("yielded", format!("{times} to another cargo, {lost} of {spent} lost"));
    }
    if yields.suspended_ms > 0 {
        let suspended = seconds(std::time::Duration::from_millis(yields.suspended_ms));
        fact("suspended", format!("{suspended} while other programs used all cores"));
    }
    if project.selection.runs > 0 {
        fact("selection", selection_text(&project.selection));
    }
    for flaky in &project.flaky {
        fact("flaky", flaky.clone());
    }
    if let Some(build) = project.last_build.as_ref().filter(|build| !build.success) {
        lines.push(build.errors.trim_end().to_owned());
    }
    lines
}

/// What a selection per test would have run.
pub(crate) fn selection_text(record: &SelectionRecord) -> String {
    let SelectionRecord { runs, tests, selected, missed, whole, .. } = record;
    let mut text = format!(
        "would have run {selected} of {tests} tests in {runs} runs ({whole} of them whole), \
         missed {missed}"
    );
    if !record.missed_tests.is_empty() {
        text.push_str(&format!(": {}", record.missed_tests.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CacheUse, InterruptionStats, LastBuild};

    #[test]
    fn a_project_in_a_word_or_two() {
        let mut shown = project();
        assert_eq!(segment(&shown), "broken");
        shown.state = State::Building;
        assert_eq!(segment(&shown), "building");
        shown.state = State::Idle;
        assert_eq!(segment(&shown), "stale");
        let code = Some(crate::model::Digest::of(b""));
        shown.last_verdict = Some(crate::protocol::LastVerdict {
            when: Timestamp(0),
            verdict: Verdict::Pass,
            source: crate::model::Source::Run,
            code_hash: code,
            selection: String::new(),
            counts: crate::model::TestCounts { passed: 7, failed: 2, ..Default::default() },
            elapsed_ms: 1,
        });
        assert_eq!(segment(&shown), "stale", "of other code");
        shown.code_hash = code;
        assert_eq!(segment(&shown), "green 7");
        if let Some(last) = &mut shown.last_verdict {
            last.verdict = Verdict::Fail;
        }
        assert_eq!(segment(&shown), "red 2");
    }

    #[test]
    fn a_failed_build_shows_its_errors() {
        let lines = project_lines(&project(), Timestamp(5_000)).join("\n");
        let text = anstream::adapter::strip_str(&lines).to_string();
        assert_eq!(
            text,
            "     Project /p: failed (the tests do not compile)\n       build failed 5s ago in 1.50s\n      target /t\n        note a note\n       cache 3 records (2 calls by plain cargo test), 2.0 KiB\n    verified 3, wrong 0\n     yielded 1 time to another cargo, 0.50s of 4.00s lost\n   suspended 2.50s while other programs used all cores\n   selection would have run 4 of 30 tests in 3 runs (0 of them whole), missed 1: p::t: b\n       flaky p::t: a\nerror[E0425]: cannot find value `x`"
        );
    }

    fn project() -> ProjectStatus {
        ProjectStatus {
            path: "/p".into(),
            state: State::Failed,
            reason: Some("the tests do not compile".into()),
            paused_until: None,
            code_hash: None,
            watch: "events".into(),
            target_dirs: vec!["/t".into()],
            notes: vec!["a note".into()],
            last_build: Some(LastBuild {
                when: Timestamp(0),
                success: false,
                duration_ms: 1_500,
                rebuilt: 0,
                dirty: Vec::new(),
                ended: None,
                errors: "error[E0425]: cannot find value `x`\n".into(),
            }),
            last_verdict: None,
            cache: CacheUse { entries: 3, calls: 2, bytes: 2_048 },
            verified: 3,
            wrong: 0,
            flaky: vec!["p::t: a".into()],
            selection: SelectionRecord {
                runs: 3,
                tests: 30,
                selected: 4,
                missed: 1,
                missed_tests: vec!["p::t: b".into()],
                ..SelectionRecord::default()
            },
            yields: InterruptionStats {
                times: 1,
                spent_ms: 4_000,
                lost_ms: 500,
                suspended_ms: 2_500,
            },
        }
    }
}
