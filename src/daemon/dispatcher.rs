//! The daemon's one loop: events in, messages to projects out. It owns the list of projects, the
//! config in force and the barriers in flight, and never does anything that takes long.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::Life;
use super::config_file::WatchedConfigFile;
use super::mailbox::Message;
use super::project::{self, Started};
use super::shared::{self, Command, Shared};
use super::subscriber::Subscriber;
use super::sync::{lock, off_thread};
use super::time::sleep_until;
use crate::config::{self, Loaded};
use crate::paths::create_private_folder;
use crate::protocol::{Reply, State, StatusReport, VERSION};
use crate::watcher::{CookieId, Debounce, Sleep, WatchEvent};

/// How long the config file must be quiet before it is read: editors write it in several steps.
const CONFIG_QUIET: Duration = Duration::from_millis(200);
/// How long projects may take to end: a child is killed after half a second.
const PROJECTS_TIMEOUT_AT_SHUTDOWN: Duration = Duration::from_secs(2);
/// How often a slow start tells the supervisor about its progress.
const START_PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// How often the supervisor is told a new status at most.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// The loop's state.
pub(super) struct Dispatcher {
    shared: Arc<Shared>,
    life: mpsc::UnboundedSender<Life>,
    projects: BTreeMap<PathBuf, (config::Project, Started)>,
    /// The clients that are told of a project, or of all, which may be added later.
    subscribers: Vec<(Option<PathBuf>, Subscriber)>,
    barriers: HashMap<CookieId, oneshot::Sender<()>>,
    /// How many cookies are being made, and which of them have already come back.
    making_cookies: usize,
    early_cookies: HashSet<CookieId>,
    config_error: Option<String>,
    config_debounce: Debounce,
    config_file: WatchedConfigFile,
    /// The config's folder is watched, or was wanted to be.
    config_watched: bool,
    /// Projects that have left the config and have not ended yet.
    leaving: Vec<JoinHandle<()>>,
    /// The status that the supervisor was last told, and when to look for a new one.
    told: String,
    status_due: Option<Instant>,
    sleep: Sleep,
    idle: Option<Idle>,
}

/// Since when nothing has happened, and how long that may last.
struct Idle {
    since: Instant,
    limit: Duration,
}

impl Dispatcher {
    pub(super) fn new(
        shared: Arc<Shared>,
        life: mpsc::UnboundedSender<Life>,
        config_file: WatchedConfigFile,
    ) -> Self {
        Self {
            shared,
            life,
            projects: BTreeMap::new(),
            subscribers: Vec::new(),
            barriers: HashMap::new(),
            making_cookies: 0,
            early_cookies: HashSet::new(),
            config_error: None,
            config_debounce: Debounce::new(CONFIG_QUIET),
            config_file,
            config_watched: false,
            leaving: Vec::new(),
            told: String::new(),
            status_due: None,
            sleep: Sleep::default(),
            idle: None,
        }
    }

    /// Ends once nothing has happened for so long.
    pub(super) fn with_idle_timeout(mut self, limit: Option<Duration>) -> Self {
        self.idle = limit.map(|limit| Idle { since: Instant::now(), limit });
        self
    }

