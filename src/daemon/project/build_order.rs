//! Which packages are built before the rest of the workspace: the edited ones, then their dependents
//! that will be wanted next.
//!
//! A state without any input or output; [`super::builder`] feeds it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::cache::InseparablePackages;
use crate::compiler::{Product, Units};
use crate::model::Digest;
use crate::predict::{Commit, Event, Evidence, Weights, dependents, predict};
use crate::workspace::Members;

/// More files at once are no edit by hand but a checkout, a generator or a formatter.
const LARGEST_EDIT: usize = 20;
/// How many packages one prebuild has.
const PREBUILD_PACKAGES: usize = 3;
/// How many files and questions are remembered.
const REMEMBERED_EVENTS: usize = 200;

/// The evidence for a project's next builds.
#[derive(Debug, Default)]
pub(super) struct BuildOrder {
    members: Option<(Digest, Arc<Members>)>,
    /// The commit that the history ends with.
    head: Option<String>,
    history: Vec<Commit>,
    /// Edited files, the newest last.
    edits: VecDeque<(PathBuf, Instant)>,
    asked: VecDeque<(String, Instant)>,
    /// Edited files that are in no build yet.
    unbuilt: BTreeSet<PathBuf>,
    /// Too many files have changed since the last build.
    swept: bool,
    whole: Option<WholeBuild>,
    /// Packages whose artifacts differ when they are built alone.
    inseparable: InseparablePackages,
}

/// What a build has taught.
#[derive(Debug)]
pub(super) enum Lesson {
    /// What the whole build is made of.
    Whole(WholeBuild),
    /// The artifacts of these packages differ when they are built alone.
    Inseparable(Digest, Vec<String>),
}

/// What the last whole build was made of.
#[derive(Clone, Debug)]
pub(super) struct WholeBuild {
    /// Digest of manifests, lock file, toolchain, environment and selection.
    pub(super) key: Digest,
    pub(super) units: Arc<Units>,
    /// The packages of the workspace that have tests, by their folders relative to the root.
    pub(super) local: BTreeMap<PathBuf, LocalPackage>,
}

/// A package as the last whole build had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LocalPackage {
    /// What `-p` takes.
    pub(super) spec: String,
    /// Its test programs.
    pub(super) programs: Vec<PathBuf>,
    /// Cargo's options that name these programs and no others of the package.
    pub(super) filters: BTreeSet<String>,
    /// The features that the whole build enables.
    pub(super) features: BTreeSet<String>,
    /// It is a library, and `--lib` means it.
    pub(super) is_library: bool,
}

impl WholeBuild {
    /// The artifacts of a whole build that succeeded.
    pub(super) fn new(key: Digest, root: &Path, products: &[Product]) -> Self {
        let mut local: BTreeMap<PathBuf, LocalPackage> = BTreeMap::new();
        for product in products.iter().filter(|product| product.local) {
            let dir = product.manifest.parent().and_then(|dir| dir.strip_prefix(root).ok());
            let Some(dir) = dir else { continue };
            let package = local.entry(dir.to_owned()).or_default();
            let kind = product.kinds.first().map_or("", String::as_str);
            let filter = match kind {
                "bin" | "test" | "example" | "bench" => format!("--{kind}={}", product.target),
                _ => "--lib".to_owned(),
            };
            package.features.extend(product.features.iter().cloned());
            package.is_library |= filter == "--lib" && kind != "custom-build";
            if product.is_test() {
                package.spec.clone_from(&product.package_id);
                package.programs.extend(product.executable.clone());
                package.filters.insert(filter);
            }
        }
        // Cargos before 1.77 name packages in a way that `-p` does not take.
        local.retain(|_, package| !package.spec.is_empty() && !package.spec.contains(' '));
        Self { key, units: Arc::new(Units::of(products)), local }
    }
}

/// Packages to be built before the rest.
#[derive(Clone, Debug)]
pub(super) struct PrebuildChoice {
    /// What `-p` takes.
    pub(super) specs: Vec<String>,
    /// Options that name what the whole build builds of these packages.
    pub(super) filters: BTreeSet<String>,
    /// Whether nothing else of the packages may be built.
    pub(super) only_filters: bool,
    pub(super) features: PackageFeatures,
    /// As in "built globset (edited)".
    pub(super) what: String,
    /// The artifacts of the whole build.
    pub(super) units: Arc<Units>,
}

impl BuildOrder {
    /// The state of a project of which this is known from earlier.
    pub(super) fn new(inseparable: InseparablePackages) -> Self {
        Self { inseparable, ..Self::default() }
    }

    /// Whether the packages are those of these manifests.
    pub(super) fn knows_members(&self, manifests: &Digest) -> bool {
        self.members.as_ref().is_some_and(|(known, _)| known == manifests)
    }

