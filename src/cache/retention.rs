//! Which records may stay: a pure plan, made from the present contents.
//!
//! The rules, in this order:
//! 1. A project that has recorded nothing for [`ABANDONED_AFTER`] keeps nothing.
//! 2. A project keeps the records of its last so many distinct snapshots. Apart from those it keeps
//!    the single calls by cargo of its last so many days, which stand in a snapshot's place.
//! 3. A project keeps no record that is older than the age limit.
//! 4. A record that no project keeps is removed, and a manifest with its snapshot's last record.
//! 5. While the cache is too large, the oldest record is evicted, but never a project's newest one.
//!    If that is not enough, manifests are evicted: they only make explanations better.
//!
//! A claim from the future can only come from a clock that has been set back since. It counts as
//! older than everything, or it would push out all that is recorded now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::Limits;
use super::layout::RecordClaim;
use super::record::{RecordKey, RecordLevel};
use crate::model::{Digest, Timestamp};

/// How long after a project's last record its records are removed.
pub(super) const ABANDONED_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far ahead of us another process's clock reading may be.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Why something was or would be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum RemovalReason {
    /// The project has this many newer snapshots, which is what it keeps.
    Snapshots(usize),
    /// It is older than so many seconds, which is what records may grow to.
    Age(u64),
    /// All records together were larger than this many bytes, and it was the oldest.
    Size(u64),
    /// Its project has recorded nothing for so many days.
    Abandoned(u64),
    /// No record belongs to it any more.
    Unclaimed,
    /// It is not a readable record; the text says why.
    Malformed(String),
    /// A process died while it wrote this.
    Unfinished,
    /// A person asked for it.
    Cleared,
    /// The program that it is about is gone.
    Gone,
    /// The history goes back so many days.
    History(u64),
}

impl fmt::Display for RemovalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshots(keep) => write!(f, "its project has {keep} newer snapshots"),
            Self::Age(seconds) => write!(f, "older than {seconds} s"),
            Self::Size(max) => write!(f, "the oldest, and all together exceed {max} bytes"),
            Self::Abandoned(days) => write!(f, "its project recorded nothing for {days} days"),
            Self::Unclaimed => f.write_str("no record belongs to it"),
            Self::Malformed(what) => write!(f, "not a readable record: {what}"),
            Self::Unfinished => f.write_str("left unfinished by a process that ended"),
            Self::Cleared => f.write_str("cleared on request"),
            Self::Gone => f.write_str("its program is gone"),
            Self::History(days) => write!(f, "the history goes back {days} days"),
        }
    }
}

/// The present contents of the cache.
#[derive(Clone, Debug, Default)]
pub(super) struct CacheContents {
    /// In any order; a project may claim a record more than once.
    pub(super) claims: Vec<RecordClaim>,
    /// Manifests by code hash, with their sizes in bytes.
    pub(super) manifests: BTreeMap<Digest, u64>,
}

/// The files to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RemovalPlan {
    /// These claims; the records with them only if they are named below.
    pub(super) claims: BTreeSet<RecordClaim>,
    /// These records.
    pub(super) records: BTreeMap<RecordKey, RemovalReason>,
    /// The manifests of these code hashes.
    pub(super) manifests: BTreeMap<Digest, RemovalReason>,
}

impl RemovalPlan {
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.manifests.is_empty()
    }
}

/// Makes the plan. `keep` gives the number of snapshots that a project keeps; `None` leaves the
/// project alone, for a `put` of another project.
pub(super) fn plan(
    holdings: &CacheContents,
    keep: &dyn Fn(&Digest) -> Option<usize>,
    limits: &Limits,
    now: Timestamp,
) -> RemovalPlan {
    let slack = u64::try_from(CLOCK_SLACK.as_millis()).unwrap_or(u64::MAX);
    let future = |at: Timestamp| at.0 > now.0.saturating_add(slack);
    let believed = |at| if future(at) { Timestamp(0) } else { at };
    let mut plan = RemovalPlan::default();
    let mut kept: BTreeSet<RecordClaim> = BTreeSet::new();
    let mut whys: BTreeMap<RecordKey, RemovalReason> = BTreeMap::new();

    let mut projects: BTreeMap<Digest, Vec<&RecordClaim>> = BTreeMap::new();
    for claim in &holdings.claims {
        projects.entry(claim.project).or_default().push(claim);
    }
    for (project, claims) in &projects {
        let past = claims.iter().filter(|claim| !future(claim.at));
        let silent_for = past.map(|claim| claim.at.age(now).unwrap_or_default()).min();
        let number = keep(project).map_or(usize::MAX, |number| number.max(1));
        let (calls, others): (Vec<&RecordClaim>, _) = claims.iter().copied().partition(is_of_call);
        let last =
            [last_snapshots(&others, number, &believed), last_snapshots(&calls, number, &believed)];
        for claim in claims {
            let stay = &last[usize::from(is_of_call(claim))];
            let why = match (silent_for, outlived(claim.at, limits.max_age, now)) {
                (Some(age), _) if age > ABANDONED_AFTER => {
                    RemovalReason::Abandoned(age.as_secs() / (24 * 60 * 60))
                }
                _ if !stay.contains(&claim.code_hash) => RemovalReason::Snapshots(number),
                (_, Some(most)) => RemovalReason::Age(most),
                (_, None) => {
                    kept.insert(**claim);
                    continue;
                }
            };
            plan.claims.insert(**claim);
            // If several owners drop it, the reason of the last one in order is reported.
            whys.insert(claim.key, why);
        }
    }

    let still: BTreeSet<RecordKey> = kept.iter().map(|claim| claim.key).collect();
    plan.records = whys.into_iter().filter(|(key, _)| !still.contains(key)).collect();
    orphan_manifests(holdings, &kept, &mut plan);
    shrink(holdings, &kept, limits.max_bytes, &believed, &mut plan);
    plan
}

