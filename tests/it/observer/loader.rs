//! Runs in which the dynamic loader's calls pass, and the code that makes that unsafe.

use super::*;
use crate::home::{Home, until_old};

pub(super) fn look(spec: &Spec, passes: bool) -> (Output, Observation) {
    look_at(spec, if passes { LoaderCalls::SearchPasses } else { LoaderCalls::Notified })
}

pub(super) fn look_at(spec: &Spec, pass: LoaderCalls) -> (Output, Observation) {
    let mut options = ObserveOptions::default();
    options.loader_calls = pass;
    let (spec, running) = Observer::observe(spec, options).unwrap();
    let output = capture(&spec, LIMIT).unwrap();
    (output, running.finish())
}

/// Whether all that one observation has noted is noted in the other, or follows: nothing lies in a folder
/// that is absent.
#[track_caller]
pub(super) fn covers(one: &Observation, all: &Observation) {
    let is_absent =
        |path: &Path| one.paths.get(path).is_some_and(|noted| noted.first == PathStamp::Absent);
    for (path, seen) in &all.paths {
        let absent = seen.first == PathStamp::Absent;
        let is_noted = one.paths.get(path).is_some_and(|noted| {
            let is_asked = noted.uses == Uses::ASKED && seen.uses == Uses::READ;
            (is_asked || noted.uses.contains(seen.uses))
                && (noted.first == PathStamp::Absent) == absent
        });
        let follows = absent && path.ancestors().any(is_absent);
        assert!(is_noted || follows, "{} {seen:?} {:?}", path.display(), one.paths.get(path));
    }
}

/// The same run, with all notified and with the loader's questions passing.
fn both(spec: &Spec) -> [Observation; 2] {
    [false, true].map(|passes| {
        let (output, seen) = look(spec, passes);
        assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
        seen
    })
}

/// A run of the helper whose loader searches these folders.
fn searching(args: &[&OsStr], folders: &[&Path]) -> Spec {
    searching_from(actor(), args, folders, "/".as_ref())
}

/// A run whose loaders search these folders.
pub(super) fn searching_from<P: AsRef<OsStr>>(
    program: &Path,
    args: &[&OsStr],
    folders: &[P],
    from: &Path,
) -> Spec {
    let mut environment = Environment::default();
    environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
    if !folders.is_empty() {
        environment.set("LD_LIBRARY_PATH", std::env::join_paths(folders).unwrap());
    }
    Spec::new(program, from, environment).args(args)
}

#[test]
fn the_same_is_seen_of_a_search_for_libraries_by_fewer_calls() {
    if !can_observe("the loader's search") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(folder.join("empty")).unwrap();
    std::fs::write(folder.join("file"), "").unwrap();
    symlink("empty", folder.join("link")).unwrap();
    let names = ["empty", "absent/below", "file", "link"].map(|name| folder.join(name));
    let folders: Vec<_> = names.iter().map(PathBuf::as_path).collect();
    let args = ["shells", "20"].map(OsStr::new);
    let [all, passing] = both(&searching(&args, &folders));
    assert!(all.is_complete() && passing.is_complete(), "{:?}", passing.problems);
    covers(&passing, &all);
    assert!(passing.paths.contains_key(&folder.join("absent/below")));
    assert!(passing.calls <= all.calls);
    #[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
    if std::env::var_os("KNHK_TEST_CACHE_CI").is_some() {
        // The loader of the machine of the CI is a known one.
        assert!(5 * passing.calls < all.calls, "{} of {}", passing.calls, all.calls);
    }
}

/// Where a stack may grow without end, libraries lie elsewhere.
#[test]
fn nothing_is_missed_below_an_endless_stack() {
    if !can_observe("an endless stack") {
        return;
    }
    let [all, passing] = both(&spec(
        Path::new("/bin/sh"),
        &["-c", "ulimit -s unlimited || exit 0; sh -c 'exit 0'"].map(OsStr::new),
    ));
    assert!(all.is_complete());
    if passing.is_complete() {
        covers(&passing, &all);
    }
}

#[test]
fn a_library_that_is_missing_is_seen_to_be() {
    if !can_observe("a missing plugin") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap();
    let plugin = folder.join("plugin.so");
    let absent = folder.join("absent");
    let look = |name: &OsStr| both(&searching(&[OsStr::new("dlopen"), name], &[&absent, &folder]));
    let [all, passing] = look(plugin.as_os_str());
    assert!(passing.is_complete());
    assert!([&all, &passing].iter().all(|seen| seen.absent().any(|path| path == plugin)));
    covers(&passing, &all);
    let [all, passing] = look("libnowhere-at-all.so.7".as_ref());
    assert!(all.absent().any(|path| path == folder.join("libnowhere-at-all.so.7")));
    if passing.is_complete() {
        covers(&passing, &all);
    }
}

