//! Finding and reading the files of cargo's configuration.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{CargoConfigError, CargoConfigFile, Layer};
use crate::model::Digest;
use crate::workspace::toml_file;

/// More levels of `include` than anybody writes on purpose.
const DEPTH: usize = 16;

/// Whether cargo and rustup find other settings in `dir`, which is in the workspace, than in its
/// root: they look for files from the folder upwards in which they are called. Both are canonical.
#[must_use]
pub(crate) fn is_configured_apart(dir: &Path, root: &Path) -> bool {
    const FILES: [&str; 4] =
        [".cargo/config", ".cargo/config.toml", "rust-toolchain", "rust-toolchain.toml"];
    let inside = dir.ancestors().take_while(|folder| *folder != root);
    dir.starts_with(root)
        && inside.into_iter().any(|folder| FILES.iter().any(|name| folder.join(name).is_file()))
}

/// Collects the files that are read on the way.
#[derive(Default)]
pub(super) struct Loader {
    pub(super) files: Vec<CargoConfigFile>,
}

impl Loader {
    /// The files that apply in `dir`: those in `.cargo` from there up to the root, then cargo's
    /// home, nearest first.
    pub(super) fn hierarchy(
        &mut self,
        dir: &Path,
        home: Option<&Path>,
    ) -> Result<Vec<Layer>, CargoConfigError> {
        let mut layers = Vec::new();
        let folders = dir.ancestors().map(|folder| folder.join(".cargo"));
        // Home is often met on the way up already; twice would change nothing but the list.
        let home =
            home.filter(|home| !dir.ancestors().any(|folder| folder.join(".cargo") == **home));
        for folder in folders.chain(home.map(Path::to_owned)) {
            // If both are there, cargo takes the old name and warns.
            for name in ["config", "config.toml"] {
                let path = folder.join(name);
                if path.is_dir() {
                    continue;
                }
                if self.file(&path, 0, &mut layers)? {
                    break;
                }
            }
        }
        Ok(layers)
    }

    /// The settings of `--config` arguments, the last one first since it wins.
    pub(super) fn arguments(
        &mut self,
        dir: &Path,
        arguments: &[OsString],
    ) -> Result<Vec<Layer>, CargoConfigError> {
        let mut layers = Vec::new();
        for argument in arguments.iter().rev() {
            let path = dir.join(argument);
            if !argument.is_empty() && path.exists() {
                self.file(&path, 0, &mut layers)?;
                continue;
            }
            let bad = |message: String| CargoConfigError::Argument {
                argument: argument.to_string_lossy().into_owned(),
                message,
            };
            let text = argument.to_str().ok_or_else(|| bad("not UTF-8".to_owned()))?;
            let table: toml::Table =
                text.parse().map_err(|error: toml::de::Error| bad(error.message().to_owned()))?;
            layers.push(Layer { base: dir.to_owned(), table });
        }
        Ok(layers)
    }

    /// Adds the file and, after it since they weigh less, what it includes. False if it is not
    /// there.
    fn file(
        &mut self,
        path: &Path,
        depth: usize,
        layers: &mut Vec<Layer>,
    ) -> Result<bool, CargoConfigError> {
        if depth > DEPTH {
            return Err(CargoConfigError::TooDeep(path.to_owned()));
        }
        let Some(bytes) = toml_file::read_bytes(path)? else { return Ok(false) };
        let table = toml_file::parse(path, &bytes)?;
        if !self.files.iter().any(|file| file.path == path) {
            self.files.push(CargoConfigFile { path: path.to_owned(), digest: Digest::of(&bytes) });
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let includes = includes(&table)?;
        let base = folder.parent().unwrap_or(folder).to_owned();
        layers.push(Layer { base, table });
        // Later ones win over earlier ones.
        for (name, optional) in includes.into_iter().rev() {
            let included = folder.join(name);
            if !self.file(&included, depth + 1, layers)? && !optional {
                return Err(CargoConfigError::Missing(included));
            }
        }
        Ok(true)
    }
}

/// `include`: one path, or several, each a text or a table with `path` and `optional`.
fn includes(table: &toml::Table) -> Result<Vec<(PathBuf, bool)>, CargoConfigError> {
    let one = |value: &toml::Value| match value {
        toml::Value::String(path) => Some((path.into(), false)),
        toml::Value::Table(table) => {
            let optional = table.get("optional").and_then(toml::Value::as_bool).unwrap_or(false);
            Some((table.get("path")?.as_str()?.into(), optional))
        }
        _ => None,
    };
    let all = match table.get("include") {
        None => Some(Vec::new()),
        Some(toml::Value::Array(values)) => values.iter().map(one).collect(),
        Some(value) => one(value).map(|value| vec![value]),
    };
    all.ok_or_else(|| CargoConfigError::Type {
        key: "include".to_owned(),
        expected: "a path or a list of paths",
    })
}
