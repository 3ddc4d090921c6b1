//! The configuration: which projects there are, and how each of them is asked.
//!
//! The shipped default, `config/default.toml`, *is* the default: it is compiled in and read as the
//! lowest layer. Above it lies the user's file, whose `[defaults]` hold for all projects and whose
//! `[[project]]` entries hold for one. Every key that is read ends up in [`Config`]; a key that
//! nothing reads is an error.
//!
//! [`load`] reads the file once and watches nothing. An error of the file ([`ConfigError`]) means
//! that there is no new config: who has one keeps it. A project whose folder is not there (now) is
//! no such error but one of [`Loaded::problems`], since it may come back at any time.
//!
//! [`edit`] changes the file and nothing of it but the entry in question.

pub mod edit;
mod error;
mod evaluate;
mod layer;
mod place;
mod schema;
mod show;
mod source;
#[cfg(test)]
mod tests;
mod units;
mod values;

use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;

use crate::model::Digest;
use crate::paths::Paths;
use crate::process::Environment;

pub use error::{ConfigError, Fault};
pub use schema::json_schema;
pub use units::{format_duration, parse_duration};

/// The shipped default, which is also the documentation of every key.
pub const DEFAULT: &str = include_str!("../config/default.toml");

/// Everything that the config says, with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The records of all projects.
    pub cache: CacheSettings,
    /// The log.
    pub log: LogSettings,
    /// When background work holds back.
    pub background: BackgroundSettings,
    /// What holds for a workspace that is no project of the config.
    pub defaults: Settings,
    /// The projects in the order of the file; no two have the same [`Project::path`].
    pub projects: Vec<Project>,
}

/// `[cache]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// How large all records of all projects together may grow, in bytes.
    pub max_size: u64,
    /// How old a record may grow; none sets no limit. Never zero.
    pub max_age: Option<Duration>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How much is logged.
    pub level: Level,
}

/// `[background]`: what is done without being asked, by the state of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackgroundSettings {
    /// On battery, below [`Self::battery_below`].
    pub on_battery: Effort,
    /// A charge in percent, 1 to 100; at 100 the charge does not matter.
    pub battery_below: u32,
    /// While the machine is told to save power.
    pub power_save: Effort,
    /// The share of time, in percent, that programs may wait for memory; none sets no limit.
    pub memory_pressure: Option<u32>,
    /// While the session is locked.
    pub session_locked: Effort,
    /// While other programs keep the processors busy.
    pub processors_busy: Effort,
    /// Compilers or test programs at a time; none leaves it to cargo and to the machine's load.
    pub jobs: Option<NonZeroUsize>,
}

/// How much is done in the background, from much to little.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Effort {
    /// As if nothing were the matter.
    Run,
    /// One job at a time.
    Slow,
    /// Nothing.
    Pause,
}

/// How a project is asked and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What follows `cargo test`, word by word.
    pub args: Vec<String>,
    /// Globs, relative to the workspace, of files that count although git ignores them.
    pub extra_inputs: Vec<String>,
    /// Globs, relative to the workspace, of files that never count.
    pub exclude: Vec<String>,
    /// How long a verdict is answered from cache; never zero.
    pub ttl: Duration,
    /// For how many of the last snapshots verdicts are kept, at least 1.
    pub keep_snapshots: u32,
    /// How long a project must be quiet after a save before its tests are built; may be zero.
    pub debounce: Duration,
    /// What runs the tests.
    pub runner: Runner,
    /// Whether tests run in the background once they are built.
    pub background_tests: bool,
    /// How many in a hundred answers from cache are checked by a run in the background; at most
    /// 100.
    pub verify_percent: u32,
    /// How often a flaky test must pass in a row before its target is kept again, at least 1.
    pub flaky_runs: u32,
    /// How long one test target may run; none sets no limit. Never zero.
    pub timeout: Option<Duration>,
    /// Globs of packages and test targets that are never answered from a record.
    pub always_run: Vec<String>,
    /// Globs of addresses outside of a run that a run may speak to and still be kept.
    pub trusted_services: Vec<String>,
    /// Where the tests are built.
    pub target_dir: TargetDir,
    /// How long a build in the background may go on without finishing anything; none sets no
    /// limit. Never zero.
    pub build_timeout: Option<Duration>,
    /// How long tests in the background may go on without any of them ending; none sets no
    /// limit. Never zero.
    pub background_timeout: Option<Duration>,
    /// Whether what our builds have left in target directories is removed once it is stale.
    pub clean_target: bool,
}

/// Where a project's tests are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetDir {
    /// Where the developer's own cargo builds them.
    Cargo,
    /// In a folder of the project's own below this one.
    Own(PathBuf),
    /// In this folder.
    At(PathBuf),
}

