//! `status` and `rebuild`: what the daemon knows and does.

use std::path::Path;

use super::args::OutputFormat;
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::progress::{Progress, ProgressLevel};
use super::render::{GOOD, label, seconds, segment, status_lines};
use crate::cache::Cache;
use crate::client::{ClientError, Connection};
use crate::daemon::{Endpoint, Pauses};
use crate::model::Timestamp;
use crate::protocol::{
    CacheUse, Call, InterruptionStats, ProjectStatus, Reply, State, StatusReport, VERSION,
};

/// Shows the state, of the daemon or of what is on disk without one.
pub(super) fn status(
    context: &Context,
    path: Option<&Path>,
    format: OutputFormat,
) -> Result<(), Stop> {
    let mut trouble = None;
    let report = match ask(context) {
        Ok(report) => report,
        Err(error) => {
            trouble = Some(error.to_string());
            None
        }
    };
    let mut report = match report {
        Some(report) => report,
        None => without_daemon(context)?,
    };
    if let Some(path) = path {
        let root = context.project(Some(path))?;
        report.projects.retain(|project| project.path == root);
        if report.projects.is_empty() {
            let config = context.paths.config_file.display();
            let text = format!("{} is no project of {config}", root.display());
            return Err(Stop::new(Exit::Config, text));
        }
    }
    if let Some(trouble) = trouble {
        output::note(label(super::render::WARN, "Daemon", trouble));
    }
    match format {
        OutputFormat::Json => {
            output::line(serde_json::to_string(&report).map_err(std::io::Error::from)?)?;
        }
        OutputFormat::Text => {
            for line in status_lines(&report, Timestamp::now()) {
                output::line(line)?;
            }
        }
    }
    Ok(())
}

/// Shows the workspace around `path` in a word or two, and nothing where there is none: a prompt is
/// no place for errors.
pub(super) fn short_status(context: &Context, path: Option<&Path>) -> Result<(), Stop> {
    let Ok(root) = context.workspace(path) else { return Ok(()) };
    let mut text = match ask(context) {
        Ok(Some(report)) => match report.projects.iter().find(|project| project.path == root) {
            Some(project) => segment(project),
            None => "unwatched".to_owned(),
        },
        Ok(None) => "off".to_owned(),
        Err(_) => "no answer".to_owned(),
    };
    if !Cache::open(&context.paths.cache_dir).state(&root).distrusted.is_empty() {
        text.push_str(", distrusted");
    }
    output::line(text)
}

/// The daemon's state; `None` if none is running. One that is stopped is not started by this: that
/// is what a question does.
pub(super) fn ask(context: &Context) -> Result<Option<StatusReport>, ClientError> {
    if Endpoint::is_given_up(&context.paths) {
        return Ok(None);
    }
    let Some(mut connection) = Connection::open(&context.paths.socket())? else { return Ok(None) };
    match connection.call(Call::Status, |_| {})? {
        Reply::Status(report) => Ok(Some(report)),
        _ => Ok(None),
    }
}

/// What config and records say.
fn without_daemon(context: &Context) -> Result<StatusReport, Stop> {
    let loaded = context.config()?;
    let cache = Cache::open(&context.paths.cache_dir);
    let stats = cache.stats().unwrap_or_default();
    let (pauses, now) = (Pauses::load(&context.paths.cache_dir), Timestamp::now());
    let projects = loaded.config.projects.iter().map(|project| {
        let problem = loaded.problem_of(project).map(crate::config::ConfigError::one_line);
        let known = cache.state(&project.path);
        let of = stats.projects.iter().find(|of| of.path.as_ref() == Some(&project.path));
        let mut status = ProjectStatus {
            path: project.path.clone(),
            state: if problem.is_some() { State::Missing } else { State::Idle },
            reason: problem,
            paused_until: None,
            code_hash: None,
            watch: "nothing: no daemon is running".to_owned(),
            target_dirs: project
                .settings
                .target_dir
                .of(&project.path)
                .iter()
                .map(Into::into)
                .collect(),
            notes: known.distrust_note().into_iter().collect(),
            last_build: None,
            verified: known.verified,
            wrong: known.wrong,
            flaky: known.flaky_names(),
            selection: known.selection,
            yields: InterruptionStats::default(),
            last_verdict: known.last,
            cache: of
                .map(|of| CacheUse { entries: of.entries, calls: of.calls, bytes: of.bytes })
                .unwrap_or_default(),
        };
        pauses.show(&mut status, now);
        status
    });
    Ok(StatusReport {
        running: false,
        pid: None,
        version: VERSION.to_owned(),
        socket: context.paths.socket(),
        config: context.paths.config_file.clone(),
        config_error: None,
        projects: projects.collect(),
    })
}

/// Has the daemon build the tests now.
pub(super) fn rebuild(context: &Context, path: Option<&Path>) -> Result<(), Stop> {
    let root = context.workspace(path)?;
    let failed = |error: ClientError| Stop::new(Exit::Failure, error);
    let Some(mut connection) = Connection::open(&context.paths.socket()).map_err(failed)? else {
        let text = "no daemon is running: start it with `knhk-test-cache start`, or build here \
                    with `knhk-test-cache test --no-run`";
        return Err(Stop::new(Exit::NotRunning, text));
    };
    let mut progress = Progress::new(ProgressLevel::Full, false);
    let environment = context.environment.clone();
    let call = Call::Rebuild { project: root.clone(), environment };
    let reply = connection.call(call, |what| progress.waiting(what));
    progress.finish();
    match reply.map_err(failed)? {
        Reply::Built(build) if build.success => {
            let took = seconds(std::time::Duration::from_millis(build.duration_ms));
            output::note(label(GOOD, "Built", format!("{} in {took}", root.display())));
            Ok(())
        }
        Reply::Built(build) => {
            output::note_text(build.errors);
            Err(Stop::new(Exit::NotGreen, "the tests do not compile"))
        }
        Reply::Unwatched => {
            let text =
                format!("{} is no project of the config: `knhk-test-cache add` it", root.display());
            Err(Stop::new(Exit::Config, text))
        }
        _ => Err(Stop::new(Exit::Failure, "the daemon gave another answer than a build's")),
    }
}
