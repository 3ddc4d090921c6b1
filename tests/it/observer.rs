//! The observer on real process trees: it sees every input, survives odd calls and never hangs.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod loader;
mod searches;

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use knhk_test_cache::internals::model::End;
use knhk_test_cache::internals::observer::{
    Interference, LoaderCalls, Observation, ObserveOptions, Observer, Problem, Reach, Uses,
};
use knhk_test_cache::internals::process::{Environment, Output, Spec, capture};
use knhk_test_cache::internals::workspace::PathStamp;

use crate::home::{can_observe, until};

/// No run here takes a tenth of that; one that hangs is ended and fails.
const LIMIT: Duration = Duration::from_secs(20);

/// The helper program, compiled once for all tests of this process.
fn actor() -> &'static Path {
    static ACTOR: OnceLock<PathBuf> = OnceLock::new();
    ACTOR.get_or_init(|| compile("actor", &[]))
}

fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let program = folder.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/programs/observed.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let spec = Spec::new(rustc, &folder, Environment::inherited())
        .args(["--edition=2024", "-Copt-level=1", "-o"])
        .arg(&program)
        .args(flags)
        .arg(source);
    let output = capture(&spec, crate::home::LIMIT).unwrap();
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program.canonicalize().unwrap()
}

fn spec(program: &Path, args: &[&OsStr]) -> Spec {
    let mut environment = Environment::default();
    environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
    Spec::new(program, "/", environment).args(args)
}

fn observe_spec(spec: &Spec) -> Option<(Output, Observation)> {
    if !can_observe("the observer") {
        return None;
    }
    let mut options = ObserveOptions::default();
    options.tells_panics = true;
    let (spec, running) = Observer::observe(spec, options).unwrap();
    let output = capture(&spec, LIMIT).unwrap();
    Some((output, running.finish()))
}

/// Runs the helper observed; it must succeed. `None` where nothing can be observed.
fn observe(args: &[&OsStr]) -> Option<Observation> {
    let (output, observation) = observe_spec(&spec(actor(), args))?;
    assert_eq!(output.end, End::Exit(0), "{}", String::from_utf8_lossy(&output.stderr));
    Some(observation)
}

macro_rules! observe {
    ($($arg:expr),+ $(,)?) => {
        match observe(&[$(AsRef::<OsStr>::as_ref(&$arg)),+]) {
            Some(observation) => observation,
            None => return,
        }
    };
}

#[test]
fn sources_that_a_later_process_reads_are_told_apart() {
    if !can_observe("readers of sources") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().canonicalize().unwrap();
    for name in ["own.rs", "both.rs", "below.rs", "looked.rs", "both.txt"] {
        std::fs::write(folder.join(name), "x\n").unwrap();
    }
    std::os::unix::fs::symlink("own.rs", folder.join("link")).unwrap();
    // The shell reads by itself what is redirected to its own commands.
    let script = "read a < own.rs; read a < both.rs; read a < both.txt; cat both.rs both.txt below.rs; \
                  stat looked.rs";
    let spec = |script: &str| {
        let script = format!("cd {} && {script}", folder.display());
        spec("/bin/sh".as_ref(), &["-c", &script].map(AsRef::as_ref))
    };
    let observe = |script: &str, tells_readers| {
        let mut options = ObserveOptions::default();
        options.tells_readers = tells_readers;
        let (spec, running) = Observer::observe(&spec(script), options).unwrap();
        assert_eq!(capture(&spec, LIMIT).unwrap().end, End::Exit(0));
        running.finish()
    };
    let below = |seen: &Observation| -> Vec<String> {
        let below = seen.used(Uses::READ_BELOW).map(|(path, _)| path.file_name().unwrap());
        below.map(|name| name.to_string_lossy().into_owned()).collect()
    };
    assert_eq!(below(&observe(script, true)), ["below.rs", "both.rs", "looked.rs"]);
    assert_eq!(below(&observe(script, false)), [""; 0]);
    let by_link = "read a < link; cat link";
    assert_eq!(below(&observe(by_link, true)), ["own.rs"]);
}

