//! The smallest caller that is right, and random edits that try to prove it wrong.

use super::*;
use crate::watcher::table::Inode;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt as _, symlink};

/// What a listing keeps of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Vec<u8>, u32),
    Link(PathBuf),
}

type Listing = BTreeMap<OsString, Entry>;

/// What is in `dir`; `None` if it is not a folder. Entries that vanish meanwhile are left out:
/// an event tells of them.
fn list(dir: &Path) -> Option<Listing> {
    if !fs::symlink_metadata(dir).ok()?.is_dir() {
        return None;
    }
    let mut listing = Listing::new();
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let kept = if metadata.is_dir() {
            Some(Entry::Folder)
        } else if metadata.is_symlink() {
            fs::read_link(&path).ok().map(Entry::Link)
        } else {
            fs::read(&path).ok().map(|bytes| Entry::File(bytes, metadata.mode()))
        };
        listing.extend(kept.map(|kept| (entry.file_name(), kept)));
    }
    Some(listing)
}

/// Everything below `dir`, without any watch.
fn fresh(dir: &Path, all: &mut BTreeMap<PathBuf, Listing>) {
    let Some(listing) = list(dir) else { return };
    for (name, entry) in &listing {
        if *entry == Entry::Folder {
            fresh(&dir.join(name), all);
        }
    }
    all.insert(dir.to_path_buf(), listing);
}

/// Keeps a listing of a tree by the rules of the module's documentation.
struct Caller {
    root: PathBuf,
    seen: BTreeMap<PathBuf, Listing>,
    again: BTreeSet<PathBuf>,
    everything: bool,
    renew: bool,
}

impl Caller {
    fn new(root: &Path, watcher: &mut FileWatcher) -> Self {
        let root = root.to_path_buf();
        let mut caller = Self {
            root: root.clone(),
            seen: BTreeMap::new(),
            again: BTreeSet::new(),
            everything: false,
            renew: false,
        };
        caller.enter(&root, watcher);
        caller
    }

    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Changed { dir, .. } => _ = self.again.insert(dir),
            WatchEvent::Gone(dir) => {
                self.renew = true;
                self.again.extend(dir.parent().map(Path::to_path_buf));
                self.again.insert(dir);
            }
            WatchEvent::Rescan => (self.renew, self.everything) = (true, true),
            WatchEvent::Cookie(_) => {}
            WatchEvent::Failed(why) => panic!("{why}"),
        }
    }

    /// Deals with everything that was taken.
    fn settle(&mut self, watcher: &mut FileWatcher) {
        if std::mem::take(&mut self.renew) {
            watcher.renew();
        }
        let again = std::mem::take(&mut self.again);
        if std::mem::take(&mut self.everything) {
            let root = self.root.clone();
            self.leave(&root, watcher);
            self.enter(&root, watcher);
            return;
        }
        for dir in again {
            self.relist(&dir, watcher);
        }
    }

    fn enter(&mut self, dir: &Path, watcher: &mut FileWatcher) {
        let watched = watcher.watch(dir);
        let Some(listing) = list(dir) else { return };
        if let Err(why) = watched {
            // Made again between the two; the folder above tells.
            assert!(matches!(why, WatchError::Missing | WatchError::NotAFolder), "{why}");
        }
        self.seen.insert(dir.to_path_buf(), listing.clone());
        for (name, entry) in listing {
            if entry == Entry::Folder {
                self.enter(&dir.join(name), watcher);
            }
        }
    }

    fn leave(&mut self, dir: &Path, watcher: &mut FileWatcher) {
        let below: Vec<_> = self.seen.keys().filter(|d| d.starts_with(dir)).cloned().collect();
        for dir in below {
            self.seen.remove(&dir);
            watcher.unwatch(&dir);
        }
    }

    fn relist(&mut self, dir: &Path, watcher: &mut FileWatcher) {
        let Some(before) = self.seen.get(dir).cloned() else { return };
        let Some(after) = list(dir) else { return self.leave(dir, watcher) };
        self.seen.insert(dir.to_path_buf(), after.clone());
        for (name, entry) in &before {
            if *entry == Entry::Folder && after.get(name) != Some(&Entry::Folder) {
                self.leave(&dir.join(name), watcher);
            }
        }
        for (name, entry) in &after {
            let below = dir.join(name);
            if *entry == Entry::Folder && !self.seen.contains_key(&below) {
                self.enter(&below, watcher);
            }
        }
    }

    /// Waits for the barrier, deals with what came before it, and compares.
    fn ask(&mut self, rig: &mut Rig) -> Result<(), String> {
        for _ in 0..5 {
            for event in rig.barrier() {
                self.take(event);
            }
            self.settle(&mut rig.watcher);
            if !rig.watcher.in_doubt() {
                break;
            }
        }
        let mut now = BTreeMap::new();
        fresh(&self.root, &mut now);
        if self.seen == now {
            return Ok(());
        }
        let differ = |dir: &&PathBuf| self.seen.get(*dir) != now.get(*dir);
        let dirs: BTreeSet<_> = self.seen.keys().chain(now.keys()).filter(differ).collect();
        let state = rig.watcher.shared.lock();
        let inode = |dir: &Path| fs::symlink_metadata(dir).map(|now| Inode::from(&now)).ok();
        let of = |dir: &PathBuf| (dir.clone(), state.table.describe(dir), inode(dir));
        let dirs: Vec<_> = dirs.into_iter().map(of).collect();
        Err(format!("stale: {dirs:?}\nseen: {:?}\nnow: {now:?}", self.seen))
    }
}

