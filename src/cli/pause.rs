//! `pause` and `resume`: background work by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use super::render::{GOOD, NOTE, label};
use crate::client::Connection;
use crate::config::{format_duration, parse_duration};
use crate::daemon::{Endpoint, Left, Pause, PauseError, Pauses};
use crate::model::Timestamp;
use crate::protocol::Call;

/// The longest pause that is not one until `resume`: ten years, as for all durations.
const MAX_PAUSE: Duration = Duration::from_secs(3_650 * 86_400);

/// Pauses background work of one project or of all, for a while or until `resume`.
pub(super) fn pause(
    context: &Context,
    duration: &[String],
    project: Option<&Path>,
) -> Result<(), Stop> {
    let length = length(duration).map_err(|why| Stop::new(Exit::Usage, why))?;
    let project = listed(context, project)?;
    let pause = Pause::new(Timestamp::now(), length);
    Pauses::pause(&context.paths.cache_dir, project.as_deref(), pause).map_err(failed)?;
    let told = tell_daemon(context)?;
    let how_long = match length {
        Some(length) => format!("for {}", format_duration(length)),
        None => "until `knhk-test-cache resume`".to_owned(),
    };
    let text = format!("{} {how_long}", what(project.as_deref()));
    output::note(label(GOOD, "Paused", text));
    note_no_daemon(told);
    Ok(())
}

/// Ends the pause of one project, or every pause.
pub(super) fn resume(context: &Context, project: Option<&Path>) -> Result<(), Stop> {
    let project = listed(context, project)?;
    let cache_dir = &context.paths.cache_dir;
    let (before, now) = (Pauses::load(cache_dir), Timestamp::now());
    let was_paused = match &project {
        Some(project) => before.of(project, now).is_some(),
        None => before.any(now),
    };
    Pauses::resume(cache_dir, project.as_deref()).map_err(failed)?;
    let told = tell_daemon(context)?;
    let left = project.as_ref().and_then(|_| Pauses::load(cache_dir).of_all(Timestamp::now()));
    match left {
        // The pause of all is another one.
        Some(left) => {
            let left = match left {
                Left::UntilResume => String::new(),
                Left::Time(_) => format!(" ({})", left.text()),
            };
            let text = format!("everything is paused{left}; `knhk-test-cache resume` ends that");
            output::note(label(NOTE, "Unchanged", text));
        }
        None if was_paused => output::note(label(GOOD, "Resumed", what(project.as_deref()))),
        None => {
            let text = format!("{} was not paused", what(project.as_deref()));
            output::note(label(NOTE, "Unchanged", text));
        }
    }
    note_no_daemon(told);
    Ok(())
}

/// How long a pause is to be; none without a duration.
fn length(words: &[String]) -> Result<Option<Duration>, String> {
    if words.is_empty() {
        return Ok(None);
    }
    let text = words.join(" ");
    let allowed = "write how long with the units d, h, m, s and ms, such as `30m` or `1h 30m`";
    let length = parse_duration(&text).map_err(|why| format!("{why}; {allowed}"))?;
    if length.is_zero() {
        return Err(format!("`{text}` is no time at all; {allowed}"));
    }
    if length > MAX_PAUSE {
        return Err(format!("`{text}` is too long; without a duration it lasts until `resume`"));
    }
    Ok(Some(length))
}

/// The project that is meant, which must be one of the config.
fn listed(context: &Context, project: Option<&Path>) -> Result<Option<PathBuf>, Stop> {
    let Some(project) = project else { return Ok(None) };
    let root = context.project(Some(project))?;
    if context.config()?.config.projects.iter().any(|project| project.path == root) {
        return Ok(Some(root));
    }
    let (root, config) = (root.display(), context.paths.config_file.display());
    Err(Stop::new(Exit::Config, format!("{root} is no project of {config}")))
}

fn what(project: Option<&Path>) -> String {
    project.map_or_else(|| "all background work".to_owned(), |root| root.display().to_string())
}

/// Has a running daemon take note; whether there is one. One that is stopped is not started by this.
fn tell_daemon(context: &Context) -> Result<bool, Stop> {
    if Endpoint::is_given_up(&context.paths) {
        return Ok(false);
    }
    let told = Connection::open(&context.paths.socket()).and_then(|connection| match connection {
        Some(mut connection) => connection.call(Call::Pauses, |_| {}).map(|_| true),
        None => Ok(false),
    });
    told.map_err(|error| {
        let text = format!("written, but the running daemon does not know: {error}");
        Stop::new(Exit::Failure, text)
    })
}

fn note_no_daemon(told: bool) {
    if !told {
        let text = "no daemon is running; the next one goes by this";
        output::note(label(NOTE, "Note", text));
    }
}

fn failed(error: PauseError) -> Stop {
    Stop::new(Exit::Failure, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Result<Option<Duration>, String> {
        length(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn durations_may_be_one_word_or_several() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["1h", "30m"]), Ok(Some(Duration::from_secs(5_400))));
        assert_eq!(of(&["90s"]), of(&["1m 30s"]));
    }

    #[test]
    fn a_bad_duration_says_what_is_allowed() {
        for (bad, says) in [
            (&["30"][..], "`30` has no unit; write how long"),
            (&["soon"], "`soon` is not a whole number with a unit"),
            (&["1", "hour"], "`1 hour` has no known unit (`hour`)"),
            (&["0s"], "`0s` is no time at all"),
            (&["4000d"], "`4000d` is too long; without a duration"),
            (&["-5m"], "`-5m` is not a whole number"),
        ] {
            let error = of(bad).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
