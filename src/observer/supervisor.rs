//! The threads that answer an observed run's calls.
//!
//! ```text
//! control     one for an observation: takes the children's listeners, and ends the observation
//! answering   one for a listener: receives a call, records it, lets it continue
//! guard       one for a listener: takes over while its answering thread is stuck
//! ```
//!
//! A call that nobody answers hangs for ever. An answering thread itself can hang: on a dead network
//! mount, or on a FUSE file system that is served by the run waiting for us. So the guard lets all
//! calls continue once the thread has been busy with one for too long, and the observation is marked
//! incomplete.
//!
//! **Cost of a call.** Two switches between the caller and its answering thread, which wake each
//! other on one processor, and four system calls: look whether a call waits, receive, read the
//! path, send. The answering thread blocks in receiving. Linux 6.11 and newer end that wait with the last
//! observed process. Processes that outlive the run do not end it, nor does an older kernel; there
//! a signal does.
//!
//! A call that has to wait for another one's answer was made on another processor, which idles
//! meanwhile. On the answering thread's own processor both callers would queue. So the scheduler
//! chooses where the caller of the second one goes on. A second answering thread for one listener would
//! make calls dearer: the kernel wakes every waiting receiver for each call.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::thread::JoinHandleExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::seccomp::{self, Listener, Notification};
use super::syscall::SyscallRecorder;
use crate::observer::{Observation, Problem};
use crate::process::{share_listener, withdraw_listener};

/// How often the guard checks. A call that it sees twice is stuck.
const GUARD_INTERVAL: Duration = Duration::from_millis(500);
/// How long processes that are ending may still take after the child was reaped.
const EXIT_WAIT: Duration = Duration::from_millis(200);
/// How long a child may take to install its filter, which is a few system calls.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a thread that was interrupted may take before it is interrupted again: the signal may
/// have come just before its wait. Doubled each time, up to [`GUARD_INTERVAL`].
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(1);

/// What the threads of one observation share.
struct SharedRecord {
    recorder: Mutex<SyscallRecorder>,
    /// The observation ends: answering threads stop.
    ending: AtomicBool,
    /// The guard let calls continue unseen.
    skipped: AtomicBool,
}

impl SharedRecord {
    fn problem(&self, problem: Problem) {
        lock(&self.recorder).problem(problem);
    }
}

/// What an answering thread and its guard share.
struct CallQueue {
    listener: Listener,
    /// A counter; odd while a call is being handled.
    turn: AtomicU64,
    /// The call being handled.
    call: AtomicU64,
    /// The guard answers calls too: to receive one, lock `receiving` and check for one again.
    rescuing: AtomicBool,
    receiving: Mutex<()>,
}

