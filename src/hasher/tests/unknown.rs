//! Whatever cannot be read makes the snapshot unknown, until it can.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Reading `path` fails, or does what `during` does meanwhile.
fn probe(
    hasher: &mut CodeHasher,
    path: PathBuf,
    during: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) {
    hasher.probe.during = Some(Arc::new(move |read| if read == path { during() } else { Ok(()) }));
}

#[test]
fn nothing_is_known_before_the_first_scan() {
    let ground = Ground::with(&["f"]);
    let mut hasher = ground.hasher();
    assert!(unknown(&hasher)[0].contains("has not been scanned"));
    hasher.scan(&mut |_| {});
    known(&hasher);
}

#[test]
fn an_unreadable_file_is_named_and_tried_again_in_every_scan() {
    let ground = Ground::with(&["a/f", "a/g"]);
    let mut living = Living::new(ground.hasher());
    let before = living.known();
    probe(&mut living.hasher, ground.path("a/f"), || Err(io::ErrorKind::PermissionDenied.into()));
    living.rescan(&[ground.path("a")]);
    let why = unknown(&living.hasher);
    assert_eq!(why.len(), 1);
    assert!(why[0].contains("a/f`: permission denied"), "{why:?}");
    living.rescan(&[]);
    unknown(&living.hasher);
    living.hasher.probe.during = None;
    living.rescan(&[]);
    assert_eq!(living.known(), before);
}

#[test]
fn an_unreadable_file_that_is_removed_or_hidden_is_no_doubt_any_more() {
    for hide in [false, true] {
        let ground = Ground::with(&["a/f", "a/g"]);
        let mut hasher = ground.hasher();
        probe(&mut hasher, ground.path("a/f"), || Err(io::Error::other("broken")));
        let mut living = Living::new(hasher);
        unknown(&living.hasher);
        if hide {
            ground.write(".gitignore", "/a\n");
            living.rescan(std::slice::from_ref(&ground.root));
        } else {
            ground.remove("a/f");
            living.rescan(&[]);
        }
        assert_eq!(living.known(), ground.digest());
    }
}

#[test]
fn an_unreadable_ignore_file_is_a_doubt() {
    let ground = Ground::with(&["a/f"]);
    ground.write("a/.gitignore", "f\n");
    let mut hasher = ground.hasher();
    probe(&mut hasher, ground.path("a/.gitignore"), || Err(io::Error::other("broken")));
    let mut living = Living::new(hasher);
    assert!(unknown(&living.hasher)[0].contains("broken"));
    living.hasher.probe.during = None;
    living.rescan(&[]);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again() {
    let ground = Ground::with(&["f"]);
    let mut hasher = ground.hasher();
    let (file, reads) = (ground.path("f"), Arc::new(AtomicUsize::new(0)));
    let count = reads.clone();
    probe(&mut hasher, file.clone(), move || {
        if count.fetch_add(1, Ordering::Relaxed) < 2 {
            fs::write(&file, format!("{:>9}", count.load(Ordering::Relaxed)))?;
        }
        Ok(())
    });
    hasher.scan(&mut |_| {});
    assert_eq!(known(&hasher), ground.digest());
    assert_eq!(reads.load(Ordering::Relaxed), 3);
}

#[test]
fn a_file_that_never_holds_still_is_unknown() {
    let ground = Ground::with(&["f"]);
    let mut hasher = ground.hasher();
    let (file, reads) = (ground.path("f"), AtomicUsize::new(0));
    probe(&mut hasher, file.clone(), move || {
        fs::write(&file, vec![b'x'; reads.fetch_add(1, Ordering::Relaxed)])
    });
    hasher.scan(&mut |_| {});
    assert!(unknown(&hasher)[0].contains("changes while it is read"));
}

#[test]
fn a_file_that_becomes_something_else_while_it_is_read_is_seen_as_that() {
    let ground = Ground::with(&["f"]);
    let mut hasher = ground.hasher();
    let file = ground.path("f");
    probe(&mut hasher, file.clone(), move || {
        fs::remove_file(&file)?;
        fs::create_dir(&file)
    });
    let living = Living::new(hasher);
    assert_eq!(living.known(), ground.digest());
    assert!(living.hasher.walks(&ground.path("f")));
}

#[test]
fn a_folder_that_changes_while_it_is_listed_is_listed_again() {
    let ground = Ground::with(&["a", "z"]);
    let mut hasher = ground.hasher();
    let (from, to) = (ground.path("a"), ground.path("b"));
    let moved = from.clone();
    // Renamed after the listing, before it is complete: without a second look neither counts.
    probe(&mut hasher, ground.path("z"), move || {
        if moved.exists() { fs::rename(&moved, &to) } else { Ok(()) }
    });
    hasher.scan(&mut |_| {});
    assert_eq!(listed(&hasher), ["b", "z"]);
    assert_eq!(known(&hasher), ground.digest());
    assert!(!from.exists());
}

#[test]
fn a_folder_that_never_holds_still_is_unknown() {
    let ground = Ground::with(&["a/z"]);
    let mut hasher = ground.hasher();
    let (folder, reads) = (ground.path("a"), AtomicUsize::new(0));
    probe(&mut hasher, ground.path("a/z"), move || {
        fs::write(folder.join(format!("{}", reads.fetch_add(1, Ordering::Relaxed))), "")
    });
    let mut living = Living::new(hasher);
    assert!(unknown(&living.hasher)[0].contains("changes while it is listed"));
    living.hasher.probe.during = None;
    living.rescan(&[]);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_folder_whose_path_is_longer_than_the_system_allows_is_unknown_even_for_root() {
    use rustix::fs::{CWD, Mode, OFlags};
    let ground = Ground::with(&["f"]);
    let name = "n".repeat(250);
    let open = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, &ground.root, open, Mode::empty()).unwrap();
    for _ in 0..20 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &name, open, Mode::empty()).unwrap();
    }
    let mut hasher = ground.hasher();
    hasher.scan(&mut |_| {});
    assert!(unknown(&hasher)[0].contains("name too long"), "{:?}", unknown(&hasher));
    fs::remove_dir_all(ground.path(&name)).unwrap();
    hasher.rescan(&[ground.root.clone()].into(), &mut |_| {});
    assert_eq!(known(&hasher), ground.digest());
}

