//! What the run consulted and what it made: the rules by which one is told from the other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

use libc::c_int;

use super::resolve::{FollowedLink, ResolvedPath, as_path};
use crate::observer::path_class::class_of;
use crate::observer::{Interference, Observation, ObserveOptions, PathAccess, Peer, Problem, Uses};
use crate::workspace::{FileKind, PathStamp};

/// So many paths are kept; a run that uses more is not worth the memory.
const MOST_PATHS: usize = 400_000;

/// What the run did to a path that is its own from then on.
#[derive(Clone, Copy, Debug)]
struct OwnPath {
    /// What was there before.
    before: PathStamp,
    /// Something was put there.
    made: bool,
    /// What was there was taken away.
    removed: bool,
}

/// The record of one run, as it grows.
#[derive(Debug)]
pub(in crate::observer) struct AccessLog {
    options: ObserveOptions,
    paths: HashMap<Vec<u8>, PathEntry>,
    own: HashMap<Vec<u8>, OwnPath>,
    /// Could not be made, for want of the folder around it, and were not made since.
    attempts: HashSet<Vec<u8>>,
    pub(in crate::observer) peers: BTreeSet<Peer>,
    pub(in crate::observer) problems: BTreeSet<Problem>,
    pub(in crate::observer) interference: BTreeSet<Interference>,
}

#[derive(Debug)]
struct PathEntry {
    first: PathStamp,
    uses: Uses,
    link: Option<Vec<u8>>,
}

impl AccessLog {
    pub(in crate::observer) fn new(options: ObserveOptions) -> Self {
        Self {
            options,
            paths: HashMap::new(),
            own: HashMap::new(),
            attempts: HashSet::new(),
            peers: BTreeSet::new(),
            problems: BTreeSet::new(),
            interference: BTreeSet::new(),
        }
    }

    pub(in crate::observer) fn problem(&mut self, problem: Problem) {
        self.problems.insert(problem);
    }

    /// Whether the path is an input already.
    pub(in crate::observer) fn is_noted(&self, path: &[u8]) -> bool {
        self.paths.get(path).is_some_and(|entry| entry.uses.any(Uses::INPUT))
    }

    /// The run learns something about `target`, unless the run itself made that so.
    pub(in crate::observer) fn consult(&mut self, target: &ResolvedPath, uses: Uses) {
        if !self.is_own(&target.path, target.stamp) {
            self.note(&target.path, target.stamp, uses, None);
        }
    }

    /// A symlink was followed or read.
    pub(in crate::observer) fn follow(&mut self, link: FollowedLink) {
        if !self.is_own(&link.path, link.stamp) {
            self.note(&link.path, link.stamp, Uses::FOLLOWED, Some(link.text));
        }
    }

    /// An `open` without `O_PATH`.
    pub(in crate::observer) fn open(&mut self, target: &ResolvedPath, flags: c_int) {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let creates = flags & libc::O_CREAT != 0;
        let exclusive = creates && flags & libc::O_EXCL != 0;
        let truncates = flags & libc::O_TRUNC != 0;
        if flags & libc::O_PATH != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE {
            return self.consult(target, Uses::PROBED);
        }
        match target.stamp {
            PathStamp::Absent if creates && !target.orphan => {
                // Had it been there, a plain open would have found its content, `O_TRUNC` none,
                // and `O_EXCL` would have tried another name.
                let blind = exclusive || truncates;
                let uses = if blind { Uses::CREATED } else { Uses::CREATED.with(Uses::PROBED) };
                self.make(target, uses);
            }
            PathStamp::Present(stamp) if !target.orphan && stamp.kind() == FileKind::Folder => {
                self.consult(target, if writes { Uses::PROBED } else { Uses::LISTED });
            }
            PathStamp::Present(stamp) if !target.orphan => {
                if exclusive {
                    self.consult(target, Uses::PROBED);
                } else if truncates && stamp.kind() == FileKind::File {
                    self.make(target, Uses::REPLACED);
                } else {
                    match flags & libc::O_ACCMODE {
                        libc::O_RDONLY => self.consult(target, Uses::READ),
                        libc::O_WRONLY => self.consult(target, Uses::MODIFIED),
                        _ => self.consult(target, Uses::MODIFIED.with(Uses::READ)),
                    }
                }
            }
            _ => self.consult(target, Uses::READ),
        }
    }

