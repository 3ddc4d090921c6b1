//! What is typed and what comes of it: the JSON that scripts rely on, exit statuses, selections
//! as cargo understands them, records and their limits, the daemon's work by itself.

mod ahead;
mod given_up;
#[cfg(target_os = "linux")]
mod killed;
mod pace;
mod records;
mod selections;
mod shapes;
#[cfg(target_os = "linux")]
mod standing;
