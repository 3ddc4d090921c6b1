//! Which files changed: one watcher for all projects, folder by folder.
//!
//! The caller decides which folders count and watches each **before** it lists it. From there on
//! every change is reported through one ordered channel, and
//! [`cookie`](FileWatcher::cookie) proves that everything up to a moment has been reported.
//!
//! A caller must do this with the events, and nothing else:
//!
//! - [`Changed`](WatchEvent::Changed): list `dir` again; watch, then list, folders that are new.
//! - [`Gone`](WatchEvent::Gone): [`renew`](FileWatcher::renew), then list that folder and its
//!   parent again. Its inode number may be the same as before and it is another folder.
//! - [`Rescan`](WatchEvent::Rescan): `renew`, then scan everything by stat.
//! - [`Cookie`](WatchEvent::Cookie): the answer may be given once the events before it were
//!   dealt with and nothing [`is in doubt`](FileWatcher::in_doubt). Dealing with them can bring
//!   up more: a folder that was replaced while its parent had no watch, for example. Then ask for
//!   another cookie; if a few do not settle it, scan everything by stat.
//! - [`unwatch`](FileWatcher::unwatch) what does not count any more, and what could not be watched
//!   because it was not there. Until then a folder that appears there is reported as `Gone`: it
//!   may have been listed between the two.
//!
//! Some changes cause no event, and only a stat scan finds them: writes through a
//! shared memory map after the file was closed, and writes to a file through another of its hard
//! links, outside the watched folders. Nor does every write through such a map change the file's
//! stamp: a second one into the same page does not, until the page was written to the disk.
//!
//! All methods may wait for notify's thread, which never waits for the receiver of the events.
//! None needs an async runtime.

mod backend;
mod cookie;
mod debounce;
mod error;
mod event;
mod limit;
mod polling;
mod queue;
mod sleep;
mod state;
mod table;
mod trust;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::Sender;

pub(crate) use debounce::Debounce;
pub(crate) use error::{Unwatched, WatchError, WatchStartError};
pub(crate) use event::{CookieId, WatchEvent};
pub(crate) use limit::WatchLimit;
pub(crate) use polling::{PollReason, Polling};
pub(crate) use sleep::Sleep;
pub(crate) use trust::{FileSystemTrust, events_are_trustworthy};

use backend::{Applied, Backend};
use cookie::{COOKIE_PREFIX, CookieNames, JarError};
use queue::EventQueue;
use state::WatcherShared;
use table::{Inode, WatchClaim};

use crate::paths::create_private_folder;
use crate::workspace::{MountWatch, Mounted};

/// Taking a watch away costs notify a look at all the others. Above this many looks a new
/// watcher with all watches that are still wanted is cheaper.
const WATCH_LOOKUP_LIMIT: usize = 50_000;

/// The epoch after the last one: what a dropped watcher still reports counts no more.
const CLOSED: u64 = u64::MAX;

/// Watches folders, each by itself and never what lies below it.
pub(crate) struct FileWatcher {
    shared: Arc<WatcherShared>,
    backend: Backend,
    mounts: MountWatch,
    cookies: CookieNames,
    /// Too many watches are left over: `renew` starts anew.
    leftovers: bool,
    /// Failures of a new start that the caller did not ask for; `renew` gives them.
    untold: Vec<Unwatched>,
    /// The limit of the system for which nothing can be watched at all.
    exhausted: Option<WatchLimit>,
}

impl FileWatcher {
    /// Starts watching nothing but `cookies` below `runtime_dir` (both are made if they are
    /// missing, for this user only). Events go to `events`; if its receiver is slow, changes are
    /// first queued and then become one [`WatchEvent::Rescan`].
    ///
    /// If a limit of the system is reached, the watcher watches nothing: every folder must be
    /// polled, and each [`renew`](Self::renew) tries again.
    ///
    /// # Errors
    /// A cookie folder that cannot be used, or a system that has no file watcher.
    pub(crate) fn new(
        runtime_dir: &Path,
        events: Sender<WatchEvent>,
    ) -> Result<Self, WatchStartError> {
        let shared = Arc::new(WatcherShared::new(EventQueue::to(events)?));
        let started = Backend::start(&shared, 0);
        Self::with_backend(runtime_dir, Arc::clone(&shared), started)
            .inspect_err(|_| shared.queue.close())
    }

