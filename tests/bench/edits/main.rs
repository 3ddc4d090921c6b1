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

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use players::{Judge, Nextest, Ours, Place};
use report::{Report, Row};
use single::Edit;

const USAGE: &str = "cargo bench --bench edits -- REPOSITORY RANGE [--think 0,5,20] [--file FILE] \
                     [--fixture FILE] [--selection off|shadow|on] [--keep FOLDER] \
                     [-- SELECTION..]";

/// What the command line asks for.
struct Request {
    repository: PathBuf,
    range: String,
    /// Think times, each a pass of its own.
    thinks: Vec<Duration>,
    /// The source file of the single edits.
    file: Option<PathBuf>,
    /// The data file of the single edit of a fixture.
    fixture: Option<PathBuf>,
    /// Our setting `selection`.
    setting: Option<String>,
    keep: Option<PathBuf>,
    selection: Vec<String>,
}

fn request() -> Result<Request, String> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut plain = Vec::new();
    let (mut thinks, mut selection) = ("0,5,20".to_owned(), Vec::new());
    let (mut file, mut fixture, mut setting, mut keep) = (None, None, None, None);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("`{word}` needs a value"));
        match word.as_str() {
            "--think" => thinks = value()?,
            "--file" => file = Some(value()?.into()),
            "--fixture" => fixture = Some(value()?.into()),
            "--selection" => setting = Some(value()?),
            "--keep" => keep = Some(value()?.into()),
            "--" => selection = words.by_ref().collect(),
            _ if word.starts_with('-') => return Err(format!("unknown option `{word}`")),
            _ => plain.push(word),
        }
    }
    if selection.is_empty() {
        selection.push("--workspace".to_owned());
    }
    let [repository, range] = <[String; 2]>::try_from(plain)
        .map_err(|_| "a repository and a range of its commits are needed")?;
    let seconds = |text: &str| {
        let seconds = text.trim().parse().ok().filter(|seconds| (0.0..=600.0).contains(seconds));
        seconds.map(Duration::from_secs_f64).ok_or(format!("`{text}` is no number of seconds"))
    };
    let thinks = thinks.split(',').map(seconds).collect::<Result<_, _>>()?;
    let repository = repository.into();
    Ok(Request { repository, range, thinks, file, fixture, setting, keep, selection })
}

fn main() -> ExitCode {
    // Without arguments this is `cargo test --benches`, which only wants to know that it starts.
    if std::env::args().skip(1).all(|word| word == "--bench") {
        println!("usage: {USAGE}");
        return ExitCode::SUCCESS;
    }
    let request = match request() {
        Ok(request) => request,
        Err(error) => {
            eprintln!("{error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match play(&request) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Plays all passes; the number of disagreements.
fn play(request: &Request) -> Result<usize, String> {
    let place = Place::new(&request.repository, request.keep.as_deref())?;
    let commits = place.commits(&request.range)?;
    let last = commits.last().ok_or(format!("no commit in `{}`", request.range))?;
    let mut report = Report::default();
    for think in &request.thinks {
        // Records of an earlier pass would answer.
        let mut table = Table::new(&place, &request.selection)?;
        let first = if request.file.is_some() { last } else { &commits[0] };
        if let Some(setting) = &request.setting {
            table.ours.configure(&format!("[defaults]\nselection = {setting:?}\n"))?;
        }
        table.sit_down(&first.hash)?;
        report.begin(*think);
        match &request.file {
            None => {
                for commit in &commits[1..] {
                    let save = |clone: &Path| players::checkout(clone, &commit.hash);
                    let row = table.save(&commit.title, *think, &save)?;
                    report.add(row);
                }
            }
            Some(file) => {
                let edits = single::all(table.judge.clone(), file, request.fixture.as_deref())?;
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
