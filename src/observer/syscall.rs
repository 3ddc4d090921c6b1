//! One notified call after the other: reads its arguments, and enters in the log what it asks.

use std::collections::{HashMap, HashSet};
use std::io;

use libc::{c_int, pid_t};
use rustix::io::Errno;

use super::access_log::AccessLog;
use super::executables::Executables;
use super::filter::NATIVE;
use super::resolve::{FollowedLink, ResolveError, ResolvedPath, Resolver, as_path};
use super::seccomp::{self, Listener, Notification};
use super::sockets::{OwnSockets, SocketAddress};
use super::syscall_table::{self, PathArgument, SyscallRequest};
use crate::observer::{
    Address, Interference, Observation, ObserveOptions, Peer, Problem, Reach, Uses,
};
use crate::workspace::{FileKind, PathStamp};

/// The longest path that the kernel takes, with its final zero.
const LONGEST: usize = 4096;
/// What one look into another process's memory takes at first: most paths are shorter.
const FIRST_LOOK: usize = 256;
/// `RESOLVE_IN_ROOT` of `openat2`.
const RESOLVE_IN_ROOT: u64 = 0x10;
/// How many names are remembered as done before all are forgotten.
const MOST_DONE: usize = 100_000;

/// Everything that is known about one run while it goes on.
#[derive(Debug)]
pub(in crate::observer) struct SyscallRecorder {
    pub(super) log: AccessLog,
    resolver: Resolver,
    pub(super) sockets: OwnSockets,
    programs: Executables,
    threads: HashSet<pid_t>,
    /// The thread that called last: most calls come in rows.
    latest: pid_t,
    /// Names that were entered already, by what was asked of them.
    done: HashMap<Vec<u8>, u8>,
    links: Vec<FollowedLink>,
    /// The last walk ended at something that has no path.
    anonymous: bool,
    calls: u64,
}

/// A name, read and made absolute.
pub(super) struct Located {
    name: Vec<u8>,
    /// The length of the root that holds it; 0 for the real one.
    root: usize,
}

/// One question about a name, as a bit.
#[derive(Clone, Copy)]
struct LookupKind(u8);

impl LookupKind {
    fn new(uses: Uses, follow: bool) -> Self {
        let kind = [Uses::PROBED, Uses::READ, Uses::FOLLOWED].iter().position(|u| *u == uses);
        Self(1 << (kind.unwrap_or(3) * 2 + usize::from(follow)))
    }
}

impl SyscallRecorder {
    pub(in crate::observer) fn new(options: ObserveOptions) -> Self {
        Self {
            log: AccessLog::new(options),
            resolver: Resolver::default(),
            sockets: OwnSockets::default(),
            programs: Executables::default(),
            threads: HashSet::new(),
            latest: 0,
            done: HashMap::new(),
            links: Vec::new(),
            anonymous: false,
            calls: 0,
        }
    }

    pub(in crate::observer) fn problem(&mut self, problem: Problem) {
        self.log.problem(problem);
    }

    pub(in crate::observer) fn close(self) -> Observation {
        let threads = self.threads;
        let mut observation = self.log.close(|pid| threads.contains(&pid));
        observation.calls = self.calls;
        observation
    }

    /// Enters one call. The caller still waits, and goes on afterwards whatever we found.
    pub(in crate::observer) fn handle(&mut self, listener: &Listener, call: &Notification) {
        self.calls += 1;
        let thread = call.thread;
        if thread == 0 {
            return self.problem(Problem::Memory("a process out of our sight".into()));
        }
        if self.latest != thread {
            self.latest = thread;
            self.threads.insert(thread);
        }
        if call.architecture != NATIVE || is_x32(call.number) {
            return self.problem(Problem::Architecture);
        }
        if let Err(error) = self.enter(thread, call) {
            // The memory of a process that was killed meanwhile tells nothing, and need not.
            if listener.is_open(call.id) {
                self.problem(Problem::Memory(error.kind().to_string()));
            }
        }
    }

