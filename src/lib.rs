//! Answers whether the tests of a cargo workspace are green for the tree as it stands now.
//!
//! An unchanged tree is answered from cache. After an edit, only the test targets that the edit can
//! affect run. The library is the base of the command `knhk-test-cache` and of a per-user service,
//! which watches workspaces and builds their tests ahead. [`guide`] holds the user's guide.
//!
//! # Layers
//!
//! Imports go strictly downward; `tests/it/layers.rs` holds the table and checks it.
//!
//! ```text
//! L4 surface    bin/main.rs  cli  views  guide  service  logging
//! L3 service    protocol  client  verdict  daemon
//! L2 engines    hasher  cache  watcher  compiler  runner  observer  predict  reach  shared   strangers to each other
//! L1 facts      config  workspace
//! L0 words      paths  model  process
//! ```
//!
//! - `model` defines the shared types: digests, test targets, outcomes, verdicts.
//! - `process` is the only module that starts a child process. `paths` knows the user's folders.
//! - `config` and `workspace` read facts from files: the projects, the toolchain, the selection.
//!   Neither starts a process on the way to an answer.
//! - Each engine does one job and knows neither the config nor another engine. `hasher` takes
//!   snapshots, `watcher` reports changes, `compiler` asks cargo to build and to plan, `runner` runs
//!   test targets, `observer` records what a run reads, `cache` stores records, `predict`
//!   guesses which packages will be needed next, `reach` tells what each test can reach, and `shared`
//!   exchanges signed records with other machines.
//! - `verdict` alone knows the order of a question: snapshot, look up, build, run, store. The
//!   `daemon` and the command line (`cli`) both call it, and talk through `protocol` and `client`.
//! - `views` shows the daemon's stream of events: each view is a module and a client of the stream.
//!
//! # Glossary
//!
//! | word | meaning |
//! |---|---|
//! | project | a cargo workspace that the config lists |
//! | workspace root | the folder of the workspace's `Cargo.toml`; `workspace_root` in code, `project` in logs |
//! | selection | the packages, targets, features and profile that `cargo test` options choose |
//! | question | one request for a verdict: a selection of one project |
//! | verdict | pass, fail or error, with its source: cache or run |
//! | snapshot | the content of all files of a project at one moment |
//! | tree digest | the digest of a snapshot |
//! | build identity | everything besides files that decides a build: toolchain, cargo's config, selection, environment |
//! | code hash | the digest of tree digest and build identity |
//! | barrier | the proof that every change before a question has been seen: a cookie file's event has come back |
//! | test target | one thing that `cargo test` runs: a library's unit tests, a file in `tests/`, a crate's doctests |
//! | code identity | the digest of the loadable parts of a test program, without debug information |
//! | observed inputs | everything that a run was seen to use: files, folders, absent names, programs, sockets |
//! | reached code | all code and data that a test's function refers to, itself or through others |
//! | record | the stored outcome of a run: its key, observed inputs, results and output |
//! | level | what a record is keyed by and covers: the whole source, a target's packages, a test program, or one call of it |
//! | fingerprint | the digest of one input's state: content, permissions and owner, or that it is absent |
//! | evict | to remove a record for its age, the cache's size or the number of snapshots |
//! | store | the storage through which machines share records: a folder, S3 or Redis |
//! | signer | an SSH key with which a machine signs the records that it shares |
//! | hit, miss | a record that answers; no such record, with the reason |
//! | stale | no longer valid, because an input has changed |
//! | uncacheable | a run that no record may answer for, with the reason |
//! | flaky | a test that both passed and failed on the same code |
//! | manifest | the list of files and digests of a snapshot, kept to name the changes since |
//! | memo | a digest kept with a file's stamp, so that the file need not be read again |
//! | stamp | a file's device, inode, size and times |
//! | debounce | the quiet time after a save before a background build starts |
//! | suspend, yield | to stop a build's processes for a while; to end a build in favour of another |
//! | runner hook | `knhk-test-cache exec`, which cargo starts in place of each test program |
//!
//! # Invariants
//!
//! - **Unknown means run.** An unreadable file, lost events, a record of another version, a file
//!   that changed while the tests ran: each is a miss with its reason, never a guess.
//! - **Only green is answered from cache.** A known failure is shown, and the tests run again.
//! - **Keys hold content only**: no modification time, no absolute path of a checkout.
//! - **Cargo decides** which programs run, where, and with which environment; its own runner hook
//!   reports them. After a build by the daemon, a build by hand has nothing to do.
//! - **Every command works without a daemon**, with the same answers. The command line never
//!   waits for a daemon that does not respond.
//! - No engine reads the config. Only `process` creates a command. On Linux, nothing is written
//!   into a project.
//!
//! # Example
//!
//! See [`Daemon`].

// These panic where the output cannot be written; `cli::output` does not.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

#[cfg(not(feature = "std"))]
compile_error!("knhk-test-cache needs an operating system: build it with the feature `std`");

mod model;
mod paths;
mod process;

mod config;
mod workspace;

mod cache;
mod compiler;
mod hasher;
mod observer;
mod predict;
mod reach;
mod runner;
#[cfg_attr(not(feature = "shared-folder"), allow(dead_code))] // A build without it has no store.
mod shared;
mod watcher;

mod client;
mod daemon;
mod protocol;
mod verdict;

mod cli;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod guide;
mod logging;
mod service;
mod views;

pub use cache::Cache;
pub use compiler::TestCompiler;
pub use daemon::Daemon;
pub use hasher::CodeHasher;

/// The parts that this package's own program, benches and end-to-end tests use. No other crate may
/// rely on them.
#[allow(missing_docs)] // Each is documented at home.
#[doc(hidden)]
pub mod internals {
    pub mod cli {
        pub use crate::cli::{main, run_for_cargo};
    }
    pub mod client {
        pub use crate::client::Connection;
    }
    pub mod compiler {
        pub use crate::compiler::{
            BuildProgress, BuildSpec, CompileError, PlannedTarget, TestCompiler, TestPlan,
            record_invocation,
        };
    }
    pub mod config {
        pub use crate::config::load;
    }
    pub mod daemon {
        pub use crate::daemon::{Pause, Pauses};
    }
    pub mod hasher {
        pub use crate::hasher::{CodeHasher, Snapshot};
    }
    pub mod model {
        pub use crate::model::{Digest, End, Harness, LogOutcome, TargetKind, Timestamp, field};
    }
    pub mod observer {
        pub use crate::observer::{
            Interference, LoaderCalls, Observation, ObserveOptions, Observer, Problem, Reach,
            Unavailable, Uses,
        };
    }
    pub mod paths {
        pub use crate::paths::Paths;
    }
    pub mod predict {
        pub use crate::predict::{Commit, Event, Evidence, FORMAT, Weights, parse, predict};
    }
    pub mod process {
        pub use crate::process::{
            Environment, Output, Priority, Spec, Suspender, capture, descendants,
        };
    }
    pub mod reach {
        pub use crate::reach::{
            Capabilities, Masking, Policy, ReachReader, Reached, TestIdentity, UnknownLayout,
        };
    }
    pub mod protocol {
        pub use crate::protocol::{Ask, Call, ProjectStatus, Reply, State};
    }
    pub mod verdict {
        pub use crate::verdict::{Facts, LocalTree, ProjectFiles, ProjectTree, Question, Refresh};
    }
    pub mod workspace {
        pub use crate::workspace::{
            CargoConfig, Members, PathStamp, Selection, TestPlace, TestPlaces, TestSources,
            Toolchain, target_root,
        };
    }
}
