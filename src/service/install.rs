//! What installing and removing have in common on all platforms: looking before leaping, writing
//! so that it can be taken back, and telling what was done.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use service_manager::{ServiceInstallCtx, ServiceLabel};

use super::context::ServiceContext;
use super::error::ServiceError;
use super::state::{LABEL, ServiceState};
use super::surroundings::Surroundings;
use super::unit::WrittenUnit;
use crate::model::Digest;
use crate::paths::Paths;

/// How to install.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstallOptions {
    /// The program, absolute (see [`own_executable`](super::own_executable)).
    pub exe: PathBuf,
    /// The config file's new text, with the workspaces to watch; `None` leaves the file as it is.
    /// Put back like everything else if the rest fails.
    pub config: Option<String>,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Overwrite units that were changed by hand, and take over from another copy.
    pub force: bool,
}

/// One thing that was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A new file.
    Wrote(PathBuf),
    /// A file with another text than before.
    Replaced(PathBuf),
    /// A file that is as it should be.
    Unchanged(PathBuf),
    /// A file that was changed by hand, and was left alone.
    Kept(PathBuf),
    /// A file or folder that is gone.
    Removed(PathBuf),
    /// A command to the service manager.
    Ran(String),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrote(path) => write!(f, "write `{}`", path.display()),
            Self::Replaced(path) => write!(f, "replace `{}`", path.display()),
            Self::Unchanged(path) => write!(f, "leave `{}`, which is up to date", path.display()),
            Self::Kept(path) => write!(
                f,
                "keep `{}`, which was changed by hand (`install --force` overwrites it)",
                path.display()
            ),
            Self::Removed(path) => write!(f, "remove `{}`", path.display()),
            Self::Ran(command) => write!(f, "run `{command}`"),
        }
    }
}

/// What an installation or removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// Nothing was done: these are intentions.
    pub dry_run: bool,
    /// What was done, in order.
    pub actions: Vec<Action>,
    /// What the user should know besides.
    pub notes: Vec<String>,
    /// What the service gets of this shell (nothing at a removal).
    pub surroundings: Surroundings,
    /// The texts of the generated files.
    pub texts: Vec<(PathBuf, String)>,
    /// How the service is now (not at a removal, nor in a dry run).
    pub state: Option<ServiceState>,
}

/// What to do with one generated file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There is none yet.
    New,
    /// It is one of ours, and differs.
    Replace,
    /// It is the same.
    Same,
    /// It was changed by hand.
    Keep,
}

impl Fate {
    /// Decides by what is there. A file that cannot be read as text is nobody's but a hand's.
    pub(super) fn of(
        path: &Path,
        text: &str,
        force: bool,
        read: impl Fn(&str) -> WrittenUnit,
    ) -> Result<Self, ServiceError> {
        let old = match std::fs::read(path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::New),
            Err(source) => return Err(ServiceError::Write { path: path.to_owned(), source }),
        };
        let edited = std::str::from_utf8(&old).map_or(true, |old| read(old).edited);
        Ok(if old == text.as_bytes() {
            Self::Same
        } else if edited && !force {
            Self::Keep
        } else {
            Self::Replace
        })
    }

    pub(super) fn writes(self) -> bool {
        matches!(self, Self::New | Self::Replace)
    }

    pub(super) fn action(self, path: &Path) -> Action {
        let path = path.to_owned();
        match self {
            Self::New => Action::Wrote(path),
            Self::Replace => Action::Replaced(path),
            Self::Same => Action::Unchanged(path),
            Self::Keep => Action::Kept(path),
        }
    }
}

/// What has to hold under every supervisor before anything is written: the program can be
/// installed beside what is installed already, and there is a toolchain for it.
pub(super) fn begin(
    options: &InstallOptions,
    written: Option<&WrittenUnit>,
    service: &ServiceContext,
) -> Result<Report, ServiceError> {
    let mut report = Report { dry_run: options.dry_run, ..Report::default() };
    check_program(options, written, &mut report.notes)?;
    report.surroundings = Surroundings::of(&service.environment, &service.paths.home);
    if let Some(tool) = report.surroundings.missing().filter(|_| !options.dry_run) {
        return Err(ServiceError::NoToolchain { tool });
    }
    note_surroundings(&report.surroundings, &mut report.notes);
    Ok(report)
}

