//! The threads that answer an observed run's calls.
//!
//! ```text
//! control     one for an observation: takes the children's listeners, and ends the observation
//! answering   two for a listener: receive a call, record it, let it continue
//! guard       one for an observation: lets calls continue while one is stuck ([`SharedRecorder`])
//! ```
//!
//! **Cost of a call.** Two switches between the caller and an answering thread, which wake each
//! other on one processor, and four system calls: look whether a call waits, receive, read the
//! path, send. An answering thread blocks in receiving. Linux 6.11 and newer end that wait with the last
//! observed process. Processes that outlive the run do not end it, nor does an older kernel; there
//! a signal does.
//!
//! The kernel wakes both threads for each call, which costs a tenth of it where one thread of the run
//! calls at a time, and saves the second caller from waiting for the first one where two do. If a
//! call waits all the same, it was made on another processor, which idles meanwhile. On our own
//! processor its caller would queue. So the scheduler chooses where that one goes on.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::thread::JoinHandleExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::seccomp::{self, Listener};
use super::shared_recorder::{GUARD_INTERVAL, SharedRecorder};
use super::syscall::SyscallRecorder;
use crate::observer::{Observation, Problem};
use crate::process::{share_listener, withdraw_listener};

/// The answering threads of a listener.
const THREADS: usize = 2;
/// How long processes that are ending may still take after the child was reaped.
const EXIT_WAIT: Duration = Duration::from_millis(200);
/// How long a child may take to install its filter, which is a few system calls.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a thread that was interrupted may take before it is interrupted again: the signal may
/// have come just before its wait. Doubled each time, up to [`GUARD_INTERVAL`].
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(1);

/// What the threads of one observation share.
struct SupervisorState {
    recorder: SharedRecorder,
    /// The observation ends: answering threads stop.
    ending: AtomicBool,
}

/// What the answering threads of a listener share.
struct CallQueue {
    listener: Arc<Listener>,
    /// Caller and answering thread wake each other on one processor.
    shares_processor: AtomicBool,
}

/// The answering threads of a listener. Their end closes `alive`.
struct AnsweringThreads {
    listener: Arc<Listener>,
    threads: Vec<JoinHandle<()>>,
    alive: mpsc::Receiver<Infallible>,
    /// The process whose calls they answer, with those of all that it starts.
    child: Option<Pid>,
}

/// The outcome of a child's start.
enum Arrival {
    Listener(Listener, Option<Pid>),
    /// The child runs unobserved, which has been recorded.
    Unobserved,
    /// No child can start any more.
    NoMore,
}

/// The control thread of one observation.
pub(in crate::observer) struct Supervisor {
    shared: Arc<SupervisorState>,
    /// The socket on which children announce their listeners.
    arrivals: OwnedFd,
    /// A pipe that is closed to end the observation.
    stop: OwnedFd,
}

impl Supervisor {
    pub(in crate::observer) fn new(
        recorder: SyscallRecorder,
        arrivals: OwnedFd,
        stop: OwnedFd,
    ) -> Self {
        let recorder = SharedRecorder::new(recorder);
        let shared = SupervisorState { recorder, ending: AtomicBool::new(false) };
        Self { shared: Arc::new(shared), arrivals, stop }
    }

