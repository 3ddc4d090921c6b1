//! `demo`: what this program does, shown on a small workspace in a temporary folder with a daemon of
//! its own, beside real cargo. Nothing of it is left behind.

mod step;
mod workspace;

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::step::{DemoStep, Expected, Place, STEPS};
use super::context::Context;
use super::exit::{Exit, Stop};
use super::interrupt::ended_by_signal;
use super::output;
use super::render::{GOOD, HINT, NOTE, WARN, label, seconds};
use crate::process::{self, Environment, Spec, Stream, Suspender};

/// How long the demo's daemon may take to be ready. Without it the answers are the same.
const DAEMON_WAIT: Duration = Duration::from_secs(20);
/// How long the demo's daemon may take to end.
const DAEMON_END_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at a daemon that is starting.
const DAEMON_POLL: Duration = Duration::from_millis(50);
/// How long the folder may resist its removal.
const REMOVAL_WAIT: Duration = Duration::from_secs(5);
/// Between two tries to remove it.
const REMOVAL_POLL: Duration = Duration::from_millis(50);
/// How long git may take.
const GIT_COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Variables of the shell that the demo is called from, and of `cargo run`, that would decide where
/// the demo builds or what its tests see.
const LEFT_OUT: [&str; 8] = [
    "CARGO",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_WORK_TREE",
    "KNHK_TEST_CACHE_CONFIG",
    "XDG_STATE_HOME",
];

/// Plays the demo.
pub(super) fn demo(context: &Context) -> Result<(), Stop> {
    let environment = &context.environment;
    let cargo_home = environment.get("CARGO_HOME").filter(|home| !home.is_empty());
    let cargo_home =
        cargo_home.map_or_else(|| context.paths.home.join(".cargo"), |home| context.cwd.join(home));
    let on_path = environment.find_program(Path::new("cargo"), &context.cwd);
    let cargo = on_path.unwrap_or_else(|| cargo_home.join("bin/cargo"));
    if !cargo.is_file() {
        let text = "the demo builds a small workspace, and there is no `cargo` in PATH: install \
                    Rust from https://rustup.rs, or call it where `cargo` works";
        return Err(Stop::new(Exit::NotGreen, text));
    }
    let folder = tempfile::Builder::new().prefix("knhk-test-cache-demo-").tempdir()?;
    let base = folder.path().canonicalize()?;
    let rustup_home = environment.get("RUSTUP_HOME").map(PathBuf::from);
    let homes = Homes {
        cargo: cargo_home,
        rustup: rustup_home.unwrap_or_else(|| context.paths.home.join(".rustup")),
    };
    let demo = Demo {
        exe: std::env::current_exe()?,
        cargo,
        environment: own_environment(environment, &base, &homes),
        base,
        cancel: CancellationToken::new(),
    };
    demo.prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let played = demo.play().await;
        let removed = remove(folder.path()).await;
        played.and(Ok(removed?))
    })
}

/// Removes the folder. What our children have started may end, and write, a moment after them.
async fn remove(folder: &Path) -> std::io::Result<()> {
    let since = Instant::now();
    loop {
        match fs::remove_dir_all(folder) {
            Err(_) if folder.exists() && since.elapsed() < REMOVAL_WAIT => {}
            removed => return removed,
        }
        tokio::time::sleep(REMOVAL_POLL).await;
    }
}

/// Where the toolchain is.
struct Homes {
    cargo: PathBuf,
    rustup: PathBuf,
}

