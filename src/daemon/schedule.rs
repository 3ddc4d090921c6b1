//! Which background job runs now, and how fast.
//!
//! [`Schedule::step`] is the only place that decides, for the jobs of all projects together. It is
//! pure: the time, the readings and the settings are arguments, and the result is one [`JobAction`] a
//! job, with its reason in words. These rules apply, the first one that matches:
//!
//! 1. A job that a client waits for runs at full speed, and beside others, unless one of them
//!    builds in the same target directory.
//! 2. A pause by hand and the machine's state (memory, battery, session) stop all other jobs.
//! 3. A build never keeps a foreign cargo waiting for cargo's lock ([`LockBackoff`]).
//! 4. One build or test run at a time: first the project that was edited last, then those that a
//!    client asked about, then the rest. A job that has waited for long enough is next, and is not
//!    preempted.
//! 5. A build is suspended while other programs use all processors ([`CpuSuspension`]).
//! 6. A job that reports nothing new for its stall limit is ended.

mod cpu_suspension;
mod lock_backoff;
mod machine_limit;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::cpu_suspension::CpuSuspension;
use self::lock_backoff::{Attempt, LockBackoff};
use self::machine_limit::MachineLimit;
use super::machine::{CpuUse, Readings};
use super::pauses::Pauses;
use crate::config::{BackgroundSettings, Effort};
use crate::model::Timestamp;
use crate::protocol::InterruptionStats;

pub(super) use self::cpu_suspension::SAMPLE_INTERVAL;
pub(super) use self::machine_limit::Limit;

/// How many builds and test runs may run at once that no client waits for. Cargo fills all
/// processors by itself: two builds side by side end no earlier, and need their memory together.
const BUILD_SLOTS: usize = 1;
/// For this long an edit or a question tells which project will be asked about next.
const RECENT: Duration = Duration::from_secs(30 * 60);
/// A job that has waited this long goes before edited projects, and is not preempted.
const LONGEST_QUEUE_WAIT: Duration = Duration::from_secs(10 * 60);
/// A job that comes back this soon, for a newer snapshot, has been waiting all the time.
const REPLACEMENT_GAP: Duration = Duration::from_secs(60);
/// How often to look while a build of ours holds cargo's lock, while one waits for the lock, and
/// otherwise.
const LOOK_HOLDING_LOCK: Duration = Duration::from_millis(20);
const LOOK_WAITING_FOR_LOCK: Duration = Duration::from_millis(100);
const LOOK_OTHERWISE: Duration = Duration::from_secs(1);

/// Reasons that several rules give.
const WANTED: &str = "a client waits for it";
const SUSPENDED: &str = "suspended: other programs use all cores";

/// The number of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobId(u64);

/// The kind of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobKind {
    /// Calls cargo, which takes its lock.
    Build,
    /// Runs tests.
    Tests,
    /// Reads test programs. It needs no slot.
    Prefetch,
}

/// A job that asks to run.
#[derive(Clone, Debug)]
pub(super) struct JobSpec {
    pub(super) workspace_root: PathBuf,
    pub(super) target_dirs: Vec<PathBuf>,
    pub(super) kind: JobKind,
}

impl JobSpec {
    /// The project's name for people.
    fn project_name(&self) -> String {
        let root = &self.workspace_root;
        root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned()
    }

    /// Whether two jobs need the same lock of cargo.
    fn shares_target_dir(&self, other: &Self) -> bool {
        self.target_dirs.iter().any(|dir| other.target_dirs.contains(dir))
    }
}

/// What a job is to do from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobAction {
    /// Wait, for this reason.
    Wait(String),
    /// Begin or go on.
    Run(Limit),
    /// Stay as it is, for this reason, until the next `Run`.
    Suspend(&'static str),
    /// Give up this attempt, for this reason, and wait for the next `Run`.
    Yield(String),
    /// Give up for good: there was nothing new for this long.
    TimeOut(Duration),
}

/// A report of something new.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// A unit of work was finished, and is not lost if the attempt is given up.
    pub(super) finished_unit: bool,
    /// It waits for another cargo.
    pub(super) is_blocked: bool,
    /// The job is ended if there is nothing new for this long.
    pub(super) stall_limit: Option<Duration>,
}

