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
