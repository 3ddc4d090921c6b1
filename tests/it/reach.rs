//! The code that tests reach, in packages that the real toolchain builds.
//!
//! Each edit keeps every line where it is, unless it is about lines. So both digests must tell the
//! same.

#![allow(clippy::disallowed_methods, reason = "cargo runs as a shell would run it")]

mod foreign;
mod outside;
mod subject;
mod unknown;

use std::collections::BTreeSet;
use std::fs;

use crate::home::takes_long;
use subject::{Subject, masked_changes, reader, strict_changes};

/// A library in which each test reaches one kind of code or data.
const LIBRARY: &str = include_str!("reach/programs/library.rs");

fn library(folder: &str) -> Subject {
    Subject::new(folder, &[("src/lib.rs", LIBRARY), ("src/text.txt", "a text")])
}

fn names<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

#[test]
fn an_edit_changes_the_tests_that_reach_it_and_no_others() {
    if takes_long() {
        return;
    }
    let subject = library("w");
    let before = subject.tests();
    let listed = subject.listed();
    assert_eq!(before.keys().cloned().collect::<BTreeSet<_>>(), listed);
    let edits: [(&str, &str, &[&str]); 23] = [
        ("assert_eq!(1 + 1, 2)", "assert_eq!(1 + 2, 3)", &["tests::plain"]),
        ("text.to_uppercase()", "text.to_lowercase()", &["tests::private", "tests::private_too"]),
        ("LIMIT: u32 = 7", "LIMIT: u32 = 8", &["tests::a_static"]),
        ("SIZE: usize = 3", "SIZE: usize = 4", &["tests::a_const"]),
        ("TABLE: [u32; 3] = [1, 2, 3]", "TABLE: [u32; 3] = [1, 2, 4]", &["tests::a_table"]),
        ("FIRST.fetch_add(1", "SECOND.fetch_add(1", &["tests::a_counter"]),
        ("self.0 * self.0", "self.0 + self.0", &["tests::a_vtable"]),
        ("3 * self.radius()", "4 * self.radius()", &["tests::a_default_method"]),
        ("DROPPED.store(1", "DROPPED.store(2", &["tests::a_drop"]),
        ("if a < b { b } else { a }", "if a > b { b } else { a }", &["tests::a_generic"]),
        ("|x| x + 17", "|x| x + 18", &["tests::a_closure"]),
        ("Cell::new(5)", "Cell::new(6)", &["tests::a_thread_local"]),
        ("1.5 * x", "2.5 * x", &["tests::a_float"]),
        ("expected = \"one\"", "expected = \"two\"", &["tests::should_panic"]),
        ("#[test] #[ignore]", "#[test]", &["tests::ignored"]),
        ("panic!(\"message\")", "panic!(\"passage\")", &["tests::a_message"]),
        ("u32 { 0 }", "u32 { 0 } fn around(&self) -> u32 { 9 }", &["tests::a_default_method"]),
        ("u32 { 23 }", "u32 { 24 }", &["tests::assembler"]),
        ("u32 { 29 }", "u32 { 30 }", &["tests::inline"]),
        ("pub one: u32, pub two: u32", "pub two: u32, pub one: u32", &["tests::a_layout"]),
        // It looks like a panic's location, and is none.
        ("\"x.rs\", line: 1", "\"x.rs\", line: 2", &["tests::a_place"]),
        ("if n == 0 { 3 }", "if n == 0 { 4 }", &["tests::a_cycle"]),
        ("if n == 1 { 5 }", "if n == 1 { 6 }", &["tests::a_cycle"]),
    ];
    for (from, to, expected) in edits {
        let after = subject.edited("src/lib.rs", from, to);
        assert_eq!(strict_changes(&before, &after), names(expected), "{from}");
        assert_eq!(masked_changes(&before, &after), names(expected), "{from}");
    }
    subject.write("src/text.txt", "a test");
    assert_eq!(strict_changes(&before, &subject.tests()), names(&["tests::a_file"]));
    subject.write("src/text.txt", "a text");
    assert_eq!(before, subject.tests(), "everything is as it was");
}

