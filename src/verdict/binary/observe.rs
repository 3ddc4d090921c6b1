//! Observing the runs of targets, and judging what was seen as soon as each has ended: an edit
//! that comes later is no doubt any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::conduct::SeenConduct;
use super::inputs::{Cacheability, InputJudge};
use crate::observer::{LoaderCalls, Observation, ObserveOptions, Observer, RunningObservation};
use crate::process::Spec;
use crate::runner::ProcessHook;
use crate::verdict::fingerprint::Fingerprints;

/// What came of an observed run.
#[derive(Debug)]
pub(in crate::verdict) struct ObservedRun {
    pub(in crate::verdict) cacheability: Cacheability,
    /// The run may have ended otherwise had it not been observed.
    pub(in crate::verdict) interfered: bool,
    /// The reasons why its inputs are not all known, for a person.
    pub(in crate::verdict) unseen: Vec<String>,
    /// Which calls of the dynamic loader may pass at most in another run, if that must be observed more
    /// closely.
    pub(in crate::verdict) needs: Option<LoaderCalls>,
    /// How it behaved.
    pub(in crate::verdict) conduct: SeenConduct,
}

/// Observations under way.
#[derive(Debug)]
pub(super) struct Observing {
    send: mpsc::Sender<EndedProcess>,
    judging: JoinHandle<(BTreeMap<usize, ObservedRun>, Fingerprints)>,
}

/// A run that has ended.
#[derive(Debug)]
struct EndedProcess {
    index: usize,
    judge: Arc<InputJudge>,
    started: SystemTime,
    seen: Observation,
    /// It was worthless and did not come to its own end, whatever was seen of it.
    was_ended: bool,
}

impl Observing {
    /// Begins; `fingerprints` are handed on to the thread that judges.
    ///
    /// # Errors
    /// If the system has no thread left; then nothing is observed.
    pub(super) fn begin(mut fingerprints: Fingerprints) -> std::io::Result<Self> {
        let (send, ended) = mpsc::channel::<EndedProcess>();
        let judging = std::thread::Builder::new().name("inputs".to_owned()).spawn(move || {
            let mut watched = BTreeMap::new();
            for EndedProcess { index, judge, started, seen, was_ended } in ended {
                let cacheability = judge.judge(&seen, started, &mut fingerprints);
                let interfered = was_ended || !seen.interference.is_empty();
                let problems = seen.problems.iter().map(ToString::to_string);
                let unseen = seen.interference.iter().map(ToString::to_string).chain(problems);
                let doubts = match &cacheability {
                    Cacheability::Uncacheable(doubts) => &doubts[..],
                    _ => &[],
                };
                let obstacles = judge.obstacles(&seen, doubts);
                let conduct = SeenConduct { obstacles, calls: seen.calls, panicked: seen.panicked };
                let unseen = unseen.collect();
                let needs = LoaderCalls::after(&seen.problems);
                let run = ObservedRun { cacheability, interfered, unseen, needs, conduct };
                watched.insert(index, run);
            }
            (watched, fingerprints)
        })?;
        Ok(Self { send, judging })
    }

    /// The hook around the process of the target with this index.
    ///
    /// `pass`: which calls of the dynamic loader pass.
    pub(super) fn around(
        &self,
        index: usize,
        judge: InputJudge,
        pass: LoaderCalls,
    ) -> Arc<dyn ProcessHook> {
        let (judge, send) = (Arc::new(judge), self.send.clone());
        let (running, worthless) = (Mutex::default(), CancellationToken::new());
        Arc::new(ObservedProcess { index, judge, pass, send, running, worthless })
    }

    /// Waits until all that has ended is judged. Everything that [`Self::around`] gave must be
    /// gone by then.
    pub(super) fn finish(self) -> (BTreeMap<usize, ObservedRun>, Fingerprints) {
        drop(self.send);
        // A thread that panicked has judged nothing, so that nothing is kept.
        self.judging.join().unwrap_or_default()
    }
}

/// Observes one run.
#[derive(Debug)]
struct ObservedProcess {
    index: usize,
    judge: Arc<InputJudge>,
    pass: LoaderCalls,
    send: mpsc::Sender<EndedProcess>,
    running: Mutex<Option<(SystemTime, RunningObservation)>>,
    worthless: CancellationToken,
}

impl ProcessHook for ObservedProcess {
    fn start(&self, spec: Spec) -> Spec {
        // Before the first look at anything.
        let started = SystemTime::now();
        let covered = self.judge.covered.clone();
        let tells_readers = self.judge.is_doctest();
        let loader_calls = self.pass;
        let worthless = self.worthless.clone();
        let InputJudge { target_dirs, temporary, .. } = &*self.judge;
        let scratch = target_dirs.iter().chain([temporary]).cloned().collect();
        let options = ObserveOptions {
            scratch,
            tells_panics: self.judge.selects,
            covered,
            tells_readers,
            loader_calls,
            worthless,
            ..ObserveOptions::default()
        };
        match Observer::observe(&spec, options) {
            Ok((observed, running)) => {
                let mut place = self.running.lock().unwrap_or_else(PoisonError::into_inner);
                *place = Some((started, running));
                observed
            }
            Err(error) => {
                tracing::debug!(%error, "a run is not observed");
                spec
            }
        }
    }

    /// A worthless run is repeated as it is, whatever comes of it.
    fn is_enough(&self) -> CancellationToken {
        self.worthless.clone()
    }

    fn end(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((started, running)) = running {
            let seen = running.finish();
            let judge = Arc::clone(&self.judge);
            // Nobody listens any more only if the judging has panicked.
            let was_ended = self.worthless.is_cancelled();
            let ended = EndedProcess { index: self.index, judge, started, seen, was_ended };
            let _ = self.send.send(ended);
        }
    }
}
