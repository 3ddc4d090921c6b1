//! The invariants of the plan, over all holdings that proptest can think of.

use proptest::prelude::*;

use super::*;
use crate::cache::RecordLevel;

/// Days, so that small numbers reach [`ABANDONED_AFTER`] and the future.
const DAY: u64 = 24 * 60 * 60 * 1_000;
const NOW: Timestamp = Timestamp(100 * DAY);

/// Records from this number on are of calls.
const CALLS: u8 = 100;
/// The plan with no limit on age.
fn plan(
    holdings: &CacheContents,
    keep: &dyn Fn(&Digest) -> Option<usize>,
    max_bytes: u64,
    now: Timestamp,
) -> RemovalPlan {
    super::plan(holdings, keep, &Limits { max_bytes, ..Limits::default() }, now)
}

fn digest(number: u8) -> Digest {
    Digest::of(&[number])
}

fn key(number: u8) -> RecordKey {
    let level = if number < CALLS { RecordLevel::Source } else { RecordLevel::Call };
    RecordKey { level, version: 1, digest: digest(number) }
}

fn claim(project: u8, snapshot: u8, record: u8, day: u64, bytes: u64) -> RecordClaim {
    RecordClaim {
        at: Timestamp(day * DAY),
        project: digest(project),
        code_hash: digest(snapshot),
        key: key(record),
        selection: 0,
        bytes,
    }
}

/// Few projects, snapshots and records, so that they are shared; a record has one size.
fn holdings() -> impl Strategy<Value = CacheContents> {
    let claims = prop::collection::vec(
        (0u8..4, 0u8..12, prop_oneof![0u8..14, CALLS..CALLS + 6], 60u64..103),
        0..60,
    );
    let manifests = prop::collection::btree_map(0u8..14, 0u64..50, 0..10);
    (claims, manifests).prop_map(|(claims, manifests)| CacheContents {
        claims: claims
            .into_iter()
            .map(|(p, s, r, day)| claim(p, s, r, day, u64::from(r) * 3 + 1))
            .collect(),
        manifests: manifests.into_iter().map(|(hash, bytes)| (digest(hash), bytes)).collect(),
    })
}

fn kept(holdings: &CacheContents, plan: &RemovalPlan) -> BTreeSet<RecordClaim> {
    holdings.claims.iter().filter(|claim| !plan.claims.contains(claim)).copied().collect()
}

/// A project's newest claim that is not from the future, if it is young enough to count.
fn newest(holdings: &CacheContents, project: Digest) -> Option<RecordClaim> {
    let own = holdings.claims.iter().filter(|claim| claim.project == project);
    own.filter(|claim| claim.at <= NOW).max_by_key(|claim| (claim.at, claim.key)).copied()
}

proptest! {
    #[test]
    fn the_newest_record_of_a_project_stays(
        holdings in holdings(), keep in 0usize..6, max in 0u64..400,
    ) {
        let plan = plan(&holdings, &|_| Some(keep), max, NOW);
        for project in 0..4 {
            if let Some(newest) = newest(&holdings, digest(project))
                && newest.at.age(NOW).unwrap() <= ABANDONED_AFTER
            {
                // Or another one of the same moment.
                let left = kept(&holdings, &plan);
                let mut own = left.iter().filter(|claim| claim.project == digest(project));
                let stays = |claim: &RecordClaim| !plan.records.contains_key(&claim.key);
                prop_assert!(own.any(|claim| claim.at == newest.at && stays(claim)));
            }
        }
    }

    #[test]
    fn afterwards_the_bounds_hold(
        holdings in holdings(), keep in 1usize..6, max in 0u64..400,
    ) {
        let plan = plan(&holdings, &|_| Some(keep), max, NOW);
        let left = kept(&holdings, &plan);
        let mut records = BTreeMap::new();
        let mut untouchable = BTreeSet::new();
        for project in 0..4 {
            let own: Vec<_> = left.iter().filter(|c| c.project == digest(project)).collect();
            for level in [RecordLevel::Source, RecordLevel::Call] {
                let of = own.iter().filter(|c| c.key.level == level);
                let snapshots: BTreeSet<_> = of.map(|c| c.code_hash).collect();
                prop_assert!(snapshots.len() <= keep);
            }
            for claim in &own {
                records.insert(claim.key, claim.bytes);
            }
            let age = |c: &RecordClaim| if c.at > NOW { Timestamp(0) } else { c.at };
            for level in [RecordLevel::Source, RecordLevel::Call] {
                let of = own.iter().filter(|c| c.key.level == level);
                untouchable.extend(of.max_by_key(|c| (age(c), c.key)).map(|c| c.key));
            }
        }
        let manifests: u64 = holdings.manifests.iter()
            .filter(|(hash, _)| !plan.manifests.contains_key(hash)).map(|(_, b)| b).sum();
        let total = records.values().sum::<u64>() + manifests;
        let only_untouchable =
            manifests == 0 && records.keys().all(|key| untouchable.contains(key));
        prop_assert!(total <= max || only_untouchable, "{total} > {max}");
    }

    #[test]
    fn the_order_of_the_claims_does_not_matter(
        holdings in holdings(), keep in 1usize..6, max in 0u64..400, seed: u64,
    ) {
        let mut shuffled = holdings.clone();
        shuffled.claims.sort_by_key(|claim| {
            Digest::of(format!("{seed}{}", claim.name()).as_bytes())
        });
        let keep = |_: &Digest| Some(keep);
        prop_assert_eq!(
            plan(&holdings, &keep, max, NOW),
            plan(&shuffled, &keep, max, NOW)
        );
    }

    #[test]
    fn a_record_goes_exactly_with_its_last_claim(
        holdings in holdings(), keep in 1usize..6, max in 0u64..400,
    ) {
        let plan = plan(&holdings, &|_| Some(keep), max, NOW);
        let left: BTreeSet<RecordKey> = kept(&holdings, &plan).iter().map(|c| c.key).collect();
        let all: BTreeSet<RecordKey> = holdings.claims.iter().map(|c| c.key).collect();
        let gone: BTreeSet<RecordKey> = plan.records.keys().copied().collect();
        prop_assert_eq!(&all - &left, gone);
    }

    #[test]
    fn carrying_out_the_plan_leaves_nothing_to_plan(
        holdings in holdings(), keep in 1usize..6, max in 0u64..400,
    ) {
        let keep = |_: &Digest| Some(keep);
        let first = plan(&holdings, &keep, max, NOW);
        let mut left = holdings.clone();
        left.claims.retain(|claim| !first.claims.contains(claim));
        left.manifests.retain(|hash, _| !first.manifests.contains_key(hash));
        prop_assert!(plan(&left, &keep, max, NOW).is_empty());
    }
}

