//! The cache as its callers see it, in real folders.

mod concurrency;
mod figures;
mod refused;
mod sweeping;

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Instant;

use super::retention::RemovalReason;
use super::samples::{LIMITS, NOW, code_hash, failing, key, record, sized};
use super::sweep::{CacheItem, RemovedItem, Stats};
use super::*;
use crate::model::{Digest, Source, TestCounts};

const HOUR: Duration = Duration::from_secs(3_600);

fn cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().join("cache"));
    (dir, cache)
}

fn later(by: Duration) -> Timestamp {
    Timestamp(NOW.0 + u64::try_from(by.as_millis()).unwrap())
}

fn ask(cache: &Cache, number: u64) -> Lookup {
    cache.get(&key(number), NOW, HOUR)
}

fn is_absent(cache: &Cache, number: u64) -> bool {
    matches!(ask(cache, number), Lookup::Miss(MissReason::Absent))
}

fn hit(cache: &Cache, number: u64) -> Arc<Record> {
    match ask(cache, number) {
        Lookup::Hit(record) => record,
        Lookup::Miss(reason) => panic!("no hit: {reason}"),
    }
}

/// All files below a folder.
fn all_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The log lines of `what`.
fn logged(what: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, what);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_stored_record_is_found() {
    let (_dir, cache) = cache();
    assert!(is_absent(&cache, 1));
    let stored = cache.put(&record(1), LIMITS).unwrap();
    assert_eq!(*hit(&cache, 1), record(1));
    assert_eq!(stored.bytes, cache.layout.record(&key(1)).metadata().unwrap().len());
    assert!(is_absent(&cache, 2));
}

