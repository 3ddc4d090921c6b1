//! `resume --trust`: records answer again for targets of which a verified answer was wrong.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, NOTE, label};
use crate::cache::Cache;

/// Trusts the targets of one project again, or those of all projects and of the workspace here.
pub(super) fn trust(context: &Context, project: Option<&Path>) -> Result<(), Stop> {
    let roots: Vec<PathBuf> = match project {
        Some(path) => vec![context.project(Some(path))?],
        None => {
            let projects = context.config()?.config.projects;
            let listed = projects.into_iter().map(|project| project.path);
            // Outside of any workspace, those of the config are meant.
            let mut roots: Vec<_> = listed.chain(context.workspace(None).ok()).collect();
            roots.sort();
            roots.dedup();
            roots
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
