//! The kernel interfaces that no safe crate wraps: seccomp and its notifications, and the memory
//! and descriptors of another process. All unsafe code of the observer is here and in `start`.

#![expect(unsafe_code, reason = "these kernel interfaces have no safe wrapper")]

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::OnceLock;

use libc::{c_int, c_long, c_ulong, pid_t, sock_filter};

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (Linux 6.6): caller and supervisor share one processor.
const SYNC_WAKE_UP: u64 = 1;
/// The size of the buffer for a notification, larger than today's because newer kernels may send
/// more.
const MAX_NOTIFICATION: usize = 256;
/// The supervisor's reply that it can fetch the child's descriptors.
pub(in crate::observer) const READY: [c_int; 2] = [1, 1];
/// The opposite reply.
pub(in crate::observer) const REFUSED: [c_int; 2] = [0, 0];

/// A system call that waits for our answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::observer) struct Notification {
    /// Names the notification to the kernel.
    pub(in crate::observer) id: u64,
    /// The thread that called; 0 if it is not visible to us.
    pub(in crate::observer) thread: pid_t,
    pub(in crate::observer) number: c_int,
    pub(in crate::observer) architecture: u32,
    /// The address of the instruction after the call.
    pub(in crate::observer) instruction: u64,
    pub(in crate::observer) args: [u64; 6],
}

/// Installs the filter for the calling thread and everything it starts from now on. Returns the
/// descriptor that receives notifications, or the system's error number. Async-signal-safe.
pub(in crate::observer) fn install(program: &[sock_filter]) -> Result<RawFd, c_int> {
    let header = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or(u16::MAX),
        filter: program.as_ptr().cast_mut(),
    };
    // Without SPEC_ALLOW, some kernels disable speculation for every observed process.
    let flags: c_ulong = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
        | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
        | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    // SAFETY: both are plain system calls; `header` and the program that it points to live until
    // they return, and the kernel only reads them.
    let fd = unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(*libc::__errno_location());
        }
        libc::syscall(
            libc::SYS_seccomp,
            c_long::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const header,
        )
    };
    if fd < 0 {
        // SAFETY: the thread's own errno.
        return Err(unsafe { *libc::__errno_location() });
    }
    Ok(RawFd::try_from(fd).unwrap_or(-1))
}

/// Sends two numbers as one message. Async-signal-safe. The filter traps `sendmsg`, so a
/// descriptor cannot be passed: its number is sent, and [`take`] fetches it.
pub(in crate::observer) fn send_pair(socket: RawFd, message: [c_int; 2]) -> bool {
    let length = size_of_val(&message);
    // SAFETY: reads the array that it is given.
    let sent = unsafe { libc::send(socket, message.as_ptr().cast(), length, libc::MSG_NOSIGNAL) };
    sent.cast_unsigned() == length
}

/// Receives what [`send_pair`] sent; `None` once every sender has closed. Async-signal-safe.
pub(in crate::observer) fn receive_pair(socket: RawFd) -> Option<[c_int; 2]> {
    let mut message = [0; 2];
    let length = size_of_val(&message);
    loop {
        // SAFETY: writes into the array that it is given.
        let count = unsafe { libc::recv(socket, message.as_mut_ptr().cast(), length, 0) };
        if count.cast_unsigned() == length {
            return Some(message);
        }
        // SAFETY: the thread's own errno.
        if count >= 0 || unsafe { *libc::__errno_location() } != libc::EINTR {
            return None;
        }
    }
}

/// Duplicates the descriptor `fd` of the process `pid` into this process.
pub(in crate::observer) fn take(pid: pid_t, fd: c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain system calls on numbers; what they return is ours alone.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if process < 0 {
            return Err(io::Error::last_os_error());
        }
        let process = OwnedFd::from_raw_fd(RawFd::try_from(process).unwrap_or(-1));
        let taken = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0);
        if taken < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(RawFd::try_from(taken).unwrap_or(-1)))
    }
}

