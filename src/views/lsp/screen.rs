//! The files on the screen and the tests in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lsp_types::Uri;

use super::marks::PlacedTest;
use super::open_file::OpenFile;
use crate::model::TargetId;
use crate::paths::plain;
use crate::workspace::{TestSources, package_targets};

/// The open files.
#[derive(Default)]
pub(super) struct Screen {
    files: BTreeMap<PathBuf, OpenFile>,
    sources: TestSources,
}

impl Screen {
    /// All open files.
    pub(super) fn files(&self) -> impl Iterator<Item = &OpenFile> {
        self.files.values()
    }

    /// An open file.
    pub(super) fn get(&self, path: &Path) -> Option<&OpenFile> {
        self.files.get(path)
    }

    /// A file is on the screen.
    pub(super) fn open(&mut self, file: OpenFile) {
        self.files.insert(file.path.clone(), file);
    }

    /// An open file, by its name in the editor.
    pub(super) fn by_uri(&mut self, uri: &Uri) -> Option<&mut OpenFile> {
        self.files.values_mut().find(|file| file.uri == *uri)
    }

    /// A file is no longer on the screen.
    pub(super) fn close(&mut self, uri: &Uri) {
        self.files.retain(|_, file| file.uri != *uri);
    }

    /// The text of a file: as on the screen, else as on disk.
    pub(super) fn text(&self, path: &Path) -> Option<String> {
        match self.files.get(path) {
            Some(file) => Some(file.text.clone()),
            None => fs::read_to_string(path).ok(),
        }
    }

    /// The test functions in a file, by their lines.
    pub(super) fn tests_in(&mut self, path: &Path) -> Vec<PlacedTest> {
        let mut found = Vec::new();
        for package in packages_around(path) {
            let is_here = |test: &(PlacedTest, PathBuf)| test.1 == path;
            found.extend(self.tests_of(&package).into_iter().filter(is_here).map(|test| test.0));
            if !found.is_empty() {
                break;
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// The place of a test by its name, if the package of its target has a file on the screen.
    pub(super) fn find(&mut self, target: &TargetId, name: &str) -> Option<(PathBuf, usize)> {
        let folders: Vec<_> = self.files.keys().cloned().collect();
        let folders = folders.iter().flat_map(|file| packages_around(file));
        let mut packages: Vec<Package> = folders.filter(|it| it.name == target.package).collect();
        packages.dedup_by(|one, other| one.dir == other.dir);
        let package = packages.first()?;
        let targets = package_targets(&package.dir, &package.manifest);
        let root =
            targets.into_iter().find(|it| it.kind == target.kind && it.name == target.target)?.root;
        let Self { files, sources } = self;
        let places = sources.places(&root, &|path| read(files, path));
        places.find(name).map(|place| (plain(&place.file), place.line))
    }

    fn tests_of(&mut self, package: &Package) -> Vec<(PlacedTest, PathBuf)> {
        let Self { files, sources } = self;
        let mut found = Vec::new();
        for target in package_targets(&package.dir, &package.manifest) {
            let places = sources.places(&target.root, &|path| read(files, path));
            found.extend(places.iter().map(|(name, place)| {
                let test = PlacedTest {
                    line: place.line,
                    name: name.to_owned(),
                    has_cases: place.has_cases,
                    target: TargetId {
                        package: package.name.clone(),
                        target: target.name.clone(),
                        kind: target.kind,
                    },
                };
                (test, plain(&place.file))
            }));
        }
        found
    }
}

fn read(files: &BTreeMap<PathBuf, OpenFile>, path: &Path) -> Option<String> {
    match files.get(&plain(path)) {
        Some(file) => Some(file.text.clone()),
        None => fs::read_to_string(path).ok(),
    }
}

struct Package {
    dir: PathBuf,
    name: String,
    manifest: toml::Table,
}

/// The packages that a file may belong to, the innermost first.
fn packages_around(file: &Path) -> impl Iterator<Item = Package> {
    file.ancestors().skip(1).filter_map(|dir| {
        let manifest: toml::Table =
            fs::read_to_string(dir.join("Cargo.toml")).ok()?.parse().ok()?;
        let name = manifest.get("package")?.get("name")?.as_str()?.to_owned();
        Some(Package { dir: dir.to_owned(), name, manifest })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TargetKind;

    #[test]
    fn tests_are_where_the_screen_shows_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        write("Cargo.toml", "[package]\nname = 'p'\n");
        write("src/lib.rs", "mod a;\n");
        write("src/main.rs", "mod a;\n");
        let path = write("src/a.rs", "#[test]\nfn t() {}\n");
        let mut screen = Screen::default();
        let names = |screen: &mut Screen, path: &Path| -> Vec<_> {
            let tests = screen.tests_in(path).into_iter();
            tests.map(|test| (test.line, test.name, test.target.kind)).collect()
        };
        let (lib, bin) = (TargetKind::Lib, TargetKind::Bin);
        assert_eq!(names(&mut screen, &path), [(2, "a::t".into(), lib), (2, "a::t".into(), bin)]);
        assert_eq!(names(&mut screen, &root.join("src/lib.rs")), []);
        let uri: Uri = "file:///x/a.rs".parse().unwrap();
        let text = "\n#[test]\nfn u() {}\n".to_owned();
        screen.open(OpenFile::new(uri.clone(), path.clone(), text));
        assert_eq!(names(&mut screen, &path), [(3, "a::u".into(), lib), (3, "a::u".into(), bin)]);
        let target = TargetId { package: "p".into(), target: "p".into(), kind: lib };
        assert_eq!(screen.find(&target, "a::u"), Some((path.clone(), 3)));
        assert_eq!(screen.find(&target, "a::t"), None);
        screen.close(&uri);
        assert_eq!(screen.text(&path).as_deref(), Some("#[test]\nfn t() {}\n"));
    }
}
