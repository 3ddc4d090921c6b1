//! Why nothing of a green run is kept, and what the developer can do about it.

use std::fmt;

/// A reason to keep nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verdict) enum Doubt {
    /// It spoke to this address.
    Peer(String),
    /// A process of the run went on after its end.
    LeftBehind,
    /// It depends on this, which changed meanwhile.
    Changed(String),
    /// It depends on this, which had changed a moment before.
    Young(String),
    /// It read this, which is no file.
    NoFile(String),
    /// It used this, which cannot be looked at.
    Unreadable(String),
    /// The program was not the one that was digested.
    Program,
    /// The config says so.
    AlwaysRun,
    /// Its tests were asked for in random order.
    Random,
    /// It failed when it was observed, and then passed.
    Fickle,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(address) => {
                write!(f, "it spoke to {address}, which is outside of the run")
            }
            Self::LeftBehind => f.write_str("it left a process behind"),
            Self::Changed(path) => write!(f, "`{path}` changed while it ran"),
            Self::Young(path) => write!(f, "`{path}` had only just been written when it ran"),
            Self::NoFile(path) => write!(f, "it read `{path}`, which no digest describes"),
            Self::Unreadable(what) => write!(f, "it used {what}"),
            Self::Program => f.write_str("its program was built anew while it ran"),
            Self::AlwaysRun => f.write_str("the config has it always run"),
            Self::Random => f.write_str("its tests ran in random order"),
            Self::Fickle => {
                f.write_str("it failed when it was observed and passed when it was not")
            }
        }
    }
}

impl Doubt {
    /// What would have the target kept.
    pub(in crate::verdict) fn advice(&self) -> String {
        match self {
            Self::Peer(address) => format!(
                "if who is there always answers alike, add \"{address}\" to the project's \
                 `trusted_services`"
            ),
            Self::LeftBehind => "have the test wait for every process that it starts".to_owned(),
            Self::Changed(path) => format!(
                "keep `{path}` still while the tests run; a test that writes should write below a \
                 temporary folder"
            ),
            Self::Young(_) => "ask again: by then it is old enough".to_owned(),
            Self::NoFile(_) => {
                "have the test read a file instead of a pipe, a device or the machine's state"
                    .to_owned()
            }
            Self::Unreadable(_) => "make it readable, or have the test not look there".to_owned(),
            Self::Program => "let one build end before the next begins".to_owned(),
            Self::AlwaysRun => "remove it from the project's `always_run`".to_owned(),
            Self::Random => "leave out `--shuffle` and RUST_TEST_SHUFFLE".to_owned(),
            Self::Fickle => {
                "run it some times by itself: it seems to fail now and then; a test that needs \
                 rights which an observed run cannot get belongs into `always_run`"
                    .to_owned()
            }
        }
    }
}
