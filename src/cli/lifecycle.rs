//! `install`, `uninstall`, `start`, `stop`, `restart`, `logs`: the service, by way of the
//! system's own supervisor.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, HINT, NOTE, WARN, label};
use crate::config::edit;
use crate::paths::Paths;
use crate::service::{
    Activity, InstallOptions, Platform, Report, Service, ServiceError, ServiceState, own_executable,
};

/// The service of this user.
pub(super) fn service(context: &Context) -> Service {
    Service::new(Platform::native(), context.environment.clone(), context.paths.clone())
}

/// Whether a service manager can be reached.
pub(super) fn has_manager(context: &Context) -> bool {
    !service(context).query().is_err_and(|error| error.is_without_manager())
}

/// Installs, or brings an installation up to date.
pub(super) fn install(
    context: &Context,
    workspaces: &[PathBuf],
    dry_run: bool,
    force: bool,
) -> Result<(), Stop> {
    // A config that cannot be used would make a service that cannot start.
    context.config()?;
    let options = InstallOptions {
        exe: own_executable(&context.environment).map_err(refused)?,
        config: new_config(context, workspaces)?,
        dry_run,
        force,
    };
    let report = service(context).install(&options).map_err(refused)?;
    tell(&report);
    if dry_run {
        for (path, text) in &report.texts {
            output::line(format_args!("# {}\n{text}", path.display()))?;
        }
    }
    Ok(())
}

/// The config's text with the workspaces in it; none if it has them already.
fn new_config(context: &Context, workspaces: &[PathBuf]) -> Result<Option<String>, Stop> {
    let file = &context.paths.config_file;
    if workspaces.is_empty() && file.exists() {
        return Ok(None);
    }
    // Edited beside, so that nothing is half done if the rest fails.
    let folder = tempfile::tempdir()?;
    let draft = Paths { config_file: folder.path().join("config.toml"), ..context.paths.clone() };
    let before = match std::fs::read_to_string(file) {
        Ok(text) => {
            std::fs::write(&draft.config_file, &text)?;
            Some(text)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(Stop::new(
                Exit::Config,
                format!("cannot read {}: {error}", file.display()),
            ));
        }
    };
    for workspace in workspaces {
        let root = context.workspace(Some(workspace))?;
        edit::add(&draft, &context.environment, &root)
            .map_err(|error| Stop::new(Exit::Config, error))?;
    }
    if !draft.config_file.exists() {
        return Ok(Some(edit::starting_text()));
    }
    let after = std::fs::read_to_string(&draft.config_file)?;
    Ok((before.as_ref() != Some(&after)).then_some(after))
}

/// Removes the service.
pub(super) fn uninstall(context: &Context, purge: bool) -> Result<(), Stop> {
    tell(&service(context).uninstall(purge).map_err(refused)?);
    Ok(())
}

/// Starts the service.
pub(super) fn start(context: &Context) -> Result<(), Stop> {
    told(&service(context).start().map_err(refused)?)
}

/// Stops the service.
pub(super) fn stop(context: &Context) -> Result<(), Stop> {
    told(&service(context).stop().map_err(refused)?)
}

/// Stops and starts the service.
pub(super) fn restart(context: &Context) -> Result<(), Stop> {
    told(&service(context).restart().map_err(refused)?)
}

/// Shows the log.
pub(super) fn logs(context: &Context, follow: bool, lines: u32) -> Result<(), Stop> {
    let service = service(context);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        let ended = cancel.clone();
        tokio::spawn(async move {
            // Without a handler Ctrl-C ends us all the same.
            let _ = tokio::signal::ctrl_c().await;
            ended.cancel();
        });
        let (closed, mut lost) = (cancel.clone(), None);
        let print = |bytes: &[u8]| {
            if let Err(stop) = output::bytes(bytes) {
                lost = Some(stop);
                closed.cancel();
            }
        };
        service.logs(follow, lines, &cancel, print).await.map_err(refused)?;
        lost.map_or(Ok(()), Err)
    })
}

fn tell(report: &Report) {
    let word = if report.dry_run { "Would" } else { "Done" };
    for action in &report.actions {
        output::note(label(GOOD, word, action));
    }
    for tool in &report.surroundings.tools {
        let path = tool.path.as_ref().map_or("not found".into(), |path| path.to_string_lossy());
        output::note(label(NOTE, tool.name, path));
    }
    for note in &report.notes {
        output::note(label(WARN, "Note", note));
    }
    if let Some(state) = &report.state {
        output::note(state_line(state));
    }
}

fn told(state: &ServiceState) -> Result<(), Stop> {
    output::note(state_line(state));
    Ok(())
}

/// How the service is, in one line.
pub(super) fn state_line(state: &ServiceState) -> String {
    let (style, word) = match state.activity {
        Activity::Running | Activity::Reloading => (GOOD, "Running"),
        Activity::Starting => (NOTE, "Starting"),
        Activity::Stopping => (NOTE, "Stopping"),
        Activity::Stopped => (NOTE, "Stopped"),
        Activity::Failed => (WARN, "Failed"),
    };
    let mut text = state.status.clone();
    if let Some(pid) = state.pid {
        text = format!("process {pid}{}{text}", if text.is_empty() { "" } else { ", " });
    }
    if state.activity == Activity::Failed {
        text = format!("{}; `knhk-test-cache logs` says why", state.result);
    }
    if state.listening && state.activity == Activity::Stopped {
        text.push_str(&format!("{HINT}(a question starts it){HINT:#}"));
    }
    if text.is_empty() {
        "no daemon runs".clone_into(&mut text);
    }
    label(style, word, text)
}

/// What could not be done: a matter of the supervisor, or of a file.
#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn refused(error: ServiceError) -> Stop {
    let exit = match &error {
        ServiceError::Write { .. }
        | ServiceError::Remove { .. }
        | ServiceError::DetachedLog { .. }
        | ServiceError::Signal { .. }
        | ServiceError::Unkillable { .. } => Exit::Failure,
        ServiceError::DetachedEnded { code, .. } => match code {
            Some(code) if *code == i32::from(Exit::Config.code()) => Exit::Config,
            _ => Exit::Failure,
        },
        _ => Exit::Service,
    };
    Stop::new(exit, format!("failed to {error}"))
}
