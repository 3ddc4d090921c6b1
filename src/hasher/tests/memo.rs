//! The memo is a hint: with it a scan reads less, and finds the same.

use super::super::memo::{MemoError, TreeMemo};
use super::*;

fn scan_with(ground: &Ground, memo: &Path) -> (CodeHasher, ScanChanges) {
    let mut hasher = ground.hasher();
    hasher.probe.settled = Some(true);
    hasher.load_memo(memo);
    let changes = hasher.scan(&mut |_| {});
    (hasher, changes)
}

fn ground() -> Ground {
    let ground = Ground::with(&["src/lib.rs", "a/b/c", "x.log", "gen/y", "Cargo.toml"]);
    ground.write(".gitignore", "*.log\ngen\n");
    ground.link("src/lib.rs", "link");
    ground.mkdir("empty");
    ground.git(&["init", "-q"]);
    ground.git(&["add", "-f", "x.log", "gen/y"]);
    ground
}

#[test]
fn a_process_with_a_memo_reads_nothing_and_finds_the_same() {
    let ground = ground();
    let file = ground.beside("cache").join("memo");
    let (mut first, cold) = scan_with(&ground, &file);
    assert!(cold.read_files > 3);
    first.save_memo(&file).unwrap();
    let (second, warm) = scan_with(&ground, &file);
    assert_eq!(warm.read_files, 0);
    assert_eq!(known(&second), known(&first));
    assert_eq!(known(&second), ground.digest());
    assert_eq!(listed(&second), listed(&first));
    assert!(second.memo.is_none(), "not kept in memory");
}

#[test]
fn the_file_is_written_only_if_it_would_say_something_else() {
    let ground = ground();
    let file = ground.beside("memo");
    let inode = || fs::metadata(&file).unwrap().ino();
    scan_with(&ground, &file).0.save_memo(&file).unwrap();
    let before = inode();
    let (mut same, _) = scan_with(&ground, &file);
    same.save_memo(&file).unwrap();
    assert_eq!(inode(), before);
    ground.write("src/lib.rs", "other");
    same.rescan(&[ground.path("src")].into(), &mut |_| {});
    same.save_memo(&file).unwrap();
    assert_ne!(inode(), before);
    let (_, warm) = scan_with(&ground, &file);
    assert_eq!(warm.read_files, 0);
    fs::remove_file(&file).unwrap();
    same.save_memo(&file).unwrap();
    assert!(file.exists(), "someone cleaned up");
}

#[test]
fn every_change_since_the_memo_is_seen() {
    type Edit = fn(&Ground);
    let edits: [(&str, Edit); 10] = [
        ("same size", |ground| ground.write("src/lib.rs", "src/lib.RS")),
        ("same size and time", |ground| {
            let time = ground.path("a/b/c").metadata().unwrap().modified().unwrap();
            ground.write("a/b/c", "A/B/C");
            let file = fs::File::options().write(true).open(ground.path("a/b/c")).unwrap();
            file.set_modified(time).unwrap();
        }),
        ("new", |ground| ground.write("a/new", "")),
        ("gone", |ground| ground.remove("a/b/c")),
        ("renamed", |ground| ground.rename("a/b", "a/d")),
        ("swapped", |ground| {
            ground.write("a/b/d", "a/b/d");
            ground.rename("a/b/c", "a/b/e");
            ground.rename("a/b/d", "a/b/c");
        }),
        ("executable", |ground| ground.set_executable("src/lib.rs", true)),
        ("shown", |ground| {
            ground.write("z.log", "");
            ground.write(".gitignore", "gen\n");
        }),
        ("hidden", |ground| ground.write(".gitignore", "*.log\ngen\n/a\n")),
        ("untracked", |ground| ground.git(&["rm", "-q", "--cached", "x.log"])),
    ];
    for (what, edit) in edits {
        let ground = ground();
        let file = ground.beside("memo");
        let (mut first, _) = scan_with(&ground, &file);
        first.save_memo(&file).unwrap();
        edit(&ground);
        let (second, _) = scan_with(&ground, &file);
        assert_eq!(known(&second), ground.digest(), "{what}");
        assert_ne!(known(&second), known(&first), "{what}");
    }
}

#[test]
fn entries_that_were_young_are_read_again() {
    let ground = ground();
    let file = ground.beside("memo");
    let mut young = ground.hasher();
    young.probe.settled = Some(false);
    young.scan(&mut |_| {});
    young.save_memo(&file).unwrap();
    // All but the ignore file, which is read in any case.
    assert_eq!(scan_with(&ground, &file).1.read_files, 5);
}

#[test]
fn a_memo_made_under_other_options_gives_only_its_digests() {
    let ground = ground();
    let file = ground.beside("memo");
    scan_with(&ground, &file).0.save_memo(&file).unwrap();
    let options = Options {
        exclude: vec!["a".to_owned()],
        extra_inputs: vec!["gen/**".to_owned()],
        ..ground.options()
    };
    let mut other = ground.hasher_with(options.clone());
    other.probe.settled = Some(true);
    other.load_memo(&file);
    assert_eq!(other.scan(&mut |_| {}).read_files, 0);
    assert_eq!(known(&other), ground.digest_with(options));
}

#[test]
fn anything_odd_is_ignored() {
    let ground = ground();
    let file = ground.beside("memo");
    let (mut first, cold) = scan_with(&ground, &file);
    first.save_memo(&file).unwrap();
    let good = fs::read(&file).unwrap();
    assert!(TreeMemo::decode(good.clone()).is_ok());
    let error = |bytes: &[u8]| TreeMemo::decode(bytes.to_vec()).err();
    assert_eq!(error(b""), Some(MemoError::Foreign));
    assert_eq!(error(b"anything at all"), Some(MemoError::Foreign));
    let mut newer = good.clone();
    newer[8] += 1;
    assert_eq!(error(&newer), Some(MemoError::Version));
    for cut in [good.len() - 1, good.len() / 2, 13, 12] {
        assert_eq!(error(&good[..cut]), Some(MemoError::Damaged), "cut at {cut}");
    }
    for at in (12..good.len()).step_by(7) {
        let mut flipped = good.clone();
        flipped[at] ^= 0x40;
        assert_eq!(error(&flipped), Some(MemoError::Damaged), "flipped at {at}");
    }
    for bad in [&good[..good.len() / 2], b"", &newer] {
        fs::write(&file, bad).unwrap();
        let (hasher, changes) = scan_with(&ground, &file);
        assert_eq!(known(&hasher), known(&first));
        assert_eq!(changes.read_files, cold.read_files);
    }
    let (_, none) = scan_with(&ground, &ground.beside("none"));
    assert_eq!(none.read_files, cold.read_files);
    // A memo whose digest is right and whose insides are not: still no panic.
    for cut in 12..good.len() - 32 {
        let mut forged = good[..cut].to_vec();
        let digest = Digest::of(&forged);
        forged.extend_from_slice(digest.as_bytes());
        if let Ok(memo) = TreeMemo::decode(forged) {
            let _ = memo.listing(b"");
        }
    }
}

#[test]
fn a_memo_that_cannot_be_written_is_an_error_and_the_old_one_stays() {
    let ground = ground();
    let (mut hasher, _) = scan_with(&ground, &ground.beside("memo"));
    ground.write("file", "");
    assert!(hasher.save_memo(&ground.path("file/memo")).is_err());
    let mut unscanned = ground.hasher();
    unscanned.save_memo(&ground.beside("unscanned")).unwrap();
    assert!(!ground.beside("unscanned").exists(), "there is nothing to keep");
}
