//! What a run was seen to do, on real files, and what of it a record depends on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Settings;
use crate::model::{TargetId, Timestamp};
use crate::observer::{Interference, LOADER_CACHE, LoaderCache, Peer, Problem};

struct Scene {
    root: PathBuf,
    temporary: PathBuf,
    seen: Observation,
    trusted: Vec<String>,
    _dir: tempfile::TempDir,
}

fn settings(trusted: &[String]) -> Settings {
    let environment = crate::process::Environment::default();
    let nowhere = PathBuf::from("/nowhere");
    let paths = crate::paths::Paths {
        home: nowhere.clone(),
        config_file: nowhere.join("config"),
        cache_dir: nowhere.join("cache"),
        runtime_dir: nowhere.join("run"),
    };
    let config = crate::config::load(&paths, &environment).unwrap().config;
    let mut settings = config.defaults;
    settings.trusted_services = trusted.to_vec();
    settings.exclude = vec!["logs/**".to_owned(), "*.log".to_owned()];
    settings
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (root, temporary) = (base.join("w"), base.join("t"));
        for folder in ["w/target/debug", "w/data", "t"] {
            fs::create_dir_all(base.join(folder)).unwrap();
        }
        let (seen, trusted) = (Observation::default(), Vec::new());
        Self { root, temporary, seen, trusted, _dir: dir }
    }

    /// The run uses a path, relative to the root, as it is now.
    fn uses(&mut self, path: &str, uses: Uses) -> PathBuf {
        let path = self.root.join(path);
        self.saw(&path, PathStamp::of(&path), uses);
        path
    }

    fn saw(&mut self, path: &Path, first: PathStamp, uses: Uses) {
        let text = fs::read_link(path).ok().map(|text| text.into_os_string().into_encoded_bytes());
        let seen = PathAccess { first, uses, text, class: PathClass::Ordinary };
        self.seen.paths.insert(path.to_owned(), seen);
    }

    fn judge(&self, started: SystemTime) -> Cacheability {
        self.judge_of_run().judge(&self.seen, started, &mut Fingerprints::default())
    }

    fn judge_of_run(&self) -> InputJudge {
        let id = TargetId::sample("t");
        InputJudge {
            root: self.root.clone(),
            subject: Subject::unkeyed(id),
            own: None,
            target_dirs: vec![self.root.join("target")],
            covered: Vec::new(),
            temporary: self.temporary.clone(),
            excluded: Excluded::of(&settings(&[])),
            trusted: Trusted::of(&settings(&self.trusted)),
            selects: true,
        }
    }

    /// What speaks against another run that nobody has asked for.
    fn obstacles(&self, doubts: &[Uncacheable]) -> Vec<String> {
        self.judge_of_run().obstacles(&self.seen, doubts)
    }

    /// The inputs of a run that began long after everything was written.
    fn inputs(&self) -> Vec<Input> {
        match self.judge(later()) {
            Cacheability::Observed(inputs) => inputs,
            other => panic!("{other:?}"),
        }
    }

    fn doubts(&self) -> Vec<Uncacheable> {
        match self.judge(later()) {
            Cacheability::Uncacheable(doubts) => doubts,
            other => panic!("{other:?}"),
        }
    }

    fn names(&self) -> Vec<String> {
        self.inputs().iter().map(|input| input.path.display().to_string()).collect()
    }

    fn holds(&self, inputs: &[Input]) -> bool {
        Fingerprints::default().first_changed(&self.root, inputs).is_none()
    }
}

/// A time at which every present stamp is settled, even one of another clock. The kernel gives names in `/proc`
/// new times whenever it has evicted them.
fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60 * 60)
}

