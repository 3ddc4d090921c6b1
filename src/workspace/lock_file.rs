//! The packages of a lock file, and which of them can take part in a build of another.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::toml_file;

/// What a lock file says of packages and their dependencies: over all platforms, and for a member of
/// the workspace those of its tests too. So it names more than a build takes, and nothing less.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LockFile {
    packages: Vec<LockedPackage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LockedPackage {
    name: String,
    version: String,
    dependencies: Vec<usize>,
}

impl LockFile {
    /// Reads a lock file. `None` if something in it is not understood.
    pub(crate) fn parse(content: &[u8]) -> Option<Self> {
        let table = toml_file::parse(Path::new(""), content).ok()?;
        let listed = table.get("package")?.as_array()?;
        let root = table.get("root");
        let mut entries = Vec::new();
        for package in listed.iter().chain(root) {
            let package = package.as_table()?;
            // Another package stands in its place.
            if package.contains_key("replace") {
                return None;
            }
            let text = |name: &str| package.get(name).and_then(|value| value.as_str());
            let dependencies = match package.get("dependencies") {
                Some(list) => {
                    list.as_array()?.iter().map(|word| word.as_str()).collect::<Option<_>>()?
                }
                None => Vec::new(),
            };
            entries.push((text("name")?, text("version")?, text("source"), dependencies));
        }
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, (name, ..)) in entries.iter().enumerate() {
            by_name.entry(name).or_default().push(index);
        }
        let mut packages = Vec::new();
        for (name, version, _, words) in &entries {
            let mut dependencies = Vec::new();
            for word in words {
                let mut parts = word.splitn(3, ' ');
                let named = by_name.get(parts.next()?)?;
                let version = parts.next();
                let found = named.iter().filter(|at| version.is_none_or(|v| entries[**at].1 == v));
                let before = dependencies.len();
                dependencies.extend(found);
                if dependencies.len() == before {
                    return None;
                }
            }
            packages.push(LockedPackage {
                name: (*name).to_owned(),
                version: (*version).to_owned(),
                dependencies,
            });
        }
        Some(Self { packages })
    }

    /// The packages, by their places here, that have this name and version.
    pub(crate) fn find<'a>(
        &'a self,
        name: &'a str,
        version: &'a str,
    ) -> impl Iterator<Item = usize> + 'a {
        let packages = self.packages.iter().enumerate();
        packages.filter(move |(_, p)| p.name == name && p.version == version).map(|(at, _)| at)
    }

    /// The versions of the packages of this name.
    pub(crate) fn versions<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let packages = self.packages.iter().filter(move |package| package.name == name);
        packages.map(|package| &*package.version)
    }

    /// All that these packages can be built from, themselves included.
    pub(crate) fn reachable(&self, from: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let mut todo: Vec<usize> = from.into_iter().collect();
        let mut reached = BTreeSet::new();
        while let Some(at) = todo.pop() {
            if reached.insert(at) {
                todo.extend(&self.packages[at].dependencies);
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4
[[package]]
name = "a"
version = "0.1.0"
dependencies = ["b", "x 1.0.0"]
[[package]]
name = "b"
version = "0.1.0"
dependencies = ["x 2.0.0 (registry+https://example.org)"]
[[package]]
name = "c"
version = "0.1.0"
[[package]]
name = "x"
version = "1.0.0"
source = "registry+https://example.org"
[[package]]
name = "x"
version = "2.0.0"
source = "registry+https://example.org"
"#;

    fn reached(lock: &LockFile, name: &str) -> Vec<String> {
        let from: Vec<_> = lock.find(name, "0.1.0").collect();
        let reached = lock.reachable(from).into_iter();
        reached
            .map(|at| format!("{} {}", lock.packages[at].name, lock.packages[at].version))
            .collect()
    }

    #[test]
    fn a_package_reaches_what_its_dependencies_reach() {
        let lock = LockFile::parse(LOCK.as_bytes()).unwrap();
        assert_eq!(reached(&lock, "a"), ["a 0.1.0", "b 0.1.0", "x 1.0.0", "x 2.0.0"]);
        assert_eq!(reached(&lock, "b"), ["b 0.1.0", "x 2.0.0"]);
        assert_eq!(reached(&lock, "c"), ["c 0.1.0"]);
        assert_eq!(lock.find("c", "0.2.0").count(), 0);
        assert_eq!(lock.versions("x").collect::<Vec<_>>(), ["1.0.0", "2.0.0"]);
    }

    #[test]
    fn what_is_not_understood_is_no_lock_file() {
        for text in [
            "",
            "package = 1",
            "[[package]]\nname = 'a'\n",
            "[[package]]\nname = 'a'\nversion = '1'\ndependencies = ['b']\n",
            "[[package]]\nname = 'a'\nversion = '1'\nreplace = 'a 2'\n",
            "[[package]]\nname = 'a'\nversion = '1'\ndependencies = [1]\n",
        ] {
            assert_eq!(LockFile::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn packages_that_depend_on_each_other_end() {
        let text = "[[package]]\nname = 'a'\nversion = '0.1.0'\ndependencies = ['b']\n\
                    [[package]]\nname = 'b'\nversion = '0.1.0'\ndependencies = ['a']\n";
        let lock = LockFile::parse(text.as_bytes()).unwrap();
        assert_eq!(reached(&lock, "b"), ["a 0.1.0", "b 0.1.0"]);
    }
}
