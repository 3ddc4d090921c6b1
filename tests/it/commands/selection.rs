//! Selection per test, in the shadow of runs that run everything.

// Runs can be observed, and objects are read, on this platform only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use crate::home::{Answered, Home, Started, can_observe, takes_long, until};

/// Two tests: one sets a number, and the other one reads it, if both share a process and this order.
fn library(number: u32) -> String {
    format!(
        "use std::sync::atomic::{{AtomicU32, Ordering}};\n\
         static SHARED: AtomicU32 = AtomicU32::new(0);\n\
         pub fn number() -> u32 {{ {number} }}\n\
         #[test] fn first() {{ SHARED.store(number(), Ordering::SeqCst); }}\n\
         #[test] fn second() {{ assert!(SHARED.load(Ordering::SeqCst) < 3); }}\n"
    )
}

fn home(settings: &str) -> Option<(Home, Started)> {
    home_with(settings, &[])
}

fn home_with(settings: &str, variables: &[(&str, &str)]) -> Option<(Home, Started)> {
    if !can_observe("comparisons with a selection per test") {
        return None;
    }
    let mut home = Home::with(&[("src/lib.rs", &library(1))]);
    // What tests reach is read from the objects of an incremental build.
    home.environment.set("CARGO_INCREMENTAL", "1");
    variables.iter().for_each(|(name, value)| home.environment.set(name, value));
    let settings =
        format!("debounce = '1h'\nargs = ['--workspace', '--', '--test-threads=1']\n{settings}");
    home.config("[log]\nlevel = 'debug'", &settings);
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    Some((home, daemon))
}

/// Waits until so many runs were compared.
pub(crate) fn compared(daemon: &Started, runs: usize) {
    until("the run is compared", || {
        let line = "compared a run with earlier ones";
        let done = daemon.stderr().lines().filter(|log| log.contains(line)).count();
        (done == runs).then_some(())
    });
}

#[test]
fn the_shadow_tells_what_selection_would_have_run_and_missed() {
    let Some((home, daemon)) = home("exclude = ['note']") else { return };
    compared(&daemon, 1);
    // Nothing of it is shared, and one test reads what the project says never decides.
    let library = |number: u32| {
        format!(
            "#[test] fn first() {{ assert!(std::hint::black_box({number}) < 9); }}\n\
             #[test] fn second() {{ assert!(std::fs::read(\"note\").is_err()); }}\n"
        )
    };
    home.write("src/lib.rs", &library(1));
    home.test(&[]).green_from("run");
    compared(&daemon, 2);
    let record = |home: &Home| home.project_status()["selection"].clone();
    let before = record(&home);
    assert_eq!((&before["runs"], &before["selected"]), (&1.into(), &2.into()));
    home.write("src/lib.rs", &library(2));
    home.test(&[]).green_from("run");
    compared(&daemon, 3);
    let known = record(&home);
    assert_eq!(
        (&known["runs"], &known["tests"], &known["selected"]),
        (&2.into(), &4.into(), &3.into())
    );
    assert_eq!((&known["missed"], &known["whole"]), (&0.into(), &0.into()), "{known}");
    // The second test reaches what it reached, and fails for what is not looked at.
    home.write("src/lib.rs", &library(3));
    home.write("note", "");
    home.test(&[]).red();
    compared(&daemon, 4);
    let known = record(&home);
    assert_eq!((&known["runs"], &known["selected"]), (&3.into(), &4.into()), "{known}");
    assert_eq!(known["missed_tests"], serde_json::json!(["p: second"]), "{known}");
    assert!(daemon.stderr().contains("selection per test would have missed a change"));
    let explained = home.ok(&["explain"]);
    assert!(explained.contains("would have run 4 of 6 tests in 3 runs"), "{explained}");
    daemon.stop();
    assert_eq!(record(&home), known, "without a daemon");
}

#[test]
fn nothing_is_compared_where_selection_is_off() {
    let Some((home, daemon)) = home("selection = 'off'") else { return };
    home.write("src/lib.rs", &library(2));
    home.test(&[]).green_from("run");
    home.ok(&["rebuild"]);
    assert!(!daemon.stderr().contains("compared a run"), "{}", daemon.stderr());
    daemon.stop();
    assert_eq!(home.project_status()["selection"]["runs"], 0);
}

