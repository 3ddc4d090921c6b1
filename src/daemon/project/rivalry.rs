//! Whether our builds and somebody else's undo each other's work, as a matter of what cargo says
//! alone.
//!
//! Two cargos that build the same in the same target directory, with a variable between them that
//! a build script or `env!` looks at, each find stale what the other has just built. Who builds
//! ahead of need has no part in that: when our builds had to repeat, twice and for the same
//! reason, what they had built with the very same settings, we stop, and say what it is that
//! differs.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Digest;
use crate::process::Environment;

/// So many builds that had to repeat work make a rivalry.
const STRIKES: u32 = 2;
/// After so many builds in a row that had not, it is forgotten.
const QUIET: u32 = 3;
/// So many packages are named.
const NAMED: usize = 3;

/// What cargo's reason to build something again says, in each of its wordings.
const REASONS: &[(&str, &str)] = &[
    ("the rustflags changed", "RUSTFLAGS"),
    ("the profile configuration changed", "profile settings"),
    ("the toolchain changed", "toolchain"),
    ("the config settings changed", "cargo settings"),
    ("the target configuration changed", "target settings"),
    ("the list of features changed", "features"),
    ("the list of declared features changed", "features"),
];

/// What a build was made with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct With {
    /// Everything that decides it besides files.
    pub(super) identity: Digest,
    /// The tree.
    pub(super) tree: Digest,
    /// Some variables are no part of the identity; build scripts can look at them all the same.
    pub(super) environment: Environment,
}

/// What our builds had to repeat.
#[derive(Debug, Default)]
pub(super) struct Rivalry {
    /// Our last build.
    last: Option<With>,
    strikes: u32,
    quiet: u32,
    /// What differed, and for which packages.
    differs: BTreeMap<String, BTreeSet<String>>,
    /// We stand down for builds with these settings.
    stands: Option<With>,
}

impl Rivalry {
    /// A build of ours ended well. `dirty` is what cargo said of each thing that it built again:
    /// `p v0.1.0 (/w): the environment variable X changed`. Tells whether that made it a rivalry.
    pub(super) fn built(&mut self, with: With, dirty: &[String]) -> bool {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        if let Some(last) = &self.last {
            for (package, what) in dirty.iter().filter_map(|line| by_others(line, last, &with)) {
                found.entry(what).or_default().insert(package);
            }
        }
        let again = found.keys().any(|what| self.differs.contains_key(what));
        if found.is_empty() {
            self.quiet += 1;
            if self.quiet >= QUIET {
                (self.strikes, self.differs) = (0, BTreeMap::new());
            }
        } else {
            self.quiet = 0;
            // Another reason than the last time is another story.
            self.strikes = if again { self.strikes + 1 } else { 1 };
            self.differs = found;
        }
        let begins = self.strikes >= STRIKES && self.stands.is_none();
        if begins {
            self.stands = Some(with.clone());
        }
        self.last = Some(with);
        begins
    }

    /// Whether to build ahead with these settings: not as long as they are those of the rivalry.
    pub(super) fn may_build(&mut self, identity: &Digest, environment: &Environment) -> bool {
        let same = |stands: &With| {
            let value = |name: &String| stands.environment.get(name) == environment.get(name);
            stands.identity == *identity && self.differs.keys().all(value)
        };
        if self.stands.as_ref().is_some_and(|stands| !same(stands)) {
            self.forgive();
        }
        self.stands.is_none()
    }

    /// Somebody wants it tried again.
    pub(super) fn forgive(&mut self) {
        *self = Self { last: self.last.take(), ..Self::default() };
    }

    /// Why nothing is built ahead, if that is so.
    pub(super) fn why(&self) -> Option<String> {
        self.stands.as_ref()?;
        let names: Vec<&str> = self.differs.keys().map(String::as_str).collect();
        let packages: BTreeSet<&str> =
            self.differs.values().flatten().map(String::as_str).collect();
        let mut of: Vec<&str> = packages.iter().copied().take(NAMED).collect();
        if packages.len() > NAMED {
            of.push("others");
        }
        Some(format!(
            "not building ahead: another cargo builds {} with another {}, and each undoes the \
             other's work; `knhk-test-cache test` from where that cargo is called has us build \
             the same, `target_dir = \"own\"` keeps us apart, `rebuild` tries again",
            of.join(", "),
            names.join(", ")
        ))
    }
}