struct Folder(PathBuf, #[expect(dead_code, reason = "removes the folder")] tempfile::TempDir);

fn folder() -> Folder {
    let dir = tempfile::tempdir().unwrap();
    Folder(dir.path().canonicalize().unwrap(), dir)
}

impl Folder {
    fn file(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, "content").unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn uses(observation: &Observation, path: &Path) -> Uses {
    observation.paths.get(path).map(|seen| seen.uses).unwrap_or_default()
}

fn complete(observation: &Observation) {
    assert!(observation.is_complete(), "{:?}", observation.problems);
}

#[test]
fn an_ordinary_run_is_complete_and_names_its_program_and_loader() {
    let seen = observe!("nothing");
    complete(&seen);
    assert_eq!(uses(&seen, actor()), Uses::EXECUTED);
    assert!(!seen.reads(actor()));
    assert!(seen.peers.is_empty() && !seen.left_behind);
    let libraries = seen.inputs().filter(|(path, _)| path.to_string_lossy().contains("libc.so"));
    assert!(libraries.count() >= 1);
}

#[test]
fn reading_probing_listing_and_absence_are_told_apart() {
    let dir = folder();
    let (a, b, none) = (dir.file("a"), dir.file("b"), dir.path("none/x"));
    let before = PathStamp::of(&a);
    let seen = observe!("read", a, none);
    complete(&seen);
    assert_eq!(uses(&seen, &a), Uses::READ);
    assert_eq!(seen.paths[&a].first, before);
    assert!(seen.absent().any(|path| path == none));
    assert_eq!(uses(&observe!("stat", b), &b), Uses::PROBED);
    let seen = observe!("list", dir.0);
    assert_eq!(uses(&seen, &dir.0), Uses::LISTED.with(Uses::PROBED));
}

#[test]
fn symlinks_on_the_way_are_inputs_with_their_text() {
    let dir = folder();
    let file = dir.file("real");
    symlink("real", dir.path("link")).unwrap();
    let seen = observe!("read", dir.path("link"));
    assert_eq!(uses(&seen, &file), Uses::READ);
    assert_eq!(uses(&seen, &dir.path("link")), Uses::FOLLOWED);
    assert_eq!(seen.paths[&dir.path("link")].text.as_deref(), Some(&b"real"[..]));
    let seen = observe!("readlink", dir.path("link"));
    assert_eq!(uses(&seen, &dir.path("link")), Uses::FOLLOWED);
    assert_eq!(uses(&seen, &file), Uses::default());
}

#[test]
fn only_the_name_of_a_file_that_the_run_made_is_an_input() {
    let dir = folder();
    let seen = observe!("write-then-read", dir.path("new"));
    complete(&seen);
    assert_eq!(uses(&seen, &dir.path("new")), Uses::CREATED.with(Uses::OVERWRITTEN));
    // The folder's permissions decide whether that can be done.
    assert_eq!(uses(&seen, &dir.0), Uses::PROBED);
}

#[test]
fn every_way_to_name_a_file_leads_to_it() {
    let dir = folder();
    let file = dir.file("f");
    symlink("/f", dir.path("inside")).unwrap();
    for args in [
        &["chdir-read".as_ref(), dir.0.as_os_str(), "f".as_ref()][..],
        &["dirfd-read".as_ref(), dir.0.as_os_str(), "f".as_ref()],
        &["openat2".as_ref(), file.as_os_str()],
        &["in-root".as_ref(), dir.0.as_os_str(), "/inside".as_ref()],
        &["own-descriptor".as_ref(), file.as_os_str()],
        &["clone3".as_ref(), file.as_os_str()],
        &["threads".as_ref(), "3000".as_ref(), file.as_os_str()],
        &["exec".as_ref(), actor().as_os_str(), "read".as_ref(), file.as_os_str()],
        &["spawn".as_ref(), actor().as_os_str(), "read".as_ref(), file.as_os_str()],
        &["orphan".as_ref(), file.as_os_str(), dir.path("done").as_os_str()],
    ] {
        let Some(seen) = observe(args) else { return };
        if args[0] != "orphan" {
            complete(&seen);
        }
        assert!(uses(&seen, &file).contains(Uses::READ), "{args:?}: {:?}", seen.paths.get(&file));
        let _ = std::fs::remove_file(dir.path("done"));
    }
}

#[test]
fn a_static_program_is_observed() {
    let program = compile("static", &["-Ctarget-feature=+crt-static"]);
    let dir = folder();
    let file = dir.file("f");
    let spec = spec(&program, &["read".as_ref(), file.as_ref()]);
    let Some((output, seen)) = observe_spec(&spec) else { return };
    assert!(output.success());
    complete(&seen);
    assert_eq!(uses(&seen, &file), Uses::READ);
    assert_eq!(uses(&seen, &program), Uses::EXECUTED);
}

#[test]
fn a_script_counts_with_its_interpreter() {
    let dir = folder();
    let script = dir.path("script");
    std::fs::write(&script, "#!/bin/sh\ncat \"$1\"\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let file = dir.file("f");
    let Some((output, seen)) = observe_spec(&spec(&script, &[file.as_ref()])) else { return };
    assert_eq!(output.stdout, b"content");
    complete(&seen);
    let shell = Path::new("/bin/sh").canonicalize().unwrap();
    assert!(uses(&seen, &shell).contains(Uses::EXECUTED));
    assert!(uses(&seen, &script).contains(Uses::EXECUTED.with(Uses::READ)));
    let cat = Path::new("/bin/cat").canonicalize().unwrap();
    assert!(uses(&seen, &cat).contains(Uses::EXECUTED));
    assert_eq!(uses(&seen, &file), Uses::READ);
}

#[test]
fn a_panic_is_seen_at_the_error_output_alone() {
    let quiet = [
        observe!("nothing"),
        observe!("complain", "a warning"),
        observe!("complain-in-parts", "a ", "warning"),
        observe!("exec", "/bin/sh", "-c", "echo panicked"),
    ];
    assert_eq!(quiet.map(|observation| observation.panicked), [false; 4]);
    let seen = [
        observe!("complain", "thread 'main' panicked at a.rs:1:2:"),
        observe!("complain-in-parts", "thread 'main'", "a panic"),
        observe!("complain-at-length"),
        observe!("panic-at-length"),
        observe!("exec", "/bin/sh", "-c", "exec $0 complain panicked 2>/dev/null", actor()),
    ];
    assert_eq!(seen.map(|observation| observation.panicked), [true; 5]);
}

#[test]
fn a_program_that_reads_itself_is_reported() {
    assert!(observe!("own-program").reads(actor()));
    assert!(observe!("read", actor()).reads(actor()));
}

#[test]
fn untraceable_calls_make_the_observation_incomplete() {
    let dir = folder();
    assert!(observe!("io-uring").problems.contains(&Problem::IoUring));
    let seen = observe!("memory", actor());
    assert_eq!(seen.problems, [Problem::Nameless("a program in memory")].into());
    assert!(observe!("unborn-call").problems.contains(&Problem::Call(511)));
    if rustix::process::geteuid().is_root() {
        let seen = observe!("chroot", dir.0);
        assert!(seen.problems.contains(&Problem::Namespace("chroot")));
    }
    std::fs::create_dir(dir.path("gone")).unwrap();
    assert!(observe!("lost-folder", dir.path("gone")).problems.contains(&Problem::LostFolder));
    let seen = observe!("deep", dir.0);
    assert!(seen.problems.contains(&Problem::TooLong), "{:?}", seen.problems);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_another_architecture_make_the_observation_incomplete() {
    assert!(observe!("x32").problems.contains(&Problem::Architecture));
    let Some((output, seen)) = observe_spec(&spec(actor(), &["int80".as_ref()])) else { return };
    // A kernel without 32-bit emulation kills it.
    if output.success() {
        assert!(seen.problems.contains(&Problem::Architecture));
    }
}

#[test]
fn interference_by_the_observation_is_reported() {
    assert!(observe!("seccomp").interference.contains(&Interference::Seccomp));
    assert!(observe!("landlock").interference.contains(&Interference::Landlock));
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = folder();
    let program = dir.path("privileged");
    std::fs::copy("/bin/true", &program).unwrap();
    std::os::unix::fs::chown(&program, Some(1), None).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).unwrap();
    let seen = observe!("exec", program);
    assert!(seen.interference.contains(&Interference::Privileges(program)));
}

#[test]
fn sockets_of_the_run_are_told_from_those_outside() {
    let dir = folder();
    let seen = observe!("loopback", dir.path("socket"));
    complete(&seen);
    assert!(seen.peers.is_empty(), "{:?}", seen.peers);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let reach = |seen: &Observation| seen.peers.iter().map(|peer| peer.reach).collect::<Vec<_>>();
    assert_eq!(reach(&observe!("connect", address)), [Reach::Outside]);
    drop(listener);
    // A child that another test starts at this moment has it open until it is its program.
    let is_refused = || std::net::TcpStream::connect(&address).is_err().then_some(());
    until("nobody listens any more", is_refused);
    assert_eq!(reach(&observe!("connect", address)), [Reach::Nobody]);
    let path = dir.path("outside");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(reach(&observe!("connect-path", path)), [Reach::Outside]);
    let seen = observe!("connect-path", dir.path("nobody"));
    assert!(seen.peers.is_empty() && seen.absent().any(|path| path == dir.path("nobody")));
}

#[test]
fn whether_addresses_of_version_6_are_off_is_an_input_of_what_uses_one() {
    let off = Path::new("/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    let is_asked = |seen: &Observation| match off.exists() {
        true => seen.paths.get(off).is_some_and(|seen| seen.text.is_some()),
        false => seen.absent().any(|path| path == off),
    };
    assert!(is_asked(&observe!("connect", "[::1]:9")));
    assert!(is_asked(&observe!("bind", "[::1]:0")));
    assert!(!is_asked(&observe!("connect", "127.0.0.1:9")));
    assert!(!is_asked(&observe!("bind", "127.0.0.1:0")));
}

#[test]
fn odd_names_and_bad_pointers_behave_as_unobserved() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = folder();
    let file = dir.file("f");
    let odd = dir.0.join(OsStr::from_bytes(b"\xff\xfe"));
    std::fs::write(&odd, "").unwrap();
    let seen = observe!("names", dir.0);
    complete(&seen);
    assert_eq!(uses(&seen, &odd), Uses::READ);
    let seen = observe!("bad-pointers", file);
    complete(&seen);
    assert_eq!(uses(&seen, &file), Uses::READ);
}

#[test]
fn signals_do_not_interrupt_what_they_did_not_interrupt_before() {
    let dir = folder();
    let file = dir.file("f");
    let seen = observe!("signals", file);
    complete(&seen);
    assert!(seen.calls >= 20_000);
}

#[test]
fn a_storm_of_calls_passes() {
    let dir = folder();
    let (a, b) = (dir.file("a"), dir.path("b"));
    let seen = observe!("storm", "100000", a, b);
    complete(&seen);
    assert!(seen.calls >= 100_000);
    assert_eq!(uses(&seen, &a), Uses::PROBED);
}

#[test]
fn a_path_that_only_the_run_itself_can_fill_in_does_not_hang_it() {
    let dir = folder();
    let file = dir.file("f");
    let args = ["fault".as_ref(), file.as_os_str()];
    let Some((output, seen)) = observe_spec(&spec(actor(), &args)) else { return };
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    if output.stdout != b"skipped\n" {
        assert!(seen.problems.contains(&Problem::Stuck), "{:?}", seen.problems);
    }
}

#[test]
fn a_process_left_behind_is_answered_while_another_of_its_calls_is_stuck() {
    let dir = folder();
    let (go, done) = (dir.path("go"), dir.path("done"));
    let args = ["left-behind-stuck".as_ref(), go.as_os_str(), done.as_os_str()];
    let Some((output, seen)) = observe_spec(&spec(actor(), &args)) else { return };
    assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(&go, "").unwrap();
    until("the process has done its work", || done.exists().then_some(()));
    if output.stdout != b"skipped\n" {
        assert!(seen.problems.contains(&Problem::Stuck), "{:?}", seen.problems);
    }
}

#[test]
fn a_name_through_a_folder_that_is_made_later_is_looked_at_again() {
    let dir = folder();
    let (way, file) = (dir.path("way"), dir.file("f"));
    let seen = observe!("make-way", way, "f");
    complete(&seen);
    assert_eq!(uses(&seen, &file), Uses::PROBED);
}

#[test]
fn a_question_about_the_current_folder_itself_is_recorded() {
    let dir = folder();
    let inner = dir.path("inner");
    std::fs::create_dir(&inner).unwrap();
    let spec = Spec::new(actor(), &inner, Environment::default()).arg("here");
    let Some((output, seen)) = observe_spec(&spec) else { return };
    assert!(output.success());
    complete(&seen);
    assert_eq!(uses(&seen, &inner), Uses::PROBED);
}

#[test]
fn a_process_left_behind_lives_on_after_the_observation() {
    let dir = folder();
    let (go, done) = (dir.path("go"), dir.path("done"));
    let seen = observe!("left-behind", go, done);
    assert!(seen.left_behind);
    std::fs::write(&go, "").unwrap();
    let deadline = Instant::now() + LIMIT;
    while !done.exists() {
        assert!(Instant::now() < deadline, "its calls are answered for ever");
        std::thread::yield_now();
    }
}

#[test]
fn a_silent_process_left_behind_does_not_hold_the_observation() {
    if !can_observe("the observer") {
        return;
    }
    let script = "sleep 1000 <&- >&- 2>&- & echo $!";
    let spec = spec(Path::new("/bin/sh"), &["-c".as_ref(), script.as_ref()]);
    let (output, seen) = observe_spec(&spec).unwrap();
    complete(&seen);
    assert!(seen.left_behind);
    let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let alive = Path::new("/proc").join(&pid).exists();
    let ended = capture(&self::spec(Path::new("/bin/kill"), &[pid.as_ref()]), LIMIT).unwrap();
    assert!(alive && ended.success());
}

#[test]
fn a_name_that_a_pending_link_changes_is_looked_up_again() {
    let dir = folder();
    let file = dir.file("real");
    for _ in 0..20 {
        let link = dir.path("link");
        let seen = observe!("poll-link", file, link);
        complete(&seen);
        assert!(seen.reads(&file), "read through the link");
        std::fs::remove_file(link).unwrap();
    }
}

#[test]
fn a_run_that_is_ended_ends_its_observation() {
    if !can_observe("the observer") {
        return;
    }
    let spec = spec(Path::new("/bin/sh"), &["-c".as_ref(), "sleep 1000".as_ref()]);
    let (spec, running) = Observer::observe(&spec, ObserveOptions::default()).unwrap();
    let output = capture(&spec, Duration::from_millis(100)).unwrap();
    assert_eq!(output.end, End::TimedOut);
    let seen = running.finish();
    assert!(!seen.left_behind);
}

#[test]
fn an_observation_of_an_unstarted_program_is_incomplete() {
    if !can_observe("the observer") {
        return;
    }
    let spec = spec(Path::new("/no/such/program"), &[]);
    let (spec, running) = Observer::observe(&spec, ObserveOptions::default()).unwrap();
    assert!(capture(&spec, LIMIT).is_err());
    let seen = running.finish();
    assert!(seen.absent().any(|path| path == Path::new("/no/such/program")));
    let (_, running) = Observer::observe(&spec, ObserveOptions::default()).unwrap();
    assert!(!running.finish().is_complete());
}