/// The reason for the answer of the one target.
fn reason(answer: &Answered) -> &str {
    answer.targets[0]["reason"].as_str().unwrap()
}

#[test]
fn a_target_of_which_no_test_reaches_the_change_keeps_its_verdict() {
    if takes_long() {
        return;
    }
    const UNREACHED: &str = "no test of it reaches what has changed";
    let Some((home, daemon)) = home("selection = 'on'") else { return };
    compared(&daemon, 1);
    // Every line moves, and with it what a panic would say.
    home.write("src/lib.rs", &format!("// a comment\n{}", library(1)));
    let answer = home.test(&[]);
    answer.green_from("cache");
    assert_eq!(reason(&answer), UNREACHED);
    let more = "pub fn more() -> u32 { number() + 1 }\n";
    home.write("src/lib.rs", &format!("{more}{}", library(1)));
    let answer = home.test(&[]);
    answer.green_from("cache");
    assert_eq!(reason(&answer), UNREACHED);
    home.test(&["--verify"]).green_from("run");
    compared(&daemon, 2);
    home.write("src/lib.rs", &format!("{}#[test] fn third() {{}}\n", library(1)));
    let answer = home.test(&[]);
    answer.green_from("run");
    let why = "1 of its 3 tests reach something else, so that all run";
    assert_eq!((reason(&answer), answer.count("passed")), (why, 3));
    compared(&daemon, 3);

    // All tests run: the second one fails because of what the first one does now.
    home.write("src/lib.rs", &format!("{}#[test] fn third() {{}}\n", library(3)));
    let answer = home.test(&[]);
    answer.red();
    assert_eq!(reason(&answer), why);
    // What was red has no base any more, whatever its tests reach.
    home.write("src/lib.rs", &format!("// a comment\n{}#[test] fn third() {{}}\n", library(1)));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert_eq!(reason(&answer), "the record of its last green run is gone");
}

#[test]
fn what_runs_before_main_counts_in_a_program_without_tests() {
    let Some((home, daemon)) = home("selection = 'on'") else { return };
    let program = |is_red: bool| {
        format!(
            "unsafe extern \"C\" {{ fn _exit(code: i32) -> !; }}\n\
             extern \"C\" fn early() {{ if std::hint::black_box({is_red}) {{ unsafe {{ _exit(3) }} }} }}\n\
             #[used] #[unsafe(link_section = \".init_array\")] static EARLY: extern \"C\" fn() = early;\n\
             fn main() {{}}\n"
        )
    };
    home.write("src/main.rs", &program(false));
    home.test(&[]).green();
    compared(&daemon, 2);
    home.write("src/main.rs", &program(true));
    home.test(&[]).red();
}

#[test]
fn another_input_environment_or_optimized_code_runs_all_tests() {
    if takes_long() {
        return;
    }
    let Some((home, daemon)) = home("selection = 'on'") else { return };
    compared(&daemon, 1);
    let reads = |comment: &str| {
        format!("{comment}#[test] fn reads() {{ std::fs::read_to_string(\"note\").unwrap(); }}\n")
    };
    home.write("note", "one");
    home.write("src/lib.rs", &reads(""));
    home.test(&[]).green_from("run");
    compared(&daemon, 2);
    home.write("note", "two");
    home.write("src/lib.rs", &reads("// a comment\n"));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(reason(&answer).contains("note"), "{answer:#?}");
    compared(&daemon, 3);
    // The compiler may have made other code of the readers of lines.
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n\
                    [profile.dev]\nopt-level=1\n";
    home.write("Cargo.toml", manifest);
    home.test(&[]).green_from("run");
    compared(&daemon, 4);
    home.write("src/lib.rs", &reads("// a comment\n// another\n"));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(reason(&answer).contains("1 of its 1 tests reach something else"), "{answer:#?}");
    compared(&daemon, 5);
}

