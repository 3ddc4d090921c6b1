//! Programs that tests start count by what they reach (`selection = "on"`), except where their lines, or
//! more of them than they do, can be seen.

// Runs can be observed, and objects are read, on this platform only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use super::selection::compared;
use crate::home::{Answered, Home, Started, can_observe, takes_long};

/// What comes of an edit of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Its test runs, and fails: the program says something else.
    Fails,
    /// Its test runs, and passes.
    Passes,
    /// Its test keeps its verdict.
    Keeps,
}
use Expected::{Fails, Keeps, Passes};

/// A program, of which the text `EDIT` is the first of two texts and then the second one.
///
/// `LINE` in what the test looks for in its output is the number of the line `HERE` before the edit.
struct Edited {
    name: &'static str,
    code: &'static str,
    edit: (&'static str, &'static str),
    /// The command of the shell that the test has run, with `$0` for the program; it is started without
    /// one if this is empty.
    shell: &'static str,
    says: &'static str,
    expected: Expected,
}

const MOVE: (&str, &str) = ("// move", "// move\n// more");

const fn moved(name: &'static str, code: &'static str, says: &'static str) -> Edited {
    Edited { name, code, edit: MOVE, shell: "", says, expected: Fails }
}

const fn edited(
    name: &'static str,
    code: &'static str,
    edit: (&'static str, &'static str),
    says: &'static str,
    expected: Expected,
) -> Edited {
    Edited { name, code, edit, shell: "", says, expected }
}

const PANICS: &str = "EDIT\nfn main() {\n \
                      let all = vec![1]; println!(\"{}\", all[std::env::args().count()]); // HERE\n}\n";

