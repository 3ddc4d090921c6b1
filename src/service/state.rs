//! What a service manager says of the service.

use std::path::PathBuf;

use super::unit::WrittenUnit;

/// The service unit's name.
pub(crate) const UNIT: &str = "knhk-test-cache.service";
/// The socket unit's name.
pub(crate) const SOCKET_UNIT: &str = "knhk-test-cache.socket";
/// The label, by which launchd knows the service and `service-manager` names the unit.
pub(crate) const LABEL: &str = "com.knhk.test-cache";

/// What is known of the service's definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Load {
    /// There is none.
    #[default]
    NotInstalled,
    /// It is loaded.
    Loaded,
    /// It is masked: nothing can start it.
    Masked,
    /// It cannot be read; systemd's word for why.
    Broken(String),
}

/// What the service does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Nothing: stopped, or never started.
    #[default]
    Stopped,
    /// On its way to ready, or waiting to be started again after a crash.
    Starting,
    /// Ready.
    Running,
    /// Ready, and reading its config again.
    Reloading,
    /// On its way to stopped.
    Stopping,
    /// It ended badly and is not started again.
    Failed,
}

/// The service as its manager sees it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceState {
    /// Whether there is a definition.
    pub load: Load,
    /// What it does.
    pub activity: Activity,
    /// The manager's own word for that ("running", "auto-restart", "dead").
    pub detail: String,
    /// How it ended last ("success", "exit-code", "watchdog"), where that is told.
    pub result: String,
    /// Its process.
    pub pid: Option<u32>,
    /// How often it was started again after ending by itself; `None` where that is not counted.
    pub restarts: Option<u32>,
    /// Its own last status line.
    pub status: String,
    /// Whether it starts with the session.
    pub enabled: bool,
    /// Whether the control socket is held by the service manager.
    pub listening: bool,
    /// The file that defines it.
    pub unit: Option<PathBuf>,
    /// Files that change the definition.
    pub drop_ins: Vec<PathBuf>,
    /// What that file says.
    pub written: Option<WrittenUnit>,
    /// The file has changed since the manager read it.
    pub outdated: bool,
}

impl ServiceState {
    /// Whether there is anything to start.
    #[must_use]
    pub(crate) fn is_installed(&self) -> bool {
        self.load != Load::NotInstalled
    }

    /// Whether questions can be answered.
    #[must_use]
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.activity, Activity::Running | Activity::Reloading)
    }
}

/// Reads what `systemctl --user show` printed for the service unit and the socket unit.
#[must_use]
pub(crate) fn from_systemctl(text: &str) -> ServiceState {
    let mut state = ServiceState::default();
    for block in text.split("\n\n") {
        let get = |name: &str| {
            block
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_default()
        };
        if get("Id") == SOCKET_UNIT {
            state.listening = get("ActiveState") == "active";
            continue;
        }
        if get("Id") != UNIT {
            continue;
        }
        state.load = match get("LoadState") {
            "loaded" => Load::Loaded,
            "masked" => Load::Masked,
            "not-found" | "" => Load::NotInstalled,
            other => Load::Broken(other.to_owned()),
        };
        state.activity = match get("ActiveState") {
            "active" => Activity::Running,
            "reloading" => Activity::Reloading,
            "activating" => Activity::Starting,
            "deactivating" => Activity::Stopping,
            "failed" => Activity::Failed,
            _ => Activity::Stopped,
        };
        get("SubState").clone_into(&mut state.detail);
        get("Result").clone_into(&mut state.result);
        get("StatusText").clone_into(&mut state.status);
        state.pid = get("MainPID").parse().ok().filter(|pid| *pid != 0);
        state.restarts = get("NRestarts").parse().ok();
        state.enabled = get("UnitFileState").starts_with("enabled");
        state.outdated = get("NeedDaemonReload") == "yes";
        state.unit = Some(get("FragmentPath")).filter(|path| !path.is_empty()).map(PathBuf::from);
        // Spaces in drop-ins' paths are not told apart; they lie in the unit's own folder.
        state.drop_ins = get("DropInPaths").split_whitespace().map(PathBuf::from).collect();
    }
    state
}

