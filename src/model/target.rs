//! What `cargo test` runs: test targets and their names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of a test target, in cargo's words; `doc` is a crate's doctests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// A library's unit tests (proc-macro crates too).
    Lib,
    /// A binary's unit tests.
    Bin,
    /// A file or folder below `tests/`.
    Test,
    /// An example with `test = true`.
    Example,
    /// A bench target that is run as a test.
    Bench,
    /// A crate's doctests.
    Doc,
}

impl TargetKind {
    /// All kinds, in cargo's order.
    pub(crate) const ALL: [Self; 6] =
        [Self::Lib, Self::Bin, Self::Test, Self::Example, Self::Bench, Self::Doc];

    /// The kind as it is written in JSON.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Lib => "lib",
            Self::Bin => "bin",
            Self::Test => "test",
            Self::Example => "example",
            Self::Bench => "bench",
            Self::Doc => "doc",
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a text is not a target's kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of test target (lib, bin, test, example, bench, doc)")]
pub struct ParseTargetKindError(String);

impl FromStr for TargetKind {
    type Err = ParseTargetKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| ParseTargetKindError(text.to_owned()))
    }
}

/// Which program runs the tests of a target and prints their results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Harness {
    /// libtest, which rustc builds into a test binary: it lists its tests and takes filters.
    Libtest,
    /// The target's own `main` (`harness = false`). Only its exit status counts, unless it prints
    /// as libtest does.
    Custom,
    /// `rustdoc --test`, which compiles the examples in documentation and runs libtest once or
    /// twice.
    Doctest,
}

/// A test target's name: unique in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId {
    /// The package that it belongs to.
    pub package: String,
    /// The target's name as cargo prints it.
    pub target: String,
    /// Its kind; one package can have a lib, a bin and doctests of one name.
    pub kind: TargetKind,
}

impl fmt::Display for TargetId {
    /// `package` for a library of the package's name, else `package::kind/target`, as nextest
    /// writes it; doctests are `package (doc)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, target, kind } = self;
        match kind {
            TargetKind::Lib => f.write_str(package),
            TargetKind::Doc => write!(f, "{package} (doc)"),
            TargetKind::Test => write!(f, "{package}::{target}"),
            _ => write!(f, "{package}::{kind}/{target}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_round_trip_as_text_and_json() {
        for kind in TargetKind::ALL {
            assert_eq!(kind.as_str().parse::<TargetKind>(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("libs".parse::<TargetKind>().is_err());
    }

    #[test]
    fn display_tells_targets_of_one_package_apart() {
        let id = |target: &str, kind| TargetId { package: "p".into(), target: target.into(), kind };
        assert_eq!(id("p", TargetKind::Lib).to_string(), "p");
        assert_eq!(id("p", TargetKind::Bin).to_string(), "p::bin/p");
        assert_eq!(id("it", TargetKind::Test).to_string(), "p::it");
        assert_eq!(id("p", TargetKind::Doc).to_string(), "p (doc)");
    }
}
