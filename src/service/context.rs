//! Where the service of one user is, and how its manager is spoken to.

use std::path::PathBuf;

use crate::paths::Paths;
use crate::process::{Environment, Spec};

/// What both managers need to know of the user.
#[derive(Clone, Debug)]
pub(super) struct ServiceContext {
    pub(super) environment: Environment,
    pub(super) paths: Paths,
    /// Below which the machine's own folders lie: `/` but in tests.
    pub(super) root: PathBuf,
}

impl ServiceContext {
    /// A command with our environment, whose messages we can read.
    pub(super) fn command(&self, program: &str) -> Spec {
        let mut environment = self.environment.clone();
        environment.set("LC_ALL", "C.UTF-8");
        environment.set("SYSTEMD_COLORS", "0");
        environment.set("SYSTEMD_PAGER", "");
        Spec::new(program, "/", environment)
    }
}

/// The first line of what a program said, without its spaces.
pub(super) fn first_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or("it said nothing")
        .to_owned()
}

/// The file that the service logs into under launchd; rotated by `logging`.
#[must_use]
pub(crate) fn log_file(paths: &Paths) -> PathBuf {
    paths.home.join("Library/Logs/knhk-test-cache/knhk-test-cache.log")
}

/// The file into which a daemon logs that runs without a service manager.
#[must_use]
pub(crate) fn detached_log(paths: &Paths, environment: &Environment) -> PathBuf {
    paths.state_dir(environment).join("daemon.log")
}
