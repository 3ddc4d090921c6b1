//! The runner against real test binaries, and the reading of their output against noise.

mod doctests;
mod fixture;
mod nextest;
mod noise;
mod real;
mod scheduling;
mod shapes;
