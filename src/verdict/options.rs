//! How a question is run: the options, the steps that are told meanwhile, the errors.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::TreeError;
use crate::cache::Limits;
use crate::compiler::{Build, BuildProgress, CompileError};
use crate::config::{CacheSettings, Settings};
use crate::model::Timestamp;
use crate::process::Priority;
use crate::protocol::KnownFailure;
use crate::runner;
use crate::runner::nextest::NextestError;
use crate::shared::SharedStore;

/// How to run.
#[derive(Clone, Debug)]
pub(crate) struct RunOptions {
    /// When the question came.
    pub asked: Timestamp,
    /// Our own executable, for cargo's runner hook.
    pub hook: PathBuf,
    /// Test binaries at a time.
    pub jobs: NonZeroUsize,
    /// At most so many compilers at a time; none leaves it to cargo.
    pub build_jobs: Option<NonZeroUsize>,
    /// Whether someone waits.
    pub priority: Priority,
    /// Whether cargo's messages are coloured.
    pub color: bool,
    /// Let no record answer.
    pub no_cache: bool,
    /// Which targets may run.
    pub scope: RunScope,
    /// The packages whose targets start before the others.
    pub first: Vec<String>,
    /// What is kept.
    pub limits: Limits,
    /// The store of other machines' records.
    pub store: Option<SharedStore>,
    /// Whether other machines are asked at all: a red run is remembered then, so that none of their records
    /// answers instead.
    pub remembers_red: bool,
    /// The address of the user's SSH agent for cargo, where tests do not see it.
    pub agent: Option<OsString>,
    /// Cancels the question: builds and runs are ended.
    pub cancel: CancellationToken,
}

/// How long records of a project are kept, and how many.
pub(crate) fn limits(cache: &CacheSettings, settings: &Settings) -> Limits {
    Limits {
        keep_snapshots: settings.keep_snapshots as usize,
        max_bytes: cache.max_size,
        max_age: cache.max_age,
    }
}

impl RunOptions {
    /// Takes the agent out of a test's environment, where tests do not see it.
    pub(super) fn hide_agent(&self, job: &mut runner::TestJob) {
        if self.agent.is_some() {
            job.environment.remove("SSH_AUTH_SOCK");
        }
    }
}

/// Which targets may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunScope {
    /// Every target of the selection.
    All,
    /// Targets whose last observed run was quick and had no side effects.
    Unasked,
}

/// What is going on, for a progress line.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// The tree is being read.
    Looking,
    /// No record answers, and why.
    Missed(&'a str),
    /// The shared store does not answer: said once.
    StoreFailed(&'a str),
    /// Why a record of another machine does not answer.
    NotShared(&'a str),
    /// This very code is known to fail.
    KnownFailure(&'a KnownFailure),
    /// Cargo builds.
    Building(BuildProgress),
    /// Cargo has built.
    Built(&'a Build),
    /// Files changed while cargo built: it builds again.
    BuildingAgain(&'a [String]),
    /// What will be run.
    Planned {
        /// So many targets.
        run: usize,
        /// So many would have to be run too, and may not.
        left: usize,
    },
    /// The tests run.
    Running(runner::RunEvent<'a>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The build failed, or cargo did.
    #[error(transparent)]
    Build(#[from] CompileError),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Cargo-nextest could not run.
    #[error(transparent)]
    Nextest(#[from] NextestError),
    /// Targets that may run have run; others would have to.
    #[error("{left} targets may not run unasked")]
    Left {
        /// So many.
        left: usize,
        /// What ran holds for the tree: it is the same as before the build.
        is_steady: bool,
    },
    /// It was ended.
    #[error("cancelled")]
    Cancelled,
}
