//! A place among the work of all projects, for as long as nobody needs it more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::info;

use super::super::queue::{Queue, Ticket, Wish, is_worth_it};
use super::work::Worker;
use crate::model::TargetId;
use crate::protocol::State;
use crate::runner::RunEvent;
use crate::verdict::Step;

/// The right to work.
pub(super) struct Place {
    ticket: Ticket,
    project: String,
    /// It was said that somebody waits for the end.
    wanted: AtomicBool,
}

/// What would be thrown away, and what is still to be done as far as that can be told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) lost: Duration,
    pub(super) left: Option<Duration>,
}

impl Cost {
    /// Of work that has taken `ran` for `done` of `total` steps of like size.
    pub(super) fn left_of(ran: Duration, done: u32, total: u32) -> Option<Duration> {
        (done > 0).then(|| ran * total.saturating_sub(done) / done)
    }
}

/// So many targets are named that do not come to their ends.
const NAMED: usize = 3;

/// How far a run of tests is. What has ended is kept if it is given up.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// When a test last ended, or the first began.
    since: Option<Instant>,
    planned: u32,
    finished: u32,
    running: Vec<(TargetId, Instant)>,
}

impl Runs {
    /// Takes note of what happens.
    pub(super) fn note(&mut self, step: &Step<'_>, now: Instant) {
        let is_news = matches!(
            step,
            Step::Planned(_)
                | Step::Running(RunEvent::TestFinished { .. } | RunEvent::Finished { .. })
        );
        if is_news || self.since.is_none() && matches!(step, Step::Running(_)) {
            self.since = Some(now);
        }
        match step {
            Step::Planned(targets) => self.planned = u32::try_from(*targets).unwrap_or(u32::MAX),
            Step::Running(RunEvent::Started { id }) => {
                self.running.retain(|(other, _)| other != *id);
                self.running.push(((*id).clone(), now));
            }
            Step::Running(RunEvent::Finished { report }) => {
                self.running.retain(|(other, _)| *other != report.id);
                self.finished += 1;
            }
            _ => {}
        }
    }

    /// Why it is to be ended, if it is.
    pub(super) fn overdue(&self, limit: Option<Duration>, now: Instant) -> Option<String> {
        let silent = now.saturating_duration_since(self.since?);
        if silent < limit? {
            return None;
        }
        let names: Vec<_> =
            self.running.iter().take(NAMED).map(|(target, _)| target.to_string()).collect();
        let running = match names[..] {
            [] => String::new(),
            _ => format!(" ({} did not)", names.join(", ")),
        };
        Some(format!("the tests were given up: none ended for {} s{running}", silent.as_secs()))
    }

    /// What it would cost to give up a run that has taken `ran`.
    pub(super) fn cost(&self, ran: Duration, now: Instant) -> Cost {
        let since = self.running.iter().map(|(_, since)| *since).min();
        let lost = since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        Cost { lost, left: Cost::left_of(ran, self.finished, self.planned) }
    }
}

/// A wish for a place.
pub(super) fn wish(root: &Path, target_dirs: &[PathBuf], what: &'static str) -> Wish {
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
    Wish { project: root.to_owned(), name, target_dirs: target_dirs.to_vec(), what }
}

impl Place {
    /// Waits for a place; `None` if the work was given up. Who is waited for does not wait long.
    pub(super) async fn wait(queue: &Arc<Queue>, wish: &Wish, worker: &Worker) -> Option<Self> {
        let ticket = queue.enter(wish.clone());
        let place = Self { ticket, project: wish.name.clone(), wanted: AtomicBool::new(false) };
        let tell = |text: String| {
            worker.tell.send_if_modified(|doing| {
                let new = (State::Paused, text);
                let changed = *doing != new;
                *doing = new;
                changed
            });
        };
        loop {
            tokio::select! {
                biased;
                () = worker.cancel.cancelled() => return None,
                () = worker.wanted.cancelled(), if !place.is_wanted() => place.want(),
                () = place.ticket.turn(tell) => return Some(place),
            }
        }
    }

