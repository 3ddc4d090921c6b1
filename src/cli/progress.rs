//! What is going on while one waits: a line that moves on a terminal, and elsewhere a line a minute,
//! so that long work never looks dead and no log is filled.

mod terminal;
mod ticker;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::terminal::TerminalProgress;
use self::ticker::Ticker;
use super::exit::Stop;
use super::output;
use super::render::{ERROR, GOOD, NOTE, WARN, label, plural, report_text, seconds};
use crate::compiler::{self, Build};
use crate::model::{TargetReport, Timestamp, Verdict};
use crate::process::{Environment, Stream};
use crate::runner::RunEvent;
use crate::verdict::Step;

/// Between two lines where none can move.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// How much is told before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgressLevel {
    /// What goes on, and each result.
    Full,
    /// What goes on, and each result; what failed targets printed comes with the answer.
    Results,
    /// Failures only.
    Failures,
    /// A sign that work continues; the results come with the answer.
    Alive,
}

/// Tells a person what a question is about.
pub(super) struct Progress {
    bar: ProgressBar,
    level: ProgressLevel,
    /// Whether a line can move.
    on_terminal: bool,
    /// Says lines where none can move, once there is something to say.
    ticker: Option<OnceCell<Ticker>>,
    terminal: Option<TerminalProgress>,
    /// Whether the output of tests that was asked for goes to standard output.
    prints_tests: bool,
    /// A target has shown its output as it came.
    is_live: bool,
    /// Standard output could not be written.
    lost: Option<Stop>,
    /// Targets that run now, oldest first.
    running: Vec<String>,
    done: usize,
    total: usize,
    shown: BTreeSet<String>,
}

impl Progress {
    /// With a moving line if standard error is a terminal. `prints_tests`: standard output may have
    /// the output of tests in it.
    pub(super) fn new(level: ProgressLevel, prints_tests: bool) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let is_shown = level != ProgressLevel::Failures;
        let target = if is_shown && on_terminal {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let ticker = (is_shown && !on_terminal).then(OnceCell::new);
        let bar = ProgressBar::with_draw_target(None, target);
        // A template that does not parse is a bug that the tests find.
        if let Ok(style) =
            ProgressStyle::with_template("{prefix:>12.cyan.bold} {wide_msg} {elapsed:.dim}")
        {
            bar.set_style(style);
        }
        Self {
            bar,
            level,
            on_terminal,
            ticker,
            terminal: None,
            prints_tests,
            is_live: false,
            lost: None,
            running: Vec::new(),
            done: 0,
            total: 0,
            shown: BTreeSet::new(),
        }
    }

    /// Tells the terminal as well, where cargo would.
    pub(super) fn integrate(&mut self, dir: &Path, environment: &Environment) {
        if self.on_terminal && self.level != ProgressLevel::Failures {
            self.terminal = TerminalProgress::as_cargo_would(dir, environment);
        }
    }

    /// Shows one line above the moving one.
    pub(super) fn line(&self, line: &str) {
        if matches!(self.level, ProgressLevel::Full | ProgressLevel::Results) {
            self.always(line);
        }
    }

    /// Shows a line that a person needs even if they asked for quiet.
    pub(super) fn always(&self, line: &str) {
        self.bar.suspend(|| output::note(line));
    }

    /// Shows a line about a failure, unless it comes with the answer.
    fn failure(&self, line: &str) {
        if self.level != ProgressLevel::Alive {
            self.always(line);
        }
    }

    /// Shows what the daemon is doing.
    pub(super) fn waiting(&self, what: &str) {
        self.moving("Waiting", what);
    }

    fn moving(&self, word: &'static str, rest: &str) {
        self.bar.set_prefix(word);
        self.bar.set_message(rest.to_owned());
        self.bar.enable_steady_tick(Duration::from_millis(200));
        if let Some(ticker) = &self.ticker {
            let say = |line: &str| output::note(label(NOTE, "Still", line));
            let ticker = ticker.get_or_init(|| Ticker::start(LINE_INTERVAL, say));
            ticker.doing(format!("{}: {rest}", word.to_lowercase()));
        }
    }

    /// Tells the terminal how much is done, where that is known.
    fn portion(&mut self, done: usize, total: usize) {
        if let Some(terminal) = &mut self.terminal
            && let Some(text) = terminal.portion(done, total)
        {
            self.bar.suspend(|| output::note_text(text));
        }
    }

    /// Takes the moving line away.
    pub(super) fn finish(&mut self) {
        self.bar.finish_and_clear();
        self.ticker = None;
        if let Some(text) = self.terminal.take().and_then(TerminalProgress::end) {
            output::note_text(text);
        }
    }

