//! The targets of symbolic links. The walk never follows a link, but a test that opens it
//! reads what is there: if that is a file, its content counts, wherever it lies. Nobody watches
//! such a place, so it is looked at again for every snapshot.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::CWD;

use super::options::{self, Scope};
use super::read::{self, Buffer, FileLocation, Probe, ReadError};
use crate::model::{Digest, Digester};
use crate::workspace::{FileKind, Stamp};

/// The target of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LinkTarget {
    Absent,
    Folder,
    /// A device, a socket.
    Special,
    /// Something in a target folder, there or not: it follows from what is counted already.
    Built,
    File {
        stamp: Stamp,
        settled: bool,
        digest: Digest,
    },
    Unknown(String),
}

impl LinkTarget {
    /// Adds what counts of it; `false` if that is not known.
    pub(super) fn add_to(&self, digester: &mut Digester) -> bool {
        match self {
            Self::Absent => digester.number(0),
            Self::Folder => digester.number(1),
            Self::Special => digester.number(2),
            Self::Built => digester.number(3),
            Self::File { stamp, digest, .. } => {
                digester.number(4 + u64::from(stamp.is_executable())).digest(digest)
            }
            Self::Unknown(_) => return false,
        };
        true
    }
}

/// Reads the targets of links.
pub(super) struct TargetReader<'a> {
    pub scope: &'a Scope,
    /// The digest of a counted file with this real path and stamp.
    pub counted: &'a dyn Fn(&Path, &Stamp) -> Option<Digest>,
    pub probe: &'a Probe,
}

impl TargetReader<'_> {
    /// Looks at what `link` leads to, reading it only if `old` does not prove it unchanged.
    pub(super) fn look(
        &self,
        link: &Path,
        old: Option<&LinkTarget>,
        buffer: &mut Buffer,
    ) -> LinkTarget {
        let now = SystemTime::now();
        let stamp = match Stamp::followed(link) {
            Ok(stamp) => stamp,
            Err(error) if is_nowhere(&error) => {
                let built = self.scope.is_built(&meant(link));
                return if built { LinkTarget::Built } else { LinkTarget::Absent };
            }
            Err(error) => return LinkTarget::Unknown(error.to_string()),
        };
        match stamp.kind() {
            FileKind::File => {}
            FileKind::Folder => return LinkTarget::Folder,
            _ => return LinkTarget::Special,
        }
        if let Some(LinkTarget::File { stamp: known, settled: true, .. }) = old
            && *known == stamp
        {
            return old.cloned().unwrap_or(LinkTarget::Absent);
        }
        let settled = self.probe.is_settled(&stamp, now);
        let Ok(real) = link.canonicalize() else {
            return LinkTarget::Unknown("it changes while it is read".to_owned());
        };
        if self.scope.is_built(&real) {
            return LinkTarget::Built;
        }
        if let Some(digest) = (self.counted)(&real, &stamp).filter(|_| settled) {
            return LinkTarget::File { stamp, settled, digest };
        }
        let name = link.as_os_str().as_bytes();
        let place = FileLocation { folder: CWD, path: Path::new(""), name, follow: true };
        match place.digest(stamp, buffer, self.probe) {
            Ok((stamp, digest)) => {
                let settled = self.probe.is_settled(&stamp, now);
                LinkTarget::File { stamp, settled, digest }
            }
            Err(ReadError::Gone | ReadError::Restless) => {
                LinkTarget::Unknown("what it leads to changes while it is read".to_owned())
            }
            Err(ReadError::Failed(error)) => LinkTarget::Unknown(error.to_string()),
        }
    }
}

/// Whether the error says that the link leads nowhere: to nothing, or round in a circle.
fn is_nowhere(error: &std::io::Error) -> bool {
    read::is_absence(error) || error.raw_os_error() == Some(libc::ELOOP)
}

/// The path that a dangling link leads to.
fn meant(link: &Path) -> PathBuf {
    let text = std::fs::read_link(link).unwrap_or_default();
    options::real(&link.parent().unwrap_or(Path::new("/")).join(text))
}

/// One link of the tree.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub path: PathBuf,
    /// As of the last scan; `None` before its end.
    pub target: Option<LinkTarget>,
    /// The scan in which that last changed.
    pub changed: u32,
}

/// All links, by their root's number and their path from it.
#[derive(Default)]
pub(super) struct Links(BTreeMap<(usize, Vec<u8>), Link>);

impl Links {
    /// The folder was listed: these are the links in it.
    pub(super) fn replace<'a>(
        &mut self,
        root: usize,
        folder: &[u8],
        path: &Path,
        names: impl Iterator<Item = &'a [u8]>,
    ) {
        let mut old = self.take(root, folder);
        for name in names {
            let below = options::join(folder, name);
            let link = old.remove(&below).unwrap_or_else(|| Link {
                path: path.join(std::ffi::OsStr::from_bytes(name)),
                target: None,
                changed: 0,
            });
            self.0.insert((root, below), link);
        }
    }

    /// Forgets the links in the folder itself, and gives them back.
    pub(super) fn take(&mut self, root: usize, folder: &[u8]) -> BTreeMap<Vec<u8>, Link> {
        if self.0.is_empty() {
            return BTreeMap::new();
        }
        let start = if folder.is_empty() { Vec::new() } else { [folder, b"/"].concat() };
        let inside =
            |path: &[u8]| path.strip_prefix(&*start).is_some_and(|name| !name.contains(&b'/'));
        let below = self.0.range((root, start.clone())..);
        let keys: Vec<_> = below
            .map(|(key, _)| key)
            .take_while(|(at, path)| *at == root && path.starts_with(&start))
            .filter(|(_, path)| inside(path))
            .cloned()
            .collect();
        keys.into_iter().filter_map(|key| Some((key.1.clone(), self.0.remove(&key)?))).collect()
    }

    /// All links in the order in which they are digested.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &[u8], &Link)> {
        self.0.iter().map(|((root, path), link)| (*root, &**path, link))
    }

    /// Looks at every target again, at the end of scan `generation`.
    pub(super) fn refresh(&mut self, eye: &TargetReader<'_>, generation: u32) {
        let mut buffer = None;
        for link in self.0.values_mut() {
            let buffer = buffer.get_or_insert_default();
            let target = eye.look(&link.path, link.target.as_ref(), buffer);
            if link.target.as_ref() != Some(&target) {
                link.changed = generation;
                link.target = Some(target);
            }
        }
    }
}
