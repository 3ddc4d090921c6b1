//! Plans of earlier runs, so that cargo need not be asked again for one that it would repeat.
//!
//! Cargo's plan follows from what it was asked (the call, its environment, its configuration, the
//! toolchain), from what it then built, and from a few files that it has read. A plan is
//! remembered under the digest of all of that:
//!
//! - every message about a unit, as cargo wrote it: the names of files hold features, profiles and
//!   versions;
//! - what every build script has printed: variables and search paths of the tests come from there;
//! - the manifests of local packages and all above them, from which fields and lints are inherited,
//!   the lock file, and whether there is a readme, which becomes a variable.
//!
//! A plan's environment is stored as its difference from the client's.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BuildSpec;
use super::cargo::CargoOutput;
use super::plan::{PlannedTarget, TestPlan};
use super::script_files::script_output;
use super::units::Product;
use crate::model::{Digest, Digester, Harness, OsText, TargetId, os_text};
use crate::paths::replace_file;
use crate::process::Environment;
use crate::workspace::is_terminal_variable;

/// The version of the file's format, and of the rules by which plans are remembered.
const MEMO_VERSION: u32 = 1;
/// So many plans of a workspace are remembered: of other selections, features, terminals.
const MOST_PLANS: usize = 8;
/// The files that cargo takes for a package's readme where its manifest names none.
const READMES: [&str; 3] = ["README.md", "README.txt", "README"];

/// The facts of a build that decide the plan of its run.
#[derive(Clone, Debug, Default)]
pub(super) struct PlanSources {
    /// Cargo's messages about units and build scripts.
    messages: BTreeSet<Digest>,
    /// The folders that build scripts write into.
    script_dirs: BTreeSet<PathBuf>,
    /// The manifests of local packages.
    manifests: BTreeSet<PathBuf>,
}

impl PlanSources {
    pub(super) fn of(said: &CargoOutput) -> Self {
        let local = said.artifacts.iter().filter(|artifact| artifact.is_local());
        Self {
            messages: said.messages.clone(),
            script_dirs: said.scripts.iter().map(|script| script.out_dir.clone()).collect(),
            manifests: local.map(|artifact| artifact.manifest_path.clone()).collect(),
        }
    }

    /// Digest of everything that decides the plan, with the files as they are now; `None` if one
    /// of them cannot be read.
    fn basis(&self, spec: &BuildSpec) -> Option<Digest> {
        let mut digester = Digester::new("basis of a plan 1");
        digester.digest(&call_digest(spec));
        digester.number(self.messages.len() as u64);
        for message in &self.messages {
            digester.digest(message);
        }
        for folder in &self.script_dirs {
            digester.field(folder.as_os_str().as_bytes()).field(&script_output(folder)?.1);
        }
        let mut files = BTreeSet::from([spec.workspace_root.join("Cargo.lock")]);
        for manifest in &self.manifests {
            let package = manifest.parent()?;
            files.extend(package.ancestors().map(|folder| folder.join("Cargo.toml")));
            for name in READMES {
                digester.number(package.join(name).exists().into());
            }
        }
        for file in files {
            digester.field(file.as_os_str().as_bytes());
            match std::fs::read(&file) {
                Ok(content) => digester.number(1).field(&content),
                Err(error) if error.kind() == io::ErrorKind::NotFound => digester.number(0),
                Err(_) => return None,
            };
        }
        Some(digester.finish())
    }
}

/// Digest of what cargo is asked, and of what it is.
fn call_digest(spec: &BuildSpec) -> Digest {
    let BuildSpec { workspace_root, selection, toolchain, config, target_dir, hook, .. } = spec;
    let mut digester = Digester::new("call of a plan 1");
    let path = |path: &Path| path.as_os_str().as_bytes().to_vec();
    for words in [&selection.cargo, &selection.harness] {
        digester.number(words.len() as u64);
        for word in words {
            digester.field(word.as_bytes());
        }
    }
    let paths = [workspace_root, &selection.dir, hook, &toolchain.cargo, &toolchain.rustc];
    for known in paths.into_iter().chain([&toolchain.rustdoc, &toolchain.sysroot]) {
        digester.field(&path(known));
    }
    digester.field(&target_dir.as_deref().map(path).unwrap_or_default());
    digester.field(toolchain.host.as_bytes()).field(toolchain.identity.as_bytes());
    for file in config.files() {
        digester.field(&path(&file.path)).digest(&file.digest);
    }
    for (name, value) in spec.environment.iter().filter(|(name, _)| !is_of_terminal(name)) {
        digester.field(name.as_bytes()).field(value.as_bytes());
    }
    digester.finish()
}

/// Whether a variable differs between terminals, and neither cargo nor rustup decides it.
fn is_of_terminal(name: &OsStr) -> bool {
    is_terminal_variable(name) && !name.as_bytes().starts_with(b"RUST")
}

/// The remembered plans of a workspace.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PlanMemo {
    version: u32,
    /// The newest first.
    plans: Vec<RememberedPlan>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RememberedPlan {
    /// What cargo was asked.
    call: Digest,
    /// What the plan follows from.
    basis: Digest,
    targets: Vec<RememberedTarget>,
}

