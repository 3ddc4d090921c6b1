//! The end-to-end tests, in one binary: engines through their interfaces, and the whole command.
//! Processes are real, every user's folders are temporary.

mod adversarial;
mod bad_input;
mod binary;
mod cargo_output;
mod cargo_rules;
mod claims;
mod commands;
mod compiler;
mod early;
mod environment;
mod exec;
mod flaky;
mod git_switch;
mod home;
mod layers;
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod loader_cache;
mod log_lines;
mod lsp;
mod observer;
mod other_inputs;
mod package_level;
mod prebuild;
mod queue;
mod random;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod reach;
mod recipes;
mod replay;
mod results;
mod same_build;
mod serial;
mod sharing;
mod storms;
mod test_places;
mod waiting;
mod watch;
