//! Folders that are renamed, removed, replaced: no watch ends without a word.

use super::*;

/// Expects that a write into `folder` is reported as one there.
fn assert_alive(rig: &mut Rig, folder: &Path) {
    rig.barrier();
    fs::write(folder.join("probe"), "x").unwrap();
    let changed = rig.changed();
    assert!(changed.contains(folder), "no watch on `{}`: {changed:?}", folder.display());
}

#[test]
fn a_renamed_folder_stays_watched_when_the_new_path_is_watched_first() {
    let mut rig = Rig::new();
    let [old, below] = rig.watched(["old", "old/below"]);
    let new = rig.at("new");
    fs::rename(&old, &new).unwrap();
    // Before any event is received, the kernel gives both paths the same watch.
    assert_eq!(rig.watcher.watch_all([&new, &new.join("below")]), []);
    rig.watcher.unwatch(&old);
    rig.watcher.unwatch(&below);
    rig.barrier();
    rig.renewed();
    assert_alive(&mut rig, &new);
    assert_alive(&mut rig, &new.join("below"));
    assert_eq!(rig.watcher.watched(), 3);
}

#[test]
fn a_renamed_folder_stays_watched_when_the_old_path_is_unwatched_first() {
    let mut rig = Rig::new();
    let [old, below] = rig.watched(["old", "old/below"]);
    let new = rig.at("new");
    fs::rename(&old, &new).unwrap();
    rig.watcher.unwatch(&below);
    rig.watcher.unwatch(&old);
    assert_eq!(rig.watcher.watch_all([&new, &new.join("below")]), []);
    rig.barrier();
    rig.renewed();
    assert_alive(&mut rig, &new);
    assert_alive(&mut rig, &new.join("below"));
}

#[test]
fn a_rename_is_told_for_everything_below_and_can_be_undone() {
    let mut rig = Rig::new();
    let [a, below] = rig.watched(["a", "a/below"]);
    fs::rename(&a, rig.at("b")).unwrap();
    fs::rename(rig.at("b"), &a).unwrap();
    // The same inodes at the same paths: without a word the caller would not look again.
    let events = rig.barrier();
    assert_eq!(gone(&events), [&a, &below]);
    rig.renewed();
    assert_alive(&mut rig, &a);
    assert_alive(&mut rig, &below);
}

#[test]
fn folders_that_change_places_are_both_told() {
    let mut rig = Rig::new();
    let [a, b] = rig.watched(["a", "b"]);
    let temporary = rig.at("temporary");
    fs::rename(&a, &temporary).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(&temporary, &b).unwrap();
    // As a scan that runs at the same moment would.
    assert_eq!(rig.watcher.watch_all([&a, &b]), []);
    let events = rig.barrier();
    assert!(gone(&events).contains(&&*a) && gone(&events).contains(&&*b), "{events:?}");
    rig.renewed();
    assert_alive(&mut rig, &a);
    assert_alive(&mut rig, &b);
}

#[test]
fn a_folder_that_is_removed_and_made_again_is_told_even_with_the_same_inode() {
    let mut rig = Rig::new();
    let [a, below] = rig.watched(["a", "a/below"]);
    for round in 0..50 {
        fs::remove_dir_all(&a).unwrap();
        fs::create_dir_all(&below).unwrap();
        if round % 2 == 0 {
            // A caller that looks before it has received anything.
            assert_eq!(rig.watcher.watch_all([&a, &below]), []);
        }
        let events = rig.barrier();
        for folder in [&a, &below] {
            // A claim of the new inode may have come first, and is in doubt all the same.
            assert!(round % 2 == 0 || gone(&events).contains(&&**folder), "{events:?}");
        }
        rig.renewed();
        assert_alive(&mut rig, &a);
        assert_alive(&mut rig, &below);
        rig.renewed();
    }
}

#[test]
fn a_folder_that_is_replaced_by_a_rename_is_told_even_while_it_is_open() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    let open = fs::File::open(&a).unwrap();
    fs::create_dir(rig.at("new")).unwrap();
    rig.barrier();
    fs::rename(rig.at("new"), &a).unwrap();
    let events = rig.barrier();
    assert_eq!(gone(&events), [&a]);
    rig.renewed();
    assert_alive(&mut rig, &a);
    // The late end of the old folder is no end of the new one.
    drop(open);
    rig.barrier();
    rig.renewed();
    assert_alive(&mut rig, &a);
}

#[test]
fn a_vanished_folder_can_be_unwatched_and_comes_back() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    fs::remove_dir(&a).unwrap();
    rig.watcher.unwatch(&a);
    rig.barrier();
    assert_eq!(rig.watcher.renew(), []);
    assert_eq!(rig.watcher.watch(&a), Err(WatchError::Missing));
    fs::create_dir(&a).unwrap();
    rig.watcher.watch(&a).unwrap();
    assert_alive(&mut rig, &a);
}

