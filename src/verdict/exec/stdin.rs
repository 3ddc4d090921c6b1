//! What can be read from standard input: nothing, or it is no run that is kept.

use std::io::IsTerminal as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::time::SystemTime;

use crate::workspace::Stamp;

/// What can be read from standard input.
pub(super) struct Stdin {
    pub(super) kind: &'static str,
    /// A pipe's stamp: nobody has written into it while that is the same.
    written: Option<Stamp>,
}

impl Stdin {
    /// `None` if there is or may be something to read.
    pub(super) fn now() -> Option<Self> {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Some(Self { kind: "terminal", written: None });
        }
        // Through the descriptor itself, not through a name of it.
        let file = std::fs::File::from(rustix::io::dup(&stdin).ok()?);
        let metadata = file.metadata().ok()?;
        let kind = metadata.file_type();
        let null = std::fs::metadata("/dev/null").ok()?;
        if kind.is_char_device() && metadata.rdev() == null.rdev() {
            return Some(Self { kind: "null", written: None });
        }
        let now = SystemTime::now();
        let stamp = Stamp::open(&file).ok()?;
        if !stamp.is_settled(now) {
            return None;
        }
        let empty = || rustix::io::ioctl_fionread(&file).is_ok_and(|count| count == 0);
        (kind.is_fifo() && empty()).then_some(Self { kind: "pipe", written: Some(stamp) })
    }

    /// Whether there was nothing to read all the time.
    pub(super) fn is_untouched(&self) -> bool {
        Self::now().is_some_and(|now| now.kind == self.kind && now.written == self.written)
    }
}
