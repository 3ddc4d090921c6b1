//! A background build is suspended while other programs use all cores.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use knhk_test_cache::Daemon;
use knhk_test_cache::internals::protocol::{ProjectStatus, State};

use super::pauses::{begun, on_machine, until_status};
use crate::home::{EXE, Home, LIMIT, Ran, Started};
use crate::waiting::build_script;

/// A machine of two cores that goes on counting what its processors do.
struct Machine {
    dir: tempfile::TempDir,
    busy: Arc<AtomicBool>,
    counts: tokio::task::JoinHandle<()>,
}

impl Machine {
    /// An idle machine.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let busy = Arc::new(AtomicBool::new(false));
        let (root, works) = (dir.path().to_owned(), Arc::clone(&busy));
        let counts = tokio::spawn(async move {
            let (mut user, mut idle) = (0, 0);
            loop {
                match works.load(Ordering::Relaxed) {
                    true => user += 2,
                    false => idle += 2,
                }
                let ticks = format!("{user} 0 0 {idle} 0 0 0 0");
                let text = format!("cpu  {ticks}\ncpu0 {ticks}\ncpu1 {ticks}\nprocs_running 1\n");
                let fresh = root.join("fresh");
                std::fs::write(&fresh, text).unwrap();
                std::fs::rename(fresh, root.join("stat")).unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { dir, busy, counts }
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Sets whether other programs use all cores.
    fn is_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.counts.abort();
    }
}

/// A project whose build script writes a byte at each beat until it may end, and its daemon.
struct Stage {
    home: Home,
    machine: Machine,
    daemon: Daemon,
}

impl Stage {
    async fn new() -> Self {
        let at_start = "std::fs::write(\"target/pid\", std::process::id().to_string()).unwrap();\n\
                        let mut beats = std::fs::File::create(\"target/beats\").unwrap();";
        let script = build_script(at_start, "beats.write_all(b\"x\").unwrap();");
        let home = Home::with(&[("build.rs", &script)]);
        home.config("[background]\nprocessors_busy = 'pause'", "debounce = '1ms'");
        let machine = Machine::new();
        let daemon = on_machine(&home, machine.root()).await;
        let stage = Self { home, machine, daemon };
        stage.until("its build script runs", |stage, _| stage.beats() > 0).await;
        stage
    }

    /// A stage with a suspended build.
    async fn suspended() -> Self {
        let stage = Self::new().await;
        stage.machine.is_busy(true);
        stage
            .until("it is suspended", |stage, status| is_suspended(status) && stage.is_stopped())
            .await;
        stage
    }

    async fn until(&self, what: &str, is: impl Fn(&Self, &ProjectStatus) -> bool) -> ProjectStatus {
        until_status(&self.daemon, what, |status| is(self, status)).await
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.root.join("target").join(name)
    }

    /// The number of beats of the newest build script.
    fn beats(&self) -> u64 {
        std::fs::metadata(self.file("beats")).map_or(0, |file| file.len())
    }

    /// Whether the kernel says that this build script is stopped.
    fn is_stopped(&self) -> bool {
        let pid = std::fs::read_to_string(self.file("pid")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") T ")
    }
}

fn is_suspended(status: &ProjectStatus) -> bool {
    let why = "suspended: other programs use all cores";
    status.state == State::Paused && status.reason.as_deref() == Some(why)
}

fn is_built(status: &ProjectStatus) -> bool {
    status.state == State::Idle && status.last_build.as_ref().is_some_and(|build| build.success)
}

/// Waits on another thread: this one runs the daemon.
async fn end(started: Started) -> Ran {
    tokio::task::spawn_blocking(move || started.end(LIMIT)).await.unwrap()
}

#[tokio::test]
async fn a_suspended_build_resumes_where_it_was() {
    let stage = Stage::suspended().await;
    let first = begun(&stage.home);
    stage.machine.is_busy(false);
    let status = stage.until("it goes on", |_, status| status.state == State::Building).await;
    let yields = status.yields.times;
    let before = stage.beats();
    stage.until("it does", |stage, _| stage.beats() > before).await;
    stage.machine.is_busy(true);
    let status = stage
        .until("it is suspended again", |stage, status| is_suspended(status) && stage.is_stopped())
        .await;
    // Before and after its build script, cargo may hold the lock of the user's package cache, for
    // which cargo in another test may wait.
    assert_eq!(status.yields.times, yields);
    assert!(status.yields.suspended_ms > 0, "{:?}", status.yields);
    stage.machine.is_busy(false);
    stage.home.write("target/go", "");
    stage.until("it is built", |_, status| is_built(status)).await;
    assert_eq!(begun(&stage.home), first, "nothing was given up");
    stage.daemon.stop().await;
}

#[tokio::test]
async fn a_suspended_build_yields_its_lock() {
    let stage = Stage::suspended().await;
    let first = begun(&stage.home);
    let yields = stage.until("it tells", |_, _| true).await.yields.times;
    // Not as a child of this process, which is the daemon: its own children never wait for it.
    let cargo = stage.home.start("sh", &["-c", "cargo test --no-run --offline; exit $?"]);
    stage.until("theirs runs the build script", |stage, _| begun(&stage.home) > first).await;
    stage.home.write("target/go", "");
    let ran = end(cargo).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    stage.until("it gave way", |_, status| status.yields.times > yields).await;
    stage.daemon.stop().await;
}

#[tokio::test]
async fn a_build_with_a_waiting_client_is_not_suspended() {
    let stage = Stage::suspended().await;
    let first = begun(&stage.home);
    let asked = stage.home.start(EXE, &["rebuild"]);
    stage.until("it begins for who asks", |stage, _| begun(&stage.home) > first).await;
    let before = stage.beats();
    // Much longer than the daemon needs to suspend a build without a client.
    stage
        .until("it goes on and on", |stage, status| {
            assert!(!is_suspended(status), "{status:?}");
            stage.beats() > before + 200
        })
        .await;
    stage.home.write("target/go", "");
    let ran = end(asked).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    stage.daemon.stop().await;
}

#[tokio::test]
async fn a_question_does_not_wait_for_a_suspended_build() {
    let stage = Stage::suspended().await;
    let first = begun(&stage.home);
    let asked = stage.home.start(EXE, &["test"]);
    stage.until("it begins for who asks", |stage, _| begun(&stage.home) > first).await;
    stage.home.write("target/go", "");
    let ran = end(asked).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    stage.daemon.stop().await;
}

#[tokio::test]
async fn no_process_stays_suspended_after_a_pause_or_a_stop() {
    let stage = Stage::suspended().await;
    let left = || -> Vec<String> {
        let left = stage.home.left_over().into_iter();
        left.filter(|line| line.contains("cargo") || line.contains("build-script")).collect()
    };
    assert!(!left().is_empty());
    let ran = end(stage.home.start(EXE, &["pause"])).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    stage.until("it was given up", |_, _| left().is_empty()).await;
    let first = begun(&stage.home);
    stage.machine.is_busy(false);
    let ran = end(stage.home.start(EXE, &["resume"])).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    stage.until("it runs again", |stage, _| begun(&stage.home) > first).await;
    stage.machine.is_busy(true);
    stage
        .until("it is suspended again", |stage, status| is_suspended(status) && stage.is_stopped())
        .await;
    stage.daemon.stop().await;
    assert_eq!(left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_config_change_resumes_a_suspended_build() {
    let stage = Stage::suspended().await;
    let first = begun(&stage.home);
    stage.home.config("[background]\nprocessors_busy = 'slow'", "debounce = '1ms'");
    stage.until("it goes on", |stage, _| !stage.is_stopped()).await;
    stage.home.write("target/go", "");
    stage.until("it is built", |_, status| is_built(status)).await;
    assert_eq!(begun(&stage.home), first);
    stage.daemon.stop().await;
}