    /// Something that must not be there yet: a folder, a link, a node.
    pub(in crate::observer) fn create(&mut self, target: &ResolvedPath) {
        if target.stamp != PathStamp::Absent {
            self.consult(target, Uses::PROBED);
        } else if target.orphan {
            // "Make it, or first the folder around it" ends as if that had been there. Only a
            // run that gives up has learnt that something is missing.
            if !self.is_own(&target.path, target.stamp) {
                self.attempts.insert(target.path.clone());
            }
        } else {
            self.attempts.remove(&target.path);
            self.make(target, Uses::CREATED);
        }
    }

    /// Changes metadata or length; the call tells whether the path is there.
    pub(in crate::observer) fn modify(&mut self, target: &ResolvedPath, replace: bool) {
        if replace && target.stamp.kind() == Some(FileKind::File) && !target.orphan {
            self.make(target, Uses::REPLACED);
        } else {
            self.consult(target, Uses::MODIFIED.with(Uses::PROBED));
        }
    }

    pub(in crate::observer) fn remove(&mut self, target: &ResolvedPath, folder: bool) {
        if target.stamp == PathStamp::Absent || target.orphan {
            return self.consult(target, Uses::PROBED);
        }
        if !self.is_own(&target.path, target.stamp) {
            // Whether a folder is empty is what its removal tells.
            let uses = if folder { Uses::LISTED } else { Uses::PROBED };
            self.note(&target.path, target.stamp, uses.with(Uses::REMOVED), None);
        }
        self.take_away(target);
    }

    /// Moves what is at `from` to `to`; `exchange` moves the other way too.
    pub(in crate::observer) fn rename(
        &mut self,
        from: &ResolvedPath,
        to: &ResolvedPath,
        exchange: bool,
    ) {
        if from.stamp.kind().is_none() || from.orphan || to.orphan {
            self.consult(from, Uses::PROBED);
            return self.consult(to, Uses::PROBED);
        }
        self.moved(from);
        if exchange {
            self.moved(to);
            self.make(from, Uses::REPLACED);
        }
        let there = to.stamp != PathStamp::Absent;
        self.make(to, if there { Uses::REPLACED } else { Uses::CREATED });
    }

    /// Another name for the same content.
    pub(in crate::observer) fn link(&mut self, from: &ResolvedPath, to: &ResolvedPath) {
        let read = if from.orphan { Uses::PROBED } else { Uses::READ };
        self.consult(from, read);
        self.create(to);
    }

