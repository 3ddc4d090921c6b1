//! The command line: JSON, exit statuses, selections as cargo understands them, records and their
//! limits, background work.

mod background;
mod build_shapes;
mod cargo_runner;
mod check;
mod ci_formats;
#[cfg(target_os = "linux")]
mod cpu_suspension;
#[cfg(target_os = "linux")]
mod detached;
#[cfg(target_os = "linux")]
mod first_minutes;
mod fitting_in;
mod guide;
#[cfg(target_os = "linux")]
mod killed;
mod output;
mod pauses;
mod preempted_tests;
mod records;
mod select;
mod selected_tests;
mod selection;
mod selection_limits;
mod selections;
mod shapes;
mod started_programs;
mod stats;
mod terse;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) use selection::compared;
