//! What is made ready before the rest of the workspace: the package being edited, and those that
//! will be wanted next.
//!
//! A state without any input or output; [`super::ahead`] feeds it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::cache::InseparablePackages;
use crate::compiler::{Product, Units};
use crate::model::Digest;
use crate::predict::{Commit, Event, Evidence, Weights, dependents, predict};
use crate::workspace::Members;

/// More files than that at once are no edit by hand but a checkout, a generator or a formatter.
const BY_HAND: usize = 20;
/// How many packages are built first, and how many second.
const FIRST: usize = 3;
/// How many files and questions of a session are remembered.
const SESSION: usize = 200;

/// What a project's next builds can be decided by.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    pub(super) members: Option<(Digest, Arc<Members>)>,
    /// The commit that the history ends with.
    pub(super) head: Option<String>,
    pub(super) history: Vec<Commit>,
    /// Files that were edited in this session.
    edits: VecDeque<(PathBuf, Instant)>,
    asked: VecDeque<(String, Instant)>,
    /// Those of them that are in no build yet.
    unbuilt: BTreeSet<PathBuf>,
    /// So much changed since the last build that no file stands out.
    swept: bool,
    known: Option<Known>,
    /// Packages that are other ones when they are built by themselves.
    inseparable: InseparablePackages,
}

/// What the last whole build was made of.
#[derive(Clone, Debug)]
pub(in super::super) struct Known {
    /// Manifests, lock file, toolchain, environment and selection.
    pub(super) key: Digest,
    pub(super) units: Arc<Units>,
    /// The packages of the workspace that have tests, by their folders relative to the root.
    pub(super) local: BTreeMap<PathBuf, Local>,
}

/// A package as the last whole build had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Local {
    /// What `-p` takes.
    pub(super) spec: String,
    /// Its test programs.
    pub(super) programs: Vec<PathBuf>,
    /// What of cargo's options names these programs and no others of the package.
    pub(super) filters: BTreeSet<String>,
    /// Which of its features the whole enables: all that it has of those that are asked for.
    pub(super) features: BTreeSet<String>,
    /// Others can be built from it, and `--lib` means it.
    pub(super) is_library: bool,
}

impl Known {
    /// From a whole build that succeeded.
    pub(super) fn new(key: Digest, root: &Path, products: &[Product]) -> Self {
        let mut local: BTreeMap<PathBuf, Local> = BTreeMap::new();
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

/// Something to be built before the rest.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// What `-p` takes.
    pub(super) specs: Vec<String>,
    /// Options that name what the whole builds of these packages.
    pub(super) filters: BTreeSet<String>,
    /// Whether nothing else of them may be built.
    pub(super) only_filters: bool,
    pub(super) features: Features,
    /// As in "built globset (edited)".
    pub(super) what: String,
    /// What the whole is made of.
    pub(super) units: Arc<Units>,
}

impl Foresight {
    /// That of a project of which this is known from earlier.
    pub(super) fn new(inseparable: InseparablePackages) -> Self {
        Self { inseparable, ..Self::default() }
    }

    /// Files changed, relative to the root.
    pub(super) fn edited(&mut self, files: &[PathBuf], now: Instant) {
        if files.len() > BY_HAND {
            self.swept = true;
            return;
        }
        for file in files {
            self.edits.retain(|(known, _)| known != file);
            self.edits.push_back((file.clone(), now));
            self.unbuilt.insert(file.clone());
        }
        while self.edits.len() > SESSION {
            self.edits.pop_front();
        }
    }

    /// Somebody asked about a package by name.
    pub(super) fn asked(&mut self, package: String, now: Instant) {
        self.asked.retain(|(known, _)| *known != package);
        self.asked.push_back((package, now));
        while self.asked.len() > SESSION {
            self.asked.pop_front();
        }
    }

    /// The tree as it is is built, or needs no build.
    pub(super) fn is_built(&mut self) {
        self.unbuilt.clear();
        self.swept = false;
    }

    /// What a whole build was made of.
    pub(super) fn learn(&mut self, known: Known) {
        self.known = Some(known);
    }

    /// These packages are other ones when they are built by themselves. Gives all that is known
    /// of that, if this is news.
    pub(super) fn learn_inseparable(
        &mut self,
        key: Digest,
        specs: Vec<String>,
    ) -> Option<&InseparablePackages> {
        let is_of_now = self.known.as_ref().is_some_and(|known| known.key == key);
        (is_of_now && self.inseparable.learn(key, specs)).then_some(&self.inseparable)
    }

