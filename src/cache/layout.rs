//! Paths below the cache folder, and which names are ours.
//!
//! ```text
//! CACHEDIR.TAG                                    tells backups to leave this out
//! records.lock, state.lock                        empty; only their locks mean anything
//! records/source-1/ab/cdef….json                  one record a key
//! manifests/ab/cdef….manifest                     the listing of a snapshot, by its code hash
//! programs/<digest of its path>                    digest of a program's loadable parts
//! plans/<plan digest>                               what a build of this kind builds and runs
//! environments/<digest of a whole>                  in which environments it was proven
//! script-runs/<digest of a script>                  what a build script consulted
//! mentions/<digest of a state>                     which variables a file in that state can name
//! code/<digest of a workspace>                     its sources' digests without comments
//! reached/<digest of a program>                    what each of its tests reaches
//! history/<day>.jsonl                             answers and verifications of a day since the epoch
//! projects/<project>/path                         the project's root as bytes; its digest is the folder's name
//! projects/<project>/state.json                   counts, last verdict and other small state
//! projects/<project>/snapshots/<code hash>/<claim>    an empty file: this project keeps that record
//! ```
//!
//! A claim says everything in its name, so that the index of a project is read without opening a
//! file and cannot be torn: a name that does not parse is no claim. The longest name has 137 bytes,
//! below the 143 that encrypted home folders allow.
//!
//! A file whose folder or name is not exactly of this form is not ours and is never touched.

use std::path::{Path, PathBuf};

use super::record::{RecordKey, project_digest};
use crate::model::{Digest, Timestamp};

/// The prefix of the names of unfinished files, which are renamed into place when complete.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// The folder, and paths below it.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) root: PathBuf,
}

impl Layout {
    pub(super) fn tag(&self) -> PathBuf {
        self.root.join("CACHEDIR.TAG")
    }

    /// The file for a report about records that a run has contradicted.
    pub(super) fn evidence(&self, when: Timestamp) -> PathBuf {
        self.root.join("wrong").join(format!("{}.json", when.0))
    }

    pub(super) fn records_lock(&self) -> PathBuf {
        self.root.join("records.lock")
    }

    pub(super) fn state_lock(&self) -> PathBuf {
        self.root.join("state.lock")
    }

    pub(super) fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    pub(super) fn record(&self, key: &RecordKey) -> PathBuf {
        let (shard, rest) = shard(&key.digest);
        let level = format!("{}-{}", key.level, key.version);
        self.records().join(level).join(shard).join(rest + ".json")
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    pub(super) fn manifest(&self, code_hash: &Digest) -> PathBuf {
        let (shard, rest) = shard(code_hash);
        self.manifests().join(shard).join(rest + ".manifest")
    }

    pub(super) fn programs(&self) -> PathBuf {
        self.root.join("programs")
    }

    /// The memo about the program at this path.
    pub(super) fn program(&self, path: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        self.programs().join(Digest::of(path.as_os_str().as_bytes()).to_string())
    }

    pub(super) fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    pub(super) fn history_of(&self, day: u64) -> PathBuf {
        self.history().join(format!("{day}.jsonl"))
    }

    pub(super) fn projects(&self) -> PathBuf {
        self.root.join("projects")
    }

    pub(super) fn project(&self, project: &Digest) -> PathBuf {
        self.projects().join(project.to_string())
    }

    pub(super) fn project_path(&self, project: &Digest) -> PathBuf {
        self.project(project).join("path")
    }

    pub(super) fn state(&self, project: &Digest) -> PathBuf {
        self.project(project).join("state.json")
    }

    pub(super) fn snapshots(&self, project: &Digest) -> PathBuf {
        self.project(project).join("snapshots")
    }

    pub(super) fn claim(&self, claim: &RecordClaim) -> PathBuf {
        self.snapshots(&claim.project).join(claim.code_hash.to_string()).join(claim.name())
    }
}

/// The two halves of a digest's text: 256 folders keep each one short.
fn shard(digest: &Digest) -> (String, String) {
    let mut text = digest.to_string();
    let rest = text.split_off(2);
    (text, rest)
}

/// The key of the record file `records/<level>/<shard>/<name>`.
pub(super) fn key_of(level: &str, shard: &str, name: &str) -> Option<RecordKey> {
    let (level, version) = level.split_once('-')?;
    let digest = digest_of(shard, name.strip_suffix(".json")?)?;
    Some(RecordKey { level: level.parse().ok()?, version: number(version)?, digest })
}

/// The code hash of the manifest file `manifests/<shard>/<name>`.
pub(super) fn manifest_of(shard: &str, name: &str) -> Option<Digest> {
    digest_of(shard, name.strip_suffix(".manifest")?)
}

/// The day of the history file of this name.
pub(super) fn day_of(name: &str) -> Option<u64> {
    number(name.strip_suffix(".jsonl")?)
}

fn digest_of(shard: &str, rest: &str) -> Option<Digest> {
    if shard.len() == 2 { format!("{shard}{rest}").parse().ok() } else { None }
}

/// A decimal number as we write it: one number has one text.
fn number<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
    text.parse::<N>().ok().filter(|number| number.to_string() == text)
}

