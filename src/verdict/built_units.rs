//! The units that our builds have made, each with the environment that it was made in.
//!
//! Cargo does not tell which variables a unit was made with: a build script or a macro may have read
//! any. What another command has built may be of any environment. Nor does it look at what flags name
//! outside of the workspace, so that is part of an environment here. And it goes by times: another
//! checkout that takes the place of this one with older files, or a clock that was set back, makes it
//! call fresh what was made of other files. So a unit is noted with what its files contained.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
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
    build: BuildContext,
    known: HashSet<String>,
}

impl KnownUnits {
    /// The units that `file` names.
    pub(super) fn load(file: &Path, build: BuildContext) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        Self { build, known: text.lines().map(str::to_owned).collect() }
    }

    /// Whether the unit, as it is, was made in this environment, of files that contain what they do now.
    pub(super) fn holds(&mut self, unit: &BuiltUnit) -> bool {
        self.known.contains(&self.build.unit(unit))
    }
}

/// Notes in `file` the units that a build has made.
pub(super) fn note(file: &Path, mut build: BuildContext, units: &[BuiltUnit]) {
    // Nobody asks for the environment of a vendored package.
    let is_asked = |unit: &&BuiltUnit| !matches!(unit.watched, WatchedByCargo::Vendored(_));
    let new = units.iter().filter(|unit| unit.is_new).filter(is_asked);
    let new: Vec<_> = new.map(|unit| build.unit(unit)).collect();
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

/// The circumstances of a build: its environment, its folder, and the contents of files.
pub(super) struct BuildContext {
    environment: Digest,
    /// What the files contain that were looked at.
    contents: HashMap<PathBuf, Digest>,
}

impl BuildContext {
    /// A build of the workspace at `root`.
    pub(super) fn new(root: &Path, environment: &Environment, identity: &Identity) -> Self {
        let environment = environment_digest(root, environment, identity);
        Self { environment, contents: HashMap::new() }
    }

    /// A unit as it is, made in these circumstances.
    fn unit(&mut self, unit: &BuiltUnit) -> String {
        let mut digester = Digester::new("unit of a build 2");
        let made = unit.made.duration_since(UNIX_EPOCH).unwrap_or_default();
        digester.field(unit.list.as_os_str().as_bytes()).digest(&self.environment);
        digester.number(made.as_secs()).number(made.subsec_nanos().into());
        for file in &unit.files {
            digester.field(file.as_os_str().as_bytes()).digest(self.content(file));
        }
        digester.finish().to_string()
    }

    fn content(&mut self, path: &Path) -> &Digest {
        self.contents.entry(path.to_owned()).or_insert_with(|| {
            // A pipe or a device would be read for ever.
            let file = path.is_file().then(|| File::open(path).ok()).flatten();
            let read =
                file.and_then(|mut file| Digest::of_reader(&mut file, &mut vec![0; 1 << 16]).ok());
            read.map_or_else(|| Digest::of(b"no file that can be read"), |(digest, _)| digest)
        })
    }
}

/// All variables that a build script or a macro could read, less those that differ between any two
/// terminals; and what else decides what is built, at much of which cargo does not look: a wrapper's content,
/// files that flags name, whether the folder is the one that it was.
fn environment_digest(root: &Path, environment: &Environment, identity: &Identity) -> Digest {
    let mut digester = Digester::new("environment of a build 3");
    for (name, value) in environment.iter().filter(|(name, _)| !is_session_variable(name)) {
        digester.field(name.as_bytes()).field(value.as_bytes());
    }
    for (name, content) in identity.unnoticed() {
        digester.field(name.as_bytes()).digest(content);
    }
    if let Ok(metadata) = std::fs::metadata(root) {
        let created = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let created = created.unwrap_or_default();
        digester.number(metadata.ino());
        digester.number(created.as_secs()).number(created.subsec_nanos().into());
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
        let (file, source) = (dir.path().join("below/units"), dir.path().join("lib.rs"));
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(&source, "one").unwrap();
        let unit = |made, is_new| BuiltUnit {
            list: "/t/x.d".into(),
            made,
            is_new,
            files: vec![source.clone()],
            watched: WatchedByCargo::Listed,
        };
        let now = SystemTime::now();
        let plain = Identity::default();
        let context =
            |mode: &str| BuildContext::new(&root, &Environment::of(&[("MODE", mode)]), &plain);
        note(&file, context("a"), &[unit(UNIX_EPOCH, false), unit(now, true)]);
        let known =
            |mode: &str, made| KnownUnits::load(&file, context(mode)).holds(&unit(made, false));
        assert!(known("a", now) && !known("b", now), "another variable");
        assert!(!known("a", UNIX_EPOCH), "it was there before the build");
        note(&file, context("b"), &[unit(UNIX_EPOCH, true)]);
        assert!(known("a", now) && known("b", UNIX_EPOCH));
        let linked = [("linked `/opt/lib`".to_owned(), Digest::of(b"1"))].into();
        let linked = Identity { build: linked, ..Identity::default() };
        let linked = BuildContext::new(&root, &Environment::of(&[("MODE", "a")]), &linked);
        assert!(!KnownUnits::load(&file, linked).holds(&unit(now, false)));
        std::fs::write(&source, "two").unwrap();
        assert!(!known("a", now), "cargo may go by a time that says nothing");
        std::fs::write(&source, "one").unwrap();
        assert!(known("a", now));
        std::fs::create_dir(dir.path().join("other")).unwrap();
        std::fs::rename(&root, dir.path().join("away")).unwrap();
        std::fs::rename(dir.path().join("other"), &root).unwrap();
        assert!(!known("a", now), "another checkout in its place");
    }
}
