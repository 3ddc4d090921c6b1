//! A config file as written: the tables and keys that there are, each of them optional.
//!
//! These types are the one description of the format: the JSON schema is generated from them, and
//! [`read`] fills them from a file.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, Found, did_you_mean};
use super::values::{self, Raw};
use super::{BackgroundSettings, Effort, Level, Runner, Settings, TargetDir, units};

/// The configuration of knhk-test-cache.
#[derive(Debug, Default, JsonSchema)]
#[schemars(title = "knhk-test-cache", default, deny_unknown_fields)]
pub(super) struct FileLayer {
    /// The records of all projects.
    pub(super) cache: CacheLayer,
    /// The log.
    pub(super) log: LogLayer,
    /// What is done without being asked, and when it holds back.
    pub(super) background: BackgroundLayer,
    /// What holds for every project that does not say otherwise. A list in a project replaces the
    /// list given here; it does not add to it.
    pub(super) defaults: SettingsLayer,
    /// The projects: each one cargo workspace.
    pub(super) project: Vec<ProjectLayer>,
}

/// The records of all projects.
#[derive(Debug, Default, JsonSchema)]
#[schemars(default, inline, deny_unknown_fields)]
pub(super) struct CacheLayer {
    /// How large all records of all projects together may grow; the oldest go first.
    #[schemars(with = "SizeText")]
    pub(super) max_size: Option<u64>,
    /// How old a record may grow; "0s" sets no limit.
    #[schemars(with = "DurationText")]
    pub(super) max_age: Option<Duration>,
}

/// The log.
#[derive(Debug, Default, JsonSchema)]
#[schemars(default, inline, deny_unknown_fields)]
pub(super) struct LogLayer {
    /// How much is logged.
    #[schemars(with = "Level")]
    pub(super) level: Option<Level>,
}

/// What is done without being asked, and when it holds back. What a machine does not tell counts
/// as `run`.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(default, inline, deny_unknown_fields)]
pub(super) struct BackgroundLayer {
    /// On battery, with less charge than `battery_below`.
    #[schemars(with = "Effort")]
    pub(super) on_battery: Option<Effort>,
    /// The charge below which `on_battery` holds; "100%" is on battery at all.
    #[schemars(with = "PercentText")]
    pub(super) battery_below: Option<u32>,
    /// While the machine is told to save power (its low-power profile).
    #[schemars(with = "Effort")]
    pub(super) power_save: Option<Effort>,
    /// While programs wait for memory for more than this share of their time, background work
    /// pauses; "0%" sets no limit.
    #[schemars(with = "PercentText")]
    pub(super) memory_pressure: Option<u32>,
    /// While the session is locked.
    #[schemars(with = "Effort")]
    pub(super) session_locked: Option<Effort>,
    /// While other programs keep the processors busy: "slow" leaves a core to them, "pause" has
    /// builds stand still as well while they use all cores.
    #[schemars(with = "Effort")]
    pub(super) processors_busy: Option<Effort>,
    /// How many compilers or test programs at a time; 0 leaves it to cargo, and to
    /// `processors_busy`.
    #[schemars(with = "u32", range(min = *values::JOBS.start(), max = *values::JOBS.end()))]
    pub(super) jobs: Option<u32>,
}

