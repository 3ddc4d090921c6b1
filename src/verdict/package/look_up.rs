//! Records of the package level: found, stored and disproved here and nowhere else.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::built_from::BuiltPackages;
use super::code::{CodeDigests, SourceReaders};
use super::inputs::TargetFiles;
use super::key::{KeyMaker, counted_variables, has_test_flag, plan_digest};
use super::listing::SourceListing;
use crate::cache::{
    Cache, Input, KeyBasis, KnownMentions, Limits, Lookup, MissReason, Record, RecordKey,
    TargetPlan, WorkspacePlan,
};
use crate::compiler::{Build, BuiltScript};
use crate::hasher::Manifest;
use crate::model::{Digest, TargetId, TargetReport, Timestamp, Verdict};
use crate::process::Environment;
use crate::verdict::ProjectTree;
use crate::verdict::binary::packages_text;
use crate::verdict::environment::{AskedEnvironment, EnvironmentJudge};
use crate::verdict::facts::{Facts, Question};
use crate::verdict::fingerprint::Fingerprints;
use crate::verdict::key::code_hash;
use crate::verdict::look_up::LookUp;
use crate::verdict::obstacles::{BarredTargets, obstacle_here};
use crate::verdict::provenance::Proof;

/// The part of a record's identity that says by which plan it was made.
pub(super) const PLAN: &str = "plan";

/// Why no record of another machine answers for packages that have failed here.
const RED: &str = "it failed here, and has not been green since";

/// A record of another machine, with what its signer says of files in these states.
pub(in crate::verdict) type AdoptedRecord = (Arc<Record>, Vec<(Digest, KnownMentions)>);

/// The package level of one tree.
pub(in crate::verdict) struct PackageLevel<'a> {
    pub(super) cache: &'a Cache,
    pub(super) question: &'a Question,
    pub(super) facts: &'a Facts,
    pub(super) tree: Digest,
    pub(super) listing: SourceListing,
    code: OnceLock<CodeDigests>,
    pub(super) digest: Digest,
    /// The plan of the last build of this kind, if there was one.
    pub(super) plan: Option<WorkspacePlan>,
    plan_author: PlanAuthor,
    /// What the plan of other machines says of the targets, of which their keys are made.
    shared_targets: BTreeMap<TargetId, TargetPlan>,
    /// Records of other machines, whose inputs are here what they were there.
    shared: BTreeMap<RecordKey, Arc<Record>>,
    /// What their signers say of files that are not here: which variables these can name.
    told: BTreeMap<Digest, KnownMentions>,
}

/// The author of the plan of what is built. Only a plan that a build here made is kept.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum PlanAuthor {
    /// A build of this machine.
    #[default]
    Build,
    /// The store, in an object that this machine's key has signed.
    OwnKey,
    /// The store, in another signer's object.
    OtherSigner,
}

/// What the records say of all targets of a plan.
pub(in crate::verdict) struct KnownTargets {
    /// Each with its record, or why it has none.
    pub(in crate::verdict) targets: Vec<(TargetId, Result<Arc<Record>, String>)>,
}

impl KnownTargets {
    /// What was found. Of a package, nothing answers without a record of a build of the whole package: no
    /// other one shows that its other targets can still be built.
    fn of(found: impl Iterator<Item = (TargetId, Result<Arc<Record>, String>)>) -> Self {
        let mut targets: Vec<_> = found.collect();
        let shows = |found: &Result<Arc<Record>, String>| {
            found.as_ref().is_ok_and(|record| !record.products.without_siblings)
        };
        let shown = targets.iter().filter(|(_, found)| shows(found));
        let shown: BTreeSet<String> = shown.map(|(id, _)| id.package.clone()).collect();
        for (id, found) in &mut targets {
            if found.is_ok() && !shown.contains(&id.package) {
                *found = Err("its package was not built as a whole".to_owned());
            }
        }
        Self { targets }
    }

    /// All records; none unless each target has one.
    fn all(self) -> Option<Vec<Arc<Record>>> {
        let records = self.targets.into_iter().map(|(_, found)| found.ok());
        records.collect::<Option<Vec<_>>>().filter(|records| !records.is_empty())
    }
}

