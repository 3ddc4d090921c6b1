//! Paths of one machine as another one has them: below folders that both have.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::{Input, InputState};
use crate::model::OsText;
use crate::process::Environment;
use crate::workspace::replace_folder;

/// A folder that each machine has in its own place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SymbolicRoot {
    /// The workspace.
    Workspace,
    /// `$CARGO_HOME`.
    Cargo,
    /// `$RUSTUP_HOME`.
    Rustup,
    /// The folder of the toolchain, if nothing else lies there.
    Toolchain,
    /// The temporary folder.
    Temporary,
    /// `$HOME`.
    Home,
    /// The folder that lies so many above the workspace.
    Above(usize),
    /// Every folder above the workspace, however many there are: of names that are absent there.
    EachAbove,
}

/// Cargo and the toolchain name what is theirs by variables of their own.
const OF_TOOLS: [SymbolicRoot; 3] =
    [SymbolicRoot::Cargo, SymbolicRoot::Rustup, SymbolicRoot::Toolchain];

/// By these cargo, rustup and git look on the way up, whatever a checkout is called.
const USUAL: [&str; 6] =
    [".cargo", "Cargo.toml", "Cargo.lock", "rust-toolchain", "rust-toolchain.toml", ".git"];
/// No checkout lies beside what is in these folders.
const SYSTEM: [&str; 19] = [
    "/Library", "/System", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32",
    "/nix", "/opt", "/private", "/proc", "/run", "/sbin", "/sys", "/usr", "/var",
];
/// Names of so many bytes are in others by chance.
const SHORT: usize = 3;

/// Whether no checkout lies beside it.
pub(super) fn is_of_the_system(path: &Path) -> bool {
    SYSTEM.iter().any(|folder| path.starts_with(folder))
}

/// A path as it is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PortablePath {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<SymbolicRoot>,
    /// What comes after the folder; the whole where there is none.
    pub(super) path: OsText,
}

impl PortablePath {
    /// The path as it is.
    pub(super) fn plain(path: &Path) -> Self {
        Self { root: None, path: OsText::from(path) }
    }

    /// Whether cargo or the toolchain names it.
    pub(super) fn is_of_tools(&self) -> bool {
        self.root.is_some_and(|root| OF_TOOLS.contains(&root))
    }

    /// Whether it is a name in every folder above the workspace.
    pub(super) fn is_each_above(&self) -> bool {
        self.root == Some(SymbolicRoot::EachAbove)
    }

    /// Whether it lies below this folder.
    pub(super) fn is_in(&self, root: SymbolicRoot) -> bool {
        self.root == Some(root) && !self.path.0.is_empty()
    }
}

/// Where the symbolic roots are on this machine.
#[derive(Clone, Debug)]
pub(super) struct SymbolicRoots {
    workspace: PathBuf,
    /// The folders above the workspace, by every way that leads to it.
    above: BTreeSet<PathBuf>,
    /// The others, the narrowest first.
    folders: Vec<(SymbolicRoot, PathBuf)>,
    /// A file that no shared run may have read.
    key: Option<PathBuf>,
}

/// Folders in which the homes of users lie.
const HOMES: [&str; 3] = ["/home", "/root", "/Users"];