    fn with_backend(
        runtime_dir: &Path,
        shared: Arc<WatcherShared>,
        started: notify::Result<Backend>,
    ) -> Result<Self, WatchStartError> {
        let (backend, mut exhausted) = match started.map_err(|error| error.kind) {
            Ok(backend) => (backend, None),
            Err(notify::ErrorKind::Io(error)) => match WatchLimit::behind(&error) {
                Some(limit) => (Backend::none(), Some(limit)),
                None => return Err(WatchStartError::System(error)),
            },
            Err(kind) => {
                let error = notify::Error::new(kind).to_string();
                return Err(WatchStartError::System(io::Error::other(error)));
            }
        };
        let names = CookieNames::new(runtime_dir.join("cookies"));
        let dir = names.dir().to_path_buf();
        let mut watcher = Self {
            shared,
            backend,
            mounts: MountWatch::new(),
            cookies: names,
            leftovers: false,
            untold: Vec::new(),
            exhausted: None,
        };
        if exhausted.is_none() {
            match watcher.open_jar(&dir) {
                Ok(()) => {}
                Err(JarError::Limit(limit)) => exhausted = Some(limit),
                Err(JarError::Io(source)) => {
                    return Err(WatchStartError::Cookies { dir, source });
                }
            }
        }
        if let Some(limit) = exhausted {
            tracing::warn!(%limit, "files are polled");
            watcher.backend.end();
            watcher.shared.lock().dead = true;
            watcher.exhausted = Some(limit);
        }
        // Earlier mounts are no change.
        let _ = watcher.mounts.changed();
        Ok(watcher)
    }

    /// Watches the folder `dir`; nothing happens if it is watched already. List it after this,
    /// not before.
    ///
    /// # Errors
    /// Why it is not watched; see [`WatchError`]. It must be polled then, or is not there.
    pub(crate) fn watch(&mut self, dir: &Path) -> Result<(), WatchError> {
        match self.watch_all([dir]).into_iter().find(|failed| failed.dir == dir) {
            Some(failed) => Err(failed.why),
            None => Ok(()),
        }
    }

    /// Watches many folders at once, which costs one message to notify's thread for all. Gives
    /// the folders that are **not** watched now; each must be polled, or is not there.
    pub(crate) fn watch_all<P: AsRef<Path>>(
        &mut self,
        dirs: impl IntoIterator<Item = P>,
    ) -> Vec<Unwatched> {
        self.sweep();
        self.add(dirs)
    }

    /// Watches `dir` no more. What lies below it stays watched.
    ///
    /// The watch itself is taken away later: it may be that of a folder that was renamed and is
    /// watched under its new name already.
    pub(crate) fn unwatch(&mut self, dir: &Path) {
        self.shared.lock().table.retire(dir);
    }

    /// Watches `root` and everything below it no more.
    #[cfg(test)]
    pub(crate) fn unwatch_tree(&mut self, root: &Path) {
        let mut state = self.shared.lock();
        for path in state.table.wanted() {
            if path.starts_with(root) {
                state.table.retire(&path);
            }
        }
    }

    /// Puts back the watches that were reported as in doubt. Gives the folders that are not
    /// watched any more: most are not there, the others must be polled.
    ///
    /// To be called after a `Gone` or a `Rescan` and before the folders are listed again.
    pub(crate) fn renew(&mut self) -> Vec<Unwatched> {
        let mut failed = std::mem::take(&mut self.untold);
        let (lost, all, dead) = {
            let state = self.shared.lock();
            (state.table.lost(), state.table.len(), state.dead)
        };
        let many = || lost.len() * all > WATCH_LOOKUP_LIMIT;
        if dead
            || self.leftovers
            || (many() && self.backend.held(&lost).len() * all > WATCH_LOOKUP_LIMIT)
        {
            failed.extend(self.start_anew());
        } else if !lost.is_empty() {
            failed.extend(self.add(lost));
        }
        failed
    }