/// The caller's environment with folders of the demo's own.
fn own_environment(caller: &Environment, base: &Path, homes: &Homes) -> Environment {
    let by_cargo_run = caller.get("CARGO_MANIFEST_DIR").is_some();
    let mut own = caller.clone();
    let names: Vec<_> = own.iter().map(|(name, _)| name.to_owned()).collect();
    for name in names {
        let text = name.to_string_lossy();
        let of_cargo_run = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if of_cargo_run || LEFT_OUT.contains(&&*text) || by_cargo_run && text == "LD_LIBRARY_PATH" {
            own.remove(&name);
        }
    }
    for (name, folder) in [
        ("HOME", "home"),
        ("XDG_CONFIG_HOME", "config"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_RUNTIME_DIR", "run"),
        // What is ended in the middle of a run leaves files here.
        ("TMPDIR", "tmp"),
    ] {
        own.set(name, base.join(folder));
    }
    own.set("CARGO_HOME", &homes.cargo);
    own.set("RUSTUP_HOME", &homes.rustup);
    // Nothing is fetched: the packages depend on each other alone.
    own.set("CARGO_NET_OFFLINE", "true");
    own.set("CARGO_TERM_COLOR", "never");
    own.set("GIT_CONFIG_GLOBAL", "/dev/null");
    own.set("GIT_CONFIG_NOSYSTEM", "1");
    own
}

struct Demo {
    exe: PathBuf,
    cargo: PathBuf,
    environment: Environment,
    base: PathBuf,
    cancel: CancellationToken,
}

/// What a program printed, and how long it ran.
struct Ran {
    took: Duration,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// The answer of `test`.
struct Answered {
    took: Duration,
    green: bool,
    targets: usize,
    /// The targets that ran.
    ran: Vec<String>,
    /// Why the first of them ran.
    reason: String,
}

impl Demo {
    fn root(&self) -> PathBuf {
        self.base.join("workspace")
    }

    /// Writes the workspace and the config that names it.
    fn prepare(&self) -> Result<(), Stop> {
        for folder in ["home", "cache", "run", "tmp", "config/knhk-test-cache"] {
            let folder = self.base.join(folder);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        workspace::write(&self.root())?;
        let path = toml::Value::from(self.root().to_string_lossy().replace('$', "$$"));
        let config = format!("[[project]]\npath = {path}\n");
        fs::write(self.base.join("config/knhk-test-cache/config.toml"), config)?;
        Ok(())
    }

    /// Plays all steps beside the daemon. When this returns, no process of the demo is left.
    async fn play(&self) -> Result<(), Stop> {
        let (daemons, stop) = (Suspender::default(), CancellationToken::new());
        let daemon = Spec::new(&self.exe, &self.base, self.environment.clone()).arg("daemon");
        let daemon = daemon.suspender(&daemons);
        let mut daemon = std::pin::pin!(process::run(&daemon, &stop, None, |_, _| {}));
        let mut steps = std::pin::pin!(self.steps());
        let mut ended_by = std::pin::pin!(ended_by_signal()?);
        let mut daemon_runs = true;
        let played = loop {
            tokio::select! {
                played = &mut steps => break played,
                // The answers are the same without it.
                _ = &mut daemon, if daemon_runs => daemon_runs = false,
                exit = &mut ended_by => {
                    self.cancel.cancel();
                    let _ = steps.await;
                    break Err(Stop::new(exit, "interrupted: nothing is left behind"));
                }
            }
        };
        if daemon_runs {
            // In time, it ends all that it has started; what kills it cannot.
            daemons.ask_to_end();
            if tokio::time::timeout(DAEMON_END_WAIT, &mut daemon).await.is_err() {
                stop.cancel();
                let _ = daemon.await;
            }
        }
        played
    }

    async fn steps(&self) -> Result<(), Stop> {
        let intro = format!(
            "A workspace of 3 packages in {}, asked by real cargo and by this program:",
            self.root().display()
        );
        output::line(intro)?;
        output::line(format_args!("\n{:<18}{:>12}{:>9}   targets run", "", "cargo test", "here"))?;
        let has_git = self.commit().await?;
        self.daemon_is_ready().await?;
        for step in &STEPS {
            if step.place == Place::Worktree && !has_git {
                output::note(label(NOTE, "Skipped", "git worktree: there is no `git` here"));
                continue;
            }
            self.play_step(step).await?;
        }
        output::line(
            "\nIn a workspace of your own:\n\n    cargo install --path .     # here, once\n    \
             knhk-test-cache init       # there: adds it, sets things up, asks\n    \
             knhk-test-cache test       # from then on, in place of `cargo test`",
        )
    }

    async fn play_step(&self, step: &DemoStep) -> Result<(), Stop> {
        step.apply(&self.root())?;
        let (root, target) = match step.place {
            Place::Worktree => {
                let (root, commit) =
                    (self.base.join("worktree"), ["commit", "--quiet", "-am", "x"]);
                self.git(&commit).await?;
                self.git(&["worktree", "add", "--quiet", &root.to_string_lossy()]).await?;
                (root, "cargo-worktree")
            }
            _ => (self.root(), "cargo"),
        };
        let mut environment = self.environment.clone();
        if step.place == Place::OtherTerminal {
            for (name, value) in
                [("STARSHIP_SESSION_KEY", "4711"), ("ATUIN_SESSION", "0815"), ("WINDOWID", "7")]
            {
                environment.set(name, value);
            }
        }
        let answered = self.ask(&root, &environment).await?;
        environment.set("CARGO_TARGET_DIR", self.base.join(target));
        // This program may be the runner of every cargo here.
        environment.set("KNHK_TEST_CACHE_EXEC", "off");
        let cargo = Spec::new(&self.cargo, &root, environment).args([
            "test",
            "--workspace",
            "--no-fail-fast",
        ]);
        let cargo = self.run(&cargo).await?;
        if (cargo.code == Some(0)) != answered.green {
            let text = format!("{}: cargo says otherwise\n{}", step.name, cargo.stderr);
            return Err(Stop::new(Exit::VerifyDiffers, text));
        }
        self.tell(step, &cargo, &answered)
    }

    fn tell(&self, step: &DemoStep, cargo: &Ran, answered: &Answered) -> Result<(), Stop> {
        let ran = match answered.ran.len() {
            0 => "none".to_owned(),
            all if all == answered.targets => format!("all {all}"),
            few => format!("{few} of {}: {}", answered.targets, answered.ran.join(", ")),
        };
        let style = if answered.green { GOOD } else { WARN };
        let red = if answered.green { String::new() } else { format!(" {style}red{style:#}") };
        let here = match answered.took.as_millis() {
            short @ ..100 => format!("{short}ms"),
            _ => seconds(answered.took),
        };
        let theirs = seconds(cargo.took);
        output::line(format_args!(
            "{style}{:<18}{style:#}{theirs:>12}{here:>9}   {ran}{red}",
            step.name
        ))?;
        let why = if step.expected.is_met_by(answered) {
            step.why.to_owned()
        } else {
            format!("Something that counts is different here: {}.", answered.reason)
        };
        output::line(format_args!("  {HINT}{why}{HINT:#}"))
    }

    /// Asks this program, as a person would.
    async fn ask(&self, root: &Path, environment: &Environment) -> Result<Answered, Stop> {
        let test = Spec::new(&self.exe, root, environment.clone())
            .args(["test", "--quiet", "--format", "json"]);
        let ran = self.run(&test).await?;
        let lines: Vec<Value> =
            ran.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let Some((summary, targets)) = lines.split_last().filter(|_| ran.code != Some(1)) else {
            return Err(Stop::new(Exit::Failure, format!("the demo cannot go on: {}", ran.stderr)));
        };
        if summary["verdict"] == "error" {
            return Err(Stop::new(
                Exit::NotGreen,
                format!("the demo does not build: {}", ran.stderr),
            ));
        }
        let did_run: Vec<_> = targets.iter().filter(|target| target["source"] == "run").collect();
        let name = |target: &&Value| {
            let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
            match (text("package"), text("target")) {
                (package, _) if target["kind"] == "doc" => format!("{package} (doc)"),
                (package, target) if package == target => package,
                (package, target) => format!("{package}::{target}"),
            }
        };
        Ok(Answered {
            took: ran.took,
            green: summary["verdict"] == "pass",
            targets: targets.len(),
            ran: did_run.iter().map(name).collect(),
            reason: did_run
                .first()
                .and_then(|target| target["reason"].as_str())
                .unwrap_or("nothing ran")
                .to_owned(),
        })
    }

    /// Makes the workspace a repository; false where there is no git.
    async fn commit(&self) -> Result<bool, Stop> {
        if self.environment.find_program(Path::new("git"), &self.base).is_none() {
            return Ok(false);
        }
        for args in [&["init", "--quiet"][..], &["add", "."], &["commit", "--quiet", "-m", "demo"]]
        {
            self.git(args).await?;
        }
        Ok(true)
    }

    async fn git(&self, args: &[&str]) -> Result<(), Stop> {
        let who = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"];
        let git = Spec::new("git", self.root(), self.environment.clone()).args(who).args(args);
        let ran = tokio::time::timeout(GIT_COMMAND_TIMEOUT, self.run(&git)).await;
        match ran {
            Ok(Ok(ran)) if ran.code == Some(0) => Ok(()),
            Ok(Ok(ran)) => Err(Stop::new(Exit::Failure, format!("git failed: {}", ran.stderr))),
            Ok(Err(stop)) => Err(stop),
            Err(_) => Err(Stop::new(Exit::Failure, "git does not come to an end")),
        }
    }

    /// Waits until the daemon has read the workspace, for a while.
    async fn daemon_is_ready(&self) -> Result<(), Stop> {
        let since = Instant::now();
        while since.elapsed() < DAEMON_WAIT {
            let status = Spec::new(&self.exe, &self.base, self.environment.clone())
                .args(["status", "--format", "json"]);
            let ran = self.run(&status).await?;
            let status: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
            let watch = &status["projects"][0]["watch"];
            if status["running"] == true && watch.is_string() && *watch != "starting" {
                break;
            }
            tokio::time::sleep(DAEMON_POLL).await;
        }
        Ok(())
    }

    /// Runs a program to its end.
    async fn run(&self, spec: &Spec) -> Result<Ran, Stop> {
        let started = Instant::now();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let sink = |stream, bytes: &[u8]| match stream {
            Stream::Out => stdout.extend_from_slice(bytes),
            Stream::Err => stderr.extend_from_slice(bytes),
        };
        let ended = process::run(spec, &self.cancel, None, sink).await;
        let ended = ended.map_err(|error| Stop::new(Exit::NotGreen, error))?;
        if self.cancel.is_cancelled() {
            return Err(Stop::silent(Exit::Interrupted));
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ran {
            took: started.elapsed(),
            code: match ended.end {
                crate::model::End::Exit(code) => Some(code),
                _ => None,
            },
            stdout: text(stdout),
            stderr: text(stderr),
        })
    }
}

impl Expected {
    fn is_met_by(self, answered: &Answered) -> bool {
        let ran = answered.ran.len();
        match self {
            Self::All => answered.green && ran == answered.targets,
            Self::Some => answered.green && ran < answered.targets,
            Self::Nothing => answered.green && ran == 0,
            Self::Red => !answered.green,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_environment_is_the_callers_with_other_folders() {
        let caller: Environment = [
            ("PATH", "/bin"),
            ("HOME", "/h"),
            ("CARGO_TARGET_DIR", "/t"),
            ("CARGO_MANIFEST_DIR", "/m"),
            ("CARGO_PKG_NAME", "x"),
            ("LD_LIBRARY_PATH", "/l"),
            ("XDG_RUNTIME_DIR", "/run/user/7"),
        ]
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
        let homes = Homes { cargo: "/h/.cargo".into(), rustup: "/h/.rustup".into() };
        let own = own_environment(&caller, Path::new("/d"), &homes);
        for gone in ["CARGO_TARGET_DIR", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "LD_LIBRARY_PATH"]
        {
            assert!(own.get(gone).is_none(), "{gone}");
        }
        for (name, value) in [
            ("PATH", "/bin"),
            ("HOME", "/d/home"),
            ("CARGO_HOME", "/h/.cargo"),
            ("XDG_RUNTIME_DIR", "/d/run"),
        ] {
            assert_eq!(own.get(name).unwrap(), value);
        }
    }
}
