//! Records the effects of each notified system call in the access log.

use std::io;

use libc::{c_int, pid_t};

use super::filter::NATIVE;
use super::loader::KnownLoader;
use super::resolve::{FollowedLink, ResolvedPath, as_path};
use super::seccomp::{self, Listener, Notification};
use super::sockets::SocketAddress;
use super::syscall::{Located, LookupKind, SyscallRecorder};
use super::syscall_table::{self, PathArgument, SyscallRequest};
use crate::observer::loader_cache::LOADER_CACHE;
use crate::observer::path_class::is_setting;
use crate::observer::{Address, Interference, Peer, Problem, Reach, Uses};
use crate::workspace::FileKind;

impl SyscallRecorder {
    /// Records one call. The caller waits meanwhile, and continues whatever the call is.
    pub(in crate::observer) fn handle(&mut self, listener: &Listener, call: &Notification) {
        self.calls += 1;
        let thread = call.thread;
        if thread == 0 {
            return self.problem(Problem::Memory("a process out of our sight".into()));
        }
        if self.first_thread == 0 {
            self.first_thread = thread;
        }
        if self.last_thread != thread {
            self.last_thread = thread;
            self.threads.insert(thread);
        }
        if call.architecture != NATIVE || is_x32(call.number) {
            return self.problem(Problem::Architecture);
        }
        self.instruction = call.instruction;
        self.settle(thread);
        self.exempt(thread);
        self.end_loading(thread);
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
                let located = match self.locate(thread, name, 0)? {
                    // The current folder, which no call has to open.
                    None if name.empty && name.at == libc::AT_FDCWD => {
                        Some(Located { name: b"/proc/self/cwd".to_vec(), root: 0 })
                    }
                    located => located,
                };
                let Some(located) = located else {
                    // Without a path the call queries an open descriptor, whose content is
                    // recorded already. Its attributes, and a folder's names, are not.
                    if uses.any(Uses::ATTRIBUTES.with(Uses::LISTED)) {
                        self.ask_descriptor(thread, name, uses)?;
                    }
                    return Ok(());
                };
                if self.is_start(&located.name) {
                    self.start_loading(thread)?;
                }
                self.ask(thread, located, follow, uses);
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
                    self.forget(thread);
                }
            }
            SyscallRequest::Remove { name, folder } => {
                if let Some(target) = self.target(thread, name, false)? {
                    self.log.remove(&target, folder);
                    self.forget_removed(thread, &target);
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
                    self.forget_changed(thread, &[&from, &to]);
                } else {
                    self.forget(thread);
                }
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
            SyscallRequest::Ipv6Socket => self.note_ipv6_settings(thread),
            SyscallRequest::Ipc(name) => {
                self.peer(Peer { address: Address::Ipc(name), reach: Reach::Outside });
            }
            SyscallRequest::Namespace(what) => self.problem(Problem::Namespace(what)),
            SyscallRequest::Nameless(what) => self.problem(Problem::Nameless(what)),
            SyscallRequest::IoUring => self.problem(Problem::IoUring),
            SyscallRequest::Seccomp => self.log.interference(Interference::Seccomp),
            SyscallRequest::Landlock => self.log.interference(Interference::Landlock),
            SyscallRequest::Read(fd) => self.reads_library(thread, fd)?,
            SyscallRequest::Complain { text, length } => self.complain(thread, &[(text, length)]),
            SyscallRequest::ComplainInParts { parts, count } => {
                let parts = complaint_parts(thread, parts, count);
                self.complain(thread, &parts);
            }
            SyscallRequest::MakeCode => self.problem(Problem::UnknownCode),
            SyscallRequest::Unknown => self.problem(Problem::Call(call.number.into())),
        }
        Ok(())
    }

    /// Records a call that queries a path.
    fn ask(&mut self, thread: pid_t, located: Located, follow: bool, uses: Uses) {
        let asked = LookupKind::new(uses, follow);
        if self.is_recorded(&located, asked) {
            return;
        }
        let is_enough = if uses == Uses::FOLLOWED {
            self.read_link(thread, &located);
            true
        } else {
            let target = self.walk(thread, &located, follow);
            target.is_none_or(|target| self.consult(thread, &target, uses))
        };
        if is_enough {
            self.set_recorded(located, asked);
        }
    }

    /// Records a call that queries an open descriptor.
    fn ask_descriptor(&mut self, thread: pid_t, name: PathArgument, uses: Uses) -> io::Result<()> {
        let asked = LookupKind::new(uses, true);
        let opened = if name.text == 0 { self.opened(thread, name.at) } else { None };
        let Some(located) = opened else {
            if let Some(target) = self.source(thread, name, true)? {
                self.log.consult(&target, uses);
            }
            return Ok(());
        };
        if !self.is_recorded(&located, asked)
            && let Some(target) = self.walk(thread, &located, true)
            && self.consult(thread, &target, uses)
        {
            self.set_recorded(located, asked);
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
        let loader = self.loader.clone().filter(|loader| loader.opens_at(self.instruction));
        let asked = match &loader {
            Some(_) => LookupKind::LOADED,
            None => LookupKind::new(Uses::READ, follow),
        };
        let is_cache = located.name == LOADER_CACHE.as_bytes();
        if is_cache
            && reads_only == libc::O_RDONLY
            && self.is_attempt()
            && self.opens_cache(thread, located.clone())
        {
            return Ok(());
        }
        let is_attempt = self.is_attempt() && !is_cache;
        if reads_only == libc::O_RDONLY
            && self.is_recorded(&located, asked)
            && (!is_attempt || self.is_foreseen(thread, &located.name))
        {
            if is_attempt {
                self.opens_library(thread, &located.name, None);
            }
            return Ok(());
        }
        let Some(target) = self.walk(thread, &located, follow) else {
            if loader.is_some() && self.anonymous {
                self.problem(Problem::UnknownCode);
            }
            return Ok(());
        };
        self.log.open(&target, flags);
        if is_attempt {
            self.opens_library(thread, &located.name, Some(&target));
        }
        let mut is_enough = true;
        if let Some(loader) = loader {
            // What the run makes itself can be another library the next time.
            is_enough = !self.log.is_own(&target.path, target.stamp);
            if target.stamp.kind() == Some(FileKind::File) && !target.orphan {
                self.search(&loader, &target);
            } else if let Some(folder) = located.folder() {
                // It asks for the folder next, of which nothing tells.
                self.ask(thread, folder, true, Uses::PROBED);
            }
        }
        is_enough &= self.note_reader(thread, &target);
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
        if is_enough && reads_only == libc::O_RDONLY && flags & libc::O_TMPFILE != libc::O_TMPFILE {
            self.set_recorded(located, asked);
        }
        Ok(())
    }

    /// Searches a file that is mapped where libraries lie for calls that could pass as the loader's.
    fn search(&mut self, loader: &KnownLoader, target: &ResolvedPath) {
        if loader.is_like(&target.path, target.stamp) {
            self.problem(Problem::UnknownCode);
        }
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
        self.starts(thread);
        let Some(mut target) = self.source(thread, name, follow)? else {
            // No call shows the interpreter of such a program.
            if self.anonymous {
                self.problem(Problem::Nameless("a program in memory"));
            }
            return Ok(());
        };
        let asked = LookupKind::new(Uses::EXECUTED, true);
        let mut loader = None;
        // A script's interpreter can be a script itself; the kernel follows four.
        for _ in 0..5 {
            self.record_execution(&target);
            if target.stamp.kind() != Some(FileKind::File) || target.orphan {
                break;
            }
            let program = self.programs.inspect(&target.path, target.stamp);
            if program.privileged {
                let path = as_path(&target.path).to_owned();
                self.log.interference(Interference::Privileges(path));
            }
            if program.foreign {
                self.problem(Problem::Architecture);
            }
            if program.unknown {
                self.problem(Problem::Format(as_path(&target.path).to_owned()));
            }
            if let Some(known) = self.loader.clone() {
                // A program without a loader may lie where libraries do.
                if program.interpreter.is_none() {
                    self.search(&known, &target);
                }
                if program.executable_stack {
                    self.problem(Problem::UnknownCode);
                }
            }
            if let Some(loader) = loader.take() {
                self.set_recorded(loader, asked);
            }
            let Some(interpreter) = program.interpreter else { break };
            let Some(located) = self.absolute(thread, libc::AT_FDCWD, &interpreter) else { break };
            // Nothing follows a dynamic loader, so that its first record is enough.
            if program.has_loader && self.is_recorded(&located, asked) {
                break;
            }
            let Some(next) = self.walk(thread, &located, true) else { break };
            loader = program.has_loader.then_some(located);
            target = next;
        }
        Ok(())
    }

    /// Notes whether what a process writes to its error output is, or can be, the message of a panic.
    ///
    /// The standard library writes such a message to this very descriptor, whatever it leads to; a short one
    /// at once, a long one in parts that are never cut within a word of its own.
    fn complain(&mut self, thread: pid_t, parts: &[(u64, u64)]) {
        let is_quiet = |(text, length): &(u64, u64)| {
            let length = usize::try_from(*length).unwrap_or(usize::MAX);
            let mut buffer = vec![0; length.min(LONGEST_COMPLAINT)];
            length <= LONGEST_COMPLAINT
                && seccomp::read_memory(thread, *text, &mut buffer).is_ok_and(|read| read == length)
                && !buffer.windows(PANIC.len()).any(|word| word == PANIC)
        };
        // What was not understood may have been one. Nobody reads on after the first.
        self.log.panicked = self.log.panicked || parts.is_empty() || !parts.iter().all(is_quiet);
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
            self.forget_changed(thread, &[&from, &to]);
        } else {
            self.forget(thread);
        }
        Ok(())
    }
}

/// A part of every message of a panic of Rust's.
const PANIC: &[u8] = b"panic";
/// A longer text is not searched for it.
const LONGEST_COMPLAINT: usize = 1 << 16;
/// More parts are not looked at.
const MOST_PARTS: usize = 64;

/// The addresses and lengths of the texts that are written at once; none if they are not known.
fn complaint_parts(thread: pid_t, parts: u64, count: u64) -> Vec<(u64, u64)> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut bytes = vec![0; 16 * count.min(MOST_PARTS)];
    let is_known = count <= MOST_PARTS
        && seccomp::read_memory(thread, parts, &mut bytes).is_ok_and(|read| read == bytes.len());
    if !is_known {
        return Vec::new();
    }
    let number = |bytes: &[u8]| u64::from_ne_bytes(std::array::from_fn(|at| bytes[at]));
    bytes.chunks_exact(16).map(|part| (number(&part[..8]), number(&part[8..]))).collect()
}

#[cfg(target_arch = "x86_64")]
fn is_x32(number: c_int) -> bool {
    number.cast_unsigned() >= super::filter::X32
}
#[cfg(not(target_arch = "x86_64"))]
fn is_x32(_: c_int) -> bool {
    false
}