    /// The packages are those of these manifests from now on.
    pub(super) fn set_members(&mut self, manifests: Digest, members: Members) {
        self.members = Some((manifests, Arc::new(members)));
    }

    /// The repository is at this commit. The packages, if its history is to be read.
    pub(super) fn set_head(&mut self, head: String) -> Option<Arc<Members>> {
        let (_, members) = self.members.as_ref()?;
        let is_new = self.head.as_ref() != Some(&head);
        self.head = Some(head);
        is_new.then(|| Arc::clone(members))
    }

    /// The history up to the current commit.
    pub(super) fn set_history(&mut self, history: Vec<Commit>) {
        self.history = history;
    }

    /// Files changed, relative to the root.
    pub(super) fn edited(&mut self, files: &[PathBuf], now: Instant) {
        if files.len() > LARGEST_EDIT {
            self.swept = true;
            return;
        }
        for file in files {
            self.edits.retain(|(known, _)| known != file);
            self.edits.push_back((file.clone(), now));
            self.unbuilt.insert(file.clone());
        }
        while self.edits.len() > REMEMBERED_EVENTS {
            self.edits.pop_front();
        }
    }

    /// A client asked about a package by name.
    pub(super) fn asked(&mut self, package: String, now: Instant) {
        self.asked.retain(|(known, _)| *known != package);
        self.asked.push_back((package, now));
        while self.asked.len() > REMEMBERED_EVENTS {
            self.asked.pop_front();
        }
    }

    /// The current tree is built, or needs no build.
    pub(super) fn is_built(&mut self) {
        self.unbuilt.clear();
        self.swept = false;
    }

    /// A whole build has ended well.
    pub(super) fn learn(&mut self, whole: WholeBuild) {
        self.whole = Some(whole);
    }

    /// The artifacts of these packages differ when they are built alone. Gives all such packages if
    /// this is news.
    pub(super) fn learn_inseparable(
        &mut self,
        key: Digest,
        specs: Vec<String>,
    ) -> Option<&InseparablePackages> {
        let is_of_now = self.whole.as_ref().is_some_and(|whole| whole.key == key);
        (is_of_now && self.inseparable.learn(key, specs)).then_some(&self.inseparable)
    }

    /// What to build before the rest, in this order; nothing if that saves no time.
    pub(super) fn choose(&self, key: Digest, now: Instant) -> Vec<PrebuildChoice> {
        let (Some(whole), Some((_, members))) = (&self.whole, &self.members) else {
            return Vec::new();
        };
        if whole.key != key || self.swept {
            return Vec::new();
        }
        let edited: Vec<_> = self
            .edits_by_package(members, true)
            .into_iter()
            .take(PREBUILD_PACKAGES)
            .map(|(p, _)| p)
            .collect();
        let graph = members.graph();
        let at: BTreeSet<_> = edited.iter().cloned().collect();
        let mut rest = dependents(&graph, &at);
        rest.retain(|name| whole.package(members, name).is_some());
        if edited.is_empty() || rest.is_empty() {
            return Vec::new();
        }
        let mut choices = Vec::new();
        choices.extend(self.choice(whole, members, edited, "edited"));
        // If little else is left, the whole build is as quick.
        if rest.len() > PREBUILD_PACKAGES + 1 {
            let next = self.predicted(now).into_iter().filter(|name| rest.contains(name));
            choices.extend(self.choice(
                whole,
                members,
                next.take(PREBUILD_PACKAGES).collect(),
                "next",
            ));
        }
        choices
    }

    /// The packages that will likely be wanted next, the likeliest first.
    pub(super) fn predicted(&self, now: Instant) -> Vec<String> {
        let Some((_, members)) = &self.members else { return Vec::new() };
        let event = |(package, when): (String, Instant)| Event {
            package,
            ago: now.saturating_duration_since(when).as_secs(),
        };
        let edits: Vec<_> = self.edits_by_package(members, false).into_iter().map(event).collect();
        let asked: Vec<_> = self.asked.iter().cloned().map(event).collect();
        let graph = members.graph();
        let evidence =
            Evidence { history: &self.history, edits: &edits, asked: &asked, graph: &graph };
        let ranked = predict(&evidence, &Weights::default());
        ranked.into_iter().map(|ranked| ranked.package).collect()
    }

    /// The packages that were edited last, the newest edit first.
    pub(super) fn edited_packages(&self) -> Vec<String> {
        let Some((_, members)) = &self.members else { return Vec::new() };
        let edited = self.edits_by_package(members, false).into_iter();
        edited.take(PREBUILD_PACKAGES).map(|(package, _)| package).collect()
    }