/// Kills a process whose calls nobody can answer.
pub(in crate::observer) fn kill(pid: pid_t) {
    // SAFETY: a plain system call on numbers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// The supervisor's end of a filter: it receives the notifications.
#[derive(Debug)]
pub(in crate::observer) struct Listener(OwnedFd);

impl Listener {
    pub(in crate::observer) fn new(fd: OwnedFd) -> Self {
        let listener = Self(fd);
        listener.share_processor(true);
        listener
    }

    /// Whether caller and answering thread wake each other on the processor that they are on,
    /// rather than where the scheduler finds room.
    pub(in crate::observer) fn share_processor(&self, share: bool) {
        let flags: c_ulong = if share { SYNC_WAKE_UP } else { 0 };
        // SAFETY: takes a number. An older kernel refuses, and is only slower.
        unsafe { libc::ioctl(self.raw(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, flags) };
    }

    pub(in crate::observer) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    pub(in crate::observer) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The next call, which is waited for. `None` if the caller was killed meanwhile, if the wait was
    /// interrupted ([`interrupt`]), and on Linux 6.11 and newer if no process is left under the
    /// filter.
    pub(in crate::observer) fn next(&self) -> io::Result<Option<Notification>> {
        #[repr(C, align(8))]
        struct Buffer([u8; MAX_NOTIFICATION]);
        let mut buffer = Buffer([0; MAX_NOTIFICATION]);
        // SAFETY: the buffer is zeroed as the kernel demands, and larger than what it writes
        // (`sizes_fit` was asked before).
        let result = unsafe {
            libc::ioctl(self.raw(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, buffer.0.as_mut_ptr())
        };
        if result != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        // SAFETY: aligned, initialised, and plain numbers all through.
        let told = unsafe { &*buffer.0.as_ptr().cast::<libc::seccomp_notif>() };
        Ok(Some(Notification {
            id: told.id,
            thread: told.pid.cast_signed(),
            number: told.data.nr,
            architecture: told.data.arch,
            instruction: told.data.instruction_pointer,
            args: told.data.args,
        }))
    }

    /// Lets the kernel execute the call. A caller that was killed is no error.
    pub(in crate::observer) fn proceed(&self, id: u64) {
        proceed(self.raw(), id);
    }

    /// Whether the notification is still open, so that its thread id still means the caller.
    pub(in crate::observer) fn is_open(&self, id: u64) -> bool {
        // SAFETY: reads the number that it is given.
        unsafe {
            libc::ioctl(self.raw(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _, &raw const id) == 0
        }
    }
}

fn proceed(listener: RawFd, id: u64) {
    let answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    };
    // SAFETY: reads the structure that it is given, and the thread's own errno.
    unsafe {
        // Interrupted, it has answered nothing.
        while libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw const answer) != 0
            && *libc::__errno_location() == libc::EINTR
        {}
    }
}

/// The signal that interrupts a thread's wait for a call: the last real-time signal that nobody in
/// this process had a use for when it was first asked. `None` if there is none.
pub(in crate::observer) fn interruption() -> Option<c_int> {
    static SIGNAL: OnceLock<Option<c_int>> = OnceLock::new();
    extern "C" fn nothing(_: c_int) {}
    let takes = |signal: &c_int| {
        // SAFETY: a disposition is plain numbers, and the handler does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(*signal, std::ptr::null(), &raw mut action) != 0
                || action.sa_sigaction != libc::SIG_DFL
            {
                return false;
            }
            // Without SA_RESTART, or the wait would go on.
            action.sa_sigaction = nothing as *const () as libc::sighandler_t;
            libc::sigaction(*signal, &raw const action, std::ptr::null_mut()) == 0
        }
    };
    *SIGNAL.get_or_init(|| (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(takes))
}

/// Lets the calling thread be interrupted, whatever signals its creator has blocked.
pub(in crate::observer) fn allow_interruption() {
    let Some(signal) = interruption() else { return };
    // SAFETY: a set is plain numbers, made empty and then filled with one signal.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Interrupts the wait of a thread of this process that has not been joined.
pub(in crate::observer) fn interrupt(thread: libc::pthread_t) {
    if let Some(signal) = interruption() {
        // SAFETY: the handle is valid until the thread is joined.
        unsafe { libc::pthread_kill(thread, signal) };
    }
}

/// Whether the kernel's notification fits into our buffer, and its response has the known size.
pub(in crate::observer) fn sizes_fit() -> io::Result<bool> {
    // SAFETY: plain numbers, for which all zeros is a value.
    let mut sizes: libc::seccomp_notif_sizes = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure that it is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            c_long::from(libc::SECCOMP_GET_NOTIF_SIZES),
            0,
            &raw mut sizes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::from(sizes.seccomp_notif) <= MAX_NOTIFICATION
        && usize::from(sizes.seccomp_notif) >= size_of::<libc::seccomp_notif>()
        && usize::from(sizes.seccomp_notif_resp) == size_of::<libc::seccomp_notif_resp>()
        && offset_of!(libc::seccomp_notif, id) == 0)
}

/// Waits until a descriptor is readable or closed, for at most `limit` milliseconds, or for ever if
/// `limit` is negative. Results are in `revents`.
pub(in crate::observer) fn wait(polled: &mut [libc::pollfd], limit: c_int) -> io::Result<usize> {
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or(0);
    // SAFETY: the slice is as long as said.
    match unsafe { libc::poll(polled.as_mut_ptr(), count, limit) } {
        ..0 => {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
        }
        ready => Ok(ready.unsigned_abs() as usize),
    }
}

/// Copies from another process's memory, up to its first unmapped page. `Ok(0)` if nothing is
/// mapped at `address`.
///
/// # Errors
/// The process is gone, or reading its memory is not allowed.
pub(in crate::observer) fn read_memory(
    thread: pid_t,
    address: u64,
    into: &mut [u8],
) -> io::Result<usize> {
    // A tagged pointer's uppermost byte is not part of the address.
    #[cfg(target_arch = "aarch64")]
    let address = address & 0x00ff_ffff_ffff_ffff;
    // Page by page: the kernel may refuse as a whole a part that crosses into an unmapped page.
    let mut remote = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 4];
    let (mut from, mut left, mut parts) = (address, into.len(), 0);
    while left > 0 && parts < remote.len() {
        let Ok(start) = usize::try_from(from) else { break };
        let length = left.min(PAGE_SIZE - start % PAGE_SIZE);
        remote[parts] =
            libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: length };
        let Some(next) = from.checked_add(length as u64) else { break };
        (from, left, parts) = (next, left - length, parts + 1);
    }
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: the kernel writes no more than the local part holds; the remote addresses are only
    // ever looked up in the other process.
    let count = unsafe {
        libc::process_vm_readv(thread, &raw const local, 1, remote.as_ptr(), parts as c_ulong, 0)
    };
    match count {
        ..0 => {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EFAULT) { Ok(0) } else { Err(error) }
        }
        count => Ok(count.unsigned_abs()),
    }
}

