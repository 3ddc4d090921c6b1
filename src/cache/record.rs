//! A record: the key that finds it, and the outcome that it stores.
//!
//! # How narrower levels join
//! A key names its level and that level's version, so a reader never meets a record whose
//! meaning it does not know. A new field is therefore added with `#[serde(default)]` and needs no
//! new format; a field that decides *whether a record may answer* comes with a new
//! [`RecordKey::version`], so that no older reader can look past it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::format::lossless;
use crate::model::{Digest, Digester, End, OsText, TargetReport, Timestamp, Verdict};

/// How much a record answers for. The text names are part of the stored format and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RecordLevel {
    /// A whole project and selection, keyed by all of its files.
    Source,
    /// One test target, keyed by the sources of the packages that it is built from: known before
    /// any build.
    Package,
    /// One test target, keyed by its code identity and what it was seen to read.
    Binary,
    /// One call of a test program by cargo itself, or by nextest, keyed by all that the call
    /// says. No snapshot is taken for it: its code hash stands for the day.
    Call,
}

impl RecordLevel {
    /// All levels, the widest first.
    pub(crate) const ALL: [Self; 4] = [Self::Source, Self::Package, Self::Binary, Self::Call];

    /// The level's name in files.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Package => "package",
            Self::Binary => "binary",
            Self::Call => "call",
        }
    }
}

impl fmt::Display for RecordLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a level's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a level (source, package, binary, call)")]
pub struct ParseRecordLevelError(String);

impl FromStr for RecordLevel {
    type Err = ParseRecordLevelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| ParseRecordLevelError(text.to_owned()))
    }
}

/// The key of a record: one digest of everything that decides the outcome, with the level and
/// version of the rules by which it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// The scope that the record answers for.
    pub level: RecordLevel,
    /// The version of the rules by which this level's digest is made and its record is judged.
    pub version: u32,
    /// The digest of all that decides the outcome.
    pub digest: Digest,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.level, self.version, self.digest)
    }
}

/// The state of an additional input when the record was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub(crate) enum InputState {
    /// A file with this content.
    Digest(Digest),
    /// The run looked and found nothing at this path.
    Absent,
    /// A folder whose sorted names have this digest.
    Listing(Digest),
    /// A folder in which cargo looks for targets; the names that it would find have this digest.
    Targets(Digest),
    /// A symbolic link whose target text has this digest.
    Link(Digest),
    /// A regular file, no link, whose permissions, owner and content have this digest.
    File(Digest),
    /// The same for a Rust source that the run's compiler has read and nothing else.
    Source(Digest),
    /// A program, no link, whose permissions, owner and loadable parts have this digest.
    Program(Digest),
    /// A program, no link, whose permissions, owner, loadable parts and length have this digest.
    Measured(Digest),
    /// A name under which a file can be written: it is free, or that of a writable file.
    Overwritable,
    /// A path that cannot be looked at: it lies in a folder that may neither be listed nor searched.
    Denied,
    /// An address of the machine itself at which nobody listens; its path is `/dev/tcp/ADDRESS`.
    Refused,
    /// A path of which only the kind, the permissions and the owner count.
    Kind(Digest),
    /// A path that must be the very same as then: all its metadata, except for the device, has this
    /// digest.
    Same(Digest),
    /// What the dynamic loader's cache says of a library has this digest. The path is that of the cache,
    /// with the library's name below it.
    Answer(Digest),
    /// A file of the workspace that the project's settings exclude: what is in it is ignored.
    Excluded,
    /// No file but the address of a service that the project's settings vouch for.
    Trusted,
}

/// An input outside the key's digest. The caller checks every input again before it believes the
/// record: the cache itself never looks into a workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Input {
    /// Relative to the workspace where inside it, else absolute.
    #[serde(with = "lossless")]
    pub path: PathBuf,
    /// Its state then.
    pub state: InputState,
    /// Its metadata when it was digested, if that was so old that every later change shows: while
    /// the metadata is the same, nothing need be read. Of something that the run itself made or
    /// removed: the metadata of what it left. That tells of no other run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Digest>,
}

