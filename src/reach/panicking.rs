//! Functions of the standard library that are known to do nothing with their caller's place in a source
//! file but panic with it.
//!
//! The code of most is part of the standard library's own objects, which are not examined. Generic ones
//! are compiled into the program. None of these hands the place to a function of the program: those that
//! call one, such as `unwrap_or_else`, are not listed, and are judged by their code.

/// Modules of which every function that gets a place panics with it.
const MODULES: [&str; 4] = [
    "core::panicking::",
    "core::slice::index::",
    "alloc::raw_vec::",
    "core::str::slice_error_fail",
];

/// Functions that panic with the place, by the start of their paths and their names.
const FUNCTIONS: [(&str, &[&str]); 11] = [
    ("core::option::Option<", &["unwrap", "expect"]),
    ("core::option::", &["unwrap_failed", "expect_failed"]),
    ("core::result::Result<", &["unwrap", "expect", "unwrap_err", "expect_err"]),
    ("core::result::", &["unwrap_failed"]),
    (
        "core::cell::",
        &["borrow", "borrow_mut", "panic_already_borrowed", "panic_already_mutably_borrowed"],
    ),
    (
        "core::slice::",
        &[
            "len_mismatch_fail",
            "copy_from_slice",
            "copy_from_slice_impl",
            "split_at",
            "split_at_mut",
            "swap",
            "chunks_exact",
            "windows",
        ],
    ),
    ("core::str::", &["index"]),
    ("core::num::", &["panic_for_nonpositive_argument", "from_ascii_radix_panic"]),
    (
        "alloc::vec::Vec<",
        &["index", "index_mut", "remove", "swap_remove", "insert", "push", "split_off"],
    ),
    ("alloc::string::String", &["index", "remove", "insert", "push", "push_str", "split_off"]),
    ("std::thread::local::", &["panic_access_error"]),
];

/// Whether the function of this mangled name does nothing with its caller's place but panic with it.
pub(super) fn only_panics(name: &str) -> bool {
    let (path, last) = readable(name);
    let is_listed =
        |(module, names): &(&str, &[&str])| path.starts_with(module) && names.contains(&&*last);
    MODULES.iter().any(|module| path.starts_with(module)) || FUNCTIONS.iter().any(is_listed)
}

/// Whether the function of this mangled name, which may hand the place on, never returns it itself.
pub(super) fn never_returns_place(name: &str) -> bool {
    let (path, last) = readable(name);
    let is_of_library = ["core::", "alloc::", "std::", "usize as core::", "T as core::"]
        .iter()
        .any(|start| path.starts_with(start));
    match &*last {
        "precondition_check" => is_of_library,
        "into" => path.starts_with("T as core::convert::Into<"),
        "from_residual" => path.contains(" as core::ops::try_trait::FromResidual<"),
        _ => false,
    }
}

/// The path without what stands before its first name, and its last name.
fn readable(name: &str) -> (String, String) {
    let path = format!("{:#}", rustc_demangle::demangle(name));
    let last = path.rsplit("::").next().unwrap_or_default();
    // Generic arguments of the newer form of names stand behind it.
    let last = last.split('<').next().unwrap_or_default().to_owned();
    (path.trim_start_matches(['<', '&', '*', '(', '[', ' ']).to_owned(), last)
}
