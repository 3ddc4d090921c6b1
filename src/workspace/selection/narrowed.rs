//! A part of a selection: fewer packages, and of those fewer targets.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use super::{Selection, SelectionWord};

/// A part of what a selection builds.
#[derive(Clone, Copy)]
pub(crate) struct SelectionPart<'a> {
    /// Its packages, as `-p` takes them: some of those that the whole builds.
    pub packages: &'a [String],
    /// Options that name the targets that the whole builds of them, as in `--test=it`.
    pub targets: &'a BTreeSet<String>,
    /// Whether nothing else of the packages may be built.
    pub only_targets: bool,
    /// Whether a feature, as written after `--features`, is one for any of these packages.
    pub has_feature: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for SelectionPart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("SelectionPart");
        out.field("packages", &self.packages).field("targets", &self.targets);
        out.field("only_targets", &self.only_targets).finish_non_exhaustive()
    }
}

/// Options that say which packages are meant, and which of their targets.
const PACKAGES: &[&str] = &["workspace", "all", "exclude", "package"];
const KINDS: &[&str] = &["lib", "bins", "tests", "examples", "benches", "all-targets"];
const NAMED_TARGETS: &[&str] = &["bin", "test", "example", "bench"];

/// Options that mean the same for every part.
const SAME_FOR_EVERY_PART: &[&str] = &[
    "all-features",
    "no-default-features",
    "release",
    "profile",
    "target",
    "target-dir",
    "manifest-path",
    "lockfile-path",
    "jobs",
    "quiet",
    "verbose",
    "color",
    "message-format",
    "config",
    "locked",
    "offline",
    "frozen",
    "ignore-rust-version",
    "future-incompat-report",
    "no-fail-fast",
    "keep-going",
    "timings",
];

