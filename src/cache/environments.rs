//! In which environments a whole was proven, remembered by everything else that decides the whole. So
//! a question from another terminal finds the records of this one.
//!
//! What is remembered decides no outcome: the record itself is asked, and must be the very one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Input, RecordReference};
use crate::model::Digest;

/// So many environments of one whole are remembered: as many as a target has records under one key.
const MOST_ENVIRONMENTS: usize = 8;

/// The environments in which a whole was proven with the products of one build. With the next build
/// those of the last one are gone, and cargo would build for the others anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvenEnvironments {
    /// The products of the build, and what cargo compares with them.
    pub products: Vec<Input>,
    /// The variables that the build names, with digests of their values.
    pub build_variables: BTreeMap<String, Option<Digest>>,
    /// The environments, the newest first.
    pub environments: Vec<ProvenEnvironment>,
}

/// The environment of a record of a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvenEnvironment {
    /// The record.
    pub record: RecordReference,
    /// The variables that count only if something can name them, with digests of their values.
    pub variables: BTreeMap<String, Digest>,
    /// The records of the single targets, which say what their runs could read a name from.
    pub targets: Vec<RecordReference>,
}

impl ProvenEnvironment {
    /// How many variables are not what they are in the other environment.
    pub(crate) fn distance(&self, other: &BTreeMap<String, Digest>) -> usize {
        let is_other = |name: &&String| self.variables.get(*name) != other.get(*name);
        let gone = other.keys().filter(|name| !self.variables.contains_key(*name));
        self.variables.keys().filter(is_other).count() + gone.count()
    }
}

impl ProvenEnvironments {
    /// With those that were known before of the same build. Of too many, the ones that are least like
    /// the newest are forgotten: what they have of their own is seldom asked for again.
    #[must_use]
    pub(crate) fn after(mut self, before: Self) -> Self {
        let Some(newest) = self.environments.first().cloned() else { return self };
        if before.products != self.products || before.build_variables != self.build_variables {
            return self;
        }
        let others = before.environments.into_iter();
        self.environments.extend(others.filter(|other| other.variables != newest.variables));
        while self.environments.len() > MOST_ENVIRONMENTS {
            let all = self.environments.iter().enumerate();
            let farthest = all.max_by_key(|(at, one)| (one.distance(&newest.variables), *at));
            let Some((at, _)) = farthest else { break };
            self.environments.remove(at);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{InputState, RecordKey, RecordLevel};
    use crate::model::Timestamp;

    /// An environment that has this variable besides the usual ones.
    fn environment(more: &str, created: u64) -> ProvenEnvironment {
        let key = RecordKey { level: RecordLevel::Source, version: 1, digest: Digest::of(b"k") };
        let variables = ["HOME", "MODE", more].map(|name| (name.to_owned(), Digest::of(b"x")));
        ProvenEnvironment {
            record: RecordReference { key, created: Timestamp(created) },
            variables: variables.into(),
            targets: Vec::new(),
        }
    }

    fn proven(product: &[u8], environments: Vec<ProvenEnvironment>) -> ProvenEnvironments {
        let state = InputState::Same(Digest::of(product));
        let products = vec![Input { path: "target/p".into(), state, proof: None }];
        ProvenEnvironments { products, build_variables: BTreeMap::new(), environments }
    }

    #[test]
    fn the_environments_of_one_build_are_remembered_each_once() {
        let mut known = ProvenEnvironments::default();
        for (more, created) in [("A", 1), ("B", 2), ("A", 3)] {
            known = proven(b"1", vec![environment(more, created)]).after(known);
        }
        let both = proven(b"1", vec![environment("A", 3), environment("B", 2)]);
        assert_eq!(known, both);
        let rebuilt = proven(b"2", vec![environment("C", 4)]);
        assert_eq!(rebuilt.clone().after(known), rebuilt);
    }

    #[test]
    fn the_usual_environment_outlives_any_number_of_odd_ones() {
        // It has no variable of its own.
        let usual = environment("HOME", 0);
        let mut all = proven(b"1", vec![usual.clone()]);
        for created in 1..=3 * MOST_ENVIRONMENTS as u64 {
            let odd = environment(&format!("ODD_{created}"), created);
            assert_eq!((odd.distance(&usual.variables), usual.distance(&odd.variables)), (1, 1));
            all = proven(b"1", vec![odd]).after(all);
        }
        assert_eq!(all.environments.len(), MOST_ENVIRONMENTS);
        assert_eq!(all.environments.last(), Some(&usual));
        let created = |at: usize| all.environments[at].record.created.0;
        assert_eq!((created(0), created(1)), (24, 23), "the oldest of the odd ones are gone");
    }
}
