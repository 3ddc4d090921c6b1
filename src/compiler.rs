//! To be written: compiler.