#[test]
fn each_use_counts_in_its_way() {
    let mut scene = Scene::new();
    fs::write(scene.root.join("data/f"), "1").unwrap();
    fs::write(scene.root.join("target/debug/tool"), "#!x").unwrap();
    symlink("data", scene.root.join("link")).unwrap();
    scene.uses("data/f", Uses::READ);
    scene.uses("data", Uses::LISTED);
    scene.uses("target", Uses::PROBED);
    scene.uses("none", Uses::READ);
    scene.uses("none/below", Uses::PROBED);
    scene.uses("link", Uses::FOLLOWED);
    scene.uses("target/debug/tool", Uses::EXECUTED);
    let inputs = scene.inputs();
    let kind = |path: &str| {
        inputs.iter().find(|input| input.path == Path::new(path)).map(|input| input.state)
    };
    assert!(matches!(kind("data/f"), Some(InputState::File(_))));
    assert!(matches!(kind("data"), Some(InputState::Listing(_))));
    assert!(matches!(kind("target"), Some(InputState::Kind(_))));
    assert!(matches!(kind("link"), Some(InputState::Link(_))));
    assert!(matches!(kind("target/debug/tool"), Some(InputState::Program(_))));
    assert_eq!(kind("none"), Some(InputState::Absent));
    assert_eq!(kind("none/below"), None, "implied by what is around it");
    assert!(scene.holds(&inputs));
    // The run's own results are none.
    scene.uses("data/own", Uses::CREATED);
    scene.uses("data/f2", Uses::REPLACED);
    // A file may have become old enough for a proof meanwhile.
    let fingerprints = |inputs: &[Input]| -> Vec<_> {
        inputs.iter().map(|input| (input.path.clone(), input.state)).collect()
    };
    assert_eq!(fingerprints(&scene.inputs()), fingerprints(&inputs));
}

#[test]
fn a_component_of_the_toolchain_counts_where_it_was_looked_for() {
    let mut scene = Scene::new();
    let sysroot = scene.temporary.with_file_name("rust");
    let rustlib = sysroot.join("lib/rustlib");
    let (source, target) = (rustlib.join("src/library"), rustlib.join("wasm32-unknown-unknown"));
    fs::create_dir_all(&source).unwrap();
    let loaders = [rustlib.join("libm.so.6"), rustlib.join("libm.a"), rustlib.join("glibc-hwcaps")];
    for path in loaders.iter().chain([&source, &target]) {
        scene.saw(path, PathStamp::of(path), Uses::PROBED);
        scene.seen.paths.get_mut(path).unwrap().class = PathClass::Library;
    }
    let mut judge = scene.judge_of_run();
    judge.covered = vec![sysroot];
    let judged = judge.judge(&scene.seen, later(), &mut Fingerprints::default());
    let Cacheability::Observed(inputs) = judged else { panic!("{judged:?}") };
    let paths: Vec<_> = inputs.iter().map(|input| &input.path).collect();
    assert_eq!(paths, [&source, &target], "not where a loader looks");
    assert!(scene.holds(&inputs));
    fs::create_dir(&target).unwrap();
    assert!(!scene.holds(&inputs), "a target was added");
    fs::remove_dir(&target).unwrap();
    fs::remove_dir(&source).unwrap();
    assert!(!scene.holds(&inputs), "a component was removed");
}

#[test]
fn what_changed_meanwhile_or_a_moment_before_keeps_nothing() {
    let mut scene = Scene::new();
    let before = SystemTime::now();
    fs::write(scene.root.join("data/f"), "1").unwrap();
    let path = scene.uses("data/f", Uses::READ);
    let young = scene.judge(before);
    assert!(
        matches!(&young, Cacheability::Uncacheable(doubts) if doubts[..] == [Uncacheable::Young("data/f".into())]),
        "{young:?}"
    );
    fs::write(&path, "22").unwrap();
    assert_eq!(scene.doubts(), [Uncacheable::Changed("data/f".into())]);
    scene.seen.paths.clear();
    scene.uses("data", Uses::PROBED);
    scene.uses("appears", Uses::READ);
    fs::write(scene.root.join("data/new"), "").unwrap();
    assert_eq!(scene.names(), ["appears", "data"]);
    fs::write(scene.root.join("appears"), "").unwrap();
    assert_eq!(scene.doubts(), [Uncacheable::Changed("appears".into())]);
}

#[test]
fn what_cargo_has_just_made_is_decided_by_the_tree() {
    let mut scene = Scene::new();
    let before = SystemTime::now();
    for path in ["target/debug/tool", "target/tmp/left"] {
        fs::create_dir_all(scene.root.join(path).parent().unwrap()).unwrap();
        fs::write(scene.root.join(path), "1").unwrap();
    }
    scene.uses("target/debug/tool", Uses::EXECUTED);
    scene.uses("absent", Uses::READ);
    let cacheability = scene.judge(before);
    assert!(
        matches!(&cacheability, Cacheability::WholeTree(inputs) if inputs.len() == 1),
        "{cacheability:?}"
    );
    scene.uses("target/tmp/left", Uses::READ);
    assert!(matches!(scene.judge(before), Cacheability::Uncacheable(_)), "a test has made it");
}

