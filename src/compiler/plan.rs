//! The processes that make up a run, from the calls that the hook recorded.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::cargo::{CargoArguments, CargoOutput};
use super::hook::{HookFolder, RecordedCall};
use super::targets::{Artifact, Packages, artifacts};
use super::{BuildSpec, CompileError};
use crate::model::{Harness, TargetId, TargetKind};
use crate::process::Environment;
use crate::workspace::RunnerShape;

/// Everything that cargo would run, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestPlan {
    /// The processes.
    pub targets: Vec<PlannedTarget>,
    /// Whether cargo built nothing while it was asked. If it did, the tree changed after the
    /// build, or a build script watches the variable `RUSTDOC`: nothing may be recorded.
    pub fresh: bool,
    /// Every file that cargo reports for it. If one changes before the tests have ended, another
    /// build has replaced it.
    pub products: Vec<PathBuf>,
}

/// One process of a run, exactly as cargo would start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedTarget {
    /// The target whose tests it runs. If a selection names several `--target`s, the target's name
    /// carries its triple: `name@triple`.
    pub id: TargetId,
    /// The test binary, rustdoc, or the developer's runner.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its folder.
    pub dir: PathBuf,
    /// Its whole environment.
    pub environment: Environment,
    /// The harness inside it.
    pub harness: Harness,
}

/// The hook set up for one call of cargo.
pub(super) struct Rehearsal {
    folder: HookFolder,
    /// The targets that binaries may be built for; the index is the runner link's.
    triples: Vec<String>,
    rustdoc: PathBuf,
    config: Vec<String>,
    environment: Environment,
}

impl Rehearsal {
    pub(super) fn new(spec: &BuildSpec) -> Result<Self, CompileError> {
        let triples = triples(spec);
        let rustdoc = spec.config.rustdoc().unwrap_or_else(|| spec.toolchain.rustdoc.clone());
        let folder = HookFolder::new(&spec.hook, &rustdoc, triples.len())?;
        let mut config = Vec::new();
        for (index, triple) in triples.iter().enumerate() {
            let path = text(&folder.runner(index))?;
            // Cargo merges neither an array into a text nor a text into an array.
            let value = match spec.config.runner_shape(triple) {
                RunnerShape::Array => format!("[{path}]"),
                RunnerShape::Text => path,
            };
            config.push(format!("target.{}.runner={value}", toml::Value::from(triple.as_str())));
        }
        config.push(format!("build.rustdoc={}", text(&folder.rustdoc())?));
        let mut environment = spec.environment.clone();
        if environment.get("RUSTDOC").is_some() {
            // The one variable that comes before `--config`.
            environment.set("RUSTDOC", folder.rustdoc());
        }
        Ok(Self { folder, triples, rustdoc, config, environment })
    }

    pub(super) fn arguments(&self) -> CargoArguments {
        CargoArguments {
            no_run: false,
            frozen: false,
            config: self.config.clone(),
            environment: Some(self.environment.clone()),
            writable: None,
        }
    }
}

/// A path as a value of a setting.
fn text(path: &Path) -> Result<String, CompileError> {
    let text = path.to_str().ok_or_else(|| {
        CompileError::BadOutput(format!("the folder `{}` is not UTF-8", path.display()))
    })?;
    Ok(toml::Value::from(text).to_string())
}

/// Every target triple that may be built for. The host is always among them: tests of procedural
/// macros run there.
fn triples(spec: &BuildSpec) -> Vec<String> {
    let host = &spec.toolchain.host;
    let mut asked = spec.selection.targets();
    if asked.is_empty() {
        asked = spec.config.build_targets();
    }
    let name = |target: String| {
        if target == "host-tuple" {
            return host.clone();
        }
        // A target's specification in a file goes by the file's name.
        match target.strip_suffix(".json") {
            Some(path) => path.rsplit('/').next().unwrap_or(path).to_owned(),
            None => target,
        }
    };
    let mut triples: Vec<String> = Vec::new();
    for triple in asked.into_iter().map(name).chain([host.clone()]) {
        if !triples.contains(&triple) {
            triples.push(triple);
        }
    }
    triples
}