    /// Runs until the daemon is stopped; then no project and no child is left.
    pub(super) async fn run(
        mut self,
        loaded: Loaded,
        mut events: mpsc::Receiver<WatchEvent>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut reload: mpsc::Receiver<()>,
        heartbeat: Option<Duration>,
    ) {
        self.apply(loaded);
        self.watch_config().await;
        let mut starting: Vec<_> = self.take_ready();
        let mut last_beat = Instant::now();
        let mut tick = tokio::time::interval(heartbeat.unwrap_or(START_PROGRESS_INTERVAL));
        let mut ready = false;
        loop {
            if !ready {
                starting.retain_mut(|ready| {
                    matches!(ready.try_recv(), Err(oneshot::error::TryRecvError::Empty))
                });
                if starting.is_empty() {
                    ready = true;
                    self.tell_status();
                    self.say(Life::Ready);
                }
            }
            let wake = self.config_debounce.due();
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => {
                        error!("the watcher has ended: stopping");
                        break;
                    }
                },
                Some(command) = commands.recv() => self.on_command(command).await,
                Some(()) = reload.recv() => drop(self.reload().await),
                () = sleep_until(wake) => {
                    if self.config_debounce.take(Instant::now()) {
                        drop(self.reload().await);
                    }
                }
                () = sleep_until(self.status_due) => self.tell_status(),
                () = sleep_until(self.idle.as_ref().map(|idle| idle.since + idle.limit)) => {
                    if self.is_idle() {
                        info!("nothing has happened for long: stopping");
                        break;
                    }
                    self.note_activity();
                }
                // Without a watchdog, ticks are needed only until everything is ready.
                _ = tick.tick(), if heartbeat.is_some() || !ready => {
                    if !ready {
                        self.say(Life::Starting);
                    }
                }
            }
            if heartbeat.is_some_and(|heartbeat| last_beat.elapsed() >= heartbeat) {
                last_beat = Instant::now();
                self.say(Life::Alive);
            }
        }
        self.shared.stop.cancel();
        let projects = std::mem::take(&mut self.projects).into_values();
        let tasks = projects.map(|(_, started)| started.task).chain(self.leaving);
        let ended = async {
            for task in tasks {
                // A panic of a project was told by the panic hook.
                let _ = task.await;
            }
        };
        if timeout(PROJECTS_TIMEOUT_AT_SHUTDOWN, ended).await.is_err() {
            warn!("a project did not end in time");
        }
    }

    fn note_activity(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.since = Instant::now();
        }
    }

    /// Whether no project is being built, tested or watched by a client.
    fn is_idle(&self) -> bool {
        let is_busy = |state| matches!(state, State::Hashing | State::Building | State::Testing);
        !self.status().projects.iter().any(|project| is_busy(project.state))
            && self.subscribers.iter().all(|(_, client)| client.is_gone())
    }

    /// Doubts everything after the machine was asleep, before anything else is dealt with: no question
    /// is answered by what was true before.
    fn wake(&mut self) {
        if let Some(asleep) = self.sleep.passed() {
            let seconds = asleep.as_secs();
            info!(seconds, "the machine was asleep: reading every project again");
            self.lost_track();
        }
    }

    fn on_event(&mut self, event: WatchEvent) {
        self.wake();
        match event {
            WatchEvent::Cookie(id) => {
                if let Some(passed) = self.barriers.remove(&id) {
                    // The client may have given up.
                    let _ = passed.send(());
                } else if self.making_cookies > 0 {
                    self.early_cookies.insert(id);
                }
            }
            WatchEvent::Changed { dir, name } => {
                self.note_activity();
                if self.is_config(&dir, name.as_deref()) {
                    self.config_debounce.touch(Instant::now());
                }
                self.touched(&dir, false);
            }
            WatchEvent::Gone(dir) => {
                self.touched(&dir, true);
                if let Some(parent) = dir.parent() {
                    self.touched(parent, true);
                }
            }
            WatchEvent::Rescan => {
                warn!("events were lost: reading every project again");
                self.lost_track();
            }
            WatchEvent::Failed(what) => {
                warn!(reason = %what, "the watcher failed: reading every project again");
                self.lost_track();
            }
        }
    }

    fn lost_track(&mut self) {
        self.config_debounce.touch(Instant::now());
        for (_, started) in self.projects.values() {
            started.mailbox.lost_track();
        }
    }

    /// Tells every project that may read `dir`; a path dependency can belong to several.
    fn touched(&self, dir: &Path, doubt: bool) {
        for (_, started) in self.projects.values() {
            if started.mailbox.may_read(dir) {
                started.mailbox.touched(dir, doubt);
            }
        }
    }

    async fn on_command(&mut self, command: Command) {
        self.wake();
        match command {
            Command::Barrier(passed) => {
                self.making_cookies += 1;
                let shared = Arc::clone(&self.shared);
                // The watcher may be busy with thousands of watches.
                tokio::task::spawn_blocking(move || {
                    let cookie = lock(&shared.watcher).cookie();
                    let _ = shared.commands.send(Command::Cookie { cookie, passed });
                });
            }
            Command::Cookie { cookie, passed } => self.on_cookie(cookie, passed),
            Command::Find { root, reply } => {
                self.note_activity();
                if self.config_file.has_changed() {
                    drop(self.reload().await);
                }
                let handle = self.projects.get(&root).map(|(_, started)| started.mailbox.clone());
                let _ = reply.send(handle);
            }
            Command::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Command::StatusChanged => {
                self.status_due.get_or_insert_with(|| Instant::now() + STATUS_INTERVAL);
            }
            Command::Reload(reply) => {
                let _ = reply.send(self.reload().await);
            }
            Command::Paused => {
                for (_, started) in self.projects.values() {
                    started.mailbox.send(Message::Paused);
                }
            }
            Command::Subscribe { project, client, reply } => {
                let _ = reply.send(self.subscribe(project, client));
            }
        }
    }

    /// Has a client told of a project, or of all. What is returned ends when the state was told.
    fn subscribe(
        &mut self,
        project: Option<PathBuf>,
        client: Subscriber,
    ) -> Option<Vec<oneshot::Receiver<()>>> {
        if project.as_ref().is_some_and(|project| !self.projects.contains_key(project)) {
            return None;
        }
        let wanted = |root: &&PathBuf| project.as_ref().is_none_or(|project| project == *root);
        let told = self.projects.keys().filter(wanted).map(|root| {
            let (tell, told) = oneshot::channel();
            let message = Message::Subscribe { client: client.clone(), told: tell };
            self.projects[root].1.mailbox.send(message);
            told
        });
        let told = told.collect();
        self.subscribers.retain(|(_, client)| !client.is_gone());
        self.subscribers.push((project, client));
        Some(told)
    }

    /// A cookie was made, perhaps after its own event has come.
    fn on_cookie(&mut self, cookie: io::Result<CookieId>, passed: oneshot::Sender<()>) {
        self.making_cookies -= 1;
        match cookie {
            Ok(id) if self.early_cookies.remove(&id) => drop(passed.send(())),
            Ok(id) => {
                self.barriers.retain(|_, passed| !passed.is_closed());
                self.barriers.insert(id, passed);
            }
            // Dropping `passed` says that it cannot be told.
            Err(error) => warn!(%error, "cannot make a cookie"),
        }
        if self.making_cookies == 0 {
            self.early_cookies.clear();
        }
    }

    /// Reads the config again; one that does not parse changes nothing. No message is taken meanwhile.
    async fn reload(&mut self) -> Reply {
        self.say(Life::Reloading);
        let shared = Arc::clone(&self.shared);
        let read = off_thread(move || {
            // Before it is read: what is written after this is another change.
            let file = WatchedConfigFile::new(&shared.paths.config_file);
            let project = shared.project.as_deref();
            (file, shared::load(project, &shared.paths, &shared.environment))
        });
        let (file, loaded) = read.await;
        self.config_file = file;
        let reply = match loaded {
            Ok(loaded) => {
                info!(projects = loaded.config.projects.len(), "read the config");
                self.config_error = None;
                self.apply(loaded);
                Reply::Done
            }
            Err(error) => {
                let message = error.one_line();
                warn!(error = %message, "the config does not parse: keeping the one before");
                self.config_error = Some(error.to_string());
                Reply::Error { message: error.to_string() }
            }
        };
        self.watch_config().await;
        self.say(Life::Ready);
        self.told.clear();
        self.tell_status();
        reply
    }

    /// Applies a config: starts, ends and changes projects.
    fn apply(&mut self, loaded: Loaded) {
        for problem in &loaded.problems {
            warn!(problem = %problem.one_line(), "a project of the config cannot be used now");
        }
        let config = loaded.config;
        *lock(&self.shared.bounds) = config.cache;
        self.shared.set_sharing(config.shared);
        self.shared.scheduler.set(config.background);
        let kept = |path: &Path| config.projects.iter().any(|project| project.path == path);
        let gone: Vec<_> = self.projects.keys().filter(|path| !kept(path)).cloned().collect();
        for path in gone {
            if let Some((_, started)) = self.projects.remove(&path) {
                info!(project = %path.display(), "left the config");
                started.stop.cancel();
                self.shared.scheduler.forget(&path);
                self.leaving.retain(|task| !task.is_finished());
                self.leaving.push(started.task);
            }
        }
        for project in config.projects {
            match self.projects.get_mut(&project.path) {
                Some((known, started)) => {
                    if known.settings != project.settings {
                        let settings = Box::new(project.settings.clone());
                        started.mailbox.send(Message::Settings(settings));
                    }
                    *known = project;
                }
                None => {
                    info!(project = %project.path.display(), "watching");
                    let started = project::start(&project, &self.shared);
                    for (wanted, client) in &self.subscribers {
                        if wanted.as_ref().is_none_or(|wanted| *wanted == project.path) {
                            let (client, told) = (client.clone(), oneshot::channel().0);
                            started.mailbox.send(Message::Subscribe { client, told });
                        }
                    }
                    self.projects.insert(project.path.clone(), (project, started));
                }
            }
        }
    }

    /// Whether an event is about the config file.
    fn is_config(&self, dir: &Path, name: Option<&std::ffi::OsStr>) -> bool {
        let file = &self.shared.paths.config_file;
        file.parent() == Some(dir) && name.is_none_or(|name| file.file_name() == Some(name))
    }

    /// Watches the folder of the config file. Without it, a change is noticed with the next
    /// question.
    async fn watch_config(&mut self) {
        let Some(dir) = self.shared.paths.config_file.parent().map(Path::to_owned) else { return };
        let again = std::mem::replace(&mut self.config_watched, true);
        let shared = Arc::clone(&self.shared);
        // The watcher may be busy with thousands of watches.
        let watch = move || {
            let watched = create_private_folder(&dir).map_err(|error| error.to_string());
            let watched = watched.and_then(|()| {
                let mut watcher = lock(&shared.watcher);
                let failed = match again {
                    false => watcher.watch(&dir).err(),
                    true => watcher.watch_again([&dir]).into_iter().next().map(|failed| failed.why),
                };
                failed.map_or(Ok(()), |why| Err(why.to_string()))
            });
            if let Err(error) = watched {
                warn!(folder = %dir.display(), %error, "changes of the config will be noticed late");
            }
        };
        off_thread(watch).await;
    }

    fn status(&self) -> StatusReport {
        let projects = self.projects.values().map(|(_, started)| {
            let mut status = started.mailbox.status();
            self.shared.scheduler.show(&mut status);
            status
        });
        let projects = projects.collect();
        StatusReport {
            running: true,
            pid: Some(std::process::id()),
            version: VERSION.to_owned(),
            socket: self.shared.paths.socket(),
            config: self.shared.paths.config_file.clone(),
            config_error: self.config_error.clone(),
            projects,
        }
    }

    /// Tells the supervisor the status, if it has changed.
    fn tell_status(&mut self) {
        self.status_due = None;
        let count = self.projects.len();
        let mut text = match count {
            0 => "no projects".to_owned(),
            1 => "1 project".to_owned(),
            _ => format!("{count} projects"),
        };
        let statuses: Vec<_> =
            self.projects.values().map(|(_, started)| started.mailbox.status()).collect();
        let busy = statuses.iter().find(|status| {
            matches!(status.state, State::Building | State::Testing | State::Hashing)
        });
        let broken =
            statuses.iter().find(|status| matches!(status.state, State::Failed | State::Missing));
        if let Some(status) = busy.or(broken) {
            let name = status.path.file_name().unwrap_or_default().to_string_lossy();
            let what = status.reason.as_deref().unwrap_or(status.state.as_str());
            text.push_str(&format!(", {name}: {what}"));
        }
        if self.config_error.is_some() {
            text.push_str(", the config does not parse");
        }
        if text != self.told {
            self.told.clone_from(&text);
            self.say(Life::Status(text));
        }
    }

    fn take_ready(&mut self) -> Vec<oneshot::Receiver<()>> {
        self.projects
            .values_mut()
            .map(|(_, started)| std::mem::replace(&mut started.ready, oneshot::channel().1))
            .collect()
    }

    fn say(&self, life: Life) {
        // The daemon may have no supervisor.
        let _ = self.life.send(life);
    }
}
