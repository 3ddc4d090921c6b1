//! Handles notified system calls: reads their arguments and records their effects in the access log.

use std::collections::{HashMap, HashSet};
use std::io;

use libc::{c_int, pid_t};
use rustix::io::Errno;

use super::access_log::AccessLog;
use super::executables::Executables;
use super::filter::NATIVE;
use super::resolve::{FollowedLink, ResolveError, ResolvedPath, Resolver, Trail, as_path};
use super::seccomp::{self, Listener, Notification};
use super::sockets::{OwnSockets, SocketAddress};
use super::syscall_table::{self, PathArgument, SyscallRequest};
use crate::observer::path_class::is_setting;
use crate::observer::{
    Address, Interference, Observation, ObserveOptions, Peer, Problem, Reach, Uses,
};
use crate::workspace::{FileKind, PathStamp};

/// The longest path that the kernel accepts, with its final zero.
const MAX_PATH: usize = 4096;
/// How much of another process's memory is read at first. Most paths are shorter.
const FIRST_READ: usize = 256;
/// `RESOLVE_IN_ROOT` of `openat2`.
const RESOLVE_IN_ROOT: u64 = 0x10;
/// How many recorded names are remembered before all are forgotten.
const MAX_RECORDED_NAMES: usize = 100_000;

/// The state of one observation while its run goes on.
#[derive(Debug)]
pub(in crate::observer) struct SyscallRecorder {
    pub(super) log: AccessLog,
    resolver: Resolver,
    pub(super) sockets: OwnSockets,
    programs: Executables,
    threads: HashSet<pid_t>,
    /// The thread that called last. Most threads make several calls in a row.
    last_thread: pid_t,
    /// Names that were recorded already, with the [`LookupKind`]s of their look-ups.
    recorded: HashMap<Vec<u8>, u8>,
    trail: Trail,
    /// The last path led to something without a path.
    anonymous: bool,
    calls: u64,
}

/// A path argument that was read and made absolute.
pub(super) struct Located {
    name: Vec<u8>,
    /// The length of the root below which it is resolved; 0 for the real root.
    root: usize,
}

