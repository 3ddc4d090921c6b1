//! The place where a daemon is reached: a held lock that means "alive", and the socket.
//!
//! A process number in a file proves nothing; a lock that the system takes back when its holder
//! dies does. The socket file is only ever touched by whoever holds the lock, so a stale one is
//! simply replaced.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::paths::Paths;
use crate::protocol::VERSION;

/// A claimed endpoint; given up when dropped.
#[derive(Debug)]
pub struct Endpoint {
    listener: UnixListener,
    /// The socket file to remove at the end; none for a socket that the supervisor owns.
    own_socket: Option<PathBuf>,
    _lock: File,
}

/// Why the endpoint cannot be claimed.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Another daemon is alive.
    #[error("another daemon is running: {holder} holds {}; `knhk-test-cache status` shows it", lock.display())]
    Held {
        /// What it wrote of itself: process and version.
        holder: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The runtime folder is open to others, or somebody else's.
    #[error("{} must belong to you alone (mode 0700): {problem}", dir.display())]
    Unsafe {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The socket's path does not fit into the system's address.
    #[error(
        "socket path is too long for this system: {} ({} bytes, {limit} fit); set XDG_RUNTIME_DIR to a shorter folder",
        path.display(), path.as_os_str().len(), limit = LONGEST
    )]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// On what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// How many bytes of path fit into a socket address, its final NUL left out.
const LONGEST: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

impl Endpoint {
    /// Claims the user's endpoint. `inherited` is the socket that a supervisor has already bound
    /// (socket activation); it is used as it is.
    ///
    /// # Errors
    /// If another daemon is alive, or the runtime folder cannot be used.
    pub fn claim(paths: &Paths, inherited: Option<UnixListener>) -> Result<Self, EndpointError> {
        let socket = paths.socket();
        if socket.as_os_str().len() > LONGEST {
            return Err(EndpointError::TooLong { path: socket });
        }
        private_dir(&paths.runtime_dir)?;
        let lock = hold(&paths.daemon_lock())?;
        let (listener, own_socket) = match inherited {
            Some(listener) => (listener, None),
            None => (bind(&socket)?, Some(socket.clone())),
        };
        listener
            .set_nonblocking(true)
            .map_err(|source| EndpointError::Io { path: socket, source })?;
        Ok(Self { listener, own_socket, _lock: lock })
    }

    /// Whether the last daemon has ended, by what it wrote into its lock. Told without the socket,
    /// since whoever connects starts a service that is stopped, and without trying the lock,
    /// which would get in the way of one that starts. Where that cannot be told, it has not.
    #[must_use]
    pub fn is_given_up(paths: &Paths) -> bool {
        let holder = fs::read_to_string(paths.daemon_lock()).unwrap_or_default();
        let pid = holder.strip_prefix("process ").and_then(|rest| rest.split(',').next());
        let pid = pid.and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
        pid.is_some_and(|pid| {
            rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
        })
    }

    /// A second handle to the listening socket, for the server.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(socket) = &self.own_socket {
            // Still under the lock: nobody else can have bound it anew.
            let _ = fs::remove_file(socket);
        }
    }
}

/// Makes the folder, or refuses one that others could have prepared.
fn private_dir(dir: &Path) -> Result<(), EndpointError> {
    let io = |source| EndpointError::Io { path: dir.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
    let metadata = fs::metadata(dir).map_err(io)?;
    let own = rustix::process::getuid().as_raw();
    let problem = if metadata.uid() != own {
        format!("it belongs to user {}", metadata.uid())
    } else if metadata.mode() & 0o077 != 0 {
        format!("its mode is {:04o}: run `chmod 700`", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(EndpointError::Unsafe { dir: dir.to_owned(), problem })
}

fn hold(path: &Path) -> Result<File, EndpointError> {
    let io = |source| EndpointError::Io { path: path.to_owned(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = holder.trim();
            let holder = if holder.is_empty() { "a process that is just starting" } else { holder };
            return Err(EndpointError::Held { holder: holder.to_owned(), lock: path.to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    let text = format!("process {}, version {VERSION}\n", std::process::id());
    file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    Ok(file)
}

/// Binds under another name and renames: nobody ever connects to a socket that nobody listens at.
fn bind(socket: &Path) -> Result<UnixListener, EndpointError> {
    let io = |source| EndpointError::Io { path: socket.to_owned(), source };
    let fresh = socket.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(io)?;
    fs::rename(&fresh, socket).map_err(io)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixStream;

    fn paths(dir: &Path) -> Paths {
        Paths {
            home: dir.to_owned(),
            config_file: dir.join("config.toml"),
            cache_dir: dir.join("cache"),
            runtime_dir: dir.join("run"),
        }
    }

    #[test]
    fn the_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let first = Endpoint::claim(&paths, None).unwrap();
        let error = Endpoint::claim(&paths, None).unwrap_err();
        let own = format!("process {}", std::process::id());
        assert!(
            matches!(&error, EndpointError::Held { holder, .. } if holder.contains(&own)),
            "{error}"
        );
        assert!(UnixStream::connect(paths.socket()).is_ok(), "the first one is not disturbed");
        drop(first);
        assert!(!paths.socket().exists());
        Endpoint::claim(&paths, None).unwrap();
    }

    #[test]
    fn one_that_has_ended_is_told_without_a_connection() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        assert!(!Endpoint::is_given_up(&paths), "nothing is known");
        let claimed = Endpoint::claim(&paths, None).unwrap();
        assert!(!Endpoint::is_given_up(&paths));
        drop(claimed);
        // Beyond what any system gives to a process.
        fs::write(paths.daemon_lock(), "process 2147483647, version 0.1.0\n").unwrap();
        assert!(Endpoint::is_given_up(&paths));
    }

    #[test]
    fn a_stale_socket_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        private_dir(&paths.runtime_dir).unwrap();
        drop(UnixListener::bind(paths.socket()).unwrap());
        assert!(UnixStream::connect(paths.socket()).is_err());
        let _endpoint = Endpoint::claim(&paths, None).unwrap();
        assert!(UnixStream::connect(paths.socket()).is_ok());
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        fs::create_dir(&paths.runtime_dir).unwrap();
        fs::set_permissions(&paths.runtime_dir, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Endpoint::claim(&paths, None).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = paths(dir.path());
        paths.runtime_dir = dir.path().join("x".repeat(120));
        let error = Endpoint::claim(&paths, None).unwrap_err();
        assert!(error.to_string().contains("XDG_RUNTIME_DIR"), "{error}");
    }

    #[test]
    fn an_inherited_socket_stays_when_the_daemon_goes() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        private_dir(&paths.runtime_dir).unwrap();
        let inherited = UnixListener::bind(paths.socket()).unwrap();
        drop(Endpoint::claim(&paths, Some(inherited)).unwrap());
        assert!(paths.socket().exists(), "it belongs to the supervisor");
    }
}
