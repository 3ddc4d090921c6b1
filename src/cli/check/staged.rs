//! Whether the files on disk are what git would commit.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Environment, Spec, capture};
use crate::workspace::Repository;

/// How long git may take to read the whole work tree, perhaps on a slow disk.
const GIT_STATUS_TIMEOUT: Duration = Duration::from_secs(60);

/// How many paths a message names.
const MOST_PATHS_NAMED: usize = 3;

/// The variables by which git knows a repository wherever it is called.
const REPOSITORY: [&str; 4] = ["GIT_DIR", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_WORK_TREE"];

/// A staged tree that is on disk, file by file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StagedTree {
    /// What git said of the work tree: branch, staged files with their digests, untracked files.
    said: Vec<u8>,
    /// Files on disk that git neither tracks nor ignores, absolute.
    pub(super) untracked: Vec<PathBuf>,
}

impl StagedTree {
    /// The staged tree of the repository around `root`, for a command that was called in `cwd`: a
    /// hook gets the index as a path relative to that.
    ///
    /// # Errors
    /// Why the files on disk are not the staged tree, or why that cannot be told.
    pub(super) fn on_disk(
        root: &Path,
        cwd: &Path,
        environment: &Environment,
    ) -> Result<Self, String> {
        let Some(repository) = Repository::around(root) else {
            return Err(format!("{} is in no git repository", root.display()));
        };
        let is_called_there = cwd.canonicalize().ok().and_then(|cwd| Repository::around(&cwd))
            == Some(repository.clone());
        let mut environment = environment.clone();
        if !is_called_there {
            REPOSITORY.iter().for_each(|name| environment.remove(name));
        }
        let git = Git { dir: if is_called_there { cwd } else { root }, environment };
        let top = git.run(&["rev-parse", "--show-toplevel"])?;
        if Path::new(OsStr::from_bytes(top.trim_ascii_end())) != repository.work() {
            return Err("git works in another folder than the project's".to_owned());
        }
        // Git does not look at files that it was told to take for unchanged.
        let listing = git.run(&["ls-files", "-v", "-z", "--full-name", ":/"])?;
        let hidden = |entry: &&[u8]| !entry.is_empty() && !entry.starts_with(b"H ");
        let hidden: Vec<_> = fields(&listing).filter(hidden).map(|entry| &entry[2..]).collect();
        if !hidden.is_empty() {
            return Err(format!("git is told not to look at {}", named(&hidden)));
        }
        let said = git.run(&[
            "-c",
            "core.fsmonitor=false",
            // Nor at what its config has it overlook on disk.
            "-c",
            "core.fileMode=true",
            "-c",
            "core.trustctime=true",
            "-c",
            "core.checkStat=default",
            "status",
            "--porcelain=v2",
            "-z",
            "--untracked-files=all",
            "--ignore-submodules=none",
        ])?;
        let (unstaged, untracked) = differences(&said);
        if !unstaged.is_empty() {
            return Err(format!("not staged: {}", named(&unstaged)));
        }
        let rewrites = git.run(&["config", "--default", "false", "--get", "core.autocrlf"])?;
        let mut words = vec!["ls-files", "--eol", "-z", "--full-name", ":/"];
        if rewrites.trim_ascii() == b"false" {
            // Then attributes alone have git write others.
            words.push(":(top,exclude,attr:!text !eol !crlf)");
        }
        let listing = git.run(&words)?;
        // Git has several words for true.
        let is_crlf = ![&b"false"[..], b"input"].contains(&rewrites.trim_ascii());
        let other = |line| rewritten(line, is_crlf);
        let rewritten: Vec<_> = fields(&listing).filter_map(other).collect();
        if !rewritten.is_empty() {
            return Err(format!("staged with other line endings: {}", named(&rewritten)));
        }
        let absolute = |path: &&[u8]| repository.work().join(OsStr::from_bytes(path));
        let untracked = untracked.iter().map(absolute).collect();
        Ok(Self { said, untracked })
    }
}

/// The path of a line of `git ls-files --eol`, if a checkout of what is staged has other line endings than the
/// file on disk. `is_crlf`: git's config has it write CRLF where attributes say nothing else.
fn rewritten(line: &[u8], is_crlf: bool) -> Option<&[u8]> {
    let tab = line.iter().position(|byte| *byte == b'\t')?;
    let (said, path) = (std::str::from_utf8(&line[..tab]).ok()?, &line[tab + 1..]);
    let word = |name: &str| said.split_whitespace().find_map(|word| word.strip_prefix(name));
    let (staged, on_disk) = (word("i/"), word("w/"));
    // What is no text is not written with other ones.
    let is_binary = [staged, on_disk, word("attr/")].contains(&Some("-text"));
    let writes_crlf = said.contains("eol=crlf") || is_crlf && !said.contains("eol=");
    let expected = if writes_crlf && staged == Some("lf") { Some("crlf") } else { staged };
    (on_disk != expected && !is_binary).then_some(path)
}

