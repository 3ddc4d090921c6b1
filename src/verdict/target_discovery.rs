//! The names that a build goes by, beyond the files that it has read: those by which cargo finds
//! targets, and those in folders that build scripts watch. Git may ignore them, and a new one changes
//! what is run all the same.

use std::path::{Path, PathBuf};

use super::fingerprint::{Aspect, Fingerprints};
use crate::cache::Input;
use crate::compiler::BuildSources;
use crate::workspace::{FileKind, PathStamp};

/// Where cargo looks for targets in a package's folder: each `*.rs` and each folder with a `main.rs`.
const FOLDERS: [&str; 4] = ["tests", "examples", "benches", "src/bin"];
/// And one by one.
const FILES: [&str; 3] = ["build.rs", "src/lib.rs", "src/main.rs"];

/// The names as they were at one look.
pub(super) struct DiscoveredNames(Result<Vec<Input>, String>);

impl DiscoveredNames {
    /// Looks at all the names that a build of `sources` goes by.
    pub(super) fn look(root: &Path, sources: &BuildSources) -> Self {
        let mut look =
            NameSearch { root, fingerprints: Fingerprints::default(), inputs: Vec::new() };
        let watched = sources.folders.iter().try_for_each(|folder| look.at(folder, Aspect::Names));
        let found = watched
            .and_then(|()| sources.packages.iter().try_for_each(|package| look.package(package)));
        Self(found.map(|()| look.inputs))
    }

    /// What a record depends on, if the names have been the same since `before`, a look of after
    /// the build and before cargo was asked what it would run: had one come before that, cargo would
    /// have built again.
    ///
    /// # Errors
    /// Why it is not known which names the run went by.
    pub(super) fn since(self, before: Self) -> Result<Vec<Input>, String> {
        let (before, now) = (before.0?, self.0?);
        let same =
            |(one, other): (&Input, &Input)| one.path == other.path && one.state == other.state;
        let changed = now.iter().zip(&before).find(|pair| !same(*pair)).map(|(now, _)| now);
        let changed = changed.or_else(|| now.get(before.len())).or_else(|| before.get(now.len()));
        match changed {
            None => Ok(now),
            Some(input) => {
                Err(format!("names in {} changed while the tests ran", input.path.display()))
            }
        }
    }
}

struct NameSearch<'a> {
    root: &'a Path,
    fingerprints: Fingerprints,
    inputs: Vec<Input>,
}

impl NameSearch<'_> {
    fn at(&mut self, path: &Path, way: Aspect) -> Result<(), String> {
        self.inputs.push(self.fingerprints.read(self.root, path, way)?);
        Ok(())
    }

    fn absence(&mut self, path: &Path) -> Result<(), String> {
        if PathStamp::of(path) == PathStamp::Absent {
            self.at(path, Aspect::Content)
        } else {
            Ok(())
        }
    }

    fn package(&mut self, package: &Path) -> Result<(), String> {
        FILES.iter().try_for_each(|name| self.absence(&package.join(name)))?;
        FOLDERS.iter().try_for_each(|name| self.folder(&package.join(name)))
    }

    fn folder(&mut self, folder: &Path) -> Result<(), String> {
        self.absence(folder)?;
        // Cargo follows a link here; the link itself is of the tree, or is looked at.
        let Ok(real) = folder.canonicalize() else { return Ok(()) };
        if real != folder && PathStamp::of(folder).kind() == Some(FileKind::Symlink) {
            self.at(folder, Aspect::Content)?;
        }
        if PathStamp::of(&real).kind() != Some(FileKind::Folder) {
            return Ok(());
        }
        self.at(&real, Aspect::Targets)?;
        let entries = std::fs::read_dir(&real);
        let mut below: Vec<PathBuf> =
            entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        below.retain(|path| path.is_dir());
        below.sort();
        below.iter().try_for_each(|folder| self.absence(&folder.join("main.rs")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::InputState;
    use std::fs;

    #[test]
    fn a_new_name_counts_where_cargo_looks_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("tests/data")).unwrap();
        fs::create_dir(root.join("watched")).unwrap();
        fs::write(root.join("tests/it.rs"), "").unwrap();
        let sources = BuildSources {
            folders: vec![root.join("watched")],
            packages: vec![root.clone()],
            ..BuildSources::default()
        };
        let look = || DiscoveredNames::look(&root, &sources);
        let inputs = look().since(look()).unwrap();
        let holds = || {
            let mut fingerprints = Fingerprints::default();
            inputs.iter().all(|input| fingerprints.holds(&root, input))
        };
        for name in ["tests/x.rs", "tests/data/main.rs", "src/lib.rs", "build.rs", "watched/x"] {
            assert!(holds());
            let before = look();
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), "").unwrap();
            assert!(!holds(), "{name}");
            assert!(look().since(before).is_err(), "{name}");
            fs::remove_file(root.join(name)).unwrap();
        }
        fs::write(root.join("tests/data.txt"), "").unwrap();
        fs::write(root.join("tests/data/x.rs"), "").unwrap();
        assert!(holds(), "no target's name");
        assert!(matches!(inputs[0].state, InputState::Listing(_)));
    }
}
