//! Durations for people.

use std::time::Duration;

/// A duration as cargo prints it: `0.04s`, `12.30s`, `2m 05s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 60 {
        format!("{}m {:02}s", whole / 60, whole % 60)
    } else {
        format!("{:.2}s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_cargos() {
        assert_eq!(seconds(Duration::from_millis(42)), "0.04s");
        assert_eq!(seconds(Duration::from_secs(125)), "2m 05s");
    }
}
