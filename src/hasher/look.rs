//! One look at each name that counts: its stamp, and its content where the stamp does not prove
//! that it is the one that was known.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::SystemTime;

use super::parallel;
use super::read::{self, Buffer, FileLocation, Probe, ReadError};
use super::system;
use super::tree::{EntryContent, FolderListing, FolderListingBuilder, TreeEntry, WalkMode};
use crate::model::Digest;
use crate::workspace::{FileKind, Stamp};

/// A folder with more names than this is worth several threads of its own.
const MANY_NAMES: usize = 2_048;
/// So are files of more bytes than this, together.
const MANY_BYTES: u64 = 16 << 20;

/// A file that decides what counts, looked at before the rest of its folder.
pub(super) struct DecidingFile {
    pub name: &'static [u8],
    /// When it was looked at.
    pub stamp: Stamp,
    pub content: Digest,
    /// The bytes of its text, unless the stamp proved that they were known.
    pub read: Option<u64>,
    /// What a manifest says.
    pub flags: u8,
}

/// A name that counts, before anything is known of it.
pub(super) struct Candidate<'a> {
    pub name: &'a [u8],
    /// How to walk it, and its inode, if the listing says that it is a folder.
    pub folder: Option<(WalkMode, u64)>,
    /// The rules alone would ignore it.
    pub forced: bool,
    /// The entry of the listing before.
    pub old: Option<&'a TreeEntry>,
}

/// The candidates with their stamps and contents.
pub(super) struct FolderContents {
    pub builder: FolderListingBuilder,
    /// How to walk each folder.
    pub modes: Vec<WalkMode>,
    /// Names whose content is not known, and why.
    pub problems: Vec<(Vec<u8>, String)>,
    pub read_files: u64,
    pub read_bytes: u64,
}

/// The result of one look at a candidate.
enum EntryStatus {
    Folder,
    Known(Stamp, EntryContent),
    Unread(Stamp),
    /// It is not what the listing said: list again.
    Gone,
    Failed(io::Error),
}

/// Why an attempt to list a folder came to nothing.
pub(super) enum Trouble {
    /// It changed meanwhile.
    Restless,
    Failed(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone | ReadError::Restless => Self::Restless,
            ReadError::Failed(error) => Self::Failed(error),
        }
    }
}

/// Looks at names in one open folder.
pub(super) struct FolderReader<'a> {
    pub folder: &'a OwnedFd,
    /// Its path.
    pub path: &'a Path,
    pub mode: WalkMode,
    /// The listing before.
    pub old: Option<&'a FolderListing>,
    /// When, before anything was looked at.
    pub now: SystemTime,
    pub threads: usize,
    pub probe: &'a Probe,
}

