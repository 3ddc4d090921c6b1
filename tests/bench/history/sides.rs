//! The two who are asked at each commit, each in its own clone.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::results::Results;

/// One commit.
pub(crate) struct Commit {
    pub(crate) hash: String,
    pub(crate) title: String,
}

/// The folders of one replay.
pub(crate) struct Place {
    repository: PathBuf,
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl Place {
    /// A place for clones of `repository`: in `keep` (then it stays, target folders too), or in a
    /// temporary folder.
    pub(crate) fn new(repository: &Path, keep: Option<&Path>) -> Result<Self, String> {
        let repository = repository
            .canonicalize()
            .map_err(|error| format!("open {}: {error}", repository.display()))?;
        let (folder, temporary) = match keep {
            Some(folder) => {
                fs::create_dir_all(folder)
                    .map_err(|error| format!("make {}: {error}", folder.display()))?;
                (folder.to_owned(), None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("kh").tempdir();
                let temporary =
                    temporary.map_err(|error| format!("make a temporary folder: {error}"))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        Ok(Self { repository, folder, _temporary: temporary })
    }

    /// The commits of a range, oldest first.
    pub(crate) fn commits(&self, range: &str) -> Result<Vec<Commit>, String> {
        let format = "--format=%H %s";
        let list = ["log", "--first-parent", "--reverse", format, range, "--"];
        let text = git(&self.repository, &list)?;
        let commit = |line: &str| {
            let (hash, title) = line.split_once(' ').unwrap_or((line, ""));
            Commit { hash: hash.to_owned(), title: title.to_owned() }
        };
        Ok(text.lines().map(commit).collect())
    }

    /// A clone of the repository, that of an earlier replay if there is one.
    fn clone_as(&self, name: &str) -> Result<PathBuf, String> {
        let clone = self.folder.join(name);
        if !clone.exists() {
            let from = self.repository.display().to_string();
            git(&self.folder, &["clone", "-q", "--no-checkout", "--shared", &from, name])?;
        }
        Ok(clone)
    }

    /// A folder of our own, private, empty.
    fn fresh(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        let _ = fs::remove_dir_all(&folder);
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| format!("make {}: {error}", folder.display()))?;
        Ok(folder)
    }

    /// A side's own folders of the user, by variable. Both sides have some: tests look at them.
    fn home(&self, side: &str) -> Result<Vec<(&'static str, PathBuf)>, String> {
        let names = [("XDG_CONFIG_HOME", "f"), ("XDG_CACHE_HOME", "c"), ("XDG_RUNTIME_DIR", "r")];
        names
            .map(|(name, short)| Ok((name, self.fresh(&format!("{side}{short}"))?)))
            .into_iter()
            .collect()
    }
}

fn git(dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git").args(args).current_dir(dir).output();
    let output = output.map_err(|error| format!("start git: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("git {}: {said}", args.join(" ")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn checkout(clone: &Path, hash: &str) -> Result<(), String> {
    git(clone, &["checkout", "-q", "--force", "--detach", hash])?;
    // What a build or a test left is no part of the commit; what is ignored stays, as it would.
    git(clone, &["clean", "-q", "-d", "--force"]).map(drop)
}

/// What a side said.
pub(crate) struct Said {
    pub(crate) results: Results,
    pub(crate) took: Duration,
    /// Targets that were run, and that records answered for; of ours only.
    pub(crate) run: u64,
    pub(crate) kept: u64,
    /// How long the tests took, and those of kept targets when they were run.
    pub(crate) run_time: Duration,
    pub(crate) kept_time: Duration,
}

/// The real cargo.
pub(crate) struct Judge {
    clone: PathBuf,
    output: PathBuf,
    selection: Vec<String>,
    folders: Vec<(&'static str, PathBuf)>,
}

impl Judge {
    pub(crate) fn new(place: &Place, selection: &[String]) -> Result<Self, String> {
        let clone = place.clone_as("judge")?;
        let output = place.folder.join("judge.out");
        let folders = place.home("j")?;
        Ok(Self { clone, output, selection: selection.to_vec(), folders })
    }

    pub(crate) fn checkout(&self, hash: &str) -> Result<(), String> {
        checkout(&self.clone, hash)
    }

    /// Downloads what the commit needs, on nobody's time. One that cannot be resolved is judged
    /// as such.
    pub(crate) fn fetch(&self) -> Result<(), String> {
        let mut command = Command::new("cargo");
        command.args(["fetch", "--quiet"]).current_dir(&self.clone).stdin(Stdio::null());
        command.output().map(drop).map_err(|error| format!("run cargo fetch: {error}"))
    }

    pub(crate) fn ask(&mut self) -> Result<Said, String> {
        let text = |error: std::io::Error| format!("run cargo test: {error}");
        let file = fs::File::create(&self.output).map_err(text)?;
        // Its flags come before those of the harness.
        let mut command = Command::new("cargo");
        command.args(["test", "--no-fail-fast"]).args(&self.selection);
        command.current_dir(&self.clone).env_remove("CARGO_TERM_COLOR").stdin(Stdio::null());
        command.envs(self.folders.iter().cloned());
        command.stdout(file.try_clone().map_err(text)?).stderr(file);
        let start = Instant::now();
        let status = command.status().map_err(text)?;
        let took = start.elapsed();
        let output = fs::read(&self.output).map_err(text)?;
        let results = Results::of_cargo(status.code(), &String::from_utf8_lossy(&output), &[]);
        let (run_time, kept_time) = (Duration::ZERO, Duration::ZERO);
        Ok(Said { results, took, run: 0, kept: 0, run_time, kept_time })
    }
}

/// We, with a home of our own.
pub(crate) struct Ours {
    clone: PathBuf,
    selection: Vec<String>,
    folders: Vec<(&'static str, PathBuf)>,
    daemon: Option<Child>,
}

impl Ours {
    pub(crate) fn new(place: &Place, selection: &[String]) -> Result<Self, String> {
        let clone = place.clone_as("ours")?;
        let folders = place.home("")?;
        Ok(Self { clone, selection: selection.to_vec(), folders, daemon: None })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knhk-test-cache"));
        command.args(args).current_dir(&self.clone).envs(self.folders.iter().cloned());
        command.stdin(Stdio::null());
        command
    }

    /// Starts a daemon that looks after the clone as it is.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        let problem = |error: std::io::Error| format!("start the daemon: {error}");
        let added = self.command(&["add", &self.clone.display().to_string()]).output();
        let added = added.map_err(problem)?;
        if !added.status.success() {
            let said = String::from_utf8_lossy(&added.stderr);
            return Err(format!("the workspace cannot be added to the config: {said}"));
        }
        let log = fs::File::create(self.folders[1].1.join("daemon.log")).map_err(problem)?;
        let child = self.command(&["daemon"]).stderr(log).spawn().map_err(problem)?;
        self.daemon = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let status = self.command(&["status", "--format", "json"]).output();
            let status: Value =
                serde_json::from_slice(&status.map_err(problem)?.stdout).unwrap_or_default();
            if status["running"] == true {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("the daemon does not answer".to_owned())
    }

    pub(crate) fn checkout(&self, hash: &str) -> Result<(), String> {
        checkout(&self.clone, hash)
    }

    pub(crate) fn ask(&mut self) -> Result<Said, String> {
        let mut command = self.command(&["test", "--format", "json"]);
        if self.daemon.is_none() {
            command.arg("--no-daemon");
        }
        let start = Instant::now();
        let output = command.args(&self.selection).output();
        let output = output.map_err(|error| format!("run our test: {error}"))?;
        let took = start.elapsed();
        let lines: Result<Vec<Value>, _> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(serde_json::from_slice)
            .collect();
        let Some((summary, targets)) = lines.ok().and_then(|mut lines| Some((lines.pop()?, lines)))
        else {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("our test gave no summary ({}): {said}", output.status));
        };
        let time = |source: &str| {
            let of = targets.iter().filter(|target| target["source"] == source);
            Duration::from_millis(of.filter_map(|target| target["duration_ms"].as_u64()).sum())
        };
        let number = |name: &str| summary[name].as_u64().unwrap_or_default();
        Ok(Said {
            results: Results::of_answer(&targets, &summary),
            took,
            run: number("targets_run"),
            kept: number("targets_cached"),
            run_time: time("run"),
            kept_time: time("cache"),
        })
    }

    /// Ends the daemon.
    pub(crate) fn end(&mut self) {
        let Some(mut child) = self.daemon.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = child.wait();
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.end();
    }
}
