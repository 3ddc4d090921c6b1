//! What the digest depends on, and what not.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, SystemTime};

use rustix::fs::CWD;

use super::*;

#[test]
fn equal_trees_have_equal_digests_wherever_and_whenever_they_were_made() {
    let (one, two) = (Ground::new(), Ground::new());
    for ground in [&one, &two] {
        for file in ["src/lib.rs", "Cargo.toml", ".hidden/x", "a/b/c/d/e"] {
            ground.write(file, file);
        }
        ground.mkdir("empty");
        ground.link("src/lib.rs", "link");
    }
    let file = File::options().write(true).open(two.path("src/lib.rs")).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    assert_eq!(one.digest(), two.digest());
}

#[test]
fn every_kind_of_edit_changes_the_digest_and_undoing_it_brings_it_back() {
    let ground = Ground::with(&["src/lib.rs", "src/run.sh", "a/b/c"]);
    ground.link("src/lib.rs", "link");
    ground.mkdir("empty");
    let mut seen = vec![ground.digest()];
    let mut edit = |what: &str, edit: &dyn Fn(), undo: &dyn Fn()| {
        edit();
        let digest = ground.digest();
        assert!(!seen.contains(&digest), "{what} is not seen");
        seen.push(digest);
        undo();
        assert_eq!(ground.digest(), seen[0], "{what} undone");
    };
    edit("other content of the same size", &|| ground.write("src/lib.rs", "src/lib.rz"), &|| {
        ground.write("src/lib.rs", "src/lib.rs");
    });
    edit("a new file", &|| ground.write("src/new", ""), &|| ground.remove("src/new"));
    edit("a file gone", &|| ground.remove("a/b/c"), &|| ground.write("a/b/c", "a/b/c"));
    edit("a new empty folder", &|| ground.mkdir("other"), &|| ground.remove("other"));
    edit("an empty folder gone", &|| ground.remove("empty"), &|| ground.mkdir("empty"));
    edit("the executable bit", &|| ground.set_executable("src/run.sh", true), &|| {
        ground.set_executable("src/run.sh", false);
    });
    edit("a file renamed", &|| ground.rename("a/b/c", "a/b/d"), &|| {
        ground.rename("a/b/d", "a/b/c");
    });
    edit("a folder renamed", &|| ground.rename("a/b", "a/x"), &|| ground.rename("a/x", "a/b"));
    edit("a file moved up", &|| ground.rename("a/b/c", "a/c"), &|| ground.rename("a/c", "a/b/c"));
    let retarget = |text| {
        ground.remove("link");
        ground.link(text, "link");
    };
    edit("a link's text, to the same file", &|| retarget("./src/lib.rs"), &|| {
        retarget("src/lib.rs");
    });
    edit(
        "a link turned into the file that it led to",
        &|| {
            ground.remove("link");
            ground.write("link", "src/lib.rs");
        },
        &|| retarget("src/lib.rs"),
    );
    edit(
        "a file turned into an empty folder",
        &|| {
            ground.remove("src/run.sh");
            ground.mkdir("src/run.sh");
        },
        &|| {
            ground.remove("src/run.sh");
            ground.write("src/run.sh", "src/run.sh");
        },
    );
}

#[test]
fn permissions_other_than_the_owners_execution_do_not_count() {
    let ground = Ground::with(&["f"]);
    let before = ground.digest();
    fs::set_permissions(ground.path("f"), fs::Permissions::from_mode(0o606)).unwrap();
    assert_eq!(ground.digest(), before);
}

#[test]
fn names_are_bytes() {
    let ground = Ground::new();
    for name in [&b"caf\xe9"[..], b"\xff", b"line\nbreak", b"sp ace", "\u{e9}".as_bytes()] {
        fs::write(ground.root.join(OsStr::from_bytes(name)), name).unwrap();
        fs::create_dir(ground.root.join(OsStr::from_bytes(&[name, b".d"].concat()))).unwrap();
    }
    let mut hasher = ground.hasher();
    hasher.scan(&mut |_| {});
    let Snapshot::Known { files, digest, .. } = hasher.snapshot() else { panic!("unknown") };
    assert_eq!(files, 5);
    assert!(hasher.counts(&ground.root.join(OsStr::from_bytes(b"caf\xe9"))));
    fs::rename(ground.root.join(OsStr::from_bytes(b"\xff")), ground.path("\u{fffd}")).unwrap();
    assert_ne!(ground.digest(), digest, "odd bytes are not replaced by anything");
}

