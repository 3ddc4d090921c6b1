//! The session's side: manager, service, socket, log.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Check, KnownState, QueryError, ServiceNeeds};
use crate::process::capture;
use crate::service::state::{Activity, Load, SOCKET_UNIT, ServiceState, UNIT};
use crate::service::{Platform, Service, ServiceError, no_journal};

/// The longest path that fits a Unix socket's address, with its closing NUL.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "macos") { 103 } else { 107 };

pub(super) fn supervisor(service: &Service, error: QueryError<'_>) -> Check {
    let name = "supervisor";
    match error {
        None => Check::ok(
            name,
            match service.platform {
                Platform::Systemd => "the session's systemd answers",
                Platform::Launchd => "launchd answers",
            },
        ),
        Some(ServiceError::NoBus { said, hint, .. }) => Check::fail(name, said, hint),
        Some(ServiceError::NoSupervisor { hint }) => {
            Check::warn(name, hint, "`knhk-test-cache start` runs the daemon without one")
        }
        Some(other) => Check::fail(name, format!("failed to {other}"), "see what it says"),
    }
}

/// Whether the service outlives the last logout. A matter of taste at a desk; one that surprises
/// who comes by ssh.
pub(super) fn lingering(service: &Service) -> Option<Check> {
    if service.platform != Platform::Systemd {
        return None;
    }
    let environment = &service.context.environment;
    let user = environment.get("USER").or(environment.get("LOGNAME"))?.to_str()?;
    let name = "lingering";
    let linger = Path::new("/var/lib/systemd/linger").join(user);
    Some(if linger.exists() {
        Check::ok(name, "the service goes on after you log out")
    } else if environment.get("SSH_CONNECTION").is_some() {
        Check::warn(
            name,
            "the service ends when you log out of this ssh session",
            "`loginctl enable-linger` lets it go on",
        )
    } else {
        Check::ok(name, "the service ends with your last session, and starts with the next")
    })
}

pub(super) fn installed(state: &ServiceState, needs: &ServiceNeeds) -> Check {
    let name = "installed";
    let own = env!("CARGO_PKG_VERSION");
    match &state.load {
        Load::NotInstalled => {
            return Check::fail(name, "it is not installed", "`knhk-test-cache install`");
        }
        Load::Masked => {
            return Check::fail(
                name,
                "its unit is masked",
                format!("`systemctl --user unmask {UNIT}`"),
            );
        }
        Load::Broken(how) => {
            return Check::fail(
                name,
                format!("its unit cannot be read ({how})"),
                "`knhk-test-cache install --force` writes it anew",
            );
        }
        Load::Loaded => {}
    }
    let written = state.written.clone().unwrap_or_default();
    if let Some(exe) = written.exe.as_ref().filter(|exe| exe.is_absolute() && !exe.exists()) {
        return Check::fail(
            name,
            format!("the program has moved: `{}` is not there", exe.display()),
            "`knhk-test-cache install` from where it is now",
        );
    }
    if written.edited {
        return Check::warn(
            name,
            "its unit was changed by hand, so upgrades do not touch it",
            "put the change into a drop-in (`systemctl --user edit knhk-test-cache`), then \
             `knhk-test-cache install --force`",
        );
    }
    if written.version.as_deref() != Some(own) {
        return Check::warn(
            name,
            format!("by version {}, while this is {own}", written.version.unwrap_or_default()),
            "`knhk-test-cache install` again",
        );
    }
    if !state.enabled {
        return Check::warn(
            name,
            "it does not start with the session",
            format!("`systemctl --user enable {UNIT}`"),
        );
    }
    if state.outdated {
        return Check::warn(
            name,
            "the unit has changed since systemd read it",
            "`systemctl --user daemon-reload`, then `knhk-test-cache restart`",
        );
    }
    let runs = written.exe.filter(|exe| exe.canonicalize().ok() == needs.exe.canonicalize().ok());
    match runs {
        Some(exe) => Check::ok(name, format!("version {own}, `{}`", exe.display())),
        None => Check::ok(name, format!("version {own}")),
    }
}

