//! Looks that have shown that what a record depends on is as it was: while they show the same,
//! it still is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::record::{Input, RecordReference};
use crate::model::Digest;
use crate::workspace::Stamp;

/// What a record has been proven by.
#[derive(Debug)]
pub(crate) struct RecordProof {
    /// The workspace for which it was proven.
    pub root: PathBuf,
    /// For the products that its runs consulted, and behind them its inputs.
    pub looks: Looks,
}

/// Looks that decide a list of inputs, many of which share one with others.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// What was looked at.
    pub looks: Vec<Look>,
    /// The inputs that no look decides, by their places in the list.
    pub rest: Vec<usize>,
}

/// A path, and what was there.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// An absolute path.
    pub path: PathBuf,
    /// What was there.
    pub found: Found,
    /// The inputs that hold while that is there, by their places in the list.
    pub decides: Vec<usize>,
}

/// What a look has found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// The path itself.
    Here(Stamp),
    /// What the path leads to, symbolic links followed.
    Led(Stamp),
    /// Nothing: no such file or folder, nor one on the way to it.
    Nothing,
}

/// Why a record of another environment answers in one that was asked from.
#[derive(Debug)]
pub(crate) struct EnvironmentProof {
    /// The record.
    pub record: RecordReference,
    /// The records of its targets.
    pub targets: Vec<RecordReference>,
    /// Whether programs are looked for in other folders than there.
    pub has_other_path: bool,
    /// The products of its build, and what cargo compares with them.
    pub products: Vec<Input>,
    /// What proves that they are untouched.
    pub looks: Looks,
}

/// So many environments are remembered. Then all are forgotten, and the next questions learn of them
/// again.
const MOST_ENVIRONMENTS: usize = 64;

/// Which environments are known to be answered by the records of others, by the digest of all that
/// decides it but files.
#[derive(Debug, Default)]
pub(super) struct KnownEnvironments(HashMap<Digest, Arc<EnvironmentProof>>);

impl KnownEnvironments {
    pub(super) fn get(&self, asked: &Digest) -> Option<Arc<EnvironmentProof>> {
        self.0.get(asked).cloned()
    }

    pub(super) fn insert(&mut self, asked: Digest, proof: EnvironmentProof) {
        if self.0.len() >= MOST_ENVIRONMENTS {
            self.0.clear();
        }
        self.0.insert(asked, Arc::new(proof));
    }
}
