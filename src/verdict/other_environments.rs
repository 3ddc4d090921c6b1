//! Records of the whole that were made in another environment, from another terminal: they answer if
//! the variables that differ decide neither what is built nor what the tests see.
//!
//! The key of a record of the whole holds every variable. A record of other variables answers only if
//!
//! - the products of its build, and all that cargo compares with them, are untouched, and the variables
//!   that compilers and build scripts say they have read are what they were. So cargo would find
//!   everything fresh, whatever a macro or a build script has read besides;
//! - the variables by which cargo finds what is its own are the same, as is all else in the key;
//! - for each target, nothing that its run executed, loaded or read can name a variable that differs.
//!
//! Unknown means run: nothing is remembered of a run of which that cannot be told.
//!
//! A process that asks again and again remembers which record answered in which environment. What
//! the record's runs could name is decided by its content, so only what can change is looked at anew:
//! the products, the records themselves, and where programs are found.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::Facts;
use super::environment::{
    AskedEnvironment, EnvironmentJudge, PATH, named_by_build, programs_differ,
};
use super::facts::Question;
use super::fingerprint::Fingerprints;
use super::key::whole_digest;
use super::proof::{hold, looks_of};
use crate::cache::{
    Cache, EnvironmentProof, Input, Lookup, ProvenEnvironment, ProvenEnvironments, Record,
    RecordReference,
};
use crate::compiler::BuildSources;
use crate::model::{Digest, Digester, TargetReport, Timestamp, Verdict};

/// The records of one tree and selection, whatever the environment.
pub(super) struct OtherEnvironments<'a> {
    cache: &'a Cache,
    question: &'a Question,
    facts: &'a Facts,
    whole: Digest,
}

/// A green run of the whole that is kept.
pub(super) struct ProvenWhole<'a> {
    pub(super) record: &'a Record,
    pub(super) sources: &'a BuildSources,
    /// The products of its build, and what cargo compares with them.
    pub(super) products: Vec<Input>,
    /// The records of its targets.
    pub(super) records: &'a [Record],
}

impl<'a> OtherEnvironments<'a> {
    /// The records of the tree with this code hash.
    pub(super) fn of(
        cache: &'a Cache,
        question: &'a Question,
        facts: &'a Facts,
        code_hash: &Digest,
    ) -> Self {
        Self { cache, question, facts, whole: whole_digest(code_hash, question) }
    }

    /// The green record that answers here too, if none of its own conditions is an `obstacle`.
    ///
    /// # Errors
    /// Why that of the environment most like this one does not answer; `None` if there is none.
    pub(super) fn find(
        &self,
        mut obstacle: impl FnMut(&Arc<Record>) -> Option<String>,
    ) -> Result<Arc<Record>, Option<String>> {
        let asked = AskedEnvironment::of(self.question);
        let mut fingerprints = Fingerprints::new(&self.question.settings);
        let digest = self.digest();
        if let Some(proof) = self.cache.environment_proof(&digest)
            && let Some(record) = self.still_proven(&proof, &asked, &mut fingerprints)
            && obstacle(&record).is_none()
        {
            return Ok(record);
        }
        let ProvenEnvironments { products, build_variables, mut environments } =
            self.cache.memo(&self.whole).unwrap_or_default();
        environments.sort_by_key(|environment| environment.distance(asked.variables()));
        let records = environments.into_iter().filter_map(|environment| {
            let record = self.get(&environment.record)?;
            Some((record, environment))
        });
        let mut records = records.peekable();
        if records.peek().is_none() {
            return Err(None);
        }
        let judge = EnvironmentJudge::of(self.cache, self.question, self.facts);
        if let Some(why) = judge.build_obstacle(&build_variables, &asked) {
            return Err(Some(why));
        }
        if let Some(input) = fingerprints.first_changed(&self.question.root, &products) {
            let path = input.path.display();
            return Err(Some(format!("variables differ, and `{path}` may have to be built anew")));
        }
        let mut closest = None;
        for (record, environment) in records {
            let why = self.run_obstacle(&environment, &asked, &judge, &mut fingerprints);
            match why.or_else(|| obstacle(&record)) {
                None => {
                    let root = &self.question.root;
                    self.cache.note_environment_proof(digest, || {
                        let looks = looks_of(root, &products, &mut fingerprints);
                        let then = environment.variables.get(PATH);
                        EnvironmentProof {
                            record: environment.record,
                            has_other_path: then != asked.variables().get(PATH),
                            targets: environment.targets,
                            products,
                            looks,
                        }
                    });
                    return Ok(record);
                }
                Some(why) => closest = closest.or(Some(why)),
            }
        }
        Err(closest)
    }

