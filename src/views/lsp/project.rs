//! A project that an editor has open: its state as the stream tells it, and what is proven of the
//! text on the screen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use super::super::feed::{Feed, FeedHandle, Wanted};
use super::input::ServerInput;
use super::open_file::{FileOnDisk, OpenFile};
use super::proof::TextProof;
use crate::client::Connection;
use crate::model::OsText;
use crate::paths::Paths;
use crate::process::Environment;
use crate::protocol::{Call, LiveProject, LiveState, StreamEvent};

/// A project of the editor.
pub(super) struct OpenProject {
    root: PathBuf,
    state: LiveState,
    proof: TextProof,
    /// Tokens of questions to the daemon.
    questions: Sender<u64>,
    feed: FeedHandle,
    is_closed: Arc<AtomicBool>,
}

impl OpenProject {
    /// Begins to follow a project.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn open(
        root: PathBuf,
        paths: &Paths,
        environment: &Environment,
        inputs: &Sender<ServerInput>,
    ) -> std::io::Result<Self> {
        let feed = Feed::new(paths.clone(), environment.clone(), Wanted::Project(root.clone()));
        let handle = feed.handle();
        let is_closed = Arc::<AtomicBool>::default();
        let (closed, tell, project) = (Arc::clone(&is_closed), inputs.clone(), root.clone());
        thread::Builder::new().name("feed".to_owned()).spawn(move || {
            let followed = feed.follow(|event| {
                let event = ServerInput::Event { project: project.clone(), event };
                !closed.load(Ordering::Relaxed) && tell.send(event).is_ok()
            });
            if let Err(error) = followed {
                // The server may have ended.
                let _ = tell.send(ServerInput::FeedEnded { project, reason: error.to_string() });
            }
        })?;
        let (questions, asked) = mpsc::channel();
        let (paths, project, watch) = (paths.clone(), root.clone(), handle.clone());
        thread::Builder::new().name("proof".to_owned()).spawn(move || {
            for token in asked {
                confirm(&watch.socket(&paths), &project, token);
            }
        })?;
        // No two processes have the same tokens.
        let proof = TextProof::new(u64::from(std::process::id()) << 32);
        let state = LiveState::default();
        Ok(Self { root, state, proof, questions, feed: handle, is_closed })
    }

    /// Takes note of an event.
    pub(super) fn apply(&mut self, event: StreamEvent) {
        match &event {
            StreamEvent::Confirmed { project, token } if *project == self.root => {
                self.proof.answered(*token, FileOnDisk::look);
                return;
            }
            StreamEvent::Tree { .. } => self.proof.tree_changed(),
            StreamEvent::Hello { .. } | StreamEvent::Disconnected { .. } => {
                self.proof.connection_lost();
            }
            _ => {}
        }
        self.state.apply(event);
    }

    /// A file was opened or saved.
    pub(super) fn file_changed(&mut self) {
        self.proof.file_changed();
    }

    /// Asks the daemon whether it knows the open files as they are, if that is needed.
    pub(super) fn ask_for_proof<'a>(&mut self, files: impl IntoIterator<Item = &'a OpenFile>) {
        if !self.state.is_synced {
            return;
        }
        if let Some(token) = self.proof.ask(files, FileOnDisk::look) {
            // The thread ends with the project.
            let _ = self.questions.send(token);
        }
    }

    /// What the daemon knows, whatever is on the screen.
    pub(super) fn known(&self) -> Option<&LiveProject> {
        self.state.projects.get(&self.root).filter(|_| self.state.is_synced)
    }

    /// What is known of the very text on the screen.
    pub(super) fn proven<'a>(
        &self,
        files: impl IntoIterator<Item = &'a OpenFile>,
    ) -> Option<&LiveProject> {
        self.known().filter(|_| self.proof.holds(files))
    }

    /// Ends the watch of this process, if there is one.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
        self.feed.end();
    }
}

/// Asks the daemon at `socket` to see all changes up to now. It confirms that in its stream of
/// events; without an answer nothing is proven.
fn confirm(socket: &Path, project: &Path, token: u64) {
    let call = Call::Confirm { project: OsText::from(project), token };
    let asked = Connection::open(socket)
        .map(|connection| connection.map(|mut connection| connection.call(call, |_| {})));
    if let Err(error) = asked {
        tracing::debug!(%error, "the daemon was not asked");
    }
}