    /// Shows all that a test program has written.
    pub(super) fn output(&mut self, stdout: &[u8], stderr: &[u8]) {
        let written = self.bar.suspend(|| {
            let written = if self.prints_tests {
                output::bytes(stdout)
            } else {
                output::error_bytes(stdout);
                Ok(())
            };
            output::error_bytes(stderr);
            written
        });
        if let Err(stop) = written {
            self.lost.get_or_insert(stop);
        }
    }

    /// Whether all output of tests was written.
    pub(super) fn written(&mut self) -> Result<(), Stop> {
        self.lost.take().map_or(Ok(()), Err)
    }

    /// Shows a step.
    pub(super) fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::Looking => self.moving("Reading", "the workspace"),
            Step::Missed(why) => self.once(&label(NOTE, "Stale", why)),
            Step::StoreFailed(why) => self.always(&label(WARN, "Shared", why)),
            Step::NotShared(why) => self.once(&label(NOTE, "Shared", why)),
            Step::KnownFailure(known) => {
                let when = known.when.ago(Timestamp::now());
                self.failure(&label(
                    WARN,
                    "Known",
                    format!("this code failed {when}; running again:"),
                ));
                for failure in &known.failures {
                    self.failure(&label(WARN, "", failure));
                }
            }
            Step::Building(progress) => self.building(progress),
            Step::Built(build) => self.built(build),
            Step::BuildingAgain(files) => {
                let what = format!("files changed meanwhile: {}", files.join(", "));
                self.line(&label(NOTE, "Again", what));
            }
            Step::Planned { run, .. } => {
                self.total = *run;
                self.moving("Running", &plural(*run, "target"));
            }
            Step::Running(event) => self.running(event),
        }
    }

    fn building(&mut self, progress: &compiler::BuildProgress) {
        match progress {
            compiler::BuildProgress::Building { done, total, what } => {
                self.moving("Building", &format!("{done}/{total}: {what}"));
                self.portion(*done as usize, *total as usize);
            }
            compiler::BuildProgress::Blocked(what) => {
                self.moving("Blocking", what);
                self.once(&label(NOTE, "Blocking", what));
            }
            compiler::BuildProgress::Status(line) => {
                let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
                match word {
                    // What cargo found fresh, and its own last words, are no news.
                    "Fresh" | "Finished" | "Executable" | "Building" => {}
                    // A line for each crate, or several.
                    "Downloading" | "Downloaded" => self.moving("Downloading", rest),
                    _ if self.on_terminal => self.line(&label(GOOD, word, rest)),
                    _ => self.moving("Building", line),
                }
            }
            compiler::BuildProgress::Made(_) => {}
            compiler::BuildProgress::Diagnostic(text) => self.diagnostic(text),
        }
    }

    fn built(&mut self, build: &Build) {
        for warning in &build.warnings {
            self.diagnostic(warning);
        }
        if !build.fresh {
            self.line(&label(GOOD, "Built", format!("the tests in {}", seconds(build.elapsed))));
        }
    }

    /// A compiler's message, once however often it comes.
    fn diagnostic(&mut self, text: &str) {
        let text = text.trim_end();
        if self.shown.insert(text.to_owned()) {
            self.line(text);
        }
    }

    fn once(&mut self, line: &str) {
        if self.shown.insert(line.to_owned()) {
            self.line(line);
        }
    }

    fn running(&mut self, event: &RunEvent<'_>) {
        match event {
            RunEvent::Started { id } => self.running.push(id.to_string()),
            RunEvent::TestFinished { .. } => return,
            RunEvent::Output { stream, bytes, .. } => {
                // The tests' own output, as it comes.
                self.is_live = true;
                match stream {
                    Stream::Out => self.output(bytes, b""),
                    Stream::Err => self.output(b"", bytes),
                }
                return;
            }
            RunEvent::Slow { id, elapsed, running } => {
                let what = match running {
                    [] => String::new(),
                    names => format!(": {}", names.join(", ")),
                };
                self.line(&label(WARN, "Slow", format!("{id} {}{what}", seconds(*elapsed))));
            }
            RunEvent::Finished { report } => {
                self.done += 1;
                let name = report.id.to_string();
                self.running.retain(|running| *running != name);
                self.finished(report);
            }
        }
        self.portion(self.done, self.total);
        let names = self.running.join(", ");
        self.moving("Running", &format!("{}/{}: {names}", self.done, self.total));
    }

    fn finished(&mut self, report: &TargetReport) {
        let line = report_text(report);
        if report.verdict == Verdict::Pass {
            self.line(&line);
        } else {
            self.failure(&line);
        }
        if let Some(stderr) = &report.stderr {
            if !std::mem::take(&mut self.is_live) {
                self.output(report.output.as_bytes(), stderr.as_bytes());
            }
            return;
        }
        let output = report.output.trim_end();
        if !output.is_empty() && self.level != ProgressLevel::Results {
            self.failure(&format!("{ERROR}--- {} ---{ERROR:#}\n{output}\n", report.id));
        }
    }
}
