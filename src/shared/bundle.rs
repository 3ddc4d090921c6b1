//! A bundle: what one signer says about many test targets, in one signed object.
//!
//! ```text
//! knhk-test-cache shared 2
//! -----BEGIN SSH SIGNATURE-----
//! …
//! -----END SSH SIGNATURE-----
//! gzip of {"format":2,…}
//! ```
//!
//! The signature is over the last part, whose bytes `ssh-keygen -Y verify` takes as they are; they are
//! unpacked only once it fits. The payload repeats the format and says which object it is, so that an object under another name, of
//! another project or in another format proves nothing.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ssh_key::public::KeyData;

use super::packing::{Packed, PackedValue, pack};
use super::signature::{self, BadSignature};
use super::{BundleName, BundleSubject, SharedRecord};
use crate::model::{Digest, Timestamp};

/// The format of objects that this version writes and reads.
pub(super) const FORMAT: u32 = 2;

/// A larger object is not read, and none is written.
pub(super) const MAX_OBJECT_BYTES: usize = 1 << 20;

/// A larger payload is not unpacked.
pub(super) const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// How far the clocks of two machines may differ.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(300);

const MAGIC: &str = "knhk-test-cache shared ";
const SIGNATURE_BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const SIGNATURE_END: &str = "-----END SSH SIGNATURE-----\n";

/// What is signed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bundle {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// The object's name.
    pub(super) name: BundleName,
    /// The project and the class of machines.
    pub(super) subject: BundleSubject,
    /// When it was signed.
    pub(super) signed: Timestamp,
    /// The records by their keys.
    pub(super) records: BTreeMap<Digest, BundledRecord>,
}

/// A record of a bundle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BundledRecord {
    /// When its run ended.
    pub(super) created: Timestamp,
    /// The outcome and what it depends on.
    pub(super) body: PackedValue,
}

impl BundledRecord {
    /// The record as it was published; none if it is damaged.
    pub(super) fn whole(&self, key: Digest) -> Option<SharedRecord> {
        Some(SharedRecord { key, created: self.created, body: self.body.read().ok()? })
    }
}

/// A record as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackedRecord {
    created: Timestamp,
    body: Value,
}

/// A bundle as it is written, with what its records have in common written once.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PackedBundle {
    format: u32,
    name: BundleName,
    subject: BundleSubject,
    signed: Timestamp,
    parts: Vec<Value>,
    records: BTreeMap<Digest, PackedRecord>,
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
    /// The text of the payload.
    pub(super) fn json(&self) -> String {
        let whole = self.records.iter().filter_map(|(key, record)| record.whole(*key));
        let (heads, bodies): (Vec<_>, Vec<Value>) =
            whole.map(|SharedRecord { key, created, body }| ((key, created), body)).unzip();
        let Packed { parts, values } = pack(&bodies);
        let records = heads.into_iter().zip(values);
        let records = records.map(|((key, created), body)| (key, PackedRecord { created, body }));
        let Self { format, name, subject, signed, .. } = self.clone();
        let packed =
            PackedBundle { format, name, subject, signed, parts, records: records.collect() };
        // Keys are texts and numbers are whole.
        serde_json::to_string(&packed).expect("a bundle can be written as JSON")
    }

    /// The payload: the bytes that are signed.
    pub(super) fn payload(json: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let written = encoder.write_all(json.as_bytes()).and_then(|()| encoder.finish());
        written.expect("memory can be written to")
    }

    /// The object with this payload.
    pub(super) fn seal(payload: &[u8], signature: &str) -> Vec<u8> {
        let end = if signature.ends_with('\n') { "" } else { "\n" };
        [format!("{MAGIC}{FORMAT}\n{signature}{end}").as_bytes(), payload].concat()
    }

    /// Reads an object that must be `key`'s, of this name and about this subject.
    ///
    /// # Errors
    /// If it is not believed.
    pub(super) fn open(
        object: &[u8],
        key: &KeyData,
        name: &BundleName,
        subject: &BundleSubject,
        now: Timestamp,
    ) -> Result<Self, Distrust> {
        if object.len() > MAX_OBJECT_BYTES {
            return Err(Distrust::TooLarge);
        }
        let damaged = |why: &str| Distrust::Damaged(why.to_owned());
        let rest = object.strip_prefix(MAGIC.as_bytes());
        let rest = rest.ok_or_else(|| damaged("it is no shared record"))?;
        let line = rest.iter().position(|byte| *byte == b'\n');
        let (format, rest) = rest.split_at(line.ok_or_else(|| damaged("it ends early"))?);
        if format != FORMAT.to_string().as_bytes() {
            let format = String::from_utf8_lossy(format).chars().take(20).collect();
            return Err(Distrust::Format(format));
        }
        let rest = &rest[1..];
        if !rest.starts_with(SIGNATURE_BEGIN.as_bytes()) {
            return Err(BadSignature::Missing.into());
        }
        let mut ends = rest.windows(SIGNATURE_END.len());
        let end = ends.position(|part| part == SIGNATURE_END.as_bytes());
        let end = end.ok_or_else(|| damaged("it ends early"))? + SIGNATURE_END.len();
        let (pem, payload) = rest.split_at(end);
        let pem = std::str::from_utf8(pem).map_err(|_| BadSignature::Malformed)?;
        signature::verify(key, payload, pem)?;
        let bundle = Self::unpack(payload)?;
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

    /// Reads a payload whose signature fits.
    fn unpack(payload: &[u8]) -> Result<Self, Distrust> {
        let damaged = |why: &dyn ToString| Distrust::Damaged(why.to_string());
        let mut json = String::new();
        let mut decoder = GzDecoder::new(payload).take(MAX_PAYLOAD_BYTES as u64 + 1);
        decoder.read_to_string(&mut json).map_err(|error| damaged(&error))?;
        if json.len() > MAX_PAYLOAD_BYTES {
            return Err(Distrust::TooLarge);
        }
        let packed: PackedBundle = serde_json::from_str(&json).map_err(|error| damaged(&error))?;
        let PackedBundle { format, name, subject, signed, parts, records } = packed;
        let (heads, values): (Vec<_>, Vec<_>) =
            records.into_iter().map(|(key, record)| ((key, record.created), record.body)).unzip();
        let records = heads.into_iter().zip(PackedValue::all(Packed { parts, values }));
        let records =
            records.map(|((key, created), body)| (key, BundledRecord { created, body })).collect();
        Ok(Self { format, name, subject, signed, records })
    }
}

/// A duration in milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
