//! Operating-system strings in JSON, without loss: text where it is UTF-8, else an array of
//! bytes. For `#[serde(with = "…")]` on paths, arguments and environment variables.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;

use serde::{Deserialize, Serialize};

/// An [`OsString`] that serialises without loss.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Repr", into = "Repr")]
pub struct OsText(pub OsString);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Repr {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<OsText> for Repr {
    fn from(OsText(text): OsText) -> Self {
        text.into_string().map_or_else(|text| Self::Bytes(text.into_vec()), Self::Text)
    }
}

impl From<Repr> for OsText {
    fn from(repr: Repr) -> Self {
        Self(match repr {
            Repr::Text(text) => text.into(),
            Repr::Bytes(bytes) => OsString::from_vec(bytes),
        })
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for OsText {
    fn from(text: &T) -> Self {
        Self(text.as_ref().to_owned())
    }
}

/// `#[serde(with = "crate::model::os_text")]` for one path or string.
pub(crate) mod os_text {
    use super::{OsString, OsText};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Writes the text.
    ///
    /// # Errors
    /// Those of the serialiser.
    pub(crate) fn serialize<T: AsRef<std::ffi::OsStr>, S: Serializer>(
        text: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        OsText::from(text.as_ref()).serialize(serializer)
    }

    /// Reads the text back.
    ///
    /// # Errors
    /// Those of the deserialiser.
    pub(crate) fn deserialize<'de, T: From<OsString>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        OsText::deserialize(deserializer).map(|text| text.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn utf8_is_plain_text() {
        assert_eq!(serde_json::to_string(&OsText::from("a/ü")).unwrap(), "\"a/ü\"");
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes: Vec<u8>) {
            let text = OsText(OsString::from_vec(bytes));
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<OsText>(&json).unwrap(), text);
        }
    }
}