/// What has been observed.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) settings: &'a BackgroundSettings,
    pub(super) pauses: &'a Pauses,
    pub(super) wall_clock: Timestamp,
    /// A reading that has not been given before.
    pub(super) readings: Option<Readings>,
    /// A sample that has not been given before; its use may be unknown.
    pub(super) cpu: Option<CpuSample>,
    /// Jobs with a lock for which a foreign process waits.
    pub(super) awaited: BTreeSet<JobId>,
    /// Whether a foreign cargo holds the lock of these waiting jobs.
    pub(super) locked: BTreeMap<JobId, bool>,
}

/// A sample of processor use.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuSample(pub(super) Option<CpuUse>);

/// What is to be observed before the next step.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) readings: bool,
    pub(super) cpu: bool,
    pub(super) lock_waiter: bool,
    /// Waiting jobs with their target directories.
    pub(super) locks: Vec<(JobId, Vec<PathBuf>)>,
    /// When to take the next step at the latest; none if nothing is to be decided.
    pub(super) within: Option<Duration>,
}

/// A job.
#[derive(Debug)]
struct ScheduledJob {
    spec: JobSpec,
    /// A client waits for its end.
    is_wanted: bool,
    waits_since: Instant,
    /// How long it had waited before it last ran, and as its predecessor.
    waited_before: Duration,
    lock_free_since: Option<Instant>,
    /// It waits for nothing but a slot.
    is_queued: bool,
    running: Option<RunState>,
    action: JobAction,
}

/// The state of a job that runs.
#[derive(Debug)]
struct RunState {
    limit: Limit,
    /// It began because it had waited too long.
    was_overdue: bool,
    /// Its call of cargo, if it has begun one.
    attempt: Option<Attempt>,
    is_blocked: bool,
    last_news: Instant,
    stall_limit: Option<Duration>,
    /// It yields to a foreign cargo.
    yields_lock: bool,
}

impl ScheduledJob {
    /// How long it has waited, all in all.
    fn waited(&self, now: Instant) -> Duration {
        let waits = self.running.is_none();
        let last =
            if waits { now.saturating_duration_since(self.waits_since) } else { Duration::ZERO };
        self.waited_before + last
    }

    fn is_build(&self) -> bool {
        self.spec.kind == JobKind::Build
    }
}

/// A project's state besides its jobs.
#[derive(Debug, Default)]
struct ScheduledProject {
    edited: Option<Instant>,
    asked: Option<Instant>,
    /// How long a job had waited when it left unserved, and when it left.
    left: Option<(Duration, Instant)>,
    backoff: LockBackoff,
}

/// The urgency of a job, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Wanted,
    Overdue,
    Edited(Reverse<Instant>),
    Asked(Reverse<Instant>),
    Rest,
}

/// The background jobs of all projects.
#[derive(Debug)]
pub(super) struct Schedule {
    cores: NonZeroUsize,
    jobs: BTreeMap<JobId, ScheduledJob>,
    projects: BTreeMap<PathBuf, ScheduledProject>,
    next_id: u64,
    machine: MachineLimit,
    /// None until the first reading since there was nothing to do.
    limit: Option<Limit>,
    cpu: CpuSuspension,
    last_step: Option<Instant>,
}

impl Schedule {
    pub(super) fn new(cores: NonZeroUsize) -> Self {
        Self {
            cores,
            jobs: BTreeMap::new(),
            projects: BTreeMap::new(),
            next_id: 0,
            machine: MachineLimit::default(),
            limit: None,
            cpu: CpuSuspension::default(),
            last_step: None,
        }
    }

    /// A file of the project was edited.
    pub(super) fn edited(&mut self, workspace_root: &Path, now: Instant) {
        self.project(workspace_root).edited = Some(now);
    }

    /// A client asked about the project.
    pub(super) fn asked(&mut self, workspace_root: &Path, now: Instant) {
        self.project(workspace_root).asked = Some(now);
    }

    /// The project has left the config.
    pub(super) fn forget(&mut self, workspace_root: &Path) {
        self.projects.remove(workspace_root);
    }

