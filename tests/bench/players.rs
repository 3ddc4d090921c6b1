//! The programs that a benchmark asks, each in its own clone of the repository and with its own
//! folders of the user: real `cargo test`, `cargo nextest run` with doctests, and this program.

#![allow(dead_code, reason = "each benchmark uses the players that it needs")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::results::Results;

/// How long the daemon may take to become idle.
const REST: Duration = Duration::from_secs(600);
/// How many looks in a row must find the daemon idle: longer than its debounce.
const QUIET_LOOKS: usize = 8;

/// A command line: `REPOSITORY RANGE [OPTIONS] [-- SELECTION..]`.
pub(crate) struct Arguments {
    pub(crate) repository: PathBuf,
    /// Whatever `git rev-list` takes.
    pub(crate) range: String,
    /// Cargo's selection.
    pub(crate) selection: Vec<String>,
    options: BTreeMap<String, String>,
}

impl Arguments {
    /// The value of an option, if it is given; empty for one without a value.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// `usage` says which options there are: each in brackets, with the name of its value if it has one.
    fn read(words: impl Iterator<Item = String>, usage: &str) -> Result<Self, String> {
        let mut words = words;
        let (mut plain, mut selection, mut options) = (Vec::new(), Vec::new(), BTreeMap::new());
        while let Some(word) = words.next() {
            if word == "--" {
                selection = words.by_ref().collect();
            } else if usage.contains(&format!("[{word}]")) {
                options.insert(word, String::new());
            } else if usage.contains(&format!("[{word} ")) {
                let value = words.next().ok_or(format!("`{word}` needs a value"))?;
                options.insert(word, value);
            } else if word.starts_with('-') {
                return Err(format!("unknown option `{word}`"));
            } else {
                plain.push(word);
            }
        }
        if selection.is_empty() {
            selection.push("--workspace".to_owned());
        }
        let [repository, range] = <[String; 2]>::try_from(plain)
            .map_err(|_| "a repository and a range of its commits are needed")?;
        Ok(Self { repository: repository.into(), range, selection, options })
    }
}

