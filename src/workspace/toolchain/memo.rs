//! The memo of one answer: a small file with its own digest and the stamps that guard it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Digester, os_text};
use crate::paths::replace_file;
use crate::workspace::stamp::PathStamp;

/// Memos that are kept in one folder; the oldest go first.
const MEMO_LIMIT: usize = 64;

/// What the toolchain said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ToolchainAnswer {
    #[serde(with = "os_text")]
    pub(super) sysroot: PathBuf,
    #[serde(with = "os_text")]
    pub(super) rustdoc: PathBuf,
    pub(super) host: String,
    pub(super) identity: String,
}

/// Stamps of files that the answer depends on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Guards(Vec<Guard>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Guard {
    #[serde(with = "os_text")]
    path: PathBuf,
    stamp: PathStamp,
}

impl Guards {
    pub(super) fn of(paths: Vec<PathBuf>) -> Self {
        let mut this = Self::default();
        this.add(paths);
        this
    }

    pub(super) fn add(&mut self, paths: Vec<PathBuf>) {
        self.0.extend(
            paths.into_iter().map(|path| Guard { stamp: PathStamp::followed(&path), path }),
        );
    }

    fn hold(&self) -> bool {
        self.0.iter().all(|guard| guard.stamp.proves(&guard.path))
    }

    fn are_settled(&self, now: SystemTime) -> bool {
        self.0.iter().all(|guard| guard.stamp.is_settled(now))
    }
}

/// Which question an answer belongs to.
pub(super) struct Key(Digester);

impl Key {
    pub(super) fn new() -> Self {
        Self(Digester::new("toolchain memo 3"))
    }

    pub(super) fn add(&mut self, text: &OsStr) -> &mut Self {
        self.0.field(text.as_bytes());
        self
    }

    fn file(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{MEMO_PREFIX}{}.json", self.0.clone().finish()))
    }
}

const MEMO_PREFIX: &str = "toolchain-";

#[derive(Serialize, Deserialize)]
struct ToolchainMemo {
    answer: ToolchainAnswer,
    guards: Guards,
}

/// The answer, if it is there, whole, and every guard holds.
pub(super) fn load(folder: &Path, key: &Key) -> Option<ToolchainAnswer> {
    let bytes = std::fs::read(key.file(folder)).ok()?;
    // A digest, a line feed, the payload.
    let (digest, payload) = bytes.split_at_checked(65)?;
    let digest: Digest = std::str::from_utf8(digest).ok()?.trim_end().parse().ok()?;
    if Digest::of(payload) != digest {
        return None;
    }
    let memo: ToolchainMemo = serde_json::from_slice(payload).ok()?;
    memo.guards.hold().then_some(memo.answer)
}

/// Keeps the answer, unless a guarded file is so young that a change could go unseen. Failing to
/// write costs the next call a question and nothing else.
pub(super) fn store(
    folder: &Path,
    key: &Key,
    answer: &ToolchainAnswer,
    guards: Guards,
    now: SystemTime,
) {
    if !guards.are_settled(now) || !guards.hold() {
        return;
    }
    let write = || -> std::io::Result<()> {
        prune(folder);
        let payload = serde_json::to_vec(&ToolchainMemo { answer: answer.clone(), guards })?;
        let header = format!("{}\n", Digest::of(&payload));
        replace_file(&key.file(folder), &[header.as_bytes(), &payload].concat()).map(drop)
    };
    let _ = write();
}

/// Takes the oldest memos away: every new `PATH` makes another one.
fn prune(folder: &Path) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut memos: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(MEMO_PREFIX))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    memos.sort();
    for (_, path) in memos.iter().rev().skip(MEMO_LIMIT - 1) {
        let _ = std::fs::remove_file(path);
    }
}