    /// Whether some watch is in doubt that was, or will be, reported as such. No answer may be
    /// given then.
    #[must_use]
    pub(crate) fn in_doubt(&self) -> bool {
        let state = self.shared.lock();
        state.dead || state.table.is_in_doubt() || self.leftovers || !self.untold.is_empty()
    }

    /// The number of folders that are watched without a doubt.
    #[must_use]
    pub(crate) fn watched(&self) -> usize {
        self.shared.lock().table.live()
    }

    /// Whether `dir` is watched without a doubt.
    #[must_use]
    pub(crate) fn is_watched(&self, dir: &Path) -> bool {
        self.shared.lock().table.is_live(dir)
    }

    /// Asks for the proof that everything up to now was reported: makes a file, and reports
    /// [`WatchEvent::Cookie`] when its own event comes, behind the
    /// events of everything that happened before this call.
    ///
    /// Also finds out, and reports before the cookie, what no event tells: that a folder above a
    /// watched one was moved away, or that something was mounted over one.
    ///
    /// # Errors
    /// If no cookie can be made: the question must be answered by a full stat scan. A cookie
    /// folder that was removed is made again for the next time. A cookie whose event does not
    /// come in good time is to be treated alike.
    pub(crate) fn cookie(&mut self) -> io::Result<CookieId> {
        let dir = self.cookies.dir().to_path_buf();
        self.cookie_in(&dir)
    }

    /// The same with a folder of the caller's choice, which is made if it is missing. It must
    /// not be one that is also watched for changes.
    ///
    /// # Errors
    /// As for [`Self::cookie`].
    pub(crate) fn cookie_in(&mut self, dir: &Path) -> io::Result<CookieId> {
        self.sweep();
        self.find_displaced();
        let known = {
            let state = self.shared.lock();
            if state.dead {
                return Err(io::Error::other("the file watcher does not work"));
            }
            state.jars.get(dir).copied()
        };
        let here = fs::symlink_metadata(dir).ok().map(|metadata| Inode::from(&metadata));
        if known.is_none() || known.flatten().is_none() || known.flatten() != here {
            self.open_jar(dir)?;
            if known.is_some() {
                let dir = dir.display();
                return Err(io::Error::other(format!("the cookie folder `{dir}` was replaced")));
            }
        }
        let (file, id) = self.cookies.next(dir);
        // Known before it is there: its event may come before the next statement.
        self.shared.lock().cookies.insert(file.clone(), id);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        if let Err(error) = made {
            self.shared.lock().cookies.remove(&file);
            let _ = self.open_jar(dir);
            return Err(error);
        }
        Ok(id)
    }

