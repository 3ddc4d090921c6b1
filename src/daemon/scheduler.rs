//! The background jobs' access to the [`Schedule`], and the task that observes for it.
//!
//! The task observes the machine, cargo's locks and the clock only while there are jobs, and only
//! what the schedule demands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::machine::{CpuCounters, Readings, ReadingsSource, Sensors};
use super::pauses::Pauses;
use super::schedule::{
    CpuSample, Demand, Inputs, JobAction, JobId, JobSpec, Limit, News, SAMPLE_INTERVAL, Schedule,
};
use super::sync::lock;
use crate::compiler;
use crate::config::BackgroundSettings;
use crate::model::Timestamp;
use crate::process::{Environment, Suspender};
use crate::protocol::ProjectStatus;

/// How often the machine is read.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// How long an observation of cargo's locks stays valid.
const LOCKS_LIFETIME: Duration = Duration::from_millis(100);

/// The scheduler of one daemon.
#[derive(Clone, Debug)]
pub(super) struct Scheduler(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<SchedulerState>,
    /// Wakes the task.
    changed: Notify,
    settings: watch::Sender<BackgroundSettings>,
    cache_dir: PathBuf,
}

#[derive(Debug)]
struct SchedulerState {
    schedule: Schedule,
    pauses: Pauses,
    /// A reading that no step has used yet.
    readings: Option<Readings>,
    actions: HashMap<JobId, watch::Sender<JobAction>>,
    /// The calls of cargo of the building jobs.
    builds: BTreeMap<JobId, Suspender>,
}

