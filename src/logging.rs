//! To be written: logging.
