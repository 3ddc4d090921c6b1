//! What a build goes by, beyond the files that it has read: names by which cargo finds targets, names in
//! folders that build scripts watch, manifests. Git may ignore them, and a new one changes what is built
//! or run all the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::fingerprint::{Aspect, Fingerprints};
use crate::cache::Input;
use crate::compiler::BuildSources;
use crate::workspace::{FileKind, PathStamp, packages_inside};

/// Where cargo looks for targets in a package's folder: each `*.rs` and each folder with a `main.rs`.
const FOLDERS: [&str; 4] = ["tests", "examples", "benches", "src/bin"];
/// And one by one.
const FILES: [&str; 3] = ["build.rs", "src/lib.rs", "src/main.rs"];

/// The names as they were at one look.
pub(super) struct DiscoveredNames(Result<Vec<Input>, String>);

impl DiscoveredNames {
    /// Looks at all the names that a build of `sources` goes by. `manifests` are those of
    /// [`manifests_above`] that the tree does not count.
    pub(super) fn look(root: &Path, sources: &BuildSources, manifests: &[PathBuf]) -> Self {
        let mut look =
            NameSearch { root, fingerprints: Fingerprints::default(), inputs: Vec::new() };
        let watched = sources.folders.iter().try_for_each(|folder| look.at(folder, Aspect::Names));
        let found = watched.and_then(|()| {
            // Those too of which nothing was built: a new target may be.
            let named = packages_inside(root).map_err(|error| error.to_string())?;
            let packages: BTreeSet<PathBuf> =
                sources.packages.iter().cloned().chain(named).collect();
            packages.iter().try_for_each(|package| look.package(package))?;
            manifests.iter().try_for_each(|manifest| look.file(manifest))
        });
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

/// The manifests of the packages inside the root that were built, and the places of those above them, from
/// which they may inherit.
pub(super) fn manifests_above(root: &Path, sources: &BuildSources) -> Vec<PathBuf> {
    let inside = sources.packages.iter().filter_map(|package| package.strip_prefix(root).ok());
    let folders: BTreeSet<&Path> =
        inside.flat_map(Path::ancestors).filter(|way| *way != Path::new("")).collect();
    folders.into_iter().map(|way| root.join(way).join("Cargo.toml")).collect()
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

    /// A file, whatever leads to it.
    fn file(&mut self, path: &Path) -> Result<(), String> {
        self.at(path, Aspect::Content)?;
        match path.canonicalize() {
            Ok(real) if real != path => self.at(&real, Aspect::Content),
            _ => Ok(()),
        }
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

    fn all_hold(root: &Path, inputs: &[Input]) -> bool {
        let mut fingerprints = Fingerprints::default();
        inputs.iter().all(|input| fingerprints.holds(root, input))
    }

    #[test]
    fn packages_count_of_which_nothing_was_built_and_the_manifests_above_all() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["deps/other/foo", "tool"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("Cargo.toml"), "[package]\nname='x'\n").unwrap();
        }
        fs::write(root.join("Cargo.toml"), "[workspace]\nmembers=['tool']\n").unwrap();
        let sources =
            BuildSources { packages: vec![root.join("deps/other/foo")], ..BuildSources::default() };
        let manifests = manifests_above(&root, &sources);
        let look = || DiscoveredNames::look(&root, &sources, &manifests);
        let inputs = look().since(look()).unwrap();
        let holds = || all_hold(&root, &inputs);
        for name in ["tool/examples/x.rs", "deps/Cargo.toml", "deps/other/Cargo.toml"] {
            assert!(holds());
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            assert!(!holds(), "{name}");
            fs::remove_file(&path).unwrap();
            let _ = fs::remove_dir(path.parent().unwrap());
        }
        fs::write(root.join("deps/other/foo/Cargo.toml"), "[package]\nname='y'\n").unwrap();
        assert!(!holds(), "its own");
    }

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
        let manifests = manifests_above(&root, &sources);
        let look = || DiscoveredNames::look(&root, &sources, &manifests);
        let inputs = look().since(look()).unwrap();
        let holds = || all_hold(&root, &inputs);
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
