//! Runs one child in the place of this process: same terminal, process group, standard input and
//! standard error. Only its standard output passes through us, to be recorded, and standard error
//! where both are wanted and are one terminal. If ours is a terminal, the child gets a
//! pseudo-terminal of the same size, so that it behaves as without us.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{
    OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use super::run::DRAIN_WAIT;
use super::{SpawnError, Spec, guardian};
use crate::model::End;

/// Signals that are passed on to the child when somebody sends them to us.
const PASSED_ON: [libc::c_int; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// The outcome of a run in the foreground.
#[derive(Debug)]
pub(crate) struct ForegroundRun {
    /// How the child ended.
    pub end: End,
    /// Everything it printed, unless that was more than the limit or did not reach our own standard
    /// output.
    pub stdout: Option<Vec<u8>>,
    /// From start to end.
    pub elapsed: Duration,
}

/// What the threads of a run share.
#[derive(Default)]
struct ForegroundChild {
    /// The child, while it can be signalled.
    child: Option<Pid>,
    /// The pseudo-terminal, while the child writes to it.
    terminal: Option<OwnedFd>,
}

/// What is recorded of a run's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recording {
    /// At most so many bytes.
    pub limit: usize,
    /// Whether standard error is recorded too, in one stream with standard output. Both must be one
    /// terminal.
    pub with_errors: bool,
}

/// Whether standard output and standard error are one terminal.
pub(crate) fn is_one_terminal() -> bool {
    let name = |of: std::os::fd::BorrowedFd<'_>| rustix::termios::ttyname(of, Vec::new()).ok();
    let out = name(io::stdout().as_fd());
    out.is_some() && out == name(io::stderr().as_fd())
}

/// Runs `spec` to its end in our place, and records what `recording` says of its output. Signals
/// that are sent to us alone are passed on to the child. Call it once, on the main thread.
///
/// # Errors
/// If the program cannot be started; then nothing has happened.
pub(crate) fn run_in_foreground(
    spec: &Spec,
    recording: Recording,
    blocked: BlockedSignals,
) -> Result<ForegroundRun, SpawnError> {
    let started = Instant::now();
    let shared: Arc<Mutex<ForegroundChild>> = Arc::default();
    let mut command = spec.command_in_place()?;
    let terminal = if io::stdout().is_terminal() {
        let (ours, childs) = pseudo_terminal().map_err(|error| spec.error(error))?;
        if recording.with_errors {
            command.stderr(childs.try_clone().map_err(|error| spec.error(error))?);
        }
        command.stdout(childs);
        Some(ours)
    } else {
        None
    };
    unblock_in_child(&mut command, blocked);
    let mut child = command.spawn().map_err(|error| spec.error(error))?;
    // It holds the child's end of the pseudo-terminal, which must close with the child.
    drop(command);
    let pid = Pid::from_child(&child);
    {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.child = Some(pid);
        shared.terminal = terminal.as_ref().and_then(|terminal| terminal.try_clone().ok());
    }
    let ours = Arc::clone(&shared);
    // If the thread cannot be started, signals reach the child only through its group.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || pass_on(&ours));
    let watch = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| spec.error(error.into()));
    let piped = child.stdout.take().map(OwnedFd::from);
    let mut output = terminal.or(piped).map(File::from);
    let mut recorded = Some(Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    let mut drained: Option<Instant> = None;
    while let (Some(reader), Ok(watch)) = (&mut output, &watch) {
        let now = Instant::now();
        let left = drained.map(|until| until.saturating_duration_since(now));
        let wait =
            left.map(|left| Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()).max(1) });
        let mut polled = vec![PollFd::new(&*reader, PollFlags::IN)];
        if drained.is_none() {
            polled.push(PollFd::new(watch, PollFlags::IN));
        }
        match poll(&mut polled, wait.as_ref()) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break,
            Ok(_) => {}
        }
        let readable = !polled[0].revents().is_empty();
        let ended = polled.get(1).is_some_and(|ended| !ended.revents().is_empty());
        drop(polled);
        if readable {
            // A pseudo-terminal ends with an error, once nobody can write to it.
            let count = reader.read(&mut buffer).unwrap_or(0);
            let piece = &buffer[..count];
            let mut out = io::stdout().lock();
            if count == 0 {
                break;
            }
            if out.write_all(piece).and_then(|()| out.flush()).is_err() {
                // Our reader is gone. The child notices when it writes again.
                recorded = None;
                output = None;
                shared.lock().unwrap_or_else(PoisonError::into_inner).terminal = None;
                continue;
            }
            recorded = recorded.filter(|recorded| recorded.len() + count <= recording.limit);
            if let Some(recorded) = &mut recorded {
                recorded.extend_from_slice(piece);
            }
        }
        match drained {
            None if ended => drained = Some(Instant::now() + DRAIN_WAIT),
            Some(until) if Instant::now() >= until => {
                recorded = None;
                break;
            }
            _ => {}
        }
    }
    if let Ok(watch) = &watch {
        // The child is reaped only after nobody can signal its process id any more.
        while poll(&mut [PollFd::new(watch, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {
        }
        shared.lock().unwrap_or_else(PoisonError::into_inner).child = None;
    } else {
        recorded = None;
    }
    let status = child.wait().map_err(|error| spec.error(error))?;
    guardian::forget(pid);
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    };
    Ok(ForegroundRun { end, stdout: recorded, elapsed: started.elapsed() })
}

/// A pseudo-terminal of our terminal's size: our end, and the child's. It passes bytes on as they
/// are; our own terminal turns line feeds into new lines.
fn pseudo_terminal() -> io::Result<(OwnedFd, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let name = std::path::PathBuf::from(std::ffi::OsString::from(
        name.into_string().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?,
    ));
    let mut options = File::options();
    let childs = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(name)?;
    let mut modes = tcgetattr(&childs)?;
    modes.output_modes.remove(OutputModes::OPOST);
    tcsetattr(&childs, OptionalActions::Now, &modes)?;
    copy_size(&ours);
    Ok((ours, childs))
}

/// Gives a pseudo-terminal the size of our terminal.
fn copy_size(terminal: &OwnedFd) {
    if let Ok(size) = tcgetwinsize(io::stdout().as_fd()) {
        let _ = tcsetwinsize(terminal, size);
    }
}

/// The signal mask from before [`block_signals`].
#[derive(Clone, Copy)]
pub(crate) struct BlockedSignals(libc::sigset_t);

impl std::fmt::Debug for BlockedSignals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockedSignals")
    }
}

