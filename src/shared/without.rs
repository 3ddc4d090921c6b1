//! Stands in for the store in a build without the feature `shared`: there is never one.

use super::{
    BundlePlace, SharedAnswer, SharedError, SharedRecord, StoreFinding, StoreOptions, WantedRecords,
};

/// A store that this build does not have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SharedStore {}

impl SharedStore {
    /// There is none.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn open(_: StoreOptions) -> Result<Self, SharedError> {
        let why = "this build has no shared store: build it with the feature `shared`";
        Err(SharedError(why.to_owned()))
    }

    /// Nothing.
    pub(crate) async fn look_up(&self, _: &WantedRecords) -> SharedAnswer {
        match *self {}
    }

    /// Nowhere.
    pub(crate) async fn publish(
        &self,
        _: BundlePlace,
        _: Vec<SharedRecord>,
    ) -> Result<usize, SharedError> {
        match *self {}
    }

    /// Nothing.
    pub(crate) async fn probe(&self) -> Vec<StoreFinding> {
        match *self {}
    }
}