/// The package and what differs, if only somebody else's build explains why `line` was built again.
fn by_others(line: &str, last: &With, now: &With) -> Option<(String, String)> {
    let (unit, reason) = line.split_once("): ").or_else(|| line.split_once(": "))?;
    let package = unit.split_whitespace().next()?.to_owned();
    if last.identity != now.identity {
        return None;
    }
    let variable = ["the environment variable ", "the env variable "];
    let variable = variable.iter().find_map(|start| reason.strip_prefix(start));
    if let Some(name) = variable.and_then(|rest| rest.strip_suffix(" changed")) {
        let same = last.environment.get(name) == now.environment.get(name);
        return same.then(|| (package, name.to_owned()));
    }
    // These can stand in a manifest too.
    let known = REASONS.iter().find(|(text, _)| reason.starts_with(text))?;
    (last.tree == now.tree).then(|| (package, known.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(identity: u8, tree: u8, value: &str) -> With {
        With {
            identity: Digest::of(&[identity]),
            tree: Digest::of(&[tree]),
            environment: [("FOO".into(), value.into())].into_iter().collect(),
        }
    }

    fn dirty(reasons: &[&str]) -> Vec<String> {
        reasons.iter().map(|reason| format!("p v0.1.0 (/w: x/p): {reason}")).collect()
    }

    const FOO: &str = "the env variable FOO changed";
    const FILE: &str = "the file `src/lib.rs` has changed (1s after last build)";

    #[test]
    fn twice_for_the_same_reason_is_a_rivalry_and_it_is_named() {
        let mut rivalry = Rivalry::default();
        assert!(!rivalry.built(with(1, 1, "a"), &[]));
        assert!(!rivalry.built(with(1, 2, "a"), &dirty(&[FILE, FOO])));
        assert_eq!(rivalry.why(), None);
        assert!(rivalry.built(with(1, 3, "a"), &dirty(&["the environment variable FOO changed"])));
        let why = rivalry.why().unwrap();
        assert!(why.contains("builds p with another FOO,"), "{why}");
        let now = with(1, 4, "a");
        assert!(!rivalry.may_build(&now.identity, &now.environment));
        assert!(!rivalry.built(now, &dirty(&[FOO])), "told once");
    }

    #[test]
    fn it_ends_with_other_settings_or_by_hand() {
        for other in [with(2, 3, "a"), with(1, 3, "b")] {
            let mut rivalry = Rivalry::default();
            for tree in 0..3 {
                rivalry.built(with(1, tree, "a"), &dirty(&[FOO]));
            }
            assert!(rivalry.why().is_some());
            assert!(rivalry.may_build(&other.identity, &other.environment));
            assert_eq!(rivalry.why(), None);
            assert!(!rivalry.built(other.clone(), &dirty(&[FOO])), "it is our own change");
            assert!(!rivalry.built(other.clone(), &dirty(&[FOO])), "and begins anew");
            assert!(rivalry.built(other, &dirty(&[FOO])));
            rivalry.forgive();
            assert_eq!(rivalry.why(), None);
        }
    }

    #[test]
    fn what_we_changed_ourselves_is_nobodys_fault() {
        let mut rivalry = Rivalry::default();
        for round in 0..10 {
            let value = if round % 2 == 0 { "a" } else { "b" };
            assert!(!rivalry.built(with(1, round, value), &dirty(&[FOO])));
            assert!(!rivalry.built(with(round, 1, value), &dirty(&[FOO, FILE])));
        }
        // Edits, a manifest's settings, consequences, and what is not understood.
        let mut rivalry = Rivalry::default();
        let profile = "the profile configuration changed";
        let other = ["the dependency `q` was rebuilt", "the precalculated components changed", ""];
        for round in 0..10 {
            let reasons = [&[FILE, profile][..], &other].concat();
            assert!(!rivalry.built(with(1, round, "a"), &dirty(&reasons)));
        }
        rivalry.built(with(1, 1, "a"), &["nonsense".to_owned(), ": ".to_owned(), String::new()]);
    }

    #[test]
    fn flags_count_where_no_file_has_changed() {
        let mut rivalry = Rivalry::default();
        for _ in 0..3 {
            rivalry.built(with(1, 1, "a"), &dirty(&["the rustflags changed"]));
        }
        assert!(rivalry.why().is_some_and(|why| why.contains("with another RUSTFLAGS")));
    }

    #[test]
    fn what_happens_now_and_then_is_forgotten() {
        let mut rivalry = Rivalry::default();
        rivalry.built(with(1, 0, "a"), &[]);
        for round in 0..10 {
            assert!(!rivalry.built(with(1, round, "a"), &dirty(&[FOO])));
            for _ in 0..QUIET {
                rivalry.built(with(1, round, "a"), &dirty(&[FILE]));
            }
        }
        // But not at once.
        rivalry.built(with(1, 1, "a"), &dirty(&[FOO]));
        rivalry.built(with(1, 1, "a"), &[]);
        assert!(rivalry.built(with(1, 1, "a"), &dirty(&[FOO])));
    }

    #[test]
    fn each_time_another_reason_is_no_rivalry_yet() {
        let mut rivalry = Rivalry::default();
        rivalry.built(with(1, 0, "a"), &[]);
        for name in ["A", "B", "C", "D"] {
            let reason = format!("the env variable {name} changed");
            assert!(!rivalry.built(with(1, 0, "a"), &dirty(&[&reason])));
        }
    }
}
