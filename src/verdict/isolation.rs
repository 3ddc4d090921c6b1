//! Which tests of a program can affect each other, and so which of them run when some have changed.
//!
//! Tests of one process share its state. Two tests are of one group if they can affect each other, or
//! if both can affect, or be affected by, a third one:
//!
//! - they reach the same variable of the program;
//! - one of them can change what is outside of the program, and the other one can see that;
//! - one of them can change the process for all: then all tests are of one group.
//!
//! A test that has not changed comes to the outcome that it had if no test of its group has changed: not
//! in the program as it is, and not in the program as it was, in which a test can have made what this one
//! needs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use crate::reach::{Capabilities, Reached};

/// The group of each test, by its number.
pub(super) type Groups = BTreeMap<String, u32>;

/// Sets of things that come together.
struct Partition {
    /// Another one of the same set, or itself.
    parents: Vec<usize>,
}

impl Partition {
    fn new(count: usize) -> Self {
        Self { parents: (0..count).collect() }
    }

    fn set_of(&self, mut one: usize) -> usize {
        while self.parents[one] != one {
            one = self.parents[one];
        }
        one
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.set_of(one), self.set_of(other));
        // The smaller number stands for both.
        self.parents[one.max(other)] = one.min(other);
    }

    /// Joins those that have anything in common.
    fn join_by<T: Eq + Hash>(&mut self, all: impl IntoIterator<Item = (usize, T)>) {
        let mut first = HashMap::new();
        for (one, common) in all {
            let other = *first.entry(common).or_insert(one);
            self.join(one, other);
        }
    }
}

/// The groups of the tests of a program. `is_certain`: no crate of it was optimized, so that everything
/// that is found by name is seen.
pub(super) fn groups(tests: &BTreeMap<String, Reached>, is_certain: bool) -> Groups {
    let mut partition = Partition::new(tests.len());
    let all = || tests.values().enumerate();
    let variables = |(one, test): (usize, &Reached)| -> Vec<_> {
        test.variables.iter().map(|variable| (one, *variable)).collect()
    };
    partition.join_by(all().flat_map(variables));
    let any = |capability| tests.values().any(|test| test.capabilities.contains(capability));
    if !is_certain || any(Capabilities::PROCESS_WIDE) {
        partition.join_by(all().map(|(one, _)| (one, ())));
    }
    if any(Capabilities::WRITES) {
        let is_outside = |test: &Reached| {
            test.capabilities.contains(Capabilities::WRITES) || test.capabilities.reads_outside()
        };
        let outside = all().filter(|(_, test)| is_outside(test));
        partition.join_by(outside.map(|(one, _)| (one, ())));
    }
    let group = |(one, name): (usize, &String)| (name.clone(), partition.set_of(one) as u32);
    tests.keys().enumerate().map(group).collect()
}

/// Those of the tests of `now` that can come to another outcome than `before`: those that `is_same` does
/// not hold for, those that are new, and all that are of a group with any of these or with one that is
/// gone.
pub(super) fn affected(
    before: &Groups,
    now: &Groups,
    is_same: impl Fn(&str) -> bool,
) -> BTreeSet<String> {
    let names: BTreeSet<&str> = before.keys().chain(now.keys()).map(String::as_str).collect();
    let mut partition = Partition::new(names.len());
    let all = || names.iter().enumerate();
    partition.join_by(all().filter_map(|(one, name)| Some((one, *before.get(*name)?))));
    partition.join_by(all().filter_map(|(one, name)| Some((one, *now.get(*name)?))));
    let is_same = |name: &str| before.contains_key(name) && now.contains_key(name) && is_same(name);
    let changed = all().filter(|(_, name)| !is_same(name));
    let changed: BTreeSet<_> = changed.map(|(one, _)| partition.set_of(one)).collect();
    let affected = all().filter(|(one, name)| {
        now.contains_key(**name) && changed.contains(&partition.set_of(*one))
    });
    affected.map(|(_, name)| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    fn test(variables: &[u32], capabilities: &[Capabilities]) -> Reached {
        let none = Capabilities::default();
        Reached {
            strict: Digest::of(b"code"),
            panics_masked: Digest::of(b"code"),
            masked: Digest::of(b"code"),
            capabilities: capabilities.iter().fold(none, |all, one| all | *one),
            variables: variables.iter().copied().collect(),
            unknown_symbol: None,
        }
    }

    fn groups_of(tests: &[Reached], is_certain: bool) -> Vec<u32> {
        let name = |(at, test): (usize, &Reached)| (format!("t{at}"), test.clone());
        groups(&tests.iter().enumerate().map(name).collect(), is_certain).into_values().collect()
    }

    #[test]
    fn tests_that_can_affect_each_other_are_of_one_group() {
        let (reads, clock) = (Capabilities::FILES, Capabilities::TIME);
        let (writes, wide) = (Capabilities::WRITES, Capabilities::PROCESS_WIDE);
        let mut tests = vec![
            test(&[1], &[]),
            test(&[2, 3], &[]),
            test(&[], &[]),
            test(&[1, 3], &[]),
            test(&[4], &[reads]),
            test(&[], &[reads, clock]),
            test(&[], &[clock]),
        ];
        assert_eq!(groups_of(&tests, true), [0, 0, 2, 0, 4, 5, 6]);
        assert_eq!(groups_of(&tests, false), [0; 7], "optimized");
        tests.push(test(&[], &[writes]));
        assert_eq!(groups_of(&tests, true), [0, 0, 2, 0, 4, 4, 6, 4]);
        tests.push(test(&[], &[wide]));
        assert_eq!(groups_of(&tests, true), [0; 9]);
    }

    #[test]
    fn a_change_affects_the_groups_of_both_programs() {
        let groups = |tests: &[(&str, u32)]| -> Groups {
            tests.iter().map(|(name, group)| ((*name).to_owned(), *group)).collect()
        };
        let affected = |before: &[(&str, u32)], after: &[(&str, u32)], changed: &[&str]| {
            let is_same = |name: &str| !changed.contains(&name);
            let names = super::affected(&groups(before), &groups(after), is_same);
            names.into_iter().collect::<Vec<_>>().join(" ")
        };
        let alone = [("a", 0), ("b", 1), ("c", 2), ("d", 3)];
        assert_eq!(affected(&alone, &alone, &[]), "");
        assert_eq!(affected(&alone, &alone, &["b"]), "b");
        assert_eq!(affected(&alone, &[("a", 0), ("b", 0), ("c", 2), ("d", 3)], &["a"]), "a b");
        assert_eq!(affected(&[("a", 0), ("b", 0), ("c", 2), ("d", 3)], &alone, &["a"]), "a b");
        // By one in the old program, and by another one in the new program.
        let (old, new) = ([("a", 0), ("b", 0), ("c", 2)], [("a", 0), ("b", 1), ("c", 1)]);
        assert_eq!(affected(&old, &new, &["a"]), "a b c");
        // One is new; one is gone, and what it may have left for another one with it.
        assert_eq!(affected(&alone[..3], &alone, &[]), "d");
        assert_eq!(affected(&[("a", 0), ("b", 0), ("c", 2)], &[("b", 0), ("c", 1)], &[]), "b");
    }
}
