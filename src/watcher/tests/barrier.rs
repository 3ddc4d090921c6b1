//! A cookie proves that everything before it was reported.

use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn cookie_files(rig: &Rig) -> usize {
    fs::read_dir(rig.runtime.path().join("cookies")).unwrap().count()
}

/// Makes `count` events in two folders, in turn, so that neither the kernel nor the queue can
/// take two for one.
fn touch_in_turn(a: &Path, b: &Path, count: usize) {
    let files = [a.join("touched"), b.join("touched")];
    files.iter().for_each(|file| fs::write(file, "").unwrap());
    for n in 0..count {
        let mode = fs::Permissions::from_mode(0o600 + (n as u32 & 1) * 0o100);
        fs::set_permissions(&files[n % 2], mode).unwrap();
    }
}

#[test]
fn a_change_is_always_reported_before_the_cookie_that_follows_it() {
    let mut rig = Rig::new();
    let folders = rig.watched(["a", "b", "b/c", "d/e/f"]);
    for round in 0..400 {
        let folder = &folders[round * 7 % folders.len()];
        fs::write(folder.join(format!("file-{}", round % 5)), round.to_string()).unwrap();
        assert_eq!(rig.changed(), BTreeSet::from([folder.clone()]), "round {round}");
    }
    assert_eq!(cookie_files(&rig), 0, "a cookie is removed when its event came");
}

#[test]
fn cookies_come_in_their_order_with_the_changes_between_them() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    let cookies: Vec<_> = (0..50)
        .map(|n| {
            fs::write(a.join(n.to_string()), "").unwrap();
            rig.watcher.cookie().unwrap()
        })
        .collect();
    for (n, cookie) in cookies.into_iter().enumerate() {
        let name = Some(n.to_string().into());
        let event = WatchEvent::Changed { dir: a.clone(), name };
        let events = rig.until(cookie);
        assert!(events.contains(&event), "{n}: {events:?}");
        // A child that another test of this process starts may close an earlier file once more.
        let is_due = |event: &WatchEvent| match event {
            WatchEvent::Changed { name: Some(name), .. } => {
                name.to_str().and_then(|name| name.parse().ok()).is_some_and(|of: usize| of <= n)
            }
            _ => false,
        };
        assert!(events.iter().all(is_due), "{n}: {events:?}");
    }
}

#[test]
fn a_burst_of_5000_writes_is_reported_name_by_name() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    for n in 0..5000 {
        fs::write(a.join(n.to_string()), "x").unwrap();
    }
    let events = rig.barrier();
    let names: BTreeSet<_> = events
        .iter()
        .map(|event| match event {
            WatchEvent::Changed { dir, name: Some(name) } if *dir == a => name.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names.len(), 5000);
    assert!(events.len() < 10_000, "mostly one event for create, write and close of a file");
}

