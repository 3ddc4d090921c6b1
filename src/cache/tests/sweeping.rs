//! Retention, statistics, `clear` and garbage collection.

use std::collections::BTreeMap;

use super::*;

fn at(number: u64, project: &str) -> Record {
    Record {
        created: Timestamp(NOW.0 + number * 1_000),
        workspace_root: project.into(),
        ..record(number)
    }
}

fn options(limits: Limits) -> GcOptions {
    GcOptions { limits, ..GcOptions::default() }
}

fn count(cache: &Cache) -> u64 {
    cache.stats().unwrap().entries
}

#[test]
fn a_project_keeps_its_last_snapshots_with_all_their_selections() {
    let (_dir, cache) = cache();
    let ten = Limits { keep_snapshots: 10, ..LIMITS };
    for number in 0..12 {
        cache.put(&at(number, "/p"), ten).unwrap();
        let selection =
            Record { key: key(100 + number), selection: "-p x".to_owned(), ..at(number, "/p") };
        cache.put(&selection, ten).unwrap();
    }
    for number in 0..12 {
        assert_eq!(is_absent(&cache, number), number < 2, "{number}");
        assert_eq!(is_absent(&cache, 100 + number), number < 2, "{number}");
    }
    let stats = cache.stats().unwrap();
    assert_eq!((stats.entries, stats.projects[0].snapshots), (20, 10));
}

#[test]
fn a_put_leaves_other_projects_to_their_own_number() {
    let (_dir, cache) = cache();
    for number in 0..3 {
        cache.put(&at(number, "/p"), LIMITS).unwrap();
    }
    cache.put(&at(4, "/q"), Limits { keep_snapshots: 1, ..LIMITS }).unwrap();
    assert_eq!(count(&cache), 4);
    let keep = BTreeMap::from([(PathBuf::from("/p"), 2)]);
    let limits = Limits { keep_snapshots: 1, ..LIMITS };
    let report = cache.gc(later(HOUR), &GcOptions { limits, keep, dry_run: false }).unwrap();
    assert_eq!(report.removed.len(), 1);
    assert_eq!(report.removed[0].why, RemovalReason::Snapshots(2));
    assert_eq!((report.entries, count(&cache)), (3, 3));
}

#[test]
fn the_size_of_everything_is_bounded_after_every_put() {
    let (_dir, cache) = cache();
    let bytes = cache.put(&at(0, "/q"), LIMITS).unwrap().bytes;
    let limits = Limits { max_bytes: bytes * 3 + 50, ..LIMITS };
    for number in 1..8 {
        cache.put(&at(number, "/p"), limits).unwrap();
        assert!(cache.stats().unwrap().bytes <= limits.max_bytes);
    }
    // The only record of the other project is older than all that went.
    assert_eq!(cache.stats().unwrap().projects.len(), 2);
    hit(&cache, 0);
}

#[test]
fn worktrees_share_records_and_neither_removes_what_the_other_keeps() {
    let (_dir, cache) = cache();
    let one = Limits { keep_snapshots: 1, ..LIMITS };
    cache.put(&at(1, "/p"), one).unwrap();
    let shared = hit_at(&cache, 1);
    let q = Path::new("/q");
    assert!(cache.claim(q, shared.code_hash, &shared, later(HOUR)).unwrap());
    assert!(!cache.claim(q, shared.code_hash, &shared, later(HOUR)).unwrap());
    assert_eq!(cache.latest(q, "--workspace").as_ref(), Some(&*shared));

    cache.put(&at(2, "/p"), one).unwrap();
    hit_at(&cache, 1);
    let stats = cache.stats().unwrap();
    assert_eq!((stats.entries, stats.projects.len()), (2, 2));
    assert!(stats.projects.iter().all(|project| project.entries == 1));

    cache.clear(Some(Path::new("/p"))).unwrap();
    hit_at(&cache, 1);
    assert!(is_absent(&cache, 2));
    cache.clear(Some(q)).unwrap();
    assert!(is_absent(&cache, 1));
    assert!(!cache.claim(q, shared.code_hash, &shared, later(HOUR)).unwrap(), "gone");
}

