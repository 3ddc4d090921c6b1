//! One test program that cargo, or nextest, runs by itself, through us as its `runner`.
//!
//! Either the call is surely one of a libtest program, with arguments that are understood: then its
//! record answers, or it runs in our place, observed, and is recorded if it is green. Or it is
//! anything else: then it is to be run as if we were not there.
//!
//! **What the run sees of us**: its standard output is a pipe, or a pseudo-terminal if ours is a
//! terminal. Everything else (group, standard input and error, environment, folder) is what cargo
//! gave. Which of the streams are terminals is part of the key. A run that had anything to read on
//! its standard input is not recorded.
//!
//! **Other checkouts.** The path of the workspace's root is in no key, and its letters do not count in a
//! program: see [`crate::hasher`]. A call of another worktree is answered if its program is the same, and
//! would consult the same from there. A program that holds the path is the same only where both paths are
//! of one length. A record whose output names its own checkout is shown in no other one.
//!
//! **One test alone** (`selection = "on"`). Under nextest a call is one test in a process of its own. What
//! the test reaches is then part of its key in the place of the program, so that an edit leaves the
//! verdicts of all tests that it does not reach.
//!
//! **What a red run is good for.** It takes away every record that says otherwise, of other calls of
//! the same program and of its target. It is kept itself, as no answer: the same call with another
//! outcome is proof of a flaky test.

#[cfg(target_os = "linux")]
mod answer;
mod invocation;
#[cfg(target_os = "linux")]
mod nextest_limits;
#[cfg(target_os = "linux")]
mod reached;
#[cfg(target_os = "linux")]
mod stdin;
#[cfg(target_os = "linux")]
mod target;

#[cfg(target_os = "linux")]
pub(crate) use self::answer::call;
pub(super) use self::invocation::SWITCH;
pub(crate) use self::invocation::{Called, Invocation};

/// Answers a call from its record, runs it, or passes.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub(crate) fn call(_: &Invocation, _: &crate::paths::Paths) -> Called {
    Called::Pass(None)
}