#[test]
fn code_that_no_loader_has_mapped_makes_such_a_run_incomplete() {
    if !can_observe("code made at run time") {
        return;
    }
    for (how, is_code) in [("data", false), ("map", true), ("protect", true), ("file", true)] {
        let args = ["code", how].map(OsStr::new);
        let [all, passing] = both(&searching(&args, &[]));
        assert!(all.is_complete(), "{how}: all is notified");
        if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
            assert_eq!(passing.problems.contains(&Problem::UnknownCode), is_code, "{how}");
        }
    }
}

/// A library; with calls from every place in a page if `calls`.
#[cfg(target_arch = "x86_64")]
fn library(folder: &Path, calls: bool) -> PathBuf {
    let source = folder.join(format!("library{calls}.rs"));
    let library = source.with_extension("so");
    let code = "std::arch::global_asm!(\".text\", \".balign 4096\", \".fill 2048, 2, 0x050f\", \
                \".byte 0x90\", \".fill 2048, 2, 0x050f\");";
    std::fs::write(
        &source,
        format!("#[no_mangle] pub extern fn f() {{}}\n{}", if calls { code } else { "" }),
    )
    .unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let spec = Spec::new(rustc, folder, Environment::inherited())
        .args(["--crate-type=cdylib", "-Copt-level=1", "-Clink-dead-code", "-o"])
        .arg(&library)
        .arg(source);
    let output = capture(&spec, crate::home::LIMIT).unwrap();
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library.canonicalize().unwrap()
}

#[test]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn a_library_that_calls_from_where_the_loader_does_makes_such_a_run_incomplete() {
    if !can_observe("a library like the loader") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for calls in [false, true] {
        let library = library(dir.path(), calls);
        let args = [OsStr::new("dlopen"), library.as_os_str()];
        let (output, seen) = look_at(&searching(&args, &[]), LoaderCalls::QuestionsPass);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "true\n", "it is loaded");
        assert_eq!(seen.problems.contains(&Problem::UnknownCode), calls);
        // Also where the program itself has read it before: that proves nothing of its code.
        let script = format!("read a < {0}; {1} dlopen {0}", library.display(), actor().display());
        let shell = spec("/bin/sh".as_ref(), &["-c", &script].map(AsRef::as_ref));
        let (_, seen) = look_at(&shell, LoaderCalls::QuestionsPass);
        assert_eq!(seen.problems.contains(&Problem::UnknownCode), calls);
    }
    // The run replaces one by the other.
    let names = [false, true].map(|calls| library(dir.path(), calls).display().to_string());
    let copy = dir.path().join("copy.so").display().to_string();
    let actor = actor().display();
    let script = names.map(|name| format!("cat {name} > {copy}; {actor} dlopen {copy}")).join("; ");
    let shell = spec("/bin/sh".as_ref(), &["-c", &script].map(AsRef::as_ref));
    let (output, seen) = look_at(&shell, LoaderCalls::QuestionsPass);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "true\ntrue\n");
    assert!(seen.problems.contains(&Problem::UnknownCode));
}

#[test]
fn a_target_that_makes_code_is_observed_in_full_at_once_and_from_then_on() {
    if !can_observe("a target that makes code") {
        return;
    }
    let test = "unsafe extern \"C\" { fn mmap(a: usize, n: usize, p: i32, f: i32, d: i32, o: i64) -> isize; }\n\
         #[test] fn makes() { let all = unsafe { mmap(0, 4096, 7, 0x22, -1, 0) }; assert!(all > 0);\n\
         assert_eq!(std::fs::read_to_string(\"fx/x\").unwrap(), \"good\") }\n";
    let home = Home::with(&[("fx/x", "good"), ("tests/it.rs", test)]);
    until_old(&home.root.join("fx/x"));
    let ask = || home.test(&["--no-daemon"]);
    ask().green_from("run");
    ask().green_from("cache");
    home.write("src/lib.rs", "// Another.\n");
    ask().green();
    ask().green_from("cache");
    home.write("fx/x", "bad");
    ask().red();
}
