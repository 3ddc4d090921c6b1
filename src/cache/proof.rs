//! Looks that have shown that what a record depends on is as it was: while they show the same,
//! it still is.

use std::path::PathBuf;

use crate::workspace::Stamp;

/// What a record has been proven by.
#[derive(Debug)]
pub(crate) struct RecordProof {
    /// The workspace for which it was proven.
    pub root: PathBuf,
    /// For the products that its runs consulted, and behind them its inputs.
    pub looks: Looks,
}

/// Looks that decide a list of inputs, many of which share one with others.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// What was looked at.
    pub looks: Vec<Look>,
    /// The inputs that no look decides, by their places in the list.
    pub rest: Vec<usize>,
}

/// A path, and what was there.
#[derive(Debug)]
pub(crate) struct Look {
    /// An absolute path.
    pub path: PathBuf,
    /// What was there.
    pub found: Found,
    /// The inputs that hold while that is there, by their places in the list.
    pub decides: Vec<usize>,
}

/// What a look has found.
#[derive(Debug)]
pub(crate) enum Found {
    /// The path itself.
    Here(Stamp),
    /// What the path leads to, symbolic links followed.
    Led(Stamp),
    /// Nothing: no such file or folder, nor one on the way to it.
    Nothing,
}
