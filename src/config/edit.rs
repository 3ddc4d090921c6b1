//! Changes of the user's config file by command: a project more or a project less.
//!
//! The file is the user's own text. An edit adds or takes away the lines of one entry and leaves
//! every other byte as it is, comments, order, line ends and a byte order mark included. A file
//! that is no good config is never touched, and neither is it replaced by something that is none.

mod replace;
mod splice;

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::read::{Meaning, read};
use super::{DEFAULT, place, source, toml_text};
use crate::paths::Paths;
use crate::process::Environment;

use replace::Replaced;

/// Why the config was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// The file is no good config, or would not be one with the change. It is untouched.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The file could not be written. It is untouched.
    #[error("the config `{}` could not be written: {source}", .file.display())]
    Write {
        /// The config file, after symbolic links.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is write-protected; replacing it would go round that.
    #[error("the config `{}` is read-only: make it writable first (chmod u+w)", .0.display())]
    ReadOnly(PathBuf),
    /// Someone else changed the file each time.
    #[error("the config `{}` keeps changing while it is edited: try again", .0.display())]
    Busy(PathBuf),
    /// A project must be an absolute path.
    #[error("the project `{}` must be an absolute path", .0.display())]
    Relative(PathBuf),
    /// TOML is UTF-8, so this path cannot be written.
    #[error("the path `{}` is not UTF-8 and cannot stand in a config", .0.display())]
    NotUtf8(PathBuf),
    /// The projects are written as `project = [...]`.
    #[error(
        "the projects in line {line} of `{}` are an inline list, which is not edited: \
         write each as its own `[[project]]`", .file.display()
    )]
    Inline {
        /// The config file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// There is nothing to remove.
    #[error("the project `{}` is not in the config; {}", .path.display(), listed_text(.listed))]
    Unlisted {
        /// The project that was looked for.
        path: PathBuf,
        /// The projects that there are.
        listed: Vec<PathBuf>,
    },
}

fn listed_text(listed: &[PathBuf]) -> String {
    let names = listed.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>();
    if names.is_empty() { "it lists none".into() } else { format!("it lists {}", names.join(", ")) }
}

/// What [`add`] found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddedProject {
    /// The project is in the config from now on.
    New {
        /// The project as the config resolves it.
        path: PathBuf,
        /// Whether there was no config file before.
        created: bool,
    },
    /// It already was; nothing was changed.
    AlreadyThere {
        /// The project as the config resolves it.
        path: PathBuf,
        /// The line of its entry, from 1.
        line: usize,
    },
}

/// What [`remove`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemovedProject {
    /// The project as the config resolved it.
    pub path: PathBuf,
    /// How many entries went: more than one if the file listed it repeatedly.
    pub entries: usize,
}

/// A project of the config, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedProject {
    /// The project as the config resolves it.
    pub path: PathBuf,
    /// The path as the file has it.
    pub written: String,
    /// The line of its entry, from 1.
    pub line: usize,
    /// What is wrong with its folder, if anything.
    pub problem: Option<ConfigError>,
}

/// How often an edit starts anew because someone else was faster.
const EDIT_ATTEMPTS: usize = 20;

/// Adds a project to the user's config, and makes the file if there is none.
///
/// # Errors
/// If the path is not an existing folder's absolute path, or the file cannot be changed.
pub(crate) fn add(
    paths: &Paths,
    environment: &Environment,
    path: &Path,
) -> Result<AddedProject, EditError> {
    if !path.is_absolute() {
        return Err(EditError::Relative(path.to_owned()));
    }
    let (real, _) = place::resolve(path);
    // As the user says it, so that a link stays a link; but no detours.
    let detour = path.components().any(|part| part == std::path::Component::ParentDir);
    let plain = if detour { real.clone() } else { path.components().collect() };
    let written = plain.to_str().ok_or_else(|| EditError::NotUtf8(plain.clone()))?;
    let written = toml_text::quoted(&toml_text::escape(written));
    edit(paths, |old| {
        let text = old.map_or_else(starting_text, ToOwned::to_owned);
        let before = good(read(&text, paths, environment))?;
        if let Some(entry) = before.entries.iter().find(|entry| entry.path == real) {
            let line = splice::line_of(&text, entry.header.start);
            return Ok(Change::Nothing(AddedProject::AlreadyThere { path: real.clone(), line }));
        }
        not_inline(paths, &text, splice::inline(&text))?;
        let new = splice::append(&text, &written);
        let after = good(read(&new, paths, environment))?;
        // Whoever adds a project that is not there has mistyped it.
        if let Some(problem) =
            after.problems.into_iter().find(|problem| problem.project() == Some(&real))
        {
            return Err(problem.into());
        }
        let created = old.is_none();
        Ok(Change::To(new, AddedProject::New { path: real.clone(), created }))
    })
}