/// What can be set for all projects or for one.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(default, inline, deny_unknown_fields)]
pub(super) struct SettingsLayer {
    /// The selection: what follows `cargo test`, one word an entry.
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub(super) args: Option<Vec<String>>,
    /// Files that decide a verdict although git ignores them: globs, relative to the workspace.
    #[schemars(with = "Vec<GlobText>")]
    pub(super) extra_inputs: Option<Vec<String>>,
    /// Files that never decide a verdict: globs, relative to the workspace. Name only what no test
    /// and no build can see.
    #[schemars(with = "Vec<GlobText>")]
    pub(super) exclude: Option<Vec<String>>,
    /// How long a verdict is answered from cache.
    #[schemars(with = "DurationText")]
    pub(super) ttl: Option<Duration>,
    /// For how many of the last snapshots verdicts are kept.
    #[schemars(with = "u32", range(min = *values::SNAPSHOTS.start(), max = *values::SNAPSHOTS.end()))]
    pub(super) keep_snapshots: Option<u32>,
    /// How long a project must be quiet after a save before its tests are built in the background.
    #[schemars(with = "DurationText")]
    pub(super) debounce: Option<Duration>,
    /// What runs the tests.
    #[schemars(with = "Runner")]
    pub(super) runner: Option<Runner>,
    /// Also run the tests in the background once they are built, not only build them.
    #[schemars(with = "bool")]
    pub(super) background_tests: Option<bool>,
    /// How many in a hundred answers from cache are checked by a run in the background.
    #[schemars(with = "u32", range(min = *values::PERCENT.start(), max = *values::PERCENT.end()))]
    pub(super) verify_percent: Option<u32>,
    /// How often a flaky test must pass in a row before its target is kept again.
    #[schemars(with = "u32", range(min = *values::RUNS.start(), max = *values::RUNS.end()))]
    pub(super) flaky_runs: Option<u32>,
    /// How long one test target may run before it is ended; "0s" sets no limit.
    #[schemars(with = "DurationText")]
    pub(super) timeout: Option<Duration>,
    /// Tests that are run at every question: globs of packages (`my-crate`) or of test targets as
    /// `test` prints them (`my-crate::network`, `my-crate (doc)`).
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub(super) always_run: Option<Vec<String>>,
    /// Services outside of the tests that always answer alike: globs of addresses as `test` prints
    /// them when it keeps nothing because of them (`127.0.0.1:5432`, `/run/postgresql/*`).
    #[schemars(with = "Vec<String>", inner(length(min = 1)))]
    pub(super) trusted_services: Option<Vec<String>>,
    /// Where the tests are built: `cargo` for the developer's own target directory, `own` for one
    /// of the project's own among the records, or a folder: absolute, may start with `~` and hold
    /// variables.
    #[schemars(with = "String", length(min = 1))]
    pub(super) target_dir: Option<Spanned<String>>,
    /// How long a build in the background may go on without finishing anything before it is ended;
    /// "0s" sets no limit.
    #[schemars(with = "DurationText")]
    pub(super) build_timeout: Option<Duration>,
    /// How long tests in the background may go on without any of them ending before they are given
    /// up; "0s" sets no limit.
    #[schemars(with = "DurationText")]
    pub(super) background_timeout: Option<Duration>,
    /// Remove from target directories what builds of ours have left there and no cargo would find
    /// fresh any more.
    #[schemars(with = "bool")]
    pub(super) clean_target: Option<bool>,
}

/// A project: one cargo workspace.
#[derive(Debug, Default, JsonSchema)]
#[schemars(inline, deny_unknown_fields)]
pub(super) struct ProjectLayer {
    /// The workspace's folder: absolute; may start with `~` and hold variables (`$NAME`,
    /// `${NAME}`; a literal dollar sign is `$$`).
    #[schemars(with = "String", required, length(min = 1))]
    pub(super) path: Option<Spanned<String>>,
    #[schemars(flatten)]
    pub(super) settings: SettingsLayer,
    /// The bytes of the entry's header (`[[project]]`), or of the whole inline table.
    #[schemars(skip)]
    pub(super) header: Range<usize>,
    /// Where its last value ends.
    #[schemars(skip)]
    pub(super) end: usize,
}

