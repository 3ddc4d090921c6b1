//! A day of edits in a workspace. After each edit our verdict and counts, with and without a
//! daemon, equal those of a real `cargo test` on the same tree.

pub(crate) mod workspace;

use std::fs;
use std::os::unix::fs::symlink;

use self::workspace::{
    CLI, OUTER_MANIFEST, UTIL, cli, commit, documented_util, make, outer_manifest, set_mode, util,
};
use crate::home::{Answered, Home, takes_long, until_old};

struct Replay {
    home: Home,
    step: usize,
}

impl Replay {
    /// Asks with a daemon, without one, and real cargo, and compares. The first two alternate, so
    /// that each answers unaided and each uses the other's record.
    fn same_as_cargo(&mut self, what: &str, args: &[&str]) -> Answered {
        self.step += 1;
        let mut without = args.to_vec();
        without.push("--no-daemon");
        let ways = [args, without.as_slice()];
        let [first, second] = if self.step.is_multiple_of(2) { [ways[1], ways[0]] } else { ways }
            .map(|way| self.home.test(way));
        let mut line = vec!["test", "--no-fail-fast"];
        if args.is_empty() {
            line.push("--workspace");
        }
        line.extend(args);
        let real = self.home.cargo(&line);
        let expected = real.results();
        for answer in [&first, &second] {
            let got = answer.results();
            assert_eq!(got.error, expected.error, "{what}: {answer:#?}\n{real:#?}");
            if !expected.error {
                assert_eq!(got, expected, "{what}: {answer:#?}\n{real:#?}");
            }
            let status = if real.code == Some(0) { Some(0) } else { Some(101) };
            assert_eq!(answer.ran.code, status, "{what}: {answer:#?}");
        }
        assert_eq!(first.summary["code_hash"], second.summary["code_hash"], "{what}");
        eprintln!(
            "{what}: {} {}/{}, {:?} and {:?}, cargo {:?}",
            first.verdict(),
            first.source(),
            second.source(),
            first.ran.took,
            second.ran.took,
            real.took
        );
        first
    }

    fn green(&mut self, what: &str) -> Answered {
        let answer = self.same_as_cargo(what, &[]);
        assert_eq!(answer.verdict(), "pass", "{what}: {answer:#?}");
        answer
    }

    fn red(&mut self, what: &str) {
        let answer = self.same_as_cargo(what, &[]);
        assert_eq!(answer.verdict(), "fail", "{what}: {answer:#?}");
    }

    /// Green, and nothing was run for it.
    fn cached(&mut self, what: &str) {
        let answer = self.green(what);
        answer.green_from("cache");
        assert_eq!(answer.count("targets_run"), 0);
    }
}

#[test]
fn every_answer_is_that_of_a_real_cargo_test() {
    if takes_long() {
        return;
    }
    let home = make();
    home.config("", "debounce = '1h'");
    let _daemon = home.daemon();
    let mut replay = Replay { home, step: 0 };

    let first = replay.green("first build");
    first.green_from("run");
    assert_eq!(first.count("ignored"), 1);
    replay.cached("nothing changed");

    code_edits(&mut replay);
    backups(&mut replay);
    history(&mut replay);
    files_and_fixtures(&mut replay);
    beyond_the_tree(&mut replay);
}

fn code_edits(replay: &mut Replay) {
    replay.home.write(UTIL, &util("n * 3"));
    replay.red("a broken function");
    replay.red("still broken: never red from cache");
    replay.home.write(UTIL, &util("n * 2"));
    replay.cached("mended");
    replay.home.write(UTIL, &util("n * two"));
    let answer = replay.same_as_cargo("does not compile", &[]);
    assert!(answer.ran.stderr.contains("cannot find value `two`"), "{answer:#?}");
    replay.home.write(UTIL, &util("n * 2"));
    touch(&replay.home.root.join(UTIL));
    replay.cached("touched");
    replay.home.write(UTIL, &documented_util("Doubles, twice over.", "n * 2"));
    replay.green("a comment").green();
}

