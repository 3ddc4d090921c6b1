//! What the tests of a program reach, remembered by everything that decides it: where each test is a
//! call, only the first call of a program reads its objects.

use std::collections::BTreeMap;

use super::Cache;
use super::layout::Layout;
use super::memos::Memos;
use crate::model::Digest;

/// So many programs are remembered. Then all are forgotten, and what is needed is read again.
const MOST_PROGRAMS: usize = 512;

/// What each test of a program reaches, by its name; none for a test for which the whole program counts.
pub(crate) type ReachedTests = BTreeMap<String, Option<Digest>>;

impl Cache {
    /// What the tests of the program with this digest reach.
    #[must_use]
    pub(crate) fn reached(&self, program: &Digest) -> Option<ReachedTests> {
        memos(&self.layout).get(program)
    }

    /// Remembers it. If it cannot be written, the objects are read again.
    pub(crate) fn store_reached(&self, program: &Digest, tests: &ReachedTests) {
        memos(&self.layout).put(program, tests);
    }
}

/// The memos of this kind.
pub(super) fn memos(layout: &Layout) -> Memos {
    Memos { folder: layout.reached(), format: "reached 1", most: MOST_PROGRAMS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tests_reach_is_found_again_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let program = Digest::of(b"program");
        assert_eq!(cache.reached(&program), None);
        let tests = [("a".to_owned(), Some(Digest::of(b"code"))), ("b".to_owned(), None)];
        let tests = ReachedTests::from(tests);
        cache.store_reached(&program, &tests);
        assert_eq!(cache.reached(&program), Some(tests));
        assert_eq!(cache.reached(&Digest::of(b"other")), None);
        let file = memos(&cache.layout).file(&program);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(cache.reached(&program), None, "cut off");
        memos(&cache.layout).forget();
        assert!(!cache.layout.reached().exists());
    }
}
