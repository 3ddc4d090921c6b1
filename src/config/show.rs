//! The config in force, written as TOML.

use std::fmt::Write as _;

use serde::Serialize;

use super::Loaded;

/// Writes the config so that it reads back as the same.
pub(super) fn show(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let source = match &loaded.source {
        // A name can hold a line break; a comment cannot.
        Some(file) => file.display().to_string().escape_debug().to_string(),
        None => "the shipped default; there is no config file".to_owned(),
    };
    // Writing to a string cannot fail.
    let mut out = format!("# source: {source}\n");
    let _ = write!(out, "\n[cache]\n{}", lines(&config.cache));
    let _ = write!(out, "\n[log]\n{}", lines(&config.log));
    let _ = write!(out, "\n[background]\n{}", lines(&config.background));
    let _ = write!(out, "\n[defaults]\n{}", lines(&config.defaults));
    for project in &config.projects {
        out.push('\n');
        if let Some(problem) = loaded.problem_of(project) {
            let _ = writeln!(out, "# {}", problem.fault().to_string().escape_debug());
        }
        // A name that is no text can only be written as the file has it, through a variable.
        let path = project.path.to_str().map_or_else(|| project.written.clone(), escape);
        let (path, settings) = (quoted(&path), lines(&project.settings));
        let _ = write!(out, "[[project]]\npath = {path}\n{settings}");
    }
    out
}

/// The keys of a table, a line each.
fn lines(table: &impl Serialize) -> String {
    // Each field is written as a text, a number, a boolean or a list of texts.
    toml::to_string(table).expect("settings can be written as TOML")
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A path as text that expands to itself. Absolute paths never start with `~`.
pub(super) fn escape(path: &str) -> String {
    path.replace('$', "$$")
}
