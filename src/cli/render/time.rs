//! Durations and ages for people.

use std::time::Duration;

use crate::model::Timestamp;

/// A duration as cargo prints it: `0.04s`, `12.30s`, `2m 05s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole >= 60 {
        format!("{}m {:02}s", whole / 60, whole % 60)
    } else {
        format!("{:.2}s", duration.as_secs_f64())
    }
}

/// How long ago: `just now`, `42s ago`, `3m ago`, `5h ago`, `2d ago`.
pub(crate) fn ago(when: Timestamp, now: Timestamp) -> String {
    let Some(age) = when.age(now) else { return "in the future".to_owned() };
    match age.as_secs() {
        0..=1 => "just now".to_owned(),
        s @ 2..=59 => format!("{s}s ago"),
        s @ 60..=3599 => format!("{}m ago", s / 60),
        s @ 3600..=86_399 => format!("{}h ago", s / 3600),
        s => format!("{}d ago", s / 86_400),
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

    #[test]
    fn ages_have_one_unit() {
        let now = Timestamp(10_000_000_000);
        let back = |seconds: u64| ago(Timestamp(now.0 - seconds * 1000), now);
        assert_eq!(back(1), "just now");
        assert_eq!(back(59), "59s ago");
        assert_eq!(back(61), "1m ago");
        assert_eq!(back(7_300), "2h ago");
        assert_eq!(back(200_000), "2d ago");
        assert_eq!(ago(Timestamp(now.0 + 1), now), "in the future");
    }
}
