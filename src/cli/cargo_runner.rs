//! `config cargo`: this program as the `runner` of cargo, and `doctor`'s check that it is in force.

use std::path::{Path, PathBuf};

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, NOTE, WARN, label};
use crate::config::cargo_runner::{self, ConfiguredRunner, RunnerError};
use crate::config::edit::{self, EditError};
use crate::service::{Check, CheckStatus};
use crate::workspace::{CargoConfig, Toolchain};

/// The condition that holds for every target.
const EVERY_TARGET: &str = "cfg(all())";

/// What `config cargo` is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunnerRequest {
    /// Edit the file instead of printing lines.
    pub(super) write: bool,
    /// Take the edit back.
    pub(super) undo: bool,
    /// The file of all workspaces of this user.
    pub(super) global: bool,
}

/// Prints the lines for cargo's configuration, or edits it.
pub(super) fn config_cargo(context: &Context, request: RunnerRequest) -> Result<(), Stop> {
    if request.undo {
        return undo(context, &config_file(context, request.global)?);
    }
    if request.write {
        return write(context, &config_file(context, request.global)?);
    }
    let program = program()?;
    let target = triples(context).into_iter().next();
    let target = target.unwrap_or_else(|| format!("'{EVERY_TARGET}'"));
    for file in [config_file(context, false), config_file(context, true)].into_iter().flatten() {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.parse::<toml::Table>().is_ok_and(|file| file.contains_key("target")) {
            let text = format!(
                "{} has a table `target` already, and cargo refuses a file that has a table twice: \
                 use `knhk-test-cache config cargo --write`",
                file.display()
            );
            output::note(label(WARN, "Warning", text));
        }
    }
    output::text(format_args!(
        "# For the `.cargo/config.toml` of a workspace, or `$CARGO_HOME/config.toml` for all.\n\
         [target.{target}]\nrunner = [{}, \"exec\"]\n",
        toml::Value::from(program)
    ))
}

fn program() -> Result<String, Stop> {
    let program = std::env::current_exe()?;
    program.into_os_string().into_string().map_err(|program| {
        let text = format!("{} is not UTF-8, as cargo's config is", program.display());
        Stop::error(Exit::Failure, text)
    })
}

/// The workspace's file of cargo's configuration, or the user's.
fn config_file(context: &Context, global: bool) -> Result<PathBuf, Stop> {
    let folder = if global {
        let home = context.environment.get("CARGO_HOME").filter(|home| !home.is_empty());
        home.map_or_else(|| context.paths.home.join(".cargo"), |home| context.cwd.join(home))
    } else {
        context.workspace(None)?.join(".cargo")
    };
    // Cargo prefers the old name where both exist.
    let old = folder.join("config");
    Ok(if old.is_file() { old } else { folder.join("config.toml") })
}

/// The targets that tests are built for here: those of `build.target`, else the compiler's own.
fn triples(context: &Context) -> Vec<String> {
    let Context { cwd, environment, paths, .. } = context;
    let Ok(config) = CargoConfig::read(cwd, environment, &[]) else { return Vec::new() };
    let mut triples = config.build_targets();
    // A target of one's own is known by its file's name.
    for triple in &mut triples {
        if let Some(name) = triple.strip_suffix(".json") {
            *triple = name.rsplit('/').next().unwrap_or(name).to_owned();
        }
    }
    let memo = paths.cache_dir.join("toolchain");
    if let Ok(toolchain) = Toolchain::find(cwd, environment, &config, &memo)
        && !triples.contains(&toolchain.host)
    {
        triples.push(toolchain.host);
    }
    triples
}

fn write(context: &Context, file: &Path) -> Result<(), Stop> {
    let program = program()?;
    let mut triples = triples(context);
    if triples.is_empty() {
        triples.push(EVERY_TARGET.to_owned());
    }
    // Read first: an error of any file is an error of cargo's as well.
    let config = CargoConfig::read(&context.cwd, &context.environment, &[]);
    let config = config.map_err(|error| refused(&format!("{error}")))?;
    for other in config.files().iter().filter(|other| !is_same(&other.path, file)) {
        check_other(&other.path, file, &triples)?;
    }
    let base = file.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let change = |old: Option<&str>| {
        let old = old.unwrap_or_default();
        let new = cargo_runner::with_runner(old, &triples, &program, base)?;
        Ok((new != old).then_some(new))
    };
    if rewrite(file, change)? {
        output::note(label(GOOD, "Written", file.display()));
        let text = std::fs::read_to_string(file)?;
        let runners = cargo_runner::configured_runners(&text).unwrap_or_default();
        let what = in_words(runners.iter().find_map(|runner| other_runner(&runner.words)));
        let text = format!("{what}; `config cargo --undo` takes the edit back");
        output::note(label(NOTE, "Note", text));
    } else {
        let text = format!("{} has the runner already", file.display());
        output::note(label(NOTE, "Unchanged", text));
    }
    Ok(())
}

/// Refuses if another file sets a runner of the same target: cargo would join both.
fn check_other(other: &Path, file: &Path, triples: &[String]) -> Result<(), Stop> {
    let text = std::fs::read_to_string(other)?;
    let runners = cargo_runner::configured_runners(&text)
        .map_err(|error| refused(&format!("{}: {error}", other.display())))?;
    for runner in runners {
        let concerns = triples.contains(&runner.table) || runner.table.starts_with("cfg(");
        if concerns && runner.is_ours() {
            return Err(refused(&format!(
                "{} sets this runner already, for every workspace below it",
                other.display()
            )));
        }
        if concerns {
            return Err(refused(&format!(
                "{} sets a runner for `{}` too, and cargo would join or replace it: edit that file \
                 (`--global` edits the one of all workspaces), or move its runner to {}",
                other.display(),
                runner.table,
                file.display()
            )));
        }
    }
    Ok(())
}

