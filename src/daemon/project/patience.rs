//! How long a build in the background may say nothing new, as a matter of times alone.
//!
//! Nobody watches it: a build script that never ends, or a network that does not answer, would
//! hold cargo's lock and our place in the queue for ever.

use std::time::{Duration, Instant};

/// How long cargo may say nothing before it has begun to compile: all it does then is to ask the
/// network, which it does not take long for without a sign of life.
const SILENCE: Duration = Duration::from_secs(120);

/// What is known of one call of cargo.
#[derive(Debug)]
pub(super) struct Patience {
    /// How long nothing may be finished.
    limit: Option<Duration>,
    since: Instant,
    /// What it is at, in its own words.
    at: String,
    units: Option<u32>,
}

impl Patience {
    pub(super) fn new(limit: Option<Duration>, now: Instant) -> Self {
        Self { limit, since: now, at: String::new(), units: None }
    }

    /// It compiles, and has finished so many units.
    pub(super) fn building(&mut self, done: u32, what: &str, now: Instant) {
        if self.units.replace(done) != Some(done) {
            self.since = now;
        }
        what.clone_into(&mut self.at);
    }

    /// It says what it does: news only as long as it does not compile, or a build script that
    /// chatters would never be found out.
    pub(super) fn said(&mut self, what: &str, now: Instant) {
        if self.units.is_none() {
            self.since = now;
            what.clone_into(&mut self.at);
        }
    }

    /// It waits for another cargo: that is not its fault.
    pub(super) fn blocked(&mut self, now: Instant) {
        self.since = now;
    }

    /// It was made to stand still for this long, which does not count.
    pub(super) fn stood(&mut self, time: Duration) {
        self.since += time;
    }

    /// Why it is to be ended, if it is.
    pub(super) fn overdue(&self, now: Instant) -> Option<String> {
        let silent = now.saturating_duration_since(self.since);
        let limit = match self.units {
            Some(_) => self.limit?,
            None => SILENCE.min(self.limit?),
        };
        if silent < limit {
            return None;
        }
        let what = match (self.units, self.at.as_str()) {
            (Some(_), "") => "nothing was finished".to_owned(),
            (Some(_), at) => format!("nothing was finished but {at} begun"),
            (None, "") => "cargo said nothing".to_owned(),
            (None, at) => format!("cargo said nothing after `{at}`"),
        };
        Some(format!("the build was ended: {what} for {} s", silent.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_unit_that_never_ends_is_named() {
        let start = Instant::now();
        let mut patience = Patience::new(Some(100 * SECOND), start);
        patience.building(3, "a, b", start);
        patience.building(4, "b(build)", start + 90 * SECOND);
        // The bar is drawn again and again, and a build script may talk.
        patience.building(4, "b(build)", start + 180 * SECOND);
        patience.said("Running script", start + 185 * SECOND);
        assert_eq!(patience.overdue(start + 189 * SECOND), None);
        let why = patience.overdue(start + 190 * SECOND).unwrap();
        assert!(why.contains("b(build)") && why.contains("100 s"), "{why}");
    }

    #[test]
    fn a_network_that_does_not_answer_is_not_waited_for_as_long_as_a_compiler() {
        let start = Instant::now();
        let mut patience = Patience::new(Some(3_600 * SECOND), start);
        patience.said("Updating crates.io index", start + SECOND);
        assert_eq!(patience.overdue(start + SILENCE), None);
        let why = patience.overdue(start + SECOND + SILENCE).unwrap();
        assert!(why.contains("`Updating crates.io index`"), "{why}");
        patience.building(0, "", start + 200 * SECOND);
        assert_eq!(patience.overdue(start + 200 * SECOND + 2 * SILENCE), None);
    }

    #[test]
    fn waiting_for_another_cargo_does_not_count_and_no_limit_is_none() {
        let start = Instant::now();
        let mut patience = Patience::new(Some(10 * SECOND), start);
        patience.blocked(start + 9 * SECOND);
        assert_eq!(patience.overdue(start + 18 * SECOND), None);
        assert!(patience.overdue(start + 19 * SECOND).is_some());
        assert_eq!(Patience::new(None, start).overdue(start + 100_000 * SECOND), None);
    }

    #[test]
    fn standing_still_does_not_count() {
        let start = Instant::now();
        let mut patience = Patience::new(Some(10 * SECOND), start);
        patience.building(1, "a", start + SECOND);
        patience.stood(100 * SECOND);
        assert_eq!(patience.overdue(start + 110 * SECOND), None);
        let why = patience.overdue(start + 111 * SECOND).unwrap();
        assert!(why.ends_with("for 10 s"), "{why}");
        patience.building(2, "b", start + 112 * SECOND);
        patience.stood(SECOND);
        assert_eq!(patience.overdue(start + 122 * SECOND), None);
    }
}
