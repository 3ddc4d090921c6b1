//! Resolves a path as the kernel would: the result has no symlinks, `.` or `..`.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libc::pid_t;
use rustix::io::Errno;

use crate::paths::MAX_SYMLINKS;
use crate::workspace::{FileKind, PathStamp};

/// The longest path that one call can look up, in bytes, with its final zero.
pub(super) const PATH_MAX: usize = 4096;

/// The file that a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer) struct ResolvedPath {
    /// Absolute, without symlinks, `.` and `..`.
    pub(in crate::observer) path: Vec<u8>,
    /// Its stamp now.
    pub(in crate::observer) stamp: PathStamp,
    /// The parent folder is missing too, so nothing can be created here.
    pub(in crate::observer) orphan: bool,
}

/// A symlink that was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer) struct FollowedLink {
    pub(in crate::observer) path: Vec<u8>,
    pub(in crate::observer) text: Vec<u8>,
    pub(in crate::observer) stamp: PathStamp,
}

/// What a path led through and must exist for it.
#[derive(Debug, Default)]
pub(in crate::observer) struct Trail {
    /// The symlinks that were followed.
    pub(in crate::observer) links: Vec<FollowedLink>,
    /// The folders that were left by `..`.
    pub(in crate::observer) folders: Vec<Vec<u8>>,
}

/// Why a name resolves to no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observer) enum ResolveError {
    /// A pipe, a socket or memory that the process already has open.
    Anonymous,
    /// More symlinks than the kernel follows. The call fails, and the links are recorded.
    Loop,
    /// The path leads through something that has been removed.
    Lost,
    TooLong,
}

/// Resolves paths. It remembers folders, so that most paths cost one `lstat`.
#[derive(Debug, Default)]
pub(in crate::observer) struct Resolver {
    /// Paths of folders, without symlinks.
    folders: HashSet<Vec<u8>>,
    /// The last path leads elsewhere for another process (through `/proc`), or once a missing part of
    /// it has been made (`missing/../name`).
    leads_elsewhere: bool,
}

impl Resolver {
    /// Forgets all folders, because a name may lead elsewhere from now on.
    pub(in crate::observer) fn forget(&mut self) {
        self.folders.clear();
    }

    /// Forgets one folder, which is about to be removed.
    pub(in crate::observer) fn forget_folder(&mut self, path: &[u8]) {
        self.folders.remove(path);
    }

    /// Whether the last path may resolve differently for another process, or later, without
    /// [`Self::forget`].
    pub(in crate::observer) fn may_lead_elsewhere(&self) -> bool {
        self.leads_elsewhere
    }