/// One kind of look-up, as a bit.
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
            last_thread: 0,
            recorded: HashMap::new(),
            trail: Trail::default(),
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

    /// Records one call. The caller waits meanwhile, and continues whatever the call is.
    pub(in crate::observer) fn handle(&mut self, listener: &Listener, call: &Notification) {
        self.calls += 1;
        let thread = call.thread;
        if thread == 0 {
            return self.problem(Problem::Memory("a process out of our sight".into()));
        }
        if self.last_thread != thread {
            self.last_thread = thread;
            self.threads.insert(thread);
        }
        if call.architecture != NATIVE || is_x32(call.number) {
            return self.problem(Problem::Architecture);
        }
        if let Err(error) = self.enter(thread, call) {
            // A process that was killed meanwhile needs no record.
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
                    // Without a path the call queries an open descriptor, whose content is
                    // recorded already. Its attributes, and a folder's names, are not.
                    if uses.any(Uses::ATTRIBUTES.with(Uses::LISTED))
                        && let Some(target) = self.source(thread, name, follow)?
                    {
                        self.log.consult(&target, uses);
                    }
                    return Ok(());
                };
                let asked = LookupKind::new(uses, follow);
                if self.is_recorded(&located, asked) {
                    return Ok(());
                }
                if uses == Uses::FOLLOWED {
                    self.read_link(thread, &located);
                } else if let Some(target) = self.walk(thread, &located, follow) {
                    self.log.consult(&target, uses);
                }
                self.set_recorded(located, asked);
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
                    self.record_parent(&target);
                }
                if link {
                    self.forget();
                }
            }
            SyscallRequest::Remove { name, folder } => {
                if let Some(target) = self.target(thread, name, false)? {
                    self.log.remove(&target, folder);
                    self.forget_removed(&target);
                    self.record_parent(&target);
                }
            }
            SyscallRequest::Rename { from, to, flags } => self.rename(thread, from, to, flags)?,
            SyscallRequest::FollowedLink { from, to, follow } => {
                let from = self.source(thread, from, follow)?;
                let to = self.target(thread, to, false)?;
                if let (Some(from), Some(to)) = (from, to) {
                    self.log.link(&from, &to);
                    self.record_parent(&to);
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
                    self.record_parent(&target);
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
        if reads_only == libc::O_RDONLY && self.is_recorded(&located, asked) {
            return Ok(());
        }
        let Some(target) = self.walk(thread, &located, follow) else { return Ok(()) };
        self.log.open(&target, flags);
        // Its stamp says nothing of its content.
        if (target.path.starts_with(b"/proc/") || target.path.starts_with(b"/sys/"))
            && is_setting(as_path(&target.path))
            && flags & libc::O_ACCMODE != libc::O_WRONLY
            && let Ok(content) = std::fs::read(as_path(&target.path))
        {
            self.log.read_setting(&target, content);
        }
        if flags & libc::O_CREAT != 0 {
            self.record_parent(&target);
        }
        if reads_only == libc::O_RDONLY && flags & libc::O_TMPFILE != libc::O_TMPFILE {
            self.set_recorded(located, asked);
        }
        Ok(())
    }

    /// Records a `readlink`.
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
            // No call shows the interpreter of such a program.
            if self.anonymous {
                self.problem(Problem::Nameless("a program in memory"));
            }
            return Ok(());
        };
        // A script's interpreter can be a script itself; the kernel follows four.
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
            self.log.rename(&from, &to, flags);
            self.record_parent(&from);
            self.record_parent(&to);
        }
        self.forget();
        Ok(())
    }

    /// Records the parent folder: its permissions decide whether a path can be made, moved or removed.
    fn record_parent(&mut self, target: &ResolvedPath) {
        if !target.orphan {
            let cut = target.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            self.record_folder(&target.path[..cut.max(1)]);
        }
    }

    /// Records that a folder exists, with its permissions.
    fn record_folder(&mut self, folder: &[u8]) {
        if !self.log.is_noted(folder) {
            let stamp = PathStamp::of(folder);
            let target = ResolvedPath { path: folder.to_vec(), stamp, orphan: false };
            self.log.consult(&target, Uses::PROBED);
        }
    }

    /// Forgets all resolved names, because they may lead elsewhere from now on.
    fn forget(&mut self) {
        self.recorded.clear();
        self.resolver.forget();
    }

    /// Forgets what a removal invalidates. Removing a file or an empty folder changes no other name.
    fn forget_removed(&mut self, target: &ResolvedPath) {
        match target.stamp.kind() {
            Some(FileKind::File | FileKind::Folder) => {
                self.recorded.clear();
                self.resolver.forget_folder(&target.path);
            }
            None if target.stamp == PathStamp::Absent => {}
            _ => self.forget(),
        }
    }

    /// Whether such a look-up of this name has been recorded before.
    fn is_recorded(&self, located: &Located, asked: LookupKind) -> bool {
        located.root == 0
            && self.recorded.get(&located.name).is_some_and(|kinds| kinds & asked.0 != 0)
    }

    /// Remembers a recorded look-up, until [`Self::forget`].
    fn set_recorded(&mut self, located: Located, asked: LookupKind) {
        // `/proc/self` differs for each process.
        if located.root == 0 && !self.resolver.went_through_proc() {
            if self.recorded.len() >= MAX_RECORDED_NAMES {
                self.recorded.clear();
            }
            *self.recorded.entry(located.name).or_default() |= asked.0;
        }
    }

    /// Reads and resolves a path argument.
    fn target(
        &mut self,
        thread: pid_t,
        name: PathArgument,
        follow: bool,
    ) -> io::Result<Option<ResolvedPath>> {
        let Some(located) = self.locate(thread, name, 0)? else { return Ok(None) };
        Ok(self.walk(thread, &located, follow))
    }

    /// As [`Self::target`], but an empty path with the flag for it means the descriptor's file.
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

    /// Reads a path argument and makes it absolute. `None` if it is empty, or if the kernel will
    /// refuse it without looking at any file.
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

    /// Makes a path absolute.
    pub(super) fn absolute(&mut self, thread: pid_t, at: c_int, text: &[u8]) -> Option<Located> {
        if text.starts_with(b"/") {
            return Some(Located { name: text.to_vec(), root: 0 });
        }
        let mut name = self.base(thread, at)?;
        name.push(b'/');
        name.extend_from_slice(text);
        Some(Located { name, root: 0 })
    }

    /// The folder from which a relative path starts, without a slash at its end.
    fn base(&mut self, thread: pid_t, at: c_int) -> Option<Vec<u8>> {
        let link = if at == libc::AT_FDCWD {
            format!("/proc/{thread}/cwd")
        } else {
            format!("/proc/{thread}/fd/{at}")
        };
        let mut folder = match rustix::fs::readlink(&link, Vec::with_capacity(FIRST_READ)) {
            Ok(folder) => folder.into_bytes(),
            // The kernel refuses such a descriptor too, or the process was killed.
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
            // A pipe or a socket is no folder. A folder outside our root cannot be resolved.
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

    /// Resolves a path, and records the links and folders that it led through.
    pub(super) fn walk(
        &mut self,
        thread: pid_t,
        located: &Located,
        follow: bool,
    ) -> Option<ResolvedPath> {
        let mut trail = std::mem::take(&mut self.trail);
        let (root, _) = located.name.split_at(located.root);
        let result = self.resolver.resolve(&located.name, follow, root, thread, &mut trail);
        for link in trail.links.drain(..) {
            self.log.follow(link);
        }
        for folder in trail.folders.drain(..) {
            self.record_folder(&folder);
        }
        self.trail = trail;
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

/// Reads a string of another process. `None` if it is longer than the kernel accepts or does not end
/// within mapped memory: then the call will fail.
fn read_text(thread: pid_t, address: u64) -> io::Result<Option<Vec<u8>>> {
    if address == 0 {
        return Ok(None);
    }
    let mut buffer = [0; FIRST_READ];
    let count = seccomp::read_memory(thread, address, &mut buffer)?;
    if let Some(end) = buffer[..count].iter().position(|byte| *byte == 0) {
        return Ok(Some(buffer[..end].to_vec()));
    }
    if count < FIRST_READ {
        return Ok(None);
    }
    let mut whole = vec![0; MAX_PATH];
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
