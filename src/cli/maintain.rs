//! `config …` and `cache …`: looking after the files.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::agent;
use super::args::{CacheCommand, ConfigCommand, OutputFormat};
use super::cargo_runner::{self, RunnerRequest};
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{ERROR, GOOD, WARN, bytes, label, plural};
use super::targets::{self, TargetDirLine};
use crate::cache::{Cache, GcOptions, SweepError, SweepReport};
use crate::config::{self, Project};
use crate::model::{OsText, Timestamp};
use crate::shared::{Retention, SharedError};
use crate::verdict::{self, forget_store, open_store, project_label};

/// `config …`
pub(super) fn config(context: &Context, what: &ConfigCommand) -> Result<(), Stop> {
    match what {
        ConfigCommand::Path => output::line(context.paths.config_file.display())?,
        ConfigCommand::Schema => output::text(config::json_schema())?,
        ConfigCommand::Agents => output::text(agent::INSTRUCTIONS)?,
        &ConfigCommand::Cargo { write, undo, global } => {
            cargo_runner::config_cargo(context, RunnerRequest { write, undo, global })?;
        }
        ConfigCommand::Show => output::text(context.config()?.show())?,
        ConfigCommand::Check => {
            let errors = config::check(&context.paths, &context.environment);
            for error in &errors {
                output::note(format_args!("{ERROR}error{ERROR:#}: {error}"));
            }
            if !errors.is_empty() {
                return Err(Stop::silent(Exit::Config));
            }
            let count = context.config()?.config.projects.len();
            let text =
                format!("{}, {}", context.paths.config_file.display(), plural(count, "project"));
            output::note(label(GOOD, "Checked", text));
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct StatsLine {
    entries: u64,
    bytes: u64,
    manifests: u64,
    manifest_bytes: u64,
    programs: u64,
    program_bytes: u64,
    projects: Vec<ProjectStatsLine>,
    targets: Vec<TargetDirLine>,
}

#[derive(Serialize)]
struct ProjectStatsLine {
    path: Option<OsText>,
    entries: u64,
    calls: u64,
    bytes: u64,
    snapshots: u64,
}

/// `cache …`
pub(super) fn cache(context: &Context, what: CacheCommand) -> Result<(), Stop> {
    let cache = Cache::open(&context.paths.cache_dir);
    match what {
        CacheCommand::Stats { format } => stats(context, &cache, format),
        CacheCommand::Clear { project } => clear(context, &cache, project),
        CacheCommand::Gc { dry_run, target, shared, older_than, project } => {
            gc(context, &cache, dry_run)?;
            if target {
                targets::gc_stale(context, project.as_deref(), dry_run)?;
            }
            if shared { gc_shared(context, older_than, project, dry_run) } else { Ok(()) }
        }
    }
}

fn stats(context: &Context, cache: &Cache, format: OutputFormat) -> Result<(), Stop> {
    let stats = cache.stats().map_err(swept)?;
    let targets = targets::lines(context);
    if format == OutputFormat::Json {
        let projects = stats.projects.iter().map(|project| ProjectStatsLine {
            path: project.path.as_ref().map(OsText::from),
            entries: project.entries,
            calls: project.calls,
            bytes: project.bytes,
            snapshots: project.snapshots,
        });
        let line = StatsLine {
            entries: stats.entries,
            bytes: stats.bytes,
            manifests: stats.manifests,
            manifest_bytes: stats.manifest_bytes,
            programs: stats.programs,
            program_bytes: stats.program_bytes,
            projects: projects.collect(),
            targets,
        };
        output::line(serde_json::to_string(&line).map_err(std::io::Error::from)?)?;
        return Ok(());
    }
    let all = stats.bytes + stats.manifest_bytes + stats.program_bytes;
    output::line(format_args!(
        "{} in {} ({})",
        plural(stats.entries as usize, "record"),
        cache.dir().display(),
        bytes(all)
    ))?;
    for project in &stats.projects {
        let path = project.path.as_ref().map_or("(unknown)".into(), |path| path.to_string_lossy());
        output::line(format_args!(
            "  {path}: {} of {} and {} ({})",
            plural(project.entries as usize, "record"),
            plural(project.snapshots as usize, "snapshot"),
            plural(project.calls as usize, "call"),
            bytes(project.bytes)
        ))?;
    }
    targets.iter().try_for_each(|target| output::line(target.text()))
}

fn clear(context: &Context, cache: &Cache, project: Option<PathBuf>) -> Result<(), Stop> {
    let project = project.map(|path| context.project(Some(&path))).transpose()?;
    let report = cache.clear(project.as_deref()).map_err(swept)?;
    let all_went = targets::clear(context, project.as_deref())
        && (project.is_some() || forget_store(cache.dir()));
    tell(&report, "Removed")?;
    if all_went { Ok(()) } else { Err(Stop::silent(Exit::Failure)) }
}

fn gc(context: &Context, cache: &Cache, dry_run: bool) -> Result<(), Stop> {
    let config = context.config()?.config;
    let keep = |project: &Project| (project.path.clone(), project.settings.keep_snapshots as usize);
    let options = GcOptions {
        limits: verdict::limits(&config.cache, &config.defaults),
        keep: config.projects.iter().map(keep).collect(),
        dry_run,
    };
    let report = cache.gc(Timestamp::now(), &options).map_err(swept)?;
    let all_went = targets::gc(context, dry_run)?;
    tell(&report, if dry_run { "Would go" } else { "Removed" })?;
    if all_went { Ok(()) } else { Err(Stop::silent(Exit::Failure)) }
}

/// Removes old records from the shared store, those of one project or of all.
fn gc_shared(
    context: &Context,
    older_than: Duration,
    project: Option<PathBuf>,
    dry_run: bool,
) -> Result<(), Stop> {
    let settings = context.config()?.config.shared;
    let root = project.map(|path| context.project(Some(&path))).transpose()?;
    let here = root.clone().unwrap_or_else(|| context.cwd.clone());
    let (dir, environment) = (&context.paths.cache_dir, &context.environment);
    let failed = |error: SharedError| {
        let exit = match error {
            SharedError::Config(_) => Exit::Config,
            SharedError::Store(_) => Exit::Failure,
        };
        Stop::new(exit, format!("shared store: {error}"))
    };
    let Some(store) = open_store(&settings, &here, dir, environment) else {
        let text = "the config names no shared store: `knhk-test-cache help sharing`";
        return Err(Stop::new(Exit::Config, text));
    };
    let label_of = root.as_deref().map(project_label);
    let wanted = Retention { older_than, project: label_of, dry_run };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = store.map_err(failed)?;
    let report = runtime.block_on(store.collect(wanted)).map_err(failed)?;
    let of = root.map(|root| format!(" of {}", root.display())).unwrap_or_default();
    let text = format!(
        "{} ({}) of the shared store{of}, older than {}; {} kept",
        plural(report.removed, "object"),
        bytes(report.bytes),
        config::format_duration(older_than),
        report.kept
    );
    output::note(label(GOOD, if dry_run { "Would go" } else { "Removed" }, text));
    for why in &report.failed {
        output::note(label(WARN, "Failed", why));
    }
    if report.failed.is_empty() { Ok(()) } else { Err(Stop::silent(Exit::Failure)) }
}

/// Says what went, and fails if something that had to go is still there.
fn tell(report: &SweepReport, word: &str) -> Result<(), Stop> {
    let count = plural(report.removed.len(), "file");
    let text = format!("{count} ({}); {} kept", bytes(report.freed()), report.entries);
    output::note(label(GOOD, word, text));
    for (path, error) in &report.failed {
        let text = format!("{}: {error}", path.display());
        output::note(label(WARN, "Failed", text));
    }
    if report.failed.is_empty() { Ok(()) } else { Err(Stop::silent(Exit::Failure)) }
}

fn swept(error: SweepError) -> Stop {
    Stop::new(Exit::Failure, error)
}