/// Blocks the signals that are passed on to a child, for this thread and those it starts later.
#[expect(unsafe_code, reason = "signal sets are the kernel's own interface")]
#[must_use]
pub(crate) fn block_signals() -> BlockedSignals {
    let set = signals();
    // SAFETY: the call only reads one set and fills the other, and both live on our stack.
    unsafe {
        let mut before = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
        BlockedSignals(before)
    }
}

impl BlockedSignals {
    /// Restores the mask from before, for this thread and those it starts later.
    #[expect(unsafe_code, reason = "signal sets are the kernel's own interface")]
    pub(crate) fn release(&self) {
        // SAFETY: the call only reads the set; it is async-signal-safe.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

#[expect(unsafe_code, reason = "signal sets are the kernel's own interface")]
fn signals() -> libc::sigset_t {
    // SAFETY: a set is plain numbers, made empty and then filled with known signals.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in PASSED_ON {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigaddset(&raw mut set, libc::SIGWINCH);
        set
    }
}

#[expect(unsafe_code, reason = "pre_exec is the kernel's own interface for this")]
fn unblock_in_child(command: &mut std::process::Command, blocked: BlockedSignals) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: one async-signal-safe call.
    unsafe {
        command.pre_exec(move || {
            blocked.release();
            Ok(())
        });
    }
}

/// Passes signals on to the child. Those from the terminal reach the child by themselves.
#[expect(unsafe_code, reason = "waiting for signals is the kernel's own interface")]
fn pass_on(shared: &Mutex<ForegroundChild>) {
    let set = signals();
    loop {
        // SAFETY: the set and the place for the answer live on our stack.
        let (number, code) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::sigwaitinfo(&raw const set, &raw mut info), info.si_code)
        };
        let Some(signal) = Signal::from_named_raw(number) else { continue };
        let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if signal == Signal::WINCH {
            shared.terminal.as_ref().inspect(|terminal| copy_size(terminal));
            continue;
        }
        if code > 0 {
            continue;
        }
        if let Some(pid) = shared.child {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Ends this process as the child ended, so that our parent sees the same. Returns the exit status.
#[expect(unsafe_code, reason = "a signal's own effect on us is the kernel's interface")]
pub(crate) fn end_as(end: End) -> i32 {
    match end {
        End::Exit(code) => code,
        End::Signal(number) => {
            // SAFETY: changes limits and dispositions of this process, which is about to end.
            unsafe {
                // The child's core file is enough.
                let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
                let mut set: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                libc::sigaddset(&raw mut set, number);
                libc::signal(number, libc::SIG_DFL);
                libc::raise(number);
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            }
            128 + number
        }
        End::TimedOut | End::Cancelled | End::NotStarted => 1,
    }
}
