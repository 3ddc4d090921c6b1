//! What a run of a plan came to, target by target.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::binary::{Cacheability, TargetRecords};
use crate::cache::Record;
use crate::model::{Source, TargetReport, Timestamp};
use crate::protocol::RanProgram;

/// What a run came to.
#[derive(Default)]
pub(super) struct RanTargets<'a> {
    /// In cargo's order.
    pub(super) targets: Vec<RanTarget>,
    /// Programs outside the target folders that tests were run by.
    pub(super) runners: Vec<PathBuf>,
    /// What cargo has built for it.
    pub(super) products: Vec<PathBuf>,
    /// Why it may not be what cargo would have run.
    pub(super) doubt: Option<String>,
    /// Whether other programs have come in the place of those that were planned: which of them ran
    /// is not known, unless it was seen.
    pub(super) replaced: bool,
    /// Whether it is certain that no crate was optimized.
    pub(super) unoptimized: bool,
    /// See [`Build::unoptimized_executables`](crate::compiler::Build::unoptimized_executables).
    pub(super) unoptimized_executables: BTreeSet<PathBuf>,
    /// The programs that ran, for a comparison with earlier runs.
    pub(super) programs: Vec<RanProgram>,
    /// Where single targets are kept, if they are.
    pub(super) records: Option<TargetRecords<'a>>,
}

/// What a target came to.
pub(super) struct RanTarget {
    pub(super) report: TargetReport,
    /// The record that answered; else it was run.
    pub(super) kept: Option<Arc<Record>>,
    /// The record that answered for those of its tests that were not run, if only some were.
    pub(super) rest: Option<Arc<Record>>,
    /// The record that would have answered, whether it was allowed to or not.
    pub(super) recorded: Option<Arc<Record>>,
    /// Why it was kept or run.
    pub(super) reason: String,
    /// What a record of it would depend on.
    pub(super) cacheability: Cacheability,
    /// Why not all that its run consulted is known, for a person.
    pub(super) unseen: Vec<String>,
    /// Tests of it that had two outcomes on the same code.
    pub(super) flaky: Vec<String>,
}

/// What a run of a target came to.
pub(super) struct EndedTarget {
    pub(super) report: TargetReport,
    pub(super) cacheability: Cacheability,
    pub(super) unseen: Vec<String>,
    /// As in [`RanTarget::rest`].
    pub(super) rest: Option<Arc<Record>>,
}

impl EndedTarget {
    /// When the oldest of its outcomes was found, `now` being just after the run.
    pub(super) fn when(&self, now: Timestamp) -> Timestamp {
        self.rest.as_ref().map_or(now, |record| record.created)
    }
}

impl RanTarget {
    pub(super) fn source(&self) -> Source {
        if self.kept.is_some() { Source::Cache } else { Source::Run }
    }

    /// When the oldest of its outcomes was found, `now` being just after the run.
    pub(super) fn when(&self, now: Timestamp) -> Timestamp {
        self.kept.as_ref().or(self.rest.as_ref()).map_or(now, |record| record.created)
    }
}
