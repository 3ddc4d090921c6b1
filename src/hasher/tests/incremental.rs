//! A tree that lives on: every rescan gives what a hasher without a past would give.

use std::fs::File;

use super::*;

fn check(ground: &Ground, living: &mut Living, folders: &[&str]) -> ScanChanges {
    let folders: Vec<_> = folders.iter().map(|folder| ground.path(folder)).collect();
    let changes = living.rescan(&folders);
    assert_eq!(living.known(), ground.digest());
    changes
}

#[test]
fn the_first_scan_enters_everything_before_it_is_listed() {
    let ground = Ground::with(&["a/b/f", "c/f"]);
    let mut hasher = ground.hasher();
    let mut entered = Vec::new();
    hasher.scan(&mut |change| {
        let DirChange::Entering(path) = change else { panic!("{change:?}") };
        // A file that comes between the watch and the listing is not lost.
        fs::write(path.join("late"), "").unwrap();
        entered.push(path.to_owned());
    });
    assert_eq!(entered, ["", "a", "c", "a/b"].map(|folder| ground.root.join(folder)));
    let mut directories: Vec<_> = hasher.directories().collect();
    directories.sort();
    entered.sort();
    assert_eq!(directories, entered);
    assert_eq!(known(&hasher), ground.digest());
}

