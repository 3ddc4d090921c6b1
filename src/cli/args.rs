//! The definition of the command line. The names of commands and their `--format` are a contract
//! with scripts.

mod cache;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::{ArgValueCandidates, Shell};

pub(crate) use self::cache::CacheCommand;
use super::names;
use crate::cache::HISTORY_DAYS;
use crate::model::TargetKind;

/// Are the tests green for the tree as it stands now?
///
/// Keeps the test binaries of your cargo workspaces compiled and caches their verdicts by content:
/// unchanged code is answered from cache, and changed code runs only the stale test targets.
/// `knhk-test-cache help topics` lists the pages of the guide.
#[derive(Debug, Parser)]
#[command(name = "knhk-test-cache", version, about, long_about, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// When to colour the output
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// The config file instead of the user's own
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(env = "KNHK_TEST_CACHE_CONFIG")]
    pub config_file: Option<PathBuf>,
    /// The command
    #[command(subcommand)]
    pub command: CliCommand,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The form of what goes to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for scripts.
    Json,
}

/// The form of the answer of `test`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TestFormat {
    /// For people, on standard error.
    Text,
    /// One JSON object a line, for scripts.
    Json,
    /// One line if green; else each failure's message and place, and the path of the complete log.
    Terse,
    /// Annotations, groups and a job summary, for GitHub Actions.
    Github,
    /// A JUnit report; cached cases have the property `cached`.
    Junit,
}

/// The form of a selection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SelectFormat {
    /// A filterset of cargo-nextest, which knows no doctests.
    #[default]
    NextestFilter,
    /// One JSON object a line: each target that is known, and a summary.
    Json,
}

/// The commands. Only the arguments of the one that is called are made. A doc comment on their type
/// would take the place of the command's, so they have plain ones.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum CliCommand {
    /// Answer whether the tests are green: from cache, or by running the stale test targets
    #[command(visible_alias = "t")]
    Test(Box<TestArgs>),
    /// Tell what is known of the tests, without building or running anything
    Check(CheckArgs),
    /// Print the state of the tests as it changes, as lines of text or as a stream of events
    Watch(WatchArgs),
    /// Show the verdict of each test in your editor: a language server on standard input and output
    Lsp,
    /// Install the service for your session, and watch these workspaces
    Install {
        /// Workspaces to put into the config
        #[arg(value_hint = ValueHint::DirPath)]
        paths: Vec<PathBuf>,
        /// Only print what would be done
        #[arg(long)]
        dry_run: bool,
        /// Overwrite units that were edited by hand; replace another copy's installation
        #[arg(long)]
        force: bool,
    },
    /// Stop and remove the service; keep config and records
    Uninstall {
        /// Remove config and records too
        #[arg(long)]
        purge: bool,
    },
    /// Start the service and wait until it is ready
    Start,
    /// Stop the service and wait until it has stopped
    Stop,
    /// Stop and start the service
    Restart,
    /// Show the service's log
    Logs {
        /// Keep printing new lines
        #[arg(short, long)]
        follow: bool,
        /// The number of lines to begin with
        #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
        lines: u32,
    },
    /// Set up the workspace around the current folder, step by step
    Init {
        /// Do every step without asking
        #[arg(short, long)]
        yes: bool,
    },
    /// Show what this program does on a small workspace in a temporary folder, beside real cargo
    Demo,
    /// Check the installation, the machine and the projects, and print a remedy for each problem
    Doctor {
        /// text or json
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Show the daemon, its projects, their builds and verdicts
    Status {
        /// Only this project
        #[arg(value_hint = ValueHint::DirPath)]
        path: Option<PathBuf>,
        /// text or json
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
        /// One word or two about the workspace around the current folder, for a prompt or a status
        /// line; nothing outside of workspaces
        #[arg(long, conflicts_with = "format")]
        short: bool,
    },
    /// Show hits, misses and their reasons, the time saved, the slowest targets and those never cached
    Stats(StatsArgs),
    /// Explain for each test target why it is cached or why it runs
    Explain(Box<ExplainArgs>),
    /// Print which test targets `test` would run, without building or running anything
    ///
    /// It knows what `explain` knows before a build: a target is left out only if records answer for
    /// it. All that is unknown is selected, so targets can be selected that `test` finds unchanged
    /// after its build.
    Select {
        /// The project; by default the workspace around the current folder
        #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
        /// A filterset for `cargo nextest run -E`, or one JSON object a line
        #[arg(long, value_enum, default_value_t)]
        format: SelectFormat,
    },
    /// Build the tests now, even if they are up to date
    Rebuild {
        /// The project; by default the workspace around the current folder
        #[arg(value_hint = ValueHint::DirPath)]
        path: Option<PathBuf>,
    },
    /// Suspend background work, for a while or until `resume`; `test` still answers
    Pause {
        /// How long: `30m`, `1h 30m`; by default until `resume`
        #[arg(value_name = "DURATION")]
        duration: Vec<String>,
        /// Only this project
        #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
    },
    /// End the pause of one project, or every pause
    Resume {
        /// Instead, have records answer again for targets of which a verified answer was wrong
        #[arg(long)]
        trust: bool,
        /// Only this project
        #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
        project: Option<PathBuf>,
    },
    /// Add a workspace to the config
    Add {
        /// The workspace; by default the one around the current folder
        #[arg(value_hint = ValueHint::DirPath)]
        path: Option<PathBuf>,
    },
    /// Remove a workspace from the config
    Remove {
        /// The workspace; by default the one around the current folder
        #[arg(value_hint = ValueHint::DirPath)]
        path: Option<PathBuf>,
    },
    /// List the workspaces of the config
    List {
        /// text or json
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Check, locate, show or edit the config
    Config {
        /// The action
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Show or remove records
    Cache {
        /// The action
        #[command(subcommand)]
        what: CacheCommand,
    },
    /// Answer for a test program from its record, or run it (as cargo's `runner`; see `config cargo`)
    Exec {
        /// The program
        program: PathBuf,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<OsString>,
    },
    /// Run the daemon in the foreground, as the service does
    Daemon {
        /// The form of log lines on standard error
        #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
        log_format: LogFormat,
        /// Log into the state folder, and end when nothing happens for long (as `start` runs it)
        #[arg(long, hide = true)]
        detached: bool,
    },
    /// Print a page of the guide, or list the topics
    Help {
        /// A topic, or `topics`; by default the overview of commands
        #[arg(add = ArgValueCandidates::new(names::topics))]
        topic: Option<String>,
    },
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder
        dir: PathBuf,
    },
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// The journal if it is standard error, else text.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

// `config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every error of the config
    Check,
    /// Print the path of the config file
    Path,
    /// Print the config in force, including defaults
    Show,
    /// Print the JSON schema of the config
    Schema,
    /// Print ten lines for an AGENTS.md, which tell a coding agent how to run the tests here
    Agents,
    /// Print the lines for cargo's own config that have plain `cargo test` cached, or edit that file
    Cargo {
        /// Edit the workspace's `.cargo/config.toml`; everything else in it stays
        #[arg(long)]
        write: bool,
        /// Take the edit of `--write` back
        #[arg(long, conflicts_with = "write")]
        undo: bool,
        /// Edit `$CARGO_HOME/config.toml` instead, for all workspaces
        #[arg(long)]
        global: bool,
    },
}

// `check …`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 if the tests are green, 101 if they are red, 10 if nothing is known."
)]
pub(crate) struct CheckArgs {
    /// The project; by default the workspace around the current folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub path: Option<PathBuf>,
    /// Answer for what git would commit; unknown unless that is what is on disk
    #[arg(long)]
    pub staged: bool,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
}

