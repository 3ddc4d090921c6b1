//! `stats`: what came from records and what ran, and why, over days.

mod page;
mod tally;

use std::time::Duration;

use serde::Serialize;

use self::page::{PageSpan, page};
use self::tally::{HistorySums, ProjectHistory, date, histories};
use super::args::{OutputFormat, StatsArgs};
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, label, plural, seconds, selection_text};
use crate::cache::{Cache, ObservationCost};
use crate::model::{OsText, Timestamp};

/// How many reasons, and how many targets, the text shows; JSON has all.
const MOST_ROWS_IN_TEXT: usize = 10;

/// Shows the history, or writes its page.
pub(super) fn stats(context: &Context, args: &StatsArgs) -> Result<(), Stop> {
    let only = args.project.as_deref().map(|path| context.project(Some(path))).transpose()?;
    let last = Timestamp::now().day();
    let span = PageSpan { first: (last + 1).saturating_sub(args.days), last };
    let cache = Cache::open(&context.paths.cache_dir);
    let projects = histories(&cache, only.as_deref(), span.first);
    if let Some(file) = &args.html {
        let file = context.cwd.join(file);
        return match std::fs::write(&file, page(&projects, span)) {
            Ok(()) => {
                output::note(label(GOOD, "Written", file.display()));
                Ok(())
            }
            Err(error) => {
                let text = format!("cannot write {}: {error}", file.display());
                Err(Stop::new(Exit::Failure, text))
            }
        };
    }
    if args.format == OutputFormat::Json {
        for line in projects.iter().flat_map(json_lines) {
            output::line(serde_json::to_string(&line).map_err(std::io::Error::from)?)?;
        }
        return Ok(());
    }
    if projects.is_empty() {
        let days = plural(args.days as usize, "day");
        return output::line(format_args!("nothing was asked in the last {days}"));
    }
    projects.iter().flat_map(text_lines).try_for_each(output::line)
}

/// One line of `stats --format json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StatsJsonLine<'a> {
    /// One day of a project.
    Day {
        project: OsText,
        date: String,
        #[serde(flatten)]
        sums: JsonSums,
    },
    /// Why targets ran.
    Reason { project: OsText, reason: &'a str, misses: u64 },
    /// A target that ran.
    Target { project: OsText, target: &'a str, runs: u64, slowest_ms: u64, total_ms: u64 },
    /// A target whose last green run was not cached.
    NotCached {
        project: OsText,
        target: &'a str,
        when: Timestamp,
        why: &'a [String],
        advice: &'a [String],
    },
    /// A target that costs more to observe than `observe_budget`.
    OverBudget {
        project: OsText,
        target: &'a str,
        #[serde(flatten)]
        cost: ObservationCost,
        percent: u64,
    },
    /// What a selection per test would have run, ever since.
    Selection {
        project: OsText,
        runs: u64,
        tests: u64,
        selected: u64,
        missed: u64,
        missed_tests: &'a [String],
        whole: u64,
    },
    /// All days of a project.
    Project {
        project: OsText,
        #[serde(flatten)]
        sums: JsonSums,
        wrong_targets: Vec<&'a str>,
        /// The signers of wrong records of other machines.
        wrong_signers: Vec<&'a str>,
    },
}

/// The sums as they are written in JSON.
#[derive(Serialize)]
struct JsonSums {
    answers: u64,
    answers_from_cache: u64,
    targets_cached: u64,
    targets_run: u64,
    saved_ms: u64,
    verified: u64,
    wrong: u64,
}

impl From<&HistorySums> for JsonSums {
    fn from(sums: &HistorySums) -> Self {
        Self {
            answers: sums.answers,
            answers_from_cache: sums.from_cache,
            targets_cached: sums.hits,
            targets_run: sums.misses,
            saved_ms: sums.saved_ms,
            verified: sums.verified,
            wrong: sums.wrong,
        }
    }
}

fn json_lines(history: &ProjectHistory) -> Vec<StatsJsonLine<'_>> {
    let project = || OsText::from(&history.root);
    let days = history.days.iter().map(|(day, sums)| StatsJsonLine::Day {
        project: project(),
        date: date(*day),
        sums: sums.into(),
    });
    let reasons = history.reasons().into_iter().map(|(reason, misses)| StatsJsonLine::Reason {
        project: project(),
        reason,
        misses,
    });
    let targets = history.slowest().into_iter().map(|(target, runs)| StatsJsonLine::Target {
        project: project(),
        target,
        runs: runs.runs,
        slowest_ms: runs.slowest_ms,
        total_ms: runs.total_ms,
    });
    let not_cached = history.not_cached.iter().map(|(target, last)| StatsJsonLine::NotCached {
        project: project(),
        target,
        when: last.when,
        why: &last.why,
        advice: &last.advice,
    });
    let over_budget = history.over_budget.iter().map(|(target, cost)| StatsJsonLine::OverBudget {
        project: project(),
        target,
        cost: *cost,
        percent: cost.percent(),
    });
    let selection = &history.selection;
    let selection = StatsJsonLine::Selection {
        project: project(),
        runs: selection.runs,
        tests: selection.tests,
        selected: selection.selected,
        missed: selection.missed,
        missed_tests: &selection.missed_tests,
        whole: selection.whole,
    };
    let all = StatsJsonLine::Project {
        project: project(),
        sums: (&history.sums()).into(),
        wrong_targets: history.wrong.iter().map(String::as_str).collect(),
        wrong_signers: history.wrong_signers.iter().map(String::as_str).collect(),
    };
    let lines = days.chain(reasons).chain(targets).chain(not_cached).chain(over_budget);
    lines.chain([selection, all]).collect()
}

