//! Programs of which too little is known: each has a reason, and none a digest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use knhk_test_cache::internals::reach::UnknownLayout;

use super::names;
use super::subject::{Subject, masked_changes, reader, strict_changes};
use crate::home::takes_long;

const CODE: &str = "pub fn f() -> u32 { 1 }\n#[test] fn one() { assert_eq!(f(), 1); }\n";

fn subject() -> Subject {
    Subject::new("w", &[("src/lib.rs", CODE)])
}

/// The objects that rustc keeps for the next build.
pub(super) fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(objects(&path));
        } else if path.extension().is_some_and(|extension| extension == "o") {
            found.push(path);
        }
    }
    found
}

#[test]
fn objects_that_are_gone_or_newer_are_refused() {
    let subject = subject();
    let program = subject.program();
    assert!(reader().tests(&program).is_ok());
    let objects = objects(&subject.path("target/debug/incremental"));
    assert!(!objects.is_empty());
    let later = SystemTime::now() + Duration::from_secs(60);
    let linked = fs::metadata(&program).unwrap().modified().unwrap();
    let times: Vec<_> = objects.iter().map(|path| fs::metadata(path).unwrap()).collect();
    for object in &objects {
        File::options().write(true).open(object).unwrap().set_modified(later).unwrap();
    }
    let refused = reader().tests(&program);
    assert!(matches!(refused, Err(UnknownLayout::Stale { .. })), "{refused:?}");
    for (object, metadata) in objects.iter().zip(times) {
        let time = metadata.modified().unwrap().min(linked);
        File::options().write(true).open(object).unwrap().set_modified(time).unwrap();
    }
    assert!(reader().tests(&program).is_ok());
    objects.iter().for_each(|object| fs::remove_file(object).unwrap());
    let refused = reader().tests(&program);
    assert!(matches!(refused, Err(UnknownLayout::ObjectsGone { .. })), "{refused:?}");
}

#[test]
fn builds_that_keep_no_objects_are_refused() {
    if takes_long() {
        return;
    }
    let refused = subject().variable("CARGO_INCREMENTAL", "0").try_tests();
    assert!(matches!(refused, Err(UnknownLayout::ObjectsGone { .. })), "{refused:?}");
    let refused = subject().variable("CARGO_PROFILE_DEV_LTO", "fat").try_tests();
    assert!(matches!(refused, Err(UnknownLayout::NoMain)), "{refused:?}");
    let subject_of_release = subject();
    let release = ["test", "--no-run", "--lib", "--release"];
    let release = subject_of_release.build(&release, "lib", "subject");
    let refused = reader().tests(&release);
    assert!(matches!(refused, Err(UnknownLayout::ObjectsGone { .. })), "{refused:?}");
    let refused = subject().variable("CARGO_PROFILE_DEV_STRIP", "symbols").try_tests();
    assert!(matches!(refused, Err(UnknownLayout::Stripped)), "{refused:?}");
    let shared = subject().variable("RUSTFLAGS", "-Cprefer-dynamic").try_tests();
    assert!(matches!(shared, Err(UnknownLayout::BuiltLibrary { .. })), "{shared:?}");
}

#[test]
fn other_programs_are_refused() {
    let subject = subject();
    subject.append("Cargo.toml", "[[test]]\nname = 'own'\nharness = false\n");
    subject.write("tests/own.rs", "fn main() {}\n");
    let own = subject.build(&["test", "--no-run", "--test", "own"], "test", "own");
    let refused = reader().tests(&own);
    assert!(matches!(refused, Err(UnknownLayout::NoTests)), "{refused:?}");
    assert!(reader().main(&own).is_ok());
    let text = subject.path("Cargo.toml");
    assert!(matches!(reader().tests(&text), Err(UnknownLayout::Format)));
    let absent = subject.path("absent");
    assert!(matches!(reader().tests(&absent), Err(UnknownLayout::Unreadable { .. })));
}

#[test]
fn optimized_objects_that_stay_are_read() {
    if takes_long() {
        return;
    }
    let code = "use std::hint::black_box;\n#[inline(never)] pub fn f() -> u32 { black_box(1) }\n\
         #[test] fn one() { assert!(f() > 0); }\n#[test] fn two() { black_box(2); }\n";
    for (name, value) in [("CARGO_PROFILE_DEV_OPT_LEVEL", "3"), ("CARGO_PROFILE_DEV_LTO", "thin")] {
        let subject = Subject::new("w", &[("src/lib.rs", code)]).variable(name, value);
        let before = subject.tests();
        let after = subject.edited("src/lib.rs", "black_box(1)", "black_box(3)");
        assert_eq!(strict_changes(&before, &after), names(&["one"]), "{name}");
    }
}

#[test]
fn objects_of_other_code_are_refused() {
    let subject = subject();
    let program = subject.program();
    // The time says nothing: what is newer is made to look old.
    let old = fs::read(&program).unwrap();
    let linked = fs::metadata(&program).unwrap().modified().unwrap();
    subject.edited("src/lib.rs", "u32 { 1 }", "u32 { 2 }");
    fs::write(&program, old).unwrap();
    for object in objects(&subject.path("target/debug/incremental")) {
        File::options().write(true).open(object).unwrap().set_modified(linked).unwrap();
    }
    let refused = reader().tests(&program);
    assert!(matches!(refused, Err(UnknownLayout::OtherCode { .. })), "{refused:?}");
}

