//! The configuration: which projects there are, and how each of them is asked.
//!
//! Two places describe a key: its field in one of the structs below, and `config/default.toml`.
//! The struct says how the value is written and derives the JSON schema; the file, which is
//! compiled in, has the value that holds unless the user's config has another.
//!
//! The tables of the user's file are laid over those of the default, and the `[[project]]` entries
//! over `[defaults]`. A key that nothing reads is an error.
//!
//! [`load()`] reads the file once and watches nothing. An error in the file ([`ConfigError`]) means
//! that there is no new config; a caller that has one keeps it. A project whose folder does not
//! exist is not such an error but one of [`Loaded::problems`], since it may come back at any time.
//!
//! [`edit`] changes one entry of the file and no other byte.

pub(crate) mod cargo_runner;
pub(crate) mod edit;
mod error;
mod load;
mod place;
mod read;
mod schema;
mod show;
mod source;
#[cfg(test)]
mod tests;
mod toml_text;
mod units;
mod values;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Digest;
use crate::process::Environment;
use values::{
    AddressGlob, As, Bytes, CargoWord, ExcludedFiles, IncludedFiles, List, Millis, OutsideFile,
    Percent, StoreUrl, TEN_YEARS, TargetGlob, Text, VariableGlob, Whole,
};

pub(crate) use error::ConfigError;
pub use load::load;
pub(crate) use load::{Loaded, check};
pub(crate) use schema::json_schema;
pub(crate) use units::{format_duration, parse_duration};

/// The shipped default, which is also the documentation of every key.
pub(crate) const DEFAULT: &str = include_str!("../config/default.toml");

/// The configuration of knhk-test-cache.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(title = "knhk-test-cache", deny_unknown_fields)]
pub struct Config {
    /// The records of all projects.
    pub cache: CacheSettings,
    /// The log.
    pub log: LogSettings,
    /// Work in the background, and when it holds back.
    pub background: BackgroundSettings,
    /// A daemon without a service manager.
    pub service: ServiceSettings,
    /// Records that other machines have proven.
    pub shared: SharedSettings,
    /// Settings for every project that has no other value. A list in a project replaces the list
    /// given here; it does not add to it.
    pub defaults: Settings,
    /// The projects, each one cargo workspace, in the order of the file. No two have the same path.
    #[schemars(rename = "project")]
    pub projects: Vec<Project>,
}

/// `[cache]`: the records of all projects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct CacheSettings {
    /// The most that all records of all projects take together; the oldest are removed first.
    #[serde(with = "As::<Text<Bytes, { 1 << 20 }, { 1 << 50 }>>")]
    pub max_size: u64,
    /// The age at which a record is removed; "0s" sets no limit.
    #[serde(with = "As::<Text<Millis, 0, TEN_YEARS>>")]
    pub max_age: Option<Duration>,
}

/// `[log]`: the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct LogSettings {
    /// How much is logged.
    pub level: LogLevel,
}

/// `[background]`: work in the background, and when it holds back. A condition that the machine
/// does not report counts as `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct BackgroundSettings {
    /// On battery, with less charge than `battery_below`.
    pub on_battery: Effort,
    /// The charge below which `on_battery` holds; "100%" means always on battery.
    #[serde(with = "As::<Text<Percent, 1, 100>>")]
    pub battery_below: u32,
    /// While the machine saves power (its low-power profile).
    pub power_save: Effort,
    /// The share of time that programs may wait for memory before background work pauses; "0%" sets
    /// no limit.
    #[serde(with = "As::<Text<Percent, 0, 100>>")]
    pub memory_pressure: Option<u32>,
    /// While the session is locked.
    pub session_locked: Effort,
    /// While other programs keep the processors busy: "slow" leaves them a core, "pause" also
    /// suspends builds while they use all cores.
    pub processors_busy: Effort,
    /// The number of compilers or test programs at a time; 0 leaves it to cargo and to
    /// `processors_busy`.
    #[serde(with = "As::<Whole<0, 1024>>")]
    pub jobs: Option<NonZeroUsize>,
}

/// `[service]`: a daemon that `start` runs where there is no service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct ServiceSettings {
    /// How long it stays when nothing happens; "0s" sets no limit.
    #[serde(with = "As::<Text<Millis, 0, TEN_YEARS>>")]
    pub idle_timeout: Option<Duration>,
}

/// `[shared]`: records that other machines have proven. Only this file names the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct SharedSettings {
    /// Where the records lie: `file:///folder`, `s3://bucket/prefix?endpoint=…&region=…`,
    /// `gs://bucket/prefix`, `az://container/prefix?account=…` or
    /// `redis://host:port/database?prefix`; "" for nowhere.
    #[serde(with = "As::<StoreUrl>")]
    pub url: Option<String>,
    /// Whether records of trusted signers answer.
    pub read: bool,
    /// Whether what was proven here is signed and published.
    pub write: bool,
    /// The file of the SSH key that records are signed with; a public key where an agent holds the
    /// private one.
    #[serde(with = "As::<OutsideFile>")]
    pub sign_with: Option<PathBuf>,
    /// The file of the signers to trust, in git's format. It lies outside the workspaces.
    #[serde(with = "As::<OutsideFile>")]
    pub allowed_signers: Option<PathBuf>,
    /// Whether records of signers with the principal `peer` answer too.
    pub trust_peers: bool,
}