impl SymbolicRoots {
    /// The roots in this environment. `start` is where cargo looks for the workspace, perhaps by a link;
    /// `toolchain` is a folder in which nothing else lies, and `key` the signing key.
    pub(super) fn of(
        workspace: &Path,
        start: &Path,
        environment: &Environment,
        toolchain: Option<&Path>,
        key: Option<&Path>,
    ) -> Self {
        let absolute =
            |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let below = |name: &str, folder: &str| {
            absolute(name).or_else(|| home.as_ref().map(|home| home.join(folder)))
        };
        let temporary = absolute("TMPDIR").unwrap_or_else(|| "/tmp".into());
        let folders = [
            (SymbolicRoot::Cargo, below("CARGO_HOME", ".cargo")),
            (SymbolicRoot::Rustup, below("RUSTUP_HOME", ".rustup")),
            (SymbolicRoot::Toolchain, toolchain.map(Path::to_owned)),
            (SymbolicRoot::Home, home.clone()),
            (SymbolicRoot::Temporary, Some(temporary)),
        ];
        let is_folder = |path: &PathBuf| path.parent().is_some();
        let mut folders: Vec<_> = folders
            .into_iter()
            .filter_map(|(root, path)| Some((root, path.filter(is_folder)?)))
            .collect();
        // A folder inside another one is the narrower one.
        folders.sort_by_key(|(root, path)| (std::cmp::Reverse(path.components().count()), *root));
        let mut above: BTreeSet<_> = workspace.ancestors().skip(1).map(Path::to_owned).collect();
        let is_inside = |path: &Path| path.canonicalize().is_ok_and(|at| at.starts_with(workspace));
        let ways = [Some(start.to_owned()), absolute("PWD")].into_iter().flatten();
        for way in ways.filter(|way| is_inside(way)) {
            // Other folders are above a link.
            above.extend(way.ancestors().filter(|at| !is_inside(at)).map(Path::to_owned));
        }
        let (workspace, key) = (workspace.to_owned(), key.map(Path::to_owned));
        Self { workspace, above, folders, key }
    }

    /// The path as it is shared.
    ///
    /// # Errors
    /// If another machine cannot have it.
    pub(super) fn portable(&self, path: &Path) -> Result<PortablePath, String> {
        if self.key.as_deref() == Some(path) {
            return Err("it consults the signing key".to_owned());
        }
        let below = |root: SymbolicRoot, folder: &Path| {
            let path = OsText::from(path.strip_prefix(folder).ok()?);
            Some(PortablePath { root: Some(root), path })
        };
        if let Some(inside) = below(SymbolicRoot::Workspace, &self.workspace) {
            return Ok(inside);
        }
        if let Some(up) = self.workspace.ancestors().position(|above| above == path)
            && path.parent().is_some()
        {
            return Ok(PortablePath {
                root: Some(SymbolicRoot::Above(up)),
                path: OsText::from(Path::new("")),
            });
        }
        let known = self.folders.iter().find_map(|(root, folder)| below(*root, folder));
        match known {
            Some(known) => Ok(known),
            None if HOMES
                .iter()
                .any(|homes| path.starts_with(homes) && path != Path::new(homes)) =>
            {
                Err(format!("`{}` lies in a home folder that is not $HOME", path.display()))
            }
            None => Ok(PortablePath::plain(path)),
        }
    }

    /// The same of something that was absent.
    ///
    /// # Errors
    /// If another machine cannot have it.
    pub(super) fn portable_absent(&self, path: &Path) -> Result<PortablePath, String> {
        // A search on the way up from a home passes the folder of all homes, and finds no user's there.
        let is_of_homes = |homes: &&str| {
            let below = path.strip_prefix(homes).ok().filter(|_| self.workspace.starts_with(homes));
            below.is_some_and(|below| {
                let first = below.iter().next().unwrap_or_default().as_bytes();
                first.starts_with(b".") || below.iter().count() == 1
            })
        };
        match HOMES.iter().any(is_of_homes) {
            true => self.portable(path).or_else(|_| Ok(PortablePath::plain(path))),
            false => self.portable(path),
        }
    }

    /// The path on this machine.
    ///
    /// # Errors
    /// If this machine has no such folder, or the path is none.
    pub(super) fn local(&self, path: &PortablePath) -> Result<PathBuf, String> {
        let rest = Path::new(&path.path.0);
        let folder = match path.root {
            None if rest.is_absolute() => return Ok(rest.to_owned()),
            None | Some(SymbolicRoot::EachAbove) => {
                return Err(format!("`{}` is no absolute path", rest.display()));
            }
            Some(SymbolicRoot::Workspace) => Some(self.workspace.as_path()),
            Some(SymbolicRoot::Above(up)) => self.workspace.ancestors().nth(up),
            Some(root) => self.folder(root),
        };
        let folder = folder.ok_or_else(|| format!("there is no folder {:?} here", path.root))?;
        let rest = below_a_folder(rest)?;
        Ok(if rest == Path::new("") { folder.to_owned() } else { folder.join(rest) })
    }

