//! Records of targets whose build scripts were run once more: what the scripts consult is known, and
//! becomes a condition of the record in the place of the whole tree and all variables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::binary::{RUN_AGAIN, ScriptObserver, script_memo, took_at_most};
use super::environment::{AskedEnvironment, EnvironmentJudge, VariableDifference};
use super::fingerprint::{Aspect, Fingerprints};
use super::git_question::GitQuestion;
use super::look_up::LookUp;
use super::package::{KeptPackages, ScriptedRecord};
use super::unseen_reads::comes_to_the_same;
use crate::cache::{KnownAnswer, KnownScriptRun, Record, RecordedEnvironment};
use crate::compiler::BuiltScript;
use crate::model::{Digest, OsText, TargetKind};
use crate::process::Environment;

/// So long after the first script no other one is run: a publication ends some day.
const ALL_WAIT: Duration = Duration::from_secs(120);

/// The runs of one publication: each script runs once, however many targets are built from it.
pub(super) struct ScriptRuns<'a> {
    observer: ScriptObserver<'a>,
    judge: &'a EnvironmentJudge<'a>,
    /// What decides how cargo runs scripts, besides variables.
    plan: Digest,
    asked: AskedEnvironment,
    began: Instant,
    fingerprints: Fingerprints,
    seen: BTreeMap<BuiltScript, Result<KnownScriptRun, String>>,
}

/// A record that says what its build scripts consult.
pub(super) struct CompletedRecord {
    pub(super) record: Record,
    pub(super) answers: Vec<KnownAnswer>,
}

impl<'a> ScriptRuns<'a> {
    /// No script has run yet. `hook` is our own executable, `plan` the digest of the build's plan.
    pub(super) fn of(
        look_up: &LookUp<'a>,
        hook: &'a Path,
        judge: &'a EnvironmentJudge<'a>,
        plan: Digest,
    ) -> Self {
        let LookUp { cache, question, facts } = *look_up;
        let observer = ScriptObserver { cache, question, facts, hook };
        let asked = AskedEnvironment::of(question);
        let (fingerprints, seen) = (Fingerprints::default(), BTreeMap::new());
        Self { observer, judge, plan, asked, began: Instant::now(), fingerprints, seen }
    }