/// The variables of a run that its key does not hold: whether they count depends on what the run
/// consulted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedEnvironment {
    /// The variables by their names, which are escaped where they are not UTF-8, with digests of the
    /// values.
    pub variables: BTreeMap<String, Digest>,
    /// Programs and files that the run could read a variable's name from, beside the inputs.
    pub readers: Vec<Input>,
    /// Whether everything is known that the run could read a name from. If not, all variables count.
    pub is_complete: bool,
    /// Programs that the run looked for in `PATH`, each with all places where it was. `None` where
    /// that is not known, or the run listed one of those folders: then the text of `PATH` counts.
    pub programs: Option<BTreeMap<String, Vec<OsText>>>,
    /// At the package level: the variables that the build names, with digests of the values that
    /// they had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub build_variables: BTreeMap<String, Option<Digest>>,
    /// Values of variables that the run had and the client has not: cargo gave them, and the run could
    /// take names from them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<OsText>,
}

/// What cargo had built and the run consulted. A build of the same tree gives the same again, until
/// somebody changes the products by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordedProducts {
    /// The products, and what build scripts generated, as they were.
    pub consulted: Vec<Input>,
    /// The lists of what the units were made from. While all are the very same, nothing was built
    /// anew.
    pub lists: Vec<Input>,
    /// What else may have decided them. Another checkout builds its own, and may have other files.
    #[serde(default)]
    pub unseen: UnseenReads,
    /// Where there is such, what cargo compares before it calls the products of this checkout fresh, as it
    /// was: while all of it is the very same, cargo runs no script or macro again. None if that is not known.
    #[serde(default)]
    pub compared: Option<Vec<Input>>,
    /// Whether the other targets of its package were not built with it. Then nothing here shows that they can
    /// be: at the package level it answers beside a record that does.
    #[serde(default)]
    pub without_siblings: bool,
}

impl RecordedProducts {
    fn is_empty(&self) -> bool {
        self.consulted.is_empty() && self.unseen == UnseenReads::Nothing && !self.without_siblings
    }
}

/// What build scripts and macros may have read that no list tells of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnseenReads {
    /// No unlisted file.
    #[default]
    Nothing,
    /// What scripts of the workspace read. These memos tell what each does, once it was run again.
    Scripts(BTreeSet<Digest>),
    /// Any file: nothing reports what was read.
    Anything,
}

/// A record, as the very one that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordReference {
    /// Its key.
    pub key: RecordKey,
    /// When its run ended: a later one may have taken its place.
    pub created: Timestamp,
}

/// One stored outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The key that finds it.
    pub key: RecordKey,
    /// When the run ended; its age is counted from here.
    pub created: Timestamp,
    /// The root of the workspace in which the run took place. Another checkout of the same
    /// content may use the record too, see [`super::Cache::claim`].
    #[serde(rename = "project", with = "lossless")]
    pub workspace_root: PathBuf,
    /// The snapshot that the run proved.
    pub code_hash: Digest,
    /// The selection, in one canonical text that a person can read.
    pub selection: String,
    /// The verdict of the run.
    pub verdict: Verdict,
    /// Inputs that must be unchanged for this record to answer.
    pub inputs: Vec<Input>,
    /// The report of every test target.
    pub targets: Vec<TargetReport>,
    /// How long the run took, in milliseconds.
    pub duration_ms: u64,
    /// The machine's name.
    pub host: String,
    /// The version of the program that made the record.
    pub tool_version: String,
    /// The parts of the build's and the run's identity by name (digests or short texts), so that
    /// the one that differs can be named.
    pub identity: BTreeMap<String, String>,
    /// The variables that may count.
    #[serde(default)]
    pub environment: RecordedEnvironment,
    /// At the source level: what must be as it was while nothing is built anew.
    #[serde(default, skip_serializing_if = "RecordedProducts::is_empty")]
    pub products: RecordedProducts,
    /// Whether it is certain that no process of the run has told of a panic at its error output.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_quiet: bool,
    /// Whether it holds for this code only because tests that were not run reach what they reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_by_reach: bool,
}

