//! The digest of everything that can decide a test's outcome at the source level.
//!
//! [`CodeHasher`] keeps the tree of one project in memory: folders, the names in them that
//! count, a stamp and a digest for each file. A full [`scan`](CodeHasher::scan) lists and stats
//! everything and reads only what the stamps do not prove unchanged; a
//! [`rescan`](CodeHasher::rescan) does that for some folders; and the digest of the whole is put
//! together from the folders' digests, of which only those above a change are computed anew.
//!
//! # What counts
//!
//! These count:
//!
//! * every file that git does not ignore, tracked or not, hidden or not;
//! * outside of a git repository every file, since cargo reads no ignore file there;
//! * every file of a package with a build script if cargo lists the package's files without git;
//! * ignored files that are tracked, and `Cargo.lock`, `.env*`, `rust-toolchain*` and
//!   `.cargo/config*` even if ignored;
//! * extra inputs, and files that symbolic links lead to;
//! * empty folders: a test can list.
//!
//! `.git`, `.jj`, `.test-cache`, target folders and exclusions do not count. Each entry counts with
//! its path from the root, its kind, its executable bit, and its content or the link's text. Times,
//! owners and absolute paths never count: equal trees have equal digests, in any checkout, on any
//! machine. The exclusions themselves are part of the digest.
//!
//! # Why it can be believed
//!
//! * A stamp proves content only if it was settled when the file was read, see
//!   [`Stamp::is_settled`]. Another file is read again in the next scan.
//! * A file that changes while it is read, a folder that changes while it is listed, anything that
//!   cannot be read makes the snapshot unknown. It is tried again in every scan.
//! * What no watched folder tells (the user's ignore files, git's index, targets of links, files
//!   with several names) is looked at in every scan, also in a rescan of nothing.

mod changes;
mod confinement;
mod git;
mod instructions;
mod links;
mod look;
mod machine_code;
mod manifest;
mod memo;
mod mentions;
mod name_filter;
mod options;
pub(crate) mod parallel;
mod program;
mod query;
mod read;
mod removed_folders;
mod round;
mod rules;
mod scan;
mod system;
mod tree;
mod unwatched_inputs;
mod update;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

pub(crate) use changes::{ScanChanges, ScanMark};
pub(crate) use confinement::{MacroReach, macro_reach, macro_sees_comments, may_change_length};
pub(crate) use manifest::{FileChange, ListedEntry, Manifest};
pub(crate) use mentions::{
    GOES_THROUGH_ALL, Mentions, SearchScope, has_word_of, holds_text, mentions, mentions_in_text,
};
pub(crate) use options::{GlobError, Options, is_cargo_target};
pub(crate) use program::program_digest;
pub use query::Snapshot;
pub(crate) use read::{FileDigest, file_digest};

use git::Tracked;
use links::Links;
use memo::{MemoSource, TreeMemo};
use options::Scope;
use rules::Rules;
use tree::{FileTree, FolderId, TreeEntry};
use walk::ListJob;

use crate::paths::replace_file;
use crate::workspace::{FileKind, Repository, Stamp};

/// How many removed paths are remembered for [`CodeHasher::changed_since`].
const REMOVAL_HISTORY: usize = 4_096;

/// The root's number of folders whose root is one no longer.
const NO_ROOT: usize = usize::MAX;

