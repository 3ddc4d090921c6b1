//! A repository's commits with the packages that each changed, as its parent had them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use knhk_test_cache::internals::predict::{Commit, FORMAT, parse};
use knhk_test_cache::internals::workspace::Members;

/// A commit, and the packages' graph right before it.
pub(crate) struct Moment {
    pub(crate) commit: Commit,
    pub(crate) graph: BTreeMap<String, BTreeSet<String>>,
}

/// The newest `count` commits and `memory` before them, oldest first.
pub(crate) fn walk(repository: &Path, count: usize, memory: usize) -> Result<Vec<Moment>, String> {
    let number = format!("-n{}", count + memory);
    let log = git(
        repository,
        &[
            "log",
            "--no-merges",
            "--no-renames",
            "--topo-order",
            "--name-only",
            "-z",
            FORMAT,
            &number,
        ],
        b"",
    )?;
    let mut commits = parse(&log);
    commits.reverse();
    let mut members: Option<Members> = None;
    let mut moments = Vec::new();
    for commit in commits {
        let now = match members.take() {
            Some(members) => members,
            None => members_at(repository, &format!("{}^", commit.id)).unwrap_or_default(),
        };
        let owners = commit.paths.iter().filter_map(|path| now.owner(path));
        let packages = owners.map(|member| member.name.clone()).collect();
        let is_manifest = |path: &Path| path.file_name().is_some_and(|name| name == "Cargo.toml");
        let changed = commit.paths.iter().any(|path| is_manifest(path));
        moments.push(Moment { commit: Commit { packages }, graph: now.graph() });
        members = match changed {
            false => Some(now),
            true => None,
        };
    }
    Ok(moments)
}

/// The packages of one commit's tree.
fn members_at(repository: &Path, commit: &str) -> Result<Members, String> {
    let list = git(repository, &["ls-tree", "-r", "-z", "--name-only", commit], b"")?;
    let list = String::from_utf8_lossy(&list);
    let paths: Vec<_> = list
        .split('\0')
        .filter(|path| Path::new(path).file_name().is_some_and(|name| name == "Cargo.toml"))
        .collect();
    let asked: String = paths.iter().map(|path| format!("{commit}:{path}\n")).collect();
    let texts = git(repository, &["cat-file", "--batch"], asked.as_bytes())?;
    let mut rest = &texts[..];
    let mut manifests = Vec::new();
    for path in paths {
        // `<id> blob <size>\n<content>\n`
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or("git says too little")?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = head.rsplit(' ').next().and_then(|size| size.parse::<usize>().ok());
        let size = size.ok_or("git says something else")?;
        let content = rest.get(end + 1..end + 1 + size).ok_or("git says too little")?;
        manifests.push((path, String::from_utf8_lossy(content).into_owned()));
        rest = &rest[end + 2 + size..];
    }
    Ok(Members::of(manifests))
}

fn git(repository: &Path, args: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut child = Command::new("git")
        .arg("-C")
        .arg(repository)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The first commit of all has no parent.
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("git: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("git has no input")?;
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().map_err(|error| format!("git: {error}"))?;
    let _ = writer.join();
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("git {args:?} failed")),
    }
}