// `watch …`
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only this project; by default all, or the workspace here if it is not one of them
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// Print the state as it is now, and end: 0 green, 101 red, 10 unknown
    #[arg(long)]
    pub once: bool,
    /// Print lines on a terminal too, as on a pipe
    #[arg(long)]
    pub lines: bool,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
}

// `stats …`
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Only this project
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// How many days to look back, with today
    #[arg(long, value_name = "N", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=HISTORY_DAYS))]
    pub days: u64,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
    /// Write one page with plots instead, which needs nothing else to be read
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "format")]
    pub html: Option<PathBuf>,
}

// `explain …`
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Only targets whose package or name contains this
    #[arg(add = ArgValueCandidates::new(names::all_targets))]
    pub target: Option<String>,
    /// The project; by default the workspace around the current folder
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// text or json
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
}

// `test …`
#[derive(Debug, Default, Args)]
pub(crate) struct TestArgs {
    /// The project; by default the workspace around the current folder
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub project: Option<PathBuf>,
    /// The form of the answer; by default terse for a coding agent, known by its variable, else text
    #[arg(long, value_enum)]
    pub format: Option<TestFormat>,
    /// Write a JUnit report into this file too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub junit: Option<PathBuf>,
    /// Write an unsigned in-toto statement of the verdict into this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub attest: Option<PathBuf>,
    /// Use no record and run everything; the results are recorded
    #[arg(long)]
    pub no_cache: bool,
    /// Run cached targets too and compare; a difference has its own exit status
    #[arg(long)]
    pub verify: bool,
    /// Work without the daemon
    #[arg(long)]
    pub no_daemon: bool,
    /// Print no progress, and a summary only of failures
    #[arg(short, long)]
    pub quiet: bool,
    /// The selection, as cargo names it
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Arguments for the test binaries (`-- --ignored`, `-- --nocapture`, …)
    #[arg(last = true, value_name = "ARGS")]
    pub harness: Vec<OsString>,
}