#[test]
fn a_receiver_that_stalls_gets_a_rescan_and_not_silence() {
    let mut rig = Rig::with_channel(1);
    let [a, b] = rig.watched(["a", "b"]);
    touch_in_turn(&a, &b, 2 * super::super::queue::QUEUE_LENGTH);
    let cookie = rig.watcher.cookie().unwrap();
    // While nobody receives, watches can still be changed.
    fs::create_dir(rig.at("new")).unwrap();
    rig.watcher.watch(&rig.at("new")).unwrap();
    assert!(rig.until(cookie).contains(&WatchEvent::Rescan));
    rig.renewed();
    rig.barrier();
    fs::write(a.join("after"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([a]));
}

/// The kernel's own queue overflows while notify's thread is stopped in the callback.
#[test]
fn an_overflow_of_the_kernels_queue_is_a_rescan_and_answers_waiting_cookies() {
    let mut rig = Rig::new();
    let [a, b] = rig.watched(["a", "b"]);
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap_or_default()
        .trim()
        .parse()
        .unwrap_or(16_384);
    let shared = std::sync::Arc::clone(&rig.watcher.shared);
    let state = shared.lock();
    touch_in_turn(&a, &b, limit + 1000);
    // Lost to the overflow: a folder that is replaced. Its watch is dead, and nobody tells.
    fs::remove_dir_all(&b).unwrap();
    fs::create_dir(&b).unwrap();
    drop(state);
    let events = rig.barrier();
    assert!(events.contains(&WatchEvent::Rescan), "{} events", events.len());
    rig.renewed();
    rig.barrier();
    for folder in [&a, &b] {
        fs::write(folder.join("after"), "").unwrap();
        assert_eq!(rig.changed(), BTreeSet::from([folder.clone()]));
    }
    assert_eq!(cookie_files(&rig), 0);
}

#[test]
fn the_cookie_folder_is_private_and_cleaned_of_what_a_killed_process_left() {
    let runtime = tempfile::tempdir().unwrap();
    let cookies = runtime.path().join("not/there/cookies");
    fs::create_dir_all(&cookies).unwrap();
    fs::write(cookies.join("cookie-1-2-3"), "").unwrap();
    fs::write(cookies.join("other"), "").unwrap();
    let (send, _events) = channel(8);
    let mut watcher = FileWatcher::new(&runtime.path().join("not/there"), send).unwrap();
    assert!(!cookies.join("cookie-1-2-3").exists());
    assert!(cookies.join("other").exists(), "only cookies are ours to remove");
    // A cookie whose event nobody waited for goes with the watcher, if not before.
    watcher.cookie().unwrap();
    drop(watcher);
    assert_eq!(fs::read_dir(&cookies).unwrap().count(), 1);

    let fresh = runtime.path().join("fresh");
    let (send, _events) = channel(8);
    let _watcher = FileWatcher::new(&fresh, send).unwrap();
    let mode = fs::metadata(fresh.join("cookies")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_runtime_folder_that_is_removed_is_an_error_and_made_again() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    for _ in 0..20 {
        fs::remove_dir_all(rig.runtime.path()).unwrap();
        rig.watcher.cookie().unwrap_err();
        fs::write(a.join("x"), "").unwrap();
        let events = loop {
            // The end of the old folder may be told between the two, and is an error again.
            match rig.watcher.cookie() {
                Ok(cookie) => break rig.until(cookie),
                Err(error) => assert!(error.to_string().contains("replaced"), "{error}"),
            }
        };
        // The end of the folder put waiting cookies in doubt, which is a rescan: it says more.
        let told = events.contains(&WatchEvent::Rescan)
            || events.into_iter().filter_map(dir_of).any(|dir| dir == a);
        assert!(told);
    }
}

#[test]
fn a_cookie_folder_that_someone_else_replaced_is_noticed() {
    let mut rig = Rig::new();
    let cookies = rig.runtime.path().join("cookies");
    fs::rename(&cookies, rig.runtime.path().join("moved")).unwrap();
    fs::create_dir(&cookies).unwrap();
    rig.watcher.cookie().unwrap_err();
    let cookie = loop {
        if let Ok(cookie) = rig.watcher.cookie() {
            break cookie;
        }
    };
    rig.until(cookie);
}

#[test]
fn a_file_in_place_of_the_cookie_folder_is_an_error_of_the_start() {
    let runtime = tempfile::tempdir().unwrap();
    fs::write(runtime.path().join("cookies"), "").unwrap();
    let (send, _events) = channel(8);
    let error = FileWatcher::new(runtime.path(), send).unwrap_err();
    assert!(error.to_string().contains("cookies"), "{error}");
}

#[test]
fn a_cookie_may_lie_in_a_folder_of_the_callers_choice() {
    let mut rig = Rig::new();
    let [a] = rig.watched(["a"]);
    let own = rig.at("a/.test-cache");
    fs::create_dir(&own).unwrap();
    for _ in 0..3 {
        fs::write(a.join("x"), "").unwrap();
        let cookie = rig.watcher.cookie_in(&own).unwrap();
        let folders: BTreeSet<_> = rig.until(cookie).into_iter().filter_map(dir_of).collect();
        assert_eq!(folders, [a.clone()].into());
    }
    rig.barrier();
    assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
}