/// A planned target, its environment as the difference from the client's.
#[derive(Debug, Serialize, Deserialize)]
struct RememberedTarget {
    id: TargetId,
    #[serde(with = "os_text")]
    program: PathBuf,
    args: Vec<OsText>,
    #[serde(with = "os_text")]
    dir: PathBuf,
    set: Vec<(OsText, OsText)>,
    removed: Vec<OsText>,
    harness: Harness,
}

impl RememberedTarget {
    /// `None` if cargo decides a variable that differs between terminals.
    fn of(planned: &PlannedTarget, client: &Environment) -> Option<Self> {
        let PlannedTarget { id, program, args, dir, environment, harness } = planned;
        let is_new = |(name, value): &(&OsStr, &OsStr)| client.get(name) != Some(value);
        let set: Vec<_> = environment.iter().filter(is_new).collect();
        let is_gone = |name: &&OsStr| environment.get(name).is_none();
        let removed: Vec<_> = client.iter().map(|(name, _)| name).filter(is_gone).collect();
        let mut names = set.iter().map(|(name, _)| *name).chain(removed.iter().copied());
        if names.any(is_of_terminal) {
            return None;
        }
        Some(Self {
            id: id.clone(),
            program: program.clone(),
            args: args.iter().map(OsText::from).collect(),
            dir: dir.clone(),
            set: set.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            removed: removed.into_iter().map(OsText::from).collect(),
            harness: *harness,
        })
    }

    fn planned(&self, client: &Environment) -> PlannedTarget {
        let mut environment = client.clone();
        self.removed.iter().for_each(|name| environment.remove(&name.0));
        for (name, value) in &self.set {
            environment.set(name.0.clone(), value.0.clone());
        }
        PlannedTarget {
            id: self.id.clone(),
            program: self.program.clone(),
            args: self.args.iter().map(|arg| arg.0.clone()).collect(),
            dir: self.dir.clone(),
            environment,
            harness: self.harness,
        }
    }
}

impl PlanMemo {
    /// The plans that `file` holds; none if it cannot be read, or is of another version.
    pub(super) fn load(file: &Path) -> Self {
        let memo = std::fs::read(file).ok();
        let memo: Option<Self> = memo.and_then(|text| serde_json::from_slice(&text).ok());
        memo.filter(|memo| memo.version == MEMO_VERSION).unwrap_or_default()
    }

    /// The plan of a build whose basis is this one.
    fn plan(&self, basis: &Digest, products: &[Product], spec: &BuildSpec) -> Option<TestPlan> {
        let plan = self.plans.iter().find(|plan| plan.basis == *basis)?;
        let targets = plan.targets.iter().map(|target| target.planned(&spec.environment));
        let products = products.iter().flat_map(|product| product.files.iter().cloned());
        Some(TestPlan { targets: targets.collect(), fresh: true, products: products.collect() })
    }

    /// The targets of the last plan of the same call, whatever was built for it.
    pub(super) fn last(&self, spec: &BuildSpec) -> Vec<PlannedTarget> {
        let call = call_digest(spec);
        let plan = self.plans.iter().find(|plan| plan.call == call);
        let targets = plan.map(|plan| &plan.targets[..]).unwrap_or_default();
        targets.iter().map(|target| target.planned(&spec.environment)).collect()
    }

    fn note(&mut self, basis: Digest, plan: &TestPlan, spec: &BuildSpec) {
        let targets = plan.targets.iter().map(|t| RememberedTarget::of(t, &spec.environment));
        let Some(targets) = targets.collect() else { return };
        self.version = MEMO_VERSION;
        self.plans.retain(|plan| plan.basis != basis);
        self.plans.insert(0, RememberedPlan { call: call_digest(spec), basis, targets });
        self.plans.truncate(MOST_PLANS);
    }

    fn save(&self, file: &Path) -> io::Result<()> {
        replace_file(file, &serde_json::to_vec(self)?).map(drop)
    }
}

/// The remembered plan of a build that has just ended.
pub(super) struct PlanLookUp<'a> {
    sources: &'a PlanSources,
    spec: &'a BuildSpec,
    file: &'a Path,
    basis: Option<Digest>,
}

impl<'a> PlanLookUp<'a> {
    pub(super) fn new(sources: &'a PlanSources, spec: &'a BuildSpec, file: &'a Path) -> Self {
        Self { sources, spec, file, basis: sources.basis(spec) }
    }

    /// The remembered plan, if there is one, for a build that has made `products`.
    pub(super) fn find(&self, products: &[Product]) -> Option<TestPlan> {
        PlanMemo::load(self.file).plan(self.basis.as_ref()?, products, self.spec)
    }

    /// Remembers the plan that cargo gave instead, unless something of its basis has changed.
    pub(super) fn note(&self, plan: &TestPlan) {
        let Some(basis) = self.basis.filter(|_| plan.fresh) else { return };
        if self.sources.basis(self.spec) != Some(basis) {
            return;
        }
        let mut memo = PlanMemo::load(self.file);
        memo.note(basis, plan, self.spec);
        if let Err(error) = memo.save(self.file) {
            tracing::debug!(%error, file = %self.file.display(), "a plan is not remembered");
        }
    }
}
