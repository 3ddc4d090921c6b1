//! The test target of an artifact.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::CompileError;
use super::message::ArtifactMessage;
use crate::model::{Harness, TargetId, TargetKind};

/// A test binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The target.
    pub id: TargetId,
    /// The binary.
    pub executable: PathBuf,
    /// The harness that runs its tests.
    pub harness: Harness,
    /// Whether cargo found it up to date.
    pub fresh: bool,
}

/// The manifests that have been read.
#[derive(Default)]
pub(super) struct Packages(RefCell<HashMap<PathBuf, toml::Table>>);

impl Packages {
    fn with<T>(
        &self,
        manifest: &Path,
        look: impl FnOnce(&toml::Table) -> T,
    ) -> Result<T, CompileError> {
        let mut tables = self.0.borrow_mut();
        if !tables.contains_key(manifest) {
            let bad = |why: String| {
                CompileError::BadOutput(format!("the manifest `{}` {why}", manifest.display()))
            };
            let text = std::fs::read_to_string(manifest).map_err(|e| bad(e.to_string()))?;
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            let table = text.parse().map_err(|e: toml::de::Error| bad(e.message().to_owned()))?;
            tables.insert(manifest.to_owned(), table);
        }
        Ok(look(&tables[manifest]))
    }
}

/// All test binaries among the artifacts, in order.
pub(super) fn artifacts(
    messages: &[ArtifactMessage],
    packages: &Packages,
) -> Result<Vec<Artifact>, CompileError> {
    let mut found = Vec::new();
    for message in messages.iter().filter(|message| message.is_test()) {
        let Some(executable) = message.executable.clone() else { continue };
        let kind = kind(&message.target.kind)?;
        let name = &message.target.name;
        let (package, custom) = packages.with(&message.manifest_path, |manifest| {
            (package_name(manifest).map(str::to_owned), is_custom(manifest, kind, name))
        })?;
        let package = package.ok_or_else(|| {
            let path = message.manifest_path.display();
            CompileError::BadOutput(format!("the manifest `{path}` has no package name"))
        })?;
        found.push(Artifact {
            id: TargetId { package, target: name.clone(), kind },
            executable,
            harness: if custom { Harness::Custom } else { Harness::Libtest },
            fresh: message.fresh,
        });
    }
    Ok(found)
}

fn kind(kinds: &[String]) -> Result<TargetKind, CompileError> {
    let first = kinds.first().map_or("", String::as_str);
    match first {
        "lib" | "rlib" | "dylib" | "cdylib" | "staticlib" | "proc-macro" => Ok(TargetKind::Lib),
        other => other.parse().map_err(|_| {
            CompileError::BadOutput(format!("a test binary of the unknown kind `{other}`"))
        }),
    }
}

fn package_name(manifest: &toml::Table) -> Option<&str> {
    manifest.get("package").or_else(|| manifest.get("project"))?.get("name")?.as_str()
}

/// Whether the manifest says `harness = false` for the target.
fn is_custom(manifest: &toml::Table, kind: TargetKind, name: &str) -> bool {
    let off =
        |target: &toml::Value| target.get("harness").and_then(toml::Value::as_bool) == Some(false);
    match manifest.get(kind.as_str()) {
        // `[lib]` is one table; its name is optional and there is only one.
        Some(table @ toml::Value::Table(_)) => off(table),
        Some(toml::Value::Array(tables)) => tables.iter().any(|table| {
            table.get("name").and_then(toml::Value::as_str) == Some(name) && off(table)
        }),
        _ => false,
    }
}

/// Whether a test program of this name, as it stands in its file's name, may have a harness of its
/// own by the manifest in `dir`. One that cannot be read may say so.
#[must_use]
pub(crate) fn may_be_custom(dir: &Path, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(dir.join("Cargo.toml")) else { return true };
    let Ok(manifest) = text.strip_prefix('\u{feff}').unwrap_or(&text).parse::<toml::Table>() else {
        return true;
    };
    let off = |target: &toml::Value| {
        let named = target.get("name").and_then(toml::Value::as_str);
        target.get("harness").and_then(toml::Value::as_bool) == Some(false)
            && named.is_none_or(|named| named.replace('-', "_") == name)
    };
    TargetKind::ALL.iter().filter_map(|kind| manifest.get(kind.as_str())).any(|found| match found {
        toml::Value::Array(tables) => tables.iter().any(off),
        table => off(table),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_harness_is_custom_only_where_the_manifest_says_so() {
        let manifest: toml::Table = "[lib]\nharness=false\n[[test]]\nname='c'\nharness=false\n\
                                     [[test]]\nname='d'\n[[bench]]\nname='c'\nharness=true"
            .parse()
            .unwrap();
        let custom = |kind, name| is_custom(&manifest, kind, name);
        assert!(custom(TargetKind::Lib, "x") && custom(TargetKind::Test, "c"));
        assert!(!custom(TargetKind::Test, "d") && !custom(TargetKind::Test, "e"));
        assert!(!custom(TargetKind::Bench, "c") && !custom(TargetKind::Bin, "c"));
    }

    #[test]
    fn kinds_of_libraries_are_one() {
        let of = |kind: &str| super::kind(&[kind.to_owned()]);
        assert_eq!(of("proc-macro").unwrap(), TargetKind::Lib);
        assert_eq!(of("cdylib").unwrap(), TargetKind::Lib);
        assert_eq!(of("example").unwrap(), TargetKind::Example);
        assert!(of("custom-build").is_err() && super::kind(&[]).is_err());
    }
}