/// A run of targets that were built from the tree as it is.
pub(in crate::verdict) struct ProvenRun<'a> {
    pub(in crate::verdict) build: &'a Build,
    /// When the build began.
    pub(in crate::verdict) built_at: SystemTime,
    /// The records of green targets at the binary level.
    pub(in crate::verdict) records: &'a [Record],
    pub(in crate::verdict) limits: Limits,
    /// The part of the build that is proven to be made from the tree as it is.
    pub(in crate::verdict) proof: Proof,
    pub(in crate::verdict) scope: BuildScope,
    /// The targets that were green.
    pub(in crate::verdict) green: BTreeSet<TargetId>,
}

/// What was built for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::verdict) enum BuildScope {
    /// All that the selection builds of the packages whose targets ran.
    Packages,
    /// Only the targets that ran, and what cargo needs for them.
    Targets,
}

/// The key of a target on all machines.
#[derive(Clone, Debug)]
pub(in crate::verdict) struct SharedKey {
    pub(in crate::verdict) key: RecordKey,
    /// The variables that are in this machine's own key.
    pub(in crate::verdict) counted: BTreeSet<String>,
}

/// A record whose key would hold the packages alone, were it known what these build scripts consult.
#[derive(Clone, Debug)]
pub(in crate::verdict) struct ScriptedRecord {
    pub(in crate::verdict) record: Record,
    pub(in crate::verdict) basis: KeyBasis,
    pub(in crate::verdict) scripts: BTreeSet<BuiltScript>,
}

/// What is kept of a run.
#[derive(Clone, Debug, Default)]
pub(in crate::verdict) struct KeptPackages {
    pub(in crate::verdict) records: Vec<Record>,
    /// Those of the records that could be narrower.
    pub(in crate::verdict) scripted: BTreeMap<TargetId, ScriptedRecord>,
    /// The targets that have no record, and why.
    pub(in crate::verdict) refused: Vec<String>,
}

impl<'a> PackageLevel<'a> {
    /// The level for the snapshot `tree_digest`. `None` if its files are not known one by one, or
    /// none of its targets can have a record.
    pub(in crate::verdict) async fn at<T: ProjectTree>(
        cache: &'a Cache,
        question: &'a Question,
        facts: &'a Facts,
        tree: &mut T,
        tree_digest: &Digest,
    ) -> Option<Self> {
        let code_hash = code_hash(tree_digest, &facts.identity);
        let manifest = match listing_kept(cache, code_hash) {
            Some(manifest) => manifest,
            None => {
                tree.keep_listing(cache, tree_digest, &code_hash).await;
                listing_kept(cache, code_hash)?
            }
        };
        Self::of(cache, question, facts, &manifest, tree_digest)
    }

    /// The level for the snapshot `tree_digest`, if its list is kept.
    pub(in crate::verdict) fn kept(
        cache: &'a Cache,
        question: &'a Question,
        facts: &'a Facts,
        tree_digest: &Digest,
    ) -> Option<Self> {
        let manifest = listing_kept(cache, code_hash(tree_digest, &facts.identity))?;
        Self::of(cache, question, facts, &manifest, tree_digest)
    }

    /// The level for the snapshot `tree_digest`, of which `manifest` is the list.
    pub(in crate::verdict) fn of(
        cache: &'a Cache,
        question: &'a Question,
        facts: &'a Facts,
        manifest: &Manifest,
        tree_digest: &Digest,
    ) -> Option<Self> {
        let listing = SourceListing::of(manifest, &question.root, &facts.target_dirs);
        let digest = plan_digest(question, facts, &listing)?;
        let plan = cache.memo(&digest);
        Some(Self {
            cache,
            question,
            facts,
            tree: *tree_digest,
            listing,
            code: OnceLock::new(),
            digest,
            plan,
            plan_author: PlanAuthor::Build,
            shared_targets: BTreeMap::new(),
            shared: BTreeMap::new(),
            told: BTreeMap::new(),
        })
    }

    /// The code hash of the tree.
    pub(in crate::verdict) fn code_hash(&self) -> Digest {
        code_hash(&self.tree, &self.facts.identity)
    }

    /// The digest by which the plan is found.
    pub(in crate::verdict) fn plan_digest(&self) -> Digest {
        self.digest
    }

    /// The digest of the tree.
    pub(in crate::verdict) fn tree(&self) -> Digest {
        self.tree
    }