#[test]
fn the_same_code_has_the_same_digests_in_any_folder_and_build() {
    if takes_long() {
        return;
    }
    let subject = library("w");
    let before = subject.tests();
    fs::remove_dir_all(subject.path("target")).unwrap();
    assert_eq!(before, subject.tests(), "a clean build");
    assert_eq!(before, library("another folder").tests(), "another folder");
    let without_lld = library("w").variable("RUSTFLAGS", "-Clinker-features=-lld");
    assert_eq!(before, without_lld.tests(), "another linker");
    let unpacked = library("w")
        .variable("CARGO_PROFILE_DEV_DEBUG", "2")
        .variable("CARGO_PROFILE_DEV_SPLIT_DEBUGINFO", "unpacked");
    assert!(before.keys().eq(unpacked.tests().keys()), "debug information in files of its own");
}

#[test]
fn a_reader_that_is_kept_sees_what_a_new_one_sees() {
    let subject = library("w");
    let mut kept = reader();
    for (from, to) in [("7;", "7;"), ("LIMIT: u32 = 7", "LIMIT: u32 = 8"), ("x + 17", "x + 18")] {
        let old = fs::read_to_string(subject.path("src/lib.rs")).unwrap();
        subject.write("src/lib.rs", &old.replace(from, to));
        let program = subject.program();
        assert_eq!(kept.tests(&program).unwrap(), reader().tests(&program).unwrap(), "{from}");
        assert_eq!(kept.main(&program).unwrap(), reader().main(&program).unwrap(), "{from}");
        kept.end_round();
    }
    // Nothing is kept of what nobody has asked for in a whole round.
    kept.end_round();
    assert_eq!(kept.tests(&subject.program()).unwrap(), subject.tests());
}

#[test]
fn lines_that_move_count_only_strictly() {
    let subject = library("w");
    let before = subject.tests();
    let moved = subject.edited("src/lib.rs", "// A comment.", "// A comment.\n// And another.\n");
    assert_eq!(masked_changes(&before, &moved), names(&[]));
    // Each test is somewhere, so its strict digest tells of it.
    assert_eq!(strict_changes(&before, &moved).len(), before.len());
    // In place, nothing moves.
    let commented = subject.edited("src/lib.rs", "// A comment.", "// Another text.");
    assert_eq!(before, commented);
    subject.append("src/lib.rs", "#[cfg(test)]\nmod more { #[test] fn another() {} }\n");
    let more = subject.tests();
    assert_eq!(masked_changes(&before, &more), names(&["more::another"]));
    assert_eq!(strict_changes(&before, &more), names(&["more::another"]));
}

#[test]
fn what_always_runs_counts_for_every_test() {
    if takes_long() {
        return;
    }
    let code = "use std::alloc::{GlobalAlloc, Layout, System};\n\
         use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};\n\
         static COUNT: AtomicUsize = AtomicUsize::new(0);\n\
         pub struct Counting;\n\
         unsafe impl GlobalAlloc for Counting {\n\
         \x20   unsafe fn alloc(&self, layout: Layout) -> *mut u8 {\n\
         \x20       COUNT.fetch_add(1, Relaxed); unsafe { System.alloc(layout) }\n\
         \x20   }\n\
         \x20   unsafe fn dealloc(&self, at: *mut u8, layout: Layout) { unsafe { System.dealloc(at, layout) } }\n\
         }\n\
         #[global_allocator] static ALLOCATOR: Counting = Counting;\n\
         extern \"C\" fn early() { COUNT.store(40, Relaxed); }\n\
         #[used] #[unsafe(link_section = \".init_array\")] static EARLY: extern \"C\" fn() = early;\n\
         extern \"C\" fn late() { COUNT.store(50, Relaxed); }\n\
         #[used] #[unsafe(link_section = \".fini_array\")] static LATE: extern \"C\" fn() = late;\n\
         #[unsafe(no_mangle)] pub extern \"C\" fn getpid() -> i32 { 60 }\n\
         fn registered() -> u32 { 80 }\n\
         #[used] #[unsafe(link_section = \"registry\")] static ENTRY: fn() -> u32 = registered;\n\
         #[test] fn one() {}\n#[test] fn two() { assert!(COUNT.load(Relaxed) > 0); }\n";
    let subject = Subject::new("w", &[("src/lib.rs", code)]);
    let before = subject.tests();
    let edits = [
        ("fetch_add(1, Relaxed)", "fetch_add(2, Relaxed)"),
        ("store(40", "store(41"),
        ("store(50", "store(51"),
        ("{ 60 }", "{ 61 }"),
        ("{ 80 }", "{ 81 }"),
    ];
    for (from, to) in edits {
        let after = subject.edited("src/lib.rs", from, to);
        assert_eq!(masked_changes(&before, &after), names(&["one", "two"]), "{from}");
    }
    let after = subject.edited("src/lib.rs", "> 0)", "> 1)");
    assert_eq!(strict_changes(&before, &after), names(&["two"]));
}

