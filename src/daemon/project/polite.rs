//! A build in the background that never keeps anybody else's cargo waiting: it holds cargo's lock
//! only while nobody else wants it, and works only while the machine allows it.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::super::conditions::{Follower, Speed};
use super::super::lock;
use super::super::queue::{Queue, Wish};
use super::courtesy::{Attempt, Courtesy};
use super::patience::Patience;
use super::place::{Cost, Place};
use super::work::{End, Worker};
use crate::compiler::{self, Build, CompileError, Progress, TestCompiler};
use crate::model::Timestamp;
use crate::protocol::{LastBuild, State};

/// How often the list of those who wait is read while we hold the lock.
const LOOK: Duration = Duration::from_millis(20);
/// How often the lock is tried while somebody else holds it.
const TRY: Duration = Duration::from_millis(100);

/// Of how many things it is kept that they were built again.
const AGAIN: usize = 100;

/// What became of an attempt.
enum Outcome {
    Ended(Result<Build, CompileError>),
    /// Somebody else waits for the lock, or holds it after all.
    GaveWay(Attempt),
    /// It got nowhere: why it was ended.
    Stuck(String),
    /// Another project needs the place more.
    GavePlace,
    /// The machine, or somebody by hand, says that it must rest, or now somebody waits for it.
    Stopped(String),
}

/// How long a build may finish nothing, and who is told of it.
#[derive(Clone, Copy)]
pub(super) struct Bounds<'a> {
    pub(super) limit: Option<Duration>,
    /// Is told of a build that succeeded.
    pub(super) note: &'a (dyn Fn(&Build) + Sync),
}

/// Builds to the end, however many attempts that takes.
pub(super) async fn build(
    compiler: &TestCompiler,
    bounds: Bounds<'_>,
    (queue, wish): (&std::sync::Arc<Queue>, &Wish),
    courtesy: &Mutex<Courtesy>,
    (worker, conditions): (&Worker, &mut Follower),
) -> End {
    // What attempts built again that came to nothing else is news as well.
    let again = Mutex::new(Vec::new());
    loop {
        let Some(speed) = worker.may_go(conditions).await else { return End::GivenUp };
        // Who cannot begin keeps nobody waiting: the place comes after the lock.
        if !turn(courtesy, &wish.target_dirs, worker).await {
            return End::GivenUp;
        }
        let Some(place) = Place::wait(queue, wish, worker).await else { return End::GivenUp };
        // It may have changed while others built.
        if !worker.wanted.is_cancelled() && conditions.objection(&speed).is_some() {
            continue;
        }
        let started = Instant::now();
        let compiler = compiler.clone().with_jobs(speed.jobs);
        let allowed = (worker, &*conditions, &speed);
        match attempt(courtesy, &compiler, (bounds.limit, &again), &place, allowed).await {
            Outcome::Ended(Err(CompileError::Cancelled)) => {
                lock(courtesy).ended(started.elapsed());
                return End::GivenUp;
            }
            Outcome::Ended(result) => {
                place.served();
                lock(courtesy).ended(started.elapsed());
                if let Ok(build) = &result {
                    (bounds.note)(build);
                }
                let mut ended = outcome(result.map_err(|error| error.rendered()), started);
                for line in lock(&again).drain(..) {
                    if !ended.dirty.contains(&line) {
                        ended.dirty.push(line);
                    }
                }
                return End::Built(ended);
            }
            Outcome::Stuck(why) => {
                place.served();
                lock(courtesy).ended(started.elapsed());
                let errors = format!("error: {why}\n");
                return End::Built(LastBuild { ended: Some(why), ..outcome(Err(errors), started) });
            }
            Outcome::GaveWay(attempt) => {
                let lost = {
                    let mut courtesy = lock(courtesy);
                    courtesy.gave_way(attempt);
                    courtesy.lost_percent()
                };
                let project = wish.project.display();
                info!(%project, outcome = "gave way", lost, "another cargo wants to build");
            }
            Outcome::GavePlace => lock(courtesy).ended(started.elapsed()),
            Outcome::Stopped(reason) => {
                lock(courtesy).ended(started.elapsed());
                let project = wish.project.display();
                info!(%project, outcome = "gave way", %reason, "the build is put off");
            }
        }
    }
}

fn outcome(result: Result<Build, String>, started: Instant) -> LastBuild {
    let (success, errors, rebuilt, dirty) = match result {
        Ok(build) => (true, build.warnings.concat(), build.rebuilt, build.dirty),
        Err(errors) => (false, errors, 0, Vec::new()),
    };
    LastBuild {
        when: Timestamp::now(),
        success,
        duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        errors,
        rebuilt: rebuilt as u64,
        dirty,
        ended: None,
    }
}

/// Waits until it is our turn; false if the work was given up. Who is waited for does not wait.
async fn turn(courtesy: &Mutex<Courtesy>, target_dirs: &[PathBuf], worker: &Worker) -> bool {
    let begun = Instant::now();
    let mut free_since = None;
    loop {
        let now = Instant::now();
        if compiler::is_locked(target_dirs) {
            free_since = None;
        } else {
            let free = now - *free_since.get_or_insert(now);
            if lock(courtesy).may_begin(free, now - begun) {
                return true;
            }
        }
        worker.tell.send_if_modified(|doing| {
            let text = match free_since {
                None => "waiting for another cargo",
                Some(_) => "giving way to another cargo",
            };
            let new = (State::Paused, text.to_owned());
            let changed = *doing != new;
            *doing = new;
            changed
        });
        tokio::select! {
            () = worker.cancel.cancelled() => return false,
            () = worker.wanted.cancelled() => return true,
            () = tokio::time::sleep(TRY) => {}
        }
    }
}

