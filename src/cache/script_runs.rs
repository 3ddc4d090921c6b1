//! What build scripts consulted when they were run once more, remembered by their programs and by what they
//! came to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Input;
use crate::model::{Digest, OsText};

/// What a build script consulted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownScriptRun {
    pub inputs: Vec<Input>,
    /// What it asked of git.
    pub answers: Vec<KnownAnswer>,
    /// The values of variables that cargo gave it.
    pub given: Vec<OsText>,
    /// The developer's variables that may matter, with digests of their values.
    pub counted: BTreeMap<String, Digest>,
    /// Those that do not.
    pub harmless: BTreeSet<String>,
    /// It did not end in time: nothing is known of it, and it is not waited for again.
    #[serde(default)]
    pub timed_out: bool,
}

/// What git answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownAnswer {
    /// Where it was asked.
    pub dir: OsText,
    /// Its arguments.
    pub args: Vec<String>,
    pub answer: Digest,
}
