//! Are the tests green for the tree as it stands now?
//!
//! This crate answers that question for cargo workspaces, at once where nothing changed since it
//! was last answered, and by running what is stale where something did. It is the library under
//! the command `knhk-test-cache` and the per-user service that keeps answers cheap; the README
//! tells how to live with it.
//!
//! # Layers
//!
//! Imports go strictly downward; `tests/it/layers.rs` holds the table and checks it.
//!
//! ```text
//! L4 surface    bin/main.rs  cli  service  logging
//! L3 service    protocol  client  verdict  daemon
//! L2 engines    hasher  cache  watcher  compiler  runner  observer  predict   strangers to each other
//! L1 facts      config  workspace
//! L0 words      paths  model  process
//! ```
//!
//! - [`model`] has the words: digests, test targets, outcomes, verdicts.
//! - [`process`] is the only place that starts a child; [`paths`] knows the user's folders.
//! - [`config`] and [`workspace`] are facts read from files: which projects, which toolchain,
//!   which selection. Neither starts a process on the path of an answer.
//! - The engines each do one thing and know nothing of each other or of the config:
//!   [`hasher`] a tree's snapshot, [`watcher`] what changed, [`compiler`] builds and plans by
//!   asking cargo, [`runner`] runs a plan, [`observer`] what a run consults, [`cache`] records,
//!   [`predict`] what will be wanted next.
//! - [`verdict`] alone knows the order: snapshot, look up, build, run, store. The [`daemon`] and
//!   the command line ([`cli`]) both call it; [`protocol`] and [`client`] are how they talk.
//!
//! # Invariants
//!
//! - **Unknown means run.** An unreadable file, lost events, a record of another version, a file
//!   that changed while the tests ran: each is a miss with its reason, never a guess.
//! - **Green only from cache.** A failure is never answered from a record; it is shown, and run
//!   again.
//! - **Keys hold content only**: no modification time, no absolute path of a checkout.
//! - **Ask cargo.** Which binaries run, where, with which environment: cargo's own runner hook
//!   says so. A build by the daemon leaves nothing to do for a build by hand.
//! - **Every command works without a daemon**, with the same answers. The command line never
//!   waits for a daemon that says nothing.
//! - Absences: no engine reads the config; nothing but [`process`] creates a command; nothing
//!   is ever written into a project on Linux.
//!
//! # Example
//!
//! See [`Daemon`].

// Rooms are private, so `pub` in them reaches no further than this crate.
#![allow(unreachable_pub)]

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
mod runner;
mod watcher;

mod client;
mod daemon;
mod protocol;
mod verdict;

mod cli;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod logging;
mod service;

pub use cache::Cache;
pub use compiler::TestCompiler;
pub use daemon::Daemon;
pub use hasher::CodeHasher;
pub use watcher::FileWatcher;

/// The parts that this package's own program, benches and end-to-end tests use. No other crate may
/// rely on them.
#[doc(hidden)]
#[allow(missing_docs)] // Each is documented at home.
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
        pub use crate::model::{Digest, End, Harness, LogOutcome, Timestamp, field};
    }
    pub mod observer {
        pub use crate::observer::{
            Interference, Observation, ObserveOptions, Observer, Problem, Reach, Unavailable, Uses,
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
    pub mod protocol {
        pub use crate::protocol::{Ask, Call, ProjectStatus, Reply, State};
    }
    pub mod verdict {
        pub use crate::verdict::{Facts, LocalTree, ProjectFiles, ProjectTree, Question, Refresh};
    }
    pub mod workspace {
        pub use crate::workspace::{CargoConfig, Members, PathStamp, Selection, Toolchain};
    }
}
