//! The status of a project, and what of a project is kept over restarts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tracing::{info, warn};

use super::super::shared::Shared;
use crate::cache::{ProjectState, SelectionRecord};
use crate::protocol::{CacheUse, InterruptionStats, LastVerdict, ProjectStatus, State};

/// Tells a project's status to the rest of the daemon.
#[derive(Clone)]
pub(super) struct StatusTeller {
    workspace_root: PathBuf,
    status: watch::Sender<ProjectStatus>,
    shared: Arc<Shared>,
}

impl StatusTeller {
    pub(super) fn new(workspace_root: PathBuf, shared: Arc<Shared>) -> Self {
        let status = ProjectStatus {
            path: workspace_root.clone(),
            state: State::Hashing,
            reason: None,
            paused_until: None,
            code_hash: None,
            watch: "starting".to_owned(),
            target_dirs: Vec::new(),
            notes: Vec::new(),
            last_build: None,
            last_verdict: None,
            cache: CacheUse::default(),
            verified: 0,
            wrong: 0,
            flaky: Vec::new(),
            selection: SelectionRecord::default(),
            yields: InterruptionStats::default(),
        };
        Self { workspace_root, status: watch::Sender::new(status), shared }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<ProjectStatus> {
        self.status.subscribe()
    }

    /// The status as it was last told.
    pub(super) fn get(&self) -> ProjectStatus {
        self.status.borrow().clone()
    }

    /// Changes the status, and has the daemon told if `change` changed something.
    pub(super) fn change(&self, change: impl FnOnce(&mut ProjectStatus)) {
        let changed = self.status.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            before != *status
        });
        if changed {
            self.shared.status_changed();
        }
    }

    /// Keeps something over restarts. Nobody waits for the disk; what is lost is found out again.
    pub(super) fn keep(&self, change: impl FnOnce(&mut ProjectState) + Send + 'static) {
        let (root, shared) = (self.workspace_root.clone(), Arc::clone(&self.shared));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.cache.update_state(&root, change) {
                warn!(project = %root.display(), %error, "not kept over a restart");
            }
        });
    }
}

/// Writes a verdict into the log.
pub(super) fn log_verdict(workspace_root: &Path, verdict: &LastVerdict) {
    info!(
        project = %workspace_root.display(),
        outcome = %verdict.verdict,
        duration = verdict.elapsed_ms,
        snapshot = verdict.code_hash.map(|code| code.to_string()),
        passed = verdict.counts.passed,
        failed = verdict.counts.failed,
        "verdict"
    );
}
