//! The program as a service of the session: put there, driven, asked and looked over.
//!
//! - [`Service`] installs, starts, stops, asks and removes, through the platform's own manager
//!   ([`Platform`]); the texts are ours ([`unit::Definition`]), from `packaging/`.
//! - [`surroundings::Surroundings`] is what the service gets of the developer's shell.
//! - [`doctor()`] is one look at everything that can be wrong.
//! - [`Notifier`] and [`activated_listener`] are the daemon's side: what it tells the manager, and
//!   the socket that it is handed.
//!
//! On launchd the daemon binds its socket itself and is kept alive, instead of being handed one:
//! launchd makes no folder for a socket, and `TMPDIR`, where it lies, is emptied at boot.

mod context;
mod detached;
mod doctor;
mod error;
mod escape;
mod install;
mod launchd;
mod listen;
mod machine;
mod notify;
mod state;
mod surroundings;
mod systemd;
#[cfg(test)]
mod tests;
mod unit;
mod wait;

pub(crate) use context::{detached_log, log_file};
pub(crate) use doctor::{Check, CheckStatus, ServiceNeeds, doctor};
pub(crate) use error::ServiceError;
pub(crate) use install::{InstallOptions, Report};
pub(crate) use listen::activated_listener;
pub(crate) use notify::{Notifier, started_by_launchd};
pub(crate) use state::{Activity, ServiceState};

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use context::{ServiceContext, first_line};
use detached::Detached;

use crate::paths::Paths;
use crate::process::{self, Environment, Stream};

/// Which manager of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Platform {
    /// The user's systemd.
    Systemd,
    /// launchd, as an agent of the user.
    Launchd,
}

impl Platform {
    /// The one of this operating system.
    #[must_use]
    pub(crate) const fn native() -> Self {
        if cfg!(target_os = "macos") { Self::Launchd } else { Self::Systemd }
    }
}

/// The service of one user.
///
/// The environment is the calling process's own: `service-manager` starts `systemctl` and
/// `launchctl` with that, whatever is given here.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    platform: Platform,
    context: ServiceContext,
}

impl Service {
    /// The service on this platform.
    #[must_use]
    pub(crate) fn new(platform: Platform, environment: Environment, paths: Paths) -> Self {
        Self { platform, context: ServiceContext { environment, paths, root: "/".into() } }
    }

    /// Makes the program a service that starts with the session, and starts it. Again after an
    /// upgrade it replaces what it wrote and restarts; otherwise it changes nothing. A unit
    /// that was changed by hand is kept (and said so) unless `options.force`.
    ///
    /// # Errors
    /// See [`ServiceError`]; what was written is put back.
    pub(crate) fn install(&self, options: &InstallOptions) -> Result<Report, ServiceError> {
        match self.platform {
            Platform::Systemd => self.systemd().install(options),
            Platform::Launchd => self.launchd().install(options),
        }
    }

