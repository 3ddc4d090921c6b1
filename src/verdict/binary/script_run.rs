//! Runs a build script once more, or the compiler for a library whose macros may read anything, to see what it
//! consults.
//!
//! The script's program runs as cargo runs it, observed, with another folder to write into and no right
//! to write elsewhere. What was seen is believed if it came to what cargo's own run has left: the same text,
//! the same files. A script that does otherwise the second time is one of which nothing is known.
//!
//! Then it runs a third time, with other values of all variables that do not count by the search for
//! names: a script that puts a name together comes to something else.
//!
//! The same holds for the compiler, in which the macros run: the library that it makes has to be the same
//! byte by byte. What it reads of the toolchain, of cargo's products and in the library's own package is known
//! by the lock file and by the toolchain.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::inputs::{Cacheability, InputJudge};
use super::key::Subject;
use super::program::BuiltProgram;
use crate::cache::{Cache, Input, InputState};
use crate::compiler::{
    BuildSpec, BuildStep, BuiltLibrary, BuiltScript, StepCall, TestCompiler, script_output,
};
use crate::hasher::{FileDigest, file_digest};
use crate::model::{Digest, Digester, End, OsText, TargetId, TargetKind};
use crate::observer::{
    Exemption, LOADER_FOLDERS, LoaderCalls, Observation, ObserveOptions, Observer, PathAccess, Uses,
};
use crate::process::{Environment, Priority, Spec, Suspender, WritableFolders, capture};
use crate::verdict::facts::{Facts, Question};
use crate::verdict::fingerprint::Fingerprints;
use crate::verdict::git_question::GitQuestion;
use crate::verdict::patterns::{Excluded, Trusted};
use crate::workspace::{FileKind, PathStamp, replace_folder};

/// A script that takes longer is one of which nothing is known.
const RUN_WAIT: Duration = Duration::from_secs(60);
/// What is said of it then, first of all.
pub(in crate::verdict) const TIMED_OUT: &str = "run again, it does not end";

/// What is added to the value of a variable that should not matter.
const OTHER_VALUE: &str = "-of-another-machine";
/// A larger folder of results is not compared.
const MOST_RESULTS: usize = 10_000;

/// A step of a build that was made once more.
#[derive(Debug)]
pub(in crate::verdict) struct ObservedStep {
    step: BuildStep,
    call: StepCall,
    /// What it consulted.
    pub(in crate::verdict) inputs: Vec<Input>,
    /// What was asked of git.
    pub(in crate::verdict) questions: BTreeSet<GitQuestion>,
}

impl ObservedStep {
    /// The values of variables that cargo gave to the step, and the developer has not.
    pub(in crate::verdict) fn given(&self, own: &Environment) -> Vec<OsText> {
        let variables = self.call.environment.iter();
        let given = variables.filter(|(name, value)| own.get(name) != Some(*value));
        given.map(|(_, value)| OsText(value.to_owned())).collect()
    }

    /// Whether the step comes to the same once more, when these variables have other values.
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
        let spec = spec(&self.call, environment)?;
        compared(&self.call, &self.step, &spec)
            .map_err(|why| format!("{why} when variables differ that it does not name"))
    }
}

/// What cargo's own step has come to. `None` if that cannot be read.
pub(in crate::verdict) fn outcome_of(step: &BuildStep) -> Option<Digest> {
    match step {
        BuildStep::Script(script) => outcome_of_script(script),
        BuildStep::Library(library) => {
            let mut digester = Digester::new("outcome of a library 1");
            for file in &library.files {
                digester.field(file.as_os_str().as_bytes()).digest(&fingerprint(file)?);
            }
            Some(digester.finish())
        }
    }
}

