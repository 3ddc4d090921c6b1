//! A question about some packages, or some targets of them, in the place of one about the whole workspace.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::built_from::features;
use super::look_up::{BuildScope, KnownTargets};
use crate::cache::{Record, WorkspacePlan};
use crate::compiler::Build;
use crate::model::{TargetId, TargetKind, TargetReport};
use crate::workspace::{Selection, SelectionPart};

/// The part of a workspace that must be built, and the targets that need not run.
pub(in crate::verdict) struct Partial {
    /// What cargo is asked for.
    pub(in crate::verdict) selection: Selection,
    /// The names of its packages.
    pub(in crate::verdict) packages: BTreeSet<String>,
    /// The targets that it runs.
    pub(in crate::verdict) runs: BTreeSet<TargetId>,
    pub(in crate::verdict) scope: BuildScope,
    /// The records of the targets that need not run.
    pub(in crate::verdict) answered: Vec<Arc<Record>>,
    /// All targets of the whole, in cargo's order.
    pub(in crate::verdict) order: Vec<TargetId>,
}

impl Partial {
    /// The targets that have no record, with the rest of their packages if need be. `None` if that is the
    /// whole, cargo cannot be asked for it alone, or it is known that a run of it would not be believed.
    ///
    /// With `may_split`, the targets alone are built where records answer for others of their packages: those
    /// show that the rest of the packages can be built.
    pub(in crate::verdict) fn of(
        whole: &Selection,
        plan: &WorkspacePlan,
        known: &KnownTargets,
        may_split: bool,
    ) -> Option<Self> {
        let missing = known.targets.iter().filter(|(_, found)| found.is_err());
        let missing: BTreeSet<TargetId> = missing.map(|(id, _)| id.clone()).collect();
        let mut packages: BTreeSet<String> = missing.iter().map(|id| id.package.clone()).collect();
        let carrier = plan.carrier();
        let may_split = may_split && carrier.is_none_or(|id| !missing.contains(id));
        let options = may_split.then(|| options_of(&missing, &packages, known)).flatten();
        let (scope, runs) = match &options {
            Some(_) => (BuildScope::Targets, missing),
            None => {
                let of_packages = known.targets.iter().map(|(id, _)| id);
                let of_packages = of_packages.filter(|id| packages.contains(&id.package));
                (BuildScope::Packages, of_packages.cloned().collect())
            }
        };
        if plan.targets.iter().any(|target| target.needs_whole && runs.contains(&target.id)) {
            return None;
        }
        if carrier.is_some_and(|id| runs.contains(id)) {
            packages.extend(plan.untested.iter().cloned());
        }
        if packages.is_empty() || plan.inseparable.contains(&packages) {
            return None;
        }
        let selection = narrowed(whole, &packages, options.as_ref())?;
        let others = known.targets.iter().filter(|(id, _)| !runs.contains(id));
        let answered: Vec<_> = others.filter_map(|(_, found)| found.clone().ok()).collect();
        if answered.is_empty() {
            return None;
        }
        let order = known.targets.iter().map(|(id, _)| id.clone()).collect();
        Some(Self { selection, packages, runs, scope, answered, order })
    }

    /// Whether the records still answer that did before the rest ran.
    pub(in crate::verdict) fn is_answered_by(&self, known: &KnownTargets) -> bool {
        let is_known = |report: &TargetReport| {
            known.targets.iter().any(|(id, found)| *id == report.id && found.is_ok())
        };
        self.answered.iter().flat_map(|record| &record.targets).all(is_known)
    }
}

/// Cargo's options that select these targets of the packages, and no others. `None` if there are none, or a
/// package has no record that shows that the rest of it can be built.
fn options_of(
    missing: &BTreeSet<TargetId>,
    packages: &BTreeSet<String>,
    known: &KnownTargets,
) -> Option<BTreeSet<String>> {
    let options: BTreeSet<String> = missing.iter().map(option_of).collect::<Option<_>>()?;
    let answered = known.targets.iter().filter(|(_, found)| found.is_ok());
    let answered: Vec<&TargetId> =
        answered.map(|(id, _)| id).filter(|id| packages.contains(&id.package)).collect();
    let has_record = |package: &String| answered.iter().any(|id| id.package == *package);
    let is_selected =
        |id: &&TargetId| option_of(id).is_some_and(|option| options.contains(&option));
    // The option selects the libraries of all packages, those too that have no tests.
    let selects_more =
        answered.iter().any(is_selected) || (packages.len() > 1 && options.contains(LIB));
    (packages.iter().all(has_record) && !selects_more).then_some(options)
}

