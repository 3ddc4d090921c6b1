//! To be written: service.
