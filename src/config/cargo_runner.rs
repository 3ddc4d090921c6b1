//! The `runner` of cargo's own configuration: `knhk-test-cache exec`, put in and taken out again.
//!
//! An edit keeps every other byte of the file. A runner that was there before stays in force: the
//! new one starts it. Its text is kept in a comment, so that the edit can be undone.

use std::path::Path;

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// The comment that keeps the value of a runner from before.
const BEFORE: &str = "# before knhk-test-cache: runner = ";

/// Why the text of a cargo configuration is not edited.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RunnerError {
    /// It is not TOML, so cargo cannot use it either.
    #[error("it is not TOML, line {line}: {message}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// A key that must be a table is something else.
    #[error("`{0}` is not a table")]
    NotATable(String),
    /// A runner that is neither text nor a list of texts.
    #[error("`{0}` is neither a text nor a list of texts")]
    NotACommand(String),
}

/// A `runner` key of a cargo configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfiguredRunner {
    /// The name of its table below `target`: a triple or a `cfg(..)` expression.
    pub table: String,
    /// Its words.
    pub words: Vec<String>,
    /// Whether it is written as one text, which cargo cannot join with a list.
    pub is_text: bool,
}

impl ConfiguredRunner {
    /// Whether it starts `knhk-test-cache exec`.
    #[must_use]
    pub(crate) fn is_ours(&self) -> bool {
        self.words.windows(2).any(|words| is_exec(&words[0], &words[1]))
    }
}

/// Whether two words of a command are `knhk-test-cache exec`.
#[must_use]
pub(crate) fn is_exec(program: &str, command: &str) -> bool {
    let name = Path::new(program).file_name();
    command == "exec" && name.is_some_and(|name| name == "knhk-test-cache")
}

/// The runners that a cargo configuration sets.
///
/// # Errors
/// If it cannot be read as one.
pub(crate) fn configured_runners(text: &str) -> Result<Vec<ConfiguredRunner>, RunnerError> {
    let document = parse(text)?;
    let Some(target) = document.get("target") else { return Ok(Vec::new()) };
    let tables = target.as_table_like().ok_or_else(|| not_a_table("target"))?;
    let mut found = Vec::new();
    for (name, table) in tables.iter() {
        let Some(runner) = table.as_table_like().and_then(|table| table.get("runner")) else {
            continue;
        };
        let words = words(runner)
            .ok_or_else(|| RunnerError::NotACommand(format!("target.{name}.runner")))?;
        found.push(ConfiguredRunner { table: name.to_owned(), words, is_text: runner.is_str() });
    }
    Ok(found)
}

/// The text with `program exec` as the runner of `triples` and of every target that has one.
///
/// Where a `cfg(..)` table sets a runner, no table for a triple is added, since it would take the
/// place of that runner. `base` is the folder from which cargo resolves relative programs.
///
/// # Errors
/// If the text cannot be edited.
pub(crate) fn with_runner(
    text: &str,
    triples: &[String],
    program: &str,
    base: &Path,
) -> Result<String, RunnerError> {
    let mut document = parse(text)?;
    let configured = configured_runners(text)?;
    let by_condition = configured.iter().any(|runner| runner.table.starts_with("cfg("));
    let mut tables: Vec<String> = configured.into_iter().map(|runner| runner.table).collect();
    if !by_condition {
        tables.extend(
            triples.iter().filter(|triple| !tables.contains(*triple)).cloned().collect::<Vec<_>>(),
        );
    }
    for name in &tables {
        let table = target_table(&mut document, name)?;
        let before = table.get("runner").map(|runner| (bare(runner), words(runner)));
        let (raw, mut words) = match before {
            None => (None, Vec::new()),
            Some((raw, words)) => (Some(raw), words.unwrap_or_default()),
        };
        if let Some(at) = words.windows(2).position(|words| is_exec(&words[0], &words[1])) {
            // Ours already: at most the program has moved.
            if words[at] != program {
                words[at] = program.to_owned();
                set(table, &words, None);
            }
            continue;
        }
        if let Some(first) = words.first_mut().filter(|first| first.contains('/')) {
            // Cargo resolves only the first word.
            *first = base.join(&*first).to_string_lossy().into_owned();
        }
        let comment = raw.as_deref().map(|raw| one_line(raw, &words));
        let all = [program.to_owned(), "exec".to_owned()].into_iter().chain(words);
        set(table, &all.collect::<Vec<_>>(), comment.as_deref());
    }
    Ok(document.to_string())
}