    /// Resolves the absolute path `name` for `thread`, whose `/proc/self` is meant. Absolute links
    /// start again at `root` (empty for the real root). The followed links, and the folders that
    /// `..` leaves, are added to `trail`.
    pub(in crate::observer) fn resolve(
        &mut self,
        name: &[u8],
        follow: bool,
        root: &[u8],
        thread: pid_t,
        trail: &mut Trail,
    ) -> Result<ResolvedPath, ResolveError> {
        self.leads_elsewhere = false;
        if let Some(target) = self.resolve_in_known_folder(name, follow) {
            return Ok(target);
        }
        // A slash at the end follows a link, as every part before the last does.
        let follow = follow || name.ends_with(b"/");
        let mut path = root.to_vec();
        let mut todo: Vec<Vec<u8>> = parts_reversed(&name[root.len().min(name.len())..]);
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            match &part[..] {
                b"." => continue,
                b".." => {
                    if path.len() > root.len() {
                        trail.folders.push(path.clone());
                        let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                        path.truncate(cut);
                    }
                    continue;
                }
                b"self" | b"thread-self" if path == b"/proc" => {
                    path.extend_from_slice(format!("/{thread}").as_bytes());
                    continue;
                }
                _ => {}
            }
            path.push(b'/');
            path.extend_from_slice(&part);
            self.leads_elsewhere |= path == b"/proc";
            let last = todo.is_empty();
            if !last && self.folders.contains(&path) {
                continue;
            }
            let stamp = stamp_of(&path)?;
            match stamp.kind() {
                Some(FileKind::Symlink) if !last || follow => {
                    followed += 1;
                    if followed > MAX_SYMLINKS {
                        return Err(ResolveError::Loop);
                    }
                    let text = rustix::fs::readlink(&path[..], Vec::new())
                        .map_err(|_| ResolveError::Lost)?
                        .into_bytes();
                    // The kernel follows a process's links (`/proc/7/fd/3`) without their text;
                    // those of `/proc` itself (`net -> self/net`) are ordinary.
                    let magic =
                        path.strip_prefix(b"/proc/").is_some_and(|rest| rest.contains(&b'/'));
                    if magic {
                        if !text.starts_with(b"/") {
                            return Err(ResolveError::Anonymous);
                        }
                        if text.ends_with(b" (deleted)") && stamp_of(&text)? == PathStamp::Absent {
                            return Err(if text.starts_with(b"/memfd:") {
                                ResolveError::Anonymous
                            } else {
                                ResolveError::Lost
                            });
                        }
                    }
                    let itself = path.clone();
                    if text.starts_with(b"/") {
                        path.clear();
                        if !magic {
                            path.extend_from_slice(root);
                        }
                    } else {
                        path.truncate(path.len() - part.len() - 1);
                    }
                    todo.extend(parts_reversed(&text));
                    if !magic {
                        trail.links.push(FollowedLink { path: itself, text, stamp });
                    }
                }
                Some(FileKind::Folder) if !last => {
                    if !changes_by_itself(&path) {
                        self.folders.insert(path.clone());
                    }
                }
                _ if last => {
                    return Ok(ResolvedPath { path, stamp, orphan: false });
                }
                // A part before the last is missing, no folder, or not accessible.
                _ => {
                    let leaves_it = todo.iter().any(|part| part == b"..");
                    self.leads_elsewhere |= leaves_it;
                    if stamp == PathStamp::Absent && !leaves_it {
                        for part in todo.iter().rev().filter(|part| &part[..] != b".") {
                            path.push(b'/');
                            path.extend_from_slice(part);
                        }
                    }
                    return Ok(ResolvedPath { path, stamp, orphan: true });
                }
            }
        }
        if path.is_empty() {
            path.push(b'/');
        }
        let stamp = stamp_of(&path)?;
        Ok(ResolvedPath { path, stamp, orphan: false })
    }

    /// The common case: a plain name in a known folder.
    fn resolve_in_known_folder(&self, name: &[u8], follow: bool) -> Option<ResolvedPath> {
        let cut = name.iter().rposition(|byte| *byte == b'/')?;
        let last = &name[cut + 1..];
        if matches!(last, b"" | b"." | b"..") || !self.folders.contains(&name[..cut]) {
            return None;
        }
        let stamp = stamp_of(name).ok()?;
        let link = stamp.kind() == Some(FileKind::Symlink);
        (!link || !follow).then(|| ResolvedPath { path: name.to_vec(), stamp, orphan: false })
    }
}

fn stamp_of(path: &[u8]) -> Result<PathStamp, ResolveError> {
    if path.len() >= PATH_MAX {
        return Err(ResolveError::TooLong);
    }
    let stamp = PathStamp::of(path);
    // A part that is too long for the file system cannot exist.
    if stamp == PathStamp::Unknown(Errno::NAMETOOLONG.raw_os_error()) {
        return Ok(PathStamp::Absent);
    }
    Ok(stamp)
}

/// Folders of `/proc` appear and disappear without any call.
fn changes_by_itself(path: &[u8]) -> bool {
    path.starts_with(b"/proc/") || path == b"/proc"
}

