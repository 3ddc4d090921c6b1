//! How often the next commit's packages are among the first three that are predicted.
//!
//! ```text
//! cargo bench --bench predict -- REPOSITORY [COMMITS] [--tune]
//! ```
//!
//! Walks the newest `COMMITS` (1,000) commits of a repository (bare ones too), oldest first. Each
//! is predicted from up to a thousand commits before it, with the packages and the dependency
//! graph of its parent, against two baselines that have the same evidence: the packages of the
//! last commits ("last edited") and those of the most ("most edited"). Merges and commits that
//! change no package are passed over, and so are those of times with fewer than four packages,
//! where three guesses are no art.
//!
//! Then the same with one of a commit's packages given, as if it were being edited: are the
//! others foreseen?
//!
//! `--tune` tries other weights, one at a time, and prints the best it finds; judge those on
//! another repository.

#![allow(clippy::disallowed_methods, reason = "git is asked as a shell would ask it")]

mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use knhk_test_cache::internals::predict::{Commit, Event, Evidence, Weights, predict};
use repository::Moment;

/// How many packages are predicted.
const SCORED_GUESSES: usize = 3;
/// How far back one looks.
const MEMORY: usize = 1_000;

const USAGE: &str = "cargo bench --bench predict -- REPOSITORY [COMMITS] [--tune]";

fn main() -> ExitCode {
    // Without arguments this is `cargo test --benches`, which only wants to know that it starts.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.is_empty() {
        return ExitCode::SUCCESS;
    }
    let tune = words.iter().any(|word| word == "--tune");
    let plain: Vec<_> = words.iter().filter(|word| *word != "--tune").collect();
    let (repository, count) = match plain[..] {
        [repository] => (repository, Ok(1_000)),
        [repository, count] => (repository, count.parse::<usize>()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Ok(count) = count else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let moments = match repository::walk(&PathBuf::from(repository), count, MEMORY) {
        Ok(moments) => moments,
        Err(why) => {
            eprintln!("{repository}: {why}");
            return ExitCode::FAILURE;
        }
    };
    let tasks = tasks(&moments, count);
    if tune {
        println!("{:?}", tuned(&tasks));
        return ExitCode::SUCCESS;
    }
    report(&tasks);
    ExitCode::SUCCESS
}

/// One commit to be predicted.
struct Task<'a> {
    history: Vec<Commit>,
    graph: &'a BTreeMap<String, BTreeSet<String>>,
    next: &'a BTreeSet<String>,
}

fn tasks(moments: &[Moment], count: usize) -> Vec<Task<'_>> {
    let all: Vec<_> = moments.iter().map(|moment| moment.commit.clone()).collect();
    let first = all.len().saturating_sub(count);
    let interesting = (first..all.len()).filter(|at| {
        let Moment { commit, graph } = &moments[*at];
        graph.len() > SCORED_GUESSES
            && commit.packages.iter().any(|package| graph.contains_key(package))
    });
    interesting
        .map(|at| {
            let before = &all[at.saturating_sub(MEMORY)..at];
            let history =
                before.iter().filter(|commit| !commit.packages.is_empty()).cloned().collect();
            Task { history, graph: &moments[at].graph, next: &moments[at].commit.packages }
        })
        .collect()
}

/// How often it was right.
#[derive(Clone, Copy, Default)]
struct Score {
    of: usize,
    any: usize,
    /// Of those that three guesses can hold.
    small: usize,
    all: usize,
    recall: f64,
}

impl Score {
    fn add(&mut self, guesses: &[String], wanted: &BTreeSet<&String>) {
        let found = wanted.iter().filter(|name| guesses.contains(**name)).count();
        self.of += 1;
        self.any += usize::from(found > 0);
        self.recall += found as f64 / wanted.len() as f64;
        if wanted.len() <= SCORED_GUESSES {
            self.small += 1;
            self.all += usize::from(found == wanted.len());
        }
    }

    fn row(&self, name: &str) {
        let share = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
        println!(
            "| {name} | {:.1} % | {:.1} % | {:.1} % |",
            share(self.all, self.small),
            share(self.any, self.of),
            100.0 * self.recall / self.of.max(1) as f64
        );
    }
}