/// How much is done in the background, from much to little.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Effort {
    /// Full speed.
    Run,
    /// One job at a time.
    Slow,
    /// No work.
    Pause,
}

/// `[defaults]`, and each `[[project]]`: how a project is asked and served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Settings {
    /// The selection: the words that follow `cargo test`, one word an entry.
    #[serde(with = "As::<List<CargoWord>>")]
    pub args: Vec<String>,
    /// Files that count although git ignores them: globs, relative to the workspace.
    #[serde(with = "As::<List<IncludedFiles>>")]
    pub extra_inputs: Vec<String>,
    /// Files that never count: globs, relative to the workspace. Name only files that no test and
    /// no build reads.
    #[serde(with = "As::<List<ExcludedFiles>>")]
    pub exclude: Vec<String>,
    /// How long a verdict is answered from cache.
    #[serde(with = "As::<Text<Millis, 1, TEN_YEARS>>")]
    pub ttl: Duration,
    /// The number of latest snapshots whose verdicts are kept.
    #[serde(with = "As::<Whole<1, 1000>>")]
    pub keep_snapshots: u32,
    /// How long a project must be quiet after a save before its tests are built in the background.
    #[serde(with = "As::<Text<Millis, 0, 3_600_000>>")]
    pub debounce: Duration,
    /// The program that runs the tests.
    pub runner: Runner,
    /// Which tests run in the background too, after they are built: "auto" for targets whose last run
    /// shows that nobody will notice another one.
    #[serde(with = "As::<BackgroundTests>")]
    pub background_tests: BackgroundTests,
    /// What is done where no test can reach a change: "shadow" compares runs with what a selection
    /// would have run, "on" lets a target keep its verdict, "off" does nothing.
    #[serde(with = "As::<TestSelection>")]
    pub selection: TestSelection,
    /// The percentage of answers from cache that a run in the background verifies.
    #[serde(with = "As::<Whole<0, 100>>")]
    pub verify_percent: u32,
    /// How often a flaky test must pass in a row before its target is cached again.
    #[serde(with = "As::<Whole<1, 1000>>")]
    pub flaky_runs: u32,
    /// The share of a test target's run that observing it may take before `explain` and `stats` report
    /// it. No target is observed less.
    #[serde(with = "As::<Text<Percent, 1, 100>>")]
    pub observe_budget: u32,
    /// The time limit for one test target; "0s" sets none.
    #[serde(with = "As::<Text<Millis, 0, TEN_YEARS>>")]
    pub timeout: Option<Duration>,
    /// Tests that are never answered from cache: globs of packages (`my-crate`) or of test targets
    /// as `test` prints them (`my-crate::network`, `my-crate (doc)`).
    #[serde(with = "As::<List<TargetGlob>>")]
    pub always_run: Vec<String>,
    /// Services outside the tests that always answer alike: globs of addresses as `test` prints
    /// them (`127.0.0.1:5432`, `/run/postgresql/*`).
    #[serde(with = "As::<List<AddressGlob>>")]
    pub trusted_services: Vec<String>,
    /// Variables that never decide a verdict: globs of names. Those that decide a build count all the
    /// same.
    #[serde(with = "As::<List<VariableGlob>>")]
    pub ignore_env: Vec<String>,
    /// Variables that always decide a verdict, whether or not a test names them: globs of names.
    #[serde(with = "As::<List<VariableGlob>>")]
    pub extra_env: Vec<String>,
    /// The target directory: `cargo` for the developer's own, `own` for a separate one beside the
    /// records, or an absolute path, which may start with `~` and hold variables.
    #[serde(with = "As::<TargetDir>")]
    pub target_dir: TargetDir,
    /// How long a build in the background may go on without finishing a unit; "0s" sets no limit.
    #[serde(with = "As::<Text<Millis, 0, TEN_YEARS>>")]
    pub build_timeout: Option<Duration>,
    /// How long tests in the background may go on without finishing a test; "0s" sets no limit.
    #[serde(with = "As::<Text<Millis, 0, TEN_YEARS>>")]
    pub background_timeout: Option<Duration>,
    /// Remove build artifacts that the service made and cargo no longer uses.
    pub clean_target: bool,
    /// Run one test program at a time, as cargo does, and not several beside each other.
    pub serial: bool,
    /// How `watch` notifies the user when the project has turned red in the background, and when it
    /// is green again.
    pub notify: Notifications,
}

/// The target directory of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetDir {
    /// The one that the developer's own cargo uses.
    Cargo,
    /// A folder of the project's own below this one.
    Own(PathBuf),
    /// This folder.
    At(PathBuf),
}

impl TargetDir {
    /// The folder for a workspace; none where cargo decides.
    #[must_use]
    pub(crate) fn of(&self, workspace_root: &Path) -> Option<PathBuf> {
        match self {
            Self::Cargo => None,
            Self::Own(below) => Some(below.join(own_name(workspace_root))),
            Self::At(path) => Some(path.clone()),
        }
    }
}

