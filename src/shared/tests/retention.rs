//! Old objects are removed, by age and by project, and nothing else.

use std::time::SystemTime;

use super::*;
use crate::shared::{Retention, RetentionReport};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Gives a file this age.
fn make_old(path: &Path, age: Duration) {
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(SystemTime::now() - age)
        .unwrap();
}

fn collect(store: &SharedStore, project: Option<&str>, dry_run: bool) -> RetentionReport {
    let project = project.map(str::to_owned);
    let wanted = Retention { older_than: 30 * DAY, project, dry_run };
    block_on(store.collect(wanted)).unwrap()
}

#[test]
fn old_objects_go_by_age_and_by_project() {
    let team = Team::new();
    let writer = team.writer(CI);
    let publish = |project: &str, tree| {
        let place = BundlePlace { project: project.to_owned(), ..place(tree) };
        let records = vec![record("a")];
        block_on(writer.publish(Publication { place, records })).unwrap();
    };
    publish("one", 1);
    publish("one", 2);
    publish("other", 1);
    let objects = || files(&team.path("store"));
    let kind = |path: &Path| path.parent().unwrap().file_name().unwrap().to_owned();
    let is_of = |path: &PathBuf, project: &str| path.iter().any(|part| part == project);
    assert_eq!(objects().len(), 5, "three trees, and the latest records of two projects");
    let foreign = team.path("store/README");
    fs::write(&foreign, "of the team").unwrap();
    let earlier = team.path("store/v1/signer/tree/1");
    let unfinished = team.path("store/.unfinished/1");
    for path in [&earlier, &unfinished] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "12345").unwrap();
    }
    assert_eq!(collect(&writer, None, false).removed, 0, "all is young");
    let all = objects();
    all.iter().filter(|path| kind(path) != "latest").for_each(|path| make_old(path, 31 * DAY));
    make_old(&foreign, 400 * DAY);

    let would = collect(&writer, Some("other"), true);
    assert_eq!((would.removed, would.kept), (1, 5));
    assert_eq!(objects(), all, "a dry run");
    assert_eq!(collect(&writer, Some("other"), false).removed, 1);
    assert_eq!(objects().iter().filter(|path| is_of(path, "other")).count(), 1);
    let report = collect(&writer, None, false);
    assert_eq!((report.removed, report.kept, report.failed), (4, 2, Vec::new()));
    assert!(report.bytes > 10);
    assert!(foreign.exists() && !earlier.exists() && !unfinished.exists());
    assert_eq!(bodies(&team.look_up()), Vec::<Value>::new(), "of another project");
    assert!(objects().iter().all(|path| *path == foreign || kind(path) == "latest"));
}

#[test]
fn only_a_writer_removes_and_an_empty_store_has_nothing_to_remove() {
    let team = Team::new();
    let wanted = Retention { older_than: DAY, project: None, dry_run: true };
    let reader = SharedStore::open(team.options()).unwrap();
    let error = block_on(reader.collect(wanted)).unwrap_err();
    assert_eq!(error.to_string(), "`write` is off: only a machine that writes may remove");
    assert_eq!(collect(&team.writer(CI), None, false), RetentionReport::default());
}

/// All files below a folder.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        found.extend(if path.is_dir() { files(&path) } else { BTreeSet::from([path]) });
    }
    found
}
