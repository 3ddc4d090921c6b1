//! Which files can name which variables, remembered by the files' states: a state is content, so that
//! a memo never becomes stale. The texts and answers mean nothing to the cache.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracing::debug;

use super::Cache;
use super::files::{self, Durability};
use super::format;
use super::layout::Layout;
use crate::model::Digest;

/// The name of the memos' format. The answers of another one mean something else.
const FORMAT: &str = "mentions 2";

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
        let (bytes, _) = files::read(&self.layout.mentions_of(state)).ok()?;
        format::decode(FORMAT, &bytes).ok()
    }

    /// Remembers it. If it cannot be written, the files are searched again.
    pub(crate) fn store_mentions(&self, state: &Digest, known: &KnownMentions) {
        let file = self.layout.mentions_of(state);
        if !file.exists() {
            let count = files::names(&self.layout.mentions()).map_or(0, |names| names.len());
            if count >= MOST_STATES {
                forget(&self.layout);
            }
        }
        let Ok(content) = format::encode(FORMAT, known) else { return };
        if let Err(error) = files::write(&file, &[&content], Durability::Process) {
            debug!(%error, "cannot remember which variables a file names");
        }
    }
}

/// Removes all memos of this kind.
pub(super) fn forget(layout: &Layout) {
    for (name, _) in files::names(&layout.mentions()).unwrap_or_default() {
        if name.parse::<Digest>().is_ok() {
            let _ = files::remove(&layout.mentions().join(name));
        }
    }
    let _ = std::fs::remove_dir(layout.mentions());
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
        let file = cache.layout.mentions_of(&state);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(cache.mentions(&state), None, "cut off");
        forget(&cache.layout);
        assert!(!cache.layout.mentions().exists());
    }
}
