//! A small process that kills our children when we die without having ended them.
//!
//! A process that is killed (`SIGKILL`, an unhandled `SIGHUP`) ends nothing itself, and the kernel
//! ends its direct children at most: what a test has started would go on for ever. The guardian
//! waits at the other end of a socket. Each child announces itself there before it becomes its
//! program; once our end is closed, the guardian kills the trees of all children that were not
//! reaped. It has a session of its own, so that signals for our group or terminal do not reach it.
//!
//! Calls of an observed child fail as soon as nobody has its listener. The guardian has it too, so that
//! the calls wait: a child that ended over one would leave children that nobody finds.

#![expect(unsafe_code, reason = "forking without exec is the kernel's own interface")]

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::tree::descendants;

/// The messages to the guardian, each followed by a process id.
const REAPED: i32 = 0;
const LEADS_GROUP: i32 = 1;
const IN_OUR_GROUP: i32 = 2;
/// Comes with the listener of an observed process.
const OBSERVED: i32 = 3;
/// Calls of an observed process are answered by others from now on, or not at all.
const UNOBSERVED: i32 = 4;

/// Nobody waits for a guardian that is stopped, or dies with one that was killed.
const AT_ONCE: SendFlags = SendFlags::NOSIGNAL.union(SendFlags::DONTWAIT);

/// Our end of the guardian's socket. It is open for as long as this process lives.
static SOCKET: OnceLock<Option<OwnedFd>> = OnceLock::new();

/// The descriptor on which children announce themselves; starts the guardian if there is none.
/// `None` where it cannot be started: then children can only be killed by the kernel.
pub(super) fn socket() -> Option<RawFd> {
    SOCKET.get_or_init(start).as_ref().map(AsRawFd::as_raw_fd)
}

/// Announces the calling process, which is about to become a program, and closes its end: the guardian
/// learns of our death although the process may wait for us. Async-signal-safe.
pub(super) fn announce(socket: RawFd, leads_group: bool) -> bool {
    let kind = if leads_group { LEADS_GROUP } else { IN_OUR_GROUP };
    // SAFETY: cannot fail.
    let announced = send(socket, [kind, unsafe { libc::getpid() }]);
    if announced {
        // SAFETY: this process was forked, so its descriptors are its own, and it uses this one no more.
        unsafe { libc::close(socket) };
    }
    announced
}

/// Says that a child was reaped: another process may get its number.
pub(super) fn forget(child: Pid) {
    if let Some(Some(socket)) = SOCKET.get() {
        send(socket.as_raw_fd(), [REAPED, child.as_raw_nonzero().get()]);
    }
}

/// Hands the listener of a child to the guardian, until [`withdraw_listener`] or the end of all processes that it
/// serves.
pub(crate) fn share_listener(child: Pid, listener: BorrowedFd<'_>) {
    let Some(Some(socket)) = SOCKET.get() else { return };
    let message = [OBSERVED, child.as_raw_nonzero().get()];
    let bytes = message.map(i32::to_ne_bytes);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener];
    if control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        // Without it, calls of the child fail once we are dead, as if it were not shared.
        let _ = sendmsg(socket, &[IoSlice::new(bytes.as_flattened())], &mut control, AT_ONCE);
    }
}

/// Has the guardian close the listener of a child.
pub(crate) fn withdraw_listener(child: Pid) {
    if let Some(Some(socket)) = SOCKET.get() {
        send(socket.as_raw_fd(), [UNOBSERVED, child.as_raw_nonzero().get()]);
    }
}

fn send(socket: RawFd, message: [i32; 2]) -> bool {
    let length = size_of_val(&message);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: reads the array that it is given.
    let sent = unsafe { libc::send(socket, message.as_ptr().cast(), length, flags) };
    sent.cast_unsigned() == length
}

/// The next message, and the descriptor that came with it; `None` once all senders have closed.
#[cfg(target_env = "gnu")]
fn receive(socket: BorrowedFd<'_>) -> Option<([i32; 2], Option<OwnedFd>)> {
    loop {
        let mut bytes = [[0_u8; 4]; 2];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(bytes.as_flattened_mut())];
        match recvmsg(socket, parts, &mut control, RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            Ok(received) if received.bytes == size_of::<[i32; 2]>() => {}
            Ok(_) | Err(_) => return None,
        }
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        return Some((bytes.map(i32::from_ne_bytes), descriptor));
    }
}

/// Only glibc promises that the allocator works in a child of a process with several threads.
#[cfg(not(target_env = "gnu"))]
fn start() -> Option<OwnedFd> {
    None
}

#[cfg(target_env = "gnu")]
fn start() -> Option<OwnedFd> {
    let (ours, its) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).ok()?;
    // SAFETY: the children go on with plain system calls and with memory of their own.
    unsafe {
        match libc::fork() {
            ..0 => None,
            0 => {
                // Fork twice, so that the guardian is nobody's child that would have to be reaped.
                if libc::fork() != 0 {
                    libc::_exit(0);
                }
                guard(its.as_raw_fd());
            }
            child => {
                while libc::waitpid(child, std::ptr::null_mut(), 0) < 0
                    && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
                {
                }
                Some(ours)
            }
        }
    }
}

/// Whether there is such an event now: a process can be read once it has ended, a listener hangs up
/// when nobody is observed by it any more.
#[cfg(target_env = "gnu")]
fn has(event: PollFlags, descriptor: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut polled = [PollFd::new(descriptor, event)];
    poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(event)
}

/// The main loop of the guardian.
#[cfg(target_env = "gnu")]
fn guard(socket: RawFd) -> ! {
    // SAFETY: plain system calls of a process that has one thread.
    let socket = unsafe {
        libc::setsid();
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, c"knhk-guardian".as_ptr());
        libc::dup2(socket, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        libc::chdir(c"/".as_ptr());
        BorrowedFd::borrow_raw(0)
    };
    let mut children: Vec<(Pid, i32, OwnedFd)> = Vec::new();
    let mut listeners: Vec<(Pid, OwnedFd)> = Vec::new();
    while let Some(([kind, child], listener)) = receive(socket) {
        listeners.retain(|(_, listener)| !has(PollFlags::HUP, listener));
        children.retain(|(.., handle)| !has(PollFlags::IN, handle));
        let Some(child) = Pid::from_raw(child) else { continue };
        match kind {
            OBSERVED => listeners.extend(listener.map(|listener| (child, listener))),
            UNOBSERVED => listeners.retain(|(known, _)| *known != child),
            _ => children.retain(|(known, ..)| *known != child),
        }
        if matches!(kind, LEADS_GROUP | IN_OUR_GROUP)
            && let Ok(handle) = pidfd_open(child, PidfdFlags::empty())
        {
            children.push((child, kind, handle));
        }
    }
    // One that has ended, such as one that never became its program, may have lost its number.
    children.retain(|(.., handle)| !has(PollFlags::IN, handle));
    for (child, kind, _) in &children {
        // A stopped process starts no others while the second look finds the rest. What the first
        // look found may have lost its parent by then: the kernel hangs up stopped orphans.
        let mut tree = descendants(*child);
        for pid in &tree {
            let _ = kill_process(*pid, Signal::STOP);
        }
        tree.extend(descendants(*child));
        if *kind == LEADS_GROUP {
            let _ = kill_process_group(*child, Signal::KILL);
        } else {
            let _ = kill_process(*child, Signal::KILL);
        }
        for pid in tree {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    // SAFETY: never returns.
    unsafe { libc::_exit(0) }
}
