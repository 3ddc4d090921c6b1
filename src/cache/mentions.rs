//! Which files can name which variables, remembered by the files' states: a state is content, so that
//! a memo never becomes stale. The texts and answers mean nothing to the cache.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is known of files in one state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownMentions {
    /// Whether the files contain these texts.
    pub found: BTreeMap<String, bool>,
    /// Why they may contain any.
    pub any: Option<String>,
    /// Whether they are programs without symbols.
    pub is_stripped: bool,
    /// Whether they are programs or libraries.
    pub is_program: bool,
}
