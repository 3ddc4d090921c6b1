//! Reads test programs before they are needed: into the page cache, and their digests into the
//! records.
//!
//! An answer reads the test programs whole to see whether they differ, and then runs them. What was
//! just linked is in memory; the programs of a package that will be wanted next may not be.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::super::schedule::{JobKind, JobSpec};
use super::super::shared::Shared;
use super::job::{BackgroundJob, BuildKey, JobEnd, Worker};
use crate::process;
use crate::verdict::store_program_digest;

/// A program that was linked more recently could still change without a trace.
const LINKER_SETTLES: Duration = Duration::from_millis(50);
/// At most so many bytes are read into the page cache after one build.
const LARGEST_READ_AHEAD: u64 = 512 * 1024 * 1024;

/// Has the system read these programs, in this order, as far as the limit allows.
pub(super) fn read_ahead(programs: Vec<PathBuf>) {
    tokio::task::spawn_blocking(move || {
        let mut left = LARGEST_READ_AHEAD;
        for program in programs {
            let Some(bytes) = read_file_ahead(&program, left) else { continue };
            left = left.saturating_sub(bytes);
        }
    });
}

/// Has the system read a file; its length, `None` if that is more than `limit` or not known.
fn read_file_ahead(program: &Path, limit: u64) -> Option<u64> {
    let file = File::open(program).ok()?;
    let bytes = file.metadata().ok()?.len();
    if bytes > limit {
        return None;
    }
    // The kernel reads when the disk is idle; nobody waits for it.
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed).ok()?;
    #[cfg(not(target_os = "linux"))]
    std::io::copy(&mut &file, &mut std::io::sink()).ok()?;
    Some(bytes)
}

/// Begins to remember the digests of these programs, in this order. Calls no cargo and runs nothing.
pub(super) fn start(
    programs: Vec<PathBuf>,
    of: BuildKey,
    root: &Path,
    shared: &Arc<Shared>,
) -> BackgroundJob {
    let spec = JobSpec {
        workspace_root: root.to_owned(),
        target_dirs: Vec::new(),
        kind: JobKind::Prefetch,
    };
    let (job, mut worker) = Worker::start(of, spec, &shared.scheduler);
    let (root, shared) = (root.to_owned(), Arc::clone(shared));
    let spawned = std::thread::Builder::new().name("prefetch".to_owned()).spawn(move || {
        process::lower_thread_priority();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let count = runtime.block_on(remember_programs(&programs, &root, &mut worker, &shared));
        debug!(project = %root.display(), count, "prefetched test programs");
        worker.end(JobEnd::Prefetched);
    });
    if let Err(error) = spawned {
        warn!(%error, "no test program is prefetched");
    }
    job
}

/// Remembers digests as long as the scheduler allows; the number of programs.
async fn remember_programs(
    programs: &[PathBuf],
    root: &Path,
    worker: &mut Worker,
    shared: &Shared,
) -> usize {
    tokio::select! {
        () = worker.cancel.cancelled() => return 0,
        () = tokio::time::sleep(LINKER_SETTLES) => {}
    }
    for (count, program) in programs.iter().enumerate() {
        if worker.granted().await.is_none() {
            return count;
        }
        store_program_digest(program, root, &shared.cache);
    }
    programs.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_missing_programs_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        std::fs::write(&file, [0; 5_000]).unwrap();
        assert_eq!(read_file_ahead(&file, 5_000), Some(5_000));
        assert_eq!(read_file_ahead(&file, 4_999), None);
        assert_eq!(read_file_ahead(&dir.path().join("gone"), 5_000), None);
    }
}
