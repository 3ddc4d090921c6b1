//! What a test program or a compiler says of a failure: its place and its message.

use std::str::FromStr;

use crate::model::TargetAnswer;

/// So many lines of what has no message of its own are shown.
pub(super) const FAILURE_LINES: usize = 8;

/// The message of a failure.
pub(super) struct Excerpt {
    /// Where it happened, as its program printed it: `src/lib.rs:7:39`.
    pub(super) place: Option<String>,
    /// The message.
    pub(super) message: Vec<String>,
}

impl Excerpt {
    /// The place and the message after it.
    pub(super) fn into_lines(self) -> Vec<String> {
        let Some(place) = self.place else { return self.message };
        let mut message = self.message.into_iter();
        let first = format!("{place}: {}", message.next().unwrap_or_default());
        std::iter::once(first).chain(message).collect()
    }

    /// The place taken apart, if that is possible.
    pub(super) fn source_place(&self) -> Option<ExcerptPlace> {
        self.place.as_ref()?.parse().ok()
    }
}

/// A place in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExcerptPlace {
    /// The file, as the compiler names it.
    pub(super) file: String,
    /// The line, from 1.
    pub(super) line: u32,
    /// The column, from 1.
    pub(super) column: u32,
}

/// Why a text names no place.
#[derive(Debug)]
pub(super) struct NoPlace;

impl FromStr for ExcerptPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let mut parts = text.rsplitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(NoPlace);
        let (column, line) = (number()?, number()?);
        let file = parts.next().filter(|file| !file.is_empty()).ok_or(NoPlace)?.to_owned();
        Ok(Self { file, line, column })
    }
}

/// What the program of a target has written, without colours.
pub(super) fn plain_output(target: &TargetAnswer) -> String {
    let output = format!("{}{}", target.output, target.stderr.as_deref().unwrap_or_default());
    anstream::adapter::strip_str(&output).to_string()
}

/// Message and place of a failed test, from what its program printed; `None` if it says nothing of
/// this test.
pub(super) fn excerpt(output: &str, name: &str) -> Option<Excerpt> {
    let header = format!("---- {name} stdout ----");
    let is_end = |line: &str| {
        line == "failures:" || (line.starts_with("---- ") && line.ends_with(" stdout ----"))
    };
    let own_thread = format!("thread '{name}' ");
    let section: Vec<&str> = match output.lines().position(|line| line == header) {
        Some(at) => output.lines().skip(at + 1).take_while(|line| !is_end(line)).collect(),
        None => {
            let at = output.lines().position(|line| line.starts_with(&own_thread))?;
            output.lines().skip(at).collect()
        }
    };
    let panics = |line: &&str| line.starts_with("thread '") && line.contains(" panicked at ");
    let own = section.iter().position(|line| panics(line) && line.starts_with(&own_thread));
    let Some(at) = own.or_else(|| section.iter().rposition(panics)) else {
        let written = section.iter().filter(|line| !line.trim().is_empty());
        return Some(Excerpt {
            place: None,
            message: written.map(|line| (*line).to_owned()).collect(),
        });
    };
    let (_, place) = section[at].split_once(" panicked at ")?;
    let is_over = |line: &&&str| {
        line.starts_with("stack backtrace:") || line.starts_with("note: ") || panics(line)
    };
    let mut message: Vec<_> =
        section[at + 1..].iter().take_while(|line| !is_over(line)).copied().collect();
    while message.last().is_some_and(|line| line.trim().is_empty()) {
        message.pop();
    }
    Some(Excerpt {
        place: Some(place.trim_end_matches(':').to_owned()),
        message: message.into_iter().map(str::to_owned).collect(),
    })
}

/// The errors of a compiler or of cargo; its first words where it names none.
pub(super) fn compile_errors(rendered: &str) -> Vec<Excerpt> {
    let rendered = anstream::adapter::strip_str(rendered).to_string();
    let mut errors = Vec::new();
    let mut rest = rendered.lines().peekable();
    while let Some(line) = rest.next() {
        if !line.starts_with("error") {
            continue;
        }
        let place = rest.next_if(|next| next.trim_start().starts_with("--> "));
        let place = place.map(|next| next.trim().replacen("--> ", "", 1));
        errors.push(Excerpt { place, message: vec![line.to_owned()] });
    }
    if errors.is_empty() {
        let written = rendered.lines().filter(|line| !line.trim().is_empty());
        let message: Vec<_> = written.take(FAILURE_LINES).map(str::to_owned).collect();
        errors.push(Excerpt { place: None, message });
    }
    errors
}

/// The last words of a program.
pub(super) fn last_lines(output: &str) -> Vec<String> {
    let written: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let from = written.len().saturating_sub(FAILURE_LINES);
    written[from..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_a_line_and_a_column() {
        let place: ExcerptPlace = "C:/a b/x.rs:7:39".parse().unwrap();
        assert_eq!(place, ExcerptPlace { file: "C:/a b/x.rs".into(), line: 7, column: 39 });
        for text in ["", "7:39", ":7:39", "x.rs:7", "x.rs", "x.rs:a:1"] {
            assert!(text.parse::<ExcerptPlace>().is_err(), "{text}");
        }
    }
}
