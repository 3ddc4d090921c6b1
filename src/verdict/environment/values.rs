//! Names of variables in the values of others, and in arguments.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use crate::model::OsText;
use crate::process::Environment;
use crate::workspace::is_session_variable;

/// The variables that say who the user is, and which programs the user prefers.
const OF_USER: [&str; 7] = ["USER", "LOGNAME", "USERNAME", "EDITOR", "VISUAL", "PAGER", "BROWSER"];

/// Whether another variable's value, one that cargo gave among them, or an argument holds the name of this
/// one; or an argument, or a value that cargo gave, is its first word.
pub(super) fn is_named(
    environment: &Environment,
    arguments: &[OsString],
    name: &str,
    word: &str,
    given: &[OsText],
) -> Option<String> {
    let holds =
        |text: &&OsStr| text.as_bytes().windows(name.len()).any(|part| part == name.as_bytes());
    let given: Vec<&OsStr> = given.iter().map(|text| &*text.0).collect();
    let arguments = arguments.iter().map(|text| &**text);
    let told: Vec<&OsStr> = given.into_iter().chain(arguments).collect();
    let mut values = environment.iter().filter(|(name, _)| *name != "PATH");
    if values.any(|(_, value)| holds(&value)) || told.iter().any(holds) {
        return Some("another variable or an argument names it".to_owned());
    }
    let is_word = |told: &&OsStr| told.as_bytes().eq_ignore_ascii_case(word.as_bytes());
    told.iter().any(is_word).then(|| "an argument is its first word".to_owned())
}

/// The other variables that have this word in their value, whatever its case. A path is no list of words;
/// and neither those of the session nor the names of users and their programs lead to others.
pub(super) fn with_word<'e>(environment: &'e Environment, name: &str, word: &str) -> Vec<&'e str> {
    let has_word = |value: &str| {
        let mut words = value.split(|c: char| !c.is_ascii_alphanumeric());
        !value.contains('/') && words.any(|part| part.eq_ignore_ascii_case(word))
    };
    let texts = environment.iter().filter_map(|(n, v)| Some((n.to_str()?, v.to_str()?)));
    let is_aside = |other: &str| {
        other == name || is_session_variable(OsStr::new(other)) || OF_USER.contains(&other)
    };
    let others = texts.filter(|(other, value)| !is_aside(other) && has_word(value));
    others.map(|(other, _)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_of_a_name_is_found_in_lists_of_words() {
        let of = |value: &str| {
            !with_word(&Environment::of(&[("APP", value)]), "SHOP_URL", "SHOP").is_empty()
        };
        for value in ["shop", "SHOP_", "a,shop", "the Shop!"] {
            assert!(of(value), "{value}");
        }
        for value in ["", "shops", "/home/shop", "a shop/b"] {
            assert!(!of(value), "{value}");
        }
        let aside = [("SHOP_URL", "shop"), ("TERM", "shop"), ("EDITOR", "shop")];
        assert!(with_word(&Environment::of(&aside), "SHOP_URL", "SHOP").is_empty());
    }

    #[test]
    fn arguments_and_values_of_cargo_name_by_the_whole_or_by_its_first_word() {
        let given = |text: &str| [OsText(text.into())];
        let named = |pairs: &[(&str, &str)], given: &[OsText]| {
            is_named(&Environment::of(pairs), &[], "SHOP_URL", "SHOP", given).is_some()
        };
        let of = |text: &str| named(&[], &given(text));
        assert!(of("x SHOP_URL y") && of("SHOP") && of("shop"));
        assert!(!of("a shop") && !of("SHOP_UR"));
        assert!(named(&[("A", "=SHOP_URL")], &[]) && !named(&[("A", "shop")], &[]));
    }
}
