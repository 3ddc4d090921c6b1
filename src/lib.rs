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

#[cfg(not(feature = "std"))]
compile_error!("knhk-test-cache needs an operating system: build it with the feature `std`");

pub mod model;
pub mod paths;
pub mod process;

pub mod config;
pub mod workspace;

pub mod cache;
pub mod compiler;
pub mod hasher;
pub mod observer;
pub mod predict;
pub mod runner;
pub mod watcher;

pub mod client;
pub mod daemon;
pub mod protocol;
pub mod verdict;

pub mod cli;
pub mod logging;
pub mod service;

pub use cache::Cache;
pub use compiler::TestCompiler;
pub use daemon::Daemon;
pub use hasher::CodeHasher;
pub use watcher::FileWatcher;