#[test]
fn a_variable_counts_for_a_selection_if_the_tests_can_name_it() {
    if takes_long() {
        return;
    }
    let Some((mut home, daemon)) = home("selection = 'on'") else { return };
    compared(&daemon, 1);
    home.environment.set("ZEBRA_STRIPES", "1");
    home.write("src/lib.rs", &format!("// a comment\n{}", library(1)));
    home.test(&[]).green_from("cache");
    let reads = |comment: &str| {
        format!(
            "{comment}#[test] fn reads() {{ \
             assert_ne!(std::env::var(\"ZEBRA_STRIPES\").as_deref(), Ok(\"3\")); }}\n"
        )
    };
    home.write("src/lib.rs", &reads(""));
    home.test(&[]).green_from("run");
    compared(&daemon, 2);
    home.environment.set("ZEBRA_STRIPES", "2");
    home.write("src/lib.rs", &reads("// a comment\n"));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert!(reason(&answer).contains("variable ZEBRA_STRIPES differs"), "{answer:#?}");
    home.environment.set("ZEBRA_STRIPES", "3");
    home.write("src/lib.rs", &reads("// another comment\n"));
    home.test(&[]).red();
}

#[test]
fn variables_whose_record_tells_of_one_run_run_all_tests() {
    if takes_long() {
        return;
    }
    let settings = "selection = 'on'\nignore_env = ['ZEBRA_STRIPES']";
    let Some((mut home, daemon)) = home_with(settings, &[("ZEBRA_STRIPES", "1")]) else { return };
    compared(&daemon, 1);
    // A test of the old run looked for a program in these folders only.
    let path = home.environment.get("PATH").unwrap().to_str().unwrap().to_owned();
    home.environment.set("PATH", format!("/nowhere:{path}"));
    home.write("src/lib.rs", &format!("// a comment\n{}", library(1)));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert_eq!(reason(&answer), "environment variable PATH differs");
    compared(&daemon, 2);
    // Ignored for as long as the config says so.
    home.environment.set("ZEBRA_STRIPES", "2");
    home.write("src/lib.rs", &format!("// a comment\n// another\n{}", library(1)));
    let answer = home.test(&[]);
    answer.green_from("run");
    assert_eq!(reason(&answer), "environment variable ZEBRA_STRIPES differs");
}

#[test]
fn with_another_version_of_the_package_run_the_tests_that_can_tell() {
    if takes_long() {
        return;
    }
    let Some((home, daemon)) = home("selection = 'on'") else { return };
    compared(&daemon, 1);
    let tests = [
        ("computes", "assert_eq!(std::hint::black_box(2) + 2, 4);"),
        ("reads", "assert_eq!(std::env::var(\"CARGO_PKG_VERSION\").unwrap(), \"0.1.0\");"),
        ("compiles", "assert_eq!(std::hint::black_box(env!(\"CARGO_PKG_VERSION\")), \"0.1.0\");"),
        ("sees", "assert!(std::env::current_exe().unwrap().exists());"),
        ("opens", "assert!(std::fs::exists(std::hint::black_box(\"Cargo.lock\")).unwrap());"),
    ];
    for (name, body) in tests {
        home.write(&format!("tests/{name}.rs"), &format!("#[test] fn it() {{ {body} }}\n"));
    }
    home.test(&[]).green();
    compared(&daemon, 2);
    let manifest = "[package]\nname='p'\nversion='0.2.0'\nedition='2021'\n[lib]\ndoctest=false\n";
    home.write("Cargo.toml", manifest);
    let answer = home.test(&[]);
    answer.red();
    let failed = answer.targets.iter().filter(|target| target["verdict"] == "fail");
    let mut failed: Vec<_> = failed.map(|target| target["target"].as_str().unwrap()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["compiles", "reads"], "{answer:#?}");
    let mut run = answer.run();
    run.sort_unstable();
    // The compiler has given the variable of `p` another name.
    assert_eq!(run, ["compiles", "opens", "p", "reads", "sees"], "{answer:#?}");
}

