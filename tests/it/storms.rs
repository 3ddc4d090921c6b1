//! Storms: processes killed at random moments, floods of files, full disks. Each lasts some
//! seconds and prints its rounds, its stale answers, the records it lost and the processes it
//! left. The right number of the last three is zero.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::home::{
    Answered, EXE, Home, LIMIT, Ran, SOON, Started, answered, can_observe, skip, takes_long, until,
    until_old,
};

/// How long a storm lasts, in seconds, unless `KNHK_TEST_CACHE_STORM_SECONDS` says otherwise.
const SECONDS: u64 = 20;

/// What a test of the storm depends on: only with this content is it green.
const GOOD: &str = "good";

/// A library and a test that reads `data`.
fn home() -> Home {
    let reads = "#[test] fn reads() { assert_eq!(std::fs::read(\"data\").unwrap(), b\"good\") }\n";
    let home = Home::with(&[("data", GOOD), ("tests/it.rs", reads)]);
    assert_eq!(home.cargo(&["generate-lockfile"]).code, Some(0));
    home
}

/// The figures of a storm, and its random numbers.
struct Storm {
    name: &'static str,
    until: Instant,
    seed: u64,
    state: u64,
    rounds: u64,
    stale: u64,
    lost: u64,
}

impl Storm {
    fn new(name: &'static str) -> Self {
        let variable = std::env::var("KNHK_TEST_CACHE_STORM_SECONDS");
        let seconds = variable.map_or(SECONDS, |text| text.parse().unwrap());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let seed = u64::try_from(now.as_nanos() % u128::from(u64::MAX)).unwrap() | 1;
        let until = Instant::now() + Duration::from_secs(seconds);
        Self { name, until, seed, state: seed, rounds: 0, stale: 0, lost: 0 }
    }

    /// Begins another round unless the time is over. Each storm has one at least.
    fn goes_on(&mut self) -> bool {
        let goes_on = self.rounds == 0 || Instant::now() < self.until;
        self.rounds += u64::from(goes_on);
        goes_on
    }

    /// A number below `limit` (xorshift).
    fn random(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }

    /// Compares a verdict with what `data` held when the question was asked.
    fn judge(&mut self, data: &str, answer: &Answered) {
        let expected = if data == GOOD { "pass" } else { "fail" };
        if answer.verdict() != expected {
            eprintln!("{}: expected {expected}: {answer:#?}", self.name);
            self.stale += 1;
        }
    }

    /// Counts an answer that should have come from a record.
    fn expect_hit(&mut self, answer: &Answered) {
        if answer.source() != "cache" {
            eprintln!("{}: expected a hit: {answer:#?}", self.name);
            self.lost += 1;
        }
    }

    /// Prints the figures and asserts that nothing went wrong.
    fn end(self, home: &Home) {
        let deadline = Instant::now() + SOON;
        while !home.left_over().is_empty() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let left = home.left_over();
        let Self { name, seed, rounds, stale, lost, .. } = self;
        eprintln!("{name}: {rounds} rounds, {stale} stale, {lost} lost, {} left", left.len());
        assert_eq!((stale, lost, &left[..]), (0, 0, &[][..]), "{name}, seed {seed}");
    }
}

/// Kills a process at a random moment, unless it has ended by then.
fn kill_within(storm: &mut Storm, limit_ms: u64, process: Started) {
    let moment = Instant::now() + Duration::from_millis(storm.random(limit_ms));
    until("the moment to kill", || (Instant::now() >= moment).then_some(()));
    process.signal(Signal::KILL);
    process.end(SOON);
}

