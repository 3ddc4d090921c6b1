//! The state of one observation, and how a path argument leads to a file. `syscall_effects` records
//! each call.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;

use libc::{c_int, pid_t};
use rustix::fs::{CWD, readlinkat_raw};
use rustix::io::Errno;

use super::access_log::AccessLog;
use super::executables::Executables;
use super::library_search::LibraryLoads;
use super::loader::KnownLoader;
use super::resolve::{PATH_MAX, ResolveError, ResolvedPath, Resolver, Trail, as_path};
use super::seccomp;
use super::sockets::OwnSockets;
use super::syscall_table::PathArgument;
use crate::observer::exemption::ExemptProcess;
use crate::observer::{Observation, ObserveOptions, Problem, Uses};
use crate::workspace::{FileKind, PathStamp};

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
    pub(super) resolver: Resolver,
    pub(super) sockets: OwnSockets,
    pub(super) programs: Executables,
    /// The loader whose search is not notified.
    pub(super) loader: Option<Arc<KnownLoader>>,
    /// What its loads are known to be.
    pub(super) loads: LibraryLoads,
    /// The address from which the last call was made.
    pub(super) instruction: u64,
    pub(super) threads: HashSet<pid_t>,
    /// The thread that called last. Most threads make several calls in a row.
    pub(super) last_thread: pid_t,
    /// The first thread of the run's first process; 0 before its first call.
    pub(super) first_thread: pid_t,
    tells_readers: bool,
    /// Names that were recorded already, with the [`LookupKind`]s of their look-ups.
    recorded: HashMap<Vec<u8>, u16>,
    /// Threads whose last call changes where names lead. The kernel may not have done it yet, so
    /// nothing is remembered until they call again or have ended.
    renaming: Vec<pid_t>,
    trail: Trail,
    /// Threads whose last call was to become another program.
    starting: HashSet<pid_t>,
    /// The programs that were executed, by device and inode, each as it was found first.
    executed: HashMap<(u64, u64), ResolvedPath>,
    exempt: HashMap<pid_t, ExemptProcess>,
    /// The last path led to something without a path.
    pub(super) anonymous: bool,
    pub(super) calls: u64,
}

/// A path argument that was read and made absolute.
#[derive(Clone)]
pub(super) struct Located {
    pub(super) name: Vec<u8>,
    /// The length of the root below which it is resolved; 0 for the real root.
    pub(super) root: usize,
}

impl Located {
    /// The folder in which it lies by its name.
    pub(super) fn folder(&self) -> Option<Self> {
        let cut = self.name.iter().rposition(|byte| *byte == b'/')?;
        (cut > self.root).then(|| Self { name: self.name[..cut].to_vec(), root: self.root })
    }
}

/// One kind of look-up, as a bit.
#[derive(Clone, Copy)]
pub(super) struct LookupKind(u16);

impl LookupKind {
    /// An attempt of the dynamic loader to open.
    pub(super) const LOADED: Self = Self(1 << 14);
    /// A foreseen open of the dynamic loader's cache.
    pub(super) const ASKED: Self = Self(1 << 15);

    pub(super) fn new(uses: Uses, follow: bool) -> Self {
        let kinds = [Uses::PROBED, Uses::READ, Uses::FOLLOWED, Uses::LISTED, Uses::EXECUTED];
        let kind = kinds.iter().position(|kind| *kind == uses).unwrap_or(kinds.len());
        Self(1 << (kind * 2 + usize::from(follow)))
    }
}

impl SyscallRecorder {
    pub(in crate::observer) fn new(
        options: ObserveOptions,
        loader: Option<Arc<KnownLoader>>,
    ) -> Self {
        Self {
            loader,
            loads: LibraryLoads::default(),
            instruction: 0,
            first_thread: 0,
            tells_readers: options.tells_readers,
            log: AccessLog::new(options),
            resolver: Resolver::default(),
            sockets: OwnSockets::default(),
            programs: Executables::default(),
            threads: HashSet::new(),
            last_thread: 0,
            recorded: HashMap::new(),
            renaming: Vec::new(),
            trail: Trail::default(),
            starting: HashSet::new(),
            executed: HashMap::new(),
            exempt: HashMap::new(),
            anonymous: false,
            calls: 0,
        }
    }

    pub(in crate::observer) fn problem(&mut self, problem: Problem) {
        self.log.problem(problem);
    }

