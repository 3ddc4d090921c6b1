//! The one integration test binary: real processes, real files, hermetic folders.

mod compiler;
mod layers;
mod observer;
