//! What this process may do with a path, where that is what a run has learnt of it.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use crate::workspace::{FileKind, PathStamp, Stamp};

/// Whether a file can be written under this name: the name is free, or that of a writable file.
pub(super) fn is_overwritable(path: &Path) -> bool {
    match PathStamp::of(path).kind() {
        None => PathStamp::of(path) == PathStamp::Absent,
        Some(FileKind::File) => accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok(),
        Some(_) => false,
    }
}

/// The folder that keeps this process from looking at `path`: it may neither be listed nor searched.
/// While its stamp is the same, nobody has opened it meanwhile.
pub(super) fn closed_folder(path: &Path) -> Option<Stamp> {
    let denied = PathStamp::Unknown(Errno::ACCESS.raw_os_error());
    if PathStamp::of(path) != denied {
        return None;
    }
    let looks = path.ancestors().skip(1).map(|folder| (folder, PathStamp::of(folder)));
    let (folder, stamp) = looks.into_iter().find(|(_, stamp)| *stamp != denied)?;
    let is_refused =
        |way| accessat(CWD, folder, way, AtFlags::EACCESS).is_err_and(|why| why == Errno::ACCESS);
    match stamp {
        PathStamp::Present(stamp) if stamp.kind() == FileKind::Folder => {
            (is_refused(Access::READ_OK) && is_refused(Access::EXEC_OK)).then_some(stamp)
        }
        _ => None,
    }
}
