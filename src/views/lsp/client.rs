//! The editor at the other end: what it can show, and how it is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lsp_server::{ErrorCode, Message, RequestId, Response};
use lsp_types::notification::Notification;
use lsp_types::request::Request;
use lsp_types::{
    ClientCapabilities, MessageType, ProgressParams, ProgressParamsValue, ShowDocumentParams,
    ShowMessageParams, WorkDoneProgress, WorkDoneProgressBegin, WorkDoneProgressCreateParams,
    WorkDoneProgressEnd, WorkDoneProgressReport, notification, request,
};
use serde::Serialize;
use serde_json::Value;

use super::text::{ColumnUnit, uri_of};

/// How marks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MarkStyle {
    /// A line of its own above the test.
    Lens,
    /// Behind the test's line.
    Hint,
    /// Not at all: only failures are.
    None,
}

/// What an editor can do.
#[derive(Clone, Debug)]
pub(super) struct Abilities {
    /// How columns are counted.
    pub(super) unit: ColumnUnit,
    /// How marks are shown.
    pub(super) marks: MarkStyle,
    /// Failures can name a second place.
    pub(super) related_places: bool,
    refreshes_marks: bool,
    progress: bool,
    opens_files: bool,
}

impl Abilities {
    /// The abilities of a client, and what its user has configured.
    pub(super) fn of(client: &ClientCapabilities, options: Option<&Value>) -> Self {
        let general = client.general.as_ref();
        let unit = ColumnUnit::choose(general.and_then(|it| it.position_encodings.as_deref()));
        let document = client.text_document.as_ref();
        let has_lenses = document.is_some_and(|it| it.code_lens.is_some());
        let has_hints = document.is_some_and(|it| it.inlay_hint.is_some());
        let marks = match options.and_then(|options| options.get("marks")?.as_str()) {
            Some("lens") => MarkStyle::Lens,
            Some("hint") => MarkStyle::Hint,
            Some("none") => MarkStyle::None,
            _ if has_hints && !has_lenses => MarkStyle::Hint,
            _ => MarkStyle::Lens,
        };
        let workspace = client.workspace.as_ref();
        let refreshes = match marks {
            MarkStyle::Lens => {
                workspace.and_then(|it| it.code_lens.as_ref()).and_then(|it| it.refresh_support)
            }
            MarkStyle::Hint => {
                workspace.and_then(|it| it.inlay_hint.as_ref()).and_then(|it| it.refresh_support)
            }
            MarkStyle::None => None,
        };
        let published = document.and_then(|it| it.publish_diagnostics.as_ref());
        let window = client.window.as_ref();
        let shown = window.and_then(|it| it.show_document.as_ref());
        Self {
            unit,
            marks,
            related_places: published.and_then(|it| it.related_information) == Some(true),
            refreshes_marks: refreshes == Some(true),
            progress: window.and_then(|it| it.work_done_progress) == Some(true),
            opens_files: shown.is_some_and(|it| it.support),
        }
    }
}

/// The connection to the editor.
pub(super) struct EditorLink<S> {
    send: S,
    /// What it can do.
    pub(super) can: Abilities,
    last_id: i32,
    /// The tokens of what each project is shown to be doing.
    progress: BTreeMap<PathBuf, ShownProgress>,
}

struct ShownProgress {
    token: i32,
    message: String,
}

impl<S: Fn(Message)> EditorLink<S> {
    /// A link that sends messages by `send`.
    pub(super) fn new(send: S, can: Abilities) -> Self {
        Self { send, can, last_id: 0, progress: BTreeMap::new() }
    }

    /// Answers a request.
    pub(super) fn reply(&self, id: RequestId, result: impl Serialize) {
        let response = match serde_json::to_value(result) {
            Ok(result) => Response::new_ok(id, result),
            Err(error) => Response::new_err(id, ErrorCode::InternalError as i32, error.to_string()),
        };
        (self.send)(response.into());
    }

    /// Answers a request that cannot be carried out.
    pub(super) fn refuse(&self, id: RequestId, code: ErrorCode, message: String) {
        (self.send)(Response::new_err(id, code as i32, message).into());
    }

    /// Tells the editor something.
    pub(super) fn notify<N: Notification>(&self, params: N::Params) {
        (self.send)(lsp_server::Notification::new(N::METHOD.to_owned(), params).into());
    }

    /// Asks the editor for something; its answer changes nothing.
    fn request<R: Request>(&mut self, params: R::Params) {
        self.last_id += 1;
        let id = RequestId::from(self.last_id);
        (self.send)(lsp_server::Request::new(id, R::METHOD.to_owned(), params).into());
    }

    /// Has the editor ask for all marks again.
    pub(super) fn refresh_marks(&mut self) {
        match self.can.marks {
            _ if !self.can.refreshes_marks => {}
            MarkStyle::Lens => self.request::<request::CodeLensRefresh>(()),
            MarkStyle::Hint => self.request::<request::InlayHintRefreshRequest>(()),
            MarkStyle::None => {}
        }
    }

    /// Shows a line to the user.
    pub(super) fn show(&self, typ: MessageType, message: String) {
        self.notify::<notification::ShowMessage>(ShowMessageParams { typ, message });
    }

    /// Opens a file, if the editor can; whether it can.
    pub(super) fn open_file(&mut self, path: &Path) -> bool {
        let Some(uri) = uri_of(path).filter(|_| self.can.opens_files) else { return false };
        self.request::<request::ShowDocument>(ShowDocumentParams {
            uri,
            external: None,
            take_focus: Some(true),
            selection: None,
        });
        true
    }

    /// Shows what a project is about, or, with `None`, that it has come to an end.
    pub(super) fn show_progress(&mut self, project: &Path, message: Option<String>, end: String) {
        if !self.can.progress {
            return;
        }
        match (self.progress.get_mut(project), message) {
            (None, None) => {}
            (Some(shown), Some(message)) => {
                if shown.message != message {
                    shown.message.clone_from(&message);
                    let (message, token) = (Some(message), shown.token);
                    let report = WorkDoneProgressReport { message, ..Default::default() };
                    self.tell_progress(token, WorkDoneProgress::Report(report));
                }
            }
            (None, Some(message)) => {
                let token = self.last_id + 1;
                let create = WorkDoneProgressCreateParams {
                    token: lsp_types::NumberOrString::Number(token),
                };
                self.request::<request::WorkDoneProgressCreate>(create);
                let shown = ShownProgress { token, message: message.clone() };
                self.progress.insert(project.to_owned(), shown);
                let title = project.file_name().unwrap_or_default().to_string_lossy();
                let begin = WorkDoneProgressBegin {
                    title: format!("tests of {title}"),
                    message: Some(message),
                    ..Default::default()
                };
                self.tell_progress(token, WorkDoneProgress::Begin(begin));
            }
            (Some(_), None) => {
                if let Some(ShownProgress { token, .. }) = self.progress.remove(project) {
                    let end = WorkDoneProgressEnd { message: Some(end) };
                    self.tell_progress(token, WorkDoneProgress::End(end));
                }
            }
        }
    }

    fn tell_progress(&self, token: i32, value: WorkDoneProgress) {
        self.notify::<notification::Progress>(ProgressParams {
            token: lsp_types::NumberOrString::Number(token),
            value: ProgressParamsValue::WorkDone(value),
        });
    }
}