fn hit_at(cache: &Cache, number: u64) -> Arc<Record> {
    match cache.get(&key(number), later(HOUR), HOUR * 2) {
        Lookup::Hit(record) => record,
        Lookup::Miss(reason) => panic!("{reason}"),
    }
}

#[test]
fn a_lost_index_is_rebuilt() {
    let (_dir, cache) = cache();
    for number in 0..3 {
        cache.put(&at(number, "/p"), LIMITS).unwrap();
    }
    let before = cache.stats().unwrap();
    fs::remove_dir_all(cache.layout.projects()).unwrap();
    assert_eq!(cache.stats().unwrap().projects, []);
    let dry = cache.gc(NOW, &GcOptions { dry_run: true, ..options(LIMITS) }).unwrap();
    assert_eq!((dry.adopted, cache.stats().unwrap().projects.len()), (3, 0));
    let report = cache.gc(NOW, &options(LIMITS)).unwrap();
    assert_eq!((report.adopted, report.removed.len()), (3, 0));
    assert_eq!(cache.stats().unwrap(), before);

    // A put notices as well, and its bounds count what was there before.
    fs::remove_dir_all(cache.layout.projects()).unwrap();
    cache.put(&at(3, "/p"), Limits { keep_snapshots: 2, ..LIMITS }).unwrap();
    assert_eq!(count(&cache), 2);

    // Malformed names in the index are passed over and left alone.
    let project = record::project_digest(Path::new("/p"));
    let stranger = cache.layout.snapshots(&project).join("stranger");
    fs::write(&stranger, "x").unwrap();
    fs::write(cache.layout.project_path(&project), "/somewhere/else").unwrap();
    assert_eq!(cache.stats().unwrap().projects[0].path, None);
    cache.gc(NOW, &options(LIMITS)).unwrap();
    cache.clear(None).unwrap();
    assert!(stranger.exists());
}

#[test]
fn claims_without_records_go_and_their_sizes_are_mended() {
    let (_dir, cache) = cache();
    cache.put(&at(1, "/p"), LIMITS).unwrap();
    cache.put(&at(2, "/p"), LIMITS).unwrap();
    fs::remove_file(cache.layout.record(&key(1))).unwrap();
    // Recorded by another project with another size.
    let other = Record { workspace_root: "/q/longer".into(), ..at(2, "/p") };
    let bytes = cache.put(&other, LIMITS).unwrap().bytes;
    let report = cache.gc(NOW, &options(LIMITS)).unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let claims = index::claims(&cache.layout).unwrap();
    assert_eq!(claims.len(), 2);
    assert!(claims.iter().all(|claim| claim.key == key(2) && claim.bytes == bytes));
}

#[test]
fn gc_takes_what_died_unfinished_and_nothing_else() {
    let (_dir, cache) = cache();
    cache.put(&at(1, "/p"), LIMITS).unwrap();
    cache.put_manifest(code_hash(9), b"never recorded").unwrap();
    let shard = cache.layout.record(&key(1)).parent().unwrap().to_owned();
    let unfinished = shard.join(".unfinished-abc");
    fs::write(&unfinished, "half").unwrap();
    let strangers = [
        shard.join("notes.txt"),
        shard.join("..json"),
        cache.dir().join("memo.bin"),
        cache.layout.records().join("README"),
        cache.layout.manifests().join("x.manifest"),
    ];
    for path in &strangers {
        fs::write(path, "not ours").unwrap();
    }
    fs::create_dir_all(cache.dir().join("run/.unfinished-x")).unwrap();
    fs::create_dir_all(cache.layout.records().join("other-tool/zz")).unwrap();

    // At once, somebody may still be writing these.
    let now = Timestamp::now();
    let report = cache.gc(now, &options(Limits { max_bytes: 1 << 40, ..LIMITS })).unwrap();
    assert!(unfinished.exists() && cache.manifest(code_hash(9)).is_some(), "{report:?}");

    let later = Timestamp(now.0 + 2 * 3_600_000);
    let dry = cache.gc(later, &GcOptions { dry_run: true, ..options(LIMITS) }).unwrap();
    assert!(unfinished.exists());
    let report = cache.gc(later, &options(LIMITS)).unwrap();
    let whys = |report: &SweepReport| -> Vec<String> {
        let mut whys: Vec<_> = report.removed.iter().map(|r| format!("{r:?}")).collect();
        whys.sort();
        whys
    };
    assert_eq!(whys(&dry), whys(&report));
    assert!(!unfinished.exists());
    assert_eq!(cache.manifest(code_hash(9)), None);

    let report = cache.clear(None).unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    for path in strangers {
        assert!(path.exists(), "{path:?}");
    }
    assert!(cache.dir().join("run/.unfinished-x").exists());
    assert!(cache.layout.records().join("other-tool/zz").exists());
}

