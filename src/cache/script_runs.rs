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
    /// Why nothing is known of it, if so: it is not run once more for the same.
    #[serde(default)]
    pub refused: Option<String>,
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