    /// The paths on this machine of a name in every folder above the workspace, but for those in `named`.
    ///
    /// # Errors
    /// If it is no name in a folder.
    pub(super) fn each_above(
        &self,
        name: &PortablePath,
        named: &BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, String> {
        let name = below_a_folder(Path::new(&name.path.0))?;
        if name == Path::new("") {
            return Err("no folder above a workspace can be absent".to_owned());
        }
        let paths = self.above.iter().map(|folder| folder.join(&name));
        Ok(paths.filter(|path| !named.contains(path)).collect())
    }

    fn folder(&self, root: SymbolicRoot) -> Option<&Path> {
        let is_it = |(known, _): &&(SymbolicRoot, PathBuf)| *known == root;
        self.folders.iter().find(is_it).map(|(_, folder)| folder.as_path())
    }

    /// A text with these folders by their symbols.
    pub(super) fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut text = replace_folder(text, &self.workspace, b"\0workspace");
        for (root, folder) in &self.folders {
            text = replace_folder(&text, folder, format!("\0{root:?}").as_bytes());
        }
        text
    }

    /// What must be absent in every folder above another checkout for a run there to consult the same
    /// things: the names that this run looked for in vain on the way up from its own.
    ///
    /// # Errors
    /// What was perhaps found by the way from the checkout, which leads elsewhere from another one.
    pub(super) fn absent_above(&self, inputs: &[Input]) -> Result<Vec<PortablePath>, String> {
        let tools: Vec<&Path> = OF_TOOLS.into_iter().filter_map(|root| self.folder(root)).collect();
        // Folders that runs know by variables, the narrower one first.
        let by_variable =
            |root: &SymbolicRoot| matches!(root, SymbolicRoot::Home | SymbolicRoot::Temporary);
        let known = self.folders.iter().filter(|(root, _)| by_variable(root));
        let known: Vec<&Path> = known.map(|(_, folder)| folder.as_path()).collect();
        // By every way to the workspace, the narrower one first.
        let by_links = self.above.iter().map(PathBuf::as_path);
        let by_links = by_links.filter(|folder| !self.workspace.starts_with(folder));
        let above: Vec<&Path> = self.workspace.ancestors().chain(by_links.rev()).collect();
        let above: Vec<&Path> =
            above.into_iter().filter(|folder| folder.parent().is_some()).collect();
        let paths: BTreeSet<PathBuf> =
            inputs.iter().map(|input| self.workspace.join(&input.path)).collect();
        let mut names = BTreeSet::new();
        for input in inputs.iter().filter(|input| input.path.is_absolute()) {
            let path = &*input.path;
            let is_of_tools = tools
                .iter()
                .any(|tool| path.starts_with(tool) && !self.workspace.starts_with(tool));
            if is_of_tools || self.workspace.starts_with(path) {
                continue;
            }
            let nearest = above.iter().copied().find(|folder| path.starts_with(folder));
            let folder = nearest.unwrap_or(Path::new("/"));
            let below = |folder: &Path| path.strip_prefix(folder).unwrap_or(path);
            let is_absent = input.state == InputState::Absent;
            // A search of all folders above has looked for it in others as well.
            let is_searched = |folder: &Path| {
                let others = above.iter().copied().filter(|other| *other != folder);
                // `/lib` and a folder of that name in the workspace have nothing to do with each other.
                let mut others = others.filter(|other| {
                    nearest.is_some() || is_absent || *other != self.workspace || is_file(input)
                });
                others.any(|other| paths.contains(&other.join(below(folder))))
            };
            let named = known.iter().copied().find(|home| path.starts_with(home));
            // All paths lie below `/`; those of the system are not found by going up so far.
            let is_on_the_way = nearest.is_some()
                || is_searched(folder)
                || (is_absent && named.is_none() && !is_of_the_system(path));
            if !is_on_the_way {
                continue;
            }
            // `CHECKOUT-data` has another name elsewhere.
            let base = named.filter(|home| !folder.starts_with(home)).unwrap_or(folder);
            let next = self.workspace.strip_prefix(folder).unwrap_or(path).iter().next();
            let name = below(folder).as_os_str().as_bytes();
            let is_made_of_the_way = next.is_some_and(|next| name.starts_with(next.as_bytes()))
                || (is_absent && is_made_of(below(base), &self.workspace));
            if is_absent && !is_made_of_the_way {
                names.insert(below(folder));
                continue;
            }
            // Below a folder that a variable names, and not below it on the way to the checkout.
            let is_named = named.is_some_and(|home| {
                (folder == home || !folder.starts_with(home)) && !is_searched(home)
            });
            if is_made_of_the_way || !is_named {
                return Err(format!(
                    "`{}` is found elsewhere from another checkout",
                    path.display()
                ));
            }
        }
        let name = |path: &Path| PortablePath {
            root: Some(SymbolicRoot::EachAbove),
            path: OsText::from(path),
        };
        Ok(names.into_iter().map(name).collect())
    }
}