/// Programs of which a test can see where something stands: the line `HERE` must be the number `LINE`.
const SEERS: [(&str, &str); 14] = [
    (
        "caller",
        "#[track_caller] fn line() -> u32 { std::panic::Location::caller().line() }\n\
         // move\n\
         #[test] fn sees() { let seen = line(); // HERE\n assert_eq!(seen, LINE); }\n",
    ),
    (
        "index",
        "struct Mine;\n\
         impl std::ops::Index<Mine> for Own {\n type Output = u32;\n #[track_caller]\n \
         fn index(&self, _: Mine) -> &u32 {\n \
         &self.0[std::panic::Location::caller().line() as usize] }\n}\n\
         struct Own(Vec<u32>);\n\
         // move\n\
         #[test] fn sees() { let own = Own((0..100).collect());\n \
         let seen = own[Mine]; // HERE\n assert_eq!(seen, LINE); }\n",
    ),
    (
        "stored",
        "use std::panic::Location;\n\
         // move\n\
         static PLACE: &Location<'static> = Location::caller(); // HERE\n\
         #[test] fn sees() { assert!(format!(\"{PLACE}\").contains(\".rs:LINE:\")); }\n",
    ),
    (
        "macros",
        "macro_rules! at { () => { line!() } }\n\
         // move\n\
         #[test] fn sees() { let seen = at!(); // HERE\n assert_eq!(seen, LINE); }\n",
    ),
    (
        "message",
        "// move\n\
         #[test] #[should_panic(expected = \":LINE:\")] fn sees() {\n \
         panic!(\"{}\", std::panic::Location::caller()); // HERE\n}\n",
    ),
    (
        "catching",
        "use std::{panic, sync::atomic::{AtomicU32, Ordering::SeqCst}};\n\
         static SEEN: AtomicU32 = AtomicU32::new(0);\n\
         #[test] fn sees() {\n \
         panic::set_hook(Box::new(|info| SEEN.store(info.location().unwrap().line(), SeqCst)));\n\
         // move\n \
         panic::catch_unwind(|| Vec::<u8>::new()[SEEN.load(SeqCst) as usize]).unwrap_err(); // HERE\n \
         assert_eq!(SEEN.load(SeqCst), LINE); }\n",
    ),
    (
        // The test whose panic moves sees no line, and the one that sees lines does not move.
        "hook",
        "use std::{panic, sync::atomic::{AtomicU32, Ordering::SeqCst}};\n\
         static SEEN: AtomicU32 = AtomicU32::new(0);\n\
         #[test] fn a_hook() {\n \
         panic::set_hook(Box::new(|info| SEEN.store(info.location().unwrap().line(), SeqCst))); }\n\
         // move\n\
         #[test] fn sees() {\n \
         panic::catch_unwind(|| Vec::<u8>::new()[SEEN.load(SeqCst) as usize]).unwrap_err(); // HERE\n \
         assert_eq!(SEEN.load(SeqCst), LINE); }\n",
    ),
    (
        // The same with something that logs.
        "logger",
        "use std::{panic::Location, sync::{OnceLock, atomic::{AtomicU32, Ordering::SeqCst}}};\n\
         static SEEN: AtomicU32 = AtomicU32::new(0);\n\
         static LOGGER: OnceLock<Box<dyn Fn(&Location<'_>) + Send + Sync>> = OnceLock::new();\n\
         #[track_caller] fn note() { if let Some(log) = LOGGER.get() { log(Location::caller()); } }\n\
         #[test] fn a_logger() {\n \
         let _ = LOGGER.set(Box::new(|at| SEEN.store(at.line(), SeqCst))); }\n\
         // move\n\
         #[test] fn sees() {\n note(); // HERE\n assert_eq!(SEEN.load(SeqCst), LINE); }\n",
    ),
    (
        "itself",
        "use std::process::Command;\n\
         // move\n\
         #[test] #[ignore] fn fails() {\n panic!(\"on purpose\"); // HERE\n}\n\
         #[test] fn sees() { let run = Command::new(std::env::current_exe().unwrap())\n \
         .args([\"--ignored\", \"--nocapture\"]).output().unwrap();\n \
         assert!(String::from_utf8_lossy(&run.stderr).contains(\".rs:LINE:\")); }\n",
    ),
    (
        "itself_by_its_name",
        "use std::{ffi::{CStr, OsStr, c_char}, os::unix::ffi::OsStrExt, process::Command};\n\
         unsafe extern \"C\" { static program_invocation_name: *const c_char; }\n\
         // move\n\
         #[test] #[ignore] fn fails() {\n panic!(\"on purpose\"); // HERE\n}\n\
         #[test] fn sees() {\n \
         let own = unsafe { CStr::from_ptr(program_invocation_name) }.to_bytes();\n \
         let run = Command::new(OsStr::from_bytes(own))\n \
         .args([\"--ignored\", \"--nocapture\"]).output().unwrap();\n \
         assert!(String::from_utf8_lossy(&run.stderr).contains(\".rs:LINE:\")); }\n",
    ),
    (
        "itself_by_a_link",
        "use std::{fs, path::Path, process::Command};\n\
         // move\n\
         #[test] #[ignore] fn fails() {\n panic!(\"on purpose\"); // HERE\n}\n\
         #[test] fn sees() {\n \
         let own = fs::read_link(Path::new(\"/proc\").join(\"self\").join(\"exe\")).unwrap();\n \
         let link = own.with_file_name(\"link\"); fs::hard_link(own, &link).unwrap();\n \
         let run = Command::new(&link).args([\"--ignored\", \"--nocapture\"]).output();\n \
         fs::remove_file(link).unwrap();\n \
         assert!(String::from_utf8_lossy(&run.unwrap().stderr).contains(\".rs:LINE:\")); }\n",
    ),
    (
        "a_logger_of_a_call",
        "use std::sync::atomic::{AtomicU32, Ordering::SeqCst};\nstruct Own(AtomicU32);\n\
         impl log::Log for Own { fn log(&self, record: &log::Record) {\n \
         self.0.store(record.line(), SeqCst); } }\n\
         // move\n\
         #[test] fn sees() { let own = Own(AtomicU32::new(0));\n \
         log::error!(logger: own); // HERE\n assert_eq!(own.0.load(SeqCst), LINE); }\n",
    ),
    ("a_static_place", PLACE),
    ("a_place_in_a_constant", PLACE_IN_A_CONSTANT),
];

