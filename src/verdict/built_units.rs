//! The units that our builds have made, each with the environment that it was made in.
//!
//! Cargo does not tell which variables a unit was made with: a build script or a macro may have read
//! any. What another command has built may be of any environment. Nor does it look at what flags name
//! outside of the workspace, so that is part of an environment here.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::compiler::{BuiltUnit, WatchedByCargo};
use crate::model::{Digest, Digester};
use crate::paths::create_private_folder;
use crate::process::Environment;
use crate::workspace::{Identity, is_session_variable};

/// At most so many units are remembered, the newest.
const REMEMBERED_UNITS: usize = 4_096;

/// The units that are known to have been made in one environment.
pub(super) struct KnownUnits {
    environment: Digest,
    known: HashSet<String>,
}

impl KnownUnits {
    /// The units that `file` names.
    pub(super) fn load(file: &Path, environment: &Environment, identity: &Identity) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let known = text.lines().map(str::to_owned).collect();
        Self { environment: environment_digest(environment, identity), known }
    }

    /// Whether the unit, as it is, was made in this environment.
    pub(super) fn holds(&self, unit: &BuiltUnit) -> bool {
        self.known.contains(&unit_text(unit, &self.environment))
    }
}

/// Notes in `file` the units that a build in this environment has made.
pub(super) fn note(
    file: &Path,
    environment: &Environment,
    identity: &Identity,
    units: &[BuiltUnit],
) {
    let environment = environment_digest(environment, identity);
    // Nobody asks for the environment of a vendored package.
    let is_asked = |unit: &&BuiltUnit| !matches!(unit.watched, WatchedByCargo::Vendored(_));
    let new = units.iter().filter(|unit| unit.is_new).filter(is_asked);
    let new: Vec<_> = new.map(|unit| unit_text(unit, &environment)).collect();
    if new.is_empty() {
        return;
    }
    let before = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines: Vec<&str> = before.lines().collect();
    lines.extend(new.iter().map(String::as_str));
    let text = lines[lines.len().saturating_sub(REMEMBERED_UNITS)..].join("\n");
    let folder = file.parent().map_or(Ok(()), create_private_folder);
    if let Err(error) = folder.and_then(|()| std::fs::write(file, text)) {
        // Then nothing proves of what environment the units are.
        tracing::debug!(%error, file = %file.display(), "cannot note what was built");
    }
}

/// A unit as it is, made in this environment.
fn unit_text(unit: &BuiltUnit, environment: &Digest) -> String {
    let mut digester = Digester::new("unit of a build 1");
    let made = unit.made.duration_since(UNIX_EPOCH).unwrap_or_default();
    digester.field(unit.list.as_os_str().as_bytes()).digest(environment);
    digester.number(made.as_secs()).number(made.subsec_nanos().into());
    digester.finish().to_string()
}

/// All variables that a build script or a macro could read, less those that differ between any two
/// terminals; and what else decides what is built, at much of which cargo does not look: a wrapper's content,
/// files that flags name.
fn environment_digest(environment: &Environment, identity: &Identity) -> Digest {
    let mut digester = Digester::new("environment of a build 2");
    for (name, value) in environment.iter().filter(|(name, _)| !is_session_variable(name)) {
        digester.field(name.as_bytes()).field(value.as_bytes());
    }
    for (name, content) in identity.unnoticed() {
        digester.field(name.as_bytes()).digest(content);
    }
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_unit_is_known_as_it_was_made_and_in_its_environment_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("below/units");
        let environment = |mode: &str| Environment::of(&[("MODE", mode)]);
        let unit = |made, is_new| BuiltUnit {
            list: "/t/x.d".into(),
            made,
            is_new,
            watched: WatchedByCargo::Listed,
        };
        let now = SystemTime::now();
        let plain = Identity::default();
        note(&file, &environment("a"), &plain, &[unit(UNIX_EPOCH, false), unit(now, true)]);
        let known = |mode: &str, made| {
            KnownUnits::load(&file, &environment(mode), &plain).holds(&unit(made, false))
        };
        assert!(known("a", now) && !known("b", now), "another variable");
        assert!(!known("a", UNIX_EPOCH), "it was there before the build");
        note(&file, &environment("b"), &plain, &[unit(UNIX_EPOCH, true)]);
        assert!(known("a", now) && known("b", UNIX_EPOCH));
        let linked = [("linked `/opt/lib`".to_owned(), Digest::of(b"1"))].into();
        let linked = Identity { build: linked, ..Identity::default() };
        assert!(!KnownUnits::load(&file, &environment("a"), &linked).holds(&unit(now, false)));
    }
}
