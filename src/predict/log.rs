//! The text of `git log`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What to give `git log` besides `--name-only -z`, for [`parse`] to understand it.
pub const FORMAT: &str = "--format=%x01%H";

/// A commit as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logged {
    /// Its digest.
    pub id: String,
    /// What it changed, relative to the repository's top.
    pub paths: Vec<PathBuf>,
}

/// Takes a log apart, in its own order. What is cut off at the end is left out as far as it can be
/// told.
#[must_use]
pub fn parse(log: &[u8]) -> Vec<Logged> {
    // A commit is `\x01<id>\0` and, if it changed anything, `\n<path>\0<path>\0`; between two of
    // them may stand one more zero.
    let mut commits: Vec<Logged> = Vec::new();
    let whole = log.iter().rposition(|byte| *byte == 0).map_or(&[][..], |end| &log[..end]);
    for field in whole.split(|byte| *byte == 0) {
        let field = field.strip_prefix(b"\n").unwrap_or(field);
        match field.strip_prefix(b"\x01") {
            Some(id) => {
                let id = String::from_utf8_lossy(id).trim().to_owned();
                commits.push(Logged { id, paths: Vec::new() });
            }
            None if field.is_empty() => {}
            None => {
                if let Some(commit) = commits.last_mut() {
                    commit.paths.push(OsStr::from_bytes(field).into());
                }
            }
        }
    }
    commits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_with_and_without_files_and_odd_names() {
        let log = b"\x01aa\0\nsrc/lib.rs\0with\nnewline\0\x01bb\0\x01cc\0\nx\0";
        let found = parse(log);
        let paths: Vec<Vec<_>> = found
            .iter()
            .map(|commit| commit.paths.iter().map(|path| path.to_str().unwrap()).collect())
            .collect();
        assert_eq!(
            found.iter().map(|commit| &commit.id[..]).collect::<Vec<_>>(),
            ["aa", "bb", "cc"]
        );
        assert_eq!(paths, [vec!["src/lib.rs", "with\nnewline"], vec![], vec!["x"]]);
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        assert_eq!(parse(b""), []);
        assert_eq!(parse(b"\x01aa"), []);
        assert_eq!(parse(b"\x01aa\0\nsrc/l")[0].paths, Vec::<PathBuf>::new());
        assert_eq!(parse(b"noise\0\x01aa\0")[0].id, "aa");
    }
}
