//! One call of `cargo test`, and everything that it printed.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::message::{ArtifactMessage, CargoMessage, ScriptMessage};
use super::progress::{BuildProgress, ErrorStream};
use super::{BuildSpec, CompileError, Product, error, jobs};
use crate::model::{Digest, End};
use crate::process::{Environment, Priority, Spec, Stream, WritableFolders, run};
use crate::workspace::{CargoConfig, Selection};

/// Arguments of a call besides the developer's selection.
#[derive(Default)]
pub(super) struct CargoArguments {
    /// Build only.
    pub(super) no_run: bool,
    /// Fail rather than use the network or change the lock file.
    pub(super) frozen: bool,
    /// More settings, as `KEY=VALUE`.
    pub(super) config: Vec<String>,
    /// Another environment than the developer's.
    pub(super) environment: Option<Environment>,
    /// Where cargo and its children can write; everywhere, unless it says so.
    pub(super) writable: Option<WritableFolders>,
}

/// The output of a call that succeeded.
pub(super) struct CargoOutput {
    pub(super) artifacts: Vec<ArtifactMessage>,
    pub(super) scripts: Vec<ScriptMessage>,
    /// Digests of the messages about units and build scripts, whether a unit was fresh or not.
    pub(super) messages: BTreeSet<Digest>,
    pub(super) warnings: Vec<String>,
    /// Why units were rebuilt, if cargo was asked to say so.
    pub(super) dirty: Vec<String>,
    pub(super) elapsed: Duration,
    /// Since when nobody else can have built in the same folder.
    pub(super) alone_since: SystemTime,
}

impl CargoOutput {
    pub(super) fn is_fresh(&self) -> bool {
        self.rebuilt() == 0
    }

    /// How many artifacts were not up to date.
    pub(super) fn rebuilt(&self) -> usize {
        self.artifacts.iter().filter(|artifact| !artifact.fresh).count()
    }
}

/// Settings of the progress bar and of the messages. They go into no fingerprint, unlike the
/// environment, which a build script can watch.
const DISPLAY: &[&str] =
    &["term.progress.when=\"always\"", "term.progress.width=200", "term.quiet=false"];
/// How many reasons for rebuilding are collected.
const MOST_DIRTY: usize = 100;

/// A word of cargo reaches us within this time. If not, some of what it has built counts as another one's.
const WORD_DELAY: Duration = Duration::from_secs(1);

/// Whether cargo is asked to say why it rebuilds a unit, as it is in the background.
fn explains(spec: &BuildSpec, arguments: &CargoArguments) -> bool {
    arguments.no_run && spec.priority == Priority::Background
}

/// The call of cargo.
pub(super) fn command(spec: &BuildSpec, arguments: &CargoArguments) -> Spec {
    let environment = arguments.environment.as_ref().unwrap_or(&spec.environment).clone();
    let mut words: Vec<OsString> = vec!["test".into()];
    match spec.jobs {
        None => words.extend(spec.selection.build_args()),
        Some(limit) => {
            words.extend(spec.selection.build_args_but_jobs());
            let own = spec.selection.jobs().or_else(|| spec.config.jobs());
            words
                .extend(["--jobs".into(), jobs::at_most(limit, own.as_deref()).to_string().into()]);
        }
    }
    words.extend(target_dir_args(spec.target_dir.as_deref(), &spec.selection, &spec.config));
    words.push(if arguments.no_run { "--no-run" } else { "--no-fail-fast" }.into());
    // Rustdoc inherits this choice, and its output is read by a machine.
    let colour = spec.colour && arguments.no_run;
    words.extend(["--color", if colour { "always" } else { "never" }].map(OsString::from));
    let ansi = if spec.colour { "json-diagnostic-rendered-ansi" } else { "json" };
    words.push(format!("--message-format={ansi}").into());
    let own = arguments.config.iter().map(String::as_str);
    let verbose =
        if explains(spec, arguments) { "term.verbose=true" } else { "term.verbose=false" };
    if arguments.frozen {
        words.push("--frozen".into());
    }
    for setting in DISPLAY.iter().copied().chain([verbose]).chain(own) {
        words.extend(["--config".into(), setting.into()]);
    }
    if !spec.selection.harness.is_empty() && !arguments.no_run {
        words.push("--".into());
        words.extend(spec.selection.harness.iter().cloned());
    }
    let child = Spec::new(&spec.toolchain.cargo, &spec.selection.dir, environment)
        .args(words)
        .priority(spec.priority)
        .suspender(&spec.brake);
    match &arguments.writable {
        Some(folders) => child.writes_only_in(folders),
        None => child,
    }
}

