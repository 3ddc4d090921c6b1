//! Why the package level answers for a target, or what differs from the last run that it knows of.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::built_from::name_and_version;
use super::key::{folders, key_variable, key_variables};
use super::listing::{is_of_plan, owner_of};
use super::look_up::{PLAN, PackageLevel, package_part};
use crate::cache::{KeyBasis, Record, TargetPlan, WorkspacePlan};
use crate::hasher::{FileChange, Manifest};
use crate::model::TargetId;
use crate::verdict::binary::packages_text;
use crate::verdict::environment::AskedEnvironment;
use crate::verdict::facts::Question;
use crate::verdict::fingerprint::Fingerprints;
use crate::workspace::LockFile;

/// So many differences of one kind are named.
const MOST_NAMED: usize = 5;

/// What the package level says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::verdict) struct PackageExplanation {
    /// Why no record answers; `None` if one does.
    pub(in crate::verdict) obstacle: Option<String>,
    /// What differs from the last run with a record at this level: packages and files, entries of
    /// the lock file, features, inputs outside of the packages, variables.
    pub(in crate::verdict) differences: Vec<String>,
    /// The checkout of that run, if there was one.
    pub(in crate::verdict) compared_with: Option<PathBuf>,
}

impl PackageLevel<'_> {
    /// The targets of the plan, if one is known.
    pub(in crate::verdict) fn targets(&self) -> Vec<TargetId> {
        let targets = self.plan.iter().flat_map(|plan| &plan.targets);
        targets.map(|target| target.id.clone()).collect()
    }

    /// Explains each of these targets; `now` is the list of the tree.
    pub(in crate::verdict) fn explain(
        &self,
        ids: &[TargetId],
        now: &Manifest,
    ) -> BTreeMap<TargetId, PackageExplanation> {
        let found = self.find();
        let texts = ids.iter().map(packages_text);
        let last = self.cache.latest_anywhere(&self.question.root, texts);
        let explain = |id: &TargetId| {
            let target = self
                .plan
                .as_ref()
                .and_then(|plan| plan.targets.iter().find(|target| target.id == *id));
            let obstacle = match &found {
                Err(why) => Some(why.clone()),
                Ok(known) => match known.targets.iter().find(|(other, _)| other == id) {
                    Some((_, Ok(_))) => None,
                    Some((_, Err(why))) => Some(why.clone()),
                    None => Some("the last build of the whole had no such target".to_owned()),
                },
            };
            let last = last.get(&packages_text(id)).filter(|_| obstacle.is_some());
            let differences = last.map(|last| self.differences(target, last, now));
            let explanation = PackageExplanation {
                obstacle,
                differences: differences.unwrap_or_default(),
                compared_with: last.map(|last| last.workspace_root.clone()),
            };
            (id.clone(), explanation)
        };
        ids.iter().map(explain).collect()
    }

    /// What differs from the run of this record.
    fn differences(
        &self,
        target: Option<&TargetPlan>,
        last: &Record,
        now: &Manifest,
    ) -> Vec<String> {
        let then = self.cache.manifest(last.code_hash);
        let then = then.and_then(|bytes| Manifest::from_bytes(bytes).ok());
        let files = then.map(|then| then.diff(now)).unwrap_or_default();
        let mut all = self.packages(target, last, &files);
        all.extend(self.plan_files(last, &files));
        all.extend(self.features(last));
        let mut fingerprints = Fingerprints::new(&self.question.settings);
        let is_told = |path: &Path| files.iter().any(|file| file.path == path);
        let inputs = last.inputs.iter().filter(|input| !is_told(&input.path));
        let changed = inputs.filter(|input| !fingerprints.holds(&self.question.root, input));
        let told = changed.map(|input| format!("`{}` changed", input.path.display()));
        all.extend(told.take(MOST_NAMED));
        let basis = target.map_or(KeyBasis::Packages, |target| target.basis);
        all.extend(variables(self.question, basis, last));
        all
    }

    /// The packages that differ, each with the files.
    fn packages(
        &self,
        target: Option<&TargetPlan>,
        last: &Record,
        files: &[FileChange],
    ) -> Vec<String> {
        let (Some(plan), Some(target)) = (&self.plan, target) else { return Vec::new() };
        let (keys, folders) = (self.keys(plan), folders(plan));
        let mut told = Vec::new();
        for (at, package) in plan.packages.iter().enumerate() {
            let is_of_target = target.built_from.contains(&at);
            let then = last.identity.get(&package_part(&package.name));
            // One without a digest, with a link in it, is told by its files alone.
            let is_same = keys.package(at).is_none_or(|now| then == Some(&now.to_string()));
            let own = files.iter().filter(|file| owner_of(&file.path, &folders) == Some(at));
            let own: Vec<_> = own.map(ToString::to_string).collect();
            let counts = is_of_target || (target.basis == KeyBasis::Tree && !own.is_empty());
            if !counts || (is_of_target && is_same && own.is_empty()) {
                continue;
            }
            let name = &package.name;
            told.push(match (&own[..], then.filter(|_| is_of_target)) {
                ([], None) if is_of_target => format!("package {name} was not among its packages"),
                ([], _) => format!("package {name} differs"),
                (files, _) => format!("package {name}: {}", first_of(files)),
            });
        }
        if target.basis == KeyBasis::Tree {
            let of_none = files.iter().filter(|file| owner_of(&file.path, &folders).is_none());
            let of_none: Vec<_> = of_none.map(ToString::to_string).collect();
            told.extend((!of_none.is_empty()).then(|| first_of(&of_none)));
        }
        told
    }

    /// The files that decide what is built, and the entries of the lock file that differ.
    fn plan_files(&self, last: &Record, files: &[FileChange]) -> Vec<String> {
        let then = last.identity.get(PLAN);
        if then == Some(&self.plan_digest().to_string()) {
            return Vec::new();
        }
        let of_plan: Vec<_> = files.iter().filter(|file| is_of_plan(&file.path)).collect();
        let mut told: Vec<_> = of_plan.iter().map(ToString::to_string).take(MOST_NAMED).collect();
        if of_plan.is_empty() && !files.is_empty() {
            told.push("the selection, the toolchain or another condition of the build".to_owned());
        }
        let lock = std::fs::read(self.question.root.join("Cargo.lock")).ok();
        let lock = lock.and_then(|text| LockFile::parse(&text));
        if let (Some(then), Some(lock)) = (self.plan_of(last), lock) {
            told.extend(lock_entries(&then, &lock).into_iter().take(MOST_NAMED));
        }
        told
    }

    /// The units that have other features.
    fn features(&self, last: &Record) -> Vec<String> {
        let (Some(then), Some(now)) = (self.plan_of(last), &self.plan) else { return Vec::new() };
        let differs = |(unit, features): (&String, &BTreeSet<Vec<String>>)| {
            let before = then.features.get(unit).filter(|before| *before != features)?;
            let list = |sets: &BTreeSet<Vec<String>>| {
                let sets: Vec<_> = sets.iter().map(|set| set.join(",")).collect();
                format!("[{}]", sets.join("] and ["))
            };
            Some(format!("features of {unit}: {} now, {} then", list(features), list(before)))
        };
        now.features.iter().filter_map(differs).take(MOST_NAMED).collect()
    }

    /// The plan by which the record was made.
    fn plan_of(&self, last: &Record) -> Option<WorkspacePlan> {
        self.cache.memo(&last.identity.get(PLAN)?.parse().ok()?)
    }
}

