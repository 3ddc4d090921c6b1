//! A snapshot as a list of its files, small enough to keep beside a record: with it, a later
//! miss can be explained by the files that differ.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use crate::model::Digest;

/// Magic and format version.
const HEADER: &[u8; 8] = b"ktclist\x02";
/// How many bytes of each digest are kept: all. Keys that machines share are made of them, and whoever
/// can choose two files must not find two that a part of a digest does not tell apart.
const DIGEST_BYTES: usize = 32;

/// The files of a snapshot: paths from the main root (`../dep/…` outside it), kind, executable
/// bit and content. Folders are listed only where nothing that counts lies in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest(Vec<u8>);

/// How a file differs between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileDifference {
    /// Only in the later one.
    Added,
    /// Only in the earlier one.
    Removed,
    /// Other content, or another kind of thing.
    Modified,
    /// The same content, but executable in only one of them.
    Mode,
}

/// One file that differs between two snapshots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileChange {
    /// From the main root.
    pub path: PathBuf,
    /// How.
    pub difference: FileDifference,
}

/// For a person.
impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.difference {
            FileDifference::Added => "added",
            FileDifference::Removed => "removed",
            FileDifference::Modified => "changed",
            FileDifference::Mode => "made (not) executable",
        };
        write!(f, "{} {word}", self.path.display())
    }
}

/// One path of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedEntry {
    /// From the main root.
    pub path: PathBuf,
    /// `f` for a file, `x` for one that may be executed, `l` for a link; others are no files.
    pub sort: u8,
    /// The digest of the content; zeros where there is none.
    pub content: Digest,
}

/// Bytes that are not a manifest of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of files in this version's format")]
pub(crate) struct ManifestError;

/// Takes files in the order of their paths.
pub(super) struct ManifestBuilder {
    bytes: Vec<u8>,
    last: Vec<u8>,
}

impl ManifestBuilder {
    pub(super) fn new() -> Self {
        Self { bytes: HEADER.to_vec(), last: Vec::new() }
    }

    /// Adds a path with its sort and, where it has content, the content's digest.
    pub(super) fn push(&mut self, path: &[u8], sort: u8, content: Option<&Digest>) {
        let shared = path.iter().zip(&self.last).take_while(|(a, b)| a == b).count();
        put_number(&mut self.bytes, shared);
        put_number(&mut self.bytes, path.len() - shared);
        self.bytes.extend_from_slice(&path[shared..]);
        self.bytes.push(sort);
        let content = content.map_or([0; DIGEST_BYTES], |digest| *digest.as_bytes());
        self.bytes.extend_from_slice(&content);
        self.last.clear();
        self.last.extend_from_slice(path);
    }

    pub(super) fn finish(self) -> Manifest {
        Manifest(self.bytes)
    }
}

/// Seven bits a byte, the lowest first.
fn put_number(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

impl Manifest {
    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A manifest from its stored bytes.
    ///
    /// # Errors
    /// If they are anything else: of another version, cut short, out of order.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Self, ManifestError> {
        let manifest = Self(bytes);
        if !manifest.0.starts_with(HEADER) {
            return Err(ManifestError);
        }
        let mut reader = manifest.reader();
        let mut last: Option<Vec<u8>> = None;
        while reader.at < manifest.0.len() {
            let (_, _) = reader.next().ok_or(ManifestError)?;
            if last.is_some_and(|last| order(&last, &reader.path) != Ordering::Less) {
                return Err(ManifestError);
            }
            last = Some(reader.path.clone());
        }
        Ok(manifest)
    }

    /// How many paths are listed.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let mut reader = self.reader();
        std::iter::from_fn(|| reader.next()).count()
    }

    /// All that is listed, in the order of the walk.
    pub(crate) fn entries(&self) -> impl Iterator<Item = ListedEntry> + '_ {
        let mut reader = self.reader();
        std::iter::from_fn(move || {
            let (sort, content) = reader.next()?;
            let path = PathBuf::from(OsStr::from_bytes(&reader.path));
            Some(ListedEntry { path, sort, content })
        })
    }

    /// Whether nothing is listed.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == HEADER.len()
    }

    /// The files that differ in `later`, in the order of the paths.
    #[must_use]
    pub(crate) fn diff(&self, later: &Self) -> Vec<FileChange> {
        let mut changes = Vec::new();
        let (mut old, mut new) = (self.reader(), later.reader());
        let (mut left, mut right) = (old.next(), new.next());
        loop {
            let which = match (left, right) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), Some(_)) => order(&old.path, &new.path),
            };
            let difference = match (which, left, right) {
                (Ordering::Less, ..) => Some(FileDifference::Removed),
                (Ordering::Greater, ..) => Some(FileDifference::Added),
                (Ordering::Equal, Some((was, before)), Some((is, after))) => {
                    let is_file = |sort: u8| matches!(sort, b'f' | b'x');
                    if before != after || (was != is && !(is_file(was) && is_file(is))) {
                        Some(FileDifference::Modified)
                    } else {
                        (was != is).then_some(FileDifference::Mode)
                    }
                }
                (Ordering::Equal, ..) => None,
            };
            let path = if which == Ordering::Greater { &new.path } else { &old.path };
            changes.extend(difference.map(|difference| FileChange {
                path: PathBuf::from(OsStr::from_bytes(path)),
                difference,
            }));
            if which != Ordering::Greater {
                left = old.next();
            }
            if which != Ordering::Less {
                right = new.next();
            }
        }
    }

    fn reader(&self) -> ManifestReader<'_> {
        ManifestReader { bytes: &self.0, at: HEADER.len(), path: Vec::new() }
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manifest({} bytes)", self.0.len())
    }
}

