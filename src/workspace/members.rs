//! Which packages a tree has, where each lies and which others it is built from, read from the
//! manifests' text.
//!
//! For deciding what comes first, never what is right: a manifest that does not parse is no
//! package, and a dependency that only looks like one of ours counts as one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A package of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its folder, relative to wherever the paths of the manifests are.
    pub dir: PathBuf,
    /// The other packages of the tree that it is built from, for its tests and its build script
    /// too; direct ones.
    pub dependencies: BTreeSet<String>,
}

/// The packages of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(BTreeMap<PathBuf, Member>);

/// What below a package's folder goes into its build or its tests, besides everything in Rust.
const PARTS: [&str; 4] = ["src", "tests", "benches", "examples"];

impl Members {
    /// The packages of these manifests: paths of `Cargo.toml` files with their text.
    pub fn of<P: AsRef<Path>, T: AsRef<str>>(manifests: impl IntoIterator<Item = (P, T)>) -> Self {
        let mut found = BTreeMap::new();
        for (path, text) in manifests {
            let text = text.as_ref().trim_start_matches('\u{feff}');
            let Ok(table) = text.parse::<toml::Table>() else { continue };
            let package = table.get("package").or_else(|| table.get("project"));
            let name = package.and_then(|package| package.get("name")?.as_str());
            let (Some(name), Some(dir)) = (name, path.as_ref().parent()) else { continue };
            let (name, dir) = (name.to_owned(), dir.to_owned());
            let dependencies = dependencies(&table);
            found.insert(dir.clone(), Member { name, dir, dependencies });
        }
        let names: BTreeSet<_> = found.values().map(|member| member.name.clone()).collect();
        for member in found.values_mut() {
            member.dependencies.retain(|name| names.contains(name) && *name != member.name);
        }
        Self(found)
    }

    /// All packages, by folder.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.values()
    }

    /// The package that a file goes into, as far as its name tells: one whose change can change
    /// what is built or tested, so no readme.
    #[must_use]
    pub fn owner(&self, file: &Path) -> Option<&Member> {
        let member = file.ancestors().skip(1).find_map(|dir| self.0.get(dir))?;
        let below = file.strip_prefix(&member.dir).ok()?;
        let first = below.components().next()?.as_os_str();
        let counts = below.extension().is_some_and(|extension| extension == "rs")
            || below.as_os_str() == "Cargo.toml"
            || PARTS.iter().any(|part| first == *part);
        counts.then_some(member)
    }

    /// Each package with those it is built from.
    #[must_use]
    pub fn graph(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.iter().map(|member| (member.name.clone(), member.dependencies.clone())).collect()
    }
}

/// The names of everything in a manifest's tables of dependencies.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    const TABLES: [&str; 5] = [
        "dependencies",
        "dev-dependencies",
        "build-dependencies",
        "dev_dependencies",
        "build_dependencies",
    ];
    let mut names = BTreeSet::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values());
    let places = targets.filter_map(toml::Value::as_table).chain([manifest]);
    for table in places.flat_map(|place| TABLES.iter().filter_map(|name| place.get(*name))) {
        for (key, value) in table.as_table().into_iter().flatten() {
            let renamed = value.get("package").and_then(toml::Value::as_str);
            names.insert(renamed.unwrap_or(key).to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        Members::of([
            (
                "Cargo.toml",
                "[package]\nname='top'\n[workspace]\n[dependencies]\nmid={path='crates/mid'}\n",
            ),
            (
                "crates/mid/Cargo.toml",
                "[package]\nname='mid'\n[dependencies]\nserde='1'\n\
                 [target.'cfg(unix)'.dev-dependencies]\nx={package='low',path='../low'}\n",
            ),
            (
                "crates/low/Cargo.toml",
                "[package]\nname='low'\n[dev-dependencies]\nlow={path='.'}\n",
            ),
            ("crates/broken/Cargo.toml", "[package"),
            ("crates/Cargo.toml", "[workspace]\n"),
        ])
    }

    #[test]
    fn the_graph_has_all_kinds_of_dependencies_and_only_our_own() {
        let expected = [("top", vec!["mid"]), ("mid", vec!["low"]), ("low", vec![])];
        let expected = expected.map(|(name, all)| {
            (name.to_owned(), all.into_iter().map(str::to_owned).collect::<BTreeSet<_>>())
        });
        assert_eq!(members().graph(), BTreeMap::from(expected));
    }

    #[test]
    fn a_file_goes_into_the_innermost_package_around_it_if_into_any() {
        let members = members();
        let owner = |path: &str| members.owner(Path::new(path)).map(|member| member.name.clone());
        assert_eq!(owner("crates/mid/src/lib.rs").as_deref(), Some("mid"));
        assert_eq!(owner("crates/mid/tests/data/x.txt").as_deref(), Some("mid"));
        assert_eq!(owner("crates/mid/Cargo.toml").as_deref(), Some("mid"));
        assert_eq!(owner("crates/mid/README.md"), None);
        assert_eq!(owner("crates/core/main.rs").as_deref(), Some("top"));
        assert_eq!(owner(".github/workflows/ci.yml"), None);
        assert_eq!(owner("/elsewhere/src/lib.rs"), None);
    }
}
