//! Detects that our builds and another cargo's undo each other's work, from what cargo says alone.
//!
//! Two cargos that build in the same target directory, and differ in a variable that a build script
//! or `env!` reads, each find the other's artifacts stale. When our builds had to repeat work twice
//! for the same reason, with the very same settings, we stop building ahead and say what differs.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Digest;
use crate::process::Environment;

/// After so many builds that had to repeat work, we stop.
const REPEATS_TO_STOP: u32 = 2;
/// After so many builds in a row without repeated work, all is forgotten.
const BUILDS_TO_FORGET: u32 = 3;
/// How many packages the reason names.
const NAMED_PACKAGES: usize = 3;

/// Cargo's reasons to build something again, and what differs then.
const REBUILD_REASONS: &[(&str, &str)] = &[
    ("the rustflags changed", "RUSTFLAGS"),
    ("the profile configuration changed", "profile settings"),
    ("the toolchain changed", "toolchain"),
    ("the config settings changed", "cargo settings"),
    ("the target configuration changed", "target settings"),
    ("the list of features changed", "features"),
    ("the list of declared features changed", "features"),
];

/// The settings of a build.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct BuiltWith {
    /// Digest of everything that decides the build besides files.
    pub(super) identity: Digest,
    /// Digest of the tree.
    pub(super) tree: Digest,
    /// Build scripts can read variables that are no part of the identity.
    pub(super) environment: Environment,
}

/// The repeated work of our builds.
#[derive(Debug, Default)]
pub(super) struct Thrashing {
    /// Our last build.
    last: Option<BuiltWith>,
    repeats: u32,
    quiet: u32,
    /// What differed, and for which packages.
    differs: BTreeMap<String, BTreeSet<String>>,
    /// We stopped building with these settings.
    stopped: Option<BuiltWith>,
}

impl Thrashing {
    /// A build of ours ended well. `dirty` is what cargo said of each thing that it built again:
    /// `p v0.1.0 (/w): the environment variable X changed`. Whether we stop now.
    pub(super) fn built(&mut self, with: BuiltWith, dirty: &[String]) -> bool {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        if let Some(last) = &self.last {
            for (package, what) in dirty.iter().filter_map(|line| by_others(line, last, &with)) {
                found.entry(what).or_default().insert(package);
            }
        }
        let again = found.keys().any(|what| self.differs.contains_key(what));
        if found.is_empty() {
            self.quiet += 1;
            if self.quiet >= BUILDS_TO_FORGET {
                (self.repeats, self.differs) = (0, BTreeMap::new());
            }
        } else {
            self.quiet = 0;
            // Another reason than the last time begins a new count.
            self.repeats = if again { self.repeats + 1 } else { 1 };
            self.differs = found;
        }
        let begins = self.repeats >= REPEATS_TO_STOP && self.stopped.is_none();
        if begins {
            self.stopped = Some(with.clone());
        }
        self.last = Some(with);
        begins
    }

    /// Whether to build ahead with these settings.
    pub(super) fn may_build(&mut self, identity: &Digest, environment: &Environment) -> bool {
        let same = |stopped: &BuiltWith| {
            let value = |name: &String| stopped.environment.get(name) == environment.get(name);
            stopped.identity == *identity && self.differs.keys().all(value)
        };
        if self.stopped.as_ref().is_some_and(|stopped| !same(stopped)) {
            self.forgive();
        }
        self.stopped.is_none()
    }

    /// A client wants it tried again.
    pub(super) fn forgive(&mut self) {
        *self = Self { last: self.last.take(), ..Self::default() };
    }

