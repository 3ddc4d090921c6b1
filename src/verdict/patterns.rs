//! The project's own words on what may be kept: targets that are always run, services that are
//! vouched for.

use std::ffi::OsStr;
use std::path::Path;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::config::Settings;
use crate::model::{TargetId, TargetKind};
use crate::workspace::{Relevance, is_for_build, relevance};

/// The globs as one. The config has checked them; one that is none matches nothing.
fn set(globs: &[String]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    for glob in globs.iter().filter_map(|glob| Glob::new(glob).ok()) {
        builder.add(glob);
    }
    builder.build().unwrap_or_default()
}

/// Targets that no record may answer for.
#[derive(Clone, Debug)]
pub(super) struct AlwaysRun(GlobSet);

impl AlwaysRun {
    pub(super) fn of(settings: &Settings) -> Self {
        Self(set(&settings.always_run))
    }

    /// Whether the target is named, or its package is.
    pub(super) fn names(&self, id: &TargetId) -> bool {
        !self.0.is_empty() && (self.0.is_match(id.to_string()) || self.0.is_match(&id.package))
    }
}

/// The same for targets of which only the program's name is known, in which `-` has become `_`.
#[derive(Clone, Debug)]
pub(super) struct MayAlwaysRun {
    globs: GlobSet,
    /// A glob that could mean something else if it were written with `_`.
    any: bool,
}

impl MayAlwaysRun {
    pub(super) fn of(settings: &Settings) -> Self {
        let any = settings.always_run.iter().any(|glob| glob.contains(['[', '\\']));
        let plain: Vec<_> = settings.always_run.iter().map(|glob| glob.replace('-', "_")).collect();
        Self { globs: set(&plain), any }
    }

    /// Whether a target of this package and name, of whichever kind, may be named.
    pub(super) fn may_name(&self, package: &str, target: &str) -> bool {
        let plain = |id: &TargetId| id.to_string().replace('-', "_");
        self.any
            || (!self.globs.is_empty()
                && (self.globs.is_match(package.replace('-', "_"))
                    || of_any_kind(package, target)
                        .iter()
                        .any(|id| self.globs.is_match(plain(id)))))
    }
}

/// The target of this package and name in every kind.
pub(super) fn of_any_kind(package: &str, target: &str) -> [TargetId; 6] {
    let (package, target) = (package.to_owned(), target.to_owned());
    TargetKind::ALL.map(|kind| TargetId { package: package.clone(), target: target.clone(), kind })
}

/// Files of the workspace that never decide a verdict.
#[derive(Clone, Debug, Default)]
pub(super) struct Excluded(GlobSet);

impl Excluded {
    /// As the snapshot understands the globs.
    pub(super) fn of(settings: &Settings) -> Self {
        let mut builder = GlobSetBuilder::new();
        for glob in &settings.exclude {
            let built =
                GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
            if let Ok(glob) = built {
                builder.add(glob);
            }
        }
        Self(builder.build().unwrap_or_default())
    }

    /// Whether the path, relative to the workspace, or a folder around it is excluded.
    pub(super) fn holds(&self, path: &Path) -> bool {
        !self.0.is_empty() && path.ancestors().any(|part| self.0.is_match(part))
    }
}

/// Services that the project vouches for.
#[derive(Clone, Debug, Default)]
pub(super) struct Trusted(GlobSet);

impl Trusted {
    pub(super) fn of(settings: &Settings) -> Self {
        Self(set(&settings.trusted_services))
    }

    /// Whether the project vouches for who is at `address`.
    pub(super) fn vouches_for(&self, address: &str) -> bool {
        self.0.is_match(address)
    }
}

/// The user's own word on which variables count.
#[derive(Clone, Debug, Default)]
pub(super) struct VariableRules {
    ignored: GlobSet,
    extra: GlobSet,
}

/// Where a variable belongs in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VariablePlace {
    /// Nowhere: it belongs to the terminal or session.
    Nowhere,
    /// In the key: it always counts.
    Key,
    /// Beside the key: it counts if something in the run can name it.
    Beside,
}

impl VariableRules {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { ignored: set(&settings.ignore_env), extra: set(&settings.extra_env) }
    }

    /// Whether the variable never counts.
    pub(super) fn ignores(&self, name: &OsStr) -> bool {
        !self.ignored.is_empty()
            && self.ignored.is_match(name)
            && !is_for_build(name)
            && !self.adds(name)
    }

    /// Whether the variable always counts because the config says so.
    pub(super) fn adds(&self, name: &OsStr) -> bool {
        !self.extra.is_empty() && self.extra.is_match(name)
    }

    /// Where the variable belongs; `is_session` says whether it is the terminal's or session's.
    pub(super) fn place(&self, name: &OsStr, is_session: bool) -> VariablePlace {
        match relevance(name) {
            _ if self.adds(name) => VariablePlace::Key,
            _ if is_session => VariablePlace::Nowhere,
            // With its value: taken back, the entry makes the record stale.
            _ if self.ignores(name) => VariablePlace::Beside,
            Relevance::Always => VariablePlace::Key,
            Relevance::IfNamed(_) | Relevance::SearchPath => VariablePlace::Beside,
        }
    }
}

/// Whether a file is a header of the system's, which declares what a source in C has to name as well.
pub(super) fn is_system_header(path: &Path) -> bool {
    ["/usr/include", "/usr/lib/gcc"].iter().any(|folder| path.starts_with(folder))
        && path.extension().is_some_and(|end| end == "h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_named_by_itself_or_by_its_package() {
        let named = |glob: &str, target: &str, kind| {
            let id = TargetId { package: "p-x".into(), target: target.into(), kind };
            AlwaysRun(set(&[glob.to_owned()])).names(&id)
        };
        assert!(named("p-x", "p_x", TargetKind::Lib) && named("p-x", "it", TargetKind::Test));
        assert!(named("*::it", "it", TargetKind::Test) && !named("*::it", "at", TargetKind::Test));
        assert!(named("p-x (doc)", "p_x", TargetKind::Doc));
        assert!(!named("it", "it", TargetKind::Test) && !named("p", "p_x", TargetKind::Lib));
    }

    #[test]
    fn an_address_is_vouched_for_as_it_is_printed() {
        let vouched =
            |glob: &str, address: &str| Trusted(set(&[glob.to_owned()])).vouches_for(address);
        assert!(
            vouched("127.0.0.1:80", "127.0.0.1:80") && !vouched("127.0.0.1:80", "127.0.0.1:8080")
        );
        assert!(vouched("*:5432", "[::1]:5432") && vouched("/run/*", "/run/pg/s"));
        assert!(!Trusted(set(&[])).vouches_for("127.0.0.1:80"));
    }
}
