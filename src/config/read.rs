//! Reads a file's text into the config that it means.
//!
//! Each table of the user's file is laid over the same table of the shipped default, and serde
//! reads the result. Only if that fails is each key tried by itself, so that every faulty key is
//! named with its place. Paths are expanded and followed afterwards.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer};

use super::error::{ConfigError, Fault, SpannedFault, did_you_mean};
use super::place::resolve;
use super::values::{self, Notation as _, OutsideFile, no_nul};
use super::{Config, DEFAULT, Project, Settings, SharedSettings, TargetDir};
use crate::paths::{Paths, expand};
use crate::process::Environment;

/// The meaning of a text. The config is complete only if there are no faults.
pub(super) struct Meaning {
    /// The config, without the faulty keys.
    pub(super) config: Config,
    /// The entries of [`Config::projects`], in the same order, and those that repeat one.
    pub(super) entries: Vec<ProjectEntry>,
    /// The errors of the text, in its order.
    pub(super) faults: Vec<ConfigError>,
    /// Whether all faults are entries that repeat another.
    pub(super) only_duplicates: bool,
    /// Projects whose folder does not exist, in the order of the text.
    pub(super) problems: Vec<ConfigError>,
}

/// A `[[project]]` entry and its place in the text.
pub(super) struct ProjectEntry {
    /// The project's [`Project::path`].
    pub(super) path: PathBuf,
    /// The bytes of its header, or of the whole inline table.
    pub(super) header: Range<usize>,
    /// The end of its last value.
    pub(super) end: usize,
}

/// The shipped default, parsed once.
static SHIPPED: LazyLock<DeTable<'static>> = LazyLock::new(|| {
    // The text is part of the program, and a test reads it.
    DeTable::parse(DEFAULT).expect("the shipped default is TOML").into_inner()
});

/// The shipped table of a name.
fn shipped(name: &str) -> &'static DeTable<'static> {
    static NONE: LazyLock<DeTable<'static>> = LazyLock::new(DeTable::new);
    SHIPPED.get(name).and_then(|value| value.get_ref().as_table()).unwrap_or(&NONE)
}

/// Reads the text of `paths.config_file`.
pub(super) fn read(text: &str, paths: &Paths, environment: &Environment) -> Meaning {
    let mut reader = ConfigReader { paths, environment, found: Vec::new() };
    let root = DeTable::parse(text).map(Spanned::into_inner).unwrap_or_else(|error| {
        let span = error.span().unwrap_or(0..0);
        reader.found.push(SpannedFault::new(span, Fault::Syntax(error.message().to_owned())));
        DeTable::new()
    });
    let (cache, _) = reader.table("cache", &root);
    let (log, _) = reader.table("log", &root);
    let (background, _) = reader.table("background", &root);
    let (service, _) = reader.table("service", &root);
    let (mut shared, _) = reader.table("shared", &root);
    reader.shared_files(&mut shared, child(&root, "shared"));
    let (mut defaults, table) = reader.table::<Settings>("defaults", &root);
    let shipped_dir = TargetDir::Cargo;
    reader.place(&mut defaults, child(&root, "defaults"), &shipped_dir);
    let projects = Vec::new();
    let mut config = Config { cache, log, background, service, shared, defaults, projects };

    let (mut entries, mut problems, mut lines) = (Vec::new(), Vec::new(), HashMap::new());
    for value in reader.project_list(&root) {
        let Some((written, mut settings, entry)) = reader.project(value, &table) else { continue };
        let DeValue::Table(own) = value.get_ref() else { continue };
        reader.place(&mut settings, Some(own), &config.defaults.target_dir);
        let Some(written) = written else { continue };
        let path = match reader.expand("path", values::PATH, &written) {
            Ok(path) => path,
            Err(fault) => {
                reader.found.push(fault);
                continue;
            }
        };
        problems.extend(notify_problem(Some(own), paths, text));
        let (path, state) = resolve(&path);
        entries.push(ProjectEntry { path: path.clone(), ..entry });
        let line = text[..written.span().start].matches('\n').count() + 1;
        if let Some(first) = lines.get(&path) {
            let fault = Fault::Duplicate { path: path.clone(), first: *first };
            reader.found.push(SpannedFault::new(written.span(), fault).project(&path));
            continue;
        }
        lines.insert(path.clone(), line);
        if let Err(fault) = state {
            let problem = SpannedFault::new(written.span(), fault).project(&path);
            problems.push(problem.in_file(&paths.config_file, text));
        }
        config.projects.push(Project { path, written: written.into_inner(), settings });
    }
    problems.extend(shared_problems(&config, child(&root, "shared"), paths, text));
    problems.extend(notify_problem(child(&root, "defaults"), paths, text));
    for key in root.keys().filter(|key| !TABLES.contains(&&**key.get_ref())) {
        reader.found.push(unknown(key, "at the top of the file", &TABLES));
    }

    let mut found = reader.found;
    found.sort_by_key(|found| (found.span.start, found.span.end));
    let only_duplicates = found.iter().all(SpannedFault::is_duplicate);
    let faults = found.into_iter().map(|found| found.in_file(&paths.config_file, text)).collect();
    Meaning { config, entries, faults, only_duplicates, problems }
}