/// Runs a benchmark, which gives the number of disagreements: the exit status tells of them.
pub(crate) fn run(
    usage: &str,
    benchmark: impl FnOnce(&Arguments) -> Result<usize, String>,
) -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    // Without arguments this is `cargo test --benches`, which only wants to know that it starts.
    if words.is_empty() {
        println!("usage: {usage}");
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::read(words.into_iter(), usage);
    let ran = arguments.map_err(|error| format!("{error}\nusage: {usage}"));
    match ran.and_then(|arguments| benchmark(&arguments)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

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

    /// A side's own folders of the user, by variable. Both sides have some: tests look at them, and one that
    /// numbers its folders in the temporary folder meets those of the other side there.
    fn home(&self, side: &str) -> Result<Vec<(&'static str, PathBuf)>, String> {
        let names = [
            ("XDG_CONFIG_HOME", "f"),
            ("XDG_CACHE_HOME", "c"),
            ("XDG_RUNTIME_DIR", "r"),
            ("TMPDIR", "t"),
        ];
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

pub(crate) fn checkout(clone: &Path, hash: &str) -> Result<(), String> {
    git(clone, &["checkout", "-q", "--force", "--detach", hash])?;
    // What a build or a test left is no part of the commit; what is ignored stays, as it would.
    git(clone, &["clean", "-q", "-d", "--force"]).map(drop)
}

/// What a player answered.
pub(crate) struct Said {
    pub(crate) results: Results,
    /// From the question to the answer.
    pub(crate) took: Duration,
    /// Targets that were run, and that records answered for; of ours only.
    pub(crate) run: u64,
    pub(crate) kept: u64,
    /// How long the tests took, and those of kept targets when they were run.
    pub(crate) run_time: Duration,
    pub(crate) kept_time: Duration,
    /// The targets that were run, as `package kind name`; of ours only.
    pub(crate) ran: Vec<String>,
}

impl Said {
    /// The answer of a player that runs everything.
    fn of_all(results: Results, took: Duration) -> Self {
        let (run_time, kept_time) = (Duration::ZERO, Duration::ZERO);
        Self { results, took, run: 0, kept: 0, run_time, kept_time, ran: Vec::new() }
    }
}

/// A clone with a command line of cargo's.
struct Seat {
    clone: PathBuf,
    output: PathBuf,
    selection: Vec<String>,
    folders: Vec<(&'static str, PathBuf)>,
}

impl Seat {
    fn new(place: &Place, name: &str, selection: &[String]) -> Result<Self, String> {
        let clone = place.clone_as(name)?;
        let output = place.folder.join(format!("{name}.out"));
        let folders = place.home(&name[..1])?;
        Ok(Self { clone, output, selection: selection.to_vec(), folders })
    }

    /// Runs cargo with these arguments and the selection; its exit status, what it printed on both
    /// streams, and how long it took.
    fn cargo(&self, args: &[&str]) -> Result<(Option<i32>, String, Duration), String> {
        let text = |error: std::io::Error| format!("run cargo {}: {error}", args.join(" "));
        let file = fs::File::create(&self.output).map_err(text)?;
        let mut command = Command::new("cargo");
        // Cargo's flags come before those of the harness.
        command.args(args).args(&self.selection);
        command.current_dir(&self.clone).env_remove("CARGO_TERM_COLOR").stdin(Stdio::null());
        command.envs(self.folders.iter().cloned());
        command.stdout(file.try_clone().map_err(text)?).stderr(file);
        let start = Instant::now();
        let status = command.status().map_err(text)?;
        let took = start.elapsed();
        let output = fs::read(&self.output).map_err(text)?;
        Ok((status.code(), String::from_utf8_lossy(&output).into_owned(), took))
    }

    /// Downloads what the checkout needs, outside of any measured time. A checkout that cannot be
    /// resolved is judged as such later.
    fn fetch(&self) -> Result<(), String> {
        let mut command = Command::new("cargo");
        command.args(["fetch", "--quiet"]).current_dir(&self.clone).stdin(Stdio::null());
        command.output().map(drop).map_err(|error| format!("run cargo fetch: {error}"))
    }
}

/// Real `cargo test`, whose word counts.
pub(crate) struct Judge(Seat);

impl Judge {
    pub(crate) fn new(place: &Place, selection: &[String]) -> Result<Self, String> {
        Seat::new(place, "judge", selection).map(Self)
    }

    pub(crate) fn clone(&self) -> &Path {
        &self.0.clone
    }

    pub(crate) fn checkout(&self, hash: &str) -> Result<(), String> {
        checkout(&self.0.clone, hash)
    }

    /// Downloads what the checkout needs, outside of any measured time.
    pub(crate) fn fetch(&self) -> Result<(), String> {
        self.0.fetch()
    }

    pub(crate) fn ask(&mut self) -> Result<Said, String> {
        let (code, output, took) = self.0.cargo(&["test", "--no-fail-fast"])?;
        Ok(Said::of_all(Results::of_cargo(code, &output, &[]), took))
    }
}

/// `cargo nextest run`, then `cargo test --doc` for the doctests that nextest leaves out.
pub(crate) struct Nextest(Seat);

impl Nextest {
    /// The player, or none where cargo-nextest is not installed.
    pub(crate) fn new(place: &Place, selection: &[String]) -> Result<Option<Self>, String> {
        let mut command = Command::new("cargo");
        let version = command.args(["nextest", "--version"]).stderr(Stdio::null()).output();
        if !version.is_ok_and(|output| output.status.success()) {
            return Ok(None);
        }
        Seat::new(place, "nextest", selection).map(|seat| Some(Self(seat)))
    }

    pub(crate) fn clone(&self) -> &Path {
        &self.0.clone
    }

    pub(crate) fn checkout(&self, hash: &str) -> Result<(), String> {
        checkout(&self.0.clone, hash)
    }

    /// Whether all is green, and how long both commands took.
    pub(crate) fn ask(&mut self) -> Result<(bool, Duration), String> {
        // 4: there is no test to run.
        let (code, _, tests) =
            self.0.cargo(&["nextest", "run", "--no-fail-fast", "--no-tests=pass"])?;
        let (doc_code, output, doctests) = self.0.cargo(&["test", "--no-fail-fast", "--doc"])?;
        // A workspace of binaries alone has no doctests, which cargo calls an error.
        let no_library = output.contains("no library targets found");
        Ok((code == Some(0) && (doc_code == Some(0) || no_library), tests + doctests))
    }
}

/// This program, with or without its daemon.
pub(crate) struct Ours {
    clone: PathBuf,
    selection: Vec<String>,
    folders: Vec<(&'static str, PathBuf)>,
    daemon: Option<Child>,
}

impl Ours {
    pub(crate) fn new(place: &Place, selection: &[String]) -> Result<Self, String> {
        let clone = place.clone_as("ours")?;
        let folders = place.home("o")?;
        Ok(Self { clone, selection: selection.to_vec(), folders, daemon: None })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_knhk-test-cache"));
        command.args(args).current_dir(&self.clone).envs(self.folders.iter().cloned());
        command.stdin(Stdio::null());
        command
    }

    /// Writes the config.
    pub(crate) fn configure(&self, text: &str) -> Result<(), String> {
        let problem = |error: std::io::Error| format!("write the config: {error}");
        let file = self.command(&["config", "path"]).output().map_err(problem)?.stdout;
        let file = PathBuf::from(String::from_utf8_lossy(&file).trim());
        fs::create_dir_all(file.parent().unwrap_or(&file)).map_err(problem)?;
        fs::write(file, text).map_err(problem)
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

    pub(crate) fn clone(&self) -> &Path {
        &self.clone
    }

    /// Waits until the daemon has nothing to do, so that its work slows down no other player.
    pub(crate) fn rest(&self) -> Result<(), String> {
        if self.daemon.is_none() {
            return Ok(());
        }
        let mut quiet = 0;
        let deadline = Instant::now() + REST;
        while quiet < QUIET_LOOKS {
            if Instant::now() > deadline {
                return Err(format!("the daemon was not idle within {} s", REST.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(250));
            let status = self.command(&["status", "--format", "json"]).output();
            let status = status.map_err(|error| format!("ask for the status: {error}"))?;
            let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
            let busy = ["hashing", "building", "testing"];
            let state = status["projects"][0]["state"].as_str().unwrap_or("unknown");
            quiet = if busy.contains(&state) { 0 } else { quiet + 1 };
        }
        Ok(())
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
        let name = |target: &Value| {
            let part = |field: &str| target[field].as_str().unwrap_or_default();
            format!("{} {} {}", part("package"), part("kind"), part("target"))
        };
        let number = |name: &str| summary[name].as_u64().unwrap_or_default();
        Ok(Said {
            results: Results::of_answer(&targets, &summary),
            took,
            run: number("targets_run"),
            kept: number("targets_cached"),
            run_time: time("run"),
            kept_time: time("cache"),
            ran: targets.iter().filter(|target| target["source"] == "run").map(name).collect(),
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
