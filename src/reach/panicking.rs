//! Functions of the standard library that are known to do nothing with their caller's place in a source
//! file but panic with it.
//!
//! The code of most is part of the standard library's own objects, which are not examined. Generic ones
//! are compiled into the program. None of these hands the place to a function of the program: those that
//! call one, such as `unwrap_or_else`, are not listed, and are judged by their code.
//!
//! The list was made from the names that programs of Rust 1.95 reach, in both forms of mangling.

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

/// Implementations of the standard library, by the start of what follows the type. Those of a program can
/// be for the same types, with a parameter of the program's.
const IMPLEMENTATIONS: [&str; 6] = [
    "core::ops::index::Index<I>",
    "core::ops::index::Index<usize>",
    "core::ops::index::Index<core::ops::range::",
    "core::ops::index::IndexMut<I>",
    "core::ops::index::IndexMut<usize>",
    "core::ops::index::IndexMut<core::ops::range::",
];

/// Whether the function of this mangled name does nothing with its caller's place but panic with it.
pub(super) fn only_panics(name: &str) -> bool {
    let (path, last) = readable(name);
    let is_listed =
        |(module, names): &(&str, &[&str])| path.starts_with(module) && names.contains(&&*last);
    let is_own = path.split_once(" as ").is_none_or(|(_, implemented)| {
        IMPLEMENTATIONS.iter().any(|start| implemented.starts_with(start))
    });
    MODULES.iter().any(|module| path.starts_with(module))
        || is_own && FUNCTIONS.iter().any(is_listed)
}

/// Whether the function of this mangled name is one of the standard library that returns nothing.
pub(super) fn has_no_result(name: &str) -> bool {
    let (path, last) = readable(name);
    last == "precondition_check" && is_of_library(&path)
}

/// Whether the function of this mangled name is the one of `assert_eq!`, of which the place is the last of six
/// parameters: it never returns, and hands the place to a function of the standard library that panics.
pub(super) fn fails_with_last(name: &str) -> bool {
    let (path, last) = readable(name);
    path.starts_with("core::panicking::") && last == "assert_failed"
}

fn is_of_library(path: &str) -> bool {
    let starts = ["core::", "alloc::", "std::", "usize as core::", "T as core::"];
    starts.iter().any(|start| path.starts_with(start))
}

/// Whether the function of this mangled name, which may hand the place on, never returns it itself.
pub(super) fn never_returns_place(name: &str) -> bool {
    let (path, last) = readable(name);
    match &*last {
        "into" => path.starts_with("T as core::convert::Into<"),
        "from_residual" => {
            is_of_library(&path) && path.contains(" as core::ops::try_trait::FromResidual<core::")
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_only_panic_are_told_from_others_in_both_forms_of_names() {
        for name in [
            "_ZN4core9panicking9panic_fmt17h0123456789abcdefE",
            "_RNvNtCsgEmfK2I1SDS_4core9panicking9panic_fmt",
            "_RNvNtCsgEmfK2I1SDS_4core6option13unwrap_failed",
            "_ZN4core6option15Option$LT$T$GT$6unwrap17h0123456789abcdefE",
            // <alloc::vec::Vec<u8> as core::ops::index::Index<usize>>::index
            "_RNvXCs1_4mineINtNtCs2_5alloc3vec3VechEINtNtNtCs3_4core3ops5index5IndexjE5index",
            "_ZN4core6result19Result$LT$T$C$E$GT$6expect17h0123456789abcdefE",
            "_ZN81_$LT$alloc..vec..Vec$LT$T$C$A$GT$$u20$as$u20$core..ops..index..Index$LT$I$GT$$GT$\
             5index17h0123456789abcdefE",
        ] {
            assert!(only_panics(name), "{name}");
        }
        for name in [
            "_ZN4core5panic8location8Location6caller17h0123456789abcdefE",
            "_ZN4core6option15Option$LT$T$GT$14unwrap_or_else17h0123456789abcdefE",
            "_ZN4mine9panicking9panic_fmt17h0123456789abcdefE",
            "_ZN4mine6option15Option$LT$T$GT$6unwrap17h0123456789abcdefE",
            "_ZN3log13__private_api3loc17h0123456789abcdefE",
            "_ZN5alloc3vec16Vec$LT$T$C$A$GT$6extend17h0123456789abcdefE",
            // <alloc::vec::Vec<u8> as core::ops::index::Index<mine::Own>>::index
            "_RNvXCs1_4mineINtNtCs2_5alloc3vec3VechEINtNtNtCs3_4core3ops5index5IndexNtB2_3OwnE5index",
            "unwrap_failed",
        ] {
            assert!(!only_panics(name), "{name}");
        }
        let into =
            "_ZN50_$LT$T$u20$as$u20$core..convert..Into$LT$U$GT$$GT$4into17h0123456789abcdefE";
        assert!(never_returns_place(into) && !only_panics(into));
        assert!(!has_no_result("_ZN4mine18precondition_check17h0123456789abcdefE"));
        assert!(has_no_result(
            "_ZN4core4hint16assert_unchecked18precondition_check17h0123456789abcdefE"
        ));
        assert!(fails_with_last("_ZN4core9panicking13assert_failed17h0123456789abcdefE"));
        assert!(!fails_with_last("_ZN4mine9panicking13assert_failed17h0123456789abcdefE"));
        assert!(!never_returns_place("_ZN4core4into17h0123456789abcdefE"));
    }
}
