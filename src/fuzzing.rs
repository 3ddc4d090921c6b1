//! The readers of bytes that others write, for the fuzz targets in `tests/fuzz`. Not part of the
//! library: it exists with the feature `fuzzing` only.
//!
//! A reader may refuse any bytes. It must not panic, hang or reserve more memory than the bytes
//! deserve, and what it accepts must be the same after it was written and read again.

use crate::protocol::{LineBuffer, Reply, Request, encode};
use crate::{cache, compiler, config, hasher, reach, runner};

/// Requests and replies, as lines that arrive in two pieces.
pub fn protocol(bytes: &[u8]) {
    let mut lines = LineBuffer::default();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for piece in [first, second] {
        if lines.push(piece).is_err() {
            return;
        }
        while let Some(line) = lines.next_line() {
            if let Ok(request) = serde_json::from_slice::<Request>(&line) {
                let written = encode(&request).expect("a request that was read can be written");
                let again: Request = serde_json::from_slice(&written).expect("and read again");
                assert_eq!(encode(&again).unwrap(), written);
            }
            if let Ok(reply) = serde_json::from_slice::<Reply>(&line) {
                let written = encode(&reply).expect("a reply that was read can be written");
                let again: Reply = serde_json::from_slice(&written).expect("and read again");
                assert_eq!(encode(&again).unwrap(), written);
            }
        }
    }
}

/// The text of a config file.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        config::fuzz(text);
    }
}

/// Records and a project's state.
pub fn records(bytes: &[u8]) {
    cache::fuzz(bytes);
}

/// What a scan of the tree and the digests of programs left for the next process.
pub fn memos(bytes: &[u8]) {
    cache::fuzz_memo(bytes);
    hasher::fuzz_memo(bytes);
}

/// Cargo's output: messages and progress.
pub fn cargo_messages(bytes: &[u8]) {
    compiler::fuzz_output(bytes);
}

/// The output of test programs, and their lists of tests.
pub fn libtest_output(bytes: &[u8]) {
    runner::fuzz(bytes);
}

/// The lists of sources that the compiler writes, and a build script's output.
pub fn dep_info(bytes: &[u8]) {
    compiler::fuzz_dep_info(bytes);
}

/// Git's config, its lists of tracked files and its ignore files.
pub fn git(bytes: &[u8]) {
    hasher::fuzz_git(bytes);
}

/// Programs, libraries and objects.
pub fn elf(bytes: &[u8]) {
    hasher::fuzz_program(bytes);
    reach::fuzz(bytes);
}
