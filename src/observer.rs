//! What one run consults: its process tree runs under seccomp's user notification, and every
//! call that names a file, a program or a socket is written down before the kernel goes on with it.
//!
//! The supervisor answers each call with "continue": it decides nothing and changes nothing. What
//! it costs is a switch to the supervisor and back for the calls in the table of `calls`; every
//! other call runs at full speed (the kernel remembers that the filter always allows it).
//!
//! **What is promised.** Either an [`Observation`] names everything that the run consulted by
//! path, by exec or by socket, or [`Observation::is_complete`] is false and the caller must count
//! every file of the workspace. No call of the run waits for longer than a moment: a second thread
//! takes over when the first is stuck (a dead network file system, a FUSE server inside the run).
//!
//! **What a path's first stamp means.** The child is still stopped in its first call on a path
//! when the path is stamped. A caller that digests the path *after* the run and finds the same
//! stamp then has the digest of what the run could read; another stamp means that the
//! input changed meanwhile (by the run itself or by others), and nothing may be kept.
//!
//! **Accepted, with reason.** The kernel reads the path again after us. A thread that changes the
//! bytes of another thread's argument during its call could show us a different name; in Rust
//! that takes a data race on purpose. The call's result is not seen: whether a path is there is
//! what we saw a moment earlier. A signal whose handler was installed without `SA_RESTART` can make a
//! call return `EINTR` if it arrives between the call and our receiving it (microseconds). So a
//! *failed* observed run is worth one unobserved repetition before it is believed.
//!
//! Not seen at all, by design: what the run asks of descriptors that it was given (its pipes),
//! the clock, random numbers, and facts of the machine that system calls tell (`uname`,
//! `sched_getaffinity`).

mod observation;
#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    allow(dead_code, reason = "places are told apart only where something is observed")
)]
mod place;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "observer"]
mod linux {
    pub(super) mod calls;
    pub(super) mod filter;
    pub(super) mod handle;
    pub(super) mod kernel;
    pub(super) mod ledger;
    pub(super) mod peers;
    pub(super) mod programs;
    pub(super) mod resolve;
    pub(super) mod sockets;
    pub(super) mod start;
    pub(super) mod supervisor;

    pub(super) use start::{Handle, available, observe};
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod linux {
    //! Where there is no such kernel interface: nothing can be observed, and says so.

    use super::{Observation, Options, Unavailable};
    use crate::process::Spec;

    pub(super) fn available() -> Result<(), Unavailable> {
        Err(Unavailable::System)
    }

    pub(super) fn observe(_: &Spec, _: Options) -> Result<(Spec, Handle), Unavailable> {
        Err(Unavailable::System)
    }

    /// Never made: `observe` always refuses.
    #[derive(Debug)]
    pub(super) enum Handle {}

    impl Handle {
        pub(super) fn finish(self) -> Observation {
            match self {}
        }
    }
}

pub use observation::{
    Address, Interference, Kind, Observation, Peer, Problem, Reach, Seen, Stamp, Uses,
};
pub use place::Place;

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::process::Spec;

/// Why nothing can be observed here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Neither Linux on x86-64 nor Linux on aarch64.
    #[error("runs can be observed on Linux only (x86-64 and aarch64)")]
    System,
    /// The kernel lacks seccomp's user notification or its wait-killable flag.
    #[error("this kernel cannot notify without interrupting (Linux 5.19 or newer can): {0}")]
    Kernel(String),
    /// The kernel could, but this process may not: a container's own filter, Yama, a limit.
    #[error("not allowed here: {0}")]
    Forbidden(String),
}

/// What the caller knows about folders.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folders whose content the caller covers by identity (the toolchain's sysroot): files below
    /// them are reported as [`Place::Library`]. Absolute, without symlinks.
    pub covered: Vec<PathBuf>,
}

/// The observer of process trees.
#[derive(Debug)]
pub struct Observer;

impl Observer {
    /// Whether runs can be observed here. Tried once per process, end to end, on a thread of ours.
    ///
    /// # Errors
    /// The reason, for a person.
    pub fn available() -> Result<(), Unavailable> {
        static ANSWER: OnceLock<Result<(), Unavailable>> = OnceLock::new();
        ANSWER.get_or_init(linux::available).clone()
    }

    /// Makes `spec` an observed one. Run the returned spec by `process::run` or `capture`, to its
    /// end, then call [`Running::finish`].
    ///
    /// Observation can't be had without `no_new_privs`: see [`Interference`] for what that changes
    /// for the run, and how it is told.
    ///
    /// # Errors
    /// If nothing can be observed here; then run `spec` itself, unobserved.
    pub fn observe(spec: &Spec, options: Options) -> Result<(Spec, Running), Unavailable> {
        Self::available()?;
        let (spec, handle) = linux::observe(spec, options)?;
        Ok((spec, Running(handle)))
    }
}

/// An observed run that is going on, or about to.
///
/// Dropping it without [`finish`](Self::finish) ends the observation the same way. Processes that
/// outlive it go on unharmed: a small process of ours, without files and memory of its own,
/// answers their calls until the last of them has ended.
#[derive(Debug)]
pub struct Running(linux::Handle);

impl Running {
    /// Ends the observation; call it once the child is reaped. Blocks for at most some
    /// milliseconds when the tree has ended, 200 ms when it left processes behind, 2 s when the
    /// supervisor is stuck in a dead file system.
    #[must_use]
    pub fn finish(self) -> Observation {
        self.0.finish()
    }
}