    fn enter(&mut self, thread: pid_t, call: &Notification) -> io::Result<()> {
        match syscall_table::request(call.number.into(), &call.args) {
            SyscallRequest::Open { name, flags } => self.open(thread, name, flags, 0)?,
            SyscallRequest::Open2 { name, how } => {
                let mut bytes = [0; 24];
                if seccomp::read_memory(thread, how, &mut bytes)? == bytes.len() {
                    let field = |at: usize| {
                        u64::from_ne_bytes(std::array::from_fn(|index| bytes[at + index]))
                    };
                    #[expect(clippy::cast_possible_truncation, reason = "flags fit into an int")]
                    self.open(thread, name, field(0) as c_int, field(16))?;
                }
            }
            SyscallRequest::Ask { name, follow, uses } => {
                let Some(located) = self.locate(thread, name, 0)? else {
                    // Without a path it is about a descriptor that the process already has, and
                    // whose content counts. Attributes are no part of that.
                    if uses == Uses::ATTRIBUTES
                        && let Some(target) = self.source(thread, name, follow)?
                    {
                        self.log.consult(&target, uses);
                    }
                    return Ok(());
                };
                let asked = LookupKind::new(uses, follow);
                if self.is_done(&located, asked) {
                    return Ok(());
                }
                if uses == Uses::FOLLOWED {
                    self.read_link(thread, &located);
                } else if let Some(target) = self.walk(thread, &located, follow) {
                    self.log.consult(&target, uses);
                }
                self.set_done(located, asked);
            }
            SyscallRequest::Execute { name, follow } => self.execute(thread, name, follow)?,
            SyscallRequest::Modify { name, follow, replace } => {
                if let Some(target) = self.target(thread, name, follow)? {
                    self.log.modify(&target, replace);
                }
            }
            SyscallRequest::Make { name, link } => {
                if let Some(target) = self.target(thread, name, false)? {
                    self.log.create(&target);
                    self.around(&target);
                }
                if link {
                    self.forget();
                }
            }
            SyscallRequest::Remove { name, folder } => {
                if let Some(target) = self.target(thread, name, false)? {
                    self.log.remove(&target, folder);
                    self.removed(&target);
                    self.around(&target);
                }
            }
            SyscallRequest::Rename { from, to, flags } => self.rename(thread, from, to, flags)?,
            SyscallRequest::FollowedLink { from, to, follow } => {
                let from = self.source(thread, from, follow)?;
                let to = self.target(thread, to, false)?;
                if let (Some(from), Some(to)) = (from, to) {
                    self.log.link(&from, &to);
                    self.around(&to);
                }
                self.forget();
            }
            SyscallRequest::Connect { socket, address, length } => {
                self.connect(thread, socket, address, length)?;
            }
            SyscallRequest::Send { socket, headers, count, stride } => {
                self.send(thread, socket, headers, count, stride)?;
            }
            SyscallRequest::Bind { socket, address, length } => {
                self.sockets.adopt(thread, socket);
                if let SocketAddress::Path(name) = self.address(thread, address, length)?
                    && let Some(located) = self.absolute(thread, libc::AT_FDCWD, &name)
                    && let Some(target) = self.walk(thread, &located, false)
                {
                    self.log.create(&target);
                    self.around(&target);
                }
            }
            SyscallRequest::Listen { socket } => self.sockets.adopt(thread, socket),
            SyscallRequest::Family(family) => {
                self.peer(Peer { address: Address::Family(family), reach: Reach::Outside });
            }
            SyscallRequest::Ipc(name) => {
                self.peer(Peer { address: Address::Ipc(name), reach: Reach::Outside });
            }
            SyscallRequest::Namespace(what) => self.problem(Problem::Namespace(what)),
            SyscallRequest::Nameless(what) => self.problem(Problem::Nameless(what)),
            SyscallRequest::IoUring => self.problem(Problem::IoUring),
            SyscallRequest::Seccomp => {
                self.log.interference.insert(Interference::Seccomp);
            }
            SyscallRequest::Landlock => {
                self.log.interference.insert(Interference::Landlock);
            }
            SyscallRequest::Unknown => self.problem(Problem::Call(call.number.into())),
        }
        Ok(())
    }

    fn open(
        &mut self,
        thread: pid_t,
        name: PathArgument,
        flags: c_int,
        resolve: u64,
    ) -> io::Result<()> {
        let Some(located) = self.locate(thread, name, resolve)? else { return Ok(()) };
        let exclusive = libc::O_CREAT | libc::O_EXCL;
        let follow = flags & libc::O_NOFOLLOW == 0 && flags & exclusive != exclusive;
        let reads_only = flags & (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_PATH);
        let asked = LookupKind::new(Uses::READ, follow);
        if reads_only == libc::O_RDONLY && self.is_done(&located, asked) {
            return Ok(());
        }
        let Some(target) = self.walk(thread, &located, follow) else { return Ok(()) };
        self.log.open(&target, flags);
        if flags & libc::O_CREAT != 0 && target.stamp == PathStamp::Absent {
            self.around(&target);
        }
        if reads_only == libc::O_RDONLY && flags & libc::O_TMPFILE != libc::O_TMPFILE {
            self.set_done(located, asked);
        }
        Ok(())
    }

