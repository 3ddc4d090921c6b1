//! Listing one folder: what is in it, what of that counts, and the digests that the stamps do
//! not prove unchanged. Reads the tree, never writes it, so that many threads can do it at once.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

use super::changes::ScanChanges;
use super::git;
use super::look::{Candidate, DecidingFile, FolderContents, FolderReader, Trouble};
use super::memo::TreeMemo;
use super::name_filter::{FolderContext, NameFilter};
use super::options;
use super::read::{Buffer, FileLocation, Probe, ReadError};
use super::rules::{Anchor, Rules};
use super::system::{self, FolderIdentity, NameList};
use super::tree::{EntryContent, FileTree, FolderId, FolderListing, TreeEntry, WalkMode};
use crate::model::Digest;
use crate::workspace::{BuildScript, FileKind, Repository, Stamp};

/// How often a folder that changes while it is listed is listed again before giving up.
const LIST_ATTEMPTS: usize = 4;
/// The message about a folder that changes during every attempt.
const UNSTABLE_FOLDER: &str = "it changes while it is listed";
/// The name of a package's manifest.
const MANIFEST: &[u8] = b"Cargo.toml";

/// A folder to be listed.
pub(super) struct ListJob {
    /// Its number if it is in the tree.
    pub id: Option<FolderId>,
    pub parent: Option<FolderId>,
    pub name: Box<[u8]>,
    pub root: usize,
    pub path: PathBuf,
    /// The path from its root.
    pub below: Vec<u8>,
    pub mode: WalkMode,
    /// In force around it.
    pub inherited: Rules,
    pub previous: KnownBefore,
    /// Which folder it must be, if it is not to be entered anew.
    pub expected: Option<FolderIdentity>,
    /// Its inode as the listing of its parent says; 0 if that is not known.
    pub inode: u64,
}

/// The place of an earlier listing, whose digests hold where the stamps are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KnownBefore {
    /// In the memo, if there is one.
    Memo,
    /// In the folder that was at this path.
    Here(FolderId),
    /// In a folder that was at another path: it may have been moved.
    Elsewhere(FolderId),
}

/// The result of a job.
pub(super) enum ListOutcome {
    Listed(Box<ListedFolder>),
    /// Another folder is at the path.
    Replaced,
    Failed(io::Error),
}

/// A folder as it is now.
pub(super) struct ListedFolder {
    pub identity: FolderIdentity,
    pub listing: FolderListing,
    pub rules: Rules,
    pub repository: Option<Repository>,
    /// The rules in force before its own ignore file.
    pub base: Digest,
    /// How to walk each folder in it, in the order of the listing.
    pub modes: Vec<WalkMode>,
    /// Names (empty: the folder itself) whose content is not known, and why.
    pub problems: Vec<(Vec<u8>, String)>,
    pub changes: ScanChanges,
    /// Names that are no longer there, folders left out.
    pub removed: Vec<Vec<u8>>,
    /// Its own ignore file is not the one that it was.
    pub rules_changed: bool,
}

/// A thread's memory.
#[derive(Default)]
pub(super) struct Scratch {
    names: NameList,
    again: NameList,
    listing: Vec<u8>,
    file: Buffer,
}

/// The state that all threads share.
pub(super) struct Walk<'a> {
    pub tree: &'a FileTree,
    pub judge: NameFilter<'a>,
    pub memo: Option<&'a TreeMemo>,
    /// The number of this scan.
    pub generation: u32,
    pub threads: usize,
    /// Whether the tree was made with these options.
    pub same_options: bool,
    pub probe: &'a Probe,
}

/// A folder that is open, and the names in it.
struct OpenFolder<'a> {
    job: &'a ListJob,
    folder: &'a OwnedFd,
    names: &'a NameList,
    identity: FolderIdentity,
    /// When, before anything was looked at.
    now: SystemTime,
}

