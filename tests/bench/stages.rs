//! From a save to the edited package's test programs being ready, against those of the whole
//! workspace.
//!
//! ```text
//! cargo bench --bench stages -- WORKSPACE FILE [ROUNDS]
//! ```
//!
//! Starts a daemon of its own for the workspace (a copy: it is built in, and FILE is written to),
//! and in each of 20 rounds changes a function at FILE's end. FILE is relative to the workspace and
//! put back at the end. Prints medians and the worst; the quiet period of 20 ms is part of both.

#![allow(clippy::disallowed_methods, reason = "a daemon that is looked at from outside")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const USAGE: &str = "cargo bench --bench stages -- WORKSPACE FILE [ROUNDS]";
/// How long a build may take.
const PATIENCE: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    // Without arguments this is `cargo test --benches`, which only wants to know that it starts.
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.is_empty() {
        return ExitCode::SUCCESS;
    }
    let rounds = words.get(2).map_or(Ok(20), |rounds| rounds.parse::<usize>());
    let (Some(workspace), Some(file), Ok(rounds)) = (words.first(), words.get(1), rounds) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match measure(Path::new(workspace), file, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// A daemon that is ended with this.
struct Daemon {
    child: Child,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // It may have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(workspace: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        for name in ["config/knhk-test-cache", "cache", "run"] {
            fs::create_dir_all(at(name))?;
        }
        fs::set_permissions(at("run"), fs::Permissions::from_mode(0o700))?;
        let config = format!("[[project]]\npath = {workspace:?}\ndebounce = '20ms'\n");
        fs::write(at("config/knhk-test-cache/config.toml"), config)?;
        let log = at("log");
        let child = Command::new(env!("CARGO_BIN_EXE_knhk-test-cache"))
            .arg("daemon")
            .current_dir(workspace)
            .env("XDG_CONFIG_HOME", at("config"))
            .env("XDG_CACHE_HOME", at("cache"))
            .env("XDG_RUNTIME_DIR", at("run"))
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        Ok(Self { child, log, _dir: dir })
    }

    /// Waits until this was said so many times.
    fn until(&self, what: &str, times: usize) -> Result<Instant, String> {
        let begun = Instant::now();
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if log.matches(what).count() >= times {
                return Ok(Instant::now());
            }
            let wrong = ["the tests do not compile", "not the same by itself"];
            if begun.elapsed() > PATIENCE || wrong.iter().any(|wrong| log.contains(wrong)) {
                return Err(format!("waited in vain for `{what}`:\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn measure(workspace: &Path, file: &str, rounds: usize) -> Result<(), String> {
    let path = workspace.join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{file}: {error}"))?;
    let workspace = workspace.canonicalize().map_err(|error| error.to_string())?;
    let daemon = Daemon::start(&workspace).map_err(|error| error.to_string())?;
    let outcome = run(&daemon, &path, &text, rounds);
    fs::write(&path, &text).map_err(|error| format!("{file}: {error}"))?;
    let (own, whole) = outcome?;
    let ratios: Vec<_> = own.iter().zip(&whole).map(|(own, whole)| own / whole).collect();
    println!("| {file}, {rounds} saves | median | worst |\n|---|--:|--:|");
    for (name, mut figures, unit) in
        [("own tests ready", own, " s"), ("all ready", whole, " s"), ("ratio", ratios, "")]
    {
        figures.sort_by(f64::total_cmp);
        let (median, worst) = (figures[figures.len() / 2], figures[figures.len() - 1]);
        println!("| {name} | {median:.2}{unit} | {worst:.2}{unit} |");
    }
    Ok(())
}

/// Seconds from each save to the edited package being ready, and to all of it.
fn run(
    daemon: &Daemon,
    path: &Path,
    text: &str,
    rounds: usize,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    const ALL: &str = "the tests are ready";
    const OWN: &str = "(edited)";
    daemon.until(ALL, 1)?;
    let (mut own, mut whole) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        let saved = Instant::now();
        let more = format!(
            "\n/// Another one.\n#[allow(dead_code)]\npub fn round() -> usize {{ {round} }}\n"
        );
        fs::write(path, text.to_owned() + &more).map_err(|error| error.to_string())?;
        own.push((daemon.until(OWN, round)? - saved).as_secs_f64());
        whole.push((daemon.until(ALL, round + 1)? - saved).as_secs_f64());
    }
    Ok((own, whole))
}
