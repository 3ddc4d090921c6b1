//! Has the system read programs in that will be needed soon.
//!
//! What was just linked is in memory anyway. The test programs of a package that will be wanted
//! next may not be: an answer reads them whole, to see whether they differ, and then runs them.

use std::fs::File;
use std::path::{Path, PathBuf};

/// How many bytes are read in after one build.
const BYTES: u64 = 512 * 1024 * 1024;

/// Reads these in, in this order, as far as the bound allows; tells nobody, and waits for nothing.
pub(super) fn read_in(programs: Vec<PathBuf>) {
    tokio::task::spawn_blocking(move || {
        let mut left = BYTES;
        for program in programs {
            let Some(bytes) = ask_for(&program, left) else { continue };
            left = left.saturating_sub(bytes);
        }
    });
}

/// Asks the system to read a file; how many bytes those are, `None` if it is too large or not
/// there.
fn ask_for(program: &Path, most: u64) -> Option<u64> {
    let file = File::open(program).ok()?;
    let bytes = file.metadata().ok()?.len();
    if bytes > most {
        return None;
    }
    // It reads whenever it has nothing better to do; we do not wait for it.
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed).ok()?;
    #[cfg(not(target_os = "linux"))]
    std::io::copy(&mut &file, &mut std::io::sink()).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_gone_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        std::fs::write(&file, [0; 5_000]).unwrap();
        assert_eq!(ask_for(&file, 5_000), Some(5_000));
        assert_eq!(ask_for(&file, 4_999), None);
        assert_eq!(ask_for(&dir.path().join("gone"), 5_000), None);
    }
}
