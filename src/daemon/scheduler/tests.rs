//! The scheduler's task, on a machine of files.

use std::fs;

use super::super::pauses::Pause;
use super::super::schedule::JobKind;
use super::*;

const SETTINGS: BackgroundSettings = BackgroundSettings::SAMPLE;

/// Long enough for anything that is going to happen.
const LIMIT: Duration = Duration::from_secs(30);

struct Stage {
    scheduler: Scheduler,
    cache: PathBuf,
    root: PathBuf,
    _stop: tokio_util::sync::DropGuard,
    _dir: tempfile::TempDir,
}

impl Stage {
    fn new(pressure: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("root"), dir.path().join("cache"));
        fs::create_dir_all(root.join("pressure")).unwrap();
        let stop = CancellationToken::new();
        let machine = ReadingsSource::Files { proc: root.clone(), sys: root.clone() };
        write_pressure(&root, pressure);
        let environment = Environment::default();
        let scheduler =
            Scheduler::start(machine, environment, SETTINGS, cache.clone(), stop.clone());
        Self { scheduler, cache, root, _stop: stop.drop_guard(), _dir: dir }
    }

    fn enter(&self, project: &str) -> Ticket {
        let root = self.root.join(project);
        let target_dirs = vec![root.join("target")];
        self.scheduler.enter(JobSpec { workspace_root: root, target_dirs, kind: JobKind::Build })
    }

    async fn pause(&self, project: Option<&Path>) {
        Pauses::pause(&self.cache, project, Pause::new(Timestamp::now(), None)).unwrap();
        self.scheduler.read_pauses().await;
    }
}

fn write_pressure(root: &Path, share: &str) {
    let text = format!("some avg10={share} avg60=0.00 avg300=0.00 total=0\n");
    let fresh = root.join("pressure/fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, root.join("pressure/memory")).unwrap();
}

async fn granted(ticket: &mut Ticket) {
    let granted = tokio::time::timeout(LIMIT, ticket.granted(|_| {}));
    granted.await.expect("it may run").expect("it is not to give up");
}

/// Waits until the job is told to yield; the reason.
async fn yields(ticket: &mut Ticket) -> String {
    let action = async {
        loop {
            if let JobAction::Yield(reason) = ticket.next_action().await {
                return reason;
            }
        }
    };
    tokio::time::timeout(LIMIT, action).await.expect("it yields")
}

/// Waits until the job waits for this reason.
async fn waits_for(ticket: &mut Ticket, what: &str) {
    let (tell, mut told) = watch::channel(String::new());
    let waiting = async {
        tokio::select! {
            limit = ticket.granted(|reason| drop(tell.send(reason.to_owned()))) => {
                panic!("it runs: {limit:?}")
            }
            told = told.wait_for(|reason| reason.contains(what)) => drop(told.unwrap()),
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it says why");
}

#[tokio::test]
async fn a_job_runs_on_a_calm_machine_which_is_not_read_without_jobs() {
    let stage = Stage::new("0.00");
    let mut ticket = stage.enter("p");
    granted(&mut ticket).await;
    ticket.served();
    let forgotten = async {
        while lock(&stage.scheduler.0.state).schedule.knows_limit() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, forgotten).await.expect("what was read is forgotten");
}

#[tokio::test]
async fn pressure_stops_a_job_and_other_settings_release_it_at_once() {
    let stage = Stage::new("0.00");
    let mut ticket = stage.enter("p");
    granted(&mut ticket).await;
    write_pressure(&stage.root, "42.00");
    assert_eq!(yields(&mut ticket).await, "programs wait for memory 42 % of the time");
    ticket.requeue();
    waits_for(&mut ticket, "programs wait for memory").await;
    stage.scheduler.set(BackgroundSettings { memory_pressure: None, ..SETTINGS });
    granted(&mut ticket).await;
}

#[tokio::test]
async fn a_pause_by_hand_stops_one_project_and_resume_releases_it() {
    let stage = Stage::new("0.00");
    let (p, q) = (stage.root.join("p"), stage.root.join("q"));
    stage.pause(Some(&q)).await;
    let (mut one, mut other) = (stage.enter("p"), stage.enter("q"));
    granted(&mut one).await;
    waits_for(&mut other, "paused by hand").await;
    stage.pause(Some(&p)).await;
    assert_eq!(yields(&mut one).await, "paused by hand");
    one.requeue();
    waits_for(&mut one, "paused by hand").await;
    drop(other);
    Pauses::resume(&stage.cache, None).unwrap();
    stage.scheduler.read_pauses().await;
    granted(&mut one).await;
}

#[tokio::test]
async fn a_job_that_leaves_makes_room() {
    let stage = Stage::new("0.00");
    let mut first = stage.enter("a");
    granted(&mut first).await;
    let mut second = stage.enter("b");
    waits_for(&mut second, "waiting for a's build (1st in the queue)").await;
    drop(first);
    granted(&mut second).await;
}