/// An answering thread. Its end closes `alive`.
struct AnsweringThread {
    queue: Arc<CallQueue>,
    thread: JoinHandle<()>,
    alive: mpsc::Receiver<Infallible>,
    /// Whose calls it answers, and those of all that it starts.
    child: Option<Pid>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    shared: Arc<SharedRecord>,
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
        let shared = SharedRecord {
            recorder: Mutex::new(recorder),
            ending: AtomicBool::new(false),
            skipped: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), arrivals, stop }
    }

    /// Has calls answered until it is told to stop and the process tree has ended or [`EXIT_WAIT`]
    /// passed.
    pub(in crate::observer) fn work(self, report: &mpsc::SyncSender<Observation>) {
        let mut threads = Vec::new();
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
                    self.shared.problem(Problem::Kernel(error.to_string()));
                    break;
                }
            }
            if polled[1].revents != 0 {
                match self.arrive() {
                    Arrival::Listener(listener, child) => {
                        started = true;
                        threads.extend(self.start_answering(listener, child));
                    }
                    Arrival::Unobserved => started = true,
                    Arrival::NoMore => arrivals = false,
                }
            }
            stopped |= polled[0].revents != 0;
        }
        if !started {
            self.shared.problem(Problem::NotStarted("no program was started".into()));
        }
        wait_for_ends(&threads);
        self.shared.ending.store(true, Ordering::SeqCst);
        let mut left_behind = false;
        for thread in threads {
            let child = thread.child;
            let queue = thread.stop();
            if !has_ended(&queue.listener) {
                left_behind = true;
                self.leave(&queue.listener);
            }
            // From now on calls that nobody answers are to fail.
            child.into_iter().for_each(withdraw_listener);
        }
        if self.shared.skipped.load(Ordering::SeqCst) {
            self.shared.problem(Problem::Stuck);
        }
        let mut observation = lock(&self.shared.recorder).close();
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
        self.shared.problem(Problem::NotStarted(error.to_string()));
        Arrival::Unobserved
    }

    /// Starts the two threads of a listener. If the system has none left, the calls continue unseen.
    fn start_answering(&self, listener: Listener, child: Option<Pid>) -> Option<AnsweringThread> {
        let queue = Arc::new(CallQueue {
            listener,
            turn: AtomicU64::new(0),
            call: AtomicU64::new(0),
            rescuing: AtomicBool::new(false),
            receiving: Mutex::default(),
        });
        let (running, alive) = mpsc::channel();
        let (guarded, watched) = mpsc::channel();
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&queue));
        let answering = spawn("observer", move || {
            let _until_the_end = (running, guarded);
            answer_calls(&shared, &own);
        });
        let (shared, own) = (Arc::clone(&self.shared), Arc::clone(&queue));
        let guard = spawn("observer guard", move || guard(&shared, &own, &watched));
        if let Err(error) = guard {
            self.shared.problem(Problem::Kernel(error.to_string()));
        }
        match answering {
            Ok(thread) => {
                if let Some(child) = child {
                    share_listener(child, queue.listener.as_fd());
                }
                Some(AnsweringThread { queue, thread, alive, child })
            }
            Err(error) => {
                self.shared.problem(Problem::Kernel(error.to_string()));
                self.leave(&queue.listener);
                None
            }
        }
    }

    /// Leaves a process behind that lets all further calls continue.
    fn leave(&self, listener: &Listener) {
        if let Err(error) = seccomp::keep_answering(listener) {
            self.shared.problem(Problem::Kernel(error.to_string()));
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

/// Waits until no process is left under any filter, for [`EXIT_WAIT`] at most.
fn wait_for_ends(threads: &[AnsweringThread]) {
    let end = Instant::now() + EXIT_WAIT;
    for AnsweringThread { queue, .. } in threads {
        let mut left = EXIT_WAIT;
        // The end of a listener is told unasked.
        let mut polled = [libc::pollfd { events: 0, ..pollfd(queue.listener.raw()) }];
        while polled[0].revents == 0 && !left.is_zero() {
            left = end.saturating_duration_since(Instant::now());
            if seccomp::wait(&mut polled, milliseconds(left)).is_err() {
                return;
            }
        }
    }
}

impl AnsweringThread {
    /// Ends the thread, which has been told to stop but may be waiting for a call.
    fn stop(self) -> Arc<CallQueue> {
        let mut pause = INTERRUPT_INTERVAL;
        while !self.thread.is_finished() {
            seccomp::interrupt(self.thread.as_pthread_t());
            if self.alive.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Disconnected) {
                break;
            }
            pause = GUARD_INTERVAL.min(2 * pause);
        }
        // A panic was recorded, if it was in the handling of a call.
        let _ = self.thread.join();
        self.queue
    }
}

/// Answers the calls of one listener, until its last process has ended or the observation ends.
fn answer_calls(shared: &SharedRecord, queue: &CallQueue) {
    seccomp::allow_interruption();
    let mut shares_processor = true;
    while !shared.ending.load(Ordering::SeqCst) {
        let share = !waits(&queue.listener);
        if share != shares_processor {
            queue.listener.share_processor(share);
            shares_processor = share;
        }
        match queue.receive() {
            Ok(Some(call)) => queue.answer(shared, &call),
            Ok(None) if has_ended(&queue.listener) => return,
            Ok(None) => {}
            Err(error) => {
                shared.problem(Problem::Kernel(error.to_string()));
                if let Err(error) = seccomp::keep_answering(&queue.listener) {
                    shared.problem(Problem::Kernel(error.to_string()));
                }
                return;
            }
        }
    }
}

impl CallQueue {
    /// The next call. `None` if there is none: its caller was killed, or we were interrupted.
    fn receive(&self) -> io::Result<Option<Notification>> {
        if !self.rescuing.load(Ordering::SeqCst) {
            return self.listener.next();
        }
        // Whichever of us receives after the other must not block.
        let _ = seccomp::wait(&mut [pollfd(self.listener.raw())], 50);
        let _receiving = lock(&self.receiving);
        if waits(&self.listener) { self.listener.next() } else { Ok(None) }
    }

    /// Records one call and lets it continue.
    fn answer(&self, shared: &SharedRecord, call: &Notification) {
        self.call.store(call.id, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::SeqCst);
        let handle = || lock(&shared.recorder).handle(&self.listener, call);
        if std::panic::catch_unwind(AssertUnwindSafe(handle)).is_err() {
            shared.problem(Problem::Bug);
        }
        self.listener.proceed(call.id);
        self.turn.fetch_add(1, Ordering::SeqCst);
    }
}

/// Checks at intervals whether the answering thread is stuck. Ends when that thread ends.
fn guard(shared: &SharedRecord, queue: &CallQueue, watched: &mpsc::Receiver<Infallible>) {
    let mut last = 0;
    while watched.recv_timeout(GUARD_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let turn = queue.turn.load(Ordering::SeqCst);
        if turn % 2 == 1 && turn == last {
            shared.skipped.store(true, Ordering::SeqCst);
            rescue(queue, turn);
        }
        last = turn;
    }
}

/// Lets all calls continue, the stuck one first, until the answering thread is back.
fn rescue(queue: &CallQueue, stuck: u64) {
    queue.rescuing.store(true, Ordering::SeqCst);
    queue.listener.proceed(queue.call.load(Ordering::Relaxed));
    loop {
        let mut polled = [pollfd(queue.listener.raw())];
        let _ = seccomp::wait(&mut polled, 50);
        let _receiving = lock(&queue.receiving);
        if queue.turn.load(Ordering::SeqCst) != stuck || ended(polled[0].revents) {
            queue.rescuing.store(false, Ordering::SeqCst);
            return;
        }
        if waits(&queue.listener)
            && let Ok(Some(call)) = queue.listener.next()
        {
            queue.listener.proceed(call.id);
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

/// What a listener's poll says once no process is left under the filter and no call is waiting.
fn ended(revents: libc::c_short) -> bool {
    revents != 0 && revents & libc::POLLIN == 0
}

fn pollfd(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

fn milliseconds(time: Duration) -> libc::c_int {
    libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX)
}
