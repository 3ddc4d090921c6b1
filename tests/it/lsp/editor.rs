//! An editor, as far as a language server can tell.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::home::{EXE, Home, LIMIT, until};

/// An editor that runs the server.
pub(super) struct Editor {
    child: Child,
    to: Option<ChildStdin>,
    from: Receiver<Value>,
    last_id: i64,
    /// The diagnostics of each file by its URI.
    pub(super) diagnostics: BTreeMap<String, Vec<Value>>,
    /// How often the server has asked for a refresh of the marks.
    pub(super) refreshes: usize,
    /// The kinds of progress that were told.
    pub(super) progress: Vec<String>,
    /// Messages that were shown.
    pub(super) shown: Vec<String>,
}

impl Editor {
    /// Starts the server, and says nothing to it.
    #[expect(clippy::disallowed_methods, reason = "the conversation needs both of its ends")]
    pub(super) fn silent(home: &Home) -> Self {
        let mut child = std::process::Command::new(EXE)
            .arg("lsp")
            .current_dir(&home.base)
            .env_clear()
            .envs(home.environment.iter())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take();
        let mut from = BufReader::new(child.stdout.take().unwrap());
        let (tell, heard) = channel();
        std::thread::spawn(move || {
            let mut length = 0;
            let mut line = String::new();
            while from.read_line(&mut line).is_ok_and(|count| count > 0) {
                if let Some(number) = line.strip_prefix("Content-Length: ") {
                    length = number.trim().parse().unwrap();
                } else if line == "\r\n" {
                    let mut body = vec![0; length];
                    from.read_exact(&mut body).unwrap();
                    if tell.send(serde_json::from_slice(&body).unwrap()).is_err() {
                        return;
                    }
                }
                line.clear();
            }
        });
        Self {
            child,
            to,
            from: heard,
            last_id: 0,
            diagnostics: BTreeMap::new(),
            refreshes: 0,
            progress: Vec::new(),
            shown: Vec::new(),
        }
    }

    /// Starts the server for the workspace of `home`.
    pub(super) fn new(home: &Home) -> Self {
        let mut editor = Self::silent(home);
        let result = editor.request(
            "initialize",
            json!({
                "processId": null,
                "workspaceFolders": [{"uri": uri(&home.root), "name": "ws"}],
                "capabilities": {
                    "general": {"positionEncodings": ["utf-16", "utf-8"]},
                    "workspace": {"codeLens": {"refreshSupport": true}},
                    "window": {"workDoneProgress": true},
                    "textDocument": {
                        "codeLens": {},
                        "publishDiagnostics": {"relatedInformation": true},
                    },
                },
            }),
        );
        assert_eq!(result.unwrap()["capabilities"]["positionEncoding"], "utf-8");
        editor.notify("initialized", json!({}));
        editor
    }

    /// Writes bytes as they are.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let to = self.to.as_mut().unwrap();
        to.write_all(bytes).and_then(|()| to.flush()).unwrap();
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        self.write(format!("Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes());
    }

    /// Tells the server something.
    pub(super) fn notify(&mut self, method: &str, params: Value) {
        let mut message = json!({"jsonrpc": "2.0", "method": method});
        message["params"] = params;
        self.send(&message);
    }

    /// Asks the server; gives its result or its error.
    pub(super) fn request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut message = json!({"jsonrpc": "2.0", "id": id, "method": method});
        message["params"] = params;
        self.send(&message);
        loop {
            let message = self.from.recv_timeout(LIMIT).expect("no answer");
            if message.get("method").is_none() && message["id"] == id {
                return match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].clone()),
                };
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str().unwrap_or_default() {
            "textDocument/publishDiagnostics" => {
                let uri = params["uri"].as_str().unwrap().to_owned();
                self.diagnostics.insert(uri, params["diagnostics"].as_array().unwrap().clone());
            }
            "workspace/codeLens/refresh" => self.refreshes += 1,
            "$/progress" => {
                self.progress.push(params["value"]["kind"].as_str().unwrap().to_owned());
            }
            "window/showMessage" => {
                self.shown.push(params["message"].as_str().unwrap().to_owned());
            }
            _ => {}
        }
        if message.get("id").is_some() && message.get("method").is_some() {
            self.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": null}));
        }
    }

    /// Shows a file.
    pub(super) fn open(&mut self, path: &Path, text: &str) {
        let document = json!({"uri": uri(path), "languageId": "rust", "version": 1, "text": text});
        self.notify("textDocument/didOpen", json!({ "textDocument": document }));
    }

    /// The user has typed: the file has this text on the screen.
    pub(super) fn types(&mut self, path: &Path, text: &str) {
        self.notify(
            "textDocument/didChange",
            json!({
                "textDocument": {"uri": uri(path), "version": 2},
                "contentChanges": [{"text": text}],
            }),
        );
    }

    /// The file was saved.
    pub(super) fn saved(&mut self, path: &Path) {
        self.notify("textDocument/didSave", json!({"textDocument": {"uri": uri(path)}}));
    }

    /// The marks of a file: the line from 0 with the words, without age.
    pub(super) fn marks(&mut self, path: &Path) -> Vec<(u64, String)> {
        let params = json!({"textDocument": {"uri": uri(path)}});
        let lenses = self.request("textDocument/codeLens", params).unwrap();
        let mark = |lens: &Value| {
            let title = lens["command"]["title"].as_str().unwrap();
            let word = title.split(' ').nth(1).unwrap().to_owned();
            (lens["range"]["start"]["line"].as_u64().unwrap(), word)
        };
        lenses.as_array().unwrap().iter().map(mark).collect()
    }

    /// Waits until a file has these marks.
    #[track_caller]
    pub(super) fn wait_for_marks(&mut self, path: &Path, expected: &[(u64, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(line, word)| (*line, (*word).to_owned())).collect();
        until(&format!("the marks are {expected:?}"), || {
            (self.marks(path) == expected).then_some(())
        });
    }

    /// Ends the conversation as it should be ended.
    pub(super) fn leave(mut self) -> Option<i32> {
        assert_eq!(self.request("shutdown", Value::Null), Ok(Value::Null));
        self.notify("exit", Value::Null);
        self.end()
    }

    /// Closes standard input and waits for the server's end.
    pub(super) fn end(mut self) -> Option<i32> {
        drop(self.to.take());
        let child = &mut self.child;
        let mut status = None;
        until("the server ends", || {
            status = child.try_wait().unwrap();
            status.map(drop)
        });
        status.unwrap().code()
    }
}

impl Drop for Editor {
    fn drop(&mut self) {
        // It has ended already where the test has succeeded.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The URI of a path without odd characters.
pub(super) fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}
