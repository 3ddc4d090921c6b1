//! Images that are exchanged for others with equal inodes, sizes and times.

use std::time::Instant;

use super::*;

/// Runs a program that only the superuser may run to the end; whether it succeeded.
fn succeeds(program: &str, args: &[&Path]) -> bool {
    let spec = Spec::new(program, "/", Environment::inherited()).args(args);
    process::capture(&spec, Duration::from_secs(60)).is_ok_and(|output| output.success())
}

/// An image that is mounted until this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(image: &Path, point: PathBuf) -> Option<Self> {
        let args = [Path::new("-o"), Path::new("loop"), image, &point];
        succeeds("mount", &args).then_some(Self(point))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A child that another test of this process starts holds open files until it executes.
        let limit = Instant::now() + Duration::from_secs(60);
        while !succeeds("umount", &[&self.0]) {
            assert!(Instant::now() < limit, "{}", self.0.display());
        }
    }
}

#[test]
fn another_image_at_the_same_place_is_another_tree() {
    let ground = Ground::with(&["f"]);
    let (one, other) = (ground.beside("one.img"), ground.beside("other.img"));
    fs::write(&one, vec![0; 4 << 20]).unwrap();
    let point = ground.path("data");
    fs::create_dir(&point).unwrap();
    let made = succeeds("mkfs.ext4", &[Path::new("-q"), &one]);
    let Some(mounted) = made.then(|| Mounted::new(&one, point.clone())).flatten() else {
        eprintln!("not run: only the superuser may mount an image");
        return;
    };
    let text = "the first content of a file";
    ground.write("data/f", text);
    drop(mounted);
    let mut bytes = fs::read(&one).unwrap();
    let at = bytes.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
    bytes[at..][..text.len()].copy_from_slice(b"the other content of a file");
    fs::write(&other, bytes).unwrap();

    let scan = |memo: &Path| {
        let mut hasher = ground.hasher();
        hasher.probe.settled = Some(true);
        hasher.load_memo(memo);
        hasher.scan(&mut |_| {});
        hasher
    };
    let memo = ground.beside("memo");
    let stat = || {
        let metadata = point.join("f").metadata().unwrap();
        (metadata.ino(), metadata.size(), metadata.mtime_nsec(), metadata.ctime_nsec())
    };
    let mounted = Mounted::new(&one, point.clone()).unwrap();
    let mut hasher = scan(&memo);
    let (before, seen) = (known(&hasher), stat());
    hasher.save_memo(&memo).unwrap();
    drop(mounted);
    let mounted = Mounted::new(&other, point.clone()).unwrap();
    assert_eq!(stat(), seen, "only the content differs");
    hasher.scan(&mut |_| {});
    assert_ne!(known(&hasher), before);
    assert_eq!(known(&scan(&memo)), known(&hasher));
    drop(mounted);
}
