//! Runs a build script once more, to see what it consults.
//!
//! The script's program runs as cargo runs it, observed, with another folder to write into and no right
//! to write elsewhere. What was seen is believed if it came to what cargo's own run has left: the same text,
//! the same files. A script that does otherwise the second time is one of which nothing is known.
//!
//! Then it runs a third time, with other values of all variables that do not count by the search for
//! names: a script that puts a name together comes to something else.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::inputs::{Cacheability, InputJudge};
use super::key::Subject;
use super::program::BuiltProgram;
use crate::cache::{Cache, Input};
use crate::compiler::{BuildSpec, BuiltScript, ScriptCall, TestCompiler, script_output};
use crate::hasher::{FileDigest, file_digest};
use crate::model::{Digest, Digester, End, OsText, TargetId, TargetKind};
use crate::observer::{
    Exemption, LoaderCalls, Observation, ObserveOptions, Observer, PathAccess, Uses, is_of_loader,
};
use crate::process::{Environment, Priority, Spec, Suspender, WritableFolders, capture};
use crate::verdict::environment::each_variable;
use crate::verdict::facts::{Facts, Question};
use crate::verdict::fingerprint::Fingerprints;
use crate::verdict::git_question::{GitQuestion, is_asked_alike};
use crate::verdict::patterns::{Excluded, Trusted, VariablePlace};
use crate::workspace::{FileKind, PathStamp, Stamp, replace_folder};

/// A script that takes longer is one of which nothing is known.
const RUN_WAIT: Duration = Duration::from_secs(60);
/// How it begins to be said that a script does otherwise once more: a third run would tell nothing else.
pub(in crate::verdict) const RUN_AGAIN: &str = "run again, it ";

/// What is added to the value of a variable that should not matter.
const OTHER_VALUE: &str = "-of-another-machine";
/// A larger folder of results is not compared.
const MOST_RESULTS: usize = 10_000;

/// A build script that was run once more.
#[derive(Debug)]
pub(in crate::verdict) struct ObservedScript {
    script: BuiltScript,
    call: ScriptCall,
    /// What it consulted.
    pub(in crate::verdict) inputs: Vec<Input>,
    /// What was asked of git.
    pub(in crate::verdict) questions: BTreeSet<GitQuestion>,
}

impl ObservedScript {
    /// The values of variables that cargo gave to the script, and the developer has not.
    pub(in crate::verdict) fn given(&self, own: &Environment) -> Vec<OsText> {
        let variables = self.call.environment.iter();
        let given = variables.filter(|(name, value)| own.get(name) != Some(*value));
        given.map(|(_, value)| OsText(value.to_owned())).collect()
    }

    /// Whether the script comes to the same once more, when these variables have other values.
    ///
    /// # Errors
    /// If it does not.
    pub(in crate::verdict) fn confirm(&self, harmless: &BTreeSet<String>) -> Result<(), String> {
        let mut environment = self.call.environment.clone();
        for name in harmless {
            let mut value = environment.get(name).map(ToOwned::to_owned).unwrap_or_default();
            value.push(OTHER_VALUE);
            environment.set(name, value);
        }
        let spec = spec(&self.call, &self.script.program, environment)?;
        compared(&self.call, &self.script, &spec)
            .map_err(|why| format!("{why} when variables differ that it does not name"))
    }
}

/// By this a run of a script is remembered: what decides how cargo runs it, and what cargo's own run has
/// come to. `None` if that cannot be read, or cargo has run it again since the build. `plan` is that of the
/// package level.
pub(in crate::verdict) fn script_memo(
    script: &BuiltScript,
    question: &Question,
    plan: &Digest,
) -> Option<Digest> {
    let mut digester = Digester::new("script run 1");
    let outcome = outcome_of(script)?;
    if !script.is_last_run() {
        return None;
    }
    digester.digest(plan).digest(&outcome);
    digester.field(question.root.as_os_str().as_encoded_bytes());
    each_variable(question, |name, value, place| {
        if place == VariablePlace::Key {
            digester.field(name.as_encoded_bytes()).digest(&value);
        }
    });
    Some(digester.finish())
}

/// Whether cargo's own run of a script took no longer than this.
pub(in crate::verdict) fn took_at_most(script: &BuiltScript, time: Duration) -> bool {
    let Some((output, _)) = script_output(&script.out_dir) else { return false };
    // Cargo gives the file the time at which the script began.
    let took = |stamp: &Stamp| u64::try_from(stamp.changed.checked_sub(stamp.modified)?).ok();
    let took = PathStamp::of(&output).present().and_then(took);
    took.is_some_and(|nanoseconds| Duration::from_nanos(nanoseconds) <= time)
}

