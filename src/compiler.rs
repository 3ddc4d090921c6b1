//! Builds test binaries by the developer's own `cargo test --no-run`, and asks cargo what it
//! would then run.
//!
//! Nothing here guesses what cargo does. The build is the very call that the developer makes, in
//! the same target directory, with nothing in arguments or environment that cargo takes into a
//! fingerprint: afterwards a build by hand finds everything fresh, and the other way round. The
//! plan of the run comes from cargo's own interfaces, see [`TestCompiler::plan`].
//!
//! | module | what it does |
//! |---|---|
//! | `cargo` | one call of cargo, with everything that it printed |
//! | `message`, `progress`, `error` | cargo's JSON messages, its standard error, its failures |
//! | `hook`, `plan` | which processes cargo would run |
//! | `plan_memo` | the same, known from earlier runs |
//! | `targets`, `units` | test targets, and the units of a build |
//! | `sources` | which files a build has read |
//! | `script_call`, `script_files` | how cargo runs a build script, and what it leaves of the run |
//! | `stale` | build artifacts that no cargo would find fresh |
//! | `locks`, `jobs` | cargo's locks, and its number of jobs |

mod build_sources;
mod cargo;
mod error;
mod file_times;
mod flags;
mod hook;
mod jobs;
mod locks;
mod message;
mod plan;
mod plan_memo;
mod progress;
mod script_call;
mod script_files;
mod sources;
mod stale;
mod targets;
mod told;
mod units;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::process::{Environment, Priority, Suspender};
use crate::workspace::{CargoConfig, CargoConfigFile, Selection, Toolchain};

pub(crate) use build_sources::{BuildSources, BuiltUnit, UnitInputs, WatchedByCargo};
pub(crate) use cargo::target_dir_args;
pub use error::CompileError;
pub use hook::record_invocation;
pub(crate) use locks::{awaited, is_locked};
pub use plan::{PlannedTarget, TestPlan};
pub use progress::BuildProgress;
pub(crate) use script_call::{BuiltScript, ScriptCall};
pub(crate) use script_files::script_output;
pub(crate) use sources::{free_place_of_module, is_module_twice, sources_of_library};
pub(crate) use stale::{BuildLedger, remove_old_ledgers, remove_stale_unit};
pub(crate) use targets::{Artifact, may_be_custom};
pub(crate) use units::{Product, Units};

/// A build: the selection, the environment and the limits.
#[derive(Clone, Debug)]
pub struct BuildSpec {
    /// The workspace root, canonical.
    pub workspace_root: PathBuf,
    /// Folder and arguments of the call.
    pub selection: Selection,
    /// The environment of the call; tests inherit it.
    pub environment: Environment,
    /// The toolchain for that folder and environment.
    pub toolchain: Toolchain,
    /// Cargo's configuration for that folder and environment.
    pub config: CargoConfig,
    /// The target directory, if it is not the developer's own.
    pub target_dir: Option<PathBuf>,
    /// Whether a client is waiting.
    pub priority: Priority,
    /// The largest number of compilers at a time, even if the developer's settings allow more.
    pub jobs: Option<NonZeroUsize>,
    /// Suspends cargo and its compilers.
    pub brake: Suspender,
    /// Whether diagnostics are rendered with colour.
    pub colour: bool,
    /// Our own executable: its `main` calls [`record_invocation`] first.
    pub hook: PathBuf,
}

/// Calls cargo for one selection of tests.
#[derive(Clone, Debug)]
pub struct TestCompiler {
    spec: BuildSpec,
}

/// A build that succeeded.
#[derive(Clone, Debug)]
pub struct Build {
    /// The test binaries, in cargo's order.
    pub artifacts: Vec<Artifact>,
    /// Everything that cargo made or found fresh, dependencies too.
    pub products: Vec<Product>,
    /// Every warning once, as the compiler renders it.
    pub warnings: Vec<String>,
    /// Whether cargo found everything up to date, dependencies too.
    pub fresh: bool,
    /// How many artifacts were not.
    pub rebuilt: usize,
    /// Why: `p v0.1.0 (/w): the environment variable X changed`, for some units that had been built
    /// before. Only background builds have it.
    pub dirty: Vec<String>,
    /// The workspace's own units that were built or fresh, for the [`BuildLedger`].
    pub named: Vec<stale::NamedUnit>,
    /// The files that the compiler and build scripts say they have read.
    pub sources: Box<BuildSources>,
    /// What decides the plan of its run.
    planned_from: Box<plan_memo::PlanSources>,
    /// Whether it is certain that no crate was optimized.
    pub(crate) unoptimized: bool,
    /// How long cargo took.
    pub elapsed: Duration,
}

