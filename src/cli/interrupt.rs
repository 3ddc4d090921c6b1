//! Ctrl-C and SIGTERM, as the exit status that they mean.

use super::exit::Exit;

/// Completes when Ctrl-C or SIGTERM comes.
pub(super) fn ended_by_signal() -> std::io::Result<impl Future<Output = Exit>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted,
            _ = terminate.recv() => Exit::Terminated,
        }
    })
}
