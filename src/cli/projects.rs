//! `add`, `remove`, `list`: the projects of the config.

use std::path::Path;

use serde::Serialize;

use super::args::OutputFormat;
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, NOTE, WARN, label};
use super::targets;
use crate::config::edit::{self, AddedProject, EditError};
use crate::model::os_text;

/// Puts a workspace into the config.
pub(super) fn add(context: &Context, path: Option<&Path>) -> Result<(), Stop> {
    let root = context.workspace(path)?;
    let config = context.paths.config_file.display();
    match edit::add(&context.paths, &context.environment, &root).map_err(refused)? {
        AddedProject::New { path, created } => {
            if created {
                output::note(label(GOOD, "Created", &config));
            }
            output::note(label(GOOD, "Added", path.display()));
        }
        AddedProject::AlreadyThere { path, line } => {
            let text = format!("{} is in {config}, line {line}, already", path.display());
            output::note(label(NOTE, "Unchanged", text));
        }
    }
    Ok(())
}

/// Takes a workspace out of the config.
pub(super) fn remove(context: &Context, path: Option<&Path>) -> Result<(), Stop> {
    let root = context.project(path)?;
    let removed = edit::remove(&context.paths, &context.environment, &root).map_err(refused)?;
    output::note(label(GOOD, "Removed", removed.path.display()));
    // Nobody builds into it any more; `clear` tells what stays.
    if targets::clear(context, Some(&removed.path)) {
        return Ok(());
    }
    Err(Stop::silent(Exit::Failure))
}

#[derive(Serialize)]
struct ListLine<'a> {
    #[serde(with = "os_text")]
    path: &'a Path,
    written: &'a str,
    line: usize,
    problem: Option<String>,
}

/// Lists the workspaces of the config.
pub(super) fn list(context: &Context, format: OutputFormat) -> Result<(), Stop> {
    let listed = edit::list(&context.paths, &context.environment).map_err(refused)?;
    for entry in &listed {
        let problem = entry.problem.as_ref().map(crate::config::ConfigError::one_line);
        match format {
            OutputFormat::Json => {
                let (path, written) = (entry.path.as_path(), entry.written.as_str());
                let line = ListLine { path, written, line: entry.line, problem };
                output::line(serde_json::to_string(&line).map_err(std::io::Error::from)?)?;
            }
            OutputFormat::Text => {
                output::line(entry.path.display())?;
                if let Some(problem) = problem {
                    output::note(label(WARN, "Warning", problem));
                }
            }
        }
    }
    if listed.is_empty() && format == OutputFormat::Text {
        let text = "no projects; `knhk-test-cache add` adds the workspace you stand in";
        output::note(label(NOTE, "Empty", text));
    }
    Ok(())
}

fn refused(error: EditError) -> Stop {
    Stop::new(Exit::Config, error)
}