#[test]
fn a_memo_is_removed_with_its_program() {
    let (dir, cache) = cache();
    let (state, proof) = (Digest::of(b"state"), Digest::of(b"proof"));
    let programs = ["p/one", "p/two", "q/three"].map(|name| dir.path().join(name));
    for program in &programs {
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(program, "").unwrap();
        cache.store_program_digest(program, &proof, &state);
        assert_eq!(cache.program_digest(program, &proof), Some(state));
        assert_eq!(cache.program_digest(program, &state), None, "it is another one now");
    }
    // One program's memo says nothing of another one, and half of one nothing at all.
    fs::copy(cache.layout.program(&programs[0]), cache.layout.program(&programs[1])).unwrap();
    assert_eq!(cache.program_digest(&programs[1], &proof), None);
    let stranger = cache.layout.programs().join("notes.txt");
    fs::write(&stranger, "not ours").unwrap();
    fs::write(cache.layout.programs().join(".unfinished-x"), "half").unwrap();
    let stats = cache.stats().unwrap();
    assert_eq!(stats.programs, 3);
    assert!(stats.program_bytes > 3 * 129);

    fs::remove_file(&programs[0]).unwrap();
    let later = Timestamp(Timestamp::now().0 + 2 * 3_600_000);
    let dry = cache.gc(later, &GcOptions { dry_run: true, ..options(LIMITS) }).unwrap();
    assert_eq!((dry.removed.len(), cache.stats().unwrap().programs), (3, 3));
    let report = cache.gc(later, &options(LIMITS)).unwrap();
    assert_eq!(report.removed, dry.removed);
    let whys: Vec<_> = report.removed.iter().map(|removed| &removed.why).collect();
    assert!(
        whys.contains(&&RemovalReason::Gone) && whys.contains(&&RemovalReason::Unfinished),
        "{whys:?}"
    );
    assert_eq!(cache.program_digest(&programs[2], &proof), Some(state));

    cache.store_program_digest(&programs[1], &proof, &state);
    cache.clear(Some(&dir.path().join("p"))).unwrap();
    assert_eq!(cache.program_digest(&programs[1], &proof), None);
    assert_eq!(cache.program_digest(&programs[2], &proof), Some(state));
    cache.clear(None).unwrap();
    assert_eq!(cache.stats().unwrap().programs, 0);
    assert!(stranger.exists());
}

#[test]
fn calls_are_counted_and_push_out_no_snapshot() {
    let (_dir, cache) = cache();
    let two = Limits { keep_snapshots: 2, ..LIMITS };
    cache.put(&at(1, "/p"), two).unwrap();
    cache.put(&at(2, "/p"), two).unwrap();
    let call = |number| Record {
        key: RecordKey { level: RecordLevel::Call, ..key(number) },
        selection: "calls of p::it".to_owned(),
        ..at(number, "/p")
    };
    for number in 3..9 {
        cache.put(&call(number), two).unwrap();
    }
    hit_at(&cache, 1);
    hit_at(&cache, 2);
    let project = cache.stats().unwrap().projects.remove(0);
    assert_eq!((project.entries, project.calls, project.snapshots), (4, 2, 2));
    let calls = cache.records_of(Path::new("/p"), "calls of p::it");
    assert_eq!(calls, [call(8), call(7)], "the newest first");
    assert!(cache.records_of(Path::new("/q"), "calls of p::it").is_empty());
}