/// The name of a project's own target directory: short, since paths below it can grow long.
fn own_name(workspace_root: &Path) -> String {
    let digest = Digest::of(workspace_root.as_os_str().as_bytes()).to_string();
    digest.chars().take(16).collect()
}

/// A project: one cargo workspace.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(inline, deny_unknown_fields)]
pub struct Project {
    /// The workspace's folder: an absolute path. It may start with `~` and hold variables (`$NAME`,
    /// `${NAME}`; a literal dollar sign is `$$`).
    // Without symbolic links, as far as it exists.
    #[schemars(with = "String", length(min = 1))]
    pub path: PathBuf,
    /// The path as the file has it, before `~` and variables were expanded.
    #[schemars(skip)]
    pub written: String,
    /// Its own settings, laid over `[defaults]`, laid over the shipped ones.
    #[schemars(flatten)]
    pub settings: Settings,
}

/// The program that runs a project's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Runner {
    /// As `cargo test` runs them.
    Cargo,
    /// `cargo nextest run`.
    Nextest,
}

/// How the user is notified of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Notifications {
    /// No notification.
    Off,
    /// By the terminal in which `watch` runs.
    Terminal,
    /// By the desktop, in a build with the feature `desktop-notifications`.
    Desktop,
}

/// What is done about single tests that a change cannot reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TestSelection {
    /// Every test of a stale target runs.
    Off,
    /// They run, and the service records whether leaving some out would have been right.
    Shadow,
    /// Tests that can reach no change, and share no state with one that can, do not run.
    On,
}

/// Which tests run in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackgroundTests {
    /// No target.
    Off,
    /// Targets whose last observed run was short, connected to no service, wrote only below target and
    /// temporary folders and left no process behind.
    Auto,
    /// Every target.
    All,
}

/// How much is logged, from little to much.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogLevel {
    /// Only failures.
    Error,
    /// Also what is unusual.
    Warn,
    /// Also builds, runs and answers.
    Info,
    /// Also the reasons of decisions.
    Debug,
    /// Also every step.
    Trace,
}

impl Runner {
    /// The word in the config.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Nextest => "nextest",
        }
    }
}

/// The variable that names the socket of an SSH agent.
const AGENT: &str = "SSH_AUTH_SOCK";

impl SharedSettings {
    /// Whether the records of other machines are asked for.
    #[must_use]
    pub(crate) fn is_asked(&self) -> bool {
        self.url.is_some() && self.read
    }

    /// The environment of tests: where records are signed, none of them sees the agent.
    #[must_use]
    pub(crate) fn test_environment(&self, mut environment: Environment) -> Environment {
        if self.write {
            environment.remove(AGENT);
        }
        environment
    }

    /// The agent's socket for cargo, which may need it to fetch, where tests do not see it.
    #[must_use]
    pub(crate) fn hidden_agent(&self, environment: &Environment) -> Option<OsString> {
        environment.get(AGENT).filter(|_| self.write).map(OsStr::to_owned)
    }
}

#[cfg(test)]
impl BackgroundSettings {
    /// Every condition but a locked session limits the work.
    pub(crate) const SAMPLE: Self = Self {
        on_battery: Effort::Pause,
        battery_below: 40,
        power_save: Effort::Slow,
        memory_pressure: Some(10),
        session_locked: Effort::Run,
        processors_busy: Effort::Pause,
        jobs: None,
    };
}

impl LogLevel {
    /// The word in the config.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Config {
    /// The project that a folder lies in: the innermost, if one lies inside another.
    ///
    /// `dir` is absolute; symbolic links on the way are followed.
    #[must_use]
    pub(crate) fn project_for(&self, dir: &Path) -> Option<&Project> {
        let real = dir.canonicalize();
        let real = real.as_deref().unwrap_or(dir);
        let around =
            |project: &&Project| dir.starts_with(&project.path) || real.starts_with(&project.path);
        self.projects.iter().filter(around).max_by_key(|project| project.path.components().count())
    }

    /// The settings for a folder: those of its project, or the defaults.
    #[must_use]
    pub fn settings_for(&self, dir: &Path) -> &Settings {
        self.project_for(dir).map_or(&self.defaults, |project| &project.settings)
    }
}

impl Project {
    /// A short name for logs and headings: that of the folder.
    #[must_use]
    pub(crate) fn name(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy()
    }
}

/// The settings of a project that sets none.
#[cfg(test)]
pub(crate) fn shipped_settings() -> Settings {
    use crate::paths::Paths;

    let environment = Environment::of(&[("HOME", "/nonexistent")]);
    let paths = Paths::from_environment(&environment).expect("a home");
    read::read("", &paths, &environment).config.defaults
}

/// The text of a file.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(text: &str) {
    use crate::paths::Paths;

    let mut environment = Environment::default();
    environment.set("HOME", "/nonexistent");
    let paths = Paths::from_environment(&environment).expect("a home");
    let _ = read::read(text, &paths, &environment);
}
