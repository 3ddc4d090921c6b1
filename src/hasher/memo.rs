//! The result of a scan, kept for the next process: stamps and digests, in one flat file.
//!
//! The file is a hint. A scan lists and stats everything all the same, and believes a digest only
//! where the file's stamp is exactly the one that was kept, and was settled then.
//!
//! Layout, all numbers little-endian: magic, format version, digest of the options; the tracked
//! files of each repository; the folders, each with its path from the main root, the digest of
//! its ignore rules, its mode and its entries; last the SHA-256 of everything before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::git::Tracked;
use super::tree::{
    EntryContent, FileTree, FolderId, FolderListing, FolderListingBuilder, TreeEntry, WalkMode,
};
use crate::model::Digest;
use crate::workspace::Stamp;

const MAGIC: &[u8; 8] = b"ktcmemo\0";
/// Raised with every change of the layout, or of what its fields mean.
const MEMO_FORMAT: u32 = 3;

/// Why a memo cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MemoError {
    #[error("it is not a memo")]
    Foreign,
    #[error("its format is another version's")]
    Version,
    #[error("it is damaged")]
    Damaged,
}

/// A memo that was read back.
pub(super) struct TreeMemo {
    bytes: Vec<u8>,
    /// The offset of each folder's part, by its path from the main root.
    folders: HashMap<Box<[u8]>, usize>,
    /// The options under which it was made.
    pub options: Digest,
    /// As in the hasher.
    pub tracked: BTreeMap<PathBuf, Tracked>,
}

/// The content of a memo.
pub(super) struct MemoSource<'a> {
    pub tree: &'a FileTree,
    /// Each root's label and top folder.
    pub tops: Vec<(&'a [u8], FolderId)>,
    pub options: Digest,
    pub tracked: &'a BTreeMap<PathBuf, Tracked>,
}

