//! Things and folders, and whether they are as they were, on real files.

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

struct Folder(PathBuf, #[expect(dead_code, reason = "removes the folder")] tempfile::TempDir);

fn folder() -> Folder {
    let dir = tempfile::tempdir().unwrap();
    Folder(dir.path().canonicalize().unwrap(), dir)
}

impl Folder {
    fn input(&self, name: &str, way: Aspect) -> Input {
        Fingerprints::default().read(&self.0, &self.0.join(name), way).unwrap()
    }

    fn holds(&self, input: &Input) -> bool {
        Fingerprints::default().holds(&self.0, input)
    }

    /// The first input that is not as it was, for a process that remembers absent names.
    fn first_changed(&self, cache: &Cache, inputs: &[Input]) -> Option<PathBuf> {
        let absences = cache.absences();
        let mut fingerprints = Fingerprints { absences, ..Fingerprints::default() };
        fingerprints.first_changed(&self.0, inputs).map(|input| input.path.clone())
    }
}

#[test]
fn what_is_restored_is_as_it_was_whatever_its_times() {
    let dir = folder();
    fs::write(dir.0.join("f"), "one").unwrap();
    let input = dir.input("f", Aspect::Content);
    assert_eq!(input.path, Path::new("f"));
    assert!(dir.holds(&input));
    let then = dir.0.join("f").metadata().unwrap().modified().unwrap();
    fs::write(dir.0.join("f"), "two").unwrap();
    // The old time and size, which a tool that trusts them would take for the old file.
    fs::File::options().append(true).open(dir.0.join("f")).unwrap().set_modified(then).unwrap();
    assert!(!dir.holds(&input));
    fs::write(dir.0.join("f"), "one").unwrap();
    assert!(dir.holds(&input));
    fs::set_permissions(dir.0.join("f"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(!dir.holds(&input), "permissions are seen");
    fs::remove_file(dir.0.join("f")).unwrap();
    assert!(!dir.holds(&input));
    fs::create_dir(dir.0.join("f")).unwrap();
    assert!(!dir.holds(&input));
}

#[test]
fn a_proof_is_only_what_cannot_change_unseen() {
    let dir = folder();
    fs::write(dir.0.join("f"), "one").unwrap();
    let mut input = dir.input("f", Aspect::Content);
    input.proof = Some(digest_of_stamp(&PathStamp::of(&dir.0.join("f"))));
    input.state = InputState::File(Digest::of(b"not read"));
    assert!(dir.holds(&input), "proven without reading");
    fs::write(dir.0.join("f"), "three").unwrap();
    assert!(!dir.holds(&input));
}

#[test]
fn absence_links_folders_and_kinds() {
    let dir = folder();
    let absent = dir.input("a/b", Aspect::Content);
    assert_eq!(absent.state, InputState::Absent);
    assert!(dir.holds(&absent));
    fs::write(dir.0.join("a"), "").unwrap();
    assert!(!dir.holds(&absent), "no folder any more, says the system");
    fs::remove_file(dir.0.join("a")).unwrap();
    fs::create_dir(dir.0.join("a")).unwrap();
    assert!(dir.holds(&absent));
    let (listed, kind) = (dir.input("a", Aspect::Names), dir.input("a", Aspect::Kind));
    fs::write(dir.0.join("a/b"), "").unwrap();
    assert!(!dir.holds(&absent) && !dir.holds(&listed) && dir.holds(&kind));
    fs::remove_file(dir.0.join("a/b")).unwrap();
    assert!(dir.holds(&listed));
    symlink("a", dir.0.join("l")).unwrap();
    for way in [Aspect::Content, Aspect::Kind, Aspect::Names, Aspect::Program] {
        let link = dir.input("l", way);
        assert!(dir.holds(&link));
        fs::remove_file(dir.0.join("l")).unwrap();
        symlink("a/", dir.0.join("l")).unwrap();
        assert!(!dir.holds(&link));
        fs::remove_file(dir.0.join("l")).unwrap();
        symlink("a", dir.0.join("l")).unwrap();
    }
    fs::write(dir.0.join("a/x"), "").unwrap();
    let listed = dir.input("a", Aspect::Names);
    fs::remove_file(dir.0.join("a/x")).unwrap();
    fs::create_dir(dir.0.join("a/x")).unwrap();
    assert!(!dir.holds(&listed), "another kind of the same name");
}

/// What is remembered of a folder says the same as looks at its names.
#[test]
fn names_that_were_absent_are_looked_for_once_a_folder_has_changed() {
    let dir = folder();
    let path = |name: &str| dir.0.join(name);
    let names = ["a/1", "a/2", "a/3", "b/1", "b/2", "b/3", "f/1", "f/2", "f/3"];
    fs::create_dir(path("a")).unwrap();
    let inputs = names.map(|name| dir.input(name, Aspect::Content));
    let cache = Cache::open_to_stay(path("cache"));
    let changed = || dir.first_changed(&cache, &inputs);
    until_settled(&path("a"));
    assert_eq!((changed(), changed()), (None, None));
    let stamp = *PathStamp::followed(&path("a")).present().unwrap();
    let known = ["1", "2", "3"].iter().map(OsStr::new);
    assert!(cache.absences().unwrap().knows(&path("a"), &stamp, known));
    fs::write(path("a/2"), "").unwrap();
    assert_eq!(changed(), Some("a/2".into()));
    fs::remove_file(path("a/2")).unwrap();
    assert_eq!(changed(), None);
    fs::rename(path("a"), path("c")).unwrap();
    assert_eq!(changed(), None, "there is no such folder");
    fs::create_dir(path("b")).unwrap();
    fs::write(path("b/3"), "").unwrap();
    assert_eq!(changed(), Some("b/3".into()));
    fs::remove_dir_all(path("b")).unwrap();
    fs::write(path("f"), "").unwrap();
    assert_eq!(changed(), Some("f/1".into()), "a file in the place of a folder");
}

#[test]
fn names_in_the_root_are_not_looked_for_in_the_workspace() {
    let dir = folder();
    let names = ["/.knhk-1", "/.knhk-2", "/.knhk-3"];
    let inputs = names.map(|name| dir.input(name, Aspect::Content));
    let cache = Cache::open_to_stay(dir.0.join("cache"));
    until_settled(&dir.0);
    assert_eq!(dir.first_changed(&cache, &inputs), None);
    let stamp = *PathStamp::followed(&dir.0).present().unwrap();
    let names = [".knhk-1", ".knhk-2", ".knhk-3"].map(OsStr::new);
    assert!(!cache.absences().unwrap().knows(&dir.0, &stamp, names.into_iter()));
}

/// One look serves a folder that counts itself and the names that were absent in it.
#[test]
fn a_folder_and_a_link_to_it_count_beside_the_names_that_were_absent_in_them() {
    let dir = folder();
    let path = |name: &str| dir.0.join(name);
    fs::create_dir(path("a")).unwrap();
    fs::create_dir(path("b")).unwrap();
    symlink("a", path("l")).unwrap();
    let absent = ["a/1", "a/2", "a/3", "l/1", "l/2", "l/3"];
    let mut inputs = absent.map(|name| dir.input(name, Aspect::Content)).to_vec();
    inputs.push(dir.input("a", Aspect::Kind));
    inputs.push(dir.input("l", Aspect::Content));
    inputs.sort_by(|one, other| one.path.cmp(&other.path));
    let cache = Cache::open_to_stay(path("cache"));
    let changed = || dir.first_changed(&cache, &inputs);
    until_settled(&path("a"));
    assert_eq!((changed(), changed()), (None, None));
    let set_mode = |mode| fs::set_permissions(path("a"), fs::Permissions::from_mode(mode));
    let mode = path("a").metadata().unwrap().permissions().mode();
    set_mode(mode ^ 0o20).unwrap();
    assert_eq!(changed(), Some("a".into()));
    set_mode(mode).unwrap();
    assert_eq!(changed(), None);
    fs::remove_file(path("l")).unwrap();
    symlink("b", path("l")).unwrap();
    assert_eq!(changed(), Some("l".into()));
}

fn until_settled(path: &Path) {
    while !PathStamp::of(path).is_settled(SystemTime::now()) {
        std::thread::yield_now();
    }
}

#[test]
fn the_very_same_is_not_another_of_the_same_content() {
    let dir = folder();
    fs::write(dir.0.join("f"), "one").unwrap();
    let same = dir.input("f", Aspect::Same);
    assert!(dir.holds(&same));
    fs::copy(dir.0.join("f"), dir.0.join("g")).unwrap();
    fs::rename(dir.0.join("g"), dir.0.join("f")).unwrap();
    assert!(!dir.holds(&same));
}

#[test]
fn an_answer_is_only_what_the_loaders_cache_says_of_a_name() {
    if LoaderCache::current().is_none() {
        return;
    }
    let dir = folder();
    let is_answer = |path: &Path| {
        let read = Fingerprints::default().read(&dir.0, path, Aspect::Answer);
        read.is_ok_and(|input| matches!(input.state, InputState::Answer(_)))
    };
    let cache = Path::new(LOADER_CACHE);
    assert!(is_answer(&cache.join("libc.so.6")));
    fs::write(dir.0.join("f"), "").unwrap();
    for path in ["/etc/ld.so.cache", "/etc/ld.so.cache/a/b", "/etc/ld.so.cache/1234567890", "f/x"] {
        assert!(!is_answer(&dir.0.join(path)), "{path}");
    }
}