impl FolderReader<'_> {
    /// Stats all candidates, and reads those whose stamps do not prove them unchanged.
    pub(super) fn contents(
        &self,
        candidates: &[Candidate<'_>],
        deciding: &[DecidingFile],
        buffer: &mut Buffer,
    ) -> Result<FolderContents, Trouble> {
        let threads = if candidates.len() > MANY_NAMES { self.threads } else { 1 };
        let looks = parallel::map(candidates, threads, &mut (), |(), candidate| {
            self.look(candidate, deciding)
        });

        let unread = looks.iter().zip(candidates).filter_map(|(look, candidate)| match look {
            EntryStatus::Unread(stamp) => Some((candidate.name, *stamp)),
            _ => None,
        });
        let unread: Vec<(&[u8], Stamp)> = unread.collect();
        let read_bytes = unread.iter().map(|(_, stamp)| stamp.size).sum();
        let few = unread.len() < MANY_NAMES && read_bytes < MANY_BYTES;
        let threads = if few { 1 } else { self.threads };
        let digests = parallel::map(&unread, threads, buffer, |buffer, unread| {
            let (name, stamp) = *unread;
            let place = FileLocation { folder: self.folder, path: self.path, name, follow: false };
            place.digest(stamp, buffer, self.probe)
        });
        let mut digests = digests.into_iter();

        let names = candidates.iter().map(|candidate| candidate.name.len()).sum();
        let mut contents = FolderContents {
            builder: FolderListingBuilder::with_room(candidates.len(), names),
            modes: Vec::new(),
            problems: Vec::new(),
            read_files: unread.len() as u64,
            read_bytes,
        };
        for bytes in deciding.iter().filter_map(|file| file.read) {
            contents.read_files += 1;
            contents.read_bytes += bytes;
        }
        for (candidate, look) in candidates.iter().zip(looks) {
            let (stamp, content) = match look {
                EntryStatus::Gone => return Err(Trouble::Restless),
                EntryStatus::Folder => {
                    let (mode, inode) = candidate.folder.unwrap_or((self.mode, 0));
                    contents.modes.push(mode);
                    (Stamp::of_listed_folder(inode), Ok(EntryContent::Folder(None)))
                }
                EntryStatus::Known(stamp, content) => (stamp, Ok(content)),
                EntryStatus::Failed(error) => (Stamp::default(), Err(error.to_string())),
                EntryStatus::Unread(stamp) => match digests.next() {
                    Some(Ok((stamp, digest))) => (stamp, Ok(EntryContent::Digest(digest))),
                    None | Some(Err(ReadError::Gone)) => return Err(Trouble::Restless),
                    Some(Err(ReadError::Restless)) => (stamp, Err(read::UNSTABLE_FILE.to_owned())),
                    Some(Err(ReadError::Failed(error))) => (stamp, Err(error.to_string())),
                },
            };
            let forced = if candidate.forced { TreeEntry::FORCED } else { 0 };
            let said = deciding.iter().find(|file| file.name == candidate.name);
            let flags = forced | self.flags(&stamp) | said.map_or(0, |file| file.flags);
            let content = content.unwrap_or_else(|why| {
                contents.problems.push((candidate.name.to_vec(), why));
                EntryContent::Unknown
            });
            contents.builder.push(candidate.name, stamp, content, flags);
        }
        Ok(contents)
    }

    fn flags(&self, stamp: &Stamp) -> u8 {
        let settled = self.probe.is_settled(stamp, self.now);
        let shared = stamp.links > 1 && stamp.kind() == FileKind::File;
        (if settled { TreeEntry::SETTLED } else { 0 })
            | (if shared { TreeEntry::SHARED } else { 0 })
    }

    /// One look at a name: its stamp, and its content where that is known or is no file's.
    fn look(&self, candidate: &Candidate<'_>, deciding: &[DecidingFile]) -> EntryStatus {
        if candidate.folder.is_some() {
            return EntryStatus::Folder;
        }
        if let Some(file) = deciding.iter().find(|file| file.name == candidate.name) {
            // The very bytes that decided.
            return EntryStatus::Known(file.stamp, EntryContent::Digest(file.content));
        }
        let stamp = match Stamp::at(self.folder, candidate.name) {
            Ok(stamp) => stamp,
            Err(error) if read::is_absence(&error) => return EntryStatus::Gone,
            Err(error) => return EntryStatus::Failed(error),
        };
        let kind = stamp.kind();
        if kind == FileKind::Folder {
            return EntryStatus::Gone;
        }
        let proven = self.old.zip(candidate.old).and_then(|(old, entry)| old.proven(entry, &stamp));
        if let Some(content) = proven {
            return EntryStatus::Known(stamp, content);
        }
        match kind {
            FileKind::File => EntryStatus::Unread(stamp),
            FileKind::Symlink => match system::read_link(self.folder, candidate.name) {
                Ok(text) => EntryStatus::Known(stamp, EntryContent::Digest(Digest::of(&text))),
                Err(error) if read::is_absence(&error) => EntryStatus::Gone,
                // No longer a link.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => EntryStatus::Gone,
                Err(error) => EntryStatus::Failed(error),
            },
            _ => EntryStatus::Known(stamp, EntryContent::Nothing),
        }
    }
}
