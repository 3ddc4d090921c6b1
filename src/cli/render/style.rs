//! The colours and the column of labels that cargo's users know.

use anstyle::{AnsiColor, Style};

/// Something went as it should.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Something failed.
pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Worth a look.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// Neutral facts: what came from cache.
pub(crate) const NOTE: Style = AnsiColor::Cyan.on_default().bold();
/// What to do next.
pub(crate) const HINT: Style = Style::new().dimmed();

/// A line as cargo writes them: a right-aligned, coloured word and the rest.
pub(crate) fn label(style: Style, word: &str, rest: impl std::fmt::Display) -> String {
    format!("{style}{word:>12}{style:#} {rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_end_in_cargos_column() {
        let line = label(Style::new(), "Cached", "x");
        assert_eq!(line, "      Cached x");
    }
}
