//! The error of a config: the fault, its place, and what is allowed instead.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

/// A fault of a config, as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Fault {
    /// The file exists and cannot be read.
    #[error("the config cannot be read: {0}")]
    Unreadable(String),
    /// The config's path leads to something that is no file.
    #[error("the config is {0}, not a file")]
    NotAFile(&'static str),
    /// The config is a symbolic link to nothing, which is not the same as no config.
    #[error("the config is a symbolic link to `{}`, which does not exist", .0.display())]
    Dangling(PathBuf),
    /// Some bytes are not UTF-8.
    #[error("the config is not UTF-8 text")]
    NotUtf8,
    /// The file is far longer than any config.
    #[error("the config is longer than {0} bytes")]
    TooLong(u64),
    /// It is not TOML.
    #[error("the config is not TOML: {0}")]
    Syntax(String),
    /// A key that nothing reads.
    #[error("unknown key `{key}` {table}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Its table, such as "in `[defaults]`".
        table: String,
    },
    /// A value that is no table, no list of tables or no string, and must be.
    #[error("`{key}` must be {expected}, and is of type {found}")]
    WrongType {
        /// The key.
        key: String,
        /// The type that is expected, with its article.
        expected: &'static str,
        /// The type that is there.
        found: &'static str,
    },
    /// A value that cannot be used: its type, its range or its text.
    #[error("`{key}`: {why}")]
    BadValue {
        /// The key.
        key: String,
        /// The reason.
        why: String,
    },
    /// A project without a path.
    #[error("a project has no `path`")]
    NoPath,
    /// The same folder twice, perhaps by another name.
    #[error("the project `{}` is listed twice, first in line {first}", .path.display())]
    Duplicate {
        /// The folder.
        path: PathBuf,
        /// The line of its first entry, from 1.
        first: usize,
    },
    /// The project's folder does not exist (now).
    #[error("the project's folder `{}` does not exist", .0.display())]
    Missing(PathBuf),
    /// The project's path leads to something that is no folder.
    #[error("the project `{}` is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The project's path cannot be followed.
    #[error("the project `{}` cannot be reached: {why}", .path.display())]
    Unreachable {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
}

/// An error of a config file: the fault, its place (file, line and column), and what is allowed.
///
/// `Display` renders it over several lines as rustc does, without the word "error:" in front;
/// [`ConfigError::one_line`] is for logs and JSON.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    file: PathBuf,
    location: Option<Location>,
    detail: Detail,
}

/// A fault with its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Detail {
    fault: Fault,
    label: Option<String>,
    allowed: Option<String>,
    project: Option<PathBuf>,
}

impl From<Fault> for Detail {
    fn from(fault: Fault) -> Self {
        Self { fault, label: None, allowed: None, project: None }
    }
}

/// A fault in some text, before its file is known.
#[derive(Clone, Debug)]
pub(super) struct SpannedFault {
    /// The bytes that it is about.
    pub(super) span: Range<usize>,
    detail: Box<Detail>,
}

impl SpannedFault {
    pub(super) fn new(span: Range<usize>, fault: Fault) -> Self {
        Self { span, detail: Box::new(fault.into()) }
    }

