//! `explain`: why each test target is cached or runs.

use std::path::Path;

use serde::Serialize;

use super::args::{ExplainArgs, OutputFormat};
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, NOTE, WARN, label, plural, selection_text};
use crate::cache::{Cache, ObservationCost, RecordLevel, SelectionRecord};
use crate::model::{Digest, OsText, Source, TargetId, TargetKind, Timestamp, Verdict};
use crate::verdict::{
    self, CallsExplanation, Explanation, Facts, LevelExplanation, ProjectTree as _, Question,
    SharedReason, SharedReasons, TargetExplanation,
};

#[derive(Serialize)]
struct ExplainedTarget<'a> {
    r#type: &'static str,
    package: &'a str,
    target: &'a str,
    kind: TargetKind,
    source: Source,
    reason: &'a str,
    recorded: Option<Timestamp>,
    verdict: Option<Verdict>,
    inputs: usize,
    changed: &'a [String],
    runs_alone: Option<Timestamp>,
    /// What speaks against running it in the background unasked.
    not_in_background: Option<&'a [String]>,
    advice: &'a [String],
    /// What observing its last run cost, if that was more than `observe_budget`.
    over_budget: Option<ObservationCost>,
    calls: Option<ExplainedCalls<'a>>,
    /// What the shared store says; none if the config names no store.
    shared: Option<ExplainedShared<'a>>,
    /// What each level of records says, the widest first.
    levels: Vec<ExplainedLevel<'a>>,
}

/// Whether a record of another machine would answer.
#[derive(Serialize)]
struct ExplainedShared<'a> {
    answers: bool,
    signer: Option<&'a str>,
    reason: &'a str,
}

impl<'a> ExplainedShared<'a> {
    /// What the store says of a target.
    fn of(reasons: &'a SharedReasons, id: &TargetId) -> Self {
        match reasons.targets.get(id) {
            Some(SharedReason { answers, signer, reason }) => {
                Self { answers: *answers, signer: signer.as_deref(), reason }
            }
            None => Self { answers: false, signer: None, reason: &reasons.whole },
        }
    }
}

/// One level of records.
#[derive(Serialize)]
struct ExplainedLevel<'a> {
    level: RecordLevel,
    /// `null` if only a build can tell.
    answers: Option<bool>,
    reason: &'a str,
    differences: &'a [String],
    compared_with: Option<OsText>,
}

impl<'a> From<&'a LevelExplanation> for ExplainedLevel<'a> {
    fn from(explained: &'a LevelExplanation) -> Self {
        let LevelExplanation { level, answers, reason, differences, compared_with } = explained;
        let compared_with = compared_with.as_ref().map(OsText::from);
        Self { level: *level, answers: *answers, reason, differences, compared_with }
    }
}

/// Runs by plain `cargo test`, through `exec`.
#[derive(Serialize)]
struct ExplainedCalls<'a> {
    kept: usize,
    answering: usize,
    why_not: Option<&'a str>,
    advice: &'a [String],
}

#[derive(Serialize)]
struct ExplainedProject<'a> {
    r#type: &'static str,
    source: Source,
    reason: &'a str,
    code_hash: Option<Digest>,
    files: Vec<String>,
    target_dirs: Vec<OsText>,
    settings: &'a [String],
    selection: &'a SelectionRecord,
    /// What the shared store says of the whole; none if the config names no store.
    shared: Option<&'a str>,
}

/// What decides the next answer.
pub(super) struct Explained {
    /// What is known here.
    pub(super) explanation: Explanation,
    facts: Facts,
    /// What the shared store says, if it was asked.
    shared: Option<SharedReasons>,
}

/// Explains from the tree on disk, the records and the shared store; it asks no daemon.
pub(super) fn explain(context: &Context, args: &ExplainArgs) -> Result<(), Stop> {
    let mut explained = explained(context, args.project.as_deref(), true)?;
    let Explained { explanation, shared, .. } = &mut explained;
    for id in shared.iter().flat_map(|shared| shared.targets.keys()) {
        if !explanation.targets.iter().any(|known| known.id == *id) {
            let unrecorded = TargetExplanation::unrecorded(id.clone(), &explanation.reason);
            explanation.targets.push(unrecorded);
        }
    }
    show(&explained, args)
}

