//! The config in force, written as TOML.

use std::fmt::Write as _;

use serde::Serialize;

use super::load::Loaded;
use super::toml_text::{escape, quoted};

impl Loaded {
    /// The config as a TOML file with every key, which reads back as the same config. The first
    /// line names the source.
    #[must_use]
    pub(crate) fn show(&self) -> String {
        let Self { config, .. } = self;
        let source = match &self.source {
            // A name can hold a line break; a comment cannot.
            Some(file) => file.display().to_string().escape_debug().to_string(),
            None => "the shipped default; there is no config file".to_owned(),
        };
        // Writing to a string cannot fail.
        let mut out = format!("# source: {source}\n");
        let _ = write!(out, "\n[cache]\n{}", lines(&config.cache));
        let _ = write!(out, "\n[log]\n{}", lines(&config.log));
        let _ = write!(out, "\n[background]\n{}", lines(&config.background));
        let _ = write!(out, "\n[service]\n{}", lines(&config.service));
        let _ = write!(out, "\n[shared]\n{}", lines(&config.shared));
        let _ = write!(out, "\n[defaults]\n{}", lines(&config.defaults));
        for project in &config.projects {
            out.push('\n');
            if let Some(problem) = self.problem_of(project) {
                let _ = writeln!(out, "# {}", problem.fault().to_string().escape_debug());
            }
            // A name that is no text can only be written as the file has it, through a variable.
            let path = project.path.to_str().map_or_else(|| project.written.clone(), escape);
            let (path, settings) = (quoted(&path), lines(&project.settings));
            let _ = write!(out, "[[project]]\npath = {path}\n{settings}");
        }
        out
    }
}

/// The keys of a table, a line each.
fn lines(table: &impl Serialize) -> String {
    // Each field is written as a text, a number, a boolean or a list of texts.
    toml::to_string(table).expect("settings can be written as TOML")
}
