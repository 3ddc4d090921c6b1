//! Variables that tell of the package under test.
//!
//! They belong to a build, so they count always; but each version of the package changes some, and few tests
//! read one. For a test program one counts if something in its run can name it, or may print all variables.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The texts by which something names the variables that cargo itself sets for a test, to other values with each
/// version of the package: `CARGO_PKG_VERSION` and its like, and `OUT_DIR`.
pub(super) const TEXTS_OF_PACKAGE: [&str; 2] = ["cargo_", "out_dir"];

/// The text of this variable, if it is one of these.
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

/// Whether a program's file is one of a library, which prints nothing by itself.
pub(super) fn is_shared_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
}