/// Takes a project out of the user's config, whether its folder exists or not.
///
/// # Errors
/// If it is not there, or the file cannot be changed.
pub(crate) fn remove(
    paths: &Paths,
    environment: &Environment,
    path: &Path,
) -> Result<RemovedProject, EditError> {
    if !path.is_absolute() {
        return Err(EditError::Relative(path.to_owned()));
    }
    let (real, _) = place::resolve(path);
    edit(paths, |old| {
        let text = old.unwrap_or_default();
        let before = read(text, paths, environment);
        // Removing is how one gets rid of a repeated entry.
        let before = if before.only_duplicates { before } else { good(before)? };
        let mut new = text.to_owned();
        let (gone, kept) =
            before.entries.into_iter().partition::<Vec<_>, _>(|entry| entry.path == real);
        if gone.is_empty() {
            let listed = kept.into_iter().map(|entry| entry.path).collect();
            return Err(EditError::Unlisted { path: real.clone(), listed });
        }
        not_inline(paths, text, splice::inline(text))?;
        // From the end, so that the places of the earlier ones stay true.
        for entry in gone.iter().rev() {
            new = splice::cut(&new, &entry.header, entry.end);
        }
        let after = read(&new, paths, environment);
        if !after.only_duplicates {
            good(after)?;
        }
        Ok(Change::To(new, RemovedProject { path: real.clone(), entries: gone.len() }))
    })
}

/// The projects of the user's config, in its order.
///
/// # Errors
/// The first error of the file.
pub(crate) fn list(
    paths: &Paths,
    environment: &Environment,
) -> Result<Vec<ListedProject>, EditError> {
    let text = source::read(&paths.config_file)?.unwrap_or_default();
    let Meaning { config, entries, problems, .. } = good(read(&text, paths, environment))?;
    let listed = config.projects.into_iter().zip(entries).map(|(project, entry)| ListedProject {
        problem: problems.iter().find(|p| p.project() == Some(&project.path)).cloned(),
        line: splice::line_of(&text, entry.header.start),
        path: project.path,
        written: project.written,
    });
    Ok(listed.collect())
}

/// Replaces any file of the user's by its changed text, as a whole or not at all. A link stays a
/// link, and owner and permissions stay. `change` gives none where the text is to stay; whether the
/// file changed is returned.
///
/// # Errors
/// The error of `change`, or if the file cannot be read or written. Then it is untouched.
pub(crate) fn rewrite<E: From<EditError>>(
    file: &Path,
    change: impl Fn(Option<&str>) -> Result<Option<String>, E>,
) -> Result<bool, E> {
    let read = || source::read(file).map_err(|error| E::from(EditError::Config(error)));
    for _ in 0..EDIT_ATTEMPTS {
        // Before anything is made: an edit that fails leaves not even a folder.
        if change(read()?.as_deref())?.is_none() {
            return Ok(false);
        }
        let target = replace::EditedFile::lock(file)?;
        let old = read()?;
        let Some(new) = change(old.as_deref())? else { return Ok(false) };
        if target.replace(old.as_deref(), &new)? == Replaced::Done {
            return Ok(true);
        }
    }
    Err(EditError::Busy(file.to_owned()).into())
}

/// What an edit comes to.
enum Change<T> {
    Nothing(T),
    To(String, T),
}

/// Reads, changes and replaces the file, anew if someone else changed it meanwhile.
fn edit<T>(
    paths: &Paths,
    change: impl Fn(Option<&str>) -> Result<Change<T>, EditError>,
) -> Result<T, EditError> {
    for _ in 0..EDIT_ATTEMPTS {
        // Before anything is made: an edit that fails leaves not even a folder.
        if let Change::Nothing(outcome) = change(source::read(&paths.config_file)?.as_deref())? {
            return Ok(outcome);
        }
        let target = replace::EditedFile::lock(&paths.config_file)?;
        let old = source::read(&paths.config_file)?;
        match change(old.as_deref())? {
            Change::Nothing(outcome) => return Ok(outcome),
            Change::To(new, outcome) => match target.replace(old.as_deref(), &new)? {
                Replaced::Done => return Ok(outcome),
                Replaced::ChangedMeanwhile => {}
            },
        }
    }
    Err(EditError::Busy(paths.config_file.clone()))
}

/// The meaning config if it has no fault, or its first fault.
fn good(mut meaning: Meaning) -> Result<Meaning, ConfigError> {
    if meaning.faults.is_empty() {
        return Ok(meaning);
    }
    Err(meaning.faults.swap_remove(0))
}

fn not_inline(paths: &Paths, text: &str, inline: Option<usize>) -> Result<(), EditError> {
    let Some(at) = inline else { return Ok(()) };
    let line = splice::line_of(text, at);
    Err(EditError::Inline { file: paths.config_file.clone(), line })
}

/// The text of a new config file: the shipped default with its values commented out, so that
/// a user who changes one of them does not pin the others.
#[must_use]
pub(crate) fn starting_text() -> String {
    let mut text = String::new();
    for line in DEFAULT.lines() {
        // The schema lies beside the shipped default only.
        if line.starts_with("#:schema") {
            continue;
        }
        if !line.is_empty() && !line.starts_with(['#', '[']) {
            text.push_str("# ");
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