/// A place of one's own has the very form of a `Location`, and nobody reads it by a function of that.
macro_rules! place {
    ($kind:literal) => {
        concat!(
            "use std::panic::Location;\n",
            "struct Place { file: &'static str, line: u32, column: u32 }\n",
            "impl Place {\n #[track_caller] const fn here() -> Self { let at = Location::caller();\n ",
            "Self { file: at.file(), line: at.line(), column: at.column() } }\n ",
            "#[inline(never)] fn line(&self) -> u32 {\n ",
            "assert!(self.file.ends_with(\".rs\") && self.column > 0); self.line } }\n",
            "// move\n",
            $kind,
            " PLACE: Place = Place::here(); // HERE\n",
            "#[test] fn sees() { assert_eq!(PLACE.line(), LINE); }\n",
        )
    };
}
const PLACE: &str = place!("static");
const PLACE_IN_A_CONSTANT: &str = place!("const");

/// A crate that keeps the lines of calls as `log` does.
const LOG: &str = "use std::panic::Location;\n\
    pub struct Record { at: u32 }\n\
    impl Record { #[inline(never)] pub fn line(&self) -> u32 { self.at } }\n\
    pub trait Log { fn log(&self, record: &Record); }\n\
    impl<T: Log + ?Sized> Log for &T { fn log(&self, record: &Record) { (**self).log(record) } }\n\
    struct Nobody;\nimpl Log for Nobody { fn log(&self, _: &Record) {} }\n\
    static LOGGER: &(dyn Log + Sync) = &Nobody;\n\
    pub mod __private_api { use super::*;\n \
    pub struct GlobalLogger;\n \
    impl Log for GlobalLogger { fn log(&self, record: &Record) { LOGGER.log(record) } }\n \
    pub fn log<L: Log>(to: L, at: &(&'static str, &'static Location<'static>)) { log_impl(to, at) }\n \
    fn log_impl<L: Log>(to: L, &(_, at): &(&'static str, &'static Location<'static>)) {\n \
    to.log(&Record { at: at.line() }) }\n \
    #[track_caller] pub fn loc() -> &'static Location<'static> { Location::caller() } }\n\
    #[macro_export] macro_rules! error {\n \
    () => { $crate::error!(@ $crate::__private_api::GlobalLogger) };\n \
    (logger: $to:expr) => { $crate::error!(@ &$to) };\n \
    (@ $to:expr) => { $crate::__private_api::log($to, &(\"\", $crate::__private_api::loc())) };\n}\n";

