//! Git's view of a tree: where its repository is, which ignore files of its own it
//! consults, and which files it tracks.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::is_absence;
use super::rules::{Anchor, Rules};
use crate::process::{self, Environment, Spec};
use crate::workspace::{FileKind, PathStamp, Repository, Stamp};

/// Listing the index of the largest repositories takes a second or two.
const GIT_LISTING_TIME: Duration = Duration::from_secs(60);

/// The rules of the whole work tree: the user's own ignore file, then the repository's,
/// both relative to its top folder at `anchor`.
pub(super) fn rules_of(
    repository: &Repository,
    anchor: &Anchor,
    environment: &Environment,
) -> Rules {
    user_rules(repository, anchor, environment)
        .with(anchor.clone(), text_of(&repository.shared().join("info/exclude")))
}

/// The text of an ignore or config file; a missing one is empty, and so is one that git could
/// not read either.
fn text_of(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_default()
}

/// The repository that the root of a walk belongs to, and the ignore files that are in force there
/// before its own `.gitignore`.
pub(super) fn outer_rules(root: &Path, environment: &Environment) -> (Option<Repository>, Rules) {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let around = Repository::around(&root).and_then(|repository| {
        let way = root.strip_prefix(repository.work()).ok()?.to_owned();
        let rules = rules_along(&repository, &way, environment)?;
        Some((Some(repository), rules))
    });
    around.unwrap_or_default()
}

/// The rules that a repository has for the folder that lies `way` below its top; `None` if it
/// ignores that folder. Then the folder is not part of it: think of a home folder under git,
/// whose `*` would otherwise hide every project.
fn rules_along(repository: &Repository, way: &Path, environment: &Environment) -> Option<Rules> {
    let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let above = |rest: &Path| match bytes(rest) {
        rest if rest.is_empty() => Anchor::inside(b""),
        rest => Anchor::Above(rest.into()),
    };
    let mut rules = rules_of(repository, &above(way), environment);
    if way == Path::new("") {
        return Some(rules);
    }
    // The same files, seen from the repository's top: do they ignore a folder on the way?
    let mut from_top = rules_of(repository, &Anchor::inside(b""), environment);
    let mut passed = PathBuf::new();
    for part in way.components() {
        let text = ignore_file(&repository.work().join(&passed));
        rules = rules.with(above(way.strip_prefix(&passed).ok()?), text.clone());
        from_top = from_top.with(Anchor::inside(&bytes(&passed)), text);
        passed.push(part);
        if from_top.ignore(&bytes(&passed), true) {
            return None;
        }
    }
    Some(rules)
}

/// A folder's `.gitignore`; git does not follow a link here.
fn ignore_file(folder: &Path) -> Vec<u8> {
    let file = folder.join(".gitignore");
    let is_file = PathStamp::of(&file).kind() == Some(FileKind::File);
    if is_file { text_of(&file) } else { Vec::new() }
}

/// The user's own ignore file, for every repository.
fn user_rules(repository: &Repository, anchor: &Anchor, environment: &Environment) -> Rules {
    let text = excludes_file(repository, environment).map(|file| text_of(&file));
    Rules::of_repository().with(anchor.clone(), text.unwrap_or_default())
}

/// The target of `core.excludesFile`, by the config files in git's order: the last one wins.
/// Files that they include are not read: then too much counts, never too little that is tracked.
fn excludes_file(repository: &Repository, environment: &Environment) -> Option<PathBuf> {
    let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let home = variable("HOME").map(Path::new);
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(home?.join(".config")));
    let mut files =
        vec![repository.own().join("config.worktree"), repository.shared().join("config")];
    match environment.get("GIT_CONFIG_GLOBAL") {
        // Set to nothing, it means that there is none.
        Some(file) => files.extend((!file.is_empty()).then(|| file.into())),
        None => {
            files.extend(home.map(|home| home.join(".gitconfig")));
            files.extend(base.as_ref().map(|base| base.join("git/config")));
        }
    }
    if variable("GIT_CONFIG_NOSYSTEM").is_none() {
        files.push(variable("GIT_CONFIG_SYSTEM").map_or("/etc/gitconfig".into(), PathBuf::from));
    }
    let named = files.iter().find_map(|file| excludes_file_in(&text_of(file)));
    match named {
        None => Some(base?.join("git/ignore")),
        Some(value) => match value.strip_prefix(b"~/") {
            Some(rest) => Some(home?.join(OsStr::from_bytes(rest))),
            // Git itself stands at the top of the work tree when it reads this.
            None => {
                let file = repository.work().join(OsStr::from_bytes(&value));
                Some(file).filter(|file| file.is_absolute())
            }
        },
    }
}