    /// The error of a value that serde refused. Its message has the form `REASON, expected ALLOWED`.
    pub(super) fn of_value(
        key: &str,
        value: &Spanned<DeValue<'_>>,
        error: &toml::de::Error,
    ) -> Self {
        let (why, allowed) = match error.message().split_once(", expected ") {
            Some((why, allowed)) => (why, Some(allowed)),
            None => (error.message(), None),
        };
        let fault = Fault::BadValue { key: key.to_owned(), why: why.to_owned() };
        let span = error.span().filter(|span| !span.is_empty()).unwrap_or(value.span());
        let found = Self::new(span, fault);
        let Some(allowed) = allowed else { return found };
        // Both name words in backticks: what is there, and what might be.
        let quoted = |text: &'_ str| -> Vec<String> {
            text.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
        };
        let (written, words) = (quoted(why), quoted(allowed));
        let near = written.first().and_then(|word| did_you_mean(word, words.iter().map(|w| &**w)));
        let found = found.allowed(allowed);
        match near {
            Some(near) => found.label(format!("did you mean `{near}`?")),
            None => found,
        }
    }

    /// Adds a few words beside the caret: the remedy.
    pub(super) fn label(mut self, text: impl Into<String>) -> Self {
        self.detail.label = Some(text.into());
        self
    }

    /// Adds the allowed values.
    pub(super) fn allowed(mut self, text: impl Into<String>) -> Self {
        self.detail.allowed = Some(text.into());
        self
    }

    /// Adds the project that it is about.
    pub(super) fn project(mut self, path: &Path) -> Self {
        self.detail.project = Some(path.to_owned());
        self
    }

    /// Whether it is about an entry that repeats another.
    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self.detail.fault, Fault::Duplicate { .. })
    }

    /// The error of this fault in `text`, the content of `file`.
    pub(super) fn in_file(self, file: &Path, text: &str) -> ConfigError {
        let location = Some(Location::of(text, &self.span));
        ConfigError(Box::new(Parts { file: file.to_owned(), location, detail: *self.detail }))
    }
}

impl ConfigError {
    /// An error of the file as a whole.
    pub(super) fn of_file(file: &Path, fault: Fault) -> Self {
        Self(Box::new(Parts { file: file.to_owned(), location: None, detail: fault.into() }))
    }

    /// The fault.
    #[must_use]
    pub(crate) fn fault(&self) -> &Fault {
        &self.0.detail.fault
    }

    /// The config file.
    #[cfg(test)]
    pub(crate) fn file(&self) -> &Path {
        &self.0.file
    }

    /// The line, from 1; none if the error is about the file as a whole.
    #[must_use]
    pub(crate) fn line(&self) -> Option<usize> {
        self.0.location.as_ref().map(|location| location.line)
    }

    /// The column in characters, from 1; none if the error is about the file as a whole.
    #[must_use]
    pub(crate) fn column(&self) -> Option<usize> {
        self.0.location.as_ref().map(|location| location.column)
    }

    /// The folder of the project that it is about, if it is about one.
    #[must_use]
    pub(crate) fn project(&self) -> Option<&Path> {
        self.0.detail.project.as_deref()
    }

    /// Everything but the source line, in one line.
    #[must_use]
    pub(crate) fn one_line(&self) -> String {
        let mut text = self.location();
        // A syntax error of TOML can be several lines long.
        let fault = self.0.detail.fault.to_string().lines().collect::<Vec<_>>().join("; ");
        let _ = write!(text, ": {fault}");
        for part in [&self.0.detail.label, &self.0.detail.allowed].into_iter().flatten() {
            let _ = write!(text, "; {part}");
        }
        text
    }

    fn location(&self) -> String {
        let file = self.0.file.display();
        match &self.0.location {
            Some(Location { line, column, .. }) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { location, detail: Detail { fault, label, allowed, .. }, .. } = &*self.0;
        let number =
            location.as_ref().map(|location| location.line.to_string()).unwrap_or_default();
        let margin = " ".repeat(number.len());
        write!(out, "{fault}\n{margin}--> {}", self.location())?;
        if let Some(Location { text, before, marked, .. }) = location {
            let caret = " ".repeat(*before) + &"^".repeat(*marked);
            write!(out, "\n{margin} |\n{number} | {text}\n{margin} | {caret}")?;
            if let Some(label) = label {
                write!(out, " {label}")?;
            }
            if allowed.is_some() {
                write!(out, "\n{margin} |")?;
            }
        }
        if let Some(allowed) = allowed {
            write!(out, "\n{margin} = allowed: {allowed}")?;
        }
        Ok(())
    }
}

/// A line and column of a file, with the line's text ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Location {
    line: usize,
    column: usize,
    /// The line, or the part of a long one around the place.
    text: String,
    /// How many characters of `text` stand before the place.
    before: usize,
    /// How many characters are marked, at least 1.
    marked: usize,
}

