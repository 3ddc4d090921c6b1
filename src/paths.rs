//! Where the project's own files lie, how they are replaced, and how paths in the config are written.
//!
//! | what | Linux | macOS |
//! |---|---|---|
//! | config | `$XDG_CONFIG_HOME/knhk-test-cache/config.toml` | the same, `~/.config` by default |
//! | records | `$XDG_CACHE_HOME/knhk-test-cache/` | `~/Library/Caches/knhk-test-cache/` |
//! | socket, lock, cookies | `$XDG_RUNTIME_DIR/knhk-test-cache/` | `$TMPDIR/knhk-test-cache/` |
//! | log files (launchd) | | `~/Library/Logs/knhk-test-cache/` |
//! | log file (without a service manager) | `$XDG_STATE_HOME/knhk-test-cache/` | |
//!
//! Without `XDG_RUNTIME_DIR` (a bare container, `su`) the runtime files lie in `run/` below the
//! records.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use crate::process::Environment;

/// The project's folders for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The user's home.
    pub home: PathBuf,
    /// The config file.
    pub config_file: PathBuf,
    /// Records, memos and other things that can be made again.
    pub cache_dir: PathBuf,
    /// Socket, lock and cookies; gone with the session.
    pub runtime_dir: PathBuf,
}

/// How many symbolic links Linux follows on one path.
pub(crate) const MAX_SYMLINKS: usize = 40;

/// The folder's name inside each base folder.
const NAME: &str = "knhk-test-cache";

/// Stands for the home of a user who has none: nothing is there, and nobody can make it.
const NO_HOME: &str = "/proc/no-home";

/// Why the user's folders are not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "HOME is not set to an absolute path, and this user's account has no home: set it, or \
     XDG_CONFIG_HOME and XDG_CACHE_HOME"
)]
pub struct NoHome;

impl Paths {
    /// The folders that `environment` and this platform say. Without `HOME`, as in a bare
    /// container or a cron job, the user's account names the home.
    ///
    /// # Errors
    /// If there is no home folder and a folder that lies in it by default is not given.
    pub fn from_environment(environment: &Environment) -> Result<Self, NoHome> {
        Self::for_platform(environment, cfg!(target_os = "macos"), std::env::home_dir)
    }

    /// The same for a command that answers without a home too: folders that are not given are
    /// missing then, and nothing can be kept in them.
    ///
    /// # Errors
    /// None that a platform with absolute paths is known to bring about.
    pub(crate) fn even_without_home(environment: &Environment) -> Result<Self, NoHome> {
        let account = || std::env::home_dir().filter(|path| path.is_absolute());
        Self::for_platform(environment, cfg!(target_os = "macos"), || {
            account().or_else(|| Some(PathBuf::from(NO_HOME)))
        })
    }

    fn for_platform(
        environment: &Environment,
        macos: bool,
        account: impl FnOnce() -> Option<PathBuf>,
    ) -> Result<Self, NoHome> {
        // The XDG rule: a relative path is invalid and counts as unset.
        let absolute =
            |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME").or_else(|| account().filter(|path| path.is_absolute()));
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest)).ok_or(NoHome);
        let or_home = |name: &str, rest: &str| absolute(name).map_or_else(|| below_home(rest), Ok);
        let config = or_home("XDG_CONFIG_HOME", ".config")?;
        let caches = if macos { "Library/Caches" } else { ".cache" };
        let cache_dir = or_home("XDG_CACHE_HOME", caches)?.join(NAME);
        let runtime = if macos { "TMPDIR" } else { "XDG_RUNTIME_DIR" };
        let runtime_dir = match absolute("XDG_RUNTIME_DIR").or_else(|| absolute(runtime)) {
            Some(base) => base.join(NAME),
            None => cache_dir.join("run"),
        };
        Ok(Self {
            config_file: config.join(NAME).join("config.toml"),
            home: home.unwrap_or_else(|| PathBuf::from("/")),
            cache_dir,
            runtime_dir,
        })
    }

    /// The folder of what is kept and is no cache: the log of a daemon without a service manager.
    #[must_use]
    pub(crate) fn state_dir(&self, environment: &Environment) -> PathBuf {
        let given = environment.get("XDG_STATE_HOME").map(PathBuf::from);
        let base = given.filter(|path| path.is_absolute());
        base.unwrap_or_else(|| self.home.join(".local/state")).join(NAME)
    }

    /// The control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// Held by the one view that shows notifications on the desktop.
    pub(crate) fn desktop_lock(&self) -> PathBuf {
        self.runtime_dir.join("desktop.lock")
    }

    /// The folder of target directories that projects have to themselves.
    #[must_use]
    pub fn own_targets(&self) -> PathBuf {
        self.cache_dir.join("targets")
    }

    /// The file whose lock means that a daemon is alive.
    #[must_use]
    pub fn daemon_lock(&self) -> PathBuf {
        self.runtime_dir.join("daemon.lock")
    }
}

