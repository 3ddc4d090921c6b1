//! `daemon`: what the service runs.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::args::LogFormat;
use super::context::Context;
use super::exit::{Exit, Stop};
use crate::daemon::{Daemon, EndpointError, Life, StartError};
use crate::logging;
use crate::protocol::VERSION;
use crate::service::{Notifier, activated_listener, log_file, started_by_launchd};

/// How long threads may take that are still reading when the daemon has ended.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop.
pub(super) fn daemon(context: &Context, format: LogFormat) -> Result<(), Stop> {
    // First of all: whatever else is opened or started must not come by these descriptors.
    let inherited = activated_listener().map_err(|error| Stop::new(Exit::Failure, error))?;
    let level = context.config()?.config.log.level;
    let format = match format {
        LogFormat::Auto => logging::Format::Auto,
        LogFormat::Text => logging::Format::Text,
        LogFormat::Json => logging::Format::Json,
    };
    let file = started_by_launchd().then(|| log_file(&context.paths));
    logging::init(format, level.as_str(), file.as_deref())
        .map_err(|error| Stop::new(Exit::Failure, error))?;
    let daemon = Daemon::of_config(context.environment.clone())
        .with_paths(context.paths.clone())
        .with_listener(inherited)
        .with_heartbeat(Notifier::heartbeat());
    // One thread: children die with the thread that started them.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let (tell, life) = mpsc::unbounded_channel();
        let (reload, reloads) = mpsc::channel(1);
        let stop = CancellationToken::new();
        signals(stop.clone(), reload)?;
        let notified = tokio::spawn(notify(life));
        info!(version = VERSION, "starting");
        let result = daemon.run(stop, reloads, tell).await;
        // The last word to the supervisor must be out before we are gone.
        let _ = notified.await;
        result.map_err(|error| {
            let exit = match &error {
                StartError::Endpoint(EndpointError::Held { .. }) => Exit::AlreadyRunning,
                StartError::Config(_) => Exit::Config,
                _ => Exit::Failure,
            };
            Stop::new(exit, error)
        })
    });
    // A thread that reads a dead disk must not keep us; its children die with it.
    runtime.shutdown_timeout(FAREWELL);
    result
}

/// Passes the daemon's life on to the supervisor, to its last word.
async fn notify(mut life: mpsc::UnboundedReceiver<Life>) {
    let mut notifier = Notifier::new();
    while let Some(step) = life.recv().await {
        if let Err(error) = notifier.tell(&step) {
            warn!(%error, ?step, "the service manager does not listen");
        }
    }
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