const PROGRAMS: &[Edited] = &[
    moved(
        "line_of_a_macro",
        "EDIT\nfn main() { println!(\"at {}.\", line!()); } // HERE\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_caller",
        "EDIT\nfn main() { println!(\"at {}.\", std::panic::Location::caller().line()); } // HERE\n",
        "at LINE.",
    ),
    moved(
        "line_of_its_own_function",
        "#[track_caller] fn at() -> u32 { std::panic::Location::caller().line() }\nEDIT\n\
         fn main() { println!(\"at {}.\", at()); } // HERE\n",
        "at LINE.",
    ),
    moved(
        "line_of_an_index",
        "struct Own;\nimpl std::ops::Index<u8> for Own { type Output = u32;\n \
         fn index(&self, _: u8) -> &u32 {\n \
         Box::leak(Box::new(std::panic::Location::caller().line())) } }\nEDIT\n\
         fn main() { println!(\"at {}.\", Own[1]); } // HERE\n",
        "at LINE.",
    ),
    moved(
        "line_of_an_error",
        "struct Own(u32);\nimpl From<u8> for Own {\n #[track_caller]\n fn from(_: u8) -> Self { \
         Own(std::panic::Location::caller().line()) } }\n\
         fn fails() -> Result<u8, u8> { Err(1) }\n\
         fn tries() -> Result<u8, Own> {\nEDIT\n Ok(fails()?) // HERE\n}\n\
         fn main() { if let Err(own) = tries() { println!(\"at {}.\", own.0); } }\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_result",
        "use std::panic::Location;\n\
         #[track_caller] fn at(_: u8, _: u8) -> (u8, &'static Location<'static>) \
         { (1, Location::caller()) }\nEDIT\n\
         fn main() { println!(\"at {}.\", at(1, 2).1.line()); } // HERE\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_constant",
        "use std::panic::Location;\nEDIT\n\
         const AT: &Location<'static> = Location::caller(); // HERE\n\
         fn main() { println!(\"at {}.\", std::hint::black_box(Some(AT)).unwrap().line()); }\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_pushed_constant",
        "use std::panic::Location;\nEDIT\n\
         const AT: &Location<'static> = Location::caller(); // HERE\n\
         fn main() { let mut all = Vec::new(); all.push(AT); println!(\"at {}.\", all[0].line()); }\n",
        "at LINE.",
    ),
    moved(
        "line_of_an_inserted_constant",
        "use std::panic::Location;\nEDIT\n\
         const AT: &Location<'static> = Location::caller(); // HERE\n\
         fn main() { let mut all = Vec::new(); all.insert(0, AT); println!(\"at {}.\", all[0].line()); }\n",
        "at LINE.",
    ),
    moved(
        "line_of_an_expected_constant",
        "use std::panic::Location;\nEDIT\n\
         const AT: &Location<'static> = Location::caller(); // HERE\n\
         fn main() { let at = Some(AT); println!(\"at {}.\", at.expect(\"one\").line()); }\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_listed_constant",
        "use std::panic::Location;\nconst ONE: &Location<'static> = Location::caller();\nEDIT\n\
         const AT: &Location<'static> = Location::caller(); // HERE\n\
         fn main() { let all = [ONE, AT]; let at = all[1]; drop(at);\n \
         println!(\"at {}.\", all[std::env::args().count()].line()); }\n",
        "at LINE.",
    ),
    moved(
        "line_of_many_arguments",
        "#[track_caller] fn at(a: u64, b: u64, c: u64, d: u64, e: u64, f: u64, g: u64) -> u64 {\n \
         a + b + c + d + e + f + g + u64::from(std::panic::Location::caller().line()) }\nEDIT\n\
         fn main() { println!(\"at {}.\", at(0, 0, 0, 0, 0, 0, 0)); } // HERE\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_function_by_its_address",
        "EDIT\n#[track_caller] fn at() -> u32 { std::panic::Location::caller().line() } // HERE\n\
         fn main() { let at: fn() -> u32 = at; println!(\"at {}.\", at()); }\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_fallback",
        "#[track_caller] fn at() -> u32 { std::panic::Location::caller().line() }\nEDIT\n\
         fn main() { let one: Option<u32> = None; let at = one.unwrap_or_else(|| at()); // HERE\n \
         println!(\"at {at}.\"); }\n",
        "at LINE.",
    ),
    moved(
        "line_of_a_log",
        "struct Own;\nimpl log::Log for Own { fn log(&self, record: &log::Record) { \
         println!(\"at {}.\", record.line()); } }\nEDIT\n\
         fn main() { log::write(&Own); } // HERE\n",
        "at LINE.",
    ),
    moved(
        "line_in_a_hook",
        "use std::panic;\nfn main() {\n \
         panic::set_hook(Box::new(|info| println!(\"at {}.\", info.location().unwrap().line())));\n \
         EDIT\n let _ = panic::catch_unwind(|| Vec::<u8>::new()[std::env::args().count()]); // HERE\n}\n",
        "at LINE.",
    ),
    moved("line_of_a_panic", PANICS, ".rs:LINE:"),
    moved(
        "line_of_a_thread",
        "fn main() { let one: Option<u8> = None;\n EDIT\n \
         let _ = std::thread::spawn(move || one.unwrap()).join(); // HERE\n}\n",
        ".rs:LINE:",
    ),
    moved(
        "line_of_a_caught_panic",
        "fn main() {\n EDIT\n let _ = std::panic::catch_unwind(|| panic!(\"on purpose\")); // HERE\n}\n",
        ".rs:LINE:",
    ),
    moved(
        "line_of_a_long_message",
        "fn main() {\n EDIT\n panic!(\"{}\", \"long \".repeat(50_000)); // HERE\n}\n",
        ".rs:LINE:",
    ),
    moved(
        "line_of_a_panic_in_a_panic",
        "struct Own; impl Drop for Own { fn drop(&mut self) {\n EDIT\n panic!(\"again\"); // HERE\n} }\n\
         fn main() { let _own = Own; panic!(\"once\"); }\n",
        ".rs:LINE:",
    ),
    Edited { shell: "$0 2>&1", ..moved("line_behind_a_pipe", PANICS, ".rs:LINE:") },
    Edited { shell: "exec 7>&1; $0 2>&7", ..moved("line_behind_a_number", PANICS, ".rs:LINE:") },
    Edited {
        shell: "$0 2>$0.said; cat $0.said; rm $0.said",
        ..moved("line_in_a_file", PANICS, ".rs:LINE:")
    },
    // It reads its debug information, of which there is none here.
    edited(
        "its_backtrace",
        "EDIT\nfn main() { let all = vec![1, 2]; println!(\"{}\", all[std::env::args().count()]);\n \
         println!(\"{}\", std::backtrace::Backtrace::force_capture()); }\n",
        MOVE,
        "its_backtrace::main",
        Passes,
    ),
    edited(
        "its_own_file",
        "EDIT\nfn main() { let own = std::env::current_exe().unwrap();\n \
         println!(\"at {}.\", std::fs::read(own).is_ok()); }\n",
        MOVE,
        "at true.",
        Passes,
    ),
    edited(
        "its_own_file_by_proc",
        "EDIT\nfn main() { println!(\"at {}.\", std::fs::read(\"/proc/self/exe\").unwrap()[0] == 127); }\n",
        MOVE,
        "at true.",
        Passes,
    ),
    edited(
        "a_static",
        "static OWN: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(EDIT);\n\
         fn main() { println!(\"at {}.\", OWN.load(std::sync::atomic::Ordering::Relaxed)); }\n",
        ("1", "2"),
        "at 1.",
        Fails,
    ),
    edited(
        "a_constructor",
        "extern \"C\" fn early() { EDIT }\n\
         #[used] #[unsafe(link_section = \".init_array\")] static EARLY: extern \"C\" fn() = early;\n\
         fn main() { println!(\"at 1.\"); }\n",
        ("", "std::process::exit(3);"),
        "at 1.",
        Fails,
    ),
    edited(
        "a_method_of_a_table",
        "trait Own { fn at(&self) -> u8; }\nstruct One; impl Own for One { fn at(&self) -> u8 { EDIT } }\n\
         fn main() { let own: Box<dyn Own> = Box::new(One); println!(\"at {}.\", own.at()); }\n",
        ("1", "2"),
        "at 1.",
        Fails,
    ),
    // What has no effect on the output changes what is reached all the same.
    edited(
        "a_detour",
        "fn main() { EDIT println!(\"at 1.\"); }\n",
        ("", "if std::hint::black_box(false) { println!(\"2\"); }"),
        "at 1.",
        Passes,
    ),
    edited(
        "lines_of_what_does_not_panic",
        "EDIT\nfn main() { let all = vec![1, 2]; println!(\"at {}.\", all[std::env::args().count()]); }\n",
        MOVE,
        "at 2.",
        Keeps,
    ),
    edited(
        "lines_of_a_quiet_log",
        "struct Own;\nimpl log::Log for Own { fn log(&self, record: &log::Record) { \
         println!(\"at {}.\", record.line()); } }\n\
         fn main() { log::write(&Own); quiet(); }\nEDIT\n\
         fn quiet() { let all = vec![1, 2]; println!(\"{}\", all[std::env::args().count()]); \
         let one: Result<u8, String> = tries(1); one.unwrap(); }\n\
         fn tries(n: u8) -> Result<u8, String> { \
         let two: u8 = [n].first().copied().ok_or(\"none\")?; Ok(two.checked_add(n).unwrap()) }\n",
        MOVE,
        "at 3.",
        Keeps,
    ),
    edited(
        "what_is_not_reached",
        "fn main() { println!(\"at 1.\"); }\n#[unsafe(no_mangle)] #[inline(never)] \
         pub fn beside() -> u8 { EDIT }\n",
        ("1", "2"),
        "at 1.",
        Keeps,
    ),
    Edited {
        shell: "exec $0",
        ..edited(
            "lines_behind_a_shell",
            "EDIT\nfn main() { println!(\"at {}.\", [7][std::env::args().count() - 1]); }\n",
            MOVE,
            "at 7.",
            Keeps,
        )
    },
];

