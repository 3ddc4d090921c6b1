//! Runs in which the dynamic loader's attempts to open are not notified.

#![cfg(all(target_arch = "x86_64", target_env = "gnu"))]

use super::loader::{covers, look, look_at, searching_from};
use super::*;
use crate::home::{Home, until_old};

/// A folder with libraries and programs in C. `None` where there is no compiler for it.
struct Built(tempfile::TempDir, PathBuf);

impl Built {
    fn new() -> Option<Self> {
        let has_compiler = Path::new("/usr/bin/cc").exists();
        if !can_observe("the loader's search") || !has_compiler {
            assert!(std::env::var_os("KNHK_TEST_CACHE_CI").is_none());
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().canonicalize().unwrap();
        Some(Self(dir, folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        assert!(self.0.path().exists());
        self.1.join(name)
    }

    fn cc(&self, args: &[&str]) {
        let spec = Spec::new("/usr/bin/cc", &self.1, Environment::inherited()).args(args);
        let output = capture(&spec, crate::home::LIMIT).unwrap();
        assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// A library in a folder, whose function returns `value`.
    fn library(&self, folder: &str, value: i32, more: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(folder)).unwrap();
        std::fs::write(self.path("l.c"), format!("int f(void) {{ return {value}; }}\n{more}"))
            .unwrap();
        let library = format!("{folder}/libneeded.so");
        self.cc(&["-shared", "-fPIC", "-o", &library, "l.c"]);
        self.path(&library)
    }

    /// A program that succeeds if that function returns 0.
    fn program(&self, library: &str, more: &[&str]) -> PathBuf {
        std::fs::write(self.path("p.c"), "int f(void); int main(void) { return f(); }").unwrap();
        let folder = format!("-L{library}");
        self.cc(&[&["p.c", "-o", "p", &folder, "-lneeded"], more].concat());
        self.path("p")
    }

    fn loading(&self) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/programs/loading.c");
        self.cc(&["-pthread", "-o", "loading", source.to_str().unwrap(), "-ldl"]);
        self.path("loading")
    }
}

/// The same run, with all notified and with the loader's search passing. All of the first is noted in the
/// second, or that is known to be incomplete.
fn both(spec: &Spec) -> (Observation, Output) {
    let (_, all) = look(spec, false);
    assert!(all.is_complete(), "{:?}", all.problems);
    let (output, passing) = look(spec, true);
    if passing.is_complete() {
        covers(&passing, &all);
    } else {
        let unknown = [Problem::UnknownCode, Problem::UnknownSearch];
        assert!(passing.problems.iter().all(|problem| unknown.contains(problem)));
        // With the attempts notified all is told, unless code is unknown.
        let (_, attempts) = look_at(spec, LoaderCalls::QuestionsPass);
        assert!(!attempts.problems.contains(&Problem::UnknownSearch));
        if attempts.is_complete() {
            covers(&attempts, &all);
        }
    }
    (passing, output)
}

fn is_absent(seen: &Observation, path: &Path) -> bool {
    seen.paths.get(path).is_some_and(|seen| seen.first == PathStamp::Absent)
}

fn is_read(seen: &Observation, path: &Path) -> bool {
    seen.paths.get(path).is_some_and(|seen| seen.uses.contains(Uses::READ))
}

#[test]
fn a_search_is_recorded_by_a_few_calls() {
    let Some(built) = Built::new() else { return };
    let late = built.library("late", 0, "");
    let program = built.program("late", &[]);
    std::fs::create_dir(built.path("early")).unwrap();
    let folders = [built.path("absent"), built.path("early"), built.path("late")];
    let (seen, _) = both(&searching_from(&program, &[], &folders, &built.1));
    assert!(seen.is_complete() && is_read(&seen, &late));
    for absent in ["absent", "early/libneeded.so", "early/libc.so.6", "late/glibc-hwcaps"] {
        assert!(is_absent(&seen, &built.path(absent)), "{absent}");
    }
    let spawn = searching_from(actor(), &["shells", "20"].map(OsStr::new), &folders, &built.1);
    let (many, _) = both(&spawn);
    assert!(many.is_complete());
    assert!(many.calls < 20 * 20, "{} calls", many.calls);
}

#[test]
fn a_library_that_calls_from_where_the_loader_does_is_found_at_a_start() {
    let Some(built) = Built::new() else { return };
    let code = "__asm__(\".text\\n.balign 4096\\n.fill 2048, 2, 0x050f\\n.byte 0x90\\n.fill 2048, 2, 0x050f\");";
    let late = built.library("late", 0, "");
    let program = built.program("late", &[]);
    let run = || both(&searching_from(&program, &[], &[built.path("late")], &built.1)).0;
    assert!(run().is_complete());
    std::fs::remove_file(&late).unwrap();
    built.library("late", 0, code);
    assert!(!run().is_complete());
}

/// Folders that a program or a library names for its own libraries.
#[test]
fn a_files_own_folders_are_searched_after_those_of_the_environment() {
    let Some(built) = Built::new() else { return };
    let late = built.library("late", 0, "");
    built.library("other", 1, "");
    // The library needs one more, which its own folder has, and not the program's.
    std::fs::create_dir_all(built.path("deep/own")).unwrap();
    std::fs::write(built.path("d.c"), "int g(void) { return 0; }").unwrap();
    built.cc(&["-shared", "-fPIC", "-o", "deep/own/libdeep.so", "d.c"]);
    std::fs::write(built.path("l.c"), "int g(void); int f(void) { return g(); }").unwrap();
    built.cc(&[
        "-shared",
        "-fPIC",
        "-o",
        "deep/libneeded.so",
        "l.c",
        "-Ldeep/own",
        "-ldeep",
        "-Wl,-rpath,${ORIGIN}/own",
    ]);
    for (folder, read) in [
        ("late", vec![late]),
        ("deep", vec![built.path("deep/libneeded.so"), built.path("deep/own/libdeep.so")]),
    ] {
        let path = format!("-Wl,-rpath,$ORIGIN/early:$ORIGIN/{folder}");
        let program = built
            .program(folder, &[&path, "-Wl,--enable-new-dtags", "-Wl,--allow-shlib-undefined"]);
        for environment in [vec![], vec![built.path("none"), built.path("empty")]] {
            std::fs::create_dir_all(built.path("empty")).unwrap();
            let (seen, output) = both(&searching_from(&program, &[], &environment, &built.1));
            assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(seen.is_complete(), "{folder}");
            assert!(read.iter().all(|library| is_read(&seen, library)), "{folder}");
            assert!(is_absent(&seen, &built.path("early")), "{folder}");
            if !environment.is_empty() {
                assert!(is_absent(&seen, &built.path("empty/libneeded.so")), "{folder}");
            }
        }
        // The loader finds another library in the environment's folders first.
        let (seen, output) = both(&searching_from(&program, &[], &[built.path("other")], &built.1));
        assert!(!output.success() && seen.is_complete());
        assert!(is_read(&seen, &built.path("other/libneeded.so")), "{folder}");
    }
}

/// Libraries of two folders that name each other's folders spell them in ever longer ways.
#[test]
fn folders_that_libraries_name_of_each_other_are_searched_once() {
    let Some(built) = Built::new() else { return };
    for folder in ["one", "two", "bin"] {
        std::fs::create_dir_all(built.path(folder)).unwrap();
    }
    std::fs::write(built.path("g.c"), "int g(void) { return 0; }").unwrap();
    let other = |name: &str| format!("-Wl,-rpath,$ORIGIN/../{name},--enable-new-dtags");
    built.cc(&["-shared", "-fPIC", "-o", "two/libdeep.so", "g.c", &other("one")]);
    std::fs::write(built.path("l.c"), "int g(void); int f(void) { return g(); }").unwrap();
    let library = ["-shared", "-fPIC", "-o", "one/libneeded.so", "l.c", "-Ltwo", "-ldeep"];
    built.cc(&[&library[..], &[&other("two")]].concat());
    built.program("one", &["-o", "bin/p", &other("one"), "-Wl,--allow-shlib-undefined"]);
    let program = built.path("bin/p");
    let (seen, output) = both(&searching_from::<PathBuf>(&program, &[], &[], &built.1));
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(seen.is_complete(), "{:?}", seen.problems);
    assert!(is_read(&seen, &built.path("two/libdeep.so")));
}

/// Each is recorded, or known to be unknown.
/// A library that is opened by a link has the folders beside the link.
#[test]
fn a_library_that_is_found_in_two_places_has_its_folders_in_both() {
    let Some(built) = Built::new() else { return };
    for folder in ["one", "alias", "rest", "bin"] {
        std::fs::create_dir_all(built.path(folder)).unwrap();
    }
    std::fs::write(built.path("g.c"), "int g(void) { return 0; }").unwrap();
    built.cc(&["-shared", "-fPIC", "-o", "rest/libdeep.so", "g.c"]);
    std::fs::write(built.path("l.c"), "int g(void); int f(void) { return g(); }").unwrap();
    let rest = built.path("rest");
    let own = format!("-Wl,-rpath,$ORIGIN/plug:{},--enable-new-dtags", rest.display());
    let library = ["-shared", "-fPIC", "-o", "one/libneeded.so", "l.c", "-Lrest", "-ldeep", &own];
    built.cc(&library);
    let link = built.path("alias/libneeded.so");
    std::os::unix::fs::symlink("../one/libneeded.so", link).unwrap();
    let path = "-Wl,-rpath,$ORIGIN/../one,--enable-new-dtags";
    built.program("one", &["-o", "bin/p", path, "-Wl,--allow-shlib-undefined"]);
    let program = built.path("bin/p");
    let (seen, output) = both(&searching_from(&program, &[], &[built.path("alias")], &built.1));
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(seen.is_complete(), "{:?}", seen.problems);
    assert!(is_absent(&seen, &built.path("alias/plug")));
    assert!(is_read(&seen, &built.path("rest/libdeep.so")));
}

#[test]
fn whatever_else_moves_the_search_is_recorded_or_observed_in_full() {
    let Some(built) = Built::new() else { return };
    let late = built.library("late", 0, "");
    built.library("other", 1, "");
    let folder = [built.path("late")];
    for path in [built.1.join("late").display().to_string(), "late".into(), "$LIB/late".into()] {
        let path = format!("-Wl,-rpath,{path}");
        let program = built.program("late", &[&path, "-Wl,--disable-new-dtags"]);
        let spec = searching_from::<PathBuf>(&program, &[], &[], &built.1);
        assert!(!look(&spec, true).1.is_complete(), "{path}");
    }
    for path in ["late", "$LIB/late"] {
        let path = format!("-Wl,-rpath,{path}");
        let program = built.program("late", &[&path, "-Wl,--enable-new-dtags"]);
        let spec = searching_from::<PathBuf>(&program, &[], &[], &built.1);
        assert!(!look(&spec, true).1.is_complete(), "{path}");
    }
    let program = built.program("late", &[]);
    let shell = |script: String| {
        let args = ["-c", &script].map(OsStr::new);
        both(&searching_from("/bin/sh".as_ref(), &args, &folder, &built.1))
    };
    let p = program.display();
    let (seen, _) = shell(format!("{p}"));
    assert!(seen.is_complete() && is_read(&seen, &late));
    let other = built.path("other/libneeded.so").display().to_string();
    for variable in [
        format!("LD_PRELOAD={other}"),
        format!("LD_AUDIT={other}"),
        "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2".into(),
        format!("LD_LIBRARY_PATH='{}/$PLATFORM'", built.1.display()),
    ] {
        assert!(!shell(format!("{variable} {p}; true")).0.is_complete(), "{variable}");
    }
    // Another search path for a child.
    let (seen, _) =
        shell(format!("LD_LIBRARY_PATH={}:$LD_LIBRARY_PATH {p}", built.path("none").display()));
    assert!(seen.is_complete() && is_absent(&seen, &built.path("none")));
    // One that depends on the current folder.
    for path in ["late", ":late", "late;none"] {
        let (seen, _) = shell(format!("cd {}; LD_LIBRARY_PATH='{path}' {p}", built.1.display()));
        assert!(!seen.is_complete(), "{path}");
    }
    // The loader as a program, and folders for better processors.
    let loader = "/lib64/ld-linux-x86-64.so.2";
    assert!(!shell(format!("{loader} --library-path {} {p}", folder[0].display())).0.is_complete());
    std::fs::create_dir_all(built.path("late/glibc-hwcaps")).unwrap();
    assert!(!shell(format!("{p}")).0.is_complete());
}

/// The run makes, replaces and removes libraries between two starts of one program.
#[test]
fn libraries_that_the_run_itself_changes_are_not_those_of_before() {
    let Some(built) = Built::new() else { return };
    let late = built.library("late", 0, "");
    let calls = built.library("calls", 0, "void g(void) { __asm__(\"nop\"); }");
    let program = built.program("late", &[]);
    let folders = [built.path("early"), built.path("late")];
    std::fs::create_dir(&folders[0]).unwrap();
    let (p, early) = (program.display(), folders[0].join("libneeded.so"));
    for (change, back) in [
        (format!("cp {} {}", calls.display(), early.display()), format!("rm {}", early.display())),
        (
            format!("ln -s {} {}", calls.display(), early.display()),
            format!("rm {}", early.display()),
        ),
        (
            format!("mv {} {}", late.display(), early.display()),
            format!("mv {} {}", early.display(), late.display()),
        ),
        (format!("cat {} > {}", calls.display(), late.display()), String::from("true")),
    ] {
        let script = format!("{p} && {change} && {p} && {back} && {p}");
        let args = ["-c", &script].map(OsStr::new);
        let spec = searching_from("/bin/sh".as_ref(), &args, &folders, &built.1);
        let (output, seen) = look(&spec, true);
        assert!(output.success(), "{change}");
        if seen.is_complete() {
            assert!(is_absent(&seen, &early) && is_read(&seen, &late), "{change}");
        }
    }
}

#[test]
fn a_search_after_the_start_is_recorded_or_observed_in_full() {
    let Some(built) = Built::new() else { return };
    let needed = built.library("late", 0, "");
    let program = built.loading();
    std::fs::write(built.path("late/libgarbage.so"), "no library").unwrap();
    let folders = [built.path("early"), built.path("late")];
    let missing = built.path("late/plugin.so");
    let missing = missing.to_str().unwrap();
    let present = needed.to_str().unwrap();
    let needing = built.path("late/libneeding.so");
    let needing = needing.to_str().unwrap();
    std::fs::write(built.path("n.c"), "int f(void); int g(void) { return f(); }").unwrap();
    built.cc(&["-shared", "-fPIC", "-o", needing, "n.c", "-Llate", "-lneeded"]);
    let run = |args: &[&str]| {
        let args: Vec<_> = args.iter().map(OsStr::new).collect();
        both(&searching_from(&program, &args, &folders, &built.1))
    };
    let (seen, _) = run(&[]);
    assert!(seen.is_complete(), "{:?}", seen.problems);
    for how in ["dlopen", "dlsym", "thread", "fork", "after a failed execve"] {
        let (seen, output) = run(&[how, missing]);
        assert_eq!(output.stdout, b"0\n", "{how}");
        assert!(seen.is_complete() && is_absent(&seen, Path::new(missing)), "{how}");
        for name in ["libnowhere-at-all.so.7", "libgarbage.so"] {
            let (seen, output) = run(&[how, name]);
            assert_eq!(output.stdout, b"0\n", "{how}");
            assert!(!seen.is_complete(), "{how} {name}");
        }
        for name in ["libneeded.so", needing] {
            let (seen, output) = run(&[how, name]);
            assert_eq!(output.stdout, b"1\n", "{how}");
            // All attempts are notified that are made on another stack than the first.
            let is_seen = how == "thread" && name == "libneeded.so";
            assert_eq!(seen.is_complete(), is_seen, "{how} {name}");
        }
        // It needs nothing but the C library.
        let (seen, output) = run(&[how, present]);
        assert_eq!(output.stdout, b"1\n", "{how}");
        assert!(seen.is_complete() && is_read(&seen, &needed), "{how}");
        // It is loaded already: nothing is searched for.
        let (seen, output) = run(&[how, "libc.so.6"]);
        assert_eq!(output.stdout, b"1\n", "{how}");
        assert!(seen.is_complete(), "{how}");
    }
    assert!(run(&["user", "files"]).0.is_complete());
    assert!(!run(&["user", "files nowhere_at_all"]).0.is_complete(), "a name service");
    assert!(!run(&["addresses"]).0.is_complete());
    assert!(!run(&["stack"]).0.is_complete());
}

#[test]
fn a_library_that_appears_earlier_or_is_edited_makes_a_target_stale() {
    let Some(built) = Built::new() else { return };
    let test = "#[test] fn runs() { let here = std::env::current_dir().unwrap();\n\
         let path = format!(\"{0}/fx/early:{0}/fx/late\", here.display());\n\
         for _ in 0..2 { let program = std::process::Command::new(\"fx/p\").env(\"LD_LIBRARY_PATH\", &path).status();\n\
         assert!(program.unwrap().success()) } }\n";
    let home = Home::with(&[("fx/early/x", ""), ("fx/late/x", ""), ("tests/it.rs", test)]);
    let late = built.library("late", 0, "");
    let bad = built.library("bad", 1, "");
    let program = built.program("late", &[]);
    let put = |from: &Path, to: &str| put(&home, from, to);
    put(&program, "fx/p");
    put(&late, "fx/late/libneeded.so");
    let ask = || home.test(&["--no-daemon"]);
    ask().green_from("run");
    ask().green_from("cache");
    put(&bad, "fx/early/libneeded.so");
    ask().red();
    std::fs::remove_file(home.root.join("fx/early/libneeded.so")).unwrap();
    ask().green();
    ask().green_from("cache");
    put(&bad, "fx/late/libneeded.so");
    ask().red();
}

/// Puts a file into the workspace, and waits until its stamp tells.
fn put(home: &Home, from: &Path, to: &str) {
    let to = home.root.join(to);
    let _ = std::fs::remove_file(&to);
    std::fs::copy(from, &to).unwrap();
    until_old(&to);
}

#[test]
fn a_target_that_loads_a_library_has_each_attempt_observed_from_then_on() {
    let Some(built) = Built::new() else { return };
    let test = "use std::ffi::{CStr, c_char, c_int, c_void};\n\
         unsafe extern \"C\" { fn dlopen(a: *const c_char, b: c_int) -> *const c_void;\n\
         fn dlsym(a: *const c_void, b: *const c_char) -> *const c_void; }\n\
         fn open(name: &CStr) -> *const c_void { unsafe { dlopen(name.as_ptr(), 2) } }\n\
         #[test] fn loads() { let library = open(c\"fx/libneeded.so\"); assert!(!library.is_null());\n\
         let f: extern \"C\" fn() -> c_int = unsafe { std::mem::transmute(dlsym(library, c\"f\".as_ptr())) };\n\
         assert_eq!(f(), 0); assert!(open(c\"fx/plugin.so\").is_null()) }\n";
    let home = Home::with(&[("fx/x", ""), ("tests/it.rs", test)]);
    // It needs a library that is searched for.
    let library = |folder: &str, value| {
        let path = built.library(folder, value, "");
        let name = path.to_str().unwrap();
        built.cc(&["-shared", "-fPIC", "-o", name, "l.c", "-Wl,--no-as-needed", "-lm"]);
        path
    };
    let (good, bad) = (library("good", 0), library("bad", 1));
    let put = |from: &Path, to: &str| put(&home, from, to);
    put(&good, "fx/libneeded.so");
    let ask = || home.test(&["--no-daemon"]);
    ask().green_from("run");
    ask().green_from("cache");
    home.write("src/lib.rs", "// Another.\n");
    ask().green();
    ask().green_from("cache");
    put(&good, "fx/plugin.so");
    ask().red();
    std::fs::remove_file(home.root.join("fx/plugin.so")).unwrap();
    put(&bad, "fx/libneeded.so");
    ask().red();
}
