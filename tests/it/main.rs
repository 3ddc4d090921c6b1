//! Tests of the modules from outside, on real processes and files.

mod observer;
