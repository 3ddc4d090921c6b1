//! The repository's history, read in the background. Without git there is none.

use std::path::Path;
use std::time::Duration;

use tracing::debug;

use crate::model::End;
use crate::predict::{Commit, FORMAT, parse};
use crate::process::{Environment, Priority, Spec, capture};
use crate::workspace::{Members, Repository};

/// How many commits are read.
const COMMIT_COUNT: &str = "-n1000";
/// How long git may take.
const GIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The last commits below `root`, oldest first, with the packages that each changed.
pub(super) fn read(
    git: &Repository,
    root: &Path,
    members: &Members,
    environment: &Environment,
) -> Vec<Commit> {
    // The shell may point to another repository than that of this folder.
    let about_another = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("GIT_") && !name.starts_with("GIT_CONFIG")
    };
    let variables = environment.iter().filter(|(name, _)| !about_another(name));
    let mut quiet: Environment =
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    quiet.set("GIT_OPTIONAL_LOCKS", "0");
    quiet.set("GIT_NO_LAZY_FETCH", "1");
    let below = root.strip_prefix(git.work()).unwrap_or(Path::new(""));
    let mut words = vec!["log", "--no-merges", "--no-renames", "--no-show-signature", COMMIT_COUNT];
    words.extend(["--name-only", "-z", FORMAT]);
    if !below.as_os_str().is_empty() {
        words.extend(["--", "."]);
    }
    let spec = Spec::new("git", root, quiet).args(words).priority(Priority::Background);
    let log = match capture(&spec, GIT_TIMEOUT) {
        Ok(output) if output.end == End::Exit(0) || output.end == End::TimedOut => output.stdout,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            debug!(project = %root.display(), reason = %said.trim(), "no history");
            return Vec::new();
        }
        Err(error) => {
            debug!(project = %root.display(), %error, "no history");
            return Vec::new();
        }
    };
    let mut commits: Vec<_> = parse(&log)
        .iter()
        .map(|logged| {
            let inside = logged.paths.iter().filter_map(|path| path.strip_prefix(below).ok());
            let owners = inside.filter_map(|path| members.owner(path));
            Commit { packages: owners.map(|member| member.name.clone()).collect() }
        })
        .filter(|commit| !commit.packages.is_empty())
        .collect();
    commits.reverse();
    commits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(dir: &Path, args: &[&str]) {
        let mut environment = Environment::inherited();
        for who in ["AUTHOR", "COMMITTER"] {
            environment.set(format!("GIT_{who}_NAME"), "tester");
            environment.set(format!("GIT_{who}_EMAIL"), "tester@localhost");
        }
        let spec = Spec::new("git", dir, environment).args(args);
        assert!(capture(&spec, GIT_TIMEOUT).unwrap().success(), "{args:?}");
    }

    #[test]
    fn a_workspace_below_the_top_has_the_commits_that_changed_it() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let root = top.join("rust");
        let write = |path: &str, text: &str| {
            let path = top.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        git(&top, &["init", "-q"]);
        for (file, text) in [
            ("rust/a/src/lib.rs", "1"),
            ("docs/x.md", "1"),
            ("rust/b/src/lib.rs", "1"),
            ("rust/a/README.md", "1"),
            ("rust/a/tests/it.rs", "1"),
        ] {
            write(file, text);
            git(&top, &["add", "-A"]);
            git(&top, &["commit", "-qm", file]);
        }
        let members = Members::of([
            ("a/Cargo.toml", "[package]\nname='a'"),
            ("b/Cargo.toml", "[package]\nname='b'"),
        ]);
        let repository = Repository::around(&root).unwrap();
        let environment = Environment::inherited();
        let commits = read(&repository, &root, &members, &environment);
        let packages: Vec<Vec<_>> =
            commits.iter().map(|commit| commit.packages.iter().collect()).collect();
        assert_eq!(packages, [["a"], ["b"], ["a"]]);
        // Nobody's git is no history, and no harm.
        assert_eq!(read(&repository, &root, &members, &Environment::default()), []);
    }
}
