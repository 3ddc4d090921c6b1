//! The one loop of the server: what the editor and the daemon say changes what is known, and what
//! is shown follows from that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use lsp_server::{ErrorCode, Message, Notification, Request, RequestId};
use lsp_types::notification::{self, Notification as _};
use lsp_types::request::{self, Request as _};
use lsp_types::{
    CodeActionParams, CodeActionProviderCapability, CodeLens, CodeLensOptions, CodeLensParams,
    Command, Diagnostic, DiagnosticRelatedInformation, DiagnosticSeverity,
    DidChangeTextDocumentParams, DidChangeWorkspaceFoldersParams, DidCloseTextDocumentParams,
    DidOpenTextDocumentParams, DidSaveTextDocumentParams, ExecuteCommandOptions,
    ExecuteCommandParams, InitializeParams, InitializeResult, InlayHint, InlayHintLabel,
    InlayHintParams, Location, MessageType, OneOf, Position, PublishDiagnosticsParams,
    ServerCapabilities, ServerInfo, TextDocumentSyncCapability, TextDocumentSyncKind,
    TextDocumentSyncOptions, TextDocumentSyncSaveOptions, Uri, WorkspaceFolder,
    WorkspaceFoldersServerCapabilities, WorkspaceServerCapabilities,
};
use serde::de::DeserializeOwned;
use tempfile::NamedTempFile;

use super::client::{Abilities, EditorLink, MarkStyle};
use super::commands::{self, CommandTarget};
use super::failures::{PlacedFailure, failures};
use super::input::{CommandResult, ServerInput};
use super::marks::{PlacedTest, TestMark, mark};
use super::open_file::OpenFile;
use super::project::OpenProject;
use super::screen::Screen;
use super::text::{path_of, uri_of};
use crate::model::{State, Timestamp};
use crate::paths::{Paths, create_private_folder};
use crate::process::Environment;
use crate::protocol::LiveProject;
use crate::workspace::locate;

/// Ages are shown in minutes.
const AGES_CHANGE: Duration = Duration::from_secs(60);

/// What the server works with.
pub(super) struct Setup {
    pub(super) paths: Paths,
    pub(super) environment: Environment,
    /// For threads that have something to say.
    pub(super) inputs: Sender<ServerInput>,
}

/// The server and all that it knows.
pub(super) struct Serving<S> {
    setup: Setup,
    link: EditorLink<S>,
    stage: Stage,
    /// The folders of the editor, without links.
    folders: Vec<PathBuf>,
    projects: BTreeMap<PathBuf, OpenProject>,
    screen: Screen,
    /// The projects whose marks may be on the screen.
    marked: BTreeMap<PathBuf, bool>,
    are_marks_old: bool,
    published: BTreeMap<PathBuf, Vec<Diagnostic>>,
    /// The output of the last command.
    log: Option<NamedTempFile>,
}

/// How far the conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Open,
    ShuttingDown,
}

impl<S: Fn(Message)> Serving<S> {
    /// A server that has said nothing yet, and says everything by `send`.
    pub(super) fn new(setup: Setup, send: S) -> Self {
        let link = EditorLink::new(send, Abilities::of(&Default::default(), None));
        Self {
            setup,
            link,
            stage: Stage::New,
            folders: Vec::new(),
            projects: BTreeMap::new(),
            screen: Screen::default(),
            marked: BTreeMap::new(),
            are_marks_old: false,
            published: BTreeMap::new(),
            log: None,
        }
    }