impl Walk<'_> {
    /// Lists a folder, several times if it will not hold still.
    pub(super) fn list(&self, job: &ListJob, scratch: &mut Scratch) -> ListOutcome {
        for attempt in 1..=LIST_ATTEMPTS {
            match self.attempt(job, scratch, attempt == LIST_ATTEMPTS) {
                Ok(outcome) => return outcome,
                Err(Trouble::Restless) => {}
                Err(Trouble::Failed(error)) => return ListOutcome::Failed(error),
            }
        }
        ListOutcome::Failed(io::Error::other(UNSTABLE_FOLDER))
    }

    fn attempt(
        &self,
        job: &ListJob,
        scratch: &mut Scratch,
        last: bool,
    ) -> Result<ListOutcome, Trouble> {
        // Before anything is read: a stamp that is settled seen from here was settled then.
        let now = SystemTime::now();
        let folder = system::open_folder(&job.path, job.parent.is_none())?;
        let before = system::folder_open(&folder)?;
        if job.id.is_some() && job.expected != Some(before.identity) {
            return Ok(ListOutcome::Replaced);
        }
        let mut names = std::mem::take(&mut scratch.names);
        names.read(&folder, &mut scratch.listing)?;
        let open =
            OpenFolder { job, folder: &folder, names: &names, identity: before.identity, now };
        let listed = self.listed(&open, scratch);
        let settled = system::folder_open(&folder)? == before || {
            scratch.again.read_again(&folder, &mut scratch.listing)?;
            names.same(&scratch.again)
        };
        scratch.names = names;
        let mut listed = listed?;
        if !settled {
            if !last {
                return Err(Trouble::Restless);
            }
            listed.problems.push((Vec::new(), UNSTABLE_FOLDER.to_owned()));
        }
        Ok(ListOutcome::Listed(Box::new(listed)))
    }

    fn listed(
        &self,
        open: &OpenFolder<'_>,
        scratch: &mut Scratch,
    ) -> Result<ListedFolder, Trouble> {
        let job = open.job;
        let remembered;
        let old = match job.previous {
            KnownBefore::Here(id) | KnownBefore::Elsewhere(id) => {
                Some(&self.tree.folder(id).listing)
            }
            KnownBefore::Memo => {
                let path = self.judge.scope.roots[job.root].labelled(&job.below);
                remembered = self.memo.and_then(|memo| memo.listing(&path));
                remembered.as_ref()
            }
        };
        let repository = match open.names.find(b".git") {
            Some(_) if job.parent.is_some() && job.mode == WalkMode::Normal => {
                Repository::at(&job.path)
            }
            _ => None,
        };
        let base = match &repository {
            Some(found) => {
                git::rules_of(found, &Anchor::inside(&job.below), &self.judge.scope.environment)
            }
            None => job.inherited.clone(),
        };
        let manifest = self.manifest(open, old)?;
        let suspended = self.lists_without_git(open, &base, manifest.as_ref());
        let own = if base.is_in_repository() { self.ignore_file(open)? } else { None };
        let (own, text) = own.unzip();
        let rules = self.rules(job, &base.suspend(suspended), text.unwrap_or_default());
        let rules_changed = match old {
            Some(old) => old.rules != rules.digest(),
            None => repository.is_some() || rules.digest() != job.inherited.digest(),
        };
        let candidates = self.candidates(open, old, &rules)?;
        let deciding: Vec<_> = own.into_iter().chain(manifest).collect();
        let reader = FolderReader {
            folder: open.folder,
            path: &job.path,
            mode: job.mode,
            old,
            now: open.now,
            threads: self.threads,
            probe: self.probe,
        };
        let FolderContents { builder, modes, problems, read_files, read_bytes } =
            reader.contents(&candidates, &deciding, &mut scratch.file)?;
        let mut listing = builder.finish(rules.digest(), job.mode);
        // Only what was at this very path in this process can have changed since.
        let before = old.filter(|_| matches!(job.previous, KnownBefore::Here(_)));
        let (changes, removed) = super::changes::compare(before, &mut listing, self.generation);
        Ok(ListedFolder {
            identity: open.identity,
            listing,
            base: base.digest(),
            rules,
            repository,
            modes,
            problems,
            changes: ScanChanges { read_files, read_bytes, ..changes },
            removed,
            rules_changed,
        })
    }

    /// The folder's own ignore file, where ignore files hold; git does not follow a link to one.
    /// Without it nothing is known about what counts here: an error is the folder's.
    fn ignore_file(
        &self,
        open: &OpenFolder<'_>,
    ) -> Result<Option<(DecidingFile, Vec<u8>)>, ReadError> {
        const NAME: &[u8] = b".gitignore";
        if open.job.mode != WalkMode::Normal || open.names.find(NAME).is_none() {
            return Ok(None);
        }
        let stamp = Stamp::at(open.folder, NAME)?;
        if stamp.kind() != FileKind::File {
            return Ok(None);
        }
        let (stamp, text) = self.text(open, NAME, stamp)?;
        let content = Digest::of(&text);
        Ok(Some((DecidingFile { name: NAME, stamp, content, read: None, flags: 0 }, text)))
    }

    fn text(
        &self,
        open: &OpenFolder<'_>,
        name: &[u8],
        stamp: Stamp,
    ) -> Result<(Stamp, Vec<u8>), ReadError> {
        self.probe.reading(&open.job.path, name)?;
        let path = &open.job.path;
        FileLocation { folder: open.folder, path, name, follow: false }.content(stamp)
    }

    /// The folder's manifest, if it is a file.
    fn manifest(
        &self,
        open: &OpenFolder<'_>,
        old: Option<&FolderListing>,
    ) -> Result<Option<DecidingFile>, ReadError> {
        if open.job.mode != WalkMode::Normal || open.names.find(MANIFEST).is_none() {
            return Ok(None);
        }
        let stamp = Stamp::at(open.folder, MANIFEST)?;
        if stamp.kind() != FileKind::File {
            return Ok(None);
        }
        // A folder that was walked otherwise was not asked what its manifest says.
        let old = old.filter(|old| old.mode == WalkMode::Normal);
        if let Some((listing, entry)) = old.and_then(|old| Some((old, old.find(MANIFEST)?)))
            && let Some(EntryContent::Digest(content)) = listing.proven(entry, &stamp)
        {
            let flags = entry.flags() & TreeEntry::MANIFEST;
            return Ok(Some(DecidingFile { name: MANIFEST, stamp, content, read: None, flags }));
        }
        let (stamp, text) = self.text(open, MANIFEST, stamp)?;
        let files = BuildScript::of(&text);
        let flag = |is_so: bool, flag: u8| if is_so { flag } else { 0 };
        Ok(Some(DecidingFile {
            name: MANIFEST,
            stamp,
            content: Digest::of(&text),
            read: Some(stamp.size),
            flags: flag(files.is_named, TreeEntry::NAMES_SCRIPT)
                | flag(files.is_looked_for, TreeEntry::FINDS_SCRIPT)
                | flag(files.has_include, TreeEntry::LISTS_FILES),
        }))
    }

    /// Whether cargo lists the files of the package in this folder without asking git. A build
    /// script that names nothing runs again whenever one of them changes, ignored or not. So it
    /// is where the manifest is not in git's index, or has a list of its own.
    fn lists_without_git(
        &self,
        open: &OpenFolder<'_>,
        base: &Rules,
        manifest: Option<&DecidingFile>,
    ) -> bool {
        if open.job.mode != WalkMode::Normal || open.names.find(MANIFEST).is_none() {
            // A part of the package around it.
            return open.job.inherited.is_suspended();
        }
        let says = |flag: u8| manifest.is_none_or(|manifest| manifest.flags & flag != 0);
        let has_script = says(TreeEntry::NAMES_SCRIPT)
            || says(TreeEntry::FINDS_SCRIPT) && open.names.find(b"build.rs").is_some();
        let in_index = || {
            base.is_in_repository()
                && self.judge.is_in_index(&open.job.path.join(OsStr::from_bytes(MANIFEST)))
        };
        has_script && (says(TreeEntry::LISTS_FILES) || !in_index())
    }

    /// The rules in the folder: those around it and its own ignore file's.
    fn rules(&self, job: &ListJob, base: &Rules, own: Vec<u8>) -> Rules {
        let rules = base.with(Anchor::inside(&job.below), own);
        match job.previous {
            KnownBefore::Here(id) if self.tree.folder(id).rules.digest() == rules.digest() => {
                // The same, and compiled already.
                self.tree.folder(id).rules.clone()
            }
            _ => rules,
        }
    }

    /// The names that count.
    fn candidates<'a>(
        &self,
        open: &OpenFolder<'a>,
        old: Option<&'a FolderListing>,
        rules: &Rules,
    ) -> Result<Vec<Candidate<'a>>, Trouble> {
        let job = open.job;
        let same_options = match job.previous {
            KnownBefore::Memo => self.memo.is_some_and(|m| m.options == self.judge.scope.digest()),
            KnownBefore::Here(_) => self.same_options,
            // At another path the same rules may mean something else.
            KnownBefore::Elsewhere(_) => false,
        };
        let judged = old
            .is_some_and(|old| same_options && old.rules == rules.digest() && old.mode == job.mode);
        let around = FolderContext {
            root: &self.judge.scope.roots[job.root],
            path: &job.path,
            below: &job.below,
            mode: job.mode,
            rules,
            has_manifest: open.names.find(MANIFEST).is_some(),
        };
        let mut candidates = Vec::with_capacity(open.names.len());
        for (name, found) in open.names.iter() {
            let kind = match found.kind {
                Some(kind) => kind,
                // The file system keeps no kinds in its listings.
                None => match Stamp::at(open.folder, name) {
                    Ok(stamp) => stamp.kind(),
                    Err(_) => return Err(Trouble::Restless),
                },
            };
            let is_folder = kind == FileKind::Folder;
            let old = old.and_then(|old| old.find(name));
            let known = judged
                && old.is_some_and(|old| {
                    !old.is(TreeEntry::FORCED) && (old.kind() == FileKind::Folder) == is_folder
                });
            if let Some(counted) = self.judge.judge(&around, name, is_folder, known) {
                let folder = is_folder.then_some((counted.mode, found.inode));
                candidates.push(Candidate { name, folder, forced: counted.forced, old });
            }
        }
        Ok(candidates)
    }
}

impl ListJob {
    /// The inode of what is at the path now; 0 if that is no folder.
    pub(super) fn inode_now(&self) -> u64 {
        let folder = system::open_folder(&self.path, self.parent.is_none());
        let status = folder.and_then(|folder| system::folder_open(&folder));
        status.map_or(0, |status| status.identity.inode)
    }

    /// The job for a folder that is found in a listed one.
    pub(super) fn within(&self, parent: FolderId, name: &[u8]) -> Self {
        Self {
            id: None,
            parent: Some(parent),
            name: name.into(),
            root: self.root,
            path: self.path.join(OsStr::from_bytes(name)),
            below: options::join(&self.below, name),
            mode: self.mode,
            inherited: self.inherited.clone(),
            previous: KnownBefore::Memo,
            expected: None,
            inode: 0,
        }
    }
}
