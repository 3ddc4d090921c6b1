//! The hasher against its peers on a generated tree of 100,000 files: `cargo bench --bench hasher`.
//!
//! Prints, for each bar, our time, the peer's time in the same run and the ratio (medians):
//! a fresh process with a warm memo against `git status`, a cold digest of everything against
//! `sha256sum` with one process a core; and what a rescan of one folder, a snapshot and the
//! tree's memory cost. `KTC_BENCH_TREE` names a folder to make the tree in, or to use again.

#![allow(clippy::disallowed_methods, reason = "peers are run as a shell would run them")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use knhk_test_cache::internals::hasher::{CodeHasher, Snapshot};

const CRATES: usize = 10;
const MODULES: usize = 20;
const PARTS: usize = 25;
const FILES: usize = 20;
const ROUNDS: usize = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, verb, tree, memo] = &arguments[..] {
        // What one process does in which nothing was before: timed from the outside.
        return child(verb, Path::new(tree), Path::new(memo));
    }
    let temp = tempfile::tempdir().expect("a temporary folder");
    let tree =
        std::env::var_os("KTC_BENCH_TREE").map_or_else(|| temp.path().join("tree"), PathBuf::from);
    if !tree.exists() {
        generate(&tree);
    }
    let memo = temp.path().join("memo");
    println!("{} files in {} folders", CRATES * MODULES * PARTS * FILES, CRATES * MODULES * PARTS);

    let cold = |memo: &Path| own("cold", &tree, memo);
    let sums = || shell(&tree, "git ls-files -z | xargs -0 -P2 -n 1000 sha256sum");
    versus("cold digest", || cold(&memo), "sha256sum -P2", sums, 3);

    own("save", &tree, &memo);
    let status = || shell(&tree, "git status --porcelain");
    versus("warm scan", || own("warm", &tree, &memo), "git status", status, ROUNDS);

    living(&tree);
}

/// One fresh process of ours; returns how long it took, start and end included.
fn own(verb: &str, tree: &Path, memo: &Path) -> Duration {
    let program = std::env::current_exe().expect("our own path");
    let start = Instant::now();
    let status = Command::new(program).arg(verb).arg(tree).arg(memo).status().expect("it starts");
    assert!(status.success());
    start.elapsed()
}

fn child(verb: &str, tree: &Path, memo: &Path) {
    let mut hasher = CodeHasher::new(tree);
    if verb == "warm" {
        hasher.load_memo(memo);
    }
    let changes = hasher.scan(&mut |_| {});
    if verb == "warm" {
        assert!(changes.read_files < 10, "the memo is of no use: {changes:?}");
    }
    let Snapshot::Known { files, .. } = hasher.snapshot() else { panic!("unknown") };
    assert!(files >= 1_000);
    if verb == "save" {
        hasher.save_memo(memo).expect("the memo is written");
    }
    // A command that is done ends; it does not take its memory apart.
    std::process::exit(0);
}

fn shell(tree: &Path, command: &str) -> Duration {
    let start = Instant::now();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).current_dir(tree).stdout(Stdio::null());
    assert!(shell.status().expect("sh starts").success());
    start.elapsed()
}

/// Alternates between the two, so that neither has a quieter machine.
fn versus(
    name: &str,
    mut ours: impl FnMut() -> Duration,
    peer_name: &str,
    mut peer: impl FnMut() -> Duration,
    rounds: usize,
) {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    peer();
    ours();
    for _ in 0..rounds {
        left.push(ours());
        right.push(peer());
    }
    let (left, right) = (median(left), median(right));
    let ratio = left.as_secs_f64() / right.as_secs_f64();
    println!("{name:<16} {left:>10.1?}   {peer_name:<16} {right:>10.1?}   ratio {ratio:.2}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// What a daemon pays, in one process.
fn living(tree: &Path) {
    let before = resident();
    let mut hasher = CodeHasher::new(tree);
    hasher.scan(&mut |_| {});
    println!("memory of the tree {:>9} KiB", resident().saturating_sub(before));
    let folder = tree.join("crate3/mod_07/part_11");
    let folders = BTreeSet::from([folder.clone()]);
    let file = folder.join("source_file_003.rs");
    let content = fs::read(&file).expect("the tree is there");
    let mut timed = |name: &str, folders: &BTreeSet<PathBuf>, edit: bool| {
        let times = (0..101).map(|round: u32| {
            if edit {
                fs::write(&file, round.to_le_bytes()).expect("the tree can be written");
            }
            let start = Instant::now();
            hasher.rescan(folders, &mut |_| {});
            let Snapshot::Known { .. } = hasher.snapshot() else { panic!("unknown") };
            start.elapsed()
        });
        println!("{name:<40} {:>10.1?}", median(times.collect()));
    };
    timed("rescan of nothing and snapshot", &BTreeSet::new(), false);
    timed("rescan of a folder of 20 and snapshot", &folders, false);
    timed("the same after an edit", &folders, true);
    let start = Instant::now();
    let Snapshot::Known { .. } = hasher.snapshot() else { panic!("unknown") };
    println!("{:<40} {:>10.1?}", "snapshot", start.elapsed());
    let start = Instant::now();
    let manifest = hasher.manifest();
    let bytes = manifest.as_bytes().len();
    println!("{:<40} {:>10.1?} ({} KiB)", "list of files", start.elapsed(), bytes / 1024);
    let start = Instant::now();
    hasher.scan(&mut |_| {});
    println!("{:<40} {:>10.1?}", "full scan of a known tree", start.elapsed());
    fs::write(&file, content).expect("the tree can be written");
}

/// Resident memory in KiB; 0 where the system does not tell it like Linux.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// 0.5 to 8 KiB a file, from a generator that gives the same tree every time.
fn generate(tree: &Path) {
    let mut state = 1_u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let pool: Vec<u8> = (0..1 << 20).map(|_| random() as u8).collect();
    for (one, two, three) in
        (0..CRATES * MODULES * PARTS).map(|n| (n / MODULES / PARTS, n / PARTS % MODULES, n % PARTS))
    {
        let folder = tree.join(format!("crate{one}/mod_{two:02}/part_{three:02}"));
        fs::create_dir_all(&folder).expect("a folder");
        for file in 0..FILES {
            let length = 512 + random() as usize % 7_680;
            let start = random() as usize % (pool.len() - length);
            let file = folder.join(format!("source_file_{file:03}.rs"));
            fs::write(file, &pool[start..start + length]).expect("a file");
        }
    }
    fs::write(tree.join(".gitignore"), "/target\n*.swp\n").expect("a file");
    for command in
        ["git init -q", "git add -A", "git -c user.name=b -c user.email=b@b commit -qm x"]
    {
        shell(tree, command);
    }
}
