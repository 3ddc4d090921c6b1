//! The shared store of the config.

use std::path::Path;

use crate::config::SharedSettings;
use crate::process::Environment;
use crate::shared::{SharedError, SharedStore, StoreFinding, StoreOptions};

/// The folder below the records for what is remembered of the store.
const STATE_DIR: &str = "shared";

/// The store that the config names, for the workspace at `root`; none if it names none.
///
/// # Errors
/// If there is no such store.
fn open_store(
    settings: &SharedSettings,
    root: &Path,
    cache_dir: &Path,
    environment: &Environment,
) -> Option<Result<SharedStore, SharedError>> {
    let url = settings.url.clone()?;
    Some(SharedStore::open(StoreOptions {
        url,
        read: settings.read,
        write: settings.write,
        sign_with: settings.sign_with.clone(),
        allowed_signers: settings.allowed_signers.clone(),
        trust_peers: settings.trust_peers,
        workspace_root: root.to_owned(),
        state_dir: cache_dir.join(STATE_DIR),
        environment: environment.clone(),
    }))
}

/// What that store is like; nothing if the config names none.
pub(crate) async fn probe_store(
    settings: &SharedSettings,
    root: &Path,
    cache_dir: &Path,
    environment: &Environment,
) -> Vec<StoreFinding> {
    match open_store(settings, root, cache_dir, environment) {
        None => Vec::new(),
        Some(Ok(store)) => store.probe().await,
        Some(Err(error)) => vec![StoreFinding { is_good: false, what: error.to_string() }],
    }
}
