//! Names that a shell can complete: packages, targets and tests of the workspace around the current
//! folder, and topics of the guide.
//!
//! They come from the records: a keystroke builds nothing and asks no cargo.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap_complete::CompletionCandidate;

use crate::cache::Cache;
use crate::config;
use crate::guide::PAGES;
use crate::model::{TargetId, TargetKind};
use crate::paths::Paths;
use crate::process::Environment;
use crate::verdict::Question;
use crate::workspace::locate;

/// The packages that have test targets.
pub(super) fn packages() -> Vec<CompletionCandidate> {
    candidates(targets().into_iter().map(|id| id.package))
}

/// The targets of a kind.
pub(super) fn targets_of(kind: TargetKind) -> Vec<CompletionCandidate> {
    candidates(targets().into_iter().filter(|id| id.kind == kind).map(|id| id.target))
}

/// Every target, as answers name it.
pub(super) fn all_targets() -> Vec<CompletionCandidate> {
    candidates(targets().iter().map(TargetId::to_string))
}

/// The tests of the last run of the project's own selection.
pub(super) fn tests() -> Vec<CompletionCandidate> {
    let names = Records::here().and_then(|records| {
        let config = config::load(&records.paths, &records.environment).ok()?.config;
        let settings = config.settings_for(&records.root).clone();
        let question = Question::of_project(&records.root, records.environment, settings);
        let record = records.cache.latest(&records.root, &question.selection_text())?;
        let tests = record.targets.into_iter().flat_map(|target| target.tests);
        Some(tests.map(|test| test.name).collect::<Vec<_>>())
    });
    candidates(names.unwrap_or_default())
}

/// What `help` prints.
pub(super) fn topics() -> Vec<CompletionCandidate> {
    let topics = PAGES.iter().map(|page| page.topic.to_owned());
    candidates(topics.chain(["topics".to_owned()]))
}

fn targets() -> BTreeSet<TargetId> {
    let known = Records::here().map(|records| {
        let state = records.cache.state(&records.root);
        state.targets.into_iter().chain(state.called).collect()
    });
    known.unwrap_or_default()
}

fn candidates(names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let names: BTreeSet<_> = names.into_iter().collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// What is recorded of the workspace around the current folder.
struct Records {
    root: PathBuf,
    cache: Cache,
    paths: Paths,
    environment: Environment,
}

impl Records {
    fn here() -> Option<Self> {
        let environment = Environment::inherited();
        let paths = Paths::from_environment(&environment).ok()?;
        let root = locate(&std::env::current_dir().ok()?.canonicalize().ok()?).ok()?;
        Some(Self { root, cache: Cache::open(&paths.cache_dir), paths, environment })
    }
}
