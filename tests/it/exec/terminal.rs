//! A run under `exec` has the terminal, standard input, signals and parent that it has without it.

#![expect(clippy::disallowed_methods, reason = "terminals and signals need the process itself")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{built, cargo};
use crate::home::{EXE, Home, LIMIT, SOON, skip, until};

/// A terminal with a process in it, to which it belongs.
pub(crate) struct Terminal {
    child: Child,
    pub(crate) typed: File,
    shown: std::thread::JoinHandle<String>,
}

impl Terminal {
    #[expect(unsafe_code, reason = "a controlling terminal is had between fork and exec")]
    pub(crate) fn start(home: &Home, program: &str, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let slave = File::from(rustix::fs::open(&*name, flags, Mode::empty()).unwrap());
        let size = Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(&home.root).env_clear().envs(home.environment.iter());
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        // SAFETY: two calls that are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().unwrap();
        // The slave is open in here until then.
        drop(command);
        let typed = File::from(master);
        let mut master = typed.try_clone().unwrap();
        let shown = std::thread::spawn(move || {
            let (mut all, mut piece) = (Vec::new(), [0; 4096]);
            // The end of all that is in it is an error.
            while let Ok(count @ 1..) = master.read(&mut piece) {
                all.extend_from_slice(&piece[..count]);
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        Self { child, typed, shown }
    }

    /// The text on the terminal, and the exit status.
    pub(crate) fn end(mut self) -> (String, ExitStatus) {
        let status = end_of(&mut self.child);
        (self.shown.join().unwrap(), status)
    }
}

fn end_of(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + LIMIT;
    until("the process ends", || {
        if Instant::now() + Duration::from_secs(1) > deadline {
            let _ = child.kill();
        }
        child.try_wait().unwrap()
    })
}

/// The program of an integration test; sets the variables that cargo sets.
fn program(home: &mut Home, test: &str) -> String {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let deps = fs::read_dir(home.root.join("target/debug/deps")).unwrap();
    let mut paths = deps.map(|entry| entry.unwrap().path());
    let is_program =
        |path: &PathBuf| name(path).starts_with(&format!("{test}-")) && path.extension().is_none();
    home.environment.set("CARGO_MANIFEST_DIR", home.root.clone());
    home.environment.set("CARGO_PKG_NAME", "p");
    paths.find(is_program).unwrap().to_str().unwrap().to_owned()
}

/// Has libtest print in colour, if the system knows how.
fn with_colours(home: &mut Home) -> bool {
    home.environment.set("TERM", "xterm");
    let known = ["/etc/terminfo", "/lib/terminfo", "/usr/share/terminfo"]
        .iter()
        .any(|folder| Path::new(folder).join("x/xterm").exists());
    if !known {
        skip("exec in colour", "the system has no description of a terminal");
    }
    known
}

const PARENT: &str = "fn parent() -> String {\n\
    let path = format!(\"/proc/{}/comm\", std::os::unix::process::parent_id());\n\
    std::fs::read_to_string(path).unwrap().trim().to_owned() }\n";

#[test]
fn the_run_owns_the_terminal() {
    let test = "use std::io::{IsTerminal, stderr, stdin, stdout};\n\
                #[test] fn t() { assert!(stdin().is_terminal() && stderr().is_terminal());\n\
                assert!(std::fs::File::open(\"/dev/tty\").is_ok());\n\
                eprintln!(\"stdout {}\", stdout().is_terminal()); }\n";
    let Some(mut home) = built(&[("tests/tty.rs", test)]) else { return };
    if !with_colours(&mut home) {
        return;
    }
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    let ask = |more: &[&str]| {
        let args = [&["--config", &runner, "test", "-q", "--test", "tty"], more].concat();
        let (shown, status) = Terminal::start(&home, "cargo", &args).end();
        assert_eq!(status.code(), Some(0), "{shown}");
        shown
    };
    // In colour, which libtest would not do for a pipe.
    let first = ask(&["--", "--format", "pretty"]);
    assert!(first.contains("test t ... \u{1b}["), "{first}");
    let second = ask(&["--", "--format", "pretty"]);
    assert!(second.contains("is cached:") && second.contains("test t ... \u{1b}["), "{second}");
    // What a test shows is shown again, by whichever of the two streams.
    for is_cached in [false, true] {
        let shown = ask(&["--", "--nocapture"]);
        assert!(shown.contains("stdout true"), "{shown}");
        assert_eq!(shown.contains("is cached:"), is_cached, "{shown}");
    }
}

#[test]
fn a_captured_test_has_a_terminal_of_the_same_size_and_its_output_is_not_changed() {
    let test = "use std::io::{IsTerminal, stdout};\n\
                #[test] fn t() { assert!(stdout().is_terminal());\n\
                let size = std::process::Command::new(\"stty\").arg(\"size\")\n\
                .stdin(std::fs::File::open(\"/proc/self/fd/1\").unwrap()).output().unwrap();\n\
                assert_eq!(String::from_utf8(size.stdout).unwrap(), \"33 77\\n\"); }\n";
    let Some(mut home) = built(&[("tests/tty.rs", test)]) else { return };
    let program = program(&mut home, "tty");
    let ask = || {
        let terminal = Terminal::start(&home, EXE, &["exec", &program]);
        let (shown, status) = terminal.end();
        assert_eq!(status.code(), Some(0), "{shown}");
        assert!(shown.contains("running 1 test\r\n") && !shown.contains("\r\r"), "{shown:?}");
        shown
    };
    assert!(!ask().contains("is cached:"));
    assert!(ask().contains("is cached:"));
}

#[test]
fn a_killed_exec_leaves_nothing_that_its_test_started() {
    let test = "#[test] fn t() {\n\
        let child = std::process::Command::new(\"sleep\").arg(\"1000\").spawn().unwrap();\n\
        std::fs::write(std::env::var(\"MARK\").unwrap(), child.id().to_string()).unwrap();\n\
        std::thread::sleep(std::time::Duration::MAX) }\n";
    let Some(mut home) = built(&[("tests/starts.rs", test)]) else { return };
    let mark = home.base.join("out/mark");
    home.environment.set("MARK", &mark);
    let program = program(&mut home, "starts");
    let mut command = Command::new(EXE);
    command.args(["exec", &program]).current_dir(&home.root);
    command.env_clear().envs(home.environment.iter());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    until("the test has started its child", || fs::read_to_string(&mark).ok()?.parse::<i32>().ok());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(home.left_over(), Vec::<String>::new());
}

#[test]
fn a_record_from_a_terminal_keeps_its_colours() {
    let Some(mut home) = built(&[]) else { return };
    if !with_colours(&mut home) {
        return;
    }
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    let ask = || Terminal::start(&home, "cargo", &["--config", &runner, "test"]).end();
    let (first, status) = ask();
    assert_eq!(status.code(), Some(0), "{first}");
    let (second, status) = ask();
    assert_eq!(status.code(), Some(0), "{second}");
    assert!(!first.contains("is cached:") && second.contains("is cached:"), "{first}{second}");
    for shown in [first, second] {
        assert!(shown.contains("test one ... \u{1b}["), "{shown:?}");
    }
    // Not for a pipe.
    assert!(!cargo(&home, &["test"]).is(0, 0).stdout.contains('\u{1b}'));
}

#[test]
fn the_run_owns_standard_input() {
    let read = "std::io::read_to_string(std::io::stdin()).unwrap()";
    let test = format!("#[test] fn t() {{ assert_eq!({read}, \"typed\") }}\n");
    let main = format!("fn main() {{ print!(\"<{{}}>\", {read}) }}\n");
    let Some(home) = built(&[("tests/it.rs", &test), ("src/main.rs", &main)]) else { return };
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    let typed = home.base.join("out/typed");
    fs::write(&typed, "typed").unwrap();
    let ask = |args: &[&str], piped: bool| {
        let mut command = Command::new("cargo");
        command.args(["--config", &runner]).args(args).current_dir(&home.root);
        command.env_clear().envs(home.environment.iter());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if piped { Stdio::piped() } else { File::open(&typed).unwrap().into() });
        let mut child = command.spawn().unwrap();
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(b"typed").unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for piped in [false, true, false, true] {
        let (code, stdout, stderr) = ask(&["test", "--test", "it"], piped);
        assert_eq!((code, stderr.contains("is cached:")), (Some(0), false), "{stdout}{stderr}");
        let (code, stdout, stderr) = ask(&["run", "-q"], piped);
        assert_eq!((code, &*stdout), (Some(0), "<typed>"), "{stderr}");
    }
}

/// Says so below `MARK`, and waits.
const WAITS: &str = "#[test] fn t() {\n\
    std::fs::write(std::env::var(\"MARK\").unwrap(), \"\").unwrap();\n\
    std::thread::sleep(std::time::Duration::MAX) }\n";

#[test]
fn ctrl_c_ends_the_run_as_it_would_without_us() {
    let Some(mut home) = built(&[("tests/waits.rs", WAITS)]) else { return };
    let mark = home.base.join("out/mark");
    home.environment.set("MARK", &mark);
    let program = program(&mut home, "waits");
    let mut terminal = Terminal::start(&home, EXE, &["exec", &program]);
    until("the test waits", || mark.exists().then_some(()));
    terminal.typed.write_all(b"\x03").unwrap();
    let (shown, status) = terminal.end();
    assert_eq!(status.signal(), Some(libc::SIGINT), "{shown}");
    assert_eq!(home.left_over(), Vec::<String>::new());
    // An interrupted run is no verdict about its tests.
    assert_eq!(home.records(), 0);
}

#[test]
fn a_signal_to_the_group_is_the_status() {
    let Some(mut home) = built(&[("tests/waits.rs", WAITS)]) else { return };
    let mark = home.base.join("out/mark");
    home.environment.set("MARK", &mark);
    let program = program(&mut home, "waits");
    for (signal, number) in [(Signal::INT, libc::SIGINT), (Signal::TERM, libc::SIGTERM)] {
        let _ = fs::remove_file(&mark);
        let mut command = Command::new(EXE);
        command.args(["exec", &program]).current_dir(&home.root).process_group(0);
        command.env_clear().envs(home.environment.iter());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        until("the test waits", || mark.exists().then_some(()));
        kill_process_group(Pid::from_child(&child), signal).unwrap();
        let since = Instant::now();
        assert_eq!(end_of(&mut child).signal(), Some(number));
        assert!(since.elapsed() < SOON);
        assert_eq!(home.left_over(), Vec::<String>::new());
    }
}

#[test]
fn the_exit_status_is_that_of_the_program() {
    let files = [
        ("tests/fails.rs", "#[test] fn t() { panic!() }\n"),
        ("tests/exits.rs", "#[test] fn t() { std::process::exit(3) }\n"),
    ];
    let Some(mut home) = built(&files) else { return };
    for (test, code) in [("fails", 101), ("exits", 3)] {
        let program = program(&mut home, test);
        for _ in 0..2 {
            let ran = home.run(&["exec", &program]);
            assert_eq!(ran.code, Some(code), "{ran:#?}");
        }
    }
}

#[test]
fn a_passed_through_program_is_a_child_of_cargo() {
    let says = format!("{PARENT}fn main() {{ println!(\"of {{}}\", parent()) }}\n");
    let test = format!("{PARENT}#[test] fn t() {{ eprintln!(\"of {{}}\", parent()) }}\n");
    let manifest = "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n\
                    [[bench]]\nname='b'\nharness=false\n";
    let files = [
        ("Cargo.toml", manifest),
        ("benches/b.rs", &says),
        ("src/main.rs", &says),
        ("tests/it.rs", &test),
    ];
    let Some(mut home) = built(&files) else { return };
    for args in [&["run", "-q"][..], &["bench", "--bench", "b"], &["test", "--bench", "b"]] {
        for _ in 0..2 {
            // Without us it is cargo's own, or cargo becomes it.
            let plain = home.start("cargo", args).end(LIMIT);
            assert!(plain.stdout.contains("of "), "{args:?}: {plain:#?}");
            assert_eq!(cargo(&home, args).is(0, 0).stdout, plain.stdout, "{args:?}");
        }
    }
    let shown = ["test", "--test", "it", "--", "--nocapture"];
    let ran = cargo(&home, &shown);
    assert!(ran.is(0, 0).stderr.contains("of knhk-test-cach"), "{ran:#?}");
    home.environment.set("KNHK_TEST_CACHE_EXEC", "off");
    for _ in 0..2 {
        let ran = cargo(&home, &shown);
        assert!(ran.is(0, 0).stderr.contains("of cargo\n"), "{ran:#?}");
    }
}

#[test]
fn shown_output_is_shown_again() {
    let test = "#[test] fn t() { println!(\"said aloud\") }\n";
    let Some(home) = built(&[("tests/it.rs", test)]) else { return };
    let shown = ["test", "--test", "it", "--", "--nocapture"];
    let first = cargo(&home, &shown);
    assert!(first.is(0, 0).stdout.contains("said aloud"), "{first:#?}");
    assert_eq!(cargo(&home, &shown).is(0, 1).stdout, first.stdout);
}
