//! One scan or rescan: the state that its steps share.
//!
//! [`scan`](super::scan) takes the steps: `round` lists folders, `unwatched_inputs` looks at what no
//! watch tells, `removed_folders` takes folders out of the tree.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use super::changes::ScanChanges;
use super::tree::FolderId;
use super::walk::Scratch;
use super::{CodeHasher, DirChange};

/// One scan.
pub(super) struct Update<'h, 'd> {
    pub hasher: &'h mut CodeHasher,
    pub on_dir: &'d mut dyn FnMut(DirChange<'_>),
    /// Whether every folder is listed.
    pub all: bool,
    /// Listed in this round.
    pub listed: HashSet<FolderId>,
    /// To be listed in the next one.
    pub again: BTreeSet<FolderId>,
    /// No longer in the tree, but kept to the end for what is known of their files.
    pub detached: HashSet<FolderId>,
    /// The detached folders by inode: a folder that is entered may be one that was moved.
    pub moved: HashMap<u64, FolderId>,
    /// Paths of folders that are gone, not yet told, and whose watch goes with each.
    pub gone: Vec<(PathBuf, Option<(u64, u64)>)>,
    pub changes: ScanChanges,
    /// Some ignore file is not what it was: files that git tracks may be hidden by it now.
    pub rules_changed: bool,
    /// Tracked files, by the folder that git was asked in.
    pub lists: BTreeMap<PathBuf, Vec<Vec<u8>>>,
    /// Repositories that were looked at after a round.
    pub seen: BTreeSet<PathBuf>,
    /// Git was asked.
    pub asked: bool,
    pub scratch: Scratch,
}

impl<'h, 'd> Update<'h, 'd> {
    pub(super) fn new(
        hasher: &'h mut CodeHasher,
        on_dir: &'d mut dyn FnMut(DirChange<'_>),
        all: bool,
    ) -> Self {
        Self {
            hasher,
            on_dir,
            all,
            listed: HashSet::new(),
            again: BTreeSet::new(),
            detached: HashSet::new(),
            moved: HashMap::new(),
            gone: Vec::new(),
            changes: ScanChanges::default(),
            rules_changed: false,
            lists: BTreeMap::new(),
            seen: BTreeSet::new(),
            asked: false,
            scratch: Scratch::default(),
        }
    }
}