#[test]
fn processes_killed_at_random_moments_leave_right_answers_and_every_record() {
    if takes_long() {
        return;
    }
    if !can_observe("the kill storm") {
        return;
    }
    let home = home();
    home.config("", "debounce = '1ms'\nbackground_tests = true\nkeep_snapshots = 1000");
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    let plain = ["--config", &*runner, "test"];
    let cached = |ran: &Ran| ran.stderr.matches("is cached:").count();
    let mut storm = Storm::new("kill storm");
    // Both kinds of records are there before the first kill.
    until_old(&home.root.join("data"));
    home.test(&["--no-daemon"]).green();
    assert_eq!(home.start("cargo", &plain).end(LIMIT).code, Some(0));
    let mut daemon = home.daemon();
    while storm.goes_on() {
        let bad = format!("bad {}", storm.rounds);
        let data = if storm.random(2) == 0 { GOOD } else { &bad };
        home.write("data", data);
        match storm.random(4) {
            0 => {
                kill_within(&mut storm, 300, daemon);
                daemon = home.start(EXE, &["daemon"]);
            }
            1 => kill_within(&mut storm, 300, home.start(EXE, &["test"])),
            2 => kill_within(&mut storm, 300, home.start(EXE, &["test", "--no-daemon"])),
            _ => kill_within(&mut storm, 300, home.start("cargo", &plain)),
        }
        let way = if storm.random(2) == 0 { &["--no-daemon"][..] } else { &[] };
        let answer = home.test(way);
        storm.judge(data, &answer);
        if data == GOOD {
            storm.expect_hit(&answer);
        }
    }
    home.write("data", GOOD);
    drop(daemon);
    let ran = home.start("cargo", &plain).end(LIMIT);
    assert_eq!((ran.code, cached(&ran)), (Some(0), 2), "{ran:#?}");
    storm.end(&home);
}

