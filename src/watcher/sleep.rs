//! Notices that the machine was asleep: what was mounted, and what a server or a virtual machine's
//! host did meanwhile, no event tells.

use std::time::Duration;

/// A difference below this is the time between two readings.
const SHORTEST_SLEEP: Duration = Duration::from_secs(1);

/// How long the machine has slept since it was started.
#[derive(Debug)]
pub(crate) struct Sleep {
    before: Option<Duration>,
}

impl Default for Sleep {
    fn default() -> Self {
        Self::new(slept())
    }
}

impl Sleep {
    fn new(slept: Option<Duration>) -> Self {
        Self { before: slept }
    }

    /// How long the machine was asleep since the last call, if it was. Costs two readings of the
    /// clock. Where the system cannot say, it never was.
    pub(crate) fn passed(&mut self) -> Option<Duration> {
        self.compare(slept())
    }

    fn compare(&mut self, now: Option<Duration>) -> Option<Duration> {
        let before = std::mem::replace(&mut self.before, now)?;
        now?.checked_sub(before).filter(|asleep| *asleep >= SHORTEST_SLEEP)
    }
}

/// One clock goes on while the machine sleeps, and the other does not. Setting the time changes
/// neither.
#[cfg(target_os = "linux")]
fn slept() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let read = |clock| Duration::try_from(clock_gettime(clock)).ok();
    let awake = read(ClockId::Monotonic)?;
    read(ClockId::Boottime)?.checked_sub(awake)
}

#[cfg(not(target_os = "linux"))]
fn slept() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_nap_is_told_once_and_jitter_never() {
        let mut sleep = Sleep::new(Some(5 * SECOND));
        assert_eq!(sleep.compare(Some(5 * SECOND + SECOND / 2)), None);
        assert_eq!(sleep.compare(Some(5 * SECOND)), None);
        assert_eq!(sleep.compare(Some(65 * SECOND)), Some(60 * SECOND));
        assert_eq!(sleep.compare(Some(65 * SECOND)), None);
        // Small steps are no sleep, however many.
        for step in 0..100 {
            assert_eq!(sleep.compare(Some(65 * SECOND + step * SECOND / 10)), None);
        }
    }

    #[test]
    fn a_clock_that_cannot_be_read_tells_nothing() {
        let mut sleep = Sleep::new(None);
        assert_eq!(sleep.compare(Some(SECOND)), None);
        assert_eq!(sleep.compare(None), None);
        assert_eq!(sleep.compare(Some(100 * SECOND)), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_is_awake() {
        assert!(slept().is_some());
        assert_eq!(Sleep::default().passed(), None);
    }
}
