//! Making records of the package level.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::built_from::{BuiltPackages, script_places};
use super::code::SourceReaders;
use super::inputs::{BuildReads, TargetFiles};
use super::key::{KeyMaker, folders, key_variable_parts};
use super::look_up::{
    BuildScope, KeptPackages, PLAN, PackageLevel, ProvenRun, ScriptedRecord, is_of_every_checkout,
    package_part,
};
use super::scripts::reader_of;
use crate::cache::{
    Cache, Input, KeyBasis, Lookup, Record, RecordKey, RecordLevel, RecordedEnvironment,
    RecordedProducts, TargetPlan, UnseenReads, WorkspacePlan,
};
use crate::compiler::{Build, BuiltScript};
use crate::model::{Digest, TargetId, TargetKind, Timestamp, Verdict};
use crate::verdict::binary::{packages_text, script_memo};
use crate::verdict::environment::{AskedEnvironment, EnvironmentJudge, named_by_build};
use crate::verdict::facts::Question;
use crate::verdict::fingerprint::{Aspect, Fingerprints};
use crate::verdict::key::code_hash;
use crate::verdict::obstacles::BarredTargets;
use crate::verdict::provenance::Proof;
use crate::workspace::PathStamp;

impl PackageLevel<'_> {
    /// Keeps what a proven run came to.
    pub(in crate::verdict) fn keep(&mut self, run: &ProvenRun<'_>) -> KeptPackages {
        let Question { root, .. } = self.question;
        let Some(plan) = &self.plan else { return KeptPackages::default() };
        let Some(built) = BuiltPackages::of(root, run.build) else {
            return KeptPackages::default();
        };
        let (keys, folders) = (self.keys(plan), folders(plan));
        let units = &run.build.sources.inputs;
        let reads = BuildReads::of(self.question, units, &self.listing, &folders, run.built_at);
        let fingerprints = Fingerprints::default();
        let searched = BTreeMap::new();
        let readers = self.source_readers();
        let proof = run.proof;
        let level = &*self;
        let barred = self.barred();
        let mut session = Keeping {
            level,
            barred,
            plan,
            built,
            keys,
            reads,
            readers,
            proof,
            scope: run.scope,
            fingerprints,
            script_memos: BTreeMap::new(),
            searched,
        };
        let (mut kept, mut raised) = (KeptPackages::default(), BTreeMap::new());
        let is_believed = |record: &&Record| {
            record.key.level == RecordLevel::Package
                || (record.environment.is_complete
                    && level.doubt_of(plan, &session.built, record).is_none())
        };
        let believed = run.records.iter().filter(is_believed).flat_map(|record| &record.targets);
        let believed: BTreeSet<&TargetId> = believed.map(|report| &report.id).collect();
        for record in run.records {
            if record.key.level == RecordLevel::Package {
                // It has answered in the place of a run.
                self.claim(record);
                continue;
            }
            let is_of = |target: &&TargetPlan| {
                record.targets.first().is_some_and(|report| report.id == target.id)
            };
            if let Some(target) = plan.targets.iter().find(is_of) {
                level.forget_red(&session.keys, target);
            }
            match session.record_here(record) {
                Ok(here) if !session.is_kept(&here) => {
                    if let Err(error) = self.cache.store(&here, run.limits) {
                        tracing::debug!(%error, "a record of this checkout is not kept");
                    }
                }
                Ok(here) => self.claim(&here),
                Err(why) => tracing::trace!(%why, "nothing is kept for this checkout alone"),
            }
            let made = session.record(record);
            match made {
                Ok(KeptRecord { record, target, scripted }) => {
                    let id = target.id.clone();
                    kept.scripted.extend(scripted.map(|scripted| (id.clone(), scripted)));
                    let key = session.keys.key_after_build(&target);
                    raised.insert(id, target);
                    let twin = key.map(|key| Record { key, ..record.clone() });
                    for record in twin.iter().chain([&record]) {
                        if session.is_kept(record) {
                            self.claim(record);
                        } else if let Err(error) = self.cache.store(record, run.limits) {
                            tracing::debug!(%error, "a record of a package is not kept");
                        }
                    }
                    kept.records.push(record);
                }
                Err(why) => {
                    let target = record.targets.first().map(|report| report.id.to_string());
                    let target = target.unwrap_or_default();
                    tracing::debug!(target, %why, "nothing is kept of its packages");
                    kept.refused.push(format!("{target}: {why}"));
                }
            }
        }
        let mut plan = plan.clone();
        for target in &mut plan.targets {
            if let Some(raised) = raised.remove(&target.id) {
                *target = raised;
            }
            if run.green.contains(&target.id) {
                target.needs_whole = !believed.contains(&target.id);
            }
        }
        self.keep_plan(plan);
        kept
    }
}

