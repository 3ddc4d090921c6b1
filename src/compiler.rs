//! Builds test binaries by the developer's own `cargo test --no-run`, and asks cargo what it
//! would then run.
//!
//! Nothing here guesses what cargo does. The build is the very call that the developer makes, in
//! the same target directory, with nothing in arguments or environment that cargo takes into a
//! fingerprint: afterwards a build by hand finds everything fresh, and the other way round. The
//! plan of the run comes from cargo's own interfaces, see [`TestCompiler::plan`].

mod cargo;
mod error;
mod hook;
mod jobs;
mod locks;
mod message;
mod plan;
mod progress;
mod sources;
mod stale;
mod targets;
mod units;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::process::{Environment, Priority, Suspender};
use crate::workspace::{CargoConfig, Selection, Toolchain};

pub use cargo::target_dir_args;
pub use error::CompileError;
pub use hook::record_invocation;
pub use locks::{is_locked, waiting_for_us};
pub use plan::{PlannedTarget, TestPlan};
pub use progress::BuildProgress;
pub use sources::BuildSources;
pub use stale::{BuildLedger, remove_old_ledgers, remove_stale_unit};
pub use targets::{Artifact, may_be_custom};
pub use units::{Product, Units};

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct BuildSpec {
    /// The workspace's root, canonical.
    pub root: PathBuf,
    /// Folder and arguments of the call.
    pub selection: Selection,
    /// The environment of the call; tests inherit it.
    pub environment: Environment,
    /// The toolchain for that folder and environment.
    pub toolchain: Toolchain,
    /// Cargo's configuration for that folder and environment.
    pub config: CargoConfig,
    /// Where to build, if it is not where the developer's cargo would.
    pub target_dir: Option<PathBuf>,
    /// Whether someone is waiting.
    pub priority: Priority,
    /// At most so many compilers at a time, even where the developer's own settings allow more.
    pub jobs: Option<NonZeroUsize>,
    /// What has cargo and its compilers stand still.
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
    /// Everything that it is made of, dependencies too.
    pub products: Vec<Product>,
    /// Every warning once, as the compiler renders it.
    pub warnings: Vec<String>,
    /// Whether cargo found everything up to date, dependencies too.
    pub fresh: bool,
    /// How many artifacts were not.
    pub rebuilt: usize,
    /// Why: `p v0.1.0 (/w): the environment variable X changed`, for some of what had been built
    /// before. Only of builds that nobody waits for.
    pub dirty: Vec<String>,
    /// What of the workspace's own was built or fresh, for the [`BuildLedger`].
    pub named: Vec<stale::NamedUnit>,
    /// Which files the compiler and build scripts say they have read.
    pub sources: Box<BuildSources>,
    /// How long cargo took.
    pub elapsed: Duration,
}

impl Build {
    /// Takes over what an earlier build of a part has made of it: here that was fresh.
    pub fn comes_after(&mut self, earlier: &Self) {
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
    pub fn new(spec: BuildSpec) -> Self {
        Self { spec }
    }

    /// The same with at most so many compilers at a time.
    #[must_use]
    pub fn with_jobs(mut self, jobs: Option<NonZeroUsize>) -> Self {
        self.spec.jobs = jobs;
        self
    }

    /// What it was made for.
    #[must_use]
    pub fn spec(&self) -> &BuildSpec {
        &self.spec
    }

    /// Builds: exactly the developer's `cargo test <selection> --no-run`.
    ///
    /// For `--doc`, where cargo refuses `--no-run`, it is the same `cargo test --doc` with a
    /// rustdoc that does nothing in the place of the real one. A build script that runs then sees
    /// that one's path in `RUSTDOC`.
    ///
    /// # Errors
    /// The compiler's errors, or why cargo did not get that far.
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
            artifacts: targets::artifacts(&said.artifacts, &packages)?,
            products: said.artifacts.iter().map(Product::of).collect(),
            fresh: said.is_fresh(),
            rebuilt: said.rebuilt(),
            named: stale::named(&said, &self.spec.root),
            sources: Box::new(sources::collect(&self.spec.root, &said)),
            dirty: said.dirty,
            warnings: said.warnings,
            elapsed: said.elapsed,
        })
    }

    /// Where nobody waits, without the network first: a build ahead of need is not worth a wait
    /// for an index that does not answer, and mostly the lock file says all.
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
        let BuildSpec { root, selection, priority, .. } = &self.spec;
        if *priority == Priority::Background
            && root.join("Cargo.lock").is_file()
            && !selection.is_about_network()
        {
            match cargo::call(&self.spec, arguments(true), cancel, &mut progress).await {
                // Something is to be fetched, or the lock file to be written.
                Err(CompileError::Refused { .. } | CompileError::Manifest { .. }) => {}
                done => return done,
            }
        }
        cargo::call(&self.spec, arguments(false), cancel, progress).await
    }

    /// Asks cargo which processes it would run for this selection, with which arguments, folder
    /// and environment, by letting it run a hook in the place of each: `target.<triple>.runner`
    /// for test binaries, `build.rustdoc` for doctests. RecordedCall it after [`TestCompiler::build`],
    /// so that no build script sees the hook; [`TestPlan::fresh`] says whether that held.
    ///
    /// A runner that the developer has configured is put in front of each process, as cargo
    /// would do it. A selection with `--no-run` has an empty plan.
    ///
    /// # Errors
    /// As for a build; and if what the hook recorded makes no sense.
    pub async fn plan(&self, cancel: &CancellationToken) -> Result<TestPlan, CompileError> {
        if self.spec.selection.is_no_run() {
            return Ok(TestPlan { targets: Vec::new(), fresh: true, products: Vec::new() });
        }
        let (said, rehearsal) = self.rehearse(cancel, |_| {}).await?;
        plan::make(&self.spec, &said, &rehearsal)
    }

    /// The whole `cargo test`, with the hook in the place of whatever it runs.
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
    let _ = sources::dependencies(bytes);
    sources::watched(bytes).for_each(drop);
}