/// The text without our runner: as it was before [`with_runner`].
///
/// # Errors
/// If the text cannot be edited.
pub(crate) fn without_runner(text: &str) -> Result<String, RunnerError> {
    let mut document = parse(text)?;
    let ours = configured_runners(text)?.into_iter().filter(ConfiguredRunner::is_ours);
    for runner in ours.collect::<Vec<_>>() {
        let table = target_table(&mut document, &runner.table)?;
        let key = table.key("runner").map(|key| key.leaf_decor().clone());
        let prefix = key.and_then(|decor| decor.prefix()?.as_str().map(ToOwned::to_owned));
        let (kept, before) = split_comment(prefix.as_deref().unwrap_or_default());
        let at = runner.words.windows(2).position(|words| is_exec(&words[0], &words[1]));
        let rest: Vec<String> = runner.words[at.map_or(0, |at| at + 2)..].to_vec();
        match (before.and_then(|before| before.parse::<Value>().ok()), rest.is_empty()) {
            (Some(mut value), _) => {
                if let Some(item) = table.get_mut("runner") {
                    if let Some(ours) = item.as_value() {
                        *value.decor_mut() = ours.decor().clone();
                    }
                    *item = Item::Value(value);
                }
                set_prefix(table, &kept);
            }
            (None, false) => set(table, &rest, None),
            (None, true) => drop(table.remove("runner")),
        }
        let empty = table.is_empty();
        if empty && let Some(target) = document.get_mut("target").and_then(Item::as_table_like_mut)
        {
            target.remove(&runner.table);
            if target.is_empty() {
                document.remove("target");
            }
        }
    }
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut, RunnerError> {
    text.parse::<DocumentMut>().map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        RunnerError::Syntax { line, message }
    })
}

fn not_a_table(key: &str) -> RunnerError {
    RunnerError::NotATable(key.to_owned())
}

/// The table of a target, made in the style of the file if there is none.
fn target_table<'d>(
    document: &'d mut DocumentMut,
    name: &str,
) -> Result<&'d mut dyn TableLike, RunnerError> {
    let target = document.entry("target").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let inline = target.is_inline_table();
    let tables = target.as_table_like_mut().ok_or_else(|| not_a_table("target"))?;
    if !tables.contains_key(name) {
        let table = if inline {
            Item::Value(Value::InlineTable(InlineTable::new()))
        } else {
            Item::Table(Table::new())
        };
        tables.insert(name, table);
    }
    let table = tables.get_mut(name).and_then(Item::as_table_like_mut);
    table.ok_or_else(|| not_a_table(&format!("target.{name}")))
}

/// The words of a runner, as cargo splits them.
fn words(runner: &Item) -> Option<Vec<String>> {
    if let Some(text) = runner.as_str() {
        return Some(text.split_whitespace().map(ToOwned::to_owned).collect());
    }
    runner.as_array()?.iter().map(|word| word.as_str().map(ToOwned::to_owned)).collect()
}

/// A value's text without the comment behind it.
fn bare(item: &Item) -> String {
    item.as_value().map_or_else(String::new, |value| value.clone().decorated("", "").to_string())
}

/// A value's text without line breaks, or its words where it has some.
fn one_line(raw: &str, words: &[String]) -> String {
    if raw.contains('\n') {
        return words.iter().collect::<Array>().to_string();
    }
    raw.trim().to_owned()
}

/// Sets the runner, below the comment that keeps the one from before.
fn set(table: &mut dyn TableLike, words: &[String], before: Option<&str>) {
    let runner = words.iter().collect::<Array>();
    let prefix = table.key("runner").and_then(|key| key.leaf_decor().prefix()?.as_str());
    let prefix = prefix.unwrap_or_default().to_owned();
    match table.get_mut("runner").and_then(Item::as_value_mut) {
        // What follows the value on its line stays.
        Some(value) => {
            let decor = value.decor().clone();
            *value = Value::Array(runner);
            *value.decor_mut() = decor;
        }
        None => drop(table.insert("runner", Item::Value(Value::Array(runner)))),
    }
    if let Some(before) = before {
        set_prefix(table, &format!("{prefix}{BEFORE}{before}\n"));
    }
}

fn set_prefix(table: &mut dyn TableLike, prefix: &str) {
    if let Some(mut key) = table.key_mut("runner") {
        key.leaf_decor_mut().set_prefix(prefix);
    }
}