/// The most characters of one line that are shown.
const LINE_WIDTH: usize = 120;

impl Location {
    fn of(text: &str, span: &Range<usize>) -> Self {
        let boundary = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = boundary(span.start.min(text.len()));
        let end = boundary(span.end.clamp(start, text.len()));
        let line = text[..start].matches('\n').count() + 1;
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let marked = text[start..end.min(line_end)].trim_end_matches('\r').chars().count().max(1);
        // A tab counts as one column, so that the caret stands below its character.
        let shown = |c: char| match c {
            '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        };
        let whole = text[line_start..line_end].trim_end_matches('\r');
        let whole = whole.trim_start_matches('\u{feff}').chars().map(shown).collect::<Vec<_>>();
        // A byte order mark is no column, nor is the return of a line break.
        let before = text[line_start..start].trim_start_matches('\u{feff}').chars().count();
        let before = before.min(whole.len());
        let from = if whole.len() > LINE_WIDTH { before.saturating_sub(LINE_WIDTH / 2) } else { 0 };
        let part = whole.iter().skip(from).take(LINE_WIDTH).collect();
        let before_shown = before - from;
        let marked = marked.min((LINE_WIDTH - before_shown.min(LINE_WIDTH)).max(1));
        Self { line, column: before + 1, text: part, before: before_shown, marked }
    }
}

/// The one of `allowed` that was probably meant by `written`.
pub(super) fn did_you_mean<'a>(
    written: &str,
    allowed: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_lowercase().replace('-', "_");
    let limit = ((written.chars().count() + 1) / 3).max(1);
    let near = allowed.map(|word| (distance(&written, word), word));
    near.filter(|(distance, _)| *distance <= limit).min().map(|(_, word)| word)
}

/// How many characters must be added, dropped or replaced to turn one text into the other.
fn distance(a: &str, b: &str) -> usize {
    let b = b.chars().collect::<Vec<_>>();
    let mut row = (0..=b.len()).collect::<Vec<_>>();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::tests::cases;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_place_is_counted_in_characters_from_one() {
        let text = "\u{feff}ä = 1\r\n\tbé = 2\r\n";
        let at = text.find("bé").unwrap();
        let place = Location::of(text, &(at..at + "bé".len()));
        assert_eq!((place.line, place.column, place.marked), (2, 2, 2));
        assert_eq!(place.text, " bé = 2");
        assert_eq!(Location::of(text, &(3..5)).column, 1, "the byte order mark does not count");
        assert_eq!(Location::of("", &(0..0)).line, 1);
    }

    #[test]
    fn a_long_line_is_shown_around_the_place() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let place = Location::of(&text, &(500..1001));
        assert_eq!(place.column, 501);
        assert_eq!(place.text.chars().nth(place.before), Some('X'));
        assert!(place.text.chars().count() <= LINE_WIDTH && place.marked <= LINE_WIDTH);
    }

    #[test]
    fn near_words_are_offered_and_far_ones_are_not() {
        let keys = || ["args", "debounce", "keep_snapshots"].into_iter();
        assert_eq!(did_you_mean("debonce", keys()), Some("debounce"));
        assert_eq!(did_you_mean("keep-snapshot", keys()), Some("keep_snapshots"));
        assert_eq!(did_you_mean("arg", keys()), Some("args"));
        assert_eq!(did_you_mean("colour", keys()), None);
        assert_eq!(did_you_mean("", keys()), None);
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn any_place_of_any_text_can_be_shown(
            text in "(\\PC|[\u{feff}\r\n\t\0äéあ]){0,300}", start in 0..400usize, end in 0..400usize,
        ) {
            let place = Location::of(&text, &(start..end));
            prop_assert!(place.line >= 1 && place.column >= 1 && place.marked >= 1);
            prop_assert!(!place.text.contains(char::is_control));
            prop_assert!(place.before <= place.text.chars().count());
        }
    }
}
