//! Many threads and processes at once: no reader sees half a file, and no call fails.

use super::*;
use crate::process::{Environment, Spec, capture};

/// Folder, seed and number of steps for a process that takes part.
const PART: &str = "KNHK_TEST_CACHE_PART";
const KEYS: u64 = 6;
const PROJECTS: [&str; 3] = ["/p", "/q", "/r"];

/// Small pseudo-random numbers, the same for one seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % limit
    }
}

/// A record of which every part follows from two numbers, so that a mixture of two shows.
fn whole(number: u64, tests: usize) -> Record {
    let project = PROJECTS[tests % PROJECTS.len()].into();
    let identity = std::collections::BTreeMap::from([("tests".to_owned(), tests.to_string())]);
    Record {
        workspace_root: project,
        identity,
        duration_ms: tests as u64,
        ..sized(number, 2, tests)
    }
}

fn check(record: &Record, number: u64) {
    assert_eq!(*record, whole(number, record.targets[0].tests.len()));
}

/// One participant; returns how often it counted in the state of `/p`.
fn take_part(dir: &Path, seed: u64, steps: u64) -> u64 {
    let cache = Cache::open(dir);
    let mut numbers = Numbers(seed);
    let mut counted = 0;
    for _ in 0..steps {
        let number = numbers.below(KEYS);
        let project = Path::new(PROJECTS[usize::try_from(numbers.below(3)).unwrap()]);
        match numbers.below(40) {
            0..12 => {
                let tests = 1 + usize::try_from(numbers.below(40)).unwrap();
                let keep_snapshots = 2 + usize::try_from(numbers.below(3)).unwrap();
                let limits = Limits { keep_snapshots, ..LIMITS };
                cache.put(&whole(number, tests), limits).unwrap();
            }
            12..28 => match ask(&cache, number) {
                Lookup::Hit(record) => {
                    check(&record, number);
                    cache.claim(project, record.code_hash, &record, NOW).unwrap();
                }
                Lookup::Miss(MissReason::Absent) => {}
                Lookup::Miss(reason) => panic!("{reason}"),
            },
            28..31 => {
                let limits = Limits { keep_snapshots: 3, ..LIMITS };
                let dry_run = numbers.below(2) == 0;
                let options = GcOptions { limits, dry_run, ..GcOptions::default() };
                let report = cache.gc(NOW, &options).unwrap();
                assert!(report.failed.is_empty(), "{report:?}");
                assert!(
                    report.removed.iter().all(|r| !matches!(r.why, RemovalReason::Malformed(_))),
                    "{report:?}"
                );
            }
            31 => {
                let all = numbers.below(4) == 0;
                let report = cache.clear((!all).then_some(project)).unwrap();
                assert!(report.failed.is_empty(), "{report:?}");
            }
            32..34 => {
                cache.stats().unwrap();
            }
            34..36 => {
                if let Some(record) = cache.latest(project, "--workspace") {
                    check(&record, (0..KEYS).find(|n| key(*n) == record.key).unwrap());
                }
            }
            36..38 => {
                let listing = vec![7; usize::try_from(numbers.below(9_000)).unwrap()];
                cache.put_manifest(code_hash(number), &listing).unwrap();
                if let Some(listing) = cache.manifest(code_hash(number)) {
                    assert!(listing.iter().all(|byte| *byte == 7));
                }
            }
            _ => {
                cache.update_state(Path::new("/p"), |state| state.verified += 1).unwrap();
                counted += 1;
            }
        }
    }
    counted
}

/// After everyone has ended: everything works and nothing is left over.
fn check_afterwards(dir: &Path, counted: u64) {
    let cache = Cache::open(dir);
    assert_eq!(cache.state(Path::new("/p")).verified, counted);
    let report = cache.gc(NOW, &GcOptions { limits: LIMITS, ..GcOptions::default() }).unwrap();
    assert!(report.failed.is_empty() && report.removed.is_empty(), "{report:?}");
    assert!(all_files(dir).iter().all(|f| !f.to_str().unwrap().contains(layout::UNFINISHED)));
    for number in 0..KEYS {
        cache.put(&whole(number, 3), LIMITS).unwrap();
        check(&hit(&cache, number), number);
    }
    cache.clear(None).unwrap();
    assert_eq!(cache.stats().unwrap().entries, 0);
}

#[test]
fn threads_with_caches_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let counted = std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..6).map(|seed| scope.spawn(move || take_part(path, seed, 150))).collect();
        parts.into_iter().map(|part| part.join().unwrap()).sum()
    });
    check_afterwards(dir.path(), counted);
}

#[test]
fn threads_that_share_one_cache() {
    let (_dir, cache) = cache();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                for _ in 0..150 {
                    let number = numbers.below(KEYS);
                    if numbers.below(3) == 0 {
                        let tests = 1 + usize::try_from(numbers.below(20)).unwrap();
                        cache.put(&whole(number, tests), LIMITS).unwrap();
                    } else if let Lookup::Hit(record) = ask(cache, number) {
                        check(&record, number);
                    }
                }
            });
        }
    });
}

#[test]
fn processes() {
    let dir = tempfile::tempdir().unwrap();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..4)
            .map(|seed| {
                let dir = dir.path();
                scope.spawn(move || {
                    let mut environment = Environment::default();
                    environment.set(PART, format!("{seed} 150 {}", dir.display()));
                    let spec = Spec::new(std::env::current_exe().unwrap(), dir, environment)
                        .args(["--exact", "--nocapture", "cache::tests::concurrency::part"]);
                    capture(&spec, Duration::from_secs(120)).unwrap()
                })
            })
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let mut counted = 0;
    for output in outputs {
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
        let number = out.split("counted ").nth(1).and_then(|rest| rest.split('.').next());
        counted += number.unwrap().parse::<u64>().unwrap();
    }
    check_afterwards(dir.path(), counted);
}

/// The body of each process of the test above; it does nothing when run by itself.
#[test]
fn part() {
    let Ok(part) = std::env::var(PART) else { return };
    let mut words = part.splitn(3, ' ');
    let mut number = || words.next().unwrap().parse::<u64>().unwrap();
    let (seed, steps) = (number(), number());
    let counted = take_part(Path::new(words.next().unwrap()), seed + 100, steps);
    println!("counted {counted}.");
}

#[test]
fn a_holder_that_never_lets_go_stops_no_put() {
    let (_dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    let path = cache.layout.records_lock();
    let held = files::Lock::take(&path, files::Access::Exclusive, Duration::ZERO).unwrap();
    let started = Instant::now();
    // The first one waits a second, the others do not.
    for number in 2..60 {
        cache.put(&record(number), LIMITS).unwrap();
    }
    assert!(started.elapsed() < Duration::from_secs(30));
    hit(&cache, 1);
    hit(&cache, 2);
    drop(held);
}