    /// The finished observation. Nothing is recorded after it.
    pub(in crate::observer) fn close(&mut self) -> Observation {
        let log = std::mem::replace(&mut self.log, AccessLog::new(ObserveOptions::default()));
        let mut observation = log.close(|pid| self.threads.contains(&pid));
        observation.calls = self.calls;
        observation
    }

    /// Records a look-up of `target`. Whether a later one need not be recorded.
    pub(super) fn consult(&mut self, thread: pid_t, target: &ResolvedPath, uses: Uses) -> bool {
        self.log.consult(target, uses);
        self.note_reader(thread, target)
    }

    /// Notes of a source if another process than the first reads it. Whether a later reader does not
    /// matter.
    pub(super) fn note_reader(&mut self, thread: pid_t, target: &ResolvedPath) -> bool {
        if !self.tells_readers || !target.path.ends_with(b".rs") {
            return true;
        }
        let first = self.first_thread;
        let task = format!("/proc/{first}/task/{thread}");
        if thread != first && PathStamp::of(&task[..]) == PathStamp::Absent {
            self.log.consult(target, Uses::READ_BELOW);
        }
        false
    }

    /// Records the parent folder: its permissions decide whether a path can be made, moved or removed.
    pub(super) fn record_parent(&mut self, target: &ResolvedPath) {
        if !target.orphan {
            let cut = target.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            self.record_folder(&target.path[..cut.max(1)]);
        }
    }

    /// Records that a folder exists, with its permissions.
    pub(super) fn record_folder(&mut self, folder: &[u8]) {
        if !self.log.is_noted(folder) {
            let stamp = PathStamp::of(folder);
            let target = ResolvedPath { path: folder.to_vec(), stamp, orphan: false };
            self.log.consult(&target, Uses::PROBED);
        }
    }

    /// Forgets all resolved names, because the call of this thread makes them lead elsewhere.
    pub(super) fn forget(&mut self, thread: pid_t) {
        self.recorded.clear();
        self.loads.forget();
        self.resolver.forget();
        self.renaming.push(thread);
    }

    /// Forgets what the call of this thread invalidates, which removes, replaces or creates these.
    /// A regular file is on the way to no other name, nor is an empty folder.
    pub(super) fn forget_changed(&mut self, thread: pid_t, targets: &[&ResolvedPath]) {
        for target in targets {
            match target.stamp.kind() {
                Some(FileKind::File) => {}
                None if target.stamp == PathStamp::Absent => {}
                _ => return self.forget(thread),
            }
            self.recorded.remove(&target.path);
        }
    }

    /// Forgets what a removal by this thread invalidates. Removing an empty folder changes no other
    /// name.
    pub(super) fn forget_removed(&mut self, thread: pid_t, target: &ResolvedPath) {
        if target.stamp.kind() == Some(FileKind::Folder) {
            self.recorded.remove(&target.path);
            self.resolver.forget_folder(&target.path);
        } else {
            self.forget_changed(thread, &[target]);
        }
    }

    /// Called before a call of this thread is looked at.
    pub(super) fn settle(&mut self, thread: pid_t) {
        if !self.renaming.is_empty() {
            self.renaming.retain(|other| *other != thread && is_alive(*other));
            self.resolver.forget();
        }
    }

    /// Called before a call of this thread is looked at: may it look up things unrecorded?
    pub(super) fn exempt(&mut self, thread: pid_t) {
        let Some(exemption) = self.log.exemption() else { return };
        if self.starting.remove(&thread)
            && let Some(process) = exemption.of(thread)
        {
            self.exempt.insert(thread, process);
        }
        let process = self.exempt.get(&thread);
        let folders = process.and_then(|process| process.folders(thread)).map(<[_]>::to_vec);
        if self.log.exempt.is_some() && self.log.exempt != folders {
            // The others' look-ups of the same names are to be recorded.
            self.resolver.forget();
        }
        self.log.exempt = folders;
    }

    /// Called when a thread is about to become another program: whose process it is then is another
    /// question.
    pub(super) fn starts(&mut self, thread: pid_t) {
        self.exempt.clear();
        self.starting.insert(thread);
    }

    /// Records that `program` is executed, which its first name tells from the second time on.
    pub(super) fn record_execution(&mut self, program: &ResolvedPath) {
        self.log.consult(program, Uses::EXECUTED);
        let Some(stamp) = program.stamp.present() else { return };
        match self.executed.entry((stamp.device, stamp.inode)) {
            Entry::Occupied(first) => self.log.consult(first.get(), Uses::EXECUTED_AGAIN),
            Entry::Vacant(none) => {
                none.insert(program.clone());
            }
        }
    }