impl Build {
    /// The programs among its products of which it is certain that no crate in them was optimized.
    pub(crate) fn unoptimized_executables(&self) -> BTreeSet<PathBuf> {
        let products = self.products.iter().filter(|_| self.unoptimized);
        products.flat_map(|product| product.files.iter().cloned()).collect()
    }

    /// Merges an earlier build of a part, whose units were fresh in this one.
    pub(crate) fn comes_after(&mut self, earlier: &Self) {
        let is_of_earlier = |unit: &BuiltUnit| {
            let mut new = earlier.sources.units.iter().filter(|other| other.is_new);
            new.any(|other| (&other.list, other.made) == (&unit.list, unit.made))
        };
        for unit in self.sources.units.iter_mut().filter(|unit| !unit.is_new) {
            unit.is_new = is_of_earlier(unit);
        }
        self.fresh &= earlier.fresh;
        self.rebuilt += earlier.rebuilt;
        let more = earlier.dirty.iter().filter(|line| !self.dirty.contains(line));
        let more: Vec<String> = more.cloned().collect();
        self.dirty.extend(more);
        stale::take_over(&mut self.named, &earlier.named);
    }
}

impl TestCompiler {
    /// A compiler for `spec`. Starts nothing.
    #[must_use]
    #[doc(hidden)]
    pub fn new(spec: BuildSpec) -> Self {
        Self { spec }
    }

    /// The same compiler with a limit on the number of compilers at a time.
    #[must_use]
    #[doc(hidden)]
    pub fn with_jobs(mut self, jobs: Option<NonZeroUsize>) -> Self {
        self.spec.jobs = jobs;
        self
    }

    /// The build that it was made for.
    #[must_use]
    pub(crate) fn spec(&self) -> &BuildSpec {
        &self.spec
    }

    /// Builds: exactly the developer's `cargo test <selection> --no-run`.
    ///
    /// For `--doc`, where cargo refuses `--no-run`, it is the same `cargo test --doc` with a
    /// rustdoc that does nothing. A build script that runs then sees that rustdoc in `RUSTDOC`.
    ///
    /// # Errors
    /// The compiler's errors, or why cargo did not get that far.
    #[doc(hidden)]
    pub async fn build(
        &self,
        cancel: &CancellationToken,
        progress: impl FnMut(BuildProgress),
    ) -> Result<Build, CompileError> {
        let said = if self.spec.selection.is_doc_only() {
            self.rehearse(cancel, progress).await?.0
        } else {
            self.compile(cancel, progress).await?
        };
        let packages = targets::Packages::default();
        Ok(Build {
            unoptimized: self.is_unoptimized(&said),
            artifacts: targets::artifacts(&said.artifacts, &packages)?,
            products: said.artifacts.iter().map(|unit| Product::of(unit, &said.scripts)).collect(),
            fresh: said.is_fresh(),
            rebuilt: said.rebuilt(),
            named: stale::named(&said, &self.spec.workspace_root),
            sources: Box::new(sources::collect(&self.spec.workspace_root, &said)),
            planned_from: Box::new(plan_memo::PlanSources::of(&said)),
            dirty: said.dirty,
            warnings: said.warnings,
            elapsed: said.elapsed,
        })
    }

    /// Whether no crate was optimized: neither by its profile nor by flags that nobody tells us of.
    fn is_unoptimized(&self, said: &cargo::CargoOutput) -> bool {
        let BuildSpec { environment, selection, config, toolchain, .. } = &self.spec;
        let in_file = |file: &CargoConfigFile| {
            std::fs::read(&file.path).map_or(true, |text| flags::file_can_optimize(&text))
        };
        let mut words = selection.cargo.iter();
        // Only a nightly compiler has profiles with flags.
        !toolchain.identity.contains("-nightly")
            && !toolchain.identity.contains("-dev")
            && config.wrappers().is_empty()
            && config.rustc().is_none()
            && !flags::environment_can_optimize(environment)
            && !words.any(|word| flags::has_flags(word.as_encoded_bytes()))
            && !config.files().iter().any(in_file)
            && said.artifacts.iter().all(|unit| unit.profile.opt_level == "0")
    }

