//! Only the edited tests of a program run, unless they can affect others (`selection = "on"`).

// Runs can be observed, and objects are read, on this platform only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use std::collections::BTreeMap;

use serde_json::Value;

use super::selection::compared;
use crate::home::{Home, Started, can_observe, takes_long};

/// What an edit leads to.
#[derive(Clone, Copy)]
enum Expected {
    /// This test fails, which is another one than the edited one: all were run.
    Fails(&'static str),
    /// The edited test fails, and no other one runs.
    Red,
    /// All tests run, and pass.
    All,
    /// So many of all tests run, and pass.
    Some(u32, u32),
}
use Expected::{All, Fails, Red, Some as Only};

/// A test program, of which the text `EDIT` is the first of two texts and then the second one.
struct Edited {
    name: &'static str,
    code: &'static str,
    edit: (&'static str, &'static str),
    expected: Expected,
}

const NUMBER: &str = "use std::sync::atomic::{AtomicU32, Ordering::SeqCst};\n\
                      #[allow(dead_code)] static S: AtomicU32 = AtomicU32::new(0);\n";

const fn edited(
    name: &'static str,
    code: &'static str,
    edit: (&'static str, &'static str),
    expected: Expected,
) -> Edited {
    Edited { name, code, edit, expected }
}

/// Tests run in this order: `a` before `b`.
const PROGRAMS: &[Edited] = &[
    edited(
        "a_static",
        "#[test] fn a() { EDIT }\n#[test] fn b() { assert_eq!(S.load(SeqCst), 0); }\n",
        ("", "S.store(3, SeqCst);"),
        Fails("b"),
    ),
    edited(
        "what_the_old_code_left",
        "#[test] fn a() { EDIT }\n#[test] fn b() { assert_eq!(S.load(SeqCst), 1); }\n",
        ("S.store(1, SeqCst);", ""),
        Fails("b"),
    ),
    edited(
        "what_a_removed_test_left",
        "EDIT\n#[test] fn b() { assert_eq!(S.load(SeqCst), 1); }\n#[test] fn c() {}\n",
        ("#[test] fn a() { S.store(1, SeqCst); }", ""),
        Fails("b"),
    ),
    edited(
        "what_a_new_test_leaves",
        "EDIT\n#[test] fn b() { assert_eq!(S.load(SeqCst), 0); }\n#[test] fn c() {}\n",
        ("", "#[test] fn a() { S.store(1, SeqCst); }"),
        Fails("b"),
    ),
    edited(
        "what_another_one_hands_on",
        "static T: AtomicU32 = AtomicU32::new(0);\n#[test] fn a() { EDIT }\n\
         #[test] fn b() { T.store(S.load(SeqCst), SeqCst); }\n\
         #[test] fn c() { assert_eq!(T.load(SeqCst), 0); }\n",
        ("", "S.store(3, SeqCst);"),
        Fails("c"),
    ),
    edited(
        "a_function_that_writes",
        "fn write(to: u32) { S.store(to, SeqCst); }\nstatic WRITE: [fn(u32); 1] = [write];\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { assert_eq!(S.load(SeqCst), 0); }\n",
        ("", "WRITE[std::hint::black_box(0)](3);"),
        Fails("b"),
    ),
    edited(
        "a_static_of_generic_code",
        "fn of<T: Default>(_: T) -> &'static AtomicU32 {\n\
         static OWN: AtomicU32 = AtomicU32::new(0); &OWN }\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { assert_eq!(of(0u8).load(SeqCst), 0); }\n",
        ("", "of(0u16).store(3, SeqCst);"),
        Fails("b"),
    ),
    edited(
        "a_once_lock",
        "static ONCE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { assert_eq!(*ONCE.get_or_init(|| 1), 1); }\n",
        ("", "ONCE.set(9).unwrap();"),
        Fails("b"),
    ),
    edited(
        "a_lazy_list",
        "use std::sync::{LazyLock, Mutex};\n\
         static ALL: LazyLock<Mutex<Vec<u32>>> = LazyLock::new(Mutex::default);\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { assert!(ALL.lock().unwrap().is_empty()); }\n",
        ("", "ALL.lock().unwrap().push(1);"),
        Fails("b"),
    ),
    edited(
        "a_poisoned_lock",
        "static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { drop(LOCK.lock().unwrap()); }\n",
        ("", "let _ = std::thread::spawn(|| { let _held = LOCK.lock(); panic!() }).join();"),
        Fails("b"),
    ),
    edited(
        "a_thread_local",
        "thread_local! { static OWN: std::cell::Cell<u32> = const { std::cell::Cell::new(0) } }\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { OWN.with(|own| assert!(own.get() < 9)); }\n",
        ("", "OWN.with(|own| own.set(3));"),
        All,
    ),
    edited(
        "of_a_dependency",
        "#[test] fn a() { EDIT }\n#[test] fn b() { assert_eq!(dep::get(), 0); }\n",
        ("", "dep::set(3);"),
        Fails("b"),
    ),
    edited(
        "the_environment",
        "#[test] fn a() { EDIT }\n#[test] fn b() { assert!(std::env::var(\"SHARED\").is_err()); }\n",
        ("", "unsafe { std::env::set_var(\"SHARED\", \"1\"); }"),
        Fails("b"),
    ),
    edited(
        "the_environment_by_c",
        "unsafe extern \"C\" { fn setenv(name: *const i8, value: *const i8, all: i32) -> i32; }\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { assert!(std::env::var(\"SHARED\").is_err()); }\n",
        ("", "unsafe { setenv(c\"SHARED\".as_ptr(), c\"1\".as_ptr(), 1); }"),
        Fails("b"),
    ),
    edited(
        "a_reader_beside_a_writer",
        "#[test] fn a() { unsafe { std::env::set_var(\"SHARED\", \"1\"); } }\n\
         #[test] fn b() { EDIT }\n#[test] fn c() {}\n",
        ("", "assert!(std::env::var(\"SHARED\").is_err());"),
        Fails("b"),
    ),
    edited(
        "the_current_folder",
        "#[test] fn a() { EDIT }\n\
         #[test] fn b() { assert!(std::path::Path::new(\"Cargo.toml\").exists()); }\n",
        ("", "std::env::set_current_dir(\"src\").unwrap();"),
        Fails("b"),
    ),
    edited(
        "a_file",
        "const FILE: &str = concat!(env!(\"CARGO_TARGET_TMPDIR\"), \"/shared\");\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { assert!(std::fs::read(FILE).is_err()); }\n",
        ("", "std::fs::write(FILE, \"text\").unwrap();"),
        Fails("b"),
    ),
    edited(
        "a_panic_hook",
        "#[test] fn a() { EDIT }\n\
         #[test] fn b() { std::panic::catch_unwind(|| panic!()).unwrap_err(); \
         assert_eq!(S.load(SeqCst), 0); }\n",
        // Not even this test names the variable that the other one reads.
        ("", "std::panic::set_hook(Box::new(|_| std::process::abort()));"),
        Fails(""),
    ),
    edited(
        "an_exit",
        "#[test] fn a() { EDIT }\n#[test] fn b() {}\n",
        ("", "if std::hint::black_box(false) { std::process::exit(0); }"),
        All,
    ),
    edited(
        "a_signal",
        "unsafe extern \"C\" { fn signal(number: i32, handler: usize) -> usize; }\n\
         #[test] fn a() { EDIT }\n#[test] fn b() {}\n",
        ("", "unsafe { signal(10, 1); }"),
        All,
    ),
    edited(
        "arguments",
        "#[test] fn a() { EDIT }\n#[test] fn b() {}\n",
        ("", "assert_eq!(std::env::args().count(), 1);"),
        All,
    ),
    edited(
        "a_crash",
        "#[test] fn a() { EDIT }\n#[test] fn b() {}\n",
        ("", "std::process::abort();"),
        Fails(""),
    ),
    edited(
        "an_allocator",
        "use std::alloc::{GlobalAlloc, Layout, System};\nstruct Counting;\n\
         unsafe impl GlobalAlloc for Counting {\n\
         unsafe fn alloc(&self, l: Layout) -> *mut u8 { S.fetch_add(1, SeqCst); unsafe { System.alloc(l) } }\n\
         unsafe fn dealloc(&self, p: *mut u8, l: Layout) { unsafe { System.dealloc(p, l) } } }\n\
         #[global_allocator] static OWN: Counting = Counting;\n\
         #[test] fn a() { EDIT }\n#[test] fn b() { assert!(S.load(SeqCst) > 0); }\n",
        ("", "drop(Box::new(1));"),
        All,
    ),
    edited(
        "the_order_of_constructors",
        "extern \"C\" fn one() { S.store(S.load(SeqCst) * 10 + 1, SeqCst) }\n\
         extern \"C\" fn two() { S.store(S.load(SeqCst) * 10 + 2, SeqCst) }\n\
         #[used] #[unsafe(link_section = \".init_array.00101\")] static ONE: extern \"C\" fn() = one;\n\
         #[used] #[unsafe(link_section = \".init_array.EDIT\")] static TWO: extern \"C\" fn() = two;\n\
         #[test] fn a() {}\n#[test] fn b() { assert_eq!(S.load(SeqCst), 12); }\n",
        ("00103", "00100"),
        Fails("b"),
    ),
    edited(
        "another_test_of_the_program_that_it_starts",
        "#[test] #[ignore] fn a() { panic!(\"EDIT\"); }\n#[test] fn b() {\n \
         let own = std::path::Path::new(\"/proc\").join(\"self\").join(\"exe\");\n \
         let own = std::process::Command::new(own).args([\"--ignored\", \"--nocapture\"]).output();\n \
         assert!(String::from_utf8_lossy(&own.unwrap().stderr).contains(\"on purpose\")); }\n",
        ("on purpose", "other"),
        Fails("b"),
    ),
    edited("red", "#[test] fn a() { EDIT }\n#[test] fn b() {}\n", ("", "panic!();"), Red),
    edited(
        "no_panic",
        "#[test] #[should_panic] fn a() { EDIT }\n#[test] fn b() {}\n",
        ("panic!();", ""),
        Red,
    ),
    edited(
        "pure",
        "#[test] fn a() { EDIT }\n#[test] fn b() {}\n",
        ("assert_eq!(1 + 1, 2);", "assert_eq!(2 + 2, 4);"),
        Only(1, 2),
    ),
    edited(
        "readers",
        "#[test] fn a() { assert!(std::fs::read_to_string(\"Cargo.toml\").is_ok()); EDIT }\n\
         #[test] fn b() { assert_eq!(std::fs::read_to_string(\"note\").unwrap(), \"one\"); }\n",
        ("", "assert_eq!(2 + 2, 4);"),
        Only(1, 2),
    ),
    edited(
        "a_static_of_its_own",
        "#[test] fn a() { S.fetch_add(1, SeqCst); EDIT }\n#[test] fn b() {}\n",
        ("", "S.fetch_add(1, SeqCst);"),
        Only(1, 2),
    ),
    edited(
        "two_of_three",
        "#[test] fn a() { EDIT }\n#[test] fn b() { S.load(SeqCst); }\n#[test] fn c() {}\n",
        ("", "S.store(3, SeqCst);"),
        Only(2, 3),
    ),
    edited(
        "names",
        "#[test] fn a() { EDIT }\n#[test] fn ab() {}\nmod a { #[test] fn a() {} }\n",
        ("", "assert_eq!(2 + 2, 4);"),
        Only(1, 3),
    ),
    edited("new", "EDIT\n#[test] fn b() {}\n", ("", "#[test] fn a() {}"), Only(1, 2)),
    edited(
        "ignored",
        "#[test] #[ignore] fn a() { EDIT }\n#[test] fn b() {}\n",
        ("", "panic!();"),
        Only(1, 2),
    ),
];

fn home(programs: &[Edited]) -> Option<(Home, Started)> {
    if takes_long() || !can_observe("runs of some of the tests of a program") {
        return None;
    }
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2024'\n[lib]\ntest=false\n\
                    doctest=false\n[dev-dependencies]\ndep = { path = 'dep' }\n";
    let mut home = Home::with(&[
        ("Cargo.toml", manifest),
        ("src/lib.rs", ""),
        ("note", "one"),
        ("dep/Cargo.toml", "[package]\nname='dep'\nversion='0.1.0'\nedition='2024'\n"),
        (
            "dep/src/lib.rs",
            "use std::sync::atomic::{AtomicU32, Ordering::SeqCst};\n\
             static OWN: AtomicU32 = AtomicU32::new(0);\n\
             pub fn set(to: u32) { OWN.store(to, SeqCst); }\n\
             pub fn get() -> u32 { OWN.load(SeqCst) }\n",
        ),
    ]);
    for program in programs {
        home.write(&format!("tests/{}.rs", program.name), &text(program, program.edit.0));
    }
    home.environment.set("CARGO_INCREMENTAL", "1");
    // One after the other, in the order of their names.
    home.environment.set("RUST_TEST_THREADS", "1");
    home.config("[log]\nlevel = 'debug'", "debounce = '1h'\nselection = 'on'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    compared(&daemon, 1);
    Some((home, daemon))
}

fn text(program: &Edited, edit: &str) -> String {
    format!("#![allow(unused_imports)]\n{NUMBER}{}", program.code.replace("EDIT", edit))
}

fn write(home: &Home, program: &Edited) {
    home.write(&format!("tests/{}.rs", program.name), &text(program, program.edit.1));
}

/// The targets of an answer by their names.
fn by_name(targets: &[Value]) -> BTreeMap<&str, &Value> {
    targets.iter().map(|target| (target["target"].as_str().unwrap(), target)).collect()
}

#[test]
fn an_edited_test_runs_with_all_that_it_can_affect() {
    let Some((home, _daemon)) = home(PROGRAMS) else { return };
    PROGRAMS.iter().for_each(|program| write(&home, program));
    let answer = home.test(&[]);
    answer.red();
    let targets = by_name(&answer.targets);
    let mut wrong = Vec::new();
    for Edited { name, expected, .. } in PROGRAMS {
        let target = targets[name];
        let (verdict, reason) =
            (target["verdict"].as_str().unwrap(), target["reason"].as_str().unwrap());
        let failures = target["failures"].as_array().unwrap();
        let ran_some = |some: u32, all: u32| {
            reason == format!("{some} of {all} tests run: the others reach what they reached")
        };
        let is_right = match expected {
            Fails("") => verdict == "fail",
            Fails(test) => verdict == "fail" && failures.contains(&Value::from(*test)),
            Red => verdict == "fail" && failures[..] == [Value::from("a")] && ran_some(1, 2),
            All => verdict == "pass" && reason.contains("so that all run"),
            Only(some, all) => {
                let count = |what: &str| target[what].as_u64().unwrap();
                verdict == "pass"
                    && ran_some(*some, *all)
                    && count("passed") + count("ignored") == u64::from(*all)
            }
        };
        if !is_right {
            wrong.push(target);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_record_of_some_tests_and_others_holds_for_all_that_both_consulted() {
    let programs: Vec<_> = ["pure", "readers"]
        .map(|name| PROGRAMS.iter().find(|program| program.name == name).unwrap())
        .map(|program| Edited { ..*program })
        .into_iter()
        .collect();
    let Some((home, daemon)) = home(&programs) else { return };
    programs.iter().for_each(|program| write(&home, program));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert_eq!((answer.count("passed"), answer.count("targets_run")), (4, 2), "{answer:#?}");
    home.test(&[]).green_from("cache");
    home.ok(&["cache", "stats"]);
    compared(&daemon, 2);

    // It is the base of the next run.
    let pure = &programs[0];
    home.write("tests/pure.rs", &text(pure, "assert_eq!(3 + 3, 6);"));
    let answer = home.test(&[]);
    answer.green_from("mixed");
    let targets = by_name(&answer.targets);
    assert_eq!(targets["pure"]["reason"], "1 of 2 tests run: the others reach what they reached");
    assert_eq!(targets["readers"]["source"], "cache", "{answer:#?}");
    compared(&daemon, 3);
    home.test(&["--verify"]).green_from("run");
    compared(&daemon, 4);

    // What only the test that did not run has read still counts.
    home.write("note", "two");
    let answer = home.test(&[]);
    answer.red();
    let targets = by_name(&answer.targets);
    assert_eq!(targets["readers"]["failures"], serde_json::json!(["b"]), "{answer:#?}");
    assert_eq!(targets["pure"]["source"], "cache", "{answer:#?}");
}

#[test]
fn a_red_edited_test_leaves_what_is_known_of_the_others() {
    let programs: Vec<_> = PROGRAMS.iter().filter(|program| program.name == "red").collect();
    let [red] = programs[..] else { panic!("one program") };
    let Some((home, daemon)) = home(std::slice::from_ref(red)) else { return };
    write(&home, red);
    let answer = home.test(&[]);
    answer.red();
    assert_eq!((answer.count("passed"), answer.count("failed")), (1, 1), "{answer:#?}");
    compared(&daemon, 2);
    home.write("tests/red.rs", &text(red, "assert_eq!(2 + 2, 4);"));
    let answer = home.test(&[]);
    answer.green_from("run");
    let reason = &answer.targets[0]["reason"];
    assert_eq!(reason, "1 of 2 tests run: the others reach what they reached");
    compared(&daemon, 3);
    home.test(&["--no-cache"]).green_from("run");
}

/// So many tests one program has.
const MANY: usize = 10_000;

#[test]
fn of_ten_thousand_tests_the_edited_one_runs() {
    if takes_long() || !can_observe("runs of some of the tests of a program") {
        return;
    }
    let tests = |edited: u32| {
        let mut text = "macro_rules! tests { ($($name:ident)*) => { $(#[test] fn $name() {})* } }\n\
                        mod edited { #[test] fn one() { assert!(std::hint::black_box(NUMBER) < 9) } }\n"
            .replace("NUMBER", &edited.to_string());
        for test in 1..MANY {
            text.push_str(&format!("tests! {{ t{test} }}\n"));
        }
        text
    };
    let mut home = Home::with(&[("src/lib.rs", &tests(1))]);
    home.environment.set("CARGO_INCREMENTAL", "1");
    home.config("[log]\nlevel = 'debug'", "debounce = '1h'\nselection = 'on'");
    let daemon = home.daemon();
    let answer = home.test(&[]);
    answer.green_from("run");
    assert_eq!(answer.count("passed"), MANY as u64);
    compared(&daemon, 1);
    home.write("src/lib.rs", &tests(2));
    let answer = home.test(&[]);
    answer.green();
    let reason = answer.targets[0]["reason"].as_str().unwrap();
    assert_eq!(reason, "1 of 10000 tests run: the others reach what they reached");
    assert_eq!(answer.count("passed"), MANY as u64, "the others keep their verdicts");
    home.write("src/lib.rs", &tests(9));
    let answer = home.test(&[]);
    answer.red();
    assert_eq!(answer.targets[0]["failures"], serde_json::json!(["edited::one"]));
}
