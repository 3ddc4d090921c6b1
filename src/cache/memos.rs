//! Folders of memos: files named by a digest that can be made again and are forgotten all at once.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;

use super::files::{self, Durability};
use super::format;
use crate::model::Digest;

/// A folder of memos of one kind.
pub(super) struct Memos {
    pub(super) folder: PathBuf,
    /// The name of the memos' format.
    pub(super) format: &'static str,
    /// So many are kept. Then all are forgotten.
    pub(super) most: usize,
}

impl Memos {
    /// The memo under this digest, if it is whole.
    pub(super) fn get<T: DeserializeOwned>(&self, digest: &Digest) -> Option<T> {
        let (bytes, _) = files::read(&self.file(digest)).ok()?;
        format::decode(self.format, &bytes).ok()
    }

    /// Remembers a value. A failure costs only that it is made again.
    pub(super) fn put(&self, digest: &Digest, value: &impl Serialize) {
        let file = self.file(digest);
        if !file.exists() && files::names(&self.folder).is_ok_and(|names| names.len() >= self.most)
        {
            self.forget();
        }
        let Ok(content) = format::encode(self.format, value) else { return };
        if let Err(error) = files::write(&file, &[&content], Durability::Process) {
            debug!(%error, memos = self.format, "cannot remember what was found out");
        }
    }

    /// Removes every memo.
    pub(super) fn forget(&self) {
        for (name, _) in files::names(&self.folder).unwrap_or_default() {
            if name.parse::<Digest>().is_ok() {
                let _ = files::remove(&self.folder.join(name));
            }
        }
        let _ = std::fs::remove_dir(&self.folder);
    }

    pub(super) fn file(&self, digest: &Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}
