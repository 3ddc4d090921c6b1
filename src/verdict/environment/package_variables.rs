//! Variables that tell of the package under test.
//!
//! They belong to a build, so they count always; but each version of the package changes some, and few tests
//! read one. For a test program one counts if something in its run can name it, or may print all variables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// The texts by which something names the variables that cargo itself sets for a test, to other values with each
/// version of the package: `CARGO_PKG_VERSION` and its like, and `OUT_DIR`.
pub(super) const TEXTS_OF_PACKAGE: [&str; 2] = ["cargo_", "out_dir"];

/// The text by which this variable is named; `None` if it is another one.
pub(in crate::verdict) fn text_of_package(name: &OsStr) -> Option<&'static str> {
    let [package, folder] = TEXTS_OF_PACKAGE;
    match name.as_bytes() {
        b"OUT_DIR" => Some(folder),
        name if name.starts_with(b"CARGO_PKG_") => Some(package),
        _ => None,
    }
}

/// The first word of a name that is searched for by `text`.
pub(super) fn first_word<'t>(name: &str, text: &'t str) -> &'t str {
    match text_of_package(OsStr::new(name)) {
        Some(_) => text.split('_').next().unwrap_or(text),
        None => text,
    }
}
