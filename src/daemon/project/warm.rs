//! Has what an answer looks at first looked at before: the programs that will be wanted are read
//! in, and what is loaded of each test program is remembered.
//!
//! What was just linked is in memory anyway. The test programs of a package that will be wanted
//! next may not be: an answer reads them whole, to see whether they differ, and then runs them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::super::Shared;
use super::super::conditions::Follower;
use super::work::{Built, End, Work, Worker};
use crate::process;
use crate::protocol::State;
use crate::verdict::store_program_digest;

/// What was linked a moment ago could still change without a trace: of that nothing is remembered.
const SETTLED: Duration = Duration::from_millis(50);

/// How many bytes are read in after one build.
const BYTES: u64 = 512 * 1024 * 1024;

/// Reads these in, in this order, as far as the bound allows; tells nobody, and waits for nothing.
pub(super) fn read_in(programs: Vec<PathBuf>) {
    tokio::task::spawn_blocking(move || {
        let mut left = BYTES;
        for program in programs {
            let Some(bytes) = ask_for(&program, left) else { continue };
            left = left.saturating_sub(bytes);
        }
    });
}

/// Asks the system to read a file; how many bytes those are, `None` if it is too large or not
/// there.
fn ask_for(program: &Path, most: u64) -> Option<u64> {
    let file = File::open(program).ok()?;
    let bytes = file.metadata().ok()?.len();
    if bytes > most {
        return None;
    }
    // It reads whenever it has nothing better to do; we do not wait for it.
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::WillNeed).ok()?;
    #[cfg(not(target_os = "linux"))]
    std::io::copy(&mut &file, &mut std::io::sink()).ok()?;
    Some(bytes)
}

/// Looks at these programs, in this order, for as long as nobody waits. No cargo is called and
/// nothing is run.
pub(super) fn look_at(
    programs: Vec<PathBuf>,
    of: Built,
    root: &Path,
    shared: &Arc<Shared>,
) -> Work {
    let (work, worker) = Work::start(of, State::Idle, "");
    let (root, shared) = (root.to_owned(), Arc::clone(shared));
    let spawned = std::thread::Builder::new().name("ahead".to_owned()).spawn(move || {
        process::lower_thread_priority();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        let mut conditions = shared.conditions.follow(&root);
        let looked_at = runtime.block_on(look(&programs, &worker, &mut conditions, &shared));
        debug!(project = %root.display(), count = looked_at, "looked at test programs ahead");
        // The project may have left the config meanwhile.
        let _ = worker.done.send(End::Warm);
    });
    if let Err(error) = spawned {
        warn!(%error, "nothing is looked at ahead");
    }
    work
}

/// How many programs it came to.
async fn look(
    programs: &[PathBuf],
    worker: &Worker,
    conditions: &mut Follower,
    shared: &Shared,
) -> usize {
    let go = async {
        tokio::time::sleep(SETTLED).await;
        conditions
    };
    let mut given_up = std::pin::pin!(worker.given_up_or_wanted());
    let conditions = tokio::select! {
        biased;
        () = &mut given_up => return 0,
        conditions = go => conditions,
    };
    for (count, program) in programs.iter().enumerate() {
        tokio::select! {
            biased;
            () = &mut given_up => return count,
            _ = conditions.go(|_| {}) => store_program_digest(program, &shared.cache),
        }
    }
    programs.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_or_gone_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        std::fs::write(&file, [0; 5_000]).unwrap();
        assert_eq!(ask_for(&file, 5_000), Some(5_000));
        assert_eq!(ask_for(&file, 4_999), None);
        assert_eq!(ask_for(&dir.path().join("gone"), 5_000), None);
    }
}
