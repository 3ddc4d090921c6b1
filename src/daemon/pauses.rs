//! Pauses by hand: `pause` and `resume`.
//!
//! They lie in files, one for all projects and one for each, so that they outlive a restart and the
//! command needs no daemon. Each file is written atomically, and the last writer wins. The daemon
//! reads them when it starts and when it is told.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::config::format_duration;
use crate::model::{Digest, Timestamp, os_text};
use crate::paths::replace_file;
use crate::protocol::{ProjectStatus, State};

/// The folder below the cache folder.
const PAUSES_FOLDER: &str = "paused";
/// The file for all projects.
const FILE_FOR_ALL: &str = "all.json";
/// A clock that was set back by more than this would make a pause too long.
const LONGEST_SET_BACK_MS: u64 = 3_600_000;
/// A longer file is none of ours.
const LARGEST_FILE: u64 = 1 << 16;

/// A pause by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it was asked for.
    pub since: Timestamp,
    /// When it is over; none waits for `resume`.
    pub until: Option<Timestamp>,
}

/// How long a pause lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// So long.
    Time(Duration),
    /// Until `resume`.
    UntilResume,
}

/// All pauses by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses {
    all: Option<Pause>,
    projects: Vec<(PathBuf, Pause)>,
}

/// The content of a file.
#[derive(Serialize, Deserialize)]
struct PauseFile {
    /// None for all.
    project: Option<PausedPath>,
    #[serde(flatten)]
    pause: Pause,
}