impl TargetDir {
    /// What a text of the config says; its paths are as they are written there.
    fn written(text: &str) -> Self {
        match text {
            "cargo" => Self::Cargo,
            "own" => Self::Own(PathBuf::new()),
            path => Self::At(path.into()),
        }
    }

    /// The word in the config; that of a path is none.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Own(_) => "own",
            Self::At(_) => "",
        }
    }

    /// The folder for the workspace at `root`; none where it is cargo's to say.
    #[must_use]
    pub fn of(&self, root: &Path) -> Option<PathBuf> {
        match self {
            Self::Cargo => None,
            Self::Own(below) => Some(below.join(own_name(root))),
            Self::At(path) => Some(path.clone()),
        }
    }
}

/// The name of a project's own target directory: short, since paths below it can grow long.
fn own_name(root: &Path) -> String {
    let digest = Digest::of(root.as_os_str().as_bytes()).to_string();
    digest.chars().take(16).collect()
}

/// One cargo workspace of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The workspace's folder: absolute and without symbolic links, as far as it exists.
    pub path: PathBuf,
    /// The path as the file has it, before `~` and variables were expanded.
    pub written: String,
    /// Its own settings over the file's defaults over the shipped ones.
    pub settings: Settings,
}

/// What runs a project's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Runner {
    /// As `cargo test` does.
    Cargo,
    /// `cargo nextest run`.
    Nextest,
}

/// How much is logged, from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Level {
    /// What failed.
    Error,
    /// Also what is odd.
    Warn,
    /// Also what happens.
    Info,
    /// Also why.
    Debug,
    /// Everything.
    Trace,
}

impl Runner {
    pub(crate) const ALL: [Self; 2] = [Self::Cargo, Self::Nextest];

    /// The word in the config.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cargo => "cargo",
            Self::Nextest => "nextest",
        }
    }
}

impl Effort {
    pub(crate) const ALL: [Self; 3] = [Self::Run, Self::Slow, Self::Pause];

    /// The word in the config.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Slow => "slow",
            Self::Pause => "pause",
        }
    }
}

impl Level {
    pub(crate) const ALL: [Self; 5] =
        [Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// The word in the config.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A config that can be worked with, and what is not well with its projects.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// The file that it was read from; none if there is no file, so that all is shipped default.
    pub source: Option<PathBuf>,
    /// One error for each project whose folder is not there, in the order of the file. The project
    /// is in [`Config::projects`] all the same, and [`ConfigError::project`] is its path.
    pub problems: Vec<ConfigError>,
}

/// Reads the user's config; without a file, the shipped default, which has no projects.
///
/// # Errors
/// The first error of the file. Folders of projects that are not there are no errors here.
pub fn load(paths: &Paths, environment: &Environment) -> Result<Loaded, ConfigError> {
    let text = source::read(&paths.config_file)?;
    let source = text.is_some().then(|| paths.config_file.clone());
    let mut evaluated = evaluate::evaluate(text.as_deref().unwrap_or(""), paths, environment);
    if evaluated.faults.is_empty() {
        let evaluate::Evaluated { config, problems, .. } = evaluated;
        return Ok(Loaded { config, source, problems });
    }
    Err(evaluated.faults.swap_remove(0))
}

/// All that is wrong with the user's config, in the order of the file, folders of projects that are
/// not there among it. Empty if all is well.
#[must_use]
pub fn check(paths: &Paths, environment: &Environment) -> Vec<ConfigError> {
    let text = match source::read(&paths.config_file) {
        Ok(text) => text.unwrap_or_default(),
        Err(error) => return vec![error],
    };
    let evaluate::Evaluated { mut faults, problems, .. } =
        evaluate::evaluate(&text, paths, environment);
    faults.extend(problems);
    faults.sort_by_key(|fault| (fault.line(), fault.column()));
    faults
}

impl Config {
    /// The project that a folder lies in: the innermost, if one lies inside another.
    ///
    /// `dir` is absolute; symbolic links on the way are followed.
    #[must_use]
    pub fn project_for(&self, dir: &Path) -> Option<&Project> {
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
    pub fn name(&self) -> Cow<'_, str> {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy()
    }
}

impl Loaded {
    /// The config as a TOML file with everything spelled out, which reads back as the same config;
    /// where it comes from stands in the first line.
    #[must_use]
    pub fn show(&self) -> String {
        show::show(self)
    }

    /// What is not well with a project's folder, if anything.
    #[must_use]
    pub fn problem_of(&self, project: &Project) -> Option<&ConfigError> {
        self.problems.iter().find(|problem| problem.project() == Some(&project.path))
    }
}
