//! To be written: cache.