/// What nobody has told that was read for a build. `plan` is the digest of its plan, without which no script's
/// run is remembered.
pub(in crate::verdict) fn unseen_reads(
    question: &Question,
    cache: &Cache,
    build: &Build,
    plan: Option<Digest>,
) -> UnseenReads {
    let Some(built) = BuiltPackages::of(&question.root, build) else {
        return UnseenReads::Anything;
    };
    let memo = |script: &_| script_memo(script, question, &plan?);
    built.unseen_reads(&built.all(), cache, memo)
}

/// A record that is kept, with its target.
struct KeptRecord {
    record: Record,
    target: TargetPlan,
    scripted: Option<ScriptedRecord>,
}

/// Making records of one run.
struct Keeping<'a> {
    level: &'a PackageLevel<'a>,
    barred: BarredTargets,
    plan: &'a WorkspacePlan,
    built: BuiltPackages<'a>,
    keys: KeyMaker,
    reads: BuildReads<'a>,
    readers: SourceReaders<'a>,
    proof: Proof,
    scope: BuildScope,
    fingerprints: Fingerprints,
    /// By what each script's run is remembered: all that it has written is read for that.
    script_memos: BTreeMap<BuiltScript, Option<Digest>>,
    /// What stands for build scripts, by these.
    searched: BTreeMap<BTreeSet<PathBuf>, Option<Input>>,
}

