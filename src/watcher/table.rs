//! Which folders are watched, and which watches are in doubt.
//!
//! A watch of the kernel belongs to an inode, the caller thinks in paths, and notify keeps a
//! table between the two that it changes by itself when it sees a removal or a rename. This
//! table is the caller's truth: it holds every path that notify may hold, so that no watch can
//! end without somebody being told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

/// The folder that a path leads to. Numbers are used again after a removal, so equal ones prove
/// nothing by themselves; different ones prove that the path leads elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    dev: u64,
    ino: u64,
}

impl From<&Metadata> for Inode {
    fn from(metadata: &Metadata) -> Self {
        Self { dev: metadata.dev(), ino: metadata.ino() }
    }
}

/// How a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchState {
    /// In place; events are reported.
    Live,
    /// Wanted, but perhaps not in place any more: to be put back. The caller was told.
    Lost,
    /// Wanted, but there was no folder when it was asked for. If one appears, the caller, who
    /// may have listed it already, must be told.
    Missing,
    /// Wanted, but the system refused. The caller polls it, and is told when another appears.
    Refused,
    /// Not wanted any more; notify may still have it. Events are dropped.
    Retired,
}

#[derive(Debug)]
struct WatchEntry {
    /// The folder at the path when it was claimed. Kept while notify may hold the path, whatever
    /// it leads to now: notify may report that inode's events under this path.
    inode: Option<Inode>,
    /// The folder that notify may hold under this path until the claim is confirmed.
    earlier: Vec<Inode>,
    standing: WatchState,
    /// A retired watch of which nothing was heard that could have ended it.
    sound: bool,
}

/// The step that makes a path watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchClaim {
    /// Nothing: it is.
    Kept,
    /// Add the watch; notify does not have the path.
    New,
    /// Add the watch, after taking away what notify may have under that path: adding one that
    /// it thinks it has does nothing.
    Again,
}

/// The table. A path sorts directly before everything below it.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<Arc<Path>, WatchEntry>,
    /// All paths of an inode: after a rename or with bind mounts they are several, and notify
    /// reports an event under one of them only.
    paths: HashMap<Inode, Vec<Arc<Path>>>,
    /// Entries whose parent is not in the table: nobody tells when they are moved away.
    tops: BTreeSet<Arc<Path>>,
    lost: BTreeSet<Arc<Path>>,
    /// The missing and the refused ones.
    missing: BTreeSet<Arc<Path>>,
    retired: BTreeSet<Arc<Path>>,
}

impl Table {
    /// How many paths notify may hold.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many paths are watched without a doubt.
    pub(super) fn live(&self) -> usize {
        self.entries.len() - self.lost.len() - self.missing.len() - self.retired.len()
    }

    /// The watches to put back.
    pub(super) fn lost(&self) -> Vec<Arc<Path>> {
        self.lost.iter().cloned().collect()
    }

