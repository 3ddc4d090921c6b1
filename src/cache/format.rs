//! The file format: JSON that a person can read, with a digest that proves it whole.
//!
//! ```json
//! {"format":1,"kind":"record","digest":"<64 hex>","payload":{…}}
//! ```
//!
//! The digest covers the payload's bytes as they are. The header is compared byte by byte instead
//! of being parsed, so that every changed, missing or additional byte of the file is noticed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::Digest;

/// The version of all files that are written here. See [`super::record`] for when it must grow.
pub(super) const FORMAT: u64 = 1;

const TAIL: &[u8] = b"}\n";

fn head(kind: &str, digest: &Digest) -> String {
    format!("{{\"format\":{FORMAT},\"kind\":\"{kind}\",\"digest\":\"{digest}\",\"payload\":")
}

/// The bytes of the file that holds `value`.
pub(super) fn encode<T: Serialize>(kind: &str, value: &T) -> serde_json::Result<Vec<u8>> {
    let payload = serde_json::to_vec(value)?;
    let head = head(kind, &Digest::of(&payload));
    let mut bytes = Vec::with_capacity(head.len() + payload.len() + TAIL.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(TAIL);
    Ok(bytes)
}

/// The value in a file's bytes.
///
/// # Errors
/// How they are malformed, as a fragment for a message.
pub(super) fn decode<T: DeserializeOwned>(kind: &str, bytes: &[u8]) -> Result<T, String> {
    if bytes.is_empty() {
        return Err("empty".to_owned());
    }
    let version = version(bytes).ok_or("not a file of this cache (no header)")?;
    if version != FORMAT {
        return Err(format!("format version {version}; this program reads version {FORMAT}"));
    }
    // Any digest gives a header of the same length, so this one tells where the payload begins.
    let length = head(kind, &Digest::from_bytes([0; 32])).len();
    let (found, rest) = bytes.split_at_checked(length).ok_or("truncated in its header")?;
    let payload = rest.strip_suffix(TAIL).ok_or("truncated, or a header of another kind")?;
    if found != head(kind, &Digest::of(payload)).as_bytes() {
        return Err("its payload's digest differs, or it is of another kind".to_owned());
    }
    serde_json::from_slice(payload).map_err(|error| format!("its payload does not parse: {error}"))
}

/// A payload with the header that makes it whole, whatever it is.
#[cfg(feature = "fuzzing")]
pub(super) fn with_header(kind: &str, payload: &[u8]) -> Vec<u8> {
    [head(kind, &Digest::of(payload)).as_bytes(), payload, TAIL].concat()
}

/// The format version in a header.
fn version(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.strip_prefix(b"{\"format\":")?;
    let end = digits.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Paths in JSON: a string where the path is UTF-8, else `{"hex":"…"}` with its bytes.
pub(super) mod lossless {
    use std::ffi::OsString;
    use std::fmt::Write as _;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Text {
        Plain(String),
        Bytes { hex: String },
    }

    pub(in crate::cache) fn serialize<S: Serializer>(
        path: &Path,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if let Some(text) = path.to_str() {
            return serializer.serialize_str(text);
        }
        let mut hex = String::new();
        for byte in path.as_os_str().as_bytes() {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
        }
        Text::Bytes { hex }.serialize(serializer)
    }

    pub(in crate::cache) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        match Text::deserialize(deserializer)? {
            Text::Plain(text) => Ok(text.into()),
            Text::Bytes { hex } => {
                let bytes = bytes(&hex).ok_or_else(|| de::Error::custom("not pairs of hex"))?;
                Ok(OsString::from_vec(bytes).into())
            }
        }
    }

    fn bytes(hex: &str) -> Option<Vec<u8>> {
        let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        // Two hexadecimal digits always fit into a byte.
        pairs.iter().map(|[a, b]| u8::try_from(nibble(*a)? << 4 | nibble(*b)?).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;
    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::cache::{Record, samples};

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Holder(#[serde(with = "lossless")] PathBuf);

    #[test]
    fn the_file_is_json_for_people() {
        let bytes = encode("record", &samples::record(1)).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["format"], 1);
        assert_eq!(json["payload"]["key"]["level"], "source");
        assert_eq!(json["payload"]["inputs"][0]["path"], ".env");
        assert_eq!(decode::<Record>("record", &bytes), Ok(samples::record(1)));
    }

    #[test]
    fn another_version_and_another_kind_say_so() {
        let bytes = encode("record", &samples::record(1)).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        let error = decode::<Record>("record", newer.as_bytes()).unwrap_err();
        assert!(error.contains("format version 2"), "{error}");
        assert!(decode::<Record>("state", &bytes).is_err());
        assert!(decode::<Record>("record", &encode("record", &7).unwrap()).is_err());
    }

    #[test]
    fn an_unknown_field_of_a_newer_program_is_no_obstacle() {
        let mut value = serde_json::to_value(samples::record(1)).unwrap();
        value["replay"] = "later".into();
        let bytes = encode("record", &value).unwrap();
        assert_eq!(decode::<Record>("record", &bytes), Ok(samples::record(1)));
    }

    #[test]
    fn every_truncation_is_odd() {
        let bytes = encode("record", &samples::record(1)).unwrap();
        for length in 0..bytes.len() {
            assert!(decode::<Record>("record", &bytes[..length]).is_err(), "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_path_survives(bytes in proptest::collection::vec(1u8.., 0..40)) {
            let holder = Holder(OsString::from_vec(bytes).into());
            let json = serde_json::to_string(&holder).unwrap();
            prop_assert_eq!(serde_json::from_str::<Holder>(&json).unwrap(), holder);
        }

        #[test]
        fn any_changed_byte_is_odd(place: prop::sample::Index, by in 1u8..) {
            let mut bytes = encode("record", &samples::record(1)).unwrap();
            let place = place.index(bytes.len());
            bytes[place] ^= by;
            prop_assert!(decode::<Record>("record", &bytes).is_err());
        }

        #[test]
        fn garbage_is_odd_and_never_a_panic(bytes: Vec<u8>) {
            prop_assert!(decode::<Record>("record", &bytes).is_err());
            let mut headed = b"{\"format\":1,".to_vec();
            headed.extend(bytes);
            prop_assert!(decode::<Record>("record", &headed).is_err());
        }
    }
}