type Guess = fn(&Task<'_>, Option<&String>) -> Vec<String>;

fn ours(task: &Task<'_>, edited: Option<&String>) -> Vec<String> {
    with_weights(task, edited, &Weights::default())
}

fn with_weights(task: &Task<'_>, edited: Option<&String>, weights: &Weights) -> Vec<String> {
    let edits: Vec<_> =
        edited.iter().map(|package| Event { package: (*package).clone(), ago: 0 }).collect();
    let evidence =
        Evidence { history: &task.history, edits: &edits, asked: &[], graph: task.graph };
    let ranked = predict(&evidence, weights).into_iter().map(|ranked| ranked.package);
    ranked.filter(|package| Some(package) != edited).take(SCORED_GUESSES).collect()
}

/// The packages of the last commits, the newest first.
fn last_edited(task: &Task<'_>, edited: Option<&String>) -> Vec<String> {
    let mut guesses: Vec<String> = Vec::new();
    for commit in task.history.iter().rev() {
        for package in &commit.packages {
            let is_new = !guesses.contains(package) && Some(package) != edited;
            if is_new && task.graph.contains_key(package) {
                guesses.push(package.clone());
            }
        }
        if guesses.len() >= SCORED_GUESSES {
            break;
        }
    }
    guesses.truncate(SCORED_GUESSES);
    guesses
}

/// The packages of the most commits.
fn most_edited(task: &Task<'_>, edited: Option<&String>) -> Vec<String> {
    let mut counts: BTreeMap<&String, usize> = BTreeMap::new();
    for package in task.history.iter().flat_map(|commit| &commit.packages) {
        if task.graph.contains_key(package) && Some(package) != edited {
            *counts.entry(package).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.into_iter().take(SCORED_GUESSES).map(|(package, _)| package.clone()).collect()
}

fn score_next(tasks: &[Task<'_>], guess: impl Fn(&Task<'_>) -> Vec<String>) -> Score {
    let mut score = Score::default();
    for task in tasks {
        score.add(&guess(task), &task.next.iter().collect());
    }
    score
}

/// Each package of a commit of several in turn, the others to be foreseen.
fn score_others(
    tasks: &[Task<'_>],
    guess: impl Fn(&Task<'_>, Option<&String>) -> Vec<String>,
) -> Score {
    let mut score = Score::default();
    for task in tasks.iter().filter(|task| (2..=SCORED_GUESSES + 1).contains(&task.next.len())) {
        for edited in task.next.iter().filter(|edited| task.graph.contains_key(*edited)) {
            let others = task.next.iter().filter(|other| *other != edited).collect();
            score.add(&guess(task, Some(edited)), &others);
        }
    }
    score
}

fn report(tasks: &[Task<'_>]) {
    let guesses: [(&str, Guess); 3] =
        [("predicted", ours), ("last edited", last_edited), ("most edited", most_edited)];
    let packages = tasks.last().map_or(0, |task| task.graph.len());
    let small = tasks.iter().filter(|task| task.next.len() <= SCORED_GUESSES).count();
    println!(
        "{} commits, {small} of them of at most {SCORED_GUESSES} packages; {packages} packages at the end\n",
        tasks.len()
    );
    println!(
        "| the next commit, first {SCORED_GUESSES} guesses | all its packages | one of them | mean share |\n|---|--:|--:|--:|"
    );
    for (name, guess) in guesses {
        score_next(tasks, |task| guess(task, None)).row(name);
    }
    let others = score_others(tasks, ours).of;
    println!("\n{others} cases of one package given out of two to {}\n", SCORED_GUESSES + 1);
    println!(
        "| the others of the commit | all of them | one of them | mean share |\n|---|--:|--:|--:|"
    );
    for (name, guess) in guesses {
        score_others(tasks, guess).row(name);
    }
}

/// What is to be large: the share foreseen, without an edit and with one.
fn worth(tasks: &[Task<'_>], weights: &Weights) -> f64 {
    let next = score_next(tasks, |task| with_weights(task, None, weights));
    let others = score_others(tasks, |task, edited| with_weights(task, edited, weights));
    let mean = |score: Score| score.recall / score.of.max(1) as f64;
    mean(next) + mean(others)
}

/// Changes one weight at a time as long as that helps.
fn tuned(tasks: &[Task<'_>]) -> Weights {
    type Field = fn(&mut Weights) -> &mut f64;
    let fields: [Field; 3] =
        [|weights| &mut weights.short, |weights| &mut weights.long, |weights| &mut weights.depends];
    let mut best = Weights::default();
    let mut most = worth(tasks, &best);
    loop {
        let before = most;
        for field in fields {
            for factor in [0.25, 0.5, 0.7, 1.4, 2.0, 4.0] {
                let mut other = best;
                *field(&mut other) *= factor;
                let worth = worth(tasks, &other);
                // Less than that is chance.
                if worth > most + 0.001 {
                    (best, most) = (other, worth);
                    eprintln!("{most:.4} {best:?}");
                }
            }
        }
        if most == before {
            return best;
        }
    }
}
