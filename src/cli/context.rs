//! What every command starts from: folders, environment, the config when it is needed.

use std::path::{Path, PathBuf};

use super::args::Color;
use super::exit::{Exit, Stop};
use crate::config::{self, Loaded};
use crate::paths::Paths;
use crate::process::Environment;
use crate::verdict::{Facts, LocalTree, ProjectFiles, Question};
use crate::workspace::{is_member, locate};

/// The surroundings of one command.
pub(super) struct Context {
    pub(super) paths: Paths,
    pub(super) environment: Environment,
    pub(super) cwd: PathBuf,
    color: Color,
}

impl Context {
    /// `needs_home`: the command cannot do without the folders of the user.
    pub(super) fn new(
        config_file: Option<&Path>,
        color: Color,
        needs_home: bool,
    ) -> Result<Self, Stop> {
        let environment = Environment::inherited();
        let cwd = std::env::current_dir().map_err(|error| {
            Stop::error(Exit::Failure, format!("the current folder is not there: {error}"))
        })?;
        let paths = match needs_home {
            true => Paths::from_environment(&environment),
            false => Paths::even_without_home(&environment),
        };
        let mut paths = paths.map_err(|error| Stop::error(Exit::Failure, error))?;
        if let Some(file) = config_file {
            paths.config_file = cwd.join(file);
        }
        Ok(Self { paths, environment, cwd, color })
    }

    /// The config in force.
    pub(super) fn config(&self) -> Result<Loaded, Stop> {
        config::load(&self.paths, &self.environment)
            .map_err(|error| Stop::error(Exit::Config, error))
    }

    /// The workspace's root at or above `start`, which is the current folder by default. No links
    /// on the way: one folder has one name.
    pub(super) fn workspace(&self, start: Option<&Path>) -> Result<PathBuf, Stop> {
        let start = start.map_or_else(|| self.cwd.clone(), |start| self.cwd.join(start));
        let start = start.canonicalize().map_err(|error| {
            Stop::error(Exit::NotGreen, format!("cannot open {}: {error}", start.display()))
        })?;
        let root = locate(&start).map_err(|error| Stop::error(Exit::NotGreen, error))?;
        let package = start.ancestors().find(|folder| folder.join("Cargo.toml").is_file());
        match package.map(|package| (package, is_member(&root, package))) {
            Some((package, Ok(false))) => {
                Err(Stop::error(Exit::NotGreen, no_member(&root, package)))
            }
            Some((_, Err(error))) => Err(Stop::error(Exit::NotGreen, error)),
            Some((_, Ok(true))) | None => Ok(root),
        }
    }

    /// The project that a command with an optional path means: the workspace there, or, where
    /// there is none any more, the very folder.
    pub(super) fn project(&self, path: Option<&Path>) -> Result<PathBuf, Stop> {
        match (self.workspace(path), path) {
            (Ok(root), _) => Ok(root),
            (Err(_), Some(path)) => {
                let path = self.cwd.join(path);
                Ok(path.canonicalize().unwrap_or(path))
            }
            (Err(stop), None) => Err(stop),
        }
    }

    /// What decides the answer to a question besides the tree.
    pub(super) fn facts(&self, question: &Question) -> Result<Facts, Stop> {
        Facts::gather(question, &self.paths.cache_dir)
            .map_err(|error| Stop::error(Exit::NotGreen, error))
    }

    /// The tree of a project, which this process reads by itself.
    pub(super) fn local_tree(&self, question: &Question, facts: &Facts) -> Result<LocalTree, Stop> {
        let files =
            ProjectFiles::new(question, facts).map_err(|error| Stop::error(Exit::Config, error))?;
        Ok(LocalTree::new(files, &self.paths.cache_dir))
    }

    /// Whether what is written to a stream should be coloured.
    pub(super) fn colored(&self, stream: &impl std::io::IsTerminal) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => stream.is_terminal() && self.environment.get("NO_COLOR").is_none(),
        }
    }
}

/// Cargo's own words for a package that it refuses to work in.
fn no_member(root: &Path, package: &Path) -> String {
    let (manifest, workspace) = (package.join("Cargo.toml"), root.join("Cargo.toml"));
    let name = package.strip_prefix(root).unwrap_or(package).display();
    format!(
        "current package believes it's in a workspace when it's not:\n\
         current:   {}\n\
         workspace: {}\n\n\
         add `{name}` to `workspace.members` or `workspace.exclude` of the latter, or an empty \
         `[workspace]` table to the former",
        manifest.display(),
        workspace.display(),
    )
}
