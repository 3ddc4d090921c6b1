//! Which files can name which variables, remembered by the files' states: a state is content, so that
//! a memo never becomes stale. The texts and answers mean nothing to the cache.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Cache;
use super::layout::Layout;
use super::memos::Memos;
use crate::model::Digest;

/// The name of the memos' format. The answers of another one mean something else, or are of a signer.
const FORMAT: &str = "mentions 7";

/// So many states are remembered. Then all are forgotten, and what is needed is searched again.
const MOST_STATES: usize = 4_096;

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

impl Cache {
    /// What is known of files in this state.
    #[must_use]
    pub(crate) fn mentions(&self, state: &Digest) -> Option<KnownMentions> {
        memos(&self.layout).get(state)
    }

    /// Remembers it. If it cannot be written, the files are searched again.
    pub(crate) fn store_mentions(&self, state: &Digest, known: &KnownMentions) {
        memos(&self.layout).put(state, known);
    }
}

/// The memos of this kind.
pub(super) fn memos(layout: &Layout) -> Memos {
    Memos { folder: layout.mentions(), format: FORMAT, most: MOST_STATES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_state_is_found_again_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let state = Digest::of(b"state");
        assert_eq!(cache.mentions(&state), None);
        let known = KnownMentions {
            found: [("database".to_owned(), true), ("mode".to_owned(), false)].into(),
            ..KnownMentions::default()
        };
        cache.store_mentions(&state, &known);
        assert_eq!(cache.mentions(&state), Some(known.clone()));
        assert_eq!(cache.mentions(&Digest::of(b"other")), None);
        let file = memos(&cache.layout).file(&state);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(cache.mentions(&state), None, "cut off");
        memos(&cache.layout).forget();
        assert!(!cache.layout.mentions().exists());
    }
}
