//! The hook that cargo runs in the place of test binaries and rustdoc, and the calls that it records.
//!
//! Cargo gets paths of links to our own executable, in a folder made for one plan. The process
//! recognises by its name, and by the marker beside it, that it is a hook.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CompileError;
use crate::model::{OsText, os_text};
use crate::paths::replace_file;
use crate::process::{Environment, become_program};

/// The name of the link that stands for a test binary's runner.
const RUNNER: &str = "knhk-test-cache-plan";
/// The name of the link that stands for a build script. It fails, so that cargo builds no further.
const SCRIPT: &str = "knhk-test-cache-script";
/// The name of the link that stands for rustdoc.
const RUSTDOC: &str = "rustdoc";
const MARKER: &str = "marker.json";
const CALLS: &str = "calls";
const MARKER_FORMAT: &str = "knhk-test-cache plan 1";

/// The marker beside the links, with all that the hook needs.
#[derive(Serialize, Deserialize)]
struct HookMarker {
    format: String,
    /// The rustdoc to execute where no tests are requested.
    #[serde(with = "os_text")]
    rustdoc: PathBuf,
}

/// A process that cargo wanted to run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordedCall {
    /// The link's path: tells test binaries of several targets, and doctests, apart.
    #[serde(with = "os_text")]
    pub(super) called_as: PathBuf,
    args: Vec<OsText>,
    #[serde(with = "os_text")]
    pub(super) dir: PathBuf,
    environment: Vec<(OsText, OsText)>,
}

impl RecordedCall {
    pub(super) fn args(&self) -> Vec<OsString> {
        self.args.iter().map(|arg| arg.0.clone()).collect()
    }

    pub(super) fn environment(&self) -> Environment {
        let pairs = self.environment.iter();
        pairs.map(|(name, value)| (name.0.clone(), value.0.clone())).collect()
    }
}

/// The folder of one plan: links, marker, calls. Removed when dropped.
pub(super) struct HookFolder(tempfile::TempDir);

impl HookFolder {
    /// Makes the folder with one runner link for each of `runners` targets.
    pub(super) fn new(
        executable: &Path,
        rustdoc: &Path,
        runners: usize,
    ) -> Result<Self, CompileError> {
        let base = base();
        let folder = tempfile::Builder::new().prefix("knhk-test-cache-").tempdir_in(&base);
        let folder = folder.map_err(|source| hook_error("make a folder in", &base, source))?;
        let this = Self(folder);
        let fill = || -> io::Result<()> {
            let path = this.0.path();
            std::fs::create_dir(path.join(CALLS))?;
            for index in 0..runners {
                std::fs::create_dir(path.join(index.to_string()))?;
                std::os::unix::fs::symlink(executable, this.runner(index))?;
            }
            std::os::unix::fs::symlink(executable, this.rustdoc())?;
            std::os::unix::fs::symlink(executable, this.script())?;
            let marker =
                HookMarker { format: MARKER_FORMAT.to_owned(), rustdoc: rustdoc.to_owned() };
            std::fs::write(path.join(MARKER), serde_json::to_vec(&marker)?)
        };
        fill().map_err(|source| hook_error("fill", this.0.path(), source))?;
        Ok(this)
    }

    /// The path to give to cargo as the runner of the target with this index.
    pub(super) fn runner(&self, index: usize) -> PathBuf {
        self.0.path().join(index.to_string()).join(RUNNER)
    }

    /// The path to give to cargo as rustdoc.
    pub(super) fn rustdoc(&self) -> PathBuf {
        self.0.path().join(RUSTDOC)
    }

