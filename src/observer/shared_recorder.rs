//! The recorder of an observation, which its answering threads use one after the other.
//!
//! Recording a call can take for ever: on a dead network mount, or on a FUSE file system that is
//! served by the run waiting for us. So the guard checks how long one call is being recorded. If it
//! takes too long, that call continues, and so do all others, unseen, until the recorder is free
//! again. The observation is then marked incomplete.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::seccomp::{Listener, Notification};
use super::syscall::SyscallRecorder;
use crate::observer::{Observation, Problem};

/// How often the guard checks. A call that it sees twice is stuck.
pub(in crate::observer) const GUARD_INTERVAL: Duration = Duration::from_millis(500);

/// See the module.
pub(in crate::observer) struct SharedRecorder {
    state: Mutex<RecorderState>,
    /// The recorder is free, or a call is stuck.
    changed: Condvar,
}

struct RecorderState {
    /// `None` while a thread records a call with it, and once it is disabled.
    recorder: Option<Box<SyscallRecorder>>,
    /// The call being recorded, and the listener that received it.
    call: Option<(Arc<Listener>, u64)>,
    /// Counts the calls that were begun.
    begun: u64,
    /// The call being recorded is stuck.
    stuck: bool,
    /// Threads that wait for `changed`.
    waiting: usize,
    /// What is to be reported besides what the recorder noted.
    problems: BTreeSet<Problem>,
}

impl SharedRecorder {
    pub(in crate::observer) fn new(recorder: SyscallRecorder) -> Self {
        let state = RecorderState {
            recorder: Some(Box::new(recorder)),
            call: None,
            begun: 0,
            stuck: false,
            waiting: 0,
            problems: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, RecorderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::observer) fn problem(&self, problem: Problem) {
        self.state().problems.insert(problem);
    }

    /// Records nothing more: without a guard, a call that is stuck would never continue.
    pub(in crate::observer) fn disable(&self) {
        let mut state = self.state();
        state.recorder = None;
        state.stuck = true;
    }

    /// Records a call and lets it continue, as soon as no other is being recorded. While another one is
    /// stuck, the call continues unseen.
    pub(in crate::observer) fn answer(&self, listener: &Arc<Listener>, call: &Notification) {
        let mut state = self.state();
        if state.recorder.is_none() {
            state.waiting += 1;
            let must_wait = |state: &mut RecorderState| state.recorder.is_none() && !state.stuck;
            let waited = self.changed.wait_while(state, must_wait);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        let Some(mut recorder) = state.recorder.take() else {
            state.problems.insert(Problem::Stuck);
            drop(state);
            return listener.proceed(call.id);
        };
        state.begun += 1;
        state.call = Some((Arc::clone(listener), call.id));
        drop(state);
        let handle = AssertUnwindSafe(|| recorder.handle(listener, call));
        let handled = std::panic::catch_unwind(handle);
        // Before the next call is looked at: this one may change where its names lead.
        listener.proceed(call.id);
        let mut state = self.state();
        if handled.is_err() {
            state.problems.insert(Problem::Bug);
        }
        state.recorder = Some(recorder);
        state.call = None;
        state.stuck = false;
        let wanted = state.waiting > 0;
        drop(state);
        if wanted {
            self.changed.notify_one();
        }
    }

    /// Checks at intervals whether a call is stuck, until `end` is closed.
    pub(in crate::observer) fn guard(&self, end: &mpsc::Receiver<Infallible>) {
        let mut last = 0;
        while end.recv_timeout(GUARD_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
            let mut state = self.state();
            let same = std::mem::replace(&mut last, state.begun) == state.begun;
            if same
                && !state.stuck
                && let Some((listener, call)) = &state.call
            {
                listener.proceed(*call);
                state.stuck = true;
                state.problems.insert(Problem::Stuck);
                self.changed.notify_all();
            }
        }
    }

    /// The finished observation. Nothing is recorded after it.
    pub(in crate::observer) fn close(&self) -> Observation {
        let mut state = self.state();
        let mut observation = match &mut state.recorder {
            Some(recorder) => recorder.close(),
            None => Observation { problems: [Problem::Stuck].into(), ..Observation::default() },
        };
        observation.problems.append(&mut state.problems);
        observation
    }
}
