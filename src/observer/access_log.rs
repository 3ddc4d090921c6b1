//! The access log of one run: what it consulted, what it made, and the rules that separate the two.
//!
//! A path that the run itself made is no input from then on. The name under which it was made is an
//! input, because the call succeeded only for a certain state of that name: `mkdir`, `O_EXCL`,
//! `symlink`, `link`, `mknod` and `bind` need a free name ([`Uses::CLAIMED`]), a truncating open and
//! `rename` a free name or a file ([`Uses::OVERWRITTEN`]), an open without `O_CREAT` an existing file
//! ([`Uses::REQUIRED`]). What a run that fails on such a name would do instead is not known.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use libc::c_int;

use super::resolve::{FollowedLink, ResolvedPath, as_path};
use super::syscall_table::{RENAME_EXCHANGE, RENAME_NOREPLACE};
use crate::observer::path_class::class_of;
use crate::observer::{
    Exemption, Interference, Observation, ObserveOptions, PathAccess, Peer, Problem, Uses,
};
use crate::workspace::{FileKind, PathStamp};

/// How many paths are recorded for one run.
const MAX_PATHS: usize = 400_000;

/// What the run did to a path that it made or removed.
#[derive(Clone, Copy, Debug)]
struct OwnPath {
    /// The stamp before that.
    before: PathStamp,
    /// The run made something there.
    made: bool,
    /// The run removed what was there.
    removed: bool,
}

/// The access log of one run, as it grows.
#[derive(Debug)]
pub(in crate::observer) struct AccessLog {
    options: ObserveOptions,
    paths: HashMap<Vec<u8>, PathEntry>,
    own: HashMap<Vec<u8>, OwnPath>,
    /// Paths that could not be made because their parent folder was missing, and were not made since.
    failed_attempts: HashSet<Vec<u8>>,
    /// The folders whose look-ups are not recorded now.
    pub(in crate::observer) exempt: Option<Vec<Vec<u8>>>,
    /// See [`Observation::libraries`].
    libraries: BTreeSet<Vec<u8>>,
    pub(in crate::observer) peers: BTreeSet<Peer>,
    problems: BTreeSet<Problem>,
    interference: BTreeSet<Interference>,
    /// See [`Observation::panicked`].
    pub(in crate::observer) panicked: bool,
}

/// What is written there is gone with the processes that wrote it.
const STAYS_NOT: [&str; 4] = ["/proc", "/dev/null", "/dev/tty", "/dev/pts"];

#[derive(Debug)]
struct PathEntry {
    first: PathStamp,
    uses: Uses,
    /// See [`PathAccess::text`].
    text: Option<Vec<u8>>,
}

impl AccessLog {
    pub(in crate::observer) fn new(options: ObserveOptions) -> Self {
        Self {
            panicked: !options.tells_panics,
            options,
            paths: HashMap::new(),
            own: HashMap::new(),
            failed_attempts: HashSet::new(),
            exempt: None,
            libraries: BTreeSet::new(),
            peers: BTreeSet::new(),
            problems: BTreeSet::new(),
            interference: BTreeSet::new(),
        }
    }

    /// What decides which programs are exempt.
    pub(in crate::observer) fn exemption(&self) -> Option<&Exemption> {
        self.options.exemption.as_ref()
    }

    pub(in crate::observer) fn problem(&mut self, problem: Problem) {
        self.problems.insert(problem);
        self.look_whether_worthless();
    }

    pub(in crate::observer) fn interference(&mut self, what: Interference) {
        self.interference.insert(what);
        self.look_whether_worthless();
    }

    fn look_whether_worthless(&self) {
        // A run that needs a closer look only can still be of use. One that has left something elsewhere
        // comes to its own end, which may clear that away.
        let is_closer =
            |problem| matches!(problem, &Problem::UnknownSearch | &Problem::UnknownCode);
        let has_left = |(path, entry): (&Vec<u8>, &PathEntry)| {
            let path = as_path(path);
            let stays = !STAYS_NOT.iter().any(|folder| path.starts_with(folder));
            let is_scratch = |folder: &PathBuf| path.starts_with(folder);
            entry.uses.any(Uses::OUTPUT) && stays && !self.options.scratch.iter().any(is_scratch)
        };
        if !self.interference.is_empty()
            && !self.problems.iter().all(is_closer)
            && self.peers.is_empty()
            && !self.paths.iter().any(has_left)
        {
            self.options.worthless.cancel();
        }
    }

