//! The client's side of the control socket: plain blocking calls, no runtime, so that a question
//! that the daemon can answer costs a process start and one round trip.
//!
//! Nothing here starts a daemon or waits for a silent one: every command can work without it. A
//! client sends its environment and believes the answer, so it sends nothing before it knows that
//! the daemon is the user's own.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::OsText;
use crate::protocol::{
    Call, EVENTLESS_HEARTBEAT, FrameError, HEARTBEAT, LineBuffer, Reply, Request, StreamEvent,
    VERSION, encode,
};

/// How long a daemon may say nothing: several heartbeats, or the start of the service by this very
/// question.
const LONGEST_DAEMON_SILENCE: Duration = HEARTBEAT.saturating_mul(if cfg!(test) { 3 } else { 12 });

/// How long a daemon that tells events may say nothing.
const LONGEST_EVENTLESS_SILENCE: Duration = EVENTLESS_HEARTBEAT.saturating_mul(3);

/// An open connection to a daemon.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    buffer: LineBuffer,
    socket: PathBuf,
    /// A reply is still outstanding, or may be: what comes next could be the answer to an older
    /// request, and must not be taken for that of a newer one.
    out_of_step: bool,
}

/// Why a daemon gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket's path does not fit into the system's address.
    #[error(
        "socket path is too long for this system: {} ({} bytes); set XDG_RUNTIME_DIR to a shorter folder",
        .0.display(), .0.as_os_str().len()
    )]
    PathTooLong(PathBuf),
    /// Another user may be listening there.
    #[error("not asking the daemon at {}: {problem}", socket.display())]
    Untrusted {
        /// The socket.
        socket: PathBuf,
        /// Why it is not trusted.
        problem: String,
    },
    /// A daemon listens, but cannot be reached.
    #[error("cannot reach the daemon at {}: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It said nothing for too long.
    #[error("the daemon at {} has said nothing for {} s", socket.display(), LONGEST_DAEMON_SILENCE.as_secs())]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
    /// It closed the connection in the middle.
    #[error("the daemon at {} closed the connection", socket.display())]
    Closed {
        /// The socket.
        socket: PathBuf,
    },
    /// It says things that mean nothing here.
    #[error("the daemon at {} does not make sense: {source}", socket.display())]
    Nonsense {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        source: FrameError,
    },
    /// It is of another version, or must not answer this process.
    #[error("the daemon (version {version}) does not answer this command (version {own}): {reason}", own = VERSION)]
    Refused {
        /// The daemon's version.
        version: String,
        /// What it said.
        reason: String,
    },
    /// It could not do what was asked.
    #[error("{0}")]
    Failed(String),
}