    /// Makes, cleans and watches a cookie folder.
    fn open_jar(&mut self, dir: &Path) -> Result<(), JarError> {
        create_private_folder(dir)?;
        let metadata = fs::symlink_metadata(dir)?;
        if !metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
        }
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(COOKIE_PREFIX.as_bytes()) {
                // Left over by a process that was killed.
                let _ = fs::remove_file(entry.path());
            }
        }
        let inode = Inode::from(&metadata);
        self.shared.lock().jars.insert(dir.to_path_buf(), Some(inode));
        let held = self.backend.held(&[Arc::from(dir)]);
        let mut applied = self.backend.apply(held.iter().map(|path| &**path), [dir]);
        let refused = applied.failed.pop();
        self.settle(applied);
        let here = fs::symlink_metadata(dir).is_ok_and(|now| Inode::from(&now) == inode);
        if refused.is_some() || !here {
            self.shared.lock().jars.insert(dir.to_path_buf(), None);
        }
        match refused {
            None => Ok(()),
            Some((_, error)) => Err(match error.kind {
                notify::ErrorKind::MaxFilesWatch => {
                    let needed = self.shared.lock().table.len() as u64 + 1;
                    JarError::Limit(WatchLimit::watches(needed))
                }
                notify::ErrorKind::Io(error) => JarError::Io(error),
                _ => JarError::Io(io::Error::other(WatchError::Missing.to_string())),
            }),
        }
    }

    /// Reports the watched folders whose paths lead elsewhere by now, missing ones that are there,
    /// and files that something was mounted over. Within the watched trees events tell it; for the
    /// top folders, and after a mount, a look must.
    fn find_displaced(&mut self) {
        let mounted = self.mounts.changed();
        let mut state = self.shared.lock();
        let mut elsewhere = state.table.displaced(mounted != Mounted::Nothing);
        elsewhere.extend(state.table.overlooked(&HashSet::new()));
        for path in elsewhere {
            self.shared.vanish(&mut state, &path);
        }
        let Mounted::At(points) = mounted else { return };
        for point in points {
            let Some(parent) = point.parent() else { continue };
            for dir in state.table.reported(parent) {
                let (dir, name) = (dir.to_path_buf(), point.file_name().map(ToOwned::to_owned));
                self.shared.queue.push(WatchEvent::Changed { dir, name });
            }
        }
    }

    /// Claims every folder in the table, adds what notify does not have, and checks afterwards
    /// that each path still leads to what was claimed.
    fn add<P: AsRef<Path>>(&mut self, dirs: impl IntoIterator<Item = P>) -> Vec<Unwatched> {
        let mut failed = Vec::new();
        let mut claimed = Vec::new();
        let mut trust = HashMap::new();
        for dir in dirs {
            match admit(dir.as_ref(), &mut trust) {
                Ok(inode) => claimed.push((Arc::<Path>::from(dir.as_ref()), inode)),
                Err(why) => {
                    self.refuse(dir.as_ref(), &why);
                    failed.push(Unwatched { dir: dir.as_ref().to_path_buf(), why });
                }
            }
        }
        let mut again = Vec::new();
        {
            let mut state = self.shared.lock();
            if state.dead {
                let why = match &self.exhausted {
                    Some(limit) => WatchError::Limit(limit.clone()),
                    None => WatchError::Broken("its thread ended".to_owned()),
                };
                failed.extend(
                    claimed
                        .into_iter()
                        .map(|(path, _)| Unwatched { dir: path.to_path_buf(), why: why.clone() }),
                );
                return failed;
            }
            claimed.retain(|(path, inode)| match state.table.claim(path, *inode) {
                WatchClaim::Kept => false,
                WatchClaim::New => true,
                WatchClaim::Again => {
                    again.push(Arc::clone(path));
                    true
                }
            });
        }
        let held = self.backend.held(&again);
        if held.len() * self.shared.lock().table.len() > WATCH_LOOKUP_LIMIT && !self.leftovers {
            let asked: HashSet<_> = claimed.into_iter().map(|(path, _)| path).collect();
            let anew = self.start_anew().into_iter();
            let (told, untold) = anew.partition::<Vec<_>, _>(|f| asked.contains(&*f.dir));
            failed.extend(told);
            // The new start reports a rescan, and `renew` belongs to that.
            self.untold.extend(untold);
            return failed;
        }
        let applied =
            self.backend.apply(held.iter().map(|p| &**p), claimed.iter().map(|(path, _)| &**path));
        failed.extend(self.settle(applied));
        let refused: HashSet<_> = failed.iter().map(|failed| failed.dir.clone()).collect();
        claimed.retain(|(path, _)| !refused.contains(&**path));
        failed.extend(self.confirm(&claimed));
        let added: HashSet<&Path> = claimed.iter().map(|(path, _)| &**path).collect();
        let mut state = self.shared.lock();
        for path in state.table.overlooked(&added) {
            self.shared.vanish(&mut state, &path);
        }
        failed
    }

    /// Takes what notify refused out of the table, and gives it with the reason.
    fn settle(&mut self, applied: Applied) -> Vec<Unwatched> {
        let mut state = self.shared.lock();
        if let Some(why) = applied.broken {
            state.dead = true;
            let lost = state.table.wanted();
            state.table.lose_all();
            self.shared.queue.push(WatchEvent::Failed(why.clone()));
            self.shared.rescan(&mut state);
            let broken = |path: Arc<Path>| Unwatched {
                dir: path.to_path_buf(),
                why: WatchError::Broken(why.clone()),
            };
            return lost.into_iter().map(broken).collect();
        }
        let needed = state.table.live() + state.jars.len();
        drop(state);
        // Read once: thousands of folders may share the one limit.
        let mut limit = None;
        let mut reason = |error: notify::Error| match error.kind {
            notify::ErrorKind::PathNotFound => WatchError::Missing,
            notify::ErrorKind::MaxFilesWatch => WatchError::Limit(
                limit.get_or_insert_with(|| WatchLimit::watches(needed as u64)).clone(),
            ),
            notify::ErrorKind::Io(error) => refusal(&error),
            _ => WatchError::Refused(error.to_string()),
        };
        let failed = applied.failed.into_iter().map(|(dir, error)| {
            let why = reason(error);
            self.refuse(&dir, &why);
            Unwatched { dir, why }
        });
        failed.collect()
    }

    /// Checks after the watches were added that the paths lead to what they were claimed for.
    fn confirm(&mut self, claimed: &[(Arc<Path>, Inode)]) -> Vec<Unwatched> {
        let mut replaced = Vec::new();
        for (path, inode) in claimed {
            let now = fs::symlink_metadata(path);
            if now.as_ref().is_ok_and(|now| Inode::from(now) == *inode) {
                self.shared.lock().table.confirm(path);
            } else {
                replaced.push((Arc::clone(path), now));
            }
        }
        if replaced.is_empty() {
            return Vec::new();
        }
        // The watched folder is not known, so its watch is not kept.
        let applied = self.backend.apply(replaced.iter().map(|(path, _)| &**path), []);
        let mut failed = self.settle(applied);
        for (path, now) in replaced {
            let why = match now {
                Ok(now) if now.is_dir() => {
                    // In doubt, until the caller renews it.
                    let mut state = self.shared.lock();
                    self.shared.vanish(&mut state, &path);
                    continue;
                }
                Ok(_) => WatchError::NotAFolder,
                Err(error) => refusal(&error),
            };
            self.refuse(&path, &why);
            failed.push(Unwatched { dir: path.to_path_buf(), why });
        }
        failed
    }

    /// Keeps `dir` in the table: notify may hold what was there, and the caller is told when a
    /// folder appears there. Whoever lists it in spite of the failure has a listing that no
    /// watch keeps true.
    fn refuse(&self, dir: &Path, why: &WatchError) {
        let absent = matches!(why, WatchError::Missing | WatchError::NotAFolder);
        self.shared.lock().table.miss(dir, absent);
    }

    /// Takes away the watches that nobody wants any more.
    fn sweep(&mut self) {
        let (retired, all) = {
            let state = self.shared.lock();
            let retired = if state.dead { Vec::new() } else { state.table.retired() };
            (retired, state.table.len())
        };
        if retired.is_empty() || self.leftovers {
            return;
        }
        // Most folders that a caller unwatches were removed, and notify knows that.
        let held = self.backend.held(&retired);
        if held.len() * all > WATCH_LOOKUP_LIMIT {
            self.leftovers = true;
            let mut state = self.shared.lock();
            state.table.lose_all();
            self.shared.rescan(&mut state);
            return;
        }
        let applied = self.backend.apply(held.iter().map(|path| &**path), []);
        self.settle(applied);
        let mut state = self.shared.lock();
        for path in &retired {
            state.table.forget(path);
        }
    }

    /// Replaces notify's watcher by a new one with all wanted watches.
    fn start_anew(&mut self) -> Vec<Unwatched> {
        let epoch = self.shared.lock().epoch + 1;
        let backend = match Backend::start(&self.shared, epoch) {
            Ok(backend) => backend,
            Err(error) => return self.stay(&error),
        };
        let (wanted, jars) = {
            let mut state = self.shared.lock();
            // The events that the old one has not delivered are dropped with it.
            if state.table.live() > 0 || !state.cookies.is_empty() {
                self.shared.rescan(&mut state);
            }
            state.epoch = epoch;
            state.dead = false;
            let wanted = std::mem::take(&mut state.table).wanted();
            state.jars.values_mut().for_each(|jar| *jar = None);
            (wanted, state.jars.keys().cloned().collect::<Vec<_>>())
        };
        (self.leftovers, self.exhausted) = (false, None);
        // Closed before the new watches are added: both count towards the user's limit.
        std::mem::replace(&mut self.backend, backend).stop();
        for jar in jars {
            // A jar that cannot be opened fails the next cookie, which says why.
            let _ = self.open_jar(&jar);
        }
        self.add(wanted)
    }

    /// No new watcher is to be had: the old one must do, if it works.
    fn stay(&mut self, error: &notify::Error) -> Vec<Unwatched> {
        let (lost, dead) = {
            let state = self.shared.lock();
            (state.table.lost(), state.dead)
        };
        if !dead {
            // Slow, but right. The leftovers stay until a new watcher can be made.
            self.leftovers = true;
            return self.add(lost);
        }
        let why = match &error.kind {
            notify::ErrorKind::Io(error) => WatchLimit::behind(error).map(WatchError::Limit),
            _ => None,
        };
        let why = why.unwrap_or_else(|| WatchError::Broken(error.to_string()));
        let unwatched = |dir: Arc<Path>| Unwatched { dir: dir.to_path_buf(), why: why.clone() };
        lost.into_iter().map(unwatched).collect()
    }
}

