//! How an observed run behaved: what it holds against another run that nobody has asked for, and how
//! much of it was observed.

use super::inputs::InputJudge;
use super::uncacheable::Uncacheable;
use crate::cache::Record;
use crate::model::{Digest, Timestamp};
use crate::observer::{Observation, Uses};

/// What a record of a run says of the run's circumstances.
#[derive(Clone, Copy, Debug)]
pub(in crate::verdict) struct RunMoment<'a> {
    /// The code that ran; `None` for a call, which knows no tree.
    pub(in crate::verdict) code_hash: Option<Digest>,
    /// The digest of the tree if nothing of it has changed since before the build.
    pub(in crate::verdict) still: Option<&'a Digest>,
    /// When the run ended.
    pub(in crate::verdict) when: Timestamp,
    /// What answered for the tests that did not run, if only some did.
    pub(in crate::verdict) rest: Option<&'a Record>,
}

/// So many reasons are told; the others are like them.
const REASONS: usize = 3;

/// How an observed run behaved.
#[derive(Clone, Debug)]
pub(in crate::verdict) struct SeenConduct {
    /// What it holds against another run that nobody has asked for.
    pub(in crate::verdict) obstacles: Vec<String>,
    /// How many of its calls were notified.
    pub(in crate::verdict) calls: u64,
    /// See [`Observation::panicked`].
    pub(in crate::verdict) panicked: bool,
}

impl InputJudge {
    /// Everything that somebody could notice of another run, or why that cannot be told; `doubts`
    /// are the reasons why nothing is kept of the run.
    pub(super) fn obstacles(&self, seen: &Observation, doubts: &[Uncacheable]) -> Vec<String> {
        let unseen = seen.problems.iter().map(ToString::to_string);
        let unseen = unseen.chain(seen.interference.iter().map(ToString::to_string));
        let mut obstacles: Vec<_> = unseen.collect();
        // An attempt counts: next time somebody may be there.
        obstacles.extend(seen.peers.iter().map(|peer| format!("it spoke to {}", peer.address)));
        if seen.left_behind {
            obstacles.push("it left a process behind".to_owned());
        }
        let written = seen.used(Uses::OUTPUT).filter(|(path, _)| !self.is_for_results(path));
        obstacles.extend(written.map(|(path, _)| format!("it wrote to `{}`", path.display())));
        // It would run in vain.
        let lasting = doubts.iter().filter(|doubt| doubt.is_lasting());
        obstacles.extend(lasting.map(|doubt| format!("nothing is kept of it: {doubt}")));
        obstacles.truncate(REASONS);
        obstacles
    }
}
