//! Memos: what was found out once, remembered by a digest of everything that decides it. All memos of a
//! kind lie in one folder. If they become too many, all of them are forgotten and found out again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;

use super::Cache;
use super::code_digests::SourceCode;
use super::environments::ProvenEnvironments;
use super::files::{self, Durability};
use super::format;
use super::layout::Layout;
use super::mentions::KnownMentions;
use super::plans::WorkspacePlan;
use super::script_runs::KnownScriptRun;
use crate::model::Digest;

/// Something that is remembered under a digest.
pub(crate) trait Memo: Serialize + DeserializeOwned {
    /// The kind of memo.
    const KIND: MemoKind;
}

/// A kind of memo.
pub(crate) struct MemoKind {
    /// The name of the folder.
    folder: &'static str,
    /// The name of the format. A memo of another one is none.
    format: &'static str,
    /// The number of memos with which all are forgotten.
    limit: usize,
}

/// Declares all kinds of memos.
macro_rules! kinds_of_memos {
    ($($memo:ty: $folder:literal, $format:literal, $limit:literal;)*) => {
        $(impl Memo for $memo {
            const KIND: MemoKind = MemoKind { folder: $folder, format: $format, limit: $limit };
        })*

        /// All kinds.
        pub(super) const KINDS: &[MemoKind] = &[$(<$memo as Memo>::KIND),*];
    };
}

kinds_of_memos! {
    Vec<SourceCode>: "code", "code digests 2", 128;
    ProvenEnvironments: "environments", "environments 2", 512;
    // Answers of an earlier format mean something else, or are a signer's.
    KnownMentions: "mentions", "mentions 7", 4_096;
    WorkspacePlan: "plans", "plan 2", 512;
    ReachedTests: "reached", "reached 1", 512;
    KnownScriptRun: "script-runs", "script runs 1", 512;
}

/// What each test of a program reaches, by its name; none for a test for which the whole program counts.
/// Where each test is a call, only the first call of a program reads its objects.
pub(crate) type ReachedTests = BTreeMap<String, Option<Digest>>;

impl MemoKind {
    /// The folder of these memos.
    pub(super) fn folder(&self, layout: &Layout) -> PathBuf {
        layout.root.join(self.folder)
    }

    fn file(&self, layout: &Layout, digest: &Digest) -> PathBuf {
        self.folder(layout).join(digest.to_string())
    }

    /// Removes all memos of the kind.
    pub(super) fn forget(&self, layout: &Layout) {
        let folder = self.folder(layout);
        for (name, _) in files::names(&folder).unwrap_or_default() {
            if name.parse::<Digest>().is_ok() {
                let _ = files::remove(&folder.join(name));
            }
        }
        let _ = std::fs::remove_dir(&folder);
    }
}

impl Cache {
    /// The memo under this digest, if it is whole.
    #[must_use]
    pub(crate) fn memo<T: Memo>(&self, digest: &Digest) -> Option<T> {
        let (bytes, _) = files::read(&T::KIND.file(&self.layout, digest)).ok()?;
        format::decode(T::KIND.format, &bytes).ok()
    }

    /// Remembers a value. A failure costs only that it is found out again.
    pub(crate) fn store_memo<T: Memo>(&self, digest: &Digest, value: &T) {
        let file = T::KIND.file(&self.layout, digest);
        let names = || files::names(&T::KIND.folder(&self.layout));
        if !file.exists() && names().is_ok_and(|names| names.len() >= T::KIND.limit) {
            T::KIND.forget(&self.layout);
        }
        let Ok(content) = format::encode(T::KIND.format, value) else { return };
        if let Err(error) = files::write(&file, &[&content], Durability::Process) {
            debug!(%error, memos = T::KIND.format, "cannot remember what was found out");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;
    use crate::cache::{KnownAnswer, PackagePlan};
    use crate::model::OsText;

    fn found_again<T: Memo + Debug + PartialEq>(value: &T) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let digest = Digest::of(b"what decides it");
        assert_eq!(cache.memo::<T>(&digest), None);
        cache.store_memo(&digest, value);
        assert_eq!(cache.memo::<T>(&digest).as_ref(), Some(value));
        assert_eq!(cache.memo::<T>(&Digest::of(b"other")), None);
        let file = T::KIND.file(&cache.layout, &digest);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(cache.memo::<T>(&digest), None, "cut off");
        cache.clear(None).unwrap();
        assert!(!T::KIND.folder(&cache.layout).exists());
    }

    #[test]
    fn a_memo_is_found_again_whole_or_not_at_all() {
        let digest = Digest::of(b"code");
        let source = SourceCode { content: digest, code: digest, library: digest, embeds: true };
        found_again(&vec![source]);
        found_again(&ProvenEnvironments {
            build_variables: [("CC".to_owned(), None)].into(),
            ..ProvenEnvironments::default()
        });
        found_again(&KnownMentions {
            found: [("database".to_owned(), true), ("mode".to_owned(), false)].into(),
            ..KnownMentions::default()
        });
        found_again(&WorkspacePlan {
            packages: vec![PackagePlan { name: "a".to_owned(), folder: OsText::from("a") }],
            features: [("a lib".to_owned(), [vec!["f".to_owned()]].into())].into(),
            ..WorkspacePlan::default()
        });
        let tests = [("a".to_owned(), Some(digest)), ("b".to_owned(), None)];
        found_again(&ReachedTests::from(tests));
        let args = vec!["rev-parse".to_owned()];
        let answer = KnownAnswer { dir: OsText::from("/w"), args, answer: digest };
        found_again(&KnownScriptRun { answers: vec![answer], ..KnownScriptRun::default() });
    }
}