/// Programs that capture backtraces, which the environment asks for.
const BACKTRACES: &[Edited] = &[
    // As the errors of many crates do, of which nobody shows it.
    edited(
        "lines_of_a_kept_backtrace",
        "EDIT\nfn main() { let kept = std::backtrace::Backtrace::capture();\n \
         println!(\"at {:?} {}.\", kept.status(), [7][std::env::args().count() - 1]); }\n",
        MOVE,
        "at Captured 7.",
        Keeps,
    ),
    moved("line_of_a_shown_backtrace", SHOWS, ".rs:LINE:"),
    Edited {
        shell: "ln $0 $0.link; $0.link; rm $0.link",
        ..moved("line_of_a_backtrace_by_a_link", SHOWS, ".rs:LINE:")
    },
    Edited {
        shell: "ln -s $0 $0.link; $0.link; rm $0.link",
        ..moved("line_of_a_backtrace_by_a_symbolic_link", SHOWS, ".rs:LINE:")
    },
    Edited {
        shell: "cp $0 $0.copy; $0.copy; rm $0.copy",
        ..moved("line_of_a_backtrace_of_a_copy", SHOWS, ".rs:LINE:")
    },
    moved(
        "line_of_a_backtrace_in_an_error",
        "#[derive(Debug)] struct Own { at: std::backtrace::Backtrace }\n\
         impl<E: std::error::Error> From<E> for Own {\n \
         fn from(_: E) -> Self { Self { at: std::backtrace::Backtrace::capture() } } }\n\
         fn tries() -> Result<u8, Own> {\nEDIT\n Ok(\"x\".parse::<u8>()?) // HERE\n}\n\
         fn main() { println!(\"{}\", tries().unwrap_err().at); }\n",
        ".rs:LINE:",
    ),
];