    /// The keys of all targets of a plan without any variable, so that other machines agree on them;
    /// with the names of the variables that count instead.
    pub(in crate::verdict) fn shared_keys(
        &self,
        plan: &WorkspacePlan,
    ) -> BTreeMap<TargetId, SharedKey> {
        let question = Question { environment: Environment::default(), ..self.question.clone() };
        let keys = self.keys_for(&question, plan);
        let key = |target: &TargetPlan| {
            let counted = counted_variables(self.question, target.basis);
            Some((target.id.clone(), SharedKey { key: keys.key(target)?, counted }))
        };
        plan.targets.iter().filter_map(key).collect()
    }

    /// Takes over what other machines have proven, for this question alone: the plan where none is
    /// known here, and of what their keys are made. `is_own`: it was signed with this machine's key.
    pub(in crate::verdict) fn adopt_plan(&mut self, plan: WorkspacePlan, is_own: bool) {
        let targets = plan.targets.iter();
        self.shared_targets = targets.map(|target| (target.id.clone(), target.clone())).collect();
        if self.plan.is_none() {
            self.plan = Some(plan);
            self.plan_author = if is_own { PlanAuthor::OwnKey } else { PlanAuthor::OtherSigner };
        }
    }

    /// Whether what is built is known by another signer's word.
    pub(in crate::verdict) fn has_plan_of_others(&self) -> bool {
        self.plan_author == PlanAuthor::OtherSigner
    }

    /// The keys under which other machines may have records of the targets.
    pub(in crate::verdict) fn keys_of_others(&self) -> BTreeMap<TargetId, SharedKey> {
        let Some(mut plan) = self.plan.clone() else { return BTreeMap::new() };
        for target in &mut plan.targets {
            if let Some(there) = self.shared_targets.get(&target.id) {
                target.clone_from(there);
            }
        }
        self.shared_keys(&plan)
    }

    /// Takes over the records that `find` finds, and for them alone what their signers say of files.
    pub(in crate::verdict) fn adopt(
        &mut self,
        mut find: impl FnMut(&TargetId, RecordKey) -> Option<AdoptedRecord>,
    ) {
        let Some(plan) = &self.plan else { return };
        let keys = self.keys(plan);
        let keys = plan.targets.iter().filter_map(|target| Some((&target.id, keys.key(target)?)));
        for (target, key) in keys {
            let Some((record, told)) = find(target, key) else { continue };
            self.shared.insert(key, record);
            for (state, known) in told {
                self.told.entry(state).or_insert(known);
            }
        }
    }

    /// The plan, if one is known.
    pub(in crate::verdict) fn plan(&self) -> Option<&WorkspacePlan> {
        self.plan.as_ref()
    }

    pub(super) fn keys(&self, plan: &WorkspacePlan) -> KeyMaker {
        self.keys_for(self.question, plan)
    }

    fn keys_for(&self, question: &Question, plan: &WorkspacePlan) -> KeyMaker {
        let Self { facts, listing, digest, tree, .. } = self;
        let keys = KeyMaker::new(question, facts, listing, *digest, plan, *tree);
        match plan.targets.iter().any(|target| target.ignores_comments || target.here.is_some()) {
            true => {
                let has_test_flag = has_test_flag(question, facts);
                keys.with_code(listing, plan, self.code(), has_test_flag)
            }
            false => keys,
        }
    }

    /// The sources without comments.
    fn code(&self) -> &CodeDigests {
        let Self { listing, question, cache, .. } = self;
        self.code.get_or_init(|| CodeDigests::of(listing, &question.root, cache))
    }