/// The age limit in seconds, if a record of `at` exceeds it. A record from the future has no age.
fn outlived(at: Timestamp, most: Option<Duration>, now: Timestamp) -> Option<u64> {
    let most = most?;
    (at.age(now)? > most).then_some(most.as_secs())
}

fn is_of_call(claim: &&RecordClaim) -> bool {
    claim.key.level == RecordLevel::Call
}

/// The last so many snapshots of these claims.
fn last_snapshots(
    claims: &[&RecordClaim],
    number: usize,
    believed: &dyn Fn(Timestamp) -> Timestamp,
) -> BTreeSet<Digest> {
    let mut snapshots: BTreeMap<Digest, Timestamp> = BTreeMap::new();
    for claim in claims {
        let newest = snapshots.entry(claim.code_hash).or_insert(Timestamp(0));
        *newest = believed(claim.at).max(*newest);
    }
    let mut order: Vec<_> = snapshots.into_iter().map(|(hash, at)| (at, hash)).collect();
    order.sort_unstable_by(|a, b| b.cmp(a));
    order.into_iter().take(number).map(|(_, hash)| hash).collect()
}

/// Removes the manifests whose last record is removed. One that never had a record stays: it may
/// belong to a record that is about to be written.
fn orphan_manifests(
    holdings: &CacheContents,
    kept: &BTreeSet<RecordClaim>,
    plan: &mut RemovalPlan,
) {
    let needed: BTreeSet<&Digest> = kept.iter().map(|claim| &claim.code_hash).collect();
    for claim in &plan.claims {
        let hash = claim.code_hash;
        if holdings.manifests.contains_key(&hash) && !needed.contains(&hash) {
            plan.manifests.insert(hash, RemovalReason::Unclaimed);
        }
    }
}

/// Evicts the oldest records until everything fits.
fn shrink(
    holdings: &CacheContents,
    kept: &BTreeSet<RecordClaim>,
    max_bytes: u64,
    believed: &dyn Fn(Timestamp) -> Timestamp,
    plan: &mut RemovalPlan,
) {
    let mut records: BTreeMap<RecordKey, Vec<&RecordClaim>> = BTreeMap::new();
    let mut snapshots: BTreeMap<Digest, (usize, Timestamp)> = BTreeMap::new();
    // A call does not stand in for the last proof of a whole.
    let mut newest: BTreeMap<(Digest, bool), (Timestamp, RecordKey)> = BTreeMap::new();
    for claim in kept {
        let at = believed(claim.at);
        records.entry(claim.key).or_default().push(claim);
        let snapshot = snapshots.entry(claim.code_hash).or_insert((0, at));
        *snapshot = (snapshot.0 + 1, snapshot.1.max(at));
        let newest = newest.entry((claim.project, is_of_call(&claim))).or_insert((at, claim.key));
        *newest = (*newest).max((at, claim.key));
    }
    // Two owners may have seen different sizes of a record that was written again.
    let size = |claims: &[&RecordClaim]| claims.iter().map(|claim| claim.bytes).max().unwrap_or(0);
    let manifests =
        holdings.manifests.iter().filter(|(hash, _)| !plan.manifests.contains_key(hash));
    let mut total: u64 = manifests.map(|(_, bytes)| bytes).sum();
    total += records.values().map(|claims| size(claims)).sum::<u64>();

    let untouchable: BTreeSet<RecordKey> = newest.values().map(|(_, key)| *key).collect();
    let mut order: Vec<_> = records
        .iter()
        .filter(|(key, _)| !untouchable.contains(key))
        .map(|(key, claims)| (claims.iter().map(|claim| believed(claim.at)).max(), *key))
        .collect();
    order.sort_unstable();
    for (_, key) in order {
        if total <= max_bytes {
            return;
        }
        let claims = &records[&key];
        plan.records.insert(key, RemovalReason::Size(max_bytes));
        total -= size(claims);
        for claim in claims {
            plan.claims.insert(**claim);
            let Some((claims, _)) = snapshots.get_mut(&claim.code_hash) else { continue };
            *claims -= 1;
            if *claims == 0
                && let Some(bytes) = holdings.manifests.get(&claim.code_hash)
            {
                plan.manifests.insert(claim.code_hash, RemovalReason::Unclaimed);
                total -= bytes;
            }
        }
    }
    let mut order: Vec<_> = holdings
        .manifests
        .iter()
        .filter(|(hash, _)| !plan.manifests.contains_key(hash))
        .map(|(hash, bytes)| (snapshots.get(hash).map(|(_, newest)| *newest), *hash, *bytes))
        .collect();
    order.sort_unstable();
    for (_, hash, bytes) in order {
        if total <= max_bytes {
            return;
        }
        plan.manifests.insert(hash, RemovalReason::Size(max_bytes));
        total -= bytes;
    }
}

#[cfg(test)]
mod tests;