/// Cargo compares modification times only and misses an older file in place of a newer one. Its
/// answer is then about the newer file, and so is ours, but ours must not be stored.
fn backups(replay: &mut Replay) {
    let lib = replay.home.root.join(UTIL);
    replay.home.write(UTIL, &util("n * 5"));
    let backup = replay.home.base.join("backup.rs");
    fs::copy(&lib, &backup).unwrap();
    replay.home.write(UTIL, &util("2 * n"));
    replay.green("mended with a backup").green();
    fs::rename(&backup, &lib).unwrap();
    let answer = replay.green("an older, broken file is moved back");
    answer.green();
    assert!(answer.summary["not_kept"].to_string().contains("util/src/lib.rs"), "{answer:#?}");
    touch(&lib);
    replay.red("touched, so that cargo sees it");

    // The same with its whole folder.
    let (src, aside) = (replay.home.root.join("util/src"), replay.home.base.join("aside"));
    fs::rename(&src, &aside).unwrap();
    replay.home.write(UTIL, &util("n * 2 * 1"));
    replay.green("mended with the folder aside").green();
    fs::remove_dir_all(&src).unwrap();
    fs::rename(&aside, &src).unwrap();
    replay.green("the broken folder is moved back").green();
    touch(&lib);
    replay.red("touched again");
    replay.home.write(UTIL, &documented_util("Doubles, twice over.", "n * 2"));
    replay.cached("mended as it was");
}

fn touch(path: &std::path::Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now()).unwrap();
}

fn history(replay: &mut Replay) {
    commit(&replay.home);
    replay.cached("committed");
    replay.home.write(CLI, &cli(43));
    replay.red("a wrong expectation");
    replay.home.git(&["stash", "-q"]);
    replay.cached("stashed");
    replay.home.git(&["stash", "pop", "-q"]);
    replay.red("popped");
    replay.home.git(&["checkout", "-q", "--", "."]);
    replay.cached("checked out again");
    replay.home.git(&["checkout", "-q", "HEAD~1"]);
    replay.cached("an older commit, known green");
    replay.home.git(&["checkout", "-q", "main"]);
    replay.cached("and back");
}

fn files_and_fixtures(replay: &mut Replay) {
    let root = replay.home.root.clone();
    replay.home.write("util/tests/more.rs", "#[test]\nfn more() {}\n");
    let answer = replay.green("a new file with a new test");
    assert!(answer.targets.iter().any(|target| target["target"] == "more"));
    fs::remove_file(root.join("util/tests/more.rs")).unwrap();
    replay.cached("the file is deleted");

    let greeting = "util/fixtures/greeting.txt";
    replay.home.write(greeting, "hullo");
    replay.red("a changed fixture, of the same length");
    replay.home.write(greeting, "hello");
    replay.cached("the fixture is mended");
    set_mode(&replay.home, "util/fixtures/tool.sh", 0o755);
    replay.red("an executable fixture");
    set_mode(&replay.home, "util/fixtures/tool.sh", 0o644);
    replay.cached("not executable any more");
    let link = root.join("util/fixtures/link");
    fs::remove_file(&link).unwrap();
    symlink("other.txt", &link).unwrap();
    replay.red("a link to another file");
    fs::remove_file(&link).unwrap();
    symlink("greeting.txt", &link).unwrap();
    replay.cached("the link is mended");
    replay.home.write("util/build-input.txt", "5\n");
    replay.red("another input of the build script");
    replay.home.write("util/build-input.txt", "4\n");
    replay.cached("the build script's old input");
}

fn beyond_the_tree(replay: &mut Replay) {
    replay.home.write(".env", "BAD=1\n");
    replay.red("a bad .env, which git ignores");
    replay.home.write(".env", "GOOD=1\n");
    replay.green("a good .env").green();
    replay.home.environment.set("KNOB", "bad");
    replay.red("a bad variable");
    replay.home.environment.remove("KNOB");
    replay.cached("no such variable");

    replay.home.write("../outer/src/lib.rs", "pub fn answer() -> u32 {\n    41\n}\n");
    replay.red("an edit in the dependency outside");
    replay.home.write("../outer/src/lib.rs", "pub fn answer() -> u32 {\n    40 + 2\n}\n");
    replay.green("mended in another way").green();
    replay.home.write(OUTER_MANIFEST, &outer_manifest("0.2.0"));
    let lock = replay.home.root.join("Cargo.lock");
    replay.green("its version, and so Cargo.lock").green();
    assert!(fs::read_to_string(&lock).unwrap().contains("0.2.0"));
    replay.cached("again, the lock file having been written");

    let generated = "util/generated.txt";
    replay.home.write(generated, "degenerate");
    replay.red("a compiled-in file that git ignores");
    replay.home.write(generated, "generated");
    until_old(&replay.home.root.join(generated));
    replay.green("mended");
    replay.cached("and kept, the file being old enough");

    let extra = ["--workspace", "--features", "extra"];
    let with = replay.same_as_cargo("a feature", &extra);
    with.green();
    replay.same_as_cargo("the feature again", &extra).green_from("cache");
    replay.home.environment.set("EXTRA_FAILS", "1");
    let answer = replay.same_as_cargo("the feature's test fails", &extra);
    answer.red();
    replay.green("but not without the feature");
}