/// Other programs of our name: the one that a shell finds should be the one that the service runs.
pub(super) fn copies(
    service: &Service,
    state: &ServiceState,
    needs: &ServiceNeeds,
) -> Option<Check> {
    let mut found: Vec<PathBuf> = service
        .context
        .environment
        .path_folders(Path::new("/"))
        .map(|folder| folder.join("knhk-test-cache"))
        .chain([needs.exe.clone()])
        .chain(state.written.as_ref().and_then(|written| written.exe.clone()))
        .filter_map(|path| path.canonicalize().ok().filter(|path| path.is_file()))
        .collect();
    found.sort();
    found.dedup();
    if found.len() < 2 {
        return None;
    }
    let list: Vec<String> = found.iter().map(|path| format!("`{}`", path.display())).collect();
    Some(Check::warn(
        "copies",
        format!("{} copies of the program are there: {}", found.len(), list.join(", ")),
        "keep one, and run its `install`",
    ))
}

pub(super) fn running(state: &ServiceState) -> Check {
    let name = "running";
    match state.activity {
        Activity::Running | Activity::Reloading => {
            let mut what = state.pid.map_or_else(String::new, |pid| format!("process {pid}"));
            if !state.status.is_empty() {
                what.push_str(": ");
                what.push_str(&state.status);
            }
            match state.restarts {
                Some(restarts) if restarts > 0 => Check::warn(
                    name,
                    format!("{what}; started again {restarts} times after it ended by itself"),
                    "`knhk-test-cache logs` says why",
                ),
                _ => Check::ok(name, what),
            }
        }
        Activity::Starting | Activity::Stopping => {
            Check::warn(name, format!("on its way ({})", state.detail), "look again in a moment")
        }
        Activity::Stopped if state.listening => {
            Check::ok(name, "stopped; the next question starts it")
        }
        Activity::Stopped => Check::warn(name, "stopped", "`knhk-test-cache start`"),
        Activity::Failed => Check::fail(
            name,
            format!("it ended badly ({})", state.result),
            "`knhk-test-cache logs` says why; then `knhk-test-cache start`",
        ),
    }
}

pub(super) fn log(service: &Service, state: &ServiceState) -> Option<Check> {
    if service.platform != Platform::Systemd || !state.is_installed() {
        return None;
    }
    let spec = service.context.command("journalctl").args(["--user-unit", UNIT, "--lines", "1"]);
    let output = capture(&spec.arg("--no-pager"), Duration::from_secs(10)).ok()?;
    Some(if no_journal(&String::from_utf8_lossy(&output.stderr)) {
        Check::warn(
            "log",
            "the journal's files are not readable to you",
            "`sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald`, or \
             become a member of the group `systemd-journal`",
        )
    } else {
        Check::ok("log", "in the journal")
    })
}

/// The control socket, without connecting where that would start the service.
pub(super) fn socket(service: &Service, state: KnownState<'_>) -> Check {
    let name = "socket";
    let path = service.context.paths.socket();
    let shown = path.display();
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Check::fail(
            name,
            format!("`{shown}` is too long for a socket's address ({MAX_SOCKET_PATH} bytes)"),
            "set XDG_RUNTIME_DIR to a shorter path",
        );
    }
    let held = state.is_some_and(|state| state.listening || state.is_running());
    let Ok(file) = path.symlink_metadata() else {
        return if held {
            Check::fail(
                name,
                format!("`{shown}` is gone, though the service holds it"),
                format!("`systemctl --user restart {SOCKET_UNIT}`, or `knhk-test-cache restart`"),
            )
        } else {
            Check::ok(name, format!("`{shown}` is not there, as nothing runs"))
        };
    };
    let own = file.uid() == rustix::process::getuid().as_raw();
    let folder = service.context.paths.runtime_dir.metadata();
    let open = folder.is_ok_and(|folder| folder.permissions().mode() & 0o077 != 0);
    if !file.file_type().is_socket() || !own {
        Check::fail(
            name,
            format!("`{shown}` is not a socket of yours"),
            "remove it, then `knhk-test-cache restart`",
        )
    } else if open {
        Check::fail(
            name,
            format!("others may enter `{}`", service.context.paths.runtime_dir.display()),
            format!("`chmod 700 {}`", service.context.paths.runtime_dir.display()),
        )
    } else if is_bound(&path) == Some(false) {
        Check::warn(
            name,
            format!("`{shown}` is stale: nobody listens"),
            "the next start replaces it; `knhk-test-cache start`",
        )
    } else {
        Check::ok(name, format!("`{shown}`"))
    }
}