/// A path that may not be text.
#[derive(Serialize, Deserialize)]
struct PausedPath(#[serde(with = "os_text")] PathBuf);

/// A pause cannot be kept or ended.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`: {source}", path.display())]
pub struct PauseError {
    path: PathBuf,
    source: io::Error,
}

impl Pause {
    /// A pause from `now` on.
    #[must_use]
    pub fn new(now: Timestamp, length: Option<Duration>) -> Self {
        let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let until = length.map(|length| Timestamp(now.0.saturating_add(millis(length))));
        Self { since: now, until }
    }

    /// How long it lasts from `now` on; none if it is over.
    #[must_use]
    pub(crate) fn left(&self, now: Timestamp) -> Option<Left> {
        let Some(until) = self.until else { return Some(Left::UntilResume) };
        let set_back = now.0.saturating_add(LONGEST_SET_BACK_MS) < self.since.0;
        let left = until.0.checked_sub(now.0).filter(|left| *left > 0 && !set_back)?;
        Some(Left::Time(Duration::from_millis(left)))
    }
}

impl Left {
    /// For a person, as in `paused (by hand, 29m left)`.
    #[must_use]
    pub(crate) fn text(self) -> String {
        match self {
            Self::UntilResume => "by hand, until `knhk-test-cache resume`".to_owned(),
            Self::Time(left) => {
                // Seconds matter only in the end.
                let unit = if left >= Duration::from_secs(60) { 60 } else { 1 };
                let rounded = left.as_millis().div_ceil(unit * 1_000) * unit;
                let rounded = Duration::from_secs(u64::try_from(rounded).unwrap_or(u64::MAX));
                format!("by hand, {} left", format_duration(rounded))
            }
        }
    }
}

impl Pauses {
    /// Reads all pauses. An odd file is skipped with a warning: it pauses nothing.
    #[must_use]
    pub(crate) fn load(cache_dir: &Path) -> Self {
        let mut pauses = Self::default();
        for entry in fs::read_dir(cache_dir.join(PAUSES_FOLDER)).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(PauseFile { project: None, pause }) if path.ends_with(FILE_FOR_ALL) => {
                    pauses.all = Some(pause);
                }
                Ok(PauseFile { project: Some(project), pause }) => {
                    pauses.projects.push((project.0, pause));
                }
                Ok(_) => warn!(file = %path.display(), "a pause of nothing"),
                Err(reason) => warn!(file = %path.display(), %reason, "cannot read a pause"),
            }
        }
        pauses
    }

    /// Pauses one project, or all.
    ///
    /// # Errors
    /// If that cannot be kept.
    pub fn pause(cache_dir: &Path, project: Option<&Path>, pause: Pause) -> Result<(), PauseError> {
        let path = file(cache_dir, project);
        let failed = |source| PauseError { path: path.clone(), source };
        let project = project.map(|project| PausedPath(project.to_owned()));
        let text = serde_json::to_vec(&PauseFile { project, pause });
        let text = text.map_err(|error| failed(error.into()))?;
        replace_file(&path, &text).map(drop).map_err(failed)
    }

    /// Ends the pause of one project, or every pause.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub(crate) fn resume(cache_dir: &Path, project: Option<&Path>) -> Result<(), PauseError> {
        let paths = match project {
            Some(_) => vec![file(cache_dir, project)],
            None => {
                let entries =
                    fs::read_dir(cache_dir.join(PAUSES_FOLDER)).into_iter().flatten().flatten();
                entries.map(|entry| entry.path()).collect()
            }
        };
        for path in paths {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(PauseError { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How long a project is paused from `now` on, alone or with all others, whichever is longer. None
    /// if it is not paused.
    #[must_use]
    pub(crate) fn of(&self, project: &Path, now: Timestamp) -> Option<Left> {
        let own = self.projects.iter().find(|(path, _)| path == project).map(|(_, pause)| pause);
        own.into_iter().chain(&self.all).filter_map(|pause| pause.left(now)).max()
    }

    /// How long everything is paused from `now` on.
    #[must_use]
    pub(crate) fn of_all(&self, now: Timestamp) -> Option<Left> {
        self.all.and_then(|pause| pause.left(now))
    }

    /// Whether anything is paused at `now`.
    #[must_use]
    pub(crate) fn any(&self, now: Timestamp) -> bool {
        let projects = self.projects.iter().map(|(_, pause)| pause);
        projects.chain(&self.all).any(|pause| pause.left(now).is_some())
    }

    /// Has a project's status say that it is paused by hand, where it is. What is done
    /// all the same, because somebody asked for it, is still shown, and so is a missing folder.
    pub(crate) fn show(&self, status: &mut ProjectStatus, now: Timestamp) {
        let Some(left) = self.of(&status.path, now) else { return };
        status.paused_until = match left {
            Left::Time(left) => Some(Pause::new(now, Some(left)).until).flatten(),
            Left::UntilResume => None,
        };
        let also = match (status.state, status.reason.take()) {
            (State::Failed, Some(why)) => format!("; {why}"),
            (State::Idle | State::Paused, _) => String::new(),
            (_, reason) => {
                status.reason = reason;
                return;
            }
        };
        status.state = State::Paused;
        status.reason = Some(left.text() + &also);
    }
}

/// The file of a pause.
fn file(cache_dir: &Path, project: Option<&Path>) -> PathBuf {
    let name = project.map(|path| format!("{}.json", Digest::of(path.as_os_str().as_bytes())));
    cache_dir.join(PAUSES_FOLDER).join(name.as_deref().unwrap_or(FILE_FOR_ALL))
}

fn read(path: &Path) -> Result<PauseFile, String> {
    let metadata = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return Err("it is no file of ours".to_owned());
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{CacheUse, InterruptionStats};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn later(seconds: u64) -> Timestamp {
        Timestamp(NOW.0 + seconds * 1_000)
    }

    fn minutes(minutes: u64) -> Option<Duration> {
        Some(Duration::from_secs(minutes * 60))
    }

    fn status(state: State, reason: Option<&str>) -> ProjectStatus {
        ProjectStatus {
            path: "/p".into(),
            state,
            reason: reason.map(str::to_owned),
            paused_until: None,
            code_hash: None,
            watch: "events".into(),
            target_dirs: Vec::new(),
            notes: Vec::new(),
            last_build: None,
            yields: InterruptionStats::default(),
            last_verdict: None,
            cache: CacheUse::default(),
            verified: 0,
            wrong: 0,
            flaky: Vec::new(),
            selection: Default::default(),
        }
    }

    #[test]
    fn what_is_kept_is_read_back_by_whoever_comes_next() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        assert_eq!(Pauses::load(&cache), Pauses::default());
        let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/p\xff"));
        Pauses::pause(&cache, None, Pause::new(NOW, minutes(5))).unwrap();
        Pauses::pause(&cache, Some(&odd), Pause::new(NOW, None)).unwrap();
        let pauses = Pauses::load(&cache);
        assert_eq!(pauses.of(Path::new("/q"), NOW), Some(Left::Time(minutes(5).unwrap())));
        assert_eq!(pauses.of(&odd, NOW), Some(Left::UntilResume), "the longer one");
        assert_eq!(pauses.of(Path::new("/q"), later(300)), None, "over");
        // The same project again: the new one replaces the old one.
        Pauses::pause(&cache, Some(&odd), Pause::new(NOW, minutes(1))).unwrap();
        assert_eq!(Pauses::load(&cache).of(&odd, later(301)), None);
        // One resumes while all are paused.
        Pauses::resume(&cache, Some(&odd)).unwrap();
        Pauses::resume(&cache, Some(&odd)).unwrap();
        assert!(Pauses::load(&cache).of(&odd, NOW).is_some());
        Pauses::resume(&cache, None).unwrap();
        assert_eq!(Pauses::load(&cache), Pauses::default());
        let left: Vec<_> = fs::read_dir(cache.join(PAUSES_FOLDER)).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn an_odd_file_pauses_nothing_and_goes_with_the_next_resume() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(PAUSES_FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(FILE_FOR_ALL), "{\"since\":").unwrap();
        fs::write(folder.join("x.json"), "{\"project\":null,\"since\":1,\"until\":null}").unwrap();
        fs::create_dir(folder.join("y.json")).unwrap();
        assert_eq!(Pauses::load(dir.path()), Pauses::default());
        fs::remove_dir(folder.join("y.json")).unwrap();
        Pauses::resume(dir.path(), None).unwrap();
        assert!(!folder.join(FILE_FOR_ALL).exists());
    }

    #[test]
    fn what_cannot_be_kept_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PAUSES_FOLDER), "").unwrap();
        let error = Pauses::pause(dir.path(), None, Pause::new(NOW, None)).unwrap_err();
        assert!(error.to_string().contains("all.json"), "{error}");
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_make_a_pause_endless() {
        let pause = Pause::new(NOW, minutes(5));
        assert!(pause.left(Timestamp(NOW.0 - 1_000)).is_some(), "a second is nothing");
        assert_eq!(pause.left(Timestamp(NOW.0 - 2 * LONGEST_SET_BACK_MS)), None);
        assert_eq!(pause.left(Timestamp(0)), None);
        assert!(Pause::new(NOW, None).left(Timestamp(0)).is_some());
        assert!(Pause::new(NOW, Some(Duration::MAX)).left(NOW).is_some());
    }

    #[test]
    fn what_is_left_reads_well() {
        for (seconds, text) in [
            (1_740, "by hand, 29m left"),
            (1_741, "by hand, 30m left"),
            (59, "by hand, 59s left"),
            (5_400, "by hand, 1h 30m left"),
        ] {
            assert_eq!(Left::Time(Duration::from_secs(seconds)).text(), text);
        }
        assert_eq!(Left::Time(Duration::from_millis(1)).text(), "by hand, 1s left");
    }

    #[test]
    fn a_status_says_so_unless_something_is_done_all_the_same() {
        let pauses = Pauses { all: Some(Pause::new(NOW, minutes(5))), projects: Vec::new() };
        let shown = |state, reason| {
            let mut status = status(state, reason);
            pauses.show(&mut status, NOW);
            assert_eq!(status.paused_until, Some(later(300)));
            (status.state, status.reason.unwrap_or_default())
        };
        let paused = |text: &str| (State::Paused, text.to_owned());
        assert_eq!(shown(State::Idle, None), paused("by hand, 5m left"));
        assert_eq!(shown(State::Paused, Some("on battery")), paused("by hand, 5m left"));
        let failed = shown(State::Failed, Some("the tests do not compile"));
        assert_eq!(failed, paused("by hand, 5m left; the tests do not compile"));
        let missing = shown(State::Missing, Some("gone"));
        assert_eq!(missing, (State::Missing, "gone".to_owned()));
        assert_eq!(shown(State::Building, Some("x 1/2")).0, State::Building);
        let mut over = status(State::Idle, None);
        pauses.show(&mut over, later(301));
        assert_eq!((over.state, over.paused_until), (State::Idle, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_pause_is_as_long_as_was_asked(length in 1..1_u64 << 40, after in 0..1_u64 << 41) {
            let pause = Pause::new(NOW, Some(Duration::from_millis(length)));
            let left = pause.left(Timestamp(NOW.0 + after));
            prop_assert_eq!(left.is_some(), after < length);
            if let Some(Left::Time(left)) = left {
                prop_assert_eq!(left, Duration::from_millis(length - after));
            }
        }
    }
}