#[test]
fn a_static_has_an_address_of_its_own_and_thread_locals_take_from_the_stack() {
    let code = "static RED: u8 = 0;\nstatic BLUE: u8 = 0;\n\
         fn favourite() -> &'static u8 { &RED }\n\
         #[test] fn likes() { assert!(std::ptr::eq(favourite(), &RED) && !std::ptr::eq(favourite(), &BLUE)); }\n\
         thread_local! { static OWN: std::cell::Cell<[u8; SIZE]> = const { std::cell::Cell::new([0; SIZE]) }; }\n\
         const SIZE: usize = 100;\n\
         #[test] fn own() { OWN.set([1; SIZE]); }\n";
    let subject = Subject::new("w", &[("src/lib.rs", code)]);
    let before = subject.tests();
    let after = subject.edited("src/lib.rs", "{ &RED }", "{ &BLUE }");
    assert_eq!(masked_changes(&before, &after), names(&["likes"]));
    let after = subject.edited("src/lib.rs", "100", "900");
    assert_eq!(masked_changes(&before, &after), names(&["likes", "own"]));
}

#[test]
fn dependencies_and_programs_count_by_what_is_reached_of_them() {
    if takes_long() {
        return;
    }
    let subject = Subject::new(
        "w",
        &[
            ("src/lib.rs", "#[test] fn a() { low::used(); low::generic(1); }\n#[test] fn b() {}\n"),
            ("src/main.rs", "fn main() { std::process::exit(low::used()); }\n"),
            ("low/Cargo.toml", "[package]\nname = 'low'\nversion = '0.1.0'\nedition = '2024'\n"),
            (
                "low/src/lib.rs",
                "pub fn used() -> i32 { deeper() }\nfn deeper() -> i32 { 70 }\n\
                 pub fn unused() -> i32 { 80 }\npub fn generic<T>(t: T) -> (T, i32) { (t, 90) }\n",
            ),
        ],
    );
    subject.append("Cargo.toml", "[dependencies]\nlow = { path = 'low' }\n");
    let main = || {
        let program = subject.build(&["build"], "bin", "subject");
        (reader().main(&program).unwrap().strict, reader().programs(&[program]).unwrap())
    };
    let (before, program) = (subject.tests(), main());
    let low = fs::read_to_string(subject.path("low/src/lib.rs")).unwrap();
    let edit = |from, to: &str, tests: &[&str], changes_main| {
        subject.write("low/src/lib.rs", &low.replace(from, to));
        let after = subject.tests();
        assert_eq!(strict_changes(&before, &after), names(tests), "{from}");
        let main = main();
        assert_eq!((main.0 != program.0, main.1 != program.1), (changes_main, changes_main));
    };
    edit("{ 70 }", "{ 71 }", &["a"], true);
    edit("{ 80 }", "{ 81 }", &[], false);
    edit("(t, 90)", "(t, 91)", &["a"], false);
}