    /// Whether the path is an input already.
    pub(in crate::observer) fn is_noted(&self, path: &[u8]) -> bool {
        self.paths.get(path).is_some_and(|entry| entry.uses.any(Uses::INPUT))
    }

    /// The run learns something about `target`, unless the run itself put it into this state.
    pub(in crate::observer) fn consult(&mut self, target: &ResolvedPath, uses: Uses) {
        if !self.is_own(&target.path, target.stamp) {
            self.note(&target.path, target.stamp, uses, None);
        }
    }

    /// The dynamic loader may ask its cache for libraries of these names.
    pub(in crate::observer) fn ask_for_libraries(&mut self, names: &[Vec<u8>]) {
        for name in names {
            if !self.libraries.contains(name) {
                self.libraries.insert(name.clone());
            }
        }
    }

    /// A symlink was followed or read.
    pub(in crate::observer) fn follow(&mut self, link: FollowedLink) {
        if !self.is_own(&link.path, link.stamp) {
            self.note(&link.path, link.stamp, Uses::FOLLOWED, Some(link.text));
        }
    }

    /// The content of a setting of the kernel was read.
    pub(in crate::observer) fn read_setting(&mut self, target: &ResolvedPath, content: Vec<u8>) {
        self.note(&target.path, target.stamp, Uses::READ, Some(content));
    }

    /// An `open` without `O_PATH`.
    pub(in crate::observer) fn open(&mut self, target: &ResolvedPath, flags: c_int) {
        let creates = flags & libc::O_CREAT != 0;
        let exclusive = creates && flags & libc::O_EXCL != 0;
        let truncates = flags & libc::O_TRUNC != 0;
        if flags & libc::O_PATH != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE {
            return self.consult(target, Uses::PROBED);
        }
        match target.stamp {
            PathStamp::Absent if creates && !target.orphan => {
                // If the file had existed, a plain open would have found its content.
                let needs = match (exclusive, truncates) {
                    (true, _) => Uses::CLAIMED,
                    (_, true) => Uses::OVERWRITTEN,
                    _ => Uses::PROBED,
                };
                self.make(target, Uses::CREATED.with(needs));
            }
            PathStamp::Present(stamp) if !target.orphan && stamp.kind() == FileKind::Folder => {
                // Listing it takes another call.
                self.consult(target, Uses::PROBED);
            }
            PathStamp::Present(stamp) if !target.orphan => {
                if exclusive {
                    self.consult(target, Uses::PROBED);
                } else if truncates && stamp.kind() == FileKind::File {
                    let needs = if creates { Uses::OVERWRITTEN } else { Uses::REQUIRED };
                    self.make(target, Uses::REPLACED.with(needs));
                } else {
                    // A descriptor for writing tells the length too.
                    match flags & libc::O_ACCMODE {
                        libc::O_RDONLY => self.consult(target, Uses::READ),
                        libc::O_WRONLY => self.consult(target, Uses::MODIFIED.with(Uses::PROBED)),
                        _ => self.consult(target, Uses::MODIFIED.with(Uses::READ)),
                    }
                }
            }
            _ => {
                if creates {
                    self.attempt(target);
                }
                self.consult(target, Uses::READ);
            }
        }
    }

    /// Notes that nothing can be made here, because the parent folder is missing.
    fn attempt(&mut self, target: &ResolvedPath) {
        let is_absent = target.orphan && target.stamp == PathStamp::Absent;
        if is_absent && !self.is_own(&target.path, target.stamp) {
            self.failed_attempts.insert(target.path.clone());
        }
    }

    /// Makes a folder, link, node or socket, for which the name must be free.
    pub(in crate::observer) fn create(&mut self, target: &ResolvedPath) {
        if target.stamp != PathStamp::Absent {
            self.consult(target, Uses::PROBED);
        } else if target.orphan {
            // `create_dir_all` tries the innermost folder first. Only a run that gives up has
            // learnt that the parent is missing.
            self.attempt(target);
        } else {
            self.make(target, Uses::CREATED.with(Uses::CLAIMED));
        }
    }

