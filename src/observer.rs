//! Records what a run depends on. The run's process tree is put under a seccomp filter, and every
//! system call that names a file, a program or a socket is recorded before the kernel executes it.
//!
//! The supervisor lets every call continue. A call of the table in `syscall_table` costs a switch to
//! the supervisor and back; every other call runs at full speed.
//!
//! **Promise.** Either an [`Observation`] names everything that the run consulted by path, `exec`
//! or socket, or [`Observation::is_complete`] is false and the caller must count every file of the
//! workspace. No call waits for longer than a moment: a guard thread lets calls continue while one
//! is stuck (on a dead network file system, or on a FUSE server inside the run).
//!
//! **First stamps.** A path is stamped while the run waits in its first call on it. If the path has
//! the same stamp after the run, its digest is that of the content that the run could read. Another
//! stamp means that the input changed during the run, and nothing may be cached.
//!
//! **Known limits.** The kernel reads the path a second time, after us. A thread that overwrites
//! another thread's argument during its call could show us a different name. The call's result is
//! not seen: a path's presence is what we saw a moment earlier. A signal whose handler lacks
//! `SA_RESTART` can make a call return `EINTR` if it arrives before we have received the call. So a
//! failed observed run must be repeated unobserved before it is believed.
//!
//! **The dynamic loader's search passes.** At the start of a program the loader looks into every folder of
//! cargo's `LD_LIBRARY_PATH`, the same way each time, and that is most of the cost of a run that starts
//! many programs. The filter tells these calls by the place of the calling instruction and of the name
//! (see `loader`, `filter`). What they look at is recorded once for each program and environment, before the
//! search begins (`library_calls`). A search that `dlopen` makes runs the same code, but leads to a call that
//! is notified. The run is then incomplete, and is to be observed with all calls notified, unless the library
//! was opened by its path and needs only the C library. So is a run whose programs say more about their
//! search than the usual ([`Problem::UnknownSearch`]).
//!
//! **Panics.** What a process writes to its error output is searched for the message of a panic
//! ([`Observation::panicked`]), because that tells lines of the program's source.
//!
//! **Not recorded by design**: reads from inherited descriptors (pipes), the clock, random numbers,
//! and facts about the machine that other system calls return (`uname`, `sched_getaffinity`).

#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    allow(dead_code, reason = "programs start where runs are observed")
)]
mod exemption;
#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    allow(dead_code, reason = "searches for libraries are foreseen only where runs are observed")
)]
mod loader_cache;
mod observation;
#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    allow(dead_code, reason = "paths are classified only where runs are observed")
)]
mod path_class;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[path = "observer"]
mod linux {
    pub(super) mod access_log;
    pub(super) mod executables;
    pub(super) mod filter;
    pub(super) mod library_calls;
    pub(super) mod library_search;
    pub(super) mod loader;
    pub(super) mod resolve;
    pub(super) mod seccomp;
    mod shared_recorder;
    pub(super) mod socket_calls;
    pub(super) mod sockets;
    pub(super) mod start;
    pub(super) mod supervisor;
    pub(super) mod syscall;
    pub(super) mod syscall_effects;
    pub(super) mod syscall_table;

    pub(super) use sockets::is_refused;
    pub(super) use start::{ObservationHandle, available, observe};
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod linux {
    //! The stub for systems without seccomp notifications: every observation is refused.

    use std::net::SocketAddr;
    use std::time::Duration;

    use super::{Observation, ObserveOptions, Unavailable};
    use crate::process::Spec;

    pub(super) fn available() -> Result<Duration, Unavailable> {
        Err(Unavailable::System)
    }

    pub(super) fn observe(
        _: &Spec,
        _: ObserveOptions,
    ) -> Result<(Spec, ObservationHandle), Unavailable> {
        Err(Unavailable::System)
    }

    pub(super) fn is_refused(_: SocketAddr) -> bool {
        false
    }

    /// Never constructed, because `observe` always refuses.
    #[derive(Debug)]
    pub(super) enum ObservationHandle {}

    impl ObservationHandle {
        pub(super) fn finish(self) -> Observation {
            match self {}
        }
    }
}

pub(crate) use exemption::Exemption;
pub(crate) use loader_cache::{LOADER_CACHE, LoaderCache};
pub(crate) use observation::{Address, PathAccess, Peer};
pub use observation::{Interference, Observation, Problem, Reach, Uses};
pub(crate) use path_class::{PathClass, is_shared_object};

/// Folders in which the dynamic loader looks for libraries made for one kind of processor, in each folder of a
/// search path, of all known releases and processors. From release 2.37 on there is the first one only
/// (`_dl_important_hwcaps` in elf/dl-hwcaps.c).
pub(crate) const LOADER_FOLDERS: &[&str] = &[
    "glibc-hwcaps",
    "tls",
    "haswell",
    "xeon_phi",
    "avx512_1",
    "x86_64",
    "sse2",
    "i586",
    "i686",
    "aarch64",
];

/// Whether only the dynamic loader looks for something of this name.
pub(crate) fn is_of_loader(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let is_folder = LOADER_FOLDERS.iter().any(|folder| name == folder.as_bytes());
    let is_below = path.parent().is_some_and(|folder| folder.ends_with("glibc-hwcaps"));
    is_folder || is_below || name.windows(3).any(|part| part == b".so")
}

/// The same of the loader and linkers.
pub(crate) fn is_of_linker(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    is_of_loader(path) || (name.starts_with(b"lib") && name.ends_with(b".a"))
}

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::process::Spec;

/// Why runs cannot be observed here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The system is neither Linux on x86-64 nor Linux on aarch64.
    #[error("runs can be observed on Linux only (x86-64 and aarch64)")]
    System,
    /// The kernel lacks seccomp's user notification or its wait-killable flag.
    #[error("this kernel cannot notify without interrupting (Linux 5.19 or newer can): {0}")]
    Kernel(String),
    /// A process tree has one observer at most.
    #[error("not allowed here: this process is itself observed through seccomp")]
    Observed,
    /// This process may not: a container's own filter, Yama, or a limit forbids it.
    #[error("not allowed here: {0}")]
    Forbidden(String),
}