impl Keeping<'_> {
    /// The record of a run that has this record at the binary level, and its target.
    ///
    /// # Errors
    /// Why there can be none.
    fn record(&mut self, record: &Record) -> Result<KeptRecord, String> {
        let (mut target, reach) = self.target(record)?;
        if target.basis == KeyBasis::Tree && self.proof != Proof::All {
            return Err("something has changed that its build may have read unseen".to_owned());
        }
        let mut record = self.made(record, &mut target, &reach, KeyMaker::key)?;
        if target.basis == KeyBasis::Tree {
            let PackageLevel { question, cache, digest, .. } = self.level;
            let memos = &mut self.script_memos;
            let memo = |script: &BuiltScript| {
                let known = memos.entry(script.clone());
                *known.or_insert_with(|| script_memo(script, question, digest))
            };
            record.products.unseen = self.built.unseen_reads(&reach, cache, memo);
        }
        let scripted = self.scripted(&record, &reach);
        Ok(KeptRecord { record, target, scripted })
    }

    /// The same for this checkout alone, for as long as cargo does not run the workspace's build scripts
    /// again: what else they may have read does not count then.
    ///
    /// # Errors
    /// Why there can be none.
    fn record_here(&mut self, record: &Record) -> Result<Record, String> {
        let (mut target, reach) = self.target(record)?;
        if target.here.is_none() {
            return Err("it counts by its packages, or with the whole tree".to_owned());
        }
        let folders = folders(self.plan);
        let but_scripts = self.built.basis_but_scripts(&reach, self.level.cache).basis;
        let is_of_scripts = target.basis == KeyBasis::Tree && but_scripts < KeyBasis::Tree;
        let scripts = is_of_scripts.then(|| self.built.own_scripts(&reach)).flatten();
        let scripts = scripts.ok_or("it is not known when cargo runs its build scripts")?;
        let PackageLevel { question, listing, .. } = self.level;
        let places = script_places(&scripts, &question.root, &folders);
        if places != target.here {
            return Err("it has other build scripts".to_owned());
        }
        target.ignores_comments = true;
        let mut record = self.made(record, &mut target, &reach, KeyMaker::key_here)?;
        if !target.ignores_comments {
            return Err("something sees comments".to_owned());
        }
        let root = &question.root;
        let of_scripts = listing.files_of(&folders, places.as_ref().unwrap_or(&BTreeSet::new()));
        let watched = of_scripts.into_iter().map(|file| root.join(file));
        let watched = watched.chain(scripts.iter().flat_map(|script| script.watched.clone()));
        for path in watched {
            // Cargo has looked at it, and has run the script if need was.
            if !PathStamp::of(&path).is_settled(self.reads.built_at) {
                return Err(format!("`{}` has only just changed", path.display()));
            }
            record.inputs.push(self.fingerprints.read(root, &path, Aspect::Same)?);
        }
        for script in &scripts {
            for path in &script.left {
                record.inputs.push(self.fingerprints.read(root, path, Aspect::Same)?);
            }
            if !script.is_last_run() {
                return Err("a build script has run again".to_owned());
            }
        }
        Ok(record)
    }

    /// The target of a record as it must be by what is known now, and the packages that it is built from.
    fn target(&self, record: &Record) -> Result<(TargetPlan, BTreeSet<usize>), String> {
        let [report] = &record.targets[..] else { return Err("no single target".to_owned()) };
        if record.verdict != Verdict::Pass || !record.environment.is_complete {
            return Err("not all that it consulted is known".to_owned());
        }
        if let Some(why) = self.barred.why(&report.id) {
            return Err(why.to_string());
        }
        let target = self.plan.targets.iter().find(|target| target.id == report.id);
        let mut target = target.ok_or("it is new")?.clone();
        let carried = self.plan.carried_by(&report.id);
        let reach = self.built.reach(&report.id.package, carried);
        let reach = reach.ok_or("not all of its packages were built")?;
        let required = self.built.basis(&reach, self.level.cache);
        // A macro of the workspace may do more than it did when the plan was made.
        if required.basis > target.basis {
            target.basis = required.basis;
            target.wider_because = required.wider_because;
        }
        Ok((target, reach))
    }

    /// A record of this run for a target that is built from the packages in `reach`.
    fn made(
        &mut self,
        record: &Record,
        target: &mut TargetPlan,
        reach: &BTreeSet<usize>,
        key: impl Fn(&KeyMaker, &TargetPlan) -> Option<RecordKey>,
    ) -> Result<Record, String> {
        let PackageLevel { question, facts, tree, .. } = *self.level;
        let id = target.id.clone();
        let files = TargetFiles::of(question, facts, &self.built, reach, &self.plan.products);
        let split = files.split(&record.inputs);
        let mut split = split.map_err(|path| format!("it consults `{}`", path.display()))?;
        let are_examples = id.kind == TargetKind::Doc;
        target.ignores_comments = target.ignores_comments
            && !split.has_read_products(&question.root, are_examples)
            && self.built.ignores_comments(reach, &self.readers);
        let folders = folders(self.plan);
        split.settle_sources(|path| {
            let owner = self.level.listing.package_of(path, &folders);
            target.ignores_comments && owner.is_some_and(|at| target.built_from.contains(&at))
        });
        let key = key(&self.keys, target).ok_or("a link leads out of its packages")?;
        let units: Vec<_> = self.built.units(reach).collect();
        let ids: BTreeSet<&str> = units.iter().map(|unit| &*unit.package_id).collect();
        let mut inputs = split.inputs;
        inputs.extend(self.reads.inputs(&ids, &target.built_from, &mut self.fingerprints)?);
        let mut more = split.readers;
        // Another basis has all variables in its key.
        if target.basis == KeyBasis::Packages {
            more.extend(self.searched(self.built.scripts(reach))?);
        }
        let is_complete = more.iter().all(is_of_every_checkout);
        let readers = record.environment.readers.iter().cloned().chain(more).collect();
        let environment = RecordedEnvironment {
            variables: AskedEnvironment::of(question).variables().clone(),
            readers,
            is_complete,
            programs: record.environment.programs.clone(),
            build_variables: named_by_build(
                units.into_iter(),
                &question.environment,
                &question.root,
            ),
            given: record.environment.given.clone(),
        };
        let mut identity: BTreeMap<String, String> = record.identity.clone();
        identity.insert(PLAN.to_owned(), self.level.digest.to_string());
        identity.extend(key_variable_parts(question));
        for at in &target.built_from {
            let (Some(digest), Some(package)) =
                (self.keys.package(*at), self.plan.packages.get(*at))
            else {
                continue;
            };
            identity.insert(package_part(&package.name), digest.to_string());
        }
        Ok(Record {
            key,
            workspace_root: question.root.clone(),
            code_hash: code_hash(&tree, &facts.identity),
            selection: packages_text(&id),
            inputs,
            identity,
            environment,
            products: RecordedProducts {
                without_siblings: self.scope == BuildScope::Targets,
                ..record.products.clone()
            },
            ..record.clone()
        })
    }

    /// The record as it would be, were it known what the workspace's own build scripts consult.
    fn scripted(&mut self, record: &Record, reach: &BTreeSet<usize>) -> Option<ScriptedRecord> {
        let scripts = self.built.wide_scripts(reach).filter(|scripts| !scripts.is_empty())?;
        let basis = self.built.basis_but_scripts(reach, self.level.cache).basis;
        let mut record = record.clone();
        let own = scripts.iter().map(|script| &*script.program);
        let searched: BTreeSet<&Path> = match basis {
            KeyBasis::Packages => self.built.scripts(reach).into_iter().chain(own).collect(),
            KeyBasis::Variables => BTreeSet::new(),
            KeyBasis::Tree => return None,
        };
        let reader = self.searched(searched).ok()?;
        record.environment.is_complete &= reader.iter().all(is_of_every_checkout);
        record.environment.readers.extend(reader);
        Some(ScriptedRecord { record, basis, scripts })
    }

    /// What stands for the programs of these build scripts.
    fn searched(&mut self, scripts: BTreeSet<&Path>) -> Result<Option<Input>, String> {
        let PackageLevel { question, facts, cache, .. } = *self.level;
        let place = scripts.iter().map(|path| path.to_path_buf()).collect();
        if let Some(known) = self.searched.get(&place) {
            return Ok(known.clone());
        }
        let asked = AskedEnvironment::of(question);
        let judge = EnvironmentJudge::of(cache, question, facts);
        let reader = reader_of(scripts.into_iter(), &asked, &judge, cache, &mut self.fingerprints)?;
        self.searched.insert(place, reader.clone());
        Ok(reader)
    }

    /// Whether there is a record that says the same.
    fn is_kept(&self, record: &Record) -> bool {
        let now = Timestamp::now();
        let ttl = self.level.question.settings.ttl;
        let Lookup::Hit(then) = self.level.cache.get(&record.key, now, ttl) else { return false };
        let states = |record: &Record| -> BTreeSet<_> {
            record.inputs.iter().map(|input| (input.path.clone(), input.state)).collect()
        };
        then.targets == record.targets
            && then.workspace_root == record.workspace_root
            && then.environment == record.environment
            && then.products == record.products
            && states(&then) == states(record)
    }
}