/// Writes, renames and removes files in folders of a tree until it is told to end, and takes all
/// of them away again.
fn flood(folder: &Path, ends: &AtomicBool, writes: &AtomicU64) {
    let name = |number: u64| folder.join(format!("{}/{number}", number % 7));
    (0..7).for_each(|part| fs::create_dir_all(folder.join(part.to_string())).unwrap());
    let mut number = 0;
    while !ends.load(Ordering::Relaxed) {
        number += 1;
        fs::write(name(number), number.to_string()).unwrap();
        if number % 3 == 0 {
            fs::rename(name(number), name(number).with_extension("moved")).unwrap();
        }
        if number > 2_000 {
            let old = name(number - 2_000);
            let _ = fs::remove_file(&old).or_else(|_| fs::remove_file(old.with_extension("moved")));
        }
        writes.store(number, Ordering::Relaxed);
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_flood_of_files_hides_no_change() {
    if takes_long() {
        return;
    }
    let home = home();
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&[]).green_from("run");
    let before = home.test(&[]);
    before.green_from("cache");
    let mut storm = Storm::new("flood");
    let (ends, writes) = (AtomicBool::new(false), AtomicU64::new(0));
    let folder = home.root.join("flood");
    std::thread::scope(|scope| {
        scope.spawn(|| flood(&folder, &ends, &writes));
        while storm.goes_on() {
            let bad = format!("bad {}", storm.rounds);
            let data = if storm.random(2) == 0 { GOOD } else { &bad };
            home.write("data", data);
            let answer = home.test(if storm.random(4) == 0 { &["--no-daemon"] } else { &[] });
            storm.judge(data, &answer);
        }
        ends.store(true, Ordering::Relaxed);
    });
    eprintln!("flood: {} files written", writes.into_inner());
    // The tree is what it was: so is the answer, with the daemon and without.
    home.write("data", GOOD);
    for way in [&[][..], &["--no-daemon"]] {
        let answer = home.test(way);
        storm.judge(GOOD, &answer);
        storm.expect_hit(&answer);
        assert_eq!(answer.code_hash(), before.code_hash(), "{answer:#?}");
    }
    daemon.stop();
    storm.end(&home);
}

/// A mount namespace in which some folders are small disks of their own.
struct SmallDisks {
    home: Home,
    holder: Started,
    folders: [PathBuf; 3],
}

impl SmallDisks {
    /// None where this user cannot mount.
    fn new() -> Option<Self> {
        let home = home();
        let folders = ["cache", "run", "ws/target"].map(|folder| home.base.join(folder));
        fs::create_dir_all(&folders[2]).unwrap();
        let ready = home.base.join("out/ready");
        // Enough for the records and for the build.
        let script = "mount -t tmpfs -o size=4m,mode=700 none \"$1\" &&\n\
                      mount -t tmpfs -o size=1m,mode=700 none \"$2\" &&\n\
                      mount -t tmpfs -o size=64m,mode=700 none \"$3\" || exit 99\n\
                      : > \"$4\"; exec sleep 3600";
        let mut line = vec!["-Urm", "sh", "-c", script, "sh"];
        line.extend(folders.iter().chain([&ready]).map(|path| path.to_str().unwrap()));
        let mut holder = home.start("unshare", &line);
        let mounted = until("the disks are mounted", || {
            if ready.exists() { Some(true) } else { holder.has_ended().then_some(false) }
        });
        if !mounted {
            skip("the storm of full disks", &holder.stderr());
            return None;
        }
        Some(Self { home, holder, folders })
    }

    fn start(&self, program: &str, args: &[&str]) -> Started {
        let pid = self.holder.pid().as_raw_nonzero().to_string();
        let root = self.home.root.to_str().unwrap();
        let inside = "cd \"$1\" && shift && exec \"$@\"";
        let enter = ["-t", &*pid, "-U", "-m", "--preserve-credentials"];
        let line = ["sh", "-c", inside, "sh", root, program];
        self.home.start("nsenter", &[&enter[..], &line, args].concat())
    }

    fn run(&self, program: &str, args: &[&str]) -> Ran {
        self.start(program, args).end(LIMIT)
    }

    fn test(&self, args: &[&str]) -> Answered {
        let ran = self.run(EXE, &[&["test", "--format", "json"], args].concat());
        assert!(!ran.stderr.contains("panicked at src"), "{ran:#?}");
        answered(ran)
    }

    /// Fills a disk to its last byte.
    fn fill(&self, folder: &Path) {
        let file = folder.join("fill");
        let script = "cat /dev/zero > \"$1\" 2>/dev/null; true";
        self.run("sh", &["-c", script, "sh", file.to_str().unwrap()]);
    }

    fn empty(&self, folder: &Path) {
        let file = folder.join("fill");
        assert_eq!(self.run("rm", &["-f", file.to_str().unwrap()]).code, Some(0));
    }
}

#[test]
fn full_disks_cost_records_and_no_right_answer() {
    if takes_long() {
        return;
    }
    let Some(disks) = SmallDisks::new() else { return };
    disks.home.config("", "debounce = '1h'\nkeep_snapshots = 1000");
    let mut storm = Storm::new("full disks");
    disks.test(&["--no-daemon"]).green_from("run");
    disks.test(&["--no-daemon"]).green_from("cache");
    let daemon = disks.start(EXE, &["daemon"]);
    until("the daemon answers", || {
        let status = disks.run(EXE, &["status", "--format", "json"]);
        status.stdout.contains("\"running\":true").then_some(())
    });
    while storm.goes_on() {
        let folder = disks.folders[usize::try_from(storm.random(3)).unwrap()].clone();
        let bad = format!("bad {}", storm.rounds);
        let data = if storm.random(2) == 0 { GOOD } else { &bad };
        let way = if storm.random(2) == 0 { &["--no-daemon"][..] } else { &[] };
        disks.fill(&folder);
        disks.home.write("data", data);
        let answer = disks.test(way);
        // A build that finds no room says so.
        let no_room = answer.verdict() == "error" && answer.ran.stderr.contains("No space left");
        if !no_room {
            storm.judge(data, &answer);
        }
        disks.empty(&folder);
        let answer = disks.test(way);
        storm.judge(data, &answer);
        // What was stored before the disk was full is still there.
        disks.home.write("data", GOOD);
        let answer = disks.test(way);
        storm.judge(GOOD, &answer);
        storm.expect_hit(&answer);
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end(SOON).code, Some(0));
    let SmallDisks { home, holder, .. } = disks;
    holder.signal(Signal::KILL);
    holder.end(SOON);
    storm.end(&home);
}