/// What becomes of the config, if one is to be written.
pub(super) fn config_action(options: &InstallOptions, paths: &Paths) -> Option<Action> {
    options.config.as_ref()?;
    let config = &paths.config_file;
    let fate = if config.exists() { Fate::Replace } else { Fate::New };
    Some(fate.action(config))
}

/// Says in `notes` what is peculiar but no reason to stop.
fn check_program(
    options: &InstallOptions,
    written: Option<&WrittenUnit>,
    notes: &mut Vec<String>,
) -> Result<(), ServiceError> {
    use std::os::unix::fs::PermissionsExt as _;
    let exe = &options.exe;
    let executable = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if !exe.is_absolute() || !executable(exe) {
        return Err(ServiceError::NoProgram { exe: exe.clone() });
    }
    let Some(written) = written else { return Ok(()) };
    let Some(installed) = written.exe.as_ref().filter(|installed| *installed != exe) else {
        return Ok(());
    };
    if !installed.exists() {
        notes.push(format!(
            "the service ran `{}`, which is not there any more",
            installed.display()
        ));
    } else if same_program(installed, exe) {
        notes.push(format!("the service ran `{}`, the same program", installed.display()));
    } else if written.edited && !options.force {
        notes.push(format!("the unit that is kept runs `{}`", installed.display()));
    } else if options.force {
        notes.push(format!("the service ran `{}`, and now runs this copy", installed.display()));
    } else {
        return Err(ServiceError::OtherCopy {
            installed: installed.clone(),
            version: written.version.clone().unwrap_or_else(|| "unknown".to_owned()),
            exe: exe.clone(),
        });
    }
    Ok(())
}

/// Whether two paths lead to the same program: one file, or two with the same content.
fn same_program(one: &Path, other: &Path) -> bool {
    if one.canonicalize().ok() == other.canonicalize().ok() {
        return true;
    }
    let digest = |path: &Path| -> io::Result<Digest> {
        let mut file = std::fs::File::open(path)?;
        Ok(Digest::of_reader(&mut file, &mut [0; 64 * 1024])?.0)
    };
    let length = |path: &Path| path.metadata().map(|file| file.len()).ok();
    length(one) == length(other) && digest(one).is_ok_and(|d| digest(other).is_ok_and(|o| o == d))
}

/// Whether a process runs this very file: after an upgrade in place it runs the one that was
/// there before. Unknown (not Linux, no right to look) is no.
pub(super) fn runs(pid: Option<u32>, exe: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Some(pid) = pid else { return false };
    let identity = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino())).ok();
    let running = identity(Path::new(&format!("/proc/{pid}/exe")));
    running.is_some() && running == identity(exe)
}

/// Notes for the user about what the service does not get.
fn note_surroundings(surroundings: &Surroundings, notes: &mut Vec<String>) {
    for left in &surroundings.left_out {
        notes.push(format!("the service does not get {}: {}", left.what, left.why));
    }
    for tool in &surroundings.tools {
        if tool.path.is_none() {
            notes.push(format!("no `{}` in PATH: builds that need it will fail", tool.name));
        }
    }
}

/// Writes so that all of it can be taken back.
#[derive(Debug, Default)]
pub(super) struct Undo {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    folders: Vec<PathBuf>,
}

impl Undo {
    /// Remembers a file as it is, before anything writes it, and makes its folder.
    pub(super) fn remember(&mut self, path: &Path) -> Result<(), ServiceError> {
        let error = |source| ServiceError::Write { path: path.to_owned(), source };
        match std::fs::read(path) {
            Ok(old) => self.files.push((path.to_owned(), Some(old))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.files.push((path.to_owned(), None));
            }
            Err(e) => return Err(error(e)),
        }
        let missing: Vec<PathBuf> = path
            .ancestors()
            .skip(1)
            .take_while(|folder| !folder.exists())
            .map(Path::to_owned)
            .collect();
        for folder in missing.into_iter().rev() {
            std::fs::create_dir(&folder)
                .map_err(|source| ServiceError::Write { path: folder.clone(), source })?;
            self.folders.push(folder);
        }
        Ok(())
    }

