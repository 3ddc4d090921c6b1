//! What cargo builds and runs for a workspace, remembered by everything that decides it: manifests,
//! lock file, names of targets, selection, toolchain. So it is known in a checkout in which nothing has
//! been built yet.
//!
//! A plan holds no path of a checkout. It decides no outcome: a record of the package level has a
//! key of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::memos::Memos;
use super::{Cache, Input};
use crate::model::{Digest, OsText, TargetId};

/// So many plans are remembered. Then all are forgotten, and builds of the whole make them again.
const MOST_PLANS: usize = 512;

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
    /// Sets of packages that have other features without the rest of the workspace.
    pub inseparable: BTreeSet<BTreeSet<String>>,
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

impl Cache {
    /// The plan with this digest.
    #[must_use]
    pub(crate) fn plan(&self, digest: &Digest) -> Option<WorkspacePlan> {
        memos(&self.layout).get(digest)
    }

    /// Remembers a plan. If it cannot be written, the whole is built the next time.
    pub(crate) fn store_plan(&self, digest: &Digest, plan: &WorkspacePlan) {
        memos(&self.layout).put(digest, plan);
    }
}

/// The memos of this kind.
pub(super) fn memos(layout: &Layout) -> Memos {
    Memos { folder: layout.plans(), format: "plan 2", most: MOST_PLANS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_found_again_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path());
        let digest = Digest::of(b"plan");
        assert_eq!(cache.plan(&digest), None);
        let plan = WorkspacePlan {
            packages: vec![PackagePlan { name: "a".to_owned(), folder: OsText::from("a") }],
            features: [("a lib".to_owned(), [vec!["f".to_owned()]].into())].into(),
            ..WorkspacePlan::default()
        };
        cache.store_plan(&digest, &plan);
        assert_eq!(cache.plan(&digest), Some(plan));
        assert_eq!(cache.plan(&Digest::of(b"other")), None);
        let file = memos(&cache.layout).file(&digest);
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 3]).unwrap();
        assert_eq!(cache.plan(&digest), None, "cut off");
        memos(&cache.layout).forget();
        assert!(!cache.layout.plans().exists());
    }
}
