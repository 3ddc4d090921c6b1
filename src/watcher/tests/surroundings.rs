//! Limits of the system, mounts, and a watcher that breaks. In namespaces of their own, so that
//! the machine's limits and mounts stay as they are.

use super::*;
use crate::model::End;
use crate::watcher::limit::LimitKind;
use crate::watcher::queue::EventQueue;
use crate::watcher::state::WatcherShared;
use std::io;
use std::sync::Arc;

/// Runs an ignored test behind `unshare`, or says why it cannot.
#[cfg(target_os = "linux")]
fn unshared(options: &str, prepare: &str, test: &str) {
    let prepare = format!("{prepare}\nexec \"$@\"");
    let probe = Spec::new("unshare", std::env::temp_dir(), Environment::inherited())
        .args([options, "true"]);
    let possible = capture(&probe, DEADLINE).is_ok_and(|output| output.success());
    if !possible {
        let why = format!("SKIPPED {test}: `unshare {options}` is not possible here");
        let must = Environment::inherited().get("KNHK_TEST_CACHE_CI").is_some_and(|v| v == "1");
        assert!(!must, "{why}");
        eprintln!("{why}");
        return;
    }
    let output = alone(test, &["unshare", options, "sh", "-ec", &prepare, "sh"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.end, End::Exit(0)), "{:?}\n{text}\n{errors}", output.end);
    // A filter that matches nothing succeeds too.
    assert!(text.contains("1 passed"), "{text}");
}

fn folders(rig: &Rig, count: usize) -> Vec<PathBuf> {
    let folders: Vec<_> = (0..count).map(|n| rig.at(&n.to_string())).collect();
    folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    folders
}

#[cfg(target_os = "linux")]
#[test]
fn the_limit_on_watches_names_every_folder_that_has_none() {
    let prepare = "echo 100 > /proc/sys/user/max_inotify_watches";
    unshared("-Ur", prepare, "surroundings::alone_with_100_watches");
}

#[test]
#[ignore = "runs behind unshare"]
fn alone_with_100_watches() {
    let mut rig = Rig::new();
    let folders = folders(&rig, 150);
    let failed = rig.watcher.watch_all(&folders);
    assert_eq!((rig.watcher.watched(), failed.len()), (99, 51));
    for failed in &failed {
        let WatchError::Limit(limit) = &failed.why else { panic!("{failed}") };
        assert_eq!((limit.kind, limit.current), (LimitKind::Watches, Some(100)));
        assert_eq!(limit.sysctl, Some("user.max_inotify_watches"));
        assert!(limit.needed_at_least >= 151, "{limit}");
        assert!(!rig.watcher.is_watched(&failed.dir));
    }
    // What is watched is watched, and cookies still work.
    for folder in &folders {
        fs::write(folder.join("x"), "").unwrap();
    }
    let refused: BTreeSet<_> = failed.into_iter().map(|failed| failed.dir).collect();
    let changed = rig.changed();
    assert_eq!(changed.len(), 99);
    assert!(changed.is_disjoint(&refused));
    // A new start, as after an overflow, finds the same room again.
    let state = std::sync::Arc::clone(&rig.watcher.shared);
    state.lock().table.lose_all();
    rig.watcher.leftovers = true;
    assert_eq!(rig.watcher.renew().len(), 51, "what has no watch is told again");
    assert_eq!(rig.watcher.watched(), 99);
    let failed = rig.watcher.watch_all(&folders);
    let refused: BTreeSet<_> = failed.into_iter().map(|failed| failed.dir).collect();
    assert_eq!(refused.len(), 51);
    // The limit is raised: the caller, who polls the others, asks again.
    fs::write("/proc/sys/user/max_inotify_watches", "1000").unwrap();
    assert_eq!(rig.watcher.watch_all(&refused), []);
    for folder in &folders {
        fs::write(folder.join("x"), "2").unwrap();
    }
    let dirs = rig.changed();
    assert!(folders.iter().all(|folder| dirs.contains(folder)));
}

#[cfg(target_os = "linux")]
#[test]
fn without_a_watch_for_the_cookie_folder_nothing_is_watched() {
    let prepare = "echo 0 > /proc/sys/user/max_inotify_watches";
    unshared("-Ur", prepare, "surroundings::alone_without_watches");
}

#[test]
#[ignore = "runs behind unshare"]
fn alone_without_watches() {
    let runtime = tempfile::tempdir().unwrap();
    let (send, _events) = channel(1);
    let mut watcher = FileWatcher::new(runtime.path(), send).unwrap();
    let error = watcher.watch(runtime.path()).unwrap_err();
    let WatchError::Limit(limit) = &error else { panic!("{error}") };
    assert_eq!(limit.kind, LimitKind::Watches);
    assert!(error.to_string().contains("| sudo tee /etc/sysctl.d/"), "{error}");
    assert!(watcher.in_doubt());
}

