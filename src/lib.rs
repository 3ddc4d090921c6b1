//! Keeps Rust test binaries compiled and test verdicts by content.

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
