//! The schedule by example, and by its rules over all histories.

use proptest::prelude::*;

use super::*;

const SETTINGS: BackgroundSettings = BackgroundSettings::SAMPLE;

/// A schedule whose clock and inputs are set by hand.
struct Course {
    schedule: Schedule,
    settings: BackgroundSettings,
    pauses: Pauses,
    readings: Readings,
    cpu: Option<CpuUse>,
    has_lock_waiter: bool,
    is_locked: bool,
    now: Instant,
}

fn root(name: &str) -> PathBuf {
    Path::new("/").join(name)
}

impl Course {
    fn new() -> Self {
        Self {
            schedule: Schedule::new(NonZeroUsize::new(4).unwrap()),
            settings: SETTINGS,
            pauses: Pauses::default(),
            readings: Readings::default(),
            cpu: None,
            has_lock_waiter: false,
            is_locked: false,
            now: Instant::now(),
        }
    }

    fn enter(&mut self, name: &str, kind: JobKind) -> JobId {
        self.enter_in(name, kind, &root(name).join("target"))
    }

    fn enter_in(&mut self, name: &str, kind: JobKind, target_dir: &Path) -> JobId {
        let target_dirs = vec![target_dir.to_owned()];
        let spec = JobSpec { workspace_root: root(name), target_dirs, kind };
        self.schedule.enter(spec, self.now)
    }

    fn build(&mut self, name: &str) -> JobId {
        self.enter(name, JobKind::Build)
    }

    fn edit(&mut self, name: &str) {
        self.schedule.edited(&root(name), self.now);
    }

    /// Takes steps until nothing changes: what is demanded is given at once.
    fn step(&mut self) {
        for _ in 0..4 {
            let wall_clock = Timestamp(1_000_000);
            let demand = self.schedule.demand(&self.settings, &self.pauses, wall_clock);
            let inputs = Inputs {
                settings: &self.settings,
                pauses: &self.pauses,
                wall_clock,
                readings: demand.readings.then_some(self.readings),
                cpu: None,
                awaited: self.awaited().filter(|_| demand.lock_waiter).collect(),
                locked: demand.locks.iter().map(|(id, _)| (*id, self.is_locked)).collect(),
            };
            self.schedule.step(self.now, &inputs);
        }
    }

    /// All jobs, if a foreign process waits for a lock.
    fn awaited(&self) -> impl Iterator<Item = JobId> {
        self.schedule.jobs.keys().copied().filter(|_| self.has_lock_waiter)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.step();
    }