fn outcome_of_script(script: &BuiltScript) -> Option<Digest> {
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

/// Makes steps of one question's build once more.
#[derive(Clone, Copy, Debug)]
pub(in crate::verdict) struct ScriptObserver<'a> {
    pub(in crate::verdict) cache: &'a Cache,
    pub(in crate::verdict) question: &'a Question,
    pub(in crate::verdict) facts: &'a Facts,
    /// Our own executable.
    pub(in crate::verdict) hook: &'a Path,
}

impl ScriptObserver<'_> {
    /// What a step consults.
    ///
    /// # Errors
    /// Why that is not known.
    pub(in crate::verdict) fn observe(
        &self,
        step: &BuildStep,
        fingerprints: &mut Fingerprints,
    ) -> Result<ObservedStep, String> {
        Observer::available().map_err(|error| error.to_string())?;
        let call = self.compiler().step_call(step)?;
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let exemption = exemption(&call, Arc::clone(&asked));
        let judge = self.judge(&call, step, fingerprints)?;
        let mut options = ObserveOptions {
            covered: judge.covered.clone(),
            exemption: Some(exemption),
            loader_calls: LoaderCalls::SearchPasses,
            ..ObserveOptions::default()
        };
        let (seen, started) = loop {
            let spec = spec(&call, call.environment.clone())?;
            let started = SystemTime::now();
            let (observed, running) =
                Observer::observe(&spec, options.clone()).map_err(|error| error.to_string())?;
            let ended = compared(&call, step, &observed);
            let seen = running.finish();
            ended?;
            match LoaderCalls::after(&seen.problems) {
                Some(closer) if closer < options.loader_calls => options.loader_calls = closer,
                _ => break (seen, started),
            }
        };
        if let Some(path) = unlike_a_fresh_build(&seen, &judge, &call, step) {
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
                && !matches!(step, BuildStep::Library(library)
                    if is_known_of_library(library, &path, input.state, &judge.covered))
        };
        let inputs = inputs.into_iter().filter(is_elsewhere).collect();
        let questions = asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(ObservedStep { step: step.clone(), call, inputs, questions })
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
        call: &StepCall,
        step: &BuildStep,
        fingerprints: &mut Fingerprints,
    ) -> Result<InputJudge, String> {
        let Self { cache, question, facts, .. } = *self;
        let root = &question.root;
        let real = |folder: &PathBuf| folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let (package, target) = (step.package().to_owned(), "build script".to_owned());
        let id = TargetId { package, target, kind: TargetKind::Bin };
        let mut subject = Subject::unkeyed(id);
        subject.program = match step {
            BuildStep::Script(script) => {
                Some(BuiltProgram::known(&script.program, root, fingerprints, cache)?)
            }
            BuildStep::Library(_) => None,
        };
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

/// Whether the lock file or the toolchain tells of what the compiler has consulted for a library: its own
/// package, with the folders on the way to it, and the compiler itself.
fn is_known_of_library(
    library: &BuiltLibrary,
    path: &Path,
    state: InputState,
    toolchain: &[PathBuf],
) -> bool {
    let is_way = matches!(state, InputState::Kind(_)) && library.folder.starts_with(path);
    is_way
        || path.starts_with(&library.folder)
        || toolchain.iter().any(|folder| path.starts_with(folder))
}

/// The temporary folder of the runs of a step.
fn temporary(call: &StepCall) -> PathBuf {
    call.mirror().join("tmp")
}

/// A run that writes into empty folders of its own.
fn spec(call: &StepCall, mut environment: Environment) -> Result<Spec, String> {
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
    let spec = Spec::new(&call.program, &call.dir, environment).args(&call.args);
    Ok(spec.priority(Priority::Background).writes_only_in(&folders))
}

/// Makes a step, and compares what it came to with what cargo's own has left.
fn compared(call: &StepCall, step: &BuildStep, spec: &Spec) -> Result<(), String> {
    let output = capture(spec, RUN_WAIT).map_err(|error| error.to_string())?;
    if output.end == End::TimedOut {
        return Err(TIMED_OUT.to_owned());
    }
    if !output.success() {
        return Err(format!("run again, it ended with {}", output.end));
    }
    let is_same = match step {
        BuildStep::Script(script) => {
            let now = results(&call.out_dir, &call.out_dir, &script.out_dir);
            let then = results(&script.out_dir, &script.out_dir, &script.out_dir);
            let place = script.out_dir.as_os_str().as_bytes();
            let printed = replace_folder(&output.stdout, &call.out_dir, place);
            now.is_some() && now == then && printed == call.printed
        }
        BuildStep::Library(library) => library.files.iter().all(|file| {
            let then = fingerprint(file);
            let now = file.file_name().map(|name| call.out_dir.join(name));
            then.is_some() && now.and_then(|now| fingerprint(&now)) == then
        }),
    };
    match is_same {
        true => Ok(()),
        false => Err("run again, it came to something else".to_owned()),
    }
}

/// Which of git's look-ups count by question and answer.
fn exemption(call: &StepCall, asked: Arc<Mutex<BTreeSet<GitQuestion>>>) -> Exemption {
    let git = GitQuestion::program(&call.environment, &call.dir);
    let mut environment = call.environment.clone();
    environment.set("TMPDIR", temporary(call));
    Exemption::new(move |started| {
        if git.as_ref() != Some(&started.file) || started.environment != environment {
            return None;
        }
        let question = GitQuestion::of(started.args.get(1..)?, &started.dir)?;
        let folder = question.git_folder()?;
        asked.lock().unwrap_or_else(PoisonError::into_inner).insert(question);
        Some(folder)
    })
}

/// Something in the target directory, or in its mirror, that the step has looked at: who knows whether
/// it is there in a fresh build. The compiler searches the libraries that were made before.
fn unlike_a_fresh_build<'s>(
    seen: &'s Observation,
    judge: &InputJudge,
    call: &StepCall,
    step: &BuildStep,
) -> Option<&'s Path> {
    let own = [call.out_dir.clone(), temporary(call)];
    let is_harmless = |path: &Path, access: &PathAccess| {
        let is_own = own.iter().any(|folder| path.starts_with(folder));
        let is_program = judge.subject.program.as_ref().is_some_and(|own| own.path == path);
        let is_way = access.first.kind() == Some(FileKind::Folder)
            && !access.uses.any(Uses::LISTED.with(Uses::ATTRIBUTES));
        let is_loaders = access.first == PathStamp::Absent && is_of_loader(path);
        let is_compilers = matches!(step, BuildStep::Library(_)) && is_of_compiler(path, access);
        is_own
            || is_program
            || is_way
            || is_loaders
            || is_compilers
            || access.uses == Uses::FOLLOWED
    };
    let made = judge.target_dirs.iter().map(PathBuf::as_path).chain([call.mirror()]);
    let made: Vec<&Path> = made.collect();
    let mut inputs = seen.inputs();
    let odd = inputs.find(|(path, access)| {
        made.iter().any(|dir| path.starts_with(dir)) && !is_harmless(path, access)
    });
    odd.map(|(path, _)| path)
}

/// Whether it is where the compiler searches the libraries of other packages, or one of these.
fn is_of_compiler(path: &Path, access: &PathAccess) -> bool {
    let is_library =
        path.extension().is_some_and(|end| ["rlib", "rmeta", "so"].iter().any(|own| end == *own));
    match access.first.kind() {
        Some(FileKind::Folder) => path.ends_with("deps"),
        _ => is_library && path.parent().is_some_and(|folder| folder.ends_with("deps")),
    }
}

/// Whether only the dynamic loader looks for something of this name.
fn is_of_loader(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let is_folder = LOADER_FOLDERS.iter().any(|folder| name == folder.as_bytes());
    let is_below = path.parent().is_some_and(|folder| folder.ends_with("glibc-hwcaps"));
    is_folder || is_below || name.windows(3).any(|part| part == b".so")
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