#[test]
fn another_version_or_level_is_another_key() {
    let (_dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    for other in
        [RecordKey { version: 2, ..key(1) }, RecordKey { level: RecordLevel::Binary, ..key(1) }]
    {
        assert!(matches!(cache.get(&other, NOW, HOUR), Lookup::Miss(MissReason::Absent)));
        let narrow = Record { key: other, ..record(1) };
        cache.put(&narrow, LIMITS).unwrap();
        assert!(matches!(cache.get(&other, NOW, HOUR), Lookup::Hit(found) if *found == narrow));
    }
    assert_eq!(*hit(&cache, 1), record(1));
}

#[test]
fn a_record_has_its_time() {
    let (_dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    let at = |now| cache.get(&key(1), now, HOUR);
    assert!(matches!(at(later(HOUR - Duration::from_millis(1))), Lookup::Hit(_)));
    assert!(matches!(at(later(HOUR)), Lookup::Miss(MissReason::Expired { age }) if age == HOUR));
    assert!(matches!(at(Timestamp(NOW.0 - 1)), Lookup::Miss(MissReason::FromTheFuture)));
    let never = cache.get(&key(1), NOW, Duration::ZERO);
    assert!(matches!(never, Lookup::Miss(MissReason::Expired { .. })));
}

#[test]
fn a_failure_is_known_and_never_an_answer() {
    let (_dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    cache.put(&failing(1), LIMITS).unwrap();
    for now in [NOW, later(HOUR * 2), Timestamp(0)] {
        let lookup = cache.get(&key(1), now, HOUR);
        assert!(matches!(lookup, Lookup::Miss(MissReason::NotGreen(r)) if *r == failing(1)));
    }
}

#[test]
fn an_incomplete_outcome_is_refused_and_the_old_record_stays() {
    let (_dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    let mut cancelled = failing(1);
    cancelled.targets[0].end = crate::model::End::Cancelled;
    assert!(matches!(cache.put(&cancelled, LIMITS), Err(PutError::NotWhole(_))));
    let tight = Limits { max_bytes: 100, ..LIMITS };
    assert!(matches!(cache.put(&record(1), tight), Err(PutError::TooLarge { max: 100, .. })));
    hit(&cache, 1);
}

#[test]
fn names_that_are_not_text_survive() {
    let (_dir, cache) = cache();
    let path = |text: &[u8]| PathBuf::from(OsString::from_vec(text.to_vec()));
    let mut odd = record(1);
    odd.workspace_root = path(b"/home/\xff\xfe/w");
    odd.inputs.push(Input { path: path(b"fix\x80ture\n"), state: InputState::Absent, proof: None });
    cache.put(&odd, LIMITS).unwrap();
    assert_eq!(*hit(&cache, 1), odd);
    assert_eq!(cache.stats().unwrap().projects[0].path, Some(odd.workspace_root.clone()));
    assert_eq!(cache.latest(&odd.workspace_root, &odd.selection), Some(odd));
}

#[test]
fn everything_odd_is_a_miss_that_is_logged_and_swept() {
    let (_dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    cache.put(&record(2), LIMITS).unwrap();
    let path = cache.layout.record(&key(1));
    let good = fs::read(&path).unwrap();
    let mut lying = failing(1);
    lying.verdict = Verdict::Pass;
    let replaced = |from: &str, to: &str| {
        String::from_utf8(good.clone()).unwrap().replacen(from, to, 1).into_bytes()
    };
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("garbage", b"\xff\x00garbage".to_vec()),
        ("truncated", good[..good.len() / 2].to_vec()),
        ("changed", replaced("\"pass\"", "\"fail\"")),
        ("another version", replaced("\"format\":1", "\"format\":7")),
        ("another kind", format::encode("state", &record(1)).unwrap()),
        ("wrong type", format::encode("record", &vec![1, 2]).unwrap()),
        ("another key", fs::read(cache.layout.record(&key(2))).unwrap()),
        ("a contradiction", format::encode("record", &lying).unwrap()),
    ];
    for (name, bytes) in cases {
        fs::write(&path, bytes).unwrap();
        let log = logged(|| {
            let lookup = ask(&cache, 1);
            assert!(matches!(lookup, Lookup::Miss(MissReason::Malformed(_))), "{name}: {lookup:?}");
        });
        assert!(log.contains("WARN") && log.contains(path.to_str().unwrap()), "{name}: {log}");
        let report = cache.gc(NOW, &GcOptions { limits: LIMITS, ..GcOptions::default() }).unwrap();
        let [RemovedItem { item: CacheItem::Record(gone), why: RemovalReason::Malformed(_), .. }] =
            &report.removed[..]
        else {
            panic!("{name}: {report:?}")
        };
        assert_eq!(*gone, key(1));
        assert!(is_absent(&cache, 1), "{name}");
        hit(&cache, 2);
        cache.put(&record(1), LIMITS).unwrap();
        hit(&cache, 1);
    }
}

#[test]
fn memory_answers_only_while_the_file_is_the_same() {
    let (_dir, cache) = cache();
    let other = Cache::open(cache.dir());
    other.put(&record(1), LIMITS).unwrap();
    let remembered = || {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (one, two) = (hit(&cache, 1), hit(&cache, 1));
            if Arc::ptr_eq(&one, &two) {
                return;
            }
            // A file must be some milliseconds old before its stamp is trusted.
            assert!(Instant::now() < deadline, "never remembered");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    remembered();
    other.put(&failing(1), LIMITS).unwrap();
    assert!(matches!(ask(&cache, 1), Lookup::Miss(MissReason::NotGreen(_))));
    other.put(&record(1), LIMITS).unwrap();
    remembered();
    other.clear(None).unwrap();
    assert!(is_absent(&cache, 1));
}

#[test]
fn the_folders_are_private_and_tagged() {
    let (_dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    cache.put_manifest(code_hash(1), b"listing").unwrap();
    cache.update_state(Path::new("/p"), |state| state.verified += 1).unwrap();
    for file in all_files(cache.dir()) {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
        let folder = file.parent().unwrap();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700, "{folder:?}");
    }
    let tag = fs::read_to_string(cache.dir().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
}

#[test]
fn a_listing_lives_as_long_as_its_snapshot() {
    let (_dir, cache) = cache();
    assert_eq!(cache.manifest(code_hash(1)), None);
    let one = Limits { keep_snapshots: 1, ..LIMITS };
    cache.put_manifest(code_hash(1), b"\x00one\n").unwrap();
    cache.put(&record(1), one).unwrap();
    assert_eq!(cache.manifest(code_hash(1)).unwrap(), b"\x00one\n");
    cache.put_manifest(code_hash(2), b"").unwrap();
    let newer = Record { created: later(HOUR), ..record(2) };
    cache.put(&newer, one).unwrap();
    assert_eq!(cache.manifest(code_hash(1)), None);
    assert_eq!(cache.manifest(code_hash(2)).unwrap(), b"");

    fs::write(cache.layout.manifest(&code_hash(2)), "knhk-test-cache manifest 1 x").unwrap();
    assert!(logged(|| assert_eq!(cache.manifest(code_hash(2)), None)).contains("WARN"));
    let too_large = vec![0; (64 << 20) + 1];
    let error = cache.put_manifest(code_hash(3), &too_large).unwrap_err();
    assert!(matches!(error, PutError::TooLarge { .. }));
}

#[test]
fn the_latest_record_is_that_of_the_project_and_selection() {
    let (_dir, cache) = cache();
    let p = Path::new("/p");
    assert_eq!(cache.latest(p, "--workspace"), None);
    let old = record(1);
    let new = Record { created: later(HOUR), ..failing(2) };
    let elsewhere = Record { created: later(HOUR * 2), workspace_root: "/q".into(), ..record(3) };
    let other = Record { created: later(HOUR * 2), selection: "-p x".to_owned(), ..record(4) };
    for record in [&new, &old, &elsewhere, &other] {
        cache.put(record, LIMITS).unwrap();
    }
    assert_eq!(cache.latest(p, "--workspace").as_ref(), Some(&new));
    assert_eq!(cache.latest(p, "-p x"), Some(other));
    assert_eq!(cache.latest(p, "-p"), None);
    // A malformed file is passed over.
    fs::write(cache.layout.record(&new.key), "odd").unwrap();
    assert_eq!(cache.latest(p, "--workspace"), Some(old));
}

#[test]
fn the_state_of_a_project_outlives_us_and_newer_fields_outlive_older_programs() {
    let (_dir, cache) = cache();
    let p = Path::new("/p");
    assert_eq!(cache.state(p), ProjectState::default());
    let last = LastVerdict {
        when: NOW,
        verdict: Verdict::Pass,
        source: Source::Cache,
        code_hash: Some(code_hash(1)),
        selection: "--workspace".to_owned(),
        counts: TestCounts { passed: 3, ..TestCounts::default() },
        elapsed_ms: 7,
    };
    let state = cache
        .update_state(p, |state| {
            state.verified += 2;
            state.last = Some(last.clone());
        })
        .unwrap();
    assert_eq!((state.verified, state.wrong, state.last.as_ref()), (2, 0, Some(&last)));
    assert_eq!(Cache::open(cache.dir()).state(p), state);
    assert_eq!(cache.state(Path::new("/q")), ProjectState::default());

    let path = cache.layout.state(&record::project_digest(p));
    let newer = serde_json::json!({"verified": 9, "novel": {"a": [1]}});
    fs::write(&path, format::encode("state", &newer).unwrap()).unwrap();
    assert_eq!(cache.update_state(p, |state| state.wrong = 1).unwrap().verified, 9);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""novel":{"a":[1]}"#), "{text}");

    fs::write(&path, "odd").unwrap();
    assert!(
        logged(|| assert_eq!(cache.state(p), ProjectState::default())).contains("begins again")
    );
    assert_eq!(cache.update_state(p, |state| state.verified += 1).unwrap().verified, 1);
}

#[test]
fn reasons_read_well() {
    assert_eq!(MissReason::Expired { age: HOUR }.to_string(), "the record is 3600 s old");
    let why = RemovalReason::Malformed("truncated".to_owned()).to_string();
    assert_eq!(why, "not a readable record: truncated");
}