impl Scheduler {
    /// Starts the task, which ends with `stop`. Pauses by hand are read from below `cache_dir`.
    pub(super) fn start(
        machine: ReadingsSource,
        environment: Environment,
        settings: BackgroundSettings,
        cache_dir: PathBuf,
        stop: CancellationToken,
    ) -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let state = SchedulerState {
            schedule: Schedule::new(cores),
            pauses: Pauses::load(&cache_dir),
            readings: None,
            actions: HashMap::new(),
            builds: BTreeMap::new(),
        };
        let (settings, in_force) = watch::channel(settings);
        let inner = Inner { state: Mutex::new(state), changed: Notify::new(), settings, cache_dir };
        let this = Self(Arc::new(inner));
        let (wants_readings, wanted) = watch::channel(false);
        let sensors = Sensors::new(machine.clone(), environment);
        let (reader, decider) = (this.clone(), this.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = reader.read_machine(sensors, in_force, wanted) => {}
                () = decider.decide(machine, wants_readings) => {}
            }
        });
        this
    }

    /// Other settings are in force.
    pub(super) fn set(&self, settings: BackgroundSettings) {
        if self.0.settings.send_if_modified(|old| std::mem::replace(old, settings) != settings) {
            self.change(|state| {
                state.schedule.reset_machine();
                state.readings = None;
            });
        }
    }

    /// Reads the pauses by hand again.
    pub(super) async fn read_pauses(&self) {
        let inner = Arc::clone(&self.0);
        let read = tokio::task::spawn_blocking(move || Pauses::load(&inner.cache_dir)).await;
        if let Ok(pauses) = read {
            self.change(|state| state.pauses = pauses);
        }
    }

    /// Adds to a project's status whether it is paused by hand, and what yielding has cost.
    pub(super) fn show(&self, status: &mut ProjectStatus) {
        let state = lock(&self.0.state);
        status.yields = state.schedule.yield_stats(&status.path);
        state.pauses.show(status, Timestamp::now());
    }

    /// Whether jobs are held back by the machine's state now.
    pub(super) fn holds_back(&self) -> bool {
        lock(&self.0.state).schedule.holds_back()
    }

    /// A file of the project was edited.
    pub(super) fn edited(&self, workspace_root: &Path) {
        self.change(|state| state.schedule.edited(workspace_root, Instant::now()));
    }

    /// A client asked about the project.
    pub(super) fn asked(&self, workspace_root: &Path) {
        self.change(|state| state.schedule.asked(workspace_root, Instant::now()));
    }

    /// The project has left the config.
    pub(super) fn forget(&self, workspace_root: &Path) {
        self.change(|state| state.schedule.forget(workspace_root));
    }

    /// Adds a job.
    pub(super) fn enter(&self, spec: JobSpec) -> Ticket {
        let (tell, actions) = watch::channel(JobAction::Wait(String::new()));
        let id = self.change(|state| {
            let id = state.schedule.enter(spec, Instant::now());
            state.actions.insert(id, tell);
            id
        });
        Ticket { scheduler: self.clone(), id, actions, served: false }
    }

    fn change<T>(&self, change: impl FnOnce(&mut SchedulerState) -> T) -> T {
        let result = change(&mut lock(&self.0.state));
        self.0.changed.notify_one();
        result
    }

    /// Reads the machine while that is wanted.
    async fn read_machine(
        &self,
        mut sensors: Sensors,
        mut settings: watch::Receiver<BackgroundSettings>,
        mut wanted: watch::Receiver<bool>,
    ) {
        let mut last: Option<(Instant, BackgroundSettings, Readings)> = None;
        // The senders live as long as this task.
        while wanted.wait_for(|wanted| *wanted).await.is_ok() {
            let in_force = *settings.borrow_and_update();
            // The next job often comes at once, and what was read for the one before is still true.
            last.take_if(|(then, under, _)| then.elapsed() >= READ_INTERVAL || *under != in_force);
            let (then, _, readings) = match last {
                Some(last) => last,
                None => (Instant::now(), in_force, sensors.read(&in_force).await),
            };
            last = Some((then, in_force, readings));
            if !settings.has_changed().unwrap_or(true) {
                self.change(|state| state.readings = Some(readings));
            }
            tokio::select! {
                _ = settings.changed() => {}
                _ = wanted.wait_for(|wanted| !*wanted) => {}
                () = tokio::time::sleep(READ_INTERVAL.saturating_sub(then.elapsed())) => {}
            }
        }
    }

    /// Takes a step whenever something has changed, and as often as the schedule demands.
    async fn decide(&self, machine: ReadingsSource, wants_readings: watch::Sender<bool>) {
        let mut observer = ScheduleObserver { machine, cpu: None, locks: None };
        loop {
            let (demand, builds) = {
                let SchedulerState { schedule, pauses, builds, .. } = &*lock(&self.0.state);
                let settings = self.0.settings.borrow();
                (schedule.demand(&settings, pauses, Timestamp::now()), builds.clone())
            };
            wants_readings.send_if_modified(|wanted| {
                std::mem::replace(wanted, demand.readings) != demand.readings
            });
            let (within, had_locks) = (demand.within, !demand.locks.is_empty());
            let observed = tokio::task::spawn_blocking(move || {
                let observed = observer.observe(&demand, &builds);
                (observer, observed)
            });
            let Ok((again, observed)) = observed.await else { return };
            observer = again;
            self.step(observed);
            if !had_locks && self.demands_locks() {
                // The step was the first one that allows a job to begin.
                continue;
            }
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(within.unwrap_or_default()), if within.is_some() => {}
            }
        }
    }

    /// Whether the next step needs to know who holds cargo's locks.
    fn demands_locks(&self) -> bool {
        let SchedulerState { schedule, pauses, .. } = &*lock(&self.0.state);
        let settings = self.0.settings.borrow();
        !schedule.demand(&settings, pauses, Timestamp::now()).locks.is_empty()
    }

    fn step(&self, observed: Observed) {
        let SchedulerState { schedule, pauses, readings, actions, .. } = &mut *lock(&self.0.state);
        let inputs = Inputs {
            settings: &self.0.settings.borrow(),
            pauses,
            wall_clock: Timestamp::now(),
            readings: readings.take(),
            cpu: observed.cpu,
            awaited: observed.awaited,
            locked: observed.locked,
        };
        for (id, action) in schedule.step(Instant::now(), &inputs) {
            if let Some(tell) = actions.get(&id) {
                tell.send_replace(action);
            }
        }
    }
}

/// The observations for one step.
#[derive(Debug)]
struct Observed {
    cpu: Option<CpuSample>,
    awaited: BTreeSet<JobId>,
    locked: BTreeMap<JobId, bool>,
}

/// Observes what is demanded; it blocks.
#[derive(Debug)]
struct ScheduleObserver {
    machine: ReadingsSource,
    /// The last counters, and when they were read.
    cpu: Option<(Instant, Option<CpuCounters>)>,
    locks: Option<(Instant, BTreeMap<JobId, bool>)>,
}

