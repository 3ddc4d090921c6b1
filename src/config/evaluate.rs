//! From a file's text to the config that it means: the layers put over one another, paths expanded
//! and followed, projects compared.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use toml::Spanned;

use super::error::{ConfigError, Fault, Found};
use super::layer::{self, BackgroundLayer, FileLayer, ProjectLayer, SettingsLayer};
use super::place::resolve;
use super::values;
use super::{
    BackgroundSettings, CacheSettings, Config, DEFAULT, Level, LogSettings, Project, Settings,
    TargetDir,
};
use crate::paths::{Paths, expand};
use crate::process::Environment;

/// What a text means. The config is whole only if there are no faults.
pub(super) struct Evaluated {
    /// The config, without what is faulty.
    pub(super) config: Config,
    /// The entries of [`Config::projects`], in the same order, and those that repeat one.
    pub(super) entries: Vec<Entry>,
    /// What makes the text no config, in its order.
    pub(super) faults: Vec<ConfigError>,
    /// Whether all faults are entries that repeat another.
    pub(super) only_duplicates: bool,
    /// Projects whose folder is not there, in the order of the text.
    pub(super) problems: Vec<ConfigError>,
}

/// Where an entry stands in the text.
pub(super) struct Entry {
    /// The project's [`Project::path`].
    pub(super) path: PathBuf,
    /// The bytes of its header, or of the whole inline table.
    pub(super) header: Range<usize>,
    /// Where its last value ends.
    pub(super) end: usize,
}

/// Evaluates the text of `paths.config_file`.
pub(super) fn evaluate(text: &str, paths: &Paths, environment: &Environment) -> Evaluated {
    let mut found = Vec::new();
    let file = layer::read(text, &mut found).unwrap_or_else(|fault| {
        found.push(fault);
        FileLayer::default()
    });
    let defaults = file.defaults.clone().over(&SHIPPED.layer.defaults);
    let mut config = Config {
        cache: CacheSettings {
            max_size: file.cache.max_size.unwrap_or(SHIPPED.max_size),
            max_age: Some(file.cache.max_age.unwrap_or(SHIPPED.max_age))
                .filter(|age| !age.is_zero()),
        },
        log: LogSettings { level: file.log.level.unwrap_or(SHIPPED.level) },
        background: whole(&file.background),
        defaults: place(complete(defaults.clone()), paths, environment),
        projects: Vec::new(),
    };
    // Once where it is written, not for each project that goes by it.
    let mut judge = |written: Option<&Spanned<String>>| {
        found.extend(written.and_then(|written| target_dir(written, paths, environment).err()));
    };
    judge(file.defaults.target_dir.as_ref());
    file.project.iter().for_each(|project| judge(project.settings.target_dir.as_ref()));
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    let mut lines = HashMap::new();
    for ProjectLayer { path, settings, header, end } in file.project {
        // An entry without a good path has a fault already, or gets it here.
        let Some(written) = path else { continue };
        let path = match absolute(&written, paths, environment) {
            Ok(path) => path,
            Err(fault) => {
                found.push(fault);
                continue;
            }
        };
        let (path, state) = resolve(&path);
        entries.push(Entry { path: path.clone(), header, end });
        let line = text[..written.span().start].matches('\n').count() + 1;
        if let Some(first) = lines.get(&path) {
            let fault = Fault::Duplicate { path: path.clone(), first: *first };
            found.push(Found::new(written.span(), fault).project(&path));
            continue;
        }
        lines.insert(path.clone(), line);
        if let Err(fault) = state {
            let problem = Found::new(written.span(), fault).project(&path);
            problems.push(problem.in_file(&paths.config_file, text));
        }
        let settings = place(complete(settings.over(&defaults)), paths, environment);
        config.projects.push(Project { path, written: written.into_inner(), settings });
    }
    found.sort_by_key(|found| (found.span.start, found.span.end));
    let only_duplicates = found.iter().all(Found::is_duplicate);
    let faults = found.into_iter().map(|found| found.in_file(&paths.config_file, text)).collect();
    Evaluated { config, entries, faults, only_duplicates, problems }
}

/// The absolute path that is meant.
fn absolute(
    written: &Spanned<String>,
    paths: &Paths,
    environment: &Environment,
) -> Result<PathBuf, Found> {
    expanded("path", values::PATH, written, paths, environment)
}

/// The absolute path that a value of `key` means.
fn expanded(
    key: &str,
    allowed: &str,
    written: &Spanned<String>,
    paths: &Paths,
    environment: &Environment,
) -> Result<PathBuf, Found> {
    let bad = |why: String| {
        let fault = Fault::BadValue { key: key.to_owned(), why };
        Found::new(written.span(), fault).allowed(allowed)
    };
    let text = written.get_ref();
    let path = expand(text, &paths.home, environment).map_err(|error| bad(error.to_string()))?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(bad(if text.is_empty() { "it is empty".into() } else { format!("`{text}` is relative") }))
}

/// Where the tests are built, by what is written.
fn target_dir(
    written: &Spanned<String>,
    paths: &Paths,
    environment: &Environment,
) -> Result<TargetDir, Found> {
    Ok(match TargetDir::written(written.get_ref()) {
        TargetDir::Own(_) => TargetDir::Own(paths.own_targets()),
        TargetDir::At(_) => {
            let key = "target_dir";
            let path = expanded(key, values::TARGET_DIR, written, paths, environment)?;
            if path.parent().is_none() {
                let why = "it is the root of all folders".to_owned();
                let fault = Fault::BadValue { key: key.to_owned(), why };
                return Err(Found::new(written.span(), fault).allowed(values::TARGET_DIR));
            }
            TargetDir::At(path)
        }
        TargetDir::Cargo => TargetDir::Cargo,
    })
}

/// Settings whose folders are absolute. A path that means nothing is a fault elsewhere.
fn place(mut settings: Settings, paths: &Paths, environment: &Environment) -> Settings {
    let written = match &settings.target_dir {
        TargetDir::At(path) => path.to_str().unwrap_or_default().to_owned(),
        other => other.as_str().to_owned(),
    };
    if let Ok(placed) = target_dir(&Spanned::new(0..0, written), paths, environment) {
        settings.target_dir = placed;
    }
    settings
}

/// The lowest layer, read once.
struct Shipped {
    layer: FileLayer,
    max_size: u64,
    max_age: Duration,
    level: Level,
}

static SHIPPED: LazyLock<Shipped> = LazyLock::new(|| {
    let mut faults = Vec::new();
    let layer = layer::read(DEFAULT, &mut faults);
    let whole = layer.ok().filter(|_| faults.is_empty()).and_then(|layer| {
        let (max_size, max_age) = (layer.cache.max_size?, layer.cache.max_age?);
        let level = layer.log.level?;
        layer.defaults.clone().complete()?;
        layer.background.over(&BackgroundLayer::default())?;
        Some(Shipped { layer, max_size, max_age, level })
    });
    // The text is part of the program, and a test reads it: this cannot fail in a program that
    // passed its tests.
    whole.expect("the shipped default has every key and no fault")
});

/// The settings of a layer that lies over the shipped one.
fn whole(layer: &BackgroundLayer) -> BackgroundSettings {
    // As below.
    layer.over(&SHIPPED.layer.background).expect("the shipped default has every key")
}

/// The settings of a layer that lies over the shipped one.
fn complete(layer: SettingsLayer) -> Settings {
    // `SHIPPED` holds only a layer that is complete, and a layer over it leaves nothing open.
    layer.over(&SHIPPED.layer.defaults).complete().expect("the shipped default has every key")
}