#[test]
fn only_what_changed_is_counted_and_read() {
    let ground = Ground::with(&["a/1", "a/2", "b/1", "b/2"]);
    let mut hasher = ground.hasher();
    hasher.probe.settled = Some(true);
    let mut living = Living::new(hasher);
    let nothing = living.rescan(&[ground.path("a"), ground.path("b")]);
    assert_eq!(nothing, ScanChanges::default());
    ground.write("a/1", "one");
    ground.write("a/3", "three");
    ground.remove("b/2");
    let changes = living.rescan(&[ground.path("a"), ground.path("b")]);
    let expected = ScanChanges {
        added: 1,
        removed: 1,
        modified: 1,
        read_files: 2,
        read_bytes: 8,
        ..ScanChanges::default()
    };
    assert_eq!(changes, expected);
    ground.set_executable("b/1", true);
    assert_eq!(living.rescan(&[ground.path("b")]).modified, 1);
    let file = File::options().write(true).open(ground.path("a/2")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let touched = living.rescan(&[ground.path("a")]);
    assert_eq!((touched.touched, touched.modified, touched.is_empty()), (1, 0, false));
}

#[test]
fn a_young_file_is_read_again_because_its_stamp_proves_nothing() {
    let ground = Ground::with(&["f"]);
    let mut hasher = ground.hasher();
    let mut living = {
        hasher.probe.settled = Some(false);
        Living::new(hasher)
    };
    assert_eq!(living.rescan(std::slice::from_ref(&ground.root)).read_files, 1);
    living.hasher.probe.settled = Some(true);
    assert_eq!(living.rescan(std::slice::from_ref(&ground.root)).read_files, 1);
    assert_eq!(living.rescan(std::slice::from_ref(&ground.root)).read_files, 0);
}

#[test]
fn a_file_of_the_future_is_never_trusted() {
    let ground = Ground::with(&["f"]);
    let file = File::options().write(true).open(ground.path("f")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    file.set_modified(later).unwrap();
    let mut hasher = ground.hasher();
    hasher.probe.settled = None;
    let mut living = Living::new(hasher);
    assert_eq!(living.rescan(std::slice::from_ref(&ground.root)).read_files, 1);
}

#[test]
fn a_file_restored_with_its_old_time_and_size_is_caught_by_its_inode_or_ctime() {
    let ground = Ground::with(&["f", "g"]);
    let mut hasher = ground.hasher();
    hasher.probe.settled = Some(true);
    let mut living = Living::new(hasher);
    let before = living.known();
    for (name, in_place) in [("f", true), ("g", false)] {
        let time = ground.path(name).metadata().unwrap().modified().unwrap();
        if !in_place {
            ground.write("new", "X");
            ground.rename("new", name);
        }
        ground.write(name, "X");
        File::options().write(true).open(ground.path(name)).unwrap().set_modified(time).unwrap();
        living.rescan(std::slice::from_ref(&ground.root));
        assert_ne!(living.known(), before, "{name}");
        assert_eq!(living.known(), ground.digest());
    }
}

#[test]
fn files_with_several_names_are_looked_at_although_nobody_told() {
    let ground = Ground::with(&["a/f"]);
    fs::hard_link(ground.path("a/f"), ground.beside("other")).unwrap();
    let mut hasher = ground.hasher();
    hasher.probe.settled = Some(true);
    let mut living = Living::new(hasher);
    fs::write(ground.beside("other"), "through the other name").unwrap();
    check(&ground, &mut living, &[]);
    fs::remove_file(ground.beside("other")).unwrap();
    check(&ground, &mut living, &["a"]);
    assert!(living.hasher.shared.is_empty());
}

#[test]
fn a_look_at_every_file_lists_only_the_folders_of_those_that_changed() {
    let ground = Ground::with(&["a/f", "b/f", "c/.gitignore", "c/g"]);
    ground.write("c/.gitignore", "*\n!h\n");
    let mut hasher = ground.hasher();
    hasher.probe.settled = Some(true);
    let mut living = Living::new(hasher);
    assert_eq!(living.rescan_files(&[]), ScanChanges::default());
    ground.write("b/f", "longer than before");
    let changes = living.rescan_files(&[]);
    assert_eq!((changes.modified, changes.read_files), (1, 1));
    assert_eq!(living.known(), ground.digest());
    // An ignore file that ignores itself is in no listing.
    ground.write("c/h", "");
    ground.write("c/.gitignore", "*\n!h\n!g\n");
    living.rescan_files(&[]);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn ignore_file_edits_show_and_hide_files_and_folders() {
    let ground = Ground::with(&["gen/deep/f", "gen/g", "src/x.log", "src/lib.rs"]);
    ground.write(".gitignore", "gen\n");
    let mut living = Living::new(ground.hasher());
    let with_log = living.known();
    ground.write(".gitignore", "*.log\n");
    let changes = check(&ground, &mut living, &[""]);
    assert_eq!((changes.folders_added, changes.folders_removed), (2, 0));
    assert!(!living.hasher.counts(&ground.path("src/x.log")));
    ground.write(".gitignore", "gen\n");
    let changes = check(&ground, &mut living, &[""]);
    assert_eq!((changes.folders_added, changes.folders_removed), (0, 2));
    assert_eq!(living.known(), with_log);
    // Deeper, by a rename, and gone.
    ground.write("src/new", "*.rs\n");
    ground.rename("src/new", "src/.gitignore");
    check(&ground, &mut living, &["src"]);
    assert!(!living.hasher.counts(&ground.path("src/lib.rs")));
    ground.remove("src/.gitignore");
    check(&ground, &mut living, &["src"]);
    assert_eq!(living.known(), with_log);
}

#[test]
fn a_folder_that_is_renamed_is_told_gone_before_it_is_entered() {
    let ground = Ground::with(&["a/in/f", "a/g", "z"]);
    let mut hasher = ground.hasher();
    hasher.probe.settled = Some(true);
    let mut living = Living::new(hasher);
    ground.rename("a", "b");
    let changes = check(&ground, &mut living, &[""]);
    assert_eq!(changes.read_files, 0, "known by its inode");
    let told = ["a", "a/in", "b", "b/in"].map(|folder| ground.path(folder));
    let told: Vec<_> =
        ["removed", "removed", "entering", "entering"].into_iter().zip(told).collect();
    assert_eq!(living.watches.told, told);
}

#[test]
fn a_folder_moved_into_a_new_one_is_told_gone_although_its_old_place_is_not_listed() {
    let ground = Ground::with(&["old/a/in/f", "z"]);
    let mut living = Living::new(ground.hasher());
    ground.mkdir("new/deep");
    ground.rename("old/a", "new/deep/a");
    // Only the event of `mkdir` has come so far. The watches complain if the same folder is
    // entered while it is still watched in its old place.
    check(&ground, &mut living, &[""]);
    check(&ground, &mut living, &["old", "new"]);
}

#[test]
fn folders_that_change_places_are_told_apart() {
    let ground = Ground::with(&["a/f", "a/sub/x", "b/g"]);
    let mut living = Living::new(ground.hasher());
    ground.rename("a", "c");
    ground.rename("b", "a");
    ground.rename("c", "b");
    check(&ground, &mut living, &[""]);
    ground.rename("a", "b/sub/a");
    check(&ground, &mut living, &["", "b/sub"]);
}

#[test]
fn a_folder_replaced_by_another_of_the_same_name_is_entered_anew() {
    let ground = Ground::with(&["a/f", "a/sub/g", "z"]);
    let mut living = Living::new(ground.hasher());
    for _ in 0..20 {
        // Inode numbers come back at once on some file systems.
        ground.remove("a");
        ground.write("a/sub/g", "again");
        check(&ground, &mut living, &[""]);
        assert!(living.watches.told.contains(&("entering", ground.path("a"))));
    }
    // Seen by a scan of everything as well, and by the folder's own rescan.
    ground.remove("a");
    ground.write("a/sub/h", "");
    living.scan();
    assert_eq!(living.known(), ground.digest());
    ground.remove("a");
    ground.write("a/f", "");
    check(&ground, &mut living, &["a"]);
    ground.remove("a");
    ground.write("a", "a file now");
    check(&ground, &mut living, &["a"]);
}

#[test]
fn a_path_that_is_not_in_the_tree_stands_for_what_is_above_it() {
    let ground = Ground::with(&["a/f"]);
    let mut living = Living::new(ground.hasher());
    ground.write("a/new/deep/er/f", "");
    check(&ground, &mut living, &["a/new/deep"]);
    ground.remove("a");
    check(&ground, &mut living, &["a/new/deep/er"]);
    living.rescan(&[PathBuf::from("/nowhere/at/all"), PathBuf::from("/")]);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn the_root_may_vanish_and_come_back() {
    let ground = Ground::with(&["a/f"]);
    // Whether it is a repository is looked at in every scan.
    fs::remove_dir_all(ground.path(".git")).unwrap();
    let mut living = Living::new(ground.hasher());
    let before = living.known();
    fs::rename(&ground.root, ground.beside("away")).unwrap();
    let changes = living.hasher.rescan(&BTreeSet::new(), &mut |change| living.watches.take(change));
    assert!(changes.is_empty(), "nobody told");
    let told = ground.root.parent().unwrap().to_owned();
    living.hasher.rescan(&[told].into(), &mut |change| living.watches.take(change));
    assert!(unknown(&living.hasher)[0].contains("No such file"));
    fs::rename(ground.beside("away"), &ground.root).unwrap();
    living.rescan(&[]);
    assert_eq!(living.known(), before);
    // Another one in its place.
    fs::rename(&ground.root, ground.beside("away")).unwrap();
    ground.write("b", "");
    check(&ground, &mut living, &[""]);
}

#[test]
fn changed_since_a_mark_tells_edits_that_were_undone() {
    let ground = Ground::with(&["a/f", "a/g", "b/sub/x", "gone/x"]);
    let mut hasher = ground.hasher();
    hasher.probe.settled = Some(true);
    let mut living = Living::new(hasher);
    let (mark, digest) = (living.hasher.mark(), living.known());
    living.scan();
    assert!(living.hasher.changed_since(mark).is_empty());
    ground.write("a/f", "other");
    ground.write("a/f", "a/f");
    living.scan();
    assert_eq!(living.known(), digest);
    assert_eq!(living.hasher.changed_since(mark), [ground.path("a/f")]);
    let later = living.hasher.mark();
    ground.remove("gone");
    ground.remove("a/g");
    ground.write("b/new/y", "");
    living.rescan(&[ground.path("a"), ground.path("b"), ground.root.clone()]);
    let expected = ["a/g", "b/new", "b/new/y", "gone"].map(|path| ground.path(path));
    assert_eq!(living.hasher.changed_since(later), expected);
    assert_eq!(living.hasher.changed_since(mark).len(), 5);
    assert!(living.hasher.changed_since(living.hasher.mark()).is_empty());
}

#[test]
fn a_folder_that_counts_no_more_is_told_though_it_is_still_walked() {
    let ground = Ground::with(&["f"]);
    ground.mkdir("gen/empty");
    let options = Options { extra_inputs: vec!["gen/**/b".to_owned()], ..ground.options() };
    let mut living = Living::new(ground.hasher_with(options));
    for rule in ["/empty\n", ""] {
        let mark = living.hasher.mark();
        ground.write("gen/.gitignore", rule);
        living.rescan(&[ground.path("gen")]);
        let changed = living.hasher.changed_since(mark);
        assert_eq!(changed, [ground.path("gen/.gitignore"), ground.path("gen/empty")]);
        assert!(living.hasher.walks(&ground.path("gen/empty")));
        assert_eq!(living.hasher.counts(&ground.path("gen/empty")), rule.is_empty());
    }
}

#[test]
fn more_removals_than_are_remembered_become_the_root() {
    let ground = Ground::new();
    for at in 0..super::super::REMOVAL_HISTORY + 10 {
        ground.write(&format!("{at}"), "");
    }
    let mut living = Living::new(ground.hasher());
    let mark = living.hasher.mark();
    for at in 0..super::super::REMOVAL_HISTORY + 10 {
        ground.remove(&format!("{at}"));
    }
    living.scan();
    assert!(living.hasher.changed_since(mark).contains(&ground.root));
    assert!(living.hasher.changed_since(living.hasher.mark()).is_empty());
}

#[test]
fn manifests_and_their_digest() {
    let ground = Ground::with(&["Cargo.toml", "Cargo.lock", "b/Cargo.toml", "b/src/lib.rs"]);
    let mut living = Living::new(ground.hasher());
    assert_eq!(living.hasher.manifests(), [ground.path("Cargo.toml"), ground.path("b/Cargo.toml")]);
    let mut last = living.hasher.manifests_digest();
    ground.write("b/src/lib.rs", "other");
    living.scan();
    assert_eq!(living.hasher.manifests_digest(), last);
    for file in ["b/Cargo.toml", "Cargo.lock", ".cargo/config.toml", "b/.cargo/config"] {
        ground.write(file, "other");
        living.scan();
        assert_ne!(std::mem::replace(&mut last, living.hasher.manifests_digest()), last, "{file}");
        last = living.hasher.manifests_digest();
    }
}

#[test]
fn a_list_of_files_tells_two_snapshots_apart() {
    use super::super::manifest::FileDifference;
    use super::super::{FileChange, Manifest};
    let ground = Ground::with(&["a/f", "a/g", "run", "old"]);
    fs::write(ground.beside("outside"), "1").unwrap();
    ground.link("../outside", "link");
    let mut living = Living::new(ground.hasher());
    let before = Manifest::from_bytes(living.hasher.manifest().as_bytes().to_vec()).unwrap();
    ground.write("a/f", "edited");
    ground.set_executable("run", true);
    ground.remove("old");
    ground.write("a-b/new", "");
    ground.mkdir("empty");
    fs::write(ground.beside("outside"), "2").unwrap();
    living.scan();
    let told = before.diff(&living.hasher.manifest());
    let expected = [
        ("a/f", FileDifference::Modified),
        ("a-b/new", FileDifference::Added),
        ("empty", FileDifference::Added),
        ("link", FileDifference::Modified),
        ("old", FileDifference::Removed),
        ("run", FileDifference::Mode),
    ];
    let expected = expected.map(|(path, difference)| FileChange { path: path.into(), difference });
    assert_eq!(told, expected);
}

/// What becomes of watches in the kernel: one for each folder, whatever paths it was asked for
/// under; dropped for all of them if one is.
#[derive(Default)]
struct Kernel {
    asked: std::collections::HashMap<PathBuf, (u64, std::time::SystemTime)>,
    watched: std::collections::HashSet<(u64, std::time::SystemTime)>,
}

impl Kernel {
    fn identity(path: &Path) -> Option<(u64, std::time::SystemTime)> {
        let meta = fs::symlink_metadata(path).ok()?;
        Some((meta.ino(), meta.created().ok()?))
    }

    fn take(&mut self, change: DirChange<'_>) {
        match change {
            DirChange::Entering(path) => {
                if let Some(identity) = Self::identity(path) {
                    self.asked.insert(path.to_owned(), identity);
                    self.watched.insert(identity);
                }
            }
            DirChange::Removed(path) => {
                let identity = self.asked.remove(path);
                self.watched.retain(|watched| Some(*watched) != identity);
            }
        }
    }
}

#[test]
fn a_folder_that_is_swapped_while_it_is_entered_is_watched_in_the_end() {
    for replaced in [false, true] {
        let ground = Ground::with(&["f"]);
        let mut kernel = Kernel::default();
        let mut hasher = ground.hasher();
        if replaced {
            ground.write("a/old/x", "");
            hasher.scan(&mut |change| kernel.take(change));
            ground.rename("a", "gone");
        }
        ground.write("a/in/one", "");
        ground.write("other/in/two", "");
        let mut swapped = false;
        hasher.rescan(&[ground.root.clone()].into(), &mut |change| {
            kernel.take(change);
            if change == DirChange::Entering(&ground.path("a")) && !swapped {
                swapped = true;
                ground.rename("a", "b");
                ground.rename("other", "a");
            }
        });
        hasher.rescan(&[ground.root.clone()].into(), &mut |change| kernel.take(change));
        assert!(swapped && hasher.counts(&ground.path("a/in/two")));
        for folder in hasher.directories() {
            assert!(kernel.watched.contains(&Kernel::identity(&folder).unwrap()), "{folder:?}");
        }
        assert_eq!(known(&hasher), ground.digest());
    }
}

/// A folder is moved, another one comes to its old place, and only then that place is found to be
/// another's: what goes then is the watch of the one that was moved.
#[test]
fn a_moved_folder_keeps_its_watch_when_its_old_place_is_taken() {
    let ground = Ground::with(&["a/x/old", "c/d/f", "c/.gitignore"]);
    let mut kernel = Kernel::default();
    let mut hasher = ground.hasher();
    hasher.scan(&mut |change| kernel.take(change));
    ground.rename("a/x", "gone");
    ground.rename("c/d", "a/x");
    let (rules, place) = (ground.path("c/.gitignore"), ground.path("c/d"));
    hasher.probe.during =
        Some(std::sync::Arc::new(
            move |path| {
                if path == rules { fs::create_dir_all(&place) } else { Ok(()) }
            },
        ));
    // `c/d` is missing when it is listed, and there again when `c` is asked what became of it.
    hasher.rescan(&[ground.path("a/x"), ground.path("c/d")].into(), &mut |c| kernel.take(c));
    hasher.rescan(&[ground.path("c/d")].into(), &mut |change| kernel.take(change));
    for folder in [ground.path("a/x"), ground.path("c/d")] {
        assert!(hasher.directories().any(|known| known == folder), "{folder:?}");
        assert!(kernel.watched.contains(&Kernel::identity(&folder).unwrap()), "{folder:?}");
    }
    hasher.rescan(&[ground.root.clone()].into(), &mut |change| kernel.take(change));
    assert_eq!(known(&hasher), ground.digest());
}

#[test]
fn edits_during_scans_are_survived_and_found_in_the_end() {
    let ground = Ground::with(&["a/f", "b/g", "c/d/h"]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut hasher = ground.hasher();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Few names, so that moves meet; errors are as good as edits.
            let mut state = 7_usize;
            let mut pick = |from: &[&str]| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ground.path(from[(state >> 33) % from.len()])
            };
            let folders = ["a", "b", "c", "c/d", "a/x", "b/x/y", "c/d/x"];
            let files = ["a/f", "b/g", "a/x/f", "b/x/y/g", ".gitignore", "c/.gitignore"];
            for turn in 0..1_500 {
                let _ = match turn % 4 {
                    0 => fs::create_dir_all(pick(&folders)),
                    1 => fs::rename(pick(&folders), pick(&folders)),
                    2 => fs::write(pick(&files), if turn % 3 == 0 { "x\n" } else { "" }),
                    _ => fs::remove_file(pick(&files)),
                };
            }
            stop.store(true, std::sync::atomic::Ordering::Release);
        });
        let (mut turn, mut kernel) = (0, Kernel::default());
        while !stop.load(std::sync::atomic::Ordering::Acquire) {
            turn += 1;
            let folders: BTreeSet<_> = hasher.directories().skip(turn % 2).step_by(2).collect();
            if turn % 3 == 0 {
                hasher.scan(&mut |change| kernel.take(change));
            } else {
                hasher.rescan(&folders, &mut |change| kernel.take(change));
            }
            let _ = hasher.snapshot();
        }
        hasher.scan(&mut |change| kernel.take(change));
        for folder in hasher.directories() {
            assert!(kernel.watched.contains(&Kernel::identity(&folder).unwrap()), "{folder:?}");
        }
    });
    assert_eq!(known(&hasher), ground.digest());
    let walked: BTreeSet<_> = hasher.directories().collect();
    assert_eq!(walked.len(), hasher.live.len(), "no folder is left over");
}

#[test]
fn what_is_written_through_a_second_name_changes_the_first_one_too() {
    let ground = Ground::with(&["a/first", "b/other"]);
    let mut hasher = ground.hasher();
    // Settled, or every scan would read them again in any case.
    hasher.probe.settled = Some(true);
    let mut living = Living::new(hasher);
    fs::hard_link(ground.path("a/first"), ground.path("b/second")).unwrap();
    // Only the new name's folder is told.
    check(&ground, &mut living, &["b"]);
    ground.write("b/second", "through");
    assert_eq!(check(&ground, &mut living, &["b"]).modified, 2);
}