/// The tables of a file.
const TABLES: [&str; 7] =
    ["cache", "log", "background", "service", "shared", "defaults", "project"];

/// What is wrong with `[shared]` and keeps nothing else from working.
fn shared_problems(
    config: &Config,
    written: Option<&DeTable<'_>>,
    paths: &Paths,
    text: &str,
) -> Vec<ConfigError> {
    let SharedSettings { url, sign_with, allowed_signers, .. } = &config.shared;
    let mut found = Vec::new();
    let mut problem = |key: &str, why: String| {
        if let Some(value) = written.and_then(|table| table.get(key)) {
            let fault = Fault::BadValue { key: key.to_owned(), why };
            found.push(SpannedFault::new(value.span(), fault).in_file(&paths.config_file, text));
        }
    };
    let is_server = |url: &String| !url.starts_with("file:");
    if url.is_some() && !cfg!(feature = "shared-folder") {
        problem("url", "this build has no shared store: build it with the feature `shared`".into());
    } else if url.as_ref().is_some_and(is_server) && !cfg!(feature = "shared") {
        let why = "this build knows only folders, file:///…: build it with the feature `shared`";
        problem("url", why.into());
    }
    for (key, file) in [("sign_with", sign_with), ("allowed_signers", allowed_signers)] {
        let is_in =
            |project: &&Project| file.as_ref().is_some_and(|it| it.starts_with(&project.path));
        if let Some(project) = config.projects.iter().find(is_in) {
            let tree = project.path.display();
            problem(key, format!("it lies in {tree}, where a change to the code could change it"));
        }
    }
    found
}

/// What is wrong with notifications of the desktop in a build without them.
fn notify_problem(written: Option<&DeTable<'_>>, paths: &Paths, text: &str) -> Option<ConfigError> {
    let value =
        written?.get("notify").filter(|value| value.get_ref().as_str() == Some("desktop"))?;
    let why = "this build cannot: build it with the feature `desktop-notifications`".to_owned();
    let fault = Fault::BadValue { key: "notify".to_owned(), why };
    let problem = || SpannedFault::new(value.span(), fault).in_file(&paths.config_file, text);
    (!cfg!(feature = "desktop-notifications")).then(problem)
}

/// The table of a name, if there is one.
fn child<'t, 'i>(root: &'t DeTable<'i>, name: &str) -> Option<&'t DeTable<'i>> {
    root.get(name)?.get_ref().as_table()
}

/// Reads the parts of one text and collects their faults.
struct ConfigReader<'a> {
    paths: &'a Paths,
    environment: &'a Environment,
    found: Vec<SpannedFault>,
}

