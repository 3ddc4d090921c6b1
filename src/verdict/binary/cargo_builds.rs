//! Where a run had cargo build: what cargo writes there for itself is no input of the run.
//!
//! A test that runs cargo (trybuild, a test of a cargo plugin) reads what cargo noted in the last run,
//! such as fingerprints, and replaces it. Cargo decides by the sources whether a product is fresh, and
//! it looks at the sources in each run, so that they are inputs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::observer::{Observation, Uses};

/// The file that cargo locks in the folder of a profile while it builds there.
const BUILD_LOCK: &str = ".cargo-lock";
/// Files of a target directory that are cargo's alone.
const TARGET_FILES: &[&str] = &[
    ".rustc_info.json",
    ".rustdoc_fingerprint.json",
    ".future-incompat-report.json",
    "CACHEDIR.TAG",
];
/// What is cargo's alone in the folder of a profile, beside files that list dependencies (`*.d`).
const PROFILE_ENTRIES: &[&str] = &[BUILD_LOCK, ".fingerprint", "incremental"];
/// How the names of files begin by which cargo locks and tidies its own home folder.
const HOME_FILES: &[&str] = &[".package-cache", ".global-cache"];

/// The folders of profiles in which a run had cargo build.
#[derive(Debug, Default)]
pub(super) struct CargoBuilds {
    /// Those of the target directory in which the tests themselves were built. The run depends on
    /// products in there.
    shared: BTreeSet<PathBuf>,
    /// Those of other target directories: their products are results of the run.
    own: BTreeSet<PathBuf>,
}

impl CargoBuilds {
    /// Finds the folders that cargo has locked during the run.
    pub(super) fn of(seen: &Observation, target_dirs: &[PathBuf]) -> Self {
        let locked = seen
            .paths
            .iter()
            .filter(|(path, access)| path.ends_with(BUILD_LOCK) && access.uses.any(Uses::OUTPUT));
        let profiles = locked.filter_map(|(path, _)| path.parent()).map(Path::to_owned);
        let is_shared = |profile: &PathBuf| {
            let above = profile.parent();
            // With `--target` there is a folder between, named after the triple.
            let triple = above.filter(|folder| {
                let name = folder.file_name().unwrap_or_default().as_encoded_bytes();
                name.iter().filter(|byte| **byte == b'-').count() >= 2
            });
            let dirs = [above, triple.and_then(Path::parent)];
            dirs.into_iter().flatten().any(|dir| target_dirs.iter().any(|known| known == dir))
        };
        let (shared, own) = profiles.partition(is_shared);
        Self { shared, own }
    }

    /// Whether what lies at `path` is cargo's own, or a product that the run itself had built.
    pub(super) fn keep_books_at(&self, path: &Path) -> bool {
        if self.shared.is_empty() && self.own.is_empty() {
            return false;
        }
        let name = path.file_name().unwrap_or_default();
        let is_cargos = |profile: &PathBuf| {
            path.strip_prefix(profile).is_ok_and(|below| {
                PROFILE_ENTRIES.iter().any(|entry| below.starts_with(entry))
                    || path.extension().is_some_and(|extension| extension == "d")
            })
        };
        let mut all = self.shared.iter().chain(&self.own);
        self.own.iter().any(|profile| path.starts_with(profile))
            || self.shared.iter().any(is_cargos)
            || (TARGET_FILES.iter().any(|file| name == *file)
                && all.any(|profile| path.parent() == profile.parent()))
            || HOME_FILES.iter().any(|file| name.as_encoded_bytes().starts_with(file.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observer::{PathAccess, PathClass};
    use crate::workspace::PathStamp;

    #[test]
    fn only_what_cargo_writes_for_itself_is_no_input() {
        let mut seen = Observation::default();
        let lock = |uses| PathAccess {
            first: PathStamp::Absent,
            uses,
            text: None,
            class: PathClass::Ordinary,
        };
        for folder in ["/w/target/debug", "/w/target/tests/try/debug", "/w/target/a-b-c/debug"] {
            let path = Path::new(folder).join(BUILD_LOCK);
            seen.paths.insert(path, lock(Uses::READ.with(Uses::MODIFIED)));
        }
        seen.paths.insert("/w/target/looked/debug/.cargo-lock".into(), lock(Uses::READ));
        let builds = CargoBuilds::of(&seen, &["/w/target".into()]);
        for path in [
            "/w/target/debug/.fingerprint/p-1/dep-lib-p",
            "/w/target/debug/deps/p-1.d",
            "/w/target/a-b-c/debug/.cargo-lock",
            "/w/target/.rustc_info.json",
            "/w/target/tests/try/debug/deps/libq-1.rlib",
            "/w/target/tests/try/.rustc_info.json",
            "/home/u/.cargo/.package-cache",
        ] {
            assert!(builds.keep_books_at(Path::new(path)), "{path}");
        }
        for path in [
            "/w/target/debug/p",
            "/w/target/a-b-c/debug/deps/libp-1.rlib",
            "/w/target/tests/try/Cargo.toml",
            "/w/target/looked/debug/.cargo-lock",
            "/w/.rustc_info.json",
            "/w/src/lib.rs",
        ] {
            assert!(!builds.keep_books_at(Path::new(path)), "{path}");
        }
        let none = CargoBuilds::default();
        assert!(!none.keep_books_at(Path::new("/home/u/.cargo/.package-cache")));
    }
}