    /// Calls cargo; in the background first without the network. A background build is not worth a
    /// wait for an index that does not answer, and the lock file usually says everything.
    async fn compile(
        &self,
        cancel: &CancellationToken,
        mut progress: impl FnMut(BuildProgress),
    ) -> Result<cargo::CargoOutput, CompileError> {
        let arguments = |frozen| cargo::CargoArguments {
            no_run: true,
            frozen,
            ..cargo::CargoArguments::default()
        };
        let BuildSpec { workspace_root, selection, priority, .. } = &self.spec;
        if *priority == Priority::Background
            && workspace_root.join("Cargo.lock").is_file()
            && !selection.is_about_network()
        {
            match cargo::call(&self.spec, arguments(true), cancel, &mut progress).await {
                // A package is to be fetched, or the lock file to be written.
                Err(CompileError::Refused { .. } | CompileError::Manifest { .. }) => {}
                done => return done,
            }
        }
        cargo::call(&self.spec, arguments(false), cancel, progress).await
    }

    /// Asks cargo which processes it would run for this selection, with which arguments, folder
    /// and environment, by letting it run a hook in the place of each: `target.<triple>.runner`
    /// for test binaries, `build.rustdoc` for doctests. Call it after [`TestCompiler::build`],
    /// so that no build script sees the hook; [`TestPlan::fresh`] says whether that held.
    ///
    /// A runner that the developer has configured is put in front of each process, as cargo
    /// would do it. A selection with `--no-run` has an empty plan.
    ///
    /// # Errors
    /// As for a build; and if what the hook recorded makes no sense.
    #[doc(hidden)]
    pub async fn plan(&self, cancel: &CancellationToken) -> Result<TestPlan, CompileError> {
        if self.spec.selection.is_no_run() {
            return Ok(TestPlan { targets: Vec::new(), fresh: true, products: Vec::new() });
        }
        let (said, rehearsal) = self.rehearse(cancel, |_| {}).await?;
        plan::make(&self.spec, &said, &rehearsal)
    }

    /// The plan of `build`, which has just ended: the one in the file `memo` if everything that
    /// cargo's plan follows from is as it was then, else [`TestCompiler::plan`], which the memo
    /// then holds. `ask`: cargo is asked in any case.
    ///
    /// # Errors
    /// Those of [`TestCompiler::plan`].
    #[doc(hidden)]
    pub async fn plan_of(
        &self,
        build: &Build,
        memo: &Path,
        ask: bool,
        cancel: &CancellationToken,
    ) -> Result<TestPlan, CompileError> {
        if self.spec.selection.is_no_run() {
            return self.plan(cancel).await;
        }
        let look_up = plan_memo::PlanLookUp::new(&build.planned_from, &self.spec, memo);
        if let Some(plan) = look_up.find(&build.products).filter(|_| !ask) {
            return Ok(plan);
        }
        let plan = self.plan(cancel).await?;
        look_up.note(&plan);
        Ok(plan)
    }

    /// The targets of the last plan of the same call that the file `memo` holds, whatever was built
    /// for it: a guess at the next plan.
    #[must_use]
    pub(crate) fn last_plan(&self, memo: &Path) -> Vec<PlannedTarget> {
        plan_memo::PlanMemo::load(memo).last(&self.spec)
    }

    /// The whole `cargo test`, with the hook in the place of every process that it would run.
    async fn rehearse(
        &self,
        cancel: &CancellationToken,
        progress: impl FnMut(BuildProgress),
    ) -> Result<(cargo::CargoOutput, plan::Rehearsal), CompileError> {
        let rehearsal = plan::Rehearsal::new(&self.spec)?;
        let said = cargo::call(&self.spec, rehearsal.arguments(), cancel, progress).await?;
        Ok((said, rehearsal))
    }
}

/// Cargo's standard output and its progress.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_output(bytes: &[u8]) {
    let mut progress = |_| {};
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut output = cargo::OutputStream::default();
    let mut errors = progress::ErrorStream::default();
    for piece in [first, second] {
        output.push(piece, &mut progress);
        errors.push(piece, &mut progress);
    }
    let _ = errors.finish(&mut progress);
}

/// A list of sources, and what a build script printed.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz_dep_info(bytes: &[u8]) {
    let _ = told::dependencies(bytes);
    told::watched(bytes).for_each(drop);
}
