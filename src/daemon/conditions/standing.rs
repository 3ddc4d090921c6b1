//! Looks now and then whether a build that runs must stand still.

use std::path::PathBuf;
use std::time::Instant;

use super::files::Processors;
use super::stillness::{EVERY, Stillness};

/// The eye of one build on what others do. Where the machine does not say, nothing stands still.
#[derive(Debug)]
pub(in crate::daemon) struct Standing {
    /// Where the machine says it.
    proc: Option<PathBuf>,
    last: Option<(Instant, Option<Processors>)>,
    stillness: Stillness,
}

impl Standing {
    /// Why it stands still, as `status` has it.
    pub(in crate::daemon) const REASON: &'static str =
        "standing still: other programs use all cores";

    pub(super) fn new(proc: Option<PathBuf>) -> Self {
        Self { proc, last: None, stillness: Stillness::default() }
    }

    /// Whether to stand still. Looks at the machine if it is time, and not at all unless the build
    /// `may` stand still.
    pub(in crate::daemon) fn look(&mut self, now: Instant, may: bool) -> bool {
        let Some(proc) = self.proc.as_ref().filter(|_| may) else {
            self.last = None;
            return self.stillness.go_on();
        };
        let before = match self.last {
            Some((then, _)) if now - then < EVERY => return self.stillness.stands(),
            Some((_, before)) => before,
            None => None,
        };
        let processors = Processors::now(proc);
        self.last = Some((now, processors));
        let used = processors.zip(before).and_then(|(now, then)| now.used_since(&then));
        self.stillness.sample(now, used)
    }
}