    pub(super) fn source_readers(&self) -> SourceReaders<'_> {
        SourceReaders {
            root: &self.question.root,
            cache: self.cache,
            listing: &self.listing,
            code: self.code(),
            has_wrapper: self.facts.toolchain.has_wrapper(),
            known: RefCell::default(),
        }
    }

    /// What the records say of all targets.
    ///
    /// # Errors
    /// Why it is not known which targets there are.
    pub(in crate::verdict) fn find(&self) -> Result<KnownTargets, String> {
        let (plan, mut search) = self.search()?;
        let mut find = |target: &TargetPlan| {
            let found = search.find(target).map_err(|why| match &*target.wider_because {
                "" => why,
                because => format!("{why}; {because}"),
            });
            (target.id.clone(), found)
        };
        Ok(KnownTargets::of(plan.targets.iter().map(&mut find)))
    }

    /// The records that answer for those targets that `is_wanted` names, once a build of the whole has
    /// succeeded. None of another machine: the whole's record would outlive the trust in its signer.
    pub(in crate::verdict) fn find_after_build(
        &self,
        is_wanted: impl Fn(&TargetId) -> bool,
    ) -> BTreeMap<TargetId, Arc<Record>> {
        let Ok((plan, mut search)) = self.search() else { return BTreeMap::new() };
        let wanted = plan.targets.iter().filter(|target| is_wanted(&target.id));
        let mut find = |target: &TargetPlan| {
            search.find(target).ok().or_else(|| {
                let key = search.keys.key_after_build(target)?;
                search.find_by(target, key).ok()
            })
        };
        let found = wanted.filter_map(|target| Some((target.id.clone(), find(target)?)));
        found.filter(|(_, record)| !self.is_of_others(record)).collect()
    }

    /// Whether this very record is another machine's.
    fn is_of_others(&self, record: &Arc<Record>) -> bool {
        self.shared.get(&record.key).is_some_and(|shared| Arc::ptr_eq(shared, record))
    }

    /// The records of all targets, in cargo's order. `None` as soon as one of them has none.
    pub(in crate::verdict) fn find_all(&self) -> Option<Vec<Arc<Record>>> {
        if !self.has_records() {
            return None;
        }
        let (plan, mut search) = self.search().ok()?;
        let found = plan.targets.iter().map(|target| {
            let record = search.find(target).ok()?;
            Some((target.id.clone(), Ok(record)))
        });
        let found: Vec<_> = found.collect::<Option<_>>()?;
        KnownTargets::of(found.into_iter()).all()
    }

    /// Begins a search for records of the plan's targets.
    fn search(&self) -> Result<(&WorkspacePlan, Search<'_>), String> {
        let plan = self.plan.as_ref();
        let plan = plan.ok_or("no build of the whole with these manifests is known")?;
        let mut fingerprints = Fingerprints::new(&self.question.settings);
        if let Some(changed) = fingerprints.first_changed(&self.question.root, &plan.names) {
            return Err(format!("the names in `{}` changed", changed.path.display()));
        }
        let Self { cache, question, facts, .. } = *self;
        if (LookUp { cache, question, facts }).has_changed_product(&self.tree) {
            return Err("something changed after it was built".to_owned());
        }
        let judge = || EnvironmentJudge::of(self.cache, self.question, self.facts);
        let search = Search {
            level: self,
            barred: self.barred(),
            keys: self.keys(plan),
            asked: AskedEnvironment::of(self.question),
            judge: judge(),
            judge_of_others: EnvironmentJudge { told: self.told.clone(), ..judge() },
            fingerprints,
        };
        Ok((plan, search))
    }

    /// Whether each target of the plan has a record, whatever that says: a look that costs little.
    pub(in crate::verdict) fn has_records(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| {
            let keys = self.keys(plan);
            let has_record = |key: RecordKey| self.cache.holds(&key);
            let of = |target| [keys.key(target), keys.key_here(target)].into_iter().flatten();
            plan.targets.iter().all(|target| of(target).any(has_record))
        })
    }

    /// The targets that must run whatever the records say.
    pub(super) fn barred(&self) -> BarredTargets {
        let Question { root, settings, .. } = self.question;
        BarredTargets::of(settings, &self.cache.state(root))
    }

    /// Notes that the record serves this tree of this project too.
    pub(in crate::verdict) fn claim(&self, record: &Record) {
        // Another machine's is not kept here.
        if self.shared.contains_key(&record.key) {
            return;
        }
        let code_hash = self.code_hash();
        // If it cannot be written, retention may remove the record earlier: no harm now.
        let _ = self.cache.claim(&self.question.root, code_hash, record, Timestamp::now());
    }

    /// Removes the green records of those targets that `is_red` names: a run or a build has failed.
    pub(in crate::verdict) fn disprove(&self, is_red: impl Fn(&TargetId) -> bool) {
        let Some(plan) = &self.plan else { return };
        let keys = self.keys(plan);
        for target in plan.targets.iter().filter(|target| is_red(&target.id)) {
            let all = keys.all(target).into_iter();
            all.filter(|key| !self.is_red(key)).for_each(|key| self.cache.disprove(&key));
        }
    }

    /// Remembers that a run of a target has failed. Until a run of it is green, no record of another machine
    /// answers for the packages that it is built from.
    pub(in crate::verdict) fn note_red(&self, report: &TargetReport, limits: Limits) {
        let Some(plan) = &self.plan else { return };
        let keys = self.keys(plan);
        for target in plan.targets.iter().filter(|target| target.id == report.id) {
            for key in keys.of_packages(target) {
                let report = TargetReport { output: String::new(), stderr: None, ..report.clone() };
                let (root, selection) = (&self.question.root, red_text(&report.id));
                let made = Record::new(key, root, self.code_hash(), selection, vec![report]);
                // Whatever the report says, it never answers.
                let red = Record { verdict: Verdict::Fail, ..made };
                if let Err(error) = self.cache.store(&red, limits) {
                    tracing::debug!(%error, "a red run of a target is not remembered");
                }
            }
        }
    }

    /// Forgets red runs of this target: a run of it is green.
    pub(super) fn forget_red(&self, keys: &KeyMaker, target: &TargetPlan) {
        let red = self.red(keys, target);
        red.for_each(|key| self.cache.disprove(&key));
    }

    /// The keys under which a red run of this target is remembered.
    fn red(&self, keys: &KeyMaker, target: &TargetPlan) -> impl Iterator<Item = RecordKey> {
        keys.of_packages(target).filter(|key| self.is_red(key))
    }

    /// Whether a red run is remembered under this key.
    fn is_red(&self, key: &RecordKey) -> bool {
        let found = self.cache.get(key, Timestamp::now(), self.question.settings.ttl);
        matches!(found, Lookup::Miss(MissReason::NotGreen(_)))
    }

    /// Learns from a build of the whole what is built and run. `names` is what the build went by.
    pub(in crate::verdict) fn learn(&mut self, build: &Build, ids: &[TargetId], names: Vec<Input>) {
        let built = BuiltPackages::of(&self.question.root, build);
        let plan = built.and_then(|built| built.plan(&self.source_readers(), ids, names));
        let Some(mut plan) = plan else { return };
        if let Some(before) = &self.plan {
            plan.inseparable.clone_from(&before.inseparable);
        }
        if std::mem::take(&mut self.plan_author) != PlanAuthor::Build {
            self.plan = None;
        }
        self.keep_plan(plan);
    }

    /// Notes that these packages have other features without the rest.
    pub(in crate::verdict) fn note_inseparable(&mut self, packages: BTreeSet<String>) {
        let Some(mut plan) = self.plan.clone() else { return };
        plan.inseparable.insert(packages);
        self.keep_plan(plan);
    }

    /// Keeps a plan. What follows from another machine's serves this question alone, as that one does.
    pub(super) fn keep_plan(&mut self, plan: WorkspacePlan) {
        if self.plan.as_ref() != Some(&plan) {
            if self.plan_author == PlanAuthor::Build {
                self.cache.store_memo(&self.digest, &plan);
            }
            self.plan = Some(plan);
        }
    }

    /// Why not every run of these records can be believed that were made beside the products of a part
    /// of the workspace only; `None` if all can.
    pub(in crate::verdict) fn doubt(&self, build: &Build, records: &[Record]) -> Option<String> {
        let plan = self.plan.as_ref()?;
        let Some(built) = BuiltPackages::of(&self.question.root, build) else {
            return Some("a package of the build is not understood".to_owned());
        };
        records.iter().find_map(|record| self.doubt_of(plan, &built, record))
    }

    /// The same of one run.
    pub(super) fn doubt_of(
        &self,
        plan: &WorkspacePlan,
        built: &BuiltPackages<'_>,
        record: &Record,
    ) -> Option<String> {
        let [report] = &record.targets[..] else { return Some("no single target".to_owned()) };
        let Some(reach) = built.reach(&report.id.package, plan.carried_by(&report.id)) else {
            return Some(format!("not all packages of {} were built", report.id));
        };
        let files = TargetFiles::of(self.question, self.facts, built, &reach, &plan.products);
        let path = files.split(&record.inputs).err()?;
        Some(format!("{} consults `{}`", report.id, path.display()))
    }
}

