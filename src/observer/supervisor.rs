//! The thread that answers an observed run's calls, and the one that watches it.
//!
//! A call that nobody answers hangs for ever, and answering one takes looks at file systems that
//! may hang themselves: a dead network mount, a FUSE file system served by the very run that
//! waits for us. So a second thread lets every call go as soon as the first has been
//! at one call for too long, and the observation says that it is incomplete.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::seccomp::{self, Listener};
use super::syscall::SyscallRecorder;
use crate::observer::{Observation, Problem};

/// How often the guard looks; a call is stuck when it is seen twice.
const TICK: Duration = Duration::from_millis(500);
/// How long processes that are just ending may still take after the child was reaped.
const LEAVING: Duration = Duration::from_millis(200);

/// How long a child may take from our consent to its filter: a few system calls.
const STARTING: Duration = Duration::from_secs(30);

/// What the two threads share.
#[derive(Debug, Default)]
struct SupervisorState {
    /// Odd while a call is being handled; counts up.
    turn: AtomicU64,
    /// The call being handled, and the listener that told of it.
    call: AtomicU64,
    listener: AtomicI32,
    /// The guard answers, too: whoever takes a call must hold `taking` and look again.
    rescuing: AtomicBool,
    /// The guard let calls go unseen.
    skipped: AtomicBool,
    taking: Mutex<()>,
    listeners: Mutex<Vec<Arc<Listener>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of a child that starts.
enum Arrival {
    Listener(Listener),
    /// It runs unobserved, which is written down.
    Unobserved,
    /// No child can start any more.
    NoMore,
}

/// What the supervisor needs to begin.
pub(in crate::observer) struct Supervisor {
    pub(in crate::observer) run: SyscallRecorder,
    /// Where listeners arrive.
    pub(in crate::observer) arrivals: OwnedFd,
    /// Ends (hangs up) when the observation is to end.
    pub(in crate::observer) stop: OwnedFd,
}

impl Supervisor {
    /// Answers until it is told to stop and nobody of the tree is left, or some time later.
    pub(in crate::observer) fn work(mut self, report: &mpsc::SyncSender<Observation>) {
        let shared = Arc::new(SupervisorState::default());
        let (alive, watched) = mpsc::channel::<()>();
        let guarded = Arc::clone(&shared);
        if let Err(error) = std::thread::Builder::new()
            .name("observer guard".into())
            .spawn(move || guard(&guarded, &watched))
        {
            self.run.problem(Problem::Kernel(error.to_string()));
        }
        let mut listeners: Vec<Arc<Listener>> = Vec::new();
        let mut started = false;
        let mut arrivals = Some(self.arrivals.as_raw_fd());
        let mut deadline: Option<Instant> = None;
        let mut polled = Vec::new();
        loop {
            let limit = match deadline {
                // Listeners that have arrived by now, and calls that wait now, come first.
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
                    self.run.problem(Problem::Kernel(error.to_string()));
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
                        self.run.problem(Problem::Kernel(error.to_string()));
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
                deadline = Some(Instant::now() + LEAVING);
            } else if deadline.is_some_and(|end| ready == 0 || Instant::now() >= end) {
                break;
            }
        }
        if !started {
            self.run.problem(Problem::NotStarted("no program was started".into()));
        }
        if shared.skipped.load(Ordering::SeqCst) {
            self.run.problem(Problem::Stuck);
        }
        drop(alive);
        let left_behind = !listeners.is_empty();
        if left_behind && let Err(error) = seccomp::keep_answering(&listeners) {
            self.run.problem(Problem::Kernel(error.to_string()));
        }
        let mut observation = self.run.close();
        observation.left_behind = left_behind;
        // Nobody waits for it if the handle was dropped.
        let _ = report.send(observation);
    }

    /// Speaks with a child that starts, see `start::enter_filter`.
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
        // It answers at once, unless it was killed meanwhile: then we are told to stop.
        let deadline = Instant::now() + STARTING;
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
                    // It worked a moment ago. Nobody can ever answer this child.
                    seccomp::kill(pid);
                    self.not_started(&error)
                }
            },
            None => Arrival::NoMore,
        }
    }

    fn not_started(&mut self, error: &io::Error) -> Arrival {
        self.run.problem(Problem::NotStarted(error.to_string()));
        Arrival::Unobserved
    }

    /// Takes one call, enters it and lets it go.
    fn answer(&mut self, shared: &SupervisorState, listener: &Listener) -> io::Result<()> {
        let call = if shared.rescuing.load(Ordering::SeqCst) {
            let _taking = lock(&shared.taking);
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
            std::panic::catch_unwind(AssertUnwindSafe(|| self.run.handle(listener, &call)));
        if handled.is_err() {
            self.run.problem(Problem::Bug);
        }
        listener.proceed(call.id);
        shared.turn.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Looks from time to time whether the supervisor is stuck; ends with it.
fn guard(shared: &SupervisorState, watched: &mpsc::Receiver<()>) {
    let mut last = 0;
    while watched.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
        let turn = shared.turn.load(Ordering::SeqCst);
        if turn % 2 == 1 && turn == last {
            rescue(shared, turn);
        }
        last = turn;
    }
}

/// Lets calls go, the stuck one first, until the supervisor has come back.
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
        let _taking = lock(&shared.taking);
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

/// Whether a call waits right now.
fn waits(listener: &Listener) -> bool {
    let mut polled = [pollfd(listener.raw())];
    seccomp::wait(&mut polled, 0).is_ok() && polled[0].revents & libc::POLLIN != 0
}

/// Nobody is left under the filter, and no call waits.
fn ended(revents: libc::c_short) -> bool {
    revents != 0 && revents & libc::POLLIN == 0
}

fn pollfd(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

fn milliseconds(time: Duration) -> libc::c_int {
    libc::c_int::try_from(time.as_millis()).unwrap_or(libc::c_int::MAX)
}
