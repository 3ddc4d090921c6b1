//! What the tests of a target reached in its last green run, to compare later programs with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Question;
use super::fingerprint::digest_of_stamp;
use crate::cache::{Cache, ReachedTests, RecordKey};
use crate::model::{Digest, Outcome, TargetId, Timestamp};
use crate::process::Environment;
use crate::reach::{Capabilities, Policy, ReachReader, Reached, TestIdentity};
use crate::workspace::PathStamp;

/// The version of the stored bases. Those of another are ignored.
pub(super) const VERSION: u32 = 4;
/// Larger programs are not read: their objects take as much memory.
const LARGEST_PROGRAM: u64 = 128 << 20;
/// The bases of a project.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Bases {
    pub(super) version: u32,
    /// By the target's name.
    pub(super) targets: BTreeMap<String, Base>,
}

/// A green run of a target.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Base {
    pub(super) id: TargetId,
    /// Digest of everything besides the program that decides the outcome and is known beforehand.
    pub(super) context: Digest,
    /// Its record, which names its inputs, and when that was made.
    pub(super) record: (RecordKey, Timestamp),
    pub(super) tests: BTreeMap<String, BaseTest>,
}

/// A test in a green run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BaseTest {
    /// Digest of what it reaches; none if the whole program counts for it.
    pub(super) reached: Option<Digest>,
    pub(super) outcome: Outcome,
}

impl Bases {
    /// Where the bases of the workspace at `root` are.
    pub(super) fn file(root: &Path, cache_dir: &Path) -> PathBuf {
        Question::ledger_file(root, cache_dir).with_extension("reach")
    }

    pub(super) fn load(file: &Path) -> Self {
        let bases = std::fs::read(file).ok();
        let bases: Option<Self> = bases.and_then(|text| serde_json::from_slice(&text).ok());
        let known = bases.filter(|bases| bases.version == VERSION);
        known.unwrap_or_else(|| Self { version: VERSION, ..Self::default() })
    }
}

/// A target was red: no base answers for it. It may be known under the name that a call tells.
pub(super) fn disprove(cache: &Cache, root: &Path, id: &TargetId) {
    let plain = |id: &TargetId| (id.package.clone(), id.target.replace('-', "_"));
    let bases = Bases::load(&Bases::file(root, cache.dir()));
    for base in bases.targets.values().filter(|base| plain(&base.id) == plain(id)) {
        cache.disprove(&base.record.0);
    }
}

/// Whether a program that runs in this environment is asked for backtraces, which show its debug
/// information.
pub(super) fn asks_for_backtraces(environment: &Environment) -> bool {
    ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"].iter().any(|name| environment.get(name).is_some())
}

/// How programs were built and run of which it is asked what their tests reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuiltPrograms<'a> {
    /// The toolchain's folder.
    pub(super) sysroot: &'a Path,
    /// Whether it is certain that no crate was optimized.
    pub(super) unoptimized: bool,
    /// Whether the environment asks for backtraces.
    pub(super) backtraces: bool,
}

/// What each test of `program` reaches.
///
/// # Errors
/// If that is not known, for a person.
pub(super) fn reached_tests(
    reader: &mut Option<ReachReader>,
    program: &Path,
    BuiltPrograms { sysroot, unoptimized, backtraces }: BuiltPrograms<'_>,
) -> Result<ReachedTests, String> {
    if std::fs::metadata(program).is_ok_and(|file| file.len() > LARGEST_PROGRAM) {
        return Err(format!("it is larger than {} MiB", LARGEST_PROGRAM >> 20));
    }
    let reader = match reader {
        Some(reader) => reader,
        empty => empty.insert(ReachReader::new(sysroot).map_err(|error| error.to_string())?),
    };
    let tests = reader.tests(program);
    // The objects of one program are remembered, not those of all.
    reader.end_round();
    let tests = tests.map_err(|error| error.to_string())?;
    // A test can see the lines of another one: by a hook for panics, or a logger.
    let can_see = |reached: &Reached| reached.capabilities.contains(Capabilities::LOCATIONS);
    let unseen = !tests.values().any(can_see);
    // Nothing else is assumed that would leave out more tests.
    let policy = Policy {
        unoptimized: unoptimized && unseen,
        programs: Digest::from_bytes([0; 32]),
        starts_itself: true,
        backtraces,
    };
    let identity = |reached: Reached| match reached.identity(&policy) {
        TestIdentity::Reached(digest) => Some(digest),
        TestIdentity::WholeProgram(_) => None,
    };
    Ok(tests.into_iter().map(|(name, reached)| (name, identity(reached))).collect())
}

/// Digest of a program's stamp. A hard link to it changes nothing.
pub(super) fn stamp_of(program: &Path) -> Digest {
    digest_of_stamp(&PathStamp::of(program).without_links())
}