/// Calls cargo and reads both of its streams to the end.
pub(super) async fn call(
    spec: &BuildSpec,
    arguments: CargoArguments,
    cancel: &CancellationToken,
    mut progress: impl FnMut(BuildProgress),
) -> Result<CargoOutput, CompileError> {
    let (child, explains) = (command(spec, &arguments), explains(spec, &arguments));
    let mut output = OutputStream::default();
    let mut errors = ErrorStream::default();
    let mut dirty = Vec::new();
    let (began, mut first_word) = (SystemTime::now(), None);
    let mut progress = |said: BuildProgress| {
        let is_before_lock = match &said {
            BuildProgress::Blocked(_) => true,
            BuildProgress::Status(text) => !is_under_lock(text),
            _ => false,
        };
        if !is_before_lock {
            first_word.get_or_insert_with(SystemTime::now);
        }
        if let BuildProgress::Status(text) = &said
            && let Some(line) = text.strip_prefix("Dirty ")
            && dirty.len() < MOST_DIRTY
        {
            dirty.push(line.to_owned());
        }
        progress(said);
    };
    let finished = run(&child, cancel, None, |stream, bytes| match stream {
        Stream::Out => output.push(bytes, &mut progress),
        Stream::Err => errors.push(bytes, &mut progress),
    })
    .await?;
    let text = errors.finish(&mut progress);
    if finished.end != End::Exit(0) {
        let text = if explains { error::without_command_lines(&text) } else { text };
        return Err(error::classify(finished.end, output.errors, text));
    }
    if output.success != Some(true) {
        let what = "it succeeded without saying that the build is finished".to_owned();
        return Err(CompileError::BadOutput(what));
    }
    Ok(CargoOutput {
        artifacts: output.artifacts,
        scripts: output.scripts,
        messages: output.messages,
        warnings: output.warnings,
        dirty,
        elapsed: finished.elapsed,
        alone_since: alone_since(began, first_word),
    })
}

/// Since when nobody but a cargo that began then can have built. Another one may build until this one has the
/// lock of the folder, for which it waits, or before which it downloads something or is suspended.
fn alone_since(began: SystemTime, first_word: Option<SystemTime>) -> SystemTime {
    let said = first_word.and_then(|at| at.checked_sub(WORD_DELAY));
    said.map_or(began, |said| said.max(began))
}

/// Whether cargo says this of a unit, for which it has the lock of the build directory.
fn is_under_lock(status: &str) -> bool {
    let verb = status.split(' ').next().unwrap_or_default();
    ["Compiling", "Checking", "Dirty", "Fresh", "Running"].contains(&verb)
}

/// The arguments by which cargo builds a selection into this folder, unless the developer typed one.
#[must_use]
pub(crate) fn target_dir_args(
    dir: Option<&Path>,
    selection: &Selection,
    config: &CargoConfig,
) -> Vec<OsString> {
    let typed = selection.target_dir().is_some();
    let Some(dir) = dir.filter(|_| !typed) else { return Vec::new() };
    let mut words = vec!["--target-dir".into(), dir.into()];
    // A configured build directory for intermediate artifacts would be the developer's. Cargo
    // before 1.91 does not know the key.
    if let (true, Some(text)) = (config.has_build_dir(), dir.to_str()) {
        let value = toml::Value::from(text);
        words.extend(["--config".into(), format!("build.build-dir={value}").into()]);
    }
    words
}

