//! The one integration test binary: real processes, hermetic folders.

mod compiler;
mod home;
mod replay;
