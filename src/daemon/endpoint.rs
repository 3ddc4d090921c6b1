//! The daemon's lock and socket.
//!
//! The held lock means that a daemon is alive: the system releases it when its holder dies. Only the
//! holder touches the socket file, so it simply replaces a stale one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::paths::{Paths, create_private_folder};
use crate::protocol::VERSION;

/// A claimed endpoint; given up when dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
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
        /// Its process and version, as it wrote them.
        holder: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The runtime folder is open to other users, or belongs to one.
    #[error("{} must belong to you alone (mode 0700): {problem}", dir.display())]
    Unsafe {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The socket's path does not fit into the system's address.
    #[error(
        "socket path is too long for this system: {} ({} bytes, {limit} fit); set XDG_RUNTIME_DIR to a shorter folder",
        path.display(), path.as_os_str().len(), limit = LONGEST_SOCKET_PATH
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

/// The longest path of a socket in bytes, without its final NUL.
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

impl Endpoint {
    /// Claims the user's endpoint. `inherited` is the socket that a supervisor has already bound
    /// (socket activation); it is used as it is.
    ///
    /// # Errors
    /// If another daemon is alive, or the runtime folder cannot be used.
    pub(crate) fn claim(
        paths: &Paths,
        inherited: Option<UnixListener>,
    ) -> Result<Self, EndpointError> {
        let socket = paths.socket();
        if socket.as_os_str().len() > LONGEST_SOCKET_PATH {
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

    /// Whether the last daemon has ended, by what it wrote into its lock; false if that is unknown.
    /// To connect would start a stopped service, and to try the lock would disturb one that starts.
    #[must_use]
    pub(crate) fn is_given_up(paths: &Paths) -> bool {
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
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(socket) = &self.own_socket {
            // Still under the lock: no other daemon can have bound it anew.
            let _ = fs::remove_file(socket);
        }
    }
}

/// Makes the folder, or refuses one that other users could have prepared.
fn private_dir(dir: &Path) -> Result<(), EndpointError> {
    let io = |source| EndpointError::Io { path: dir.to_owned(), source };
    create_private_folder(dir).map_err(io)?;
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

/// Binds under another name and renames: no client ever finds a socket without a listener.
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
    fn a_second_daemon_is_told_the_holder() {
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
    fn an_ended_daemon_is_noticed_without_a_connection() {
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
    fn a_folder_open_to_other_users_is_refused() {
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