/// The text before a runner's key without our comment, and the value that the comment keeps.
fn split_comment(prefix: &str) -> (String, Option<String>) {
    let mut kept = String::new();
    let mut before = None;
    for line in prefix.split_inclusive('\n') {
        match line.trim_end().strip_prefix(BEFORE) {
            Some(value) => before = Some(value.to_owned()),
            None => kept.push_str(line),
        }
    }
    (kept, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "x86_64-unknown-linux-gnu";
    const PROGRAM: &str = "/opt/knhk-test-cache";

    fn write(text: &str) -> String {
        with_runner(text, &[HOST.to_owned()], PROGRAM, Path::new("/w")).unwrap()
    }

    /// Writes, and checks that the result is stable, that cargo can read it, and that it can be
    /// undone to the byte.
    fn round_trip(text: &str) -> String {
        let written = write(text);
        assert_eq!(write(&written), written, "a second edit changes nothing");
        written.parse::<toml::Table>().unwrap();
        assert!(configured_runners(&written).unwrap().iter().any(ConfiguredRunner::is_ours));
        assert_eq!(without_runner(&written).unwrap(), text, "{written}");
        written
    }

    #[test]
    fn a_new_file_gets_one_table() {
        insta::assert_snapshot!(round_trip(""), @r#"
        [target.x86_64-unknown-linux-gnu]
        runner = ["/opt/knhk-test-cache", "exec"]
        "#);
    }

    #[test]
    fn a_table_that_exists_keeps_everything() {
        let text = "# mine\n[target.x86_64-unknown-linux-gnu] # fast\nrustflags = [\n  \"-C\", # a\n]\n\n\
                    [build]\njobs = 2\n";
        insta::assert_snapshot!(round_trip(text), @r#"
        # mine
        [target.x86_64-unknown-linux-gnu] # fast
        rustflags = [
          "-C", # a
        ]
        runner = ["/opt/knhk-test-cache", "exec"]

        [build]
        jobs = 2
        "#);
    }

    #[test]
    fn a_runner_that_exists_is_started_by_ours() {
        let text = "[target.x86_64-unknown-linux-gnu]\n# why\nrunner = 'bin/env.sh  -E' # keep\n";
        insta::assert_snapshot!(round_trip(text), @r#"
        [target.x86_64-unknown-linux-gnu]
        # why
        # before knhk-test-cache: runner = 'bin/env.sh  -E'
        runner = ["/opt/knhk-test-cache", "exec", "/w/bin/env.sh", "-E"] # keep
        "#);
    }

    #[test]
    fn every_configured_target_is_handled() {
        let text = "[target.aarch64-unknown-linux-gnu]\nrunner = [\"qemu-aarch64\"]\n";
        let written = round_trip(text);
        assert!(written.contains("\"exec\", \"qemu-aarch64\"]"), "{written}");
        assert!(written.contains("[target.x86_64-unknown-linux-gnu]"), "{written}");
    }

    #[test]
    fn a_condition_that_sets_a_runner_keeps_its_place() {
        let text = "[target.'cfg(unix)']\nrunner = ['sudo', '-E']\n";
        let written = round_trip(text);
        assert!(written.contains("\"exec\", \"sudo\", \"-E\"]"), "{written}");
        assert!(!written.contains(HOST), "it would override the condition: {written}");
    }

    #[test]
    fn inline_and_dotted_tables_are_edited_in_place() {
        for text in [
            "target.x86_64-unknown-linux-gnu.rustflags = ['-g']\n",
            "target = { x86_64-unknown-linux-gnu = { rustflags = ['-g'] } }\n",
            "[target]\nx86_64-unknown-linux-gnu.linker = 'ld'\n",
            "[target.'cfg(unix)']\nrustflags = ['-g']\n",
        ] {
            let written = write(text);
            assert_eq!(write(&written), written);
            let table = written.parse::<toml::Table>().unwrap();
            assert!(table["target"][HOST]["runner"].is_array(), "{written}");
            let back = without_runner(&written).unwrap().parse::<toml::Table>().unwrap();
            assert_eq!(back, text.parse::<toml::Table>().unwrap(), "{written}");
        }
    }

    #[test]
    fn a_moved_program_is_followed() {
        let old = write("").replace("/opt/", "/old/");
        assert_eq!(write(&old), write(""));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_its_line() {
        let error = with_runner("[a]\nb = \n", &[], PROGRAM, Path::new("/")).unwrap_err();
        assert!(matches!(error, RunnerError::Syntax { line: 2, .. }), "{error}");
        assert_eq!(
            with_runner("target = 1", &[], PROGRAM, Path::new("/")),
            Err(RunnerError::NotATable("target".into()))
        );
        let odd = "[target.x]\nrunner = 1\n";
        assert!(with_runner(odd, &[], PROGRAM, Path::new("/")).is_err());
    }
}
