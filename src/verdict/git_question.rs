//! Questions that programs ask git, and that another machine can ask its own git.
//!
//! Two clones of one commit differ in git's folder: in packs, the index, packed references. So what a
//! build script learns from git is compared by question and answer, and not by the files that git read
//! for it there. Only questions of this list count so: they read git's folder and change nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{Digest, Digester, End};
use crate::process::{Environment, Spec, capture};

/// The program that is asked.
const GIT: &str = "git";
/// The name of git's folder.
const GIT_FOLDER: &str = ".git";
/// A repository on a file system that hangs answers nothing.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// The commands, each with all words that may follow; one that ends with `=` begins such a word.
const COMMANDS: &[(&str, &[&str])] = &[
    ("branch", &["--show-current"]),
    (
        "describe",
        &[
            "--abbrev=",
            "--all",
            "--always",
            "--exact-match",
            "--long",
            "--match=",
            "--tags",
            "HEAD",
        ],
    ),
    (
        "log",
        &["--abbrev=", "--date=", "--format=", "--max-count=", "--pretty=", "-1", "-n1", "HEAD"],
    ),
    ("rev-list", &["--count", "--max-count=", "-1", "-n1", "HEAD"]),
    (
        "rev-parse",
        &["--abbrev-ref", "--git-dir", "--quiet", "--short", "--short=", "--verify", "-q", "HEAD"],
    ),
    ("show", &["--date=", "--format=", "--no-patch", "--pretty=", "-s", "HEAD"]),
    ("symbolic-ref", &["--quiet", "--short", "-q", "HEAD"]),
];

/// Variables besides `GIT_…` and `LC_…` by which git answers otherwise.
const HEEDED: [&str; 5] = ["HOME", "LANG", "LANGUAGE", "TZ", "XDG_CONFIG_HOME"];

/// Whether one git answers alike in these environments.
pub(super) fn is_asked_alike(one: &Environment, other: &Environment, dir: &Path) -> bool {
    let is_heeded = |(name, _): &(&OsStr, &OsStr)| {
        let bytes = name.as_bytes();
        bytes.starts_with(b"GIT_")
            || bytes.starts_with(b"LC_")
            || HEEDED.iter().any(|heeded| name == heeded)
    };
    one.iter().filter(is_heeded).eq(other.iter().filter(is_heeded))
        && GitQuestion::program(one, dir) == GitQuestion::program(other, dir)
}

/// A question of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GitQuestion {
    /// Where it is asked.
    pub(super) dir: PathBuf,
    /// Git's arguments.
    pub(super) args: Vec<String>,
}

impl GitQuestion {
    /// The question that git is asked with these arguments, in this folder. `None` if it is not known
    /// what else they may do.
    pub(super) fn of(args: &[OsString], dir: &Path) -> Option<Self> {
        let args: Option<Vec<String>> =
            args.iter().map(|arg| arg.to_str().map(str::to_owned)).collect();
        let args = args?;
        let (command, words) = args.split_first()?;
        let (_, known) = COMMANDS.iter().find(|(name, _)| name == command)?;
        let is_known = |word: &String| {
            known.iter().any(|known| match known.ends_with('=') {
                true => word.starts_with(known),
                false => word == known,
            })
        };
        words.iter().all(is_known).then(|| Self { dir: dir.to_owned(), args })
    }