impl ScheduleObserver {
    fn observe(&mut self, demand: &Demand, builds: &BTreeMap<JobId, Suspender>) -> Observed {
        let now = Instant::now();
        if !demand.cpu {
            self.cpu = None;
        }
        let is_due = self.cpu.is_none_or(|(then, _)| now - then >= SAMPLE_INTERVAL);
        let cpu = (demand.cpu && is_due).then(|| {
            let counters = self.machine.cpu_counters();
            let before = self.cpu.replace((now, counters)).and_then(|(_, before)| before);
            CpuSample(counters.zip(before).and_then(|(now, before)| now.used_since(&before)))
        });
        // Asking takes a free lock for a moment: not more often than needed.
        let known = |locks: &BTreeMap<JobId, bool>| {
            demand.locks.iter().all(|(id, _)| locks.contains_key(id))
        };
        let fresh =
            self.locks.take().filter(|(then, locks)| now - *then < LOCKS_LIFETIME && known(locks));
        let locks = fresh.unwrap_or_else(|| {
            let asked = demand.locks.iter();
            (now, asked.map(|(id, dirs)| (*id, compiler::is_locked(dirs))).collect())
        });
        let awaited = if demand.lock_waiter { awaited(builds) } else { BTreeSet::new() };
        let locked = self.locks.insert(locks).1.clone();
        Observed { cpu, awaited, locked }
    }
}

/// The jobs that hold a lock for which a foreign process waits.
fn awaited(builds: &BTreeMap<JobId, Suspender>) -> BTreeSet<JobId> {
    let holders: Vec<_> = builds.iter().map(|(id, build)| (*id, build.running())).collect();
    let all = holders.iter().flat_map(|(_, running)| running.iter().copied()).collect();
    let awaited = compiler::awaited(&all);
    let jobs = holders.into_iter().filter(|(_, running)| !running.is_disjoint(&awaited));
    jobs.map(|(id, _)| id).collect()
}

/// A job's place in the schedule, which it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    scheduler: Scheduler,
    id: JobId,
    actions: watch::Receiver<JobAction>,
    served: bool,
}

impl Ticket {
    /// Waits until the job may run; `tell` hears what it waits for. None if it is to give up.
    pub(super) async fn granted(&mut self, mut tell: impl FnMut(&str)) -> Option<Limit> {
        loop {
            match &*self.actions.borrow_and_update() {
                JobAction::Run(limit) => return Some(limit.clone()),
                JobAction::Yield(_) | JobAction::TimeOut(_) => return None,
                JobAction::Wait(reason) if !reason.is_empty() => tell(reason),
                JobAction::Wait(_) | JobAction::Suspend(_) => {}
            }
            self.changed().await;
        }
    }

    /// The next action; never if the daemon is stopping.
    pub(super) async fn next_action(&mut self) -> JobAction {
        self.changed().await;
        self.actions.borrow_and_update().clone()
    }

    /// For those who report on the job or wait for it.
    pub(super) fn control(&self) -> JobControl {
        JobControl { scheduler: self.scheduler.clone(), id: self.id }
    }

    /// The job begins a test run, or a call of cargo, which is in `build`.
    pub(super) fn begin_attempt(&self, build: Option<&Suspender>) {
        self.scheduler.change(|state| {
            state.builds.extend(build.map(|build| (self.id, build.clone())));
            state.schedule.begin_attempt(self.id, Instant::now());
        });
    }

    /// The job has given up its attempt and waits again.
    pub(super) fn requeue(&self) {
        self.scheduler.change(|state| {
            let action = state.schedule.requeue(self.id, Instant::now());
            if let Some(tell) = state.actions.get(&self.id) {
                tell.send_replace(action);
            }
        });
    }

    /// The job is done.
    pub(super) fn served(mut self) {
        self.served = true;
    }

    async fn changed(&mut self) {
        if self.actions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.scheduler.change(|state| {
            state.actions.remove(&self.id);
            state.builds.remove(&self.id);
            state.schedule.leave(self.id, self.served, Instant::now());
        });
    }
}

/// Reports on a job, and says that a client waits for it.
#[derive(Clone, Debug)]
pub(super) struct JobControl {
    scheduler: Scheduler,
    id: JobId,
}

impl JobControl {
    /// A client waits for the job.
    pub(super) fn want(&self) {
        self.scheduler.change(|state| state.schedule.want(self.id));
    }

    /// The job has news.
    pub(super) fn report(&self, news: News) {
        lock(&self.scheduler.0.state).schedule.report(self.id, news, Instant::now());
    }
}

#[cfg(test)]
mod tests;
