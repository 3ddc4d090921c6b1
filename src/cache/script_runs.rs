//! What build scripts consulted when they were run once more, remembered by their programs and by what they
//! came to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::memos::Memos;
use super::{Cache, Input};
use crate::model::{Digest, OsText};

/// The name of the memos' format.
const FORMAT: &str = "script runs 1";

/// So many scripts are remembered. Then all are forgotten, and run again.
const MOST_SCRIPTS: usize = 512;

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

impl Cache {
    /// What is known of the script with this digest.
    #[must_use]
    pub(crate) fn script_run(&self, digest: &Digest) -> Option<KnownScriptRun> {
        memos(&self.layout).get(digest)
    }

    /// Remembers it. If it cannot be written, the script is run again.
    pub(crate) fn store_script_run(&self, digest: &Digest, known: &KnownScriptRun) {
        memos(&self.layout).put(digest, known);
    }
}

/// The memos of this kind.
pub(super) fn memos(layout: &Layout) -> Memos {
    Memos { folder: layout.script_runs(), format: FORMAT, most: MOST_SCRIPTS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_script_consulted_is_found_again_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let digest = Digest::of(b"script");
        assert_eq!(cache.script_run(&digest), None);
        let args = vec!["rev-parse".to_owned()];
        let answer = KnownAnswer { dir: OsText::from("/w"), args, answer: Digest::of(b"x") };
        let known = KnownScriptRun { answers: vec![answer], ..KnownScriptRun::default() };
        cache.store_script_run(&digest, &known);
        assert_eq!(cache.script_run(&digest), Some(known));
        let file = memos(&cache.layout).file(&digest);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(cache.script_run(&digest), None, "cut off");
    }
}
