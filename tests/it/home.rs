//! A user with temporary folders (home, config, records, runtime folder, a workspace) who runs the
//! real command and its daemon.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use knhk_test_cache::internals::client::Connection;
use knhk_test_cache::internals::observer::{Observer, Unavailable};
use knhk_test_cache::internals::paths::Paths;
use knhk_test_cache::internals::process::Environment;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::results::Results;

/// Long enough for a build on a machine that has other things to do.
pub(crate) const LIMIT: Duration = Duration::from_secs(240);

/// The limit for a process that should end at once: several times the grace of a child.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The command under test.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_knhk-test-cache");

/// The user's folders and environment.
pub(crate) struct Home {
    pub(crate) base: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) environment: Environment,
    // The last field: dropped after everything that uses the folder.
    _dir: tempfile::TempDir,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit status; none if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ran {
    /// As cargo's output, both streams in one.
    pub(crate) fn results(&self) -> Results {
        // The target of this name in the generated workspace has a harness of its own.
        let results = Results::of_cargo(self.code, &self.stdout, &["custom"]);
        let red = !results.failed.is_empty();
        assert!(results.error || (self.code == Some(0)) != red, "{self:#?}");
        results
    }
}

/// The output of `test --format json`.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) ran: Ran,
    pub(crate) targets: Vec<Value>,
    pub(crate) summary: Value,
}

impl Answered {
    pub(crate) fn verdict(&self) -> &str {
        self.summary["verdict"].as_str().unwrap()
    }

    pub(crate) fn source(&self) -> &str {
        self.summary["source"].as_str().unwrap()
    }

    pub(crate) fn code_hash(&self) -> &str {
        self.summary["code_hash"].as_str().unwrap_or("unknown")
    }

    pub(crate) fn count(&self, what: &str) -> u64 {
        self.summary[what].as_u64().unwrap()
    }

    /// The results in the form that cargo's output is read into.
    pub(crate) fn results(&self) -> Results {
        let results = Results::of_answer(&self.targets, &self.summary);
        let red = !results.failed.is_empty();
        assert_eq!(self.verdict() == "fail", red, "{self:#?}");
        results
    }

    /// Asserts a green answer and where it came from.
    #[track_caller]
    pub(crate) fn green_from(&self, source: &str) {
        assert_eq!((self.verdict(), self.source()), ("pass", source), "{self:#?}");
        assert_eq!(self.ran.code, Some(0), "{self:#?}");
    }

    /// Asserts a green answer from any source.
    #[track_caller]
    pub(crate) fn green(&self) {
        assert_eq!((self.verdict(), self.ran.code), ("pass", Some(0)), "{self:#?}");
    }

    /// The targets that were run, by name; doctests are `p (doc)`.
    pub(crate) fn run(&self) -> Vec<String> {
        let ran = self.targets.iter().filter(|target| target["source"] == "run");
        ran.map(|target| {
            let name = target["target"].as_str().unwrap();
            if target["kind"] == "doc" { format!("{name} (doc)") } else { name.to_owned() }
        })
        .collect()
    }

    /// Asserts that tests failed.
    #[track_caller]
    pub(crate) fn red(&self) {
        assert_eq!((self.verdict(), self.ran.code), ("fail", Some(101)), "{self:#?}");
    }

    /// Asserts that there was no verdict; gives the reason.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        assert_eq!((self.verdict(), self.ran.code), ("error", Some(101)), "{self:#?}");
        self.summary["error"].as_str().unwrap()
    }
}

/// A process under way, in a group of its own; the group is killed when this is dropped.
pub(crate) struct Started {
    child: std::process::Child,
    out: PathBuf,
    err: PathBuf,
    since: Instant,
    done: bool,
}

impl Home {
    /// A user with an empty workspace folder.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("ws");
        for name in ["ws", "home", "config", "cache", "run", "out"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        fs::set_permissions(base.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        Self { environment: machine(&base), base, root, _dir: dir }
    }

    /// A user with a workspace of these files (relative to it), one of one package `p` with two
    /// tests unless they say otherwise.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let home = Self::new();
        let manifest =
            "[package]\nname='p'\nversion='0.1.0'\nedition='2021'\n[lib]\ndoctest=false\n";
        home.write("Cargo.toml", manifest);
        home.write("src/lib.rs", "#[test] fn one() {}\n#[test] fn two() {}\n");
        home.write(".gitignore", "/target\n");
        files.iter().for_each(|(path, text)| home.write(path, text));
        home
    }