struct Git<'a> {
    dir: &'a Path,
    environment: Environment,
}

impl Git<'_> {
    fn run(&self, args: &[&str]) -> Result<Vec<u8>, String> {
        // Git may refresh the index meanwhile, for which it would lock it.
        let spec = Spec::new("git", self.dir, self.environment.clone())
            .arg("--no-optional-locks")
            .args(args);
        let output = capture(&spec, GIT_STATUS_TIMEOUT).map_err(|error| error.to_string())?;
        if output.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or("it said nothing");
        Err(format!("`git {}` failed ({}): {first}", args.join(" "), output.end))
    }
}

fn fields(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    output.split(|byte| *byte == 0)
}

/// The paths that differ on disk from the index, and the untracked ones. An untracked folder, which
/// is another repository, counts as a difference: nothing is known of what is in it.
fn differences(status: &[u8]) -> (Vec<&[u8]>, Vec<&[u8]>) {
    let (mut unstaged, mut untracked) = (Vec::new(), Vec::new());
    let mut fields = fields(status);
    while let Some(entry) = fields.next() {
        let path = |spaces: usize| entry.splitn(spaces + 1, |byte| *byte == b' ').nth(spaces);
        let (path, is_staged) = match entry {
            [] | [b'#', ..] => continue,
            [b'?', b' ', path @ ..] if !path.ends_with(b"/") => {
                untracked.push(path);
                continue;
            }
            [b'?', b' ', path @ ..] => (Some(path), false),
            [b'1', b' ', _, on_disk, ..] => (path(8), *on_disk == b'.'),
            [b'2', b' ', _, on_disk, ..] => {
                // The old name of a renamed file.
                fields.next();
                (path(9), *on_disk == b'.')
            }
            [b'u', ..] => (path(10), false),
            _ => (Some(entry), false),
        };
        if !is_staged {
            unstaged.push(path.unwrap_or(entry));
        }
    }
    (unstaged, untracked)
}

/// `a`, `b` and 7 more.
fn named(paths: &[&[u8]]) -> String {
    let shown: Vec<_> = paths
        .iter()
        .take(MOST_PATHS_NAMED)
        .map(|path| format!("`{}`", String::from_utf8_lossy(path)))
        .collect();
    match paths.len().saturating_sub(MOST_PATHS_NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_line_endings_are_told_from_those_that_a_checkout_makes() {
        let line = |said: &str, is_crlf| {
            rewritten(format!("{said}\ta b.txt").as_bytes(), is_crlf).is_some()
        };
        assert!(!line("i/lf    w/lf    attr/                 ", false));
        assert!(line("i/lf    w/crlf  attr/text=auto        ", false));
        assert!(!line("i/lf    w/crlf  attr/text eol=crlf    ", false));
        assert!(line("i/lf    w/lf    attr/text eol=crlf    ", false));
        assert!(line("i/lf    w/mixed attr/text eol=crlf    ", false));
        assert!(!line("i/lf    w/-text attr/-text            ", false), "a large file elsewhere");
        assert!(!line("i/-text w/-text attr/                 ", false));
        assert!(!line("i/      w/      attr/", false));
        assert!(!line("i/lf    w/crlf  attr/                 ", true));
        assert!(line("i/lf    w/lf    attr/                 ", true));
        assert!(!line("i/lf    w/lf    attr/text eol=lf      ", true));
    }

    #[test]
    fn differences_on_disk_are_told_from_staged_changes() {
        let id = "0123456789012345678901234567890123456789";
        let changed = |xy: &str| format!("1 {xy} N... 100644 100644 100644 {id} {id} a b.rs\0");
        let of = |status: &str| {
            let (unstaged, untracked) = differences(status.as_bytes());
            let text = |paths: Vec<&[u8]>| {
                paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
            };
            (text(unstaged), text(untracked))
        };
        let none: Vec<String> = Vec::new();
        assert_eq!(of(&changed("M.")), (none.clone(), none.clone()));
        assert_eq!(of(&changed("A.")), (none.clone(), none.clone()));
        assert_eq!(of(&changed(".M")), (vec!["a b.rs".to_owned()], none.clone()));
        assert_eq!(of(&changed("AM")), (vec!["a b.rs".to_owned()], none.clone()));
        assert_eq!(of(&changed(".D")).0, ["a b.rs"]);
        let renamed = format!("2 R. N... 100644 100644 100644 {id} {id} R100 new\0old\0? x\0");
        assert_eq!(of(&renamed), (none.clone(), vec!["x".to_owned()]));
        let unmerged = format!("u UU N... 100644 100644 100644 100644 {id} {id} {id} f\0");
        assert_eq!(of(&unmerged), (vec!["f".to_owned()], none.clone()));
        assert_eq!(of("? nested/\0"), (vec!["nested/".to_owned()], none.clone()));
        assert_eq!(of("9 new kind\0").0, ["9 new kind"]);
    }
}
