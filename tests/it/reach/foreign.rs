//! C, assembler and flags of the linker, which a build script brings into a program.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use knhk_test_cache::internals::reach::{Capabilities, UnknownLayout};

use super::names;
use super::subject::{Subject, masked_changes, reader};
use crate::home::takes_long;

/// The start of a build script: `compile` makes an object of a source, and `archive` a library of objects.
const BUILD: &str = "#![allow(dead_code)]\nuse std::process::Command;\n\
    fn out() -> String { std::env::var(\"OUT_DIR\").unwrap() }\n\
    fn run(program: &str, args: &[&str]) {\n \
    assert!(Command::new(program).args(args).status().unwrap().success());\n}\n\
    fn compile(source: &str) -> String {\n \
    let object = format!(\"{}/{}.o\", out(), source.replace('.', \"_\"));\n \
    run(\"cc\", &[\"-c\", \"-fPIC\", source, \"-o\", &object]);\n object\n}\n\
    fn archive(folder: &str, sources: &[&str], kind: &str) {\n \
    let library = format!(\"{folder}/libcode.a\");\n let _ = std::fs::remove_file(&library);\n \
    let objects: Vec<_> = sources.iter().map(|source| compile(source)).collect();\n \
    let objects: Vec<_> = objects.iter().map(|object| &**object).collect();\n \
    run(\"ar\", &[&[\"crs\", &*library], &objects[..]].concat());\n \
    println!(\"cargo::rustc-link-search=native={folder}\");\n \
    println!(\"cargo::rustc-link-lib={kind}=code\");\n}\n";

/// A package with this body of its build script's `main`.
fn subject(build: &str, files: &[(&str, &str)]) -> Subject {
    let build = format!("{BUILD}fn main() {{ {build} }}\n");
    Subject::new("w", &[files, &[("build.rs", &*build)]].concat())
}

const ASSEMBLER: &str = ".globl memory_of_assembler\n.type memory_of_assembler, @function\n.text\n\
    memory_of_assembler:\n movl $60, %eax\n ret\n.size memory_of_assembler, .-memory_of_assembler\n\
    .section .note.GNU-stack,\"\",@progbits\n";

#[test]
fn a_name_like_the_systems_says_nothing() {
    if takes_long() {
        return;
    }
    // Assembler leaves no name of a file, so that nothing tells of the archive.
    let code = "unsafe extern \"C\" { fn memory_of_assembler() -> i32; }\n\
                #[test] fn assembler() { assert!(unsafe { memory_of_assembler() } > 0); }\n\
                #[test] fn none() {}\n";
    let files = [("src/lib.rs", code), ("code.s", ASSEMBLER)];
    let assembler = subject("archive(&out(), &[\"code.s\"], \"static\");", &files);
    let before = assembler.tests();
    let after = assembler.edited("code.s", "$60", "$61");
    assert_eq!(masked_changes(&before, &after), names(&["assembler"]));
    let unknown = |before: &super::subject::Tests| {
        before.values().filter_map(|one| one.unknown_symbol.clone()).collect::<Vec<_>>()
    };
    assert_eq!(unknown(&before), [""; 0]);
    // Elsewhere it is not found.
    let apart = tempfile::tempdir().unwrap();
    let build = format!("archive({:?}, &[\"code.s\"], \"static\");", apart.path());
    let code = "unsafe extern \"C\" { fn memory_of_assembler() -> i32; static mem_top: u8; }\n\
                std::arch::global_asm!(\".globl mem_top\", \"mem_top = 42\");\n\
                #[test] fn assembler() { assert!(unsafe { memory_of_assembler() } > 0); }\n\
                #[test] fn number() { assert_eq!(&raw const mem_top as usize, 42); }\n\
                #[test] fn none() {}\n";
    let apart = subject(&build, &[("src/lib.rs", code), ("code.s", ASSEMBLER)]);
    assert_eq!(unknown(&apart.tests()), ["memory_of_assembler", "mem_top"]);

    // The same of a shared library: its functions can do anything.
    let code = "unsafe extern \"C\" { fn mem_put(to: i32); fn memchr(a: *const u8, b: i32, c: usize) -> usize; }\n\
                #[test] fn puts() { unsafe { mem_put(3) } }\n\
                #[test] fn looks() { unsafe { memchr(c\"a\".as_ptr().cast(), 1, 1) }; }\n";
    let build = "let library = format!(\"{}/libkeep.so\", out());\n \
                 run(\"cc\", &[\"-shared\", &compile(\"keep.c\"), \"-o\", &library]);\n \
                 println!(\"cargo::rustc-link-search=native={}\", out());\n \
                 println!(\"cargo::rustc-link-lib=dylib=keep\");";
    let keep = "static int v; void mem_put(int to) { v = to; }\n";
    let tests = subject(build, &[("src/lib.rs", code), ("keep.c", keep)]).tests();
    assert!(tests["puts"].capabilities.contains(Capabilities::PROCESS_WIDE));
    assert_eq!(tests["looks"].capabilities, Capabilities::default());
}