impl ConfigReader<'_> {
    /// Reads the table of a name, laid over the shipped one; also returns the combined table.
    fn table<'i, T: Deserialize<'i>>(
        &mut self,
        name: &'static str,
        root: &DeTable<'i>,
    ) -> (T, DeTable<'i>) {
        let nothing = DeTable::new();
        let written = match root.get(name) {
            None => &nothing,
            Some(value) => value.get_ref().as_table().unwrap_or_else(|| {
                self.found.push(not_a(value, name, "a table", &format!("[{name}]")));
                &nothing
            }),
        };
        self.overlay(&format!("in `[{name}]`"), written, shipped(name))
    }

    /// Reads a table laid over a complete one; also returns the combined table.
    fn overlay<'i, T: Deserialize<'i>>(
        &mut self,
        place: &str,
        written: &DeTable<'i>,
        base: &DeTable<'i>,
    ) -> (T, DeTable<'i>) {
        let mut combined = base.clone();
        combined.extend(written.clone());
        if let Ok(value) = parse(&combined) {
            return (value, combined);
        }
        combined = base.clone();
        for (key, value) in written {
            if !base.contains_key(&**key.get_ref()) {
                let keys = base.keys().map(|key| &**key.get_ref()).collect::<Vec<_>>();
                self.found.push(unknown(key, place, &keys));
                continue;
            }
            let mut one = base.clone();
            one.insert(key.clone(), value.clone());
            match parse::<T>(&one) {
                Ok(_) => drop(combined.insert(key.clone(), value.clone())),
                Err(error) => self.found.push(SpannedFault::of_value(key.get_ref(), value, &error)),
            }
        }
        // `base` is complete, and each key that replaced one of its keys was read above.
        (parse(&combined).expect("a table of good keys can be read"), combined)
    }

    /// The `[[project]]` entries.
    fn project_list<'t, 'i>(&mut self, root: &'t DeTable<'i>) -> &'t [Spanned<DeValue<'i>>] {
        match root.get("project") {
            None => &[],
            Some(value) => value.get_ref().as_array().map(|list| &**list).unwrap_or_else(|| {
                let write = "[[project]], with two brackets";
                self.found.push(not_a(value, "project", "a list of tables", write));
                &[]
            }),
        }
    }

    /// Reads an entry: its path, its settings laid over `defaults`, and its place in the text.
    fn project<'i>(
        &mut self,
        value: &Spanned<DeValue<'i>>,
        defaults: &DeTable<'i>,
    ) -> Option<(Option<Spanned<String>>, Settings, ProjectEntry)> {
        let Some(table) = value.get_ref().as_table() else {
            self.found.push(not_a(value, "project", "a list of tables", "[[project]]"));
            return None;
        };
        let mut own = table.clone();
        let path = match own.remove("path") {
            Some(path) => self.path(&path),
            None => {
                let error = SpannedFault::new(value.span(), Fault::NoPath);
                self.found
                    .push(error.label("needs `path = \"...\"`").allowed(values::PATH.to_owned()));
                None
            }
        };
        let (settings, _) = self.overlay("in `[[project]]`", &own, defaults);
        let header = value.span();
        let end = table.values().map(|value| value.span().end).max().unwrap_or(0).max(header.end);
        Some((path, settings, ProjectEntry { path: PathBuf::new(), header, end }))
    }

    /// The path of a project as written.
    fn path(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Spanned<String>> {
        let Some(text) = value.get_ref().as_str() else {
            self.found.push(not_a(value, "path", "a string", "").allowed(values::PATH));
            return None;
        };
        if let Err(why) = no_nul(text) {
            self.found.push(bad(value.span(), "path", why, values::PATH));
            return None;
        }
        Some(Spanned::new(value.span(), text.to_owned()))
    }

    /// Expands the target directory of `settings` if `written` has one, or takes the `inherited`.
    fn place(
        &mut self,
        settings: &mut Settings,
        written: Option<&DeTable<'_>>,
        inherited: &TargetDir,
    ) {
        let key = "target_dir";
        let Some(value) = written.and_then(|table| table.get(key)) else {
            settings.target_dir = inherited.clone();
            return;
        };
        match &mut settings.target_dir {
            TargetDir::Cargo => {}
            TargetDir::Own(below) => *below = self.paths.own_targets(),
            TargetDir::At(path) => {
                let text = path.to_string_lossy().into_owned();
                let text = Spanned::new(value.span(), text);
                match self.expand(key, TargetDir::ALLOWED, &text) {
                    Ok(expanded) if expanded.parent().is_none() => {
                        let why = "it is the root of all folders".to_owned();
                        self.found.push(bad(value.span(), key, why, TargetDir::ALLOWED));
                    }
                    Ok(expanded) => *path = expanded,
                    Err(fault) => self.found.push(fault),
                }
            }
        }
    }

    /// Expands the files of `[shared]`.
    fn shared_files(&mut self, settings: &mut SharedSettings, written: Option<&DeTable<'_>>) {
        let files = [
            ("sign_with", &mut settings.sign_with),
            ("allowed_signers", &mut settings.allowed_signers),
        ];
        for (key, file) in files {
            let value = written.and_then(|table| table.get(key));
            let (Some(value), Some(path)) = (value, file) else { continue };
            let text = Spanned::new(value.span(), path.to_string_lossy().into_owned());
            match self.expand(key, OutsideFile::ALLOWED, &text) {
                Ok(expanded) => *path = expanded,
                Err(fault) => self.found.push(fault),
            }
        }
    }

    /// The absolute path that a text means.
    fn expand(
        &self,
        key: &str,
        allowed: &str,
        written: &Spanned<String>,
    ) -> Result<PathBuf, SpannedFault> {
        let text = written.get_ref();
        let bad = |why| bad(written.span(), key, why, allowed);
        no_nul(text).map_err(bad)?;
        let path = expand(text, &self.paths.home, self.environment);
        let path = path.map_err(|error| bad(error.to_string()))?;
        if path.is_absolute() {
            return Ok(path);
        }
        Err(bad(if text.is_empty() {
            "it is empty".into()
        } else {
            format!("`{text}` is relative")
        }))
    }
}

