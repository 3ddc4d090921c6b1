//! The targets of which a verified answer was wrong: every command tells of them, and `resume --trust`
//! has records answer for them again.

use std::path::{Path, PathBuf};

use super::args::CliCommand;
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, NOTE, WARN, label};
use crate::cache::{Cache, ProjectState};

/// The projects of which a command tells such targets.
pub(super) enum Concerned {
    /// None: it tells them itself, or is no command of a person.
    Nobody,
    /// The workspace at this path, or the one around the current folder.
    One(Option<PathBuf>),
    /// Those of the config and the one around the current folder.
    All,
}

impl Concerned {
    /// The projects that a command is about.
    pub(super) fn by(command: &CliCommand) -> Self {
        match command {
            CliCommand::Test(_)
            | CliCommand::Doctor { .. }
            | CliCommand::Resume { trust: true, .. }
            | CliCommand::Status { short: true, .. }
            | CliCommand::Lsp
            | CliCommand::Daemon { .. } => Self::Nobody,
            CliCommand::Check(args) => Self::One(args.path.clone()),
            CliCommand::Explain(args) => Self::One(args.project.clone()),
            CliCommand::Select { project, .. } => Self::One(project.clone()),
            CliCommand::Rebuild { path } => Self::One(path.clone()),
            CliCommand::Watch(args) => Self::named(&args.project),
            CliCommand::Stats(args) => Self::named(&args.project),
            CliCommand::Status { path, .. } => Self::named(path),
            CliCommand::Pause { project, .. } | CliCommand::Resume { project, .. } => {
                Self::named(project)
            }
            _ => Self::All,
        }
    }

    fn named(path: &Option<PathBuf>) -> Self {
        path.clone().map_or(Self::All, |path| Self::One(Some(path)))
    }

    /// Tells them on standard error, whatever the form of the answer.
    pub(super) fn warn(&self, context: &Context) {
        let roots = match self {
            Self::Nobody => Vec::new(),
            Self::One(path) => context.project(path.as_deref()).into_iter().collect(),
            Self::All => all_projects(context),
        };
        let cache = Cache::open(&context.paths.cache_dir);
        roots.iter().for_each(|root| warn(&cache.state(root)));
    }
}

/// Tells of a project's targets of which a verified answer was wrong, if there are any.
pub(super) fn warn(state: &ProjectState) {
    if let Some(note) = state.distrust_note() {
        output::note(label(WARN, "Distrusted", note));
    }
}

/// The projects of the config, as far as it can be read, and the workspace around the current folder.
pub(super) fn all_projects(context: &Context) -> Vec<PathBuf> {
    let projects = context.config().map(|loaded| loaded.config.projects).unwrap_or_default();
    let listed = projects.into_iter().map(|project| project.path);
    let mut roots: Vec<_> = listed.chain(context.workspace(None).ok()).collect();
    roots.sort();
    roots.dedup();
    roots
}

/// Trusts the targets of one project again, or those of all projects and of the workspace here.
pub(super) fn trust(context: &Context, project: Option<&Path>) -> Result<(), Stop> {
    let roots: Vec<PathBuf> = match project {
        Some(path) => vec![context.project(Some(path))?],
        None => {
            context.config()?;
            all_projects(context)
        }
    };
    let cache = Cache::open(&context.paths.cache_dir);
    let mut trusted = Vec::new();
    for root in roots {
        if cache.state(&root).distrusted.is_empty() {
            continue;
        }
        let update = cache.update_state(&root, |state| {
            trusted.extend(std::mem::take(&mut state.distrusted).into_keys());
            state.wrong_signers.clear();
        });
        update.map_err(|error| Stop::new(Exit::Failure, error))?;
    }
    match trusted.is_empty() {
        true => output::note(label(NOTE, "Unchanged", "no verified answer was wrong")),
        false => output::note(label(GOOD, "Trusted", trusted.join(", "))),
    }
    Ok(())
}