#[test]
fn a_symbol_that_the_linker_leads_elsewhere_is_refused() {
    if takes_long() {
        return;
    }
    let code = "#[unsafe(no_mangle)] pub extern \"C\" fn number() -> u32 { 1 }\n\
                #[unsafe(no_mangle)] pub extern \"C\" fn NAME() -> u32 { 1 }\n\
                #[test] fn one() { assert_eq!(number() + NAME(), 2); }\n";
    let look = |name: &str, flag: Option<&str>, linker: &str| {
        let print = |flag| format!("println!(\"cargo::rustc-link-arg=-Wl,{flag}\");");
        let build = flag.map(print).unwrap_or_default();
        let subject = subject(&build, &[("src/lib.rs", &code.replace("NAME", name))]);
        subject.variable("RUSTFLAGS", linker).try_tests()
    };
    for linker in ["", "-Clinker-features=-lld"] {
        let plain = look("other", None, linker);
        assert!(plain.is_ok(), "{plain:?}");
        let other = look("other", Some("--defsym=number=other"), linker);
        // It has no size, or that of the other one.
        let is_refused = matches!(
            other,
            Err(UnknownLayout::OtherCode { .. } | UnknownLayout::Redirected { .. })
        );
        assert!(is_refused, "{other:?}");
        for flag in [None, Some("--wrap=number")] {
            let wrapped = look("__wrap_number", flag, linker);
            assert!(
                matches!(wrapped, Err(UnknownLayout::Redirected { .. })),
                "{flag:?}: {wrapped:?}"
            );
        }
    }
}

#[test]
fn one_of_two_definitions_in_c_is_found_by_its_bytes() {
    if takes_long() {
        return;
    }
    let code = "unsafe extern \"C\" { static level: i32; fn a() -> i32; fn b() -> i32; }\n\
                #[test] fn one() { assert_eq!(unsafe { a() + b() + level }, 4); }\n";
    let weak = |number| {
        let name = ["", "a", "b"][number];
        format!(
            "__attribute__((weak)) const int level = {number};\nint {name}(void) {{ return {number}; }}\n"
        )
    };
    let files = [("src/lib.rs", code), ("a.c", &*weak(1)), ("b.c", &*weak(2))];
    let subject = subject("archive(&out(), &[\"a.c\", \"b.c\"], \"static\");", &files);
    let refused = subject.try_tests();
    assert!(
        matches!(&refused, Err(UnknownLayout::OtherCode { symbol }) if symbol == "level"),
        "{refused:?}"
    );
    subject.write("b.c", &weak(2).replace("__attribute__((weak))", ""));
    let refused = subject.try_tests();
    assert!(matches!(refused, Err(UnknownLayout::OtherCode { .. })), "{refused:?}");
    subject.write("b.c", &weak(2).replace("= 2", "= 1"));
    assert!(subject.try_tests().is_ok());
}

