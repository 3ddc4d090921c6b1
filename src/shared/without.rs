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
    /// Nothing.
    pub(crate) fn read<T>(&self) -> Result<T, SharedError> {
        match *self {}
    }
}

/// A store that this build does not have.
#[derive(Clone, Debug)]
pub(crate) enum SharedStore {}

impl SharedStore {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn open(_: StoreOptions) -> Result<Self, SharedError> {
        let why = "this build has no shared store: build it with the feature `shared`";
        Err(SharedError::Config(why.to_owned()))
    }

    /// Not at all.
    pub(crate) fn reads(&self) -> bool {
        match *self {}
    }

    /// Not at all.
    pub(crate) fn writes(&self) -> bool {
        match *self {}
    }

    /// Not at all.
    pub(crate) fn signs_alone(&self) -> bool {
        match *self {}
    }

    /// None.
    pub(crate) fn key_file(&self) -> Option<&Path> {
        match *self {}
    }

    /// Nothing.
    pub(crate) fn prepare(&self) {
        match *self {}
    }

    /// Nothing.
    pub(crate) async fn look_up(&self, _: &WantedRecords) -> SharedAnswer {
        match *self {}
    }

    /// Nowhere.
    pub(crate) async fn publish(&self, _: Publication) -> Result<usize, SharedError> {
        match *self {}
    }

    /// Nowhere.
    pub(crate) async fn collect(&self, _: Retention) -> Result<RetentionReport, SharedError> {
        match *self {}
    }

    /// Nothing.
    pub(crate) async fn probe(&self) -> Vec<StoreFinding> {
        match *self {}
    }
}
