//! In which environments a whole was proven, remembered by everything else that decides the whole. So
//! a question from another terminal finds the records of this one.
//!
//! What is remembered decides no outcome: the record itself is asked, and must be the very one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::memos::Memos;
use super::{Cache, Input, RecordKey};
use crate::model::{Digest, Timestamp};

/// So many wholes are remembered. Then all are forgotten, and the next runs tell of them again.
const MOST_WHOLES: usize = 512;

/// So many environments of one whole are remembered, the newest.
const MOST_ENVIRONMENTS: usize = 4;

/// A record, as the very one that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordReference {
    /// Its key.
    pub key: RecordKey,
    /// When its run ended: a later one may have taken its place.
    pub created: Timestamp,
}

/// The environment of a record of a whole, and what else must be as it was in another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvenEnvironment {
    /// The record.
    pub record: RecordReference,
    /// The variables that count only if something can name them, with digests of their values.
    pub variables: BTreeMap<String, Digest>,
    /// The variables that the build names, with digests of their values.
    pub build_variables: BTreeMap<String, Option<Digest>>,
    /// The products of the build, and what cargo compares with them.
    pub products: Vec<Input>,
    /// The records of the single targets, which say what their runs could read a name from.
    pub targets: Vec<RecordReference>,
}

impl Cache {
    /// The environments in which the whole with this digest was proven, the newest first.
    #[must_use]
    pub(crate) fn environments(&self, whole: &Digest) -> Vec<ProvenEnvironment> {
        memos(&self.layout).get(whole).unwrap_or_default()
    }

    /// Remembers one more. If it cannot be written, other environments are asked to build.
    pub(crate) fn store_environment(&self, whole: &Digest, proven: ProvenEnvironment) {
        let mut all = self.environments(whole);
        all.retain(|other| other.variables != proven.variables);
        all.insert(0, proven);
        all.truncate(MOST_ENVIRONMENTS);
        memos(&self.layout).put(whole, &all);
    }
}

/// The memos of this kind.
pub(super) fn memos(layout: &Layout) -> Memos {
    Memos { folder: layout.environments(), format: "environments", most: MOST_WHOLES }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::RecordLevel;

    fn proven(value: &str, created: u64) -> ProvenEnvironment {
        let key = RecordKey { level: RecordLevel::Source, version: 1, digest: Digest::of(b"k") };
        ProvenEnvironment {
            record: RecordReference { key, created: Timestamp(created) },
            variables: [("MODE".to_owned(), Digest::of(value.as_bytes()))].into(),
            build_variables: BTreeMap::new(),
            products: Vec::new(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn the_newest_environments_are_remembered_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let whole = Digest::of(b"whole");
        assert_eq!(cache.environments(&whole), []);
        for (value, created) in [("a", 1), ("b", 2), ("a", 3)] {
            cache.store_environment(&whole, proven(value, created));
        }
        assert_eq!(cache.environments(&whole), [proven("a", 3), proven("b", 2)]);
        for value in ["c", "d", "e"] {
            cache.store_environment(&whole, proven(value, 4));
        }
        let known = cache.environments(&whole);
        assert_eq!(known.len(), MOST_ENVIRONMENTS);
        assert!(known.contains(&proven("a", 3)) && !known.contains(&proven("b", 2)));
        assert_eq!(cache.environments(&Digest::of(b"other")), []);
        memos(&cache.layout).forget();
        assert!(!cache.layout.environments().exists());
    }
}
