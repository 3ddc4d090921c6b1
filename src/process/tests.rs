//! Tests of child processes.

mod run;
#[cfg(target_os = "linux")]
mod suspend;
