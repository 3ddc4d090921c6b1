//! With `selection = "on"`, in every way in which a workspace can be built: a change that a test reaches is
//! found, and what cannot be told apart falls back to the whole program.

// Runs can be observed, and objects are read, on this platform only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::collections::BTreeMap;

use super::selection::compared;
use crate::early::EARLY;
use crate::home::{Answered, Home, can_observe, skip, takes_long};

/// What a moved line and another comment lead to.
enum Told {
    /// Each test is known by what it reaches: no test program with a harness runs.
    Exactly,
    /// All test programs run: the objects do not tell, and this is why.
    Whole(&'static str),
}
use Told::{Exactly, Whole};

/// A way of building: arguments of the question, and variables for cargo and rustc.
struct Shape {
    name: &'static str,
    args: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    told: Told,
}

const MOLD: &str = "mold";

fn has_mold() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(MOLD).exists());
    if !is_there {
        skip("a program that mold links", "there is no mold");
    }
    is_there
}

const SHAPES: &[Shape] = &[
    // The linker is LLD.
    Shape { name: "as usual", args: &[], variables: &[("CARGO_INCREMENTAL", "1")], told: Exactly },
    Shape {
        name: "not incremental",
        args: &[],
        variables: &[("CARGO_INCREMENTAL", "0")],
        told: Whole("objects are gone"),
    },
    Shape {
        name: "optimized",
        args: &[],
        variables: &[("CARGO_INCREMENTAL", "1"), ("CARGO_PROFILE_DEV_OPT_LEVEL", "3")],
        told: Whole("reach something else"),
    },
    Shape {
        name: "with LTO",
        args: &[],
        variables: &[("CARGO_PROFILE_DEV_LTO", "fat")],
        told: Whole("what its tests reach is not known"),
    },
    Shape {
        name: "stripped",
        args: &[],
        variables: &[("CARGO_INCREMENTAL", "1"), ("CARGO_PROFILE_DEV_STRIP", "symbols")],
        told: Whole("`strip`"),
    },
    Shape {
        name: "split debug information",
        args: &[],
        variables: &[("CARGO_INCREMENTAL", "1"), ("CARGO_PROFILE_DEV_SPLIT_DEBUGINFO", "unpacked")],
        told: Exactly,
    },
    Shape {
        name: "packed debug information",
        args: &[],
        variables: &[
            ("CARGO_PROFILE_DEV_DEBUG", "1"),
            ("CARGO_INCREMENTAL", "1"),
            ("CARGO_PROFILE_DEV_SPLIT_DEBUGINFO", "packed"),
        ],
        told: Exactly,
    },
    Shape {
        name: "release",
        args: &["--release"],
        variables: &[],
        told: Whole("objects are gone"),
    },
    Shape {
        name: "release, incremental",
        args: &["--release"],
        variables: &[("CARGO_INCREMENTAL", "1")],
        told: Whole("reach something else"),
    },
    Shape {
        name: "the GNU linker",
        args: &[],
        variables: &[("CARGO_INCREMENTAL", "1"), ("RUSTFLAGS", "-Clinker-features=-lld")],
        told: Exactly,
    },
    Shape {
        name: MOLD,
        args: &[],
        variables: &[
            // Cargo strips debug information of others, and some releases of mold all symbols with it.
            ("CARGO_PROFILE_DEV_DEBUG", "1"),
            ("CARGO_INCREMENTAL", "1"),
            ("RUSTFLAGS", "-Clinker-features=-lld -Clink-arg=-fuse-ld=mold"),
        ],
        told: Exactly,
    },
    Shape {
        name: "panics abort",
        args: &[],
        variables: &[("CARGO_INCREMENTAL", "1"), ("CARGO_PROFILE_DEV_PANIC", "abort")],
        told: Exactly,
    },
];

const MANIFEST: &str = "[package]\nname='p'\nversion='0.1.0'\nedition='2024'\n[lib]\ntest=false\n\
     doctest=false\n[[test]]\nname='own'\nharness=false\n\
     [dependencies]\nnative = { path = 'native' }\nmacros = { path = 'macros' }\n";