    /// Has calls answered until it is told to stop and the process tree has ended or [`EXIT_WAIT`]
    /// passed.
    pub(in crate::observer) fn work(self, report: &mpsc::SyncSender<Observation>) {
        let (_until_the_end, end) = mpsc::channel();
        let shared = Arc::clone(&self.shared);
        if let Err(error) = spawn("observer guard", move || shared.recorder.guard(&end)) {
            self.problem(Problem::Kernel(error.to_string()));
            self.shared.recorder.disable();
        }
        let mut all = Vec::new();
        let mut started = false;
        let (mut stopped, mut arrivals) = (false, true);
        // A child that has announced itself before the end is observed.
        while arrivals || !stopped {
            let mut polled = [
                pollfd(if stopped { -1 } else { self.stop.as_raw_fd() }),
                pollfd(if arrivals { self.arrivals.as_raw_fd() } else { -1 }),
            ];
            match seccomp::wait(&mut polled, if stopped { 0 } else { -1 }) {
                Ok(0) if stopped => break,
                Ok(_) => {}
                Err(error) => {
                    self.problem(Problem::Kernel(error.to_string()));
                    break;
                }
            }
            if polled[1].revents != 0 {
                match self.arrive() {
                    Arrival::Listener(listener, child) => {
                        started = true;
                        all.extend(self.start_answering(listener, child));
                    }
                    Arrival::Unobserved => started = true,
                    Arrival::NoMore => arrivals = false,
                }
            }
            stopped |= polled[0].revents != 0;
        }
        if !started {
            self.problem(Problem::NotStarted("no program was started".into()));
        }
        wait_for_ends(&all);
        self.shared.ending.store(true, Ordering::SeqCst);
        let mut left_behind = false;
        let deadline = Instant::now() + GUARD_INTERVAL;
        for threads in &all {
            // One that is stuck may wait for a process that is left behind.
            let stopped = threads.stop(Some(deadline));
            if !stopped || !has_ended(&threads.listener) {
                left_behind = true;
                self.leave(&threads.listener);
            }
            // From now on calls that nobody answers are to fail.
            threads.child.into_iter().for_each(withdraw_listener);
        }
        for threads in all {
            threads.stop(None);
            for thread in threads.threads {
                // A panic was recorded, if it was in the handling of a call.
                let _ = thread.join();
            }
        }
        let mut observation = self.shared.recorder.close();
        observation.left_behind = left_behind;
        // If the handle was dropped, nobody receives the report.
        let _ = report.send(observation);
    }

    /// The supervisor's side of the handshake of `start::enter_filter`.
    fn arrive(&self) -> Arrival {
        let socket = self.arrivals.as_raw_fd();
        let Some([pid, fd]) = seccomp::receive_pair(socket) else { return Arrival::NoMore };
        if let Err(error) = seccomp::take(pid, fd) {
            seccomp::send_pair(socket, seccomp::REFUSED);
            return self.not_started(&error);
        }
        if !seccomp::send_pair(socket, seccomp::READY) {
            return Arrival::NoMore;
        }
        // The child answers at once unless it was killed; then we are told to stop.
        let deadline = Instant::now() + INSTALL_TIMEOUT;
        loop {
            let mut polled = [pollfd(socket), pollfd(self.stop.as_raw_fd())];
            if seccomp::wait(&mut polled, 1000).is_err() || polled[0].revents != 0 {
                break;
            }
            if polled[1].revents != 0 || Instant::now() > deadline {
                return self.not_started(&io::ErrorKind::TimedOut.into());
            }
        }
        match seccomp::receive_pair(socket) {
            Some([_, code @ ..0]) => self.not_started(&io::Error::from_raw_os_error(-code)),
            Some([pid, listener]) => match seccomp::take(pid, listener) {
                Ok(fd) => {
                    seccomp::send_pair(socket, seccomp::READY);
                    Arrival::Listener(Listener::new(fd), Pid::from_raw(pid))
                }
                Err(error) => {
                    // Fetching worked a moment ago. Nobody can answer this child's calls now.
                    seccomp::kill(pid);
                    self.not_started(&error)
                }
            },
            None => Arrival::NoMore,
        }
    }

    fn not_started(&self, error: &io::Error) -> Arrival {
        self.problem(Problem::NotStarted(error.to_string()));
        Arrival::Unobserved
    }

    fn problem(&self, problem: Problem) {
        self.shared.recorder.problem(problem);
    }