#[test]
fn snapshots_are_counted_and_not_records() {
    let mut claims = Vec::new();
    for snapshot in 0..12 {
        for selection in 0..3 {
            claims.push(claim(0, snapshot, snapshot * 3 + selection, 80, 1));
            claims.last_mut().unwrap().at.0 += u64::from(snapshot);
        }
    }
    let holdings = CacheContents { claims, ..CacheContents::default() };
    let plan = plan(&holdings, &|_| Some(10), 1_000, NOW);
    let gone: BTreeSet<_> = plan.claims.iter().map(|claim| claim.code_hash).collect();
    assert_eq!(gone, BTreeSet::from([digest(0), digest(1)]));
    assert_eq!(plan.records.len(), 6);
    assert_eq!(plan.records[&key(0)], RemovalReason::Snapshots(10));
}

#[test]
fn days_of_calls_push_out_no_snapshots_and_are_bounded_themselves() {
    let of_snapshots = (0..3).map(|day| claim(0, day, day, 80 + u64::from(day), 1));
    let of_calls = (0..9).map(|day| claim(0, 20 + day, CALLS + day, 90 + u64::from(day), 1));
    let claims = of_snapshots.chain(of_calls).collect();
    let plan =
        plan(&CacheContents { claims, ..CacheContents::default() }, &|_| Some(3), 1_000, NOW);
    let gone: BTreeSet<_> = plan.records.keys().copied().collect();
    assert_eq!(gone, (0..6).map(|day| key(CALLS + day)).collect());
}

#[test]
fn a_record_that_another_worktree_claims_stays() {
    let holdings = CacheContents {
        claims: vec![claim(0, 1, 1, 80, 1), claim(1, 1, 1, 80, 1), claim(0, 2, 2, 81, 1)],
        manifests: BTreeMap::from([(digest(1), 5)]),
    };
    let plan = plan(&holdings, &|project| (*project == digest(0)).then_some(1), 1_000, NOW);
    assert_eq!(plan.claims, BTreeSet::from([claim(0, 1, 1, 80, 1)]));
    assert!(plan.records.is_empty() && plan.manifests.is_empty());
}

#[test]
fn records_from_before_the_clock_was_set_back_do_not_push_out_new_ones() {
    let claims = vec![claim(0, 1, 1, 102, 1), claim(0, 2, 2, 103, 1), claim(0, 3, 3, 99, 1)];
    let holdings = CacheContents { claims, ..CacheContents::default() };
    let plan = plan(&holdings, &|_| Some(1), 1_000, NOW);
    assert_eq!(plan.records.keys().copied().collect::<BTreeSet<_>>(), [key(1), key(2)].into());
}

#[test]
fn a_silent_project_keeps_nothing() {
    let claims = vec![claim(0, 1, 1, 69, 1), claim(1, 2, 2, 71, 1)];
    let manifests = BTreeMap::from([(digest(1), 5), (digest(2), 5), (digest(3), 5)]);
    let plan = plan(&CacheContents { claims, manifests }, &|_| Some(10), 1_000, NOW);
    assert_eq!(plan.records, BTreeMap::from([(key(1), RemovalReason::Abandoned(31))]));
    assert_eq!(plan.manifests, BTreeMap::from([(digest(1), RemovalReason::Unclaimed)]));
}

#[test]
fn a_silent_project_does_not_live_on_by_a_claim_from_the_future() {
    let claims = vec![claim(0, 1, 1, 60, 1), claim(0, 2, 2, 102, 1)];
    let plan =
        plan(&CacheContents { claims, ..CacheContents::default() }, &|_| Some(10), 1_000, NOW);
    assert_eq!(plan.records.len(), 2);
}

#[test]
fn a_record_goes_with_its_time_whoever_claims_it_and_one_from_the_future_has_none() {
    let claims = vec![claim(0, 1, 1, 89, 1), claim(1, 2, 2, 91, 1), claim(1, 3, 3, 102, 1)];
    let manifests = BTreeMap::from([(digest(1), 5), (digest(2), 5)]);
    let holdings = CacheContents { claims, manifests };
    let max_age = Some(Duration::from_millis(10 * DAY));
    let limits = Limits { max_bytes: 1_000, max_age, ..Limits::default() };
    // Another project's `put` sees to it too.
    for keep in [Some(10), None] {
        let plan = super::plan(&holdings, &|_| keep, &limits, NOW);
        assert_eq!(plan.records, BTreeMap::from([(key(1), RemovalReason::Age(10 * DAY / 1_000))]));
        assert_eq!(plan.manifests, BTreeMap::from([(digest(1), RemovalReason::Unclaimed)]));
    }
    assert!(super::plan(&holdings, &|_| None, &Limits::default(), NOW).is_empty());
}
