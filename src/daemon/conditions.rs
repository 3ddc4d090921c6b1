//! Whether background work may go on, and how fast: by the state of the machine, and by hand.
//!
//! One task owns the readings, what was decided of them, the settings and the pauses. It takes
//! readings only while somebody follows them, which is while there is work to be done; a daemon
//! with nothing to do does not look at the machine at all.

mod asked;
mod files;
mod judge;
mod pauses;
mod readings;
mod sensors;
mod standing;
mod stillness;
mod survey;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::judge::{Decision, Judge};
use self::sensors::Sensors;
use crate::config::{BackgroundSettings, Effort};
use crate::model::Timestamp;
use crate::process::Environment;
use crate::protocol::ProjectStatus;

pub use self::pauses::{Left, Pause, PauseError, Pauses};
pub(super) use self::sensors::Machine;
pub(super) use self::standing::Standing;
pub use self::survey::{Surveyed, survey};

/// How often readings are taken.
const EVERY: Duration = Duration::from_secs(1);
/// How often a pause's end is looked for at least: the clock may be set, the machine sleep.
const LOOK: Duration = Duration::from_secs(60);

/// What the owner is told.
enum Order {
    Settings(BackgroundSettings),
    /// The pauses' files were written.
    Pauses(oneshot::Sender<()>),
}

/// How the rest of the daemon reaches the owner.
#[derive(Debug)]
pub(super) struct Conditions {
    orders: mpsc::UnboundedSender<Order>,
    pauses: watch::Receiver<Pauses>,
    machine: watch::Receiver<Option<Decision>>,
    followers: Arc<watch::Sender<usize>>,
    /// Where the machine tells of its processors at any time.
    proc: Option<PathBuf>,
}

impl Conditions {
    /// Starts the owner, which ends with `stop`. Pauses are read from below `cache_dir`.
    pub(super) fn start(
        machine: Machine,
        environment: Environment,
        settings: BackgroundSettings,
        cache_dir: PathBuf,
        stop: CancellationToken,
    ) -> Self {
        let (orders, asked) = mpsc::unbounded_channel();
        let (tell_pauses, pauses) = watch::channel(Pauses::load(&cache_dir));
        let (tell, decision) = watch::channel(None);
        let (followers, demand) = watch::channel(0);
        let proc = match &machine {
            Machine::Files { proc, .. } => Some(proc.clone()),
            Machine::Programs => None,
        };
        let owner = Owner {
            sensors: Sensors::new(machine, environment),
            judge: Judge::default(),
            settings,
            cores: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            cache_dir,
            tell_pauses,
            tell,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = owner.run(asked, demand) => {}
            }
        });
        Self { orders, pauses, machine: decision, followers: Arc::new(followers), proc }
    }

    /// Other settings are in force.
    pub(super) fn set(&self, settings: BackgroundSettings) {
        // Nobody decides any more when the daemon is stopping.
        let _ = self.orders.send(Order::Settings(settings));
    }

    /// Reads the pauses again; they are in force when this returns.
    pub(super) async fn read_pauses(&self) {
        let (done, read) = oneshot::channel();
        let _ = self.orders.send(Order::Pauses(done));
        let _ = read.await;
    }

    /// Has a project's status say that it is paused by hand, where it is.
    pub(super) fn show(&self, status: &mut ProjectStatus) {
        self.pauses.borrow().show(status, Timestamp::now());
    }

    /// Whether work in the background is held back now, or others want the processors. Nothing is
    /// known of that while nobody works.
    pub(super) fn hold_back(&self) -> bool {
        let decision = self.machine.borrow();
        decision.as_ref().is_some_and(|now| now.effort != Effort::Run || now.jobs.is_some())
    }

    /// For work on this project.
    pub(super) fn follow(&self, project: &Path) -> Follower {
        Follower {
            project: project.to_owned(),
            pauses: self.pauses.clone(),
            machine: self.machine.clone(),
            followers: Arc::clone(&self.followers),
            proc: self.proc.clone(),
            counted: None,
        }
    }
}

/// The task.
struct Owner {
    sensors: Sensors,
    judge: Judge,
    settings: BackgroundSettings,
    cores: NonZeroUsize,
    cache_dir: PathBuf,
    tell_pauses: watch::Sender<Pauses>,
    /// None while nobody follows, and until the first reading after that.
    tell: watch::Sender<Option<Decision>>,
}

