//! What watching costs: nothing while nothing happens, and little for each folder.

use super::*;
use std::time::Instant;

/// Everything that the other threads of this process did: how often each went to sleep.
#[cfg(target_os = "linux")]
fn sleeps() -> Vec<(String, String)> {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut sleeps = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap();
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        if task.file_name().to_str() != Some(&own) {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt")).unwrap();
            sleeps.push((name.trim().to_owned(), line.to_owned()));
        }
    }
    sleeps
}

#[cfg(target_os = "linux")]
#[test]
fn an_idle_watcher_never_wakes_up() {
    let output = alone("cost::alone_and_idle", &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.success() && text.contains("1 passed"), "{text}");
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "counts what all threads of the process do"]
fn alone_and_idle() {
    let mut rig = Rig::new();
    rig.watched(["a", "b"]);
    let quiet = |rig: &mut Rig| {
        let wait = Duration::from_millis(1500);
        let events = &mut rig.events;
        rig.timer.block_on(async { tokio::time::timeout(wait, events.recv()).await }).unwrap_err();
    };
    // The cookie's own removal is still on its way.
    quiet(&mut rig);
    let before = sleeps();
    assert!(before.iter().any(|(name, _)| name == "watch-events"), "{before:?}");
    assert!(before.iter().any(|(name, _)| name.starts_with("notify-rs")), "{before:?}");
    quiet(&mut rig);
    assert_eq!(sleeps(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_folders_are_watched_in_good_time_and_little_memory() {
    let output = alone("cost::alone_with_10000_folders", &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.success() && text.contains("1 passed"), "{text}");
    text.lines().filter(|line| line.contains("10000 folders,")).for_each(|line| println!("{line}"));
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "measures the memory of the whole process"]
fn alone_with_10000_folders() {
    let mut rig = Rig::new();
    let mut folders = Vec::new();
    for n in 0..100 {
        folders.extend([rig.at(&format!("package-{n}")), rig.at(&format!("package-{n}/src"))]);
        folders.extend((0..98).map(|m| rig.at(&format!("package-{n}/src/module-{m}"))));
    }
    folders.iter().for_each(|folder| fs::create_dir_all(folder).unwrap());
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    // Processor time of all threads: other programs must not count.
    let spent = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(now).unwrap()
    };
    let (before, start) = (resident(), spent());
    assert_eq!(rig.watcher.watch_all(&folders), []);
    let (watch, memory) = (spent() - start, (resident() - before) / folders.len() as u64);
    rig.barrier();

    let mut rounds: Vec<_> = (0..101)
        .map(|_| {
            let start = Instant::now();
            rig.barrier();
            start.elapsed()
        })
        .collect();
    rounds.sort();

    let state = std::sync::Arc::clone(&rig.watcher.shared);
    state.lock().table.lose_all();
    let start = spent();
    assert_eq!(rig.watcher.renew(), []);
    let renew = spent() - start;
    assert_eq!(rig.watcher.watched(), folders.len());
    // Notify looks at all watches for each folder that goes, before it delivers a cookie.
    let start = spent();
    (0..10).for_each(|n| fs::remove_dir_all(rig.at(&format!("package-{n}"))).unwrap());
    rig.barrier();
    let removed = spent() - start;
    println!(
        "10000 folders, processor time: watched in {watch:?}, {memory} bytes each, \
         renewed in {renew:?}, cookie {:?} of the clock, 1000 of them removed in {removed:?}",
        rounds[50]
    );
    // Far from what it takes; quadratic work or a copy of everything would show.
    assert!(watch < Duration::from_secs(10) && renew < Duration::from_secs(10));
    assert!(memory < 4096, "{memory} bytes for each watch");
}