/// The entries of the lock file that a build had and that are not there now.
fn lock_entries(then: &WorkspacePlan, lock: &LockFile) -> Vec<String> {
    let package_of = |unit: &String| {
        let id = unit.split(' ').next()?.to_owned();
        let local = || id.split_once('@').map(|(name, version)| (name.into(), version.into()));
        name_and_version(&id).or_else(local)
    };
    let built: BTreeSet<(String, String)> = then.features.keys().filter_map(package_of).collect();
    let gone = |(name, version): &(String, String)| {
        let versions: Vec<_> = lock.versions(name).collect();
        let now = if versions.is_empty() { "gone".to_owned() } else { versions.join(" and ") };
        (!versions.contains(&&**version)).then(|| format!("lock entry {name} {version}: {now} now"))
    };
    built.iter().filter_map(gone).collect()
}

/// The variables that a key of this kind holds, or that the build names, and that differ.
fn variables(question: &Question, basis: KeyBasis, last: &Record) -> Vec<String> {
    let asked = AskedEnvironment::of(question);
    let named = &last.environment.build_variables;
    let mut names: BTreeSet<_> =
        asked.differing_for_build(named, &question.root).cloned().collect();
    let now = key_variables(question);
    let parts =
        last.identity.iter().filter_map(|(part, digest)| Some((key_variable(part)?, digest)));
    let then: BTreeMap<_, _> = parts.collect();
    let all = now.keys().map(String::as_str).chain(then.keys().copied());
    let differs =
        |name: &&str| now.get(*name).map(ToString::to_string).as_ref() != then.get(name).copied();
    names.extend(all.filter(differs).map(str::to_owned));
    if basis != KeyBasis::Packages {
        names.extend(asked.differing(&last.environment.variables).into_iter().cloned());
    }
    let names = names.into_iter().take(MOST_NAMED);
    names.map(|name| format!("environment variable {name}")).collect()
}

/// The first of these, and how many more there are.
fn first_of(all: &[String]) -> String {
    let told = all.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(MOST_NAMED) {
        0 => told,
        more => format!("{told} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_lock_file_are_told_by_what_a_build_had() {
        let unit = |name: &str| (name.to_owned(), BTreeSet::from([Vec::new()]));
        let then = WorkspacePlan {
            features: [
                "registry+https://example.org/index#x@1.0.0 x lib",
                "registry+https://example.org/index#y@2.0.0 y lib",
                "a@0.1.0 a lib test",
            ]
            .map(unit)
            .into(),
            ..WorkspacePlan::default()
        };
        let package = |name: &str, version: &str| {
            format!("[[package]]\nname = '{name}'\nversion = '{version}'\n")
        };
        let lock = package("a", "0.1.0") + &package("x", "1.0.1") + &package("z", "1.0.0");
        let lock = LockFile::parse(lock.as_bytes()).unwrap();
        let told = ["lock entry x 1.0.0: 1.0.1 now", "lock entry y 2.0.0: gone now"];
        assert_eq!(lock_entries(&then, &lock), told);
    }

    #[test]
    fn a_long_list_is_told_by_its_beginning() {
        let all: Vec<_> = (0..7).map(|number| number.to_string()).collect();
        assert_eq!(first_of(&all[..2]), "0, 1");
        assert_eq!(first_of(&all), "0, 1, 2, 3, 4 and 2 more");
    }
}