/// Standard output, parsed line by line.
#[derive(Default)]
pub(super) struct OutputStream {
    pending: Vec<u8>,
    artifacts: Vec<ArtifactMessage>,
    scripts: Vec<ScriptMessage>,
    messages: BTreeSet<Digest>,
    errors: Vec<String>,
    warnings: Vec<String>,
    /// A source that is compiled twice (as library and as test) has every diagnostic twice.
    seen: HashSet<String>,
    success: Option<bool>,
}

impl OutputStream {
    pub(super) fn push(&mut self, bytes: &[u8], progress: &mut impl FnMut(BuildProgress)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(&rest[..end]);
            let line = std::mem::take(&mut self.pending);
            self.line(&line, progress);
            rest = &rest[end + 1..];
        }
        self.pending.extend_from_slice(rest);
    }

    fn line(&mut self, line: &[u8], progress: &mut impl FnMut(BuildProgress)) {
        // Procedural macros can print here as well: other lines are ignored.
        let Ok(message) = serde_json::from_slice::<CargoMessage>(line) else { return };
        match message {
            CargoMessage::CompilerArtifact(artifact) => {
                progress(BuildProgress::Made(Box::new(Product::of(&artifact, &self.scripts))));
                self.messages.insert(digest_but_freshness(line));
                self.artifacts.push(artifact);
            }
            CargoMessage::BuildScriptExecuted(script) => {
                self.messages.insert(Digest::of(line));
                self.scripts.push(script);
            }
            CargoMessage::BuildFinished { success } => self.success = Some(success),
            CargoMessage::Diagnostic { message } => {
                let Some(rendered) = message.rendered else { return };
                if message.message.starts_with("aborting due to")
                    || !self.seen.insert(rendered.clone())
                {
                    return;
                }
                progress(BuildProgress::Diagnostic(rendered.clone()));
                match (message.level.as_str(), self.errors.last_mut()) {
                    ("warning", _) => self.warnings.push(rendered),
                    // `For more information about this error, …` belongs to the one before.
                    ("failure-note", Some(error)) => error.push_str(&rendered),
                    ("note" | "help" | "failure-note", _) => {}
                    _ => self.errors.push(rendered),
                }
            }
            CargoMessage::Other => {}
        }
    }
}

/// Digest of a message about a unit, which says no more whether the unit was fresh.
fn digest_but_freshness(line: &[u8]) -> Digest {
    let word = &b"\"fresh\":true"[..];
    match line.windows(word.len()).rposition(|part| part == word) {
        Some(at) => {
            Digest::of(&[&line[..at], b"\"fresh\":false", &line[at + word.len()..]].concat())
        }
        None => Digest::of(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_before_cargo_has_the_lock_is_another_one_s() {
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let since = |word: Option<u64>| {
            let word = word.map(|after| began + Duration::from_millis(after));
            alone_since(began, word).duration_since(began).unwrap().as_millis()
        };
        assert_eq!((since(None), since(Some(300)), since(Some(10_000))), (0, 0, 9_000));
        assert!(is_under_lock("Compiling x v0.1.0") && is_under_lock("Fresh x v0.1.0"));
        assert!(!is_under_lock("Updating the index") && !is_under_lock("Downloaded x"));
    }

    fn read(pieces: &[&str]) -> OutputStream {
        let mut stream = OutputStream::default();
        pieces.iter().for_each(|piece| stream.push(piece.as_bytes(), &mut |_| {}));
        stream
    }

    fn diagnostic(level: &str, rendered: &str) -> String {
        let message = serde_json::json!({
            "reason": "compiler-message",
            "message": {"level": level, "message": rendered, "rendered": rendered},
        });
        format!("{message}\n")
    }

    #[test]
    fn diagnostics_are_sorted_and_said_once() {
        let all = [
            diagnostic("warning", "w"),
            diagnostic("error", "e1"),
            diagnostic("error", "e1"),
            diagnostic("error: internal compiler error", "ice"),
            diagnostic("error", "aborting due to 2 previous errors"),
            diagnostic("failure-note", "more"),
            "a line of a macro {\n".to_owned(),
        ]
        .concat();
        let (one, two) = all.split_at(77);
        let stream = read(&[one, two]);
        assert_eq!(stream.errors, ["e1", "icemore"]);
        assert_eq!(stream.warnings, ["w"]);
    }
}
