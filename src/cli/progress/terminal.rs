//! Progress that the terminal itself shows, in its tab or in the task bar, by the escape sequence
//! `OSC 9;4`. Cargo's own switch decides: `term.progress.term-integration`.

use std::path::Path;

use crate::process::Environment;
use crate::workspace::CargoConfig;

/// What the terminal was told last.
#[derive(Debug, Default)]
pub(super) struct TerminalProgress {
    percent: Option<usize>,
}

impl TerminalProgress {
    /// For a terminal that cargo would tell its progress.
    pub(super) fn as_cargo_would(dir: &Path, environment: &Environment) -> Option<Self> {
        // A config that cannot be read is an error of the question, not of this.
        let config = CargoConfig::read(dir, environment, &[]).ok();
        let wanted = config.and_then(|config| config.term_integration());
        wanted.unwrap_or_else(|| understands(environment)).then(Self::default)
    }

    /// The sequence for so much of the work; none if the terminal knows it.
    pub(super) fn portion(&mut self, done: usize, total: usize) -> Option<String> {
        let percent = (done * 100).checked_div(total)?.min(100);
        if self.percent == Some(percent) {
            return None;
        }
        self.percent = Some(percent);
        Some(format!("\x1b]9;4;1;{percent}\x1b\\"))
    }

    /// The sequence that takes it away; none if nothing was shown.
    pub(super) fn end(self) -> Option<&'static str> {
        self.percent.map(|_| "\x1b]9;4;0;\x1b\\")
    }
}

/// Whether the terminal is one of those that cargo knows to show progress.
fn understands(environment: &Environment) -> bool {
    let is = |name: &str, value: &str| environment.get(name).is_some_and(|set| set == value);
    environment.get("WT_SESSION").is_some()
        || is("ConEmuANSI", "ON")
        || ["WezTerm", "ghostty"].iter().any(|program| is("TERM_PROGRAM", program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_switch_decides_and_then_the_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let shown = |pairs: &[(&str, &str)]| {
            let environment = pairs.iter().map(|(name, value)| (name.into(), value.into()));
            TerminalProgress::as_cargo_would(dir.path(), &environment.collect()).is_some()
        };
        let wezterm = ("TERM_PROGRAM", "WezTerm");
        assert!(!shown(&[]) && !shown(&[("TERM_PROGRAM", "other")]) && shown(&[wezterm]));
        let variable = "CARGO_TERM_PROGRESS_TERM_INTEGRATION";
        assert!(!shown(&[wezterm, (variable, "false")]) && shown(&[(variable, "true")]));
        std::fs::create_dir(dir.path().join(".cargo")).unwrap();
        let config = "[term.progress]\nterm-integration = false\n";
        std::fs::write(dir.path().join(".cargo/config.toml"), config).unwrap();
        assert!(!shown(&[wezterm]) && shown(&[wezterm, (variable, "true")]));
    }

    #[test]
    fn the_terminal_is_told_each_percentage_once_and_the_end() {
        let mut progress = TerminalProgress::default();
        assert_eq!(progress.portion(0, 0), None);
        assert_eq!(progress.portion(1, 2).as_deref(), Some("\x1b]9;4;1;50\x1b\\"));
        assert_eq!(progress.portion(100, 200), None);
        assert_eq!(progress.end(), Some("\x1b]9;4;0;\x1b\\"));
        assert_eq!(TerminalProgress::default().end(), None);
    }
}
