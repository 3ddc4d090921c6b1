//! From a name as the run spelled it to a path without symlinks, as the kernel would walk it.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use libc::pid_t;
use rustix::io::Errno;

use crate::observer::{Kind, Stamp};

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;
/// The longest path that can be looked up in one call, with its final zero.
const LONGEST: usize = 4096;

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer) struct Target {
    /// Absolute, without symlinks, `.` and `..`.
    pub(in crate::observer) path: Vec<u8>,
    /// What is there now.
    pub(in crate::observer) stamp: Stamp,
    /// The folder in which it would lie is missing itself: nothing can be made here.
    pub(in crate::observer) orphan: bool,
}

/// A symlink on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observer) struct Link {
    pub(in crate::observer) path: Vec<u8>,
    pub(in crate::observer) text: Vec<u8>,
    pub(in crate::observer) stamp: Stamp,
}

/// Why a name leads nowhere that has a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observer) enum NoPath {
    /// A pipe, a socket, memory: something that the process already has.
    Anonymous,
    /// More links than the kernel follows: the call fails, and the links are known.
    Loop,
    /// The walk went through something that has been removed.
    Lost,
    TooLong,
}

/// Walks names. Remembers folders, so that most names cost one look.
#[derive(Debug, Default)]
pub(in crate::observer) struct Resolver {
    /// Paths that are folders and contain no symlink.
    folders: HashSet<Vec<u8>>,
    /// The last walk met `/proc`, where names mean something else for each process.
    through_proc: bool,
}

impl Resolver {
    /// Forgets what it knows: a name may lead elsewhere from here on.
    pub(in crate::observer) fn forget(&mut self) {
        self.folders.clear();
    }

    /// Forgets one folder, which is about to go.
    pub(in crate::observer) fn forget_folder(&mut self, path: &[u8]) {
        self.folders.remove(path);
    }

    /// Whether the last name depends on who asks.
    pub(in crate::observer) fn went_through_proc(&self) -> bool {
        self.through_proc
    }

