//! Wall-clock time as records keep it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch. Pure code takes it as an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The machine's clock, now.
    #[must_use]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// The day since the Unix epoch in which this lies, by UTC.
    #[must_use]
    pub(crate) fn day(self) -> u64 {
        self.0 / 86_400_000
    }

    /// How long ago this was, seen from `now`; `None` where it lies in the future, which only a
    /// clock that was set back can bring about.
    #[must_use]
    pub(crate) fn age(self, now: Self) -> Option<Duration> {
        now.0.checked_sub(self.0).map(Duration::from_millis)
    }

    /// How long ago this was, for a person: `just now`, `42s ago`, `3m ago`, `5h ago`, `2d ago`.
    #[must_use]
    pub(crate) fn ago(self, now: Self) -> String {
        let Some(age) = self.age(now) else { return "in the future".to_owned() };
        match age.as_secs() {
            0..=1 => "just now".to_owned(),
            s @ 2..=59 => format!("{s}s ago"),
            s @ 60..=3599 => format!("{}m ago", s / 60),
            s @ 3600..=86_399 => format!("{}h ago", s / 3600),
            s => format!("{}d ago", s / 86_400),
        }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(Timestamp(1_000).age(Timestamp(3_500)), Some(Duration::from_millis(2_500)));
        assert_eq!(Timestamp(3_500).age(Timestamp(1_000)), None);
    }

    #[test]
    fn ages_have_one_unit() {
        let now = Timestamp(10_000_000_000);
        let back = |seconds: u64| Timestamp(now.0 - seconds * 1000).ago(now);
        assert_eq!(back(1), "just now");
        assert_eq!(back(59), "59s ago");
        assert_eq!(back(61), "1m ago");
        assert_eq!(back(7_300), "2h ago");
        assert_eq!(back(200_000), "2d ago");
        assert_eq!(Timestamp(now.0 + 1).ago(now), "in the future");
    }
}