#[test]
fn what_is_no_file_counts_by_its_kind_and_is_never_opened() {
    let ground = Ground::with(&["f"]);
    let before = ground.digest();
    let fifo = ground.path("fifo");
    rustix::fs::mkfifoat(CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    // Opening it would wait for a writer for ever.
    let with_fifo = ground.digest();
    fs::remove_file(&fifo).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(&fifo).unwrap();
    let with_socket = ground.digest();
    drop(socket);
    assert!(before != with_fifo && before != with_socket && with_fifo != with_socket);
}

#[test]
fn links_are_not_followed_into_folders_and_loops_are_survived() {
    let ground = Ground::with(&["a/f"]);
    fs::create_dir(ground.beside("other")).unwrap();
    ground.link(".", "a/here");
    ground.link("../../other", "a/there");
    ground.link("loop", "loop");
    ground.link("two", "one");
    ground.link("one", "two");
    ground.link("nowhere", "dangling");
    let before = ground.digest();
    fs::write(ground.beside("other").join("x"), "x").unwrap();
    assert_eq!(ground.digest(), before);
    let mut hasher = ground.hasher();
    hasher.scan(&mut |_| {});
    assert_eq!(hasher.unfollowed(), [ground.path("a/here"), ground.path("a/there")]);
    assert!(!hasher.walks(&ground.path("a/here")) && hasher.counts(&ground.path("a/here")));
}

#[test]
fn the_file_behind_a_link_counts_wherever_it_is() {
    let ground = Ground::with(&["f"]);
    ground.write(".gitignore", "hidden\n");
    ground.write("hidden", "1");
    fs::write(ground.beside("outside"), "1").unwrap();
    ground.link("../outside", "link");
    ground.link("hidden", "inner");
    let mut living = Living::new(ground.hasher());
    let mut last = living.known();
    let mut changed = |what: &str, living: &Living| {
        let now = living.known();
        assert_ne!(std::mem::replace(&mut last, now), now, "{what}");
    };
    // Without any scan: nobody could have told.
    fs::write(ground.beside("outside"), "2").unwrap();
    changed("content outside", &living);
    ground.write("hidden", "2");
    changed("content that is ignored", &living);
    fs::remove_file(ground.beside("outside")).unwrap();
    changed("gone outside", &living);
    fs::create_dir(ground.beside("outside")).unwrap();
    changed("a folder outside", &living);
    let mark = living.hasher.mark();
    assert_eq!(living.hasher.changed_since(mark), [ground.path("inner"), ground.path("link")]);
    living.rescan(&[]);
    assert_eq!(living.known(), ground.digest());
    assert_eq!(living.hasher.changed_since(mark), [ground.path("inner"), ground.path("link")]);
    assert!(living.hasher.changed_since(living.hasher.mark()).is_empty());
}

#[test]
fn a_link_to_what_the_build_makes_changes_nothing() {
    let ground = Ground::with(&["f"]);
    ground.link("target/debug/tool", "tool");
    let options = Options { exclude_dirs: vec![ground.path("target")], ..ground.options() };
    let before = ground.digest_with(options.clone());
    ground.write("target/debug/tool", "1");
    assert_eq!(ground.digest_with(options.clone()), before);
    ground.write("target/debug/tool", "2");
    assert_eq!(ground.digest_with(options), before);
}

#[test]
fn many_files_in_one_folder_and_few_large_ones_agree_with_one_thread() {
    let ground = Ground::new();
    for at in 0..2_500 {
        ground.write(&format!("many/{at}"), format!("{at}"));
    }
    for at in 0..9 {
        ground.write(&format!("large/{at}"), vec![at; 3 << 20]);
    }
    let digest = |threads| {
        let mut hasher = ground.hasher();
        hasher.threads = threads;
        hasher.scan(&mut |_| {});
        known(&hasher)
    };
    assert_eq!(digest(1), digest(5));
}

#[test]
fn a_root_that_is_reached_by_a_link_is_the_same_tree() {
    let ground = Ground::with(&["a/f", "sub/.gitignore", "sub/x/y"]);
    ground.write(".gitignore", "/sub/x/y\n*.o\n");
    ground.write("sub/z.o", "");
    symlink(&ground.root, ground.beside("alias")).unwrap();
    let through = |root: PathBuf, exclude_dirs: Vec<PathBuf>| {
        let options = Options { exclude_dirs, ..ground.options() };
        let mut living = Living::new(CodeHasher::with_options(root, options).unwrap());
        living.rescan(&[]);
        living.known()
    };
    let alias = ground.beside("alias");
    assert_eq!(through(alias.clone(), vec![]), ground.digest());
    ground.git(&["init", "-q"]);
    assert_eq!(through(alias.join("sub"), vec![]), through(ground.path("sub"), vec![]));
    let excluded = |root| through(root, vec![ground.path("a")]);
    assert_eq!(excluded(alias), excluded(ground.root.clone()));
}

#[test]
fn a_tree_with_an_exclusion_is_not_the_tree_without_those_files() {
    let ground = Ground::with(&["f", "data/x"]);
    let options = || Options { exclude: vec!["data/**".to_owned()], ..ground.options() };
    let excluded = ground.digest_with(options());
    assert_eq!(ground.digest_with(options()), excluded);
    ground.remove("data/x");
    assert_eq!(ground.digest_with(options()), excluded, "nothing that counts is removed");
    assert_ne!(ground.digest(), excluded, "the run may have read what did not count");
}
