//! Folders that cannot be written: a clear error, nothing lost, and the caller goes on.

use super::*;
use crate::process::{Environment, Spec, capture};

/// Set for the test process that runs in a namespace of its own.
const INSIDE: &str = "KNHK_TEST_CACHE_INSIDE";

fn refused(cache: &Cache, number: u64) -> String {
    let error = cache.put(&record(number), LIMITS).unwrap_err();
    assert!(matches!(error, PutError::Write { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_file_in_place_of_a_folder_is_named() {
    let (_dir, cache) = cache();
    fs::write(cache.dir(), "x").unwrap();
    let error = refused(&cache, 1);
    assert!(error.contains(cache.dir().to_str().unwrap()) && error.contains("move it away"));
    assert!(matches!(ask(&cache, 1), Lookup::Miss(MissReason::Malformed(_))));
    assert!(cache.update_state(Path::new("/p"), |_| {}).is_err());
    assert!(cache.put_manifest(code_hash(1), b"x").is_err());
    assert_eq!(fs::read(cache.dir()).unwrap(), b"x");

    fs::remove_file(cache.dir()).unwrap();
    for place in [cache.layout.records(), cache.layout.projects()] {
        fs::create_dir_all(cache.dir()).unwrap();
        fs::write(&place, "x").unwrap();
        let error = refused(&cache, 1);
        assert!(error.contains(&format!("`{}`", place.display())), "{error}");
        assert!(cache.stats().is_err() && cache.clear(None).is_err());
        fs::remove_file(place).unwrap();
    }
    cache.put(&record(1), LIMITS).unwrap();
    hit(&cache, 1);
}

#[test]
fn a_folder_in_place_of_a_record_is_malformed_and_left_alone() {
    let (_dir, cache) = cache();
    let path = cache.layout.record(&key(1));
    fs::create_dir_all(path.join("below")).unwrap();
    assert!(matches!(ask(&cache, 1), Lookup::Miss(MissReason::Malformed(_))));
    refused(&cache, 1);
    let left = all_files(cache.dir());
    assert!(left.iter().all(|file| !file.to_str().unwrap().contains(layout::UNFINISHED)));
    assert!(index::claims(&cache.layout).unwrap().is_empty(), "nothing of it is kept");
    cache.gc(NOW, &GcOptions::default()).unwrap();
    cache.clear(None).unwrap();
    assert!(path.join("below").exists());
}

#[test]
fn a_link_in_place_of_a_record_is_malformed_and_its_target_is_left_alone() {
    let (dir, cache) = cache();
    cache.put(&record(1), LIMITS).unwrap();
    let (path, target) = (cache.layout.record(&key(1)), dir.path().join("target"));
    fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(matches!(ask(&cache, 1), Lookup::Miss(MissReason::Malformed(_))));
    let report = cache.gc(NOW, &GcOptions { limits: LIMITS, ..GcOptions::default() }).unwrap();
    assert_eq!(report.removed.len(), 1);
    assert!(target.exists() && path.symlink_metadata().is_err());
}

/// Runs [`inside_a_namespace`] with a small and a read-only file system of its own.
#[test]
fn a_full_and_a_read_only_disk_are_told_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut environment = Environment::default();
    environment.set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    environment.set(INSIDE, dir.path());
    let script = "mkdir full read-only && mount -t tmpfs -o size=96k none full \
        && mount -t tmpfs -o ro none read-only && echo mounted && exec \"$0\" \"$@\"";
    let spec = Spec::new("unshare", dir.path(), environment)
        .args(["-Urm", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "cache::tests::refused::inside_a_namespace"]);
    let output = capture(&spec, Duration::from_secs(60));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output {
        Ok(output) if text(&output.stdout).contains("mounted") => {
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert!(output.success() && out.contains("1 passed"), "{out}{err}");
        }
        other => {
            let why = format!("no user and mount namespace here: {other:?}");
            assert!(std::env::var_os("KNHK_TEST_CACHE_CI").is_none(), "{why}");
            eprintln!("SKIPPED the full and the read-only disk: {why}");
        }
    }
}

/// The other half of the test above; does nothing when it is run by itself.
#[test]
fn inside_a_namespace() {
    let Some(dir) = std::env::var_os(INSIDE).map(PathBuf::from) else { return };
    let full = dir.join("full");
    let cache = Cache::open(&full);
    cache.put(&record(1), LIMITS).unwrap();
    let error = cache.put(&sized(2, 10, 300), LIMITS).unwrap_err();
    assert!(
        matches!(&error, PutError::Write { source, .. }
            if source.kind() == std::io::ErrorKind::StorageFull),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.contains(full.to_str().unwrap()) && text.contains("free some space"), "{text}");
    hit(&cache, 1);
    assert!(is_absent(&cache, 2));

    // To the last block: whatever fails, nothing is torn and nothing is left.
    let mut kept = 0;
    for number in 10..200 {
        if cache.put(&record(number), LIMITS).is_ok() {
            kept += 1;
        } else {
            assert!(is_absent(&cache, number));
        }
    }
    assert!((1..190).contains(&kept), "{kept}");
    assert!(all_files(&full).iter().all(|f| !f.to_str().unwrap().contains(layout::UNFINISHED)));
    // There is no room for the failure, and still the green that it disproves is gone.
    hit(&cache, 1);
    let disproved = Record { verdict: Verdict::Fail, ..sized(1, 10, 300) };
    cache.put(&disproved, LIMITS).unwrap_err();
    assert!(is_absent(&cache, 1));
    let _ = cache.update_state(Path::new("/p"), |state| state.verified = 1);
    let report = cache.clear(None).unwrap();
    assert!(report.failed.is_empty() && report.freed() > 0);
    cache.put(&record(1), LIMITS).unwrap();
    assert_eq!(cache.update_state(Path::new("/p"), |s| s.verified = 1).unwrap().verified, 1);

    let cache = Cache::open(dir.join("read-only/cache"));
    let error = refused(&cache, 1);
    assert!(error.contains("read-only`") && error.contains("XDG_CACHE_HOME"), "{error}");
    assert!(is_absent(&cache, 1));
    assert_eq!(cache.stats().unwrap(), Stats::default());
}