impl Connection {
    /// Connects to the daemon at `socket`; `None` if there is none.
    ///
    /// # Errors
    /// If there is one that cannot be reached or trusted, or the path cannot be a socket's.
    pub fn open(socket: &Path) -> Result<Option<Self>, ClientError> {
        if SocketAddr::from_pathname(socket).is_err() {
            return Err(ClientError::PathTooLong(socket.to_owned()));
        }
        let own = rustix::process::getuid().as_raw();
        let untrusted = |problem| ClientError::Untrusted { socket: socket.to_owned(), problem };
        if let Some(problem) = socket.parent().and_then(|folder| folder_problem(folder, own)) {
            return Err(untrusted(problem));
        }
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                    _ => Err(ClientError::Unreachable { socket: socket.to_owned(), source: error }),
                };
            }
        };
        if let Some(problem) = peer_problem(&stream, own) {
            return Err(untrusted(problem));
        }
        let this = Self {
            stream,
            buffer: LineBuffer::default(),
            socket: socket.to_owned(),
            out_of_step: false,
        };
        let limits = this
            .stream
            .set_read_timeout(Some(LONGEST_DAEMON_SILENCE))
            .and_then(|()| this.stream.set_write_timeout(Some(LONGEST_DAEMON_SILENCE)));
        limits.map_err(|source| this.io_error(source))?;
        Ok(Some(this))
    }

    /// Asks, and hands every sign of life to `working` until the reply is there. After a request
    /// without a reply of its own, nothing can be asked on this connection any more.
    ///
    /// # Errors
    /// If the daemon is gone, silent, of another version, or could not do it.
    pub fn call(&mut self, call: Call, working: impl FnMut(&str)) -> Result<Reply, ClientError> {
        if std::mem::replace(&mut self.out_of_step, true) {
            return Err(ClientError::Closed { socket: self.socket.clone() });
        }
        let reply = self.exchange(call, working)?;
        self.out_of_step = false;
        Self::settle(reply)
    }

    /// Has this connection told of a project, or of all; none if the daemon does not watch the
    /// project.
    ///
    /// # Errors
    /// If the daemon is gone, silent, or of another version.
    pub(crate) fn subscribe(
        mut self,
        project: Option<&Path>,
    ) -> Result<Option<EventStream>, ClientError> {
        let call = Call::Subscribe { project: project.map(OsText::from) };
        if self.call(call, |_| {})? != Reply::Subscribed {
            return Ok(None);
        }
        let limit = Some(LONGEST_EVENTLESS_SILENCE);
        self.stream.set_read_timeout(limit).map_err(|source| self.io_error(source))?;
        Ok(Some(EventStream(self)))
    }

    /// The process that made the socket; none where the system does not tell.
    #[must_use]
    pub(crate) fn peer(&self) -> Option<rustix::process::Pid> {
        #[cfg(target_os = "linux")]
        return rustix::net::sockopt::socket_peercred(&self.stream).ok().map(|peer| peer.pid);
        #[cfg(not(target_os = "linux"))]
        None
    }

    fn exchange(
        &mut self,
        call: Call,
        mut working: impl FnMut(&str),
    ) -> Result<Reply, ClientError> {
        let bytes = encode(&Request::new(call)).map_err(|source| self.nonsense(source))?;
        if let Err(error) = self.stream.write_all(&bytes) {
            // A daemon that refuses says so and closes, perhaps before it has read everything:
            // its words are worth more than our broken pipe.
            return match self.reply() {
                Ok(reply @ Reply::Refused { .. }) => Ok(reply),
                _ => Err(self.io_error(error)),
            };
        }
        loop {
            match self.reply()? {
                Reply::Working { what } => working(&what),
                reply => return Ok(reply),
            }
        }
    }

    fn settle(reply: Reply) -> Result<Reply, ClientError> {
        match reply {
            Reply::Refused { version, reason } => Err(ClientError::Refused { version, reason }),
            Reply::Error { message } => Err(ClientError::Failed(message)),
            reply => Ok(reply),
        }
    }

    fn reply(&mut self) -> Result<Reply, ClientError> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(line) = self.buffer.next_line() {
                return serde_json::from_slice(&line).map_err(|error| self.nonsense(error.into()));
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ClientError::Closed { socket: self.socket.clone() }),
                Ok(count) => {
                    self.buffer.push(&chunk[..count]).map_err(|error| self.nonsense(error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.io_error(error)),
            }
        }
    }

    fn nonsense(&self, source: FrameError) -> ClientError {
        ClientError::Nonsense { socket: self.socket.clone(), source }
    }

    fn io_error(&self, source: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent { socket },
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                ClientError::Closed { socket }
            }
            _ => ClientError::Unreachable { socket, source },
        }
    }
}

/// The events of a daemon.
#[derive(Debug)]
pub(crate) struct EventStream(Connection);

impl EventStream {
    /// Waits for the next event.
    ///
    /// # Errors
    /// If the daemon has gone, says nothing, or has dropped this client.
    pub(crate) fn next(&mut self) -> Result<StreamEvent, ClientError> {
        loop {
            match Connection::settle(self.0.reply()?)? {
                Reply::Event { event } => return Ok(event),
                Reply::Working { .. } => {}
                _ => return Err(ClientError::Closed { socket: self.0.socket.clone() }),
            }
        }
    }
}

/// Why others could have put a socket into the folder, if they could. One that is not there holds
/// none.
fn folder_problem(folder: &Path, own: u32) -> Option<String> {
    let metadata = fs::metadata(folder).ok()?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != own {
        return Some(format!("{} belongs to user {owner}", folder.display()));
    }
    (mode & 0o022 != 0).then(|| {
        let folder = folder.display();
        format!("others can write into {folder} (mode {mode:04o}); run `chmod 700 {folder}`")
    })
}

/// Why the listening process is not the user's own, if it is not.
#[cfg(target_os = "linux")]
fn peer_problem(stream: &UnixStream, own: u32) -> Option<String> {
    match rustix::net::sockopt::socket_peercred(stream) {
        Ok(peer) if peer.uid.as_raw() == own => None,
        Ok(peer) => Some(format!("it belongs to user {}", peer.uid.as_raw())),
        Err(error) => Some(format!("its user is not known: {error}")),
    }
}