    fn read_link(&mut self, thread: pid_t, located: &Located) {
        let Some(target) = self.walk(thread, located, false) else { return };
        if target.stamp.kind() != Some(FileKind::Symlink) || target.path.starts_with(b"/proc/") {
            return self.log.consult(&target, Uses::PROBED);
        }
        match rustix::fs::readlink(&target.path[..], Vec::new()) {
            Ok(text) => self.log.follow(FollowedLink {
                path: target.path,
                text: text.into_bytes(),
                stamp: target.stamp,
            }),
            Err(_) => self.log.consult(&target, Uses::FOLLOWED),
        }
    }

    fn execute(&mut self, thread: pid_t, name: PathArgument, follow: bool) -> io::Result<()> {
        self.anonymous = false;
        let Some(mut target) = self.source(thread, name, follow)? else {
            // Its interpreter is not told by any call.
            if self.anonymous {
                self.problem(Problem::Nameless("a program in memory"));
            }
            return Ok(());
        };
        // A script's interpreter can be a script; the kernel follows four.
        for _ in 0..5 {
            self.log.consult(&target, Uses::EXECUTED);
            if target.stamp.kind() != Some(FileKind::File) || target.orphan {
                break;
            }
            let program = self.programs.inspect(&target.path, target.stamp);
            if program.privileged {
                let path = as_path(&target.path).to_owned();
                self.log.interference.insert(Interference::Privileges(path));
            }
            if program.foreign {
                self.problem(Problem::Architecture);
            }
            if program.unknown {
                self.problem(Problem::Format(as_path(&target.path).to_owned()));
            }
            let Some(interpreter) = program.interpreter else { break };
            let Some(located) = self.absolute(thread, libc::AT_FDCWD, &interpreter) else { break };
            let Some(next) = self.walk(thread, &located, true) else { break };
            target = next;
        }
        Ok(())
    }

    fn rename(
        &mut self,
        thread: pid_t,
        from: PathArgument,
        to: PathArgument,
        flags: u32,
    ) -> io::Result<()> {
        let from = self.target(thread, from, false)?;
        let to = self.target(thread, to, false)?;
        if let (Some(from), Some(to)) = (from, to) {
            if flags & syscall_table::RENAME_NOREPLACE != 0 && to.stamp != PathStamp::Absent {
                self.log.consult(&from, Uses::PROBED);
                self.log.consult(&to, Uses::PROBED);
            } else {
                self.log.rename(&from, &to, flags & syscall_table::RENAME_EXCHANGE != 0);
                self.around(&from);
                self.around(&to);
            }
        }
        self.forget();
        Ok(())
    }

    /// Whether something can be made, moved or removed is for the folder around it to say.
    fn around(&mut self, target: &ResolvedPath) {
        let cut = target.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let folder = &target.path[..cut.max(1)];
        if target.orphan || self.log.is_noted(folder) {
            return;
        }
        let stamp = PathStamp::of(folder);
        self.log
            .consult(&ResolvedPath { path: folder.to_vec(), stamp, orphan: false }, Uses::PROBED);
    }

    /// Names lead elsewhere from here on.
    fn forget(&mut self) {
        self.done.clear();
        self.resolver.forget();
    }

    /// Forgets what a removal makes untrue. Without a file or an empty folder all other names lead
    /// where they led; what comes in its place later is made by a call that we are told of.
    fn removed(&mut self, target: &ResolvedPath) {
        match target.stamp.kind() {
            Some(FileKind::File | FileKind::Folder) => {
                self.done.clear();
                self.resolver.forget_folder(&target.path);
            }
            None if target.stamp == PathStamp::Absent => {}
            _ => self.forget(),
        }
    }

    /// Whether this was asked of this name before.
    fn is_done(&self, located: &Located, asked: LookupKind) -> bool {
        located.root == 0 && self.done.get(&located.name).is_some_and(|done| done & asked.0 != 0)
    }

    /// The same need not be asked again, as long as names lead where they lead now.
    fn set_done(&mut self, located: Located, asked: LookupKind) {
        // `/proc/self` is another process's for another thread.
        if located.root == 0 && !self.resolver.went_through_proc() {
            if self.done.len() >= MOST_DONE {
                self.done.clear();
            }
            *self.done.entry(located.name).or_default() |= asked.0;
        }
    }

    fn target(
        &mut self,
        thread: pid_t,
        name: PathArgument,
        follow: bool,
    ) -> io::Result<Option<ResolvedPath>> {
        let Some(located) = self.locate(thread, name, 0)? else { return Ok(None) };
        Ok(self.walk(thread, &located, follow))
    }

    /// As `target`; an empty name with the flag for it means the descriptor's file.
    fn source(
        &mut self,
        thread: pid_t,
        name: PathArgument,
        follow: bool,
    ) -> io::Result<Option<ResolvedPath>> {
        if let Some(target) = self.target(thread, name, follow)? {
            return Ok(Some(target));
        }
        if !name.empty {
            return Ok(None);
        }
        let name = format!("/proc/self/fd/{}", name.at).into_bytes();
        Ok(self.walk(thread, &Located { name, root: 0 }, true))
    }