    /// Other settings are in force: what was read under the old ones says nothing.
    pub(super) fn reset_machine(&mut self) {
        (self.machine, self.limit) = (MachineLimit::default(), None);
    }

    /// Whether jobs are held back by the machine's state now.
    pub(super) fn holds_back(&self) -> bool {
        self.limit.as_ref().is_some_and(Limit::holds_back)
    }

    /// Whether a limit is known; without jobs it is forgotten.
    #[cfg(test)]
    pub(super) fn knows_limit(&self) -> bool {
        self.limit.is_some()
    }

    /// What yielding has cost a project.
    pub(super) fn yield_stats(&self, workspace_root: &Path) -> InterruptionStats {
        let project = self.projects.get(workspace_root);
        project.map_or_else(InterruptionStats::default, |project| project.backoff.total())
    }

    /// Adds a job; it waits.
    pub(super) fn enter(&mut self, spec: JobSpec, now: Instant) -> JobId {
        let left = self.project(&spec.workspace_root).left.take();
        let left = left.filter(|(_, left)| now - *left <= REPLACEMENT_GAP);
        let waited_before = left.map_or(Duration::ZERO, |(waited, left)| waited + (now - left));
        let id = JobId(self.next_id);
        self.next_id += 1;
        let job = ScheduledJob {
            spec,
            is_wanted: false,
            waits_since: now,
            waited_before,
            lock_free_since: None,
            is_queued: false,
            running: None,
            action: JobAction::Wait(String::new()),
        };
        self.jobs.insert(id, job);
        id
    }