/// Reads what `launchctl print` printed for the service.
#[must_use]
pub(crate) fn from_launchctl(text: &str) -> ServiceState {
    let get = |name: &str| {
        // One tab: the service's own lines, not those of what is nested in it.
        text.lines().find_map(|line| {
            let line = line.strip_prefix('\t').filter(|line| !line.starts_with('\t'))?;
            line.strip_prefix(name)?.strip_prefix(" = ")
        })
    };
    let detail = get("state").unwrap_or_default();
    let exit = get("last exit code").filter(|code| *code != "(never exited)");
    let failed = exit.is_some_and(|code| !code.starts_with('0'));
    ServiceState {
        load: Load::Loaded,
        activity: match detail {
            "running" => Activity::Running,
            "spawn scheduled" | "waiting" => Activity::Starting,
            _ if failed => Activity::Failed,
            _ => Activity::Stopped,
        },
        detail: detail.to_owned(),
        result: exit.map(|code| format!("exit code {code}")).unwrap_or_default(),
        pid: get("pid").and_then(|pid| pid.parse().ok()),
        unit: get("path").map(PathBuf::from),
        enabled: true,
        ..ServiceState::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemctls_answer_is_read() {
        let state = from_systemctl(
            "Result=success\nNRestarts=2\nMainPID=17\nStatusText=3 projects, a=b\nId=knhk-test-cache.service\n\
             LoadState=loaded\nActiveState=active\nSubState=running\nFragmentPath=/h/a b/x.service\n\
             UnitFileState=enabled\nNeedDaemonReload=no\nDropInPaths=/h/x.d/a.conf /h/x.d/b.conf\n\n\
             Id=knhk-test-cache.socket\nLoadState=loaded\nActiveState=active\nSubState=running\n",
        );
        assert_eq!(
            state,
            ServiceState {
                load: Load::Loaded,
                activity: Activity::Running,
                detail: "running".into(),
                result: "success".into(),
                pid: Some(17),
                restarts: Some(2),
                status: "3 projects, a=b".into(),
                enabled: true,
                listening: true,
                unit: Some("/h/a b/x.service".into()),
                drop_ins: vec!["/h/x.d/a.conf".into(), "/h/x.d/b.conf".into()],
                ..ServiceState::default()
            }
        );
    }

    #[test]
    fn failed_masked_and_missing_are_told_apart() {
        let of = |load: &str, active: &str| {
            from_systemctl(&format!(
                "Id=knhk-test-cache.service\nLoadState={load}\nActiveState={active}\nMainPID=0\n"
            ))
        };
        assert_eq!(of("loaded", "failed").activity, Activity::Failed);
        assert_eq!(of("masked", "inactive").load, Load::Masked);
        assert_eq!(of("bad-setting", "inactive").load, Load::Broken("bad-setting".into()));
        assert!(!of("not-found", "inactive").is_installed());
        assert_eq!(of("loaded", "activating").activity, Activity::Starting);
        assert_eq!(of("loaded", "inactive").pid, None);
    }

    #[test]
    fn launchctls_answer_is_read() {
        let state = from_launchctl(
            "gui/501/com.knhk.test-cache = {\n\tactive count = 1\n\tpath = /U/x.plist\n\tstate = running\n\
             \n\tenvironment = {\n\t\tstate => odd\n\t\tpid = 3\n\t}\n\tpid = 812\n\tlast exit code = (never exited)\n}\n",
        );
        assert_eq!((state.activity, state.pid), (Activity::Running, Some(812)));
        assert_eq!(state.unit, Some("/U/x.plist".into()));
        let state =
            from_launchctl("x = {\n\tstate = not running\n\tlast exit code = 78: EX_CONFIG\n}\n");
        assert_eq!(state.activity, Activity::Failed);
        assert_eq!(state.result, "exit code 78: EX_CONFIG");
        let state = from_launchctl("x = {\n\tstate = not running\n\tlast exit code = 0\n}\n");
        assert_eq!(state.activity, Activity::Stopped);
    }
}
