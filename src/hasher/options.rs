//! The options of a walk, compiled: which files count besides those that git's rules let in.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::model::{Digest, Digester};
use crate::process::Environment;

/// Files that count, and files that do not, beyond git's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Target folders wherever they are configured to be, absolute. Of these only tracked files
    /// count. One that contains the root itself has no effect: nothing would be left.
    pub exclude_dirs: Vec<PathBuf>,
    /// Globs, relative to the root, of files and folders that count although git ignores them.
    /// `*` stops at `/`, `**` does not; `../dep/…` reaches into an outside root.
    pub extra_inputs: Vec<String>,
    /// Globs, relative to the root, of files and folders that do not count, whatever else holds.
    pub exclude: Vec<String>,
    /// Roots of path dependencies outside the root, absolute.
    pub outside: Vec<PathBuf>,
    /// Says where git is (`PATH`) and which of the user's ignore files hold (`HOME` and others).
    pub environment: Environment,
}

impl Default for Options {
    /// Nothing beyond git's rules, in this process's own environment.
    fn default() -> Self {
        Self {
            exclude_dirs: Vec::new(),
            extra_inputs: Vec::new(),
            exclude: Vec::new(),
            outside: Vec::new(),
            environment: Environment::inherited(),
        }
    }
}

impl Options {
    /// Whether both count the same. Two shells' environments are hardly ever equal; what matters
    /// is which git they find, and where that looks for the user's config.
    pub(super) fn mean_the_same(&self, other: &Self, root: &Path) -> bool {
        let git = |options: &Self| options.environment.find_program(Path::new("git"), root);
        let config = |options: &Self| -> Vec<_> {
            let decides = |name: &OsStr| {
                name == "HOME"
                    || name == "XDG_CONFIG_HOME"
                    || name.as_bytes().starts_with(b"GIT_CONFIG")
            };
            let variables = options.environment.iter().filter(|(name, _)| decides(name));
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let rest = |options: &Self| Self { environment: Environment::default(), ..options.clone() };
        rest(self) == rest(other) && git(self) == git(other) && config(self) == config(other)
    }
}

/// A glob of the options means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{glob}` is not a glob relative to the project's root: {why}")]
pub struct GlobError {
    /// The glob as it was given.
    pub glob: String,
    /// The reason.
    pub why: String,
}

/// One root of the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// As it was given; every path that is shown begins so.
    pub path: PathBuf,
    /// The way to it from the main root: empty, or `../dep`.
    pub label: Vec<u8>,
}

impl Root {
    /// The path from the main root to `below` (a path from this root).
    pub(super) fn labelled(&self, below: &[u8]) -> Vec<u8> {
        join(&self.label, below)
    }
}

/// `folder/name`, where either may be empty.
pub(super) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match (folder, name) {
        (b"", path) | (path, b"") => path.to_vec(),
        _ => [folder, b"/", name].concat(),
    }
}

/// The options in the form that the walk asks.
pub(super) struct Scope {
    pub roots: Vec<Root>,
    pub environment: Environment,
    extra: Vec<Extra>,
    exclude: Vec<GlobMatcher>,
    /// Target folders, and roots that another root's walk would meet.
    targets: BTreeSet<PathBuf>,
    others: BTreeSet<PathBuf>,
    digest: Digest,
    /// The globs of what does not count; empty if everything does.
    exclusions: Vec<u8>,
}

impl Scope {
    pub(super) fn new(root: &Path, options: &Options) -> Result<Self, GlobError> {
        let main = real(root);
        let mut roots = vec![Root { path: root.to_owned(), label: Vec::new() }];
        let mut seen = BTreeSet::from([main.clone()]);
        for path in &options.outside {
            let there = real(path);
            if seen.insert(there.clone()) {
                let label = relative(&main, &there).into_os_string().into_encoded_bytes();
                roots.push(Root { path: path.clone(), label });
            }
        }
        roots.sort_by(|a, b| a.label.cmp(&b.label));
        let labels: Vec<&[u8]> = roots.iter().map(|root| &*root.label).collect();
        let extra = options.extra_inputs.iter().map(|glob| Extra::new(glob, &labels));
        let exclude = options.exclude.iter().map(|glob| matcher(clean(glob)?, glob));
        let mut digester = Digester::new("walk options 1");
        for part in [&options.extra_inputs, &options.exclude] {
            digester.number(part.len() as u64);
            part.iter().for_each(|glob| {
                digester.field(glob.as_bytes());
            });
        }
        for part in [&options.exclude_dirs, &options.outside] {
            digester.number(part.len() as u64);
            part.iter().for_each(|path| {
                digester.field(path.as_os_str().as_bytes());
            });
        }
        Ok(Self {
            extra: extra.collect::<Result<_, _>>()?,
            exclude: exclude.collect::<Result<_, _>>()?,
            targets: met(&roots, options.exclude_dirs.iter()),
            others: met(&roots, roots.iter().map(|root| &root.path)),
            digest: digester.finish(),
            exclusions: options.exclude.join("\n").into_bytes(),
            environment: options.environment.clone(),
            roots,
        })
    }