    /// Writes a file, relative to the workspace.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes the config: `text`, and the workspace as the one project with `settings`. The state of
    /// this machine changes nothing unless `text` has a `[background]` table, and no test runs in the
    /// background unless `settings` say so.
    pub(crate) fn config(&self, text: &str, settings: &str) {
        let asked =
            if settings.contains("background_tests") { "" } else { "background_tests=false" };
        let file = self.config_file();
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let calm = "[background]\non_battery='run'\npower_save='run'\nmemory_pressure='0%'\n\
                    processors_busy='run'\n";
        let calm = if text.contains("[background]") { "" } else { calm };
        let text =
            format!("{text}\n{calm}[[project]]\npath = {:?}\n{asked}\n{settings}\n", self.root);
        // A rename, as editors save: the daemon never sees half of the file.
        let fresh = file.with_extension("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, file).unwrap();
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.paths().config_file
    }

    pub(crate) fn paths(&self) -> Paths {
        Paths::from_environment(&self.environment).unwrap()
    }

    /// A connection to the daemon.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.paths().socket()).unwrap().expect("no daemon")
    }

    /// Starts a program in the workspace.
    pub(crate) fn start(&self, program: &str, args: &[&str]) -> Started {
        self.start_in(&self.root, program, args, false)
    }

    /// The same in `dir`. `merged`: both streams into one file, in the order of writing.
    #[expect(clippy::disallowed_methods, reason = "signals need the process itself, not its end")]
    pub(crate) fn start_in(
        &self,
        dir: &Path,
        program: &str,
        args: &[&str],
        merged: bool,
    ) -> Started {
        use std::os::unix::process::CommandExt as _;
        let file = || {
            let file = tempfile::NamedTempFile::new_in(self.base.join("out")).unwrap();
            file.keep().unwrap()
        };
        let (stdout, out) = file();
        let (stderr, err) =
            if merged { (stdout.try_clone().unwrap(), out.clone()) } else { file() };
        let mut command = std::process::Command::new(program);
        command
            .args(args)
            .current_dir(dir)
            .env_clear()
            .envs(self.environment.iter())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr);
        let deadline = Instant::now() + SOON;
        let child = loop {
            match command.spawn() {
                // A child that another test starts at this moment has the program open for writing
                // until it is its own program.
                Err(error)
                    if error.kind() == ErrorKind::ExecutableFileBusy
                        && Instant::now() < deadline =>
                {
                    rest(Duration::from_millis(2));
                }
                child => break child,
            }
        };
        let child = child.unwrap_or_else(|error| panic!("{program}: {error}"));
        Started { child, out, err, since: Instant::now(), done: false }
    }

    /// Runs the command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.start(EXE, args).end(LIMIT)
    }

    /// Runs it with success; gives standard output.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:#?}");
        ran.stdout
    }

    /// `test --format json` and more.
    #[track_caller]
    pub(crate) fn test(&self, args: &[&str]) -> Answered {
        answered(self.run(&[&["test", "--format", "json"], args].concat()))
    }

    /// The real cargo, both streams in the order in which they were written.
    pub(crate) fn cargo(&self, args: &[&str]) -> Ran {
        self.start_in(&self.root, "cargo", args, true).end(LIMIT)
    }

    /// Git with success.
    #[track_caller]
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let ran = self.start("git", args).end(LIMIT);
        assert_eq!(ran.code, Some(0), "git {args:?}: {ran:#?}");
        ran.stdout
    }

    /// Starts the daemon; it can answer when this returns.
    pub(crate) fn daemon(&self) -> Started {
        let mut daemon = self.start(EXE, &["daemon"]);
        until("the daemon is ready", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended: {status}\n{}", daemon.stderr());
            }
            let status = self.status();
            let read =
                |project: &Value| project["state"] == "missing" || project["watch"] != "starting";
            let projects = status["projects"].as_array().unwrap();
            (status["running"] == true && projects.iter().all(read)).then_some(())
        });
        daemon
    }

    /// The output of `status`.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--format", "json"])).unwrap()
    }

    /// The status of the workspace.
    pub(crate) fn project_status(&self) -> Value {
        self.status()["projects"][0].clone()
    }

    /// The number of records.
    pub(crate) fn records(&self) -> u64 {
        let stats: Value =
            serde_json::from_str(&self.ok(&["cache", "stats", "--format", "json"])).unwrap();
        stats["entries"].as_u64().unwrap()
    }

    /// The processes that are left a moment after the end and have this user's runtime folder in
    /// their environment, which no change of group hides.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let found = self.processes();
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            rest(Duration::from_millis(10));
        }
    }

    /// The command lines of this home's processes, except for the guardians: one waits beside each
    /// process of ours that has started children, and ends with it.
    fn processes(&self) -> Vec<String> {
        let mark = format!("XDG_RUNTIME_DIR={}", self.base.join("run").display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let ours = environment.split(|byte| *byte == 0).any(|var| var == mark.as_bytes());
            let name = fs::read(entry.path().join("comm")).unwrap_or_default();
            if ours && name.trim_ascii() != b"knhk-guardian" {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push(String::from_utf8_lossy(&line).replace('\0', " "));
            }
        }
        found
    }
}

