//! The circuit breaker: after a failure of the store nobody waits for it for a while.
//!
//! Its state is a small file beside the records, since each command is a process of its own. Without
//! the file nothing is known and the store is asked.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bundle::millis;
use crate::model::{Digest, Timestamp};
use crate::paths::replace_file;

/// How long a store is left alone after its first failure; doubled at each further one.
const FIRST_STORE_PAUSE: Duration = Duration::from_secs(30);

/// The longest such time.
const LONGEST_STORE_PAUSE: Duration = Duration::from_secs(30 * 60);

/// A longer file is not ours.
const MAX_STATE_BYTES: u64 = 64 << 10;

/// Whether the store is left alone.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    file: PathBuf,
    /// Which store: the failures of another one say nothing.
    store: Digest,
}

/// What is known of the last failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failures {
    store: Digest,
    count: u32,
    until: Timestamp,
    why: String,
}

impl Breaker {
    pub(super) fn new(file: PathBuf, url: &str) -> Self {
        Self { file, store: Digest::of(url.as_bytes()) }
    }

    fn read(&self) -> Option<Failures> {
        let is_short = fs::metadata(&self.file).is_ok_and(|file| file.len() <= MAX_STATE_BYTES);
        let text = is_short.then(|| fs::read(&self.file).ok()).flatten()?;
        let failures: Failures = serde_json::from_slice(&text).ok()?;
        (failures.store == self.store).then_some(failures)
    }

    /// Why the store is left alone now, if it is.
    pub(super) fn open(&self, now: Timestamp) -> Option<String> {
        let failures = self.read()?;
        let left = failures.until.0.checked_sub(now.0).filter(|left| *left > 0)?;
        // A clock that was set back must not keep the store off for ever.
        (left <= millis(LONGEST_STORE_PAUSE))
            .then(|| format!("{}; it is asked again in {} s", failures.why, left.div_ceil(1000)))
    }

    /// Notes a failure; whether it is the first one in a row.
    pub(super) fn failed(&self, why: &str, now: Timestamp) -> bool {
        let before = self.read();
        let count = before.as_ref().map_or(0, |failures| failures.count).saturating_add(1);
        let pause =
            FIRST_STORE_PAUSE.saturating_mul(1 << (count - 1).min(10)).min(LONGEST_STORE_PAUSE);
        let until = Timestamp(now.0.saturating_add(millis(pause)));
        let failures = Failures { store: self.store, count, until, why: why.to_owned() };
        let text = serde_json::to_vec(&failures).map_err(std::io::Error::from);
        let written = text.and_then(|text| replace_file(&self.file, &text));
        if let Err(error) = written {
            tracing::debug!(%error, "that the shared store failed is not noted");
        }
        before.is_none()
    }

    /// Notes that the store answers.
    pub(super) fn answered(&self) {
        if self.file.exists() {
            let _ = fs::remove_file(&self.file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_pause_longer_and_an_answer_ends_the_pause() {
        let dir = tempfile::tempdir().unwrap();
        let breaker = Breaker::new(dir.path().join("shared/store.json"), "file:///a");
        let at = |seconds: u64| Timestamp(1_000_000 + seconds * 1000);
        assert_eq!(breaker.open(at(0)), None);
        assert!(breaker.failed("refused", at(0)));
        assert_eq!(breaker.open(at(1)).unwrap(), "refused; it is asked again in 29 s");
        assert_eq!(breaker.open(at(30)), None);
        assert!(!breaker.failed("refused", at(30)), "said once");
        assert!(breaker.open(at(80)).is_some());
        assert!(breaker.open(at(90)).is_none());
        for _ in 0..40 {
            breaker.failed("refused", at(0));
        }
        assert!(breaker.open(at(1799)).is_some());
        assert!(breaker.open(at(1800)).is_none());
        breaker.answered();
        assert_eq!(breaker.open(at(0)), None);
        assert!(breaker.failed("refused", at(0)));
    }

    #[test]
    fn another_store_a_clock_set_back_and_a_damaged_file_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("store.json");
        let breaker = Breaker::new(file.clone(), "file:///a");
        breaker.failed("refused", Timestamp(10_000_000));
        assert_eq!(Breaker::new(file.clone(), "file:///b").open(Timestamp(10_000_001)), None);
        assert_eq!(breaker.open(Timestamp(1)), None, "an hour and more before");
        fs::write(&file, "{").unwrap();
        assert_eq!(breaker.open(Timestamp(10_000_001)), None);
    }
}