    /// Differs wherever the same listing could be judged otherwise (ignore files apart).
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// The globs of what is left out of a snapshot. They are part of its digest: a run may
    /// have read what does not count, so once an exclusion is taken back, a tree without those
    /// files is another tree.
    pub(super) fn exclusions(&self) -> &[u8] {
        &self.exclusions
    }

    pub(super) fn excludes(&self, labelled: &[u8]) -> bool {
        self.exclude.iter().any(|glob| glob.is_match(OsStr::from_bytes(labelled)))
    }

    /// Whether any exclusion could apply at all.
    pub(super) fn has_globs(&self) -> bool {
        !self.exclude.is_empty() || !self.extra.is_empty()
    }

    pub(super) fn is_extra(&self, labelled: &[u8]) -> bool {
        self.extra.iter().any(|extra| extra.matcher.is_match(OsStr::from_bytes(labelled)))
    }

    /// Whether an extra input may lie below this folder.
    pub(super) fn may_hold_extra(&self, labelled: &[u8]) -> bool {
        self.extra.iter().any(|extra| extra.reaches(labelled))
    }

    pub(super) fn is_target(&self, path: &Path) -> bool {
        self.targets.contains(path)
    }

    /// Whether `path` (real, all links resolved) lies in a target folder.
    pub(super) fn is_built(&self, path: &Path) -> bool {
        path.ancestors().any(|folder| self.targets.contains(folder) || is_cargo_target(folder))
    }

    /// Whether another root begins here: it is walked on its own.
    pub(super) fn is_other_root(&self, path: &Path) -> bool {
        self.others.contains(path)
    }
}

/// Whether cargo made this folder for its output: its name, its tag, a manifest beside it.
pub(crate) fn is_cargo_target(folder: &Path) -> bool {
    const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
    folder.file_name() == Some(OsStr::new("target"))
        && folder.with_file_name("Cargo.toml").is_file()
        && std::fs::symlink_metadata(folder.join("CACHEDIR.TAG")).is_ok_and(|tag| tag.is_file())
        && std::fs::read(folder.join("CACHEDIR.TAG")).is_ok_and(|tag| tag.starts_with(SIGNATURE))
}

/// `path` without links, as far as it exists.
pub(super) fn real(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|at| Some((at, at.canonicalize().ok()?)));
    let Some((at, real)) = existing else { return path.to_owned() };
    let mut real = real;
    for part in path.strip_prefix(at).unwrap_or(Path::new("")).components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            Component::CurDir => {}
            part => real.push(part),
        }
    }
    real
}

/// The folders as a walk of the roots would meet them: strictly below a root, and written as
/// that root is written.
fn met<'a>(roots: &[Root], folders: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let roots: Vec<_> = roots.iter().map(|root| (&root.path, real(&root.path))).collect();
    let mut met = BTreeSet::new();
    for folder in folders {
        let folder = real(folder);
        for (path, real) in &roots {
            match folder.strip_prefix(real) {
                Ok(way) if !way.as_os_str().is_empty() => {
                    met.insert(path.join(way));
                    // Where the real path is asked for.
                    met.insert(folder.clone());
                }
                _ => {}
            }
        }
        if !roots.iter().any(|(_, root)| root.starts_with(&folder)) {
            met.insert(folder);
        }
    }
    met
}

/// The way from one absolute folder to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| Component::ParentDir);
    up.chain(to.components().skip(common)).collect()
}

/// One glob of the extra inputs.
struct Extra {
    matcher: GlobMatcher,
    /// The components before the first one with a wildcard.
    prefix: Vec<u8>,
    /// No match has more components than this, if the glob is bounded.
    depth: Option<usize>,
}

impl Extra {
    fn new(glob: &str, labels: &[&[u8]]) -> Result<Self, GlobError> {
        let cleaned = clean(glob)?;
        let is_plain = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
        let plain: Vec<&str> = cleaned.split('/').take_while(is_plain).collect();
        let prefix = plain.join("/").into_bytes();
        let known = |label: &&&[u8]| !label.is_empty() && starts_with_path(&prefix, label);
        if plain.first() == Some(&"..") && labels.iter().find(known).is_none() {
            let why = "it leads out of the project, to no path dependency of it";
            return Err(GlobError { glob: glob.to_owned(), why: why.to_owned() });
        }
        let depth = (!cleaned.contains("**")).then(|| cleaned.split('/').count());
        Ok(Self { matcher: matcher(cleaned, glob)?, prefix, depth })
    }

    fn reaches(&self, folder: &[u8]) -> bool {
        let depth = folder.split(|byte| *byte == b'/').count();
        self.depth.is_none_or(|most| depth < most)
            && (starts_with_path(folder, &self.prefix) || starts_with_path(&self.prefix, folder))
    }
}

