//! What the keys start. Each is a call of this very program on a thread of its own, but for the
//! user's editor, which gets the terminal.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::mpsc::Sender;

use super::super::feed::FeedHandle;
use super::super::own_program::{self, CallResult};
use super::super::places::PlaceFinder;
use super::board::{FailedTests, source_file};
use super::input::{CommandEnd, ScreenInput};
use super::rows::{RowSubject, name};
use crate::client::Connection;
use crate::daemon::{Pause, Pauses};
use crate::model::{OsText, TargetId, Timestamp};
use crate::paths::Paths;
use crate::process::{Environment, Spec, run_at_terminal};
use crate::protocol::Call;

/// What commands work with.
#[derive(Clone)]
pub(super) struct Commands {
    pub(super) paths: Paths,
    pub(super) environment: Environment,
    pub(super) feed: FeedHandle,
    pub(super) inputs: Sender<ScreenInput>,
}

impl Commands {
    /// Runs what is not known to be green.
    pub(super) fn run(&self, project: PathBuf) -> std::io::Result<()> {
        self.start(move |this| {
            let result = this.call(&project, &["test", "--format", "terse"], &[]);
            // The watch of this process does not hear of the runs of others.
            this.feed.restart_own();
            let name = name(&project);
            match result.status {
                Some(0) => CommandEnd::note(format!("{name} is green")),
                Some(101) => CommandEnd::note(format!("{name} is red")),
                _ => CommandEnd::panel("the tests did not run".to_owned(), result.output),
            }
        })
    }

    /// Runs tests by their names, one target after the other.
    pub(super) fn run_failed(&self, project: PathBuf, tests: FailedTests) -> std::io::Result<()> {
        self.start(move |this| {
            let (mut red, mut output) = (0, String::new());
            for (target, names) in &tests {
                let mut words = own_program::selection(target);
                words.extend(["--".to_owned(), "--exact".to_owned()]);
                words.extend(names.iter().cloned());
                let result = this.call(&project, &["test", "--format", "terse"], &words);
                if result.status != Some(0) {
                    red += 1;
                    output += &result.output;
                }
            }
            match red {
                0 => CommandEnd::note("the tests that failed last pass now".to_owned()),
                _ => CommandEnd::panel("these tests fail again".to_owned(), output),
            }
        })
    }

    /// Says why a target, or each, is cached or not.
    pub(super) fn explain(
        &self,
        project: PathBuf,
        target: Option<TargetId>,
    ) -> std::io::Result<()> {
        self.start(move |this| {
            let words: Vec<_> = target.iter().map(ToString::to_string).collect();
            let CallResult { output, .. } = this.call(&project, &["explain"], &words);
            let title = words.first().map_or_else(|| name(&project), String::clone);
            CommandEnd::panel(format!("{title}: why"), output)
        })
    }

    /// Pauses background work of a project, or ends its pause.
    pub(super) fn pause(&self, project: PathBuf) -> std::io::Result<()> {
        self.start(move |this| {
            CommandEnd::note(this.toggle_pause(&project).unwrap_or_else(|error| error))
        })
    }

    fn toggle_pause(&self, project: &Path) -> Result<String, String> {
        let (cache_dir, now) = (&self.paths.cache_dir, Timestamp::now());
        let is_paused = Pauses::load(cache_dir).of(project, now).is_some();
        let toggled = match is_paused {
            true => Pauses::resume(cache_dir, Some(project)),
            false => Pauses::pause(cache_dir, Some(project), Pause::new(now, None)),
        };
        toggled.map_err(|error| error.to_string())?;
        let connection = Connection::open(&self.feed.socket(&self.paths));
        let told = connection.and_then(|connection| match connection {
            Some(mut connection) => connection.call(Call::Pauses, |_| {}).map(drop),
            None => Ok(()),
        });
        told.map_err(|error| error.to_string())?;
        let name = name(project);
        Ok(match is_paused {
            false => format!("{name} is paused: p goes on"),
            true if Pauses::load(cache_dir).of_all(Timestamp::now()).is_some() => {
                "everything is paused: `knhk-test-cache resume` goes on".to_owned()
            }
            true => format!("{name} goes on"),
        })
    }

    /// Opens the place of a row in the user's editor, which has the terminal until it ends.
    pub(super) fn edit(&self, subject: RowSubject) -> std::io::Result<()> {
        let this = self.clone();
        thread::Builder::new().name("editor".to_owned()).spawn(move || {
            // The view waits for its terminal.
            let opened = catch_unwind(AssertUnwindSafe(|| this.open_editor(&subject)));
            let note = opened.unwrap_or_else(|_| Err("the editor was not opened".into())).err();
            // The view may have ended.
            let _ = this.inputs.blocking_send(ScreenInput::EditorEnded { note });
        })?;
        Ok(())
    }

    fn open_editor(&self, subject: &RowSubject) -> Result<(), String> {
        let place = subject.place.clone().or_else(|| {
            let (target, test) = (subject.target.as_ref()?, subject.test.as_deref()?);
            PlaceFinder::default().find(&subject.project, target, test)
        });
        let place = place.ok_or("the source does not say where that is")?;
        let file = source_file(subject, &place.file);
        if !file.is_file() {
            return Err(format!("{} is not there", file.display()));
        }
        let wanted = ["VISUAL", "EDITOR"].into_iter();
        let mut wanted = wanted.filter_map(|name| self.environment.get(name));
        let editor = wanted.find(|editor| !editor.is_empty());
        let editor = editor.map_or_else(|| "vi".into(), |editor| editor.to_string_lossy());
        let mut words = editor.split_whitespace();
        let program = words.next().unwrap_or("vi");
        let spec = Spec::new(program, subject.project.clone(), self.environment.clone())
            .args(words)
            .args(place_arguments(program, &file, place.line));
        run_at_terminal(&spec).map(drop).map_err(|error| error.to_string())
    }

    fn start(
        &self,
        command: impl FnOnce(&Self) -> CommandEnd + Send + 'static,
    ) -> std::io::Result<()> {
        let this = self.clone();
        thread::Builder::new().name("command".to_owned()).spawn(move || {
            let end = command(&this);
            // The view may have ended.
            let _ = this.inputs.blocking_send(ScreenInput::CommandEnded(end));
        })?;
        Ok(())
    }

    fn call(&self, project: &Path, command: &[&str], more: &[String]) -> CallResult {
        let words = ["--color", "never"].iter().chain(command).map(|word| OsText::from(*word));
        let mut line: Vec<_> = words.collect();
        line.extend([OsText::from("--project"), OsText::from(project)]);
        line.extend(more.iter().map(|word| OsText::from(word.as_str())));
        own_program::call(line, project.to_owned(), &self.environment)
    }
}

/// How an editor is told to open a file at a line.
fn place_arguments(program: &str, file: &Path, line: u32) -> Vec<OsString> {
    let with_line = || {
        let mut text = file.as_os_str().to_owned();
        text.push(format!(":{line}"));
        text
    };
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    match &*name {
        "code" | "codium" | "code-insiders" | "cursor" => vec!["--goto".into(), with_line()],
        "hx" | "helix" | "zed" | "subl" => vec![with_line()],
        _ => vec![format!("+{line}").into(), file.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_editor_is_told_the_line_in_its_own_way() {
        let of = |program: &str| {
            let words = place_arguments(program, Path::new("/w/a.rs"), 3).into_iter();
            words.map(|word| word.into_string().unwrap()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("/usr/bin/nvim"), "+3 /w/a.rs");
        assert_eq!(of("code"), "--goto /w/a.rs:3");
        assert_eq!(of("hx"), "/w/a.rs:3");
    }
}
