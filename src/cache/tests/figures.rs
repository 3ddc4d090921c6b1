//! How long things take; printed, not judged. Run it with optimisation:
//! `cargo test --release --lib cache::tests::figures -- --ignored --nocapture`.

use super::*;

/// The median time of `what` in microseconds.
fn median(times: usize, mut what: impl FnMut(usize)) -> f64 {
    let mut all: Vec<f64> = (0..times)
        .map(|n| {
            let start = Instant::now();
            what(n);
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

#[test]
#[ignore = "a measurement"]
fn figures() {
    let (_dir, cache) = cache();
    let ten = Limits { keep_snapshots: 10, ..LIMITS };
    // 14 targets, 1,143 tests less one, as a known workspace has.
    let large = |n: usize| Record {
        created: Timestamp(NOW.0 + n as u64),
        ..sized(n as u64, 14, 1_143 / 14 + 1)
    };
    let records: Vec<_> = (0..200).map(large).collect();
    let mut bytes = 0;
    let put = median(200, |n| bytes = cache.put(&records[n], ten).unwrap().bytes);
    println!("put, {bytes} bytes, {} tests, retention included: {put:.0} us", 82 * 14);
    let store = median(200, |_| bytes = cache.store(&records[199], ten).unwrap());
    println!("store (no retention): {store:.0} us");

    let now = Timestamp(NOW.0 + 1_000);
    let get = |cache: &Cache| assert!(matches!(cache.get(&key(199), now, HOUR), Lookup::Hit(_)));
    let cold = median(200, |_| get(&Cache::open(cache.dir())));
    println!("get from disk: {cold:.0} us");
    std::thread::park_timeout(Duration::from_secs(2));
    get(&cache);
    let warm = median(10_000, |_| get(&cache));
    println!("get from memory: {warm:.2} us");
    let latest = median(100, |_| drop(cache.latest(Path::new("/p"), "--workspace").unwrap()));
    println!("latest: {latest:.0} us");
    let state = median(100, |_| {
        cache.update_state(Path::new("/p"), |state| state.last = None).unwrap();
    });
    println!("update of the last verdict: {state:.0} us");

    cache.clear(None).unwrap();
    for n in 0..10_000_u64 {
        let project = format!("/project/{}", n / 100).into();
        cache.store(&Record { workspace_root: project, ..record(n) }, LIMITS).unwrap();
    }
    let all = GcOptions { limits: LIMITS, ..GcOptions::default() };
    let look = median(3, |_| drop(cache.gc(NOW, &all).unwrap()));
    println!("gc, 10,000 records in 100 projects, nothing to do: {:.0} ms", look / 1e3);
    let stats = median(3, |_| drop(cache.stats().unwrap()));
    println!("stats of them: {:.0} ms", stats / 1e3);
    let put = median(20, |n| {
        let project = "/project/0".into();
        let record = Record { workspace_root: project, ..record(20_000 + n as u64) };
        cache.put(&record, LIMITS).unwrap();
    });
    println!("put among them: {:.1} ms", put / 1e3);
    let ten = GcOptions { limits: Limits { keep_snapshots: 10, ..LIMITS }, ..all };
    let start = Instant::now();
    let removed = cache.gc(NOW, &ten).unwrap().removed.len();
    println!("gc that removes {removed}: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);
}