    /// The record with all that the scripts of its packages consult.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) fn complete(
        &mut self,
        scripted: &ScriptedRecord,
    ) -> Result<CompletedRecord, String> {
        let (mut record, mut answers) = (scripted.record.clone(), Vec::new());
        let mut inputs: BTreeSet<_> = record.inputs.drain(..).collect();
        for script in &scripted.scripts {
            let run = self.known(script, &scripted.record).map_err(|why| {
                match scripted.scripts.len() {
                    1 => why.clone(),
                    _ => format!("that of {}: {why}", script.package),
                }
            })?;
            // What it came to was compared with that of cargo's last run.
            if !script.is_last_run() {
                return Err(format!("that of {} has run again since", script.package));
            }
            inputs.extend(run.inputs.iter().cloned());
            answers.extend(run.answers.iter().cloned());
            record.environment.given.extend(run.given.iter().cloned());
        }
        record.inputs.extend(inputs);
        let root = &self.observer.question.root;
        record.environment.programs = self.asked.programs(root, &record.inputs);
        Ok(CompletedRecord { record, answers })
    }

    /// Remembers what the workspace's own scripts consult. With `longest`, only those of which cargo's own run
    /// took no longer.
    pub(super) fn remember(&mut self, kept: &KeptPackages, longest: Option<Duration>) {
        let is_meant = |script: &&BuiltScript| {
            script.is_own && longest.is_none_or(|time| took_at_most(script, time))
        };
        for scripted in kept.scripted.values() {
            for script in scripted.scripts.iter().filter(is_meant) {
                if let Err(why) = self.known(script, &scripted.record) {
                    tracing::debug!(%why, script = %script.package, "its results count here alone");
                }
            }
        }
    }

    /// What a script consults, found out once for each.
    fn known(&mut self, script: &BuiltScript, record: &Record) -> Result<KnownScriptRun, String> {
        if !self.seen.contains_key(script) {
            let run = self.run(script, record);
            self.seen.insert(script.clone(), run);
        }
        self.seen[script].clone()
    }

    /// What a script consults: as it is known, or by a run. `record` is one that depends on it.
    fn run(&mut self, script: &BuiltScript, record: &Record) -> Result<KnownScriptRun, String> {
        let ScriptObserver { cache, question, .. } = self.observer;
        let digest = script_memo(script, question, &self.plan);
        let digest = digest.ok_or("what it came to cannot be read")?;
        match cache.memo::<KnownScriptRun>(&digest) {
            Some(KnownScriptRun { refused: Some(why), .. }) => return Err(why),
            Some(known) if self.holds(&known) => return Ok(known),
            _ => {}
        }
        if self.began.elapsed() > ALL_WAIT {
            return Err("others took too long before it could be run again".to_owned());
        }
        let run = self.run_again(script, record);
        match &run {
            Ok(known) => cache.store_memo(&digest, known),
            Err(why) if why.starts_with(RUN_AGAIN) => {
                let refused = Some(why.clone());
                cache.store_memo(&digest, &KnownScriptRun { refused, ..Default::default() });
            }
            Err(_) => {}
        }
        run
    }

    /// What a script consults, by a run.
    fn run_again(
        &mut self,
        script: &BuiltScript,
        record: &Record,
    ) -> Result<KnownScriptRun, String> {
        let question = self.observer.question;
        let observed = self.observer.observe(script, &mut self.fingerprints)?;
        let ask = |asked: &GitQuestion| answer_of(asked, &question.environment);
        let answers = observed.questions.iter().map(ask).collect::<Result<_, _>>()?;
        let mut run = KnownScriptRun {
            inputs: observed.inputs.clone(),
            answers,
            given: observed.given(&question.environment),
            ..KnownScriptRun::default()
        };
        run.harmless = self.harmless(&script.program, record, &run)?;
        run.counted = self.asked.variables().clone();
        run.counted.retain(|name, _| !run.harmless.contains(name));
        // Whatever git answered meanwhile, it comes to the same.
        observed.confirm(&run.harmless)?;
        Ok(run)
    }

    /// Whether a script would consult the same, and come to the same.
    fn holds(&mut self, known: &KnownScriptRun) -> bool {
        let question = self.observer.question;
        comes_to_the_same(known, &question.root, question, &self.asked, &mut self.fingerprints)
    }

    /// The variables that would not count if they differed, by what a script could read names from.
    fn harmless(
        &mut self,
        program: &Path,
        record: &Record,
        run: &KnownScriptRun,
    ) -> Result<BTreeSet<String>, String> {
        let root = &self.observer.question.root;
        let mut alone = record.clone();
        // The rules for doctests are others.
        alone.targets.iter_mut().for_each(|report| report.id.kind = TargetKind::Lib);
        alone.inputs.clone_from(&run.inputs);
        alone.environment = RecordedEnvironment {
            variables: self.asked.variables().clone(),
            readers: vec![self.fingerprints.read(root, program, Aspect::Same)?],
            is_complete: true,
            programs: self.asked.programs(root, &run.inputs),
            build_variables: BTreeMap::new(),
            given: run.given.clone(),
        };
        let elsewhere = self.asked.elsewhere();
        let differences = self.judge.differences(&alone, &elsewhere, &mut self.fingerprints);
        // By another search path no program may be found.
        let is_harmless =
            |difference: &VariableDifference| difference.why.is_none() && difference.name != "PATH";
        let harmless = differences.into_iter().filter(is_harmless);
        Ok(harmless.map(|difference| difference.name).collect())
    }
}

fn answer_of(asked: &GitQuestion, environment: &Environment) -> Result<KnownAnswer, String> {
    let (dir, args) = (OsText::from(&asked.dir), asked.args.clone());
    Ok(KnownAnswer { dir, args, answer: asked.ask(environment)? })
}