const SHOWS: &str = "EDIT\nfn main() {\n \
                     println!(\"{}\", std::backtrace::Backtrace::capture()); // HERE\n}\n";

impl Edited {
    fn write(&self, home: &Home, is_edited: bool) {
        let edit = if is_edited { self.edit.1 } else { self.edit.0 };
        home.write(&format!("src/bin/{}.rs", self.name), &self.code.replace("EDIT", edit));
    }

    /// The test, which never changes.
    fn test(&self) -> String {
        let before = self.code.replace("EDIT", self.edit.0);
        let here = before.find("HERE").map_or("", |here| &before[..here]);
        let says = self.says.replace("LINE", &(here.matches('\n').count() + 1).to_string());
        let Self { name, shell, .. } = self;
        format!(
            "use std::process::Command;\n#[test] fn says() {{\n \
             let program = env!(\"CARGO_BIN_EXE_{name}\"); let shell = {shell:?};\n \
             let ran = match shell.is_empty() {{\n \
             true => Command::new(program).output().unwrap(),\n \
             false => Command::new(\"sh\").args([\"-c\", shell, program]).output().unwrap(),\n }};\n \
             let said = [ran.stdout, ran.stderr].concat(); let said = String::from_utf8_lossy(&said);\n \
             assert!(said.contains({says:?}), \"{{said}}\");\n}}\n"
        )
    }
}

const LOG: &str = "use std::panic::Location;\n\
    pub struct Record { at: &'static Location<'static> }\n\
    impl Record { #[inline(never)] pub fn line(&self) -> u32 { self.at.line() } }\n\
    pub trait Log { fn log(&self, record: &Record); }\n\
    pub mod __private_api { use super::*;\n \
    pub fn log(to: &dyn Log, at: &'static Location<'static>) { to.log(&Record { at }); } }\n\
    #[track_caller] pub fn write(to: &dyn Log) { __private_api::log(to, Location::caller()); }\n";

/// A workspace of these files, with these settings, that has been run and looked at.
fn home(files: &[(&str, &str)], settings: &str) -> Option<(Home, Started)> {
    home_with(files, settings, &[])
}

/// The same with more variables in the environment.
fn home_with(
    files: &[(&str, &str)],
    settings: &str,
    variables: &[(&str, &str)],
) -> Option<(Home, Started)> {
    if takes_long() || !can_observe("what programs reach that tests start") {
        return None;
    }
    let mut home = Home::with(files);
    home.environment.set("CARGO_INCREMENTAL", "1");
    variables.iter().for_each(|(name, value)| home.environment.set(name, value));
    home.config("[log]\nlevel = 'debug'", &format!("debounce = '1h'\n{settings}"));
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    compared(&daemon, 1);
    Some((home, daemon))
}

