//! Stands in for the store in a build without the feature `shared`: there is never one.

use std::path::Path;

use super::{
    Publication, Retention, RetentionReport, SharedAnswer, SharedError, StoreFinding, StoreOptions,
    WantedRecords,
};

/// The body of a record that this build does not find.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PackedValue {}

impl PackedValue {
    /// Reads the value: never called in this build.
    pub(crate) fn read<T>(&self) -> Result<T, SharedError> {
        match *self {}
    }
}

/// A store that this build does not have.
#[derive(Clone, Debug)]
pub(crate) enum SharedStore {}

impl SharedStore {
    /// Refuses: this build has no store.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn open(_: StoreOptions) -> Result<Self, SharedError> {
        let why = "this build has no shared store: build it with the feature `shared`";
        Err(SharedError::Config(why.to_owned()))
    }

    /// Whether the store is read: never called in this build.
    pub(crate) fn reads(&self) -> bool {
        match *self {}
    }

    /// Whether the store is written: never called in this build.
    pub(crate) fn writes(&self) -> bool {
        match *self {}
    }

    /// Whether no agent signs: never called in this build.
    pub(crate) fn signs_alone(&self) -> bool {
        match *self {}
    }

    /// The signing key's file: never called in this build.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        match *self {}
    }

    /// Connects ahead: never called in this build.
    pub(crate) fn prepare(&self) {
        match *self {}
    }

    /// Looks up records: never called in this build.
    pub(crate) async fn look_up(&self, _: &WantedRecords) -> SharedAnswer {
        match *self {}
    }

    /// Uploads records: never called in this build.
    pub(crate) async fn publish(&self, _: Publication) -> Result<usize, SharedError> {
        match *self {}
    }

    /// Removes old objects: never called in this build.
    pub(crate) async fn collect(&self, _: Retention) -> Result<RetentionReport, SharedError> {
        match *self {}
    }

    /// Tests the store: never called in this build.
    pub(crate) async fn probe(&self) -> Vec<StoreFinding> {
        match *self {}
    }
}