    /// Changes metadata, or empties a file if `truncate`. Either call needs the path to exist.
    pub(in crate::observer) fn modify(&mut self, target: &ResolvedPath, truncate: bool) {
        if truncate && target.stamp.kind() == Some(FileKind::File) && !target.orphan {
            self.make(target, Uses::REPLACED.with(Uses::REQUIRED));
        } else {
            self.consult(target, Uses::MODIFIED.with(Uses::PROBED));
        }
    }

    /// Removes a file, or a folder if `folder`.
    pub(in crate::observer) fn remove(&mut self, target: &ResolvedPath, folder: bool) {
        if target.stamp == PathStamp::Absent || target.orphan {
            return self.consult(target, Uses::PROBED);
        }
        if !self.is_own(&target.path, target.stamp) {
            // Removing a folder tells whether it is empty.
            let uses = if folder { Uses::LISTED } else { Uses::PROBED };
            self.note(&target.path, target.stamp, uses.with(Uses::REMOVED), None);
        }
        self.take_away(target);
    }

    /// Moves `from` to `to`, or does what the flags of `renameat2` say instead.
    pub(in crate::observer) fn rename(
        &mut self,
        from: &ResolvedPath,
        to: &ResolvedPath,
        flags: u32,
    ) {
        if from.stamp.kind().is_none() || from.orphan || to.orphan {
            self.attempt(to);
            self.consult(from, Uses::PROBED);
            return self.consult(to, Uses::PROBED);
        }
        let exclusive = flags & RENAME_NOREPLACE != 0;
        if exclusive && to.stamp != PathStamp::Absent {
            self.consult(from, Uses::PROBED);
            return self.consult(to, Uses::PROBED);
        }
        self.moved(from);
        if flags & RENAME_EXCHANGE != 0 {
            self.moved(to);
            self.make(from, Uses::REPLACED);
            return self.make(to, Uses::REPLACED);
        }
        // A folder replaces an empty folder only, and nothing but a folder.
        let moves_folder = from.stamp.kind() == Some(FileKind::Folder);
        self.make(
            to,
            match (to.stamp, moves_folder || exclusive) {
                (PathStamp::Absent, true) => Uses::CREATED.with(Uses::CLAIMED),
                (PathStamp::Absent, false) => Uses::CREATED.with(Uses::OVERWRITTEN),
                (_, true) => Uses::REPLACED.with(Uses::LISTED),
                (_, false) => Uses::REPLACED.with(Uses::OVERWRITTEN),
            },
        );
    }

    /// Makes a hard link.
    pub(in crate::observer) fn link(&mut self, from: &ResolvedPath, to: &ResolvedPath) {
        let read = if from.orphan { Uses::PROBED } else { Uses::READ.with(Uses::LINKED) };
        self.consult(from, read);
        self.create(to);
    }

    /// Content that may not be the run's own gets another name, under which it can be read.
    fn moved(&mut self, from: &ResolvedPath) {
        if !self.is_own(&from.path, from.stamp) {
            if from.stamp.kind() == Some(FileKind::Folder) {
                self.problem(Problem::FolderMoved(as_path(&from.path).to_owned()));
            }
            self.note(&from.path, from.stamp, Uses::READ.with(Uses::REMOVED), None);
        }
        self.take_away(from);
    }

    fn take_away(&mut self, target: &ResolvedPath) {
        if let Some(own) = self.own.get_mut(&target.path) {
            own.removed = true;
        } else if !self.is_own(&target.path, target.stamp) {
            let own = OwnPath { before: target.stamp, made: false, removed: true };
            self.own.insert(target.path.clone(), own);
        }
        // Nothing below the run's own folder needs a note of its own: the call may fail, and what
        // is still there then is the run's own as before.
    }

