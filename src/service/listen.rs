//! The control socket that systemd hands over.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{AddressFamily, SocketType, sockopt};

/// Why a socket that was handed over cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    /// The variables that announce it make no sense.
    #[error("read LISTEN_FDS: {0}")]
    Announcement(io::Error),
    /// More than one was handed over.
    #[error("take {0} sockets: the unit `knhk-test-cache.socket` has one; see its drop-ins")]
    Several(usize),
    /// It is not what a control socket is.
    #[error("use descriptor 3 as the control socket: it is not a listening Unix stream socket")]
    NotAListener,
    /// The system refused to look at it or to set it up.
    #[error("set up the control socket: {0}")]
    Setup(#[from] io::Error),
}

/// Whether the descriptors were taken: they are ours only once.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The listener that systemd handed to this very process, once; `None` where there is none, or it
/// was taken. Not inherited by children, and nonblocking, as tokio wants it.
///
/// Call this before anything else opens or adopts descriptors.
///
/// # Errors
/// If something was handed over that is not the control socket.
pub(crate) fn activated_listener() -> Result<Option<UnixListener>, ActivationError> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(None);
    }
    // Checks LISTEN_PID and sets close-on-exec.
    let descriptors: Vec<RawFd> =
        sd_notify::listen_fds().map_err(ActivationError::Announcement)?.collect();
    match descriptors[..] {
        [] => Ok(None),
        [descriptor] => {
            #[expect(unsafe_code, reason = "a number is all that the manager says of a descriptor")]
            // SAFETY: the manager opened this descriptor for this process (LISTEN_PID is ours), it
            // is open (setting its flags worked), and TAKEN makes us its only owner.
            let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
            Ok(Some(adopt(owned)?))
        }
        _ => Err(ActivationError::Several(descriptors.len())),
    }
}

/// Makes a listener of a descriptor that is one.
fn adopt(descriptor: OwnedFd) -> Result<UnixListener, ActivationError> {
    let unix = rustix::net::getsockname(&descriptor)
        .is_ok_and(|address| address.address_family() == AddressFamily::UNIX);
    let stream = sockopt::socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::STREAM);
    let listening = listens(&descriptor);
    if !(unix && stream && listening) {
        return Err(ActivationError::NotAListener);
    }
    let listener = UnixListener::from(descriptor);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(target_os = "linux")]
fn listens(descriptor: &OwnedFd) -> bool {
    sockopt::socket_acceptconn(descriptor).unwrap_or(false)
}

/// Not told elsewhere, where no systemd hands sockets over.
#[cfg(not(target_os = "linux"))]
fn listens(_: &OwnedFd) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::path::Path;
    use std::time::Duration;

    use super::super::tests::{CHILD, child_environment};
    use super::*;
    use crate::process::{Spec, capture};

    #[test]
    fn only_a_listening_unix_socket_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = adopt(UnixListener::bind(&path).unwrap().into()).unwrap();
        let error = listener.accept().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "nonblocking");
        let refused =
            |descriptor: OwnedFd| matches!(adopt(descriptor), Err(ActivationError::NotAListener));
        assert!(refused(UnixStream::connect(&path).unwrap().into()));
        assert!(refused(UnixDatagram::unbound().unwrap().into()));
        assert!(refused(TcpListener::bind("127.0.0.1:0").unwrap().into()));
        assert!(refused(std::fs::File::open("/dev/null").unwrap().into()));
    }

    #[test]
    fn the_socket_is_taken_once_and_closed_to_children() {
        if std::env::var_os(CHILD).is_some() {
            let listener = activated_listener().unwrap().expect("handed over");
            let flags = rustix::io::fcntl_getfd(&listener).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            assert!(listener.local_addr().unwrap().as_pathname().is_some());
            assert!(activated_listener().unwrap().is_none(), "only once");
            return;
        }
        assert!(activated_listener().unwrap().is_none(), "nothing was handed over here");
        let environment = child_environment(&[]);
        let activate = Path::new("systemd-socket-activate");
        if environment.find_program(activate, Path::new("/")).is_none() {
            eprintln!("skipped: no systemd-socket-activate here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let test = "service::listen::tests::the_socket_is_taken_once_and_closed_to_children";
        let spec = Spec::new(activate, "/", environment)
            .arg("--listen")
            .arg(&socket)
            .arg(format!("--setenv={CHILD}=1"))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"]);
        // It starts the program at the first connection.
        let client = std::thread::spawn(move || {
            while UnixStream::connect(&socket).is_err() {
                std::thread::yield_now();
            }
        });
        let output = capture(&spec, Duration::from_secs(60)).unwrap();
        client.join().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.success() && text.contains("1 passed"), "{text}");
    }
}