/// What cargo has said so far.
struct Heard {
    started: Instant,
    /// Units that are done of how many, and since when.
    units: Option<(u32, u32)>,
    since: Instant,
    /// How many were fresh already: the first number that was said.
    fresh: u32,
    finished: bool,
    /// It waits for a lock itself.
    blocked: bool,
    patience: Patience,
}

impl Heard {
    fn new(limit: Option<Duration>) -> Self {
        let now = Instant::now();
        let patience = Patience::new(limit, now);
        Self {
            started: now,
            units: None,
            since: now,
            fresh: 0,
            finished: false,
            blocked: false,
            patience,
        }
    }

    /// Takes note; what there is to tell.
    fn note(&mut self, progress: Progress) -> Option<String> {
        let now = Instant::now();
        match progress {
            Progress::Building { done, total, what } => {
                self.blocked = false;
                self.patience.building(done, &what, now);
                match self.units.replace((done, total)) {
                    None => self.fresh = done,
                    Some((before, _)) if before != done => {
                        (self.since, self.finished) = (now, true);
                    }
                    Some(_) => {}
                }
                Some(format!("building {what} {done}/{total}"))
            }
            Progress::Blocked(what) => {
                self.blocked = true;
                self.patience.blocked(now);
                Some(format!("{what} (another cargo builds)"))
            }
            Progress::Status(what) => {
                self.patience.said(&what, now);
                None
            }
            Progress::Diagnostic(_) => None,
        }
    }

    fn attempt(&self) -> Attempt {
        let (ran, since_unit) = (self.started.elapsed(), self.since.elapsed());
        Attempt { ran, since_unit, finished: self.finished }
    }

    fn cost(&self) -> Cost {
        let left = self.units.and_then(|(done, total)| {
            let own = done.saturating_sub(self.fresh);
            Cost::left_of(self.started.elapsed(), own, total.saturating_sub(self.fresh))
        });
        Cost { lost: self.since.elapsed(), left }
    }
}

/// Takes note of something that is built again, once and up to a number.
fn note_again(again: &mut Vec<String>, line: &str) {
    if again.len() < AGAIN && !again.iter().any(|known| known == line) {
        again.push(line.to_owned());
    }
}

/// Builds until the end, or until somebody else waits for the lock or the place.
async fn attempt(
    courtesy: &Mutex<Courtesy>,
    compiler: &TestCompiler,
    (limit, again): (Option<Duration>, &Mutex<Vec<String>>),
    place: &Place,
    (worker, conditions, speed): (&Worker, &Follower, &Speed),
) -> Outcome {
    worker.tell.send_replace((State::Building, speed.describe("building".to_owned())));
    let cancel = worker.cancel.child_token();
    let heard = Mutex::new(Heard::new(limit));
    let progress = |progress: Progress| {
        if let Progress::Status(text) = &progress
            && let Some(line) = text.strip_prefix("Dirty ")
        {
            note_again(&mut lock(again), line);
        }
        if let Some(text) = lock(&heard).note(progress) {
            worker.tell.send_replace((State::Building, speed.describe(text)));
        }
    };
    let mut build = std::pin::pin!(compiler.build(&cancel, progress));
    loop {
        tokio::select! {
            biased;
            result = &mut build => return Outcome::Ended(result),
            () = tokio::time::sleep(LOOK) => {}
        }
        let overdue = lock(&heard).patience.overdue(Instant::now());
        if let Some(why) = overdue {
            cancel.cancel();
            return match build.await {
                Err(CompileError::Cancelled) if !worker.cancel.is_cancelled() => {
                    Outcome::Stuck(why)
                }
                // It ended just then.
                result => Outcome::Ended(result),
            };
        }
        let wanted = worker.wanted.is_cancelled();
        let stopped = match wanted {
            false => conditions.objection(speed),
            // Who waits does not wait for one job after the other.
            true => speed.is_held_back().then(|| "somebody waits for it".to_owned()),
        };
        if let Some(reason) = stopped {
            cancel.cancel();
            return match build.await {
                Err(CompileError::Cancelled) if !worker.cancel.is_cancelled() => {
                    Outcome::Stopped(reason)
                }
                // It ended just then.
                result => Outcome::Ended(result),
            };
        }
        let needed = place.is_needed(worker, || lock(&heard).cost());
        if wanted {
            continue;
        }
        let (attempt, blocked) = {
            let heard = lock(&heard);
            (heard.attempt(), heard.blocked)
        };
        let waiting = compiler::waiting_for_us().filter(|_| lock(courtesy).gives_way(attempt));
        // A cargo that waits behind theirs would only be one more in the queue.
        if waiting.is_none() && !blocked && !needed {
            continue;
        }
        debug!(waiting, blocked, needed, "the lock or the place is wanted");
        cancel.cancel();
        return match build.await {
            Err(CompileError::Cancelled) if !worker.cancel.is_cancelled() => match needed {
                true => Outcome::GavePlace,
                false => Outcome::GaveWay(attempt),
            },
            // It ended just then.
            result => Outcome::Ended(result),
        };
    }
}
