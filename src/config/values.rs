//! The values of the config's keys: each read from TOML with its type, its range and its meaning
//! checked, and an error that says what is allowed.

use std::ops::RangeInclusive;
use std::time::Duration;

use globset::GlobBuilder;
use toml::Spanned;
use toml::de::DeValue;

use super::error::{Fault, Found, did_you_mean};
use super::units;
use super::{Effort, Level, Runner};

/// A value as it stands in the file.
pub(super) type Raw<'i> = Spanned<DeValue<'i>>;

/// The longest duration that makes sense: ten years.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);

/// What a time to live may be.
pub(super) const TTL: RangeInclusive<Duration> = Duration::from_millis(1)..=LONGEST;
/// What a quiet time after a save may be.
pub(super) const DEBOUNCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
/// What a time limit may be; zero means none.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;
/// How many snapshots may be kept.
pub(super) const SNAPSHOTS: RangeInclusive<u32> = 1..=1_000;
/// `verify_percent`.
pub(super) const PERCENT: RangeInclusive<u32> = 0..=100;
/// `flaky_runs`.
pub(super) const RUNS: RangeInclusive<u32> = 1..=1_000;
/// `battery_below`, in percent.
pub(super) const CHARGE: RangeInclusive<u32> = 1..=100;
/// `memory_pressure`, in percent; zero means no limit.
pub(super) const PRESSURE: RangeInclusive<u32> = 0..=100;
/// Jobs; zero means automatic. More than any machine has is a slip.
pub(super) const JOBS: RangeInclusive<u32> = 0..=1_024;
/// How large all records may grow: from one that still holds a record or two.
pub(super) const MAX_SIZE: RangeInclusive<u64> = 1 << 20..=1 << 50;

/// The type of a value, with its article.
fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The error of a value that has another type.
pub(super) fn wrong_type(key: &str, value: &Raw<'_>, expected: &'static str) -> Found {
    let found = type_of(value.get_ref());
    Found::new(value.span(), Fault::WrongType { key: key.to_owned(), expected, found })
}

fn bad(key: &str, value: &Raw<'_>, why: impl Into<String>) -> Found {
    Found::new(value.span(), Fault::BadValue { key: key.to_owned(), why: why.into() })
}