const MANIFEST: &str = "[package]\nname='p'\nversion='0.1.0'\nedition='2024'\n[lib]\ntest=false\n\
    doctest=false\n[dependencies]\nlog = { path = 'log' }\nlow = { path = 'low' }\n";
const LOG_MANIFEST: &str = "[package]\nname='log'\nversion='0.1.0'\nedition='2024'\n[lib]\ntest=false\n\
    doctest=false\n";

/// The targets of an answer by their names, with what came of them.
fn outcomes(answer: &Answered) -> Vec<(String, Expected, String)> {
    let targets = answer.targets.iter().filter(|target| target["kind"] == "test");
    let outcome = |target: &serde_json::Value| {
        let text = |name: &str| target[name].as_str().unwrap().to_owned();
        let expected = match (&*text("verdict"), &*text("source")) {
            ("fail", _) => Fails,
            (_, "cache") => Keeps,
            _ => Passes,
        };
        (text("target"), expected, text("reason"))
    };
    targets.map(outcome).collect()
}

#[test]
fn what_can_be_seen_of_a_started_program_counts_and_nothing_else() {
    edit_all(PROGRAMS, &[]);
}

#[test]
fn a_backtrace_of_a_started_program_counts_where_it_is_shown() {
    edit_all(BACKTRACES, &[("RUST_BACKTRACE", "1"), ("CARGO_PROFILE_DEV_DEBUG", "1")]);
}