    /// Starts the threads of a listener. If the system has none left, the calls continue unseen.
    fn start_answering(&self, listener: Listener, child: Option<Pid>) -> Option<AnsweringThreads> {
        let listener = Arc::new(listener);
        let queue =
            CallQueue { listener: Arc::clone(&listener), shares_processor: AtomicBool::new(true) };
        let queue = Arc::new(queue);
        let (running, alive) = mpsc::channel();
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&queue));
            let until_the_end = running.clone();
            let started = spawn("observer", move || {
                let _until_the_end = until_the_end;
                own.answer_calls(&shared);
            });
            match started {
                Ok(thread) => threads.push(thread),
                Err(error) => self.problem(Problem::Kernel(error.to_string())),
            }
        }
        if threads.is_empty() {
            self.leave(&listener);
            return None;
        }
        if let Some(child) = child {
            share_listener(child, listener.as_fd());
        }
        Some(AnsweringThreads { listener, threads, alive, child })
    }

    /// Leaves a process behind that lets all further calls continue.
    fn leave(&self, listener: &Listener) {
        if let Err(error) = seccomp::keep_answering(listener) {
            self.problem(Problem::Kernel(error.to_string()));
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

/// Waits until no process is left under any filter, for [`EXIT_WAIT`] at most.
fn wait_for_ends(all: &[AnsweringThreads]) {
    let end = Instant::now() + EXIT_WAIT;
    for AnsweringThreads { listener, .. } in all {
        let mut left = EXIT_WAIT;
        // The end of a listener is told unasked.
        let mut polled = [libc::pollfd { events: 0, ..pollfd(listener.raw()) }];
        while polled[0].revents == 0 && !left.is_zero() {
            left = end.saturating_duration_since(Instant::now());
            if seccomp::wait(&mut polled, milliseconds(left)).is_err() {
                return;
            }
        }
    }
}

impl AnsweringThreads {
    /// Ends the threads, which have been told to stop but may be waiting for a call. Whether they had
    /// ended by the deadline.
    fn stop(&self, deadline: Option<Instant>) -> bool {
        let mut pause = INTERRUPT_INTERVAL;
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return false;
            }
            for thread in self.threads.iter().filter(|thread| !thread.is_finished()) {
                seccomp::interrupt(thread.as_pthread_t());
            }
            if self.alive.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Disconnected) {
                break;
            }
            pause = GUARD_INTERVAL.min(2 * pause);
        }
        true
    }
}

impl CallQueue {
    /// Answers calls until the last process has ended or the observation ends.
    fn answer_calls(&self, shared: &SupervisorState) {
        seccomp::allow_interruption();
        while !shared.ending.load(Ordering::SeqCst) {
            let share = !waits(&self.listener);
            if share != self.shares_processor.swap(share, Ordering::Relaxed) {
                self.listener.share_processor(share);
            }
            match self.listener.next() {
                Ok(Some(call)) => shared.recorder.answer(&self.listener, &call),
                Ok(None) if has_ended(&self.listener) => return,
                // The caller was killed, or we were interrupted.
                Ok(None) => {}
                Err(error) => {
                    shared.recorder.problem(Problem::Kernel(error.to_string()));
                    if let Err(error) = seccomp::keep_answering(&self.listener) {
                        shared.recorder.problem(Problem::Kernel(error.to_string()));
                    }
                    return;
                }
            }
        }
    }
}

/// Whether a call is waiting now.
fn waits(listener: &Listener) -> bool {
    let mut polled = [pollfd(listener.raw())];
    seccomp::wait(&mut polled, 0).is_ok() && polled[0].revents & libc::POLLIN != 0
}

/// Whether no process is left under the filter.
fn has_ended(listener: &Listener) -> bool {
    let mut polled = [pollfd(listener.raw())];
    seccomp::wait(&mut polled, 0).is_ok() && ended(polled[0].revents)
}

/// What a listener's poll says once no process is left under the filter and no call is waiting. It says
/// `POLLERR` where it was interrupted.
fn ended(revents: libc::c_short) -> bool {
    revents & libc::POLLHUP != 0 && revents & libc::POLLIN == 0
}

fn pollfd(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

fn milliseconds(time: Duration) -> libc::c_int {
    libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX)
}
