//! The user's file, read once.

use std::path::PathBuf;

use super::{Config, ConfigError, Project, read, source};
use crate::paths::Paths;
use crate::process::Environment;

/// A config, and the problems with its projects.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// The file that it was read from; none if there is no file and all is shipped default.
    pub source: Option<PathBuf>,
    /// One error for each project whose folder does not exist, in the order of the file. The project
    /// is in [`Config::projects`] all the same, and [`ConfigError::project`] is its path.
    pub problems: Vec<ConfigError>,
}

/// Reads the user's config; without a file, the shipped default, which has no projects.
///
/// # Errors
/// The first error of the file. A project's folder that does not exist is no error here.
pub fn load(paths: &Paths, environment: &Environment) -> Result<Loaded, ConfigError> {
    let text = source::read(&paths.config_file)?;
    let source = text.is_some().then(|| paths.config_file.clone());
    let mut meaning = read::read(text.as_deref().unwrap_or(""), paths, environment);
    if meaning.faults.is_empty() {
        return Ok(Loaded { config: meaning.config, source, problems: meaning.problems });
    }
    Err(meaning.faults.swap_remove(0))
}

/// All errors of the user's config and all problems with its projects, in the order of the file.
#[must_use]
pub(crate) fn check(paths: &Paths, environment: &Environment) -> Vec<ConfigError> {
    let text = match source::read(&paths.config_file) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return vec![error],
    };
    let read::Meaning { mut faults, problems, .. } = read::read(&text, paths, environment);
    faults.extend(problems);
    faults.sort_by_key(|fault| (fault.line(), fault.column()));
    faults
}

impl Loaded {
    /// The problem with a project's folder, if there is one.
    #[must_use]
    pub(crate) fn problem_of(&self, project: &Project) -> Option<&ConfigError> {
        self.problems.iter().find(|problem| problem.project() == Some(&project.path))
    }
}