#[cfg(target_os = "linux")]
#[test]
fn the_limit_on_watchers_is_named_too() {
    let prepare = "echo 1 > /proc/sys/user/max_inotify_instances";
    unshared("-Ur", prepare, "surroundings::alone_with_one_watcher");
}

#[test]
#[ignore = "runs behind unshare"]
fn alone_with_one_watcher() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    let (send, _events) = channel(1);
    let mut second = FileWatcher::new(rig.runtime.path(), send).unwrap();
    let error = second.watch(&a).unwrap_err();
    let WatchError::Limit(limit) = &error else { panic!("{error}") };
    assert_eq!((limit.kind, limit.current), (LimitKind::Instances, Some(1)));
    assert_eq!(limit.sysctl, Some("user.max_inotify_instances"));
    // Where no second watcher is to be had, the one that is there must do.
    let state = std::sync::Arc::clone(&rig.watcher.shared);
    state.lock().table.lose_all();
    rig.watcher.leftovers = true;
    assert_eq!(rig.watcher.renew(), []);
    assert_eq!(rig.watcher.watched(), 2);
    fs::write(a.join("x"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([a]));
}

#[cfg(target_os = "linux")]
#[test]
fn a_mount_over_a_watched_folder_is_found_and_so_is_its_end() {
    unshared("-Urm", "", "surroundings::alone_with_mounts");
}

#[test]
#[ignore = "runs behind unshare"]
fn alone_with_mounts() {
    let mut rig = Rig::new();
    let [a, b] = rig.watched(["a", "a/b"]);
    let run = |words: &[&str]| {
        let spec = Spec::new(words[0], "/", Environment::inherited()).args(&words[1..]);
        let output = capture(&spec, DEADLINE).unwrap();
        assert!(output.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    assert_eq!(rig.barrier(), []);
    run(&["mount", "-t", "tmpfs", "none", a.to_str().unwrap()]);
    let events = rig.barrier();
    assert_eq!(gone(&events), [&a, &b]);
    let failed = rig.watcher.renew();
    assert_eq!(failed.len(), 1, "b is not there now");
    rig.barrier();
    fs::write(a.join("x"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([a.clone()]));
    run(&["umount", a.to_str().unwrap()]);
    let events = rig.barrier();
    assert!(gone(&events).contains(&&*a), "{events:?}");
    rig.renewed();
    rig.watcher.watch(&b).unwrap();
    rig.barrier();
    fs::write(b.join("x"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([b.clone()]));
    // A file over a file: no folder leads elsewhere.
    fs::write(b.join("other x"), "").unwrap();
    rig.barrier();
    let (from, over) = (b.join("x"), b.join("other x"));
    run(&["mount", "--bind", from.to_str().unwrap(), over.to_str().unwrap()]);
    assert_eq!(rig.changed(), BTreeSet::from([b.clone()]));
    run(&["umount", over.to_str().unwrap()]);
    assert_eq!(rig.changed(), BTreeSet::from([b]));
}

#[test]
fn a_watcher_whose_thread_ends_says_so_and_is_renewed() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    rig.watcher.backend.end();
    let events = [rig.next(), rig.next()];
    assert!(matches!(&events, [WatchEvent::Failed(_), WatchEvent::Rescan]), "{events:?}");
    rig.watcher.cookie().unwrap_err();
    assert!(matches!(rig.watcher.watch(&rig.at("a")), Err(WatchError::Broken(_))));
    assert_eq!(rig.watcher.renew(), []);
    rig.barrier();
    fs::write(a.join("x"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([a]));
}

#[test]
fn a_path_that_the_system_refuses_is_named_with_its_reason() {
    let mut rig = Rig::new();
    let long = rig.at(&"x".repeat(300));
    let Err(WatchError::Refused(why)) = rig.watcher.watch(&long) else { panic!() };
    assert!(why.contains("too long"), "{why}");
}

#[test]
fn where_nothing_can_be_watched_everything_is_polled_until_it_can() {
    let (send, _events) = channel(64);
    let (runtime, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shared = Arc::new(WatcherShared::new(EventQueue::to(send).unwrap()));
    let refused = notify::Error::io(io::Error::from_raw_os_error(libc::EMFILE));
    let mut watcher = FileWatcher::with_backend(runtime.path(), shared, Err(refused)).unwrap();
    assert!(matches!(watcher.watch(tree.path()), Err(WatchError::Limit(_))));
    assert!(watcher.in_doubt() && watcher.cookie().is_err());
    watcher.renew();
    assert!(!watcher.in_doubt());
    watcher.watch(tree.path()).unwrap();
    assert!(watcher.is_watched(tree.path()));
    watcher.cookie().unwrap();
}
