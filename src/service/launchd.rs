//! The service under launchd, as an agent of the user.
//!
//! `service-manager` writes, loads, starts, stops and removes; state and restart go to
//! `launchctl` itself.

use std::path::PathBuf;

use service_manager::{
    LaunchdServiceManager, ServiceManager, ServiceStartCtx, ServiceStopCtx, ServiceUninstallCtx,
};

use super::context::{ServiceContext, first_line, log_file};
use super::error::ServiceError;
use super::install::{self, Action, Fate, InstallOptions, Report, Undo};
use super::state::{self, Activity, LABEL, ServiceState};
use super::unit::{self, Definition};
use super::wait;
use crate::process;

pub(super) struct Launchd<'a> {
    pub(super) service: &'a ServiceContext,
}

impl Launchd<'_> {
    fn list(&self) -> PathBuf {
        self.service.paths.home.join(format!("Library/LaunchAgents/{LABEL}.plist"))
    }

    fn stderr_file(&self) -> PathBuf {
        log_file(&self.service.paths).with_file_name("stderr.log")
    }

    /// The service's names in the domains in which it can be loaded: of the desktop, and of a user
    /// who is there by ssh only.
    fn targets() -> [String; 2] {
        let uid = rustix::process::getuid().as_raw();
        [format!("gui/{uid}/{LABEL}"), format!("user/{uid}/{LABEL}")]
    }

    pub(super) fn query(&self) -> Result<ServiceState, ServiceError> {
        let list = self.list();
        let text = std::fs::read_to_string(&list).ok();
        let mut state = ServiceState::default();
        for target in Self::targets() {
            if let Ok(printed) = self.launchctl(&["print", &target]) {
                state = state::from_launchctl(&printed);
                break;
            }
        }
        if let Some(text) = text {
            // There, but not loaded: `launchctl stop` leaves it loaded, a logout does not.
            state.load = state::Load::Loaded;
            state.unit.get_or_insert(list);
            state.written = Some(unit::read_property_list(&text));
        } else if state.unit.is_none() {
            // Where there is no launchctl at all, say so rather than "not installed".
            self.launchctl(&["version"])?;
        }
        Ok(state)
    }

    pub(super) fn install(&self, options: &InstallOptions) -> Result<Report, ServiceError> {
        let before = self.query()?;
        let list = self.list();
        let mut report = install::begin(options, before.written.as_ref(), self.service)?;
        let definition =
            Definition { exe: &options.exe, variables: &report.surroundings.variables };
        let text = unit::property_list(&definition, &self.stderr_file())
            .map_err(|why| ServiceError::Unwritable { path: options.exe.clone(), why })?;
        let fate = Fate::of(&list, &text, options.force, unit::read_property_list)?;
        report.actions.extend(install::config_action(options, &self.service.paths));
        report.actions.push(fate.action(&list));
        report.texts = vec![(list, text)];
        if options.dry_run {
            return Ok(report);
        }
        let mut undo = Undo::default();
        match self.put(options, fate, &mut report, &mut undo) {
            Ok(state) => {
                report.state = Some(state);
                Ok(report)
            }
            Err(error) => {
                let _ = self.launchctl(&["remove", LABEL]);
                undo.roll_back();
                if before.is_running() {
                    let _ = self.launchctl(&["load", &self.list().to_string_lossy()]);
                }
                Err(error)
            }
        }
    }

    fn put(
        &self,
        options: &InstallOptions,
        fate: Fate,
        report: &mut Report,
        undo: &mut Undo,
    ) -> Result<ServiceState, ServiceError> {
        let Some((list, text)) = report.texts.first().cloned() else {
            unreachable!("`install` has put one text there")
        };
        if let Some(config) = &options.config {
            undo.write(&self.service.paths.config_file, config)?;
        }
        // launchd opens the file for standard error and makes no folder for it.
        if let Some(folder) = self.stderr_file().parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| ServiceError::Write { path: folder.to_owned(), source })?;
        }
        if fate.writes() {
            undo.remember(&list)?;
            // Removes the one that is loaded, writes, and loads, which starts it (RunAtLoad).
            let context = install::context(options, text);
            let said =
                wait::bounded("install", wait::ANSWER_WAIT, move || manager().install(context))?;
            said.map_err(|source| match source.kind() {
                std::io::ErrorKind::Other => refused("launchctl load", &source.to_string()),
                _ => ServiceError::Write { path: list.clone(), source },
            })?;
            report.actions.push(Action::Ran(format!("launchctl load {}", list.display())));
            return self.ready();
        }
        // The program behind an unchanged list may be a newer one, and nothing here tells.
        let state = self.restart()?;
        report.actions.push(Action::Ran(format!("launchctl kickstart -k {LABEL}")));
        Ok(state)
    }

    pub(super) fn uninstall(&self) -> Result<Report, ServiceError> {
        let mut report = Report::default();
        let list = self.list();
        if list.exists() || self.query().is_ok_and(|state| state.is_installed()) {
            let edited = std::fs::read_to_string(&list)
                .is_ok_and(|text| unit::read_property_list(&text).edited);
            if edited {
                report.notes.push(format!("`{}` had been changed by hand", list.display()));
            }
            let was = list.exists();
            let label = install::label();
            let said = wait::bounded("uninstall", wait::ANSWER_WAIT, move || {
                manager().uninstall(ServiceUninstallCtx { label })
            })?;
            said.map_err(|error| refused("launchctl remove", &error.to_string()))?;
            report.actions.push(Action::Ran(format!("launchctl remove {LABEL}")));
            if was && !list.exists() {
                report.actions.push(Action::Removed(list.clone()));
            }
            install::remove_file(&list, &mut report)?;
            let gone = |state: &ServiceState| state.pid.is_none();
            wait::until("stop", wait::STOP_WAIT, || self.query(), gone)?;
        }
        let logs = log_file(&self.service.paths);
        if let Some(folder) = logs.parent().filter(|folder| folder.exists()) {
            std::fs::remove_dir_all(folder)
                .map_err(|source| ServiceError::Remove { path: folder.to_owned(), source })?;
            report.actions.push(Action::Removed(folder.to_owned()));
        }
        Ok(report)
    }

    pub(super) fn start(&self) -> Result<ServiceState, ServiceError> {
        let state = self.drivable()?;
        if state.is_running() {
            return Ok(state);
        }
        if state.detail.is_empty() {
            // Written but not loaded.
            self.launchctl(&["load", &self.list().to_string_lossy()])?;
        } else {
            let context = ServiceStartCtx { label: install::label() };
            let said = wait::bounded("start", wait::START_WAIT, move || manager().start(context))?;
            said.map_err(|error| refused("launchctl start", &error.to_string()))?;
        }
        self.ready()
    }

    pub(super) fn stop(&self) -> Result<ServiceState, ServiceError> {
        let state = self.query()?;
        if !state.is_installed() {
            return Err(ServiceError::NotInstalled);
        }
        if state.pid.is_none() && state.activity != Activity::Starting {
            return Ok(state);
        }
        let context = ServiceStopCtx { label: install::label() };
        let said = wait::bounded("stop", wait::STOP_WAIT, move || manager().stop(context))?;
        said.map_err(|error| refused("launchctl stop", &error.to_string()))?;
        wait::until("stop", wait::STOP_WAIT, || self.query(), |state| state.pid.is_none())
    }

    pub(super) fn restart(&self) -> Result<ServiceState, ServiceError> {
        let state = self.drivable()?;
        if state.detail.is_empty() {
            return self.start();
        }
        self.on_service(&["kickstart", "-k"])?;
        self.ready()
    }

    /// Runs a command on the service in whichever domain it is loaded.
    fn on_service(&self, arguments: &[&str]) -> Result<(), ServiceError> {
        let [desktop, user] = Self::targets();
        let on = |target: &str| self.launchctl(&[arguments, &[target]].concat());
        // The first complaint tells more: most are on a desktop.
        on(&desktop).or_else(|error| on(&user).map_err(|_| error)).map(drop)
    }

    fn drivable(&self) -> Result<ServiceState, ServiceError> {
        let state = self.query()?;
        if !state.is_installed() {
            return Err(ServiceError::NotInstalled);
        }
        let exe = state.written.as_ref().and_then(|written| written.exe.clone());
        match exe.filter(|exe| exe.is_absolute() && !exe.exists()) {
            Some(exe) => Err(ServiceError::Moved { exe }),
            None => Ok(state),
        }
    }

    /// Running is as much as launchd can tell; whether it answers, the socket does.
    fn ready(&self) -> Result<ServiceState, ServiceError> {
        let settled =
            |state: &ServiceState| state.is_running() || state.activity == Activity::Failed;
        let state = wait::until("start", wait::START_WAIT, || self.query(), settled)?;
        if state.is_running() {
            return Ok(state);
        }
        let log = std::fs::read_to_string(self.stderr_file()).unwrap_or_default();
        let mut last: Vec<String> =
            log.lines().rev().take(10).map(|line| format!("\n  {line}")).collect();
        last.reverse();
        Err(ServiceError::Ended { result: state.result, log: last.concat() })
    }

    fn launchctl(&self, arguments: &[&str]) -> Result<String, ServiceError> {
        let spec = self.service.command("launchctl").args(arguments);
        let output = process::capture(&spec, wait::ANSWER_WAIT).map_err(|error| {
            if error.source.kind() == std::io::ErrorKind::NotFound {
                ServiceError::NoSupervisor { hint: "there is no launchctl".to_owned() }
            } else {
                error.into()
            }
        })?;
        if output.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(refused(&format!("launchctl {}", arguments.join(" ")), &said))
    }
}

fn manager() -> LaunchdServiceManager {
    LaunchdServiceManager::user()
}

fn refused(command: &str, said: &str) -> ServiceError {
    ServiceError::Refused { command: command.to_owned(), said: first_line(said) }
}