/// What cargo's own run of a script has come to. `None` if that cannot be read.
fn outcome_of(script: &BuiltScript) -> Option<Digest> {
    let mut digester = Digester::new("outcome of a build script 1");
    let (_, printed) = script_output(&script.out_dir)?;
    digester.digest(&fingerprint(&script.program)?).field(&printed);
    for (path, (mode, content)) in results(&script.out_dir, &script.out_dir, &script.out_dir)? {
        digester.field(path.as_os_str().as_bytes()).number(mode.into()).field(&content);
    }
    Some(digester.finish())
}

/// The digest of a file's content.
fn fingerprint(file: &Path) -> Option<Digest> {
    match file_digest(file) {
        FileDigest::Known(digest) => Some(digest),
        _ => None,
    }
}

/// Runs build scripts of one question's build.
#[derive(Clone, Copy, Debug)]
pub(in crate::verdict) struct ScriptObserver<'a> {
    pub(in crate::verdict) cache: &'a Cache,
    pub(in crate::verdict) question: &'a Question,
    pub(in crate::verdict) facts: &'a Facts,
    /// Our own executable.
    pub(in crate::verdict) hook: &'a Path,
}

impl ScriptObserver<'_> {
    /// What a script consults.
    ///
    /// # Errors
    /// Why that is not known.
    pub(in crate::verdict) fn observe(
        &self,
        script: &BuiltScript,
        fingerprints: &mut Fingerprints,
    ) -> Result<ObservedScript, String> {
        Observer::available().map_err(|error| error.to_string())?;
        let call = self.compiler().script_call(script)?;
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let exemption = exemption(&call, &self.question.environment, Arc::clone(&asked));
        let judge = self.judge(&call, script, fingerprints)?;
        let mut options = ObserveOptions {
            covered: judge.covered.clone(),
            exemption: Some(exemption),
            loader_calls: LoaderCalls::SearchPasses,
            ..ObserveOptions::default()
        };
        let (seen, started) = loop {
            let spec = spec(&call, &script.program, call.environment.clone())?;
            let started = SystemTime::now();
            let (observed, running) =
                Observer::observe(&spec, options.clone()).map_err(|error| error.to_string())?;
            let ended = compared(&call, script, &observed);
            let seen = running.finish();
            ended?;
            match LoaderCalls::after(&seen.problems) {
                Some(closer) if closer < options.loader_calls => options.loader_calls = closer,
                _ => break (seen, started),
            }
        };
        if let Some(path) = unlike_a_fresh_build(&seen, &judge, &call) {
            return Err(format!("it consults `{}`", path.display()));
        }
        let inputs = match judge.judge(&seen, started, fingerprints) {
            Cacheability::Observed(inputs) => inputs,
            Cacheability::WholeTree(_) => return Err("it was not wholly seen".to_owned()),
            Cacheability::Uncacheable(why) => {
                let why = why.first().map(ToString::to_string);
                return Err(why.unwrap_or_else(|| "it was not wholly seen".to_owned()));
            }
        };
        let is_elsewhere = |input: &Input| {
            let path = self.question.root.join(&input.path);
            !judge.target_dirs.iter().any(|dir| path.starts_with(dir))
                && !path.starts_with(call.mirror())
        };
        let inputs = inputs.into_iter().filter(is_elsewhere).collect();
        let questions = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(ObservedScript { script: script.clone(), call, inputs, questions })
    }

    fn compiler(&self) -> TestCompiler {
        let Question { root, selection, environment, target_dir, .. } = self.question.clone();
        TestCompiler::new(BuildSpec {
            workspace_root: root,
            selection,
            environment,
            toolchain: self.facts.toolchain.clone(),
            config: self.facts.cargo_config.clone(),
            target_dir,
            priority: Priority::Background,
            jobs: None,
            brake: Suspender::default(),
            colour: false,
            hook: self.hook.to_owned(),
        })
    }

    fn judge(
        &self,
        call: &ScriptCall,
        script: &BuiltScript,
        fingerprints: &mut Fingerprints,
    ) -> Result<InputJudge, String> {
        let Self { cache, question, facts, .. } = *self;
        let root = &question.root;
        let real = |folder: &PathBuf| folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let program = BuiltProgram::known(&script.program, root, fingerprints, cache)?;
        let (package, target) = (script.package.clone(), "build script".to_owned());
        let id = TargetId { package, target, kind: TargetKind::Bin };
        let mut subject = Subject::unkeyed(id);
        subject.program = Some(program);
        Ok(InputJudge {
            root: root.clone(),
            subject,
            own: Some(call.mirror().to_owned()),
            target_dirs: facts.target_dirs.iter().map(real).collect(),
            covered: facts.toolchain.folders(),
            temporary: temporary(call),
            excluded: Excluded::of(&question.settings),
            trusted: Trusted::of(&question.settings),
            selects: false,
        })
    }
}

/// The temporary folder of the runs of a script.
fn temporary(call: &ScriptCall) -> PathBuf {
    call.mirror().join("tmp")
}