    /// Reads a name and makes it absolute. `None`: the kernel will refuse it without a look at any
    /// file, or it is empty.
    fn locate(
        &mut self,
        thread: pid_t,
        name: PathArgument,
        resolve: u64,
    ) -> io::Result<Option<Located>> {
        let Some(text) = read_text(thread, name.text)? else { return Ok(None) };
        if text.is_empty() {
            return Ok(None);
        }
        if resolve & RESOLVE_IN_ROOT != 0 {
            return Ok(self.base(thread, name.at).map(|mut base| {
                let root = base.len();
                base.push(b'/');
                base.extend_from_slice(&text);
                Located { name: base, root }
            }));
        }
        Ok(self.absolute(thread, name.at, &text))
    }

    pub(super) fn absolute(&mut self, thread: pid_t, at: c_int, text: &[u8]) -> Option<Located> {
        if text.starts_with(b"/") {
            return Some(Located { name: text.to_vec(), root: 0 });
        }
        let mut name = self.base(thread, at)?;
        name.push(b'/');
        name.extend_from_slice(text);
        Some(Located { name, root: 0 })
    }

    /// The folder from which a relative name starts, without a slash at its end.
    fn base(&mut self, thread: pid_t, at: c_int) -> Option<Vec<u8>> {
        let link = if at == libc::AT_FDCWD {
            format!("/proc/{thread}/cwd")
        } else {
            format!("/proc/{thread}/fd/{at}")
        };
        let mut folder = match rustix::fs::readlink(&link, Vec::with_capacity(FIRST_LOOK)) {
            Ok(folder) => folder.into_bytes(),
            // No such descriptor: the kernel refuses, too. No such process: it was killed.
            Err(Errno::NOENT | Errno::SRCH) => return None,
            Err(Errno::NAMETOOLONG) => {
                self.problem(Problem::TooLong);
                return None;
            }
            Err(error) => {
                self.problem(Problem::Memory(error.kind().to_string()));
                return None;
            }
        };
        if !folder.starts_with(b"/") {
            // A pipe or a socket is no folder; what cannot be reached from our root is lost.
            if folder.starts_with(b"(unreachable)") {
                self.problem(Problem::LostFolder);
            }
            return None;
        }
        if folder.ends_with(b" (deleted)") && PathStamp::of(as_path(&folder)).kind().is_none() {
            self.problem(Problem::LostFolder);
            return None;
        }
        if folder == b"/" {
            folder.clear();
        }
        Some(folder)
    }

    /// Walks, and enters the links on the way.
    pub(super) fn walk(
        &mut self,
        thread: pid_t,
        located: &Located,
        follow: bool,
    ) -> Option<ResolvedPath> {
        let mut links = std::mem::take(&mut self.links);
        let (root, _) = located.name.split_at(located.root);
        let result = self.resolver.resolve(&located.name, follow, root, thread, &mut links);
        for link in links.drain(..) {
            self.log.follow(link);
        }
        self.links = links;
        self.anonymous = result == Err(ResolveError::Anonymous);
        match result {
            Ok(target) => Some(target),
            Err(ResolveError::Anonymous | ResolveError::Loop) => None,
            Err(ResolveError::Lost) => {
                self.problem(Problem::LostFolder);
                None
            }
            Err(ResolveError::TooLong) => {
                self.problem(Problem::TooLong);
                None
            }
        }
    }
}

/// A text of another process. `None` if it does not end within what the kernel takes, or within
/// the process's memory: the call will fail of itself.
fn read_text(thread: pid_t, address: u64) -> io::Result<Option<Vec<u8>>> {
    if address == 0 {
        return Ok(None);
    }
    let mut buffer = [0; FIRST_LOOK];
    let count = seccomp::read_memory(thread, address, &mut buffer)?;
    if let Some(end) = buffer[..count].iter().position(|byte| *byte == 0) {
        return Ok(Some(buffer[..end].to_vec()));
    }
    if count < FIRST_LOOK {
        return Ok(None);
    }
    let mut whole = vec![0; LONGEST];
    let count = seccomp::read_memory(thread, address, &mut whole)?;
    Ok(whole[..count].iter().position(|byte| *byte == 0).map(|end| {
        whole.truncate(end);
        whole
    }))
}

#[cfg(target_arch = "x86_64")]
fn is_x32(number: c_int) -> bool {
    number.cast_unsigned() >= super::filter::X32
}
#[cfg(not(target_arch = "x86_64"))]
fn is_x32(_: c_int) -> bool {
    false
}
