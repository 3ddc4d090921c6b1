//! One look at each name that counts: its stamp, and its content where the stamp does not prove
//! that it is the one that was known.

use std::io;

use super::parallel;
use super::read::{self, Place, ReadError};
use super::system::{self, Kind, Stamp, Status};
use super::tree::{Content, Entry, ListingBuilder, Mode};
use super::walk::{Open, Scratch, Trouble, Walk};
use crate::model::Digest;

/// A folder with more names than this is worth several threads of its own.
const MANY_NAMES: usize = 2_048;
/// So are files of more bytes than this, together.
const MANY_BYTES: u64 = 16 << 20;

/// An ignore file: its status when it was read, and its text.
pub(super) type IgnoreFile = (Status, Vec<u8>);

/// A name that counts, before anything is known of it.
pub(super) struct Candidate<'a> {
    pub name: &'a [u8],
    /// How to walk it, and its inode, if the listing says that it is a folder.
    pub folder: Option<(Mode, u64)>,
    /// The rules alone would ignore it.
    pub forced: bool,
    /// What was known of it before.
    pub old: Option<&'a Entry>,
}

/// What the candidates turned out to be.
pub(super) struct Contents {
    pub builder: ListingBuilder,
    /// How to walk each folder.
    pub modes: Vec<Mode>,
    /// Names whose content is not known, and why.
    pub problems: Vec<(Vec<u8>, String)>,
    pub read_files: u64,
    pub read_bytes: u64,
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

impl Walk<'_> {
    /// Stats all candidates, and reads those whose stamps do not prove them unchanged.
    pub(super) fn contents(
        &self,
        open: &Open<'_>,
        candidates: &[Candidate<'_>],
        own: Option<&IgnoreFile>,
        scratch: &mut Scratch,
    ) -> Result<Contents, Trouble> {
        let threads = if candidates.len() > MANY_NAMES { self.threads } else { 1 };
        let looks = parallel::map(candidates, threads, &mut (), |(), candidate| {
            self.look(open, candidate, own)
        });

        let unread = looks.iter().zip(candidates).filter_map(|(look, candidate)| match look {
            Look::Unread(status) => Some((candidate.name, *status)),
            _ => None,
        });
        let unread: Vec<(&[u8], Status)> = unread.collect();
        let read_bytes = unread.iter().map(|(_, status)| status.stamp.size).sum();
        let few = unread.len() < MANY_NAMES && read_bytes < MANY_BYTES;
        let threads = if few { 1 } else { self.threads };
        let digests = parallel::map(&unread, threads, &mut scratch.file, |buffer, unread| {
            let (name, status) = *unread;
            let place = Place { folder: open.folder, path: &open.job.path, name, follow: false };
            place.digest(status, buffer, self.probe)
        });
        let mut digests = digests.into_iter();

        let names = candidates.iter().map(|candidate| candidate.name.len()).sum();
        let mut contents = Contents {
            builder: ListingBuilder::with_room(candidates.len(), names),
            modes: Vec::new(),
            problems: Vec::new(),
            read_files: unread.len() as u64,
            read_bytes,
        };
        for (candidate, look) in candidates.iter().zip(looks) {
            let (status, content) = match look {
                Look::Gone => return Err(Trouble::Restless),
                Look::Folder => {
                    let (mode, inode) = candidate.folder.unwrap_or((open.job.mode, 0));
                    contents.modes.push(mode);
                    let stamp = Stamp::of_folder(inode);
                    (Status { stamp, names: 1 }, Ok(Content::Folder(None)))
                }
                Look::Known(status, content) => (status, Ok(content)),
                Look::Failed(error) => {
                    (Status { stamp: Stamp::default(), names: 1 }, Err(error.to_string()))
                }
                Look::Unread(status) => match digests.next() {
                    Some(Ok((status, digest))) => (status, Ok(Content::Digest(digest))),
                    None | Some(Err(ReadError::Gone)) => return Err(Trouble::Restless),
                    Some(Err(ReadError::Restless)) => {
                        (status, Err("it changes while it is read".to_owned()))
                    }
                    Some(Err(ReadError::Failed(error))) => (status, Err(error.to_string())),
                },
            };
            let forced = if candidate.forced { Entry::FORCED } else { 0 };
            let flags = forced | self.flags(&status, open.now);
            let content = content.unwrap_or_else(|why| {
                contents.problems.push((candidate.name.to_vec(), why));
                Content::Unknown
            });
            contents.builder.push(candidate.name, status.stamp, content, flags);
        }
        Ok(contents)
    }

    fn flags(&self, status: &Status, now: i64) -> u8 {
        let settled = status.stamp.settled(now, self.margin);
        let shared = status.names > 1 && status.stamp.kind() == Kind::File;
        (if settled { Entry::SETTLED } else { 0 }) | (if shared { Entry::SHARED } else { 0 })
    }

    /// One look at a name: its stamp, and its content where that is known or is no file's.
    fn look(&self, open: &Open<'_>, candidate: &Candidate<'_>, own: Option<&IgnoreFile>) -> Look {
        if candidate.folder.is_some() {
            return Look::Folder;
        }
        if let Some((status, text)) = own
            && candidate.name == b".gitignore"
        {
            // The very bytes that the rules were made of.
            return Look::Known(*status, Content::Digest(Digest::of(text)));
        }
        let status = match system::status_at(open.folder, candidate.name) {
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
            Kind::Link => match system::read_link(open.folder, candidate.name) {
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