fn out_of_range(key: &str, value: &Raw<'_>) -> Found {
    Found::new(value.span(), Fault::OutOfRange { key: key.to_owned() })
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A list of texts as TOML writes it.
pub(super) fn list(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted = texts.into_iter().map(|text| quoted(text.as_ref())).collect::<Vec<_>>();
    format!("[{}]", quoted.join(", "))
}

/// A list of strings, each checked by `check`, which says what is wrong with it.
fn strings(
    key: &str,
    value: &Raw<'_>,
    allowed: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<String>, Found> {
    let DeValue::Array(items) = value.get_ref() else {
        let error = wrong_type(key, value, "a list of strings").allowed(allowed);
        return Err(match value.get_ref() {
            // What was most probably meant: the words of the one string.
            DeValue::String(text) => {
                error.label(format!("write {}", list(text.split_whitespace())))
            }
            _ => error,
        });
    };
    let mut texts = Vec::new();
    for item in items.iter() {
        let DeValue::String(text) = item.get_ref() else {
            return Err(wrong_type(key, item, "a list of strings").allowed(allowed));
        };
        check(text).map_err(|why| bad(key, item, why).allowed(allowed))?;
        texts.push(text.to_string());
    }
    Ok(texts)
}

/// The words of a command line. What they mean is cargo's to say.
pub(super) fn args(key: &str, value: &Raw<'_>) -> Result<Vec<String>, Found> {
    strings(key, value, "a list with one word an entry, such as [\"-p\", \"my-crate\"]", |word| {
        if word.is_empty() {
            return Err("a word is empty".to_owned());
        }
        no_nul(word)
    })
}

/// No path and no argument of a program can hold a zero byte.
fn no_nul(text: &str) -> Result<(), String> {
    if text.contains('\0') { Err("it holds a zero character".to_owned()) } else { Ok(()) }
}

/// Globs of packages and test targets.
pub(super) fn names(key: &str, value: &Raw<'_>) -> Result<Vec<String>, Found> {
    let allowed = "globs of packages or test targets, such as \"my-crate\", \"*::network\" or \
                   \"my-crate (doc)\"";
    strings(key, value, allowed, check_name)
}

/// Globs of addresses.
pub(super) fn addresses(key: &str, value: &Raw<'_>) -> Result<Vec<String>, Found> {
    let allowed = "globs of addresses, such as \"127.0.0.1:5432\", \"*:5432\" or \
                   \"/run/postgresql/*\"";
    strings(key, value, allowed, check_name)
}

/// A glob over a text that is no path: `*` stands for anything.
fn check_name(glob: &str) -> Result<(), String> {
    if glob.is_empty() {
        return Err("a glob is empty".to_owned());
    }
    globset::Glob::new(glob).map(drop).map_err(|error| format!("`{glob}`: {}", error.kind()))
}

/// Globs that add files.
pub(super) fn included(key: &str, value: &Raw<'_>) -> Result<Vec<String>, Found> {
    strings(key, value, GLOBS, |glob| check_glob(glob).map(drop))
}

/// Globs that take files away.
pub(super) fn excluded(key: &str, value: &Raw<'_>) -> Result<Vec<String>, Found> {
    strings(key, value, GLOBS, |glob| {
        let matcher = check_glob(glob)?;
        // These two decide every build. Without them every verdict would be stale, silently.
        match ["Cargo.toml", "Cargo.lock"].into_iter().find(|file| matcher.is_match(file)) {
            Some(file) => {
                Err(format!("`{glob}` would exclude `{file}`, which decides every build"))
            }
            None => Ok(()),
        }
    })
}

const GLOBS: &str =
    "globs relative to the workspace, such as \"fixtures/**\", \"*.md\" or \"data/{a,b}.json\"";

/// A glob that means something below a workspace. Those that could never match anything are
/// refused, since they would be ignored in silence.
fn check_glob(glob: &str) -> Result<globset::GlobMatcher, String> {
    no_nul(glob)?;
    if glob.is_empty() {
        return Err("a glob is empty".to_owned());
    }
    if glob.starts_with(['/', '~', '$']) {
        return Err(format!("`{glob}` is not relative to the workspace"));
    }
    if glob.starts_with('!') {
        return Err(format!("`{glob}`: there is no negation"));
    }
    if glob.split('/').any(|part| part == ".." || part == ".") {
        return Err(format!("`{glob}` has a `.` or `..` in it, which no file's path has"));
    }
    if glob.ends_with('/') {
        return Err(format!("`{glob}` ends with `/`: a folder's files are `{glob}**`"));
    }
    let compiled = GlobBuilder::new(glob).literal_separator(true).build();
    Ok(compiled.map_err(|error| format!("`{glob}`: {}", error.kind()))?.compile_matcher())
}

/// A duration within `range`.
pub(super) fn duration(
    key: &str,
    value: &Raw<'_>,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Found> {
    let allowed = || {
        let [from, to] = [range.start(), range.end()].map(|d| units::format_duration(*d));
        format!("{from} to {to}, written with the units d, h, m, s and ms, such as \"1h 30m\"")
    };
    let text = match value.get_ref() {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            let error = wrong_type(key, value, "a string").allowed(allowed());
            return Err(error.label(format!("with its unit, such as \"{number}s\"")));
        }
        _ => return Err(wrong_type(key, value, "a string").allowed(allowed())),
    };
    let duration = units::parse_duration(text);
    let duration = duration.map_err(|why| bad(key, value, why).allowed(allowed()))?;
    if !range.contains(&duration) {
        return Err(out_of_range(key, value).allowed(allowed()));
    }
    Ok(duration)
}

/// A size in bytes within `range`.
pub(super) fn size(key: &str, value: &Raw<'_>, range: RangeInclusive<u64>) -> Result<u64, Found> {
    let allowed = || {
        let [from, to] = [range.start(), range.end()].map(|bytes| units::format_size(*bytes));
        format!("{from} to {to}, written with a unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB)")
    };
    let DeValue::String(text) = value.get_ref() else {
        return Err(wrong_type(key, value, "a string").allowed(allowed()));
    };
    let size = units::parse_size(text);
    let size = size.map_err(|why| bad(key, value, why).allowed(allowed()))?;
    if !range.contains(&size) {
        return Err(out_of_range(key, value).allowed(allowed()));
    }
    Ok(size)
}

/// A percentage within `range`.
pub(super) fn percent(
    key: &str,
    value: &Raw<'_>,
    range: RangeInclusive<u32>,
) -> Result<u32, Found> {
    let allowed = || format!("\"{}%\" to \"{}%\"", range.start(), range.end());
    let text = match value.get_ref() {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            let error = wrong_type(key, value, "a string").allowed(allowed());
            return Err(error.label(format!("with its sign, as \"{number}%\"")));
        }
        _ => return Err(wrong_type(key, value, "a string").allowed(allowed())),
    };
    let percent = units::parse_percent(text);
    let percent = percent.map_err(|why| bad(key, value, why).allowed(allowed()))?;
    let within = u32::try_from(percent).ok().filter(|percent| range.contains(percent));
    within.ok_or_else(|| out_of_range(key, value).allowed(allowed()))
}

