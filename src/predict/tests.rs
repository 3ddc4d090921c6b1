//! Predictions by example, and what holds for all evidence.

use proptest::prelude::*;

use super::*;

fn commit(packages: &[&str]) -> Commit {
    Commit { packages: packages.iter().map(|name| (*name).to_owned()).collect() }
}

fn event(package: &str, ago: u64) -> Event {
    Event { package: package.to_owned(), ago }
}

fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, BTreeSet<String>> {
    let all = edges.iter().map(|(name, from)| {
        ((*name).to_owned(), from.iter().map(|from| (*from).to_owned()).collect())
    });
    all.collect()
}

fn names(evidence: &Evidence<'_>) -> Vec<String> {
    predict(evidence, &Weights::default()).into_iter().map(|ranked| ranked.package).collect()
}

#[test]
fn without_evidence_nothing_is_predicted() {
    let graph = graph(&[("a", &[]), ("b", &["a"])]);
    let none = Evidence { history: &[], edits: &[], asked: &[], graph: &graph };
    assert_eq!(names(&none), Vec::<String>::new());
    // A package that is no more.
    let history = [commit(&["gone"])];
    assert_eq!(names(&Evidence { history: &history, ..none }), Vec::<String>::new());
}

#[test]
fn what_is_edited_now_outweighs_any_history_and_fades() {
    let graph = graph(&[("often", &[]), ("now", &[])]);
    let history = vec![commit(&["often"]); 500];
    let edits = [event("now", 60)];
    let evidence = Evidence { history: &history, edits: &edits, asked: &[], graph: &graph };
    assert_eq!(names(&evidence), ["now", "often"]);
    let edits = [event("now", 100_000)];
    assert_eq!(names(&Evidence { edits: &edits, ..evidence }), ["often", "now"]);
    assert_eq!(names(&Evidence { edits: &[], asked: &[event("now", 10)], ..evidence })[1], "now");
}

#[test]
fn what_changes_together_is_predicted_together() {
    let graph = graph(&[("a", &[]), ("b", &[]), ("c", &[])]);
    let history: Vec<_> = (0..50).flat_map(|_| [commit(&["a", "b"]), commit(&["c"])]).collect();
    let edits = [event("a", 0)];
    let evidence = Evidence { history: &history, edits: &edits, asked: &[], graph: &graph };
    assert_eq!(names(&evidence), ["a", "b", "c"]);
}

#[test]
fn what_follows_is_learned() {
    let graph = graph(&[("a", &[]), ("b", &[])]);
    let history: Vec<_> = (0..50).flat_map(|_| [commit(&["a"]), commit(&["b"])]).collect();
    let evidence = Evidence { history: &history, edits: &[], asked: &[], graph: &graph };
    assert_eq!(names(&evidence)[0], "a", "after b comes a");
    let evidence = Evidence { history: &history[..99], ..evidence };
    assert_eq!(names(&evidence)[0], "b", "after a comes b");
}

#[test]
fn what_is_built_from_the_edited_one_comes_before_what_is_not() {
    let graph = graph(&[("low", &[]), ("other", &[]), ("user", &["low"])]);
    let edits = [event("low", 0)];
    let evidence = Evidence { history: &[], edits: &edits, asked: &[], graph: &graph };
    assert_eq!(names(&evidence), ["low", "user"]);
}

#[test]
fn dependents_are_found_through_others_and_through_cycles() {
    // Dev-dependencies make cycles.
    let graph = graph(&[("a", &["b"]), ("b", &["c", "a"]), ("c", &[]), ("d", &[])]);
    let of = |name: &str| dependents(&graph, &BTreeSet::from([name.to_owned()]));
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(of("c"), set(&["a", "b"]));
    assert_eq!(of("a"), set(&["b"]));
    assert_eq!(of("d"), set(&[]));
}

proptest! {
    /// Scores are finite, the best first, of packages of the graph, each once; the same every time,
    /// and what is edited at this moment is the first.
    #[test]
    fn an_answer_is_in_order_and_the_same_every_time(
        history in prop::collection::vec(prop::collection::btree_set(0..6_u8, 0..4), 0..60),
        edits in prop::collection::vec((0..6_u8, 0..200_000_u64), 0..4),
        edges in prop::collection::btree_set((0..6_u8, 0..6_u8), 0..12),
        now in 0..6_u8,
    ) {
        let name = |number: &u8| format!("p{number}");
        let history: Vec<_> = history
            .iter()
            .map(|packages| Commit { packages: packages.iter().map(name).collect() })
            .collect();
        let mut graph: BTreeMap<String, BTreeSet<String>> =
            (0..6).map(|number| (name(&number), BTreeSet::new())).collect();
        for (one, other) in &edges {
            graph.get_mut(&name(one)).unwrap().insert(name(other));
        }
        let mut edits: Vec<_> =
            edits.iter().map(|(package, ago)| event(&name(package), ago + 100_000)).collect();
        edits.push(event(&name(&now), 0));
        let evidence = Evidence { history: &history, edits: &edits, asked: &[], graph: &graph };
        let ranked = predict(&evidence, &Weights::default());
        prop_assert_eq!(&ranked, &predict(&evidence, &Weights::default()));
        prop_assert!(ranked.iter().all(|ranked| ranked.score.is_finite() && ranked.score > 0.0));
        prop_assert!(ranked.is_sorted_by(|one, other| one.score >= other.score));
        let names: BTreeSet<_> = ranked.iter().map(|ranked| &ranked.package).collect();
        prop_assert_eq!(names.len(), ranked.len());
        prop_assert!(names.iter().all(|name| graph.contains_key(*name)));
        prop_assert_eq!(&ranked[0].package, &name(&now));
    }
}
