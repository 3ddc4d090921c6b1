//! The files of a snapshot by the packages that they belong to.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::hasher::{ListedEntry, Manifest};
use crate::model::{Digest, Digester};
use crate::verdict::facts::ProductFolders;

/// Folders in which cargo looks for targets by their names.
const TARGET_FOLDERS: [&str; 4] = ["tests", "examples", "benches", "bin"];
/// Names by which cargo finds targets.
const TARGET_FILES: [&str; 3] = ["main.rs", "lib.rs", "build.rs"];

/// The files of a snapshot, from the workspace's root.
#[derive(Debug)]
pub(super) struct SourceListing {
    entries: BTreeMap<PathBuf, ListedEntry>,
    /// Where the links among them lead to.
    links: BTreeMap<PathBuf, LinkedThing>,
}

/// What a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum LinkedThing {
    /// A file, whose content is a part of the link's.
    File,
    /// A folder in the workspace, by its way from the root.
    Folder(PathBuf),
    /// Anything else.
    Other,
}

impl LinkedThing {
    /// What the link at this way from the real root leads to. A product's content is no part of the link's.
    fn of(root: &Path, link: &Path, products: &ProductFolders) -> Self {
        let Ok(real) = root.join(link).canonicalize() else { return Self::Other };
        if products.hold(&real) {
            return Self::Other;
        }
        match real.strip_prefix(root) {
            _ if real.is_file() => Self::File,
            Ok(folder) if real.is_dir() => Self::Folder(folder.to_owned()),
            _ => Self::Other,
        }
    }
}

impl SourceListing {
    /// The files of a stored listing of the workspace at `root`, which is built in `target_dirs`.
    pub(super) fn of(manifest: &Manifest, root: &Path, target_dirs: &[PathBuf]) -> Self {
        let listing = Self::of_entries(manifest.entries());
        let links = listing.entries.values().filter(|entry| entry.sort == b'l');
        let products = ProductFolders::of(target_dirs);
        let links =
            links.map(|link| (link.path.clone(), LinkedThing::of(root, &link.path, &products)));
        Self { links: links.collect(), ..listing }
    }

    /// A listing of these entries. Nothing is known of where its links lead.
    pub(super) fn of_entries(entries: impl IntoIterator<Item = ListedEntry>) -> Self {
        let entries = entries.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
        Self { entries, links: BTreeMap::new() }
    }

    /// Whether the path is listed.
    pub(super) fn holds(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    /// Whether all that is found by a link counts for the package that the link lies in.
    fn stays_inside(&self, link: &Path, owner: usize, places: &BTreeMap<&Path, usize>) -> bool {
        match self.links.get(link) {
            Some(LinkedThing::File) => true,
            Some(LinkedThing::Folder(folder)) => {
                let listed = self.entries.range(folder.clone()..).map(|(path, _)| path);
                let mut below = listed.take_while(|path| path.starts_with(folder)).peekable();
                below.peek().is_some() && below.all(|path| self::owner(path, places) == Some(owner))
            }
            Some(LinkedThing::Other) | None => false,
        }
    }

    /// The digest of all that decides what cargo builds and how: manifests and lock files, what lies at
    /// the paths that cargo and the compiler are `told`, and the names that cargo looks for.
    pub(super) fn of_plan(&self, told: &BTreeSet<PathBuf>) -> Digest {
        let mut digester = Digester::new("files of a plan 2");
        for (path, entry) in &self.entries {
            let name = path.file_name().unwrap_or_default();
            let is_told = path.ancestors().any(|above| told.contains(above));
            if name == "Cargo.toml" || name == "Cargo.lock" || is_told {
                add(&mut digester, entry, &entry.content);
            } else if is_target_name(path) {
                digester.field(path.as_os_str().as_bytes()).number(entry.sort.into());
            }
        }
        digester.finish()
    }

    /// What is listed at the path.
    pub(super) fn entry(&self, path: &Path) -> Option<&ListedEntry> {
        self.entries.get(path)
    }

    /// The files with content.
    pub(super) fn files(&self) -> impl Iterator<Item = &ListedEntry> {
        self.entries.values().filter(|entry| matches!(entry.sort, b'f' | b'x'))
    }

    /// The digest of each package's files, by the packages' folders; `None` for a package with a
    /// link in it that may lead to files of others, or of which nothing is listed. `content` is what
    /// counts of a file.
    pub(super) fn of_packages(
        &self,
        folders: &[PathBuf],
        content: impl Fn(&ListedEntry) -> Digest,
    ) -> Vec<Option<Digest>> {
        let places: BTreeMap<&Path, usize> =
            folders.iter().enumerate().map(|(at, folder)| (folder.as_path(), at)).collect();
        let mut packages: Vec<(Digester, bool)> =
            folders.iter().map(|_| (Digester::new("files of a package 2"), false)).collect();
        for (path, entry) in &self.entries {
            let Some(owner) = owner(path, &places) else { continue };
            let (digester, has_link) = &mut packages[owner];
            add(digester, entry, &content(entry));
            *has_link |= entry.sort == b'l' && !self.stays_inside(path, owner, &places);
        }
        let digests = packages.into_iter().zip(folders);
        let digest = |((digester, has_link), folder): ((Digester, bool), &PathBuf)| {
            let is_whole = !has_link && self.holds(&folder.join("Cargo.toml"));
            is_whole.then(|| digester.finish())
        };
        digests.map(digest).collect()
    }

    /// All that is listed of some packages, by their places among `folders`.
    pub(super) fn files_of(&self, folders: &[PathBuf], packages: &BTreeSet<usize>) -> Vec<&Path> {
        let places: BTreeMap<&Path, usize> =
            folders.iter().enumerate().map(|(at, folder)| (folder.as_path(), at)).collect();
        let is_of = |path: &&Path| owner(path, &places).is_some_and(|at| packages.contains(&at));
        self.entries.keys().map(PathBuf::as_path).filter(is_of).collect()
    }

    /// The package that a listed path belongs to, by its place among `folders`; `None` if the path
    /// is not listed or belongs to none.
    pub(super) fn package_of(&self, path: &Path, folders: &[PathBuf]) -> Option<usize> {
        self.entries.contains_key(path).then(|| owner_of(path, folders)).flatten()
    }
}

/// The package that a path would belong to if it were listed, by its place among `folders`.
pub(super) fn owner_of(path: &Path, folders: &[PathBuf]) -> Option<usize> {
    let places = folders.iter().enumerate().map(|(at, folder)| (folder.as_path(), at)).collect();
    owner(path, &places)
}

/// Whether the path decides what cargo builds and how: see [`SourceListing::of_plan`].
pub(super) fn is_of_plan(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name == "Cargo.toml" || name == "Cargo.lock" || is_target_name(path)
}

/// The package in the folder nearest above the path. What lies outside of the root belongs to no
/// package in the root.
fn owner(path: &Path, places: &BTreeMap<&Path, usize>) -> Option<usize> {
    let is_outside = |path: &Path| path.components().next() == Some(Component::ParentDir);
    let outside = is_outside(path);
    let mut above = path.ancestors().skip(1).filter(|folder| is_outside(folder) == outside);
    above.find_map(|folder| places.get(folder).copied())
}

fn is_target_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
    TARGET_FILES.iter().any(|known| name == *known)
        || (path.extension().is_some_and(|end| end == "rs")
            && TARGET_FOLDERS.iter().any(|known| folder == *known))
}

