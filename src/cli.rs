//! To be written: cli.
pub mod args;
mod exit;
mod render;
