//! One look at everything that can be wrong around the service, each with its remedy.
//!
//! Only what can be told without the daemon: what it knows itself (the projects' states) it says
//! in its own status.

mod kernel;
mod session;
mod shell;

use std::path::PathBuf;

use super::state::ServiceState;
use super::{Service, ServiceError};

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CheckStatus {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could, or not for long.
    Warn,
    /// It does not work.
    Fail,
}

/// One line of the doctor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at: a fixed word, for scripts.
    pub name: &'static str,
    /// How it is.
    pub status: CheckStatus,
    /// What was seen.
    pub what: String,
    /// What to do, unless all is well.
    pub remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, status: CheckStatus::Ok, what: what.into(), remedy: None }
    }

    fn warn(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { name, status: CheckStatus::Warn, what: what.into(), remedy }
    }

    fn fail(name: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: CheckStatus::Fail, ..Self::warn(name, what, remedy) }
    }
}

/// What the checks are measured against.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceNeeds {
    /// The program that asks; the service should run the same.
    pub exe: PathBuf,
    /// How many folders the projects have, each of which takes a watch; `None` if not known.
    pub watches: Option<u64>,
    /// Folders that are written to and may fill up: the projects' target folders. The records'
    /// folder is looked at in any case.
    pub target_dirs: Vec<PathBuf>,
}

/// Looks at everything.
#[must_use]
pub(crate) fn doctor(service: &Service, needs: &ServiceNeeds) -> Vec<Check> {
    let asked = service.query();
    let mut checks = vec![session::supervisor(service, asked.as_ref().err())];
    checks.extend(session::lingering(service));
    if let Ok(state) = &asked {
        checks.push(session::installed(state, needs));
        checks.extend(session::copies(service, state, needs));
        checks.push(session::running(state));
        checks.extend(session::log(service, state));
    }
    checks.push(session::socket(service, asked.as_ref().ok()));
    checks.extend(shell::tools(service, asked.as_ref().ok()));
    checks.extend(shell::differences(service, asked.as_ref().ok()));
    checks.extend(kernel::inotify(needs));
    checks.extend(kernel::disk_space(service, needs));
    checks
}

/// The manager's answer to whether it is there.
type QueryError<'a> = Option<&'a ServiceError>;
/// How the service is, where that could be asked.
type KnownState<'a> = Option<&'a ServiceState>;
