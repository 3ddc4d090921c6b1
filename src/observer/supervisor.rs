//! The supervisor thread, which answers an observed run's calls, and the guard thread, which watches
//! the supervisor.
//!
//! A call that nobody answers hangs for ever. The supervisor itself can hang: on a dead network
//! mount, or on a FUSE file system that is served by the run waiting for us. So the guard lets all
//! calls continue once the supervisor has been busy with one for too long, and the observation is
//! marked incomplete.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::seccomp::{self, Listener};
use super::syscall::SyscallRecorder;
use crate::observer::{Observation, Problem};

/// How often the guard checks. A call that it sees twice is stuck.
const GUARD_INTERVAL: Duration = Duration::from_millis(500);
/// How long processes that are ending may still take after the child was reaped.
const EXIT_WAIT: Duration = Duration::from_millis(200);
/// How long a child may take to install its filter, which is a few system calls.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The state that both threads share.
#[derive(Debug, Default)]
struct SupervisorState {
    /// A counter; odd while a call is being handled.
    turn: AtomicU64,
    /// The call being handled.
    call: AtomicU64,
    /// The listener that received it.
    listener: AtomicI32,
    /// The guard answers calls too: to receive one, lock `receiving` and check for one again.
    rescuing: AtomicBool,
    /// The guard let calls continue unseen.
    skipped: AtomicBool,
    receiving: Mutex<()>,
    listeners: Mutex<Vec<Arc<Listener>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The outcome of a child's start.
enum Arrival {
    Listener(Listener),
    /// The child runs unobserved, which has been recorded.
    Unobserved,
    /// No child can start any more.
    NoMore,
}

/// The supervisor of one observation.
pub(in crate::observer) struct Supervisor {
    pub(in crate::observer) recorder: SyscallRecorder,
    /// The socket on which children announce their listeners.
    pub(in crate::observer) arrivals: OwnedFd,
    /// A pipe that is closed to end the observation.
    pub(in crate::observer) stop: OwnedFd,
}

impl Supervisor {
    /// Answers calls until it is told to stop and the process tree has ended or [`EXIT_WAIT`] passed.
    pub(in crate::observer) fn work(mut self, report: &mpsc::SyncSender<Observation>) {
        let shared = Arc::new(SupervisorState::default());
        let (alive, watched) = mpsc::channel::<()>();
        let guarded = Arc::clone(&shared);
        if let Err(error) = std::thread::Builder::new()
            .name("observer guard".into())
            .spawn(move || guard(&guarded, &watched))
        {
            self.recorder.problem(Problem::Kernel(error.to_string()));
        }
        let mut listeners: Vec<Arc<Listener>> = Vec::new();
        let mut started = false;
        let mut arrivals = Some(self.arrivals.as_raw_fd());
        let mut deadline: Option<Instant> = None;
        let mut polled = Vec::new();
        loop {
            let limit = match deadline {
                // Listeners that have arrived and calls that wait already are handled first.
                Some(_) if listeners.is_empty() => 0,
                Some(end) => milliseconds(end.saturating_duration_since(Instant::now())),
                None => -1,
            };
            let stop = if deadline.is_none() { self.stop.as_raw_fd() } else { -1 };
            polled.clear();
            polled.extend([stop, arrivals.unwrap_or(-1)].map(pollfd));
            polled.extend(listeners.iter().map(|listener| pollfd(listener.raw())));
            let ready = match seccomp::wait(&mut polled, limit) {
                Ok(ready) => ready,
                Err(error) => {
                    self.recorder.problem(Problem::Kernel(error.to_string()));
                    break;
                }
            };
            if polled[1].revents != 0 {
                match self.arrive() {
                    Arrival::Listener(listener) => {
                        started = true;
                        listeners.push(Arc::new(listener));
                        lock(&shared.listeners).clone_from(&listeners);
                        continue;
                    }
                    Arrival::Unobserved => started = true,
                    Arrival::NoMore => arrivals = None,
                }
            }
            let mut gone = false;
            for (listener, polled) in listeners.iter().zip(&polled[2..]) {
                if polled.revents & libc::POLLIN != 0 {
                    if let Err(error) = self.answer(&shared, listener) {
                        self.recorder.problem(Problem::Kernel(error.to_string()));
                        deadline = Some(Instant::now());
                    }
                } else if polled.revents != 0 {
                    gone = true;
                }
            }
            if gone {
                let ended = |fd| polled[2..].iter().any(|p| p.fd == fd && ended(p.revents));
                listeners.retain(|listener| !ended(listener.raw()));
                lock(&shared.listeners).clone_from(&listeners);
            }
            if polled[0].revents != 0 {
                deadline = Some(Instant::now() + EXIT_WAIT);
            } else if deadline.is_some_and(|end| ready == 0 || Instant::now() >= end) {
                break;
            }
        }
        if !started {
            self.recorder.problem(Problem::NotStarted("no program was started".into()));
        }
        if shared.skipped.load(Ordering::SeqCst) {
            self.recorder.problem(Problem::Stuck);
        }
        drop(alive);
        let left_behind = !listeners.is_empty();
        if left_behind && let Err(error) = seccomp::keep_answering(&listeners) {
            self.recorder.problem(Problem::Kernel(error.to_string()));
        }
        let mut observation = self.recorder.close();
        observation.left_behind = left_behind;
        // If the handle was dropped, nobody receives the report.
        let _ = report.send(observation);
    }