#[test]
fn an_object_of_an_earlier_build_is_told_by_its_data() {
    if takes_long() {
        return;
    }
    let code = "unsafe extern \"C\" { fn in_c(at: i32) -> i32; }\n\
                #[test] fn one() { assert!(unsafe { in_c(0) } > 0); }\n";
    let in_c =
        "static const volatile int list[] = { 40, 5 };\nint in_c(int at) { return list[at]; }\n";
    let manifest = "[lib]\ndoctest = false\n";
    let build = "let apart = std::path::Path::new(\"apart\");\n \
                 let apart = if apart.exists() { \"apart\".to_owned() } else { out() };\n \
                 archive(&apart, &[\"code.c\"], \"static\");";
    let subject = subject(build, &[("src/lib.rs", code), ("code.c", in_c)]);
    subject.append("Cargo.toml", manifest);
    assert!(subject.try_tests().is_ok());
    // From now on the program is linked from another archive, and the old one stays.
    fs::create_dir(subject.path("apart")).unwrap();
    subject.write("code.c", &in_c.replace("40", "41"));
    let refused = subject.try_tests();
    assert!(
        matches!(&refused, Err(UnknownLayout::OtherCode { symbol }) if symbol == "list"),
        "{refused:?}"
    );
}

#[test]
fn functions_that_the_loader_calls_count_for_every_test() {
    if takes_long() {
        return;
    }
    let plain = "#[test] fn one() {}\n#[test] fn two() {}\n";
    // The C library has an object of this name too.
    let init = "#include <stdlib.h>\n\
                __attribute__((constructor)) static void s(void) { setenv(\"MODE\", \"1\", 1); }\n";
    let build = "archive(&out(), &[\"init.c\"], \"static:+whole-archive\");";
    let constructor = subject(build, &[("src/lib.rs", plain), ("init.c", init)]);
    let before = constructor.tests();
    let after = constructor.edited("init.c", "\"1\"", "\"2\"");
    assert_eq!(masked_changes(&before, &after), names(&["one", "two"]));
    let apart = tempfile::tempdir().unwrap();
    let build = format!("archive({:?}, &[\"init.c\"], \"static:+whole-archive\");", apart.path());
    let refused = subject(&build, &[("src/lib.rs", plain), ("init.c", init)]).try_tests();
    assert!(matches!(refused, Err(UnknownLayout::UnknownObject { .. })), "{refused:?}");

    let code = format!("#[unsafe(no_mangle)] pub extern \"C\" fn early() -> u32 {{ 40 }}\n{plain}");
    for flag in ["-init", "-fini"] {
        let build = format!("println!(\"cargo::rustc-link-arg=-Wl,{flag}=early\");");
        let subject = subject(&build, &[("src/lib.rs", &code)]);
        let before = subject.tests();
        let after = subject.edited("src/lib.rs", "{ 40 }", "{ 41 }");
        assert_eq!(masked_changes(&before, &after), names(&["one", "two"]), "{flag}");
    }
}

#[test]
fn an_object_of_the_same_whole_second_is_refused() {
    let subject = Subject::new("w", &[("src/lib.rs", "#[test] fn one() {}\n")]);
    let program = subject.program();
    let set = |after| {
        let second = SystemTime::UNIX_EPOCH + Duration::new(4_000_000_000, after);
        File::options().write(true).open(&program).unwrap().set_modified(second).unwrap();
        for object in super::unknown::objects(&subject.path("target/debug/incremental")) {
            File::options().write(true).open(object).unwrap().set_modified(second).unwrap();
        }
    };
    set(1);
    assert!(reader().tests(&program).is_ok());
    set(0);
    let refused = reader().tests(&program);
    assert!(matches!(refused, Err(UnknownLayout::Stale { .. })), "{refused:?}");
}