#[test]
fn an_unreadable_target_of_a_link_is_a_doubt() {
    let ground = Ground::with(&["f"]);
    fs::write(ground.beside("outside"), "1").unwrap();
    ground.link("../outside", "link");
    let mut hasher = ground.hasher();
    hasher.probe.during = Some(Arc::new(|path| {
        if path.ends_with("link") { Err(io::Error::other("broken")) } else { Ok(()) }
    }));
    hasher.scan(&mut |_| {});
    assert!(unknown(&hasher)[0].contains("link`: broken"));
    hasher.probe.during = None;
    assert_eq!(known(&hasher), ground.digest(), "looked at by every snapshot");
}

#[test]
fn a_repository_that_git_cannot_read_is_a_doubt() {
    let ground = Ground::with(&["f"]);
    ground.git(&["init", "-q"]);
    ground.write(".git/index", "garbage");
    let mut living = Living::new(ground.hasher());
    let why = unknown(&living.hasher);
    assert!(why[0].contains("git cannot list the tracked files"), "{why:?}");
    ground.remove(".git/index");
    living.rescan(&[]);
    assert_eq!(living.known(), ground.digest());
}

#[test]
fn a_root_that_is_not_there_or_no_folder_is_unknown() {
    let ground = Ground::with(&["f"]);
    for (name, said) in [("none", "No such file"), ("f", "Not a directory")] {
        let mut hasher = CodeHasher::with_options(ground.path(name), ground.options()).unwrap();
        hasher.scan(&mut |_| {});
        assert!(unknown(&hasher)[0].contains(said), "{:?}", unknown(&hasher));
    }
}

#[test]
fn many_doubts_are_not_all_told() {
    let ground = Ground::new();
    (0..50).for_each(|at| ground.write(&format!("{at}"), "x"));
    let mut hasher = ground.hasher();
    hasher.probe.during = Some(Arc::new(|_| Err(io::Error::other("broken"))));
    hasher.scan(&mut |_| {});
    let why = unknown(&hasher);
    assert_eq!(why.last().unwrap(), "and 30 more");
}

#[test]
fn permissions_are_refused_and_given_back() {
    if rustix::process::geteuid().is_root() {
        // Nothing is refused to root; the other tests inject the refusal.
        return;
    }
    let ground = Ground::with(&["a/f", "b/g"]);
    let mut living = Living::new(ground.hasher());
    let before = living.known();
    for path in ["a", "b/g"] {
        let mode = |mode| fs::set_permissions(ground.path(path), fs::Permissions::from_mode(mode));
        mode(0).unwrap();
        let parent = ground.path(path).parent().unwrap().to_owned();
        living.rescan(&[ground.path(path), parent]);
        assert!(unknown(&living.hasher)[0].contains("denied"));
        mode(0o755).unwrap();
        living.rescan(&[]);
        if path == "a" {
            assert_eq!(living.known(), before);
        }
    }
}