    /// Content that was not the run's own can be read under another name from here on.
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
        let own = self.own.entry(target.path.clone()).or_insert(OwnPath {
            before: target.stamp,
            made: false,
            removed: false,
        });
        own.removed = true;
    }

    fn make(&mut self, target: &ResolvedPath, uses: Uses) {
        if self.is_own(&target.path, target.stamp) {
            // Below its own folder nothing needs to be noted again.
            if let Some(own) = self.own.get_mut(&target.path) {
                own.made = true;
            }
            return;
        }
        self.note(&target.path, target.stamp, uses, None);
        let own = OwnPath { before: target.stamp, made: true, removed: false };
        self.own.insert(target.path.clone(), own);
    }

    /// Whether what is at `path` now is the run's own doing. Results of calls are not seen, so a
    /// making that left no trace did not happen, and what is there is not ours.
    pub(in crate::observer) fn is_own(&self, path: &[u8], now: PathStamp) -> bool {
        if let Some(own) = self.own.get(path) {
            let there = now != PathStamp::Absent;
            return if now == own.before {
                own.removed && !there
            } else {
                // There although only taken away: somebody else put it back.
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

    fn note(&mut self, path: &[u8], now: PathStamp, uses: Uses, link: Option<Vec<u8>>) {
        if let Some(entry) = self.paths.get_mut(path) {
            entry.uses = entry.uses.with(uses);
            if entry.link.is_none() {
                entry.link = link;
            } else if link.is_some() && entry.link != link {
                // Another text than at first: no single stamp describes what was read.
                entry.first = PathStamp::Unknown(libc::ESTALE);
            }
            return;
        }
        if self.paths.len() >= MOST_PATHS {
            return self.problem(Problem::TooMany(MOST_PATHS));
        }
        self.paths.insert(path.to_vec(), PathEntry { first: now, uses, link });
    }

    /// Everything, for the caller. `ours` tells whether a process id belonged to the run.
    pub(in crate::observer) fn close(mut self, ours: impl Fn(i32) -> bool) -> Observation {
        for path in std::mem::take(&mut self.attempts) {
            self.note(&path, PathStamp::Absent, Uses::PROBED, None);
        }
        let mut paths = BTreeMap::new();
        for (path, entry) in self.paths {
            let path = as_path(&path).to_owned();
            if let Some(place) = class_of(&path, &self.options.covered, &ours) {
                let link = entry.link.map(|text| PathBuf::from(as_path(&text)));
                paths
                    .insert(path, PathAccess { first: entry.first, uses: entry.uses, link, place });
            }
        }
        Observation {
            paths,
            peers: self.peers,
            problems: self.problems,
            interference: self.interference,
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

    fn inputs(steps: impl FnOnce(&mut AccessLog)) -> Vec<String> {
        let mut log = AccessLog::new(ObserveOptions::default());
        steps(&mut log);
        let observation = log.close(|_| false);
        observation
            .inputs()
            .map(|(path, seen)| {
                let there = if seen.first == PathStamp::Absent { "!" } else { "" };
                format!("{there}{}", path.display())
            })
            .collect()
    }

    #[test]
    fn what_the_run_made_is_no_input() {
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
    fn making_the_folders_around_first_is_no_look_at_what_is_there() {
        let orphan = |path| ResolvedPath { orphan: true, ..none(path) };
        let made = inputs(|log| {
            log.create(&orphan("/w/x/y"));
            log.create(&none("/w/x"));
            log.create(&none("/w/x/y"));
        });
        assert!(made.is_empty(), "{made:?}");
        let given_up = inputs(|log| log.create(&orphan("/w/x/y")));
        assert_eq!(given_up, ["!/w/x/y"]);
    }

    #[test]
    fn what_was_looked_at_before_it_was_made_stays_an_input() {
        let seen = inputs(|log| {
            log.open(&none("/w/snapshot"), READ);
            log.open(&none("/w/snapshot"), WRITE_NEW);
            log.open(&file("/w/snapshot", 5), READ);
        });
        assert_eq!(seen, ["!/w/snapshot"]);
    }

    #[test]
    fn a_making_that_failed_makes_nothing_our_own() {
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
    fn overwriting_is_no_reading_but_appending_and_updating_may_be() {
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
    fn content_that_changes_its_name_was_read() {
        let seen = inputs(|log| {
            log.rename(&file("/w/fixture", 1), &none("/w/mine"), false);
            log.open(&file("/w/mine", 1), READ);
            log.link(&file("/w/other", 2), &none("/w/hard"));
            log.open(&file("/w/hard", 2), READ);
        });
        assert_eq!(seen, ["/w/fixture", "/w/other"]);
        let own = inputs(|log| {
            log.open(&none("/w/tmp1"), WRITE_NEW);
            log.rename(&file("/w/tmp1", 3), &file("/w/out", 1), false);
            log.open(&file("/w/out", 3), READ);
        });
        assert!(own.is_empty(), "{own:?}");
    }

    #[test]
    fn moving_a_folder_of_others_is_more_than_we_can_follow() {
        let mut log = AccessLog::new(ObserveOptions::default());
        let folder = at("/w/fixtures", stamp(FileKind::Folder, 9));
        log.rename(&folder, &none("/w/moved"), false);
        assert!(!log.close(|_| false).is_complete());
    }

    #[test]
    fn somebody_else_s_file_in_the_place_of_a_removed_one_counts() {
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
