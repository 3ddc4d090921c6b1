//! Suspends a child process, with everything it started, and resumes it.
//!
//! A suspended build keeps its files, locks and memory. The alternative, a control group with
//! `cpu.idle`, protects the developer's own commands only where both groups are siblings: beside a
//! login session's scope the idle group still gets half of the machine. So groups of processes are
//! suspended with `SIGSTOP`.

use rustix::process::Signal;
use tokio::sync::watch;

/// Suspends and resumes the children that were started with it (`Spec::suspender`). All clones are
/// the same switch.
///
/// A suspended child can still be ended like any other. If this process is killed, the guardian kills
/// the child. Where there is no guardian, the child dies with us, and the kernel resumes and hangs up
/// its own children, because their stopped process group has become an orphan. That is why children
/// lead groups, not sessions.
#[derive(Clone, Debug)]
pub struct Suspender(watch::Sender<bool>);

impl Default for Suspender {
    /// A switch that suspends nothing yet.
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Suspender {
    /// Suspends the children, or resumes them.
    pub fn set(&self, suspend: bool) {
        self.0.send_if_modified(|now| std::mem::replace(now, suspend) != suspend);
    }

    /// Whether the children are to be suspended.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        *self.0.borrow()
    }

    /// The view of one child that has just started and runs.
    pub(super) fn subscribe(&self) -> Suspension {
        Suspension { wanted: self.0.subscribe(), suspended: false }
    }
}

/// Whether one child is suspended, and what is wanted of it.
pub(super) struct Suspension {
    wanted: watch::Receiver<bool>,
    suspended: bool,
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
