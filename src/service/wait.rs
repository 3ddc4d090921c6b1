//! Waiting with an end: for a call into `service-manager`, and for a state to come about.

use std::io;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::error::ServiceError;
use super::state::ServiceState;

/// How long the manager may take to answer a question or to reload.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long a start may take: the unit's own limit, and what the daemon asks for beyond it.
pub(super) const START_WAIT: Duration = Duration::from_secs(120);
/// How long a stop may take: the unit's own limit and a margin.
pub(super) const STOP_WAIT: Duration = Duration::from_secs(20);

/// Between two looks at a state that is still on its way.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs a call that has no end of its own. One that does not come back is left behind: the process
/// ends soon after.
pub(super) fn bounded<T: Send + 'static>(
    what: &'static str,
    limit: Duration,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<io::Result<T>, ServiceError> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = send.send(call());
    });
    receive.recv_timeout(limit).map_err(|_| ServiceError::NotInTime { what, limit })
}

/// Asks until the answer satisfies, at most for `limit`.
pub(super) fn until(
    what: &'static str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<ServiceState, ServiceError>,
    settled: impl Fn(&ServiceState) -> bool,
) -> Result<ServiceState, ServiceError> {
    let deadline = Instant::now() + limit;
    // Nobody sends: what times out is a pause.
    let (_open, pause) = mpsc::channel::<()>();
    loop {
        let state = ask()?;
        if settled(&state) {
            return Ok(state);
        }
        if Instant::now() >= deadline {
            return Err(ServiceError::NotInTime { what, limit });
        }
        let _ = pause.recv_timeout(POLL_INTERVAL);
    }
}