/// Each test has a number that another kind of code gives it, which must not be 9.
fn files(number: u32) -> Vec<(&'static str, String)> {
    let package = |name: &str, more: &str| {
        format!("[package]\nname='{name}'\nversion='0.1.0'\nedition='2024'\n{more}")
    };
    let script = "fn main() {\n\
         println!(\"cargo:rerun-if-changed=native.c\");\n\
         let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         let run = |p: &str, a: &[&str]| { \
         assert!(std::process::Command::new(p).args(a).status().unwrap().success()) };\n\
         run(\"cc\", &[\"-c\", \"-fPIC\", \"native.c\", \"-o\", &format!(\"{out}/native.o\")]);\n\
         let library = format!(\"{out}/libnative_c.a\");\n\
         let _ = std::fs::remove_file(&library);\n\
         run(\"ar\", &[\"rcs\", &library, &format!(\"{out}/native.o\")]);\n\
         println!(\"cargo:rustc-link-search=native={out}\");\n\
         println!(\"cargo:rustc-link-lib=static=native_c\");\n}\n";
    let test = |call: &str| {
        format!(
            "#[test] fn sees() {{ assert_ne!({call}, 9); }}\n\
             #[test] fn other() {{ assert_eq!(p::other(), 2); }}\n"
        )
    };
    vec![
        ("Cargo.toml", MANIFEST.to_owned()),
        (
            "src/lib.rs",
            format!(
                "#[inline(never)] pub fn own() -> u32 {{ std::hint::black_box({number}) }}\n\
                 pub fn by_macro() -> u32 {{ std::hint::black_box(macros::number!()) }}\n\
                 pub fn other() -> u32 {{ std::hint::black_box(2) }}\n"
            ),
        ),
        (
            "macros/Cargo.toml",
            package("macros", "[lib]\nproc-macro=true\ntest=false\ndoctest=false\n"),
        ),
        (
            "macros/src/lib.rs",
            format!(
                "#[proc_macro] pub fn number(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{ \
                 \"{number}\".parse().unwrap() }}\n"
            ),
        ),
        ("native/Cargo.toml", package("native", "[lib]\ntest=false\ndoctest=false\n")),
        ("native/build.rs", script.to_owned()),
        ("native/native.c", format!("int native_number(void) {{ return {number}; }}\n")),
        (
            "native/src/lib.rs",
            "unsafe extern \"C\" { fn native_number() -> i32; }\n\
             pub fn number() -> i32 { unsafe { native_number() } }\n"
                .to_owned(),
        ),
        ("tests/by_code.rs", test("p::own()")),
        ("tests/by_macro.rs", test("p::by_macro()")),
        ("tests/by_c.rs", test("native::number()")),
        ("tests/own.rs", format!("fn main() {{ assert_ne!({number}, 9); }}\n")),
    ]
}

fn write(home: &Home, number: u32) {
    for (path, text) in files(number) {
        if std::fs::read_to_string(home.root.join(path)).ok().as_ref() != Some(&text) {
            home.write(path, &text);
        }
    }
}

/// Why each target has its answer.
fn reasons(answer: &Answered) -> BTreeMap<&str, &str> {
    answer
        .targets
        .iter()
        .map(|target| (target["target"].as_str().unwrap(), target["reason"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_change_is_found_in_every_way_of_building() {
    if takes_long() || !can_observe("runs of some of the tests of a program") {
        return;
    }
    let shapes = SHAPES.iter().filter(|shape| shape.name != MOLD || has_mold());
    let wrong: Vec<String> = shapes.flat_map(play).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is not as it should be in this way of building.
fn play(Shape { name, args, variables, told }: &Shape) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut home = Home::with(&[]);
    write(&home, 1);
    for (variable, value) in *variables {
        home.environment.set(*variable, *value);
    }
    home.config("[log]\nlevel = 'debug'", "debounce = '1h'\nselection = 'on'");
    let daemon = home.daemon();
    home.test(args).green_from("run");
    compared(&daemon, 1);
    // `explain` says beforehand why all of it would run.
    let explained = home.ok(&["explain", "by_code"]);
    let whole = "selection would have run all of it the last time: ";
    let is_unknown = matches!(told, Whole(why) if !why.contains("reach something else"));
    if explained.contains(whole) != is_unknown {
        wrong.push(format!("{name}: {explained}"));
    }
    // Nothing that a test can see: lines move.
    for (path, text) in files(1).into_iter().filter(|(path, _)| path.starts_with("tests/by_")) {
        home.write(path, &format!("// a comment\n{text}"));
    }
    let moved = home.test(args);
    moved.green();
    for (target, reason) in reasons(&moved).into_iter().filter(|(target, _)| *target != "own") {
        let ran = moved.run().iter().any(|ran| ran == target);
        eprintln!("SHAPE {name}: {target}: ran {ran}: {reason}");
        let is_right = match told {
            Exactly => !ran,
            // What runs whole may run before the build is done.
            Whole(why) => ran && (reason.contains(why) || reason == EARLY),
        };
        if !is_right {
            wrong.push(format!("{name}: {target}: {reason}"));
        }
    }
    write(&home, 9);
    let edited = home.test(args);
    let verdicts = edited
        .targets
        .iter()
        .map(|target| (target["target"].as_str().unwrap(), target["verdict"].as_str().unwrap()));
    for (target, verdict) in verdicts {
        if verdict != "fail" {
            wrong.push(format!("{name}: {target} is stale: {verdict}"));
        }
    }
    write(&home, 1);
    home.test(args).green();
    wrong
}
