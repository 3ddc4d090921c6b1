//! Faults of the outside world: each gives a clear message and a defined exit status, loses
//! nothing and leaves the daemon serving.

mod daemon;
mod exhaustion;
mod folders;
mod jobs;
mod processes;
mod remote_files;
pub(crate) mod sandbox;
mod service;
mod socket;
mod stuck;
mod workspaces;
