//! The file in which a target's source begins, by its package's manifest and cargo's conventions.

use std::path::{Path, PathBuf};

use crate::model::TargetKind;

/// The first source file of a target, if the manifest and the files that `exists` leave no doubt.
/// `dir` is the folder of the package, `name` the target's name as cargo prints it.
#[must_use]
pub fn target_root(
    dir: &Path,
    manifest: &toml::Table,
    kind: TargetKind,
    name: &str,
    exists: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    if let Some(path) = named(manifest, kind, name) {
        let path = dir.join(path);
        return exists(&path).then_some(path);
    }
    let in_folder = |folder: &str| {
        [dir.join(folder).join(format!("{name}.rs")), dir.join(folder).join(name).join("main.rs")]
    };
    let mut candidates = match kind {
        TargetKind::Lib | TargetKind::Doc => vec![dir.join("src/lib.rs")],
        TargetKind::Bin => {
            let package = manifest.get("package").or_else(|| manifest.get("project"));
            let package = package.and_then(|package| package.get("name")?.as_str());
            let main = (package == Some(name)).then(|| dir.join("src/main.rs"));
            in_folder("src/bin").into_iter().chain(main).collect()
        }
        TargetKind::Test => in_folder("tests").into(),
        TargetKind::Example => in_folder("examples").into(),
        TargetKind::Bench => in_folder("benches").into(),
    };
    candidates.retain(|path| exists(path));
    let root = candidates.pop()?;
    candidates.is_empty().then_some(root)
}

/// A target that a package seems to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackageTarget {
    pub(crate) kind: TargetKind,
    /// Its name as cargo prints it.
    pub(crate) name: String,
    /// The file in which its source begins.
    pub(crate) root: PathBuf,
}

/// The targets of the package in the folder `dir`, doctests aside, as far as its manifest and the
/// names of its files tell. A target that is named here need not be tested.
pub(crate) fn package_targets(dir: &Path, manifest: &toml::Table) -> Vec<PackageTarget> {
    let package = manifest.get("package").or_else(|| manifest.get("project"));
    let package = package.and_then(|package| package.get("name")?.as_str()).unwrap_or_default();
    let mut names =
        vec![(TargetKind::Lib, package.to_owned()), (TargetKind::Bin, package.to_owned())];
    let folders = [
        (TargetKind::Bin, "src/bin"),
        (TargetKind::Test, "tests"),
        (TargetKind::Example, "examples"),
        (TargetKind::Bench, "benches"),
    ];
    for (kind, folder) in folders {
        let entries = std::fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
        let stems =
            entries.filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()));
        names.extend(stems.map(|name| (kind, name)));
        let named =
            manifest.get(kind.as_str()).and_then(toml::Value::as_array).into_iter().flatten();
        let named = named.filter_map(|table| table.get("name")?.as_str());
        names.extend(named.map(|name| (kind, name.to_owned())));
    }
    names.sort();
    names.dedup();
    let targets = names.into_iter().filter_map(|(kind, name)| {
        let root = target_root(dir, manifest, kind, &name, Path::is_file)?;
        Some(PackageTarget { kind, name, root })
    });
    targets.collect()
}

/// The path that the manifest gives a target.
fn named<'a>(manifest: &'a toml::Table, kind: TargetKind, name: &str) -> Option<&'a str> {
    let tables = match kind {
        TargetKind::Lib | TargetKind::Doc => return manifest.get("lib")?.get("path")?.as_str(),
        kind => manifest.get(kind.as_str())?.as_array()?,
    };
    let table = tables
        .iter()
        .find(|table| table.get("name").and_then(toml::Value::as_str) == Some(name))?;
    table.get("path")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_root(manifest: &str, kind: TargetKind, files: &[&str], expected: Option<&str>) {
        let table = manifest.parse().unwrap();
        let exists = |path: &Path| files.iter().any(|file| path == Path::new("p").join(file));
        let root = target_root(Path::new("p"), &table, kind, "t", exists);
        assert_eq!(root, expected.map(|file| Path::new("p").join(file)), "{manifest} {files:?}");
    }

    #[test]
    fn conventions_hold_where_the_manifest_says_nothing() {
        let plain = "[package]\nname = 'q'\n";
        assert_root(plain, TargetKind::Lib, &["src/lib.rs"], Some("src/lib.rs"));
        assert_root(plain, TargetKind::Doc, &["src/lib.rs"], Some("src/lib.rs"));
        assert_root(plain, TargetKind::Bin, &["src/main.rs", "src/lib.rs"], None);
        assert_root("package.name = 't'", TargetKind::Bin, &["src/main.rs"], Some("src/main.rs"));
        assert_root(plain, TargetKind::Bin, &["src/bin/t.rs"], Some("src/bin/t.rs"));
        assert_root(plain, TargetKind::Test, &["tests/t/main.rs"], Some("tests/t/main.rs"));
        assert_root(plain, TargetKind::Example, &["examples/t.rs"], Some("examples/t.rs"));
        assert_root(plain, TargetKind::Bench, &["benches/t.rs"], Some("benches/t.rs"));
        assert_root(plain, TargetKind::Test, &["tests/t.rs", "tests/t/main.rs"], None);
        assert_root(plain, TargetKind::Lib, &[], None);
    }

    #[test]
    fn a_package_has_the_targets_that_its_files_and_its_manifest_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "src/lib.rs",
            "src/main.rs",
            "src/bin/b.rs",
            "tests/it/main.rs",
            "tests/t.rs",
            "tests/data/x.txt",
            "odd.rs",
        ];
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let manifest = "[package]\nname = 'p'\n[[test]]\nname = 'odd'\npath = 'odd.rs'\n";
        let targets = package_targets(dir.path(), &manifest.parse().unwrap());
        let names: Vec<_> =
            targets.iter().map(|target| (target.kind, target.name.as_str())).collect();
        use TargetKind::{Bin, Lib, Test};
        assert_eq!(
            names,
            [(Lib, "p"), (Bin, "b"), (Bin, "p"), (Test, "it"), (Test, "odd"), (Test, "t")]
        );
        assert_eq!(targets[3].root, dir.path().join("tests/it/main.rs"));
    }

    #[test]
    fn the_manifests_word_comes_first() {
        let lib = "[lib]\npath = 'x.rs'\n";
        assert_root(lib, TargetKind::Lib, &["src/lib.rs", "x.rs"], Some("x.rs"));
        assert_root(lib, TargetKind::Lib, &["src/lib.rs"], None);
        let test = "[[test]]\nname = 'u'\npath = 'u.rs'\n[[test]]\nname = 't'\npath = 'a/b.rs'\n";
        assert_root(test, TargetKind::Test, &["tests/t.rs", "a/b.rs"], Some("a/b.rs"));
        let harness = "[[test]]\nname = 't'\nharness = false\n";
        assert_root(harness, TargetKind::Test, &["tests/t.rs"], Some("tests/t.rs"));
    }
}