/// The options with which `cargo test` selects packages, targets, features and profiles. Each means
/// the same here. Without any of them, the project's own selection applies (`--workspace` by
/// default).
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection (as for cargo test)")]
pub(crate) struct SelectionArgs {
    /// Only tests whose name contains this
    #[arg(add = ArgValueCandidates::new(names::tests))]
    pub testname: Option<OsString>,
    /// Packages to test
    #[arg(short, long, value_name = "SPEC", add = ArgValueCandidates::new(names::packages))]
    pub package: Vec<OsString>,
    /// All packages of the workspace
    #[arg(long, visible_alias = "all")]
    pub workspace: bool,
    /// Packages to leave out
    #[arg(long, value_name = "SPEC", add = ArgValueCandidates::new(names::packages))]
    pub exclude: Vec<OsString>,
    /// Only the libraries' unit tests
    #[arg(long)]
    pub lib: bool,
    /// All binaries
    #[arg(long)]
    pub bins: bool,
    /// One binary
    #[arg(long, value_name = "NAME", add = targets_of(TargetKind::Bin))]
    pub bin: Vec<OsString>,
    /// All examples
    #[arg(long)]
    pub examples: bool,
    /// One example
    #[arg(long, value_name = "NAME", add = targets_of(TargetKind::Example))]
    pub example: Vec<OsString>,
    /// All targets that have tests
    #[arg(long)]
    pub tests: bool,
    /// One integration test
    #[arg(long, value_name = "NAME", add = targets_of(TargetKind::Test))]
    pub test: Vec<OsString>,
    /// All benches, as tests
    #[arg(long)]
    pub benches: bool,
    /// One bench
    #[arg(long, value_name = "NAME", add = targets_of(TargetKind::Bench))]
    pub bench: Vec<OsString>,
    /// All targets (no doctests)
    #[arg(long)]
    pub all_targets: bool,
    /// Only doctests
    #[arg(long)]
    pub doc: bool,
    /// Features to switch on
    #[arg(short = 'F', long, value_name = "FEATURES")]
    pub features: Vec<OsString>,
    /// All features
    #[arg(long)]
    pub all_features: bool,
    /// Without the default features
    #[arg(long)]
    pub no_default_features: bool,
    /// The release profile
    #[arg(short, long)]
    pub release: bool,
    /// A profile by name
    #[arg(long, value_name = "NAME")]
    pub profile: Option<OsString>,
    /// A target triple
    #[arg(long, value_name = "TRIPLE")]
    pub target: Vec<OsString>,
    /// Where build output goes
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub target_dir: Option<OsString>,
    /// The manifest
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub manifest_path: Option<OsString>,
    /// Ignore `rust-version`
    #[arg(long)]
    pub ignore_rust_version: bool,
    /// The lock file must not change
    #[arg(long)]
    pub locked: bool,
    /// No network
    #[arg(long)]
    pub offline: bool,
    /// `--locked` and `--offline`
    #[arg(long)]
    pub frozen: bool,
    /// Parallel build jobs
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<OsString>,
    /// A value of cargo's configuration
    #[arg(long, value_name = "KEY=VALUE")]
    pub config: Vec<OsString>,
    /// Cargo's unstable flags
    #[arg(short = 'Z', value_name = "FLAG")]
    pub unstable: Vec<OsString>,
    /// Compile, but run nothing
    #[arg(long)]
    pub no_run: bool,
    /// Accepted for compatibility: every target gets its verdict anyway
    #[arg(long)]
    pub no_fail_fast: bool,
    /// Not supported: shows cargo's commands
    #[arg(short, long, action = clap::ArgAction::Count, hide = true)]
    pub verbose: u8,
    /// Not supported: cargo's report of compile times
    #[arg(long, num_args = 0..=1, require_equals = true, hide = true, value_name = "FORMATS")]
    pub timings: Option<Option<OsString>>,
    /// Not supported: the form of compiler messages
    #[arg(long, hide = true, value_name = "FORMAT")]
    pub message_format: Vec<OsString>,
}

/// Completes targets of a kind.
fn targets_of(kind: TargetKind) -> ArgValueCandidates {
    ArgValueCandidates::new(move || names::targets_of(kind))
}

