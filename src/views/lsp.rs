//! `lsp`: the state of each test beside its source, in every editor that knows the language server
//! protocol. It runs beside rust-analyzer and changes nothing of it.
//!
//! A mark is shown only for the very text on the screen: [`TextProof`](proof::TextProof) says when
//! that is the text of the tree that a verdict holds for. In doubt there is none.

mod client;
mod commands;
mod failures;
mod input;
mod marks;
mod open_file;
mod project;
mod proof;
mod screen;
mod server;
mod text;

use std::sync::mpsc;
use std::thread;

use lsp_server::Connection;

use self::input::ServerInput;
use self::server::{Serving, Setup};
use crate::paths::Paths;
use crate::process::Environment;

/// Serves the editor at standard input and output until it says that it is done. Whether it has
/// said so as the protocol wants it.
///
/// # Errors
/// If the system gives no thread.
pub(crate) fn serve(paths: Paths, environment: Environment) -> std::io::Result<bool> {
    let (Connection { sender, receiver }, _) = Connection::stdio();
    let (inputs, events) = mpsc::channel();
    let from_client = inputs.clone();
    thread::Builder::new().name("editor".to_owned()).spawn(move || {
        for message in receiver {
            if from_client.send(ServerInput::Client(message)).is_err() {
                return;
            }
        }
        // The server may have ended.
        let _ = from_client.send(ServerInput::ClientGone);
    })?;
    // An editor that is gone is noticed at standard input.
    let send = move |message| drop(sender.send(message));
    Ok(Serving::new(Setup { paths, environment, inputs }, send).run(&events))
}