/// Something that a developer, an editor or git does.
#[derive(Clone, Debug)]
enum Edit {
    Write(String, u8),
    Save(String, u8),
    Executable(String),
    Folders(String),
    Remove(String),
    Rename(String, String),
    Replace(String),
    Link(String, String),
}

impl Edit {
    /// Does it, if it can be done: half of the random ones cannot.
    fn apply(&self, root: &Path) {
        let at = |path: &str| root.join(path);
        match self {
            Self::Write(path, content) => _ = fs::write(at(path), [*content]),
            Self::Save(path, content) => {
                let temporary = at(path).with_extension("tmp");
                if fs::write(&temporary, [*content]).is_ok()
                    && fs::rename(&temporary, at(path)).is_err()
                {
                    let _ = fs::remove_file(&temporary);
                }
            }
            Self::Executable(path) => {
                use std::os::unix::fs::PermissionsExt as _;
                if let Ok(metadata) = fs::symlink_metadata(at(path))
                    && metadata.is_file()
                {
                    let mode = metadata.mode() ^ 0o100;
                    let _ = fs::set_permissions(at(path), fs::Permissions::from_mode(mode));
                }
            }
            Self::Folders(path) => {
                let _ = fs::create_dir_all(at(path));
                let _ = fs::write(at(path).join("deep"), "deep");
            }
            Self::Remove(path) => {
                let _ = fs::remove_dir_all(at(path));
                let _ = fs::remove_file(at(path));
            }
            Self::Rename(from, to) => _ = fs::rename(at(from), at(to)),
            Self::Replace(path) => {
                let _ = fs::remove_dir_all(at(path));
                let _ = fs::create_dir_all(at(path).join("a"));
            }
            Self::Link(to, path) => _ = symlink(to, at(path)),
        }
    }
}

/// Few names and little depth, so that edits meet each other.
fn path() -> impl Strategy<Value = String> {
    "[abc](/[abc]){0,2}"
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => (path(), any::<u8>()).prop_map(|(path, content)| Edit::Write(path, content)),
        1 => (path(), any::<u8>()).prop_map(|(path, content)| Edit::Save(path, content)),
        1 => path().prop_map(Edit::Executable),
        3 => path().prop_map(Edit::Folders),
        1 => path().prop_map(Edit::Remove),
        4 => (path(), path()).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => path().prop_map(Edit::Replace),
        1 => (path(), path()).prop_map(|(to, path)| Edit::Link(to, path)),
    ]
}

/// What the caller does between two edits.
#[derive(Clone, Copy, Debug)]
enum Pace {
    /// Nothing: the edits pile up.
    Sleep,
    /// Takes what came so far and deals with it, in the middle of things.
    Settle,
    /// Asks, and must know the tree as it is.
    Ask,
    /// Looks everywhere before it has received anything.
    Walk,
}