/// Whether `path` is `start` or lies below it; everything lies below nothing.
fn starts_with_path(path: &[u8], start: &[u8]) -> bool {
    start.is_empty()
        || path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn clean(glob: &str) -> Result<&str, GlobError> {
    let mut cleaned = glob;
    while let Some(rest) = cleaned.strip_prefix("./") {
        cleaned = rest;
    }
    let error = |why: &str| Err(GlobError { glob: glob.to_owned(), why: why.to_owned() });
    if cleaned.starts_with('/') {
        return error("it is absolute");
    }
    match cleaned.trim_end_matches('/') {
        "" | "." => error("it names no file"),
        cleaned => Ok(cleaned),
    }
}

fn matcher(cleaned: &str, glob: &str) -> Result<GlobMatcher, GlobError> {
    let built = GlobBuilder::new(cleaned).literal_separator(true).backslash_escape(true).build();
    match built {
        Ok(built) => Ok(built.compile_matcher()),
        Err(error) => Err(GlobError { glob: glob.to_owned(), why: error.kind().to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(options: &Options) -> Scope {
        Scope::new(Path::new("/no-such-folder/ws"), options).unwrap()
    }

    fn options() -> Options {
        Options { environment: Environment::default(), ..Options::default() }
    }

    #[test]
    fn extra_inputs_open_only_the_folders_that_lead_to_them() {
        let extra_inputs = ["gen/a/*.bin", "./data/deep/**/x", "one.env", "fixtures/"];
        let extra_inputs = extra_inputs.map(str::to_owned).to_vec();
        let scope = scope(&Options { extra_inputs, ..options() });
        for open in ["gen", "gen/a", "data", "data/deep", "data/deep/er/still"] {
            assert!(scope.may_hold_extra(open.as_bytes()), "{open}");
        }
        for shut in ["generated", "gen/b", "gen/a/b", "data/other", "target", "one.env/x"] {
            assert!(!scope.may_hold_extra(shut.as_bytes()), "{shut}");
        }
        for extra in ["gen/a/1.bin", "data/deep/x", "data/deep/er/x", "one.env", "fixtures"] {
            assert!(scope.is_extra(extra.as_bytes()), "{extra}");
        }
        for other in ["gen/a/b/1.bin", "gen/a/1.txt", "sub/one.env"] {
            assert!(!scope.is_extra(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn only_what_matters_of_the_environment_makes_options_differ() {
        let with = |name: &str, value: &str| {
            let mut options = options();
            options.environment.set(name, value);
            options
        };
        let same = |other: &Options| options().mean_the_same(other, Path::new("/"));
        assert!(same(&with("TERM", "x")) && same(&with("PATH", "/nonexistent")));
        for name in ["HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"] {
            assert!(!same(&with(name, "/x")), "{name}");
        }
        assert!(!same(&Options { exclude: vec!["x".to_owned()], ..options() }));
    }

    #[test]
    fn globs_that_mean_nothing_are_errors_that_name_them() {
        for bad in ["/etc/passwd", "../elsewhere/x", "a/[z-", "", "./"] {
            let options = Options { extra_inputs: vec![bad.to_owned()], ..options() };
            let error = Scope::new(Path::new("/ws"), &options).err().expect(bad);
            assert!(error.to_string().contains(&format!("`{bad}`")), "{error}");
        }
        let options = Options { exclude: vec!["a{".to_owned()], ..options() };
        assert!(Scope::new(Path::new("/ws"), &options).is_err());
    }

    #[test]
    fn outside_roots_are_labelled_by_the_way_to_them() {
        let outside = ["/no-such-folder/dep", "/no-such-folder/ws/in", "/other", "/other"];
        let outside = outside.map(PathBuf::from).to_vec();
        let extra_inputs = vec!["../dep/gen/*".to_owned()];
        let scope = scope(&Options { outside, extra_inputs, ..options() });
        let labels: Vec<_> = scope.roots.iter().map(|root| &*root.label).collect();
        assert_eq!(labels, [&b""[..], b"../../other", b"../dep", b"in"]);
        assert!(scope.is_other_root(Path::new("/no-such-folder/ws/in")));
        assert!(!scope.is_other_root(Path::new("/no-such-folder/ws")));
        assert!(scope.is_extra(b"../dep/gen/x"));
    }

    #[test]
    fn a_target_folder_that_holds_the_root_hides_nothing() {
        let exclude_dirs = ["/no-such-folder", "/no-such-folder/ws", "/no-such-folder/ws/t"];
        let scope =
            scope(&Options { exclude_dirs: exclude_dirs.map(PathBuf::from).to_vec(), ..options() });
        assert!(scope.is_target(Path::new("/no-such-folder/ws/t")));
        assert!(!scope.is_target(Path::new("/no-such-folder/ws")));
        assert!(!scope.is_built(Path::new("/no-such-folder/ws/src/lib.rs")));
    }
}
