//! `test`: answers whether the tests are green. The daemon is asked first; if it has no answer, this
//! process builds and runs the tests itself.
//!
//! The forms of the answer are in [`answer_format`].
//!
//! Tests run here have neither a terminal nor standard input, as under cargo-nextest.

mod answer_format;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::answer_format::{AnswerFormat, Conclusion, NoAnswer, formats};
use super::agent;
use super::args::{TestArgs, TestFormat};
use super::context::Context;
use super::exit::{Exit, Stop};
use super::interrupt::ended_by_signal;
use super::output;
use super::progress::{Progress, ProgressLevel};
use super::remote::RemoteTree;
use super::render::{AskedFor, AskedQuestion, ERROR, NOTE, WARN, label, plural};
use super::trust;
use crate::cache::{AnsweredTargets, Cache, HistoryEvent, Record};
use crate::client::{ClientError, Connection};
use crate::config::SharedSettings;
use crate::model::{Answer, OsText, Source, Timestamp, Verdict};
use crate::process::Priority;
use crate::protocol::{Ask, Call, Miss, Reply};
use crate::shared::SharedStore;
use crate::verdict::{
    self, LookUp, ProjectTree, Publishing, Question, RunError, RunOptions, RunOutcome, RunScope,
    Shareable, remember,
};

/// Answers, and prints the verdict.
pub(super) fn test(context: &Context, args: &TestArgs) -> Result<(), Stop> {
    let (started, asked) = (Instant::now(), Timestamp::now());
    if let Some((option, instead)) = args.selection.unsupported() {
        let text = format!("`test` does not take cargo's `{option}`: {instead}");
        return Err(Stop::new(Exit::Usage, text));
    }
    let is_agent = agent::calls(&context.environment);
    let format = args.format.unwrap_or(if is_agent { TestFormat::Terse } else { TestFormat::Text });
    let formats = formats(context, args, format)?;
    let level = if args.quiet { ProgressLevel::Failures } else { formats[0].progress() };
    let progress = Progress::new(level, formats[0].prints_tests());
    let asking = Asking { context, args, formats, started, asked };
    let (root, result) = match asking.root() {
        Ok(root) => {
            let result = asking.ask(&root, progress);
            (Some(root), result)
        }
        Err(stop) => (None, Err(stop)),
    };
    if let Err(stop) = &result
        && stop.error_line
    {
        if let Some(root) = &root {
            trust::warn(&Cache::open(&context.paths.cache_dir).state(root));
        }
        asking.print_all(|format| {
            format.unanswered(&NoAnswer {
                message: &stop.message,
                build_errors: &stop.build_errors,
                root: root.as_deref(),
                elapsed: started.elapsed(),
            })
        })?;
    }
    result
}

/// How long a command that has answered waits for its uploads.
const PUBLISH_WAIT: Duration = Duration::from_secs(20);
/// Build scripts that take longer are not run once more by a command that has answered.
const QUICK_SCRIPT: Duration = Duration::from_secs(1);

struct Asking<'a> {
    context: &'a Context,
    args: &'a TestArgs,
    formats: Vec<Box<dyn AnswerFormat>>,
    started: Instant,
    asked: Timestamp,
}

/// The daemon's reply to a question.
enum DaemonReply {
    /// Green.
    Answer(Answer),
    /// This process must run the tests; the daemon watches the tree meanwhile.
    Miss {
        connection: Connection,
        miss: Miss,
        /// The daemon built first, so its snapshot may be stale.
        waited: bool,
    },
    /// No daemon can help.
    Nothing,
}

