//! The watcher against the real kernel.

mod barrier;
mod cost;
mod reference;
mod renames;
mod surroundings;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, channel};

use super::{CookieId, FileWatcher, WatchError, WatchEvent};
use crate::process::{Environment, Output, Spec, capture};

/// Nothing here takes long; whoever waits this long waits for something that never comes.
const DEADLINE: Duration = Duration::from_secs(60);

/// A watcher, a folder to change and a receiver that does not wait forever.
struct Rig {
    tree: TempDir,
    runtime: TempDir,
    watcher: FileWatcher,
    events: Receiver<WatchEvent>,
    timer: Runtime,
}

impl Rig {
    fn new() -> Self {
        Self::with_channel(64)
    }

    fn with_channel(size: usize) -> Self {
        let (send, events) = channel(size);
        let runtime = tempfile::tempdir().unwrap();
        let watcher = FileWatcher::new(runtime.path(), send).unwrap();
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { tree: tempfile::tempdir().unwrap(), runtime, watcher, events, timer }
    }

    /// A path in the tree.
    fn at(&self, path: &str) -> PathBuf {
        self.tree.path().join(path)
    }

    /// Makes folders and watches them and all that lies above them in the tree.
    fn watched<const N: usize>(&mut self, folders: [&str; N]) -> [PathBuf; N] {
        let folders = folders.map(|folder| self.at(folder));
        for folder in &folders {
            fs::create_dir_all(folder).unwrap();
            let root = self.tree.path();
            let mut all: Vec<_> =
                folder.ancestors().take_while(|path| path.starts_with(root)).collect();
            all.reverse();
            assert_eq!(self.watcher.watch_all(all), []);
        }
        self.barrier();
        folders
    }

    fn next(&mut self) -> WatchEvent {
        let next =
            self.timer.block_on(async { tokio::time::timeout(DEADLINE, self.events.recv()).await });
        next.expect("no event came").expect("the watcher is gone")
    }

    /// What is reported before `cookie`.
    fn until(&mut self, cookie: CookieId) -> Vec<WatchEvent> {
        let mut events = Vec::new();
        loop {
            match self.next() {
                WatchEvent::Cookie(id) if id == cookie => return events,
                event => events.push(event),
            }
        }
    }

    /// Asks for a cookie, and gives what is reported before it.
    fn barrier(&mut self) -> Vec<WatchEvent> {
        let cookie = self.watcher.cookie().unwrap();
        self.until(cookie)
    }

    /// The folders that the events up to a cookie want listed again.
    fn changed(&mut self) -> BTreeSet<PathBuf> {
        let events = self.barrier();
        events.into_iter().filter_map(dir_of).collect()
    }

    /// Puts back what is in doubt; everything else that was asked for is still there.
    fn renewed(&mut self) {
        let missing = |failed: &super::Unwatched| failed.why == WatchError::Missing;
        assert!(self.watcher.renew().iter().all(missing));
    }
}

fn dir_of(event: WatchEvent) -> Option<PathBuf> {
    match event {
        WatchEvent::Changed { dir, .. } => Some(dir),
        _ => None,
    }
}

fn gone(events: &[WatchEvent]) -> Vec<&Path> {
    let gone = events.iter().filter_map(|event| match event {
        WatchEvent::Gone(dir) => Some(dir.as_path()),
        _ => None,
    });
    gone.collect()
}

/// Runs one ignored test of this file in a process of its own, behind `wrapper`.
fn alone(test: &str, wrapper: &[&str]) -> Output {
    let exe = std::env::current_exe().unwrap();
    let exe = exe.to_str().unwrap();
    let test = format!("watcher::tests::{test}");
    let command = [exe, "--exact", &test, "--ignored", "--nocapture", "--test-threads=1"];
    let words: Vec<&str> = wrapper.iter().copied().chain(command).collect();
    let spec = Spec::new(words[0], std::env::temp_dir(), Environment::inherited());
    capture(&spec.args(&words[1..]), DEADLINE).unwrap()
}

#[test]
fn every_kind_of_change_is_reported_with_its_folder() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let mut rig = Rig::new();
    let [src, other] = rig.watched(["src", "other"]);
    let file = src.join("lib.rs");
    let edits: [(&str, &dyn Fn()); 9] = [
        ("create and write", &|| fs::write(&file, "1").unwrap()),
        ("write in place", &|| fs::write(&file, "2").unwrap()),
        ("truncate", &|| drop(fs::File::options().write(true).truncate(true).open(&file))),
        ("executable bit", &|| {
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("hard link", &|| fs::hard_link(&file, src.join("hard")).unwrap()),
        ("symbolic link", &|| symlink("lib.rs", src.join("link")).unwrap()),
        ("rename", &|| fs::rename(&file, src.join("main.rs")).unwrap()),
        ("save by rename", &|| {
            fs::write(src.join(".main.rs.swp"), "3").unwrap();
            fs::rename(src.join(".main.rs.swp"), src.join("main.rs")).unwrap();
        }),
        ("delete", &|| fs::remove_file(src.join("main.rs")).unwrap()),
    ];
    for (what, edit) in edits {
        edit();
        assert_eq!(rig.changed(), BTreeSet::from([src.clone()]), "{what}");
    }
    fs::write(src.join("x"), "").unwrap();
    fs::rename(src.join("x"), other.join("x")).unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([src.clone(), other.clone()]));
    // What is only read is not reported.
    fs::read(other.join("x")).unwrap();
    fs::read_dir(&src).unwrap().count();
    assert_eq!(rig.barrier(), []);
}

