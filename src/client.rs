//! To be written: client.
