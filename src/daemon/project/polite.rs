//! A build in the background that never keeps anybody else's cargo waiting: it holds cargo's lock
//! only while nobody else wants it, and works only while the machine allows it.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use super::super::conditions::{Follower, Speed, Standing};
use super::super::lock;
use super::super::queue::{Queue, Wish};
use super::ahead::Lesson;
use super::courtesy::{Attempt, Courtesy};
use super::foresight::Known;
use super::patience::Patience;
use super::place::{Cost, Place};
use super::stages::{OTHER, Progression, REFUSED, Stage};
use super::work::{End, Worker};
use crate::compiler::{self, Build, BuildProgress, BuildSpec, CompileError, TestCompiler};
use crate::model::{Digest, Timestamp};
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
    /// It makes other things than the whole is made of.
    Other,
    /// The machine, or somebody by hand, says that it must rest, or now somebody waits for it.
    Stopped(String),
}

/// What to build.
pub(super) struct Plan {
    /// The whole.
    pub(super) spec: BuildSpec,
    /// By which that is known again.
    pub(super) key: Digest,
    /// What comes before it.
    pub(super) stages: Vec<Stage>,
    /// How long nothing may be finished.
    pub(super) limit: Option<Duration>,
    /// Is told of the whole.
    pub(super) note: Box<dyn Fn(&Build) + Send + Sync>,
}

impl Plan {
    fn compiler(&self, stage: Option<&Stage>, speed: &Speed) -> TestCompiler {
        let mut spec = self.spec.clone();
        if let Some(stage) = stage {
            spec.selection = stage.selection.clone();
        }
        TestCompiler::new(spec).with_jobs(speed.jobs)
    }
}

/// Builds to the end, however many attempts that takes. Ends with the whole, however the stages
/// before it came out.
pub(super) async fn build(
    plan: &Plan,
    (queue, wish): (&std::sync::Arc<Queue>, &Wish),
    courtesy: &Mutex<Courtesy>,
    (worker, conditions): (&Worker, &mut Follower),
    teach: &(dyn Fn(Lesson) + Send + Sync),
) -> End {
    let mut progress = Progression::new(&plan.stages);
    let mut standing = conditions.standing();
    // What stages built, and what attempts built again that came to nothing else, is news as well.
    let (mut earlier, again) = (Vec::new(), Mutex::new(Vec::new()));
    // Stages that cargo refused. If it takes the whole, that was because of the stage.
    let mut refused: Vec<Vec<String>> = Vec::new();
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
        let outcome = loop {
            // Who waits, waits for the whole of it.
            let stage = progress.next().filter(|_| !worker.wanted.is_cancelled());
            let compiler = plan.compiler(stage, &speed);
            let intro = progress.intro(stage);
            let begun = Instant::now();
            let allowed = (worker, &*conditions, &mut standing, &speed);
            let watched = (plan.limit, &again);
            let what = (&compiler, stage, &*intro);
            let outcome = attempt(courtesy, what, watched, &place, allowed).await;
            if !matches!(outcome, Outcome::GaveWay(_)) {
                lock(courtesy).ended(begun.elapsed());
            }
            let Some(stage) = stage else { break outcome };
            match outcome {
                Outcome::Ended(Err(CompileError::Cancelled)) => break outcome,
                Outcome::Ended(Err(
                    CompileError::Refused { .. } | CompileError::Manifest { .. },
                )) => {
                    progress.skip(&wish.project, REFUSED);
                    refused.push(stage.specs.clone());
                }
                Outcome::Ended(result) => {
                    progress.ended(result.is_ok(), &wish.project);
                    earlier.extend(result);
                }
                Outcome::Other => {
                    progress.skip(&wish.project, OTHER);
                    teach(Lesson::Inseparable(plan.key, stage.specs.clone()));
                }
                gave_way => break gave_way,
            }
        };
        match outcome {
            Outcome::Ended(Err(CompileError::Cancelled)) => return End::GivenUp,
            Outcome::Ended(result) => {
                place.served();
                let result = result.map(|mut build| {
                    earlier.iter().for_each(|earlier| build.comes_after(earlier));
                    let known = Known::new(plan.key, &plan.spec.root, &build.products);
                    teach(Lesson::Whole(known));
                    refused.drain(..).for_each(|specs| teach(Lesson::Inseparable(plan.key, specs)));
                    (plan.note)(&build);
                    build
                });
                let mut ended = last_build(result.map_err(|error| error.rendered()), started);
                for line in lock(&again).drain(..) {
                    if !ended.dirty.contains(&line) {
                        ended.dirty.push(line);
                    }
                }
                return End::Built(ended);
            }
            Outcome::Stuck(why) => {
                place.served();
                let errors = format!("error: {why}\n");
                let last = last_build(Err(errors), started);
                return End::Built(LastBuild { ended: Some(why), ..last });
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
            // There is nothing that the whole would have to be the same as.
            Outcome::GavePlace | Outcome::Other => {}
            Outcome::Stopped(reason) => {
                let project = wish.project.display();
                info!(%project, outcome = "gave way", %reason, "the build is put off");
            }
        }
    }
}