/// The plan that a rehearsal recorded.
pub(super) fn make(
    spec: &BuildSpec,
    said: &CargoOutput,
    rehearsal: &Rehearsal,
) -> Result<TestPlan, CompileError> {
    let packages = Packages::default();
    let binaries: HashMap<PathBuf, Artifact> = artifacts(&said.artifacts, &packages)?
        .into_iter()
        .map(|artifact| (artifact.executable.clone(), artifact))
        .collect();
    let runners = rehearsal
        .triples
        .iter()
        .map(|triple| runner(spec, triple))
        .collect::<Result<Vec<_>, _>>()?;
    let mut targets = Vec::new();
    for call in rehearsal.folder.calls()? {
        let mut environment = call.environment();
        if let Some(value) = spec.environment.get("RUSTDOC") {
            environment.set("RUSTDOC", value);
        }
        let by_rustdoc = call.called_as == rehearsal.folder.rustdoc();
        targets.push(if by_rustdoc {
            doctest(rehearsal, &runners, &call, environment)?
        } else {
            binary(rehearsal, &runners, &binaries, &call, environment)?
        });
    }
    let products = said.artifacts.iter().flat_map(|artifact| artifact.filenames.iter().cloned());
    Ok(TestPlan { targets: unique(targets)?, fresh: said.is_fresh(), products: products.collect() })
}

/// A process and the triple that it is for.
type TargetForTriple = (Option<String>, PlannedTarget);

/// The developer's own runner for a target; empty if it is our `exec`.
fn runner(spec: &BuildSpec, triple: &str) -> Result<Vec<OsString>, CompileError> {
    let cfgs = if spec.config.has_cfg_runner() {
        spec.toolchain.cfgs(triple, &spec.selection.dir, &spec.environment)?
    } else {
        Vec::new()
    };
    let runner = spec.config.runner(triple, &cfgs)?.unwrap_or_default();
    Ok(if is_ours(&runner, &spec.hook) { Vec::new() } else { runner })
}

/// Whether a runner is our own `exec`, which would ask the cache again.
fn is_ours(runner: &[OsString], hook: &Path) -> bool {
    let [program, verb, ..] = runner else { return false };
    let program = Path::new(program);
    let same = || {
        let real = program.canonicalize().ok();
        real.is_some() && real == hook.canonicalize().ok()
    };
    verb == "exec" && (program.file_name() == Some(OsStr::new("knhk-test-cache")) || same())
}

fn binary(
    rehearsal: &Rehearsal,
    runners: &[Vec<OsString>],
    binaries: &HashMap<PathBuf, Artifact>,
    call: &RecordedCall,
    environment: Environment,
) -> Result<TargetForTriple, CompileError> {
    let index = (0..runners.len()).find(|&index| rehearsal.folder.runner(index) == call.called_as);
    let index = index.ok_or_else(|| unknown("a runner", &call.called_as))?;
    let mut args = call.args();
    if args.is_empty() {
        return Err(CompileError::BadOutput("the runner was called without a binary".to_owned()));
    }
    let program = call.dir.join(args.remove(0));
    let artifact = binaries.get(&program).ok_or_else(|| unknown("a test binary", &program))?;
    let (program, args) = match runners[index].split_first() {
        None => (program, args),
        Some((runner, rest)) => {
            let words = rest.iter().cloned().chain([program.into_os_string()]).chain(args);
            (PathBuf::from(runner), words.collect())
        }
    };
    let planned = PlannedTarget {
        id: artifact.id.clone(),
        program,
        args,
        dir: call.dir.clone(),
        environment,
        harness: artifact.harness,
    };
    Ok((Some(rehearsal.triples[index].clone()), planned))
}

fn unknown(what: &str, path: &Path) -> CompileError {
    CompileError::BadOutput(format!(
        "it ran `{}` as {what}, which it has not built",
        path.display()
    ))
}

fn doctest(
    rehearsal: &Rehearsal,
    runners: &[Vec<OsString>],
    call: &RecordedCall,
    environment: Environment,
) -> Result<TargetForTriple, CompileError> {
    let args = call.args();
    let package = environment.get("CARGO_PKG_NAME").and_then(OsStr::to_str).map(str::to_owned);
    let name = args.windows(2).find(|pair| pair[0] == "--crate-name").and_then(|p| p[1].to_str());
    let (Some(package), Some(target)) = (package, name.map(str::to_owned)) else {
        let what = "a call of rustdoc without a crate's or package's name".to_owned();
        return Err(CompileError::BadOutput(what));
    };
    let links = (0..runners.len()).map(|index| rehearsal.folder.runner(index).into_os_string());
    let (args, index) = without_hook(args, &links.collect::<Vec<_>>(), runners);
    let planned = PlannedTarget {
        id: TargetId { package, target, kind: TargetKind::Doc },
        program: rehearsal.rustdoc.clone(),
        args,
        dir: call.dir.clone(),
        environment,
        harness: Harness::Doctest,
    };
    Ok((index.map(|index| rehearsal.triples[index].clone()), planned))
}