/// The order of a walk: a folder's files come right after its name.
pub(super) fn order(left: &[u8], right: &[u8]) -> Ordering {
    // No name holds a zero byte.
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    left.iter().map(rank).cmp(right.iter().map(rank))
}

struct ManifestReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The path of the entry that was read last.
    path: Vec<u8>,
}

impl ManifestReader<'_> {
    /// The next entry's sort and content; its path is in `path`.
    fn next(&mut self) -> Option<(u8, Digest)> {
        let shared = self.number()?;
        let length = self.number()?;
        let end = self.at.checked_add(length)?;
        let rest = self.bytes.get(self.at..end)?;
        if shared > self.path.len() {
            return None;
        }
        self.path.truncate(shared);
        self.path.extend_from_slice(rest);
        let sort = *self.bytes.get(end)?;
        let content = self.bytes.get(end + 1..end + 1 + DIGEST_BYTES)?.try_into().ok()?;
        self.at = end + 1 + DIGEST_BYTES;
        Some((sort, Digest::from_bytes(content)))
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0_usize;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            number |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(files: &[(&str, u8, &str)]) -> Manifest {
        let mut builder = ManifestBuilder::new();
        for (path, sort, content) in files {
            builder.push(path.as_bytes(), *sort, Some(&Digest::of(content.as_bytes())));
        }
        builder.finish()
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let old = manifest(&[
            ("a", b'f', "1"),
            ("a/x", b'f', "1"),
            ("a.b", b'f', "1"),
            ("gone", b'f', "1"),
            ("link", b'l', "1"),
            ("run", b'f', "1"),
        ]);
        let new = manifest(&[
            ("a", b'f', "1"),
            ("a/x", b'f', "2"),
            ("a.b", b'f', "1"),
            ("link", b'f', "1"),
            ("new", b'f', "1"),
            ("run", b'x', "1"),
        ]);
        let told: Vec<_> = old.diff(&new).into_iter().map(|c| (c.path, c.difference)).collect();
        let expected = [
            ("a/x", FileDifference::Modified),
            ("gone", FileDifference::Removed),
            ("link", FileDifference::Modified),
            ("new", FileDifference::Added),
            ("run", FileDifference::Mode),
        ];
        assert_eq!(told, expected.map(|(path, difference)| (PathBuf::from(path), difference)));
        assert!(old.diff(&old).is_empty() && old.len() == 6 && !old.is_empty());
    }

    #[test]
    fn every_byte_of_a_digest_tells_contents_apart() {
        for at in 0..DIGEST_BYTES {
            let mut other = [7; DIGEST_BYTES];
            other[at] ^= 1;
            let of = |bytes| {
                let mut builder = ManifestBuilder::new();
                builder.push(b"a", b'f', Some(&Digest::from_bytes(bytes)));
                builder.finish()
            };
            let (one, other) = (of([7; DIGEST_BYTES]), of(other));
            assert_eq!(one.diff(&other).len(), 1, "byte {at}");
            assert_ne!(one.entries().next(), other.entries().next(), "byte {at}");
        }
    }

    #[test]
    fn nothing_but_a_whole_manifest_is_read_back() {
        let good = manifest(&[("a", b'f', "1"), ("b", b'f', "1")]);
        assert_eq!(Manifest::from_bytes(good.0.clone()), Ok(good.clone()));
        for cut in 0..good.0.len() {
            let read = Manifest::from_bytes(good.0[..cut].to_vec());
            assert!(read.is_err() || read.unwrap().len() < 2, "cut at {cut}");
        }
        let unsorted = manifest(&[("b", b'f', "1"), ("a", b'f', "1")]);
        assert_eq!(Manifest::from_bytes(unsorted.0), Err(ManifestError));
        assert_eq!(Manifest::from_bytes(b"anything".to_vec()), Err(ManifestError));
        let earlier = [&b"ktclist\x01"[..], &good.0[HEADER.len()..]].concat();
        assert_eq!(Manifest::from_bytes(earlier), Err(ManifestError));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>) {
            let _ = Manifest::from_bytes([&HEADER[..], &bytes].concat());
        }
    }
}