/// Elsewhere the folder alone is the proof.
#[cfg(not(target_os = "linux"))]
fn peer_problem(_: &UnixStream, _: u32) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A daemon that says `words` to the first request and closes.
    fn says(words: &'static [u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(words);
        });
        (dir, socket)
    }

    fn ask(socket: &Path) -> Result<Reply, ClientError> {
        Connection::open(socket).unwrap().unwrap().call(Call::Status, |_| {})
    }

    #[test]
    fn no_daemon_is_not_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Connection::open(&dir.path().join("none")).unwrap().is_none());
        let stale = dir.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        assert!(Connection::open(&stale).unwrap().is_none(), "nobody listens at the old socket");
    }

    #[test]
    fn a_folder_that_others_can_write_into_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt as _;
        let (dir, socket) = says(b"{\"type\":\"done\"}\n");
        for (mode, trusted) in [(0o777, false), (0o720, false), (0o1777, false), (0o755, true)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            match Connection::open(&socket) {
                Ok(opened) => assert!(trusted && opened.is_some(), "{mode:o}"),
                Err(error) => {
                    assert!(!trusted, "{mode:o}: {error}");
                    assert!(matches!(error, ClientError::Untrusted { .. }), "{error}");
                    assert!(error.to_string().contains("chmod 700"), "{error}");
                }
            }
        }
    }

    #[test]
    fn another_users_folder_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let own = rustix::process::getuid().as_raw();
        assert_eq!(folder_problem(dir.path(), own), None);
        let problem = folder_problem(dir.path(), own + 1).unwrap();
        assert!(problem.contains(&format!("belongs to user {own}")), "{problem}");
        assert_eq!(folder_problem(&dir.path().join("none"), own), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_users_daemon_is_not_trusted() {
        let (_dir, socket) = says(b"");
        let stream = UnixStream::connect(&socket).unwrap();
        let own = rustix::process::getuid().as_raw();
        assert_eq!(peer_problem(&stream, own), None);
        assert_eq!(peer_problem(&stream, own + 1), Some(format!("it belongs to user {own}")));
    }

    #[test]
    fn a_path_that_fits_no_address_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(200));
        let error = Connection::open(&long).unwrap_err().to_string();
        assert!(error.contains("XDG_RUNTIME_DIR"), "{error}");
    }

    #[test]
    fn half_a_reply_garbage_and_silence_are_told_apart() {
        let (_dir, socket) = says(b"{\"type\":\"do");
        assert!(matches!(ask(&socket), Err(ClientError::Closed { .. })));
        let (_dir, socket) = says(b"hello\n");
        assert!(matches!(ask(&socket), Err(ClientError::Nonsense { .. })));
        let (_dir, socket) = says(b"{\"type\":\"working\",\"what\":\"x\"}\n{\"type\":\"done\"}\n");
        assert_eq!(ask(&socket).unwrap(), Reply::Done);
    }

    #[test]
    fn a_late_reply_is_never_taken_for_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (gave_up, when) = std::sync::mpsc::channel::<()>();
        let (said, heard) = std::sync::mpsc::channel::<()>();
        let daemon = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            // It was stopped for longer than anybody waits, and then goes on.
            when.recv().unwrap();
            let _ = stream.write_all(b"{\"type\":\"done\"}\n");
            said.send(()).unwrap();
            let _ = stream.read(&mut [0; 1024]);
        });
        let mut connection = Connection::open(&socket).unwrap().unwrap();
        let silent = connection.call(Call::Status, |_| {});
        assert!(matches!(silent, Err(ClientError::Silent { .. })), "{silent:?}");
        gave_up.send(()).unwrap();
        heard.recv().unwrap();
        let next = connection.call(Call::Status, |_| {});
        assert!(matches!(next, Err(ClientError::Closed { .. })), "{next:?}");
        drop(connection);
        daemon.join().unwrap();
    }

    #[test]
    fn another_version_is_a_refusal_not_an_answer() {
        let (_dir, socket) =
            says(b"{\"type\":\"refused\",\"version\":\"9.9.9\",\"reason\":\"protocol 2\"}\n");
        let error = ask(&socket).unwrap_err();
        assert!(matches!(error, ClientError::Refused { .. }));
        assert!(error.to_string().contains("9.9.9"), "{error}");
    }
}
