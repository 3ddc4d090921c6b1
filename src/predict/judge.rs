//! Which mix of evidence has foretold this very history best.
//!
//! Whoever works alone goes on where they were; where hundreds send their changes, the last one
//! says nothing of the next. No weights fit both, so the last commits decide.

use super::memory::Memory;
use super::{Mix, SCORED_GUESSES, Weights};

/// How many of the last commits the mixes are judged by.
const COMMITS_JUDGED: usize = 200;
/// The fewest cases that prove one mix better than another.
const MIN_CASES: usize = 20;

/// How a kind of prediction has done with each mix.
#[derive(Clone, Debug)]
struct MixScores {
    cases: usize,
    /// The sum of the shares that were foretold.
    found: Vec<f64>,
}

impl MixScores {
    fn new() -> Self {
        Self { cases: 0, found: vec![0.0; Mix::ALL.len()] }
    }

    fn add(&mut self, wanted: &[usize], given: Option<usize>, scores: impl Fn(Mix) -> Vec<f64>) {
        self.cases += 1;
        let wanted = wanted.iter().filter(|package| Some(**package) != given);
        let count = wanted.clone().count();
        for (found, mix) in self.found.iter_mut().zip(Mix::ALL) {
            let mut scores = scores(mix);
            if let Some(given) = given {
                scores[given] = f64::NEG_INFINITY;
            }
            // Among the first if few are better.
            let better = |package: usize| {
                let own = scores[package];
                let before = |(other, score): (usize, &f64)| {
                    *score > own || (*score == own && other < package)
                };
                scores.iter().enumerate().filter(|(other, score)| before((*other, score))).count()
            };
            let hits = wanted.clone().filter(|package| better(**package) < SCORED_GUESSES).count();
            *found += hits as f64 / count as f64;
        }
    }

    fn best(&self) -> Mix {
        let mut best = 0;
        for (at, found) in self.found.iter().enumerate() {
            if self.cases >= MIN_CASES && *found > self.found[best] {
                best = at;
            }
        }
        Mix::ALL[best]
    }
}

/// Walks a history: what it has taught, the best mix for the next commit, and the best where one
/// of its packages is known.
pub(super) fn walk(history: &[Vec<usize>], count: usize, weights: &Weights) -> (Memory, Mix, Mix) {
    let mut memory = Memory::new(count, weights);
    let (mut next, mut others) = (MixScores::new(), MixScores::new());
    for (at, commit) in history.iter().enumerate() {
        if at + COMMITS_JUDGED >= history.len() && !commit.is_empty() {
            let last: Vec<_> = memory.last.iter().map(|package| (*package, 1.0)).collect();
            next.add(commit, None, |mix| memory.scores(&last, mix));
            if (2..=SCORED_GUESSES + 1).contains(&commit.len()) {
                for &given in commit {
                    others.add(commit, Some(given), |mix| memory.scores(&[(given, 1.0)], mix));
                }
            }
        }
        memory.add(commit);
    }
    let (next, others) = (next.best(), others.best());
    (memory, next, others)
}