    /// The supervisor's side of the handshake of `start::enter_filter`.
    fn arrive(&mut self) -> Arrival {
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
                Ok(fd) => Arrival::Listener(Listener::new(fd)),
                Err(error) => {
                    // Fetching worked a moment ago. Nobody can answer this child's calls now.
                    seccomp::kill(pid);
                    self.not_started(&error)
                }
            },
            None => Arrival::NoMore,
        }
    }

    fn not_started(&mut self, error: &io::Error) -> Arrival {
        self.recorder.problem(Problem::NotStarted(error.to_string()));
        Arrival::Unobserved
    }

    /// Receives one call, records it and lets it continue.
    fn answer(&mut self, shared: &SupervisorState, listener: &Listener) -> io::Result<()> {
        let call = if shared.rescuing.load(Ordering::SeqCst) {
            let _receiving = lock(&shared.receiving);
            if !waits(listener) {
                return Ok(());
            }
            listener.next()?
        } else {
            listener.next()?
        };
        let Some(call) = call else { return Ok(()) };
        shared.call.store(call.id, Ordering::Relaxed);
        shared.listener.store(listener.raw(), Ordering::Relaxed);
        shared.turn.fetch_add(1, Ordering::SeqCst);
        let handled =
            std::panic::catch_unwind(AssertUnwindSafe(|| self.recorder.handle(listener, &call)));
        if handled.is_err() {
            self.recorder.problem(Problem::Bug);
        }
        listener.proceed(call.id);
        shared.turn.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Checks at intervals whether the supervisor is stuck. Ends when the supervisor ends.
fn guard(shared: &SupervisorState, watched: &mpsc::Receiver<()>) {
    let mut last = 0;
    while watched.recv_timeout(GUARD_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
        let turn = shared.turn.load(Ordering::SeqCst);
        if turn % 2 == 1 && turn == last {
            rescue(shared, turn);
        }
        last = turn;
    }
}

/// Lets all calls continue, the stuck one first, until the supervisor is back.
fn rescue(shared: &SupervisorState, stuck: u64) {
    shared.skipped.store(true, Ordering::SeqCst);
    shared.rescuing.store(true, Ordering::SeqCst);
    let listeners = lock(&shared.listeners).clone();
    let (fd, id) = (shared.listener.load(Ordering::Relaxed), shared.call.load(Ordering::Relaxed));
    if let Some(listener) = listeners.iter().find(|listener| listener.raw() == fd) {
        listener.proceed(id);
    }
    loop {
        let mut polled: Vec<_> = listeners.iter().map(|l| pollfd(l.raw())).collect();
        let _ = seccomp::wait(&mut polled, 50);
        let _receiving = lock(&shared.receiving);
        if shared.turn.load(Ordering::SeqCst) != stuck || polled.iter().all(|p| ended(p.revents)) {
            shared.rescuing.store(false, Ordering::SeqCst);
            return;
        }
        for listener in listeners.iter().filter(|listener| waits(listener)) {
            if let Ok(Some(call)) = listener.next() {
                listener.proceed(call.id);
            }
        }
    }
}

/// Whether a call is waiting now.
fn waits(listener: &Listener) -> bool {
    let mut polled = [pollfd(listener.raw())];
    seccomp::wait(&mut polled, 0).is_ok() && polled[0].revents & libc::POLLIN != 0
}

/// Whether no process is left under the filter and no call is waiting.
fn ended(revents: libc::c_short) -> bool {
    revents != 0 && revents & libc::POLLIN == 0
}

fn pollfd(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

fn milliseconds(time: Duration) -> libc::c_int {
    libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX)
}