    /// Whether there are watches to put back.
    pub(super) fn is_in_doubt(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The watches to take away.
    pub(super) fn retired(&self) -> Vec<Arc<Path>> {
        self.retired.iter().cloned().collect()
    }

    /// All paths that are wanted.
    pub(super) fn wanted(&self) -> Vec<Arc<Path>> {
        let wanted = self.entries.iter().filter(|(_, e)| e.standing != WatchState::Retired);
        wanted.map(|(path, _)| Arc::clone(path)).collect()
    }

    /// Whether `path` is watched without a doubt.
    pub(super) fn is_live(&self, path: &Path) -> bool {
        self.entries.get(path).is_some_and(|entry| entry.standing == WatchState::Live)
    }

    /// Makes `path`, which leads to `inode`, live. Called before the watch is added, so that an
    /// event that ends the watch right after finds it here.
    pub(super) fn claim(&mut self, path: &Path, inode: Inode) -> WatchClaim {
        let known = self.entries.get(path);
        let claim = match known.map(|entry| entry.standing) {
            None => WatchClaim::New,
            Some(WatchState::Live | WatchState::Retired)
                if known.is_some_and(|entry| entry.sound && entry.inode == Some(inode)) =>
            {
                WatchClaim::Kept
            }
            Some(_) => WatchClaim::Again,
        };
        let path = self.enter(path);
        self.set_standing(&path, WatchState::Live);
        if let Some(entry) = self.entries.get_mut(&path) {
            entry.sound = true;
            let before = entry.inode.replace(inode);
            // Still among the paths of its old inode, until the claim is confirmed.
            entry.earlier.extend(before.filter(|before| *before != inode));
        }
        let paths = self.paths.entry(inode).or_insert_with(|| Vec::with_capacity(1));
        if !paths.contains(&path) {
            paths.push(path);
        }
        claim
    }

    /// Notify holds `path` as it was claimed, and no event is under way that it reports under
    /// that path for another inode.
    pub(super) fn confirm(&mut self, path: &Path) {
        let Some(entry) = self.entries.get_mut(path) else { return };
        let current = entry.inode;
        for inode in std::mem::take(&mut entry.earlier) {
            if Some(inode) != current {
                self.unname(inode, path);
            }
        }
    }

    /// `path` is wanted and cannot be watched, because nothing is there or because the system
    /// refuses.
    pub(super) fn miss(&mut self, path: &Path, absent: bool) {
        let path = self.enter(path);
        self.set_standing(&path, if absent { WatchState::Missing } else { WatchState::Refused });
    }

    /// The paths of which it must be told that a folder appeared, or that another one did,
    /// although no event may tell it: those of missing folders that are there now, and what lies
    /// directly in `added` folders, whose watches are new, and leads elsewhere now.
    pub(super) fn overlooked(&self, added: &HashSet<&Path>) -> Vec<Arc<Path>> {
        let there = |path: &&Arc<Path>| {
            self.entries.get(&***path).is_some_and(|entry| entry.standing == WatchState::Missing)
                && std::fs::symlink_metadata(path).is_ok_and(|now| now.is_dir())
        };
        let appeared = self.missing.iter().filter(there).cloned();
        // Those that were added with their parent were looked at after it.
        let inside = added.iter().flat_map(|dir| {
            let inside = |path: &&Arc<Path>| path.parent() == Some(*dir);
            self.below(dir).filter(inside).filter(|path| !added.contains(&***path))
        });
        appeared.chain(inside.filter(|path| self.leads_elsewhere(path)).cloned()).collect()
    }

    /// Something is at `path` that was not there before. Gives the paths at and below it that
    /// were missing until now.
    pub(super) fn appear(&mut self, path: &Path) -> Vec<Arc<Path>> {
        if self.missing.is_empty() {
            return Vec::new();
        }
        let missing = |path: &&Arc<Path>| self.missing.contains(&***path);
        let appeared: Vec<_> = self.below(path).filter(missing).cloned().collect();
        appeared.into_iter().filter(|path| self.lose(path)).collect()
    }

    /// `path` is not wanted any more.
    pub(super) fn retire(&mut self, path: &Path) {
        let Some((path, entry)) = self.entries.get_key_value(path) else { return };
        let (path, live) = (Arc::clone(path), entry.standing == WatchState::Live);
        self.set_standing(&path, WatchState::Retired);
        if !live && let Some(entry) = self.entries.get_mut(&path) {
            entry.sound = false;
        }
    }

    /// Forgets `path`, which notify does not hold and under which no event is under way.
    pub(super) fn forget(&mut self, path: &Path) {
        let Some((path, entry)) = self.entries.get_key_value(path) else { return };
        let path = Arc::clone(path);
        let inodes: Vec<_> = entry.earlier.iter().copied().chain(entry.inode).collect();
        for inode in inodes {
            self.unname(inode, &path);
        }
        self.entries.remove(&path);
        self.tops.remove(&path);
        self.lost.remove(&path);
        self.missing.remove(&path);
        self.retired.remove(&path);
        let orphans: Vec<_> =
            self.below(&path).filter(|p| p.parent() == Some(&*path)).cloned().collect();
        self.tops.extend(orphans);
    }

    /// Something was removed from `path`, moved away from it or put in its place: all watches at
    /// and below it are in doubt, and those under its inode's other names too. Gives the paths
    /// that were live until now.
    pub(super) fn vanish(&mut self, path: &Path) -> Vec<Arc<Path>> {
        if !self.entries.contains_key(path) && self.below(path).next().is_none() {
            return Vec::new();
        }
        let mut all: BTreeSet<Arc<Path>> = self.below(path).cloned().collect();
        for alias in self.aliases(path) {
            all.extend(self.below(&alias).cloned());
        }
        all.into_iter().filter(|path| self.lose(path)).collect()
    }

    /// All watches are in doubt; gives the number of those that were not until now.
    pub(super) fn lose_all(&mut self) -> usize {
        let all: Vec<_> = self.entries.keys().cloned().collect();
        all.iter().filter(|path| self.lose(path)).count()
    }

    /// Puts one watch in doubt; `true` if the caller must be told.
    pub(super) fn lose(&mut self, path: &Path) -> bool {
        let Some((path, entry)) = self.entries.get_key_value(path) else { return false };
        let (path, standing) = (Arc::clone(path), entry.standing);
        match standing {
            WatchState::Live | WatchState::Missing | WatchState::Refused => {
                self.set_standing(&path, WatchState::Lost);
            }
            WatchState::Lost => {}
            WatchState::Retired => {
                if let Some(entry) = self.entries.get_mut(&path) {
                    entry.sound = false;
                }
            }
        }
        !matches!(standing, WatchState::Lost | WatchState::Retired)
    }

    /// The wanted paths under which a change in the folder `dir` must be reported: itself and
    /// the other names of its inode. Empty if nobody wants it.
    pub(super) fn reported(&self, dir: &Path) -> Vec<Arc<Path>> {
        let wanted = |path: &Arc<Path>| {
            let standing = self.entries.get(path).map(|entry| entry.standing);
            matches!(standing, Some(WatchState::Live | WatchState::Lost))
        };
        self.aliases(dir).into_iter().filter(wanted).collect()
    }

    /// The live paths of the table that lead elsewhere now; only tops, or all.
    pub(super) fn displaced(&self, all: bool) -> Vec<Arc<Path>> {
        let displaced = |path: &&Arc<Path>| self.leads_elsewhere(path);
        if all {
            self.entries.keys().filter(displaced).cloned().collect()
        } else {
            self.tops.iter().filter(displaced).cloned().collect()
        }
    }

    /// Whether `path` is live and there is something else now, or nothing.
    pub(super) fn leads_elsewhere(&self, path: &Path) -> bool {
        self.entries.get(path).is_some_and(|entry| {
            let now = || std::fs::symlink_metadata(path).ok();
            entry.standing == WatchState::Live && now().as_ref().map(Inode::from) != entry.inode
        })
    }

    /// `path` (if it is in the table) and the other paths under which notify may hold its inode.
    pub(super) fn aliases(&self, path: &Path) -> BTreeSet<Arc<Path>> {
        let Some((path, entry)) = self.entries.get_key_value(path) else { return BTreeSet::new() };
        let named = entry.earlier.iter().chain(&entry.inode);
        let others = named.filter_map(|inode| self.paths.get(inode)).flatten();
        others.chain([path]).cloned().collect()
    }

    /// The entries at and below `path`.
    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Arc<Path>> {
        self.entries
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .map(|(entry, _)| entry)
            .take_while(move |entry| entry.starts_with(path))
    }

    /// The entry of `path`, made if there is none.
    fn enter(&mut self, path: &Path) -> Arc<Path> {
        if let Some((path, _)) = self.entries.get_key_value(path) {
            return Arc::clone(path);
        }
        let path: Arc<Path> = path.into();
        if path.parent().is_none_or(|parent| !self.entries.contains_key(parent)) {
            self.tops.insert(Arc::clone(&path));
        }
        let entry = WatchEntry {
            inode: None,
            earlier: Vec::new(),
            standing: WatchState::Live,
            sound: false,
        };
        self.entries.insert(Arc::clone(&path), entry);
        path
    }

    fn set_standing(&mut self, path: &Arc<Path>, standing: WatchState) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.standing = standing;
        }
        self.lost.remove(path);
        self.missing.remove(path);
        self.retired.remove(path);
        let set = match standing {
            WatchState::Live => return,
            WatchState::Lost => &mut self.lost,
            WatchState::Missing | WatchState::Refused => &mut self.missing,
            WatchState::Retired => &mut self.retired,
        };
        set.insert(Arc::clone(path));
    }

    /// Takes `path` from the paths of `inode`.
    fn unname(&mut self, inode: Inode, path: &Path) {
        if let Some(paths) = self.paths.get_mut(&inode) {
            paths.retain(|other| **other != *path);
            if paths.is_empty() {
                self.paths.remove(&inode);
            }
        }
    }
}

