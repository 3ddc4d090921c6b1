//! The effective config, spelled out as TOML.

use std::fmt::Write as _;
use std::path::Path;

use super::values::{list, quoted};
use super::{BackgroundSettings, Loaded, Settings, TargetDir, units};

/// Writes the config so that it reads back as the same.
pub(super) fn show(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let source = match &loaded.source {
        // A name can hold a line break; a comment cannot.
        Some(file) => file.display().to_string().escape_debug().to_string(),
        None => "the shipped default; there is no config file".to_owned(),
    };
    let mut out = format!("# source: {source}\n\n[cache]\n");
    line(&mut out, "max_size", &quoted(&units::format_size(config.cache.max_size)));
    let max_age = config.cache.max_age.unwrap_or_default();
    line(&mut out, "max_age", &quoted(&units::format_duration(max_age)));
    out.push_str("\n[log]\n");
    line(&mut out, "level", &quoted(config.log.level.as_str()));
    out.push_str("\n[background]\n");
    background(&mut out, &config.background);
    out.push_str("\n[defaults]\n");
    settings(&mut out, &config.defaults);
    for project in &config.projects {
        out.push('\n');
        if let Some(problem) = loaded.problem_of(project) {
            let _ = writeln!(out, "# {}", problem.fault().to_string().escape_debug());
        }
        out.push_str("[[project]]\n");
        line(&mut out, "path", &quoted(&path_text(&project.path, &project.written)));
        settings(&mut out, &project.settings);
    }
    out
}

fn line(out: &mut String, key: &str, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{key} = {value}");
}

fn background(out: &mut String, background: &BackgroundSettings) {
    let percent = |percent: u32| quoted(&format!("{percent}%"));
    line(out, "on_battery", &quoted(background.on_battery.as_str()));
    line(out, "battery_below", &percent(background.battery_below));
    line(out, "power_save", &quoted(background.power_save.as_str()));
    line(out, "memory_pressure", &percent(background.memory_pressure.unwrap_or(0)));
    line(out, "session_locked", &quoted(background.session_locked.as_str()));
    line(out, "processors_busy", &quoted(background.processors_busy.as_str()));
    line(out, "jobs", &background.jobs.map_or(0, usize::from).to_string());
}

fn settings(out: &mut String, settings: &Settings) {
    line(out, "args", &list(&settings.args));
    line(out, "extra_inputs", &list(&settings.extra_inputs));
    line(out, "exclude", &list(&settings.exclude));
    line(out, "ttl", &quoted(&units::format_duration(settings.ttl)));
    line(out, "keep_snapshots", &settings.keep_snapshots.to_string());
    line(out, "debounce", &quoted(&units::format_duration(settings.debounce)));
    line(out, "runner", &quoted(settings.runner.as_str()));
    line(out, "background_tests", &settings.background_tests.to_string());
    line(out, "verify_percent", &settings.verify_percent.to_string());
    line(out, "flaky_runs", &settings.flaky_runs.to_string());
    let timeout = settings.timeout.unwrap_or_default();
    line(out, "timeout", &quoted(&units::format_duration(timeout)));
    line(out, "always_run", &list(&settings.always_run));
    line(out, "trusted_services", &list(&settings.trusted_services));
    let target_dir = match &settings.target_dir {
        TargetDir::At(path) => escape(&path.to_string_lossy()),
        other => other.as_str().to_owned(),
    };
    line(out, "target_dir", &quoted(&target_dir));
    let build_timeout = settings.build_timeout.unwrap_or_default();
    line(out, "build_timeout", &quoted(&units::format_duration(build_timeout)));
    let background_timeout = settings.background_timeout.unwrap_or_default();
    line(out, "background_timeout", &quoted(&units::format_duration(background_timeout)));
    line(out, "clean_target", &settings.clean_target.to_string());
}

/// The path so that expanding it gives it back. A name that is no text can only be said as the
/// file says it, through a variable.
fn path_text(path: &Path, written: &str) -> String {
    path.to_str().map_or_else(|| written.to_owned(), escape)
}

/// A path as text that expands to itself. Absolute paths never start with `~`.
pub(super) fn escape(path: &str) -> String {
    path.replace('$', "$$")
}