/// A folder that whoever watches the tree must begin or cease to watch.
///
/// In each scan, folders that are gone are told before any is entered; and a folder that was moved
/// is told gone from its old place before it is entered in the new one, since a watch belongs to
/// the folder and not to its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirChange<'a> {
    /// The folder is no longer walked. One call for each folder, those above before those below.
    Removed(&'a Path),
    /// The folder is about to be listed for the first time: a watch that is set now sees every
    /// change that the listing may miss.
    Entering(&'a Path),
}

/// The tree of one project, in memory.
pub struct CodeHasher {
    root: PathBuf,
    options: Options,
    scope: Scope,
    tree: FileTree,
    /// One for each root of the scope.
    tops: Vec<Top>,
    tracked: BTreeMap<PathBuf, Tracked>,
    /// Questions that git did not answer, by the folder that it was asked in.
    doubts: BTreeMap<PathBuf, String>,
    /// Names that could not be read, by their folder; no name stands for the folder itself.
    problems: BTreeMap<(FolderId, Vec<u8>), String>,
    links: Links,
    /// Folders with files that have names elsewhere.
    shared: BTreeSet<FolderId>,
    /// Folders below a root in which a repository begins.
    nested: BTreeSet<FolderId>,
    /// Folders by device and inode.
    live: HashMap<(u64, u64), FolderId>,
    /// Tops of roots that are roots no longer.
    dropped: Vec<FolderId>,
    removals: Removals,
    generation: u32,
    /// Whether the tree was made with the options as they are.
    current: bool,
    memo: Option<TreeMemo>,
    /// The file that holds a memo of the tree as it is, and that file's stamp.
    saved: Option<(PathBuf, Stamp)>,
    threads: usize,
    probe: read::Probe,
}

/// The top of one root's tree.
#[derive(Default)]
struct Top {
    folder: Option<FolderId>,
    /// The repository that the root lies in.
    repository: Option<Repository>,
    /// The ignore files that hold before the root's own.
    rules: Rules,
}

/// Paths that are gone, and the scan that noticed.
#[derive(Default)]
struct Removals {
    paths: VecDeque<(u32, PathBuf)>,
    /// The last scan of which some are forgotten.
    forgotten: u32,
}

impl Removals {
    fn push(&mut self, generation: u32, path: PathBuf) {
        if self.paths.len() == REMOVAL_HISTORY
            && let Some((generation, _)) = self.paths.pop_front()
        {
            self.forgotten = generation;
        }
        self.paths.push_back((generation, path));
    }
}

impl CodeHasher {
    /// A hasher for the tree at `root`, an absolute path. Nothing is read before the first scan.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let (root, options) = (root.into(), Options::default());
        match Scope::new(&root, &options) {
            Ok(scope) => Self::with_scope(root, options, scope),
            Err(_) => unreachable!("only a glob can be wrong, and there is none"),
        }
    }

    /// A hasher with options.
    ///
    /// # Errors
    /// If a glob of the options means nothing.
    pub(crate) fn with_options(
        root: impl Into<PathBuf>,
        options: Options,
    ) -> Result<Self, GlobError> {
        let root = root.into();
        let scope = Scope::new(&root, &options)?;
        Ok(Self::with_scope(root, options, scope))
    }

    fn with_scope(root: PathBuf, options: Options, scope: Scope) -> Self {
        Self {
            root,
            options,
            tops: scope.roots.iter().map(|_| Top::default()).collect(),
            scope,
            tree: FileTree::default(),
            tracked: BTreeMap::new(),
            doubts: BTreeMap::new(),
            problems: BTreeMap::new(),
            links: Links::default(),
            shared: BTreeSet::new(),
            nested: BTreeSet::new(),
            live: HashMap::new(),
            dropped: Vec::new(),
            removals: Removals::default(),
            generation: 0,
            current: false,
            memo: None,
            saved: None,
            threads: parallel::threads(),
            probe: read::Probe::default(),
        }
    }

    /// The root, as it was given.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Sets other options; `true` if they mean something else. Then the snapshot is unknown until
    /// the next scan or rescan, which looks at everything.
    ///
    /// # Errors
    /// If a glob of the options means nothing; then the old options stay.
    pub(crate) fn set_options(&mut self, options: Options) -> Result<bool, GlobError> {
        if options.mean_the_same(&self.options, &self.root) {
            return Ok(false);
        }
        let scope = Scope::new(&self.root, &options)?;
        let old = std::mem::take(&mut self.tops).into_iter().zip(&self.scope.roots);
        let mut old: HashMap<_, _> = old.map(|(top, root)| (root.path.clone(), top)).collect();
        for (number, root) in scope.roots.iter().enumerate() {
            let top = old.remove(&root.path).unwrap_or_default();
            for id in top.folder.map(|top| self.tree.subtree(top)).unwrap_or_default() {
                self.tree.folder_mut(id).root = number;
            }
            self.tops.push(top);
        }
        for top in old.into_values().filter_map(|top| top.folder) {
            for id in self.tree.subtree(top) {
                self.tree.folder_mut(id).root = NO_ROOT;
            }
            self.dropped.push(top);
        }
        // They are numbered by root; the scan that follows finds them again.
        self.links = Links::default();
        // Another environment may know another git.
        self.tracked.values_mut().for_each(|tracked| tracked.index = None);
        (self.options, self.scope, self.current) = (options, scope, false);
        Ok(true)
    }

    /// Takes what an earlier process found as a hint for the first scan. Whatever is odd about the
    /// file is a warning in the log, and as if there were none.
    #[doc(hidden)]
    pub fn load_memo(&mut self, file: &Path) {
        let stamp = Stamp::followed(file).ok();
        let memo = match TreeMemo::read(file) {
            Ok(Ok(memo)) => memo,
            Ok(Err(why)) => {
                tracing::warn!(file = %file.display(), %why, "memo not used");
                return;
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(file = %file.display(), %error, "memo not used");
                }
                return;
            }
        };
        if self.generation > 0 {
            // The tree itself knows better.
            return;
        }
        if memo.options == self.scope.digest() {
            self.saved = stamp.map(|stamp| (file.to_owned(), stamp));
        }
        self.tracked.clone_from(&memo.tracked);
        self.memo = Some(memo);
    }

    /// Keeps what is known for the next process. Does nothing if the file holds that already.
    ///
    /// # Errors
    /// If the file cannot be written; an older one is then still there, whole.
    #[doc(hidden)]
    pub fn save_memo(&mut self, file: &Path) -> io::Result<()> {
        if !self.current || self.memo_is_saved(file) {
            return Ok(());
        }
        let tops = self.tops.iter().zip(&self.scope.roots);
        let bytes = memo::encode(&MemoSource {
            tree: &self.tree,
            tops: tops.filter_map(|(top, root)| Some((&*root.label, top.folder?))).collect(),
            options: self.scope.digest(),
            tracked: &self.tracked,
        });
        let stamp = Stamp::open(&replace_file(file, &bytes)?)?;
        self.saved = Some((file.to_owned(), stamp));
        Ok(())
    }

    fn memo_is_saved(&self, file: &Path) -> bool {
        self.saved.as_ref().is_some_and(|(saved, stamp)| {
            saved == file && Stamp::followed(file).is_ok_and(|now| now == *stamp)
        })
    }

    /// The path of a folder from its root.
    fn below(&self, root: usize, path: &Path) -> Vec<u8> {
        let root = &self.scope.roots[root].path;
        path.strip_prefix(root).unwrap_or(Path::new("")).as_os_str().as_bytes().to_vec()
    }

    /// The folder is about to be known anew, or not at all.
    fn forget_contents(&mut self, id: FolderId) {
        let names: Vec<_> = self
            .problems
            .range((id, Vec::new())..)
            .map(|(key, _)| key)
            .take_while(|(of, _)| *of == id)
            .cloned()
            .collect();
        for name in names {
            self.problems.remove(&name);
        }
        self.shared.remove(&id);
        self.nested.remove(&id);
    }

    fn forget_links(&mut self, id: FolderId) {
        let root = self.tree.folder(id).root;
        if root != NO_ROOT {
            let below = self.below(root, &self.tree.path(id));
            self.links.take(root, &below);
        }
    }

    /// Notes what in a folder must be looked at even when nobody says that it changed.
    fn note_contents(&mut self, id: FolderId, job: &ListJob) {
        let folder = self.tree.folder(id);
        if folder.repository.is_some() {
            self.nested.insert(id);
        }
        if folder.listing.entries().iter().any(|entry| entry.is(TreeEntry::SHARED)) {
            self.shared.insert(id);
        }
        let links = folder.listing.iter().filter(|(_, entry)| entry.kind() == FileKind::Symlink);
        self.links.replace(job.root, &job.below, &job.path, links.map(|(name, _)| name));
    }
}

/// A memo with a digest that fits, and all its folders.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_memo(bytes: &[u8]) {
    let _ = TreeMemo::decode(bytes.to_vec());
    if let Ok(memo) = TreeMemo::decode(memo::with_digest(bytes)) {
        memo.paths().for_each(|path| drop(memo.listing(path)));
    }
}

/// Git's config, an ignore file, and names that it may ignore: parts between zero bytes.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_git(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == 0);
    let (Some(config), Some(ignore)) = (parts.next(), parts.next()) else { return };
    let _ = git::excludes_file_in(config);
    let rules = Rules::of_repository().with(rules::Anchor::inside(b""), ignore.to_vec());
    parts.for_each(|name| {
        rules.ignore(name, false);
        rules.ignore(name, true);
    });
}

/// A program or a library.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_program(bytes: &[u8]) {
    let _ = program::loaded(bytes, Path::new("/w"));
    let _ = confinement::reach_of_library(bytes);
    let texts = ["PATH", "starship_"];
    let _ = mentions::mentions_of(bytes, || Ok(bytes.to_vec()), &texts, SearchScope::All);
}