/// A run of a script that writes into empty folders of its own.
fn spec(call: &ScriptCall, program: &Path, mut environment: Environment) -> Result<Spec, String> {
    let cannot = |error: std::io::Error| format!("it cannot be run again: {error}");
    let temporary = temporary(call);
    for folder in [&call.out_dir, &temporary] {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(cannot(error));
            }
            _ => std::fs::create_dir_all(folder).map_err(cannot)?,
        }
    }
    environment.set("TMPDIR", &temporary);
    let folders = WritableFolders::only(&[&call.out_dir, &temporary]).map_err(cannot)?;
    let spec = Spec::new(program, &call.dir, environment);
    Ok(spec.priority(Priority::Background).writes_only_in(&folders))
}

/// Runs a script, and compares what it came to with what cargo's own run has left.
fn compared(call: &ScriptCall, script: &BuiltScript, spec: &Spec) -> Result<(), String> {
    let output = capture(spec, RUN_WAIT).map_err(|error| error.to_string())?;
    if output.end == End::TimedOut {
        return Err(format!("{RUN_AGAIN}does not end"));
    }
    if !output.success() {
        return Err(format!("{RUN_AGAIN}ended with {}", output.end));
    }
    let now = results(&call.out_dir, &call.out_dir, &script.out_dir);
    let then = results(&script.out_dir, &script.out_dir, &script.out_dir);
    let printed =
        replace_folder(&output.stdout, &call.out_dir, script.out_dir.as_os_str().as_bytes());
    match (now, then) {
        (Some(now), Some(then)) if now == then && printed == call.printed => Ok(()),
        _ => Err(format!("{RUN_AGAIN}came to something else")),
    }
}

/// Which of git's look-ups count by question and answer. None does where cargo's `[env]` has git answer
/// otherwise than in `own`, the environment in which it is asked later.
fn exemption(
    call: &ScriptCall,
    own: &Environment,
    asked: Arc<Mutex<BTreeSet<GitQuestion>>>,
) -> Exemption {
    let git = GitQuestion::program(&call.environment, &call.dir);
    let git = git.filter(|_| is_asked_alike(&call.environment, own, &call.dir));
    let mut environment = call.environment.clone();
    environment.set("TMPDIR", temporary(call));
    Exemption::new(move |started| {
        if git.as_ref() != Some(&started.file) || started.environment != environment {
            return None;
        }
        let question = GitQuestion::of(started.args.get(1..)?, &started.dir)?;
        let folders = question.git_folders()?;
        asked.lock().unwrap_or_else(PoisonError::into_inner).insert(question);
        Some(folders)
    })
}

/// Something in the target directory, or in its mirror, that the script has looked at: who knows whether
/// it is there in a fresh build.
fn unlike_a_fresh_build<'s>(
    seen: &'s Observation,
    judge: &InputJudge,
    call: &ScriptCall,
) -> Option<&'s Path> {
    let own = [call.out_dir.clone(), temporary(call)];
    let is_harmless = |path: &Path, access: &PathAccess| {
        let is_own = own.iter().any(|folder| path.starts_with(folder));
        let is_program = judge.subject.program.as_ref().is_some_and(|own| own.path == path);
        let is_way = access.first.kind() == Some(FileKind::Folder)
            && !access.uses.any(Uses::LISTED.with(Uses::ATTRIBUTES));
        let is_loaders = access.first == PathStamp::Absent && is_of_loader(path);
        is_own || is_program || is_way || is_loaders || access.uses == Uses::FOLLOWED
    };
    let made = judge.target_dirs.iter().map(PathBuf::as_path).chain([call.mirror()]);
    let made: Vec<&Path> = made.collect();
    let mut inputs = seen.inputs();
    let odd = inputs.find(|(path, access)| {
        made.iter().any(|dir| path.starts_with(dir)) && !is_harmless(path, access)
    });
    odd.map(|(path, _)| path)
}

/// All that lies in a folder of results: links by their texts, files by permissions and content, with
/// the folder `from` by `to`. `None` if it cannot be read, or is not to be compared.
fn results(folder: &Path, from: &Path, to: &Path) -> Option<BTreeMap<PathBuf, (u32, Vec<u8>)>> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(below) = todo.pop() {
        for entry in std::fs::read_dir(&below).ok()? {
            let path = entry.ok()?.path();
            let metadata = path.symlink_metadata().ok()?;
            let content = match PathStamp::of(&path).kind()? {
                FileKind::File => std::fs::read(&path).ok()?,
                FileKind::Symlink => {
                    std::fs::read_link(&path).ok()?.into_os_string().into_encoded_bytes()
                }
                FileKind::Folder => {
                    todo.push(path.clone());
                    Vec::new()
                }
                _ => return None,
            };
            let content = replace_folder(&content, from, to.as_os_str().as_bytes());
            let name = path.strip_prefix(folder).ok()?.to_owned();
            found.insert(name, (metadata.permissions().mode(), content));
            if found.len() > MOST_RESULTS {
                return None;
            }
        }
    }
    Some(found)
}