fn add(digester: &mut Digester, entry: &ListedEntry, content: &Digest) {
    digester.field(entry.path.as_os_str().as_bytes()).number(entry.sort.into());
    digester.digest(content);
}

/// The way from the root to a path, both absolute.
pub(super) fn from_root(root: &Path, path: &Path) -> PathBuf {
    let mut way = PathBuf::new();
    for above in root.ancestors() {
        if let Ok(below) = path.strip_prefix(above) {
            return way.join(below);
        }
        way.push("..");
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listing(files: &[(&str, u8, &str)]) -> SourceListing {
        let entry = |(path, sort, text): &(&str, u8, &str)| {
            let content = Digest::of(text.as_bytes());
            ListedEntry { path: path.into(), sort: *sort, content }
        };
        let links = files.iter().filter(|file| file.1 == b'l');
        let links = links.map(|(path, _, to)| {
            let thing = match *to {
                "" => LinkedThing::File,
                outside if outside.starts_with("..") => LinkedThing::Other,
                folder => LinkedThing::Folder(folder.into()),
            };
            (PathBuf::from(path), thing)
        });
        let listing = SourceListing::of_entries(files.iter().map(entry));
        SourceListing { links: links.collect(), ..listing }
    }

    fn whole(entry: &ListedEntry) -> Digest {
        entry.content
    }

    fn folders() -> Vec<PathBuf> {
        ["", "a", "a/inner", "../out"].map(PathBuf::from).to_vec()
    }

    const FILES: [(&str, u8, &str); 10] = [
        ("../out/Cargo.toml", b'f', "o"),
        ("../out/src/lib.rs", b'f', "o"),
        ("Cargo.lock", b'f', "lock"),
        ("Cargo.toml", b'f', "root"),
        ("README.md", b'f', "readme"),
        ("a/Cargo.toml", b'f', "a"),
        ("a/inner/Cargo.toml", b'f', "inner"),
        ("a/inner/src/lib.rs", b'f', "inner"),
        ("a/src/lib.rs", b'f', "a"),
        ("src/lib.rs", b'f', "root"),
    ];

    fn differing(one: &[(&str, u8, &str)], other: &[(&str, u8, &str)]) -> Vec<usize> {
        let (one, other) = (listing(one), listing(other));
        let (one, other) =
            (one.of_packages(&folders(), whole), other.of_packages(&folders(), whole));
        (0..4).filter(|at| one[*at] != other[*at]).collect()
    }

    #[test]
    fn a_file_counts_for_the_nearest_package_above_it_alone() {
        let all = listing(&FILES).of_packages(&folders(), whole);
        assert!(all.iter().all(Option::is_some), "{all:?}");
        for (path, expected) in [
            ("README.md", 0),
            ("a/src/lib.rs", 1),
            ("a/inner/src/lib.rs", 2),
            ("../out/src/lib.rs", 3),
            ("src/lib.rs", 0),
        ] {
            let mut edited = FILES;
            edited.iter_mut().find(|(name, ..)| *name == path).unwrap().2 = "edited";
            assert_eq!(differing(&FILES, &edited), [expected], "{path}");
            assert_eq!(listing(&FILES).package_of(Path::new(path), &folders()), Some(expected));
        }
        let with = [&FILES[..], &[("a/new", b'f', "")]].concat();
        assert_eq!(differing(&FILES, &with), [1], "a new file");
        let mut run = FILES;
        run[8].1 = b'x';
        assert_eq!(differing(&FILES, &run), [1], "a mode");
        assert_eq!(listing(&FILES).package_of(Path::new("a/none"), &folders()), None);
        let elsewhere = [("../other/x", b'f', "")];
        assert_eq!(listing(&elsewhere).package_of(Path::new("../other/x"), &folders()), None);
    }

    #[test]
    fn a_package_with_a_link_or_without_a_manifest_has_no_digest() {
        let with = [&FILES[..], &[("a/data", b'l', "../b")]].concat();
        let digests = listing(&with).of_packages(&folders(), whole);
        assert!(digests[1].is_none() && digests[0].is_some() && digests[2].is_some());
        let has_digest = |to: &str| {
            let with = [&FILES[..], &[("a/data", b'l', to)]].concat();
            listing(&with).of_packages(&folders(), whole)[1].is_some()
        };
        assert!(has_digest("a/src"), "the files are the package's own");
        assert!(has_digest(""), "the file's content is a part of the link's");
        for outside in ["a", "a/inner", "src", "none"] {
            assert!(!has_digest(outside), "{outside}");
        }
        let digests = listing(&FILES[2..]).of_packages(&folders(), whole);
        assert!(digests[3].is_none());
    }

    #[test]
    fn a_plan_is_of_manifests_lock_files_and_names_of_targets() {
        let told = BTreeSet::from(["tools".into(), "link.ld".into()]);
        let plan = |files: &[(&str, u8, &str)]| listing(files).of_plan(&told);
        let with = |file| plan(&[&FILES[..], &[file]].concat());
        for (path, counts) in [
            ("a/tests/new.rs", true),
            ("a/tests/new/main.rs", true),
            ("a/src/bin/new.rs", true),
            ("b/Cargo.toml", true),
            ("a/build.rs", true),
            ("a/src/new.rs", false),
            ("a/tests/data.txt", false),
            ("tools/linker.sh", true),
            ("link.ld", true),
            ("a/link.ld", false),
        ] {
            assert_eq!(with((path, b'f', "")) != plan(&FILES), counts, "{path}");
        }
        let mut edited = FILES;
        edited[9].2 = "edited";
        assert_eq!(plan(&edited), plan(&FILES));
        edited[2].2 = "other versions";
        assert_ne!(plan(&edited), plan(&FILES));
    }

    #[test]
    fn contents_whose_digests_begin_alike_are_told_apart() {
        let with = |last: u8| {
            let mut content = [9; 32];
            content[31] = last;
            let content = Digest::from_bytes(content);
            let mut listing = listing(&FILES);
            for name in ["Cargo.lock", "src/lib.rs"] {
                listing.entries.get_mut(Path::new(name)).unwrap().content = content;
            }
            listing
        };
        let (one, other) = (with(1), with(2));
        let none = BTreeSet::new();
        assert_ne!(one.of_plan(&none), other.of_plan(&none));
        assert_ne!(one.of_packages(&folders(), whole)[0], other.of_packages(&folders(), whole)[0]);
    }

    #[test]
    fn the_way_from_the_root() {
        let way = |path: &str| from_root(Path::new("/w/one"), Path::new(path));
        assert_eq!(way("/w/one/a/b"), Path::new("a/b"));
        assert_eq!(way("/w/two"), Path::new("../two"));
        assert_eq!(way("/x"), Path::new("../../x"));
        assert_eq!(way("/w/one"), Path::new(""));
    }

    proptest! {
        /// No edit is lost: it counts for exactly one package, or for none if it lies in none.
        #[test]
        fn every_edit_counts_where_it_lies(parts in proptest::collection::vec("a|inner|src|x", 1..4)) {
            let path = parts.join("/") + "/f.txt";
            let (one, other) = (listing(&[(&path, b'f', "1")]), listing(&[(&path, b'f', "2")]));
            let owner = one.package_of(Path::new(&path), &folders()).unwrap();
            let manifests: Vec<_> = FILES.iter().filter(|file| file.0.ends_with(".toml")).copied().collect();
            let with = |text| [&manifests[..], &[(&*path, b'f', text)]].concat();
            prop_assert_eq!(differing(&with("1"), &with("2")), vec![owner]);
            let none = BTreeSet::new();
            prop_assert_eq!(one.of_plan(&none), other.of_plan(&none));
        }
    }
}