/// Whether someone listens, by the kernel's own list; `None` where there is none. The list has other
/// names where a link leads to the socket, and not those of another network namespace: where it
/// names nobody, the socket is asked.
fn is_bound(path: &Path) -> Option<bool> {
    let list = std::fs::read_to_string("/proc/net/unix").ok()?;
    // A daemon binds under another name and renames, so that nobody meets a socket that is not
    // listened at; the kernel's list keeps that name.
    let is_listed = listens(&list, path) || listens(&list, &path.with_extension("new"));
    Some(is_listed || UnixStream::connect(path).is_ok())
}

fn listens(list: &str, path: &Path) -> bool {
    list.lines().skip(1).any(|line| {
        // Num RefCount Protocol Flags Type St Inode Path; the flag is "accepts connections".
        let mut fields = line.splitn(8, |c: char| c.is_ascii_whitespace());
        let flags = fields.nth(3).unwrap_or_default();
        let bound = fields.nth(3).unwrap_or_default().trim_start();
        flags == "00010000" && Path::new(bound) == path
    })
}

#[cfg(test)]
mod tests {
    use super::super::CheckStatus;
    use super::*;
    use crate::service::unit::WrittenUnit;

    fn installed_as(written: WrittenUnit) -> Check {
        let state = ServiceState {
            load: Load::Loaded,
            enabled: true,
            written: Some(written),
            ..ServiceState::default()
        };
        installed(&state, &ServiceNeeds::default())
    }

    #[test]
    fn each_fault_of_an_installation_has_its_own_remedy() {
        let version = Some(env!("CARGO_PKG_VERSION").to_owned());
        let good = WrittenUnit { version, exe: Some("/bin/sh".into()), ..WrittenUnit::default() };
        assert_eq!(installed_as(good.clone()).status, CheckStatus::Ok);
        let moved = installed_as(WrittenUnit { exe: Some("/no/where".into()), ..good.clone() });
        assert_eq!(moved.status, CheckStatus::Fail);
        assert!(moved.what.contains("/no/where"));
        let edited = installed_as(WrittenUnit { edited: true, ..good.clone() });
        assert!(edited.remedy.unwrap().contains("drop-in"));
        let old = installed_as(WrittenUnit { version: Some("0.0.1".into()), ..good });
        assert!(old.what.contains("0.0.1"));
        let none = installed(&ServiceState::default(), &ServiceNeeds::default());
        assert!(none.remedy.unwrap().contains("install"));
    }

    #[test]
    fn running_or_not_is_said() {
        let of = |activity, listening, restarts| {
            let state = ServiceState {
                activity,
                listening,
                restarts: Some(restarts),
                pid: Some(3),
                ..ServiceState::default()
            };
            running(&state).status
        };
        assert_eq!(of(Activity::Running, true, 0), CheckStatus::Ok);
        assert_eq!(of(Activity::Running, true, 2), CheckStatus::Warn);
        assert_eq!(of(Activity::Stopped, true, 0), CheckStatus::Ok);
        assert_eq!(of(Activity::Stopped, false, 0), CheckStatus::Warn);
        assert_eq!(of(Activity::Failed, true, 0), CheckStatus::Fail);
    }

    #[test]
    fn the_kernels_list_tells_who_listens() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                    0000000000000000: 00000002 00000000 00010000 0001 01 11846 /run/a b\n\
                    0000000000000000: 00000003 00000000 00000000 0001 03 11847 /run/c\n";
        assert!(listens(list, Path::new("/run/a b")));
        assert!(!listens(list, Path::new("/run/c")));
        assert!(!listens(list, Path::new("/run/d")));
    }

    #[test]
    fn a_real_listener_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let bound = path.with_extension("new");
        let listener = std::os::unix::net::UnixListener::bind(&bound).unwrap();
        std::fs::rename(&bound, &path).unwrap();
        assert_ne!(is_bound(&path), Some(false));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert_ne!(is_bound(&link.join("s")), Some(false), "the list has another name");
        drop(listener);
        // A child that another test of this process starts holds the socket until it executes.
        let limit = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while is_bound(&path) == Some(true) && std::time::Instant::now() < limit {
            std::thread::yield_now();
        }
        assert_ne!(is_bound(&path), Some(true));
    }
}
