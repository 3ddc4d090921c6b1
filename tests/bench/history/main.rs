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

use std::path::PathBuf;
use std::process::ExitCode;

use players::{Judge, Ours, Place};
use tally::{Row, Tally};

/// What was asked for on the command line.
struct Request {
    repository: PathBuf,
    range: String,
    daemon: bool,
    keep: Option<PathBuf>,
    selection: Vec<String>,
}

const USAGE: &str =
    "cargo bench --bench history -- REPOSITORY RANGE [--daemon] [--keep FOLDER] [-- SELECTION..]";

fn request() -> Result<Request, String> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut plain = Vec::new();
    let (mut daemon, mut keep) = (false, None);
    let mut selection = Vec::new();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--" => selection = words.by_ref().collect(),
            "--daemon" => daemon = true,
            "--keep" => keep = Some(words.next().ok_or("--keep needs a folder")?.into()),
            _ if word.starts_with('-') => return Err(format!("what is `{word}`?")),
            _ => plain.push(word),
        }
    }
    if selection.is_empty() {
        selection.push("--workspace".to_owned());
    }
    let [repository, range] = <[String; 2]>::try_from(plain)
        .map_err(|_| "a repository and a range of its commits are needed")?;
    Ok(Request { repository: repository.into(), range, daemon, keep, selection })
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
    match replay(&request) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Walks the commits; the number of disagreements.
fn replay(request: &Request) -> Result<usize, String> {
    let place = Place::new(&request.repository, request.keep.as_deref())?;
    let commits = place.commits(&request.range)?;
    if commits.is_empty() {
        return Err(format!("no commit in `{}`", request.range));
    }
    let mut judge = Judge::new(&place, &request.selection)?;
    let mut ours = Ours::new(&place, &request.selection)?;
    if request.daemon {
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
