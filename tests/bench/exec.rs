//! What it costs to be cargo's runner, as ratios within one run.
//!
//! `cargo bench --bench exec` prints how long one answer from a record takes against running
//! `/bin/true` (the bar is 4), and how much faster `cargo test --workspace --tests` is with the
//! runner line than without it, nothing changed (the bar is 10). The workspace is a generated one,
//! or the checkout that `KNHK_BENCH_RIPGREP` names. `EXEC_BENCH_ROUNDS` is how often each is run.

#![expect(clippy::disallowed_methods, reason = "the processes are what is measured")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The program; `EXEC_BENCH_EXE` names another build of it.
fn exe() -> String {
    let built = || env!("CARGO_BIN_EXE_knhk-test-cache").to_owned();
    std::env::var("EXEC_BENCH_EXE").unwrap_or_else(|_| built())
}

fn main() {
    if !cfg!(target_os = "linux") {
        println!("exec: skipped: runs can be observed on Linux only");
        return;
    }
    let rounds = std::env::var("EXEC_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(10);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = match std::env::var_os("KNHK_BENCH_RIPGREP") {
        Some(path) => PathBuf::from(path).canonicalize().expect("the workspace"),
        None => generated(&folder.path().join("ws")),
    };
    let client = Client { folder: folder.path(), root };
    client.cargo(false, &["--no-run"]);
    client.whole(rounds);
    client.one(rounds * 20);
}

/// Ten packages; each has a test that waits as real ones compute.
fn generated(root: &Path) -> PathBuf {
    let write = |path: String, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    write("Cargo.toml".into(), "[workspace]\nresolver = '2'\nmembers = ['p*']\n");
    for number in 0..10 {
        let manifest =
            format!("[package]\nname = 'p{number}'\nversion = '0.1.0'\nedition = '2021'\n");
        write(format!("p{number}/Cargo.toml"), &manifest);
        write(format!("p{number}/src/lib.rs"), "#[test] fn unit() {}\n");
        let test = "#[test] fn computes() {\n\
                    let start = std::time::Instant::now();\n\
                    while start.elapsed().as_millis() < 200 { std::hint::spin_loop() } }\n";
        write(format!("p{number}/tests/it.rs"), test);
    }
    root.to_owned()
}

struct Client<'a> {
    folder: &'a Path,
    root: PathBuf,
}

impl Client<'_> {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.env("XDG_CACHE_HOME", self.folder.join("cache"));
        command.env("XDG_CONFIG_HOME", self.folder.join("config"));
        // What cargo sets for whoever runs this is not for the tests.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let of_cargo = text.starts_with("CARGO_") && text != "CARGO_HOME";
            if of_cargo || text == "LD_LIBRARY_PATH" || text == "OUT_DIR" {
                command.env_remove(name);
            }
        }
        command
    }

    /// Seconds, and what was said.
    fn cargo(&self, with_us: bool, more: &[&str]) -> (f64, String) {
        let runner = format!("target.'cfg(all())'.runner=[{:?}, 'exec']", exe());
        let mut command = self.command("cargo");
        if with_us {
            command.args(["--config", &runner]);
        }
        command.args(["test", "--workspace", "--tests", "--offline"]).args(more);
        timed(&mut command)
    }

    /// The whole workspace, nothing changed.
    fn whole(&self, rounds: usize) {
        // Twice: what was only just built is not kept.
        self.cargo(true, &[]);
        self.cargo(true, &[]);
        let (mut with, mut without, mut cached, mut programs) = (vec![], vec![], 0, 0);
        for _ in 0..rounds.min(5) {
            without.push(self.cargo(false, &[]).0);
            let (time, said) = self.cargo(true, &[]);
            with.push(time);
            cached = said.matches("is cached:").count();
            programs = said.matches("Running ").count();
        }
        let (with, without) = (median(&mut with), median(&mut without));
        println!(
            "exec: cargo test --workspace --tests: {without:.3} s without, {with:.3} s with us \
             ({cached} of {programs} programs from records): {:.1} times faster",
            without / with
        );
        let (time, _) = self.cargo(false, &["--no-run"]);
        println!("exec: cargo test --workspace --tests --no-run: {time:.3} s");
    }

    /// One answer. The call is cargo's own, as a runner that writes it down has seen it.
    fn one(&self, rounds: usize) {
        let runner = self.folder.join("note");
        let noted = self.folder.join("noted");
        let script = format!(
            "#!/bin/sh\n[ -e {noted:?} ] || {{ env -0 > {noted:?}.env; pwd > {noted:?}.dir; \
             echo \"$1\" > {noted:?}; }}\n"
        );
        fs::write(&runner, script).expect("a script");
        self.command("chmod").arg("755").arg(&runner).status().expect("chmod");
        let config = format!("target.'cfg(all())'.runner={runner:?}");
        let mut command = self.command("cargo");
        command.args(["--config", &config, "test", "--workspace", "--tests", "--offline"]);
        timed(&mut command);
        let read = |end: &str| fs::read_to_string(format!("{}{end}", noted.display()));
        let program = read("").expect("a call").trim_end().to_owned();
        let dir = read(".dir").expect("a call").trim_end().to_owned();
        let variables = read(".env").expect("a call");
        let call = || {
            let mut command = self.command(&exe());
            command.args(["exec", &program]).current_dir(&dir).env_clear();
            command.envs(variables.split('\0').filter_map(|pair| pair.split_once('=')));
            timed(&mut command)
        };
        (0..3).for_each(|_| drop(call()));
        let (mut ours, mut nothing, mut ratios) = (vec![], vec![], vec![]);
        let mut all = true;
        for _ in 0..rounds {
            let (answer, said) = call();
            all &= said.contains("is cached:");
            let (bare, _) = timed(&mut self.command("/bin/true"));
            ours.push(answer);
            nothing.push(bare);
            ratios.push(answer / bare);
        }
        let (answer, bare) = (median(&mut ours), median(&mut nothing));
        println!(
            "exec: one answer {:.2} ms, /bin/true {:.2} ms: ratio of medians {:.2}, median ratio \
             {:.2}, of the fastest {:.2}{}",
            answer * 1e3,
            bare * 1e3,
            answer / bare,
            median(&mut ratios),
            ours[0] / nothing[0],
            if all { "" } else { " (NOT ALL FROM THE RECORD)" }
        );
    }
}

/// Runs it to its end with success: seconds, and what it said on standard error.
fn timed(command: &mut Command) -> (f64, String) {
    let started = Instant::now();
    let output = command.output().expect("it starts");
    let time = started.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    (time, said)
}

/// Sorts, and returns the middle.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
