//! A question about some packages in the place of one about the whole workspace.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::built_from::features;
use super::look_up::KnownTargets;
use crate::cache::{Record, WorkspacePlan};
use crate::compiler::Build;
use crate::model::TargetId;
use crate::verdict::facts::Question;
use crate::workspace::SelectionPart;

/// The packages of a workspace that must be built, and the targets of the others.
pub(in crate::verdict) struct Partial {
    /// The question about these packages alone.
    pub(in crate::verdict) question: Question,
    /// Their names.
    pub(in crate::verdict) packages: BTreeSet<String>,
    /// The records of all other targets.
    pub(in crate::verdict) answered: Vec<Arc<Record>>,
    /// All targets of the whole, in cargo's order.
    pub(in crate::verdict) order: Vec<TargetId>,
}

impl Partial {
    /// The packages of those targets that have no record. `None` if all packages have such a target, or
    /// cargo cannot be asked for these alone.
    pub(in crate::verdict) fn of(
        question: &Question,
        plan: &WorkspacePlan,
        known: &KnownTargets,
    ) -> Option<Self> {
        let missing = known.targets.iter().filter(|(_, found)| found.is_err());
        let packages: BTreeSet<String> = missing.map(|(id, _)| id.package.clone()).collect();
        if packages.is_empty() || plan.inseparable.contains(&packages) {
            return None;
        }
        let others = known.targets.iter().filter(|(id, _)| !packages.contains(&id.package));
        let answered: Vec<_> = others.filter_map(|(_, found)| found.clone().ok()).collect();
        if answered.is_empty() {
            return None;
        }
        let names: Vec<String> = packages.iter().cloned().collect();
        let asks_for_features = Cell::new(false);
        let selection = question.selection.narrowed(&SelectionPart {
            packages: &names,
            targets: &BTreeSet::new(),
            only_targets: false,
            has_feature: &|_| {
                asks_for_features.set(true);
                true
            },
        })?;
        // A feature of one package alone is an error for another.
        if asks_for_features.get() {
            return None;
        }
        let question = Question { selection, ..question.clone() };
        let order = known.targets.iter().map(|(id, _)| id.clone()).collect();
        Some(Self { question, packages, answered, order })
    }
}

/// Whether each unit of a build has the features that it has in the whole.
pub(in crate::verdict) fn has_features_of(plan: &WorkspacePlan, build: &Build) -> bool {
    let Some(built) = features(&build.products) else { return false };
    built.iter().all(|(unit, features)| plan.features.get(unit) == Some(features))
}
