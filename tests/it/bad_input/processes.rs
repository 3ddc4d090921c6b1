//! Tests that hang, crash or disappear, and commands that are interrupted.

use std::fs;

use rustix::process::Signal;

use crate::home::{EXE, Home, LIMIT, SOON, answered, is_gone, skip, until};

/// A workspace whose test (and, if asked for, build script) writes down its process and a child's,
/// then waits for ever. The file's name is in `PIDS`.
fn hanging(build: bool) -> Home {
    let wait = "let pids = std::env::var(\"PIDS\").unwrap();\n\
                let mut child = std::process::Command::new(\"sleep\").arg(\"600\").spawn().unwrap();\n\
                std::fs::write(&pids, format!(\"{} {} \", std::process::id(), child.id())).unwrap();\n\
                child.wait().unwrap();\n";
    let test = format!("#[test] fn quick() {{}}\n#[test] fn hangs() {{\n{wait}}}\n");
    let script = format!("fn main() {{\n{wait}}}\n");
    let mut home = Home::with(&[("src/lib.rs", &test)]);
    if build {
        home.write("build.rs", &script);
    }
    home.environment.set("PIDS", home.base.join("out/pids"));
    home
}

/// Waits until the test has begun to wait.
fn pids(home: &Home) -> Vec<i32> {
    until("the test hangs", || {
        let text = fs::read_to_string(home.base.join("out/pids")).unwrap_or_default();
        let pids: Vec<i32> = text
            .split_inclusive(' ')
            .filter_map(|word| word.strip_suffix(' ')?.parse().ok())
            .collect();
        (pids.len() == 2).then_some(pids)
    })
}

fn all_gone(pids: &[i32]) {
    until("no process is left", || pids.iter().all(|pid| is_gone(*pid)).then_some(()));
}

#[test]
fn a_test_that_hangs_is_ended_in_time() {
    let home = hanging(false);
    home.config("", "timeout = '2s'");
    let answer = home.test(&["--no-daemon"]);
    answer.red();
    assert_eq!(answer.targets[0]["end"], "timed out", "{answer:#?}");
    assert!(answer.ran.stderr.contains("hangs"), "the test is named: {answer:#?}");
    all_gone(&pids(&home));
    assert_eq!(home.records(), 0, "a time-out proves nothing");
}

fn interrupted(build: bool, signal: Signal, code: i32, with_daemon: bool) {
    let home = hanging(build);
    home.config("", "debounce = '1h'");
    let way: &[&str] = if with_daemon { &[] } else { &["--no-daemon"] };
    let started = home.start(EXE, &[&["test", "--format", "json"], way].concat());
    let pids = pids(&home);
    started.signal(signal);
    let answer = answered(started.end(SOON));
    assert_eq!((answer.ran.code, answer.verdict()), (Some(code), "error"), "{answer:#?}");
    all_gone(&pids);
    assert_eq!(home.left_over(), Vec::<String>::new());
    assert_eq!(home.records(), 0);
}

#[test]
fn ctrl_c_ends_the_whole_tree_of_a_running_test() {
    interrupted(false, Signal::INT, 130, false);
}

#[test]
fn sigterm_ends_the_whole_tree_of_a_running_test() {
    interrupted(false, Signal::TERM, 143, false);
}

#[test]
fn ctrl_c_ends_the_whole_tree_of_a_build() {
    interrupted(true, Signal::INT, 130, false);
}

#[test]
fn a_command_that_is_killed_leaves_the_daemon_serving() {
    let home = hanging(false);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    let started = home.start(EXE, &["test"]);
    let pids = pids(&home);
    started.signal(Signal::KILL);
    assert_eq!(started.end(SOON).code, None);
    // The test dies with the command; its own child is orphaned.
    until("the test is gone", || is_gone(pids[0]).then_some(()));
    let _ = rustix::process::kill_process(
        rustix::process::Pid::from_raw(pids[1]).unwrap(),
        Signal::KILL,
    );
    home.write("src/lib.rs", "#[test] fn t() {}\n");
    home.test(&[]).green_from("run");
    daemon.stop();
}

#[test]
fn a_test_that_kills_itself_by_signal() {
    let body = "#[test] fn aborts() { std::process::abort() }\n";
    let home = Home::with(&[
        ("src/lib.rs", ""),
        ("tests/a.rs", body),
        ("tests/b.rs", "#[test] fn b() {}"),
    ]);
    for _ in 0..2 {
        let answer = home.test(&["--no-daemon"]);
        answer.red();
        let target = answer.targets.iter().find(|target| target["target"] == "a").unwrap();
        assert_eq!((&target["verdict"], &target["end"]), (&"fail".into(), &"signal 6".into()));
        let other = answer.targets.iter().find(|target| target["target"] == "b").unwrap();
        assert_eq!(other["verdict"], "pass", "the others are run all the same");
    }
}

#[test]
fn a_binary_that_disappears_before_it_is_run() {
    // The first target removes the second one's executable. On one processor they take turns.
    let body = "#[test] fn removes() {\n\
                let own = std::env::current_exe().unwrap();\n\
                for entry in own.parent().unwrap().read_dir().unwrap() {\n\
                let path = entry.unwrap().path();\n\
                let name = path.file_name().unwrap().to_str().unwrap();\n\
                if name.starts_with(\"victim-\") { std::fs::remove_file(&path).unwrap(); }\n\
                }\n}\n";
    let home = Home::with(&[("src/lib.rs", body), ("tests/victim.rs", "#[test] fn t() {}\n")]);
    let processor =
        home.start("sh", &["-c", "taskset -pc $$ | sed 's/.*: //; s/[-,].*//'"]).end(LIMIT);
    let processor = processor.stdout.trim();
    if processor.is_empty() {
        return skip("a binary that disappears", "there is no taskset");
    }
    let line = ["-c", processor, EXE, "test", "--format", "json", "--no-daemon"];
    let answer = answered(home.start("taskset", &line).end(LIMIT));
    answer.red();
    let victim = answer.targets.iter().find(|target| target["target"] == "victim").unwrap();
    assert_eq!((&victim["verdict"], &victim["end"]), (&"fail".into(), &"not started".into()));
    assert!(answer.ran.stderr.contains("victim"), "{answer:#?}");
    assert_eq!(home.records(), 0, "that says nothing about the code");
    home.write("src/lib.rs", "");
    home.test(&["--no-daemon"]).green_from("run");
}

#[test]
fn a_file_that_changes_during_a_run_makes_it_uncacheable() {
    let body = "#[test] fn writes() {\n\
                let before = std::fs::read_to_string(\"written\").unwrap_or_default();\n\
                std::fs::write(\"written\", before + \"x\").unwrap(); }\n";
    let home = Home::with(&[("src/lib.rs", body)]);
    home.config("", "debounce = '1h'");
    for way in [&["--no-daemon"][..], &[]] {
        let daemon = way.is_empty().then(|| home.daemon());
        let answer = home.test(way);
        answer.green_from("run");
        assert!(answer.summary["not_kept"].to_string().contains("written"), "{answer:#?}");
        drop(daemon);
    }
    assert_eq!(home.records(), 0);
}
