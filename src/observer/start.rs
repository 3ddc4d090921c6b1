//! Starts observations: checks whether they work here, and puts a child under the filter.

#![expect(unsafe_code, reason = "the hook runs between fork and exec")]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::loader::KnownLoader;
use super::supervisor::Supervisor;
use super::syscall::SyscallRecorder;
use super::{filter, seccomp};
use crate::observer::{Observation, ObserveOptions, Problem, Unavailable};
use crate::process::Spec;

/// How long the end-to-end trial may take on a machine under load.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long [`ObservationHandle::finish`] waits for the supervisor's report.
const REPORT_TIMEOUT: Duration = Duration::from_secs(2);
/// So many calls of the trial are timed; the median is taken for the cost of a call.
const TRIAL_CALLS: usize = 33;
/// A path that no other program looks up.
const TRIAL_PATH: &std::ffi::CStr = c"/knhk-test-cache observer trial";

/// An observation in progress. Dropping the writing end of `stop` ends it.
#[derive(Debug)]
pub(in crate::observer) struct ObservationHandle {
    stop: Option<io::PipeWriter>,
    report: mpsc::Receiver<Observation>,
}

impl ObservationHandle {
    pub(in crate::observer) fn finish(mut self) -> Observation {
        self.stop = None;
        self.report.recv_timeout(REPORT_TIMEOUT).unwrap_or_else(|error| {
            let mut observation = Observation::default();
            observation.problems.insert(match error {
                mpsc::RecvTimeoutError::Timeout => Problem::Stuck,
                mpsc::RecvTimeoutError::Disconnected => Problem::Bug,
            });
            observation
        })
    }
}

pub(in crate::observer) fn observe(
    spec: &Spec,
    options: ObserveOptions,
) -> Result<(Spec, ObservationHandle), Unavailable> {
    let failed = |error: io::Error| Unavailable::Forbidden(error.to_string());
    let flags = SocketFlags::CLOEXEC;
    let (arrivals, sender) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|error| failed(error.into()))?;
    let (stop, stopper) = io::pipe().map_err(failed)?;
    // With room for one report, the supervisor never waits for its reader.
    let (send, report) = mpsc::sync_channel(1);
    let loader = KnownLoader::current(options.loader_calls);
    let program = filter::program(loader.as_deref(), options.tells_panics);
    let recorder = SyscallRecorder::new(options, loader);
    let supervisor = Supervisor::new(recorder, arrivals, stop.into());
    std::thread::Builder::new()
        .name("observer control".into())
        .spawn(move || supervisor.work(&send))
        .map_err(failed)?;
    let hook = move || {
        enter_filter(&program, sender.as_raw_fd());
        Ok(())
    };
    // SAFETY: the hook makes system calls on numbers and on memory that was there before the
    // fork, all of them async-signal-safe.
    let spec = unsafe { spec.clone().before_exec(hook) };
    Ok((spec, ObservationHandle { stop: Some(stopper), report }))
}

/// Puts the child under the filter, between fork and exec. First the child asks whether its
/// descriptors can be fetched: once the filter is installed, its next call waits for an answer.
fn enter_filter(program: &[libc::sock_filter], socket: RawFd) {
    // SAFETY: cannot fail.
    let own = unsafe { libc::getpid() };
    if !seccomp::send_pair(socket, [own, socket])
        || seccomp::receive_pair(socket) != Some(seccomp::READY)
    {
        // The run goes on unobserved, and the supervisor knows that.
        return;
    }
    let listener = seccomp::install(program).unwrap_or_else(|code| -code);
    seccomp::send_pair(socket, [own, listener]);
    // A listener that the child itself keeps open would leave its `execve` waiting for ever for a
    // supervisor that was killed.
    if listener >= 0 && seccomp::receive_pair(socket) == Some(seccomp::READY) {
        // SAFETY: the kernel made this descriptor for us, and nothing else here knows it.
        unsafe { libc::close(listener) };
    }
}

