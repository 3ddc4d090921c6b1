//! Retention: removes old objects, whosever they are.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::storage::{Storage, StorageError, StoredObject};
use super::{LAYOUT, Retention, RetentionReport};
use crate::model::Timestamp;

/// How many objects are removed at a time.
const REMOVED_AT_A_TIME: usize = 16;

/// How old an unfinished upload must be: its writer may still be at work.
const WRITER_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// The folders of earlier layouts, which nobody reads any more.
const EARLIER_LAYOUTS: [&str; 1] = ["v1"];

/// Removes old objects.
///
/// # Errors
/// If the store cannot be listed.
pub(super) async fn collect(
    storage: &Storage,
    wanted: &Retention,
    now: Timestamp,
) -> Result<RetentionReport, StorageError> {
    let mut report = RetentionReport::default();
    let mut old = Vec::new();
    for folder in EARLIER_LAYOUTS.into_iter().chain([LAYOUT]) {
        let is_wanted = |object: &StoredObject| {
            let project = object.path.split('/').nth(2).filter(|_| folder == LAYOUT);
            wanted.project.is_none() || wanted.project.as_deref() == project
        };
        for object in storage.list(&format!("{folder}/")).await? {
            if is_wanted(&object) && is_older(&object, wanted.older_than, now) {
                old.push(object);
            } else {
                report.kept += 1;
            }
        }
    }
    if wanted.project.is_none() {
        let unfinished = storage.list_unfinished().await?.into_iter();
        old.extend(unfinished.filter(|object| is_older(object, WRITER_GRACE, now)));
    }
    let remove = |object: StoredObject| async move {
        let removed = if wanted.dry_run { Ok(()) } else { storage.remove(&object.path).await };
        (object, removed)
    };
    let mut removals = stream::iter(old).map(remove).buffer_unordered(REMOVED_AT_A_TIME);
    while let Some((object, removed)) = removals.next().await {
        match removed {
            Ok(()) => {
                report.removed += 1;
                report.bytes += object.bytes;
            }
            Err(why) => report.failed.push(format!("{}: {why}", object.path)),
        }
    }
    Ok(report)
}

/// Whether an object is older than that; one of which the store tells no time stays.
fn is_older(object: &StoredObject, than: Duration, now: Timestamp) -> bool {
    let age = object.modified.and_then(|modified| modified.age(now));
    age.is_some_and(|age| age > than)
}
