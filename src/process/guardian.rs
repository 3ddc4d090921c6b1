//! A small process that kills our children when we die without having ended them.
//!
//! A process that is killed (`SIGKILL`, an unhandled `SIGHUP`) ends nothing itself, and the kernel
//! ends its direct children at most: what a test has started would go on for ever. The guardian
//! waits at the other end of a pipe. Each child announces itself there before it becomes its
//! program; once the pipe is closed, the guardian kills the trees of all children that were not
//! reaped. It has a session of its own, so that signals for our group or terminal do not reach it.

#![expect(unsafe_code, reason = "forking without exec is the kernel's own interface")]

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use super::tree::descendants;

/// The messages to the guardian, each followed by a process id.
const REAPED: i32 = 0;
const LEADS_GROUP: i32 = 1;
const IN_OUR_GROUP: i32 = 2;

/// Our end of the guardian's pipe. It is open for as long as this process lives.
static PIPE: OnceLock<Option<OwnedFd>> = OnceLock::new();

/// The descriptor on which children announce themselves; starts the guardian if there is none.
/// `None` where it cannot be started: then children can only be killed by the kernel.
pub(super) fn pipe() -> Option<RawFd> {
    PIPE.get_or_init(start).as_ref().map(AsRawFd::as_raw_fd)
}

/// Announces the calling process, which is about to become a program. Async-signal-safe.
pub(super) fn announce(pipe: RawFd, leads_group: bool) -> bool {
    let kind = if leads_group { LEADS_GROUP } else { IN_OUR_GROUP };
    // SAFETY: cannot fail.
    send(pipe, [kind, unsafe { libc::getpid() }])
}

/// Says that a child was reaped: another process may get its number.
pub(super) fn forget(child: Pid) {
    if let Some(Some(pipe)) = PIPE.get() {
        send(pipe.as_raw_fd(), [REAPED, child.as_raw_nonzero().get()]);
    }
}

fn send(pipe: RawFd, message: [i32; 2]) -> bool {
    let length = size_of_val(&message);
    // SAFETY: reads the array that it is given.
    unsafe { libc::write(pipe, message.as_ptr().cast(), length) }.cast_unsigned() == length
}

/// Only glibc promises that the allocator works in a child of a process with several threads.
#[cfg(not(target_env = "gnu"))]
fn start() -> Option<OwnedFd> {
    None
}

#[cfg(target_env = "gnu")]
fn start() -> Option<OwnedFd> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).ok()?;
    // SAFETY: the children go on with plain system calls and with memory of their own.
    unsafe {
        match libc::fork() {
            ..0 => None,
            0 => {
                // Fork twice, so that the guardian is nobody's child that would have to be reaped.
                if libc::fork() != 0 {
                    libc::_exit(0);
                }
                guard(read.as_raw_fd());
            }
            child => {
                while libc::waitpid(child, std::ptr::null_mut(), 0) < 0
                    && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
                {
                }
                Some(write)
            }
        }
    }
}

/// The main loop of the guardian.
#[cfg(target_env = "gnu")]
fn guard(pipe: RawFd) -> ! {
    // SAFETY: plain system calls of a process that has one thread.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, c"knhk-guardian".as_ptr());
        libc::dup2(pipe, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        libc::chdir(c"/".as_ptr());
    }
    let mut children: Vec<(Pid, i32, OwnedFd)> = Vec::new();
    loop {
        let mut message = [0_i32; 2];
        let length = size_of_val(&message);
        // SAFETY: writes into the array that it is given.
        let count = unsafe { libc::read(0, message.as_mut_ptr().cast(), length) };
        if count.cast_unsigned() == length {
            let [kind, child] = message;
            let Some(child) = Pid::from_raw(child) else { continue };
            children.retain(|(known, ..)| *known != child);
            if kind != REAPED
                && let Ok(handle) = pidfd_open(child, PidfdFlags::empty())
            {
                children.push((child, kind, handle));
            }
        } else if count >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR)
        {
            break;
        }
    }
    // One that has ended, such as one that never became its program, may have lost its number.
    let is_running = |handle: &OwnedFd| {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&now)) == Ok(0)
    };
    children.retain(|(.., handle)| is_running(handle));
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