/// Tries everything, on a thread of this process under a filter of its own: how long a call takes.
pub(in crate::observer) fn available() -> Result<Duration, Unavailable> {
    // 2 lets only the administrator read other processes' memory, 3 nobody.
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let scope = scope.trim().parse().unwrap_or(0);
    if scope >= 3 || (scope == 2 && !rustix::process::geteuid().is_root()) {
        return Err(Unavailable::Forbidden(format!(
            "kernel.yama.ptrace_scope is {scope}: set it to 0 or 1"
        )));
    }
    if seccomp::interruption().is_none() {
        return Err(Unavailable::Forbidden("this process uses all real-time signals".into()));
    }
    match seccomp::sizes_fit() {
        Ok(true) => {}
        Ok(false) => return Err(Unavailable::Kernel("an unknown form of notification".into())),
        Err(error) => return Err(refused(&error)),
    }
    let program = filter::program(None, false);
    let (send, receive) = mpsc::channel();
    let (send_cost, cost) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("observer trial".into())
        .spawn(move || {
            let installed = seccomp::install(&program);
            let worked = installed.is_ok();
            let _ = send.send(installed);
            if worked {
                let time = |_| {
                    let began = Instant::now();
                    // SAFETY: a constant text; the answer does not matter.
                    unsafe { libc::access(TRIAL_PATH.as_ptr(), libc::F_OK) };
                    began.elapsed()
                };
                let mut times: Vec<_> = (0..TRIAL_CALLS).map(time).collect();
                times.sort_unstable();
                let _ = send_cost.send(times[TRIAL_CALLS / 2]);
            }
        })
        .map_err(|error| Unavailable::Forbidden(error.to_string()))?;
    let listener = match receive.recv() {
        // SAFETY: the kernel made this descriptor for us, and nobody else knows it.
        Ok(Ok(fd)) => seccomp::Listener::new(unsafe { OwnedFd::from_raw_fd(fd) }),
        Ok(Err(code)) => return Err(refused(&io::Error::from_raw_os_error(code))),
        Err(_) => return Err(Unavailable::Forbidden("the trial ended early".into())),
    };
    let result = watch_trial(&listener);
    // Without a listener the thread's remaining calls fail, and it ends.
    drop(listener);
    let _ = thread.join();
    result?;
    cost.recv().map_err(|_| Unavailable::Forbidden("the trial ended early".into()))
}

/// Answers the trial's calls until its thread has ended.
fn watch_trial(listener: &seccomp::Listener) -> Result<(), Unavailable> {
    let forbidden = |error: io::Error| Unavailable::Forbidden(error.to_string());
    let deadline = Instant::now() + TRIAL_TIMEOUT;
    let mut read = Err(Unavailable::Kernel("no call was notified".into()));
    while Instant::now() < deadline {
        let mut polled = [libc::pollfd { fd: listener.raw(), events: libc::POLLIN, revents: 0 }];
        seccomp::wait(&mut polled, 100).map_err(forbidden)?;
        if polled[0].revents & libc::POLLIN == 0 {
            if polled[0].revents != 0 {
                break;
            }
            continue;
        }
        let Some(call) = listener.next().map_err(forbidden)? else { continue };
        let wanted = TRIAL_PATH.to_bytes_with_nul();
        for address in &call.args[..2] {
            let mut text = [0; TRIAL_PATH.count_bytes() + 1];
            match seccomp::read_memory(call.thread, *address, &mut text) {
                Ok(_) if text == wanted => read = Ok(()),
                Ok(_) => {}
                Err(error) => {
                    read = Err(Unavailable::Forbidden(format!(
                        "other processes' memory cannot be read: {error}"
                    )));
                }
            }
        }
        listener.proceed(call.id);
    }
    read
}

fn refused(error: &io::Error) -> Unavailable {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => Unavailable::Kernel(error.to_string()),
        Some(libc::EBUSY) => Unavailable::Observed,
        _ => Unavailable::Forbidden(error.to_string()),
    }
}
