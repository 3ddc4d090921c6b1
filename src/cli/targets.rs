//! Target directories that projects have to themselves, as `cache …` and `remove` see them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, NOTE, WARN, bytes, label, plural};
use crate::cache::{OwnTargetDir, own_target_dirs, remove_leftovers};
use crate::compiler::{self, BuildLedger, remove_old_ledgers, remove_stale_unit};
use crate::model::{OsText, Timestamp};
use crate::verdict::{LEDGERS, Question};

/// One in `cache stats --format json`.
#[derive(Serialize)]
pub(super) struct TargetDirLine {
    path: OsText,
    project: Option<OsText>,
    bytes: u64,
}

/// All that there are.
pub(super) fn all(context: &Context) -> Vec<OwnTargetDir> {
    own_target_dirs(&context.paths.own_targets())
}

/// Their sizes, which takes a look at every file.
pub(super) fn lines(context: &Context) -> Vec<TargetDirLine> {
    let line = |own: OwnTargetDir| TargetDirLine {
        path: OsText::from(&own.path),
        project: own.project.as_ref().map(OsText::from),
        bytes: own.bytes(),
    };
    all(context).into_iter().map(line).collect()
}

impl TargetDirLine {
    /// For people.
    pub(super) fn text(&self) -> String {
        let of = self.project.as_ref().map_or("nobody".into(), |path| path.0.to_string_lossy());
        let path = self.path.0.to_string_lossy();
        format!("  {path}: target directory of {of} ({})", bytes(self.bytes))
    }
}

/// Removes those of one project, or all.
pub(super) fn clear(context: &Context, project: Option<&Path>) -> bool {
    let mut of = all(context);
    of.retain(|own| project.is_none_or(|project| own.project.as_deref() == Some(project)));
    remove_all(context, &of, false)
}

/// Removes those that nobody wants any more; one that is being built into stays.
pub(super) fn gc(context: &Context, dry_run: bool) -> Result<bool, Stop> {
    let config = context.config()?.config;
    let known: Vec<PathBuf> = config.projects.iter().map(|project| project.path.clone()).collect();
    let into = |project: &crate::config::Project| project.settings.target_dir.of(&project.path);
    let wanted: Vec<PathBuf> = config.projects.iter().filter_map(into).collect();
    let mut needless = all(context);
    needless.retain(|own| own.is_unused(&wanted, &known, SystemTime::now()));
    needless.retain(|own| {
        let locked = compiler::is_locked(std::slice::from_ref(&own.path));
        if locked {
            let text = format!("{}: a cargo builds into it", own.path.display());
            output::note(label(NOTE, "Stays", text));
        }
        !locked
    });
    if !dry_run {
        remove_old_ledgers(&context.paths.cache_dir.join(LEDGERS), SystemTime::now());
    }
    Ok(remove_all(context, &needless, dry_run))
}

/// Tells whether all of them went.
fn remove_all(context: &Context, these: &[OwnTargetDir], dry_run: bool) -> bool {
    if !dry_run {
        remove_leftovers(&context.paths.own_targets());
    }
    let mut all_went = true;
    for own in these {
        let text = format!("{} ({})", own.path.display(), bytes(own.bytes()));
        let line = match dry_run {
            true => label(GOOD, "Would go", text),
            false => match own.remove() {
                Ok(()) => label(GOOD, "Removed", text),
                Err(error) => {
                    all_went = false;
                    label(WARN, "Failed", format!("{}: {error}", own.path.display()))
                }
            },
        };
        output::note(line);
    }
    all_went
}

/// Removes what our builds have left in the target directories of the projects, or of one.
pub(super) fn gc_stale(
    context: &Context,
    project: Option<&Path>,
    dry_run: bool,
) -> Result<(), Stop> {
    let roots: Vec<PathBuf> = match project {
        Some(path) => vec![context.workspace(Some(path))?],
        None => context.config()?.config.projects.into_iter().map(|p| p.path).collect(),
    };
    let mut all_went = true;
    for root in roots {
        let file = Question::ledger_file(&root, &context.paths.cache_dir);
        let stale = BuildLedger::load(&file).stale(&root, Timestamp::now());
        let size = stale.iter().map(|one| one.bytes).sum();
        let text = format!(
            "{} of {} ({})",
            plural(stale.len(), "stale artifact"),
            root.display(),
            bytes(size)
        );
        if dry_run {
            for one in &stale {
                let what =
                    one.paths.last().map_or_else(String::new, |path| path.display().to_string());
                let newer = one.newer.strip_prefix(&root).unwrap_or(&one.newer).display();
                let line = format!("{what} ({}): {newer} is newer", bytes(one.bytes));
                output::note(label(NOTE, "Stale", line));
            }
            output::note(label(GOOD, "Would go", text));
        } else if let Err(error) = remove_stale_unit(&stale) {
            all_went = false;
            output::note(label(WARN, "Failed", error));
        } else {
            output::note(label(GOOD, "Removed", text));
        }
    }
    if all_went { Ok(()) } else { Err(Stop::silent(Exit::Failure)) }
}