/// Which calls of the dynamic loader's search for libraries pass unnotified. Each level may find that it
/// cannot tell all of a run, which is to be repeated on the level before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoaderCalls {
    /// No call passes: the observer is notified of all of them.
    #[default]
    Notified,
    /// Its questions for folders, because its attempts to open what lies there tell as much. A run with
    /// code of unknown origin is incomplete ([`Problem::UnknownCode`]).
    QuestionsPass,
    /// Its attempts too, because they are recorded when a program starts. A run with another search is
    /// incomplete as well ([`Problem::UnknownSearch`]).
    SearchPasses,
}

impl LoaderCalls {
    /// The level on which a run is to be repeated that has these problems.
    pub(crate) fn after(problems: &BTreeSet<Problem>) -> Option<Self> {
        if problems.contains(&Problem::UnknownCode) {
            Some(Self::Notified)
        } else {
            problems.contains(&Problem::UnknownSearch).then_some(Self::QuestionsPass)
        }
    }
}

/// The options of an observation.
#[derive(Clone, Debug, Default)]
pub struct ObserveOptions {
    /// Folders whose content the caller covers by an identity of their own (the toolchain's
    /// sysroot). Files below them are reported as [`PathClass::Library`]. Absolute, without symlinks.
    pub covered: Vec<PathBuf>,
    /// Whether to tell which Rust sources the first process alone has read: [`Uses::READ_BELOW`].
    pub tells_readers: bool,
    /// Which calls of the dynamic loader need not be notified.
    pub loader_calls: LoaderCalls,
    /// Cancelled as soon as the run has made itself worthless: observing changes what it does, not all that
    /// it consults can be known, and it has reached nobody else and left nothing outside of `scratch`.
    pub(crate) worthless: CancellationToken,
    /// Folders in which nothing that is left matters to anybody else.
    pub(crate) scratch: Vec<PathBuf>,
    /// Whether to look for messages of panics at the error output: [`Observation::panicked`].
    pub tells_panics: bool,
    /// Which programs' look-ups the caller records in another way; none, unless it says so.
    pub(crate) exemption: Option<Exemption>,
}

/// The observer of process trees.
#[derive(Debug)]
pub struct Observer;

impl Observer {
    /// Whether runs can be observed here. Each process tries it once, end to end, on a thread of
    /// its own.
    ///
    /// # Errors
    /// The reason why they cannot.
    pub fn available() -> Result<(), Unavailable> {
        match Self::tried() {
            Ok(_) => Ok(()),
            Err(why) => Err(why.clone()),
        }
    }

    /// How long an observed call takes here; `None` if runs cannot be observed.
    pub(crate) fn call_cost() -> Option<Duration> {
        Self::tried().as_ref().ok().copied()
    }

    fn tried() -> &'static Result<Duration, Unavailable> {
        static ANSWER: OnceLock<Result<Duration, Unavailable>> = OnceLock::new();
        ANSWER.get_or_init(linux::available)
    }

    /// Whether a connection to this address of the machine itself would be refused now.
    pub(crate) fn is_refused(address: SocketAddr) -> bool {
        linux::is_refused(address)
    }

    /// Returns `spec` with observation added. Run it to its end by `process::run` or `capture`, then
    /// call [`RunningObservation::finish`].
    ///
    /// Observation requires `no_new_privs`. [`Interference`] says what that changes for the run.
    ///
    /// # Errors
    /// If runs cannot be observed here. Then run `spec` itself, unobserved.
    pub fn observe(
        spec: &Spec,
        options: ObserveOptions,
    ) -> Result<(Spec, RunningObservation), Unavailable> {
        Self::available()?;
        let (spec, handle) = linux::observe(spec, options)?;
        Ok((spec, RunningObservation(handle)))
    }
}

/// An observation that has begun; its run may not have started yet.
///
/// Dropping it without [`finish`](Self::finish) ends the observation as well. Processes that outlive
/// it continue unharmed: a small helper process answers their calls until the last of them has ended.
#[derive(Debug)]
pub struct RunningObservation(linux::ObservationHandle);

impl RunningObservation {
    /// Ends the observation. Call it after the child has been reaped. Takes some milliseconds if the
    /// tree has ended, 200 ms if processes are left, and at most 2 s if the supervisor is stuck.
    #[must_use]
    pub fn finish(self) -> Observation {
        self.0.finish()
    }
}