#[test]
fn what_a_run_has_made_is_as_it_was_for_the_question_that_it_ran_for() {
    let mut scene = Scene::new();
    let made = scene.root.join("target/made");
    scene.saw(&made, PathStamp::Absent, Uses::PROBED.with(Uses::CREATED).with(Uses::CLAIMED));
    fs::create_dir(&made).unwrap();
    let inputs = scene.inputs();
    let holds = |asked| {
        let mut fingerprints = Fingerprints::default();
        fingerprints.accept_what_runs_left(asked);
        fingerprints.first_changed(&scene.root, &inputs).is_none()
    };
    let before = Some(Timestamp(0));
    assert!(holds(before));
    assert!(!holds(None), "another run finds it there");
    assert!(!holds(Some(Timestamp(u64::MAX))), "it was there when the question came");
    fs::set_permissions(&made, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(!holds(before), "somebody else was there");
    fs::remove_dir_all(&made).unwrap();
    assert!(holds(None) && holds(before));
}

#[test]
fn leftovers_below_folders_for_results_are_passed_over_and_nothing_else() {
    let scratch = Uses::PROBED.with(Uses::LISTED).with(Uses::REMOVED).with(Uses::CREATED);
    let mut scene = Scene::new();
    let work = scene.temporary.join("work");
    for folder in ["work", "data/work"] {
        fs::create_dir_all(scene.temporary.join(folder)).unwrap();
    }
    fs::write(work.join("old"), "").unwrap();
    let (folder, file) = (PathStamp::of(&work), PathStamp::of(&work.join("old")));
    scene.saw(&work, folder, scratch);
    scene.saw(&work.join("old"), file, Uses::PROBED.with(Uses::REMOVED));
    fs::remove_file(work.join("old")).unwrap();
    assert!(scene.inputs().is_empty());
    // Made for the first time, and left there: a second run may fail on it.
    scene.saw(&work, PathStamp::Absent, Uses::CLAIMED.with(Uses::CREATED));
    let inputs = scene.inputs();
    assert_eq!(inputs[0].state, InputState::Absent);
    assert!(!scene.holds(&inputs));
    // Read before it was cleared away.
    scene.saw(&work.join("old"), file, Uses::READ.with(Uses::REMOVED));
    assert!(matches!(scene.doubts()[..], [Uncacheable::Changed(_)]));
    // A file by itself may be a sign to somebody.
    scene.seen.paths.clear();
    let sign = scene.temporary.join("sign");
    scene.saw(&sign, PathStamp::Absent, Uses::PROBED.with(Uses::CREATED));
    fs::write(&sign, "").unwrap();
    let inputs = scene.inputs();
    assert_eq!(inputs[0].state, InputState::Absent);
    assert!(!scene.holds(&inputs));
    // Among the sources nothing is passed over.
    scene.seen.paths.clear();
    fs::create_dir(scene.root.join("data/work")).unwrap();
    scene.uses("data/work", scratch);
    // As it was before, and as it was left.
    assert_eq!(scene.names(), ["data/work", "data/work"]);
}

#[test]
fn what_the_project_excludes_decides_nothing_for_as_long_as_it_is_excluded() {
    let mut scene = Scene::new();
    fs::create_dir(scene.root.join("logs")).unwrap();
    for path in ["logs/a", "b.log", "data/c.log"] {
        fs::write(scene.root.join(path), "").unwrap();
        scene.uses(path, Uses::READ);
    }
    assert_eq!(scene.names(), ["b.log", "data/c.log", "logs/a"]);
    let inputs = scene.inputs();
    for path in ["logs/a", "b.log"] {
        fs::write(scene.root.join(path), "changed").unwrap();
    }
    let mut fingerprints = Fingerprints::new(&settings(&[]));
    assert_eq!(fingerprints.first_changed(&scene.root, &inputs), None);
    assert!(!scene.holds(&inputs), "nothing is excluded any more");
    fs::write(scene.root.join("data/c.log"), "changed").unwrap();
    let changed = fingerprints.first_changed(&scene.root, &inputs).unwrap();
    assert_eq!(changed.path, Path::new("data/c.log"));
}

#[test]
fn whoever_is_outside_must_be_vouched_for() {
    let mut scene = Scene::new();
    let address = Address::Inet("127.0.0.1:5432".parse().unwrap());
    scene.seen.peers.insert(Peer { address, reach: Reach::Outside });
    assert_eq!(scene.doubts(), [Uncacheable::Peer("127.0.0.1:5432".into())]);
    scene.trusted.push("*:5432".into());
    let inputs = scene.inputs();
    assert!(matches!(&inputs[..], [Input { state: InputState::Trusted, .. }]));
    assert!(!scene.holds(&inputs), "nothing is trusted any more");
    let mut fingerprints = Fingerprints::new(&settings(&scene.trusted));
    assert_eq!(fingerprints.first_changed(&scene.root, &inputs), None);
    scene.seen.left_behind = true;
    assert_eq!(scene.doubts(), [Uncacheable::LeftBehind]);
}

#[test]
fn what_no_digest_describes_keeps_nothing() {
    let mut scene = Scene::new();
    let machine = |scene: &mut Scene, path: &str, uses| {
        let first = PathStamp::of(Path::new(path));
        let seen = PathAccess { first, uses, text: None, class: PathClass::Machine };
        scene.seen.paths.insert(path.into(), seen);
    };
    machine(&mut scene, "/proc/net", Uses::PROBED);
    assert_eq!(scene.names(), ["/proc/net"]);
    machine(&mut scene, "/proc/1/status", Uses::READ);
    assert_eq!(scene.doubts(), [Uncacheable::NoFile("/proc/1/status".into())]);
    scene.seen.paths.clear();
    let fifo = scene.root.join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
    scene.uses("fifo", Uses::PROBED);
    assert_eq!(scene.names(), ["fifo"]);
    scene.uses("fifo", Uses::READ);
    assert_eq!(scene.doubts(), [Uncacheable::NoFile("fifo".into())]);
    scene.seen.paths.clear();
    scene.saw(Path::new("/x"), PathStamp::Unknown(13), Uses::PROBED);
    assert!(matches!(scene.doubts()[..], [Uncacheable::Unreadable(_)]));
}

/// Does something as a user whom permissions keep out, as they do not keep out root.
fn as_plain_user<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        if rustix::process::geteuid().is_root() {
            let user = rustix::process::Uid::from_raw(65534);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn what_lies_in_a_closed_folder_counts_as_long_as_it_is_closed() {
    let mut scene = Scene::new();
    let base = scene.root.parent().unwrap().to_owned();
    let mode = |folder: &Path, mode| {
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    };
    let (closed, inside) = (base.join("closed"), base.join("closed/folder/f"));
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    fs::write(&inside, "1").unwrap();
    mode(&base, 0o755);
    mode(&closed, 0);
    let inputs = as_plain_user(|| {
        let first = PathStamp::of(&inside);
        assert_eq!(first, PathStamp::Unknown(13));
        scene.saw(&inside, first, Uses::READ);
        // It may have been open while the run looked there.
        let young = scene.judge(SystemTime::UNIX_EPOCH);
        assert!(matches!(young, Cacheability::Uncacheable(_)), "{young:?}");
        scene.inputs()
    });
    assert_eq!(inputs.iter().map(|input| input.state).collect::<Vec<_>>(), [InputState::Denied]);
    for open in [0o755, 0o711, 0o744] {
        mode(&closed, open);
        assert!(!as_plain_user(|| scene.holds(&inputs)), "{open:o}");
    }
    mode(&closed, 0);
    assert!(as_plain_user(|| scene.holds(&inputs)));
    mode(&closed, 0o700);
    assert!(!scene.holds(&inputs), "its owner may look there");
}

#[derive(Clone, Debug)]
enum Edit {
    Write(u8, u8),
    Remove(u8),
    Folder(u8),
    Link(u8, u8),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let one = prop_oneof![
        4 => (0..5_u8, 0..3_u8).prop_map(|(file, text)| Edit::Write(file, text)),
        2 => (0..5_u8).prop_map(Edit::Remove),
        1 => (0..5_u8).prop_map(Edit::Folder),
        1 => (0..5_u8, 0..5_u8).prop_map(|(link, to)| Edit::Link(link, to)),
    ];
    prop::collection::vec(one, 0..6)
}

fn apply(folder: &Path, edits: &[Edit]) {
    let path = |name: &u8| folder.join(name.to_string());
    for edit in edits {
        let (Edit::Write(name, _) | Edit::Remove(name) | Edit::Folder(name) | Edit::Link(name, _)) =
            edit;
        let at = path(name);
        let _ = fs::remove_file(&at);
        let _ = fs::remove_dir(&at);
        match edit {
            Edit::Write(_, text) => fs::write(&at, text.to_string()).unwrap(),
            Edit::Remove(_) => {}
            Edit::Folder(_) => fs::create_dir(&at).unwrap(),
            Edit::Link(_, to) => symlink(path(to), &at).unwrap(),
        }
    }
}

/// All that a run which uses these names in these ways can see.
fn view(folder: &Path, uses: &[(u8, bool)]) -> Vec<String> {
    let mut view = Vec::new();
    for (name, content) in uses {
        let path = folder.join(name.to_string());
        let is = path.symlink_metadata().map(|m| (m.file_type(), m.is_file()));
        view.push(format!("{:?} {:?}", is.as_ref().ok().map(|is| is.0), fs::read_link(&path).ok()));
        if *content && is.is_ok_and(|is| is.1) {
            view.push(fs::read_to_string(&path).unwrap());
        }
    }
    view
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A record never answers where the run would have seen anything else, and always where it
    /// would have seen the same content.
    #[test]
    fn a_record_answers_if_and_only_if_the_run_would_see_the_same(
        before in edits(),
        after in edits(),
        uses in prop::collection::vec((0..5_u8, any::<bool>()), 0..5),
        listed: bool,
    ) {
        let mut scene = Scene::new();
        let folder = scene.root.join("data");
        apply(&folder, &before);
        for (name, content) in &uses {
            let path = format!("data/{name}");
            let is_folder = scene.root.join(&path).symlink_metadata().is_ok_and(|m| m.is_dir());
            let read = if *content && !is_folder { Uses::READ } else { Uses::PROBED };
            scene.uses(&path, read);
        }
        if listed {
            scene.uses("data", Uses::LISTED);
        }
        let names = || {
            let entries = fs::read_dir(&folder).unwrap().map(Result::unwrap);
            let mut names: Vec<_> = entries
                .map(|e| format!("{:?} {:?}", e.file_name(), e.file_type().unwrap()))
                .collect();
            names.sort();
            listed.then_some(names)
        };
        // Content counts for whatever is looked at, since its times would tell that it changed.
        let uses: Vec<_> = uses.iter().map(|(name, _)| (*name, true)).collect();
        let inputs = scene.inputs();
        let then = (view(&folder, &uses), names());
        prop_assert!(scene.holds(&inputs));
        apply(&folder, &after);
        let now = (view(&folder, &uses), names());
        prop_assert_eq!(scene.holds(&inputs), then == now, "{:?} {:?}", then, now);
    }
}

#[test]
fn a_run_that_was_not_seen_completely_is_never_cached() {
    let mut scene = Scene::new();
    fs::write(scene.root.join("data/f"), "1").unwrap();
    scene.uses("data/f", Uses::READ);
    for problem in [Problem::IoUring, Problem::Architecture, Problem::Namespace("mount")] {
        let why = Uncacheable::NotSeen(problem.to_string());
        scene.seen.problems = [problem].into();
        assert_eq!(scene.doubts(), [why]);
    }
}

#[test]
fn a_run_that_observation_changed_counts_with_the_whole_tree() {
    let mut scene = Scene::new();
    fs::write(scene.root.join("data/f"), "1").unwrap();
    let path = scene.uses("data/f", Uses::READ);
    scene.seen.interference.insert(Interference::Seccomp);
    let Cacheability::WholeTree(inputs) = scene.judge(later()) else { panic!() };
    assert_eq!(inputs.len(), 1);
    fs::write(path, "2").unwrap();
    assert!(!scene.holds(&inputs));
}

#[test]
fn a_name_that_was_made_counts_by_what_its_making_needed() {
    let mut scene = Scene::new();
    let names = ["data/claimed", "data/overwritten", "data/left"].map(|name| scene.root.join(name));
    let [claimed, overwritten, left] = &names;
    scene.saw(claimed, PathStamp::Absent, Uses::CREATED.with(Uses::CLAIMED));
    scene.saw(overwritten, PathStamp::Absent, Uses::CREATED.with(Uses::OVERWRITTEN));
    scene.saw(left, PathStamp::Absent, Uses::CREATED.with(Uses::CLAIMED));
    fs::write(left, "").unwrap();
    let inputs = scene.inputs();
    assert_eq!(inputs.len(), 4, "what was left is an output too");
    assert!(!scene.holds(&inputs), "a second run would find what the first has left");
    fs::remove_file(left).unwrap();
    assert!(!scene.holds(&inputs), "what the run leaves must be there");

    // A run that removes again what it makes leaves no output: only the names count.
    scene.seen.paths.clear();
    scene.saw(claimed, PathStamp::Absent, Uses::CREATED.with(Uses::CLAIMED));
    scene.saw(overwritten, PathStamp::Absent, Uses::CREATED.with(Uses::OVERWRITTEN));
    let inputs = scene.inputs();
    assert_eq!(inputs.len(), 2);
    assert!(scene.holds(&inputs));
    fs::write(overwritten, "any").unwrap();
    assert!(scene.holds(&inputs), "a file is overwritten");
    fs::remove_file(overwritten).unwrap();
    fs::create_dir(overwritten).unwrap();
    assert!(!scene.holds(&inputs), "a folder is not");
    fs::remove_dir(overwritten).unwrap();
    fs::write(claimed, "").unwrap();
    assert!(!scene.holds(&inputs));

    // A file that had to exist to be emptied, and is an output as the run left it.
    scene.seen.paths.clear();
    scene.uses("data/claimed", Uses::REPLACED.with(Uses::REQUIRED));
    let inputs = scene.inputs();
    assert!(scene.holds(&inputs));
    fs::write(claimed, "more").unwrap();
    assert!(!scene.holds(&inputs), "the output is another one");
    fs::write(claimed, "").unwrap();
    assert!(scene.holds(&inputs));
    fs::remove_file(claimed).unwrap();
    assert!(!scene.holds(&inputs));
}

#[test]
fn a_product_that_was_only_looked_at_counts_with_its_length() {
    let mut scene = Scene::new();
    let tool = scene.root.join("target/debug/tool");
    fs::write(&tool, "1").unwrap();
    scene.uses("target/debug/tool", Uses::EXECUTED);
    assert!(matches!(scene.inputs()[0].state, InputState::Program(_)));
    scene.uses("target/debug/tool", Uses::PROBED);
    let inputs = scene.inputs();
    assert!(matches!(inputs[0].state, InputState::Measured(_)));
    assert!(scene.holds(&inputs));
    fs::write(&tool, "12").unwrap();
    assert!(!scene.holds(&inputs));
}

#[test]
fn a_hard_link_to_a_product_is_no_change_of_it() {
    let mut scene = Scene::new();
    let tool = scene.root.join("target/debug/tool");
    fs::write(&tool, "1").unwrap();
    let source = scene.root.join("data/f");
    fs::write(&source, "1").unwrap();
    scene.uses("target/debug/tool", Uses::READ.with(Uses::LINKED));
    scene.uses("data/f", Uses::READ.with(Uses::LINKED));
    std::thread::park_timeout(Duration::from_millis(20));
    for file in [&tool, &source] {
        fs::hard_link(file, scene.temporary.join("link")).unwrap();
        fs::remove_file(scene.temporary.join("link")).unwrap();
    }
    assert_eq!(scene.names(), ["data/f", "target/debug/tool"]);
    fs::write(&source, "2").unwrap();
    assert_eq!(scene.doubts(), [Uncacheable::Changed("data/f".into())]);
}

#[test]
fn a_refused_connection_counts_until_somebody_listens() {
    let mut scene = Scene::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    scene.seen.peers.insert(Peer { address: Address::Inet(address), reach: Reach::Nobody });
    let inputs = scene.inputs();
    assert_eq!(inputs[0].state, InputState::Refused);
    assert!(scene.holds(&inputs));
    let _listener = std::net::TcpListener::bind(address).unwrap();
    assert!(!scene.holds(&inputs));
}

#[test]
fn a_setting_of_the_kernel_counts_by_its_content() {
    let mut scene = Scene::new();
    let path = Path::new("/proc/sys/kernel/ostype");
    let setting = |text: &str| PathAccess {
        first: PathStamp::of(path),
        uses: Uses::READ,
        text: Some(text.into()),
        class: PathClass::Setting,
    };
    scene.seen.paths.insert(path.to_owned(), setting("Linux\n"));
    let inputs = scene.inputs();
    assert!(matches!(inputs[0], Input { state: InputState::File(_), proof: None, .. }));
    assert!(scene.holds(&inputs));
    scene.seen.paths.insert(path.to_owned(), setting("another\n"));
    assert_eq!(scene.doubts(), [Uncacheable::Changed(path.display().to_string())]);
}

#[test]
fn a_run_that_somebody_could_notice_has_obstacles() {
    let mut scene = Scene::new();
    scene.uses("data", Uses::LISTED);
    scene.uses("target/tmp", Uses::CREATED);
    let made = scene.temporary.join("x");
    scene.saw(&made, PathStamp::Absent, Uses::CREATED.with(Uses::REMOVED));
    assert_eq!(scene.obstacles(&[]), [""; 0]);
    // What passes by itself is no obstacle, and what will be the same next time is one.
    assert_eq!(scene.obstacles(&[Uncacheable::Young("data".to_owned())]), [""; 0]);
    assert_eq!(scene.obstacles(&[Uncacheable::Output]).len(), 1);

    let noisy = |change: &dyn Fn(&mut Scene)| {
        let mut noisy = Scene::new();
        change(&mut noisy);
        noisy.obstacles(&[]).concat()
    };
    let wrote = noisy(&|scene| drop(scene.uses("data/x", Uses::CREATED)));
    assert!(wrote.starts_with("it wrote to `") && wrote.ends_with("data/x`"), "{wrote}");
    for uses in [Uses::REPLACED, Uses::MODIFIED, Uses::REMOVED] {
        assert!(noisy(&|scene| drop(scene.uses("data", uses))).contains("it wrote to"));
    }
    let address = "127.0.0.1:5432".parse().unwrap();
    let peer = Peer { address: Address::Inet(address), reach: Reach::Nobody };
    let spoke = noisy(&|scene| scene.seen.peers.extend([peer.clone()]));
    assert_eq!(spoke, "it spoke to 127.0.0.1:5432");
    assert!(noisy(&|scene| scene.seen.left_behind = true).contains("left a process"));
    let problem = Problem::IoUring;
    assert!(!noisy(&|scene| scene.seen.problems.extend([problem.clone()])).is_empty());
    let interference = Interference::Seccomp;
    assert!(!noisy(&|s| s.seen.interference.extend([interference.clone()])).is_empty());
}

#[test]
fn the_loaders_cache_counts_by_its_answers_where_only_foreseen_searches_asked_it() {
    let cache = Path::new(LOADER_CACHE);
    if LoaderCache::current().is_none() {
        return;
    }
    let mut scene = Scene::new();
    let now = PathStamp::of(cache);
    scene.seen.libraries = ["libc.so.6", "libnowhere-at-all.so"].map(OsString::from).into();
    scene.saw(cache, now, Uses::ASKED);
    let inputs = scene.inputs();
    let names: Vec<_> = inputs.iter().map(|input| input.path.to_str().unwrap()).collect();
    assert_eq!(names, ["/etc/ld.so.cache/libc.so.6", "/etc/ld.so.cache/libnowhere-at-all.so"]);
    assert!(inputs.iter().all(|input| matches!(input.state, InputState::Answer(_))));
    assert!(scene.holds(&inputs));
    let other = Input { state: inputs[1].state, proof: None, ..inputs[0].clone() };
    assert!(!scene.holds(&[other]), "the answer for another name");
    // Any other use may have read all of it, or seen how long it is.
    for more in [Uses::READ, Uses::PROBED, Uses::ATTRIBUTES, Uses::REQUIRED] {
        scene.saw(cache, now, Uses::ASKED.with(more));
        assert_eq!(scene.names(), [LOADER_CACHE], "{more:?}");
    }
    // It was another one at the first use, or it is so young that it may have been.
    scene.saw(cache, PathStamp::of(Path::new("/etc")), Uses::ASKED);
    assert!(matches!(scene.doubts()[..], [Uncacheable::Changed(_)]));
    scene.saw(cache, now, Uses::ASKED);
    let judged = scene.judge(SystemTime::UNIX_EPOCH);
    assert!(
        matches!(&judged, Cacheability::Uncacheable(doubts) if matches!(doubts[..], [Uncacheable::Young(_)]))
    );
}
