//! Why nothing of a green run is kept, and what the developer can do about it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::mem::discriminant;

use crate::cache::Uncached;
use crate::model::Timestamp;
use crate::verdict::obstacles::BarReason;

/// So many reasons of one kind are told.
const MOST_TOLD: usize = 3;

/// A reason to keep nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verdict) enum Uncacheable {
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
    /// Something that it did was not seen: what.
    NotSeen(String),
    /// Not all that it consulted was seen, and no digest of the tree stands for it.
    Unseen,
    /// What it printed is not what libtest prints, or too long.
    Output,
    /// It could read something on its standard input.
    Input,
    /// The run was not observed, for this reason.
    Unobserved(String),
    /// Observing changed its last run, of which nothing could be kept.
    Altered,
    /// The config says so.
    AlwaysRun,
    /// It measures coverage: it is run for what it writes.
    Coverage,
    /// Its tests were asked for in random order.
    Random,
    /// These tests of it failed when it was observed, and then it passed.
    Fickle(Vec<String>),
    /// Some of its tests had two outcomes on the same code, and have agreed with themselves so
    /// often since, of so many times that are wanted.
    Flaky { tests: Vec<String>, agreed: u32, wanted: u32 },
}

impl fmt::Display for Uncacheable {
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
            Self::NotSeen(what) => write!(f, "not all of its inputs are known: {what}"),
            Self::Unseen => f.write_str("not all that it consulted was seen"),
            Self::Output => f.write_str("what it printed is not libtest's alone, or too long"),
            Self::Input => f.write_str("there was something to read on its standard input"),
            Self::Unobserved(why) => write!(f, "the run was not observed: {why}"),
            Self::Altered => f.write_str(
                "it runs unobserved: observing changed its last run, of which nothing could be kept",
            ),
            Self::AlwaysRun => f.write_str(BarReason::AlwaysRun.as_str()),
            Self::Coverage => f.write_str("it measures coverage, which only a run writes"),
            Self::Random => f.write_str("its tests ran in random order"),
            Self::Fickle(tests) => {
                f.write_str("it failed when it was observed and passed when it was not")?;
                match &tests[..] {
                    [] => Ok(()),
                    tests => write!(f, ": `{}`", tests.join("`, `")),
                }
            }
            Self::Flaky { tests, agreed, wanted } => {
                let tests = match &tests[..] {
                    [one] if one.is_empty() => "it".to_owned(),
                    tests => format!("`{}`", tests.join("`, `")),
                };
                write!(
                    f,
                    "flaky: {tests} both passed and failed on the same code, \
                     and agreed {agreed} of {wanted} times since"
                )
            }
        }
    }
}

impl Uncacheable {
    /// These reasons and the advice to each, for a person: none twice, and few of each kind.
    pub(in crate::verdict) fn told(reasons: &[Self], when: Timestamp) -> Uncached {
        let mut told = Uncached { when, why: Vec::new(), advice: Vec::new() };
        let (mut of_kind, mut seen, mut more) = (HashMap::new(), HashSet::new(), 0);
        for reason in reasons {
            let why = reason.to_string();
            if !seen.insert(why.clone()) {
                continue;
            }
            let count: &mut usize = of_kind.entry(discriminant(reason)).or_default();
            *count += 1;
            if *count > MOST_TOLD {
                more += 1;
                continue;
            }
            told.why.push(why);
            let advice = reason.advice();
            if !told.advice.contains(&advice) {
                told.advice.push(advice);
            }
        }
        if more > 0 {
            told.why.push(format!("and {more} more like these"));
        }
        told
    }

    /// Whether the next run will most likely have the same reason.
    pub(super) fn is_lasting(&self) -> bool {
        !matches!(self, Self::Changed(_) | Self::Young(_) | Self::Program)
    }

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
            Self::NotSeen(_) => {
                "have the test use ordinary calls and native programs, or split it from the others"
                    .to_owned()
            }
            Self::Unseen => {
                "ask by `knhk-test-cache test`, which keeps it with the digest of the whole tree"
                    .to_owned()
            }
            Self::Output => "have the tests print less, and in UTF-8".to_owned(),
            Self::Input => "run it with `</dev/null`".to_owned(),
            Self::Unobserved(_) => {
                "leave out the option, or take `runner = \"cargo\"` for the project".to_owned()
            }
            Self::Altered => {
                "split the tests that use seccomp, landlock or privileged programs from the others"
                    .to_owned()
            }
            Self::AlwaysRun => "remove it from the project's `always_run`".to_owned(),
            Self::Coverage => {
                "build it without instrumentation for coverage or profiling".to_owned()
            }
            Self::Random => "leave out `--shuffle` and RUST_TEST_SHUFFLE".to_owned(),
            Self::Flaky { agreed, wanted, .. } => {
                format!("mend it; or ask {} more times, if it passes each time", wanted - agreed)
            }
            Self::Fickle(_) => {
                "run it some times by itself: it seems to fail now and then; a test that needs \
                 rights which an observed run cannot get belongs into `always_run`"
                    .to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_reasons_of_one_kind_are_told_by_a_few_and_their_number() {
        let mut reasons: Vec<_> =
            (0..40).map(|n| Uncacheable::Changed(format!("f{}", n / 2))).collect();
        reasons.push(Uncacheable::LeftBehind);
        let told = Uncacheable::told(&reasons, Timestamp(1));
        assert_eq!(
            told.why,
            [
                "`f0` changed while it ran",
                "`f1` changed while it ran",
                "`f2` changed while it ran",
                "it left a process behind",
                "and 17 more like these",
            ]
        );
        assert_eq!(told.advice.len(), 4);
        assert_eq!(Uncacheable::told(&[], Timestamp(1)).why, [""; 0]);
    }
}
