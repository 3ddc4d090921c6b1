//! `doctor`: everything that can be wrong, each with its remedy.

use std::path::PathBuf;

use serde::Serialize;

use super::args::OutputFormat;
use super::cargo_runner::runner_check;
use super::context::Context;
use super::exit::{Exit, Stop};
use super::lifecycle::service;
use super::output;
use super::render::{ERROR, GOOD, HINT, WARN, label};
use super::status::ask;
use super::trust;
use crate::cache::Cache;
use crate::client::{ClientError, Connection};
use crate::daemon::{Endpoint, Surveyed, survey};
use crate::protocol::{Call, Reply, State, StatusReport};
use crate::service::{self, Check, CheckStatus, ServiceNeeds};
use crate::shared::StoreFinding;
use crate::verdict::{ProjectTree as _, Question, open_store, probe_store};

#[derive(Serialize)]
struct CheckLine<'a> {
    name: &'a str,
    status: &'static str,
    what: &'a str,
    remedy: Option<&'a str>,
}

/// Looks, says, and fails if anything is wrong.
pub(super) fn doctor(context: &Context, format: OutputFormat) -> Result<(), Stop> {
    let mut checks = vec![config(context)];
    checks.extend(service::doctor(&service(context), &needs(context)));
    let asked = ask(context);
    checks.push(daemon(&asked));
    checks.extend(background(context));
    checks.extend(runner_check(context));
    checks.extend(shared_store(context));
    checks.extend(distrusted(context));
    for project in asked.iter().flatten().flat_map(|report| &report.projects) {
        let what = format!("{}: {}", project.path.display(), project.state.as_str());
        let reason = project.reason.clone().unwrap_or_default();
        checks.push(match project.state {
            State::Missing => Check {
                name: "project",
                status: CheckStatus::Fail,
                what: format!("{what} ({reason})"),
                remedy: Some("bring the folder back, or `knhk-test-cache remove` it".into()),
            },
            State::Failed => Check {
                name: "project",
                status: CheckStatus::Warn,
                what: format!("{what} ({reason})"),
                remedy: Some("`knhk-test-cache status` shows the compiler's errors".into()),
            },
            _ if project.watch != "events" => Check {
                name: "project",
                status: CheckStatus::Warn,
                what: format!("{what}, watched by {}", project.watch),
                remedy: Some("questions read the whole tree until that is mended".into()),
            },
            _ => Check { name: "project", status: CheckStatus::Ok, what, remedy: None },
        });
    }
    let mut wrong = 0;
    for check in &checks {
        wrong += usize::from(check.status == CheckStatus::Fail);
        show(check, format)?;
    }
    if wrong > 0 { Err(Stop::silent(Exit::Unwell)) } else { Ok(()) }
}

fn show(check: &Check, format: OutputFormat) -> Result<(), Stop> {
    let (style, status) = match check.status {
        CheckStatus::Ok => (GOOD, "ok"),
        CheckStatus::Warn => (WARN, "warn"),
        CheckStatus::Fail => (ERROR, "fail"),
    };
    if format == OutputFormat::Json {
        let line = CheckLine {
            name: check.name,
            status,
            what: &check.what,
            remedy: check.remedy.as_deref(),
        };
        output::line(serde_json::to_string(&line).map_err(std::io::Error::from)?)?;
        return Ok(());
    }
    output::line(label(style, status, format!("{}: {}", check.name, check.what)))?;
    if let Some(remedy) = &check.remedy {
        output::line(label(HINT, "", format!("→ {remedy}")))?;
    }
    Ok(())
}

fn config(context: &Context) -> Check {
    let file = context.paths.config_file.display().to_string();
    match crate::config::check(&context.paths, &context.environment).first() {
        Some(error) => Check {
            name: "config",
            status: CheckStatus::Fail,
            what: error.one_line(),
            remedy: Some("`knhk-test-cache config check` shows all of it".into()),
        },
        None => Check { name: "config", status: CheckStatus::Ok, what: file, remedy: None },
    }
}

/// What came of asking the daemon; `None` if there is none.
type DaemonAnswer = Result<Option<StatusReport>, ClientError>;

fn daemon(asked: &DaemonAnswer) -> Check {
    let (status, what, remedy) = match asked {
        Ok(Some(report)) => (CheckStatus::Ok, format!("answers, version {}", report.version), None),
        Ok(None) => (
            CheckStatus::Warn,
            "none is running".to_owned(),
            Some("`knhk-test-cache start`, or `knhk-test-cache daemon` by hand"),
        ),
        // It was there before an upgrade; until it is another one, no question is answered by it.
        Err(error @ ClientError::Refused { .. }) => {
            (CheckStatus::Fail, error.to_string(), Some("`knhk-test-cache install` again"))
        }
        Err(error) => (CheckStatus::Fail, error.to_string(), Some("`knhk-test-cache restart`")),
    };
    Check { name: "daemon", status, what, remedy: remedy.map(str::to_owned) }
}