impl Owner {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut followers: watch::Receiver<usize>,
    ) {
        loop {
            let followed = *followers.borrow_and_update() > 0;
            match followed {
                true => self.look().await,
                // What holds now says nothing of when there is work again.
                false => drop(self.tell.send_replace(None)),
            }
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Settings(settings)) => {
                        if settings != self.settings {
                            self.settings = settings;
                            // By other rules, what was found before has no weight.
                            self.judge = Judge::default();
                        }
                    }
                    Some(Order::Pauses(done)) => {
                        self.tell_pauses.send_replace(Pauses::load(&self.cache_dir));
                        // Whoever waited may be gone.
                        let _ = done.send(());
                    }
                    None => return,
                },
                changed = followers.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(EVERY), if followed => {}
            }
        }
    }

    /// Takes readings and decides.
    async fn look(&mut self) {
        let readings = self.sensors.read(&self.settings).await;
        let decision = self.judge.decide(Instant::now(), &readings, &self.settings, self.cores);
        self.tell.send_if_modified(|told| {
            let before = told.as_ref().map_or(Effort::Run, |told| told.effort);
            if before != decision.effort {
                let reason = decision.reason.as_deref().unwrap_or("all is well");
                info!(effort = decision.effort.as_str(), reason, "background work");
            }
            let changed = told.as_ref() != Some(&decision);
            *told = Some(decision);
            changed
        });
    }
}

/// How fast work goes that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Speed {
    effort: Effort,
    /// At most so many compilers or test programs; none leaves it to cargo.
    pub(super) jobs: Option<NonZeroUsize>,
    reason: Option<String>,
}

impl Speed {
    /// That of work which somebody waits for.
    pub(super) fn full() -> Self {
        Self { effort: Effort::Run, jobs: None, reason: None }
    }

    /// Whether it is held back, for a reason that does not count once somebody waits.
    pub(super) fn is_held_back(&self) -> bool {
        self.effort != Effort::Run || self.jobs.is_some()
    }

    /// What is being done, with the reason if it is not done at full speed.
    pub(super) fn describe(&self, doing: String) -> String {
        match (&self.reason, self.effort) {
            (Some(reason), Effort::Slow) => format!("{doing} (one job: {reason})"),
            (Some(reason), _) => format!("{doing} ({reason})"),
            (None, _) => doing,
        }
    }
}

/// One piece of work's view of the conditions. Readings are taken as long as there is one that is
/// not paused by hand.
#[derive(Debug)]
pub(super) struct Follower {
    project: PathBuf,
    pauses: watch::Receiver<Pauses>,
    machine: watch::Receiver<Option<Decision>>,
    followers: Arc<watch::Sender<usize>>,
    proc: Option<PathBuf>,
    counted: Option<Counted>,
}

impl Follower {
    /// Waits until work may go on; `tell` hears what it waits for.
    pub(super) async fn go(&mut self, mut tell: impl FnMut(String)) -> Speed {
        loop {
            let paused = self.pauses.borrow_and_update().of(&self.project, Timestamp::now());
            if let Some(left) = paused {
                self.counted = None;
                tell("by hand".to_owned());
                let look = match left {
                    Left::Time(left) => left.min(LOOK),
                    Left::UntilResume => Duration::MAX,
                };
                tokio::select! {
                    () = changed(&mut self.pauses) => {}
                    () = tokio::time::sleep(look) => {}
                }
                continue;
            }
            if self.counted.is_none() {
                self.counted = Some(Counted::new(&self.followers));
            }
            if let Some(decision) = &*self.machine.borrow_and_update() {
                if decision.effort != Effort::Pause {
                    let Decision { effort, jobs, reason, .. } = decision.clone();
                    return Speed { effort, jobs, reason };
                }
                tell(decision.reason.clone().unwrap_or_default());
            }
            tokio::select! {
                () = changed(&mut self.pauses) => {}
                () = changed(&mut self.machine) => {}
            }
        }
    }

    /// What a build looks at others with.
    pub(super) fn standing(&self) -> Standing {
        Standing::new(self.proc.clone())
    }

    /// Whether a build is to stand still while others use all cores.
    pub(super) fn may_stand(&self) -> bool {
        self.machine.borrow().as_ref().is_some_and(|decision| decision.stands)
    }

    /// Why work that has begun at `speed` must be given up, if it must.
    pub(super) fn objection(&self, speed: &Speed) -> Option<String> {
        if self.pauses.borrow().of(&self.project, Timestamp::now()).is_some() {
            return Some("paused by hand".to_owned());
        }
        let decision = self.machine.borrow();
        // To go on faster is not worth what would be thrown away.
        let worse = decision.as_ref().filter(|decision| decision.effort > speed.effort)?;
        Some(worse.reason.clone().unwrap_or_default())
    }

    /// Waits until work that has begun at `speed` must be given up; tells why.
    pub(super) async fn until_objection(&mut self, speed: &Speed) -> String {
        loop {
            // Marked as seen before they are looked at.
            self.pauses.borrow_and_update();
            self.machine.borrow_and_update();
            if let Some(reason) = self.objection(speed) {
                return reason;
            }
            tokio::select! {
                () = changed(&mut self.pauses) => {}
                () = changed(&mut self.machine) => {}
            }
        }
    }
}

/// Waits for news; for ever if there will be none, as the daemon is stopping.
async fn changed<T>(news: &mut watch::Receiver<T>) {
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// One more who follows, as long as this exists.
#[derive(Debug)]
struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    fn new(followers: &Arc<watch::Sender<usize>>) -> Self {
        followers.send_modify(|count| *count += 1);
        Self(Arc::clone(followers))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests;
