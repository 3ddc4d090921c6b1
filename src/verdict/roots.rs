//! Paths of one machine as another one has them: below folders that both have.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::Input;
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

    /// Whether it lies below this folder.
    pub(super) fn is_in(&self, root: SymbolicRoot) -> bool {
        self.root == Some(root) && !self.path.0.is_empty()
    }
}

/// Where the symbolic roots are on this machine.
#[derive(Clone, Debug)]
pub(super) struct SymbolicRoots {
    workspace: PathBuf,
    /// The others, the narrowest first.
    folders: Vec<(SymbolicRoot, PathBuf)>,
    /// A file that no shared run may have read.
    key: Option<PathBuf>,
}

/// Folders in which the homes of users lie.
const HOMES: [&str; 3] = ["/home", "/root", "/Users"];

impl SymbolicRoots {
    /// The roots in this environment. `toolchain` is a folder in which nothing else lies, and `key` the
    /// signing key.
    pub(super) fn of(
        workspace: &Path,
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
        Self { workspace: workspace.to_owned(), folders, key: key.map(Path::to_owned) }
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

    /// The path on this machine.
    ///
    /// # Errors
    /// If this machine has no such folder, or the path is none.
    pub(super) fn local(&self, path: &PortablePath) -> Result<PathBuf, String> {
        let rest = Path::new(&path.path.0);
        let folder = match path.root {
            None if rest.is_absolute() => return Ok(rest.to_owned()),
            None => return Err(format!("`{}` is no absolute path", rest.display())),
            Some(SymbolicRoot::Workspace) => Some(self.workspace.as_path()),
            Some(SymbolicRoot::Above(up)) => self.workspace.ancestors().nth(up),
            Some(root) => {
                let is_it = |(known, _): &&(SymbolicRoot, PathBuf)| *known == root;
                self.folders.iter().find(is_it).map(|(_, folder)| folder.as_path())
            }
        };
        let folder = folder.ok_or_else(|| format!("there is no folder {:?} here", path.root))?;
        let is_name = |part| matches!(part, std::path::Component::Normal(_));
        if !rest.components().all(is_name) {
            return Err(format!("`{}` is no path below a folder", rest.display()));
        }
        Ok(if rest == Path::new("") { folder.to_owned() } else { folder.join(rest) })
    }

    /// A text with these folders by their symbols.
    pub(super) fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut text = replace_folder(text, &self.workspace, b"\0workspace");
        for (root, folder) in &self.folders {
            text = replace_folder(&text, folder, format!("\0{root:?}").as_bytes());
        }
        text
    }

    /// Whether a run in another checkout would consult the same things.
    ///
    /// # Errors
    /// What was perhaps looked for by the way from the checkout, which leads elsewhere from another one.
    pub(super) fn check_ways(&self, inputs: &[Input]) -> Result<(), String> {
        let folder = |root| {
            let is_it = |(known, _): &&(SymbolicRoot, PathBuf)| *known == root;
            self.folders.iter().find(is_it).map(|(_, folder)| folder)
        };
        let tools =
            [SymbolicRoot::Cargo, SymbolicRoot::Rustup, SymbolicRoot::Toolchain].map(folder);
        // Folders that runs know by variables, the narrower one first.
        let by_variable =
            |root: &SymbolicRoot| matches!(root, SymbolicRoot::Home | SymbolicRoot::Temporary);
        let known = self.folders.iter().filter(|(root, _)| by_variable(root));
        let known: Vec<&Path> = known.map(|(_, folder)| folder.as_path()).collect();
        let above: Vec<&Path> =
            self.workspace.ancestors().filter(|folder| folder.parent().is_some()).collect();
        let paths: BTreeSet<PathBuf> =
            inputs.iter().map(|input| self.workspace.join(&input.path)).collect();
        for input in inputs.iter().filter(|input| input.path.is_absolute()) {
            let path = &input.path;
            let is_of_tools = tools.into_iter().flatten().any(|tool| path.starts_with(tool));
            if is_of_tools || above.contains(&&**path) {
                continue;
            }
            let Some(shared) = above.iter().find(|folder| path.starts_with(folder)) else {
                continue;
            };
            let elsewhere =
                || Err(format!("`{}` is found elsewhere from another checkout", path.display()));
            let Some(&home) = known.iter().find(|folder| path.starts_with(folder)) else {
                return elsewhere();
            };
            // Below that folder, on the way to the checkout.
            if *shared != home && shared.starts_with(home) {
                return elsewhere();
            }
            // A search of all folders above would have looked for it in others as well.
            let rest = path.strip_prefix(home).unwrap_or(path);
            if above.iter().any(|folder| *folder != home && paths.contains(&folder.join(rest))) {
                return elsewhere();
            }
        }
        Ok(())
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
        SymbolicRoots::of(Path::new(workspace), &environment, Some(&toolchain), Some(key))
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
        let without = SymbolicRoots::of(workspace, &environment, None, None);
        assert!(without.local(&shared).is_err(), "its toolchain lies among other things");
        let up = one.portable(Path::new("/home/a/src/w/..")).unwrap();
        assert!(other.local(&up).is_err(), "no way out of a folder");
        assert!(other.local(&PortablePath::plain(Path::new("x"))).is_err());
        let high = PortablePath { root: Some(SymbolicRoot::Above(9)), path: OsText::from("") };
        assert!(other.local(&high).is_err());
    }

    #[test]
    fn what_a_search_from_the_checkout_finds_is_not_shared() {
        let roots = roots("/home/a", "/home/a/src/w");
        let check = |paths: &[&str]| {
            let input =
                |path: &&str| Input { path: path.into(), state: InputState::Absent, proof: None };
            roots.check_ways(&paths.iter().map(input).collect::<Vec<_>>()).is_ok()
        };
        assert!(check(&[
            "/etc/hosts",
            "/home/a/.gitconfig",
            "tests/data",
            "/home/a/.cargo/config"
        ]));
        assert!(check(&["/home/a/src", "/home/a", "/home"]));
        assert!(!check(&["/home/a/src/settings"]));
        assert!(!check(&["/home/settings"]));
        assert!(!check(&["/home/a/settings", "/home/a/src/settings"]));
        assert!(!check(&["/home/a/settings", "settings"]), "looked for in the checkout first");
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
