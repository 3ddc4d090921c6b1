//! Text as the config file writes it.

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A path as text that expands to itself. Absolute paths never start with `~`.
pub(super) fn escape(path: &str) -> String {
    path.replace('$', "$$")
}
