//! Cargo's own configuration as it applies in one folder: files, `--config`, environment.
//!
//! The layers are kept apart instead of merged, so that every value still knows the folder that
//! a relative path in it starts from. A look-up asks them in cargo's order: `--config`, then the
//! environment, then the files from the nearest to `$CARGO_HOME`.

mod load;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use cargo_platform::{Cfg, Platform};

pub(crate) use load::is_configured_apart;

use super::toml_file::TomlError;
use crate::model::Digest;
use crate::process::Environment;

/// Why cargo's configuration is of no use.
#[derive(Debug, thiserror::Error)]
pub enum CargoConfigError {
    /// A file cannot be read or parsed.
    #[error("cargo's configuration: {0}")]
    File(#[from] TomlError),
    /// A file that another includes, or `--config` names, is not there.
    #[error("cargo's configuration: `{}` is included and not there", .0.display())]
    Missing(PathBuf),
    /// Files include each other in a circle or too deep.
    #[error("cargo's configuration: includes too deep at `{}`", .0.display())]
    TooDeep(PathBuf),
    /// A `--config` argument is neither a file nor `KEY=VALUE`.
    #[error("cargo's argument `--config {argument}`: {message}")]
    Argument {
        /// The argument.
        argument: String,
        /// The reason.
        message: String,
    },
    /// A value has another type than cargo takes.
    #[error("cargo's configuration: `{key}` must be {expected}")]
    Type {
        /// The dotted key.
        key: String,
        /// The type that cargo takes.
        expected: &'static str,
    },
    /// Two `cfg(..)` tables both match and both name a runner; cargo refuses that as well.
    #[error("cargo's configuration: both `{first}` and `{second}` set the runner of {triple}")]
    TwoRunners {
        /// One key.
        first: String,
        /// The other key.
        second: String,
        /// The target's name.
        triple: String,
    },
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CargoConfigFile {
    /// Its path.
    pub path: PathBuf,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// Cargo's configuration for one folder and environment.
#[derive(Clone, Debug)]
pub struct CargoConfig {
    dir: PathBuf,
    home: Option<PathBuf>,
    environment: Environment,
    /// The settings of `--config`; the last argument first.
    arguments: Vec<Layer>,
    /// The settings of files; the nearest first.
    layers: Vec<Layer>,
    files: Vec<CargoConfigFile>,
}

/// One table of settings.
#[derive(Clone, Debug)]
struct Layer {
    /// Relative paths in it start here.
    base: PathBuf,
    table: toml::Table,
}

/// In which shape a runner is already configured: cargo cannot merge one into the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunnerShape {
    /// Not at all, or as an array.
    Array,
    /// As one text that is split at white space.
    Text,
}

impl CargoConfig {
    /// Reads the configuration that cargo would use when called in `dir` (absolute) with
    /// `environment` and the `--config` arguments `arguments`.
    ///
    /// # Errors
    /// A file that is there but unreadable or not TOML, or an argument that is no setting.
    pub fn read(
        dir: &Path,
        environment: &Environment,
        arguments: &[OsString],
    ) -> Result<Self, CargoConfigError> {
        let home = cargo_home(dir, environment);
        let mut loader = load::Loader::default();
        let layers = loader.hierarchy(dir, home.as_deref())?;
        let arguments = loader.arguments(dir, arguments)?;
        Ok(Self {
            dir: dir.to_owned(),
            home,
            environment: environment.clone(),
            arguments,
            layers,
            files: loader.files,
        })
    }

    /// The tables of all settings, those of arguments first; each with the folder from which it names programs.
    pub(super) fn tables(&self) -> impl Iterator<Item = (&Path, &toml::Table)> {
        let all = self.arguments.iter().chain(&self.layers);
        all.map(|layer| (layer.base.as_path(), &layer.table))
    }

    /// The folder for which it was read.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Every file that was read, nearest first, each once.
    #[must_use]
    pub(crate) fn files(&self) -> &[CargoConfigFile] {
        &self.files
    }

    /// `$CARGO_HOME`, or `~/.cargo`.
    #[must_use]
    pub(crate) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The folders that builds write into, absolute: the target directory and, where it is
    /// another, the build directory. `asked` is `--target-dir`. A folder that is or contains the
    /// workspace `root` is left out: nobody may take the whole tree for artifacts.
    #[must_use]
    pub(crate) fn target_dirs(&self, root: &Path, asked: Option<PathBuf>) -> Vec<PathBuf> {
        let from_environment = |name: &str| {
            let value = self.environment.get(name).filter(|value| !value.is_empty());
            value.map(|value| self.dir.join(value))
        };
        let configured = |key: &'static str, name: &str| {
            let argument = path_in(&self.arguments, key);
            argument.or_else(|| from_environment(name)).or_else(|| path_in(&self.layers, key))
        };
        let target = asked
            .or_else(|| from_environment("CARGO_TARGET_DIR"))
            .or_else(|| configured("target-dir", "CARGO_BUILD_TARGET_DIR"))
            .unwrap_or_else(|| root.join("target"));
        let build = configured("build-dir", "CARGO_BUILD_BUILD_DIR")
            .and_then(|template| self.expand_build_dir(&template, root));
        let all: BTreeSet<PathBuf> =
            std::iter::once(target).chain(build).map(|path| plain(&path)).collect();
        all.into_iter().filter(|path| !root.starts_with(path)).collect()
    }

    /// Whether a folder for intermediate artifacts is configured.
    #[must_use]
    pub(crate) fn has_build_dir(&self) -> bool {
        self.value(&["build", "build-dir"], "CARGO_BUILD_BUILD_DIR").is_some()
    }

    /// A build directory may name `{workspace-root}`, `{cargo-cache-home}` and
    /// `{workspace-path-hash}`; what lies below the last is cargo's secret, so the folder above
    /// stands for it, unless that could hold anything else of the workspace.
    fn expand_build_dir(&self, template: &Path, root: &Path) -> Option<PathBuf> {
        // A template was joined to a base folder; it starts anew at its first brace.
        let text = template.to_str()?;
        let text = text.find("/{workspace-root}").map_or(text, |at| &text[at + 1..]);
        let text = text.find("/{cargo-cache-home}").map_or(text, |at| &text[at + 1..]);
        let home = self.home.as_deref().and_then(Path::to_str);
        let text = text.replace("{workspace-root}", root.to_str()?);
        let text = match home {
            Some(home) => text.replace("{cargo-cache-home}", home),
            None => text,
        };
        match text.split_once("{workspace-path-hash}") {
            None => Some(text.into()),
            Some((before, _)) => {
                let above = Path::new(before).to_owned();
                (!above.starts_with(root) && !root.starts_with(&above)).then_some(above)
            }
        }
    }

    /// The targets to build for when no `--target` is given (`build.target`); empty for the host.
    #[must_use]
    pub(crate) fn build_targets(&self) -> Vec<String> {
        let value = self.value(&["build", "target"], "CARGO_BUILD_TARGET");
        match value {
            Some((toml::Value::String(name), _)) => vec![name],
            Some((toml::Value::Array(names), _)) => {
                names.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The compiler that is configured instead of `rustc` from `PATH`.
    #[must_use]
    pub(crate) fn rustc(&self) -> Option<PathBuf> {
        self.tool("RUSTC", "rustc", "CARGO_BUILD_RUSTC")
    }

    /// The documentation tool that is configured instead of the toolchain's `rustdoc`.
    #[must_use]
    pub(crate) fn rustdoc(&self) -> Option<PathBuf> {
        self.tool("RUSTDOC", "rustdoc", "CARGO_BUILD_RUSTDOC")
    }

    /// The configured programs around the compiler, by name (`rustc-wrapper`…), as paths.
    #[must_use]
    pub(crate) fn wrappers(&self) -> Vec<(&'static str, PathBuf)> {
        [
            ("RUSTC_WRAPPER", "rustc-wrapper", "CARGO_BUILD_RUSTC_WRAPPER"),
            (
                "RUSTC_WORKSPACE_WRAPPER",
                "rustc-workspace-wrapper",
                "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
            ),
        ]
        .into_iter()
        .filter_map(|(variable, key, second)| Some((key, self.tool(variable, key, second)?)))
        .collect()
    }

    /// The program with its arguments that runs test binaries for `triple`, if one is
    /// configured. `cfgs` are the target's `rustc --print cfg` lines; without any `cfg(..)` table
    /// ([`CargoConfig::has_cfg_runner`]) they may be empty.
    ///
    /// # Errors
    /// A value of a wrong type, a `cfg(..)` that is none, or two that match.
    pub(crate) fn runner(
        &self,
        triple: &str,
        cfgs: &[Cfg],
    ) -> Result<Option<Vec<OsString>>, CargoConfigError> {
        let key = ["target", triple, "runner"];
        if let Some((value, base)) = find(&self.arguments, &key) {
            return command(&value, &base, &key).map(Some);
        }
        let variable = runner_variable(triple);
        if let Some(words) = self.environment.get(&variable).filter(|value| !value.is_empty()) {
            let words = words.as_bytes().split(u8::is_ascii_whitespace);
            let words = words.filter(|word| !word.is_empty()).map(|w| OsStr::from_bytes(w).into());
            return Ok(Some(rooted(words.collect(), &self.dir)));
        }
        if let Some((value, base)) = find(&self.layers, &key) {
            return command(&value, &base, &key).map(Some);
        }
        let mut found: Option<(String, Vec<OsString>)> = None;
        for name in self.cfg_runners() {
            let platform = Platform::from_str(&name).map_err(|_| CargoConfigError::Type {
                key: format!("target.'{name}'"),
                expected: "a target's name or a `cfg(..)` expression",
            })?;
            if !platform.matches(triple, cfgs) {
                continue;
            }
            let key = ["target", name.as_str(), "runner"];
            let all = self.arguments.iter().chain(&self.layers);
            let Some((value, base)) = find(all, &key) else { continue };
            if let Some((first, _)) = found {
                let triple = triple.to_owned();
                return Err(CargoConfigError::TwoRunners { first, second: name, triple });
            }
            let words = command(&value, &base, &key)?;
            found = Some((name, words));
        }
        Ok(found.map(|(_, words)| words))
    }

    /// Whether a `cfg(..)` table sets a runner, so that the target's cfgs are needed.
    #[must_use]
    pub(crate) fn has_cfg_runner(&self) -> bool {
        !self.cfg_runners().is_empty()
    }

    /// How a runner for `triple` must be written so that cargo can merge it with what is there.
    #[must_use]
    pub(crate) fn runner_shape(&self, triple: &str) -> RunnerShape {
        let all = self.arguments.iter().chain(&self.layers);
        match find(all, &["target", triple, "runner"]) {
            Some((toml::Value::String(_), _)) => RunnerShape::Text,
            _ => RunnerShape::Array,
        }
    }

    /// Folders of packages that the configuration names: `paths`, `patch`, replaced sources.
    #[must_use]
    pub(crate) fn package_paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for layer in self.arguments.iter().chain(&self.layers) {
            let mut add = |path: Option<&toml::Value>| {
                paths.extend(path.and_then(toml::Value::as_str).map(|path| layer.base.join(path)));
            };
            let list = layer.table.get("paths").and_then(toml::Value::as_array);
            list.into_iter().flatten().for_each(|path| add(Some(path)));
            for patch in tables(&layer.table, "patch").flat_map(toml::Table::values) {
                add(patch.get("path"));
            }
            for source in tables(&layer.table, "source") {
                add(source.get("directory"));
                add(source.get("local-registry"));
            }
        }
        paths
    }

    fn cfg_runners(&self) -> BTreeSet<String> {
        let all = self.arguments.iter().chain(&self.layers);
        all.filter_map(|layer| layer.table.get("target")?.as_table())
            .flatten()
            .filter(|(name, table)| name.starts_with("cfg(") && table.get("runner").is_some())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// A tool's variable comes before everything, then `build.<key>` with its own order.
    fn tool(&self, variable: &str, key: &'static str, second: &str) -> Option<PathBuf> {
        if let Some(value) = self.environment.get(variable) {
            // Empty means none: that is how a wrapper is switched off for one call.
            return (!value.is_empty()).then(|| self.program(Path::new(value), &self.dir));
        }
        let (value, base) = self.value(&["build", key], second)?;
        let name = value.as_str().filter(|name| !name.is_empty())?;
        Some(self.program(Path::new(name), &base))
    }

    /// A name without a slash is looked for in `PATH`; left as it is where that fails.
    fn program(&self, name: &Path, base: &Path) -> PathBuf {
        if name.as_os_str().as_bytes().contains(&b'/') {
            base.join(name)
        } else {
            self.environment.find_program(name, &self.dir).unwrap_or_else(|| name.to_owned())
        }
    }

    /// The number of jobs (`CARGO_BUILD_JOBS`, `build.jobs`), as written.
    #[must_use]
    pub(crate) fn jobs(&self) -> Option<String> {
        match self.value(&["build", "jobs"], "CARGO_BUILD_JOBS")?.0 {
            toml::Value::Integer(number) => Some(number.to_string()),
            toml::Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether cargo tells the terminal its progress (`term.progress.term-integration`); none leaves
    /// it to what the terminal can do.
    #[must_use]
    pub(crate) fn term_integration(&self) -> Option<bool> {
        let variable = "CARGO_TERM_PROGRESS_TERM_INTEGRATION";
        match self.value(&["term", "progress", "term-integration"], variable)?.0 {
            toml::Value::Boolean(on) => Some(on),
            toml::Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A value in cargo's order, and the folder that a path in it is relative to.
    fn value(&self, key: &[&str], variable: &str) -> Option<(toml::Value, PathBuf)> {
        let from_environment = || {
            let value = self.environment.get(variable)?.to_str()?.to_owned();
            Some((toml::Value::String(value), self.dir.clone()))
        };
        find(&self.arguments, key).or_else(from_environment).or_else(|| find(&self.layers, key))
    }
}

/// `$CARGO_HOME`, or `.cargo` in the home folder.
pub(super) fn cargo_home(dir: &Path, environment: &Environment) -> Option<PathBuf> {
    let given = environment.get("CARGO_HOME").filter(|home| !home.is_empty());
    let home = || environment.get("HOME").filter(|home| !home.is_empty());
    given.map(|home| dir.join(home)).or_else(|| home().map(|home| Path::new(home).join(".cargo")))
}

/// `CARGO_TARGET_<TRIPLE>_RUNNER`.
fn runner_variable(triple: &str) -> String {
    let triple = triple.to_ascii_uppercase().replace(['-', '.'], "_");
    format!("CARGO_TARGET_{triple}_RUNNER")
}

/// The first layer's value under `key`.
fn find<'a>(
    layers: impl IntoIterator<Item = &'a Layer>,
    key: &[&str],
) -> Option<(toml::Value, PathBuf)> {
    layers.into_iter().find_map(|layer| {
        let (first, rest) = key.split_first()?;
        let start = layer.table.get(*first)?;
        let value = rest.iter().try_fold(start, |value, name| value.get(*name))?;
        Some((value.clone(), layer.base.clone()))
    })
}

fn path_in(layers: &[Layer], key: &str) -> Option<PathBuf> {
    let (value, base) = find(layers, &["build", key])?;
    value.as_str().map(|path| base.join(path))
}

/// The tables directly below `name`.
fn tables<'a>(table: &'a toml::Table, name: &str) -> impl Iterator<Item = &'a toml::Table> {
    let below = table.get(name).and_then(toml::Value::as_table);
    below.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table)
}

/// A program with arguments: an array, or a text that is split at white space.
fn command(
    value: &toml::Value,
    base: &Path,
    key: &[&str],
) -> Result<Vec<OsString>, CargoConfigError> {
    let words: Option<Vec<OsString>> = match value {
        toml::Value::String(text) => Some(text.split_whitespace().map(OsString::from).collect()),
        toml::Value::Array(words) => {
            words.iter().map(|word| word.as_str().map(OsString::from)).collect()
        }
        _ => None,
    };
    let words = words.filter(|words| !words.is_empty());
    words.map(|words| rooted(words, base)).ok_or_else(|| CargoConfigError::Type {
        key: key.join("."),
        expected: "a program with arguments: a text or an array of texts",
    })
}

/// A program with a slash in its name is relative to where it was configured.
fn rooted(mut words: Vec<OsString>, base: &Path) -> Vec<OsString> {
    if let Some(program) = words.first_mut().filter(|word| word.as_bytes().contains(&b'/')) {
        *program = base.join(&program).into_os_string();
    }
    words
}

/// The path without `.` and `..`, links not looked at.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            std::path::Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests;
