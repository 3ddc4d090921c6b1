//! The process at the other end of a connection.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use tokio::net::UnixStream;

/// What must be the same for a path to name the same file, and a user the same rights.
const NAMESPACES: [&str; 3] = ["ns/mnt", "ns/user", "root"];

/// Why the peer may ask nothing of this daemon, if it may not: it is another user's.
///
/// # Errors
/// If the system does not say who it is.
pub(super) fn stranger(stream: &UnixStream) -> io::Result<Option<String>> {
    let user = stream.peer_cred()?.uid();
    let own = rustix::process::getuid().as_raw();
    let reason = || format!("this daemon belongs to user {own}, not to user {user}");
    Ok((user != own).then(reason))
}

/// Why a question about files must not be answered to the peer, if it must not. The status may be:
/// it says what this daemon does, wherever the peer lives.
///
/// # Errors
/// If the system does not say who it is.
pub(super) fn outsider(stream: &UnixStream) -> io::Result<Option<String>> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let what = differing_namespace(stream.peer_cred()?.pid());
    Ok(what.map(|what| {
        format!(
            "this command runs in a container or sandbox (another {what}), where paths can name \
             other files than here"
        )
    }))
}

/// What differs between the peer and this process; an unknown one differs. The peer cannot end and
/// leave its number to another process: then nobody reads the reply.
fn differing_namespace(pid: Option<i32>) -> Option<&'static str> {
    let identity = |process: &str, what: &str| {
        let metadata = fs::metadata(format!("/proc/{process}/{what}")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let pid = pid.map(|pid| pid.to_string()).unwrap_or_default();
    let same =
        |what: &str| identity("self", what).is_some_and(|own| identity(&pid, what) == Some(own));
    let found = NAMESPACES.into_iter().find(|what| !same(what))?;
    Some(match found {
        "ns/mnt" => "mount namespace",
        "ns/user" => "user namespace",
        _ => "root folder",
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_no_stranger_and_an_unknown_one_is() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(differing_namespace(Some(own)), None);
        assert_eq!(differing_namespace(None), Some("mount namespace"));
        assert_eq!(differing_namespace(Some(i32::MAX)), Some("mount namespace"));
    }
}
