//! To be written: runner.