#[test]
fn a_folder_that_was_missing_when_it_was_asked_for_is_told_when_it_appears() {
    let mut rig = Rig::new();
    rig.watched(["a"]);
    let [b, c] = [rig.at("b"), rig.at("c/d/e")];
    for folder in [&b, &c] {
        assert_eq!(rig.watcher.watch(folder), Err(WatchError::Missing));
        fs::create_dir_all(folder).unwrap();
        // A caller that lists it now has a listing without a watch.
        assert_eq!(gone(&rig.barrier()), [folder]);
        rig.renewed();
        assert_alive(&mut rig, folder);
    }
    // One that appeared after the look that did not find it and before that was noted.
    let between = rig.at("between");
    fs::create_dir(&between).unwrap();
    rig.barrier();
    rig.watcher.refuse(&between, &WatchError::Missing);
    rig.watcher.watch(&rig.at("a")).unwrap();
    assert_eq!(gone(&rig.barrier()), [&between]);
    rig.renewed();
    assert_alive(&mut rig, &between);
}

#[test]
fn a_folder_that_becomes_a_file_or_a_link_is_not_watched_any_more() {
    let mut rig = Rig::new();
    let [a, b] = rig.watched(["a", "b"]);
    fs::remove_dir(&a).unwrap();
    fs::write(&a, "").unwrap();
    fs::remove_dir(&b).unwrap();
    std::os::unix::fs::symlink("a", &b).unwrap();
    let events = rig.barrier();
    assert_eq!(gone(&events), [&a, &b]);
    let failed = rig.watcher.renew();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|failed| failed.why == WatchError::NotAFolder), "{failed:?}");
    assert_eq!(rig.watcher.renew(), [], "told once");
    assert!(!rig.watcher.is_watched(&a) && !rig.watcher.is_watched(&b));
}

#[test]
fn a_root_whose_parent_nobody_watches_is_told_when_it_goes() {
    let mut rig = Rig::new();
    let root = rig.at("root");
    fs::create_dir_all(root.join("src")).unwrap();
    assert_eq!(rig.watcher.watch_all([&root, &root.join("src")]), []);
    fs::rename(&root, rig.at("elsewhere")).unwrap();
    let events = rig.barrier();
    assert_eq!(gone(&events), [&root, &root.join("src")]);
    assert_eq!(rig.watcher.renew().len(), 2);
    // It comes back, another folder under the same name.
    fs::create_dir_all(root.join("src")).unwrap();
    assert_eq!(rig.watcher.watch_all([&root, &root.join("src")]), []);
    assert_alive(&mut rig, &root);
    assert_alive(&mut rig, &root.join("src"));
    fs::write(rig.at("elsewhere/src/file"), "").unwrap();
    assert_eq!(rig.barrier(), []);
}

#[test]
fn a_rename_far_above_a_root_is_found_by_the_next_cookie() {
    let mut rig = Rig::new();
    let root = rig.at("home/code/project");
    fs::create_dir_all(root.join("src")).unwrap();
    assert_eq!(rig.watcher.watch_all([&root, &root.join("src")]), []);
    fs::rename(rig.at("home"), rig.at("moved")).unwrap();
    fs::create_dir_all(root.join("src")).unwrap();
    // No event tells of it.
    let events = rig.barrier();
    assert_eq!(gone(&events), [&root, &root.join("src")]);
    rig.renewed();
    assert_alive(&mut rig, &root);
    assert_alive(&mut rig, &root.join("src"));
    // A link above it that leads elsewhere is the same.
    fs::rename(rig.at("home"), rig.at("one")).unwrap();
    std::os::unix::fs::symlink("one", rig.at("home")).unwrap();
    assert_eq!(rig.barrier(), [], "the same folder, reached through a link");
    fs::remove_file(rig.at("home")).unwrap();
    std::os::unix::fs::symlink("moved", rig.at("home")).unwrap();
    assert_eq!(gone(&rig.barrier()), [&root, &root.join("src")]);
    rig.renewed();
    assert_alive(&mut rig, &root.join("src"));
}

#[test]
fn one_folder_under_two_names_is_reported_under_both() {
    let mut rig = Rig::new();
    let [real] = rig.watched(["real/src"]);
    std::os::unix::fs::symlink("real", rig.at("alias")).unwrap();
    let alias = rig.at("alias/src");
    rig.watcher.watch(&alias).unwrap();
    rig.barrier();
    fs::write(real.join("a"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([real.clone(), alias.clone()]));
    rig.watcher.unwatch(&alias);
    fs::write(real.join("b"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([real.clone()]));
    rig.watcher.watch(&alias).unwrap();
    rig.watcher.unwatch(&real);
    rig.barrier();
    fs::write(real.join("c"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([alias]));
}

#[test]
fn a_deep_tree_that_appears_at_once_is_told_at_its_top() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    fs::create_dir_all(a.join("b/c/d/e")).unwrap();
    fs::write(a.join("b/c/d/e/file"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([a]));
}
