//! Everything that can be wrong outside: each a clear message with a defined exit status, nothing
//! lost, and the daemon still serving.

mod daemon;
mod elsewhere;
mod places;
mod processes;
mod service;
mod socket;
mod stuck;
mod workspaces;