impl Asking<'_> {
    fn ask(&self, root: &Path, mut progress: Progress) -> Result<(), Stop> {
        progress.integrate(root, &self.context.environment);
        let mut heard = self.hear(root, &mut progress);
        if let DaemonReply::Answer(answer) = &heard {
            progress.finish();
            return self.answered(root, answer, &mut progress);
        }
        let question = self.question(root)?;
        let cache = Cache::open(&self.context.paths.cache_dir);
        let facts = self.context.facts(&question)?;
        let asked = LookUp { cache: &cache, question: &question, facts: &facts };
        let store;
        let ran = match &mut heard {
            DaemonReply::Miss { connection, miss, waited } => {
                let mut tree = RemoteTree::new(connection, root, miss.clone(), *waited);
                let options = self.options(&question, std::mem::take(&mut miss.edited))?;
                store = options.store.clone();
                self.run(asked, &mut tree, &options, &mut progress)
            }
            _ => {
                let mut tree = self.context.local_tree(&question, &facts)?;
                let options = self.options(&question, Vec::new())?;
                store = options.store.clone();
                self.run(asked, &mut tree, &options, &mut progress)
            }
        };
        progress.finish();
        let outcome = ran?;
        if !question.selection.is_no_run() {
            let last = remember(&cache, &question, &outcome.answer, self.started.elapsed());
            if let DaemonReply::Miss { connection, .. } = &mut heard {
                // The daemon only shows it.
                let ran = outcome.ran.clone();
                let answer = outcome.is_steady.then(|| outcome.answer.clone());
                let project = root.to_owned();
                let is_other = |record: &Arc<Record>| verdict::signer_of(record).is_some();
                let by_others = !self.runs_all() && outcome.of_targets.iter().any(is_other);
                let call = Call::Report { project, verdict: last, ran, answer, by_others };
                let _ = connection.call(call, |_| {});
            }
        }
        // A wrong record is a bug of this program and outranks red tests.
        let verified = self.verify(root, &cache, &outcome);
        let answered = self.answered(root, &outcome.answer, &mut progress);
        match (store.filter(SharedStore::writes), &outcome.shareable) {
            (Some(store), Some(run)) => {
                let connection = match &mut heard {
                    DaemonReply::Miss { connection, .. } => Some(connection),
                    _ => None,
                };
                self.publish(asked, &store, run, connection);
            }
            (None, Some(run)) => {
                if let Ok(hook) = std::env::current_exe() {
                    verdict::remember_scripts(&hook, &asked, run, Some(QUICK_SCRIPT));
                }
            }
            (_, None) => {}
        }
        verified.and(answered)
    }

    /// The root of the workspace that is asked about.
    fn root(&self) -> Result<PathBuf, Stop> {
        let manifest = self.args.selection.manifest_path.as_ref().map(Path::new);
        let manifest = manifest.map(|path| path.parent().unwrap_or(Path::new(".")));
        self.context.workspace(self.args.project.as_deref().or(manifest))
    }

    /// Asks the daemon, unless told not to.
    fn hear(&self, root: &Path, progress: &mut Progress) -> DaemonReply {
        if self.args.no_daemon || self.args.selection.no_run {
            return DaemonReply::Nothing;
        }
        match self.call(root, progress) {
            Ok(heard) => heard,
            Err(error) => {
                let text = format!("{error}; working without it");
                progress.always(&label(WARN, "Daemon", text));
                DaemonReply::Nothing
            }
        }
    }

    fn call(&self, root: &Path, progress: &mut Progress) -> Result<DaemonReply, ClientError> {
        let Some(mut connection) = Connection::open(&self.context.paths.socket())? else {
            return Ok(DaemonReply::Nothing);
        };
        let ask = Ask {
            project: root.to_owned(),
            dir: self.dir(root),
            cargo: self.cargo().map(|args| args.iter().map(OsText::from).collect()),
            harness: self.args.harness.iter().map(OsText::from).collect(),
            environment: self.context.environment.clone(),
            no_cache: self.runs_all(),
            only_known: false,
            names_tests: self.formats.iter().any(|format| format.names_tests()),
            config_file: self.context.paths.config_file.clone(),
        };
        let reply = connection.call(Call::Ask(ask), |what| progress.waiting(what))?;
        match reply {
            Reply::Answer(answer) => Ok(DaemonReply::Answer(answer)),
            Reply::Miss(miss) => {
                let join = Call::Join { project: root.to_owned() };
                let mut waited = false;
                connection.call(join, |what| {
                    waited = true;
                    progress.waiting(what);
                })?;
                Ok(DaemonReply::Miss { connection, miss, waited })
            }
            Reply::Unwatched => {
                let hint = format!("`knhk-test-cache add {}` has it watched", root.display());
                progress.line(&label(NOTE, "Unwatched", hint));
                Ok(DaemonReply::Nothing)
            }
            _ => Ok(DaemonReply::Nothing),
        }
    }

    fn cargo(&self) -> Option<Vec<std::ffi::OsString>> {
        self.args.selection.to_cargo()
    }

    /// The folder in which cargo is called: the current one, or the workspace root of a project
    /// that was named and lies elsewhere.
    fn dir(&self, root: &Path) -> PathBuf {
        let here = self.context.cwd.canonicalize().unwrap_or_else(|_| self.context.cwd.clone());
        let elsewhere = self.args.project.is_some() && !here.starts_with(root);
        if elsewhere { root.to_owned() } else { here }
    }

    fn question(&self, root: &Path) -> Result<Question, Stop> {
        let config = self.context.config()?.config;
        let settings = config.settings_for(root).clone();
        let (dir, typed) = (self.dir(root), self.cargo());
        let environment = config.shared.test_environment(self.context.environment.clone());
        let harness = self.args.harness.clone();
        Ok(Question::asked(root, &dir, typed, harness, environment, settings))
    }

    /// The store that the config names; says once why there is none if it names one.
    fn store(&self, root: &Path, settings: &SharedSettings) -> Option<SharedStore> {
        let Context { paths, environment, .. } = self.context;
        match verdict::open_store(settings, root, &paths.cache_dir, environment)? {
            Ok(store) => Some(store),
            Err(error) => {
                output::note(label(WARN, "Shared", format!("{error}; going on without it")));
                None
            }
        }
    }

    /// Publishes what was proven, after the answer: the daemon does so in the background, or this
    /// command where there is none, or where an agent signs that only this command may know. A store
    /// that fails is told of, and fails nothing.
    fn publish(
        &self,
        asked: LookUp<'_>,
        store: &SharedStore,
        run: &Shareable,
        connection: Option<&mut Connection>,
    ) {
        let question = asked.question;
        let Ok(hook) = std::env::current_exe() else { return };
        let publishing = Publishing { signing_key: store.key_file(), hook: &hook };
        let published = verdict::publication(&publishing, &asked, run);
        let note = |text: String| {
            if !self.args.quiet {
                output::note(label(NOTE, "Shared", text));
            }
        };
        let warn = |text: String| {
            if !self.args.quiet {
                output::note(label(WARN, "Shared", text));
            }
        };
        if let Some(publication) = published.publication {
            let targets = plural(publication.records.len() - 1, "target");
            let mut queued = false;
            if let Some(connection) = connection.filter(|_| store.signs_alone()) {
                let (project, publication) = (question.root.clone(), publication.clone());
                let call = Call::Publish { project, publication };
                queued = matches!(connection.call(call, |_| {}), Ok(Reply::Done));
            }
            if queued {
                note(format!("the daemon publishes {targets}"));
            } else {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let Ok(runtime) = runtime else { return };
                let publish =
                    async { tokio::time::timeout(PUBLISH_WAIT, store.publish(publication)).await };
                match runtime.block_on(publish) {
                    Ok(Ok(_)) => note(format!("{targets} published")),
                    Ok(Err(why)) => warn(format!("not published: {why}")),
                    Err(_) => warn(format!("not published within {} s", PUBLISH_WAIT.as_secs())),
                }
            }
        }
        for why in published.kept_back {
            note(format!("not published: {why}"));
        }
    }

    /// Whether no record may answer.
    fn runs_all(&self) -> bool {
        self.args.no_cache || self.args.verify
    }

    /// How to run the tests, those of the packages in `first` before the others.
    fn options(&self, question: &Question, first: Vec<String>) -> Result<RunOptions, Stop> {
        let config = self.context.config()?.config;
        let (cache, shared) = (config.cache, config.shared);
        let store = self.store(&question.root, &shared);
        let remembers_red = shared.is_asked();
        Ok(RunOptions {
            asked: self.asked,
            hook: std::env::current_exe()?,
            jobs: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            build_jobs: None,
            priority: Priority::Foreground,
            color: self.context.colored(&std::io::stderr()),
            no_cache: self.runs_all(),
            scope: RunScope::All,
            first,
            limits: verdict::limits(&cache, &question.settings),
            store,
            remembers_red,
            agent: shared.hidden_agent(&self.context.environment),
            cancel: CancellationToken::new(),
        })
    }

    /// Runs on a runtime of one thread, which lives as long as this process: children die with
    /// the thread that started them.
    fn run<T: ProjectTree>(
        &self,
        asked: LookUp<'_>,
        tree: &mut T,
        options: &RunOptions,
        progress: &mut Progress,
    ) -> Result<RunOutcome, Stop> {
        let LookUp { cache, question, facts } = asked;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let cancel = options.cancel.clone();
            let mut on_step = |step: verdict::Step<'_>| progress.step(&step);
            let mut answer =
                std::pin::pin!(verdict::run(question, facts, tree, cache, options, &mut on_step));
            let ended = tokio::select! {
                result = &mut answer => return result.map_err(stopped),
                exit = ended_by_signal()? => exit,
            };
            // All children have ended before the message is printed.
            cancel.cancel();
            let _ = answer.await;
            Err(Stop::error(ended, "interrupted: nothing was recorded"))
        })
    }

    /// Compares the run with the records that would have answered.
    fn verify(&self, root: &Path, cache: &Cache, outcome: &RunOutcome) -> Result<(), Stop> {
        if !self.args.verify {
            return Ok(());
        }
        let Some(verified) = verdict::verify(cache, root, outcome) else {
            let text = "there was no record to compare with";
            output::note(label(NOTE, "Verified", text));
            return Ok(());
        };
        if verified.differences.is_empty() {
            output::note(label(NOTE, "Verified", "the run confirms the record"));
            return Ok(());
        }
        let word = |verdict: Option<Verdict>| {
            verdict.map_or_else(|| "nothing".to_owned(), |verdict| verdict.to_string())
        };
        for difference in &verified.differences {
            let of = |record: &&Arc<Record>| {
                record.targets.iter().any(|target| target.id == difference.id)
            };
            let signer = outcome.of_targets.iter().find(of);
            let signer = signer.and_then(|record| verdict::signer_of(record));
            let by = signer.map(|signer| format!(", signed by {signer},")).unwrap_or_default();
            let text = format!(
                "{}: the record{by} says {}, the run {}",
                difference.id,
                word(difference.recorded),
                word(difference.run)
            );
            output::note(label(ERROR, "Differs", text));
        }
        let mut text = "the run contradicts the record: please report this".to_owned();
        if let Some(evidence) = &verified.evidence {
            text.push_str(&format!(", with {}", evidence.display()));
        }
        Err(Stop::new(Exit::VerifyDiffers, text))
    }

    /// Prints the answer, and then notes it in the history.
    fn answered(&self, root: &Path, answer: &Answer, progress: &mut Progress) -> Result<(), Stop> {
        let concluded = self.conclude(root, answer, progress);
        if self.for_what() == AskedFor::Verdict {
            let event = HistoryEvent::Answered(AnsweredTargets::of(answer));
            Cache::open(&self.context.paths.cache_dir).note_history(root, event);
        }
        concluded
    }

    /// Prints the answer. Targets that were answered from records say again what they said.
    fn conclude(&self, root: &Path, answer: &Answer, progress: &mut Progress) -> Result<(), Stop> {
        for target in answer.targets.iter().filter(|target| target.source == Source::Cache) {
            if let Some(stderr) = &target.stderr {
                progress.output(target.output.as_bytes(), stderr.as_bytes());
            }
        }
        let state = Cache::open(&self.context.paths.cache_dir).state(root);
        trust::warn(&state);
        let conclusion = Conclusion {
            answer,
            distrusted: state.distrusted.into_keys().collect(),
            asked: AskedQuestion { scope: self.scope(root), for_what: self.for_what() },
            root,
            elapsed: self.started.elapsed(),
            now: Timestamp::now(),
            is_quiet: self.args.quiet,
        };
        self.print_all(|format| format.answered(&conclusion))?;
        match answer.verdict() {
            Verdict::Pass => progress.written(),
            _ => Err(Stop::silent(Exit::NotGreen)),
        }
    }

    /// Prints in all forms, whether one fails or not; gives the first failure.
    fn print_all(&self, print: impl Fn(&dyn AnswerFormat) -> Result<(), Stop>) -> Result<(), Stop> {
        self.formats.iter().map(|format| print(format.as_ref())).fold(Ok(()), Result::and)
    }

    fn for_what(&self) -> AskedFor {
        if self.args.selection.no_run {
            AskedFor::Build
        } else if self.args.harness.iter().any(|word| word == "--list") {
            AskedFor::List
        } else {
            AskedFor::Verdict
        }
    }

    /// The name of the selection, for the last line.
    fn scope(&self, root: &Path) -> String {
        let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
        match self.cargo() {
            None => name,
            Some(args) => {
                let words: Vec<_> =
                    args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
                format!("{name} ({})", words.join(" "))
            }
        }
    }
}

/// The error of a question without an answer.
fn stopped(error: RunError) -> Stop {
    let build_errors = match &error {
        RunError::Build(error) => error.rendered(),
        _ => String::new(),
    };
    Stop { build_errors, ..Stop::error(Exit::NotGreen, error) }
}