    /// Passes time in steps of a sample each.
    fn pass_with_samples(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += SAMPLE_INTERVAL;
            let inputs = Inputs {
                settings: &self.settings,
                pauses: &self.pauses,
                wall_clock: Timestamp(0),
                readings: Some(self.readings),
                cpu: Some(CpuSample(self.cpu)),
                awaited: self.awaited().collect(),
                locked: BTreeMap::new(),
            };
            self.schedule.step(self.now, &inputs);
        }
    }

    fn action(&self, id: JobId) -> &JobAction {
        &self.schedule.jobs[&id].action
    }

    fn runs(&self, id: JobId) -> bool {
        matches!(self.action(id), JobAction::Run(_))
    }

    fn reason(&self, id: JobId) -> String {
        match self.action(id) {
            JobAction::Wait(reason) | JobAction::Yield(reason) => reason.clone(),
            JobAction::Suspend(reason) => (*reason).to_owned(),
            action => format!("{action:?}"),
        }
    }

    /// The yielding job gives up and waits again.
    fn requeue(&mut self, id: JobId) {
        assert!(matches!(self.action(id), JobAction::Yield(_)), "{:?}", self.action(id));
        self.schedule.requeue(id, self.now);
        self.step();
    }

    fn end(&mut self, id: JobId) {
        self.schedule.leave(id, true, self.now);
        self.step();
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn edited_projects_go_first_then_those_asked_about_then_the_rest() {
    let mut course = Course::new();
    let busy = course.build("busy");
    course.step();
    let names = ["rest", "asked", "later asked", "edited", "later edited"];
    let ids = names.map(|name| course.build(name));
    let asked = |course: &mut Course, name: &str| {
        course.now += seconds(1);
        course.schedule.asked(&root(name), course.now);
    };
    asked(&mut course, "asked");
    asked(&mut course, "later asked");
    for name in ["edited", "later edited"] {
        course.now += seconds(1);
        course.edit(name);
    }
    course.end(busy);
    let mut served = Vec::new();
    while let Some(at) =
        ids.iter().position(|id| course.schedule.jobs.contains_key(id) && course.runs(*id))
    {
        served.push(names[at]);
        course.end(ids[at]);
    }
    assert_eq!(served, ["later edited", "edited", "later asked", "asked", "rest"]);
}

#[test]
fn one_job_runs_and_the_others_know_their_position() {
    let mut course = Course::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| course.build(name));
    course.step();
    assert!(course.runs(a));
    assert_eq!(course.reason(b), "waiting for a's build (1st in the queue)");
    assert_eq!(course.reason(c), "waiting for a's build (2nd in the queue)");
    course.end(a);
    assert!(course.runs(b));
    assert_eq!(course.reason(c), "waiting for b's build (1st in the queue)");
    let ends = [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th")];
    for (position, word) in ends.into_iter().chain([(21, "21st"), (113, "113th")]) {
        assert_eq!(ordinal(position), word);
    }
}

#[test]
fn a_wanted_job_runs_at_once_but_never_in_the_same_target_directory() {
    let mut course = Course::new();
    let [a, b] = ["a", "b"].map(|name| course.build(name));
    course.step();
    course.schedule.want(b);
    course.step();
    assert!(course.runs(a) && course.runs(b));
    let beside = course.enter_in("worktree", JobKind::Build, &root("a").join("target"));
    course.step();
    assert!(course.reason(beside).starts_with("waiting for a's build"));
    course.schedule.want(beside);
    course.step();
    assert_eq!(course.reason(a), "worktree goes first");
    assert!(course.runs(b), "it has a directory of its own, and is wanted");
    course.requeue(a);
    assert!(course.runs(beside) && !course.runs(a));
}

#[test]
fn a_wanted_job_that_is_held_back_begins_again_at_full_speed() {
    let mut course = Course::new();
    course.readings.power.saving = Some(true);
    let id = course.build("a");
    course.step();
    let JobAction::Run(limit) = course.action(id).clone() else { panic!() };
    assert_eq!(limit.jobs, NonZeroUsize::new(1));
    assert_eq!(limit.describe("building x"), "building x (one job: the machine saves power)");
    course.schedule.want(id);
    course.step();
    assert_eq!(course.reason(id), "a client waits for it");
    course.requeue(id);
    assert_eq!(*course.action(id), JobAction::Run(Limit::NONE));
}

#[test]
fn only_an_edit_preempts_and_not_a_job_that_waited_too_long() {
    let mut course = Course::new();
    let [a, b] = ["a", "b"].map(|name| course.build(name));
    course.step();
    course.schedule.asked(&root("b"), course.now);
    course.step();
    assert!(course.runs(a), "a question is answered without it");
    course.edit("b");
    course.step();
    assert_eq!(course.reason(a), "b goes first");
    course.requeue(a);
    assert!(course.runs(b));
    course.now += seconds(1);
    course.edit("b");
    course.pass(LONGEST_QUEUE_WAIT);
    course.edit("c");
    let c = course.build("c");
    course.step();
    assert_eq!(course.reason(b), "c goes first");
    course.requeue(b);
    // `a` has waited too long, and has its time now.
    assert!(course.runs(a) && !course.runs(c), "{:?}", course.action(a));
    course.edit("c");
    course.step();
    assert!(course.runs(a));
}

#[test]
fn a_newer_snapshot_inherits_the_waiting_time() {
    let mut course = Course::new();
    let busy = course.build("busy");
    course.step();
    let mut old = course.build("saved often");
    for _ in 0..700 {
        course.now += seconds(1);
        course.schedule.leave(old, false, course.now);
        old = course.build("saved often");
    }
    course.edit("busy");
    let fresh = course.build("fresh");
    course.edit("fresh");
    course.end(busy);
    assert!(course.runs(old) && !course.runs(fresh));
}

#[test]
fn a_pause_by_hand_stops_all_but_wanted_jobs() {
    let mut course = Course::new();
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (course.build("a"), course.enter("b", JobKind::Prefetch));
    course.step();
    assert!(course.runs(a) && course.runs(b));
    let pause = crate::daemon::Pause::new(Timestamp(1_000_000), Some(seconds(60)));
    Pauses::pause(folder.path(), None, pause).unwrap();
    course.pauses = Pauses::load(folder.path());
    let demand = course.schedule.demand(&SETTINGS, &course.pauses, Timestamp(1_000_000));
    assert!(!demand.readings, "nobody looks at the machine meanwhile");
    course.step();
    assert_eq!(
        (course.reason(a), course.reason(b)),
        ("paused by hand".into(), "paused by hand".into())
    );
    course.requeue(a);
    assert_eq!(course.reason(a), "paused by hand");
    course.schedule.want(a);
    course.step();
    assert!(course.runs(a));
    let over = course.pauses.of(&root("b"), Timestamp(1_060_000));
    assert_eq!(over, None);
}

#[test]
fn the_machine_stops_and_releases_jobs() {
    let mut course = Course::new();
    let id = course.build("a");
    course.step();
    course.readings.memory_pressure = Some(42.0);
    course.pass(seconds(1));
    assert_eq!(course.reason(id), "programs wait for memory 42 % of the time");
    course.requeue(id);
    assert_eq!(course.reason(id), "programs wait for memory 42 % of the time");
    course.readings.memory_pressure = Some(0.0);
    course.pass(seconds(1));
    course.pass(seconds(6));
    assert!(course.runs(id));
    course.schedule.leave(id, true, course.now);
    course.step();
    assert_eq!(course.schedule.limit, None, "without jobs nothing is known");
}

#[test]
fn a_build_yields_to_a_foreign_cargo_and_backs_off() {
    let mut course = Course::new();
    course.is_locked = true;
    let id = course.build("a");
    course.step();
    assert_eq!(course.reason(id), "waiting for another cargo");
    course.is_locked = false;
    course.step();
    assert!(course.runs(id), "the first attempt begins as soon as the lock is free");
    course.schedule.begin_attempt(id, course.now);
    course.pass(seconds(2));
    course.has_lock_waiter = true;
    course.step();
    assert_eq!(course.reason(id), "another cargo wants to build");
    course.has_lock_waiter = false;
    course.requeue(id);
    assert_eq!(course.reason(id), "backing off for another cargo");
    course.pass(Duration::from_millis(200));
    assert!(!course.runs(id));
    course.pass(Duration::from_millis(200));
    assert!(course.runs(id));
    let stats = course.schedule.yield_stats(&root("a"));
    assert_eq!((stats.times, stats.spent_ms, stats.lost_ms), (1, 2_000, 2_000));
}

#[test]
fn a_blocked_build_yields_and_tests_know_no_lock() {
    let mut course = Course::new();
    let id = course.build("a");
    course.step();
    course.schedule.begin_attempt(id, course.now);
    let news = News { is_blocked: true, ..News::default() };
    course.schedule.report(id, news, course.now);
    course.step();
    assert_eq!(course.reason(id), "another cargo wants to build");
    course.end(id);
    let tests = course.enter("a", JobKind::Tests);
    (course.is_locked, course.has_lock_waiter) = (true, true);
    course.pass(seconds(1));
    assert!(course.runs(tests));
}

#[test]
fn a_build_is_suspended_and_that_time_does_not_count() {
    let mut course = Course::new();
    let id = course.build("a");
    course.step();
    course.schedule.begin_attempt(id, course.now);
    let news = News { stall_limit: Some(seconds(10)), ..News::default() };
    course.schedule.report(id, news, course.now);
    course.cpu = Some(CpuUse { others: 1.0, all: 1.0 });
    course.pass_with_samples(seconds(1));
    assert_eq!(course.reason(id), "suspended: other programs use all cores");
    course.pass_with_samples(seconds(15));
    assert_eq!(course.reason(id), "suspended: other programs use all cores", "it is not stalled");
    let stats = course.schedule.yield_stats(&root("a"));
    assert!((14_000..=16_000).contains(&stats.suspended_ms), "{stats:?}");
    course.schedule.want(id);
    course.step();
    assert!(course.runs(id), "a client waits");
    course.pass(seconds(10));
    assert!(matches!(course.action(id), JobAction::TimeOut(_)));
}

#[test]
fn a_build_that_insists_on_a_unit_is_not_suspended() {
    let mut course = Course::new();
    let id = course.build("a");
    course.step();
    for _ in 0..4 {
        course.schedule.begin_attempt(id, course.now);
        course.has_lock_waiter = true;
        course.pass(seconds(1));
        course.has_lock_waiter = false;
        course.requeue(id);
        course.pass(seconds(60));
        assert!(course.runs(id), "{:?}", course.action(id));
    }
    course.schedule.begin_attempt(id, course.now);
    course.has_lock_waiter = true;
    course.cpu = Some(CpuUse { others: 1.0, all: 1.0 });
    course.pass_with_samples(seconds(2));
    assert!(course.runs(id), "{:?}", course.action(id));
    course.schedule.report(id, News { finished_unit: true, ..News::default() }, course.now);
    course.step();
    assert_eq!(course.reason(id), "another cargo wants to build");
}

#[test]
fn a_job_without_news_times_out_unless_it_is_blocked() {
    let mut course = Course::new();
    let id = course.build("a");
    course.step();
    course.schedule.begin_attempt(id, course.now);
    course.pass(seconds(1_000));
    assert!(course.runs(id), "without a limit it may take its time");
    let news = News { stall_limit: Some(seconds(60)), ..News::default() };
    course.schedule.want(id);
    course.schedule.report(id, News { is_blocked: true, ..news }, course.now);
    course.pass(seconds(600));
    assert!(course.runs(id), "another cargo takes its time");
    course.schedule.report(id, news, course.now);
    course.pass(seconds(59));
    assert!(course.runs(id));
    course.pass(seconds(1));
    assert_eq!(*course.action(id), JobAction::TimeOut(seconds(60)));
}

#[test]
fn prefetching_needs_no_slot_and_ends_for_a_client() {
    let mut course = Course::new();
    let build = course.build("a");
    let id = course.enter("b", JobKind::Prefetch);
    course.step();
    assert!(course.runs(build) && course.runs(id));
    course.schedule.want(id);
    course.step();
    assert_eq!(course.reason(id), "a client waits for it");
}

#[test]
fn without_jobs_nothing_is_observed() {
    let course = Course::new();
    let demand = course.schedule.demand(&SETTINGS, &course.pauses, Timestamp(0));
    assert_eq!(demand, Demand::default());
}

/// One event in the life of a schedule of few projects.
#[derive(Clone, Copy, Debug)]
enum Event {
    Enter(usize),
    Edit(usize),
    Ask(usize),
    Cancel(usize),
    Pass(u64),
}

fn event(projects: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..projects).prop_map(Event::Enter),
        3 => (0..projects).prop_map(Event::Edit),
        1 => (0..projects).prop_map(Event::Ask),
        1 => (0..projects).prop_map(Event::Cancel),
        2 => (1..60_u64).prop_map(Event::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Builds take a minute, yield whenever they are asked to, and two projects are edited all the
    /// time: still no job waits longer than the longest wait and one round of builds.
    #[test]
    fn one_job_runs_at_a_time_and_none_starves(events in prop::collection::vec(event(4), 1..200)) {
        const BUILD: u64 = 60;
        let mut course = Course::new();
        let mut jobs: [Option<JobId>; 4] = [None; 4];
        let mut running: Option<(usize, Instant)> = None;
        let edits = (0..60).flat_map(|_| {
            [Event::Edit(0), Event::Enter(0), Event::Edit(1), Event::Enter(1), Event::Pass(30)]
        });
        for event in events.into_iter().chain(edits) {
            match event {
                Event::Enter(who) if jobs[who].is_none() => {
                    jobs[who] = Some(course.build(&who.to_string()));
                }
                Event::Enter(_) => {}
                Event::Edit(who) => course.edit(&who.to_string()),
                Event::Ask(who) => course.schedule.asked(&root(&who.to_string()), course.now),
                Event::Cancel(who) => if let Some(id) = jobs[who].take() {
                    course.schedule.leave(id, false, course.now);
                    running = running.filter(|(other, _)| *other != who);
                },
                Event::Pass(seconds) => course.now += Duration::from_secs(seconds),
            }
            course.step();
            if let Some((who, begun)) = running {
                let id = jobs[who].unwrap();
                if course.now - begun >= Duration::from_secs(BUILD) {
                    course.end(id);
                    (jobs[who], running) = (None, None);
                } else if matches!(course.action(id), JobAction::Yield(_)) {
                    course.requeue(id);
                    running = None;
                }
            }
            let now_running: Vec<_> = (0..4)
                .filter(|who| jobs[*who].is_some_and(|id| course.runs(id)))
                .collect();
            prop_assert!(now_running.len() <= 1, "{now_running:?}");
            if let [who] = now_running[..] {
                running = running.filter(|(other, _)| *other == who).or(Some((who, course.now)));
            } else {
                prop_assert!(jobs.iter().all(Option::is_none), "a job waits for nothing");
            }
            for id in jobs.iter().flatten().filter(|id| !course.runs(**id)) {
                // All others may be overdue as well, and time passes in steps.
                let bound = LONGEST_QUEUE_WAIT + Duration::from_secs(4 * (BUILD + 60));
                let waited = course.schedule.jobs[id].waited(course.now);
                prop_assert!(waited <= bound, "{id:?} waits for {waited:?}");
            }
        }
    }
}
