//! Running one child in our own place: our terminal, our group, our standard input and error. Only
//! its standard output goes through us. Whoever started us sees what they would see of the child.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use super::{SpawnError, Spec};
use crate::model::End;

/// How long standard output is still read once the child has ended: a process that it left behind
/// can hold it for ever.
const DRAIN: Duration = Duration::from_millis(200);
/// Signals that are meant for the child when we get them.
const HANDED_ON: [libc::c_int; 6] =
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// What came of the child.
#[derive(Debug)]
pub struct ForegroundRun {
    /// How it ended.
    pub end: End,
    /// All that it printed, if that is no more than was asked for and all of it reached our own
    /// standard output.
    pub stdout: Option<Vec<u8>>,
    /// From start to end.
    pub elapsed: Duration,
}

/// Runs `spec` to its end in our place, and keeps up to `most` bytes of what it prints. Signals
/// that are sent to us alone are handed on to it. To be called once, by the main thread.
///
/// # Errors
/// If the program cannot be started; then nothing has happened.
pub fn run_in_foreground(
    spec: &Spec,
    most: usize,
    held: BlockedSignals,
) -> Result<ForegroundRun, SpawnError> {
    let started = Instant::now();
    let child_of_signals: Arc<Mutex<Option<Pid>>> = Arc::default();
    let mut command = spec.command_in_place()?;
    start_without(&mut command, held);
    let mut child = command.spawn().map_err(|error| spec.error(error))?;
    let pid = Pid::from_child(&child);
    *child_of_signals.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
    let ours = Arc::clone(&child_of_signals);
    // Without a thread left in the system, signals reach the child only if its group gets them.
    let _ = std::thread::Builder::new().name("signals".to_owned()).spawn(move || hand_on(&ours));
    let watch = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| spec.error(error.into()));
    let mut pipe = child.stdout.take();
    let mut kept = Some(Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    let mut drained: Option<Instant> = None;
    while let (Some(reader), Ok(watch)) = (&mut pipe, &watch) {
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
            let count = reader.read(&mut buffer).unwrap_or(0);
            let piece = &buffer[..count];
            let mut out = io::stdout().lock();
            if count == 0 {
                break;
            }
            if out.write_all(piece).and_then(|()| out.flush()).is_err() {
                // Nobody reads us: then nobody reads the child either, as it will notice.
                kept = None;
                pipe = None;
                continue;
            }
            kept = kept.filter(|kept| kept.len() + count <= most);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(piece);
            }
        }
        match drained {
            None if ended => drained = Some(Instant::now() + DRAIN),
            Some(until) if Instant::now() >= until => {
                kept = None;
                break;
            }
            _ => {}
        }
    }
    if let Ok(watch) = &watch {
        // Until it has ended; it is collected only when nobody can signal its number any more.
        while poll(&mut [PollFd::new(watch, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {
        }
        *child_of_signals.lock().unwrap_or_else(PoisonError::into_inner) = None;
    } else {
        kept = None;
    }
    let status = child.wait().map_err(|error| spec.error(error))?;
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    };
    Ok(ForegroundRun { end, stdout: kept, elapsed: started.elapsed() })
}

/// Signals that wait until they are handed on to a child; and what waited before.
#[derive(Clone, Copy)]
pub struct BlockedSignals(libc::sigset_t);

impl std::fmt::Debug for BlockedSignals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockedSignals")
    }
}

/// From here on the signals that are meant for a child wait until they are handed on; threads that
/// are started later inherit that.
#[expect(unsafe_code, reason = "signal sets are the kernel's own interface")]
#[must_use]
pub fn block_signals() -> BlockedSignals {
    let set = signals();
    // SAFETY: the call only reads one set and fills the other, and both live on our stack.
    unsafe {
        let mut before = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
        BlockedSignals(before)
    }
}

impl BlockedSignals {
    /// As it was before, for this thread and what it starts.
    #[expect(unsafe_code, reason = "signal sets are the kernel's own interface")]
    pub fn release(&self) {
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
        for signal in HANDED_ON {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

#[expect(unsafe_code, reason = "pre_exec is the kernel's own interface for this")]
fn start_without(command: &mut std::process::Command, held: BlockedSignals) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: one async-signal-safe call.
    unsafe {
        command.pre_exec(move || {
            held.release();
            Ok(())
        });
    }
}

/// Hands on what somebody sent to us. What the terminal sends, it sends to the child too.
#[expect(unsafe_code, reason = "waiting for signals is the kernel's own interface")]
fn hand_on(child: &Mutex<Option<Pid>>) {
    let set = signals();
    loop {
        // SAFETY: the set and the place for the answer live on our stack.
        let (number, code) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            (libc::sigwaitinfo(&raw const set, &raw mut info), info.si_code)
        };
        let Some(signal) = Signal::from_named_raw(number) else { continue };
        if code > 0 {
            continue;
        }
        if let Some(pid) = *child.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Ends this process as the child ended, so that whoever waits for us sees the same.
#[expect(unsafe_code, reason = "a signal's own effect on us is the kernel's interface")]
pub fn end_as(end: End) -> i32 {
    match end {
        End::Exit(code) => code,
        End::Signal(number) => {
            // SAFETY: sets limits and dispositions of this process, which has nothing left to do.
            unsafe {
                // One core file, the child's, is enough.
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
