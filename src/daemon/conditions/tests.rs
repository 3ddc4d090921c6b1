//! The owner and its followers, on a machine of files.

use std::fs;

use super::*;

const SETTINGS: BackgroundSettings = BackgroundSettings {
    on_battery: Effort::Pause,
    battery_below: 40,
    power_save: Effort::Slow,
    memory_pressure: Some(10),
    session_locked: Effort::Run,
    processors_busy: Effort::Pause,
    jobs: None,
};

/// Long enough for anything that is going to happen.
const LIMIT: Duration = Duration::from_secs(30);

struct Stage {
    conditions: Conditions,
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
        fs::create_dir_all(root.join("firmware/acpi")).unwrap();
        let stop = CancellationToken::new();
        let machine = Machine::Files { proc: root.clone(), sys: root.clone() };
        write_pressure(&root, pressure);
        let environment = Environment::default();
        let conditions =
            Conditions::start(machine, environment, SETTINGS, cache.clone(), stop.clone());
        Self { conditions, cache, root, _stop: stop.drop_guard(), _dir: dir }
    }

    fn follow(&self) -> Follower {
        self.conditions.follow(Path::new("/p"))
    }

    async fn pause(&self, length: Option<Duration>) {
        Pauses::pause(&self.cache, None, Pause::new(Timestamp::now(), length)).unwrap();
        self.conditions.read_pauses().await;
    }

    async fn resume(&self) {
        Pauses::resume(&self.cache, None).unwrap();
        self.conditions.read_pauses().await;
    }

    fn followers(&self) -> usize {
        *self.conditions.followers.borrow()
    }
}

fn write_pressure(root: &Path, share: &str) {
    let text = format!("some avg10={share} avg60=0.00 avg300=0.00 total=0\n");
    let fresh = root.join("pressure/fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, root.join("pressure/memory")).unwrap();
}

/// Whether it is waiting, and what for: the last thing it says before it says no more.
async fn waits_for(follower: &mut Follower, what: &str) {
    let (tell, mut told) = mpsc::unbounded_channel();
    let said = async {
        loop {
            let reason: String = told.recv().await.unwrap();
            if reason.contains(what) {
                return;
            }
        }
    };
    let waiting = async {
        tokio::select! {
            speed = follower.go(|reason| drop(tell.send(reason))) => panic!("it goes: {speed:?}"),
            () = said => {}
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("it says why");
}

async fn goes(follower: &mut Follower) -> Speed {
    tokio::time::timeout(LIMIT, follower.go(|_| {})).await.expect("it goes on")
}

#[tokio::test]
async fn a_calm_machine_lets_work_go_on_and_is_not_looked_at_without_work() {
    let stage = Stage::new("0.00");
    let mut follower = stage.follow();
    assert_eq!(goes(&mut follower).await, Speed::full());
    assert_eq!(stage.followers(), 1);
    assert_eq!(follower.objection(&Speed::full()), None);
    drop(follower);
    assert_eq!(stage.followers(), 0);
    let mut machine = stage.conditions.machine.clone();
    let forgotten = machine.wait_for(Option::is_none);
    tokio::time::timeout(LIMIT, forgotten).await.expect("what was found is forgotten").unwrap();
}

#[tokio::test]
async fn pressure_stops_work_and_other_settings_let_it_go_on_at_once() {
    let stage = Stage::new("0.00");
    let mut follower = stage.follow();
    let speed = goes(&mut follower).await;
    write_pressure(&stage.root, "42.00");
    let reason = tokio::time::timeout(LIMIT, follower.until_objection(&speed)).await.unwrap();
    assert_eq!(reason, "programs wait for memory 42 % of the time");
    waits_for(&mut follower, "programs wait for memory").await;
    stage.conditions.set(BackgroundSettings { memory_pressure: None, ..SETTINGS });
    assert_eq!(goes(&mut follower).await, Speed::full());
}

#[tokio::test]
async fn a_machine_that_saves_power_has_one_job_at_a_time() {
    let stage = Stage::new("0.00");
    fs::write(stage.root.join("firmware/acpi/platform_profile"), "low-power\n").unwrap();
    let speed = goes(&mut stage.follow()).await;
    assert_eq!(speed.jobs, NonZeroUsize::new(1));
    assert!(speed.is_held_back());
    let text = speed.describe("building x 1/2".to_owned());
    assert_eq!(text, "building x 1/2 (one job: the machine saves power)");
    assert_eq!(Speed::full().describe("building".to_owned()), "building");
}

#[tokio::test]
async fn by_hand_it_stops_and_goes_on_and_nobody_looks_at_the_machine_meanwhile() {
    let stage = Stage::new("99.00");
    stage.pause(None).await;
    let mut follower = stage.follow();
    waits_for(&mut follower, "by hand").await;
    assert_eq!(stage.followers(), 0);
    stage.conditions.set(BackgroundSettings { memory_pressure: None, ..SETTINGS });
    stage.resume().await;
    let speed = goes(&mut follower).await;
    let other = stage.conditions.follow(Path::new("/q"));
    let pause = Pause::new(Timestamp::now(), None);
    Pauses::pause(&stage.cache, Some(Path::new("/p")), pause).unwrap();
    stage.conditions.read_pauses().await;
    let reason = tokio::time::timeout(LIMIT, follower.until_objection(&speed)).await.unwrap();
    assert_eq!(reason, "paused by hand");
    assert_eq!(other.objection(&speed), None, "another project");
}

#[tokio::test]
async fn a_pause_ends_by_itself() {
    let stage = Stage::new("0.00");
    stage.pause(Some(Duration::from_millis(150))).await;
    let begun = Instant::now();
    goes(&mut stage.follow()).await;
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
}
