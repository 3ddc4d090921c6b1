//! The service under the user's systemd.
//!
//! `service-manager` writes, enables, starts, stops and removes the service unit; what it does not
//! know (the socket unit, restart, the true state) goes to `systemctl --user`.

use std::path::{Path, PathBuf};

use service_manager::{
    ServiceManager, ServiceStartCtx, ServiceStopCtx, ServiceUninstallCtx, SystemdServiceManager,
};

use super::context::{ServiceContext, first_line};
use super::error::ServiceError;
use super::install::{self, Action, Fate, InstallOptions, Report, Undo};
use super::machine::{self, ManagerLocation};
use super::state::{self, Activity, Load, SOCKET_UNIT, ServiceState, UNIT};
use super::unit::{self, Definition};
use super::wait;
use crate::process;

pub(super) struct Systemd<'a> {
    pub(super) service: &'a ServiceContext,
}

/// What is asked about a unit.
const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,Result,MainPID,NRestarts,StatusText,\
                          UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload";

impl Systemd<'_> {
    /// Where a user's own units lie.
    fn folder(&self) -> PathBuf {
        let own = self.service.paths.config_file.parent();
        own.and_then(Path::parent).unwrap_or(Path::new("/")).join("systemd/user")
    }

    pub(super) fn query(&self) -> Result<ServiceState, ServiceError> {
        let text = self.systemctl(&["show", "--property", PROPERTIES, UNIT, SOCKET_UNIT])?;
        let mut state = state::from_systemctl(&text);
        let text = state.unit.as_ref().and_then(|unit| std::fs::read_to_string(unit).ok());
        state.written = text.map(|text| unit::read_unit(&text, &self.service.paths.home));
        Ok(state)
    }

    pub(super) fn install(&self, options: &InstallOptions) -> Result<Report, ServiceError> {
        let before = match self.query() {
            // What would be done can be told on any machine.
            Err(error) if options.dry_run && error.is_without_manager() => ServiceState::default(),
            answer => answer?,
        };
        let (service, socket) = (self.folder().join(UNIT), self.folder().join(SOCKET_UNIT));
        // A mask is a link to /dev/null: writing would vanish in it.
        for (name, path) in [(UNIT, &service), (SOCKET_UNIT, &socket)] {
            if path.read_link().is_ok_and(|target| target == Path::new("/dev/null")) {
                return Err(ServiceError::Masked { unit: name.to_owned() });
            }
        }
        not_masked(&before)?;
        let mut report = install::begin(options, before.written.as_ref(), self.service)?;
        let definition =
            Definition { exe: &options.exe, variables: &report.surroundings.variables };
        let service_text = unit::service_unit(&definition)
            .map_err(|why| ServiceError::Unwritable { path: options.exe.clone(), why })?;
        let socket_text = unit::socket_unit();
        let read = |text: &str| unit::read_unit(text, &self.service.paths.home);
        let fate = |path, text| Fate::of(path, text, options.force, read);
        let fates =
            Fates { service: fate(&service, &service_text)?, socket: fate(&socket, &socket_text)? };
        report.actions.extend(install::config_action(options, &self.service.paths));
        report.actions.push(fates.socket.action(&socket));
        report.actions.push(fates.service.action(&service));
        report.texts = vec![(socket, socket_text), (service, service_text)];
        if options.dry_run {
            let (socket, service) = (&report.texts[0].0, &report.texts[1].0);
            let enable = format!("enable {} {}", socket.display(), service.display());
            let start = format!("start {SOCKET_UNIT} {UNIT}");
            let steps = ["daemon-reload", &enable, &start];
            report
                .actions
                .extend(steps.map(|step| Action::Ran(format!("systemctl --user {step}"))));
            return Ok(report);
        }
        let mut undo = Undo::default();
        match self.put(options, &before, fates, &mut report, &mut undo) {
            Ok(state) => {
                report.state = Some(state);
                Ok(report)
            }
            Err(error) => {
                self.take_back(&before, undo);
                Err(error)
            }
        }
    }

    /// Writes, enables and starts.
    fn put(
        &self,
        options: &InstallOptions,
        before: &ServiceState,
        fates: Fates,
        report: &mut Report,
        undo: &mut Undo,
    ) -> Result<ServiceState, ServiceError> {
        let [(socket, socket_text), (service, service_text)] = &report.texts[..] else {
            unreachable!("`install` has put two texts there")
        };
        let (socket, service) = (socket.clone(), service.clone());
        if let Some(config) = &options.config {
            undo.write(&self.service.paths.config_file, config)?;
        }
        if fates.socket.writes() {
            undo.write(&socket, socket_text)?;
        }
        if fates.service.writes() {
            undo.remember(&service)?;
            let mut context = install::context(options, service_text.clone());
            // Enabled below, once both units are there to be found.
            context.autostart = false;
            let written =
                wait::bounded("install", wait::ANSWER_WAIT, move || manager().install(context))?;
            written.map_err(|source| ServiceError::Write { path: service.clone(), source })?;
        }
        let mut run = |arguments: &[&str]| -> Result<(), ServiceError> {
            self.systemctl(arguments)?;
            report.actions.push(Action::Ran(format!("systemctl --user {}", arguments.join(" "))));
            Ok(())
        };
        run(&["daemon-reload"])?;
        // By path: found even where the manager's own config folder is another one.
        let (socket, service) = (socket.to_string_lossy(), service.to_string_lossy());
        run(&["enable", &socket, &service])?;
        let _ = self.systemctl(&["reset-failed", UNIT, SOCKET_UNIT]);
        if fates.socket == Fate::Replace && before.listening {
            // A socket whose service runs cannot be opened anew.
            run(&["stop", SOCKET_UNIT, UNIT])?;
        }
        run(&["start", SOCKET_UNIT])?;
        let now = self.query()?;
        let current = !fates.service.writes() && install::runs(now.pid, &options.exe);
        if now.is_running() && current {
            return Ok(now);
        }
        // Questions wait in the socket meanwhile.
        let verb = if now.is_running() { "restart" } else { "start" };
        let state = if now.is_running() { self.restart() } else { self.start() }?;
        report.actions.push(Action::Ran(format!("systemctl --user {verb} {UNIT}")));
        Ok(state)
    }

    /// Puts things back as they were before an installation that failed. The error that led here
    /// is what the user gets to see, so none of these may hide it.
    fn take_back(&self, before: &ServiceState, undo: Undo) {
        if !before.is_running() {
            let _ = self.systemctl(&["stop", SOCKET_UNIT, UNIT]);
        }
        if !before.enabled {
            let _ = self.systemctl(&["disable", SOCKET_UNIT, UNIT]);
        }
        undo.roll_back();
        let _ = self.systemctl(&["daemon-reload"]);
        if before.listening {
            let _ = self.systemctl(&["start", SOCKET_UNIT]);
        }
        if before.is_running() {
            let _ = self.systemctl(&["restart", UNIT]);
        } else {
            let _ = self.systemctl(&["reset-failed", UNIT, SOCKET_UNIT]);
            // The socket's folder, which stays when the socket goes; it is empty unless in use.
            let _ = std::fs::remove_dir(&self.service.paths.runtime_dir);
        }
    }

    pub(super) fn uninstall(&self) -> Result<Report, ServiceError> {
        let (service, socket) = (self.folder().join(UNIT), self.folder().join(SOCKET_UNIT));
        let mut report = Report::default();
        let ours = |path: &Path| path.symlink_metadata().is_ok();
        let here = ours(&service) || ours(&socket);
        let state = match self.query() {
            // Nothing of ours is there, and nobody to ask about the rest: nothing to do.
            Err(ServiceError::NoBus { .. } | ServiceError::NoSupervisor { .. }) if !here => {
                return Ok(report);
            }
            other => other?,
        };
        if state.is_installed() || here {
            // The socket first and in one request: a question in between would start the service.
            self.systemctl(&["stop", SOCKET_UNIT, UNIT]).or_else(ignore_missing)?;
            wait::until("stop", wait::STOP_WAIT, || self.query(), is_stopped)?;
            report.actions.push(Action::Ran(format!("systemctl --user stop {SOCKET_UNIT} {UNIT}")));
            self.systemctl(&["disable", SOCKET_UNIT, UNIT]).or_else(ignore_missing)?;
        }
        if ours(&service) {
            if state.written.as_ref().is_some_and(|written| written.edited) {
                report.notes.push(format!("`{}` had been changed by hand", service.display()));
            }
            // Disables, then removes; that the first can fail where a link is gone already must
            // not keep the second.
            let label = install::label();
            let _ = wait::bounded("uninstall", wait::ANSWER_WAIT, move || {
                manager().uninstall(ServiceUninstallCtx { label })
            })?;
            let gone = !ours(&service);
            if gone {
                report.actions.push(Action::Removed(service.clone()));
            }
        }
        install::remove_file(&service, &mut report)?;
        install::remove_file(&socket, &mut report)?;
        if here {
            self.systemctl(&["daemon-reload"])?;
            let _ = self.systemctl(&["reset-failed", UNIT, SOCKET_UNIT]);
        }
        self.leave_no_empty_folders();
        for folder in [format!("{UNIT}.d"), format!("{SOCKET_UNIT}.d")] {
            let folder = self.folder().join(folder);
            if folder.exists() {
                report.notes.push(format!("your own drop-ins stay in `{}`", folder.display()));
            }
        }
        let packaged = state.unit.filter(|unit| !unit.starts_with(self.folder()));
        if let Some(unit) = packaged.filter(|unit| unit.exists()) {
            report.notes.push(format!(
                "`{}` belongs to a package: it is stopped and disabled, and goes with the package",
                unit.display()
            ));
        }
        Ok(report)
    }

    /// Folders that enabling made, if nothing else is in them.
    fn leave_no_empty_folders(&self) {
        let folder = self.folder();
        for empty in ["default.target.wants", "sockets.target.wants", "", ".."] {
            // Fails on one that is not empty, as it should.
            let path = if empty == ".." { folder.parent() } else { None };
            let _ = std::fs::remove_dir(path.map_or_else(|| folder.join(empty), Path::to_owned));
        }
    }

    pub(super) fn start(&self) -> Result<ServiceState, ServiceError> {
        let state = self.drivable()?;
        if state.is_running() {
            return Ok(state);
        }
        // A service that was given up is one that a person now wants started. So is its socket.
        let _ = self.systemctl(&["reset-failed", UNIT, SOCKET_UNIT]);
        let context = ServiceStartCtx { label: install::label() };
        let said = wait::bounded("start", wait::START_WAIT, move || manager().start(context))?;
        self.ready(said.err().map(|error| error.to_string()))
    }

    pub(super) fn stop(&self) -> Result<ServiceState, ServiceError> {
        let state = self.query()?;
        if !state.is_installed() {
            return Err(ServiceError::NotInstalled);
        }
        let context = ServiceStopCtx { label: install::label() };
        let said = wait::bounded("stop", wait::STOP_WAIT, move || manager().stop(context))?;
        if let Err(error) = said {
            return Err(self.classify("systemctl --user stop", &error.to_string()));
        }
        wait::until("stop", wait::STOP_WAIT, || self.query(), is_stopped)
    }

    pub(super) fn restart(&self) -> Result<ServiceState, ServiceError> {
        self.drivable()?;
        let _ = self.systemctl(&["reset-failed", UNIT, SOCKET_UNIT]);
        let said = match self.systemctl_within(&["restart", UNIT], wait::START_WAIT) {
            Err(ServiceError::Refused { said, .. }) => Some(said),
            Err(error) => return Err(error),
            Ok(_) => None,
        };
        self.ready(said)
    }

    /// The state of a service that can be started.
    fn drivable(&self) -> Result<ServiceState, ServiceError> {
        let state = self.query()?;
        not_masked(&state)?;
        if !state.is_installed() {
            return Err(ServiceError::NotInstalled);
        }
        let exe = state.written.as_ref().and_then(|written| written.exe.clone());
        match exe.filter(|exe| exe.is_absolute() && !exe.exists()) {
            Some(exe) => Err(ServiceError::Moved { exe }),
            None => Ok(state),
        }
    }

    /// Waits until a service that was asked to start is ready, or is not going to be.
    fn ready(&self, said: Option<String>) -> Result<ServiceState, ServiceError> {
        let settled = |state: &ServiceState| {
            state.activity != Activity::Starting && state.activity != Activity::Stopping
                || state.detail == "auto-restart"
        };
        let state = wait::until("start", wait::START_WAIT, || self.query(), settled)?;
        if state.is_running() {
            return Ok(state);
        }
        match said {
            Some(said) if !matches!(state.result.as_str(), "" | "success") => {
                Err(ServiceError::Ended { log: self.last_lines(&said), result: state.result })
            }
            Some(said) => Err(self.classify(&format!("systemctl --user start {UNIT}"), &said)),
            None => Err(ServiceError::Ended { log: self.last_lines(""), result: state.result }),
        }
    }

    /// The service's last lines, or where there are none what `systemctl` said.
    fn last_lines(&self, said: &str) -> String {
        let spec = self.service.command("journalctl");
        let spec =
            spec.args(["--user", "--unit", UNIT, "--lines", "10", "--no-pager", "-o", "cat"]);
        let output =
            process::capture(&spec, wait::ANSWER_WAIT).ok().filter(process::Output::success);
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.filter(|text| !text.trim().is_empty() && !text.contains("-- No entries"));
        let text = text.unwrap_or_else(|| said.to_owned());
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| format!("\n  {line}"))
            .collect()
    }

    fn systemctl(&self, arguments: &[&str]) -> Result<String, ServiceError> {
        self.systemctl_within(arguments, wait::ANSWER_WAIT)
    }

    fn systemctl_within(
        &self,
        arguments: &[&str],
        limit: std::time::Duration,
    ) -> Result<String, ServiceError> {
        let spec = self.service.command("systemctl").args(["--user", "--no-pager"]).args(arguments);
        let output = process::capture(&spec, limit).map_err(|error| {
            if error.source.kind() == std::io::ErrorKind::NotFound {
                let hint = machine::no_systemd(ManagerLocation::of(&self.service.root));
                ServiceError::NoSupervisor { hint }
            } else {
                error.into()
            }
        })?;
        if output.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(self.classify(&format!("systemctl --user {}", arguments.join(" ")), &said))
    }

    /// What a complaint of `systemctl` means.
    fn classify(&self, command: &str, said: &str) -> ServiceError {
        let root = &self.service.root;
        let place = ManagerLocation::of(root);
        let no_bus = said.contains("Failed to connect to") && said.contains("bus");
        if said.contains("has not been booted with systemd")
            || said.contains("Host is down")
            || no_bus && !machine::has_systemd(root)
        {
            ServiceError::NoSupervisor { hint: machine::no_systemd(place) }
        } else if no_bus {
            let uid = rustix::process::getuid().as_raw();
            let hint = machine::no_bus(place, &self.service.environment, root, uid);
            let runs = machine::bus(root, uid).exists();
            ServiceError::NoBus { said: first_line(said), hint, runs }
        } else if said.contains("is masked") {
            let unit = if said.contains(SOCKET_UNIT) { SOCKET_UNIT } else { UNIT };
            ServiceError::Masked { unit: unit.to_owned() }
        } else {
            ServiceError::Refused { command: command.to_owned(), said: said.trim().to_owned() }
        }
    }
}

/// What becomes of the two units.
#[derive(Clone, Copy)]
struct Fates {
    service: Fate,
    socket: Fate,
}

fn manager() -> SystemdServiceManager {
    SystemdServiceManager::user()
}

fn not_masked(state: &ServiceState) -> Result<(), ServiceError> {
    if state.load == Load::Masked {
        return Err(ServiceError::Masked { unit: UNIT.to_owned() });
    }
    Ok(())
}

fn is_stopped(state: &ServiceState) -> bool {
    matches!(state.activity, Activity::Stopped | Activity::Failed)
}

/// A unit that is not known is stopped and disabled already.
fn ignore_missing(error: ServiceError) -> Result<String, ServiceError> {
    match &error {
        ServiceError::Refused { said, .. }
            if ["not loaded", "does not exist", "not found", "No such file"]
                .iter()
                .any(|known| said.contains(known)) =>
        {
            Ok(String::new())
        }
        _ => Err(error),
    }
}
