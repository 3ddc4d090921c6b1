//! Where tests are written, found in the sources on disk: the service knows their names only.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use crate::model::{SourcePlace, StreamEvent, TargetId};
use crate::paths::plain;
use crate::workspace::{TestPlaces, TestSources, package_targets};

/// Folders inside one another in which packages are looked for.
const PACKAGE_DEPTH: usize = 8;

/// Finds the places of tests. What it has read stays valid until a tree changes.
#[derive(Debug, Default)]
pub(crate) struct PlaceFinder {
    sources: TestSources,
    /// The packages of each workspace by name; none where two have one name.
    packages: BTreeMap<PathBuf, HashMap<String, Option<PathBuf>>>,
    targets: HashMap<(PathBuf, TargetId), TestPlaces>,
}

impl PlaceFinder {
    /// Adds the places of tests to an event that tells outcomes.
    pub(crate) fn add_places(&mut self, event: &mut StreamEvent) {
        match event {
            StreamEvent::Tree { project, .. } | StreamEvent::Gone { project } => {
                self.packages.remove(project);
                self.targets.retain(|(root, _), _| root != project);
            }
            StreamEvent::Tests { of, id, tests, .. } => {
                for test in tests.iter_mut().filter(|test| test.place.is_none()) {
                    test.place = self.find(&of.project, id, &test.name);
                }
            }
            _ => {}
        }
    }

    /// The place of a test, if the source leaves no doubt.
    pub(crate) fn find(&mut self, root: &Path, id: &TargetId, test: &str) -> Option<SourcePlace> {
        let key = (root.to_owned(), id.clone());
        if !self.targets.contains_key(&key) {
            let places = self.places(root, id).unwrap_or_default();
            self.targets.insert(key.clone(), places);
        }
        let place = self.targets.get(&key)?.find(test)?;
        let file = plain(&place.file);
        let file = file.strip_prefix(root).unwrap_or(&file).to_str()?.to_owned();
        Some(SourcePlace { file, line: u32::try_from(place.line).ok()?, column: None })
    }

    fn places(&mut self, root: &Path, id: &TargetId) -> Option<TestPlaces> {
        let packages = self.packages.entry(root.to_owned()).or_insert_with(|| packages_below(root));
        let dir = packages.get(&id.package)?.clone()?;
        let targets = package_targets(&dir, &manifest(&dir)?);
        let target = targets.into_iter().find(|it| it.kind == id.kind && it.name == id.target)?;
        Some(self.sources.places(&target.root, &|path| fs::read_to_string(path).ok()))
    }
}

fn manifest(dir: &Path) -> Option<toml::Table> {
    fs::read_to_string(dir.join("Cargo.toml")).ok()?.parse().ok()
}

/// The packages in a workspace's folders.
fn packages_below(root: &Path) -> HashMap<String, Option<PathBuf>> {
    let mut found = HashMap::new();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((dir, depth)) = folders.pop() {
        let name = manifest(&dir);
        let name = name.as_ref().and_then(|it| it.get("package")?.get("name")?.as_str());
        if let Some(name) = name {
            let packages = found.entry(name.to_owned());
            packages.and_modify(|twice| *twice = None).or_insert_with(|| Some(dir.clone()));
        }
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        let inside = entries.filter(|entry| {
            let name = entry.file_name();
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            is_folder && !is_hidden && name != "target" && name != "node_modules"
        });
        if depth < PACKAGE_DEPTH {
            folders.extend(inside.map(|entry| (entry.path(), depth + 1)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, EventOf, Outcome, Source, TargetKind, TestEntry, Timestamp};

    #[test]
    fn a_test_has_the_place_that_the_source_of_its_tree_says() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Cargo.toml", "[workspace]\nmembers = ['a', 'b', 'c']\n");
        for (dir, name) in [("a", "a"), ("b", "twice"), ("c", "twice")] {
            write(&format!("{dir}/Cargo.toml"), &format!("package.name = '{name}'"));
            write(&format!("{dir}/src/lib.rs"), "mod m;\n");
            write(&format!("{dir}/src/m.rs"), "#[test]\nfn t() {}\n");
        }
        let mut finder = PlaceFinder::default();
        let id = |package: &str| TargetId {
            package: package.into(),
            target: package.into(),
            kind: TargetKind::Lib,
        };
        let of = EventOf { project: root.clone(), code_hash: Digest::of(b"") };
        let place = |finder: &mut PlaceFinder, package: &str, name: &str| {
            let (source, when) = (Source::Run, Timestamp(0));
            let (of, id, tests) =
                (of.clone(), id(package), vec![TestEntry::sample(name, Outcome::Ok)]);
            let mut event = StreamEvent::Tests { of, id, source, when, tests };
            finder.add_places(&mut event);
            let StreamEvent::Tests { tests, .. } = event else { panic!("{event:?}") };
            tests[0].place.clone().map(|place| (place.file, place.line))
        };
        assert_eq!(place(&mut finder, "a", "m::t"), Some(("a/src/m.rs".into(), 2)));
        assert_eq!(place(&mut finder, "a", "m::other"), None);
        assert_eq!(place(&mut finder, "twice", "m::t"), None);
        write("a/src/m.rs", "\n\n#[test]\nfn t() {}\n");
        finder.add_places(&mut StreamEvent::Tree { project: root.clone(), code_hash: None });
        assert_eq!(place(&mut finder, "a", "m::t"), Some(("a/src/m.rs".into(), 4)));
    }
}