    /// The path to give to the system as the interpreter of a build script.
    pub(super) fn script(&self) -> PathBuf {
        self.0.path().join(SCRIPT)
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// All recorded calls, in order.
    pub(super) fn calls(&self) -> Result<Vec<RecordedCall>, CompileError> {
        let folder = self.0.path().join(CALLS);
        let read = || -> io::Result<Vec<RecordedCall>> {
            let mut calls = Vec::new();
            // Numbers have no gaps; one that is taken and not written is an error.
            for number in 0.. {
                if !folder.join(number.to_string()).exists() {
                    break;
                }
                let bytes = std::fs::read(folder.join(format!("{number}.json")))?;
                calls.push(serde_json::from_slice(&bytes)?);
            }
            Ok(calls)
        };
        read().map_err(|source| hook_error("read the plan in", &folder, source))
    }
}

fn hook_error(what: &'static str, path: &Path, source: io::Error) -> CompileError {
    CompileError::Hook { what, path: path.to_owned(), source }
}

/// The parent of the folder. Cargo splits a runner at white space, and settings are UTF-8: the
/// folder's name must contain neither a space nor a byte that is not text.
fn base() -> PathBuf {
    let base = std::env::temp_dir();
    let fits = base.to_str().is_some_and(|text| !text.contains(char::is_whitespace));
    if fits && base.is_absolute() { base } else { PathBuf::from("/tmp") }
}

/// Acts as the hook if this process was started as one, and returns its exit status; `None` for
/// every other process. `main` must call it first, with all its arguments.
pub fn record_invocation(args: impl IntoIterator<Item = OsString>) -> Option<i32> {
    let mut args = args.into_iter();
    let called_as = PathBuf::from(args.next()?);
    let name = called_as.file_name()?;
    let folder = if name == RUNNER {
        called_as.parent()?.parent()?
    } else if name == RUSTDOC || name == SCRIPT {
        called_as.parent()?
    } else {
        return None;
    };
    let marker = match std::fs::read(folder.join(MARKER)) {
        Ok(bytes) => serde_json::from_slice::<HookMarker>(&bytes).ok()?,
        Err(error) if name != RUSTDOC => return Some(complain(folder, &error)),
        Err(_) => return None,
    };
    if marker.format != MARKER_FORMAT {
        return None;
    }
    let args: Vec<OsString> = args.collect();
    if name == RUSTDOC && !args.iter().any(|arg| arg == "--test") && !is_from_file(&args) {
        // A question about the version, or documentation for a build script.
        let error = become_program(&marker.rustdoc, args);
        complain(folder, &error);
        return Some(127);
    }
    match record(folder, &called_as, &args) {
        Ok(()) => Some(i32::from(name == SCRIPT)),
        Err(error) => Some(complain(folder, &error)),
    }
}

/// Reports a failure; it makes cargo fail, and the plan with it.
fn complain(folder: &Path, error: &dyn std::fmt::Display) -> i32 {
    let text = format!("knhk-test-cache: cannot plan in `{}`: {error}\n", folder.display());
    // A closed standard error must not end the hook by a panic.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
    1
}

/// Whether the arguments are in a file: cargo passes a command line that is too long as `@file`.
fn is_from_file(args: &[OsString]) -> bool {
    args.iter().any(|arg| arg.as_encoded_bytes().starts_with(b"@"))
}

fn record(folder: &Path, called_as: &Path, args: &[OsString]) -> io::Result<()> {
    if called_as.file_name() == Some(OsStr::new(RUSTDOC)) && is_from_file(args) {
        // The file is gone when cargo has ended, and its content is too long for a command line.
        return Err(io::Error::other("rustdoc's command line is too long"));
    }
    let call = RecordedCall {
        called_as: called_as.to_owned(),
        args: args.iter().map(OsText::from).collect(),
        dir: std::env::current_dir()?,
        environment: std::env::vars_os()
            .map(|(name, value)| (OsText(name), OsText(value)))
            .collect(),
    };
    let calls = folder.join(CALLS);
    let mut number: u64 = 0;
    loop {
        let place = calls.join(number.to_string());
        match OpenOptions::new().write(true).create_new(true).open(&place) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
    replace_file(&calls.join(format!("{number}.json")), &serde_json::to_vec(&call)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn folder() -> HookFolder {
        HookFolder::new(Path::new("/bin/true"), Path::new("/real/rustdoc"), 2).unwrap()
    }

    fn call(program: &Path, args: &[&OsStr]) -> Option<i32> {
        let program = program.as_os_str().to_owned();
        record_invocation(std::iter::once(program).chain(args.iter().map(|&arg| arg.to_owned())))
    }

    #[test]
    fn other_processes_are_left_alone() {
        let folder = folder();
        for name in ["knhk-test-cache", "/usr/bin/rustdoc", "rustdoc", "/", ""] {
            assert_eq!(call(Path::new(name), &[OsStr::new("--test")]), None, "{name}");
        }
        assert_eq!(record_invocation([]), None);
        assert!(folder.calls().unwrap().is_empty());
        let lost = call(Path::new("/nowhere/0/knhk-test-cache-plan"), &[]);
        assert_eq!(lost, Some(1), "a runner without its folder must not pass for a test");
    }

    #[test]
    fn calls_are_kept_in_order_and_without_loss() {
        let folder = folder();
        let odd = OsString::from_vec(b"\xff 'x\n".to_vec());
        assert_eq!(call(&folder.runner(1), &[OsStr::new("/bin/a"), &odd]), Some(0));
        assert_eq!(call(&folder.rustdoc(), &[OsStr::new("--test"), OsStr::new("x.rs")]), Some(0));
        let calls = folder.calls().unwrap();
        assert_eq!(calls[0].args(), [OsString::from("/bin/a"), odd]);
        assert_eq!(calls[0].called_as, folder.runner(1));
        assert_eq!(calls[0].dir, std::env::current_dir().unwrap());
        let mine: Environment = std::env::vars_os().collect();
        assert_eq!(calls[0].environment(), mine);
        assert_eq!(calls[1].called_as, folder.rustdoc());
        assert_eq!(call(&folder.script(), &[OsStr::new("/t/build-script-build")]), Some(1));
        assert_eq!(folder.calls().unwrap()[2].called_as, folder.script());
    }

    #[test]
    fn an_incomplete_call_spoils_the_plan() {
        let folder = folder();
        call(&folder.runner(0), &[]);
        std::fs::write(folder.0.path().join(CALLS).join("1"), "").unwrap();
        assert!(matches!(folder.calls(), Err(CompileError::Hook { .. })));
    }

    #[test]
    fn a_command_line_from_a_file_is_refused() {
        let folder = folder();
        assert_eq!(call(&folder.rustdoc(), &[OsStr::new("@/tmp/args")]), Some(1));
    }

    #[test]
    fn the_folder_can_be_written_as_text() {
        let text = base().into_os_string().into_string().unwrap();
        assert!(!text.contains(char::is_whitespace));
    }
}
