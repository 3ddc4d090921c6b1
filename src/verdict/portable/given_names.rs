//! Names of variables that a run may have taken from a value.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;

use crate::model::OsText;
use crate::verdict::environment::COMMON;
use crate::workspace::well_known_beginnings;

/// Beginnings that no value holds, of the names of these variables and of those that are well known.
pub(super) fn unnamed<'n>(
    values: &[OsText],
    names: impl Iterator<Item = &'n String>,
) -> BTreeSet<String> {
    let is_held = |text: &str| {
        let holds = |value: &OsText| {
            let value = value.0.as_bytes();
            value.windows(text.len()).any(|part| part == text.as_bytes())
        };
        values.iter().any(holds)
    };
    let names = names.map(String::as_str).chain(COMMON);
    let names = names.chain(well_known_beginnings().map(|text| -> &str { text }));
    let shortest = |name: &str| {
        let letters = name.trim_start_matches('_');
        let start = name.len() - letters.len();
        let end = letters.find('_').map_or(name.len(), |end| start + end + 1);
        [&name[..end], name]
            .into_iter()
            .find(|text| !text.is_empty() && !is_held(text))
            .map(str::to_owned)
    };
    names.filter_map(shortest).collect()
}

/// The names of these variables that a run may have taken from a value, since they hold none of the
/// texts that no value holds.
pub(super) fn perhaps_named<'n>(
    names: impl Iterator<Item = &'n String>,
    unnamed: &BTreeSet<String>,
) -> Vec<OsText> {
    let is_unnamed =
        |name: &str| unnamed.iter().any(|text| !text.is_empty() && name.contains(&**text));
    let names: BTreeSet<&String> = names.filter(|name| !is_unnamed(name)).collect();
    names.into_iter().map(|name| OsText::from(&**name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cargo_gives_names_what_it_holds_on_other_machines_too() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let counts = |values: &[&str], theirs: &[&str], ours: &[&str]| -> Vec<String> {
            let values: Vec<_> = values.iter().map(|value| OsText::from(*value)).collect();
            let unnamed = unnamed(&values, names(theirs).iter());
            let found = perhaps_named(names(ours).iter(), &unnamed);
            found.into_iter().map(|name| name.0.into_string().unwrap()).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(counts(&["see APP_MODE"], &["APP_MODE"], &["APP_MODE"]), ["APP_MODE"]);
        assert_eq!(counts(&["see APP_MODEL"], &["APP_MODE"], &["APP_MODE"]), ["APP_MODE"]);
        assert_eq!(counts(&["see app_mode"], &["APP_MODE"], &["APP_MODE"]), none);
        // Another name that begins alike, which only one of the two machines has.
        assert_eq!(counts(&["see APP_MODE"], &["APP_KIND"], &["APP_MODE"]), ["APP_MODE"]);
        assert_eq!(counts(&["see THE_MODE"], &["APP_KIND"], &["APP_MODE"]), none);
        // Nobody has searched for it.
        assert_eq!(counts(&[], &[], &["ODD_MODE"]), ["ODD_MODE"]);
        // What most machines have was searched for.
        assert_eq!(counts(&["/home/a"], &[], &["HOME", "STARSHIP_SHELL"]), none);
        assert_eq!(counts(&["of HOME"], &[], &["HOME", "HOME_DIR"]), ["HOME", "HOME_DIR"]);
        // A text that every name holds tells of none.
        assert_eq!(counts(&["_"], &["", "_"], &["APP_MODE"]), ["APP_MODE"]);
    }
}