/// What decides the next answer for a project, by its own selection; with what the shared store of
/// the config says, if that is asked too.
pub(super) fn explained(
    context: &Context,
    project: Option<&Path>,
    asks_store: bool,
) -> Result<Explained, Stop> {
    let root = context.workspace(project)?;
    let config = context.config()?.config;
    let settings = config.settings_for(&root).clone();
    let dir = context.cwd.canonicalize().unwrap_or_else(|_| context.cwd.clone());
    let environment = config.shared.test_environment(context.environment.clone());
    let question = Question::asked(&root, &dir, None, Vec::new(), environment, settings);
    let cache = Cache::open(&context.paths.cache_dir);
    let facts = context.facts(&question)?;
    let mut tree = context.local_tree(&question, &facts)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let look = runtime.block_on(tree.look()).map_err(|error| Stop::new(Exit::NotGreen, error))?;
    let manifest = tree.scope().manifest();
    let explanation = verdict::explain(&question, &facts, &look, &manifest, &cache);
    let own = &context.environment;
    let store = asks_store
        .then(|| verdict::open_store(&config.shared, &question.root, cache.dir(), own))
        .flatten();
    let shared = store.map(|store| {
        let tree = &mut tree;
        let asked = verdict::shared_reasons(store, &cache, &question, &facts, tree, &look);
        runtime.block_on(asked)
    });
    Ok(Explained { explanation, facts, shared })
}

