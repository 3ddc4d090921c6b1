//! Tests of the modules from outside, and of the whole command: real processes, hermetic folders.

mod bad_input;
mod compiler;
mod home;
mod layers;
mod observer;
mod random;
mod replay;
mod results;