fn text_lines(history: &ProjectHistory) -> Vec<String> {
    let sums = history.sums();
    let mut lines = vec![history.root.display().to_string()];
    let mut fact = |word: &str, text: String| lines.push(format!("{word:>12} {text}"));
    let HistorySums { answers, from_cache, hits, misses, saved_ms, verified, wrong } = sums;
    let from_cache = format!("{from_cache} from records alone");
    fact("asked", format!("{}, {from_cache}", plural(answers as usize, "time")));
    let percent = sums.hit_percent();
    let targets = plural(hits as usize, "target");
    fact("hits", format!("{targets} from records, {misses} run ({percent} % hits)"));
    fact("saved", format!("{} of running tests", seconds(Duration::from_millis(saved_ms))));
    let mut checked = format!("{verified}, wrong {wrong}");
    if !history.wrong.is_empty() {
        let names: Vec<_> = history.wrong.iter().map(String::as_str).collect();
        checked.push_str(&format!(": {}", names.join(", ")));
    }
    if !history.wrong_signers.is_empty() {
        let names: Vec<_> = history.wrong_signers.iter().map(String::as_str).collect();
        checked.push_str(&format!("; signed by {}", names.join(", ")));
    }
    fact("verified", checked);
    for (reason, misses) in history.reasons().into_iter().take(MOST_ROWS_IN_TEXT) {
        fact("missed", format!("{misses} × {reason}"));
    }
    for (target, runs) in history.slowest().into_iter().take(MOST_ROWS_IN_TEXT) {
        let slowest = seconds(Duration::from_millis(runs.slowest_ms));
        let (total, runs) =
            (seconds(Duration::from_millis(runs.total_ms)), plural(runs.runs as usize, "run"));
        fact("slowest", format!("{target} {slowest} ({runs}, {total} in all)"));
    }
    for (target, last) in &history.not_cached {
        fact("not cached", format!("{target}: {}", last.why.join("; ")));
    }
    for (target, cost) in &history.over_budget {
        fact("observing", format!("{target} took {cost}"));
    }
    if history.selection.runs > 0 {
        fact("selection", selection_text(&history.selection));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{AnsweredTargets, HistoryEvent};

    #[test]
    fn a_project_in_lines_of_text_and_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let mut answered = AnsweredTargets::default();
        answered.hit(1_500);
        answered.miss("p::it".to_owned(), "`data` changed", 250);
        cache.note_history("/p".as_ref(), HistoryEvent::Answered(answered));
        let projects = histories(&cache, None, 0);
        let text: Vec<_> = projects.iter().flat_map(text_lines).collect();
        let expected = "/p\n       asked 1 time, 0 from records alone\n        \
                        hits 1 target from records, 1 run (50 % hits)\n       \
                        saved 1.50s of running tests\n    verified 0, wrong 0\n      \
                        missed 1 × `data` changed\n     slowest p::it 0.25s (1 run, 0.25s in all)";
        assert_eq!(text.join("\n"), expected);
        let json = projects.iter().flat_map(json_lines).map(|line| {
            let value = serde_json::to_value(&line).unwrap();
            assert_eq!(value["project"], "/p");
            value["type"].as_str().unwrap().to_owned()
        });
        let json: Vec<_> = json.collect();
        assert_eq!(json, ["day", "reason", "target", "selection", "project"]);
        assert!(histories(&cache, Some("/q".as_ref()), 0)[0].days.is_empty());
    }
}