fn show(explained: &Explained, args: &ExplainArgs) -> Result<(), Stop> {
    let Explained { explanation, facts, shared } = explained;
    let source = if explanation.cached { Source::Cache } else { Source::Run };
    let files: Vec<_> = explanation.files.iter().map(ToString::to_string).collect();
    let wanted = |id: &TargetId| {
        args.target.as_ref().is_none_or(|part| {
            id.package.contains(part.as_str())
                || id.target.contains(part.as_str())
                || id.to_string().contains(part.as_str())
        })
    };
    let known = &explanation.targets;
    let targets: Vec<_> = known.iter().filter(|target| wanted(&target.id)).collect();
    if let (Some(part), true, false) = (&args.target, targets.is_empty(), known.is_empty()) {
        return Err(Stop::new(Exit::Failure, format!("no test target matches `{part}`")));
    }
    let recorded = explanation.last.as_ref().map(|record| record.created);
    if args.format == OutputFormat::Json {
        for target in &targets {
            output::line(json(&ExplainedTarget {
                r#type: "target",
                package: &target.id.package,
                target: &target.id.target,
                kind: target.id.kind,
                source: if target.cached { Source::Cache } else { source },
                reason: &target.reason,
                recorded: target.kept.or(recorded),
                verdict: target.verdict,
                inputs: target.inputs,
                changed: &target.changed,
                runs_alone: target.runs_alone,
                not_in_background: target.obstacles.as_deref(),
                advice: &target.advice,
                over_budget: target.over_budget,
                calls: target.calls.as_ref().map(|calls| ExplainedCalls {
                    kept: calls.kept,
                    answering: calls.answering,
                    why_not: calls.why_not.as_deref(),
                    advice: &calls.advice,
                }),
                shared: shared.as_ref().map(|shared| ExplainedShared::of(shared, &target.id)),
                levels: target.levels.iter().map(ExplainedLevel::from).collect(),
            }))?;
        }
        output::line(json(&ExplainedProject {
            r#type: "project",
            source,
            reason: &explanation.reason,
            code_hash: explanation.code_hash,
            files,
            target_dirs: facts.target_dirs.iter().map(OsText::from).collect(),
            settings: &explanation.settings,
            selection: &explanation.selection,
            shared: shared.as_ref().map(|shared| &*shared.whole),
        }))?;
        return Ok(());
    }
    let word = if explanation.cached {
        label(GOOD, "Cached", &explanation.reason)
    } else {
        label(WARN, "Run", &explanation.reason)
    };
    output::line(word)?;
    if let Some(created) = recorded {
        let when = created.ago(Timestamp::now());
        output::line(label(NOTE, "Last run", when))?;
    }
    for file in &files {
        output::line(label(NOTE, "File", file))?;
    }
    for dir in &facts.target_dirs {
        output::line(label(NOTE, "builds in", dir.display()))?;
    }
    for setting in &explanation.settings {
        output::line(label(NOTE, "Setting", setting))?;
    }
    if let Some(shared) = shared {
        output::line(label(NOTE, "Shared", &shared.whole))?;
    }
    if explanation.selection.runs > 0 {
        output::line(label(NOTE, "Selection", selection_text(&explanation.selection)))?;
    }
    for target in targets {
        let decided = if target.cached { "cached" } else { "run" };
        let last = target.verdict.map_or_else(String::new, |last| format!(" (last: {last})"));
        let reason = if target.cached { String::new() } else { format!(": {}", target.reason) };
        output::line(label(NOTE, decided, format!("{}{last}{reason}", target.id)))?;
        // The reason of the whole has been told.
        if let Some(shared) = shared.as_ref().filter(|_| !target.cached) {
            let said = ExplainedShared::of(shared, &target.id).reason;
            if said != shared.whole {
                output::line(label(NOTE, "shared", said))?;
            }
        }
        if let Some(since) = target.runs_alone {
            let when = since.ago(Timestamp::now());
            let text = format!("it failed beside other test programs {when} and passed alone");
            output::line(label(NOTE, "runs alone", text))?;
        }
        for advice in &target.advice {
            output::line(label(NOTE, "to cache it", advice))?;
        }
        if let Some(cost) = target.over_budget {
            output::line(label(NOTE, "observing", format!("its last run took {cost}")))?;
        }
        let is_only_called = target.kept.is_none() && target.verdict.is_none();
        if let Some(calls) =
            target.calls.as_ref().filter(|_| args.target.is_some() || is_only_called)
        {
            show_calls(calls)?;
        }
        // All that is known, where one target is asked about.
        if args.target.is_some() {
            if let Some(kept) = target.kept {
                let (when, count) = (kept.ago(Timestamp::now()), target.inputs);
                let text = format!(
                    "as a record of its own {when}; its run used {count} files and folders"
                );
                output::line(label(NOTE, "cached", text))?;
            }
            match target.obstacles.as_deref() {
                None => {}
                Some([]) => {
                    output::line(label(
                        NOTE,
                        "unasked",
                        "in the background: it is quick and has no side effects",
                    ))?;
                }
                Some(why) => {
                    let text = format!("not in the background: {}", why.join("; "));
                    output::line(label(NOTE, "unasked", text))?;
                }
            }
            if let Some(why) = explanation.selection.why_whole.get(&target.id.to_string()) {
                let text = format!("selection would have run all of it the last time: {why}");
                output::line(label(NOTE, "whole", text))?;
            }
            for path in &target.changed {
                output::line(label(NOTE, "changed", path))?;
            }
            target.levels.iter().try_for_each(show_level)?;
        }
    }
    Ok(())
}

/// What one level of records says.
fn show_level(explained: &LevelExplanation) -> Result<(), Stop> {
    let LevelExplanation { level, answers, reason, differences, compared_with } = explained;
    let answers = match answers {
        Some(true) => "answers",
        Some(false) => "does not answer",
        None => "may answer",
    };
    output::line(label(NOTE, level.as_str(), format!("level {answers}: {reason}")))?;
    if let Some(checkout) = compared_with.as_ref().filter(|_| !differences.is_empty()) {
        output::line(label(NOTE, "compared", format!("with the run in {}", checkout.display())))?;
    }
    differences.iter().try_for_each(|text| output::line(label(NOTE, "differs", text)))
}

/// What plain `cargo test` would do.
fn show_calls(calls: &CallsExplanation) -> Result<(), Stop> {
    let CallsExplanation { kept, answering, why_not, advice } = calls;
    let why = why_not.as_ref().map_or_else(String::new, |why| format!("; {why}"));
    let text = format!("plain: {} cached, {answering} would answer{why}", plural(*kept, "call"));
    output::line(label(NOTE, "cargo test", text))?;
    for advice in advice {
        output::line(label(NOTE, "to cache it", advice))?;
    }
    Ok(())
}

fn json(value: &impl Serialize) -> String {
    // Text and numbers only: nothing that JSON cannot say.
    serde_json::to_string(value).unwrap_or_default()
}
