//! The readers of bytes that others write, for the fuzz targets in `tests/fuzz`. Not part of the
//! library: it exists with the feature `fuzzing` only.
//!
//! A reader may refuse any bytes. It must not panic, hang or reserve more memory than the bytes
//! deserve, and what it accepts must be the same after it was written and read again.

use crate::protocol::{LineBuffer, Reply, Request, encode};
use crate::{cache, compiler, config, hasher, observer, reach, runner};

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

/// Programs, libraries and objects, and the dynamic loader's cache.
pub fn elf(bytes: &[u8]) {
    hasher::fuzz_program(bytes);
    reach::fuzz(bytes);
    drop(observer::LoaderCache::parse(bytes));
}

/// A short run of each target on generated inputs; `.ci/fuzz` runs them for longer and by coverage.
#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    use super::*;

    /// How many inputs a target gets, if there is time for them.
    const INPUTS: usize = 20_000;
    /// How long a target may take.
    const FUZZ_TIME: Duration = Duration::from_secs(5);
    /// The longest input.
    const MAX_LENGTH: usize = 1 << 16;

    /// Makes inputs of seeds, the same ones in each run.
    struct Mutator(u64);

    impl Mutator {
        /// A number below `limit`.
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 16).unwrap_or(0) % limit.max(1)
        }

        fn mutated(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
            const ODD: [&[u8]; 8] = [
                b"\0",
                b"\n",
                b"\xff\xff\xff\xff",
                b"\"",
                b"{",
                b"9223372036854775808",
                b"\\",
                b": ",
            ];
            let mut bytes = seeds[self.below(seeds.len())].to_vec();
            for _ in 0..=self.below(6) {
                let at = self.below(bytes.len() + 1);
                let end = (at + self.below(32)).min(bytes.len());
                match self.below(6) {
                    0 => bytes.truncate(at),
                    1 => drop(bytes.drain(at..end)),
                    2 => drop(bytes.splice(at..at, ODD[self.below(ODD.len())].iter().copied())),
                    3 => {
                        let again = bytes[at..end].to_vec();
                        drop(bytes.splice(at..at, again));
                    }
                    4 => {
                        let other = seeds[self.below(seeds.len())];
                        let from = self.below(other.len() + 1);
                        bytes.extend_from_slice(&other[from..]);
                    }
                    _ if at < bytes.len() => bytes[at] = self.below(256).to_le_bytes()[0],
                    _ => {}
                }
            }
            bytes.truncate(MAX_LENGTH);
            bytes
        }
    }

    fn run(target: fn(&[u8]), seeds: &[&[u8]]) {
        let (mut mutator, started) = (Mutator(0x9e37_79b9_7f4a_7c15), Instant::now());
        seeds.iter().for_each(|seed| target(seed));
        for _ in 0..INPUTS {
            let input = mutator.mutated(seeds);
            let survived = catch_unwind(AssertUnwindSafe(|| target(&input)));
            assert!(survived.is_ok(), "input: b\"{}\"", input.escape_ascii());
            if started.elapsed() > FUZZ_TIME {
                break;
            }
        }
    }

    #[test]
    fn protocol_survives() {
        let seeds: [&[u8]; 4] = [
            b"{\"protocol\":1,\"version\":\"0.1.0\",\"call\":{\"method\":\"status\"}}\n",
            b"{\"protocol\":1,\"version\":\"0.1.0\",\"call\":{\"method\":\"ping\"}}\n",
            b"{\"type\":\"working\",\"what\":\"x\"}\n",
            b"{\"type\":\"refused\",\"version\":\"1\",\"reason\":\"r\"}\n",
        ];
        run(protocol, &seeds);
    }

    #[test]
    fn config_survives() {
        let project = b"[[project]]\npath = \"~/p\"\ndebounce = \"1s\"\nargs = [\"--lib\"]\n";
        run(config, &[include_bytes!("../config/default.toml"), project]);
    }

    #[test]
    fn records_survive() {
        let state =
            b"{\"verified\":0,\"targets\":[{\"package\":\"p\",\"target\":\"p\",\"kind\":\"lib\"}]}";
        run(records, &[state, b"{\"inputs\":[{\"path\":\"a\",\"state\":\"absent\"}]}", b"[]"]);
    }

    #[test]
    fn memos_survive() {
        run(memos, &[&[0; 64], &[1; 300], &[0xff; 40]]);
    }

    #[test]
    fn cargo_messages_survive() {
        let artifact = b"{\"reason\":\"compiler-artifact\",\"package_id\":\"path+file:///p#0.1.0\",\
            \"target\":{\"kind\":[\"lib\"],\"name\":\"p\"},\"filenames\":[\"/p/a\"],\"fresh\":true}\n";
        let status = b"   Compiling p v0.1.0 (/p)\n    Finished `test` profile in 0.1s\n";
        run(
            cargo_messages,
            &[artifact, status, b"{\"reason\":\"build-finished\",\"success\":true}\n"],
        );
    }

    #[test]
    fn libtest_output_survives() {
        let one = b"good: test\nbad: test\n\n2 tests, 0 benchmarks\n\0\nrunning 2 tests\ntest good ... ok\n\
            test bad ... FAILED\n\nfailures:\n\n---- bad stdout ----\nno\n\nfailures:\n    bad\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        run(
            libtest_output,
            &[one, b"\0{ \"type\": \"test\", \"event\": \"ok\", \"name\": \"a\" }\n"],
        );
    }

    #[test]
    fn dep_info_survives() {
        let list = b"/t/p.d: src/lib.rs src/a\\ b.rs\n\nsrc/lib.rs:\n# env-dep:A=b\\nc\n";
        run(
            dep_info,
            &[list, b"cargo::rerun-if-changed=Cargo.toml\ncargo:rerun-if-env-changed=X\n"],
        );
    }

    #[test]
    fn git_survives() {
        run(git, &[b"[core]\n\texcludesFile = \"~/x y\" # c\n\0/target\n!a/**/b\n*.[ch]\n\\#x\0a/b\0target"]);
    }

    #[test]
    fn elf_survives() {
        let read = |path| std::fs::read(path).unwrap_or_default();
        let (program, loader_cache) = (read("/bin/true"), read("/etc/ld.so.cache"));
        run(
            elf,
            &[
                &program,
                &loader_cache,
                b"!<arch>\none.o/          0           0     0     644     4         `\none\n",
            ],
        );
    }
}