    /// Whether such a look-up of this name has been recorded before.
    pub(super) fn is_recorded(&self, located: &Located, asked: LookupKind) -> bool {
        located.root == 0
            && self.recorded.get(&located.name).is_some_and(|kinds| kinds & asked.0 != 0)
    }

    /// Remembers a recorded look-up, until [`Self::forget`].
    pub(super) fn set_recorded(&mut self, located: Located, asked: LookupKind) {
        let lasts = located.root == 0 && !self.resolver.may_lead_elsewhere();
        if self.is_memorable() && lasts {
            if self.recorded.len() >= MAX_RECORDED_NAMES {
                self.recorded.clear();
            }
            *self.recorded.entry(located.name).or_default() |= asked.0;
        }
    }

    /// Whether what is recorded now holds for other processes, and until [`Self::forget`].
    pub(super) fn is_memorable(&self) -> bool {
        self.log.exempt.is_none() && self.renaming.is_empty()
    }

    /// The file behind a descriptor, by the kernel's own name for it. `None` if it has no name now.
    pub(super) fn opened(&self, thread: pid_t, fd: c_int) -> Option<Located> {
        let name = read_link(&format!("/proc/{thread}/fd/{fd}"), 0).ok()?;
        (name.starts_with(b"/") && !name.ends_with(b" (deleted)"))
            .then_some(Located { name, root: 0 })
    }

    /// Reads and resolves a path argument.
    pub(super) fn target(
        &mut self,
        thread: pid_t,
        name: PathArgument,
        follow: bool,
    ) -> io::Result<Option<ResolvedPath>> {
        let Some(located) = self.locate(thread, name, 0)? else { return Ok(None) };
        Ok(self.walk(thread, &located, follow))
    }

    /// As [`Self::target`], but an empty path with the flag for it means the descriptor's file.
    pub(super) fn source(
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
    pub(super) fn locate(
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
            return Ok(self.base(thread, name.at, 1 + text.len()).map(|mut base| {
                let root = base.len();
                base.push(b'/');
                base.extend_from_slice(&text);
                Located { name: base, root }
            }));
        }
        if text.starts_with(b"/") {
            return Ok(Some(Located { name: text, root: 0 }));
        }
        Ok(self.absolute(thread, name.at, &text))
    }

    /// Makes a path absolute.
    pub(super) fn absolute(&mut self, thread: pid_t, at: c_int, text: &[u8]) -> Option<Located> {
        if text.starts_with(b"/") {
            return Some(Located { name: text.to_vec(), root: 0 });
        }
        let mut name = self.base(thread, at, 1 + text.len())?;
        name.push(b'/');
        name.extend_from_slice(text);
        Some(Located { name, root: 0 })
    }

    /// The folder from which a relative path starts, without a slash at its end, and with room for so
    /// many bytes more.
    fn base(&mut self, thread: pid_t, at: c_int, room: usize) -> Option<Vec<u8>> {
        let link = if at == libc::AT_FDCWD {
            format!("/proc/{thread}/cwd")
        } else {
            format!("/proc/{thread}/fd/{at}")
        };
        let mut folder = match read_link(&link, room) {
            Ok(folder) => folder,
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

/// Whether the thread exists. A number that another thread has by now only delays.
fn is_alive(thread: pid_t) -> bool {
    PathStamp::of(&format!("/proc/{thread}")[..]) != PathStamp::Absent
}

/// The text of a link, with room for so many bytes more.
fn read_link(link: &str, room: usize) -> Result<Vec<u8>, Errno> {
    let mut buffer = [MaybeUninit::uninit(); FIRST_READ];
    let (text, _) = readlinkat_raw(CWD, link, &mut buffer)?;
    if text.len() == FIRST_READ {
        return Ok(rustix::fs::readlink(link, Vec::new())?.into_bytes());
    }
    let mut whole = Vec::with_capacity(text.len() + room);
    whole.extend_from_slice(text);
    Ok(whole)
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
    let mut whole = vec![0; PATH_MAX];
    let count = seccomp::read_memory(thread, address, &mut whole)?;
    Ok(whole[..count].iter().position(|byte| *byte == 0).map(|end| {
        whole.truncate(end);
        whole
    }))
}
