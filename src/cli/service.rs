//! `daemon`: what the service runs.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::args::LogFormat;
use super::context::Context;
use super::exit::{Exit, Stop};
use crate::daemon::{Daemon, DaemonStartError, EndpointError, Life};
use crate::logging;
use crate::protocol::VERSION;
use crate::service::{Notifier, activated_listener, detached_log, log_file, started_by_launchd};

/// How long threads may take that are still reading when the daemon has ended.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop.
pub(super) fn daemon(context: &Context, format: LogFormat, detached: bool) -> Result<(), Stop> {
    // First of all: whatever else is opened or started must not come by these descriptors.
    let inherited = activated_listener().map_err(|error| Stop::new(Exit::Failure, error))?;
    let config = context.config()?.config;
    let level = config.log.level;
    let format = match format {
        LogFormat::Auto => logging::Format::Auto,
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    let file = if detached {
        Some(detached_log(&context.paths, &context.environment))
    } else {
        started_by_launchd().then(|| log_file(&context.paths))
    };
    logging::init(format, level.as_str(), file.as_deref())
        .map_err(|error| Stop::new(Exit::Failure, error))?;
    let daemon = Daemon::of_config(context.environment.clone())
        .with_paths(context.paths.clone())
        .with_listener(inherited)
        .with_heartbeat(Notifier::heartbeat())
        .with_idle_timeout(config.service.idle_timeout.filter(|_| detached));
    // One thread: children die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let (tell, life) = mpsc::unbounded_channel();
        let (reload, reloads) = mpsc::channel(1);
        let stop = CancellationToken::new();
        signals(stop.clone(), reload)?;
        let notified = notify(life)?;
        info!(version = VERSION, "starting");
        let result = daemon.run(stop, reloads, tell).await;
        // The last word to the supervisor should be out before we are gone.
        let _ = tokio::time::timeout(SHUTDOWN_WAIT, notified).await;
        result.map_err(|error| {
            let exit = match &error {
                DaemonStartError::Endpoint(EndpointError::Held { .. }) => Exit::AlreadyRunning,
                DaemonStartError::Config(_) => Exit::Config,
                _ => Exit::Failure,
            };
            Stop::new(exit, error)
        })
    });
    // A thread that reads a dead disk must not keep us; its children die with it.
    runtime.shutdown_timeout(SHUTDOWN_WAIT);
    result
}

/// Passes the daemon's life on to the supervisor, to its last word; what is returned ends with
/// that. On a thread of its own: a supervisor that does not read keeps whoever writes.
fn notify(mut life: mpsc::UnboundedReceiver<Life>) -> std::io::Result<oneshot::Receiver<()>> {
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new().name("notify".to_owned()).spawn(move || {
        let mut notifier = Notifier::new();
        let mut waiting = Vec::new();
        while life.blocking_recv_many(&mut waiting, usize::MAX) > 0 {
            for step in newest(std::mem::take(&mut waiting)) {
                if let Err(error) = notifier.tell(&step) {
                    warn!(%error, ?step, "the service manager does not listen");
                }
            }
        }
        // Nobody waits any more after a while.
        let _ = done.send(());
    })?;
    Ok(ended)
}

/// Less what a later one of the same kind makes untrue or needless.
fn newest(steps: Vec<Life>) -> Vec<Life> {
    let needless = |step: &Life, next: &Life| match step {
        Life::Status(_) | Life::Alive | Life::Starting => {
            std::mem::discriminant(step) == std::mem::discriminant(next)
        }
        Life::Ready | Life::Reloading | Life::Stopping => false,
    };
    let mut kept: Vec<Life> = Vec::new();
    for step in steps {
        if let Some(last) = kept.iter().position(|before| needless(before, &step)) {
            kept.remove(last);
        }
        kept.push(step);
    }
    kept
}

/// SIGTERM and SIGINT stop, SIGHUP reads the config again.
fn signals(stop: CancellationToken, reload: mpsc::Sender<()>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // A reload that is under way will read what is there now.
                _ = hangup.recv() => drop(reload.try_send(())),
            }
        }
        stop.cancel();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_waits_for_a_slow_supervisor_the_newest_counts() {
        let status = |text: &str| Life::Status(text.to_owned());
        let steps = vec![
            status("a"),
            Life::Ready,
            Life::Alive,
            status("b"),
            Life::Reloading,
            Life::Alive,
            Life::Ready,
            Life::Stopping,
        ];
        let told = format!("{:?}", newest(steps));
        let expected =
            [Life::Ready, status("b"), Life::Reloading, Life::Alive, Life::Ready, Life::Stopping];
        assert_eq!(told, format!("{:?}", expected));
    }
}
