//! What an earlier run of the very same has left in folders for results, and whether a run minds it.
//!
//! A test that numbers its folders (`TMP/suite/NAME/NUMBER`) meets some of the last run's by the same
//! number, clears them away, and leaves others under numbers that were free. A record that depends on
//! these being free would never answer: its own run has taken them. So such new folders do not count
//!
//! - if the run met some of what the run before it had left, and cleared away all that it met;
//! - if nothing else has changed since that run;
//! - if the run before it did not look at them: a test that always takes the same name, and fails where
//!   that is taken, has looked there before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cache::{InputState, Record};
use crate::observer::{Observation, PathAccess};
use crate::verdict::fingerprint::Fingerprints;
use crate::workspace::PathStamp;

/// The names in folders for results that were free before an earlier run.
#[derive(Debug, Default)]
pub(super) struct EarlierLeftovers {
    pub(super) free: BTreeSet<PathBuf>,
}

impl EarlierLeftovers {
    /// Those of the run of `record`; none if something else that it consulted has changed.
    pub(super) fn of(
        record: &Record,
        root: &Path,
        is_for_results: impl Fn(&Path) -> bool,
        fingerprints: &mut Fingerprints,
    ) -> Self {
        let mut free = BTreeSet::new();
        for input in &record.inputs {
            let path = root.join(&input.path);
            if input.state == InputState::Absent && is_for_results(&path) {
                free.insert(path);
            } else if !fingerprints.holds(root, input) {
                return Self::default();
            }
        }
        Self { free }
    }

    /// Whether this run met some of them, and cleared away all that it met.
    pub(super) fn are_cleared(&self, seen: &Observation, cleared: &BTreeSet<&Path>) -> bool {
        let is_left = |(path, access): &(&Path, &PathAccess)| {
            access.first != PathStamp::Absent && self.free.contains(*path)
        };
        let mut met = seen.inputs().filter(is_left).peekable();
        met.peek().is_some() && met.all(|(path, _)| cleared.contains(path))
    }

    /// Whether the earlier run knew that this name was free.
    pub(super) fn hold(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.free.contains(above))
    }
}