impl Started {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(&self.err).unwrap_or_default()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end.
    pub(crate) fn end(mut self, limit: Duration) -> Ran {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_micros(200);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    let (out, err) = (fs::read_to_string(&self.out), self.stderr());
                    panic!("still running after {limit:?}:\n{out:?}\n{err}");
                }
                None => {
                    rest(pause);
                    pause = (pause * 2).min(Duration::from_millis(10));
                }
            }
        };
        self.done = true;
        let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        let ran = Ran {
            code: status.code(),
            stdout: text(&self.out),
            stderr: text(&self.err),
            took: self.since.elapsed(),
        };
        assert!(status.code().is_some() || status.signal().is_some());
        ran
    }

    /// Ends a daemon as its supervisor does.
    #[track_caller]
    pub(crate) fn stop(self) -> Ran {
        self.signal(Signal::TERM);
        let ran = self.end(SOON);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // SIGTERM first: its children are in other process groups, and only it knows them.
        let _ = kill_process(self.pid(), Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            rest(Duration::from_millis(5));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Takes the JSON of `test` apart.
#[track_caller]
pub(crate) fn answered(ran: Ran) -> Answered {
    let lines: Result<Vec<Value>, _> = ran.stdout.lines().map(serde_json::from_str).collect();
    let Ok(mut targets) = lines else { panic!("not JSON: {ran:#?}") };
    let Some(summary) = targets.pop() else { panic!("nothing was printed: {ran:#?}") };
    assert_eq!(summary["type"], "summary", "{ran:#?}");
    assert!(targets.iter().all(|target| target["type"] == "target"), "{ran:#?}");
    Answered { ran, targets, summary }
}

/// Calls `ask` until it returns something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        rest(Duration::from_millis(10));
    }
}

/// Waits between two looks at something that has no event.
#[expect(clippy::disallowed_methods, reason = "between two looks, always with a deadline")]
fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until a file's modification time is older than the coarsest clock of a file system.
pub(crate) fn until_old(path: &Path) {
    until("the file is old enough", || {
        let age = fs::metadata(path).unwrap().modified().unwrap().elapsed().unwrap_or_default();
        (age > Duration::from_millis(2100)).then_some(())
    });
}

/// Whether a process has ended (a zombie counts).
pub(crate) fn is_gone(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_none_or(|rest| rest.trim().is_empty() || rest.trim().starts_with('Z'))
}

/// Whether the tests run as root, which no permission keeps out.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Skips a test that this machine cannot run, with a message. In CI a skip is a failure.
pub(crate) fn skip(what: &str, why: &str) {
    assert!(std::env::var_os("KNHK_TEST_CACHE_CI").is_none(), "{what}: {why}");
    say_skipped(what, why);
}

/// Leaves out the calling test where nobody has asked for all of them: the tests of which it is one
/// take ten minutes together. In CI they run.
pub(crate) fn takes_long() -> bool {
    let is_left_out = std::env::var_os("KNHK_TEST_CACHE_CI").is_none();
    if is_left_out {
        let test = std::thread::current().name().unwrap_or_default().to_owned();
        say_skipped(&test, "it takes long; KNHK_TEST_CACHE_CI=1 runs it");
    }
    is_left_out
}

/// Not by `eprintln!`: libtest does not show what a passing test prints with that.
fn say_skipped(what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}: {why}");
}

/// Whether this test can observe runs. Below another observer it cannot, which is no fault of
/// the machine: the test is skipped with a message, in CI too.
pub(crate) fn can_observe(what: &str) -> bool {
    match Observer::available() {
        Ok(()) => return true,
        Err(reason @ Unavailable::Observed) => say_skipped(what, &reason.to_string()),
        Err(reason) => skip(what, &reason.to_string()),
    }
    false
}

/// An environment with the machine's toolchain and a temporary user's folders.
pub(crate) fn machine(base: &Path) -> Environment {
    let real = Environment::inherited();
    let home = PathBuf::from(real.get("HOME").unwrap_or_default());
    let mut environment = Environment::default();
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let value = real.get(name).map_or_else(|| home.join(folder), PathBuf::from);
        environment.set(name, value);
    }
    // In what lies there, a run's writes count otherwise than elsewhere.
    for name in ["PATH", "RUSTUP_TOOLCHAIN", "TMPDIR"] {
        if let Some(value) = real.get(name) {
            environment.set(name, value);
        }
    }
    environment.set("HOME", base.join("home"));
    environment.set("XDG_CONFIG_HOME", base.join("config"));
    environment.set("XDG_CACHE_HOME", base.join("cache"));
    environment.set("XDG_RUNTIME_DIR", base.join("run"));
    environment.set("CARGO_NET_OFFLINE", "true");
    // Neither is tested unless a test says so, and both cost a third of each build.
    environment.set("CARGO_INCREMENTAL", "0");
    environment.set("CARGO_PROFILE_DEV_DEBUG", "0");
    environment.set("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        environment.set(format!("GIT_{who}_NAME"), "tester");
        environment.set(format!("GIT_{who}_EMAIL"), "tester@localhost");
    }
    environment
}
