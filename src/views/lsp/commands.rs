//! The commands that an editor can have carried out. Each is a call of this very program, so that
//! it does what the user would have done in a terminal.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::thread;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::own_program::{self, CallResult};
use super::input::{CommandResult, ServerInput};
use super::marks::PlacedTest;
use crate::model::{OsText, TargetId, os_text};
use crate::process::Environment;

/// Runs one test.
pub(super) const RUN_TEST: &str = "knhk-test-cache.runTest";
/// Runs what failed or is not known, of the whole project.
pub(super) const RUN_STALE: &str = "knhk-test-cache.runStale";
/// Says why a target is cached or not.
pub(super) const EXPLAIN: &str = "knhk-test-cache.explain";
/// Opens the output of the last command.
pub(super) const OPEN_LOG: &str = "knhk-test-cache.openLog";

/// All commands.
pub(super) const ALL: [&str; 4] = [RUN_TEST, RUN_STALE, EXPLAIN, OPEN_LOG];

/// The argument of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CommandTarget {
    /// The workspace's root.
    #[serde(with = "os_text")]
    pub(super) project: PathBuf,
    /// The test; none for the whole project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) test: Option<CommandTest>,
}

/// A test in the argument of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct CommandTest {
    /// Its target.
    #[serde(flatten)]
    target: TargetId,
    /// Its path inside the target.
    name: String,
    /// The name stands for all tests below it too.
    has_cases: bool,
}

impl CommandTarget {
    /// The whole project.
    pub(super) fn project(root: &Path) -> Self {
        Self { project: root.to_owned(), test: None }
    }

    /// One test.
    pub(super) fn test(root: &Path, test: &PlacedTest) -> Self {
        let PlacedTest { name, has_cases, target, .. } = test.clone();
        Self { project: root.to_owned(), test: Some(CommandTest { target, name, has_cases }) }
    }

    /// The argument as the protocol carries it.
    pub(super) fn arguments(&self) -> Option<Vec<Value>> {
        serde_json::to_value(self).ok().map(|value| vec![value])
    }

    /// The arguments of this program for a command, and what that does in words.
    fn command_line(&self, command: &str) -> (Vec<OsText>, String) {
        let text = |words: &[&str]| words.iter().map(|word| OsText::from(*word)).collect();
        let project = OsText::from(self.project.as_path());
        let with_project = |words: &[&str]| -> Vec<OsText> {
            let words: Vec<OsText> = text(words);
            words.into_iter().chain([OsText::from("--project"), project]).collect()
        };
        match (command, &self.test) {
            (EXPLAIN, test) => {
                let mut line = with_project(&["--color", "never", "explain"]);
                line.extend(test.iter().map(|test| OsText::from(test.target.target.as_str())));
                (line, "explain".to_owned())
            }
            (RUN_TEST, Some(test)) => {
                let mut line = with_project(&["--color", "never", "test", "--format", "text"]);
                line.extend(test.selection());
                (line, format!("test {}", test.name))
            }
            _ => {
                (with_project(&["--color", "never", "test", "--format", "text"]), "test".to_owned())
            }
        }
    }
}

impl CommandTest {
    /// The words of `cargo test` that select it.
    fn selection(&self) -> Vec<OsText> {
        let mut words = own_program::selection(&self.target);
        words.push("--".to_owned());
        let prefix = format!("{}::", self.name);
        match self.has_cases {
            true => words.push(prefix),
            false => words.extend(["--exact".to_owned(), self.name.clone()]),
        }
        words.iter().map(|word| OsText::from(word.as_str())).collect()
    }
}

/// Carries out a command on a thread of its own.
///
/// # Errors
/// If the system gives no thread.
pub(super) fn start(
    command: &str,
    target: &CommandTarget,
    environment: &Environment,
    inputs: &Sender<ServerInput>,
) -> std::io::Result<()> {
    let (line, what) = target.command_line(command);
    let is_shown = command == EXPLAIN;
    let (project, environment) = (target.project.clone(), environment.clone());
    let inputs = inputs.clone();
    thread::Builder::new().name("command".to_owned()).spawn(move || {
        let CallResult { status, output } = own_program::call(line, project, &environment);
        let result = CommandResult { what, status, output, is_shown };
        // The server may have ended.
        let _ = inputs.send(ServerInput::CommandEnded(result));
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TargetKind;

    fn line(command: &str, kind: TargetKind, has_cases: bool) -> String {
        let target = TargetId { package: "p".into(), target: "it".into(), kind };
        let test = PlacedTest { line: 1, name: "a::b".into(), has_cases, target };
        let target = CommandTarget::test(Path::new("/w"), &test);
        let words = target.command_line(command).0;
        words.iter().map(|word| word.0.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_command_is_what_one_would_type() {
        let prefix = "--color never test --format text --project /w";
        assert_eq!(
            line(RUN_TEST, TargetKind::Test, false),
            format!("{prefix} -p p --test it -- --exact a::b")
        );
        assert_eq!(line(RUN_TEST, TargetKind::Lib, true), format!("{prefix} -p p --lib -- a::b::"));
        assert_eq!(line(RUN_STALE, TargetKind::Lib, false), prefix);
        assert_eq!(line(EXPLAIN, TargetKind::Test, false), "--color never explain --project /w it");
    }

    #[test]
    fn an_argument_comes_back_from_the_editor() {
        let target = CommandTarget::project(Path::new("/w"));
        let value = target.arguments().unwrap().remove(0);
        assert_eq!(value, serde_json::json!({"project": "/w"}));
        assert_eq!(serde_json::from_value::<CommandTarget>(value).unwrap(), target);
    }
}
