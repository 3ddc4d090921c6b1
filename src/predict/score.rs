//! From evidence to scores.

use std::collections::{BTreeMap, BTreeSet};

use super::{Commit, Event, Evidence, Ranked, Weights};

/// Of a commit that changed more, nothing can be learned about which ones belong together: a
/// release, a new edition, a formatter.
const SWEEPING: usize = 8;

/// Ranks the packages of the graph, the likeliest first; ties by name. Those that nothing speaks
/// for are left out.
#[must_use]
pub fn predict(evidence: &Evidence<'_>, weights: &Weights) -> Vec<Ranked> {
    let mut scores: BTreeMap<&str, f64> = BTreeMap::new();
    let mut add = |package: &str, score: f64| {
        if let Some((package, _)) = evidence.graph.get_key_value(package) {
            *scores.entry(package).or_default() += score;
        }
    };
    let (frequent, recent) = decayed(evidence.history, weights);
    for (package, share) in &frequent {
        add(package, *share);
    }
    for (package, share) in &recent {
        add(package, weights.recent * share);
    }
    // What one is at: the edits if there are some, else the last commit.
    let edits = faded(evidence.edits, weights);
    let last = evidence.history.last().map(|commit| &commit.packages);
    let at: BTreeMap<&str, f64> = match edits.is_empty() {
        false => edits.clone(),
        true => last.into_iter().flatten().map(|package| (package.as_str(), 1.0)).collect(),
    };
    for (package, share) in after(evidence.history, last) {
        add(package, weights.follows * share);
    }
    for (package, weight) in &at {
        for (other, share) in together(evidence.history, package, weights) {
            add(other, weights.together * weight * share);
        }
        for (other, _) in evidence.graph.iter().filter(|(_, from)| from.contains(*package)) {
            add(other, weights.depends * weight);
        }
    }
    for (package, weight) in &edits {
        add(package, weights.edited * weight);
    }
    for (package, weight) in faded(evidence.asked, weights) {
        add(package, weights.asked * weight);
    }
    let mut ranked: Vec<_> = scores
        .into_iter()
        .filter(|(_, score)| *score > 0.0)
        .map(|(package, score)| Ranked { package: package.to_owned(), score })
        .collect();
    ranked.sort_by(|one, other| {
        other.score.total_cmp(&one.score).then_with(|| one.package.cmp(&other.package))
    });
    ranked
}

/// A commit's say, spread over its packages: a sweeping one says little of each.
fn say(commit: &Commit) -> f64 {
    1.0 / (commit.packages.len().max(1) as f64).sqrt()
}

/// Each package's share of all changes, by the long memory and by the short one.
fn decayed<'a>(
    history: &'a [Commit],
    weights: &Weights,
) -> (BTreeMap<&'a str, f64>, BTreeMap<&'a str, f64>) {
    let shares = |half: f64| {
        let mut shares: BTreeMap<&str, f64> = BTreeMap::new();
        let mut total = 0.0;
        for (age, commit) in history.iter().rev().enumerate() {
            let weight = (-(age as f64) / half).exp2();
            total += weight;
            for package in &commit.packages {
                *shares.entry(package).or_default() += weight * say(commit);
            }
        }
        shares.values_mut().for_each(|share| *share /= total);
        shares
    };
    (shares(weights.long), shares(weights.short))
}

/// What came in the commit after one that had the same packages as the last, in part or whole.
fn after<'a>(history: &'a [Commit], last: Option<&BTreeSet<String>>) -> BTreeMap<&'a str, f64> {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    let mut total = 0.0;
    let Some(last) = last else { return counts };
    for (age, pair) in history.windows(2).rev().enumerate() {
        let [before, then] = pair else { continue };
        let common = before.packages.intersection(last).count() as f64;
        let all = before.packages.union(last).count() as f64;
        if common == 0.0 {
            continue;
        }
        let weight = common / all * (-(age as f64) / AFTER).exp2();
        total += weight;
        for package in &then.packages {
            *counts.entry(package).or_default() += weight * say(then);
        }
    }
    // A single case is no rule.
    counts.values_mut().for_each(|count| *count /= total + 1.0);
    counts
}

/// After how many commits a sequence counts half.
const AFTER: f64 = 300.0;

/// How often each other package changed in the commits that changed `package`.
fn together<'a>(history: &'a [Commit], package: &str, weights: &Weights) -> BTreeMap<&'a str, f64> {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    let mut total = 0.0;
    for (age, commit) in history.iter().rev().enumerate() {
        if commit.packages.len() > SWEEPING || !commit.packages.contains(package) {
            continue;
        }
        let weight = (-(age as f64) / (2.0 * weights.long)).exp2();
        total += weight;
        for other in commit.packages.iter().filter(|other| *other != package) {
            *counts.entry(other).or_default() += weight;
        }
    }
    counts.values_mut().for_each(|count| *count /= total + 1.0);
    counts
}

/// Each package's newest event, which counts half after a while.
fn faded<'a>(events: &'a [Event], weights: &Weights) -> BTreeMap<&'a str, f64> {
    let mut faded: BTreeMap<&str, f64> = BTreeMap::new();
    for event in events {
        let weight = (-(event.ago as f64) / weights.session).exp2();
        let known = faded.entry(&event.package).or_default();
        *known = known.max(weight);
    }
    faded
}