    /// The digest of all that decides whether a record answers here, but for files and records.
    fn digest(&self) -> Digest {
        let mut digester = Digester::new("asked environment 1");
        digester.digest(&self.whole);
        for (name, value) in self.question.environment.iter() {
            digester.field(name.as_bytes()).field(value.as_bytes());
        }
        for folder in self.facts.target_dirs.iter().chain(&self.facts.toolchain.folders()) {
            digester.field(folder.as_os_str().as_bytes());
        }
        digester.finish()
    }

    /// The record that answered in this environment, if nothing has changed by which it did.
    fn still_proven(
        &self,
        proof: &EnvironmentProof,
        asked: &AskedEnvironment,
        fingerprints: &mut Fingerprints,
    ) -> Option<Arc<Record>> {
        let EnvironmentProof { record, targets, has_other_path, products, looks } = proof;
        let record = self.get(record)?;
        let answers = |target| {
            self.get(target).is_some_and(|record: Arc<Record>| {
                let programs = record.environment.programs.as_ref();
                !has_other_path || programs_differ(programs, asked).is_none()
            })
        };
        let is_proven =
            targets.iter().all(answers) && hold(looks, &self.question.root, products, fingerprints);
        is_proven.then_some(record)
    }

    /// Why a run of the targets in this environment would perhaps see something else than in that one.
    fn run_obstacle(
        &self,
        environment: &ProvenEnvironment,
        asked: &AskedEnvironment,
        judge: &EnvironmentJudge<'_>,
        fingerprints: &mut Fingerprints,
    ) -> Option<String> {
        let differing = asked.differing(&environment.variables);
        environment.targets.iter().find_map(|target| {
            let Some(record) = self.get(target) else {
                return Some("variables differ, and the record of a target is gone".to_owned());
            };
            let names = differing.iter().copied();
            let asked = asked.in_place_of(&record.environment, names);
            let why = judge.obstacle(&record, &asked, fingerprints)?;
            Some(
                record
                    .targets
                    .first()
                    .map_or(why.clone(), |report| format!("{}: {why}", report.id)),
            )
        })
    }

    /// The very record that is meant, if it still answers.
    fn get(&self, reference: &RecordReference) -> Option<Arc<Record>> {
        let ttl = self.question.settings.ttl;
        match self.cache.get(&reference.key, Timestamp::now(), ttl) {
            Lookup::Hit(record) if record.created == reference.created => Some(record),
            _ => None,
        }
    }

    /// Remembers a green run for other environments, unless it cannot be told what decides it.
    pub(super) fn remember(&self, whole: ProvenWhole<'_>) {
        let ProvenWhole { record, sources, products, records } = whole;
        let is_known = record.verdict == Verdict::Pass
            && !sources.inputs.iter().any(|unit| unit.is_unknown)
            && sources.missing.is_empty();
        let target = |report: &TargetReport| {
            let is_of = |record: &&Record| {
                matches!(&record.targets[..], [own] if own.id == report.id)
                    && record.environment.is_complete
            };
            records.iter().rev().find(is_of).map(reference)
        };
        let targets = record.targets.iter().map(target).collect::<Option<Vec<_>>>();
        let Some(targets) = targets.filter(|_| is_known) else { return };
        let Question { root, environment, .. } = self.question;
        let build_variables = named_by_build(sources.inputs.iter(), environment, root);
        let variables = AskedEnvironment::of(self.question).variables().clone();
        let environment = ProvenEnvironment { record: reference(record), variables, targets };
        let environments = vec![environment];
        let proven = ProvenEnvironments { products, build_variables, environments };
        let before = self.cache.memo(&self.whole).unwrap_or_default();
        self.cache.store_memo(&self.whole, &proven.after(before));
    }
}

fn reference(record: &Record) -> RecordReference {
    RecordReference { key: record.key, created: record.created }
}
