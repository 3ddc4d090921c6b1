//! Digests of programs' loadable parts, each found by the program's path and file stamp. While
//! the stamp is the same, the program's hundred megabytes need not be read again. The digests mean
//! nothing to the cache.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tracing::debug;

use super::Cache;
use super::files::{self, Durability, Unread};
use super::layout::{Layout, UNFINISHED};
use crate::model::{Digest, Digester};

/// A memo as it lies on the disk.
#[derive(Debug)]
pub(super) struct ProgramMemo {
    pub(super) file: PathBuf,
    /// In bytes.
    pub(super) size: u64,
    pub(super) program: MemoSubject,
}

/// The program that a memo is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MemoSubject {
    /// This one.
    Program(PathBuf),
    /// Unknown: the file cannot be read now.
    Unknown,
    /// None, because the file is malformed; the text says how.
    Malformed(String),
}

impl Cache {
    /// The digest of the loadable parts of the program at this path, if it was stored with the same
    /// `proof`. A malformed memo is `None`.
    #[must_use]
    pub(crate) fn program_digest(&self, program: &Path, proof: &Digest) -> Option<Digest> {
        let bytes = files::read_short(&self.layout.program(program)).ok()?;
        let (state, sum, path) = parts(&bytes)?;
        (path == program && sum == check(program, proof, &state)).then_some(state)
    }

    /// Stores that digest. If it cannot be written, the program is read again next time.
    pub(crate) fn store_program_digest(&self, program: &Path, proof: &Digest, state: &Digest) {
        let sum = check(program, proof, state);
        let head = format!("{state} {sum} ");
        let text = [head.as_bytes(), program.as_os_str().as_bytes()];
        let file = self.layout.program(program);
        if let Err(error) = files::write(&file, &text, Durability::Process) {
            debug!(%error, "cannot store a program's digest");
        }
    }
}

/// The check sum by which a truncated or foreign file is recognised.
fn check(program: &Path, proof: &Digest, state: &Digest) -> Digest {
    let mut digester = Digester::new("program memo 2");
    digester.field(program.as_os_str().as_bytes()).digest(proof).digest(state);
    digester.finish()
}

/// The digest, the check sum, and the program's path.
pub(super) fn parts(bytes: &[u8]) -> Option<(Digest, Digest, &Path)> {
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let mut digest = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
    let (state, sum) = (digest()?, digest()?);
    Some((state, sum, Path::new(OsStr::from_bytes(parts.next()?))))
}

/// All memos. A file with another name than a memo's is not ours.
pub(super) fn memos(layout: &Layout) -> std::io::Result<Vec<ProgramMemo>> {
    let folder = layout.programs();
    let mut found = Vec::new();
    for (name, kind) in files::names(&folder)? {
        if kind.is_dir() || name.starts_with(UNFINISHED) || name.parse::<Digest>().is_err() {
            continue;
        }
        let file = folder.join(name);
        // Gone since it was listed: then it is not there.
        let Ok(metadata) = file.symlink_metadata() else { continue };
        let program = match files::read(&file) {
            Ok((bytes, _)) => match parts(&bytes) {
                Some((.., path)) if layout.program(path) == file => {
                    MemoSubject::Program(path.to_owned())
                }
                _ => MemoSubject::Malformed("truncated, changed, or of another version".to_owned()),
            },
            Err(Unread::Absent) => continue,
            Err(Unread::Malformed(what)) => MemoSubject::Malformed(what),
            Err(Unread::Failed(_)) => MemoSubject::Unknown,
        };
        found.push(ProgramMemo { file, size: metadata.len(), program });
    }
    Ok(found)
}
