//! Objects in the storage that a URL names. Only `servers` beside it knows storage engines.

use std::error::Error as _;

use futures_util::TryStreamExt as _;
use opendal_core::options::WriteOptions;
use opendal_core::{EntryMode, Error, ErrorKind, Operator};
use opendal_layer_retry::RetryLayer;
use opendal_service_fs::Fs;

use super::bundle::MAX_OBJECT_BYTES;
use super::store_url::{Server, StoreLocation};
use crate::model::Timestamp;
use crate::process::Environment;

/// How often an upload is tried again.
const UPLOAD_RETRIES: usize = 3;

/// Why a server cannot be asked.
#[cfg(not(feature = "shared"))]
const ONLY_FOLDERS: &str =
    "this build knows only folders: build it with the feature `shared` for servers";

/// Why a store has no retention of ours.
const LISTS_NOTHING: &str = "it cannot list what it has: have it evict old keys itself \
                             (Redis: `maxmemory` and `maxmemory-policy allkeys-lru`)";

/// Where unfinished files lie in a folder store.
const UNFINISHED: &str = ".unfinished";

/// The objects of a store.
#[derive(Clone)]
pub(super) struct Storage {
    operator: Operator,
    retrying: Operator,
    /// The engine reads whole objects, so that the length is asked first.
    is_read_whole: bool,
}

/// An object of a store, as the store lists it.
#[derive(Clone, Debug)]
pub(super) struct StoredObject {
    /// Its path.
    pub(super) path: String,
    /// Its size.
    pub(super) bytes: u64,
    /// When it was written, if the store tells.
    pub(super) modified: Option<Timestamp>,
}

/// Why an object is not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StorageError {
    /// There is no such object.
    #[error("there is no such object")]
    Absent,
    /// There is something that is no object of ours.
    #[error("it is no object of at most {MAX_OBJECT_BYTES} bytes")]
    Odd,
    /// The store does not serve us.
    #[error("{0}")]
    Failed(String),
}

impl From<Error> for StorageError {
    fn from(error: Error) -> Self {
        let mut source = error.source();
        while let Some(inner) = source.and_then(std::error::Error::source) {
            source = Some(inner);
        }
        let text = error.to_string();
        // A server's answer is told in words that only a debugger would want, but for this number.
        let status = text.split_once("status: ").map(|(_, rest)| rest);
        let status = status.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
        let status = status.filter(|digits| !digits.is_empty());
        let cause = match (status, source) {
            (Some(status), _) => format!(" (HTTP status {status})"),
            (None, Some(source)) => format!(": {source}"),
            (None, None) => String::new(),
        };
        let message = match error.message().lines().next().unwrap_or_default() {
            "" => "it failed",
            message => message,
        };
        Self::Failed(match error.kind() {
            ErrorKind::NotFound => return Self::Absent,
            ErrorKind::PermissionDenied => format!("access is denied{cause}"),
            ErrorKind::RateLimited => format!("it is asked too often{cause}"),
            _ => format!("{message}{cause}"),
        })
    }
}

impl Storage {
    /// Opens a store; does not speak to it yet.
    ///
    /// # Errors
    /// If the store cannot be described to its engine.
    #[cfg_attr(not(feature = "shared"), allow(unused_variables))] // Servers have credentials.
    pub(super) fn open(
        url: &StoreLocation,
        environment: &Environment,
    ) -> Result<Self, StorageError> {
        let operator = match url {
            StoreLocation::Folder(path) => {
                let Some(root) = path.to_str() else {
                    return Err(StorageError::Failed("its path is no text".to_owned()));
                };
                let unfinished = format!("{root}/{UNFINISHED}");
                let builder = Fs::default().root(root).atomic_write_dir(&unfinished);
                Operator::new(builder)?
            }
            #[cfg(feature = "shared")]
            StoreLocation::Server(server) => super::servers::open(server, environment)?,
            #[cfg(not(feature = "shared"))]
            StoreLocation::Server(_) => return Err(StorageError::Failed(ONLY_FOLDERS.to_owned())),
        };
        let retry = RetryLayer::default().with_max_times(UPLOAD_RETRIES).with_jitter();
        let is_read_whole =
            matches!(url, StoreLocation::Folder(_) | StoreLocation::Server(Server::Redis { .. }));
        Ok(Self { retrying: operator.clone().layer(retry), operator, is_read_whole })
    }

    /// The bytes of an object, tried once.
    ///
    /// # Errors
    /// If there is none, or it cannot be had, or is too large.
    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>, StorageError> {
        if self.is_read_whole {
            let metadata = self.operator.stat(path).await?;
            let length = usize::try_from(metadata.content_length()).unwrap_or(usize::MAX);
            if metadata.mode() != EntryMode::FILE || length > MAX_OBJECT_BYTES {
                return Err(StorageError::Odd);
            }
        }
        let mut pieces = self.operator.reader(path).await?.into_stream(..).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend(piece.to_bytes());
            if bytes.len() > MAX_OBJECT_BYTES {
                return Err(StorageError::Odd);
            }
        }
        Ok(bytes)
    }

    /// Writes an object, tried several times.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        // Some servers give an object without a type one of their own, or none.
        if self.retrying.info().capability().write_with_content_type {
            options.content_type = Some("application/octet-stream".to_owned());
        }
        self.retrying.write_options(path, bytes, options).await?;
        Ok(())
    }

    /// All objects below a folder, whose path ends with `/`.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<StoredObject>, StorageError> {
        if !self.retrying.info().capability().list {
            return Err(StorageError::Failed(LISTS_NOTHING.to_owned()));
        }
        let mut entries = match self.retrying.lister_with(folder).recursive(true).await {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut objects = Vec::new();
        while let Some(entry) = entries.try_next().await? {
            let (path, metadata) = entry.into_parts();
            if metadata.mode() != EntryMode::FILE {
                continue;
            }
            let modified = metadata.last_modified().map(|time| time.into_inner().as_millisecond());
            let modified = modified.and_then(|time| u64::try_from(time).ok()).map(Timestamp);
            objects.push(StoredObject { path, bytes: metadata.content_length(), modified });
        }
        Ok(objects)
    }

    /// What writers of a folder store have left unfinished.
    ///
    /// # Errors
    /// If the store cannot be listed.
    pub(super) async fn list_unfinished(&self) -> Result<Vec<StoredObject>, StorageError> {
        self.list(&format!("{UNFINISHED}/")).await
    }

    /// Removes an object, tried several times. It may be gone already.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) async fn remove(&self, path: &str) -> Result<(), StorageError> {
        Ok(self.retrying.delete(path).await?)
    }
}