/// A text with a unit or a syntax of its own, for the schema alone.
macro_rules! text_schema {
    ($(#[$doc:meta])* $name:ident, $schema:tt) => {
        $(#[$doc])*
        struct $name;

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text_schema!(
    /// A duration.
    DurationText,
    { "type": "string", "pattern": units::DURATION_PATTERN, "examples": ["500ms", "90s", "1h 30m"] }
);
text_schema!(
    /// A size.
    SizeText,
    { "type": "string", "pattern": units::SIZE_PATTERN, "examples": ["512MiB", "2GiB"] }
);
text_schema!(
    /// A percentage.
    PercentText,
    { "type": "string", "pattern": units::PERCENT_PATTERN, "examples": ["40%"] }
);
text_schema!(
    /// A glob: relative, and not one that could match nothing.
    GlobText,
    {
        "type": "string",
        "minLength": 1,
        "pattern": "^[^/~$!]",
        "not": { "pattern": "/$|(^|/)\\.\\.?(/|$)" },
    }
);

/// The keys of each table, for messages; a test holds them against the schema.
pub(super) mod keys {
    /// At the top of the file.
    pub(in crate::config) const FILE: &[&str] =
        &["cache", "log", "background", "defaults", "project"];
    /// In `[cache]`.
    pub(in crate::config) const CACHE: &[&str] = &["max_size", "max_age"];
    /// In `[log]`.
    pub(in crate::config) const LOG: &[&str] = &["level"];
    /// In `[background]`.
    pub(in crate::config) const BACKGROUND: &[&str] = &[
        "on_battery",
        "battery_below",
        "power_save",
        "memory_pressure",
        "session_locked",
        "processors_busy",
        "jobs",
    ];
    /// In `[defaults]`.
    pub(in crate::config) const DEFAULTS: &[&str] = PROJECT.split_at(1).1;
    /// In `[[project]]`.
    pub(in crate::config) const PROJECT: &[&str] = &[
        "path",
        "args",
        "extra_inputs",
        "exclude",
        "ttl",
        "keep_snapshots",
        "debounce",
        "runner",
        "background_tests",
        "verify_percent",
        "flaky_runs",
        "timeout",
        "always_run",
        "trusted_services",
        "target_dir",
        "build_timeout",
        "background_timeout",
        "clean_target",
    ];
}

impl BackgroundLayer {
    /// The settings, with what this layer leaves open taken from `base`; none if that is not whole.
    pub(super) fn over(&self, base: &Self) -> Option<BackgroundSettings> {
        let pressure = self.memory_pressure.or(base.memory_pressure)?;
        let jobs = self.jobs.or(base.jobs)?;
        Some(BackgroundSettings {
            on_battery: self.on_battery.or(base.on_battery)?,
            battery_below: self.battery_below.or(base.battery_below)?,
            power_save: self.power_save.or(base.power_save)?,
            memory_pressure: Some(pressure).filter(|percent| *percent > 0),
            session_locked: self.session_locked.or(base.session_locked)?,
            processors_busy: self.processors_busy.or(base.processors_busy)?,
            jobs: NonZeroUsize::new(jobs as usize),
        })
    }
}

impl SettingsLayer {
    /// This layer, with what it leaves open taken from `base`.
    pub(super) fn over(self, base: &Self) -> Self {
        Self {
            args: self.args.or_else(|| base.args.clone()),
            extra_inputs: self.extra_inputs.or_else(|| base.extra_inputs.clone()),
            exclude: self.exclude.or_else(|| base.exclude.clone()),
            ttl: self.ttl.or(base.ttl),
            keep_snapshots: self.keep_snapshots.or(base.keep_snapshots),
            debounce: self.debounce.or(base.debounce),
            runner: self.runner.or(base.runner),
            background_tests: self.background_tests.or(base.background_tests),
            verify_percent: self.verify_percent.or(base.verify_percent),
            flaky_runs: self.flaky_runs.or(base.flaky_runs),
            timeout: self.timeout.or(base.timeout),
            always_run: self.always_run.or_else(|| base.always_run.clone()),
            trusted_services: self.trusted_services.or_else(|| base.trusted_services.clone()),
            target_dir: self.target_dir.or_else(|| base.target_dir.clone()),
            build_timeout: self.build_timeout.or(base.build_timeout),
            background_timeout: self.background_timeout.or(base.background_timeout),
            clean_target: self.clean_target.or(base.clean_target),
        }
    }

    /// The settings, if nothing is left open.
    pub(super) fn complete(self) -> Option<Settings> {
        Some(Settings {
            args: self.args?,
            extra_inputs: self.extra_inputs?,
            exclude: self.exclude?,
            ttl: self.ttl?,
            keep_snapshots: self.keep_snapshots?,
            debounce: self.debounce?,
            runner: self.runner?,
            background_tests: self.background_tests?,
            verify_percent: self.verify_percent?,
            flaky_runs: self.flaky_runs?,
            timeout: Some(self.timeout?).filter(|limit| !limit.is_zero()),
            always_run: self.always_run?,
            trusted_services: self.trusted_services?,
            target_dir: TargetDir::written(self.target_dir?.get_ref()),
            build_timeout: Some(self.build_timeout?).filter(|limit| !limit.is_zero()),
            background_timeout: Some(self.background_timeout?).filter(|limit| !limit.is_zero()),
            clean_target: self.clean_target?,
        })
    }

    /// Takes a key of this table; false if it is none.
    fn set(&mut self, key: &str, value: &Raw<'_>, faults: &mut Vec<Found>) -> bool {
        match key {
            "args" => put(&mut self.args, values::args(key, value), faults),
            "extra_inputs" => put(&mut self.extra_inputs, values::included(key, value), faults),
            "exclude" => put(&mut self.exclude, values::excluded(key, value), faults),
            "ttl" => put(&mut self.ttl, values::duration(key, value, values::TTL), faults),
            "keep_snapshots" => {
                let number = values::number(key, value, values::SNAPSHOTS);
                put(&mut self.keep_snapshots, number, faults);
            }
            "debounce" => {
                put(&mut self.debounce, values::duration(key, value, values::DEBOUNCE), faults);
            }
            "runner" => put(&mut self.runner, values::runner(key, value), faults),
            "background_tests" => {
                put(&mut self.background_tests, values::boolean(key, value), faults);
            }
            "verify_percent" => {
                let number = values::number(key, value, values::PERCENT);
                put(&mut self.verify_percent, number, faults);
            }
            "flaky_runs" => {
                put(&mut self.flaky_runs, values::number(key, value, values::RUNS), faults);
            }
            "timeout" => {
                put(&mut self.timeout, values::duration(key, value, values::TIMEOUT), faults);
            }
            "always_run" => put(&mut self.always_run, values::names(key, value), faults),
            "trusted_services" => {
                put(&mut self.trusted_services, values::addresses(key, value), faults);
            }
            "target_dir" => put(&mut self.target_dir, values::target_dir(key, value), faults),
            "build_timeout" => {
                put(&mut self.build_timeout, values::duration(key, value, values::TIMEOUT), faults);
            }
            "background_timeout" => {
                let limit = values::duration(key, value, values::TIMEOUT);
                put(&mut self.background_timeout, limit, faults);
            }
            "clean_target" => put(&mut self.clean_target, values::boolean(key, value), faults),
            _ => return false,
        }
        true
    }
}

fn put<T>(slot: &mut Option<T>, value: Result<T, Found>, faults: &mut Vec<Found>) {
    match value {
        Ok(value) => *slot = Some(value),
        Err(fault) => faults.push(fault),
    }
}

/// Reads a file's text. All that is wrong with its keys and values goes to `faults`, in no order.
///
/// # Errors
/// If it is not TOML.
pub(super) fn read(text: &str, faults: &mut Vec<Found>) -> Result<FileLayer, Found> {
    let document = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        Found::new(span, Fault::Syntax(error.message().to_owned()))
    })?;
    let mut layer = FileLayer::default();
    for (key, value) in document.get_ref() {
        match &**key.get_ref() {
            "cache" => layer.cache = table("cache", value, faults, cache),
            "log" => layer.log = table("log", value, faults, log),
            "background" => {
                layer.background = table("background", value, faults, background);
            }
            "defaults" => layer.defaults = table("defaults", value, faults, defaults),
            "project" => layer.project = projects(value, faults),
            _ => faults.push(unknown(key, "at the top of the file", keys::FILE)),
        }
    }
    Ok(layer)
}

/// A key of the file.
type Key<'i> = Spanned<toml::de::DeString<'i>>;

fn table<T: Default>(
    name: &str,
    value: &Raw<'_>,
    faults: &mut Vec<Found>,
    set: impl Fn(&mut T, &Key<'_>, &Raw<'_>, &mut Vec<Found>),
) -> T {
    let mut layer = T::default();
    match value.get_ref() {
        DeValue::Table(entries) => {
            for (key, value) in entries {
                set(&mut layer, key, value, faults);
            }
        }
        DeValue::Array(_) => {
            let error = values::wrong_type(name, value, "a table");
            faults.push(error.label(format!("write [{name}]")));
        }
        _ => faults.push(values::wrong_type(name, value, "a table")),
    }
    layer
}

fn cache(layer: &mut CacheLayer, key: &Key<'_>, value: &Raw<'_>, faults: &mut Vec<Found>) {
    match &**key.get_ref() {
        name @ "max_size" => {
            put(&mut layer.max_size, values::size(name, value, values::MAX_SIZE), faults);
        }
        name @ "max_age" => {
            put(&mut layer.max_age, values::duration(name, value, values::TIMEOUT), faults);
        }
        _ => faults.push(unknown(key, "in `[cache]`", keys::CACHE)),
    }
}

fn log(layer: &mut LogLayer, key: &Key<'_>, value: &Raw<'_>, faults: &mut Vec<Found>) {
    match &**key.get_ref() {
        name @ "level" => put(&mut layer.level, values::level(name, value), faults),
        _ => faults.push(unknown(key, "in `[log]`", keys::LOG)),
    }
}

fn background(
    layer: &mut BackgroundLayer,
    key: &Key<'_>,
    value: &Raw<'_>,
    faults: &mut Vec<Found>,
) {
    let name = &**key.get_ref();
    match name {
        "on_battery" => put(&mut layer.on_battery, values::effort(name, value), faults),
        "battery_below" => {
            put(&mut layer.battery_below, values::percent(name, value, values::CHARGE), faults);
        }
        "power_save" => put(&mut layer.power_save, values::effort(name, value), faults),
        "memory_pressure" => {
            put(&mut layer.memory_pressure, values::percent(name, value, values::PRESSURE), faults);
        }
        "session_locked" => put(&mut layer.session_locked, values::effort(name, value), faults),
        "processors_busy" => put(&mut layer.processors_busy, values::effort(name, value), faults),
        "jobs" => put(&mut layer.jobs, values::number(name, value, values::JOBS), faults),
        _ => faults.push(unknown(key, "in `[background]`", keys::BACKGROUND)),
    }
}

fn defaults(layer: &mut SettingsLayer, key: &Key<'_>, value: &Raw<'_>, faults: &mut Vec<Found>) {
    if !layer.set(key.get_ref(), value, faults) {
        faults.push(unknown(key, "in `[defaults]`", keys::DEFAULTS));
    }
}

fn projects(value: &Raw<'_>, faults: &mut Vec<Found>) -> Vec<ProjectLayer> {
    let DeValue::Array(entries) = value.get_ref() else {
        let error = values::wrong_type("project", value, "a list of tables");
        faults.push(error.label("write [[project]], with two brackets"));
        return Vec::new();
    };
    entries.iter().map(|entry| project(entry, faults)).collect()
}

fn project(value: &Raw<'_>, faults: &mut Vec<Found>) -> ProjectLayer {
    let mut layer = ProjectLayer { header: value.span(), ..ProjectLayer::default() };
    layer.end = layer.header.end;
    let DeValue::Table(entries) = value.get_ref() else {
        faults.push(values::wrong_type("project", value, "a list of tables"));
        return layer;
    };
    for (key, value) in entries {
        layer.end = layer.end.max(value.span().end);
        match &**key.get_ref() {
            name @ "path" => put(&mut layer.path, values::path(name, value), faults),
            name if layer.settings.set(name, value, faults) => {}
            _ => faults.push(unknown(key, "in `[[project]]`", keys::PROJECT)),
        }
    }
    if !entries.contains_key("path") {
        let error = Found::new(value.span(), Fault::NoPath);
        faults.push(error.label("needs `path = \"...\"`").allowed(values::PATH));
    }
    layer
}

/// The error of a key that nothing reads, with where the key belongs or what was meant.
fn unknown(key: &Key<'_>, table: &'static str, allowed: &[&str]) -> Found {
    let written = &**key.get_ref();
    let names = allowed.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let fault = Fault::UnknownKey { key: written.to_owned(), table };
    let error = Found::new(key.span(), fault).allowed(names);
    let elsewhere = [
        (keys::FILE, "at the top of the file, as a table"),
        (keys::CACHE, "in `[cache]`"),
        (keys::LOG, "in `[log]`"),
        (keys::BACKGROUND, "in `[background]`"),
        (keys::DEFAULTS, "in `[defaults]` or a `[[project]]`"),
        (keys::PROJECT, "in a `[[project]]`"),
    ];
    if let Some((_, place)) = elsewhere.iter().find(|(keys, _)| keys.contains(&written)) {
        return error.label(format!("belongs {place}"));
    }
    match did_you_mean(written, allowed) {
        Some(near) => error.label(format!("did you mean `{near}`?")),
        None => error,
    }
}
