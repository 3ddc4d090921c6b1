//! What cargo builds and runs for a workspace, remembered by everything that decides it: manifests,
//! lock file, names of targets, selection, toolchain. So it is known in a checkout in which nothing has
//! been built yet.
//!
//! A plan holds no path of a checkout. It decides no outcome: a record of the package level has a
//! key of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Input;
use crate::model::{OsText, TargetId};

/// What cargo built and ran for a selection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkspacePlan {
    /// The packages whose sources lie in the workspace or beside it.
    pub packages: Vec<PackagePlan>,
    /// The test targets, in cargo's order.
    pub targets: Vec<TargetPlan>,
    /// The features of each unit, by its package, target and kind; several where a unit is built
    /// for the host as well.
    pub features: BTreeMap<String, BTreeSet<Vec<String>>>,
    /// The names of the files that cargo puts where programs may look for them.
    pub products: BTreeSet<String>,
    /// The names that the build went by, and what else lies in the workspace and decides what is
    /// built.
    pub names: Vec<Input>,
    /// The packages that have programs and no test target.
    pub untested: BTreeSet<String>,
    /// Sets of packages that have other features without the rest of the workspace.
    pub inseparable: BTreeSet<BTreeSet<String>>,
}

impl WorkspacePlan {
    /// The packages besides its own that this target counts as built from. One target has all that have no
    /// target themselves: nothing else would show that their programs can still be built.
    pub(crate) fn carried_by(&self, id: &TargetId) -> &BTreeSet<String> {
        static NONE: BTreeSet<String> = BTreeSet::new();
        if self.carrier() == Some(id) { &self.untested } else { &NONE }
    }

    /// The target that carries packages; none if there is nothing to carry.
    pub(crate) fn carrier(&self) -> Option<&TargetId> {
        let ids = self.targets.iter().map(|target| &target.id);
        carrier_of(ids).filter(|_| !self.untested.is_empty())
    }
}

/// The one of these targets that would carry packages: the same on all machines.
pub(crate) fn carrier_of<'t>(ids: impl Iterator<Item = &'t TargetId>) -> Option<&'t TargetId> {
    ids.min()
}

/// A package of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackagePlan {
    /// Its name.
    pub name: String,
    /// Its folder, from the workspace's root.
    pub folder: OsText,
}

/// A test target of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetPlan {
    /// The target.
    pub id: TargetId,
    /// The packages that it is built from, by their places in the plan.
    pub built_from: BTreeSet<usize>,
    /// What its key is made of.
    pub basis: KeyBasis,
    /// Why its key holds more than the packages, for a person; empty if it does not.
    #[serde(default)]
    pub wider_because: String,
    /// Whether nothing that it is built with can see a plain comment in a source.
    #[serde(default)]
    pub ignores_comments: bool,
    /// The packages of the workspace's build scripts, if these alone make it count with the whole tree and it
    /// is known when cargo runs them again.
    #[serde(default)]
    pub here: Option<BTreeSet<usize>>,
    /// Whether a run of it beside a part of the workspace would not be believed: of its last green run not all
    /// is known that it consulted, or that were products of packages that it is not built from.
    #[serde(default)]
    pub needs_whole: bool,
}

/// What the key of a target at the package level is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum KeyBasis {
    /// The packages that it is built from.
    Packages,
    /// These packages and all variables: a build script or a macro may ask for any.
    Variables,
    /// The whole tree and all variables: a build script or a macro may read any file.
    Tree,
}