/// Edits all `programs` at once, and looks at what comes of their tests; `variables` are in the environment.
fn edit_all(programs: &[Edited], variables: &[(&str, &str)]) {
    let tests: Vec<_> =
        programs.iter().map(|one| (format!("tests/{}.rs", one.name), one.test())).collect();
    let before = |one: &Edited| one.code.replace("EDIT", one.edit.0);
    let sources: Vec<_> =
        programs.iter().map(|one| (format!("src/bin/{}.rs", one.name), before(one))).collect();
    let texts = tests.iter().chain(&sources).map(|(path, text)| (&**path, &**text));
    let low = LOG_MANIFEST.replace("'log'", "'low'");
    let more = [
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", ""),
        ("log/Cargo.toml", LOG_MANIFEST),
        ("log/src/lib.rs", LOG),
        ("low/Cargo.toml", &low),
        ("low/src/lib.rs", ""),
    ];
    let files: Vec<_> = more.into_iter().chain(texts).collect();
    let Some((home, daemon)) = home_with(&files, "selection = 'on'", variables) else { return };
    programs.iter().for_each(|program| program.write(&home, true));
    let answer = home.test(&[]);
    answer.red();
    let mut wrong = Vec::new();
    for (name, outcome, reason) in outcomes(&answer) {
        let program = programs.iter().find(|program| program.name == name).unwrap();
        let is_told = match () {
            () if name.starts_with("lines_") => reason.contains("reaches what it reached"),
            () if name == "a_static" => {
                reason.ends_with("a_static` changed: it reaches something else")
            }
            () if name == "its_backtrace" => reason.ends_with("changed"),
            () => true,
        };
        if outcome != program.expected || !is_told {
            wrong.push(format!("{name}: {outcome:?}, not {:?} ({reason})", program.expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    compared(&daemon, 2);
    let missed = &home.project_status()["selection"]["missed"];
    assert_eq!(missed, 0, "{}", home.project_status()["selection"]);
    // As it was: nothing that is green runs.
    programs.iter().for_each(|program| program.write(&home, false));
    let answer = home.test(&[]);
    for (name, outcome, reason) in outcomes(&answer) {
        let program = programs.iter().find(|program| program.name == name).unwrap();
        if program.expected == Keeps {
            assert_eq!(outcome, Keeps, "{name}: {reason}");
        }
        assert_ne!(outcome, Fails, "{name}: {reason}");
    }
}

/// A function of a library that programs reach, and one that none of them reaches.
const LOW: &str = "pub fn used(n: usize) -> i32 { [6, deeper()][n] }\nfn deeper() -> i32 { 7 }\n\
    pub fn unused(n: usize) -> i32 { [8, 80][n] }\n#[test] fn own() { assert_eq!(unused(0), 8); }\n";

#[test]
fn a_library_of_a_started_program_counts_by_what_is_reached_of_it() {
    let low = LOG_MANIFEST.replace("'log'", "'low'").replace("test=false\ndoctest", "doctest");
    let user = "fn main() { println!(\"at {}.\", low::used(std::env::args().count())); }\n";
    let launcher = "use std::os::unix::process::CommandExt as _;\nfn main() {\n \
                    let program = std::env::args().nth(1).unwrap();\n \
                    panic!(\"{}\", std::process::Command::new(program).exec()); }\n";
    let spawner = "fn main() { let program = std::env::current_exe().unwrap().with_file_name(\"user\");\n \
                   let ran = std::process::Command::new(program).status().unwrap();\n \
                   assert!(ran.success()); }\n";
    let test = |before: &str, program: &str, arguments: &str| {
        format!(
            "#[test] fn says() {{ {before}\n let user = env!(\"CARGO_BIN_EXE_user\"); drop(user);\n \
             let ran = std::process::Command::new({program}).args([{arguments}] as [&str; _])\n \
             .output().unwrap();\n let said = [ran.stdout, ran.stderr].concat();\n \
             assert_eq!(String::from_utf8_lossy(&said), \"at 7.\\n\"); }}\n"
        )
    };
    let own = "env!(\"CARGO_BIN_EXE_user\")";
    let tests = [
        ("tests/direct.rs", test("", own, "")),
        ("tests/by_exec.rs", test("", "env!(\"CARGO_BIN_EXE_launcher\")", own)),
        ("tests/by_program.rs", test("", "env!(\"CARGO_BIN_EXE_spawner\")", "")),
        ("tests/measured.rs", test(&format!("std::fs::metadata({own}).unwrap();"), own, "")),
    ];
    let more = [
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", ""),
        ("src/bin/user.rs", user),
        ("src/bin/launcher.rs", launcher),
        ("src/bin/spawner.rs", spawner),
        ("log/Cargo.toml", LOG_MANIFEST),
        ("log/src/lib.rs", ""),
        ("low/Cargo.toml", &low),
        ("low/src/lib.rs", LOW),
    ];
    let files: Vec<_> =
        more.into_iter().chain(tests.iter().map(|(path, text)| (*path, &**text))).collect();
    let Some((home, daemon)) = home(&files, "selection = 'on'") else { return };
    let ask = |text: String| {
        home.write("low/src/lib.rs", &text);
        let answer = home.test(&[]);
        outcomes(&answer)
    };
    let look = |text: String, expected: [Expected; 4]| {
        let found = ask(text);
        let names = ["by_exec", "by_program", "direct", "measured"];
        let wanted: Vec<_> = names.into_iter().zip(expected).collect();
        let outcomes: Vec<_> =
            found.iter().map(|(name, outcome, _)| (name.as_str(), *outcome)).collect();
        assert_eq!(outcomes, wanted, "{found:#?}");
    };
    look(format!("// a comment\n{LOW}"), [Keeps; 4]);
    look(LOW.replace("[8, 80]", "[8, 81]"), [Keeps; 4]);
    look(LOW.to_owned(), [Keeps; 4]);
    // The names of functions are in no loaded part of a program, and make it longer.
    let longer = "deeper_and_deeper_".repeat(20);
    look(LOW.replace("deeper", &longer), [Keeps, Keeps, Keeps, Passes]);
    compared(&daemon, 2);
    look(LOW.replace("{ 7 }", "{ 9 }"), [Fails; 4]);
    compared(&daemon, 3);
    // What was red has no base any more. The last one has another record, of this very program.
    look(LOW.replace("[8, 80]", "[8, 82]"), [Passes, Passes, Passes, Keeps]);
}

/// Optimized code may read a line without a function of its own for that.
#[test]
fn a_program_of_another_build_counts_by_its_lines() {
    if takes_long() || !can_observe("a program of another build") {
        return;
    }
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2024'\n[workspace]\nmembers=['tool']\n\
                    [profile.dev.package.tool]\nopt-level=2\n";
    let test = "#[test] fn says() {\n \
                let tool = concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/target/debug/tool\");\n \
                let ran = std::process::Command::new(tool).output().unwrap();\n \
                assert_eq!(String::from_utf8(ran.stdout).unwrap(), \"at 2.\\n\"); }\n";
    let tool = "// move\nfn main() { let at = std::hint::black_box(std::panic::Location::caller());\n \
                println!(\"at {}.\", at.line()); }\n";
    let mut home = Home::with(&[
        ("Cargo.toml", manifest),
        ("src/lib.rs", ""),
        ("tests/it.rs", test),
        (
            "tool/Cargo.toml",
            &LOG_MANIFEST[..LOG_MANIFEST.find("[lib]").unwrap()].replace("log", "tool"),
        ),
        ("tool/src/main.rs", tool),
    ]);
    home.environment.set("CARGO_INCREMENTAL", "1");
    home.config("[log]\nlevel = 'debug'", "debounce = '1h'\nselection = 'on'");
    assert_eq!(home.cargo(&["build", "-p", "tool"]).code, Some(0));
    let daemon = home.daemon();
    home.test(&["-p", "p"]).green_from("run");
    compared(&daemon, 1);
    home.write("tool/src/main.rs", &tool.replace("// move", MOVE.1));
    assert_eq!(home.cargo(&["build", "-p", "tool"]).code, Some(0));
    home.test(&["-p", "p"]).red();
}

#[test]
fn the_shadow_judges_started_programs_as_a_selection_would() {
    let user = "fn main() { let note = std::fs::read_to_string(\"note\").unwrap_or_default();\n \
                println!(\"at {}{note}.\", low::used(std::env::args().count())); }\n";
    let test = "#[test] fn says() {\n \
                let ran = std::process::Command::new(env!(\"CARGO_BIN_EXE_user\")).output().unwrap();\n \
                assert_eq!(String::from_utf8_lossy(&ran.stdout), \"at 7.\\n\"); }\n";
    let low = LOG_MANIFEST.replace("'log'", "'low'");
    let files = [
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", ""),
        ("src/bin/user.rs", user),
        ("log/Cargo.toml", LOG_MANIFEST),
        ("log/src/lib.rs", ""),
        ("low/Cargo.toml", &low),
        ("low/src/lib.rs", LOW),
        ("tests/direct.rs", test),
    ];
    let Some((home, daemon)) = home(&files, "exclude = ['note']") else { return };
    let record = |runs| {
        compared(&daemon, runs);
        let record = home.project_status()["selection"].clone();
        ["tests", "selected", "missed", "whole"].map(|name| record[name].as_u64().unwrap())
    };
    let moved = |lines: &str| home.write("low/src/lib.rs", &format!("{lines}{LOW}"));
    home.write("low/src/lib.rs", &LOW.replace("{ 7 }", "{ 3 + 4 - 0 }").replace("n]", "n + 0]"));
    home.test(&[]).green();
    let [tests, selected, missed, _] = record(2);
    assert_eq!((tests, selected, missed), (1, 1, 0), "other code");
    moved("pub fn first() {}\n");
    home.test(&[]).green();
    assert_eq!(record(3)[..3], [2, 2, 0], "other code again");
    moved("// lines\npub fn first() {}\n// move\n");
    home.write("tests/direct.rs", &format!("// its own lines\n{test}"));
    home.test(&[]).green();
    assert_eq!(record(4)[..3], [3, 2, 0], "lines");
    // What the settings say never decides does.
    moved("// more lines\n// move\npub fn first() {}\n");
    home.write("tests/direct.rs", test);
    home.write("note", "!");
    home.test(&[]).red();
    let found = record(5);
    assert_eq!(found[..3], [4, 2, 1], "{found:?}");
}
