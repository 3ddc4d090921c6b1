//! What a history has taught, commit by commit.

use super::{Mix, Weights};

/// The most packages that a commit may change to teach which of them belong together. A larger one
/// is a release, a new edition, a formatter.
const SWEEPING: usize = 8;

/// Counts over the commits so far. Packages are numbers here, below the `count` of all.
///
/// A commit weighs more than the one before it, so that old counts need no touch to fade.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    count: usize,
    /// What the next commit weighs.
    weight: f64,
    growth: f64,
    fading: f64,
    long: Vec<f64>,
    long_total: f64,
    /// This one fades too fast for that: it is made smaller at every commit.
    short: Vec<f64>,
    short_total: f64,
    /// How much changed each package, and each together with another (rows) .
    alone: Vec<f64>,
    together: Vec<f64>,
    /// How much came before another commit, and what came then (rows).
    before: Vec<f64>,
    after: Vec<f64>,
    pub(super) last: Vec<usize>,
}

/// What the developer is at: packages, each with its weight.
pub(super) type At<'a> = &'a [(usize, f64)];

impl Memory {
    pub(super) fn new(count: usize, weights: &Weights) -> Self {
        Self {
            count,
            weight: 1.0,
            growth: (1.0 / weights.long).exp2(),
            fading: (-1.0 / weights.short).exp2(),
            long: vec![0.0; count],
            long_total: 0.0,
            short: vec![0.0; count],
            short_total: 0.0,
            alone: vec![0.0; count],
            together: vec![0.0; count * count],
            before: vec![0.0; count],
            after: vec![0.0; count * count],
            last: Vec::new(),
        }
    }

    /// Another commit.
    pub(super) fn add(&mut self, commit: &[usize]) {
        // Its say is spread over its packages: a sweeping one says little of each.
        let say = 1.0 / (commit.len().max(1) as f64).sqrt();
        self.short.iter_mut().for_each(|short| *short *= self.fading);
        self.short_total = self.short_total * self.fading + 1.0;
        self.long_total += self.weight;
        for &package in commit {
            self.long[package] += self.weight * say;
            self.short[package] += say;
        }
        if commit.len() <= SWEEPING {
            for &package in commit {
                self.alone[package] += self.weight;
                for &other in commit.iter().filter(|other| **other != package) {
                    self.together[package * self.count + other] += self.weight;
                }
            }
        }
        for &package in &self.last {
            self.before[package] += self.weight;
            for &then in commit {
                self.after[package * self.count + then] += self.weight * say;
            }
        }
        self.last = commit.to_vec();
        self.weight *= self.growth;
    }

    /// How likely each package is to be wanted next, while one is at `at`.
    pub(super) fn scores(&self, at: At<'_>, mix: Mix) -> Vec<f64> {
        if self.long_total == 0.0 {
            return vec![0.0; self.count];
        }
        let (long, short) = (1.0 / self.long_total, mix.recent / self.short_total);
        let seldom = self.long.iter().zip(&self.short);
        let mut scores: Vec<_> =
            seldom.map(|(often, lately)| often * long + lately * short).collect();
        // A single case is no rule: counts are shares of one commit more than there were.
        let mut row = |rows: &[f64], of: f64, package: usize, worth: f64| {
            let row = &rows[package * self.count..][..self.count];
            let worth = worth / (of + self.weight);
            scores.iter_mut().zip(row).for_each(|(score, count)| *score += worth * count);
        };
        let share = 1.0 / self.last.len().max(1) as f64;
        for &package in &self.last {
            row(&self.after, self.before[package], package, mix.follows * share);
        }
        for &(package, weight) in at {
            row(&self.together, self.alone[package], package, mix.together * weight);
        }
        scores
    }
}
