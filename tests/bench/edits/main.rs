//! A developer's day: **save, think, ask**, against `cargo test` and against `cargo nextest run`
//! with `cargo test --doc`.
//!
//! ```text
//! cargo bench --bench edits -- REPOSITORY RANGE [--think 0,5,20] [--file FILE] [--fixture FILE]
//!                              [--selection off|shadow|on] [--keep FOLDER] [-- SELECTION..]
//! cargo bench --bench edits -- ~/src/ripgrep 15.1.0~20..15.1.0
//! cargo bench --bench edits -- ~/src/ripgrep 15.1.0 --file crates/globset/src/glob.rs
//! ```
//!
//! Each commit of `RANGE` is one save: a checkout into the working tree. After the think time (in
//! seconds) the question is asked. The daemon sees the save at once and may use the think time; the
//! two peers are asked at the same point of the same save, with nothing built ahead, so for them no
//! time needs to pass. Every player has a clone, a target folder and folders of the user of its own.
//! The players take turns in being first, and a turn begins when the daemon is idle.
//!
//! With `--file` the saves are single edits of that file on the last commit of `RANGE` instead: see
//! [`single`].
//!
//! `--selection` is the setting of that name in our config.
//!
//! It prints a line for each save, then for each think time the median waits, their ratios, how
//! often we were more than 5 % slower than cargo, and the disagreements with cargo. The exit status
//! is 1 if there is a disagreement.

#![allow(clippy::disallowed_methods, reason = "the players are run as a shell would run them")]

#[path = "../players.rs"]
mod players;
mod report;
#[path = "../../it/results.rs"]
#[allow(dead_code, reason = "the end-to-end tests use more of it")]
mod results;
mod single;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use players::{Arguments, Judge, Nextest, Ours, Place};
use report::{Report, Row};
use single::Edit;

const USAGE: &str = "cargo bench --bench edits -- REPOSITORY RANGE [--think 0,5,20] [--file FILE] \
                     [--fixture FILE] [--selection off|shadow|on] [--keep FOLDER] \
                     [-- SELECTION..]";

fn main() -> ExitCode {
    players::run(USAGE, play)
}

/// The think times, each a pass of its own.
fn thinks(text: &str) -> Result<Vec<Duration>, String> {
    let seconds = |text: &str| {
        let seconds = text.trim().parse().ok().filter(|seconds| (0.0..=600.0).contains(seconds));
        seconds.map(Duration::from_secs_f64).ok_or(format!("`{text}` is no number of seconds"))
    };
    text.split(',').map(seconds).collect()
}

/// Plays all passes; the number of disagreements.
fn play(arguments: &Arguments) -> Result<usize, String> {
    let path = |option: &str| arguments.option(option).map(Path::new);
    let (file, fixture) = (path("--file"), path("--fixture"));
    let thinks = thinks(arguments.option("--think").unwrap_or("0,5,20"))?;
    let place = Place::new(&arguments.repository, path("--keep"))?;
    let commits = place.commits(&arguments.range)?;
    let last = commits.last().ok_or(format!("no commit in `{}`", arguments.range))?;
    let mut report = Report::default();
    for think in &thinks {
        // Records of an earlier pass would answer.
        let mut table = Table::new(&place, &arguments.selection)?;
        let first = if file.is_some() { last } else { &commits[0] };
        if let Some(setting) = arguments.option("--selection") {
            table.ours.configure(&format!("[defaults]\nselection = {setting:?}\n"))?;
        }
        table.sit_down(&first.hash)?;
        report.begin(*think);
        match file {
            None => {
                for commit in &commits[1..] {
                    let save = |clone: &Path| players::checkout(clone, &commit.hash);
                    let row = table.save(&commit.title, *think, &save)?;
                    report.add(row);
                }
            }
            Some(file) => {
                let edits = single::all(table.judge.clone(), file, fixture)?;
                for Edit { name, files } in &edits {
                    let row = table.save(name, *think, &|clone| single::write(clone, files))?;
                    report.add(row);
                }
            }
        }
        table.ours.end();
    }
    Ok(report.finish())
}

/// The players of one pass.
struct Table {
    ours: Ours,
    judge: Judge,
    nextest: Option<Nextest>,
    saves: usize,
}

impl Table {
    fn new(place: &Place, selection: &[String]) -> Result<Self, String> {
        Ok(Self {
            ours: Ours::new(place, selection)?,
            judge: Judge::new(place, selection)?,
            nextest: Nextest::new(place, selection)?,
            saves: 0,
        })
    }

    /// Has every player build and run the first commit, which is not counted.
    fn sit_down(&mut self, hash: &str) -> Result<(), String> {
        self.judge.checkout(hash)?;
        self.judge.fetch()?;
        self.judge.ask()?;
        if let Some(nextest) = &mut self.nextest {
            nextest.checkout(hash)?;
            nextest.ask()?;
        }
        self.ours.checkout(hash)?;
        self.ours.start()?;
        self.ours.ask()?;
        self.ours.rest()
    }

    /// One save: every player has it in its clone and is asked in its turn.
    fn save(
        &mut self,
        title: &str,
        think: Duration,
        save: &dyn Fn(&Path) -> Result<(), String>,
    ) -> Result<Row, String> {
        self.saves += 1;
        // The judge's clone is the first to need a crate that this save brings.
        save(self.judge.clone())?;
        self.judge.fetch()?;
        let (mut ours, mut cargo, mut nextest) = (None, None, None);
        for turn in 0..3 {
            match (turn + self.saves) % 3 {
                0 => {
                    save(self.ours.clone())?;
                    std::thread::sleep(think);
                    ours = Some(self.ours.ask()?);
                    self.ours.rest()?;
                }
                1 => cargo = Some(self.judge.ask()?),
                _ => {
                    if let Some(player) = &mut self.nextest {
                        save(player.clone())?;
                        nextest = Some(player.ask()?.1);
                    }
                }
            }
        }
        let (Some(ours), Some(cargo)) = (ours, cargo) else {
            return Err("a player had no turn".to_owned());
        };
        let mut agreed = ours.results.agrees_with(&cargo.results);
        if !agreed {
            // A test that fails now and then is no disagreement.
            let second = self.judge.ask()?;
            agreed = second.results != cargo.results && ours.results.agrees_with(&second.results);
        }
        Ok(Row { title: title.to_owned(), ours, cargo: cargo.took, nextest, agreed })
    }
}