    /// What is git's own and answers it. `None` if that is not known.
    pub(super) fn git_folders(&self) -> Option<Vec<PathBuf>> {
        let mut folders = self.dir.ancestors().map(|above| above.join(GIT_FOLDER));
        let found = folders.find(|folder| folder.symlink_metadata().is_ok())?;
        if found.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Some(vec![found]);
        }
        // A linked worktree has a file there, which names a folder in that of the repository.
        let text = std::fs::read_to_string(&found).ok()?;
        let folder = found.parent()?.join(text.strip_prefix("gitdir: ")?.trim_end());
        let all = folder.canonicalize().ok()?.parent()?.to_owned();
        let own =
            all.parent().filter(|own| all.ends_with("worktrees") && own.ends_with(GIT_FOLDER));
        Some(vec![found, own?.to_owned()])
    }

    /// The program that is asked in this environment, without symlinks.
    pub(super) fn program(environment: &Environment, dir: &Path) -> Option<PathBuf> {
        environment.find_program(Path::new(GIT), dir)?.canonicalize().ok()
    }

    /// What git answers here and now.
    ///
    /// # Errors
    /// If it does not answer.
    pub(super) fn ask(&self, environment: &Environment) -> Result<Digest, String> {
        let spec = Spec::new(GIT, &self.dir, environment.clone()).args(&self.args);
        let answer = capture(&spec, ANSWER_WAIT).map_err(|error| error.to_string())?;
        let End::Exit(status) = answer.end else { return Err(format!("`{self}` does not end")) };
        let mut digester = Digester::new("answer of git 1");
        digester.number(u64::from(status.cast_unsigned()));
        digester.field(&answer.stdout).field(&answer.stderr);
        Ok(digester.finish())
    }
}

impl std::fmt::Display for GitQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{GIT} {}", self.args.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(line: &str) -> bool {
        let args: Vec<_> = line.split(' ').map(OsString::from).collect();
        GitQuestion::of(&args, Path::new("/w")).is_some()
    }

    #[test]
    fn only_questions_of_the_list_are_known() {
        for line in [
            "rev-parse --short=10 HEAD",
            "rev-parse HEAD",
            "describe --always --tags --abbrev=7",
            "log -1 --format=%h",
            "branch --show-current",
        ] {
            assert!(is_known(line), "{line}");
        }
        for line in [
            "",
            "fetch",
            "rev-parse --stdin",
            "rev-parse --show-toplevel",
            "describe --dirty",
            "log -1 --output=/tmp/x",
            "-C /elsewhere rev-parse HEAD",
            "-c core.pager=x log -1",
            "symbolic-ref HEAD refs/heads/other",
            "status --porcelain",
        ] {
            assert!(!is_known(line), "{line}");
        }
    }

    #[test]
    fn an_answer_is_that_of_the_commit_wherever_the_clone_lies() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let environment = || {
            let mut environment = Environment::inherited();
            for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"] {
                environment.set(name, "a@example.com");
                environment.set(name.replace("AUTHOR", "COMMITTER"), "a@example.com");
            }
            environment
        };
        let git = |at: &str, args: &[&str]| {
            let spec = Spec::new(GIT, root.join(at), environment()).args(args);
            let done = capture(&spec, Duration::from_secs(60)).unwrap();
            assert!(done.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        git("", &["init", "-q", "one"]);
        git("one", &["commit", "-q", "--allow-empty", "-m", "1"]);
        git("", &["clone", "-q", "one", "two"]);
        let args = ["rev-parse", "HEAD"].map(OsString::from);
        let of = |at: &str| GitQuestion::of(&args, &root.join(at)).unwrap();
        let answer = |at: &str| of(at).ask(&environment()).unwrap();
        assert_eq!(of("two").git_folders(), Some(vec![root.join("two/.git")]));
        assert_eq!(answer("one"), answer("two"));
        git("two", &["commit", "-q", "--allow-empty", "-m", "2"]);
        assert_ne!(answer("one"), answer("two"));
        git("one", &["worktree", "add", "-q", "../three"]);
        let folders = [root.join("three/.git"), root.join("one/.git")];
        assert_eq!(of("three").git_folders(), Some(folders.to_vec()), "a linked worktree");
        std::fs::create_dir_all(root.join("two/.git/modules/four")).unwrap();
        std::fs::create_dir(root.join("four")).unwrap();
        std::fs::write(root.join("four/.git"), "gitdir: ../two/.git/modules/four\n").unwrap();
        assert_eq!(of("four").git_folders(), None, "a submodule");
        assert_ne!(answer("one"), of("").ask(&environment()).unwrap(), "no repository");
    }
}
