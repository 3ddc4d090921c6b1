//! Compares a run with earlier ones when nothing else is to be done: what a selection per test would
//! have run. Nobody waits for it.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::super::schedule::{JobKind, JobSpec};
use super::super::shared::Shared;
use super::job::{BackgroundJob, BuildKey, JobEnd, Worker};
use crate::process;
use crate::protocol::RanProgram;
use crate::verdict::{Question, ShadowComparison};

/// Begins to compare the programs of a run. `sysroot` is the toolchain's. Calls no cargo and runs
/// nothing.
pub(super) fn start(
    ran: Vec<RanProgram>,
    of: BuildKey,
    question: &Question,
    sysroot: &Path,
    shared: &Arc<Shared>,
) -> BackgroundJob {
    let spec = JobSpec {
        workspace_root: question.root.clone(),
        target_dirs: Vec::new(),
        kind: JobKind::Prefetch,
    };
    let (job, mut worker) = Worker::start(of, spec, &shared.scheduler);
    worker.teller().answers(false);
    let comparison = ShadowComparison::new(question, sysroot, &shared.cache);
    let (project, shared) = (question.root.clone(), Arc::clone(shared));
    tokio::spawn(async move {
        let compared = compare_all(comparison, ran, &mut worker, &shared).await;
        debug!(project = %project.display(), compared, "compared a run with earlier ones");
        process::trim_memory();
        worker.end(if compared { JobEnd::Compared } else { JobEnd::Cancelled });
    });
    job
}

/// Adds a run's programs to those that wait for a comparison, each in the place of its earlier run.
///
/// A run of one target leaves the others waiting: runs that are repeated until a record holds follow
/// each other faster than they are compared.
pub(super) fn await_comparison(waiting: &mut Vec<RanProgram>, ran: Vec<RanProgram>) {
    waiting.retain(|before| ran.iter().all(|now| now.id != before.id));
    waiting.extend(ran);
}

/// Compares as long as the scheduler allows; whether it came to the end. What was compared by then is kept:
/// the targets that run next are others.
///
/// Each program has a thread of its own. One that is cancelled ends by itself: whoever waits for the job's
/// end does not wait for the thread.
async fn compare_all(
    mut comparison: ShadowComparison,
    ran: Vec<RanProgram>,
    worker: &mut Worker,
    shared: &Arc<Shared>,
) -> bool {
    for program in ran {
        if worker.granted().await.is_none() {
            comparison.finish(&shared.cache);
            return false;
        }
        let (cache, cancel) = (Arc::clone(shared), worker.cancel.clone());
        let step = in_background(move || {
            comparison.compare(&program, &cache.cache);
            if cancel.is_cancelled() {
                comparison.finish(&cache.cache);
                return None;
            }
            Some(comparison)
        });
        tokio::select! {
            biased;
            () = worker.cancel.cancelled() => return false,
            compared = step => match compared.flatten() {
                Some(compared) => comparison = compared,
                None => return false,
            },
        }
    }
    let cache = Arc::clone(shared);
    in_background(move || comparison.finish(&cache.cache)).await.is_some()
}

/// Runs `work` on a thread of low priority; none if it came to nothing.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    let spawned = std::thread::Builder::new().name("shadow".to_owned()).spawn(move || {
        process::lower_thread_priority();
        // Nobody may listen any more.
        let _ = done.send(work());
    });
    if let Err(error) = spawned {
        warn!(%error, "a run is not compared with earlier ones");
    }
    result.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, TargetId, TargetKind};

    #[test]
    fn a_repeated_run_of_one_target_leaves_the_others_waiting() {
        let ran = |target: &str, stamp: &str| RanProgram {
            id: TargetId { package: "p".into(), target: target.into(), kind: TargetKind::Test },
            program: "/nowhere".into(),
            stamp: Digest::of(stamp.as_bytes()),
            context: Digest::of(b"context"),
            variables: Digest::of(b"variables"),
            record: None,
            unoptimized: true,
            is_part: false,
            started: Vec::new(),
            started_unoptimized: Vec::new(),
            tests: Vec::new(),
        };
        let mut waiting = vec![ran("a", "1"), ran("b", "1")];
        await_comparison(&mut waiting, Vec::new());
        await_comparison(&mut waiting, vec![ran("b", "2")]);
        let now = waiting.iter().map(|ran| (&*ran.id.target, ran.stamp));
        let expected = [("a", Digest::of(b"1")), ("b", Digest::of(b"2"))];
        assert_eq!(now.collect::<Vec<_>>(), expected);
    }
}
