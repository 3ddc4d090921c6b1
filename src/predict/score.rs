//! From evidence to scores.

use std::collections::BTreeMap;

use super::{Event, Evidence, Ranked, Weights, judge};

/// Ranks the packages of the graph, the likeliest first; ties by name. Those that nothing speaks
/// for are left out.
#[must_use]
pub fn predict(evidence: &Evidence<'_>, weights: &Weights) -> Vec<Ranked> {
    let names: Vec<&String> = evidence.graph.keys().collect();
    let number = |name: &String| names.binary_search(&name).ok();
    let history: Vec<Vec<usize>> = evidence
        .history
        .iter()
        .map(|commit| commit.packages.iter().filter_map(number).collect())
        .collect();
    let (memory, next, others) = judge::walk(&history, names.len(), weights);
    // What one is at: the edits if there are some, else the last commit.
    let edits = faded(evidence.edits, weights);
    let edits: Vec<_> =
        edits.iter().filter_map(|(package, weight)| Some((number(package)?, *weight))).collect();
    let (at, mix) = match edits.is_empty() {
        true => (memory.last.iter().map(|package| (*package, 1.0)).collect(), next),
        false => (edits.clone(), others),
    };
    let mut scores = memory.scores(&at, mix);
    for (package, weight) in &at {
        let built_from = |user: &&String| evidence.graph[*user].contains(names[*package]);
        for user in names.iter().filter(|user| built_from(user)) {
            if let Some(user) = number(user) {
                scores[user] += weights.depends * weight;
            }
        }
    }
    for (package, weight) in edits {
        scores[package] += weights.edited * weight;
    }
    for (package, weight) in faded(evidence.asked, weights) {
        if let Some(package) = number(package) {
            scores[package] += weights.asked * weight;
        }
    }
    let mut ranked: Vec<_> = names
        .into_iter()
        .zip(scores)
        .filter(|(_, score)| *score > 0.0)
        .map(|(package, score)| Ranked { package: package.clone(), score })
        .collect();
    ranked.sort_by(|one, other| {
        other.score.total_cmp(&one.score).then_with(|| one.package.cmp(&other.package))
    });
    ranked
}

/// Each package's newest event, which counts half after a while.
fn faded<'a>(events: &'a [Event], weights: &Weights) -> BTreeMap<&'a String, f64> {
    let mut faded: BTreeMap<&String, f64> = BTreeMap::new();
    for event in events {
        let weight = (-(event.ago as f64) / weights.session).exp2();
        let known = faded.entry(&event.package).or_default();
        *known = known.max(weight);
    }
    faded
}