    fn make(&mut self, target: &ResolvedPath, uses: Uses) {
        self.failed_attempts.remove(&target.path);
        if self.is_own(&target.path, target.stamp) {
            // Nothing below the run's own folder needs a note of its own, unless the run saw the
            // name absent before it made the folder: that it exists now is its own doing too.
            if target.stamp == PathStamp::Absent
                && let Some(entry) = self.paths.get_mut(&target.path)
                && entry.first == PathStamp::Absent
            {
                entry.uses = entry.uses.with(Uses::CREATED);
            }
            if let Some(own) = self.own.get_mut(&target.path) {
                own.made = true;
            }
            return;
        }
        self.note(&target.path, target.stamp, uses, None);
        let own = OwnPath { before: target.stamp, made: true, removed: false };
        self.own.insert(target.path.clone(), own);
    }

    /// Whether the run itself put `path` into its state `now`. Results of calls are not seen: a call
    /// that changed nothing failed, and what is there is not the run's own.
    pub(in crate::observer) fn is_own(&self, path: &[u8], now: PathStamp) -> bool {
        if let Some(own) = self.own.get(path) {
            let there = now != PathStamp::Absent;
            return if now == own.before {
                own.removed && !there
            } else {
                // If it exists although the run only removed it, another process restored it.
                !there || own.made
            };
        }
        let mut rest = path;
        while let Some(cut) = rest.iter().rposition(|byte| *byte == b'/') {
            rest = &rest[..cut];
            let Some(own) = self.own.get(rest) else { continue };
            if own.before.kind() == Some(FileKind::Folder) && !own.removed {
                continue;
            }
            return match (own.made, own.removed) {
                (true, false) => {
                    now != PathStamp::Absent || PathStamp::of(as_path(rest)) != own.before
                }
                (true, true) => true,
                (false, _) => now == PathStamp::Absent,
            };
        }
        false
    }

    fn note(&mut self, path: &[u8], now: PathStamp, uses: Uses, text: Option<Vec<u8>>) {
        if !uses.any(Uses::OUTPUT) && self.is_exempt(path) {
            return;
        }
        if let Some(entry) = self.paths.get_mut(path) {
            entry.uses = entry.uses.with(uses);
            if entry.text.is_none() {
                entry.text = text;
            } else if text.is_some() && entry.text != text {
                // The text is another than before: no single stamp describes what was read.
                entry.first = PathStamp::Unknown(libc::ESTALE);
            }
            return;
        }
        if self.paths.len() >= MAX_PATHS {
            return self.problem(Problem::TooMany(MAX_PATHS));
        }
        self.paths.insert(path.to_vec(), PathEntry { first: now, uses, text });
    }