/// A search for records of targets.
struct Search<'l> {
    level: &'l PackageLevel<'l>,
    barred: BarredTargets,
    keys: KeyMaker,
    asked: AskedEnvironment,
    judge: EnvironmentJudge<'l>,
    /// The one of other machines' records.
    judge_of_others: EnvironmentJudge<'l>,
    fingerprints: Fingerprints,
}

impl Search<'_> {
    /// The record that answers for a target.
    ///
    /// # Errors
    /// Why none does.
    fn find(&mut self, target: &TargetPlan) -> Result<Arc<Record>, String> {
        let key = self.keys.key(target);
        let key = key.ok_or("a link leads out of the packages that it is built from")?;
        self.find_by(target, key).or_else(|why| {
            let here = self.keys.key_here(target).map(|key| self.find_by(target, key));
            here.and_then(Result::ok).ok_or(why)
        })
    }

    /// The same by another key of the target.
    fn find_by(&mut self, target: &TargetPlan, key: RecordKey) -> Result<Arc<Record>, String> {
        let Self { level, barred, keys, asked, judge, judge_of_others, fingerprints } = self;
        let Question { root, settings, .. } = level.question;
        if let Some(why) = barred.why(&target.id) {
            return Err(why.to_string());
        }
        let shared = |why: String| match level.shared.get(&key) {
            None => Err(why),
            Some(_) if level.red(keys, target).next().is_some() => Err(RED.to_owned()),
            Some(record) => Ok(Arc::clone(record)),
        };
        let record = match level.cache.get(&key, Timestamp::now(), settings.ttl) {
            Lookup::Hit(record) => record,
            Lookup::Miss(MissReason::Absent) => {
                shared("no record of the packages that it is built from".to_owned())?
            }
            Lookup::Miss(reason @ MissReason::Expired { .. }) => shared(reason.to_string())?,
            Lookup::Miss(MissReason::NotGreen(_)) => return Err(RED.to_owned()),
            Lookup::Miss(reason) => return Err(reason.to_string()),
        };
        if !matches!(&record.targets[..], [report] if report.id == target.id) {
            return Err("its record is of another target".to_owned());
        }
        if let Some(why) = obstacle_here(&record, level.cache, level.question, fingerprints) {
            return Err(why);
        }
        if let Some(changed) = fingerprints.first_changed(root, &record.inputs) {
            return Err(format!("`{}` changed", changed.path.display()));
        }
        let judge = if level.is_of_others(&record) { judge_of_others } else { judge };
        judge.obstacle(&record, asked, fingerprints).map_or(Ok(record), Err)
    }
}

