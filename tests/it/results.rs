//! What a real `cargo test` said, target by target, read from its output as a person reads it.

use std::collections::{BTreeMap, BTreeSet};

use crate::home::{Answered, Ran};

/// Kind and name of a target, as far as cargo's output tells them.
pub(crate) type Name = (String, String);

/// Every target with its passed, failed and ignored tests; and those that failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) counts: BTreeMap<Name, (u64, u64, u64)>,
    pub(crate) failed: BTreeSet<Name>,
    /// Nothing was run: the build failed.
    pub(crate) error: bool,
}

impl Results {
    /// From the two streams of `cargo test --no-fail-fast` in the order of writing.
    pub(crate) fn of_cargo(ran: &Ran) -> Self {
        let mut results = Self::default();
        let mut current: Option<Name> = None;
        for line in ran.stdout.lines() {
            if let Some(name) = started(line) {
                results.counts.insert(name.clone(), (0, 0, 0));
                current = Some(name);
            } else if let (Some(sum), Some(name)) = (counts(line), &current) {
                // A harness of another kind may print what it likes.
                if name.1 != "custom" {
                    let all = results.counts.get_mut(name).unwrap();
                    *all = (all.0 + sum.0, all.1 + sum.1, all.2 + sum.2);
                }
            } else if let Some(name) = rerun(line) {
                results.failed.insert(name);
            }
        }
        results.error = ran.code != Some(0) && results.failed.is_empty();
        assert!(results.error || (ran.code == Some(0)) == results.failed.is_empty(), "{ran:#?}");
        results
    }

    /// From our own answer.
    pub(crate) fn of_answer(answer: &Answered) -> Self {
        let mut results = Self { error: answer.verdict() == "error", ..Self::default() };
        for target in &answer.targets {
            let text = |field: &str| target[field].as_str().unwrap().to_owned();
            let number = |field: &str| target[field].as_u64().unwrap();
            let name = (text("kind"), text("target"));
            let counts = (number("passed"), number("failed"), number("ignored"));
            if text("verdict") == "fail" {
                results.failed.insert(name.clone());
            }
            assert!(results.counts.insert(name, counts).is_none(), "twice: {answer:#?}");
        }
        let red = !results.failed.is_empty();
        assert_eq!(answer.verdict() == "fail", red, "{answer:#?}");
        results
    }
}

/// `Running tests/cli.rs (target/debug/deps/cli-0123456789abcdef)`, `Doc-tests util`.
fn started(line: &str) -> Option<Name> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(("doc".to_owned(), name.to_owned()));
    }
    let (path, exe) = line.strip_prefix("Running ")?.split_once(" (")?;
    let path = path.strip_prefix("unittests ").unwrap_or(path);
    let kind = match path {
        "src/lib.rs" => "lib",
        "src/main.rs" => "bin",
        _ if path.starts_with("tests/") => "test",
        _ if path.starts_with("examples/") => "example",
        _ => return None,
    };
    let exe = exe.trim_end_matches(')').rsplit('/').next()?;
    Some((kind.to_owned(), exe.rsplit_once('-')?.0.to_owned()))
}

/// `test result: FAILED. 1 passed; 2 failed; 3 ignored; …`
fn counts(line: &str) -> Option<(u64, u64, u64)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut numbers = rest.split("; ").map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// One of the last lines: `` `-p app --test cli` ``.
fn rerun(line: &str) -> Option<Name> {
    let words = line.strip_prefix("    `-p ")?.strip_suffix('`')?;
    let mut words = words.split(' ');
    let package = words.next()?;
    let kind = words.next()?.trim_start_matches("--");
    Some((kind.to_owned(), words.next().unwrap_or(package).to_owned()))
}