    /// Walks the absolute `name` for `thread`, whose `/proc/self` is meant. Absolute links start
    /// again at `root` (empty for the real one). Every link on the way goes into `links`.
    pub(in crate::observer) fn walk(
        &mut self,
        name: &[u8],
        follow: bool,
        root: &[u8],
        thread: pid_t,
        links: &mut Vec<Link>,
    ) -> Result<Target, NoPath> {
        self.through_proc = false;
        if let Some(target) = self.one_look(name, follow) {
            return Ok(target);
        }
        // A slash at the end follows a link, and so does every part before the last.
        let follow = follow || name.ends_with(b"/");
        let mut path = root.to_vec();
        let mut todo: Vec<Vec<u8>> = parts_reversed(&name[root.len().min(name.len())..]);
        let mut followed = 0;
        while let Some(part) = todo.pop() {
            match &part[..] {
                b"." => continue,
                b".." => {
                    if path.len() > root.len() {
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
            self.through_proc |= path == b"/proc";
            let last = todo.is_empty();
            if !last && self.folders.contains(&path) {
                continue;
            }
            let stamp = look(&path)?;
            match stamp {
                Stamp::Present { kind: Kind::Symlink, .. } if !last || follow => {
                    followed += 1;
                    if followed > MOST_LINKS {
                        return Err(NoPath::Loop);
                    }
                    let text = rustix::fs::readlink(&path[..], Vec::new())
                        .map_err(|_| NoPath::Lost)?
                        .into_bytes();
                    // The links of a process (`/proc/7/fd/3`) lead where their text can't; those
                    // of `/proc` itself (`net -> self/net`) are ordinary.
                    let magic =
                        path.strip_prefix(b"/proc/").is_some_and(|rest| rest.contains(&b'/'));
                    if magic {
                        if !text.starts_with(b"/") {
                            return Err(NoPath::Anonymous);
                        }
                        if text.ends_with(b" (deleted)") && look(&text)? == Stamp::Absent {
                            return Err(if text.starts_with(b"/memfd:") {
                                NoPath::Anonymous
                            } else {
                                NoPath::Lost
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
                        links.push(Link { path: itself, text, stamp });
                    }
                }
                Stamp::Present { kind: Kind::Folder, .. } if !last => {
                    if !changes_by_itself(&path) {
                        self.folders.insert(path.clone());
                    }
                }
                Stamp::Present { .. } if last => {
                    return Ok(Target { path, stamp, orphan: false });
                }
                Stamp::Absent | Stamp::Unknown(_) if last => {
                    return Ok(Target { path, stamp, orphan: false });
                }
                // Something on the way is missing, no folder, or closed to us.
                _ => {
                    if stamp == Stamp::Absent && !todo.iter().any(|part| part == b"..") {
                        for part in todo.iter().rev().filter(|part| &part[..] != b".") {
                            path.push(b'/');
                            path.extend_from_slice(part);
                        }
                    }
                    return Ok(Target { path, stamp, orphan: true });
                }
            }
        }
        if path.is_empty() {
            path.push(b'/');
        }
        let stamp = look(&path)?;
        Ok(Target { path, stamp, orphan: false })
    }

    /// The common case: a plain name in a folder that is known.
    fn one_look(&self, name: &[u8], follow: bool) -> Option<Target> {
        let cut = name.iter().rposition(|byte| *byte == b'/')?;
        let last = &name[cut + 1..];
        if matches!(last, b"" | b"." | b"..") || !self.folders.contains(&name[..cut]) {
            return None;
        }
        let stamp = look(name).ok()?;
        let link = stamp.kind() == Some(Kind::Symlink);
        (!link || !follow).then(|| Target { path: name.to_vec(), stamp, orphan: false })
    }
}

fn look(path: &[u8]) -> Result<Stamp, NoPath> {
    if path.len() >= LONGEST {
        return Err(NoPath::TooLong);
    }
    let stamp = Stamp::of_name(path);
    // One part of the name is too long for the file system: the run is told the same.
    if stamp == Stamp::Unknown(Errno::NAMETOOLONG.raw_os_error()) {
        return Ok(Stamp::Absent);
    }
    Ok(stamp)
}

/// Folders of `/proc` come and go without any call.
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

/// The path as the standard library wants it.
pub(in crate::observer) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct World {
        dir: tempfile::TempDir,
        root: Vec<u8>,
    }

    fn world() -> World {
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
        World { root: real.into_os_string().into_encoded_bytes(), dir }
    }

    impl World {
        fn name(&self, rest: &str) -> Vec<u8> {
            [&self.root[..], rest.as_bytes()].concat()
        }

        fn walk(&self, rest: &str, follow: bool) -> (Result<Target, NoPath>, Vec<String>) {
            let mut links = Vec::new();
            let mut resolver = Resolver::default();
            let target = resolver.walk(&self.name(rest), follow, b"", 1, &mut links);
            // The same again with what is remembered by now.
            let again = resolver.walk(&self.name(rest), follow, b"", 1, &mut Vec::new());
            assert_eq!(target, again, "{rest}");
            let short =
                |link: Link| String::from_utf8(link.path).unwrap()[self.root.len()..].to_owned();
            (target, links.into_iter().map(short).collect())
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
    fn every_link_on_the_way_is_told() {
        let world = world();
        let leads = |rest: &str| world.leads(rest, true);
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
    fn a_link_at_the_end_may_be_meant_itself() {
        let world = world();
        assert_eq!(world.leads("/to-b", false), ("/to-b".into(), true, vec![]));
        assert_eq!(
            world.leads("/to-a/b/to-file", false),
            ("/a/b/to-file".into(), true, vec!["/to-a".into()])
        );
    }

    #[test]
    fn what_is_missing_keeps_its_whole_name() {
        let world = world();
        assert_eq!(world.leads("/a/x/y/z", true), ("/a/x/y/z".into(), false, vec![]));
        assert_eq!(world.leads("/a/x/../b", true), ("/a/x".into(), false, vec![]));
        let (target, _) = world.walk("/a/x/y", true);
        assert!(target.unwrap().orphan);
        // A file in the place of a folder: the file itself is what was consulted.
        assert_eq!(world.leads("/a/b/file/x", true), ("/a/b/file".into(), true, vec![]));
    }

    #[test]
    fn loops_and_endless_names_end() {
        let world = world();
        assert_eq!(world.walk("/loop", true).0, Err(NoPath::Loop));
        assert_eq!(world.walk(&"/aaaaaaaaa".repeat(420), true).0.unwrap().stamp, Stamp::Absent);
        let name = format!("/{}", "n".repeat(300));
        assert_eq!(world.walk(&name, true).0.unwrap().stamp, Stamp::Absent);
    }

    #[test]
    fn a_root_of_its_own_holds_absolute_links_and_parents() {
        let world = world();
        let inner = world.name("/elsewhere");
        std::fs::write(as_path(&world.name("/elsewhere/f")), "").unwrap();
        symlink("/f", as_path(&world.name("/elsewhere/l"))).unwrap();
        let mut resolver = Resolver::default();
        for rest in ["/l", "/../../f"] {
            let name = [&inner[..], rest.as_bytes()].concat();
            let target = resolver.walk(&name, true, &inner, 1, &mut Vec::new()).unwrap();
            assert_eq!(target.path, world.name("/elsewhere/f"));
        }
    }

    #[test]
    fn the_process_itself_is_the_one_that_asked() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let mut resolver = Resolver::default();
        let mut links = Vec::new();
        let target = resolver.walk(b"/proc/self/exe", true, b"", own, &mut links).unwrap();
        assert_eq!(as_path(&target.path), std::env::current_exe().unwrap());
        assert!(links.is_empty(), "no symlink of any file system");
        let target = resolver.walk(b"/proc/self/status", true, b"", 77, &mut links).unwrap();
        assert_eq!(target.path, b"/proc/77/status");
        let target = resolver.walk(b"/proc/net/tcp", true, b"", own, &mut links).unwrap();
        assert_eq!(target.path, format!("/proc/{own}/net/tcp").into_bytes());
    }
}
