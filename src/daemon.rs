//! To be written: daemon.

mod life;

pub use life::Life;
