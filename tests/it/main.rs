//! The one integration test binary: the modules from outside, and the whole command; real
//! processes, hermetic folders.

mod adversarial;
mod bad_input;
mod beside;
mod binary;
mod commands;
mod compiler;
mod exec;
mod home;
mod judge;
mod layers;
mod observer;
mod queue;
mod random;
mod reach;
mod replay;
mod results;
mod same;
mod stages;
mod storms;
mod switch;
mod trust;
mod waiting;
