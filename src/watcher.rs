//! To be written: watcher.