impl Selection {
    /// The same of this part only, in the place of all packages that are meant. `None` unless every
    /// word is understood.
    ///
    /// Whether the part comes out as it does in the whole is for the build to show: cargo decides
    /// features over all packages that are selected.
    #[must_use]
    pub(crate) fn narrowed(&self, part: &SelectionPart<'_>) -> Option<Self> {
        let is_name = |word| matches!(word, SelectionWord::Long { name, .. } if NAMED_TARGETS.contains(&name));
        let by_name = part.only_targets || self.words().any(is_name);
        if by_name && part.targets.is_empty() {
            return None;
        }
        let mut cargo = Vec::new();
        let mut features: Vec<&str> = Vec::new();
        for word in self.words() {
            match word {
                SelectionWord::Long { name, .. } if PACKAGES.contains(&name) => {}
                SelectionWord::Short { name: b'p', .. } => {}
                SelectionWord::Long { name: "features", value, .. }
                | SelectionWord::Short { name: b'F', value } => {
                    let all = value?.to_str()?.split(|c: char| c == ',' || c.is_whitespace());
                    features.extend(all.filter(|name| !name.is_empty()));
                }
                SelectionWord::Long { name, words, .. } if KINDS.contains(&name) => {
                    cargo.extend_from_slice(if by_name { &[] } else { words });
                }
                SelectionWord::Long { name, .. } if NAMED_TARGETS.contains(&name) => {}
                SelectionWord::Long { name, words, .. } if SAME_FOR_EVERY_PART.contains(&name) => {
                    cargo.extend_from_slice(words);
                }
                SelectionWord::Short { name, value } if b"rqvjZ".contains(&name) => {
                    let mut text = OsString::from(format!("-{}", char::from(name)));
                    text.push(value.unwrap_or_default());
                    cargo.push(text);
                }
                // Tests by name: that is nothing to a build.
                SelectionWord::Plain(word) if !word.as_bytes().starts_with(b"-") => {
                    cargo.push(word.to_owned());
                }
                SelectionWord::Long { .. }
                | SelectionWord::Short { .. }
                | SelectionWord::Plain(_) => return None,
            }
        }
        // Cargo refuses a feature that none of the packages has, and gives each those that it has.
        features.retain(|name| (part.has_feature)(name));
        if !features.is_empty() {
            cargo.push(format!("--features={}", features.join(",")).into());
        }
        for package in part.packages {
            cargo.extend(["-p".into(), package.into()]);
        }
        if by_name {
            cargo.extend(part.targets.iter().map(OsString::from));
        }
        Some(Self { dir: self.dir.clone(), cargo, harness: self.harness.clone() })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn narrowed(line: &str, only_targets: bool) -> Option<String> {
        let packages = ["x".to_owned(), "y".to_owned()];
        let targets = BTreeSet::from(["--lib".to_owned(), "--test=t".to_owned()]);
        let has_feature = &|name: &str| name == "f" || name == "y/g";
        let part =
            SelectionPart { packages: &packages, targets: &targets, only_targets, has_feature };
        let words = line.split_whitespace().map(OsString::from);
        let narrowed = Selection::parse("/w/a", words).narrowed(&part)?;
        Some(narrowed.cargo.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn the_packages_take_the_place_of_the_workspace() {
        for (line, expected) in [
            ("--workspace", "-p x -p y"),
            ("--all --all-features -r", "--all-features -r -p x -p y"),
            ("--workspace --exclude z --exclude=w", "-p x -p y"),
            ("", "-p x -p y"),
            ("-p a -px --package y --package=z -r", "-r -p x -p y"),
            ("--workspace -p x", "-p x -p y"),
            ("--tests -Z a=b", "--tests -Za=b -p x -p y"),
            ("--workspace --profile p -qj4", "--profile p -q -j4 -p x -p y"),
            ("--workspace --lib --bins", "--lib --bins -p x -p y"),
            ("--workspace --tests name", "--tests name -p x -p y"),
            ("--workspace --manifest-path ../C.toml", "--manifest-path ../C.toml -p x -p y"),
        ] {
            assert_eq!(narrowed(line, false).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn of_features_those_stay_that_a_package_has() {
        for (line, expected) in [
            ("--workspace --features f,none", "--features=f -p x -p y"),
            ("--workspace -F none", "-p x -p y"),
            ("--workspace -Fnone,f -F=y/g", "--features=f,y/g -p x -p y"),
            ("--features f --workspace --features=z/g", "--features=f -p x -p y"),
        ] {
            assert_eq!(narrowed(line, false).as_deref(), Some(expected), "{line}");
        }
        let quoted = ["--workspace", "--features", "f none y/g"].map(OsString::from);
        let part = SelectionPart {
            packages: &["x".to_owned()],
            targets: &BTreeSet::new(),
            only_targets: false,
            has_feature: &|name| name.len() == 1,
        };
        let narrowed = Selection::parse("/w", quoted).narrowed(&part).unwrap();
        assert_eq!(narrowed.cargo, ["--features=f", "-p", "x"].map(OsString::from));
    }

    #[test]
    fn targets_by_name_take_the_place_of_all_others() {
        let expected = Some("-p x -p y --lib --test=t");
        for line in ["--workspace", "--workspace --tests", "--all-targets --all --exclude z"] {
            assert_eq!(narrowed(line, true).as_deref(), expected, "{line}");
        }
        for line in ["--workspace --test t", "--workspace --test=t --lib", "--all --bin b --bins"] {
            assert_eq!(narrowed(line, false).as_deref(), expected, "{line}");
        }
        let mut part = SelectionPart {
            packages: &["x".to_owned()],
            targets: &BTreeSet::new(),
            only_targets: true,
            has_feature: &|_| false,
        };
        let whole = Selection::parse("/w", ["--workspace".into()]);
        assert_eq!(whole.narrowed(&part), None, "nothing would be built");
        part.only_targets = false;
        assert!(whole.narrowed(&part).is_some());
    }

    #[test]
    fn what_is_not_understood_is_not_narrowed() {
        for line in [
            "--workspace --features",
            "--workspace --doc",
            "--workspace --no-run",
            "--workspace --unheard-of",
            "--workspace -x",
            "--workspace -",
        ] {
            assert_eq!(narrowed(line, false), None, "{line}");
        }
    }
}