    /// What to build before the rest, in this order; nothing if there is no use in that.
    pub(super) fn choose(&self, key: Digest, now: Instant) -> Vec<Choice> {
        let (Some(known), Some((_, members))) = (&self.known, &self.members) else {
            return Vec::new();
        };
        if known.key != key || self.swept {
            return Vec::new();
        }
        let edited: Vec<_> =
            self.edits_by_package(members, true).into_iter().take(FIRST).map(|(p, _)| p).collect();
        let graph = members.graph();
        let at: BTreeSet<_> = edited.iter().cloned().collect();
        let mut rest = dependents(&graph, &at);
        rest.retain(|name| known.package(members, name).is_some());
        if edited.is_empty() || rest.is_empty() {
            return Vec::new();
        }
        let mut choices = Vec::new();
        choices.extend(self.choice(known, members, edited, "edited"));
        // Where little else is left, the whole is as quick.
        if rest.len() > FIRST + 1 {
            let next = self.predicted(now).into_iter().filter(|name| rest.contains(name));
            choices.extend(self.choice(known, members, next.take(FIRST).collect(), "next"));
        }
        choices
    }

    /// The likeliest packages, best first.
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

    /// The test programs of the packages that were edited or are likely to be, the likeliest first.
    pub(super) fn programs(&self, now: Instant) -> Vec<PathBuf> {
        let (Some(known), Some((_, members))) = (&self.known, &self.members) else {
            return Vec::new();
        };
        let first = self.predicted(now);
        let packages = first.iter().take(FIRST).filter_map(|name| known.package(members, name));
        packages.flat_map(|local| local.programs.iter().cloned()).collect()
    }

    /// All test programs, those that [`Self::programs`] names first.
    pub(super) fn all_programs(&self, now: Instant) -> Vec<PathBuf> {
        let local = self.known.iter().flat_map(|known| known.local.values());
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
        known: &Known,
        members: &Members,
        mut packages: Vec<String>,
        why: &str,
    ) -> Option<Choice> {
        packages.retain(|name| known.package(members, name).is_some());
        let what = format!("{} ({why})", packages.join(", "));
        let found: Vec<_> =
            packages.iter().filter_map(|name| known.package(members, name)).collect();
        let specs = |all: &[&Local]| {
            let mut specs: Vec<_> = all.iter().map(|local| local.spec.clone()).collect();
            specs.sort();
            specs
        };
        let filters: BTreeSet<_> =
            found.iter().flat_map(|local| local.filters.iter().cloned()).collect();
        let others = known.companions(&filters).filter(|local| !found.contains(local));
        let together: Vec<_> = found.iter().copied().chain(others).collect();
        let ways = [(together, true), (found, false)];
        let (chosen, only_filters) = ways.into_iter().find(|(chosen, _)| {
            !chosen.is_empty() && !self.inseparable.holds(&known.key, &specs(chosen))
        })?;
        let features = known.features(members, &chosen);
        let (specs, units) = (specs(&chosen), Arc::clone(&known.units));
        Some(Choice { specs, filters, only_filters, features, what, units })
    }
}

/// Which features can be asked for of some packages.
#[derive(Clone, Debug, Default)]
pub(super) struct Features {
    /// By package.
    own: BTreeMap<String, BTreeSet<String>>,
    /// What they are built from directly.
    needs: BTreeSet<String>,
    /// The packages of the workspace.
    members: BTreeSet<String>,
}

impl Features {
    /// Whether cargo takes this, as written after `--features`, for one of the packages. Of what
    /// is no package of the workspace that is not known: then cargo may refuse it.
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

impl Known {
    /// Packages that nothing is built of where only these options are given, but which have their
    /// say in the features: programs are built from most of a workspace. Beside them a package is
    /// likelier the same as in the whole.
    fn companions(&self, filters: &BTreeSet<String>) -> impl Iterator<Item = &Local> {
        let programs = self.local.values().filter(|local| !local.is_library);
        programs.filter(|local| local.filters.is_disjoint(filters))
    }

    fn features(&self, members: &Members, packages: &[&Local]) -> Features {
        let mut features = Features::default();
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
    fn package(&self, members: &Members, name: &str) -> Option<&Local> {
        let member = members.iter().find(|member| member.name == name)?;
        self.local.get(&member.dir)
    }
}

#[cfg(test)]
mod tests;