    /// Whether to give the place up for a project that matters more.
    pub(super) fn is_needed(&self, worker: &Worker, cost: impl FnOnce() -> Cost) -> bool {
        if worker.wanted.is_cancelled() {
            self.want();
            return false;
        }
        let Some(contest) = self.ticket.contest() else { return false };
        let needed = contest.must || {
            let Cost { lost, left } = cost();
            is_worth_it(lost, left)
        };
        if needed {
            info!(project = %self.project, outcome = "gave way", "{} goes first", contest.by);
        }
        needed
    }

    /// The work is done: to come back is to begin waiting anew.
    pub(super) fn served(self) {
        self.ticket.served();
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    fn want(&self) {
        if !self.wanted.swap(true, Ordering::Relaxed) {
            self.ticket.want();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{End, Outcome, TargetKind, TargetReport, TestCounts, Verdict};

    #[test]
    fn of_a_run_of_tests_that_is_lost_which_has_not_ended() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let id = |name: &str| TargetId {
            package: "p".to_owned(),
            target: name.to_owned(),
            kind: TargetKind::Test,
        };
        let report = |name: &str| TargetReport {
            id: id(name),
            verdict: Verdict::Pass,
            end: End::Exit(0),
            counts: TestCounts::default(),
            tests: Vec::new(),
            output: String::new(),
            duration_ms: 1,
        };
        let mut runs = Runs::default();
        let started = |runs: &mut Runs, name: &str, now| {
            runs.note(&Step::Running(RunEvent::Started { id: &id(name) }), now);
        };
        let finished = |runs: &mut Runs, name: &str| {
            runs.note(&Step::Running(RunEvent::Finished { report: &report(name) }), start);
        };
        assert_eq!(runs.overdue(Some(second), start), None, "nothing runs yet");
        runs.note(&Step::Planned(4), start);
        assert_eq!(runs.cost(9 * second, start + 9 * second).lost, Duration::ZERO);
        started(&mut runs, "a", start);
        started(&mut runs, "b", start + second);
        // A test that ends is news, one that begins is not.
        let limit = Some(5 * second);
        assert_eq!(runs.overdue(limit, start + 4 * second), None);
        assert_eq!(runs.overdue(None, start + 1_000 * second), None);
        let why = runs.overdue(limit, start + 5 * second).unwrap();
        assert!(why.ends_with("none ended for 5 s (p::a, p::b did not)"), "{why}");
        let test = RunEvent::TestFinished { name: "x", outcome: Outcome::Ok };
        runs.note(&Step::Running(test), start + 3 * second);
        assert_eq!(runs.overdue(limit, start + 7 * second), None);
        assert!(runs.overdue(limit, start + 8 * second).is_some());
        let cost = runs.cost(5 * second, start + 5 * second);
        assert_eq!((cost.lost, cost.left), (5 * second, None));
        finished(&mut runs, "a");
        let cost = runs.cost(5 * second, start + 5 * second);
        assert_eq!((cost.lost, cost.left), (4 * second, Some(15 * second)));
        // Red when it was observed, and so once more.
        started(&mut runs, "b", start + 6 * second);
        assert_eq!(runs.cost(7 * second, start + 7 * second).lost, second);
        finished(&mut runs, "b");
        assert_eq!(runs.cost(8 * second, start + 8 * second).lost, Duration::ZERO);
    }

    #[test]
    fn what_is_left_follows_from_what_was_done() {
        let ran = Duration::from_secs(10);
        assert_eq!(Cost::left_of(ran, 0, 5), None);
        assert_eq!(Cost::left_of(ran, 1, 5), Some(Duration::from_secs(40)));
        assert_eq!(Cost::left_of(ran, 5, 5), Some(Duration::ZERO));
        assert_eq!(Cost::left_of(ran, 6, 5), Some(Duration::ZERO));
    }
}
