//! Records of targets whose build scripts were run once more: what the scripts consult is known, and
//! becomes a condition of the record in the place of the whole tree and all variables.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use super::binary::{ScriptObserver, TIMED_OUT, outcome_of};
use super::environment::{AskedEnvironment, EnvironmentJudge, VariableDifference, each_variable};
use super::fingerprint::{Aspect, Fingerprints};
use super::git_question::GitQuestion;
use super::package::ScriptedRecord;
use super::patterns::VariablePlace;
use crate::cache::{KnownAnswer, KnownScriptRun, Record, RecordedEnvironment};
use crate::compiler::BuiltScript;
use crate::model::{Digest, Digester, OsText, TargetKind};
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
    pub(super) fn of(
        observer: ScriptObserver<'a>,
        judge: &'a EnvironmentJudge<'a>,
        plan: Digest,
    ) -> Self {
        let asked = AskedEnvironment::of(observer.question);
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
            let run = match self.seen.get(script) {
                Some(run) => run.clone(),
                None => self.run(script, &scripted.record),
            };
            // What it came to was compared with that of cargo's last run.
            if !script.is_last_run() {
                return Err(format!("that of {} has run again since", script.package));
            }
            let run = self.seen.entry(script.clone()).or_insert(run);
            let run = run.as_ref().map_err(|why| match scripted.scripts.len() {
                1 => why.clone(),
                _ => format!("that of {}: {why}", script.package),
            })?;
            inputs.extend(run.inputs.iter().cloned());
            answers.extend(run.answers.iter().cloned());
            record.environment.given.extend(run.given.iter().cloned());
        }
        record.inputs.extend(inputs);
        let root = &self.observer.question.root;
        record.environment.programs = self.asked.programs(root, &record.inputs);
        Ok(CompletedRecord { record, answers })
    }

    /// What a script consults: as it is known, or by a run. `record` is one that depends on it.
    fn run(&mut self, script: &BuiltScript, record: &Record) -> Result<KnownScriptRun, String> {
        let ScriptObserver { cache, question, .. } = self.observer;
        let mut digester = Digester::new("script run 1");
        let outcome = outcome_of(script).ok_or("what it came to cannot be read")?;
        digester.digest(&self.plan).digest(&outcome);
        digester.field(question.root.as_os_str().as_encoded_bytes());
        each_variable(question, |name, value, place| {
            if place == VariablePlace::Key {
                digester.field(name.as_encoded_bytes()).digest(&value);
            }
        });
        let digest = digester.finish();
        match cache.script_run(&digest) {
            Some(known) if known.timed_out => return Err(TIMED_OUT.to_owned()),
            Some(known) if self.holds(&known) => return Ok(known),
            _ => {}
        }
        if self.began.elapsed() > ALL_WAIT {
            return Err("others took too long before it could be run again".to_owned());
        }
        let observed = self.observer.observe(script, &mut self.fingerprints);
        let observed = observed.inspect_err(|why| {
            if why == TIMED_OUT {
                let known = KnownScriptRun { timed_out: true, ..KnownScriptRun::default() };
                cache.store_script_run(&digest, &known);
            }
        })?;
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
        cache.store_script_run(&digest, &run);
        Ok(run)
    }

    /// Whether a script would consult the same, and come to the same.
    fn holds(&mut self, known: &KnownScriptRun) -> bool {
        let question = self.observer.question;
        let now = self.asked.variables();
        let counts = |name: &&String| !known.harmless.contains(*name);
        let is_same = known.counted.iter().all(|(name, value)| now.get(name) == Some(value))
            && now.keys().filter(counts).all(|name| known.counted.contains_key(name));
        let answers_so = |then: &KnownAnswer| {
            let args: Vec<OsString> = then.args.iter().map(OsString::from).collect();
            let asked = GitQuestion::of(&args, Path::new(&then.dir.0));
            let now = asked.and_then(|asked| asked.ask(&question.environment).ok());
            now == Some(then.answer)
        };
        is_same
            && self.fingerprints.first_changed(&question.root, &known.inputs).is_none()
            && known.answers.iter().all(answers_so)
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
