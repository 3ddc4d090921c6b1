//! Test verdicts that other machines have proven, in storage that a team already runs.
//!
//! The store is never trusted and never needed. An object in it is believed if a signer whom the
//! user's own config trusts has signed it, under this very name and about this very project; a store
//! that fails, lies or stays silent is a miss with a reason. Nothing here decides whether a record
//! answers: that depends on what the record says of its inputs, which only the caller can check.
//!
//! # Layout
//! ```text
//! v2/<fingerprint of the signer>/<project>/tree/<digest>      all targets of one tree
//! v2/<fingerprint of the signer>/<project>/latest/<digest>    the latest records of one build plan
//! ```
//!
//! A reader asks for both objects of every signer that it trusts, all at the same time: one round
//! trip, however many targets there are. The latest records answer for the targets that an edit has
//! not touched. Readers build these paths from fingerprints that they trust and never list a folder,
//! so whoever may only write to the store cannot put in anything that is read as somebody else's.

#[cfg(feature = "shared-folder")]
mod breaker;
#[cfg(feature = "shared-folder")]
mod bundle;
#[cfg(feature = "shared-folder")]
mod outside;
#[cfg(feature = "shared-folder")]
mod packing;
#[cfg(feature = "shared-folder")]
mod retention;
#[cfg(feature = "shared")]
mod servers;
#[cfg(feature = "shared-folder")]
mod signature;
#[cfg(feature = "shared-folder")]
mod signers;
#[cfg(feature = "shared-folder")]
mod storage;
#[cfg(feature = "shared-folder")]
mod store;
#[cfg(feature = "shared-folder")]
mod store_url;
#[cfg(all(test, feature = "shared-folder"))]
mod tests;
#[cfg(not(feature = "shared-folder"))]
mod without;

#[cfg(feature = "shared-folder")]
pub(crate) use packing::PackedValue;
#[cfg(feature = "shared-folder")]
pub(crate) use store::SharedStore;
#[cfg(not(feature = "shared-folder"))]
pub(crate) use without::{PackedValue, SharedStore};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Timestamp};
use crate::process::Environment;

/// The first part of every path: the version of the layout.
#[cfg(feature = "shared-folder")]
const LAYOUT: &str = "v2";

/// Where a store is and how it is used for one workspace.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    /// The URL of the config.
    pub url: String,
    /// Whether its records may answer.
    pub read: bool,
    /// Whether outcomes are published.
    pub write: bool,
    /// The file of the key to sign with.
    pub sign_with: Option<PathBuf>,
    /// The file of the signers to believe.
    pub allowed_signers: Option<PathBuf>,
    /// Whether the records of peers answer too.
    pub trust_peers: bool,
    /// The workspace under test: neither file may lie in it.
    pub workspace_root: PathBuf,
    /// The folder for what is remembered of the store.
    pub state_dir: PathBuf,
    /// The environment for credentials and for `ssh-keygen`.
    pub environment: Environment,
}

/// Which kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ObjectKind {
    /// All targets of one tree and selection.
    Tree,
    /// The latest records of one build plan.
    Latest,
}

/// The name of an object; its path has the signer as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleName {
    /// The project, as a part of a path.
    pub project: String,
    /// Which kind.
    pub kind: ObjectKind,
    /// What it is about.
    pub digest: Digest,
}

/// What an object must have been signed for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleSubject {
    /// The project's salt.
    pub project: Digest,
    /// The class of machines: what must be alike on two of them.
    pub host: String,
}

/// The objects of a question, and what they must be about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundlePlace {
    /// The project, as a part of a path: by it, people and `cache gc --shared` find what is whose.
    pub project: String,
    /// The digest of the tree and the selection.
    pub tree: Digest,
    /// The digest of what the project builds and runs.
    pub latest: Digest,
    /// What they must have been signed for.
    pub subject: BundleSubject,
}

/// A record that a signer vouches for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SharedRecord {
    /// Its key.
    pub key: Digest,
    /// When its run ended.
    pub created: Timestamp,
    /// The outcome and what it depends on.
    pub body: Value,
}

/// Records to be signed and uploaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// Where they go.
    pub(crate) place: BundlePlace,
    /// All of them, the plan among them.
    pub(crate) records: Vec<SharedRecord>,
}

/// A record that was found in the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FoundRecord {
    /// Its key.
    pub key: Digest,
    /// When its run ended.
    pub created: Timestamp,
    /// The outcome and what it depends on.
    pub body: PackedValue,
    /// The principal whose key signed it.
    pub signer: String,
    /// The key is the one that this machine signs with.
    pub is_own: bool,
    /// Whether it may answer; a peer's record is shown where peers are not trusted.
    pub may_answer: bool,
}

/// What a store says of a question.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SharedAnswer {
    /// The records, those that may answer and the newest first.
    pub records: Vec<FoundRecord>,
    /// Why other records, by their keys, do not answer.
    pub refused: BTreeMap<Digest, String>,
    /// Why there are not more of them.
    pub misses: Vec<String>,
    /// What the user should hear once: the store is off.
    pub news: Option<String>,
}

/// The records that are wanted.
#[derive(Clone, Debug)]
pub(crate) struct WantedRecords {
    /// Where they would be.
    pub place: BundlePlace,
    /// An older record does not answer.
    pub ttl: Duration,
}

/// What is to be removed from a store.
#[derive(Clone, Debug)]
pub(crate) struct Retention {
    /// What was written so long ago.
    pub older_than: Duration,
    /// Only objects of this project.
    pub project: Option<String>,
    /// Only count.
    pub dry_run: bool,
}

/// What was removed from a store, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RetentionReport {
    /// So many objects.
    pub removed: usize,
    /// So many bytes.
    pub bytes: u64,
    /// So many objects stay.
    pub kept: usize,
    /// What could not be removed, and why.
    pub failed: Vec<String>,
}

/// One line about the store for `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFinding {
    /// Whether all is well.
    pub is_good: bool,
    /// What was found.
    pub what: String,
}

/// Why there is no store, or a publication is not in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SharedError {
    /// The config or the key does not allow it.
    #[error("{0}")]
    Config(String),
    /// The store does not take it now.
    #[error("{0}")]
    Store(String),
}