    /// Why nothing is built ahead, if that is so.
    pub(super) fn reason(&self) -> Option<String> {
        self.stopped.as_ref()?;
        let names: Vec<&str> = self.differs.keys().map(String::as_str).collect();
        let packages: BTreeSet<&str> =
            self.differs.values().flatten().map(String::as_str).collect();
        let mut of: Vec<&str> = packages.iter().copied().take(NAMED_PACKAGES).collect();
        if packages.len() > NAMED_PACKAGES {
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

/// The package and what differs, if only another cargo's build explains why `line` was built again.
fn by_others(line: &str, last: &BuiltWith, now: &BuiltWith) -> Option<(String, String)> {
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
    let known = REBUILD_REASONS.iter().find(|(text, _)| reason.starts_with(text))?;
    (last.tree == now.tree).then(|| (package, known.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(identity: u8, tree: u8, value: &str) -> BuiltWith {
        BuiltWith {
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
    fn two_repeats_for_one_reason_stop_and_name_it() {
        let mut thrashing = Thrashing::default();
        assert!(!thrashing.built(with(1, 1, "a"), &[]));
        assert!(!thrashing.built(with(1, 2, "a"), &dirty(&[FILE, FOO])));
        assert_eq!(thrashing.reason(), None);
        assert!(
            thrashing.built(with(1, 3, "a"), &dirty(&["the environment variable FOO changed"]))
        );
        let why = thrashing.reason().unwrap();
        assert!(why.contains("builds p with another FOO,"), "{why}");
        let now = with(1, 4, "a");
        assert!(!thrashing.may_build(&now.identity, &now.environment));
        assert!(!thrashing.built(now, &dirty(&[FOO])), "told once");
    }

    #[test]
    fn other_settings_or_a_client_resume() {
        for other in [with(2, 3, "a"), with(1, 3, "b")] {
            let mut thrashing = Thrashing::default();
            for tree in 0..3 {
                thrashing.built(with(1, tree, "a"), &dirty(&[FOO]));
            }
            assert!(thrashing.reason().is_some());
            assert!(thrashing.may_build(&other.identity, &other.environment));
            assert_eq!(thrashing.reason(), None);
            assert!(!thrashing.built(other.clone(), &dirty(&[FOO])), "it is our own change");
            assert!(!thrashing.built(other.clone(), &dirty(&[FOO])), "and begins anew");
            assert!(thrashing.built(other, &dirty(&[FOO])));
            thrashing.forgive();
            assert_eq!(thrashing.reason(), None);
        }
    }

    #[test]
    fn our_own_changes_do_not_count() {
        let mut thrashing = Thrashing::default();
        for round in 0..10 {
            let value = if round % 2 == 0 { "a" } else { "b" };
            assert!(!thrashing.built(with(1, round, value), &dirty(&[FOO])));
            assert!(!thrashing.built(with(round, 1, value), &dirty(&[FOO, FILE])));
        }
        // Edits, a manifest's settings, consequences, and what is not understood.
        let mut thrashing = Thrashing::default();
        let profile = "the profile configuration changed";
        let other = ["the dependency `q` was rebuilt", "the precalculated components changed", ""];
        for round in 0..10 {
            let reasons = [&[FILE, profile][..], &other].concat();
            assert!(!thrashing.built(with(1, round, "a"), &dirty(&reasons)));
        }
        thrashing.built(with(1, 1, "a"), &["nonsense".to_owned(), ": ".to_owned(), String::new()]);
    }

    #[test]
    fn flags_count_if_no_file_has_changed() {
        let mut thrashing = Thrashing::default();
        for _ in 0..3 {
            thrashing.built(with(1, 1, "a"), &dirty(&["the rustflags changed"]));
        }
        assert!(thrashing.reason().is_some_and(|why| why.contains("with another RUSTFLAGS")));
    }

    #[test]
    fn rare_repeats_are_forgotten() {
        let mut thrashing = Thrashing::default();
        thrashing.built(with(1, 0, "a"), &[]);
        for round in 0..10 {
            assert!(!thrashing.built(with(1, round, "a"), &dirty(&[FOO])));
            for _ in 0..BUILDS_TO_FORGET {
                thrashing.built(with(1, round, "a"), &dirty(&[FILE]));
            }
        }
        // But not at once.
        thrashing.built(with(1, 1, "a"), &dirty(&[FOO]));
        thrashing.built(with(1, 1, "a"), &[]);
        assert!(thrashing.built(with(1, 1, "a"), &dirty(&[FOO])));
    }

    #[test]
    fn repeats_for_different_reasons_do_not_stop() {
        let mut thrashing = Thrashing::default();
        thrashing.built(with(1, 0, "a"), &[]);
        for name in ["A", "B", "C", "D"] {
            let reason = format!("the env variable {name} changed");
            assert!(!thrashing.built(with(1, 0, "a"), &dirty(&[&reason])));
        }
    }
}