/// Whether the folder `dir` may be watched, and what the path leads to.
fn admit(dir: &Path, trust: &mut HashMap<u64, FileSystemTrust>) -> Result<Inode, WatchError> {
    if !dir.is_absolute() {
        return Err(WatchError::Relative);
    }
    // Notify would watch a file or a link that it is given.
    let metadata = fs::symlink_metadata(dir).map_err(|error| refusal(&error))?;
    if !metadata.is_dir() {
        return Err(WatchError::NotAFolder);
    }
    // Kept for one call only: the numbers of devices are used again after an unmount.
    let known = trust.get(&metadata.dev()).cloned();
    let known = known.map_or_else(|| events_are_trustworthy(dir), Ok);
    match known.map_err(|error| refusal(&error))? {
        FileSystemTrust::Yes => trust.insert(metadata.dev(), FileSystemTrust::Yes),
        FileSystemTrust::No { file_system } => return Err(WatchError::Untrusted { file_system }),
    };
    Ok(Inode::from(&metadata))
}

/// The reason behind an error of a look at a path.
fn refusal(error: &io::Error) -> WatchError {
    match error.kind() {
        io::ErrorKind::NotFound => WatchError::Missing,
        io::ErrorKind::NotADirectory => WatchError::NotAFolder,
        // A link above it leads to itself: there is nothing to poll.
        _ if error.raw_os_error() == Some(libc::ELOOP) => WatchError::NotAFolder,
        _ => WatchError::Refused(error.to_string()),
    }
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.epoch = CLOSED;
        for (file, _) in state.cookies.drain() {
            let _ = fs::remove_file(file);
        }
        drop(state);
        self.shared.queue.close();
    }
}

impl std::fmt::Debug for FileWatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatcher").field("watched", &self.watched()).finish_non_exhaustive()
    }
}
