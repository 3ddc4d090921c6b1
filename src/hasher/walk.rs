//! Listing one folder: what is in it, what of that counts, and the digests that the stamps do
//! not prove unchanged. Reads the tree, never writes it, so that many threads can do it at once.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::changes::Changes;
use super::git::Repository;
use super::judge::{Around, Judge};
use super::memo::Memo;
use super::options;
use super::parallel;
use super::read::{self, Buffer, Place, Probe, ReadError};
use super::rules::{Anchor, Rules};
use super::system::{self, Identity, Kind, Names, Stamp, Status};
use super::tree::{Content, Entry, FolderId, Listing, ListingBuilder, Mode, Tree};
use crate::model::Digest;

/// How often a folder that changes while it is listed is listed again before giving up.
const ATTEMPTS: usize = 4;
/// A folder with more names than this is worth several threads of its own.
const MANY_NAMES: usize = 2_048;
/// So are files of more bytes than this, together.
const MANY_BYTES: u64 = 16 << 20;

/// A folder to be listed.
pub(super) struct Job {
    /// Its number if it is in the tree.
    pub id: Option<FolderId>,
    pub parent: Option<FolderId>,
    pub name: Box<[u8]>,
    pub root: usize,
    pub path: PathBuf,
    /// The path from its root.
    pub below: Vec<u8>,
    pub mode: Mode,
    /// In force around it.
    pub inherited: Rules,
    pub previous: Previous,
    /// Which folder it must be, if it is not to be entered anew.
    pub expected: Option<Identity>,
    /// Its inode as the listing of its parent says; 0 if that is not known.
    pub inode: u64,
}

/// Where to look for what was known of the folder's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Previous {
    /// In the memo, if there is one.
    Memo,
    /// In the folder that was at this path.
    Here(FolderId),
    /// In a folder that was at another path: it may have been moved.
    Elsewhere(FolderId),
}

/// What came of a job.
pub(super) enum Outcome {
    Listed(Box<Listed>),
    /// Another folder is at the path.
    Replaced,
    Failed(io::Error),
}

/// A folder as it is now.
pub(super) struct Listed {
    pub identity: Identity,
    pub listing: Listing,
    pub rules: Rules,
    pub repository: Option<Repository>,
    /// The rules in force before its own ignore file.
    pub base: Digest,
    /// How to walk each folder in it, in the order of the listing.
    pub modes: Vec<Mode>,
    /// Names (empty: the folder itself) whose content is not known, and why.
    pub problems: Vec<(Vec<u8>, String)>,
    pub changes: Changes,
    /// Names that are no longer there, folders left out.
    pub removed: Vec<Vec<u8>>,
    /// Its own ignore file is not the one that it was.
    pub rules_changed: bool,
}

/// A thread's memory.
#[derive(Default)]
pub(super) struct Scratch {
    names: Names,
    again: Names,
    listing: Vec<u8>,
    file: Buffer,
}

/// What all threads share.
pub(super) struct Walk<'a> {
    pub tree: &'a Tree,
    pub judge: Judge<'a>,
    pub memo: Option<&'a Memo>,
    /// The number of this scan.
    pub generation: u32,
    /// How old a stamp must be to be trusted, in nanoseconds.
    pub margin: i64,
    pub threads: usize,
    /// Whether the tree was made with these options.
    pub same_options: bool,
    pub probe: &'a Probe,
}

/// A name that counts, before anything is known of it.
struct Candidate<'a> {
    name: &'a [u8],
    /// How to walk it if the listing says that it is a folder.
    folder: Option<(Mode, u64)>,
    forced: bool,
    old: Option<&'a Entry>,
}

/// What one look at a candidate showed.
enum Look {
    Folder,
    Known(Status, Content),
    Unread(Status),
    /// It is not what the listing said: list again.
    Gone,
    Failed(io::Error),
}

/// The folder changed while it was listed.
struct Restless;