    /// A client waits for the job.
    pub(super) fn want(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.is_wanted = true;
        }
    }

    /// A running job begins an attempt: a call of cargo or a test run.
    pub(super) fn begin_attempt(&mut self, id: JobId, now: Instant) {
        self.end_attempt(id, now);
        if let Some(running) = self.jobs.get_mut(&id).and_then(|job| job.running.as_mut()) {
            running.attempt = Some(Attempt::new(now));
            (running.is_blocked, running.last_news, running.stall_limit) = (false, now, None);
        }
    }

    /// A running job has news.
    pub(super) fn report(&mut self, id: JobId, news: News, now: Instant) {
        let running = self.jobs.get_mut(&id).and_then(|job| job.running.as_mut());
        let Some(running) = running else { return };
        running.is_blocked = news.is_blocked;
        (running.last_news, running.stall_limit) = (now, news.stall_limit);
        if let Some(attempt) = running.attempt.as_mut().filter(|_| news.finished_unit) {
            (attempt.last_unit, attempt.finished_unit) = (now, true);
        }
    }

    /// A job has given up its attempt, and waits again; gives its action.
    pub(super) fn requeue(&mut self, id: JobId, now: Instant) -> JobAction {
        self.end_attempt(id, now);
        let action = JobAction::Wait(String::new());
        if let Some(job) = self.jobs.get_mut(&id) {
            (job.running, job.action) = (None, action.clone());
            (job.waits_since, job.lock_free_since) = (now, None);
        }
        action
    }

    /// A job leaves: at its end (`served`), or cancelled, perhaps for a newer one.
    pub(super) fn leave(&mut self, id: JobId, served: bool, now: Instant) {
        self.end_attempt(id, now);
        let Some(job) = self.jobs.remove(&id) else { return };
        if !served && let Some(project) = self.projects.get_mut(&job.spec.workspace_root) {
            project.left = Some((job.waited(now), now));
        }
    }

    /// What to observe before the next step.
    pub(super) fn demand(
        &self,
        settings: &BackgroundSettings,
        pauses: &Pauses,
        wall_clock: Timestamp,
    ) -> Demand {
        let paused = |job: &ScheduledJob| pauses.of(&job.spec.workspace_root, wall_clock).is_some();
        let unwanted: Vec<_> = self.jobs.iter().filter(|(_, job)| !job.is_wanted).collect();
        let building = unwanted.iter().any(|(_, job)| job.is_build() && job.running.is_some());
        let allowed = self.limit.as_ref().is_some_and(|limit| limit.effort != Effort::Pause);
        let waits_for_lock = |job: &ScheduledJob| {
            let waits = job.is_build() && job.running.is_none() && self.rival(job).is_none();
            waits && allowed && !paused(job)
        };
        let locks: Vec<_> = unwanted
            .iter()
            .filter(|(_, job)| waits_for_lock(job))
            .map(|(id, job)| (**id, job.spec.target_dirs.clone()))
            .collect();
        let within = if self.jobs.is_empty() {
            None
        } else if building {
            Some(LOOK_HOLDING_LOCK)
        } else if !locks.is_empty() {
            Some(LOOK_WAITING_FOR_LOCK)
        } else {
            Some(LOOK_OTHERWISE)
        };
        Demand {
            readings: unwanted.iter().any(|(_, job)| !paused(job)),
            cpu: building && settings.processors_busy == Effort::Pause,
            lock_waiter: building,
            locks,
            within,
        }
    }

    /// Decides; gives the jobs whose action has changed.
    pub(super) fn step(&mut self, now: Instant, inputs: &Inputs<'_>) -> Vec<(JobId, JobAction)> {
        self.count_suspended(now);
        let demand = self.demand(inputs.settings, inputs.pauses, inputs.wall_clock);
        if !demand.readings {
            self.limit = None;
        } else if let Some(readings) = &inputs.readings {
            let limit = self.machine.update(now, readings, inputs.settings, self.cores);
            self.limit = Some(limit);
        }
        let mut builds = self.jobs.values().filter(|job| !job.is_wanted && job.is_build());
        let may_suspend = builds.any(|job| {
            let attempt = job.running.as_ref().and_then(|running| running.attempt.as_ref());
            attempt.is_some_and(|attempt| self.may_yield(job, attempt, now))
        });
        if !demand.cpu || !may_suspend {
            self.cpu.resume();
        } else if let Some(CpuSample(cpu)) = inputs.cpu {
            self.cpu.sample(now, cpu);
        }
        let before: Vec<_> = self.jobs.iter().map(|(id, job)| (*id, job.action.clone())).collect();
        self.queue_ready(now, inputs);
        self.step_running(now, inputs);
        self.start_queued(now);
        let changed = before.into_iter().filter_map(|(id, before)| {
            let action = &self.jobs.get(&id)?.action;
            (*action != before).then(|| (id, action.clone()))
        });
        changed.collect()
    }

    fn step_running(&mut self, now: Instant, inputs: &Inputs<'_>) {
        let running =
            self.jobs.iter().filter_map(|(id, job)| Some((*id, job, job.running.as_ref()?)));
        let decided: Vec<_> = running
            .filter(|(_, job, _)| matches!(job.action, JobAction::Run(_) | JobAction::Suspend(_)))
            .map(|(id, job, running)| (id, self.while_running(id, job, running, now, inputs)))
            .collect();
        for (id, (action, yields_lock)) in decided {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.action = action;
                if let Some(running) = &mut job.running {
                    running.yields_lock = yields_lock;
                }
            }
        }
    }

    /// What a running job does next, and whether it yields to a foreign cargo.
    fn while_running(
        &self,
        id: JobId,
        job: &ScheduledJob,
        running: &RunState,
        now: Instant,
        inputs: &Inputs<'_>,
    ) -> (JobAction, bool) {
        let go_on = (JobAction::Run(running.limit.clone()), false);
        let silence = now.saturating_duration_since(running.last_news);
        if !running.is_blocked && running.stall_limit.is_some_and(|limit| silence >= limit) {
            return (JobAction::TimeOut(silence), false);
        }
        let yields = |reason: String| (JobAction::Yield(reason), false);
        if job.is_wanted {
            return match running.limit.holds_back() {
                true => yields(WANTED.to_owned()),
                false => go_on,
            };
        }
        if let Some(reason) = self.objection(job, running.limit.effort, inputs) {
            return yields(reason);
        }
        if let Some(by) = self.contender(job, running, now) {
            return yields(format!("{by} goes first"));
        }
        let Some(attempt) = running.attempt.as_ref().filter(|_| job.is_build()) else {
            return go_on;
        };
        let may_yield = self.may_yield(job, attempt, now);
        if running.is_blocked || inputs.awaited.contains(&id) && may_yield {
            return (JobAction::Yield("another cargo wants to build".to_owned()), true);
        }
        match self.cpu.is_suspended() && may_yield {
            true => (JobAction::Suspend(SUSPENDED), false),
            false => go_on,
        }
    }

    /// Finds the waiting jobs that need nothing but a slot, and tells all others what they wait for.
    fn queue_ready(&mut self, now: Instant, inputs: &Inputs<'_>) {
        let waiting = self.jobs.iter().filter(|(_, job)| job.running.is_none());
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            let obstacle = self.obstacle(id, now, inputs);
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.is_queued = obstacle.is_none() && job.spec.kind != JobKind::Prefetch;
            match obstacle {
                Some(reason) => job.action = JobAction::Wait(reason),
                None if job.is_queued => {}
                // The client is faster by itself.
                None if job.is_wanted => job.action = JobAction::Yield(WANTED.to_owned()),
                None => job.action = JobAction::Run(Limit::NONE),
            }
        }
    }

    /// Starts queued jobs, the most urgent first, as far as there is room.
    fn start_queued(&mut self, now: Instant) {
        let queued = self.jobs.iter().filter(|(_, job)| job.is_queued);
        let mut queued: Vec<_> =
            queued.map(|(id, job)| (self.rank(job, now), Reverse(job.waited(now)), *id)).collect();
        queued.sort_unstable();
        let mut position = 0;
        for (rank, _, id) in queued {
            let rival = self.rival(&self.jobs[&id]);
            let has_room = rank == Rank::Wanted || self.running().count() < BUILD_SLOTS;
            if rival.is_none() && has_room {
                self.start(id, rank == Rank::Overdue, now);
                continue;
            }
            position += 1;
            let behind = rival.or_else(|| self.running().next()).map(|job| {
                let what = if job.is_build() { "build" } else { "tests" };
                format!("{}'s {what}", job.spec.project_name())
            });
            let behind = behind.as_deref().unwrap_or("another project");
            let text = format!("waiting for {behind} ({} in the queue)", ordinal(position));
            if let Some(job) = self.jobs.get_mut(&id) {
                job.action = JobAction::Wait(text);
            }
        }
    }

    /// Why a waiting job cannot even enter the queue, if it cannot.
    fn obstacle(&mut self, id: JobId, now: Instant, inputs: &Inputs<'_>) -> Option<String> {
        let job = &self.jobs[&id];
        if job.is_wanted {
            return None;
        }
        if let Some(reason) = self.objection(job, Effort::Slow, inputs) {
            return Some(reason);
        }
        let unknown = "waiting for its turn".to_owned();
        if self.limit.is_none() {
            return Some(unknown);
        }
        // A job of ours that holds the lock is a matter of the queue.
        if !job.is_build() || self.rival(job).is_some() {
            return None;
        }
        let waited = now.saturating_duration_since(job.waits_since);
        let free_since = match inputs.locked.get(&id) {
            Some(true) => None,
            Some(false) => Some(job.lock_free_since.unwrap_or(now)),
            None => return Some(unknown),
        };
        let may_begin = free_since.map(|since| {
            let project = self.projects.get(&job.spec.workspace_root);
            project.is_none_or(|project| project.backoff.may_begin(now - since, waited))
        });
        if let Some(job) = self.jobs.get_mut(&id) {
            job.lock_free_since = free_since;
        }
        match may_begin {
            None => Some("waiting for another cargo".to_owned()),
            Some(false) => Some("backing off for another cargo".to_owned()),
            Some(true) => None,
        }
    }

    fn start(&mut self, id: JobId, was_overdue: bool, now: Instant) {
        let limit = self.limit.clone();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let limit = limit.filter(|_| !job.is_wanted).unwrap_or(Limit::NONE);
        job.waited_before = job.waited(now);
        job.is_queued = false;
        job.action = JobAction::Run(limit.clone());
        job.running = Some(RunState {
            limit,
            was_overdue,
            attempt: None,
            is_blocked: false,
            last_news: now,
            stall_limit: None,
            yields_lock: false,
        });
    }

    /// Why no job of this project may go on with more than `effort`, if it may not.
    fn objection(&self, job: &ScheduledJob, effort: Effort, inputs: &Inputs<'_>) -> Option<String> {
        if inputs.pauses.of(&job.spec.workspace_root, inputs.wall_clock).is_some() {
            return Some("paused by hand".to_owned());
        }
        // To go on faster is not worth what would be thrown away.
        let worse = self.limit.as_ref().filter(|limit| limit.effort > effort)?;
        Some(worse.reason.clone().unwrap_or_default())
    }

    /// The project whose job is more urgent than a running one and could begin in its place.
    fn contender(&self, job: &ScheduledJob, running: &RunState, now: Instant) -> Option<String> {
        let own = self.rank(job, now);
        let queued = self.jobs.values().filter(|other| other.is_queued);
        let ranked = queued.map(|other| (self.rank(other, now), other));
        let better = ranked.filter(|(rank, other)| match rank {
            Rank::Wanted => other.spec.shares_target_dir(&job.spec),
            // For an edit only: all other jobs can wait for the end of this one.
            Rank::Edited(_) => !running.was_overdue && *rank < own,
            _ => false,
        });
        let first = better.min_by_key(|(rank, _)| *rank);
        first.map(|(_, other)| other.spec.project_name())
    }

    /// The running job that builds in the same target directory.
    fn rival(&self, job: &ScheduledJob) -> Option<&ScheduledJob> {
        self.running().find(|running| running.spec.shares_target_dir(&job.spec))
    }

    fn running(&self) -> impl Iterator<Item = &ScheduledJob> {
        self.jobs.values().filter(|job| job.running.is_some())
    }

    fn rank(&self, job: &ScheduledJob, now: Instant) -> Rank {
        let project = self.projects.get(&job.spec.workspace_root);
        let recent = |when: Option<Instant>| {
            when.filter(|when| now.saturating_duration_since(*when) < RECENT).map(Reverse)
        };
        if job.is_wanted {
            Rank::Wanted
        } else if job.running.is_none() && job.waited(now) >= LONGEST_QUEUE_WAIT {
            Rank::Overdue
        } else if let Some(edited) = project.and_then(|project| recent(project.edited)) {
            Rank::Edited(edited)
        } else if let Some(asked) = project.and_then(|project| recent(project.asked)) {
            Rank::Asked(asked)
        } else {
            Rank::Rest
        }
    }

    fn project(&mut self, workspace_root: &Path) -> &mut ScheduledProject {
        self.projects.entry(workspace_root.to_owned()).or_default()
    }

    fn may_yield(&self, job: &ScheduledJob, attempt: &Attempt, now: Instant) -> bool {
        let project = self.projects.get(&job.spec.workspace_root);
        project.is_none_or(|project| project.backoff.yields(attempt, now))
    }

    /// Closes the books of a job's attempt.
    fn end_attempt(&mut self, id: JobId, now: Instant) {
        self.count_suspended(now);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(running) = &mut job.running else { return };
        let Some(attempt) = running.attempt.take().filter(|_| job.spec.kind == JobKind::Build)
        else {
            return;
        };
        let yields_lock = running.yields_lock;
        match self.projects.get_mut(&job.spec.workspace_root) {
            Some(project) if yields_lock => project.backoff.yielded(&attempt, now),
            Some(project) => project.backoff.ended(&attempt, now),
            None => {}
        }
    }

    /// The time since the last call does not count for jobs that were suspended.
    fn count_suspended(&mut self, now: Instant) {
        let passed = self.last_step.replace(now).map_or(Duration::ZERO, |last| now - last);
        for job in self.jobs.values_mut() {
            let (JobAction::Suspend(_), Some(running)) = (&job.action, &mut job.running) else {
                continue;
            };
            running.last_news += passed;
            if let Some(attempt) = &mut running.attempt {
                attempt.started += passed;
                attempt.last_unit += passed;
            }
            if let Some(project) = self.projects.get_mut(&job.spec.workspace_root) {
                project.backoff.suspended(passed);
            }
        }
    }
}

/// `1st`, `2nd` and so on.
fn ordinal(number: usize) -> String {
    let ending = match (number % 10, number % 100) {
        (1, rest) if rest != 11 => "st",
        (2, rest) if rest != 12 => "nd",
        (3, rest) if rest != 13 => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

#[cfg(test)]
mod tests;