#[cfg(test)]
impl Table {
    /// What is known of `path`, for the message of a failed test.
    pub(super) fn describe(&self, path: &Path) -> String {
        format!("{:?}, other names {:?}", self.entries.get(path), self.aliases(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(ino: u64) -> Inode {
        Inode { dev: 1, ino }
    }

    fn names(paths: &[Arc<Path>]) -> Vec<&str> {
        paths.iter().map(|path| path.to_str().unwrap()).collect()
    }

    fn table(paths: &[(&str, u64)]) -> Table {
        let mut table = Table::default();
        for (path, ino) in paths {
            assert_eq!(table.claim(Path::new(path), inode(*ino)), WatchClaim::New);
        }
        table
    }

    #[test]
    fn a_removal_loses_everything_below_and_nothing_beside() {
        let mut table = table(&[("/p", 1), ("/p/a", 2), ("/p/a/b", 3), ("/p/a-b", 4), ("/p/b", 5)]);
        assert_eq!(names(&table.vanish(Path::new("/p/a"))), ["/p/a", "/p/a/b"]);
        assert!(table.vanish(Path::new("/p/a")).is_empty(), "told once");
        assert!(table.vanish(Path::new("/p/none")).is_empty());
        assert_eq!((table.live(), table.lost().len()), (3, 2));
        // The same inode number is no proof that the watch is still there.
        assert_eq!(table.claim(Path::new("/p/a"), inode(2)), WatchClaim::Again);
        assert_eq!(table.claim(Path::new("/p/a"), inode(2)), WatchClaim::Kept);
        assert_eq!(table.claim(Path::new("/p/a"), inode(9)), WatchClaim::Again);
    }

    #[test]
    fn an_inode_with_two_names_is_reported_and_lost_under_both() {
        let mut table = table(&[("/a", 1), ("/a/s", 2), ("/b", 1), ("/b/t", 3), ("/c", 4)]);
        assert_eq!(names(&table.reported(Path::new("/b"))), ["/a", "/b"]);
        assert_eq!(names(&table.vanish(Path::new("/b"))), ["/a", "/a/s", "/b", "/b/t"]);
    }

    #[test]
    fn a_name_that_notify_may_still_hold_passes_its_events_on() {
        // Watched as `/old`, then renamed and watched as `/new`: until `/old` is taken away,
        // events may be reported under it, whatever became of it.
        for leave in [Table::retire, |table: &mut Table, path: &Path| _ = table.lose(path)] {
            let mut table = table(&[("/old", 1), ("/new", 1)]);
            leave(&mut table, Path::new("/old"));
            assert!(names(&table.reported(Path::new("/old"))).contains(&"/new"));
            table.forget(Path::new("/old"));
            assert!(table.reported(Path::new("/old")).is_empty());
            assert_eq!(names(&table.reported(Path::new("/new"))), ["/new"]);
        }
        // The same when `/old` is claimed for another folder, until that is confirmed.
        let mut table = table(&[("/old", 1), ("/new", 1)]);
        assert_eq!(table.claim(Path::new("/old"), inode(2)), WatchClaim::Again);
        assert_eq!(table.claim(Path::new("/old"), inode(3)), WatchClaim::Again);
        assert_eq!(names(&table.reported(Path::new("/old"))), ["/new", "/old"]);
        assert_eq!(names(&table.vanish(Path::new("/old"))), ["/new", "/old"]);
        table.confirm(Path::new("/old"));
        assert_eq!(names(&table.reported(Path::new("/old"))), ["/old"]);
        assert_eq!(names(&table.reported(Path::new("/new"))), ["/new"]);
    }

    #[test]
    fn a_retired_watch_is_silent_and_can_come_back() {
        let mut table = table(&[("/a", 1), ("/b", 2)]);
        table.retire(Path::new("/a"));
        assert!(table.reported(Path::new("/a")).is_empty());
        assert_eq!(names(&table.retired()), ["/a"]);
        assert_eq!(table.claim(Path::new("/a"), inode(1)), WatchClaim::Kept);
        table.retire(Path::new("/a"));
        assert!(table.vanish(Path::new("/a")).is_empty(), "nobody wants to know");
        assert_eq!(table.claim(Path::new("/a"), inode(1)), WatchClaim::Again, "but it is in doubt");
        assert_eq!(table.lose_all(), 2);
        table.retire(Path::new("/b"));
        assert_eq!(table.claim(Path::new("/b"), inode(2)), WatchClaim::Again);
    }

    #[test]
    fn a_missing_folder_is_told_when_it_or_a_folder_above_it_appears() {
        let mut table = table(&[("/p", 1)]);
        table.miss(Path::new("/p/a/b"), true);
        table.miss(Path::new("/p/c"), false);
        assert_eq!(table.live(), 1);
        assert!(table.appear(Path::new("/p/x")).is_empty());
        assert_eq!(names(&table.appear(Path::new("/p/a"))), ["/p/a/b"]);
        assert!(table.appear(Path::new("/p/a")).is_empty(), "told once");
        assert_eq!(names(&table.lost()), ["/p/a/b"]);
        assert_eq!(table.claim(Path::new("/p/a/b"), inode(3)), WatchClaim::Again);
        table.retire(Path::new("/p/c"));
        assert!(table.appear(Path::new("/p/c")).is_empty());
        assert_eq!(names(&table.retired()), ["/p/c"]);
    }

    #[test]
    fn tops_are_the_entries_without_a_watched_parent() {
        let mut table = table(&[("/p", 1), ("/p/a", 2), ("/p/a/b", 3), ("/q/r", 4)]);
        let tops = |table: &Table| table.tops.iter().cloned().collect::<Vec<_>>();
        assert_eq!(names(&tops(&table)), ["/p", "/q/r"]);
        table.forget(Path::new("/p/a"));
        assert_eq!(names(&tops(&table)), ["/p", "/p/a/b", "/q/r"]);
        table.forget(Path::new("/p"));
        table.forget(Path::new("/p/a/b"));
        table.forget(Path::new("/q/r"));
        assert!(table.tops.is_empty() && table.paths.is_empty() && table.len() == 0);
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_displaced() {
        let dir = tempfile::tempdir().unwrap();
        let (top, below) = (dir.path().join("top"), dir.path().join("top/below"));
        std::fs::create_dir_all(&below).unwrap();
        let mut table = Table::default();
        for path in [&top, &below] {
            table.claim(path, Inode::from(&std::fs::symlink_metadata(path).unwrap()));
        }
        assert!(table.displaced(true).is_empty());
        std::fs::rename(&below, dir.path().join("kept")).unwrap();
        std::fs::create_dir(&below).unwrap();
        assert!(table.displaced(false).is_empty());
        assert_eq!(table.displaced(true).len(), 1);
        std::fs::rename(&top, dir.path().join("other")).unwrap();
        assert_eq!(table.displaced(false).len(), 1);
        assert_eq!(table.displaced(true).len(), 2);
    }

    #[test]
    fn what_happened_while_a_folder_had_no_watch_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let [kept, missing, refused] = ["kept", "missing", "refused"].map(|n| dir.path().join(n));
        std::fs::create_dir(&kept).unwrap();
        std::fs::create_dir(&refused).unwrap();
        let mut table = Table::default();
        for path in [dir.path(), &kept] {
            table.claim(path, Inode::from(&std::fs::symlink_metadata(path).unwrap()));
        }
        table.miss(&missing, true);
        table.miss(&refused, false);
        let added = HashSet::from([dir.path()]);
        assert!(table.overlooked(&added).is_empty());
        std::fs::create_dir(&missing).unwrap();
        std::fs::rename(&kept, dir.path().join("away")).unwrap();
        let overlooked = table.overlooked(&added);
        assert_eq!(overlooked, [missing, kept].map(Arc::<Path>::from));
    }
}
