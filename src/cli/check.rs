//! `check`: what is known of the tree as it stands, green, red or nothing. It builds and runs nothing,
//! and the daemon changes none of its plans for it.

mod staged;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use self::staged::StagedTree;
use super::args::{CheckArgs, OutputFormat};
use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::remote::RemoteTree;
use super::render::{ERROR, GOOD, WARN, counts_text, label, seconds};
use crate::cache::Cache;
use crate::client::{ClientError, Connection};
use crate::model::{Answer, Digest, Timestamp};
use crate::process::Environment;
use crate::protocol::{Ask, Call, KnownFailure, Reply};
use crate::verdict::{LookUp, ProjectTree as _, Question, answer_by_packages};

/// What is known.
enum Known {
    Green(Answer),
    Red(KnownFailure),
    /// Nothing, and why.
    Unknown(String),
}

/// Says what is known; the exit status is the answer.
pub(super) fn check(context: &Context, args: &CheckArgs) -> Result<(), Stop> {
    let started = Instant::now();
    let (root, known) = match context.workspace(args.path.as_deref()) {
        Ok(root) => {
            let known = known(context, args, &root);
            (Some(root), known)
        }
        Err(stop) => (None, Err(stop)),
    };
    let known = match known {
        Ok(known) => known,
        // What makes `test` fail (no workspace, no cargo) says nothing about the tests.
        Err(stop) if stop.exit == Exit::NotGreen => Known::Unknown(stop.message),
        Err(stop) => return Err(stop),
    };
    if args.format == OutputFormat::Json {
        output::line(json_line(&known, started)?)?;
    } else {
        let root = root.unwrap_or_else(|| context.cwd.clone());
        tell(&known, &root, started);
    }
    match known {
        Known::Green(_) => Ok(()),
        Known::Red(_) => Err(Stop::silent(Exit::NotGreen)),
        Known::Unknown(_) => Err(Stop::silent(Exit::Unknown)),
    }
}

fn known(context: &Context, args: &CheckArgs, root: &Path) -> Result<Known, Stop> {
    let config = context.config()?.config;
    let environment = config.shared.test_environment(without_git_hook(&context.environment));
    let mut staged = None;
    if args.staged {
        match StagedTree::on_disk(root, &context.cwd, &context.environment) {
            Ok(tree) => staged = Some(tree),
            Err(why) => return Ok(Known::Unknown(why)),
        }
    }
    let untracked = staged.as_ref().map_or(&[][..], |tree| &tree.untracked);
    let settings = config.settings_for(root).clone();
    let question = Question::of_project(root, environment, settings);
    let looked = match ask_daemon(context, &question, untracked) {
        Ok(Some(looked)) => looked,
        Ok(None) => look(context, &question, untracked)?,
        Err(error) => {
            output::note(label(WARN, "Daemon", format!("{error}; working without it")));
            look(context, &question, untracked)?
        }
    };
    let Some(before) = staged else { return Ok(looked.known) };
    if let Some(path) = looked.counted.first() {
        let path = path.strip_prefix(root).unwrap_or(path).display();
        return Ok(Known::Unknown(format!("`{path}` counts and is not staged")));
    }
    // The records were asked between the two looks: about this tree.
    match StagedTree::on_disk(root, &context.cwd, &context.environment) {
        Ok(after) if after == before => Ok(looked.known),
        Ok(_) => Ok(Known::Unknown("files changed meanwhile".to_owned())),
        Err(why) => Ok(Known::Unknown(why)),
    }
}

/// What the records say of the tree on disk.
struct Looked {
    known: Known,
    /// Those of the untracked files that the tree counts.
    counted: Vec<PathBuf>,
}

/// What the daemon knows; `None` where no daemon watches the project.
fn ask_daemon(
    context: &Context,
    question: &Question,
    untracked: &[PathBuf],
) -> Result<Option<Looked>, ClientError> {
    let Some(mut connection) = Connection::open(&context.paths.socket())? else { return Ok(None) };
    let root = &question.root;
    let ask = Ask {
        project: root.clone(),
        dir: root.clone(),
        cargo: None,
        harness: Vec::new(),
        environment: question.environment.clone(),
        no_cache: false,
        only_known: true,
        names_tests: false,
        config_file: context.paths.config_file.clone(),
    };
    let known = match connection.call(Call::Ask(ask), |_| {})? {
        Reply::Answer(answer) => Known::Green(answer),
        Reply::Miss(miss) => {
            let mut tree = RemoteTree::new(&mut connection, root, miss.clone(), false);
            let answer = match miss.tree.filter(|_| miss.known_failure.is_none()) {
                Some(digest) => by_packages(context, question, &mut tree, &digest),
                None => None,
            };
            let unanswered = || unanswered(miss.reason, miss.known_failure);
            answer.map_or_else(unanswered, Known::Green)
        }
        _ => return Ok(None),
    };
    let mut counted = untracked.to_vec();
    if !counted.is_empty() {
        let paths = untracked.iter().map(Into::into).collect();
        let call = Call::Uncounted { project: root.clone(), paths };
        if let Reply::Paths { paths } = connection.call(call, |_| {})? {
            counted.retain(|path| !paths.iter().any(|other| path.as_os_str() == other.0));
        }
    }
    Ok(Some(Looked { known, counted }))
}