impl Record {
    /// The record of a run that ends now, with the verdict and the duration of its targets together. It depends
    /// on nothing but the key and the code, and names no machine.
    pub(crate) fn new(
        key: RecordKey,
        workspace_root: &Path,
        code_hash: Digest,
        selection: String,
        targets: Vec<TargetReport>,
    ) -> Self {
        let is_green = targets.iter().all(|target| target.verdict == Verdict::Pass);
        Self {
            key,
            created: Timestamp::now(),
            workspace_root: workspace_root.to_owned(),
            code_hash,
            selection,
            verdict: if is_green { Verdict::Pass } else { Verdict::Fail },
            inputs: Vec::new(),
            duration_ms: targets.iter().map(|target| target.duration_ms).sum(),
            targets,
            host: String::new(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            identity: BTreeMap::new(),
            environment: RecordedEnvironment::default(),
            products: RecordedProducts::default(),
            is_quiet: false,
            is_by_reach: false,
        }
    }

    /// The same record, with this machine's name in it.
    #[must_use]
    pub(crate) fn made_here(self) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { host, ..self }
    }

    /// Why this is not a whole outcome that may be stored; `None` if it is one.
    ///
    /// Checked on the way in and on the way out: a record that says "pass" while one of its
    /// targets did not must never be believed, wherever it came from.
    #[must_use]
    pub(crate) fn flaw(&self) -> Option<String> {
        if self.verdict == Verdict::Error {
            return Some("its verdict is `error`: no tests were run".to_owned());
        }
        for target in &self.targets {
            let id = &target.id;
            if matches!(target.end, End::Cancelled | End::NotStarted) {
                return Some(format!("`{id}` was {}", target.end));
            }
            let passed = target.verdict == Verdict::Pass;
            if passed && (target.counts.failed > 0 || target.failures().next().is_some()) {
                return Some(format!("`{id}` says `pass` and has failed tests"));
            }
            if passed && target.end != End::Exit(0) {
                return Some(format!("`{id}` says `pass` and ended with {}", target.end));
            }
            if self.verdict == Verdict::Pass && !passed {
                return Some(format!("its verdict is `pass` and that of `{id}` is not"));
            }
        }
        None
    }
}

/// The digest that names a project's own folder.
pub(super) fn project_digest(workspace_root: &Path) -> Digest {
    use std::os::unix::ffi::OsStrExt as _;
    let mut digester = Digester::new("project 1");
    digester.field(workspace_root.as_os_str().as_bytes());
    digester.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::samples;

    #[test]
    fn level_names_never_change() {
        let names: Vec<_> = RecordLevel::ALL.iter().map(|level| level.as_str()).collect();
        assert_eq!(names, ["source", "package", "binary", "call"]);
        for level in RecordLevel::ALL {
            assert_eq!(level.as_str().parse::<RecordLevel>(), Ok(level));
            assert_eq!(serde_json::to_string(&level).unwrap(), format!("\"{level}\""));
        }
        assert!("Source".parse::<RecordLevel>().is_err());
    }

    #[test]
    fn an_outcome_that_contradicts_itself_is_flawed() {
        assert_eq!(samples::record(1).flaw(), None);
        assert_eq!(samples::failing(1).flaw(), None);

        let mut cancelled = samples::failing(1);
        cancelled.targets[0].end = End::Cancelled;
        assert!(cancelled.flaw().unwrap().contains("cancelled"));

        let mut error = samples::record(1);
        error.verdict = Verdict::Error;
        assert!(error.flaw().is_some());

        let mut lying = samples::failing(1);
        lying.verdict = Verdict::Pass;
        assert!(lying.flaw().is_some());

        let mut counts = samples::record(1);
        counts.targets[0].counts.failed = 1;
        assert!(counts.flaw().unwrap().contains("failed tests"));

        let mut killed = samples::record(1);
        killed.targets[0].end = End::Signal(9);
        assert!(killed.flaw().unwrap().contains("signal 9"));
    }
}
