//! What can be read from standard input: nothing, or it is no run that is kept.

use std::io::IsTerminal as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::time::{Duration, SystemTime};

/// What can be read from standard input.
pub(super) struct Stdin {
    pub(super) kind: &'static str,
    /// A pipe's time of change: nobody has written into it while that is the same.
    written: Option<(i64, i64)>,
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
        let time = (metadata.mtime(), metadata.mtime_nsec());
        let null = std::fs::metadata("/dev/null").ok()?;
        if kind.is_char_device() && metadata.rdev() == null.rdev() {
            return Some(Self { kind: "null", written: None });
        }
        // A later write shows, however coarse the clock.
        let since = SystemTime::now().duration_since(metadata.modified().ok()?).ok()?;
        if since < Duration::from_millis(25) {
            return None;
        }
        let empty = || rustix::io::ioctl_fionread(&file).is_ok_and(|count| count == 0);
        (kind.is_fifo() && empty()).then_some(Self { kind: "pipe", written: Some(time) })
    }

    /// Whether there was nothing to read all the time.
    pub(super) fn is_untouched(&self) -> bool {
        Self::now().is_some_and(|now| now.kind == self.kind && now.written == self.written)
    }
}
