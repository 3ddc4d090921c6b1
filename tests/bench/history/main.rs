//! A repository's history as one long day of edits: at each commit we are asked, incrementally,
//! and a real `cargo test` judges.
//!
//! ```text
//! cargo bench --bench history -- REPOSITORY RANGE [--daemon] [--keep FOLDER] [-- SELECTION..]
//! cargo bench --bench history -- ~/src/ripgrep 14.1.0~60..14.1.0
//! cargo bench --bench history -- ~/src/ripgrep HEAD~80..HEAD -- -p globset
//! ```
//!
//! `RANGE` is whatever `git rev-list` takes; first parents only, oldest first. Each side has a
//! clone and a target folder of its own, so that neither builds for the other; crates are
//! downloaded before either is asked, and they take turns in being asked first. Prints a table in
//! markdown with a line a commit: both verdicts, targets run and kept, both times; and at the end
//! the disagreements (the exit status is 1 if there are any), and the share of target runs and of
//! test time that was avoided. `--daemon` asks a running daemon, else each question is answered by
//! its own process. Only what we answer at once is compared with what was kept before: nothing is
//! asked twice.
//!
//! Where the two disagree, the judge is asked again: a test that fails now and then is no
//! disagreement, and is told as what it is.

#![allow(clippy::disallowed_methods, reason = "the players are run as a shell would run them")]

#[path = "../players.rs"]
mod players;
#[path = "../../it/results.rs"]
mod results;
mod tally;

use std::path::Path;
use std::process::ExitCode;

use players::{Arguments, Judge, Ours, Place};
use tally::{Row, Tally};

const USAGE: &str =
    "cargo bench --bench history -- REPOSITORY RANGE [--daemon] [--keep FOLDER] [-- SELECTION..]";

fn main() -> ExitCode {
    players::run(USAGE, replay)
}

/// Walks the commits; the number of disagreements.
fn replay(arguments: &Arguments) -> Result<usize, String> {
    let keep = arguments.option("--keep").map(Path::new);
    let place = Place::new(&arguments.repository, keep)?;
    let commits = place.commits(&arguments.range)?;
    if commits.is_empty() {
        return Err(format!("no commit in `{}`", arguments.range));
    }
    let mut judge = Judge::new(&place, &arguments.selection)?;
    let mut ours = Ours::new(&place, &arguments.selection)?;
    if arguments.option("--daemon").is_some() {
        // A workspace can be added once it is there.
        ours.checkout(&commits[0].hash)?;
        ours.start()?;
    }
    let mut tally = Tally::default();
    println!("{}", tally::HEAD);
    for (number, commit) in commits.iter().enumerate() {
        judge.checkout(&commit.hash)?;
        judge.fetch()?;
        // Who comes second finds a warmer machine: they take turns. Ours is not given a commit
        // before it is asked about it, or a daemon would build while the judge does.
        let early = if number % 2 == 1 { Some(judge.ask()?) } else { None };
        ours.checkout(&commit.hash)?;
        let answer = ours.ask()?;
        let mut judgement = match early {
            Some(judgement) => judgement,
            None => judge.ask()?,
        };
        let mut agreed = answer.results.agrees_with(&judgement.results);
        let mut flaky = false;
        if !agreed {
            let second = judge.ask()?;
            flaky = second.results != judgement.results;
            agreed = flaky && answer.results.agrees_with(&second.results);
            if agreed {
                judgement = second;
            }
        }
        let row = Row { commit, answer, judgement, agreed, flaky };
        println!("{row}");
        tally.add(&row);
    }
    ours.end();
    println!("\n{tally}");
    Ok(tally.disagreements)
}
