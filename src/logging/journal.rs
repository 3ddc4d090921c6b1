//! The journal: whether standard error leads there, and the layer that writes to it.

use std::io;

use tracing_journald::{Layer, Priority, PriorityMappings};

/// Whether standard error is the journal's: systemd says which file it opened for that, and a
/// shell below it, or a redirection, may have put another in its place.
pub(super) fn is_standard_error() -> bool {
    let announced = std::env::var("JOURNAL_STREAM").ok();
    let Ok(file) = rustix::fs::fstat(std::io::stderr()) else { return false };
    // The types differ between systems; the numbers are small and positive in all of them.
    matches(announced.as_deref(), &file.st_dev.to_string(), &file.st_ino.to_string())
}

/// `JOURNAL_STREAM` is device and inode, in decimal.
fn matches(announced: Option<&str>, device: &str, inode: &str) -> bool {
    announced.and_then(|text| text.split_once(':')) == Some((device, inode))
}

/// The layer, with the journal's own priorities and our field prefix.
pub(super) fn layer() -> io::Result<Layer> {
    // tracing-journald's default makes information a notice and hides traces below debugging.
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = Layer::new()?
        .with_field_prefix(Some("F".to_owned()))
        .with_syslog_identifier("knhk-test-cache".to_owned());
    Ok(layer.with_priority_mappings(priorities))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_stream_counts() {
        assert!(matches(Some("9:1234"), "9", "1234"));
        assert!(!matches(Some("9:1234"), "9", "1235"));
        assert!(!matches(Some("91234"), "9", "1234"));
        assert!(!matches(None, "9", "1234"));
        assert!(!is_standard_error(), "a test's standard error is not the journal's");
    }
}