#[test]
fn a_folder_that_changes_itself_is_listed_again() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut rig = Rig::new();
    let [src] = rig.watched(["src"]);
    fs::set_permissions(&src, fs::Permissions::from_mode(0o700)).unwrap();
    let events = rig.barrier();
    let itself = WatchEvent::Changed { dir: src, name: None };
    let tree = rig.tree.path().to_path_buf();
    let entry = WatchEvent::Changed { dir: tree, name: Some("src".into()) };
    assert!(events.contains(&itself) && events.contains(&entry), "{events:?}");
}

#[test]
fn only_folders_are_watched_and_links_are_never_followed() {
    use std::os::unix::fs::symlink;
    let mut rig = Rig::new();
    let [src] = rig.watched(["src"]);
    fs::write(rig.at("file"), "").unwrap();
    symlink(&src, rig.at("link")).unwrap();
    symlink("nowhere", rig.at("dangling")).unwrap();
    rig.barrier();
    for (path, why) in [
        ("missing", WatchError::Missing),
        ("file", WatchError::NotAFolder),
        ("file/below", WatchError::NotAFolder),
        ("link", WatchError::NotAFolder),
        ("dangling", WatchError::NotAFolder),
    ] {
        let path = rig.at(path);
        assert_eq!(rig.watcher.watch(&path), Err(why));
        assert!(!rig.watcher.is_watched(&path));
    }
    assert_eq!(rig.watcher.watch(Path::new("src")), Err(WatchError::Relative));
    assert_eq!(rig.watcher.watched(), 2);
    fs::write(rig.at("file"), "changed").unwrap();
    fs::write(src.join("new"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([rig.at(""), src].map(|p| p.components().collect())));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_system_without_trustworthy_events_is_refused() {
    let mut rig = Rig::new();
    let error = rig.watcher.watch(Path::new("/proc/self")).unwrap_err();
    // A symbolic link is refused as such; its target because of the file system.
    assert_eq!(error, WatchError::NotAFolder);
    let error = rig.watcher.watch(Path::new("/proc/tty")).unwrap_err();
    assert_eq!(error, WatchError::Untrusted { file_system: "proc".to_owned() });
}

#[test]
fn what_is_unwatched_is_silent_and_can_be_watched_again() {
    let mut rig = Rig::new();
    let [kept, dropped] = rig.watched(["kept", "dropped"]);
    rig.watcher.unwatch(&dropped);
    rig.watcher.unwatch(&dropped);
    rig.watcher.unwatch(Path::new("/never/watched"));
    fs::write(dropped.join("a"), "").unwrap();
    fs::write(kept.join("a"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([kept.clone()]));
    rig.watcher.watch(&dropped).unwrap();
    fs::write(dropped.join("b"), "").unwrap();
    assert_eq!(rig.changed(), BTreeSet::from([dropped.clone()]));
    let tree = rig.tree.path().to_path_buf();
    rig.watcher.unwatch_tree(&tree);
    assert_eq!(rig.watcher.watched(), 0);
    fs::write(dropped.join("c"), "").unwrap();
    assert_eq!(rig.barrier(), []);
}

#[test]
fn a_project_with_thousands_of_folders_is_dropped_without_stopping_the_others() {
    let mut rig = Rig::new();
    let [kept] = rig.watched(["kept"]);
    let many: Vec<_> = (0..1000).map(|n| rig.at(&format!("many/{n}"))).collect();
    for folder in &many {
        fs::create_dir_all(folder).unwrap();
    }
    assert_eq!(rig.watcher.watch_all(&many), []);
    rig.barrier();
    let tree = rig.at("many");
    rig.watcher.unwatch_tree(&tree);
    // More than notify can take away in good time: a new watcher takes over.
    let events = rig.barrier();
    assert_eq!(events, [WatchEvent::Rescan]);
    assert_eq!(rig.watcher.renew(), []);
    assert_eq!(rig.watcher.watched(), 2);
    fs::write(kept.join("a"), "").unwrap();
    fs::write(many[0].join("a"), "").unwrap();
    assert_eq!(
        rig.barrier().into_iter().filter_map(dir_of).collect::<BTreeSet<_>>(),
        [kept].into()
    );
    assert_eq!(rig.watcher.renew(), []);
}

#[test]
fn it_works_without_a_runtime_and_ends_with_its_receiver() {
    let runtime = tempfile::tempdir().unwrap();
    let tree = tempfile::tempdir().unwrap();
    let (send, mut receive) = channel(1);
    let mut watcher = FileWatcher::new(runtime.path(), send).unwrap();
    watcher.watch(tree.path()).unwrap();
    let path = tree.path().to_path_buf();
    std::thread::spawn(move || fs::write(path.join("a"), "").unwrap()).join().unwrap();
    assert!(matches!(receive.blocking_recv(), Some(WatchEvent::Changed { .. })));
    drop(watcher);
    while receive.blocking_recv().is_some() {}
}
