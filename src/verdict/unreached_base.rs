//! What the tests of a target reached in its last green run, to compare later programs with.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Question;
use super::fingerprint::digest_of_stamp;
use super::isolation::{self, Groups};
use crate::cache::{Cache, InputState, ReachedTests, RecordKey};
use crate::hasher::{FileDigest, program_digest};
use crate::model::{Digest, Outcome, TargetId, Timestamp};
use crate::reach::{Capabilities, Masking, Policy, ReachReader, Reached, TestIdentity};
use crate::workspace::PathStamp;

/// The version of the stored bases. Those of another are ignored.
pub(super) const VERSION: u32 = 10;
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
    /// Digest of everything besides the program, its path and the variables that decides the outcome and is
    /// known beforehand.
    pub(super) context: Digest,
    /// Digest of the variables.
    pub(super) variables: Digest,
    /// Its record, which names its inputs, and when that was made.
    pub(super) record: (RecordKey, Timestamp),
    /// Digest of the path of its program, which another version of the package changes.
    pub(super) path: Digest,
    /// What is loaded of its program.
    pub(super) program: Option<Digest>,
    /// Whether it is certain that nothing of it was optimized.
    pub(super) unoptimized: bool,
    pub(super) tests: BTreeMap<String, BaseTest>,
    /// The programs that cargo built and the run has started, by their paths.
    pub(super) started: StartedPrograms,
}

/// A test in a green run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BaseTest {
    /// Digest of what it reaches; none if the whole program counts for it.
    pub(super) reached: Option<Digest>,
    pub(super) outcome: Outcome,
    /// Those of one group can affect each other ([`isolation`]).
    pub(super) group: u32,
}

/// The programs that tests started in a green run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct StartedPrograms {
    /// Whether it is certain that none of them has told of a panic.
    pub(super) is_quiet: bool,
    /// What is known of each, or why nothing is.
    pub(super) programs: BTreeMap<PathBuf, Result<StartedProgram, String>>,
}

/// A program that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StartedProgram {
    /// Digest of what its `main` reaches.
    pub(super) reached: Digest,
    /// The same with all positions in source files.
    pub(super) strict: Digest,
    /// Its length, as far as somebody has asked for it.
    pub(super) length: Option<u64>,
    /// Its permissions and its owner.
    pub(super) permissions: InputState,
}

/// What is known of the tests of a program.
#[derive(Debug)]
pub(super) struct ProgramTests {
    pub(super) reached: ReachedTests,
    /// Digest of the path of the program.
    pub(super) path: Digest,
    /// What is loaded of the program.
    pub(super) program: Option<Digest>,
    pub(super) groups: Groups,
    /// Those that can see with which arguments their program was started.
    pub(super) see_arguments: BTreeSet<String>,
    /// Those that can see the path of their program: any file can be a link to it.
    pub(super) see_path: BTreeSet<String>,
}

impl Base {
    /// Whether the test of this name reaches what it reached.
    pub(super) fn is_same(&self, name: &str, now: &ProgramTests) -> bool {
        let reached = now.reached.get(name).copied().flatten();
        let is_there = self.path == now.path;
        let is_program = is_there && self.program.is_some() && self.program == now.program;
        if !is_there && now.see_path.contains(name) {
            return false;
        }
        self.tests.get(name).is_some_and(|before| {
            let is_reached = reached.is_some() && reached == before.reached;
            (is_program || is_reached) && before.outcome != Outcome::Failed
        })
    }

