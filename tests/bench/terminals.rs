//! How often another terminal gets the answer of this one: the hit rate over 72 variables that prompts,
//! terminals, version managers, agents and CI set.
//!
//! `cargo bench --bench terminals -- WORKSPACE..` asks about each workspace in one environment until the
//! answer comes from records, and then once for each variable with the variable set. It prints for
//! how many of them the answer needed no build, how many test targets ran altogether, and why the others
//! count. `TERMINALS_BENCH_EXE` names another build of the program.

#![expect(clippy::disallowed_methods, reason = "the processes are what is measured")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const VARIABLES: [&str; 72] = [
    // prompts, shells and multiplexers
    "STARSHIP_SESSION_KEY",
    "STARSHIP_SHELL",
    "POWERLEVEL9K_TTY",
    "ATUIN_SESSION",
    "ATUIN_HISTORY_ID",
    "ZELLIJ",
    "ZELLIJ_SESSION_NAME",
    "ZELLIJ_PANE_ID",
    "TMUX",
    "TMUX_PANE",
    "FZF_DEFAULT_OPTS",
    "_ZO_DOCTOR",
    "LS_COLORS",
    "LSCOLORS",
    "LESS",
    "LESSOPEN",
    "PAGER",
    "MANPATH",
    "EDITOR",
    "VISUAL",
    "HISTFILE",
    "SHLVL",
    // terminals and sessions
    "TERM_PROGRAM",
    "TERM_SESSION_ID",
    "COLORTERM",
    "KITTY_WINDOW_ID",
    "ALACRITTY_LOG",
    "WEZTERM_PANE",
    "GHOSTTY_RESOURCES_DIR",
    "VSCODE_IPC_HOOK_CLI",
    "WINDOWID",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XDG_SESSION_ID",
    "XDG_CURRENT_DESKTOP",
    "SSH_AUTH_SOCK",
    "SSH_CONNECTION",
    "GPG_TTY",
    "HYPRLAND_INSTANCE_SIGNATURE",
    // version managers
    "DIRENV_DIR",
    "DIRENV_DIFF",
    "__MISE_SESSION",
    "MISE_SHELL",
    "ASDF_DIR",
    "NVM_DIR",
    "NVM_BIN",
    "FNM_MULTISHELL_PATH",
    "PYENV_ROOT",
    "CONDA_PREFIX",
    "VIRTUAL_ENV",
    "SDKMAN_DIR",
    "NIX_PATH",
    "NIX_PROFILES",
    "IN_NIX_SHELL",
    // agents
    "CLAUDECODE",
    "CLAUDE_CODE_ENTRYPOINT",
    "CODEX_THREAD_ID",
    "GEMINI_CLI",
    "CURSOR_TRACE_ID",
    "AI_AGENT",
    // CI and hooks
    "GITHUB_RUN_ID",
    "GITHUB_SHA",
    "GITLAB_CI",
    "BUILDKITE_JOB_ID",
    "RUNNER_TEMP",
    "GIT_DIR",
    // which tests do read
    "CI",
    "TZ",
    "NO_COLOR",
    "USER",
    "RUST_LOG",
    "HOSTNAME",
];

/// How the reasons begin of answers that need no build.
const WITHOUT_A_BUILD: [&str; 2] = ["same code", "same packages"];

/// So often a workspace is asked about before its answer must come from records.
const MOST_RUNS: usize = 4;

fn main() {
    let workspaces = std::env::args_os().skip(1).filter(|arg| arg != "--bench");
    let workspaces: Vec<PathBuf> = workspaces.map(PathBuf::from).collect();
    if workspaces.is_empty() {
        println!("terminals: name workspaces: cargo bench --bench terminals -- PATH..");
    }
    for workspace in workspaces {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = workspace.canonicalize().expect("the workspace");
        println!("{}", Client { folder: folder.path(), root }.figures());
    }
}

struct Client<'a> {
    folder: &'a Path,
    root: PathBuf,
}

/// An answer: how long it took, whether it needed no build, and its last line of JSON.
struct Answer {
    took: Duration,
    is_known: bool,
    summary: Value,
}

impl Client<'_> {
    /// The lines of JSON that a command prints with one more variable, or none.
    fn run(&self, args: &[&str], variable: Option<(&str, &str)>) -> Vec<Value> {
        let built = || env!("CARGO_BIN_EXE_knhk-test-cache").to_owned();
        let exe = std::env::var("TERMINALS_BENCH_EXE").unwrap_or_else(|_| built());
        let mut command = Command::new(exe);
        command.args(args).args(["--format", "json"]);
        command.current_dir(&self.root).stdin(Stdio::null()).stderr(Stdio::null()).env_clear();
        for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("XDG_CACHE_HOME", self.folder.join("cache"));
        command.env("XDG_CONFIG_HOME", self.folder.join("config"));
        command.envs(variable);
        let output = command.output().expect("the program");
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn ask(&self, variable: Option<&str>) -> Answer {
        let started = Instant::now();
        let variable = variable.map(|name| (name, "some value"));
        let mut lines = self.run(&["test", "--no-daemon"], variable);
        let took = started.elapsed();
        let summary = lines.pop().expect("a summary");
        let is_known = lines.iter().all(|line| {
            let reason = line["reason"].as_str().unwrap_or_default();
            WITHOUT_A_BUILD.iter().any(|start| reason.starts_with(start))
        });
        Answer { took, is_known: is_known && summary["source"] == "cache", summary }
    }

    /// Why the variable counts, as the program tells without a build.
    fn why(&self, variable: &str) -> String {
        let line = self.run(&["check"], Some((variable, "another value"))).pop();
        let reason = line.and_then(|line| line["reason"].as_str().map(str::to_owned));
        format!("\n  {variable}: {}", reason.unwrap_or_default())
    }

    fn figures(&self) -> String {
        let first = (0..MOST_RUNS).map(|_| self.ask(None)).find(|answer| answer.is_known);
        let first = first.expect("a workspace of which the answer comes from records");
        let targets = first.count("targets_cached");
        let (mut answered, mut ran, mut times, mut counting) = (0, 0, Vec::new(), Vec::new());
        for name in VARIABLES {
            let answer = self.ask(Some(name));
            ran += answer.count("targets_run");
            times.push(answer.took);
            match answer.is_known {
                true => answered += 1,
                false => counting.push(self.why(name)),
            }
        }
        times.sort();
        format!(
            "{}: {answered} of {} variables answered without a build; {ran} of {} targets ran; median \
             {:.0} ms; not without a build:{}",
            self.root.file_name().unwrap_or_default().display(),
            VARIABLES.len(),
            targets * VARIABLES.len() as u64,
            times[times.len() / 2].as_secs_f64() * 1e3,
            counting.concat(),
        )
    }
}

impl Answer {
    fn count(&self, what: &str) -> u64 {
        self.summary[what].as_u64().unwrap_or_default()
    }
}