/// The smallest page size of both architectures. Larger pages only make the parts shorter.
const PAGE_SIZE: usize = 4096;

/// Leaves a process behind that lets all further calls of the observed processes continue, until
/// the last of these has ended. Without it each such call would fail with `ENOSYS`.
pub(in crate::observer) fn keep_answering(listener: &Listener) -> io::Result<()> {
    // SAFETY: between fork and exec the children make plain system calls on numbers only.
    unsafe {
        match libc::fork() {
            ..0 => return Err(io::Error::last_os_error()),
            0 => {
                // Fork twice, so that nobody has to reap the process that stays.
                if libc::fork() != 0 {
                    libc::_exit(0);
                }
                answer_alone(listener.raw());
            }
            child => {
                while libc::waitpid(child, std::ptr::null_mut(), 0) < 0
                    && *libc::__errno_location() == libc::EINTR
                {}
            }
        }
    }
    Ok(())
}

/// The main loop of a process that was left behind. Async-signal-safe calls only.
fn answer_alone(listener: RawFd) -> ! {
    // SAFETY: plain system calls; this process has one thread and shares nothing.
    unsafe {
        libc::setsid();
        libc::dup2(listener, 0);
        libc::syscall(libc::SYS_close_range, 1, u32::MAX, 0);
        libc::chdir(c"/".as_ptr());
        loop {
            let mut polled = libc::pollfd { fd: 0, events: libc::POLLIN, revents: 0 };
            if libc::poll(&raw mut polled, 1, -1) < 0 {
                continue;
            }
            if polled.revents & libc::POLLIN == 0 {
                if polled.revents & libc::POLLHUP == 0 {
                    continue;
                }
                libc::_exit(0);
            }
            let mut buffer = [0_u64; MAX_NOTIFICATION / 8];
            if libc::ioctl(0, libc::SECCOMP_IOCTL_NOTIF_RECV as _, buffer.as_mut_ptr()) == 0 {
                proceed(0, buffer[0]);
            }
        }
    }
}