    /// Those of the tests of `now` that must run, with what is shared between tests considered; the others
    /// come to the outcome that they had.
    pub(super) fn affected(&self, now: &ProgramTests) -> BTreeSet<String> {
        let is_same = |name: &str| self.is_same(name, now);
        let before = self.tests.iter().map(|(name, test)| (name.clone(), test.group)).collect();
        let affected = isolation::affected(&before, &now.groups, is_same);
        // The names of some tests are other arguments than those of a run of all.
        if affected.is_disjoint(&now.see_arguments) {
            affected
        } else {
            now.reached.keys().cloned().collect()
        }
    }
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

/// Whether all tests of this program would run by what they reach: as far as it can be told before the build
/// that has linked it is at its end.
pub(super) fn would_run_all(bases: &Path, id: &TargetId, program: &Path, sysroot: &Path) -> bool {
    let bases = Bases::load(bases);
    let Some(base) = bases.targets.get(&id.to_string()) else { return true };
    let built = BuiltPrograms { sysroot, unoptimized: base.unoptimized };
    let now = reached_tests(&mut None, program, built);
    now.map_or(true, |now| base.affected(&now).len() == now.reached.len())
}

/// A target was red: no base answers for it. It may be known under the name that a call tells.
pub(super) fn disprove(cache: &Cache, root: &Path, id: &TargetId) {
    let plain = |id: &TargetId| (id.package.clone(), id.target.replace('-', "_"));
    let bases = Bases::load(&Bases::file(root, cache.dir()));
    for base in bases.targets.values().filter(|base| plain(&base.id) == plain(id)) {
        cache.disprove(&base.record.0);
    }
}

/// How programs were built of which it is asked what their tests reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct BuiltPrograms<'a> {
    /// The toolchain's folder.
    pub(super) sysroot: &'a Path,
    /// Whether it is certain that no crate was optimized.
    pub(super) unoptimized: bool,
}

/// What each test of `program` reaches.
///
/// # Errors
/// If that is not known, for a person.
pub(super) fn reached_tests(
    reader: &mut Option<ReachReader>,
    program: &Path,
    BuiltPrograms { sysroot, unoptimized }: BuiltPrograms<'_>,
) -> Result<ProgramTests, String> {
    check_size(program)?;
    let reader = reader_of(reader, sysroot)?;
    let tests = reader.tests(program);
    // The objects of one program are remembered, not those of all.
    reader.end_round();
    let tests = tests.map_err(|error| error.to_string())?;
    // A test can see the lines of another one: by a hook for panics, or a logger.
    let unseen = tests.values().map(Reached::masking).min().unwrap_or(Masking::Nothing);
    // Nothing else is assumed that would leave out more tests.
    let policy = Policy {
        masking: if unoptimized { unseen } else { Masking::Nothing },
        programs: Digest::from_bytes([0; 32]),
        starts_itself: true,
    };
    let identity = |reached: Reached| match reached.identity(&policy) {
        TestIdentity::Reached(digest) => Some(digest),
        TestIdentity::WholeProgram(_) => None,
    };
    let groups = isolation::groups(&tests, unoptimized);
    let having = |one: Capabilities| {
        let has = move |(_, reached): &(&String, &Reached)| reached.capabilities.contains(one);
        tests.iter().filter(has).map(|(name, _)| name.clone()).collect::<BTreeSet<_>>()
    };
    let see_arguments = having(Capabilities::OWN_PATH);
    let see_path = &see_arguments | &having(Capabilities::FILES);
    let reached = tests.into_iter().map(|(name, reached)| (name, identity(reached))).collect();
    let path = Digest::of(program.as_os_str().as_bytes());
    let program = match program_digest(program, Path::new("")) {
        FileDigest::Known(digest) => Some(digest),
        FileDigest::Absent | FileDigest::Unknown(_) => None,
    };
    Ok(ProgramTests { reached, path, program, groups, see_arguments, see_path })
}

/// Whether `program` is small enough to be read with its objects.
///
/// # Errors
/// If it is not, for a person.
pub(super) fn check_size(program: &Path) -> Result<(), String> {
    if std::fs::metadata(program).is_ok_and(|file| file.len() > LARGEST_PROGRAM) {
        return Err(format!("it is larger than {} MiB", LARGEST_PROGRAM >> 20));
    }
    Ok(())
}

/// The reader, which is made when it is first needed.
pub(super) fn reader_of<'r>(
    reader: &'r mut Option<ReachReader>,
    sysroot: &Path,
) -> Result<&'r mut ReachReader, String> {
    Ok(match reader {
        Some(reader) => reader,
        empty => empty.insert(ReachReader::new(sysroot).map_err(|error| error.to_string())?),
    })
}

/// Digest of a program's stamp. A hard link to it changes nothing.
pub(super) fn stamp_of(program: &Path) -> Digest {
    digest_of_stamp(&PathStamp::of(program).without_links())
}
