//! Whether a name counts: git's rules first, then what counts although git ignores it.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::git::Tracked;
use super::options::{self, Root, Scope};
use super::rules::Rules;
use super::tree::WalkMode;

/// Decides which names count.
pub(super) struct NameFilter<'a> {
    pub scope: &'a Scope,
    /// By the folder that git was asked in.
    pub tracked: &'a BTreeMap<PathBuf, Tracked>,
}

/// The folder whose names are judged.
pub(super) struct FolderContext<'a> {
    pub root: &'a Root,
    pub path: &'a Path,
    /// The path from its root.
    pub below: &'a [u8],
    pub mode: WalkMode,
    pub rules: &'a Rules,
    /// Whether a `Cargo.toml` lies in it.
    pub has_manifest: bool,
}

/// A name that counts, or a folder in which something may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountedName {
    /// How to walk it, if it is a folder.
    pub mode: WalkMode,
    /// The rules alone would ignore it.
    pub forced: bool,
}

/// The name that is judged.
struct CandidateName<'a> {
    name: &'a [u8],
    path: PathBuf,
    /// The path from the main root, if there are globs to match it against.
    labelled: Vec<u8>,
    is_folder: bool,
}

impl NameFilter<'_> {
    /// Judges `name`. `known` says that the same rules let the same name in before.
    pub(super) fn judge(
        &self,
        around: &FolderContext<'_>,
        name: &[u8],
        is_folder: bool,
        known: bool,
    ) -> Option<CountedName> {
        if matches!(name, b".git" | b".jj" | b".test-cache") {
            return None;
        }
        let by_rules = CountedName {
            mode: if around.mode == WalkMode::Whole { WalkMode::Whole } else { WalkMode::Normal },
            forced: false,
        };
        if known && !is_folder {
            return Some(by_rules);
        }
        let below = options::join(around.below, name);
        let has_globs = self.scope.has_globs();
        let found = CandidateName {
            name,
            path: around.path.join(std::ffi::OsStr::from_bytes(name)),
            labelled: if has_globs { around.root.labelled(&below) } else { Vec::new() },
            is_folder,
        };
        if has_globs && self.scope.excludes(&found.labelled)
            || is_folder && self.scope.is_other_root(&found.path)
        {
            return None;
        }
        let target = is_folder && self.is_target(around, &found);
        let let_in = match around.mode {
            _ if target => false,
            WalkMode::Normal => known || !around.rules.ignore(&below, is_folder),
            WalkMode::Whole => true,
            WalkMode::Reaching | WalkMode::Tracked => false,
        };
        if let_in {
            return Some(by_rules);
        }
        let mode = self.why_all_the_same(around, &found, target)?;
        Some(CountedName { mode, forced: true })
    }

    /// Whether an ignored name counts all the same, and how a folder of that name is then walked.
    fn why_all_the_same(
        &self,
        around: &FolderContext<'_>,
        found: &CandidateName<'_>,
        target: bool,
    ) -> Option<WalkMode> {
        let bytes = found.path.as_os_str().as_bytes();
        if self.tracked.values().any(|tracked| tracked.holds(bytes)) {
            // A folder is tracked itself only as a submodule.
            return Some(WalkMode::Normal);
        }
        let extra = !target && around.mode != WalkMode::Tracked && self.scope.has_globs();
        if extra && self.scope.is_extra(&found.labelled) {
            return Some(WalkMode::Whole);
        }
        if !found.is_folder {
            return is_always_counted(around, found.name).then_some(WalkMode::Normal);
        }
        let reached = extra && self.scope.may_hold_extra(&found.labelled)
            || around.mode == WalkMode::Normal && found.name == b".cargo";
        if reached {
            return Some(WalkMode::Reaching);
        }
        let tracked = self.tracked.values().any(|tracked| tracked.reaches(bytes));
        tracked.then_some(if target { WalkMode::Tracked } else { around.mode.within_ignored() })
    }

    /// Whether `manifest` is in the index of the repository around it.
    pub(super) fn is_in_index(&self, manifest: &Path) -> bool {
        let around = self.tracked.iter().filter(|(folder, _)| manifest.starts_with(folder));
        let nearest = around.max_by_key(|(folder, _)| folder.as_os_str().len());
        nearest
            .is_some_and(|(_, tracked)| tracked.manifests.contains(manifest.as_os_str().as_bytes()))
    }

    fn is_target(&self, around: &FolderContext<'_>, found: &CandidateName<'_>) -> bool {
        let may_be_cargos = found.name == b"target" && around.has_manifest;
        self.scope.is_target(&found.path)
            || (may_be_cargos && options::is_cargo_target(&found.path))
    }
}

impl WalkMode {
    /// How an ignored folder is walked inside a folder that is walked like this.
    fn within_ignored(self) -> Self {
        if self == Self::Tracked { Self::Tracked } else { Self::Reaching }
    }
}

/// Files that decide a build or are commonly read by tests although git ignores them.
fn is_always_counted(around: &FolderContext<'_>, name: &[u8]) -> bool {
    let is_cargo_folder = around.path.file_name().is_some_and(|name| name == ".cargo");
    match around.mode {
        WalkMode::Normal | WalkMode::Whole => {
            let names = ["Cargo.toml", "Cargo.lock", "rust-toolchain", "rust-toolchain.toml"];
            names.iter().any(|known| known.as_bytes() == name)
                || name.starts_with(b".env")
                || (is_cargo_folder && is_cargo_config(name))
        }
        WalkMode::Reaching => is_cargo_folder && is_cargo_config(name),
        WalkMode::Tracked => false,
    }
}

fn is_cargo_config(name: &[u8]) -> bool {
    matches!(name, b"config" | b"config.toml")
}