/// A whole number within `range`.
pub(super) fn number(key: &str, value: &Raw<'_>, range: RangeInclusive<u32>) -> Result<u32, Found> {
    let allowed = || format!("{} to {}", range.start(), range.end());
    let DeValue::Integer(number) = value.get_ref() else {
        return Err(unquote(wrong_type(key, value, "an integer"), value).allowed(allowed()));
    };
    let parsed = u32::from_str_radix(number.as_str(), number.radix());
    let within = parsed.ok().filter(|number| range.contains(number));
    within.ok_or_else(|| out_of_range(key, value).allowed(allowed()))
}

/// Yes or no.
pub(super) fn boolean(key: &str, value: &Raw<'_>) -> Result<bool, Found> {
    let DeValue::Boolean(value) = value.get_ref() else {
        return Err(unquote(wrong_type(key, value, "a boolean"), value).allowed("true or false"));
    };
    Ok(*value)
}

/// Numbers and booleans in quotes are the usual slip.
fn unquote(error: Found, value: &Raw<'_>) -> Found {
    if value.get_ref().is_str() { error.label("without quotes") } else { error }
}

/// The path of a project, as written.
pub(super) fn path(key: &str, value: &Raw<'_>) -> Result<Spanned<String>, Found> {
    let DeValue::String(text) = value.get_ref() else {
        return Err(wrong_type(key, value, "a string").allowed(PATH));
    };
    no_nul(text).map_err(|why| bad(key, value, why).allowed(PATH))?;
    Ok(Spanned::new(value.span(), text.to_string()))
}

/// Where the tests are built: a word, or a path as written.
pub(super) fn target_dir(key: &str, value: &Raw<'_>) -> Result<Spanned<String>, Found> {
    let DeValue::String(text) = value.get_ref() else {
        return Err(wrong_type(key, value, "a string").allowed(TARGET_DIR));
    };
    no_nul(text).map_err(|why| bad(key, value, why).allowed(TARGET_DIR))?;
    // Relative to what? Whoever slips in a word means one of the two.
    if !WORDS.contains(&&**text) && !text.starts_with(['/', '~', '$']) {
        let why = format!("`{text}` is neither");
        let error = bad(key, value, why).allowed(TARGET_DIR);
        return Err(match did_you_mean(text, WORDS) {
            Some(name) => error.label(format!("did you mean {}?", quoted(name))),
            None => error,
        });
    }
    Ok(Spanned::new(value.span(), text.to_string()))
}

const WORDS: &[&str] = &["cargo", "own"];

/// What `target_dir` may be.
pub(super) const TARGET_DIR: &str =
    "\"cargo\", \"own\", or an absolute path, or one that starts with `~/` or `$NAME/`";

/// What the path of a project may be.
pub(super) const PATH: &str = "an absolute path, or one that starts with `~/` or `$NAME/`";

/// One of the named choices.
fn choice<T: Copy>(key: &str, value: &Raw<'_>, choices: &[(&'static str, T)]) -> Result<T, Found> {
    let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let allowed = names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let DeValue::String(text) = value.get_ref() else {
        return Err(wrong_type(key, value, "a string").allowed(allowed));
    };
    if let Some((_, chosen)) = choices.iter().find(|(name, _)| name == text) {
        return Ok(*chosen);
    }
    let error = bad(key, value, format!("there is no {}", quoted(text))).allowed(allowed);
    Err(match did_you_mean(text, &names) {
        Some(name) => error.label(format!("did you mean {}?", quoted(name))),
        None => error,
    })
}

/// What runs the tests.
pub(super) fn runner(key: &str, value: &Raw<'_>) -> Result<Runner, Found> {
    choice(key, value, &Runner::ALL.map(|runner| (runner.as_str(), runner)))
}

/// How much is done in the background.
pub(super) fn effort(key: &str, value: &Raw<'_>) -> Result<Effort, Found> {
    choice(key, value, &Effort::ALL.map(|effort| (effort.as_str(), effort)))
}

/// How much is logged.
pub(super) fn level(key: &str, value: &Raw<'_>) -> Result<Level, Found> {
    choice(key, value, &Level::ALL.map(|level| (level.as_str(), level)))
}
