//! To be written: observer.