/// The text that stands for a target's red runs in place of a selection: nothing is compared with them.
fn red_text(id: &TargetId) -> String {
    format!("red {}", packages_text(id))
}

/// The list of a snapshot's files, if it is kept.
fn listing_kept(cache: &Cache, code_hash: Digest) -> Option<Manifest> {
    Manifest::from_bytes(cache.manifest(code_hash)?).ok()
}

/// The part of a record's identity that has the digest of the package's files.
pub(super) fn package_part(package: &str) -> String {
    format!("package {package}")
}

/// Where a product lies elsewhere, another checkout would search another file for names.
pub(super) fn is_of_every_checkout(reader: &Input) -> bool {
    !reader.path.is_absolute()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::RecordedProducts;
    use crate::model::TargetKind;

    /// A record of a target of this package, made without the others or not.
    fn found(package: &str, without_siblings: bool) -> (TargetId, Result<Arc<Record>, String>) {
        let report = TargetReport::sample(&[]);
        let id = TargetId { package: package.into(), target: "it".into(), kind: TargetKind::Test };
        let products = RecordedProducts { without_siblings, ..RecordedProducts::default() };
        (id, Ok(Arc::new(Record { products, ..Record::sample(report) })))
    }

    #[test]
    fn a_target_that_was_built_alone_is_answered_beside_one_of_the_whole_package() {
        let answers = |found: Vec<(TargetId, Result<Arc<Record>, String>)>| -> Vec<bool> {
            let known = KnownTargets::of(found.into_iter());
            known.targets.iter().map(|(_, found)| found.is_ok()).collect()
        };
        assert_eq!(answers(vec![found("a", true), found("a", false)]), [true; 2]);
        assert_eq!(answers(vec![found("a", true), found("a", true)]), [false; 2]);
        assert_eq!(answers(vec![found("a", true), found("b", false)]), [false, true]);
        let missing = (found("a", false).0, Err("changed".to_owned()));
        assert_eq!(answers(vec![found("a", true), missing]), [false; 2]);
        assert!(KnownTargets::of([found("a", true)].into_iter()).all().is_none());
        assert!(KnownTargets::of([].into_iter()).all().is_none());
        assert_eq!(KnownTargets::of([found("a", false)].into_iter()).all().unwrap().len(), 1);
    }
}
