//! Paths of one machine as another one has them: below folders that both have.

use std::collections::BTreeSet;
use std::ffi::OsStr;
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

/// People's numbers begin here, or above.
const FIRST_OF_PEOPLE: u32 = 500;

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
/// Temporary folders that programs name by these very paths too, whatever `$TMPDIR` says.
const WELL_KNOWN_TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

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

    /// Whether it is this folder, or lies below it.
    pub(super) fn is_of(&self, root: SymbolicRoot) -> bool {
        self.root == Some(root)
    }

    /// Whether it lies below this folder.
    pub(super) fn is_in(&self, root: SymbolicRoot) -> bool {
        self.is_of(root) && !self.path.0.is_empty()
    }
}

/// Another name that a root had on the machine of a record: it lay in a second root, or in a folder that
/// programs name by its path. A run may have gone either way to what lies below it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RootPlace {
    root: SymbolicRoot,
    at: PortablePath,
}

impl RootPlace {
    /// Whether that is a folder above the workspace itself.
    fn is_above(&self) -> bool {
        matches!(self.at.root, Some(SymbolicRoot::Above(_))) && self.at.path.0.is_empty()
    }
}

/// Where the symbolic roots are on this machine.
#[derive(Clone, Debug)]
pub(super) struct SymbolicRoots {
    workspace: PathBuf,
    /// The folders above the workspace, by every way that leads to it.
    above: BTreeSet<PathBuf>,
    /// Those above the temporary folder.
    above_temporary: BTreeSet<PathBuf>,
    /// The workspace and the others, the narrowest first.
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
        let mut above_temporary = ancestors(&temporary);
        above_temporary.extend(temporary.canonicalize().iter().flat_map(|real| ancestors(real)));
        let folders = [
            (SymbolicRoot::Workspace, Some(workspace.to_owned())),
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
        let mut above = ancestors(workspace);
        let is_inside = |path: &Path| path.canonicalize().is_ok_and(|at| at.starts_with(workspace));
        let ways = [Some(start.to_owned()), absolute("PWD")].into_iter().flatten();
        for way in ways.filter(|way| is_inside(way)) {
            // Other folders are above a link.
            above.extend(way.ancestors().filter(|at| !is_inside(at)).map(Path::to_owned));
        }
        let (workspace, key) = (workspace.to_owned(), key.map(Path::to_owned));
        Self { workspace, above, above_temporary, folders, key }
    }

    /// The other names of the roots here.
    pub(super) fn places(&self) -> Vec<RootPlace> {
        let above = self.workspace.ancestors().enumerate().skip(1);
        let above = above.map(|(up, folder)| (SymbolicRoot::Above(up), folder));
        let roots = self.folders.iter().map(|(root, folder)| (*root, folder.as_path()));
        let roots: Vec<_> = roots.chain(above).collect();
        let mut places = Vec::new();
        for (root, folder) in roots.iter().copied() {
            for (other, outer) in roots.iter().copied().filter(|(other, _)| *other != root) {
                let is_another_name = match (root, other) {
                    // Where a checkout lies does not count, unless a variable names the very folder.
                    (SymbolicRoot::Workspace | SymbolicRoot::Above(_), _) => folder == outer,
                    // `../data`, from a checkout beside it, or in it by `../..`. Nobody goes up all the way.
                    (root, SymbolicRoot::Above(up)) => {
                        !OF_TOOLS.contains(&root)
                            && (up == 1 || folder == outer)
                            && !folder.starts_with(&self.workspace)
                            && outer.parent().is_some()
                    }
                    _ => true,
                };
                let at = below(other, outer, folder).filter(|_| is_another_name);
                places.extend(at.map(|at| RootPlace { root, at }));
            }
            if root == SymbolicRoot::Temporary
                && WELL_KNOWN_TEMPORARY.iter().any(|known| folder == Path::new(known))
            {
                places.push(RootPlace { root, at: PortablePath::plain(folder) });
            }
        }
        places
    }

