//! Which packages the developer will want next.
//!
//! An opinion and no more: it decides what is made ready first, never what an answer is. Pure:
//! the repository's history, the edits of this session, what was asked and the dependency graph
//! go in, packages with scores come out, the same ones for the same evidence.
//!
//! A package counts for how often it was changed, lately more than long ago; for having been
//! changed together with, or right after, those that are being changed; and for being built from
//! them. What each of these is worth differs between repositories: the last commits of each
//! decide. How good it is stands in `tests/prediction.md`.

mod judge;
mod log;
mod memory;
mod score;

use std::collections::{BTreeMap, BTreeSet};

pub use log::{FORMAT, parse};
pub use score::predict;

/// The packages of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Those whose files it changed.
    pub packages: BTreeSet<String>,
}

/// Something that happened to a package in this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The package.
    pub package: String,
    /// How long ago, in seconds.
    pub ago: u64,
}

/// All that is known.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The repository's commits, oldest first; a thousand are plenty.
    pub history: &'a [Commit],
    /// Files that were edited in this session and are in none of these commits.
    pub edits: &'a [Event],
    /// Packages that somebody asked about by name.
    pub asked: &'a [Event],
    /// Each package of the workspace with those it is built from directly. Nothing else is
    /// predicted.
    pub graph: &'a BTreeMap<String, BTreeSet<String>>,
}

/// A package, and how much speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranked {
    /// The package.
    pub package: String,
    /// More is likelier; only to be compared with others of the same answer.
    pub score: f64,
}

/// How much each piece of evidence counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// After how many commits a change counts half, where what matters is what one is at; seldom
    /// more than the last.
    pub short: f64,
    /// The same where what matters is where changes happen in this repository at all.
    pub long: f64,
    /// What it counts to be built from what is being edited.
    pub depends: f64,
    /// What an edit in this session counts.
    pub edited: f64,
    /// What a question counts.
    pub asked: f64,
    /// After how many seconds an edit or a question counts half.
    pub session: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            short: 0.35,
            long: 100.0,
            depends: 0.035,
            edited: 10.0,
            asked: 2.0,
            session: 1_800.0,
        }
    }
}

/// How many first guesses decide which mix is the best.
const SCORED_GUESSES: usize = 3;

/// What each lesson of a history counts, the long memory of where changes happen being 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mix {
    /// What was changed just now.
    recent: f64,
    /// What comes after commits like the last.
    follows: f64,
    /// What changes together with what one is at.
    together: f64,
}

impl Mix {
    /// Those that are tried; the first one where there is too little history to tell.
    const ALL: [Self; 16] = {
        let mut all = [Self { recent: 0.0, follows: 0.0, together: 0.0 }; 16];
        let mut at = 0;
        while at < all.len() {
            all[at] = Self {
                recent: [1.0, 0.0, 0.3, 3.0][at % 4],
                follows: [1.0, 0.0][at / 4 % 2],
                together: [2.0, 0.5][at / 8],
            };
            at += 1;
        }
        all
    };
}

/// Everything that is built from one of `packages`, directly or not, they themselves left out.
#[must_use]
pub(crate) fn dependents(
    graph: &BTreeMap<String, BTreeSet<String>>,
    packages: &BTreeSet<String>,
) -> BTreeSet<String> {
    let mut reached = packages.clone();
    loop {
        let more: Vec<_> = graph
            .iter()
            .filter(|(name, from)| !reached.contains(*name) && !from.is_disjoint(&reached))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return &reached - packages;
        }
        reached.extend(more);
    }
}

#[cfg(test)]
mod tests;