/// What this process finds out by itself.
fn look(context: &Context, question: &Question, untracked: &[PathBuf]) -> Result<Looked, Stop> {
    let cache = Cache::open(&context.paths.cache_dir);
    let facts = context.facts(question)?;
    let mut tree = context.local_tree(question, &facts)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let state = runtime.block_on(tree.look()).map_err(|error| Stop::new(Exit::NotGreen, error))?;
    let known = match state.digest {
        Ok(digest) => {
            let asked = LookUp { cache: &cache, question, facts: &facts };
            match asked.answer(&digest) {
                Ok(answer) => Known::Green(answer),
                Err(missed) => {
                    let is_unknown = missed.known_failure.is_none();
                    let answer = is_unknown
                        .then(|| runtime.block_on(answer_by_packages(asked, &mut tree, &digest)));
                    let unanswered = || unanswered(missed.reason, missed.known_failure);
                    answer.flatten().map_or_else(unanswered, Known::Green)
                }
            }
        }
        Err(why) => Known::Unknown(format!("the snapshot is unknown: {}", why.join("; "))),
    };
    let uncounted = runtime.block_on(tree.uncounted(untracked.to_vec()));
    let mut counted = untracked.to_vec();
    counted.retain(|path| !uncounted.contains(path));
    Ok(Looked { known, counted })
}

/// What the records of packages answer, where the daemon has no record of the whole.
fn by_packages(
    context: &Context,
    question: &Question,
    tree: &mut RemoteTree<'_>,
    tree_digest: &Digest,
) -> Option<Answer> {
    let cache = Cache::open(&context.paths.cache_dir);
    let facts = context.facts(question).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
    let asked = LookUp { cache: &cache, question, facts: &facts };
    runtime.block_on(answer_by_packages(asked, tree, tree_digest))
}

fn unanswered(reason: String, failure: Option<KnownFailure>) -> Known {
    failure.map_or(Known::Unknown(reason), Known::Red)
}

/// The environment of the shell in which git was called, where git calls us in a hook: what git sets
/// for its hooks is no reason to know nothing. The hook's tests would see it; nothing is run here.
fn without_git_hook(environment: &Environment) -> Environment {
    let mut own = environment.clone();
    let (Some(programs), Some(path)) = (environment.get("GIT_EXEC_PATH"), environment.get("PATH"))
    else {
        return own;
    };
    let mut folders = std::env::split_paths(path);
    if folders.next().is_none_or(|first| first != Path::new(programs)) {
        return own;
    }
    if let Ok(rest) = std::env::join_paths(folders) {
        own.set("PATH", rest);
    }
    for name in [
        "GIT_AUTHOR_DATE",
        "GIT_AUTHOR_EMAIL",
        "GIT_AUTHOR_NAME",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_EDITOR",
        "GIT_EXEC_PATH",
        "GIT_INDEX_FILE",
        "GIT_PREFIX",
        "GIT_REFLOG_ACTION",
        "GIT_WORK_TREE",
    ] {
        own.remove(name);
    }
    own
}

fn tell(known: &Known, root: &Path, started: Instant) {
    let (name, now) = (root.file_name().unwrap_or(root.as_os_str()).display(), Timestamp::now());
    let took = seconds(started.elapsed());
    match known {
        Known::Green(answer) => {
            let age =
                answer.oldest().map_or_else(String::new, |when| format!(", run {}", when.ago(now)));
            let counts = counts_text(answer.counts());
            output::note(label(GOOD, "Green", format!("{name}: {counts}{age}, known in {took}")));
        }
        Known::Red(failure) => {
            for name in &failure.failures {
                output::note(label(ERROR, "Failed", name));
            }
            let age = failure.when.ago(now);
            output::note(label(
                ERROR,
                "Not green",
                format!("{name}: failed {age}, known in {took}"),
            ));
        }
        Known::Unknown(why) => {
            let text = format!("{name}: {why}; `knhk-test-cache test` finds out");
            output::note(label(WARN, "Unknown", text));
        }
    }
}

/// The JSON of `check`: a contract with scripts.
#[derive(Serialize)]
struct CheckedLine<'a> {
    r#type: &'static str,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    code_hash: Option<Digest>,
    when: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignored: Option<u64>,
    failures: &'a [String],
    elapsed_ms: f64,
}

fn json_line(known: &Known, started: Instant) -> Result<String, Stop> {
    let elapsed_ms = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let mut line = CheckedLine {
        r#type: "check",
        verdict: "unknown",
        reason: None,
        code_hash: None,
        when: None,
        passed: None,
        ignored: None,
        failures: &[],
        elapsed_ms,
    };
    match known {
        Known::Green(answer) => {
            let counts = answer.counts();
            line.verdict = "pass";
            line.code_hash = answer.code_hash;
            line.when = answer.oldest();
            (line.passed, line.ignored) = (Some(counts.passed), Some(counts.ignored));
        }
        Known::Red(failure) => {
            line.verdict = "fail";
            line.when = Some(failure.when);
            line.failures = &failure.failures;
        }
        Known::Unknown(why) => line.reason = Some(why),
    }
    Ok(serde_json::to_string(&line).map_err(std::io::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_sets_for_a_hook_is_taken_away_and_nothing_else() {
        let environment = |pairs: &[(&str, &str)]| -> Environment {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        let hook = environment(&[
            ("GIT_EXEC_PATH", "/git"),
            ("GIT_INDEX_FILE", ".git/index"),
            ("GIT_SSL_CAINFO", "/ca"),
            ("PATH", "/git:/b:/a"),
        ]);
        let shell = environment(&[("GIT_SSL_CAINFO", "/ca"), ("PATH", "/b:/a")]);
        assert_eq!(without_git_hook(&hook), shell);
        let own = environment(&[("GIT_EXEC_PATH", "/git"), ("PATH", "/b:/git")]);
        assert_eq!(without_git_hook(&own), own, "set by the user");
    }
}