fn pace() -> impl Strategy<Value = Pace> {
    prop_oneof![
        5 => Just(Pace::Sleep),
        2 => Just(Pace::Settle),
        2 => Just(Pace::Ask),
        1 => Just(Pace::Walk),
    ]
}

/// Few cases by default, because each makes a tree; `PROPTEST_CASES` asks for more. No files of
/// failures: what fails here depends on the moment more than on the edits.
fn config() -> ProptestConfig {
    let asked = Environment::inherited().get("PROPTEST_CASES").is_some();
    let few = ProptestConfig::with_cases(24);
    let cases = if asked { ProptestConfig::default().cases } else { few.cases };
    ProptestConfig { cases, max_shrink_iters: 100, failure_persistence: None, ..few }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_reference_caller_always_knows_the_tree(
        steps in proptest::collection::vec((edit(), pace()), 1..80),
    ) {
        let mut rig = Rig::new();
        let root = rig.tree.path().to_path_buf();
        let mut caller = Caller::new(&root, &mut rig.watcher);
        for (edit, pace) in steps {
            edit.apply(&root);
            match pace {
                Pace::Sleep => {}
                Pace::Settle => {
                    while let Ok(event) = rig.events.try_recv() {
                        caller.take(event);
                    }
                    caller.settle(&mut rig.watcher);
                }
                Pace::Ask => prop_assert_eq!(caller.ask(&mut rig), Ok(())),
                Pace::Walk => caller.enter(&root, &mut rig.watcher),
            }
        }
        prop_assert_eq!(caller.ask(&mut rig), Ok(()));
        // And nothing that is there has lost its watch without a word.
        let folders: Vec<_> = caller.seen.keys().cloned().collect();
        for folder in folders {
            fs::write(folder.join("probe"), "x").unwrap();
        }
        prop_assert_eq!(caller.ask(&mut rig), Ok(()));
    }

    /// The edits go on while the caller deals with the events of earlier ones.
    #[test]
    fn edits_at_the_same_time_are_not_missed(
        edits in proptest::collection::vec(edit(), 100..400),
        asks in 1usize..20,
    ) {
        let mut rig = Rig::with_channel(4);
        let root = rig.tree.path().to_path_buf();
        let mut caller = Caller::new(&root, &mut rig.watcher);
        let editor = {
            let root = root.clone();
            std::thread::spawn(move || edits.iter().for_each(|edit| edit.apply(&root)))
        };
        for _ in 0..asks {
            // The tree moves on while it is compared: only the last answer must be right.
            let _ = caller.ask(&mut rig);
        }
        editor.join().unwrap();
        prop_assert_eq!(caller.ask(&mut rig), Ok(()));
        let folders: Vec<_> = caller.seen.keys().cloned().collect();
        for folder in folders {
            fs::write(folder.join("probe"), "x").unwrap();
        }
        prop_assert_eq!(caller.ask(&mut rig), Ok(()));
    }
}

#[test]
fn a_checkout_of_thousands_of_files_is_known_afterwards() {
    let mut rig = Rig::new();
    let root = rig.tree.path().to_path_buf();
    let write = |version: &str| {
        for n in 0..2100 {
            // Git removes the file and creates it anew; folders come and go with their files.
            let dir =
                root.join(format!("crate-{}/{}", n % 30, if n % 2 == 0 { version } else { "src" }));
            fs::create_dir_all(&dir).unwrap();
            let file = dir.join(format!("file-{n}"));
            let _ = fs::remove_file(&file);
            fs::write(&file, format!("{version} {n}")).unwrap();
        }
    };
    write("one");
    let mut caller = Caller::new(&root, &mut rig.watcher);
    assert_eq!(caller.ask(&mut rig), Ok(()));
    write("two");
    for n in (0..30).step_by(2) {
        fs::remove_dir_all(root.join(format!("crate-{n}/one"))).unwrap();
    }
    assert_eq!(caller.ask(&mut rig), Ok(()));
    assert_eq!(rig.watcher.watched(), 1 + 30 + 30);
}