/// Makes a folder and those above it that are missing, for this user alone.
///
/// # Errors
/// If one cannot be made.
pub(crate) fn create_private_folder(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// Writes a file under another name and renames it into place: a reader sees the old content or the
/// new, and nothing else. The file and its folder, if that is missing, are for this user alone. Nothing
/// waits for the disk.
///
/// # Errors
/// If it cannot be written. The old content is then still there.
pub(crate) fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<std::fs::File> {
    use std::io::Write as _;
    let folder = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    create_private_folder(folder)?;
    let mut fresh = tempfile::NamedTempFile::new_in(folder)?;
    fresh.write_all(content)?;
    Ok(fresh.persist(path)?)
}

/// Why a path of the config means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpandError {
    /// The variable is not set.
    #[error("`${0}` is not set")]
    Unset(String),
    /// Something after `$` that is no variable.
    #[error("`$` must be followed by a name or `{{name}}` (a literal dollar sign is `$$`)")]
    Syntax,
    /// Another user's home.
    #[error("`~` stands only for one's own home, as `~` or `~/...`")]
    OtherHome,
}

/// The path without `.` and `..`, by its text alone: links are not looked at.
#[must_use]
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// Expands `~`, `$NAME`, `${NAME}` and `$$` in a path of the config.
///
/// # Errors
/// An unset variable is an error: an empty one would name a wrong folder.
pub(crate) fn expand(
    text: &str,
    home: &Path,
    environment: &Environment,
) -> Result<PathBuf, ExpandError> {
    let mut path = OsString::new();
    let mut rest = text;
    if let Some(after) = text.strip_prefix('~') {
        if !after.is_empty() && !after.starts_with('/') {
            return Err(ExpandError::OtherHome);
        }
        path.push(home);
        rest = after;
    }
    while let Some((before, after)) = rest.split_once('$') {
        path.push(before);
        if let Some(after) = after.strip_prefix('$') {
            path.push("$");
            rest = after;
            continue;
        }
        let (name, after) = if let Some(braced) = after.strip_prefix('{') {
            braced.split_once('}').ok_or(ExpandError::Syntax)?
        } else {
            let end =
                after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at(end)
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(valid) {
            return Err(ExpandError::Syntax);
        }
        let value: &OsStr =
            environment.get(name).ok_or_else(|| ExpandError::Unset(name.to_owned()))?;
        path.push(value);
        rest = after;
    }
    path.push(rest);
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platforms_have_their_own_places() {
        let environment = Environment::of(&[("HOME", "/h"), ("TMPDIR", "/tmp/u")]);
        let linux = Paths::for_platform(&environment, false, || None).unwrap();
        assert_eq!(linux.config_file, Path::new("/h/.config/knhk-test-cache/config.toml"));
        assert_eq!(linux.cache_dir, Path::new("/h/.cache/knhk-test-cache"));
        assert_eq!(linux.runtime_dir, Path::new("/h/.cache/knhk-test-cache/run"));
        let macos = Paths::for_platform(&environment, true, || None).unwrap();
        assert_eq!(macos.cache_dir, Path::new("/h/Library/Caches/knhk-test-cache"));
        assert_eq!(macos.runtime_dir, Path::new("/tmp/u/knhk-test-cache"));
    }

    #[test]
    fn xdg_variables_win_and_relative_ones_do_not_count() {
        let environment = Environment::of(&[
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "relative"),
            ("XDG_CACHE_HOME", "/c"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
        ]);
        let paths = Paths::for_platform(&environment, false, || None).unwrap();
        assert_eq!(paths.config_file, Path::new("/h/.config/knhk-test-cache/config.toml"));
        assert_eq!(paths.cache_dir, Path::new("/c/knhk-test-cache"));
        assert_eq!(paths.socket(), Path::new("/run/user/7/knhk-test-cache/control.sock"));
    }

    #[test]
    fn no_home_is_an_error_with_a_way_out() {
        let error = Paths::for_platform(&Environment::of(&[]), false, || None).unwrap_err();
        assert!(error.to_string().contains("XDG_CONFIG_HOME"));
        let account = || Some(PathBuf::from("/home/u"));
        let paths = Paths::for_platform(&Environment::of(&[]), false, account).unwrap();
        assert_eq!(paths.home, Path::new("/home/u"));
        let paths =
            Paths::for_platform(&Environment::of(&[("HOME", "/h")]), false, account).unwrap();
        assert_eq!(paths.home, Path::new("/h"));
        let given = Environment::of(&[("XDG_CONFIG_HOME", "/a"), ("XDG_CACHE_HOME", "/b")]);
        assert!(Paths::for_platform(&given, false, || None).is_ok());
    }

    #[test]
    fn paths_of_the_config_expand() {
        let environment = Environment::of(&[("A", "/x"), ("B_1", "y")]);
        let expand = |text| expand(text, Path::new("/h"), &environment);
        assert_eq!(expand("~"), Ok("/h".into()));
        assert_eq!(expand("~/src"), Ok("/h/src".into()));
        assert_eq!(expand("$A/${B_1}z"), Ok("/x/yz".into()));
        assert_eq!(expand("/a$$b~"), Ok("/a$b~".into()));
        assert_eq!(expand("$NO/x"), Err(ExpandError::Unset("NO".into())));
        assert_eq!(expand("~bob/x"), Err(ExpandError::OtherHome));
        for bad in ["$", "$/x", "${A", "${}", "${A B}"] {
            assert_eq!(expand(bad), Err(ExpandError::Syntax), "{bad}");
        }
    }
}
