//! Suspends a child process, with everything it started, and resumes it.
//!
//! A suspended build keeps its files, locks and memory. The alternative, a control group with
//! `cpu.idle`, protects the developer's own commands only where both groups are siblings: beside a
//! login session's scope the idle group still gets half of the machine. So groups of processes are
//! suspended with `SIGSTOP`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

/// Suspends and resumes the children that were started with it (`Spec::suspender`), and knows them.
/// All clones are the same switch.
///
/// A suspended child can still be ended like any other. If this process is killed, the guardian kills
/// the child. Where there is no guardian, the child dies with us, and the kernel resumes and hangs up
/// its own children, because their stopped process group has become an orphan. That is why children
/// lead groups, not sessions.
#[derive(Clone, Debug, Default)]
pub struct Suspender {
    suspend: watch::Sender<bool>,
    running: Arc<Mutex<BTreeSet<u32>>>,
}

impl Suspender {
    /// Suspends the children, or resumes them.
    pub(crate) fn set(&self, suspend: bool) {
        self.suspend.send_if_modified(|now| std::mem::replace(now, suspend) != suspend);
    }

    /// Whether the children are to be suspended.
    #[must_use]
    pub(crate) fn is_suspended(&self) -> bool {
        *self.suspend.borrow()
    }

    /// The process ids of the children that run, suspended or not.
    #[must_use]
    pub(crate) fn running(&self) -> BTreeSet<u32> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the children to end, by `SIGTERM`, and lets them take their time.
    pub(crate) fn ask_to_end(&self) {
        for pid in self.running().into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // One that has just ended needs no signal.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The view of one child that has just started and runs; none is without a process id.
    pub(super) fn subscribe(&self, child: Option<u32>) -> Suspension {
        let running = Arc::clone(&self.running);
        running.lock().unwrap_or_else(PoisonError::into_inner).extend(child);
        Suspension { wanted: self.suspend.subscribe(), suspended: false, running, child }
    }
}

/// Whether one child is suspended, and what is wanted of it.
pub(super) struct Suspension {
    wanted: watch::Receiver<bool>,
    suspended: bool,
    running: Arc<Mutex<BTreeSet<u32>>>,
    child: Option<u32>,
}

impl Drop for Suspension {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|pid| Some(*pid) != self.child);
    }
}

impl Suspension {
    /// Waits until the child's state must change, and returns the signal that changes it.
    pub(super) async fn next_signal(&mut self) -> Signal {
        let suspended = self.suspended;
        if self.wanted.wait_for(|wanted| *wanted != suspended).await.is_err() {
            // The last switch is gone, so nothing can change any more.
            std::future::pending::<()>().await;
        }
        self.suspended = !self.suspended;
        if self.suspended { Signal::STOP } else { Signal::CONT }
    }

    /// Whether the child has been suspended.
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended
    }
}