/// Rustdoc's arguments as the developer's cargo would give them: the developer's runner, if any,
/// in the place of our link, and errors for people, not in JSON. Also which link it was.
fn without_hook(
    args: Vec<OsString>,
    links: &[OsString],
    runners: &[Vec<OsString>],
) -> (Vec<OsString>, Option<usize>) {
    let mut kept: Vec<OsString> = Vec::with_capacity(args.len());
    let mut found = None;
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        if arg == "--test-runtool" || arg == "--runtool" {
            let link = args.next().unwrap_or_default();
            found = links.iter().position(|known| *known == link);
            if let Some((program, rest)) = found.and_then(|index| runners[index].split_first()) {
                let option = arg.to_string_lossy().into_owned();
                kept.extend([arg, program.clone()]);
                for word in rest {
                    kept.extend([format!("{option}-arg").into(), word.clone()]);
                }
            }
        } else if arg == "--error-format" && args.peek().is_some_and(|value| value == "json") {
            args.next();
        } else {
            kept.push(arg);
        }
    }
    (kept, found)
}

/// Adds the triple to names that are the same. If they still are, the results cannot be told apart
/// (an error).
fn unique(targets: Vec<TargetForTriple>) -> Result<Vec<PlannedTarget>, CompileError> {
    let mut counts: BTreeMap<TargetId, usize> = BTreeMap::new();
    for (_, planned) in &targets {
        *counts.entry(planned.id.clone()).or_default() += 1;
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut all = Vec::with_capacity(targets.len());
    for (triple, mut planned) in targets {
        if let Some(triple) = triple.filter(|_| counts[&planned.id] > 1) {
            planned.id.target = format!("{}@{triple}", planned.id.target);
        }
        if !seen.insert(planned.id.clone()) {
            let what = format!("it runs `{}` twice", planned.id);
            return Err(CompileError::BadOutput(what));
        }
        all.push(planned);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn rustdocs_arguments_become_the_developers() {
        let called = words(
            "--crate-name a --test a.rs --test-runtool /t/0/hook --test-args --foo \
             --error-format json --test-runtool-x y",
        );
        let links = words("/t/0/hook /t/1/hook");
        let none = [Vec::new(), Vec::new()];
        let (args, index) = without_hook(called.clone(), &links, &none);
        let plain = words("--crate-name a --test a.rs --test-args --foo --test-runtool-x y");
        assert_eq!((args, index), (plain, Some(0)));
        let own = [words("env A=1 B=2"), Vec::new()];
        let (args, _) = without_hook(called, &links, &own);
        let expected = words(
            "--crate-name a --test a.rs --test-runtool env --test-runtool-arg A=1 \
             --test-runtool-arg B=2 --test-args --foo --test-runtool-x y",
        );
        assert_eq!(args, expected);
    }

    #[test]
    fn our_own_runner_is_recognised() {
        let hook = Path::new("/bin/sh");
        assert!(is_ours(&words("/x/knhk-test-cache exec"), hook));
        assert!(is_ours(&words("/bin/sh exec --flag"), hook));
        assert!(!is_ours(&words("/x/knhk-test-cache"), hook));
        assert!(!is_ours(&words("env exec"), hook) && !is_ours(&[], hook));
    }

    #[test]
    fn equal_names_get_their_triple_or_are_refused() {
        let planned = |triple: Option<&str>| {
            let planned = PlannedTarget {
                id: TargetId { package: "p".into(), target: "t".into(), kind: TargetKind::Lib },
                program: "/x".into(),
                args: Vec::new(),
                dir: "/".into(),
                environment: Environment::default(),
                harness: Harness::Libtest,
            };
            (triple.map(str::to_owned), planned)
        };
        let names = |targets| -> Result<Vec<String>, CompileError> {
            Ok(unique(targets)?.into_iter().map(|planned| planned.id.target).collect())
        };
        assert_eq!(names(vec![planned(Some("a"))]).unwrap(), ["t"]);
        assert_eq!(names(vec![planned(Some("a")), planned(Some("b"))]).unwrap(), ["t@a", "t@b"]);
        assert!(names(vec![planned(Some("a")), planned(Some("a"))]).is_err());
        assert!(names(vec![planned(None), planned(None)]).is_err());
    }
}