fn last_build(result: Result<Build, String>, started: Instant) -> LastBuild {
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
    /// It made, or set out to make, something that is no part of the whole.
    other: bool,
    patience: Patience,
    /// What there is to tell of it.
    text: String,
}

impl Heard {
    fn new(limit: Option<Duration>, text: String) -> Self {
        let now = Instant::now();
        let patience = Patience::new(limit, now);
        Self {
            started: now,
            units: None,
            since: now,
            fresh: 0,
            finished: false,
            blocked: false,
            other: false,
            patience,
            text,
        }
    }

    /// It stood still for this long, which is nobody's time.
    fn stood(&mut self, time: Duration) {
        self.started += time;
        self.since += time;
        self.patience.stood(time);
    }

    /// Takes note; what there is to tell.
    fn note(&mut self, progress: BuildProgress, stage: Option<&Stage>) -> Option<String> {
        let now = Instant::now();
        match progress {
            BuildProgress::Building { done, total, what } => {
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
            BuildProgress::Blocked(what) => {
                self.blocked = true;
                self.patience.blocked(now);
                Some(format!("{what} (another cargo builds)"))
            }
            BuildProgress::Made(product) => {
                self.other |= stage.is_some_and(|stage| stage.units.is_other(&product));
                None
            }
            // Packages of ours are named with their folders. Of those from a registry the whole
            // has all that it needs.
            BuildProgress::Status(line) => {
                self.patience.said(&line, now);
                self.other |=
                    stage.is_some() && line.starts_with("Compiling ") && !line.ends_with(')');
                None
            }
            BuildProgress::Diagnostic(_) => None,
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
    (compiler, stage, intro): (&TestCompiler, Option<&Stage>, &str),
    (limit, again): (Option<Duration>, &Mutex<Vec<String>>),
    place: &Place,
    (worker, conditions, standing, speed): (&Worker, &Follower, &mut Standing, &Speed),
) -> Outcome {
    let at_first = if intro.is_empty() { "building" } else { intro };
    let at_first = speed.describe(at_first.to_owned());
    worker.tell.send_replace((State::Building, at_first.clone()));
    let cancel = worker.cancel.child_token();
    let heard = Mutex::new(Heard::new(limit, at_first));
    let brake = &compiler.spec().brake;
    brake.set(false);
    let mut looked = Instant::now();
    standing.look(looked, false);
    let progress = |progress: BuildProgress| {
        if let BuildProgress::Status(text) = &progress
            && let Some(line) = text.strip_prefix("Dirty ")
        {
            note_again(&mut lock(again), line);
        }
        let mut heard = lock(&heard);
        if let Some(mut text) = heard.note(progress, stage) {
            if !intro.is_empty() {
                text = format!("{intro}: {text}");
            }
            heard.text = speed.describe(text);
            // The last words of what stands still may come late.
            if !brake.is_suspended() {
                worker.tell.send_replace((State::Building, heard.text.clone()));
            }
        }
    };
    let mut build = std::pin::pin!(compiler.build(&cancel, progress));
    loop {
        tokio::select! {
            biased;
            result = &mut build => return match lock(&heard).other {
                true => Outcome::Other,
                false => Outcome::Ended(result),
            },
            () = tokio::time::sleep(LOOK) => {}
        }
        let (now, wanted) = (Instant::now(), worker.wanted.is_cancelled());
        if brake.is_suspended() {
            lock(&heard).stood(now - looked);
            lock(courtesy).stood(now - looked);
        }
        looked = now;
        // What insists on one unit before it gives way does not stand still on the way there.
        let insists = !lock(courtesy).gives_way(lock(&heard).attempt());
        let stands = standing.look(now, !wanted && !insists && conditions.may_stand());
        if stands != brake.is_suspended() {
            brake.set(stands);
            worker.tell.send_replace(match stands {
                true => (State::Paused, Standing::REASON.to_owned()),
                false => (State::Building, lock(&heard).text.clone()),
            });
        }
        if lock(&heard).other {
            cancel.cancel();
            let result = build.await;
            // Somebody may have given up all of it meanwhile.
            return match worker.cancel.is_cancelled() {
                true => Outcome::Ended(result),
                false => Outcome::Other,
            };
        }
        let overdue = lock(&heard).patience.overdue(now);
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
