//! To be written: daemon.

mod endpoint;
mod life;
mod server;

pub use endpoint::{Endpoint, EndpointError};
pub use life::Life;
