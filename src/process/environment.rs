//! A set of environment variables, as a value.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::OsText;

/// The environment of a child. Sorted, so that equal sets have equal digests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(OsText, OsText)>", into = "Vec<(OsText, OsText)>")]
pub struct Environment(BTreeMap<OsString, OsString>);

/// Variables that a service manager sets for the one process it started. A child that inherited
/// them could report to the manager in our name.
const SUPERVISOR: &[&str] = &[
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "FDSTORE",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "SYSTEMD_EXEC_PID",
    "MANAGERPID",
    "MANAGERPIDFDID",
    "MAINPID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
    "CREDENTIALS_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "XPC_SERVICE_NAME",
    "XPC_FLAGS",
];

impl Environment {
    /// This process's environment, without the variables of a service manager.
    #[must_use]
    pub fn inherited() -> Self {
        std::env::vars_os().collect::<Self>().without_supervisor()
    }

    /// The same without the variables of a service manager.
    #[must_use]
    pub(crate) fn without_supervisor(mut self) -> Self {
        for name in SUPERVISOR {
            self.0.remove(OsStr::new(name));
        }
        self
    }

    /// An environment of these variables.
    #[cfg(test)]
    pub(crate) fn of(variables: &[(&str, &str)]) -> Self {
        variables.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: impl AsRef<OsStr>) {
        self.0.remove(name.as_ref());
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// The folders of `PATH`; relative ones are taken from `dir`.
    pub(crate) fn path_folders<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        let path = self.get("PATH").unwrap_or_default();
        std::env::split_paths(path).map(move |folder| dir.join(folder))
    }

    /// The first executable file of this name in `PATH`, as the shell finds it.
    #[must_use]
    pub fn find_program(&self, name: &Path, dir: &Path) -> Option<PathBuf> {
        self.path_folders(dir).map(|folder| folder.join(name)).find(|file| {
            file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
    }
}

impl FromIterator<(OsString, OsString)> for Environment {
    fn from_iter<I: IntoIterator<Item = (OsString, OsString)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl From<Vec<(OsText, OsText)>> for Environment {
    fn from(variables: Vec<(OsText, OsText)>) -> Self {
        variables.into_iter().map(|(name, value)| (name.0, value.0)).collect()
    }
}

impl From<Environment> for Vec<(OsText, OsText)> {
    fn from(environment: Environment) -> Self {
        environment.0.into_iter().map(|(name, value)| (OsText(name), OsText(value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_variable_of_the_service_manager_reaches_a_child() {
        let all =
            Environment::of(&[("NOTIFY_SOCKET", "/run/x"), ("LISTEN_FDS", "1"), ("HOME", "/h")]);
        assert_eq!(all.without_supervisor(), Environment::of(&[("HOME", "/h")]));
    }

    #[test]
    fn a_program_is_looked_up_in_the_given_path() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        std::fs::write(&tool, "").unwrap();
        let found = |e: &Environment| e.find_program(Path::new("tool"), Path::new("/"));
        let here = Environment::of(&[("PATH", &format!("/nowhere:{}", dir.path().display()))]);
        assert_eq!(found(&here), None, "not executable");
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found(&here), Some(tool));
        assert_eq!(found(&Environment::of(&[])), None);
    }
}
