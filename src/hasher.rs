//! To be written: hasher.