    /// Writes a file, whole or not at all.
    pub(super) fn write(&mut self, path: &Path, text: &str) -> Result<(), ServiceError> {
        use std::os::unix::fs::PermissionsExt as _;
        self.remember(path)?;
        let error = |source| ServiceError::Write { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut builder = tempfile::Builder::new();
        builder.prefix(".knhk-").permissions(std::fs::Permissions::from_mode(0o644));
        let mut file = builder.tempfile_in(folder).map_err(error)?;
        io::Write::write_all(&mut file, text.as_bytes()).map_err(error)?;
        file.as_file().sync_all().map_err(error)?;
        // The link's target, where a config lives in a folder of dotfiles, not the link.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if target == path || target.parent() == Some(folder) {
            file.persist(&target).map_err(|failed| error(failed.error))?;
        } else {
            std::fs::write(&target, text).map_err(error)?;
        }
        Ok(())
    }

    /// Puts everything back, as far as that can be done.
    pub(super) fn roll_back(self) {
        for (path, old) in self.files.into_iter().rev() {
            let _ = match old {
                Some(old) => std::fs::write(&path, old),
                None => std::fs::remove_file(&path),
            };
        }
        for folder in self.folders.into_iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Removes a file; one that is not there is none to remove.
pub(super) fn remove_file(path: &Path, report: &mut Report) -> Result<(), ServiceError> {
    match std::fs::remove_file(path) {
        Ok(()) => report.actions.push(Action::Removed(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(ServiceError::Remove { path: path.to_owned(), source }),
    }
    Ok(())
}

/// Removes what the service leaves at run time, and with `purge` the config, the records and `state`,
/// the folder of the log.
pub(super) fn remove_own_files(
    paths: &Paths,
    state: &Path,
    purge: bool,
    report: &mut Report,
) -> Result<(), ServiceError> {
    let config = paths.config_file.parent().unwrap_or(Path::new("/"));
    let mut folders = vec![paths.runtime_dir.as_path()];
    if purge {
        folders.extend([paths.cache_dir.as_path(), config, state]);
    }
    for folder in folders {
        // Our own folders bear our name (the records' `run/` its parent does): nothing else is
        // ever emptied, whatever a variable says.
        let named = |path: &Path| path.file_name().is_some_and(|name| name == "knhk-test-cache");
        if !named(folder) && !folder.parent().is_some_and(named) {
            continue;
        }
        let removed = match folder.symlink_metadata() {
            Ok(file) if file.is_symlink() => std::fs::remove_file(folder),
            Ok(_) => std::fs::remove_dir_all(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => Err(error),
        };
        removed.map_err(|source| ServiceError::Remove { path: folder.to_owned(), source })?;
        report.actions.push(Action::Removed(folder.to_owned()));
    }
    if !purge {
        for left in [config, paths.cache_dir.as_path(), state] {
            if left.exists() {
                report.notes.push(format!("`{}` stays (`--purge` removes it)", left.display()));
            }
        }
    }
    Ok(())
}

pub(super) fn label() -> ServiceLabel {
    let mut parts = LABEL.splitn(3, '.').map(str::to_owned);
    ServiceLabel {
        qualifier: parts.next(),
        organization: parts.next(),
        application: parts.next().unwrap_or_default(),
    }
}

/// What `service-manager` is to install: our own text, whatever it would make of the rest.
pub(super) fn context(options: &InstallOptions, contents: String) -> ServiceInstallCtx {
    ServiceInstallCtx {
        label: label(),
        program: options.exe.clone(),
        args: vec!["daemon".into()],
        contents: Some(contents),
        username: None,
        working_directory: None,
        environment: None,
        autostart: true,
        restart_policy: service_manager::RestartPolicy::default(),
    }
}