    /// The test programs of the likeliest packages.
    pub(super) fn programs(&self, now: Instant) -> Vec<PathBuf> {
        let (Some(whole), Some((_, members))) = (&self.whole, &self.members) else {
            return Vec::new();
        };
        let first = self.predicted(now);
        let packages =
            first.iter().take(PREBUILD_PACKAGES).filter_map(|name| whole.package(members, name));
        packages.flat_map(|local| local.programs.iter().cloned()).collect()
    }

    /// All test programs, the likeliest first.
    pub(super) fn all_programs(&self, now: Instant) -> Vec<PathBuf> {
        let local = self.whole.iter().flat_map(|whole| whole.local.values());
        let rest = local.flat_map(|local| local.programs.iter().cloned());
        let mut known = BTreeSet::new();
        let all = self.programs(now).into_iter().chain(rest);
        all.filter(|program| known.insert(program.clone())).collect()
    }

    /// Packages with their last edits, the newest first.
    fn edits_by_package(&self, members: &Members, unbuilt: bool) -> Vec<(String, Instant)> {
        let mut found: Vec<(String, Instant)> = Vec::new();
        for (file, when) in self.edits.iter().rev() {
            let Some(owner) = members.owner(file) else { continue };
            let wanted = !unbuilt || self.unbuilt.contains(file);
            if wanted && !found.iter().any(|(name, _)| *name == owner.name) {
                found.push((owner.name.clone(), *when));
            }
        }
        found
    }

    fn choice(
        &self,
        whole: &WholeBuild,
        members: &Members,
        mut packages: Vec<String>,
        why: &str,
    ) -> Option<PrebuildChoice> {
        packages.retain(|name| whole.package(members, name).is_some());
        let what = format!("{} ({why})", packages.join(", "));
        let found: Vec<_> =
            packages.iter().filter_map(|name| whole.package(members, name)).collect();
        let specs = |all: &[&LocalPackage]| {
            let mut specs: Vec<_> = all.iter().map(|local| local.spec.clone()).collect();
            specs.sort();
            specs
        };
        let filters: BTreeSet<_> =
            found.iter().flat_map(|local| local.filters.iter().cloned()).collect();
        let others = whole.companions(&filters).filter(|local| !found.contains(local));
        let together: Vec<_> = found.iter().copied().chain(others).collect();
        let ways = [(together, true), (found, false)];
        let (chosen, only_filters) = ways.into_iter().find(|(chosen, _)| {
            !chosen.is_empty() && !self.inseparable.holds(&whole.key, &specs(chosen))
        })?;
        let features = whole.features(members, &chosen);
        let (specs, units) = (specs(&chosen), Arc::clone(&whole.units));
        Some(PrebuildChoice { specs, filters, only_filters, features, what, units })
    }
}

/// The features that some packages have.
#[derive(Clone, Debug, Default)]
pub(super) struct PackageFeatures {
    /// By package.
    own: BTreeMap<String, BTreeSet<String>>,
    /// Their direct dependencies.
    needs: BTreeSet<String>,
    /// The packages of the workspace.
    members: BTreeSet<String>,
}

impl PackageFeatures {
    /// Whether cargo accepts this, as written after `--features`, for one of the packages. The
    /// features of packages outside the workspace are unknown: cargo may refuse those.
    pub(super) fn has(&self, feature: &str) -> bool {
        match feature.split_once('/') {
            None => self.own.values().any(|features| features.contains(feature)),
            Some((package, feature)) => match self.own.get(package) {
                Some(features) if features.contains(feature) => true,
                _ => self.needs.contains(package) || !self.members.contains(package),
            },
        }
    }
}

impl WholeBuild {
    /// Packages of programs, of which nothing is built if only these options are given. They take
    /// part in the choice of features, so that a package's artifacts are likelier those of the
    /// whole build.
    fn companions(&self, filters: &BTreeSet<String>) -> impl Iterator<Item = &LocalPackage> {
        let programs = self.local.values().filter(|local| !local.is_library);
        programs.filter(|local| local.filters.is_disjoint(filters))
    }

    fn features(&self, members: &Members, packages: &[&LocalPackage]) -> PackageFeatures {
        let mut features = PackageFeatures::default();
        for member in members.iter() {
            features.members.insert(member.name.clone());
            let local = self.local.get(&member.dir).filter(|local| packages.contains(local));
            if let Some(local) = local {
                features.own.insert(member.name.clone(), local.features.clone());
                features.needs.extend(member.dependencies.iter().cloned());
            }
        }
        features
    }

    /// A package by its name.
    fn package(&self, members: &Members, name: &str) -> Option<&LocalPackage> {
        let member = members.iter().find(|member| member.name == name)?;
        self.local.get(&member.dir)
    }
}

#[cfg(test)]
mod tests;