fn undo(context: &Context, file: &Path) -> Result<(), Stop> {
    let _ = context;
    let change = |old: Option<&str>| {
        let Some(old) = old else { return Ok(None) };
        let new = cargo_runner::without_runner(old)?;
        Ok((new != old).then_some(new))
    };
    if !rewrite(file, change)? {
        let text = format!("{} does not have the runner", file.display());
        output::note(label(NOTE, "Unchanged", text));
        return Ok(());
    }
    // A file that holds nothing any more was made by the edit.
    if std::fs::metadata(file).is_ok_and(|file| file.len() == 0) {
        std::fs::remove_file(file)?;
        let _ = file.parent().map(std::fs::remove_dir);
    }
    output::note(label(GOOD, "Undone", file.display()));
    Ok(())
}

/// Edits a file of cargo's configuration as a whole or not at all; whether it changed.
fn rewrite(
    file: &Path,
    change: impl Fn(Option<&str>) -> Result<Option<String>, RunnerError>,
) -> Result<bool, Stop> {
    edit::rewrite(file, |old| change(old).map_err(EditFailed::Runner)).map_err(
        |error| match error {
            EditFailed::Edit(error) => Stop::new(Exit::Failure, error),
            EditFailed::Runner(error) => refused(&format!("{}: {error}", file.display())),
        },
    )
}

/// Why cargo's configuration was not edited.
enum EditFailed {
    Edit(EditError),
    Runner(RunnerError),
}

impl From<EditError> for EditFailed {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}

fn refused(why: &str) -> Stop {
    Stop::new(Exit::Failure, format!("{why}; nothing was changed"))
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// The runner that ours starts in place of the test programs.
fn other_runner(words: &[String]) -> Option<&[String]> {
    let ours = words.windows(2).position(|pair| cargo_runner::is_exec(&pair[0], &pair[1]))?;
    Some(&words[ours + 2..]).filter(|rest| !rest.is_empty())
}

/// What our runner does for plain `cargo test`, for a person.
fn in_words(other: Option<&[String]>) -> String {
    match other {
        None => "plain `cargo test` is cached here".to_owned(),
        Some(words) => format!(
            "plain `cargo test` is not cached here: `exec` starts the runner `{}`, and keeps nothing \
             of it",
            words.join(" ")
        ),
    }
}

/// Whether plain `cargo test` is cached in the workspace around the current folder.
pub(super) fn runner_check(context: &Context) -> Option<Check> {
    let Context { cwd, environment, paths, .. } = context;
    context.workspace(None).ok()?;
    let check = |status, what: String, remedy: Option<&str>| {
        Some(Check { name: "runner", status, what, remedy: remedy.map(str::to_owned) })
    };
    let write_again = "`knhk-test-cache config cargo --write`";
    let config = match CargoConfig::read(cwd, environment, &[]) {
        Ok(config) => config,
        Err(error) => {
            return check(CheckStatus::Fail, error.to_string(), Some("mend that file first"));
        }
    };
    let toolchain =
        Toolchain::find(cwd, environment, &config, &paths.cache_dir.join("toolchain")).ok()?;
    let triple = config.build_targets().into_iter().next().unwrap_or(toolchain.host.clone());
    let cfgs = if config.has_cfg_runner() {
        toolchain.cfgs(&triple, cwd, environment).unwrap_or_default()
    } else {
        Vec::new()
    };
    let in_force = match config.runner(&triple, &cfgs) {
        Ok(words) => words.unwrap_or_default(),
        Err(error) => {
            return check(CheckStatus::Fail, error.to_string(), Some("remove one of the two"));
        }
    };
    let in_force: Vec<_> =
        in_force.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let ours = in_force.windows(2).find(|words| cargo_runner::is_exec(&words[0], &words[1]));
    if let Some([program, _]) = ours {
        if Path::new(program).is_absolute() && !Path::new(program).exists() {
            let what = format!("cargo's runner `{program}` does not exist: no test can run");
            return check(CheckStatus::Fail, what, Some(write_again));
        }
        return check(CheckStatus::Ok, in_words(other_runner(&in_force)), None);
    }
    let has_ours = |file: &Path| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let runners = cargo_runner::configured_runners(&text).unwrap_or_default();
        runners.iter().any(ConfiguredRunner::is_ours)
    };
    let Some(file) = config.files().iter().find(|file| has_ours(&file.path)) else {
        let what = format!("plain `cargo test` is not cached here; {write_again} changes that");
        return check(CheckStatus::Ok, what, None);
    };
    let variable =
        format!("CARGO_TARGET_{}_RUNNER", triple.to_uppercase().replace(['-', '.'], "_"));
    let (by, remedy) = match environment.get(&variable) {
        Some(_) => (format!("the variable {variable}"), format!("unset {variable}")),
        None if in_force.is_empty() => {
            (format!("the target `{triple}`, which it does not name"), write_again.to_owned())
        }
        None => (
            format!("another file or table, with `{}`", in_force.join(" ")),
            "`knhk-test-cache config cargo --write` in the file that wins".to_owned(),
        ),
    };
    let what = format!("the runner in {} is overridden by {by}", file.path.display());
    check(CheckStatus::Warn, what, Some(&remedy))
}
