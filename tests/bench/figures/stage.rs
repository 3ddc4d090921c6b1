//! A home of its own, with the real program, the real cargo, and a daemon.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_secs(900);

/// Folders and environment of everything that is timed.
pub(crate) struct Stage {
    dir: TempDir,
    environment: Vec<(&'static str, PathBuf)>,
    daemon: RefCell<Option<Child>>,
    /// Where the daemon says that it is ready.
    notified: RefCell<Option<UnixDatagram>>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("kb").tempdir().expect("a temporary folder");
        let folder = |name: &str| {
            let path = dir.path().join(name);
            fs::DirBuilder::new().mode(0o700).create(&path).expect("a folder");
            path
        };
        let real = |name: &'static str, below: &str| {
            let given = std::env::var_os(name).map(PathBuf::from);
            let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME")).join(below);
            (name, given.unwrap_or_else(home))
        };
        let path = PathBuf::from(std::env::var_os("PATH").expect("PATH"));
        let environment = vec![
            ("PATH", path),
            ("HOME", folder("h")),
            ("XDG_CONFIG_HOME", folder("f")),
            ("XDG_CACHE_HOME", folder("c")),
            ("XDG_RUNTIME_DIR", folder("r")),
            real("CARGO_HOME", ".cargo"),
            real("RUSTUP_HOME", ".rustup"),
            ("CARGO_NET_OFFLINE", "true".into()),
            ("LANG", "C.UTF-8".into()),
        ];
        Self { dir, environment, daemon: RefCell::new(None), notified: RefCell::new(None) }
    }

    /// A folder that is gone at the end.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, program: &str, dir: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(dir).env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs a program to its end, and gives the time from start to end. It must succeed.
    pub(crate) fn run(&self, program: &str, dir: &Path, args: &[&str]) -> Duration {
        let mut command = self.command(program, dir, args);
        let start = Instant::now();
        let status = command.status();
        let elapsed = start.elapsed();
        let good = status.as_ref().is_ok_and(ExitStatus::success);
        assert!(good, "`{program} {}` in {}: {status:?}", args.join(" "), dir.display());
        elapsed
    }

    /// The same with our own program.
    pub(crate) fn ours(&self, dir: &Path, args: &[&str]) -> Duration {
        self.run(program(), dir, args)
    }

    /// What our own program prints as the last line of JSON.
    pub(crate) fn json(&self, dir: &Path, args: &[&str]) -> Value {
        let output = self.command(program(), dir, args).stdout(Stdio::piped()).output();
        let output = String::from_utf8(output.expect("it starts").stdout).expect("text");
        let last = output.lines().last().unwrap_or("null");
        serde_json::from_str(last).or_else(|_| serde_json::from_str(&output)).expect("JSON")
    }

    /// Asks until the answer comes from records; then once more after their stamps have settled.
    pub(crate) fn warm(&self, dir: &Path, args: &[&str]) {
        let all = [&["test", "--format", "json"], args].concat();
        self.wait(dir, "an answer from records", || {
            let summary = self.json(dir, &all);
            assert_eq!(summary["verdict"], "pass", "in {}: {summary}", dir.display());
            summary["source"] == "cache"
        });
        pause(Duration::from_millis(2_500));
        self.json(dir, &all);
    }

    /// What a program prints. It must succeed.
    pub(crate) fn output(&self, program: &str, dir: &Path, args: &[&str]) -> String {
        let output = self.command(program, dir, args).stdout(Stdio::piped()).output();
        let output = output.expect("it starts");
        assert!(output.status.success(), "`{program} {}` in {}", args.join(" "), dir.display());
        String::from_utf8(output.stdout).expect("text")
    }

    /// Starts a daemon, which tells this stage when it is ready.
    pub(crate) fn spawn_daemon(&self) {
        let socket = self.dir().join("notify");
        let _ = fs::remove_file(&socket);
        *self.notified.borrow_mut() = Some(UnixDatagram::bind(&socket).expect("a socket"));
        let mut command = self.command(program(), self.dir(), &["daemon"]);
        let log = fs::File::create(self.dir().join("daemon.log")).expect("a file");
        let child = command.env("NOTIFY_SOCKET", &socket).stderr(log).spawn().expect("it starts");
        *self.daemon.borrow_mut() = Some(child);
    }

    /// Waits until the daemon says that it is ready.
    pub(crate) fn wait_ready(&self) {
        // Nobody reads what it says after that, so nobody listens.
        let socket = self.notified.borrow_mut().take().expect("a daemon was started");
        socket.set_read_timeout(Some(PATIENCE)).expect("a bound");
        let mut message = [0; 4096];
        loop {
            let length = socket.recv(&mut message).expect("word of the daemon in time");
            if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return;
            }
        }
    }

    /// Starts a daemon for these projects, and waits until it has nothing more to do.
    pub(crate) fn daemon(&self, projects: &[&Path]) {
        self.spawn_daemon();
        self.wait_ready();
        for project in projects {
            self.ours(project, &["add"]);
        }
        self.wait(self.dir(), "its projects", || {
            let status = self.json(self.dir(), &["status", "--format", "json"]);
            let list = status["projects"].as_array().cloned().unwrap_or_default();
            list.len() == projects.len()
                && list
                    .iter()
                    .all(|project| project["state"] == "idle" && project["watch"] == "events")
        });
    }

    /// The state of the one project at `root`.
    pub(crate) fn project(&self, root: &Path) -> Value {
        let status = self.json(root, &["status", "--format", "json"]);
        let of = |project: &&Value| project["path"].as_str().map(Path::new) == Some(root);
        let list = status["projects"].as_array();
        list.and_then(|list| list.iter().find(of)).cloned().unwrap_or_default()
    }

    /// The daemon's process.
    pub(crate) fn daemon_id(&self) -> u32 {
        self.daemon.borrow().as_ref().expect("a daemon").id()
    }

    /// Starts a daemon for one project, and waits until it builds.
    pub(crate) fn daemon_busy(&self, project: &Path) {
        self.spawn_daemon();
        self.wait_ready();
        self.ours(project, &["add"]);
        self.wait(project, "a build", || {
            let status = self.project(project);
            let stood = status["courtesy"]["stood_ms"].as_u64();
            status["state"] == "building" || stood.is_some_and(|time| time > 0)
        });
    }

    /// Ends the daemon.
    pub(crate) fn stop_daemon(&self) {
        if let Some(mut child) = self.daemon.borrow_mut().take() {
            let id = child.id().to_string();
            let _ = Command::new("kill").arg(&id).status();
            let _ = child.wait();
        }
    }

    /// Ends the daemon and forgets its projects.
    pub(crate) fn end_daemon(&self) {
        self.stop_daemon();
        let _ = fs::remove_dir_all(self.dir().join("f/knhk-test-cache"));
    }

    /// Forgets every record and memo, as if our program had never run.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_dir_all(self.dir().join("c/knhk-test-cache"));
    }

    /// Polls until it is so.
    pub(crate) fn wait(&self, dir: &Path, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            if Instant::now() >= deadline {
                let log = fs::read_to_string(self.dir().join("daemon.log")).unwrap_or_default();
                panic!("waited for {what} in {}; the daemon said:\n{log}", dir.display());
            }
            pause(Duration::from_millis(50));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.end_daemon();
    }
}

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_knhk-test-cache")
}

/// Waits for a time.
pub(crate) fn pause(time: Duration) {
    let (_sender, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}
