//! One notify watcher, and its way of changing many watches at once.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use notify::{
    Config, ErrorKind, EventKindMask, PathOp, RecommendedWatcher, RecursiveMode, WatchPathConfig,
    Watcher as _,
};

use super::state::{Handler, WatcherShared};

/// How long a watcher that is replaced may take to give its watches back.
const CLOSE: Duration = Duration::from_secs(5);

/// A running notify watcher.
pub(super) struct Backend {
    /// `None` once it was told to end.
    notify: Option<RecommendedWatcher>,
    /// Ends when the handler is dropped, after the kernel's side was closed.
    closed: Receiver<()>,
}

/// The result of a list of changes.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The paths that could not be watched, and why.
    pub(super) failed: Vec<(PathBuf, notify::Error)>,
    /// Notify itself failed: nothing is known of what was done.
    pub(super) broken: Option<String>,
}

impl Backend {
    /// Starts a watcher whose events count as those of `epoch`.
    pub(super) fn start(shared: &Arc<WatcherShared>, epoch: u64) -> notify::Result<Self> {
        // Without opens and closes of what was only read: a build that reads the sources would
        // flood the queue.
        let kinds = EventKindMask::CORE | EventKindMask::ACCESS_CLOSE;
        let config = Config::default().with_event_kinds(kinds).with_follow_symlinks(false);
        let (alive, closed) = channel();
        let handler = Handler { shared: Arc::clone(shared), epoch, _alive: alive };
        Ok(Self { notify: Some(RecommendedWatcher::new(handler, config)?), closed })
    }

    /// A watcher that watches nothing, in place of one that cannot be had.
    pub(super) fn none() -> Self {
        Self { notify: None, closed: channel().1 }
    }

    /// Takes `unwatch` away, then adds `watch`, and goes on after failures. When it returns, all
    /// events that notify read before the last change have been delivered.
    pub(super) fn apply<'a>(
        &mut self,
        unwatch: impl IntoIterator<Item = &'a Path>,
        watch: impl IntoIterator<Item = &'a Path>,
    ) -> Applied {
        let single = WatchPathConfig::new(RecursiveMode::NonRecursive);
        let single = single.with_dereference_symlinks(false);
        let mut applied = Applied::default();
        let Some(notify) = &mut self.notify else {
            applied.broken = Some("it was stopped".to_owned());
            return applied;
        };
        let unwatch = unwatch.into_iter().map(PathOp::unwatch);
        let watch = watch.into_iter().map(|path| PathOp::Watch(path.to_path_buf(), single.clone()));
        let mut ops: Vec<_> = unwatch.chain(watch).collect();
        while !ops.is_empty() {
            let Err(error) = notify.update_paths(ops) else { break };
            ops = error.remaining;
            match error.origin {
                // It took the watch away by itself meanwhile, which is what was asked for.
                Some(PathOp::Unwatch(_)) => {}
                Some(PathOp::Watch(path, _)) => {
                    let full = matches!(error.source.kind, ErrorKind::MaxFilesWatch);
                    applied.failed.push((path, error.source));
                    if full {
                        // The others would fail alike, one message to the thread each.
                        let rest = ops.iter().map(|op| op.as_path().to_path_buf());
                        let full = || notify::Error::new(ErrorKind::MaxFilesWatch);
                        applied.failed.extend(rest.map(|path| (path, full())));
                        break;
                    }
                }
                None => {
                    applied.broken = Some(error.source.to_string());
                    break;
                }
            }
        }
        // The events that it read meanwhile are delivered after its answer, before the next one:
        // asked anything, it tells that they were.
        if let (Err(error), None) = (notify.configure(Config::default()), &applied.broken) {
            applied.broken = Some(error.to_string());
        }
        applied
    }

    /// Which of `paths` notify holds, or thinks it holds.
    pub(super) fn held(&self, paths: &[Arc<Path>]) -> Vec<Arc<Path>> {
        if paths.is_empty() {
            return Vec::new();
        }
        let all = self.notify.as_ref().map(RecommendedWatcher::watched_paths);
        // If notify cannot say, all are taken away: an unheld path is no error.
        let Some(Ok(all)) = all else { return paths.to_vec() };
        let all: HashSet<PathBuf> = all.into_iter().map(|(path, _)| path).collect();
        paths.iter().filter(|path| all.contains(&***path)).cloned().collect()
    }

    /// Ends it, and waits until the kernel has its watches back.
    pub(super) fn stop(mut self) {
        self.end();
        let _ = self.closed.recv_timeout(CLOSE);
    }

    /// Tells notify's thread to end; nothing can be watched after this.
    pub(super) fn end(&mut self) {
        if let Some(notify) = self.notify.take() {
            // Notify's own drop panics if its thread has ended.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(notify)));
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.end();
    }
}