    /// The path as it is shared.
    ///
    /// # Errors
    /// If another machine cannot have it.
    pub(super) fn portable(&self, path: &Path) -> Result<PortablePath, String> {
        if self.key.as_deref() == Some(path) {
            return Err("it consults the signing key".to_owned());
        }
        if let Some(up) = self.workspace.ancestors().position(|above| above == path)
            && up > 0
            && path.parent().is_some()
        {
            return Ok(PortablePath {
                root: Some(SymbolicRoot::Above(up)),
                path: OsText::from(Path::new("")),
            });
        }
        let known = self.folders.iter().find_map(|(root, folder)| below(*root, folder, path));
        let rest = known.as_ref().map_or(path, |known| Path::new(&known.path.0));
        let is_own =
            |known: &PortablePath| known.is_of(SymbolicRoot::Workspace) || known.is_of_tools();
        if !known.as_ref().is_some_and(is_own)
            && has_number(rest, rustix::process::getuid().as_raw())
        {
            return Err(format!("`{}` may have the user's number in its name", path.display()));
        }
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
            Some(SymbolicRoot::Above(up)) => self.workspace.ancestors().nth(up),
            Some(root) => self.folder(root),
        };
        let folder = folder.ok_or_else(|| format!("there is no folder {:?} here", path.root))?;
        Ok(joined(folder, &below_a_folder(rest)?))
    }

    /// All paths on this machine that a run may look at where it looked at this one on a machine whose
    /// roots had these other names.
    ///
    /// # Errors
    /// If this machine has no such folder, or the path is none.
    pub(super) fn readings(
        &self,
        path: &PortablePath,
        places: &[RootPlace],
    ) -> Result<BTreeSet<PathBuf>, String> {
        let mut readings = BTreeSet::from([self.local(path)?]);
        for place in places.iter().filter(|place| Some(place.root) == path.root) {
            let rest = below_a_folder(Path::new(&path.path.0))?;
            // What programs keep in a home is not taken for `../../data`.
            let is_hidden = rest.as_os_str().as_bytes().starts_with(b".");
            if is_hidden && place.is_above() {
                continue;
            }
            readings.insert(joined(&self.local(&place.at)?, &rest));
        }
        Ok(readings)
    }

    /// The paths on this machine at which a search on the way up looks for a name, but for those in `named`.
    /// A name in every folder above the workspace is looked for above the temporary folder too, and one in
    /// the temporary folder above that. None is where that folder is the very one of the record.
    ///
    /// # Errors
    /// If it is no name in a folder.
    pub(super) fn each_above(
        &self,
        name: &PortablePath,
        places: &[RootPlace],
        named: &BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, String> {
        let is_each_above = name.is_each_above();
        let name = below_a_folder(Path::new(&name.path.0))?;
        if name == Path::new("") {
            return Err("no folder above a workspace can be absent".to_owned());
        }
        let temporary = self.folder(SymbolicRoot::Temporary);
        let is_same_temporary = places.iter().any(|place| {
            place.root == SymbolicRoot::Temporary
                && place.at.root.is_none()
                && temporary == Some(Path::new(&place.at.path.0))
                // Other folders are above a link.
                && temporary.is_some_and(|at| at.canonicalize().is_ok_and(|real| real == at))
        });
        let of_workspace = self.above.iter().filter(|_| is_each_above);
        // A search from the checkout looks there as well, and the record says what it found.
        let is_inside = |folder: &Path| is_each_above && folder.starts_with(&self.workspace);
        let of_temporary = self.above_temporary.iter().filter(|folder| !is_inside(folder));
        let of_temporary = of_temporary.filter(|_| !is_same_temporary);
        let folders: BTreeSet<&PathBuf> = of_workspace.chain(of_temporary).collect();
        let paths = folders.into_iter().map(|folder| folder.join(&name));
        Ok(paths.filter(|path| !named.contains(path)).collect())
    }

    fn folder(&self, root: SymbolicRoot) -> Option<&Path> {
        let is_it = |(known, _): &&(SymbolicRoot, PathBuf)| *known == root;
        self.folders.iter().find(is_it).map(|(_, folder)| folder.as_path())
    }

    /// A text with these folders by their symbols.
    pub(super) fn text(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_owned();
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
        let mut names = self.absent_above_temporary(inputs, &paths)?;
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
                names.insert(below(folder).to_owned());
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
        Ok(names.iter().map(|path| name(path)).collect())
    }

    /// The same of the way up from the temporary folder. `paths` are those of the inputs.
    fn absent_above_temporary(
        &self,
        inputs: &[Input],
        paths: &BTreeSet<PathBuf>,
    ) -> Result<BTreeSet<PathBuf>, String> {
        let mut names = BTreeSet::new();
        let Some(temporary) = self.folder(SymbolicRoot::Temporary) else { return Ok(names) };
        // What other roots name is not looked for on this way, unless they are on it.
        let others = self.folders.iter().filter(|(_, folder)| !temporary.starts_with(folder));
        let others: Vec<&PathBuf> = others.map(|(_, folder)| folder).collect();
        for input in inputs.iter().filter(|input| input.path.is_absolute()) {
            let path = &*input.path;
            if path.starts_with(temporary)
                || temporary.starts_with(path)
                || others.iter().any(|other| path.starts_with(other))
            {
                continue;
            }
            let mut above = temporary.ancestors().skip(1);
            let above = above.find(|above| path.starts_with(above)).unwrap_or(Path::new("/"));
            let below = |path: &Path| path.strip_prefix(above).unwrap_or(path).to_owned();
            let (name, next) = (below(path), below(temporary));
            let next = next.iter().next().unwrap_or_default().as_bytes();
            let is_elsewhere = match input.state {
                InputState::Absent => name.as_os_str().as_bytes().starts_with(next),
                _ => paths.contains(&temporary.join(&name)),
            };
            if is_elsewhere {
                return Err(format!(
                    "`{}` is found elsewhere from another temporary folder",
                    path.display()
                ));
            }
            // All paths lie below `/`.
            if input.state == InputState::Absent && above.parent().is_some() {
                names.insert(name);
            }
        }
        Ok(names)
    }
}

/// The folders above a path.
fn ancestors(path: &Path) -> BTreeSet<PathBuf> {
    path.ancestors().skip(1).map(Path::to_owned).collect()
}

/// A path below this root, which is at `folder`.
fn below(root: SymbolicRoot, folder: &Path, path: &Path) -> Option<PortablePath> {
    let path = OsText::from(path.strip_prefix(folder).ok()?);
    Some(PortablePath { root: Some(root), path })
}

/// A path below a folder. An empty one is the folder, with no slash at the end.
pub(super) fn joined(folder: &Path, rest: &Path) -> PathBuf {
    folder.components().chain(rest.components()).collect()
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

/// Whether a name on the way has the number of a user in it: another user looks for another name then. Small
/// ones are those of the system's users, and other things have them too.
fn has_number(path: &Path, user: u32) -> bool {
    let text = user.to_string();
    let has_it = |part: &OsStr| {
        let mut numbers = part.as_bytes().split(|byte| !byte.is_ascii_digit());
        numbers.any(|number| number == text.as_bytes())
    };
    user >= FIRST_OF_PEOPLE && path.iter().any(has_it)
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
mod tests;