impl Walk<'_> {
    /// Lists a folder, several times if it will not hold still.
    pub(super) fn list(&self, job: &Job, scratch: &mut Scratch) -> Outcome {
        for _ in 1..ATTEMPTS {
            match self.attempt(job, scratch, false) {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(Restless)) => {}
                Err(error) => return Outcome::Failed(error),
            }
        }
        match self.attempt(job, scratch, true) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Restless)) => Outcome::Failed(io::Error::other(RESTLESS)),
            Err(error) => Outcome::Failed(error),
        }
    }

    fn attempt(
        &self,
        job: &Job,
        scratch: &mut Scratch,
        last: bool,
    ) -> io::Result<Result<Outcome, Restless>> {
        // Before anything is read: a stamp that is settled seen from here was settled then.
        let now = system::now();
        let folder = system::open_folder(&job.path, job.parent.is_none())?;
        let before = system::folder_open(&folder)?;
        if job.id.is_some() && job.expected != Some(before.identity) {
            return Ok(Ok(Outcome::Replaced));
        }
        let mut names = std::mem::take(&mut scratch.names);
        names.read(&folder, &mut scratch.listing)?;
        let listed = self.listed(job, &folder, before.identity, &names, now, scratch);
        let settled = system::folder_open(&folder)? == before || {
            scratch.again.read(&folder, &mut scratch.listing)?;
            names.same(&scratch.again)
        };
        scratch.names = names;
        Ok(match listed? {
            Ok(listed) if settled => Ok(Outcome::Listed(Box::new(listed))),
            Ok(mut listed) if last => {
                listed.problems.push((Vec::new(), RESTLESS.to_owned()));
                Ok(Outcome::Listed(Box::new(listed)))
            }
            _ => Err(Restless),
        })
    }

    fn listed(
        &self,
        job: &Job,
        folder: &OwnedFd,
        identity: Identity,
        names: &Names,
        now: i64,
        scratch: &mut Scratch,
    ) -> io::Result<Result<Listed, Restless>> {
        let remembered;
        let (old, same_place) = match job.previous {
            Previous::Here(id) => (Some(&self.tree.folder(id).listing), true),
            Previous::Elsewhere(id) => (Some(&self.tree.folder(id).listing), false),
            Previous::Memo => {
                let label = &self.judge.scope.roots[job.root];
                remembered = self.memo.and_then(|memo| memo.listing(&label.labelled(&job.below)));
                (remembered.as_ref(), true)
            }
        };
        let repository = match names.find(b".git") {
            Some(_) if job.parent.is_some() && job.mode == Mode::Normal => {
                Repository::at(&job.path)
            }
            _ => None,
        };
        let outer = match &repository {
            Some(found) => found.rules(&Anchor::inside(&job.below), &self.judge.scope.environment),
            None => job.inherited.clone(),
        };
        let own = match self.ignore_file(job, folder, names) {
            Ok(own) => own,
            Err(ReadError::Gone | ReadError::Restless) => return Ok(Err(Restless)),
            // Without it nothing is known about what counts here.
            Err(ReadError::Failed(error)) => return Err(error),
        };
        let text = own.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
        let mut rules = outer.with(Anchor::inside(&job.below), text);
        let rules_changed = match old {
            Some(old) => old.rules != rules.digest(),
            None => repository.is_some() || rules.digest() != job.inherited.digest(),
        };
        if let Previous::Here(id) = job.previous
            && self.tree.folder(id).rules.digest() == rules.digest()
        {
            // The same, and compiled already.
            rules = self.tree.folder(id).rules.clone();
        }
        let options = match job.previous {
            Previous::Memo => self.memo.is_some_and(|m| m.options == self.judge.scope.digest()),
            _ => self.same_options,
        };
        let known = old.filter(|old| {
            same_place && options && old.rules == rules.digest() && old.mode == job.mode
        });
        let around = Around {
            root: &self.judge.scope.roots[job.root],
            path: &job.path,
            below: &job.below,
            mode: job.mode,
            rules: &rules,
            has_manifest: names.find(b"Cargo.toml").is_some(),
        };

        let mut candidates = Vec::new();
        for (name, found) in names.iter() {
            let kind = match found.kind {
                Some(kind) => kind,
                // The file system keeps no kinds in its listings.
                None => match system::status_at(folder, name) {
                    Ok(status) => status.stamp.kind(),
                    Err(_) => return Ok(Err(Restless)),
                },
            };
            let is_folder = kind == Kind::Folder;
            let entry = old.and_then(|old| old.find(name));
            let is_known = known.is_some()
                && entry.is_some_and(|entry| {
                    !entry.is(Entry::FORCED) && (entry.kind() == Kind::Folder) == is_folder
                });
            let Some(counted) = self.judge.judge(&around, name, is_folder, is_known) else {
                continue;
            };
            candidates.push(Candidate {
                name,
                folder: is_folder.then_some((counted.mode, found.inode)),
                forced: counted.forced,
                old: entry,
            });
        }
        let filled = self.fill(job, folder, &candidates, own, now, scratch);
        let (builder, modes, problems, read) = match filled {
            Ok(filled) => filled,
            Err(Restless) => return Ok(Err(Restless)),
        };
        let mut listing = builder.finish(rules.digest(), job.mode);
        // Only what was at this very path in this process can have changed since.
        let before = match job.previous {
            Previous::Here(_) => old,
            _ => None,
        };
        let (mut changes, removed) = super::changes::compare(before, &mut listing, self.generation);
        (changes.read_files, changes.read_bytes) = read;
        Ok(Ok(Listed {
            identity,
            listing,
            rules,
            repository,
            base: outer.digest(),
            modes,
            problems,
            changes,
            removed,
            rules_changed,
        }))
    }

    /// The folder's own ignore file, where ignore files hold; git does not follow a link to one.
    fn ignore_file(
        &self,
        job: &Job,
        folder: &OwnedFd,
        names: &Names,
    ) -> Result<Option<(Status, Vec<u8>)>, ReadError> {
        const NAME: &[u8] = b".gitignore";
        if job.mode != Mode::Normal || names.find(NAME).is_none() {
            return Ok(None);
        }
        let status = system::status_at(folder, NAME)?;
        if status.stamp.kind() != Kind::File {
            return Ok(None);
        }
        self.probe.reading(&job.path, NAME)?;
        let place = Place { folder, path: &job.path, name: NAME, follow: false };
        place.content(status).map(Some)
    }

    /// Stats all candidates, and reads those whose stamps do not prove them unchanged.
    #[expect(clippy::type_complexity, reason = "taken apart at once by the one caller")]
    fn fill(
        &self,
        job: &Job,
        folder: &OwnedFd,
        candidates: &[Candidate<'_>],
        own: Option<(Status, Vec<u8>)>,
        now: i64,
        scratch: &mut Scratch,
    ) -> Result<(ListingBuilder, Vec<Mode>, Vec<(Vec<u8>, String)>, (u64, u64)), Restless> {
        let threads = if candidates.len() > MANY_NAMES { self.threads } else { 1 };
        let looks = parallel::map(candidates, threads, &mut (), |(), candidate| {
            self.look(folder, candidate, own.as_ref())
        });

        let unread: Vec<(usize, Status)> = looks
            .iter()
            .enumerate()
            .filter_map(|(at, look)| match look {
                Look::Unread(status) => Some((at, *status)),
                _ => None,
            })
            .collect();
        let bytes = unread.iter().map(|(_, status)| status.stamp.size).sum();
        let alone = unread.len() < MANY_NAMES && bytes < MANY_BYTES;
        let threads = if alone { 1 } else { self.threads };
        let digests = parallel::map(&unread, threads, &mut scratch.file, |buffer, (at, status)| {
            let name = candidates[*at].name;
            let place = Place { folder, path: &job.path, name, follow: false };
            place.digest(*status, buffer, self.probe)
        });
        let read = (unread.len() as u64, bytes);

        let mut digests = digests.into_iter();
        let mut builder = ListingBuilder::default();
        let (mut modes, mut problems) = (Vec::new(), Vec::new());
        for (candidate, look) in candidates.iter().zip(looks) {
            let forced = if candidate.forced { Entry::FORCED } else { 0 };
            let mut unknown = |status: Stamp, why: String| {
                problems.push((candidate.name.to_vec(), why));
                (status, Content::Unknown, 0)
            };
            let digested;
            let (stamp, content, flags) = match look {
                Look::Gone => return Err(Restless),
                Look::Folder => {
                    let (mode, inode) = candidate.folder.unwrap_or((job.mode, 0));
                    modes.push(mode);
                    (Stamp::of_folder(inode), Content::Folder(None), 0)
                }
                Look::Failed(error) => unknown(Stamp::default(), error.to_string()),
                Look::Known(status, content) => {
                    digested = status;
                    (status.stamp, content, self.flags(&digested, now))
                }
                Look::Unread(status) => match digests.next() {
                    Some(Ok((status, digest))) => {
                        (status.stamp, Content::Digest(digest), self.flags(&status, now))
                    }
                    None | Some(Err(ReadError::Gone)) => return Err(Restless),
                    Some(Err(ReadError::Restless)) => {
                        unknown(status.stamp, "it changes while it is read".to_owned())
                    }
                    Some(Err(ReadError::Failed(error))) => unknown(status.stamp, error.to_string()),
                },
            };
            builder.push(candidate.name, stamp, content, flags | forced);
        }
        Ok((builder, modes, problems, read))
    }

    fn flags(&self, status: &Status, now: i64) -> u8 {
        let settled = status.stamp.settled(now, self.margin);
        let shared = status.names > 1 && status.stamp.kind() == Kind::File;
        (if settled { Entry::SETTLED } else { 0 }) | (if shared { Entry::SHARED } else { 0 })
    }

    /// One look at a name: its stamp, and its content where that is known or is no file's.
    fn look(
        &self,
        folder: &OwnedFd,
        candidate: &Candidate<'_>,
        own: Option<&(Status, Vec<u8>)>,
    ) -> Look {
        if candidate.folder.is_some() {
            return Look::Folder;
        }
        if let Some((status, text)) = own
            && candidate.name == b".gitignore"
        {
            // The very bytes that the rules were made of.
            return Look::Known(*status, Content::Digest(Digest::of(text)));
        }
        let status = match system::status_at(folder, candidate.name) {
            Ok(status) => status,
            Err(error) if read::is_absence(&error) => return Look::Gone,
            Err(error) => return Look::Failed(error),
        };
        let kind = status.stamp.kind();
        if kind == Kind::Folder {
            return Look::Gone;
        }
        if let Some(old) = candidate.old
            && old.stamp == status.stamp
            && old.is(Entry::SETTLED)
            && matches!(old.content, Content::Digest(_) | Content::Nothing)
        {
            return Look::Known(status, old.content);
        }
        match kind {
            Kind::File => Look::Unread(status),
            Kind::Link => match system::read_link(folder, candidate.name) {
                Ok(text) => Look::Known(status, Content::Digest(Digest::of(&text))),
                Err(error) if read::is_absence(&error) => Look::Gone,
                // No longer a link.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Look::Gone,
                Err(error) => Look::Failed(error),
            },
            _ => Look::Known(status, Content::Nothing),
        }
    }
}

/// A folder's message.
const RESTLESS: &str = "it changes while it is listed";

impl Job {
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
            previous: Previous::Memo,
            expected: None,
            inode: 0,
        }
    }
}
