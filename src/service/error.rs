//! Why the service could not be installed, driven or asked, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::escape::Unwritable;
use super::state::UNIT;
use crate::process::SpawnError;

/// An operation on the service that did not come about. Nothing is half done: what an `install`
/// had written is put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// No systemd (or launchd) runs here.
    #[error(
        "reach a service manager: {hint}; without one, `knhk-test-cache start` runs the daemon \
         detached, and `knhk-test-cache test` needs no daemon"
    )]
    NoSupervisor {
        /// What is known of this machine.
        hint: String,
    },
    /// systemd runs, but the user's own manager cannot be reached.
    #[error("reach your session's service manager ({said}): {hint}")]
    NoBus {
        /// What `systemctl` said.
        said: String,
        /// What to do.
        hint: String,
        /// It runs all the same, and only this shell does not find it.
        runs: bool,
    },
    /// The unit is masked.
    #[error("use {unit}, which is masked: `systemctl --user unmask {unit}` first")]
    Masked {
        /// The unit.
        unit: String,
    },
    /// A folder or file cannot be written.
    #[error("write `{}`: {source}; make it writable, or set XDG_CONFIG_HOME to a folder that is", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that was to go is still there.
    #[error("remove `{}`: {source}", path.display())]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The program that is to become the service is not there.
    #[error("find an executable program at `{}`: run `install` from where the program lies", exe.display())]
    NoProgram {
        /// The path that was asked for.
        exe: PathBuf,
    },
    /// The program that the service runs is no longer where it was at install.
    #[error(
        "find `{}`, which the service is to run: it has moved since it was installed; run \
         `knhk-test-cache install` from where it is now", exe.display()
    )]
    Moved {
        /// Where it was.
        exe: PathBuf,
    },
    /// Another copy of the program, with other content, is the service.
    #[error(
        "replace the service, which runs another copy: `{}` (version {version}), while this is \
         `{}`; run that one's `install` or `uninstall`, or `install --force` to switch to this one",
        installed.display(), exe.display()
    )]
    OtherCopy {
        /// The program that the service runs.
        installed: PathBuf,
        /// The version that wrote its unit, or what is known of it.
        version: String,
        /// The program that was to be installed.
        exe: PathBuf,
    },
    /// The service is not installed.
    #[error("find the service: it is not installed; run `knhk-test-cache install`")]
    NotInstalled,
    /// A path cannot stand in a unit.
    #[error("write `{}` into a unit: {why}; move it to a path without that", path.display())]
    Unwritable {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: Unwritable,
    },
    /// Cargo or rustc is not on this shell's `PATH`.
    #[error(
        "find `{tool}` in PATH or in the folder where rustup puts it: run `install` from a shell in \
         which `{tool}` works"
    )]
    NoToolchain {
        /// The program.
        tool: &'static str,
    },
    /// The service manager refused.
    #[error("run `{command}`: {said}")]
    Refused {
        /// The command.
        command: String,
        /// What it said.
        said: String,
    },
    /// It was started, and ended.
    #[error(
        "start the service: it ended ({result}); `journalctl --user -u {UNIT}` has it all{log}"
    )]
    Ended {
        /// The service manager's word for how it ended.
        result: String,
        /// Its last lines, each after a newline.
        log: String,
    },
    /// It is not so after all the time that it may take.
    #[error("{what} the service within {} s: see `knhk-test-cache logs`", limit.as_secs())]
    NotInTime {
        /// What was asked for.
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The logs cannot be read.
    #[error("read the service's log ({said}): {hint}")]
    NoLog {
        /// What was said.
        said: String,
        /// What to do.
        hint: &'static str,
    },
    /// The daemon was started without a service manager, and ended.
    #[error("start the daemon: it ended ({result}); `{}` has it all{said}", log.display())]
    DetachedEnded {
        /// How it ended.
        result: String,
        /// Its exit status; none if a signal ended it.
        code: Option<i32>,
        /// Its last lines, each after a newline.
        said: String,
        /// Its log.
        log: PathBuf,
    },
    /// The log of a daemon without a service manager cannot be written.
    #[error(
        "write the daemon's log `{}`: {source}; make it writable, or set XDG_STATE_HOME to a folder \
         that is", path.display()
    )]
    DetachedLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A daemon without a service manager cannot be told to end.
    #[error("signal process {pid}, the daemon: {source}")]
    Signal {
        /// The daemon.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// A killed daemon is still there.
    #[error("end process {pid}, the daemon: it waits for a disk or a device, and ends with that")]
    Unkillable {
        /// The daemon.
        pid: u32,
    },
    /// A program could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl ServiceError {
    /// Whether there is no manager that could drive the service.
    pub(crate) fn is_without_manager(&self) -> bool {
        matches!(self, Self::NoSupervisor { .. } | Self::NoBus { .. })
    }

    /// Whether a daemon may run detached: beside a manager that runs there would be two.
    pub(super) fn allows_detached(&self) -> bool {
        matches!(self, Self::NoSupervisor { .. } | Self::NoBus { runs: false, .. })
    }
}
