//! A bundle: what one signer says about many test targets, in one signed object.
//!
//! ```text
//! knhk-test-cache shared 1
//! -----BEGIN SSH SIGNATURE-----
//! …
//! -----END SSH SIGNATURE-----
//! {"format":1,…}
//! ```
//!
//! The signature is over the last part, whose bytes `ssh-keygen -Y verify` takes as they are. The
//! payload repeats the format and says which object it is, so that an object under another name, of
//! another project or in another format proves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ssh_key::public::KeyData;

use super::signature::{self, BadSignature};
use super::{BundleName, Subject};
use crate::model::{Digest, Timestamp};

/// The format of objects that this version writes and reads.
pub(super) const FORMAT: u32 = 1;

/// A larger object is not read, and none is written.
pub(super) const MAX_OBJECT_BYTES: usize = 1 << 20;

/// How far the clocks of two machines may differ.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(300);

const MAGIC: &str = "knhk-test-cache shared ";
const SIGNATURE_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const SIGNATURE_END: &str = "-----END SSH SIGNATURE-----\n";

/// What is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bundle {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// The object's name.
    pub(super) name: BundleName,
    /// The project and the class of machines.
    pub(super) subject: Subject,
    /// When it was signed.
    pub(super) signed: Timestamp,
    /// The records by their keys.
    pub(super) records: BTreeMap<Digest, BundledRecord>,
}

/// A record of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundledRecord {
    /// When its run ended.
    pub(super) created: Timestamp,
    /// The outcome and what it depends on.
    pub(super) body: Value,
}

/// Why an object is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Distrust {
    /// It is larger than any of ours.
    #[error("it is larger than {MAX_OBJECT_BYTES} bytes")]
    TooLarge,
    /// It is no object of ours, or only a part of one.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It has a format of another version.
    #[error("it has format {0}, and this version reads format {FORMAT}")]
    Format(String),
    /// Its signature proves nothing.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// It was signed as another object.
    #[error("it was signed under another name")]
    OtherName,
    /// It is about something else.
    #[error("it was signed for another project or another class of machines")]
    OtherSubject,
    /// It is from the future.
    #[error("it is from the future: one of the two clocks is wrong")]
    FromTheFuture,
    /// Its signer was not believed when it was signed.
    #[error("its signer was not believed when it was signed")]
    OutOfDates,
}

impl Bundle {
    /// The bytes that are signed.
    pub(super) fn payload(&self) -> String {
        // Keys are texts and numbers are whole.
        serde_json::to_string(self).expect("a bundle can be written as JSON")
    }

    /// The object with this payload.
    pub(super) fn seal(payload: &str, signature: &str) -> String {
        let end = if signature.ends_with('\n') { "" } else { "\n" };
        format!("{MAGIC}{FORMAT}\n{signature}{end}{payload}")
    }

    /// Reads an object that must be `key`'s, of this name and about this subject.
    ///
    /// # Errors
    /// If it is not believed.
    pub(super) fn open(
        object: &[u8],
        key: &KeyData,
        name: &BundleName,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Self, Distrust> {
        if object.len() > MAX_OBJECT_BYTES {
            return Err(Distrust::TooLarge);
        }
        let damaged = |why: &str| Distrust::Damaged(why.to_owned());
        let text = std::str::from_utf8(object).map_err(|_| damaged("it is no text"))?;
        let rest = text.strip_prefix(MAGIC).ok_or_else(|| damaged("it is no shared record"))?;
        let (format, rest) = rest.split_once('\n').ok_or_else(|| damaged("it ends early"))?;
        if format != FORMAT.to_string() {
            return Err(Distrust::Format(format.chars().take(20).collect()));
        }
        if !rest.starts_with(SIGNATURE_BEGIN) {
            return Err(BadSignature::Missing.into());
        }
        let end = rest.find(SIGNATURE_END).ok_or_else(|| damaged("it ends early"))?;
        let (pem, payload) = rest.split_at(end + SIGNATURE_END.len());
        signature::verify(key, payload.as_bytes(), pem)?;
        let bundle: Self =
            serde_json::from_str(payload).map_err(|error| Distrust::Damaged(error.to_string()))?;
        if bundle.format != FORMAT {
            return Err(Distrust::Format(bundle.format.to_string()));
        }
        if bundle.name != *name {
            return Err(Distrust::OtherName);
        }
        if bundle.subject != *subject {
            return Err(Distrust::OtherSubject);
        }
        let latest = Timestamp(now.0.saturating_add(millis(CLOCK_SKEW)));
        if bundle.signed > latest || bundle.records.values().any(|record| record.created > latest) {
            return Err(Distrust::FromTheFuture);
        }
        Ok(bundle)
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