    /// Serves until the editor leaves. Whether it has left as the protocol wants it.
    pub(super) fn run(mut self, inputs: &Receiver<ServerInput>) -> bool {
        let is_clean = loop {
            let input = match inputs.recv_timeout(AGES_CHANGE) {
                Ok(input) => input,
                Err(RecvTimeoutError::Timeout) => {
                    self.are_marks_old = self.marked.values().any(|marked| *marked);
                    self.show();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break false,
            };
            // What has come together is shown together.
            let waiting = std::iter::once(input).chain(inputs.try_iter());
            match waiting.map(|input| self.take(input)).find_map(|end| end) {
                Some(is_clean) => break is_clean,
                None => self.show(),
            }
        };
        self.projects.values().for_each(OpenProject::close);
        is_clean
    }

    /// Takes note of an input. When the editor leaves, whether it does so as it should.
    fn take(&mut self, input: ServerInput) -> Option<bool> {
        match input {
            ServerInput::ClientGone => return Some(false),
            ServerInput::Client(Message::Request(request)) => self.request(request),
            ServerInput::Client(Message::Notification(told)) => {
                if told.method == notification::Exit::METHOD {
                    return Some(self.stage == Stage::ShuttingDown);
                }
                self.notified(told);
            }
            // Nothing that is asked of the editor needs its answer.
            ServerInput::Client(Message::Response(_)) => {}
            ServerInput::Event { project, event } => {
                if let Some(project) = self.projects.get_mut(&project) {
                    project.apply(event);
                    self.are_marks_old = true;
                }
            }
            ServerInput::FeedEnded { project, reason } => {
                if self.projects.remove(&project).is_some() {
                    let message = format!("no marks for {}: {reason}", project.display());
                    self.link.show(MessageType::WARNING, message);
                    self.are_marks_old = true;
                }
            }
            ServerInput::CommandEnded(result) => self.command_ended(result),
        }
        None
    }

    fn request(&mut self, Request { id, method, params }: Request) {
        match (self.stage, method.as_str()) {
            (Stage::New, request::Initialize::METHOD) => match serde_json::from_value(params) {
                Ok(params) => self.initialize(id, params),
                Err(error) => {
                    self.link.refuse(id, ErrorCode::InvalidParams, error.to_string());
                }
            },
            (Stage::New, _) => {
                let message = "`initialize` comes first".to_owned();
                self.link.refuse(id, ErrorCode::ServerNotInitialized, message);
            }
            (Stage::ShuttingDown, _) | (_, request::Initialize::METHOD) => {
                let message = format!("`{method}` cannot come now");
                self.link.refuse(id, ErrorCode::InvalidRequest, message);
            }
            (Stage::Open, request::Shutdown::METHOD) => {
                self.stage = Stage::ShuttingDown;
                self.link.reply(id, ());
            }
            (Stage::Open, request::CodeLensRequest::METHOD) => {
                self.answer(id, params, |this, params: CodeLensParams| {
                    this.lenses(&params.text_document.uri)
                });
            }
            (Stage::Open, request::InlayHintRequest::METHOD) => {
                self.answer(id, params, |this, params: InlayHintParams| {
                    this.hints(&params.text_document.uri)
                });
            }
            (Stage::Open, request::CodeActionRequest::METHOD) => {
                self.answer(id, params, |this, params: CodeActionParams| {
                    this.actions(&params.text_document.uri, params.range.start.line)
                });
            }
            (Stage::Open, request::ExecuteCommand::METHOD) => {
                match serde_json::from_value::<ExecuteCommandParams>(params) {
                    Ok(params) => match self.execute(&params) {
                        Ok(()) => self.link.reply(id, ()),
                        Err(message) => {
                            self.link.refuse(id, ErrorCode::RequestFailed, message);
                        }
                    },
                    Err(error) => {
                        self.link.refuse(id, ErrorCode::InvalidParams, error.to_string());
                    }
                }
            }
            (Stage::Open, _) => {
                let message = format!("`{method}` is not known here");
                self.link.refuse(id, ErrorCode::MethodNotFound, message);
            }
        }
    }

    fn answer<P: DeserializeOwned, R: serde::Serialize>(
        &mut self,
        id: RequestId,
        params: serde_json::Value,
        answer: impl FnOnce(&mut Self, P) -> R,
    ) {
        match serde_json::from_value(params) {
            Ok(params) => {
                let result = answer(self, params);
                self.link.reply(id, result);
            }
            Err(error) => self.link.refuse(id, ErrorCode::InvalidParams, error.to_string()),
        }
    }

    fn initialize(&mut self, id: RequestId, params: InitializeParams) {
        self.stage = Stage::Open;
        let options = params.initialization_options.as_ref();
        self.link.can = Abilities::of(&params.capabilities, options);
        #[allow(deprecated)] // Some editors say nothing else.
        let root = params.root_uri;
        let folders = params.workspace_folders.unwrap_or_default();
        let folders: Vec<Uri> = folders.into_iter().map(|folder| folder.uri).collect();
        let folders = if folders.is_empty() { root.into_iter().collect() } else { folders };
        let result = InitializeResult {
            capabilities: capabilities(&self.link.can),
            server_info: Some(ServerInfo {
                name: "knhk-test-cache".to_owned(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            }),
        };
        self.link.reply(id, result);
        folders.iter().for_each(|uri| self.open_folder(uri));
    }

    fn notified(&mut self, Notification { method, params }: Notification) {
        if self.stage != Stage::Open {
            return;
        }
        // A notification has no answer, so one that makes no sense is passed over.
        let is_known = match method.as_str() {
            notification::DidOpenTextDocument::METHOD => {
                serde_json::from_value(params).map(|params| self.did_open(params))
            }
            notification::DidChangeTextDocument::METHOD => {
                serde_json::from_value(params).map(|params| self.did_change(params))
            }
            notification::DidSaveTextDocument::METHOD => serde_json::from_value(params)
                .map(|_: DidSaveTextDocumentParams| self.files_changed()),
            notification::DidCloseTextDocument::METHOD => {
                serde_json::from_value(params).map(|params: DidCloseTextDocumentParams| {
                    self.screen.close(&params.text_document.uri);
                    self.files_changed();
                })
            }
            notification::DidChangeWorkspaceFolders::METHOD => {
                serde_json::from_value(params).map(|params: DidChangeWorkspaceFoldersParams| {
                    params.event.removed.iter().for_each(|folder| self.close_folder(folder));
                    params.event.added.iter().for_each(|folder| self.open_folder(&folder.uri));
                })
            }
            _ => Ok(()),
        };
        if let Err(error) = is_known {
            tracing::debug!(%method, %error, "a notification makes no sense");
        }
    }

    fn did_open(&mut self, params: DidOpenTextDocumentParams) {
        let document = params.text_document;
        let Some(path) = path_of(&document.uri) else { return };
        let path = path.canonicalize().unwrap_or(path);
        if self.folders.iter().any(|folder| path.starts_with(folder)) {
            self.open_project(&path);
        }
        self.screen.open(OpenFile::new(document.uri, path, document.text));
        self.files_changed();
    }

    fn did_change(&mut self, params: DidChangeTextDocumentParams) {
        let unit = self.link.can.unit;
        if let Some(file) = self.screen.by_uri(&params.text_document.uri) {
            file.change(params.content_changes, unit);
        }
    }

    fn files_changed(&mut self) {
        self.projects.values_mut().for_each(OpenProject::file_changed);
    }

    fn open_folder(&mut self, uri: &Uri) {
        let Some(path) = path_of(uri).and_then(|path| path.canonicalize().ok()) else { return };
        self.open_project(&path);
        self.folders.push(path);
    }

    fn close_folder(&mut self, folder: &WorkspaceFolder) {
        let Some(path) = path_of(&folder.uri) else { return };
        let path = path.canonicalize().unwrap_or(path);
        self.folders.retain(|folder| *folder != path);
        let folders = &self.folders;
        let is_open = |root: &PathBuf| {
            folders.iter().any(|folder| root.starts_with(folder) || folder.starts_with(root))
        };
        self.projects.retain(|root, project| {
            let keep = is_open(root);
            if !keep {
                project.close();
            }
            keep
        });
        self.are_marks_old = true;
    }

    /// Follows the project that a path belongs to. A path outside of all projects has none.
    fn open_project(&mut self, path: &Path) {
        let Ok(root) = locate(path) else { return };
        if self.projects.contains_key(&root) {
            return;
        }
        let Setup { paths, environment, inputs } = &self.setup;
        match OpenProject::open(root.clone(), paths, environment, inputs) {
            Ok(project) => drop(self.projects.insert(root, project)),
            Err(error) => {
                let message = format!("no marks for {}: {error}", root.display());
                self.link.show(MessageType::WARNING, message);
            }
        }
    }

    /// Brings what is shown to what is known.
    fn show(&mut self) {
        if self.stage != Stage::Open {
            return;
        }
        let Self { projects, screen, marked, link, .. } = self;
        for (root, project) in projects.iter_mut() {
            project.ask_for_proof(screen.files());
            let is_proven = project.proven(screen.files()).is_some();
            if marked.insert(root.clone(), is_proven) != Some(is_proven) {
                self.are_marks_old = true;
            }
            let known = project.known();
            let ended = known.map_or_else(|| "not known".to_owned(), end_of_progress);
            link.show_progress(root, known.and_then(progress), ended);
        }
        if std::mem::take(&mut self.are_marks_old) {
            self.link.refresh_marks();
            self.publish();
        }
    }

    fn publish(&mut self) {
        let mut wanted: BTreeMap<PathBuf, Vec<Diagnostic>> = BTreeMap::new();
        let Self { projects, screen, link, .. } = self;
        for (root, project) in projects {
            let Some(proven) = project.proven(screen.files()) else { continue };
            for failure in failures(root, proven, |target, name| screen.find(target, name)) {
                let diagnostic = diagnostic(&failure, screen, link);
                wanted.entry(failure.file).or_default().push(diagnostic);
            }
        }
        let gone: Vec<_> =
            self.published.keys().filter(|file| !wanted.contains_key(*file)).cloned().collect();
        for file in gone {
            self.publish_file(&file, Vec::new());
        }
        let changed: Vec<_> = wanted
            .iter()
            .filter(|(file, now)| self.published.get(*file) != Some(now))
            .map(|(file, now)| (file.clone(), now.clone()))
            .collect();
        for (file, diagnostics) in changed {
            self.publish_file(&file, diagnostics);
        }
        self.published = wanted;
    }

    fn publish_file(&self, file: &Path, diagnostics: Vec<Diagnostic>) {
        let Some(uri) = uri_in_editor(file, &self.screen) else { return };
        let params = PublishDiagnosticsParams { uri, diagnostics, version: None };
        self.link.notify::<notification::PublishDiagnostics>(params);
    }

    /// The tests of a file with their marks, each function once.
    fn marks(&mut self, uri: &Uri) -> Vec<MarkedTest> {
        let Some(path) = self.screen.by_uri(uri).map(|file| file.path.clone()) else {
            return Vec::new();
        };
        let roots = self.projects.keys().filter(|root| path.starts_with(root));
        let Some(root) = roots.max_by_key(|root| root.components().count()).cloned() else {
            return Vec::new();
        };
        let tests = self.screen.tests_in(&path);
        let proven = self.projects[&root].proven(self.screen.files());
        // By the time when all is shown, the text may be another one again.
        if self.marked.insert(root.clone(), proven.is_some()) != Some(proven.is_some()) {
            self.are_marks_old = true;
        }
        let groups =
            tests.chunk_by(|one, other| (one.line, &one.name) == (other.line, &other.name));
        let marked = groups.filter_map(|group| {
            let test = group.first()?.clone();
            Some(MarkedTest { root: root.clone(), test, mark: mark(proven, group) })
        });
        marked.collect()
    }

    fn lenses(&mut self, uri: &Uri) -> Vec<CodeLens> {
        let marks = self.marks(uri);
        let Some(text) = self.screen.by_uri(uri).map(|file| file.text.clone()) else {
            return Vec::new();
        };
        let (unit, now) = (self.link.can.unit, Timestamp::now());
        let lens = |marked: &MarkedTest| CodeLens {
            range: unit.rest_of_line(&text, marked.test.line, None),
            command: Some(marked.command(now)),
            data: None,
        };
        marks.iter().map(lens).collect()
    }

    fn hints(&mut self, uri: &Uri) -> Vec<InlayHint> {
        let marks = self.marks(uri);
        let Some(text) = self.screen.by_uri(uri).map(|file| file.text.clone()) else {
            return Vec::new();
        };
        let (unit, now) = (self.link.can.unit, Timestamp::now());
        let hint = |marked: &MarkedTest| InlayHint {
            position: unit.rest_of_line(&text, marked.test.line, None).end,
            label: InlayHintLabel::String(marked.mark.title(now)),
            kind: None,
            text_edits: None,
            tooltip: None,
            padding_left: Some(true),
            padding_right: None,
            data: None,
        };
        marks.iter().map(hint).collect()
    }

    /// What can be done at a line, counted from 0.
    fn actions(&mut self, uri: &Uri, line: u32) -> Vec<Command> {
        let marks = self.marks(uri);
        // The function that the line may be part of: its name says so in the title.
        let at = marks.iter().rev().find(|marked| marked.test.line <= line as usize + 1);
        let mut actions = Vec::new();
        let action = |title: String, command: &str, target: Option<&CommandTarget>| Command {
            title,
            command: command.to_owned(),
            arguments: target.and_then(CommandTarget::arguments),
        };
        if let Some(MarkedTest { root, test, .. }) = at {
            let target = CommandTarget::test(root, test);
            let name = &test.name;
            actions.push(action(format!("Run test {name}"), commands::RUN_TEST, Some(&target)));
            let title = format!("Explain the verdict of {}", test.target);
            actions.push(action(title, commands::EXPLAIN, Some(&target)));
        }
        let path = self.screen.by_uri(uri).map(|file| file.path.clone());
        let roots = self
            .projects
            .keys()
            .filter(|root| path.as_ref().is_some_and(|path| path.starts_with(root)));
        if let Some(root) = roots.max_by_key(|root| root.components().count()) {
            let target = CommandTarget::project(root);
            let title = "Run failed and unknown tests".to_owned();
            actions.push(action(title, commands::RUN_STALE, Some(&target)));
        }
        if self.log.is_some() {
            let title = "Open the output of the last run".to_owned();
            actions.push(action(title, commands::OPEN_LOG, None));
        }
        actions
    }

    /// Begins a command.
    fn execute(&mut self, params: &ExecuteCommandParams) -> Result<(), String> {
        let ExecuteCommandParams { command, arguments, .. } = params;
        if command == commands::OPEN_LOG {
            let Some(log) = &self.log else { return Err("nothing has run yet".to_owned()) };
            let path = log.path().to_owned();
            if !self.link.open_file(&path) {
                self.link.show(MessageType::INFO, format!("the output is in {}", path.display()));
            }
            return Ok(());
        }
        if !commands::ALL.contains(&command.as_str()) {
            return Err(format!("`{command}` is no command of this server"));
        }
        let target = match arguments.first() {
            Some(argument) => serde_json::from_value::<CommandTarget>(argument.clone())
                .map_err(|error| format!("the argument of `{command}` makes no sense: {error}"))?,
            None => match self.projects.keys().next() {
                Some(root) if self.projects.len() == 1 => CommandTarget::project(root),
                _ => return Err(format!("`{command}` needs a project")),
            },
        };
        if !self.projects.contains_key(&target.project) {
            return Err(format!("{} is not open", target.project.display()));
        }
        let Setup { environment, inputs, .. } = &self.setup;
        commands::start(command, &target, environment, inputs).map_err(|error| error.to_string())
    }

    fn command_ended(&mut self, result: CommandResult) {
        let CommandResult { what, status, output, is_shown } = result;
        let kept = self.keep_log(&output);
        let word = match status {
            Some(0) => "passed",
            Some(_) => "failed",
            None => "was not run",
        };
        if is_shown {
            let path = self.log.as_ref().map(|log| log.path().to_owned());
            if !path.is_some_and(|path| self.link.open_file(&path)) {
                self.link.show(MessageType::INFO, output);
            }
        } else {
            let typ = if status == Some(0) { MessageType::INFO } else { MessageType::WARNING };
            self.link.show(typ, format!("{what} {word}"));
        }
        if let Err(error) = kept {
            self.link.show(MessageType::WARNING, format!("the output cannot be kept: {error}"));
        }
    }

    fn keep_log(&mut self, output: &str) -> std::io::Result<()> {
        create_private_folder(&self.setup.paths.runtime_dir)?;
        let folder = &self.setup.paths.runtime_dir;
        let log = tempfile::Builder::new().prefix("lsp-").suffix(".log").tempfile_in(folder)?;
        std::fs::write(log.path(), output)?;
        self.log = Some(log);
        Ok(())
    }
}

/// A test function with its mark.
struct MarkedTest {
    root: PathBuf,
    test: PlacedTest,
    mark: TestMark,
}

impl MarkedTest {
    /// The mark as something to click on: it runs what makes the mark known.
    fn command(&self, now: Timestamp) -> Command {
        let Self { root, test, mark } = self;
        let (command, target) = match mark {
            TestMark::Passed { .. } | TestMark::Ignored => {
                (commands::RUN_TEST, CommandTarget::test(root, test))
            }
            _ => (commands::RUN_STALE, CommandTarget::project(root)),
        };
        Command {
            title: mark.title(now),
            command: command.to_owned(),
            arguments: target.arguments(),
        }
    }
}

fn capabilities(can: &Abilities) -> ServerCapabilities {
    let save = TextDocumentSyncSaveOptions::Supported(true);
    let lenses = CodeLensOptions { resolve_provider: Some(false) };
    ServerCapabilities {
        position_encoding: Some(can.unit.kind()),
        text_document_sync: Some(TextDocumentSyncCapability::Options(TextDocumentSyncOptions {
            open_close: Some(true),
            change: Some(TextDocumentSyncKind::INCREMENTAL),
            save: Some(save),
            ..Default::default()
        })),
        code_lens_provider: (can.marks == MarkStyle::Lens).then_some(lenses),
        inlay_hint_provider: (can.marks == MarkStyle::Hint).then_some(OneOf::Left(true)),
        code_action_provider: Some(CodeActionProviderCapability::Simple(true)),
        execute_command_provider: Some(ExecuteCommandOptions {
            commands: commands::ALL.map(str::to_owned).to_vec(),
            ..Default::default()
        }),
        workspace: Some(WorkspaceServerCapabilities {
            workspace_folders: Some(WorkspaceFoldersServerCapabilities {
                supported: Some(true),
                change_notifications: Some(OneOf::Left(true)),
            }),
            file_operations: None,
        }),
        ..Default::default()
    }
}

/// What a project is about, while that takes time.
fn progress(project: &LiveProject) -> Option<String> {
    let activity = project.activity.as_ref()?;
    let about = match activity.state {
        State::Building => "building",
        State::Testing => "running",
        _ => return None,
    };
    let plan = project.plan.map(|plan| format!("{} of {} targets", plan.done, plan.run));
    let more = plan.or_else(|| activity.reason.clone());
    Some(more.map_or_else(|| about.to_owned(), |more| format!("{about} {more}")))
}

fn end_of_progress(project: &LiveProject) -> String {
    match project.verdict.as_ref().and_then(|verdict| verdict.verdict) {
        Some(verdict) => verdict.to_string(),
        None => "not known".to_owned(),
    }
}

/// The name of a file in the editor.
fn uri_in_editor(file: &Path, screen: &Screen) -> Option<Uri> {
    screen.get(file).map_or_else(|| uri_of(file), |open| Some(open.uri.clone()))
}

fn diagnostic<S: Fn(Message)>(
    failure: &PlacedFailure,
    screen: &Screen,
    link: &EditorLink<S>,
) -> Diagnostic {
    let text = screen.text(&failure.file).unwrap_or_default();
    let place = failure.test_place.as_ref().filter(|_| link.can.related_places);
    let related = place.zip(failure.test.as_ref()).and_then(|((file, line), test)| {
        let line = u32::try_from(line.saturating_sub(1)).ok()?;
        let start = Position::new(line, 0);
        let range = lsp_types::Range::new(start, start);
        let location = Location::new(uri_in_editor(file, screen)?, range);
        Some(vec![DiagnosticRelatedInformation { location, message: test.clone() }])
    });
    Diagnostic {
        range: link.can.unit.rest_of_line(&text, failure.line, failure.column),
        severity: Some(DiagnosticSeverity::ERROR),
        source: Some("knhk-test-cache".to_owned()),
        message: failure.message.clone(),
        related_information: related,
        ..Default::default()
    }
}