impl SelectionArgs {
    /// The option of cargo that `test` does not take, and the command that has it.
    #[must_use]
    pub(crate) fn unsupported(&self) -> Option<(&'static str, &'static str)> {
        if self.verbose > 0 {
            Some(("--verbose", "`cargo test --no-run --verbose` shows cargo's commands"))
        } else if self.timings.is_some() {
            Some(("--timings", "`cargo test --no-run --timings` writes that report"))
        } else if !self.message_format.is_empty() {
            Some((
                "--message-format",
                "use `--format json` for verdicts, or `cargo test --no-run --message-format …` for \
                 compiler messages",
            ))
        } else if self.names_toolchain() {
            Some((
                "+TOOLCHAIN",
                "`RUSTUP_TOOLCHAIN=… knhk-test-cache test` tests with that toolchain",
            ))
        } else {
            None
        }
    }

    /// Whether `+nightly` or the like stands where a test's name would.
    fn names_toolchain(&self) -> bool {
        self.testname.as_ref().is_some_and(|name| name.as_encoded_bytes().starts_with(b"+"))
    }

    /// The arguments as cargo takes them, in one fixed order; `None` where nothing was selected.
    #[must_use]
    pub(crate) fn to_cargo(&self) -> Option<Vec<OsString>> {
        let mut args = Vec::new();
        let mut flag = |set: bool, name: &str| {
            if set {
                args.push(name.into());
            }
        };
        flag(self.workspace, "--workspace");
        flag(self.lib, "--lib");
        flag(self.bins, "--bins");
        flag(self.examples, "--examples");
        flag(self.tests, "--tests");
        flag(self.benches, "--benches");
        flag(self.all_targets, "--all-targets");
        flag(self.doc, "--doc");
        flag(self.all_features, "--all-features");
        flag(self.no_default_features, "--no-default-features");
        flag(self.release, "--release");
        flag(self.ignore_rust_version, "--ignore-rust-version");
        flag(self.locked, "--locked");
        flag(self.offline, "--offline");
        flag(self.frozen, "--frozen");
        flag(self.no_run, "--no-run");
        let mut option = |name: &str, values: &[OsString]| {
            for value in values {
                args.push(name.into());
                args.push(value.clone());
            }
        };
        option("--package", &self.package);
        option("--exclude", &self.exclude);
        option("--bin", &self.bin);
        option("--example", &self.example);
        option("--test", &self.test);
        option("--bench", &self.bench);
        option("--features", &self.features);
        option("--profile", self.profile.as_slice());
        option("--target", &self.target);
        option("--target-dir", self.target_dir.as_slice());
        option("--manifest-path", self.manifest_path.as_slice());
        option("--jobs", self.jobs.as_slice());
        option("--config", &self.config);
        option("-Z", &self.unstable);
        args.extend(self.testname.clone());
        (!args.is_empty()).then_some(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn selection(words: &[&str]) -> Option<Vec<OsString>> {
        let all = ["knhk-test-cache", "test"].iter().chain(words);
        match Cli::try_parse_from(all).unwrap().command {
            CliCommand::Test(args) => args.selection.to_cargo(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_selected_is_the_projects_selection() {
        assert_eq!(selection(&[]), None);
        assert_eq!(selection(&["--format", "json", "--no-cache", "--", "--ignored"]), None);
    }

    #[test]
    fn what_is_typed_is_what_cargo_gets() {
        let words = ["-p", "a", "--features", "x y", "-r", "--test", "it", "name"];
        let expected = ["--release", "--package", "a", "--test", "it", "--features", "x y", "name"];
        assert_eq!(selection(&words).unwrap(), expected.map(OsString::from));
        assert_eq!(selection(&["--all"]).unwrap(), ["--workspace"]);
    }

    #[test]
    fn a_duration_of_several_words_does_not_swallow_the_options() {
        let words = ["knhk-test-cache", "pause", "1h", "30m", "--project", "p"];
        match Cli::try_parse_from(words).unwrap().command {
            CliCommand::Pause { duration, project } => {
                assert_eq!((duration.join(" "), project), ("1h 30m".into(), Some("p".into())));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_that_only_cargo_has_are_named_with_the_command_that_has_them() {
        for (words, option) in [
            (&["-v"][..], "--verbose"),
            (&["-vv", "-p", "a"], "--verbose"),
            (&["--timings"], "--timings"),
            (&["--timings=html"], "--timings"),
            (&["--message-format", "json"], "--message-format"),
            (&["+nightly"], "+TOOLCHAIN"),
        ] {
            let all = ["knhk-test-cache", "test"].iter().chain(words);
            let CliCommand::Test(args) = Cli::try_parse_from(all).unwrap().command else {
                panic!("{words:?}");
            };
            assert_eq!(args.selection.unsupported().unwrap().0, option, "{words:?}");
        }
    }

    #[test]
    fn the_order_of_typing_does_not_matter() {
        assert_eq!(selection(&["-p", "a", "--lib"]), selection(&["--lib", "-p", "a"]));
    }
}