#[test]
fn c_code_counts_with_its_section_and_assembler_with_its_object() {
    if takes_long() {
        return;
    }
    let build = "use std::process::Command;\n\
         fn main() {\n\
         \x20   let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         \x20   let run = |program: &str, args: &[&str]| {\n\
         \x20       assert!(Command::new(program).args(args).status().unwrap().success());\n\
         \x20   };\n\
         \x20   run(\"cc\", &[\"-c\", \"-ffunction-sections\", \"-fPIC\", \"code.c\", \"-o\", &format!(\"{out}/code.o\")]);\n\
         \x20   run(\"cc\", &[\"-c\", \"code.s\", \"-o\", &format!(\"{out}/asm.o\")]);\n\
         \x20   run(\"ar\", &[\"crs\", &format!(\"{out}/libcode.a\"), &format!(\"{out}/code.o\"), &format!(\"{out}/asm.o\")]);\n\
         \x20   println!(\"cargo::rustc-link-search=native={out}\");\n\
         \x20   println!(\"cargo::rustc-link-lib=static=code\");\n\
         }\n";
    let low = "unsafe extern \"C\" { fn in_c() -> i32; fn in_c_too() -> i32; fn in_assembler() -> i32; }\n\
         pub fn c() -> i32 { unsafe { in_c() } }\n\
         pub fn c_too() -> i32 { unsafe { in_c_too() } }\n\
         pub fn assembler() -> i32 { unsafe { in_assembler() } }\n";
    let subject = Subject::new(
        "w",
        &[
            (
                "src/lib.rs",
                "#[test] fn c() { low::c(); }\n#[test] fn c_too() { low::c_too(); }\n\
                 #[test] fn assembler() { low::assembler(); }\n#[test] fn none() {}\n",
            ),
            ("low/Cargo.toml", "[package]\nname = 'low'\nversion = '0.1.0'\nedition = '2024'\n"),
            ("low/build.rs", build),
            ("low/src/lib.rs", low),
            (
                "low/code.c",
                "static int deeper(void) { return 40; }\n\
                 int in_c(void) { return deeper(); }\nint in_c_too(void) { return 50; }\n",
            ),
            (
                "low/code.s",
                ".globl in_assembler\n.type in_assembler, @function\n.text\n\
                 in_assembler:\n movl $60, %eax\n ret\n.size in_assembler, .-in_assembler\n\
                 .section .note.GNU-stack,\"\",@progbits\n",
            ),
        ],
    );
    subject.append("Cargo.toml", "[dependencies]\nlow = { path = 'low' }\n");
    let before = subject.tests();
    assert!(before.values().all(|reached| reached.unknown_symbol.is_none()), "{before:?}");
    let deeper = subject.edited("low/code.c", "return 40", "return 41");
    assert_eq!(masked_changes(&before, &deeper), names(&["c"]));
    let other = subject.edited("low/code.c", "return 50", "return 51");
    assert_eq!(masked_changes(&before, &other), names(&["c_too"]));
    let assembler = subject.edited("low/code.s", "$60", "$61");
    assert_eq!(masked_changes(&before, &assembler), names(&["assembler"]));
}

#[test]
fn an_archive_of_a_build_script_counts_in_the_tests_of_its_own_package() {
    if takes_long() {
        return;
    }
    let build = "use std::process::Command;\n\
         fn main() {\n\
         \x20   let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         \x20   let place = std::env::var(\"PLACE\").map_or(out, |place| place);\n\
         \x20   let run = |program: &str, args: &[&str]| {\n\
         \x20       assert!(Command::new(program).args(args).status().unwrap().success());\n\
         \x20   };\n\
         \x20   run(\"cc\", &[\"-c\", \"code.c\", \"-fPIC\", \"-o\", &format!(\"{place}/code.o\")]);\n\
         \x20   run(\"ar\", &[\"crs\", &format!(\"{place}/libcode.a\"), &format!(\"{place}/code.o\")]);\n\
         \x20   println!(\"cargo::rustc-link-search=native={place}\");\n\
         \x20   println!(\"cargo::rustc-link-lib=static=code\");\n\
         }\n";
    let files = [
        (
            "src/lib.rs",
            "unsafe extern \"C\" { fn in_c() -> i32; }\n\
             #[test] fn c() { assert!(unsafe { in_c() } > 0); }\n#[test] fn none() {}\n",
        ),
        ("tests/it.rs", ""),
        ("build.rs", build),
        ("code.c", "static const volatile int number = 40;\nint in_c(void) { return number; }\n"),
    ];
    let subject = Subject::new("w", &files);
    let before = subject.tests();
    let after = subject.edited("code.c", "40", "41");
    assert_eq!(masked_changes(&before, &after), names(&["c"]));
    // The library bundles the objects. A build without it leaves the old ones there. In one build of
    // both the library can be the newer one.
    let built = subject.run("cargo".as_ref(), &["build", "--lib"]);
    assert!(built.status.success(), "{built:?}");
    assert_eq!(before, subject.tests());
    subject.write("code.c", &files[3].1.replace("40", "42"));
    let refused = subject.try_tests();
    assert!(matches!(refused, Err(UnknownLayout::SeveralObjects { .. })), "{refused:?}");
    // Elsewhere it is not found.
    let elsewhere = tempfile::tempdir().unwrap();
    let subject = Subject::new("w", &files).variable("PLACE", elsewhere.path().to_str().unwrap());
    let refused = subject.try_tests();
    assert!(matches!(refused, Err(UnknownLayout::UnknownObject { .. })), "{refused:?}");
}
