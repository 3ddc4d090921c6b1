//! How long nextest lets a test run, which calls this program for each test.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::model::{Digest, Digester};
use crate::process::Environment;

/// The most programs between nextest and a test.
const MOST_WRAPPERS: usize = 8;

/// The profile and a digest of its files; empty if nextest is not the caller, `None` if they cannot be told.
pub(super) fn limits_of_nextest(root: &Path, environment: &Environment) -> Option<String> {
    if environment.get("NEXTEST").is_none() {
        return Some(String::new());
    }
    let profile = environment.get("NEXTEST_PROFILE").unwrap_or_default();
    let (words, dir) = call_of_nextest()?;
    let mut digester = Digester::new("configuration of nextest 1");
    digester.digest(&content(&root.join(".config/nextest.toml"))?);
    for file in configs(&words) {
        digester.digest(&content(&dir.join(file))?);
    }
    Some(format!(" nextest {} {}", profile.display(), digester.finish()))
}

/// The words by which nextest was called, and the folder in which it runs.
fn call_of_nextest() -> Option<(Vec<OsString>, PathBuf)> {
    let mut process = rustix::process::getppid()?.as_raw_nonzero().to_string();
    for _ in 0..MOST_WRAPPERS {
        let of = |what: &str| Path::new("/proc").join(&process).join(what);
        let words = std::fs::read(of("cmdline")).ok()?;
        let words = words.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
        let words: Vec<_> = words.collect();
        if is_nextest(&words) {
            return Some((words, std::fs::read_link(of("cwd")).ok()?));
        }
        // A script around each test.
        let status = std::fs::read_to_string(of("status")).ok()?;
        process = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().to_owned();
    }
    None
}

/// Whether nextest was called by these words: `cargo-nextest nextest run`, or `cargo-ntr ntr`.
fn is_nextest(words: &[OsString]) -> bool {
    let is_one = |word: &OsString, names: [&str; 2]| names.iter().any(|name| word == name);
    let name = words.first().and_then(|program| Path::new(program).file_name());
    name.is_some_and(|name| is_one(&name.to_owned(), ["cargo-nextest", "cargo-ntr"]))
        || words.get(1).is_some_and(|word| is_one(word, ["nextest", "ntr"]))
}

/// The files that a call names besides the workspace's own.
fn configs(words: &[OsString]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut words = words.iter().filter_map(|word| word.to_str()).take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
        if !["--config-file", "--tool-config-file"].contains(&name) {
            continue;
        }
        let Some(value) = value.or_else(|| words.next()) else { break };
        // `TOOL:FILE`
        let file = match name {
            "--tool-config-file" => value.split_once(':').map_or(value, |(_, file)| file),
            _ => value,
        };
        files.push(PathBuf::from(file));
    }
    files
}

/// Digest of what such a file says of tests; `None` if it is no regular file or cannot be read. Where reports go is of
/// no matter to tests, and some tools give them another name in every call.
fn content(file: &Path) -> Option<Digest> {
    let text = match std::fs::metadata(file) {
        Ok(metadata) if metadata.is_file() => std::fs::read(file).ok()?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        _ => return None,
    };
    let parsed = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    let Some(mut config): Option<toml::Table> = parsed else { return Some(Digest::of(&text)) };
    config.remove("store");
    for profile in config.get_mut("profile").and_then(toml::Value::as_table_mut).into_iter() {
        for (_, settings) in profile.iter_mut() {
            if let Some(settings) = settings.as_table_mut() {
                settings.remove("junit");
            }
        }
        profile.retain(|_, settings| settings.as_table().is_none_or(|table| !table.is_empty()));
    }
    Some(Digest::of(config.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_in_each_form_of_the_options() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let line = "cargo-nextest nextest run --config-file a.toml --tool-config-file=tool:/b.toml \
                    --tool-config-file t:c.toml -- --config-file d.toml";
        let files = configs(&words(line));
        assert_eq!(files, ["a.toml", "/b.toml", "c.toml"].map(PathBuf::from));
        assert!(configs(&words("cargo-nextest nextest run --config-file")).is_empty());
    }

    #[test]
    fn nextest_is_told_from_what_else_has_its_name_in_a_word() {
        let is_it =
            |line: &str| is_nextest(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in ["/x/cargo-nextest nextest run", "cargo-ntr ntr", "cargo nextest run"] {
            assert!(is_it(line), "{line}");
        }
        for line in ["just -f nextest", "make all nextest", "", "sh"] {
            assert!(!is_it(line), "{line}");
        }
    }

    #[test]
    fn what_is_said_of_reports_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("nextest.toml");
        let of = |text: &str| {
            std::fs::write(&file, text).unwrap();
            content(&file)
        };
        let limit = "[profile.p]\nslow-timeout = '60s'\n";
        let report = |name: &str| format!("[profile.p.junit]\npath = '{name}'\n");
        assert_eq!(of(&report("1.xml")), of(&report("2.xml")));
        assert_eq!(of(&format!("{limit}{}", report("1.xml"))), of(limit));
        assert_ne!(of(limit), of(&limit.replace("60", "61")));
        assert_ne!(of("no = TOML"), of("no = toml"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(content(&file), of(""), "none is an empty one");
        assert_eq!(content(dir.path()), None, "a folder, a pipe");
    }
}