    /// Stops and removes the service; with `purge` also config and records. Again it changes nothing.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub(crate) fn uninstall(&self, purge: bool) -> Result<Report, ServiceError> {
        let mut report = match self.platform {
            Platform::Systemd => self.systemd().uninstall(),
            Platform::Launchd => self.launchd().uninstall(),
        }?;
        if self.query().is_err_and(|error| error.is_without_manager()) {
            self.detached().stop()?;
        }
        let ServiceContext { paths, environment, .. } = &self.context;
        install::remove_own_files(paths, &paths.state_dir(environment), purge, &mut report)?;
        Ok(report)
    }

    /// Starts the service and waits until it is ready. Without a manager, the daemon runs detached.
    ///
    /// # Errors
    /// See [`ServiceError`]; a service that is running already is none.
    pub(crate) fn start(&self) -> Result<ServiceState, ServiceError> {
        let started = match self.platform {
            Platform::Systemd => self.systemd().start(),
            Platform::Launchd => self.launchd().start(),
        };
        self.or_detached(started, |detached, environment| {
            detached.start(&own_executable(environment)?)
        })
    }

    /// Stops the service and waits until it has. A question can start it again (systemd).
    ///
    /// # Errors
    /// See [`ServiceError`]; a service that is stopped already is none.
    pub(crate) fn stop(&self) -> Result<ServiceState, ServiceError> {
        let stopped = match self.platform {
            Platform::Systemd => self.systemd().stop(),
            Platform::Launchd => self.launchd().stop(),
        };
        self.or_detached(stopped, |detached, _| detached.stop())
    }

    /// Stops and starts it, without losing a question on the way (systemd).
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub(crate) fn restart(&self) -> Result<ServiceState, ServiceError> {
        let restarted = match self.platform {
            Platform::Systemd => self.systemd().restart(),
            Platform::Launchd => self.launchd().restart(),
        };
        self.or_detached(restarted, |detached, environment| {
            detached.stop()?;
            detached.start(&own_executable(environment)?)
        })
    }

    /// Asks the manager how the service is.
    ///
    /// # Errors
    /// If there is no manager to ask.
    pub(crate) fn query(&self) -> Result<ServiceState, ServiceError> {
        match self.platform {
            Platform::Systemd => self.systemd().query(),
            Platform::Launchd => self.launchd().query(),
        }
    }

    /// Hands the service's last `lines` log lines to `sink`, and with `follow` all that come until
    /// `cancel` fires.
    ///
    /// # Errors
    /// If there is no log to be read.
    pub(crate) async fn logs(
        &self,
        follow: bool,
        lines: u32,
        cancel: &CancellationToken,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), ServiceError> {
        let count = lines.to_string();
        let tail = |file: PathBuf| {
            // -F: the file is rotated.
            self.context.command("tail").args(["-n", &count]).args(follow.then_some("-F")).arg(file)
        };
        let spec = match (self.detached_log(), self.platform) {
            (Some(log), _) => tail(log),
            (None, Platform::Systemd) => {
                // Not `--user`: where the journal is kept in memory only, a user's lines lie in the
                // system's, and those who may read that see them.
                let spec = self.context.command("journalctl").arg("--user-unit").arg(state::UNIT);
                spec.args(["--no-pager", "--lines", &count]).args(follow.then_some("--follow"))
            }
            (None, Platform::Launchd) => {
                let file = log_file(&self.context.paths);
                if !file.exists() {
                    let said = format!("no file `{}`", file.display());
                    return Err(ServiceError::NoLog { said, hint: "has the service ever run?" });
                }
                tail(file)
            }
        };
        let mut complaint = String::new();
        let cancel = cancel.child_token();
        let ended = process::run(&spec, &cancel, None, |stream, bytes| match stream {
            Stream::Out => sink(bytes),
            Stream::Err => {
                complaint.push_str(&String::from_utf8_lossy(bytes));
                // With `--follow` it would wait for ever for a file that it may not read.
                if no_journal(&complaint) {
                    cancel.cancel();
                }
            }
        })
        .await?;
        if no_journal(&complaint) {
            return Err(ServiceError::NoLog {
                said: first_line(&complaint),
                hint: "`sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald` \
                       makes the journal keep each user's lines where he can read them; so does \
                       becoming a member of the group `systemd-journal`",
            });
        }
        match ended.end {
            crate::model::End::Exit(0) | crate::model::End::Cancelled => Ok(()),
            _ => Err(ServiceError::Refused {
                command: spec.command_line(),
                said: first_line(&complaint),
            }),
        }
    }

    /// What came of driving the service, or, where no manager can, of driving the daemon itself.
    fn or_detached(
        &self,
        managed: Result<ServiceState, ServiceError>,
        drive: impl FnOnce(&Detached<'_>, &Environment) -> Result<ServiceState, ServiceError>,
    ) -> Result<ServiceState, ServiceError> {
        let detached = self.detached();
        match managed {
            Err(error) if error.allows_detached() => drive(&detached, &self.context.environment),
            // From before there was a manager.
            Err(ServiceError::NotInstalled) if detached.is_running() => {
                drive(&detached, &self.context.environment)
            }
            managed => managed,
        }
    }

    fn detached(&self) -> Detached<'_> {
        let ServiceContext { paths, environment, .. } = &self.context;
        Detached::new(paths, environment, detached_log(paths, environment))
    }

    /// The log of a daemon without a manager, where there is one and no manager has the service.
    fn detached_log(&self) -> Option<PathBuf> {
        let log = detached_log(&self.context.paths, &self.context.environment);
        let is_managed = || self.query().is_ok_and(|state| state.is_installed());
        (log.exists() && !is_managed()).then_some(log)
    }

    fn systemd(&self) -> systemd::Systemd<'_> {
        systemd::Systemd { service: &self.context }
    }

    fn launchd(&self) -> launchd::Launchd<'_> {
        launchd::Launchd { service: &self.context }
    }
}

/// Whether journalctl says that it has nothing that it may read.
fn no_journal(complaint: &str) -> bool {
    complaint.contains("No journal files were")
}

/// The path by which a service should know the running program: the one on `PATH` if that is this
/// very program, since package managers keep such a link up to date while the file behind it
/// changes its place with each version; else where it lies.
///
/// # Errors
/// If the running program cannot be found, or has been replaced since it was started.
pub(crate) fn own_executable(environment: &Environment) -> Result<PathBuf, ServiceError> {
    let exe = std::env::current_exe().unwrap_or_default();
    stable_path(&exe, environment).ok_or(ServiceError::NoProgram { exe })
}

fn stable_path(exe: &Path, environment: &Environment) -> Option<PathBuf> {
    let real = exe.canonicalize().ok().filter(|real| real.is_file())?;
    let name = exe.file_name()?;
    let linked = environment
        .find_program(Path::new(name), Path::new("/"))
        .filter(|found| found.is_absolute() && found.canonicalize().is_ok_and(|f| f == real));
    Some(linked.unwrap_or(real))
}