/// What the shared store is like: as the daemon sees it, or this command where there is none.
fn shared_store(context: &Context) -> Vec<Check> {
    let Ok(loaded) = context.config() else { return Vec::new() };
    let settings = loaded.config.shared;
    if settings.url.is_none() {
        return Vec::new();
    }
    let root = context.project(None).unwrap_or_else(|_| context.cwd.clone());
    let seen = || {
        let mut connection = Connection::open(&context.paths.socket()).ok()??;
        match connection.call(Call::ProbeStore { project: root.clone() }, |_| {}) {
            Ok(Reply::Store { findings }) => Some(findings),
            _ => None,
        }
    };
    let daemon = (!Endpoint::is_given_up(&context.paths)).then(seen).flatten();
    let by = if daemon.is_some() { "the daemon" } else { "this command" };
    let findings = match daemon {
        Some(findings) => findings,
        None => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return Vec::new() };
            let (dir, environment) = (&context.paths.cache_dir, &context.environment);
            runtime.block_on(probe_store(open_store(&settings, &root, dir, environment)))
        }
    };
    let check = |StoreFinding { is_good, what }| Check {
        name: "shared",
        status: if is_good { CheckStatus::Ok } else { CheckStatus::Warn },
        what: format!("{what} ({by})"),
        remedy: (!is_good).then(|| "`knhk-test-cache help sharing` says what is needed".to_owned()),
    };
    findings.into_iter().map(check).collect()
}

/// The projects of which a verified answer was wrong.
fn distrusted(context: &Context) -> Vec<Check> {
    let cache = Cache::open(&context.paths.cache_dir);
    let check = |root: PathBuf| {
        Some(Check {
            name: "records",
            status: CheckStatus::Warn,
            what: format!("{}: {}", root.display(), cache.state(&root).distrust_note()?),
            remedy: Some("report it, with the records that `status` names".to_owned()),
        })
    };
    trust::all_projects(context).into_iter().filter_map(check).collect()
}

/// Whether the machine tells what background work is to go by.
fn background(context: &Context) -> Option<Check> {
    let settings = context.config().ok()?.config.background;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    Some(judge_background(&runtime.block_on(survey(&settings, context.environment.clone()))))
}

fn judge_background(surveyed: &[Surveyed]) -> Check {
    let found: Vec<_> = surveyed.iter().filter_map(|asked| asked.found.clone()).collect();
    let unknown: Vec<_> =
        surveyed.iter().filter(|asked| asked.found.is_none()).map(|asked| asked.key).collect();
    let mut what = match found.is_empty() {
        true => "goes by nothing that this machine tells".to_owned(),
        false => found.join(", "),
    };
    if !unknown.is_empty() {
        let keys: Vec<_> = unknown.iter().map(|key| format!("`{key}`")).collect();
        what.push_str(&format!("; not told here, which counts as \"run\": {}", keys.join(", ")));
    }
    // The one that nobody gets without asking for it.
    let locked = unknown.contains(&"session_locked").then(|| {
        "`loginctl show-session` must know your session; until then take `session_locked` out of \
         `[background]`"
            .to_owned()
    });
    let status = if locked.is_some() { CheckStatus::Warn } else { CheckStatus::Ok };
    Check { name: "background", status, what, remedy: locked }
}

/// What the projects of the config need of the machine.
fn needs(context: &Context) -> ServiceNeeds {
    let exe = service::own_executable(&context.environment).unwrap_or_default();
    let mut needs = ServiceNeeds { exe, watches: None, target_dirs: Vec::new() };
    let Ok(loaded) = context.config() else { return needs };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return needs };
    let mut watches = 0;
    for project in loaded.config.projects {
        let (environment, settings) = (context.environment.clone(), project.settings);
        let question = Question::of_project(&project.path, environment, settings);
        let Ok(facts) = context.facts(&question) else { continue };
        needs.target_dirs.extend(facts.target_dirs.iter().cloned());
        let Ok(mut tree) = context.local_tree(&question, &facts) else { continue };
        if runtime.block_on(tree.look()).is_ok() {
            watches += tree.scope().directories().count() as u64;
        }
    }
    needs.watches = Some(watches);
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_does_not_tell_is_said() {
        let of = |key, found: Option<&str>| Surveyed { key, found: found.map(str::to_owned) };
        let all = [of("on_battery", Some("on the mains")), of("memory_pressure", None)];
        let check = judge_background(&all);
        assert_eq!(check.status, CheckStatus::Ok);
        let expected = "on the mains; not told here, which counts as \"run\": `memory_pressure`";
        assert_eq!(check.what, expected);
        let check = judge_background(&[of("session_locked", None)]);
        assert_eq!(check.status, CheckStatus::Warn);
        assert!(check.what.starts_with("goes by nothing that this machine tells; "));
        assert!(check.remedy.is_some());
    }
}