fn parts_reversed(name: &[u8]) -> Vec<Vec<u8>> {
    name.split(|byte| *byte == b'/')
        .rev()
        .filter(|part| !part.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

/// The bytes as a `Path`.
pub(in crate::observer) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Tree {
        dir: tempfile::TempDir,
        root: Vec<u8>,
    }

    fn tree() -> Tree {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        for folder in ["a/b", "elsewhere"] {
            std::fs::create_dir_all(real.join(folder)).unwrap();
        }
        std::fs::write(real.join("a/b/file"), "x").unwrap();
        symlink("a/b", real.join("to-b")).unwrap();
        symlink(real.join("a"), real.join("to-a")).unwrap();
        symlink("file", real.join("a/b/to-file")).unwrap();
        symlink("missing", real.join("dangling")).unwrap();
        symlink("loop", real.join("loop")).unwrap();
        Tree { root: real.into_os_string().into_encoded_bytes(), dir }
    }

    impl Tree {
        fn name(&self, rest: &str) -> Vec<u8> {
            [&self.root[..], rest.as_bytes()].concat()
        }

        fn walk(
            &self,
            rest: &str,
            follow: bool,
        ) -> (Result<ResolvedPath, ResolveError>, Vec<String>) {
            let mut trail = Trail::default();
            let mut resolver = Resolver::default();
            let target = resolver.resolve(&self.name(rest), follow, b"", 1, &mut trail);
            // The same again with what is remembered by now.
            let again = resolver.resolve(&self.name(rest), follow, b"", 1, &mut Trail::default());
            assert_eq!(target, again, "{rest}");
            let short = |link: FollowedLink| {
                String::from_utf8(link.path).unwrap()[self.root.len()..].to_owned()
            };
            (target, trail.links.into_iter().map(short).collect())
        }

        fn leads(&self, rest: &str, follow: bool) -> (String, bool, Vec<String>) {
            let (target, links) = self.walk(rest, follow);
            let target = target.unwrap();
            assert!(self.dir.path().exists());
            let path = String::from_utf8(target.path).unwrap()[self.root.len()..].to_owned();
            (path, target.stamp.kind().is_some(), links)
        }
    }

    #[test]
    fn every_followed_link_is_reported() {
        let tree = tree();
        let leads = |rest: &str| tree.leads(rest, true);
        let told = |links: &[&str]| links.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(leads("/a/b/file"), ("/a/b/file".into(), true, told(&[])));
        assert_eq!(
            leads("/to-b/to-file"),
            ("/a/b/file".into(), true, told(&["/to-b", "/a/b/to-file"]))
        );
        assert_eq!(leads("/to-a/./b//file"), ("/a/b/file".into(), true, told(&["/to-a"])));
        assert_eq!(leads("/to-b/../b/file"), ("/a/b/file".into(), true, told(&["/to-b"])));
        assert_eq!(leads("/dangling"), ("/missing".into(), false, told(&["/dangling"])));
        assert_eq!(leads("/to-b/"), ("/a/b".into(), true, told(&["/to-b"])));
    }

    #[test]
    fn a_link_at_the_end_is_followed_only_if_wanted() {
        let tree = tree();
        assert_eq!(tree.leads("/to-b", false), ("/to-b".into(), true, vec![]));
        assert_eq!(
            tree.leads("/to-a/b/to-file", false),
            ("/a/b/to-file".into(), true, vec!["/to-a".into()])
        );
    }

    #[test]
    fn a_missing_path_keeps_all_its_parts() {
        let tree = tree();
        assert_eq!(tree.leads("/a/x/y/z", true), ("/a/x/y/z".into(), false, vec![]));
        assert_eq!(tree.leads("/a/x/../b", true), ("/a/x".into(), false, vec![]));
        let (target, _) = tree.walk("/a/x/y", true);
        assert!(target.unwrap().orphan);
        // A file in the place of a folder: the file itself is what was consulted.
        assert_eq!(tree.leads("/a/b/file/x", true), ("/a/b/file".into(), true, vec![]));
    }

    #[test]
    fn every_folder_left_by_dot_dot_is_reported() {
        let tree = tree();
        let mut trail = Trail::default();
        let name = tree.name("/a/b/../../to-b/../../elsewhere");
        let target = Resolver::default().resolve(&name, true, b"", 1, &mut trail).unwrap();
        assert_eq!(target.path, tree.name("/elsewhere"));
        assert_eq!(trail.folders, ["/a/b", "/a", "/a/b", "/a"].map(|rest| tree.name(rest)));
    }

    #[test]
    fn loops_and_overlong_names_are_handled() {
        let tree = tree();
        assert_eq!(tree.walk("/loop", true).0, Err(ResolveError::Loop));
        assert_eq!(tree.walk(&"/aaaaaaaaa".repeat(420), true).0.unwrap().stamp, PathStamp::Absent);
        let name = format!("/{}", "n".repeat(300));
        assert_eq!(tree.walk(&name, true).0.unwrap().stamp, PathStamp::Absent);
    }

    #[test]
    fn absolute_links_and_parents_stay_below_a_given_root() {
        let tree = tree();
        let inner = tree.name("/elsewhere");
        std::fs::write(as_path(&tree.name("/elsewhere/f")), "").unwrap();
        symlink("/f", as_path(&tree.name("/elsewhere/l"))).unwrap();
        let mut resolver = Resolver::default();
        for rest in ["/l", "/../../f"] {
            let name = [&inner[..], rest.as_bytes()].concat();
            let target = resolver.resolve(&name, true, &inner, 1, &mut Trail::default()).unwrap();
            assert_eq!(target.path, tree.name("/elsewhere/f"));
        }
    }

    #[test]
    fn proc_self_is_the_calling_process() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut resolver = Resolver::default();
        let mut trail = Trail::default();
        let target = resolver.resolve(b"/proc/self/exe", true, b"", own, &mut trail).unwrap();
        assert_eq!(as_path(&target.path), std::env::current_exe().unwrap());
        assert!(trail.links.is_empty(), "no symlink of any file system");
        let target = resolver.resolve(b"/proc/self/status", true, b"", 77, &mut trail).unwrap();
        assert_eq!(target.path, b"/proc/77/status");
        let target = resolver.resolve(b"/proc/net/tcp", true, b"", own, &mut trail).unwrap();
        assert_eq!(target.path, format!("/proc/{own}/net/tcp").into_bytes());
    }
}