/// The bytes of a memo.
pub(super) fn encode(source: &MemoSource<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&MEMO_FORMAT.to_le_bytes());
    out.extend_from_slice(source.options.as_bytes());
    put_number(&mut out, source.tracked.len());
    for (folder, tracked) in source.tracked {
        put_bytes(&mut out, folder.as_os_str().as_bytes());
        out.push(tracked.index.is_some().into());
        out.extend_from_slice(&tracked.index.unwrap_or_default().to_bytes());
        for files in [&tracked.files, &tracked.manifests] {
            put_number(&mut out, files.len());
            files.iter().for_each(|file| put_bytes(&mut out, file));
        }
    }
    let count_at = out.len();
    put_number(&mut out, 0);
    let mut count = 0;
    for (label, top) in &source.tops {
        let mut next = vec![(*top, label.to_vec())];
        while let Some((id, path)) = next.pop() {
            let listing = &source.tree.folder(id).listing;
            put_folder(&mut out, &path, listing);
            count += 1;
            next.extend(
                listing.folders().map(|(name, id)| (id, super::options::join(&path, name))),
            );
        }
    }
    out[count_at..count_at + 4].copy_from_slice(&u32::try_from(count).unwrap_or(0).to_le_bytes());
    let digest = Digest::of(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

fn put_folder(out: &mut Vec<u8>, path: &[u8], listing: &FolderListing) {
    put_bytes(out, path);
    let length_at = out.len();
    put_number(out, 0);
    out.extend_from_slice(listing.rules.as_bytes());
    out.push(listing.mode as u8);
    put_number(out, listing.entries().len());
    for (name, entry) in listing.iter() {
        out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(name);
        out.push(entry.flags());
        out.extend_from_slice(&listing.stamp(entry).to_bytes());
        match entry.content {
            EntryContent::Digest(digest) => {
                out.push(1);
                out.extend_from_slice(digest.as_bytes());
            }
            EntryContent::Folder(_) => out.push(2),
            EntryContent::Nothing => out.push(3),
            EntryContent::Unknown => out.push(0),
        }
    }
    let length = u32::try_from(out.len() - length_at - 4).unwrap_or(u32::MAX);
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}

/// A tree of four thousand million names does not fit in memory either.
fn put_number(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// A memo's body between a head and a digest that fit.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn with_digest(body: &[u8]) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &MEMO_FORMAT.to_le_bytes(), body].concat();
    bytes.extend_from_slice(Digest::of(&bytes).as_bytes());
    bytes
}

impl TreeMemo {
    /// Reads a memo back. The digest is checked first, so that nothing is believed of a file that
    /// was cut short or written over.
    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, MemoError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(MemoError::Foreign)?;
        if !rest.starts_with(&MEMO_FORMAT.to_le_bytes()) {
            return Err(MemoError::Version);
        }
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or(MemoError::Damaged)?;
        if Digest::of(body).as_bytes() != digest {
            return Err(MemoError::Damaged);
        }
        let mut reader = MemoReader { bytes: body, at: MAGIC.len() + 4 };
        let mut parse = || {
            let options = reader.digest()?;
            let mut tracked = BTreeMap::new();
            for _ in 0..reader.number()? {
                let folder = PathBuf::from(OsStr::from_bytes(reader.bytes()?));
                let has_index = reader.byte()? != 0;
                let stamp = reader.stamp()?;
                let (files, manifests) = (reader.files()?, reader.files()?);
                let index = has_index.then_some(stamp);
                tracked.insert(folder, Tracked { index, files, manifests });
            }
            let mut folders = HashMap::new();
            for _ in 0..reader.number()? {
                let path = reader.bytes()?.into();
                let length = reader.number()?;
                folders.insert(path, reader.at);
                reader.take(length)?;
            }
            Some((options, tracked, folders))
        };
        let (options, tracked, folders) = parse().ok_or(MemoError::Damaged)?;
        Ok(Self { bytes, folders, options, tracked })
    }

    /// The folders in it.
    #[cfg(feature = "fuzzing")]
    pub(super) fn paths(&self) -> impl Iterator<Item = &[u8]> {
        self.folders.keys().map(|path| &**path)
    }

    /// Reads the memo in `file`; an error is an error of reading, the inner one of its content.
    pub(super) fn read(file: &Path) -> std::io::Result<Result<Self, MemoError>> {
        Ok(Self::decode(std::fs::read(file)?))
    }

    /// The listing of the folder at this path from the main root.
    pub(super) fn listing(&self, path: &[u8]) -> Option<FolderListing> {
        let at = *self.folders.get(path)?;
        let mut reader = MemoReader { bytes: &self.bytes, at };
        let rules = reader.digest()?;
        let mode = WalkMode::from_byte(reader.byte()?)?;
        let count = reader.number()?;
        // No more room than the file itself could fill.
        let room = count.min(self.bytes.len() / 50);
        let mut builder = FolderListingBuilder::with_room(room, room * 16);
        for _ in 0..count {
            let length = u16::from_le_bytes(reader.array()?);
            let name = reader.take(length.into())?;
            let flags = reader.byte()?;
            let stamp = reader.stamp()?;
            let (content, flags) = match reader.byte()? {
                1 => (EntryContent::Digest(reader.digest()?), flags),
                2 => (EntryContent::Folder(None), flags),
                3 => (EntryContent::Nothing, flags),
                _ => (EntryContent::Unknown, flags & !TreeEntry::SETTLED),
            };
            builder.push(name, stamp, content, flags);
        }
        Some(builder.finish_remembered(rules, mode))
    }
}

/// Takes a memo apart; `None` where it ends too early.
struct MemoReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> MemoReader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn files(&mut self) -> Option<BTreeSet<Vec<u8>>> {
        let count = self.number()?;
        (0..count).map(|_| self.bytes().map(<[u8]>::to_vec)).collect()
    }

    fn digest(&mut self) -> Option<Digest> {
        self.array().map(Digest::from_bytes)
    }

    fn stamp(&mut self) -> Option<Stamp> {
        self.array().map(|bytes: [u8; Stamp::BYTES]| Stamp::from_bytes(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_the_file_cannot_hold_reserves_no_room() {
        let count = u32::MAX.to_le_bytes();
        let listing = [&[0; 32][..], &[WalkMode::Normal as u8], &count].concat();
        let mut body = vec![0; 32];
        put_number(&mut body, 0);
        put_number(&mut body, 1);
        put_bytes(&mut body, b"folder");
        put_bytes(&mut body, &listing);
        let memo = TreeMemo::decode(with_digest(&body)).expect("its digest fits");
        assert!(memo.listing(b"folder").is_none());
    }
}