#[test]
fn a_disproved_target_disproves_its_snapshots() {
    let (_dir, cache) = cache();
    let binary = RecordKey { level: RecordLevel::Binary, ..key(1) };
    let of_target = Record { key: binary, selection: "test target p".to_owned(), ..at(1, "/p") };
    for record in [at(1, "/p"), at(2, "/p"), at(3, "/p"), of_target.clone()] {
        cache.put(&record, LIMITS).unwrap();
    }
    // Kept as of a later snapshot too.
    cache.claim(Path::new("/p"), code_hash(2), &of_target, NOW).unwrap();
    // And in another checkout.
    for number in [4, 5] {
        cache.put(&at(number, "/q"), LIMITS).unwrap();
    }
    cache.claim(Path::new("/q"), code_hash(4), &of_target, NOW).unwrap();
    cache.disprove_with_snapshots(&binary);
    assert!(matches!(cache.get(&binary, NOW, HOUR), Lookup::Miss(MissReason::Absent)));
    assert!(is_absent(&cache, 1) && is_absent(&cache, 2) && is_absent(&cache, 4));
    hit_at(&cache, 3);
    cache.disprove_in_snapshot(code_hash(5), &at(5, "/q").targets[0].id);
    assert!(is_absent(&cache, 5));
    hit_at(&cache, 3);
}

#[test]
fn clear_takes_all_records_and_keeps_the_counts() {
    let (_dir, cache) = cache();
    for number in 0..5 {
        cache.put(&at(number, "/p"), LIMITS).unwrap();
        cache.put_manifest(code_hash(number), b"x").unwrap();
    }
    cache.put(&at(7, "/q"), LIMITS).unwrap();
    cache.update_state(Path::new("/p"), |state| state.verified = 4).unwrap();
    let report = cache.clear(Some(Path::new("/q"))).unwrap();
    assert_eq!((report.removed.len(), report.entries), (1, 5));
    // One that the index does not know belongs to whom it names.
    let project = record::project_digest(Path::new("/p"));
    fs::remove_dir_all(cache.layout.snapshots(&project)).unwrap();
    let report = cache.clear(Some(Path::new("/p"))).unwrap();
    assert_eq!((report.removed.len(), report.entries), (10, 0));
    assert!(report.removed.iter().all(|removed| removed.why == RemovalReason::Cleared));
    assert!(report.freed() > 0);
    assert_eq!(cache.state(Path::new("/p")).verified, 4);

    let left: Vec<_> = all_files(cache.dir());
    let names: Vec<_> = left.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    for name in &names {
        let known = ["CACHEDIR.TAG", "records.lock", "state.lock", "path", "state.json"];
        assert!(known.contains(name), "{left:?}");
    }
    assert!(fs::read_dir(cache.layout.records()).unwrap().next().is_some(), "level folder stays");
}

#[test]
fn a_project_that_is_silent_for_long_is_forgotten() {
    let (_dir, cache) = cache();
    let now = Timestamp::now();
    cache.put(&Record { created: now, ..record(1) }, LIMITS).unwrap();
    cache.update_state(Path::new("/p"), |state| state.verified = 1).unwrap();
    let day = 24 * 3_600_000;
    let report = cache.gc(Timestamp(now.0 + 31 * day), &options(LIMITS)).unwrap();
    assert_eq!(report.removed[0].why, RemovalReason::Abandoned(31));
    assert_eq!(cache.state(Path::new("/p")).verified, 1);
    cache.gc(Timestamp(now.0 + 366 * day), &options(LIMITS)).unwrap();
    assert_eq!(cache.state(Path::new("/p")), ProjectState::default());
    assert_eq!(cache.stats().unwrap(), Stats::default());
}

#[test]
fn an_empty_or_missing_cache_is_no_error() {
    let (_dir, cache) = cache();
    assert_eq!(cache.stats().unwrap(), Stats::default());
    assert!(cache.clear(None).unwrap().removed.is_empty());
    assert!(cache.gc(NOW, &options(LIMITS)).unwrap().removed.is_empty());
    assert!(!cache.dir().exists(), "looking creates nothing");
}
