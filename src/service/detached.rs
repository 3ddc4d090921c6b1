//! The daemon without a service manager: in containers, on CI runners, in WSL without systemd.
//!
//! It runs in a session of its own, logs into a file, and ends by `stop` or by itself once nothing has
//! happened for a while. The process that listens at the socket and that the daemon's lock names is
//! the daemon: no other process is ever ended, whatever number was left behind in the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::error::ServiceError;
use super::state::{Activity, Load, ServiceState};
use super::wait;
use crate::client::Connection;
use crate::paths::Paths;
use crate::process::{Environment, Spec, spawn_detached};
use crate::protocol::{Call, Reply, State};

/// How long it may take to end after SIGTERM, several times what it allows its own parts.
const TERMINATION_WAIT: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone: one that waits for a disk stays until that answers.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// The exit status of a daemon that finds another one.
const ANOTHER_RUNS: i32 = 6;
/// So much of the log's end is told where the daemon did not start.
const TOLD_LOG_BYTES: u64 = 2_000;

/// The daemon of one user, driven without a service manager.
pub(super) struct Detached<'a> {
    paths: &'a Paths,
    environment: &'a Environment,
    /// The file into which it logs.
    log: PathBuf,
}

impl<'a> Detached<'a> {
    pub(super) fn new(paths: &'a Paths, environment: &'a Environment, log: PathBuf) -> Self {
        Self { paths, environment, log }
    }

    /// Whether a daemon runs.
    pub(super) fn is_running(&self) -> bool {
        self.holder().is_some()
    }

    /// How the daemon is.
    pub(super) fn query(&self) -> ServiceState {
        match self.holder() {
            Some(pid) => self.running(pid),
            None => ServiceState { load: Load::Loaded, ..ServiceState::default() },
        }
    }

    fn running(&self, pid: Pid) -> ServiceState {
        ServiceState {
            load: Load::Loaded,
            activity: Activity::Running,
            pid: Some(pid.as_raw_nonzero().get().unsigned_abs()),
            status: format!(
                "detached from this terminal; `knhk-test-cache stop` ends it; log {}",
                self.log.display()
            ),
            ..ServiceState::default()
        }
    }

    /// Starts it and waits until it can answer for all projects.
    pub(super) fn start(&self, exe: &Path) -> Result<ServiceState, ServiceError> {
        if let Some(pid) = self.holder() {
            return Ok(self.running(pid));
        }
        let (log, begin) = self.open_log()?;
        let spec = Spec::new(exe, "/", self.environment.clone()).args(["daemon", "--detached"]);
        let spawn = || -> Result<Child, ServiceError> {
            let log = log.try_clone().map_err(|source| self.unwritable(source))?;
            Ok(spawn_detached(&spec, log)?)
        };
        let mut child = spawn()?;
        let mut ended = None;
        let state = wait::until(
            "start",
            wait::START_WAIT,
            || {
                if self.is_ready() {
                    return Ok(self.query());
                }
                ended = ended.or(child.try_wait().ok().flatten());
                match ended.and_then(|status| status.code()) {
                    // Another daemon was there: it is just starting, or about to end.
                    Some(ANOTHER_RUNS)
                        if self.written_holder().is_some_and(|pid| !has_ended(pid)) => {}
                    Some(ANOTHER_RUNS) => {
                        child = spawn()?;
                        ended = None;
                    }
                    _ if ended.is_some() => return Ok(ServiceState::default()),
                    _ => {}
                }
                Ok(ServiceState { activity: Activity::Starting, ..ServiceState::default() })
            },
            |state| state.activity != Activity::Starting,
        )?;
        if state.is_running() {
            return Ok(state);
        }
        let result = ended.map_or_else(|| "it is gone".to_owned(), |status| status.to_string());
        let code = ended.and_then(|status| status.code());
        Err(ServiceError::DetachedEnded {
            code,
            result,
            said: self.said_since(begin),
            log: self.log.clone(),
        })
    }

    /// Ends it and waits until it has ended. One that does not end in time is killed.
    pub(super) fn stop(&self) -> Result<ServiceState, ServiceError> {
        let Some(pid) = self.holder() else { return Ok(self.query()) };
        let number = pid_number(pid);
        let signal = |signal| match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(ServiceError::Signal { pid: number, source: error.into() }),
        };
        signal(Signal::TERM)?;
        if self.ends_within(pid, TERMINATION_WAIT) {
            return Ok(self.query());
        }
        signal(Signal::KILL)?;
        if !self.ends_within(pid, KILL_WAIT) {
            return Err(ServiceError::Unkillable { pid: number });
        }
        let waited = TERMINATION_WAIT.as_secs();
        let status = format!("process {number} did not end within {waited} s and was killed");
        Ok(ServiceState { status, ..self.query() })
    }

    /// Waits for the end of a process.
    fn ends_within(&self, pid: Pid, limit: Duration) -> bool {
        let state = || {
            let activity = if has_ended(pid) { Activity::Stopped } else { Activity::Stopping };
            Ok(ServiceState { activity, ..ServiceState::default() })
        };
        wait::until("stop", limit, state, |state| state.activity == Activity::Stopped).is_ok()
    }

    /// The daemon's process: it listens, and holds the lock. A socket that a service manager has made
    /// is the manager's.
    fn holder(&self) -> Option<Pid> {
        let connection = Connection::open(&self.paths.socket()).ok().flatten()?;
        self.written_holder().filter(|pid| connection.peer() == Some(*pid))
    }

    /// The last daemon's process, as it wrote it into its lock.
    fn written_holder(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.paths.daemon_lock()).ok()?;
        let pid = text.strip_prefix("process ")?.split(',').next()?;
        Pid::from_raw(pid.parse().ok()?)
    }

    /// Whether a daemon answers and has read all projects.
    fn is_ready(&self) -> bool {
        let Ok(Some(mut connection)) = Connection::open(&self.paths.socket()) else { return false };
        let Ok(Reply::Status(report)) = connection.call(Call::Status, |_| {}) else { return false };
        let is_read = |state, watch: &str| state == State::Missing || watch != "starting";
        report.projects.iter().all(|project| is_read(project.state, &project.watch))
    }

    /// The log, opened to append, and its length.
    fn open_log(&self) -> Result<(File, u64), ServiceError> {
        let error = |source| self.unwritable(source);
        let folder = self.log.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .map_err(error)?;
        let length = file.metadata().map_err(error)?.len();
        Ok((file, length))
    }

    fn unwritable(&self, source: io::Error) -> ServiceError {
        ServiceError::DetachedLog { path: self.log.clone(), source }
    }

    /// The end of what was logged since the log was `begin` long, each line after a newline.
    fn said_since(&self, begin: u64) -> String {
        let mut said = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let length = file.metadata().map_or(0, |metadata| metadata.len());
            let from = begin.max(length.saturating_sub(TOLD_LOG_BYTES));
            // What cannot be read is not told.
            let _ = file.seek(SeekFrom::Start(from)).and_then(|_| file.read_to_end(&mut said));
        }
        let said = String::from_utf8_lossy(&said);
        said.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| format!("\n  {line}"))
            .collect()
    }
}

/// Whether a process has ended. One that nobody reaps, as in a container without an init, has too.
fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid_number(pid)));
    let is_zombie =
        stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")));
    is_zombie || test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

fn pid_number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}
