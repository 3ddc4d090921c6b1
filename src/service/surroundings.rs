//! What the service gets of the developer's shell: the `PATH` on which cargo, rustc, git and the
//! C compiler were found, and the variables that decide what cargo builds.
//!
//! A session's service manager has a `PATH` of its own without `~/.cargo/bin`, and none of the
//! variables. They go into the unit as `Environment=` lines (`EnvironmentVariables` on launchd)
//! rather than a file beside it: one text to look at, to compare and to remove.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::escape::{self, Unwritable};
use crate::process::Environment;
use crate::workspace::{build_variables, is_secret};

/// The programs that a build needs.
const TOOLS: [(&str, bool); 4] = [("cargo", true), ("rustc", true), ("git", false), ("cc", false)];

/// A program that a build needs, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Its name, as `PATH` is searched for it.
    pub name: &'static str,
    /// Where it lies, if it was found.
    pub path: Option<PathBuf>,
    /// Whether nothing works without it.
    pub needed: bool,
}

/// A variable, or a folder of `PATH`, that the service does not get though the shell has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// The variable, or `PATH` and the folder.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What the service gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The variables, `PATH` among them.
    pub variables: BTreeMap<String, String>,
    /// The programs, found on that `PATH`.
    pub tools: Vec<Tool>,
    /// What it does not get.
    pub left_out: Vec<LeftOut>,
}

impl Surroundings {
    /// What a service installed from this shell gets. Pure but for looking at which programs
    /// exist, so that asking again tells whether the shell has changed since.
    #[must_use]
    pub(crate) fn of(environment: &Environment, home: &Path) -> Self {
        let mut this = Self::default();
        for (name, value) in build_variables(environment) {
            let Some(text) = name.to_str() else { continue };
            if is_secret(name) {
                this.leave_out(text, "it looks like a secret, and the unit file is readable");
                continue;
            }
            // systemd refuses other names (cc also reads the target with underscores).
            if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                this.leave_out(text, "a unit can only set names of letters, digits and `_`");
                continue;
            }
            match escape::writable(value) {
                Ok(value) => {
                    this.variables.insert(text.to_owned(), value.to_owned());
                }
                Err(why) => this.leave_out(text, &why.to_string()),
            }
        }
        let path = this.path(environment, home);
        this.variables.insert("PATH".to_owned(), path);
        let seen = this.environment();
        this.tools = TOOLS
            .map(|(name, needed)| Tool {
                name,
                path: seen.find_program(Path::new(name), Path::new("/")),
                needed,
            })
            .into();
        this
    }

    /// The variables as an environment, to look at things as the service will.
    #[must_use]
    pub(crate) fn environment(&self) -> Environment {
        as_environment(&self.variables)
    }

    /// The first tool that is missing though nothing works without it.
    #[must_use]
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.tools.iter().find(|tool| tool.needed && tool.path.is_none()).map(|tool| tool.name)
    }

    fn leave_out(&mut self, what: &str, why: &str) {
        self.left_out.push(LeftOut { what: what.to_owned(), why: why.to_owned() });
    }

    /// The shell's `PATH` without what cannot mean the same in a service: relative folders, and
    /// doubles. Where cargo is not on it, the folder in which rustup puts it comes last.
    fn path(&mut self, environment: &Environment, home: &Path) -> String {
        let mut folders: Vec<String> = Vec::new();
        for folder in environment.get("PATH").into_iter().flat_map(std::env::split_paths) {
            match escape::writable(folder.as_os_str()) {
                Ok(text) if folder.is_absolute() => {
                    if !folders.iter().any(|known| known == text) {
                        folders.push(text.to_owned());
                    }
                }
                other => {
                    let why = other.err().map_or_else(
                        || "a service has no current folder to take it from".to_owned(),
                        |error: Unwritable| error.to_string(),
                    );
                    self.leave_out(&format!("PATH entry `{}`", folder.display()), &why);
                }
            }
        }
        let has_cargo = environment.find_program(Path::new("cargo"), Path::new("/")).is_some();
        let cargo_home = environment.get("CARGO_HOME").map(PathBuf::from);
        let bin = cargo_home.unwrap_or_else(|| home.join(".cargo")).join("bin");
        if !has_cargo
            && bin.join("cargo").is_file()
            && let Ok(bin) = escape::writable(bin.as_os_str())
        {
            folders.push(bin.to_owned());
        }
        folders.join(":")
    }
}

/// Variables as the environment of a process.
#[must_use]
pub(super) fn as_environment(variables: &BTreeMap<String, String>) -> Environment {
    variables.iter().map(|(n, v)| (OsString::from(n), OsString::from(v))).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Surroundings {
        Surroundings::of(&Environment::of(pairs), Path::new("/h"))
    }

    fn program(folder: &Path, name: &str) {
        std::fs::create_dir_all(folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn only_what_decides_the_build_is_taken() {
        let taken = of(&[
            ("RUSTFLAGS", "-Cdebuginfo=0"),
            ("CC_x86_64_unknown_linux_gnu", "clang"),
            ("CC_x86_64-unknown-linux-musl", "clang"),
            ("CARGO_TARGET_DIR", "/t"),
            ("CARGO_REGISTRY_TOKEN", "secret"),
            ("CARGO_MANIFEST_DIR", "/m"),
            ("CARGO_PKG_NAME", "x"),
            ("EDITOR", "vi"),
            ("SSH_AUTH_SOCK", "/s"),
        ]);
        let names: Vec<&str> = taken.variables.keys().map(String::as_str).collect();
        assert_eq!(names, ["CARGO_TARGET_DIR", "CC_x86_64_unknown_linux_gnu", "PATH", "RUSTFLAGS"]);
    }

    #[test]
    fn secrets_and_unwritable_values_are_named_not_taken() {
        let taken = of(&[("PATH", "/bin"), ("SCCACHE_AZURE_KEY_X", "k"), ("CFLAGS", "-DX='a\nb'")]);
        assert_eq!(taken.variables.len(), 1);
        let left: Vec<&str> = taken.left_out.iter().map(|left| left.what.as_str()).collect();
        assert_eq!(left, ["CFLAGS", "SCCACHE_AZURE_KEY_X"]);
    }

    #[test]
    fn a_toolchain_that_rustup_chose_is_not_frozen() {
        let own = of(&[("RUSTUP_TOOLCHAIN", "nightly")]);
        assert_eq!(own.variables["RUSTUP_TOOLCHAIN"], "nightly");
        let below = of(&[("RUSTUP_TOOLCHAIN", "nightly"), ("RUST_RECURSION_COUNT", "1")]);
        assert!(!below.variables.contains_key("RUSTUP_TOOLCHAIN"));
    }

    #[test]
    fn the_path_keeps_its_order_and_loses_what_means_nothing() {
        let taken = of(&[("PATH", "/b:/a:.:/b::bin:/a b")]);
        assert_eq!(taken.variables["PATH"], "/b:/a:/a b");
        assert_eq!(taken.left_out.len(), 3);
        assert_eq!(taken.missing(), Some("cargo"));
    }

    #[test]
    fn cargo_is_found_where_rustup_puts_it() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join(".cargo/bin");
        program(&bin, "cargo");
        program(&bin, "rustc");
        let taken = Surroundings::of(&Environment::of(&[("PATH", "/nowhere")]), dir.path());
        assert_eq!(taken.variables["PATH"], format!("/nowhere:{}", bin.display()));
        assert_eq!(taken.missing(), None);
        assert_eq!(taken.tools[0].path, Some(bin.join("cargo")));
        assert_eq!(taken.tools[3].path, None, "no cc, which may be fine");
    }
}