/// A short name for a selection, to find records of it without opening them.
pub(super) fn selection_tag(selection: &str) -> u64 {
    let digest = Digest::of(selection.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_be_bytes(first)
}

/// A project's claim to a record, for one snapshot.
///
/// Worktrees of one repository share records. A record is removed when no project claims it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RecordClaim {
    /// When the project last recorded or began to use it.
    pub(super) at: Timestamp,
    /// The project, by its digest.
    pub(super) project: Digest,
    /// The snapshot.
    pub(super) code_hash: Digest,
    /// The record.
    pub(super) key: RecordKey,
    /// See [`selection_tag`].
    pub(super) selection: u64,
    /// The record file's size when it was claimed.
    pub(super) bytes: u64,
}

impl RecordClaim {
    pub(super) fn new(
        workspace_root: &Path,
        code_hash: Digest,
        record: &super::Record,
        at: Timestamp,
        bytes: u64,
    ) -> Self {
        Self {
            at,
            project: project_digest(workspace_root),
            code_hash,
            key: record.key,
            selection: selection_tag(&record.selection),
            bytes,
        }
    }

    pub(super) fn name(&self) -> String {
        let Self { key, selection, at, bytes, .. } = self;
        format!("{key}.{selection:016x}.{}.{bytes}", at.0)
    }

    pub(super) fn parse(project: Digest, code_hash: Digest, name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let mut key = parts.next()?.splitn(3, '-');
        let key = RecordKey {
            level: key.next()?.parse().ok()?,
            version: number(key.next()?)?,
            digest: key.next()?.parse().ok()?,
        };
        let selection = u64::from_str_radix(parts.next()?, 16).ok()?;
        let at = Timestamp(number(parts.next()?)?);
        // Sizes are added up; one that no file can have is not ours.
        let bytes = number(parts.next()?).filter(|bytes| *bytes < 1 << 40)?;
        let claim = Self { at, project, code_hash, key, selection, bytes };
        // A name that we would write in another way is not ours.
        (parts.next().is_none() && claim.name() == name).then_some(claim)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::RecordLevel;

    proptest! {
        #[test]
        fn names_round_trip(
            at: u64, bytes in 0u64..1 << 40, selection: u64, version: u32, level in 0..RecordLevel::ALL.len(), digest: [u8; 32],
        ) {
            let digest = Digest::from_bytes(digest);
            let key = RecordKey { level: RecordLevel::ALL[level], version, digest };
            let project = Digest::of(b"p");
            let claim = RecordClaim {
                at: Timestamp(at), project, code_hash: digest, key, selection, bytes,
            };
            prop_assert_eq!(RecordClaim::parse(project, digest, &claim.name()), Some(claim));
            prop_assert!(claim.name().len() <= 143, "{}", claim.name().len());

            let layout = Layout { root: "/c".into() };
            let path = layout.record(&key);
            let part = |n: usize| path.iter().rev().nth(n).unwrap().to_str().unwrap();
            prop_assert_eq!(key_of(part(2), part(1), part(0)), Some(key));
        }

        #[test]
        fn any_other_name_is_not_ours(name in "[a-z0-9.-]{0,90}") {
            prop_assert_eq!(RecordClaim::parse(Digest::of(b""), Digest::of(b""), &name), None);
            prop_assert_eq!(key_of("source-1", "ab", &name), None);
            prop_assert_eq!(key_of(&name, "ab", "x.json"), None);
        }
    }

    #[test]
    fn one_number_has_one_name() {
        assert_eq!(number::<u32>("01"), None);
        assert_eq!(number::<u32>("+1"), None);
        assert_eq!(number::<u32>("4294967296"), None);
        assert_eq!(number::<u32>("7"), Some(7));
    }
}
