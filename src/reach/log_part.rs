//! Functions of the crate `log`, by their mangled names.

/// The part of a function in how the crate `log` keeps the line of a call.
///
/// Its macros store the line in a record, and only the record's readers give it back. Without this,
/// everything that logs would depend on its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LogPart {
    /// None.
    #[default]
    None,
    /// It reads the line of a location, as anything can: `Location::line`.
    Reads,
    /// It stores lines that it reads itself. What a logger reads that it calls is the logger's.
    Stores,
}

impl LogPart {
    /// The part of the function `name`.
    pub(super) fn of(name: &str) -> Self {
        match () {
            () if is_within(name, "4core", "5panic8location")
                && name.contains("8Location4line") =>
            {
                Self::Reads
            }
            () if is_of_log(name) => Self::Stores,
            () => Self::None,
        }
    }
}

/// Whether the function `name` is one that only the macros of the crate `log` call.
fn is_of_log(name: &str) -> bool {
    // With the length's underscore in the newer form of names.
    is_within(name, "3log", "13__private_api") || is_within(name, "3log", "13___private_api")
}

/// Whether `name` is the function that the macros of the crate `log` hand the place of a call, and nothing
/// else.
pub(super) fn is_place_of_log(name: &str) -> bool {
    let is_it = |path: &&str| name.contains(*path);
    is_of_log(name) && ["13__private_api3loc", "13___private_api3loc"].iter().any(is_it)
}

/// Whether the function `name` is one of this module of this crate, and not merely generic over something
/// of it.
fn is_within(name: &str, krate: &str, module: &str) -> bool {
    let legacy = name.strip_prefix("_ZN").and_then(|path| path.strip_prefix(krate));
    if let Some(path) = legacy {
        return path.starts_with(module);
    }
    // `_RNvNtCs1234_3log13___private_api3loc`
    let Some(at) = name.find(&format!("_{krate}{module}")) else { return false };
    let before = ["_RINvNtCs", "_RNvNtCs", "_RNvMNtNtCs"];
    let number = before.iter().find_map(|start| name[..at].strip_prefix(start));
    number.is_some_and(|number| number.bytes().all(|c| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_log_are_told_from_others_in_both_forms_of_names() {
        let logs = "_ZN3log13__private_api8log_impl17h0123456789abcdefE";
        for (name, part) in [
            (logs, LogPart::Stores),
            ("_RINvNtCsj9_3log13___private_api8log_implRNtCs1_4mine3OwnEB1_", LogPart::Stores),
            ("_ZN3log3log17h0123456789abcdefE", LogPart::None),
            ("_RINvCs1_4mine4callNtNtCsj9_3log13___private_api12GlobalLoggerE", LogPart::None),
            ("_ZN4core5panic8location8Location4line17h0123456789abcdefE", LogPart::Reads),
            ("_RNvMNtNtCsj9_4core5panic8locationNtB2_8Location4line", LogPart::Reads),
            ("_ZN4mine8Location4line17h0123456789abcdefE", LogPart::None),
            ("_ZN4core5panic8location8Location6column17h0123456789abcdefE", LogPart::None),
        ] {
            assert_eq!(LogPart::of(name), part, "{name}");
        }
        for (name, is_place) in [
            ("_ZN3log13__private_api3loc17h0123456789abcdefE", true),
            ("_RNvNtCsj9_3log13___private_api3loc", true),
            (logs, false),
            ("_ZN4mine13__private_api3loc17h0123456789abcdefE", false),
        ] {
            assert_eq!(is_place_of_log(name), is_place, "{name}");
        }
    }
}