#[test]
fn a_target_of_which_a_test_can_see_a_line_runs_when_lines_move() {
    if takes_long() {
        return;
    }
    let Some((home, daemon)) = home("selection = 'on'") else { return };
    compared(&daemon, 1);
    let manifest = |name: &str| {
        format!("[package]\nname='{name}'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n")
    };
    let with_log = "[dev-dependencies]\nlog = { path = 'log' }\n";
    home.write("Cargo.toml", &(manifest("p") + with_log));
    home.write("log/Cargo.toml", &manifest("log"));
    home.write("log/src/lib.rs", LOG);
    let write = |moved: &str| {
        for (name, text) in SEERS {
            home.write(&format!("tests/{name}.rs"), &at_its_line(text, moved));
        }
        // None of its tests sees a line, though one removes what occurs twice and another one panics.
        let text = format!(
            "{moved}#[test] fn sorts() {{ let mut all = vec![1, 1]; all.dedup(); \
             assert_eq!(all.len(), 1); }}\n\
             #[test] #[should_panic] fn fails() {{ Vec::<u8>::new()[std::hint::black_box(0)]; }}\n\
             #[test] fn logs() {{ log::error!(); }}\n"
        );
        home.write("tests/blind.rs", &text);
    };
    write("// move\n");
    home.test(&[]).green();
    compared(&daemon, 2);
    write("// move\n// more\n");
    let answer = home.test(&[]);
    answer.red();
    for target in &answer.targets {
        let name = target["target"].as_str().unwrap();
        let sees = SEERS.iter().any(|(seer, _)| *seer == name);
        let expected = if sees { ("fail", "run") } else { ("pass", "cache") };
        let said = (target["verdict"].as_str().unwrap(), target["source"].as_str().unwrap());
        assert_eq!(said, expected, "{target:#}");
    }
    assert_eq!(answer.targets.len(), SEERS.len() + 2);
}

/// The text of a test program, of which the line `HERE` has the number `LINE` before it moves.
fn at_its_line(text: &str, moved: &str) -> String {
    let before = &text[..text.find("HERE").unwrap_or_default()];
    let line = before.matches('\n').count() + 1;
    text.replace("LINE", &line.to_string()).replace("// move\n", moved)
}

#[test]
fn a_backtrace_counts_where_it_is_shown() {
    if takes_long() {
        return;
    }
    const PROGRAMS: [(&str, &str, (&str, &str)); 3] = [
        (
            "keeps",
            "use std::backtrace::{Backtrace, BacktraceStatus};\n// move\n\
             #[test] fn keeps() { let at = Backtrace::capture();\n \
             assert_eq!(at.status(), BacktraceStatus::Captured); }\n",
            ("pass", "cache"),
        ),
        (
            "shows",
            "use std::backtrace::Backtrace;\n// move\n\
             #[test] fn shows() { let at = Backtrace::capture(); // HERE\n \
             assert!(at.to_string().contains(\"shows.rs:LINE:\"), \"{at}\"); }\n",
            ("fail", "run"),
        ),
        // The standard library shows it to nobody, and reads the program all the same.
        (
            "panics",
            "// move\n#[test] #[should_panic] fn panics() { Vec::<u8>::new()[0]; }\n",
            ("pass", "run"),
        ),
    ];
    let variables = [("RUST_BACKTRACE", "1"), ("CARGO_PROFILE_DEV_DEBUG", "1")];
    let Some((home, daemon)) = home_with("selection = 'on'", &variables) else { return };
    compared(&daemon, 1);
    let write = |moved: &str| {
        for (name, text, _) in PROGRAMS {
            home.write(&format!("tests/{name}.rs"), &at_its_line(text, moved));
        }
    };
    write("// move\n");
    home.test(&[]).green_from("mixed");
    compared(&daemon, 2);
    write("// move\n// more\n");
    let answer = home.test(&[]);
    for (name, _, expected) in PROGRAMS {
        let target = answer.targets.iter().find(|target| target["target"] == name).unwrap();
        let said = (target["verdict"].as_str().unwrap(), target["source"].as_str().unwrap());
        assert_eq!(said, expected, "{target:#}");
        let is_shown = target["reason"].as_str().unwrap().ends_with("as one does for a backtrace");
        assert_eq!(is_shown, said.1 == "run", "{target:#}");
    }
}