/// Reads a complete table.
fn parse<'i, T: Deserialize<'i>>(table: &DeTable<'i>) -> Result<T, toml::de::Error> {
    T::deserialize(Deserializer::from(Spanned::new(0..0, table.clone())))
}

/// The error of a value that cannot be used.
fn bad(span: Range<usize>, key: &str, why: String, allowed: &str) -> SpannedFault {
    SpannedFault::new(span, Fault::BadValue { key: key.to_owned(), why }).allowed(allowed)
}

/// The error of a value of another kind.
fn not_a(value: &Spanned<DeValue<'_>>, key: &str, kind: &'static str, write: &str) -> SpannedFault {
    let found = value.get_ref().type_str();
    let fault = Fault::WrongType { key: key.to_owned(), expected: kind, found };
    let error = SpannedFault::new(value.span(), fault);
    if write.is_empty() { error } else { error.label(format!("write {write}")) }
}

/// The error of a key that nothing reads, with the table it belongs to or the key that was meant.
fn unknown(key: &Spanned<DeString<'_>>, place: &str, allowed: &[&str]) -> SpannedFault {
    let written = &**key.get_ref();
    let fault = Fault::UnknownKey { key: written.to_owned(), table: place.to_owned() };
    let names = allowed.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let error = SpannedFault::new(key.span(), fault).allowed(names);
    let home = TABLES.into_iter().find(|table| shipped(table).contains_key(written));
    match (home, written, did_you_mean(written, allowed.iter().copied())) {
        (Some("defaults"), ..) => error.label("belongs in `[defaults]` or a `[[project]]`"),
        (Some(table), ..) => error.label(format!("belongs in `[{table}]`")),
        (None, "path", _) => error.label("belongs in a `[[project]]`"),
        (None, _, Some(near)) => error.label(format!("did you mean `{near}`?")),
        (None, _, None) if TABLES.contains(&written) => {
            error.label("belongs at the top of the file, as a table")
        }
        (None, _, None) => error,
    }
}
