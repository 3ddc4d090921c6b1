//! Results by target, read from the output of a real `cargo test` or from our JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Passed, failed and ignored tests.
pub(crate) type Counts = (u64, u64, u64);

/// Every target with its tests; and those that failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Results {
    /// By what cargo's output tells of a target: `unit`, `test` or `doc`, and its crate's name.
    /// Several packages may have one of the same.
    pub(crate) counts: BTreeMap<(&'static str, String), Vec<Counts>>,
    /// What cargo says to run them again; in a workspace of one package it leaves out which.
    pub(crate) failed: BTreeSet<String>,
    /// Nothing was run: the build failed.
    pub(crate) error: bool,
}

impl Results {
    /// From the exit status of `cargo test --no-fail-fast` and its two streams in the order of
    /// writing. A harness of another kind may print what it likes: `liars` do.
    pub(crate) fn of_cargo(code: Option<i32>, output: &str, liars: &[&str]) -> Self {
        let mut results = Self::default();
        let mut current: Option<(&str, String)> = None;
        for line in output.lines() {
            if let Some(name) = started(line) {
                results.counts.entry(name.clone()).or_default().push((0, 0, 0));
                current = Some(name);
            } else if let (Some(sum), Some(name)) = (counts(line), &current) {
                if !liars.contains(&&*name.1) {
                    let all = results.counts.get_mut(name).and_then(|all| all.last_mut()).unwrap();
                    *all = (all.0 + sum.0, all.1 + sum.1, all.2 + sum.2);
                }
            } else if let Some(words) = line.strip_prefix("    `-") {
                results.failed.extend(words.strip_suffix('`').map(|words| format!("-{words}")));
            }
        }
        results.error = code != Some(0) && results.failed.is_empty();
        results.sorted()
    }

    /// From the lines of `test --format json`, the last one apart.
    pub(crate) fn of_answer(targets: &[Value], summary: &Value) -> Self {
        let mut results = Self { error: summary["verdict"] == "error", ..Self::default() };
        for target in targets {
            let text = |field: &str| target[field].as_str().unwrap_or_default();
            let number = |field: &str| target[field].as_u64().unwrap_or_default();
            let counts = (number("passed"), number("failed"), number("ignored"));
            let class = match text("kind") {
                "doc" => "doc",
                "test" => "test",
                _ => "unit",
            };
            let name = (class, text("target").replace('-', "_"));
            results.counts.entry(name).or_default().push(counts);
            if text("verdict") == "fail" {
                let (package, kind, target) = (text("package"), text("kind"), text("target"));
                results.failed.insert(match kind {
                    "lib" | "doc" => format!("-p {package} --{kind}"),
                    _ => format!("-p {package} --{kind} {target}"),
                });
            }
        }
        results.sorted()
    }

    /// Whether we, `self`, say what cargo says; of a build that failed there is no more to say than
    /// Whether our results, `self`, equal cargo's. Of a failed build only the failure is compared.
    pub(crate) fn agrees_with(&self, cargo: &Self) -> bool {
        if self.error || cargo.error {
            return self.error == cargo.error;
        }
        let bare = |words: &String| {
            words.strip_prefix("-p ")?.split_once(' ').map(|(_, target)| target.to_owned())
        };
        let same = self.failed == cargo.failed
            || self.failed.iter().map(bare).collect::<Option<BTreeSet<_>>>().as_ref()
                == Some(&cargo.failed);
        same && self.counts == cargo.counts
    }

    /// Packages come in another order from one version of cargo to the next.
    fn sorted(mut self) -> Self {
        self.counts.values_mut().for_each(|all| all.sort_unstable());
        self
    }
}

/// `Running tests/cli.rs (target/debug/deps/cli-0123456789abcdef)`, `Doc-tests util`.
fn started(line: &str) -> Option<(&'static str, String)> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(("doc", name.to_owned()));
    }
    let (path, exe) = line.strip_prefix("Running ")?.rsplit_once(" (")?;
    let class = if path.starts_with("unittests ") { "unit" } else { "test" };
    let exe = exe.strip_suffix(')')?.rsplit('/').next()?;
    Some((class, exe.rsplit_once('-')?.0.replace('-', "_")))
}

/// `test result: FAILED. 1 passed; 2 failed; 3 ignored; …`
fn counts(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut numbers = rest.split("; ").map(|part| part.split(' ').next()?.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}