/// Whether a name may be made of one on the way to the workspace: it has that as a word, or the
/// workspace's own anywhere.
fn is_made_of(name: &Path, workspace: &Path) -> bool {
    let is_usual = |part: &&[u8]| USUAL.iter().any(|usual| usual.as_bytes() == *part);
    let parts = name.iter().map(OsStrExt::as_bytes).filter(|part| !is_usual(part));
    let own = workspace.file_name().unwrap_or_default().as_bytes();
    let way = || workspace.iter().map(OsStrExt::as_bytes).filter(|part| *part != b"/");
    let has = |part: &[u8], of: &[u8]| {
        let is_edge = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
        part.windows(of.len()).enumerate().any(|(at, window)| {
            let before = at.checked_sub(1).and_then(|at| part.get(at));
            let is_word = is_edge(before) && is_edge(part.get(at + of.len()));
            window == of && (is_word || (of == own && of.len() > SHORT))
        })
    };
    parts.into_iter().any(|part| way().any(|of| has(part, of)))
}

fn is_file(input: &Input) -> bool {
    use InputState::{Digest, File, Measured, Overwritable, Program, Source};
    matches!(input.state, Digest(_) | File(_) | Measured(_) | Overwritable | Program(_) | Source(_))
}

/// A path that leads down from a folder.
///
/// # Errors
/// If it leads out of it, or is absolute.
fn below_a_folder(path: &Path) -> Result<PathBuf, String> {
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path.components().collect()),
        false => Err(format!("`{}` is no path below a folder", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::InputState;

    fn roots(home: &str, workspace: &str) -> SymbolicRoots {
        let mut environment = Environment::default();
        environment.set("HOME", home);
        let (toolchain, key) = (Path::new(home).join("rust"), Path::new("/keys/ci"));
        let workspace = Path::new(workspace);
        SymbolicRoots::of(workspace, workspace, &environment, Some(&toolchain), Some(key))
    }

    #[test]
    fn a_path_leads_to_the_same_thing_on_another_machine() {
        let (one, other) = (roots("/home/a", "/home/a/src/w"), roots("/root", "/build/w"));
        for (path, there) in [
            ("/home/a/src/w/tests/data", "/build/w/tests/data"),
            ("/home/a/src/w", "/build/w"),
            ("/home/a/src", "/build"),
            ("/home/a/.gitconfig", "/root/.gitconfig"),
            ("/home/a/.cargo/registry/x", "/root/.cargo/registry/x"),
            ("/home/a/rust/lib/rustlib", "/root/rust/lib/rustlib"),
            ("/tmp/x", "/tmp/x"),
            ("/etc/hosts", "/etc/hosts"),
        ] {
            let shared = one.portable(Path::new(path)).unwrap();
            assert!(!shared.path.0.to_string_lossy().contains("home"), "{shared:?}");
            assert_eq!(other.local(&shared), Ok(PathBuf::from(there)), "{path}");
        }
        for (path, why) in [("/home/b/x", "home folder"), ("/keys/ci", "signing key")] {
            assert!(one.portable(Path::new(path)).unwrap_err().contains(why));
        }
        let shared = one.portable(Path::new("/home/a/rust/lib/rustlib")).unwrap();
        assert_eq!(shared.root, Some(SymbolicRoot::Toolchain));
        let (environment, workspace) = (Environment::default(), Path::new("/w"));
        let without = SymbolicRoots::of(workspace, workspace, &environment, None, None);
        assert!(without.local(&shared).is_err(), "its toolchain lies among other things");
        let up = one.portable(Path::new("/home/a/src/w/..")).unwrap();
        assert!(other.local(&up).is_err(), "no way out of a folder");
        assert!(other.local(&PortablePath::plain(Path::new("x"))).is_err());
        let high = PortablePath { root: Some(SymbolicRoot::Above(9)), path: OsText::from("") };
        assert!(other.local(&high).is_err());
    }

    fn inputs(paths: &[&str], state: InputState) -> Vec<Input> {
        paths.iter().map(|path| Input { path: path.into(), state, proof: None }).collect()
    }

    const FOUND: InputState = InputState::Overwritable;

    #[test]
    fn what_a_search_from_the_checkout_finds_is_not_shared() {
        let roots = roots("/home/a", "/home/a/src/w");
        let check = |paths: &[&str]| roots.absent_above(&inputs(paths, FOUND));
        let is_shared = |paths: &[&str]| check(paths) == Ok(Vec::new());
        let known = ["/etc/hosts", "/home/a/.gitconfig", "tests/data", "/home/a/.cargo/config"];
        assert!(is_shared(&known));
        assert!(is_shared(&["/home/a/src", "/home/a", "/home", "/", "/settings"]));
        let lib = inputs(&["lib", "/lib"], InputState::Kind(crate::model::Digest::of(b"")));
        assert_eq!(roots.absent_above(&lib), Ok(Vec::new()));
        for found in [
            &["/home/a/src/settings"][..],
            &["/home/settings"],
            &["/home/a/settings", "/home/a/src/settings"],
            &["/home/a/settings", "settings"],
            &["/settings", "settings"],
        ] {
            assert!(check(found).is_err(), "{found:?}");
        }
    }

    #[test]
    fn what_is_looked_for_in_vain_on_the_way_up_is_absent_above_other_checkouts() {
        let names = |workspace: &str, paths: &[&str]| -> Result<Vec<PathBuf>, String> {
            let shared =
                roots("/home/a", workspace).absent_above(&inputs(paths, InputState::Absent))?;
            assert!(shared.iter().all(PortablePath::is_each_above));
            Ok(shared.into_iter().map(|name| PathBuf::from(name.path.0)).collect())
        };
        let of = |paths: &[&str]| names("/home/a/src/w", paths);
        let found = |names: &[&str]| Ok(names.iter().map(PathBuf::from).collect());
        assert_eq!(of(&["/etc/settings", "tests/data", "/home/a/.cargo/x"]), found(&[]));
        assert_eq!(of(&["/home/a/src/x", "/home/a/x", "/home/x", "/x"]), found(&["x"]));
        assert_eq!(of(&["/home/a/src/.cargo/c", "/y"]), found(&[".cargo/c", "y"]));
        assert_eq!(
            of(&["/home/a/.gitconfig"]),
            found(&[".gitconfig"]),
            "perhaps `../../.gitconfig`"
        );
        assert_eq!(of(&["/home/.cargo/c", "/.cargo/c"]), found(&[".cargo/c"]));
        assert_eq!(names("/w", &["/settings", "/etc/settings"]), found(&["settings"]));
        assert_eq!(names("/w", &["settings/x", "/settings/x"]), found(&["settings/x"]));
        assert_eq!(names("/app", &["/fixtures/data.json"]), found(&["fixtures/data.json"]));
        assert_eq!(names("/build/app", &["/x/y", "/etc/x", "/usr/x"]), found(&["x/y"]));
        let of_homes = roots("/home/a", "/home/a/src/w");
        let plain = |path: &str| of_homes.portable_absent(Path::new(path)).map(|path| path.root);
        assert_eq!(plain("/home/.cargo/config.toml"), Ok(None));
        assert_eq!(plain("/home/x"), Ok(None));
        assert!(plain("/home/other/.cargo").is_err(), "another user's");
        let checkout = |paths: &[&str]| names("/build/toml", paths);
        assert_eq!(checkout(&["/build/Cargo.toml"]), found(&["Cargo.toml"]));
        assert!(checkout(&["/build/.toml.lock"]).is_err() && checkout(&["/build/mytoml"]).is_err());
        for made_of_the_way in
            ["/home/a/src/w-data", "/home/a/src.lock", "/home2", "/home/a/.w.lock", "/home/.w"]
        {
            assert!(of(&[made_of_the_way]).is_err(), "{made_of_the_way}");
        }
        let in_home =
            roots("/home/a", "/home/a/w").absent_above(&inputs(&["/home/a/w.lock"], FOUND));
        assert!(in_home.is_err(), "not named by `$HOME`");
        let mut both = inputs(&["/home/a/src/x"], FOUND);
        both.extend(inputs(&["/home/a/x"], InputState::Absent));
        assert!(roots("/home/a", "/home/a/src/w").absent_above(&both).is_err());
    }

    #[test]
    fn an_absent_name_is_looked_for_in_every_folder_above() {
        let reader = roots("/home/b", "/home/b/deep/er/w");
        let name = |text: &str| PortablePath {
            root: Some(SymbolicRoot::EachAbove),
            path: OsText::from(text),
        };
        let paths = |named: &[&str], text: &str| {
            let named = named.iter().map(PathBuf::from).collect();
            let paths = reader.each_above(&name(text), &named)?;
            Ok::<Vec<_>, String>(paths.iter().map(|path| path.display().to_string()).collect())
        };
        let all = ["/x", "/home/x", "/home/b/x", "/home/b/deep/x", "/home/b/deep/er/x"];
        assert_eq!(paths(&[], "x").unwrap(), all);
        assert_eq!(paths(&["/home/b/x", "/home/b/deep/er/w/x"], "x").unwrap().len(), all.len() - 1);
        for odd in ["../x", "/etc/passwd", "x/../..", "", ".", ".."] {
            assert!(paths(&[], odd).is_err(), "{odd}");
        }
        assert_eq!(paths(&[], "x/.").unwrap(), all, "a file there is no absence");
        assert!(reader.local(&name("x")).is_err(), "it is no single path");
    }

    #[test]
    fn folders_above_a_link_are_above_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (workspace, link) = (base.join("real/w"), base.join("links/w"));
        for folder in [&workspace.join("sub"), link.parent().unwrap()] {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::os::unix::fs::symlink(&workspace, &link).unwrap();
        let above = |start: &Path, pwd: &Path| {
            let mut environment = Environment::default();
            environment.set("PWD", pwd);
            let roots = SymbolicRoots::of(&workspace, start, &environment, None, None);
            assert!(roots.above.contains(&base.join("real")) && roots.above.contains(&base));
            assert!(!roots.above.iter().any(|folder| folder.ends_with("w")), "{roots:?}");
            roots.above.contains(&base.join("links"))
        };
        assert!(!above(&workspace, &workspace));
        assert!(above(&link, &workspace));
        assert!(above(&workspace, &link.join("sub")));
        assert!(!above(&workspace, &base.join("links")), "it is not inside");
        let mut environment = Environment::default();
        environment.set("PWD", &link);
        let roots = SymbolicRoots::of(&workspace, &workspace, &environment, None, None);
        let beside = base.join("links/sibling.toml");
        let looked = inputs(&[beside.to_str().unwrap()], InputState::Absent);
        let names = roots.absent_above(&looked).unwrap();
        assert_eq!(names.len(), 1, "it lies beside the link: {names:?}");
    }

    #[test]
    fn values_hold_symbols() {
        let (one, other) = (roots("/home/a", "/home/a/src/w"), roots("/root", "/build/w"));
        let text = |roots: &SymbolicRoots, text: &str| roots.text(text.as_bytes());
        assert_eq!(text(&one, "/home/a"), text(&other, "/root"));
        assert_eq!(text(&one, "x:/home/a/bin"), text(&other, "x:/root/bin"));
        assert_eq!(text(&one, "/home/a/src/w/x"), text(&other, "/build/w/x"));
        assert_ne!(text(&one, "/home/a"), text(&other, "/build/w"));
        assert_ne!(text(&one, "/home/alice"), text(&other, "/rootlice"));
    }
}