/// The selection of these packages, or only of what `options` name of them. `None` if cargo cannot be asked
/// for them alone.
fn narrowed(
    whole: &Selection,
    packages: &BTreeSet<String>,
    options: Option<&BTreeSet<String>>,
) -> Option<Selection> {
    let packages: Vec<String> = packages.iter().cloned().collect();
    let asks_for_features = Cell::new(false);
    let selection = whole.narrowed(&SelectionPart {
        packages: &packages,
        targets: options.unwrap_or(&BTreeSet::new()),
        only_targets: options.is_some(),
        has_feature: &|_| {
            asks_for_features.set(true);
            true
        },
    });
    // A feature of one package alone is an error for another.
    selection.filter(|_| !asks_for_features.get())
}

/// Cargo's option that selects libraries.
const LIB: &str = "--lib";

/// Cargo's option that selects a target. `None` for examples in documentation, which cargo builds with no
/// other target, and for one of several platforms.
fn option_of(id: &TargetId) -> Option<String> {
    let TargetId { target, kind, .. } = id;
    match kind {
        _ if target.contains('@') => None,
        TargetKind::Lib => Some(LIB.to_owned()),
        TargetKind::Bin | TargetKind::Test | TargetKind::Example | TargetKind::Bench => {
            Some(format!("--{kind}={target}"))
        }
        TargetKind::Doc => None,
    }
}

