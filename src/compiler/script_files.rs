//! What cargo leaves of a build script's run.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file that cargo writes when it runs the build script that writes into `out_dir`.
pub(super) fn script_run_file(out_dir: &Path) -> Option<PathBuf> {
    let folder = out_dir.parent()?;
    // The time of its output is that of the script's end.
    let files = ["invoked.timestamp", "output", "run/stdout"].map(|name| folder.join(name));
    files.into_iter().find(|file| file.is_file())
}

/// When the last run of that script began.
pub(super) fn script_ran_at(out_dir: &Path) -> Option<SystemTime> {
    script_run_file(out_dir)?.metadata().ok()?.modified().ok()
}

/// What the build script that writes into `out_dir` has printed, and the file that says so.
pub(crate) fn script_output(out_dir: &Path) -> Option<(PathBuf, Vec<u8>)> {
    let folder = out_dir.parent()?;
    let files = ["output", "run/stdout"].map(|name| folder.join(name));
    files.into_iter().find_map(|file| std::fs::read(&file).ok().map(|text| (file, text)))
}