    /// Whether the process that calls now may look this up unrecorded. What it makes or changes is
    /// recorded all the same: only a process that asks is exempt.
    fn is_exempt(&self, path: &[u8]) -> bool {
        let is_below = |folder: &Vec<u8>| {
            let rest = path.strip_prefix(&folder[..]);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        self.exempt.iter().flatten().any(is_below)
    }

    /// The finished observation. `ours` says whether a process id belonged to the run.
    pub(in crate::observer) fn close(mut self, ours: impl Fn(i32) -> bool) -> Observation {
        // The exemption belongs to the last caller, not to those whose attempts are told here.
        self.exempt = None;
        for path in std::mem::take(&mut self.failed_attempts) {
            // With a parent folder it would have been made.
            let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            for path in [&path, &path[..cut.max(1)]] {
                self.note(path, PathStamp::Absent, Uses::PROBED, None);
            }
        }
        let mut paths = BTreeMap::new();
        for (path, entry) in self.paths {
            let path = as_path(&path).to_owned();
            if let Some(class) = class_of(&path, &self.options.covered, &ours) {
                let PathEntry { first, uses, text } = entry;
                paths.insert(path, PathAccess { first, uses, text, class });
            }
        }
        Observation {
            paths,
            libraries: self.libraries.into_iter().map(OsString::from_vec).collect(),
            peers: self.peers,
            problems: self.problems,
            interference: self.interference,
            panicked: self.panicked,
            left_behind: false,
            calls: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Stamp;

    const READ: c_int = libc::O_RDONLY;
    const WRITE_NEW: c_int = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;

    fn stamp(kind: FileKind, inode: u64) -> PathStamp {
        let mode = match kind {
            FileKind::Folder => 0o040_755,
            FileKind::Symlink => 0o120_777,
            _ => 0o100_644,
        };
        PathStamp::Present(Stamp { mode, inode, ..Stamp::default() })
    }

    fn at(path: &str, stamp: PathStamp) -> ResolvedPath {
        ResolvedPath { path: path.into(), stamp, orphan: false }
    }

    fn file(path: &str, ino: u64) -> ResolvedPath {
        at(path, stamp(FileKind::File, ino))
    }

    fn none(path: &str) -> ResolvedPath {
        at(path, PathStamp::Absent)
    }

    /// The inputs from which more was learnt than whether something could be made there.
    fn inputs(steps: impl FnOnce(&mut AccessLog)) -> Vec<String> {
        let mut log = AccessLog::new(ObserveOptions::default());
        steps(&mut log);
        let observation = log.close(|_| false);
        observation
            .inputs()
            .filter(|(_, seen)| !Uses::NAME.contains(seen.uses.and(Uses::INPUT)))
            .map(|(path, seen)| {
                let there = if seen.first == PathStamp::Absent { "!" } else { "" };
                format!("{there}{}", path.display())
            })
            .collect()
    }

    #[test]
    fn a_name_is_an_input_by_what_its_making_needed() {
        let need = |steps: &dyn Fn(&mut AccessLog)| {
            let mut log = AccessLog::new(ObserveOptions::default());
            steps(&mut log);
            let observation = log.close(|_| false);
            observation.paths[std::path::Path::new("/w/x")].uses.and(Uses::INPUT)
        };
        let (free, present) = (none("/w/x"), file("/w/x", 1));
        let folder = at("/w/d", stamp(FileKind::Folder, 2));
        let other = file("/w/y", 3);
        assert_eq!(need(&|log| log.create(&free)), Uses::CLAIMED);
        assert_eq!(need(&|log| log.link(&other, &free)), Uses::CLAIMED);
        assert_eq!(need(&|log| log.open(&free, WRITE_NEW | libc::O_EXCL)), Uses::CLAIMED);
        assert_eq!(need(&|log| log.open(&free, WRITE_NEW)), Uses::OVERWRITTEN);
        assert_eq!(need(&|log| log.open(&present, WRITE_NEW)), Uses::OVERWRITTEN);
        let truncate = libc::O_WRONLY | libc::O_TRUNC;
        assert_eq!(need(&|log| log.open(&present, truncate)), Uses::REQUIRED);
        assert_eq!(need(&|log| log.modify(&present, true)), Uses::REQUIRED);
        let append = libc::O_WRONLY | libc::O_APPEND;
        assert_eq!(need(&|log| log.open(&present, append)), Uses::PROBED);
        assert_eq!(need(&|log| log.open(&free, append | libc::O_CREAT)), Uses::PROBED);
        assert_eq!(need(&|log| log.rename(&other, &free, 0)), Uses::OVERWRITTEN);
        assert_eq!(need(&|log| log.rename(&other, &present, 0)), Uses::OVERWRITTEN);
        assert_eq!(need(&|log| log.rename(&other, &free, RENAME_NOREPLACE)), Uses::CLAIMED);
        assert_eq!(need(&|log| log.rename(&other, &present, RENAME_NOREPLACE)), Uses::PROBED);
        assert_eq!(need(&|log| log.rename(&folder, &free, 0)), Uses::CLAIMED);
    }

    #[test]
    fn content_that_the_run_made_is_no_input() {
        let seen = inputs(|log| {
            log.open(&none("/w/out"), WRITE_NEW);
            log.open(&file("/w/out", 5), READ);
            log.create(&none("/w/dir"));
            log.open(&file("/w/dir/x/y", 6), READ);
            log.remove(&file("/w/out", 5), false);
            log.consult(&none("/w/out"), Uses::PROBED);
            log.consult(&none("/w/dir/z"), Uses::PROBED);
        });
        // `/w/dir` does not exist on this machine: its making left no trace.
        assert_eq!(seen, ["!/w/dir/z"]);
    }

    #[test]
    fn an_exempt_process_looks_up_and_does_not_write_unrecorded() {
        let mut log = AccessLog::new(ObserveOptions::default());
        log.exempt = Some(vec![b"/r/.git".into(), b"/w/.git".into()]);
        log.open(&file("/w/.git/HEAD", 1), READ);
        log.consult(&none("/w/.git"), Uses::PROBED);
        log.consult(&file("/w/.gitignore", 2), Uses::PROBED);
        log.remove(&file("/w/.git/index", 3), false);
        log.exempt = None;
        log.open(&file("/w/.git/config", 4), READ);
        let seen: Vec<_> = log.close(|_| false).paths.into_keys().collect();
        let names = ["/w/.git/config", "/w/.git/index", "/w/.gitignore"];
        assert_eq!(seen, names.map(std::path::PathBuf::from));
    }

    #[test]
    fn a_parent_that_is_made_later_is_no_absent_input() {
        let orphan = |path| ResolvedPath { orphan: true, ..none(path) };
        let made = inputs(|log| {
            log.create(&orphan("/w/x/y"));
            log.create(&none("/w/x"));
            log.create(&none("/w/x/y"));
        });
        assert!(made.is_empty(), "{made:?}");
        let given_up = inputs(|log| log.create(&orphan("/w/x/y")));
        assert_eq!(given_up, ["!/w/x", "!/w/x/y"]);
        let opened = inputs(|log| log.open(&orphan("/w/x/y"), WRITE_NEW));
        assert_eq!(opened, ["!/w/x", "!/w/x/y"]);
        let renamed = inputs(|log| log.rename(&file("/w/a", 1), &orphan("/w/x/y"), 0));
        assert_eq!(renamed, ["/w/a", "!/w/x", "!/w/x/y"]);
        let made = inputs(|log| {
            log.open(&orphan("/w/x/y"), libc::O_WRONLY | libc::O_CREAT);
            log.create(&none("/w/x"));
            log.open(&none("/w/x/y"), WRITE_NEW);
        });
        assert_eq!(made, ["!/w/x/y"], "looked up before it was made");
    }

    #[test]
    fn a_name_that_was_absent_before_its_folder_was_made_is_the_run_s_own_once_made() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let at = |name: &str| {
            let path = base.join(name);
            let orphan = !path.parent().is_some_and(std::path::Path::is_dir);
            let stamp = PathStamp::of(&path);
            ResolvedPath { path: path.into_os_string().into_encoded_bytes(), stamp, orphan }
        };
        let mut log = AccessLog::new(ObserveOptions::default());
        for name in ["t/made", "t/others", "t/kept"] {
            log.consult(&at(name), Uses::PROBED);
            log.create(&at(name));
        }
        log.create(&at("t"));
        std::fs::create_dir(base.join("t")).unwrap();
        log.create(&at("t/made"));
        std::fs::create_dir(base.join("t/made")).unwrap();
        // Another process makes these: the run only finds them, and overwrites one.
        for name in ["t/others", "t/kept"] {
            std::fs::write(base.join(name), "theirs").unwrap();
            log.open(&at(name), READ);
        }
        log.open(&at("t/kept"), WRITE_NEW);
        let seen = log.close(|_| false).paths;
        let is_scratch = |name: &str| seen[&base.join(name)].is_scratch();
        assert!(is_scratch("t/made"));
        assert!(!is_scratch("t/others") && !is_scratch("t/kept"), "{seen:?}");
    }

    #[test]
    fn a_path_that_was_looked_up_before_it_was_made_stays_an_input() {
        let seen = inputs(|log| {
            log.open(&none("/w/snapshot"), READ);
            log.open(&none("/w/snapshot"), WRITE_NEW);
            log.open(&file("/w/snapshot", 5), READ);
        });
        assert_eq!(seen, ["!/w/snapshot"]);
    }

    #[test]
    fn a_failed_creation_makes_nothing_the_run_s_own() {
        let fixture = file("/w/fixture", 5);
        let seen = inputs(|log| {
            // Read-only: truncation fails, and the old content is read.
            log.open(&fixture, WRITE_NEW);
            log.open(&fixture, READ);
            log.remove(&file("/w/kept", 6), false);
            log.open(&file("/w/kept", 6), READ);
            log.open(&none("/w/new"), WRITE_NEW);
            log.consult(&none("/w/new"), Uses::PROBED);
        });
        assert_eq!(seen, ["/w/fixture", "/w/kept", "!/w/new"]);
    }

    #[test]
    fn overwriting_reads_nothing_but_appending_and_updating_may() {
        let overwritten = inputs(|log| {
            log.open(&file("/w/a", 1), WRITE_NEW);
            log.open(&file("/w/a", 2), READ);
        });
        assert!(overwritten.is_empty(), "{overwritten:?}");
        let appended = inputs(|log| {
            log.open(&file("/w/a", 1), libc::O_WRONLY | libc::O_APPEND);
            log.open(&file("/w/a", 1), READ);
            log.open(&file("/w/b", 2), libc::O_RDWR | libc::O_CREAT);
            log.open(&none("/w/c"), libc::O_RDWR | libc::O_CREAT);
        });
        assert_eq!(appended, ["/w/a", "/w/b", "!/w/c"]);
    }

    #[test]
    fn content_that_gets_another_name_was_read() {
        let seen = inputs(|log| {
            log.rename(&file("/w/fixture", 1), &none("/w/mine"), 0);
            log.open(&file("/w/mine", 1), READ);
            log.link(&file("/w/other", 2), &none("/w/hard"));
            log.open(&file("/w/hard", 2), READ);
        });
        assert_eq!(seen, ["/w/fixture", "/w/other"]);
        let own = inputs(|log| {
            log.open(&none("/w/tmp1"), WRITE_NEW);
            log.rename(&file("/w/tmp1", 3), &file("/w/out", 1), 0);
            log.open(&file("/w/out", 3), READ);
        });
        assert!(own.is_empty(), "{own:?}");
    }

    #[test]
    fn moving_a_foreign_folder_makes_the_observation_incomplete() {
        let mut log = AccessLog::new(ObserveOptions::default());
        let folder = at("/w/fixtures", stamp(FileKind::Folder, 9));
        log.rename(&folder, &none("/w/moved"), 0);
        assert!(!log.close(|_| false).is_complete());
    }

    #[test]
    fn what_could_not_be_moved_or_removed_is_the_run_s_own_as_before() {
        let folder = |path, inode| at(path, stamp(FileKind::Folder, inode));
        let mut log = AccessLog::new(ObserveOptions::default());
        log.create(&none("/w/t"));
        log.create(&none("/w/t/a"));
        // It fails: the folder is not empty. Later its stamp is another.
        log.rename(&folder("/w/t/a", 1), &folder("/w/t/b", 2), 0);
        log.remove(&folder("/w/t/a", 1), true);
        log.rename(&folder("/w/t/a", 1), &none("/w/t/c"), 0);
        log.rename(&folder("/w/t/a", 3), &none("/w/t/d"), 0);
        // Moved with its parent, then by itself.
        log.rename(&folder("/w/t", 4), &none("/w/u"), 0);
        log.rename(&folder("/w/u/d/e", 5), &none("/w/u/f"), 0);
        log.open(&file("/w/u/f/x", 6), READ);
        let observation = log.close(|_| false);
        assert!(observation.is_complete(), "{:?}", observation.problems);
        let content = Uses::READ.with(Uses::LISTED);
        assert_eq!(observation.inputs().filter(|(_, seen)| seen.uses.any(content)).count(), 0);
    }

    #[test]
    fn another_process_s_file_in_place_of_a_removed_one_counts() {
        let seen = inputs(|log| {
            log.create(&none("/w/f"));
            log.remove(&file("/w/f", 1), false);
            log.consult(&none("/w/f"), Uses::PROBED);
            log.remove(&file("/w/g", 1), false);
            log.open(&file("/w/g", 2), READ);
        });
        assert_eq!(seen, ["/w/g"]);
    }

    #[test]
    fn a_link_with_two_texts_has_no_stamp() {
        let mut log = AccessLog::new(ObserveOptions::default());
        for text in ["a", "b"] {
            let link = FollowedLink {
                path: b"/w/l".to_vec(),
                text: text.into(),
                stamp: stamp(FileKind::Symlink, 1),
            };
            log.follow(link);
        }
        let observation = log.close(|_| false);
        let seen = &observation.paths[std::path::Path::new("/w/l")];
        assert!(matches!(seen.first, PathStamp::Unknown(_)));
    }
}