/// Whether each unit of a build has the features that it has in the whole.
pub(in crate::verdict) fn has_features_of(plan: &WorkspacePlan, build: &Build) -> bool {
    let Some(built) = features(&build.products) else { return false };
    built.iter().all(|(unit, features)| plan.features.get(unit) == Some(features))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{KeyBasis, TargetPlan};

    /// Targets by `package kind name`; those with a `+` have a record.
    fn known(targets: &[&str]) -> KnownTargets {
        let target = |words: &&str| {
            let (words, has_record) =
                words.strip_suffix('+').map_or((*words, false), |words| (words, true));
            let [package, kind, target] = *words.split(' ').collect::<Vec<_>>() else { panic!() };
            let kind = kind.parse().unwrap();
            let id = TargetId { package: package.into(), target: target.into(), kind };
            let report = TargetReport { id: id.clone(), ..TargetReport::sample(&[]) };
            let record = Arc::new(Record::sample(report));
            (id, if has_record { Ok(record) } else { Err("changed".to_owned()) })
        };
        KnownTargets { targets: targets.iter().map(target).collect() }
    }

    fn part(plan: &WorkspacePlan, targets: &[&str], may_split: bool) -> Option<Partial> {
        let whole = Selection::parse("/w", ["--workspace".into()]);
        Partial::of(&whole, plan, &known(targets), may_split)
    }

    /// The words that cargo gets, and the targets that are answered.
    fn told(part: Option<Partial>) -> Option<(String, Vec<String>)> {
        let part = part?;
        let words: Vec<_> =
            part.selection.cargo.iter().map(|word| word.to_str().unwrap()).collect();
        let answered = part.answered.iter().map(|record| record.targets[0].id.to_string());
        Some((words.join(" "), answered.collect()))
    }

    fn some(words: &str, answered: &[&str]) -> Option<(String, Vec<String>)> {
        Some((words.to_owned(), answered.iter().map(|id| (*id).to_owned()).collect()))
    }

    #[test]
    fn targets_without_a_record_are_built_alone_beside_others_of_their_package() {
        let plan = WorkspacePlan::default();
        let of = |targets: &[&str], may_split| told(part(&plan, targets, may_split));
        let all = ["a lib a+", "a test it", "a example e", "b lib b+", "c bin c", "c test c+"];
        let expected = some("-p a -p c --bin=c --example=e --test=it", &["a", "b", "c::c"]);
        assert_eq!(of(&all, true), expected);
        assert_eq!(of(&all, false), some("-p a -p c", &["b"]));
        assert_eq!(of(&["a lib x", "a bench b+"], true), some("-p a --lib", &["a::bench/b"]));
        let lib = of(&["a lib x", "a bench b+", "b lib b"], true);
        assert_eq!(lib, None, "of `b` nothing is known, and both as a whole are all");
    }

    #[test]
    fn whole_packages_are_built_where_cargo_would_select_other_targets_with_these() {
        let plan = WorkspacePlan::default();
        let doc = ["a lib a+", "a doc a", "b lib b+"];
        let same = ["a lib a+", "a test it", "c test it+", "c bin c", "b lib b+"];
        let libs = ["a lib a", "a test it+", "c test it", "c lib c+", "b lib b+"];
        let platform = ["a lib a+", "a test it@x86_64-unknown-linux-gnu", "b lib b+"];
        for (targets, packages) in
            [(&doc[..], "-p a"), (&same, "-p a -p c"), (&libs, "-p a -p c"), (&platform, "-p a")]
        {
            assert_eq!(told(part(&plan, targets, true)), some(packages, &["b"]), "{targets:?}");
        }
    }

    #[test]
    fn nothing_is_a_part_of_itself() {
        let plan = WorkspacePlan::default();
        assert!(part(&plan, &["a lib a+", "b lib b+"], true).is_none());
        assert!(part(&plan, &["a lib a", "b lib b"], true).is_none());
        assert!(part(&plan, &[], true).is_none());
    }

    /// A plan of these targets.
    fn plan_of(targets: &[&str]) -> WorkspacePlan {
        let target = |(id, _): (TargetId, _)| TargetPlan {
            id,
            built_from: BTreeSet::new(),
            basis: KeyBasis::Packages,
            wider_because: String::new(),
            ignores_comments: false,
            here: None,
            needs_whole: false,
        };
        let targets = known(targets).targets.into_iter().map(target).collect();
        WorkspacePlan { targets, ..WorkspacePlan::default() }
    }

    #[test]
    fn what_is_built_for_no_target_is_built_with_the_one_that_carries_it() {
        let with = |targets: &[&str], inseparable: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let inseparable = BTreeSet::from([names(inseparable)]);
            let plan = WorkspacePlan { untested: names(&["x"]), inseparable, ..plan_of(targets) };
            told(part(&plan, targets, true))
        };
        let carrier = ["b lib b+", "a lib a", "a test it+"];
        assert_eq!(with(&carrier, &[]), some("-p a -p x", &["b"]));
        assert_eq!(with(&carrier, &["a", "x"]), None);
        let other = ["b lib b+", "a lib a+", "a test it"];
        assert_eq!(with(&other, &[]), some("-p a --test=it", &["b", "a"]));
        let with_all = ["b lib b+", "a lib a+", "a test it", "a doc a"];
        assert_eq!(with(&with_all, &[]), some("-p a -p x", &["b"]), "its carrier runs too");
        let none = ["b lib b", "a lib a+", "c lib c+"];
        assert_eq!(with(&none, &[]), some("-p b", &["a", "c"]));
    }

    #[test]
    fn a_target_of_which_not_all_is_known_is_run_with_the_whole() {
        let targets = ["a lib a", "a test it", "b lib b+"];
        let mut plan = plan_of(&targets);
        assert_eq!(told(part(&plan, &targets, true)), some("-p a", &["b"]));
        plan.targets[1].needs_whole = true;
        assert!(part(&plan, &targets, true).is_none());
        let others = ["a lib a", "a test it+", "b lib b+"];
        assert_eq!(told(part(&plan, &others, true)), some("-p a --lib", &["a::it", "b"]));
        assert!(part(&plan, &others, false).is_none(), "it runs with its package");
    }

    #[test]
    fn what_answered_must_still_answer_once_the_rest_has_run() {
        let plan = WorkspacePlan::default();
        let part = part(&plan, &["a lib a+", "a test it", "b lib b+"], true).unwrap();
        assert!(part.is_answered_by(&known(&["a lib a+", "a test it", "b lib b+"])));
        assert!(!part.is_answered_by(&known(&["a lib a", "a test it+", "b lib b+"])));
        assert!(!part.is_answered_by(&known(&["a test it+", "b lib b+"])));
    }
}