/// The value of `excludesFile` in the section `core` of a config file.
pub(super) fn excludes_file_in(text: &[u8]) -> Option<Vec<u8>> {
    let mut in_core = false;
    let mut found = None;
    for line in text.split(|byte| *byte == b'\n') {
        let mut line = line.trim_ascii();
        if let Some(header) = line.strip_prefix(b"[") {
            let end = header.iter().position(|byte| *byte == b']')?;
            in_core = header[..end].trim_ascii().eq_ignore_ascii_case(b"core");
            line = header[end + 1..].trim_ascii();
        }
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
        if in_core && line[..equals].trim_ascii().eq_ignore_ascii_case(b"excludesfile") {
            found = Some(value(line[equals + 1..].trim_ascii()));
        }
    }
    found.filter(|value| !value.is_empty())
}

/// A config value without its quotes, escapes and trailing comment.
fn value(text: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        match byte {
            _ if escaped => {
                value.push(*byte);
                escaped = false;
            }
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'#' | b';' if !quoted => break,
            _ => value.push(*byte),
        }
    }
    value.trim_ascii_end().to_vec()
}

/// Why it is not known what git tracks.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrackedError {
    #[error("git cannot list the tracked files of `{}`: {what}", folder.display())]
    Failed { folder: PathBuf, what: String },
}

/// All that git tracks at or below `folder`, as absolute paths, in git's order. Nothing where
/// there is no git: then the ignore files alone decide.
pub(super) fn tracked(
    folder: &Path,
    environment: &Environment,
) -> Result<Vec<Vec<u8>>, TrackedError> {
    if environment.find_program(Path::new("git"), folder).is_none() {
        tracing::debug!(folder = %folder.display(), "no git: tracked files are not looked for");
        return Ok(Vec::new());
    }
    let failed = |what: String| TrackedError::Failed { folder: folder.to_owned(), what };
    let listing = Spec::new("git", folder, quiet(environment))
        // Someone else's repository is only read, and no program that its config names is run.
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false"])
        .args(["ls-files", "-z", "--cached"]);
    let output =
        process::capture(&listing, GIT_LISTING_TIME).map_err(|error| failed(error.to_string()))?;
    if !output.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or("it was ended by the time limit").to_owned();
        return Err(failed(first));
    }
    let start = [folder.as_os_str().as_bytes(), b"/"].concat();
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| [&start, name].concat()).collect())
}

/// The environment without what a hook or an alias of git says about another repository.
fn quiet(environment: &Environment) -> Environment {
    let about_another = |name: &OsStr| {
        name.as_bytes().starts_with(b"GIT_") && !name.as_bytes().starts_with(b"GIT_CONFIG")
    };
    let variables = environment.iter().filter(|(name, _)| !about_another(name));
    let mut quiet: Environment =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    quiet.set("GIT_OPTIONAL_LOCKS", "0");
    quiet.set("LC_ALL", "C");
    quiet
}

/// The content of a repository's index, as far as it goes beyond the ignore files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tracked {
    /// The index when it was listed; `None` if it must be listed again whatever it is now.
    pub index: Option<Stamp>,
    /// Tracked files (and submodules) that the rules alone would not count, as absolute paths.
    pub files: BTreeSet<Vec<u8>>,
    /// All tracked files named `Cargo.toml`, as absolute paths.
    pub manifests: BTreeSet<Vec<u8>>,
}

impl Tracked {
    /// Whether the repository's index is still the one that git was asked about.
    pub(super) fn is_of(&self, repository: &Repository) -> bool {
        self.index.is_some() && self.index == index_stamp(repository)
    }

    /// Whether this file, or submodule's folder, is tracked.
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        self.files.contains(path)
    }

    /// Whether anything below this folder is.
    pub(super) fn reaches(&self, folder: &[u8]) -> bool {
        let start = [folder, b"/"].concat();
        self.files.range(start.clone()..).next().is_some_and(|path| path.starts_with(&start))
    }
}

/// The stamp of a repository's index; `None` if there is none (nothing was ever added).
pub(super) fn index_stamp(repository: &Repository) -> Option<Stamp> {
    match Stamp::followed(&repository.index()) {
        Ok(stamp) => Some(stamp),
        Err(error) => {
            if !is_absence(&error) {
                tracing::warn!(index = %repository.index().display(), %error, "unreadable");
            }
            None
        }
    }
}

#[cfg(test)]
#[path = "tests/git.rs"]
mod tests;
