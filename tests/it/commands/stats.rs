//! `stats`: the history of hits and misses, its page, and a history that cannot be used.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::home::{EXE, Home, LIMIT, can_observe, is_root, until_old};

/// A workspace with two targets, one of which reads a file.
fn workspace() -> Home {
    let home = Home::with(&[
        ("data", "1"),
        ("tests/it.rs", "#[test] fn it() { std::fs::read(\"data\").unwrap(); }\n"),
    ]);
    home.config("", "debounce = '1h'");
    home
}

fn lines(home: &Home, args: &[&str]) -> Vec<Value> {
    let text = home.ok(&[&["stats", "--format", "json"], args].concat());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The sums of the workspace's days.
fn sums(home: &Home) -> Value {
    let root = home.root.to_str().unwrap();
    let mut lines = lines(home, &["--project", root]);
    lines.retain(|line| line["type"] == "project");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// Asserts answers, those from records alone, targets from records, and targets that ran.
#[track_caller]
fn counted(home: &Home, expected: [u64; 4]) {
    let sums = sums(home);
    let names = ["answers", "answers_from_cache", "targets_cached", "targets_run"];
    let found = names.map(|name| sums[name].as_u64().unwrap());
    assert_eq!(found, expected, "{sums:#}");
}

fn history(home: &Home) -> PathBuf {
    home.paths().cache_dir.join("history")
}

/// The file of today.
fn today(home: &Home) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(history(home)).unwrap().flatten().collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    files.pop().unwrap().path()
}

#[test]
fn hits_and_misses_are_counted_with_and_without_a_daemon() {
    let home = workspace();
    counted(&home, [0, 0, 0, 0]);
    assert!(home.ok(&["stats"]).contains("nothing was asked in the last 30 days"));
    home.test(&["--no-daemon"]).green_from("run");
    counted(&home, [1, 0, 0, 2]);
    home.test(&["--no-daemon"]).green_from("cache");
    counted(&home, [2, 1, 2, 2]);
    let daemon = home.daemon();
    home.test(&[]).green_from("cache");
    counted(&home, [3, 2, 4, 2]);
    // No verdict is asked for, and nothing is known: neither is an answer.
    home.run(&["test", "--no-run"]);
    home.run(&["test", "--", "--list"]);
    home.run(&["check"]);
    counted(&home, [3, 2, 4, 2]);
    home.write("src/lib.rs", "#[test] fn one() { panic!() }\n#[test] fn two() {}\n");
    let red = home.test(&[]);
    red.red();
    let (cached, run) = (red.count("targets_cached"), red.count("targets_run"));
    counted(&home, [4, 2, 4 + cached, 2 + run]);
    home.write("src/lib.rs", "#[test] fn one() {}\n#[test] fn two() {}\n");
    home.test(&[]).green_from("cache");
    home.test(&["--verify"]).green_from("run");
    counted(&home, [6, 3, 6 + cached, 4 + run]);
    daemon.stop();

    let all = lines(&home, &[]);
    let of = |kind: &str| all.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    let project = of("project")[0];
    assert_eq!((project["verified"].as_u64(), project["wrong"].as_u64()), (Some(1), Some(0)));
    assert!(of("day").iter().all(|day| day["date"].as_str().unwrap().starts_with("20")));
    let reasons: u64 = of("reason").iter().map(|line| line["misses"].as_u64().unwrap()).sum();
    assert_eq!(reasons, 4 + run, "{all:#?}");
    assert!(of("reason").iter().any(|line| line["reason"] == "asked to run"), "{all:#?}");
    let targets: Vec<_> = of("target").iter().map(|line| line["target"].clone()).collect();
    assert!(targets.contains(&"p".into()) && targets.contains(&"p::it".into()), "{all:#?}");
    let text = home.ok(&["stats", "--days", "1"]);
    assert!(text.contains("6 times, 3 from records alone"), "{text}");
    assert!(text.contains("verified 1, wrong 0"), "{text}");
    assert!(lines(&home, &["--project", "/"]).iter().all(|line| line["project"] == "/"));
    for days in ["0", "91"] {
        assert_eq!(home.run(&["stats", "--days", days]).code, Some(2));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn calls_by_cargo_are_counted_and_what_is_never_cached_has_its_reason() {
    if !can_observe("exec as cargo's runner") {
        return;
    }
    let spawns = "#[test] fn it() { std::process::Command::new(\"sleep\").arg(\"3\")\
                  .stdout(std::process::Stdio::null()).spawn().unwrap(); }\n";
    let home = Home::with(&[("tests/it.rs", spawns)]);
    let runner = format!("target.'cfg(all())'.runner=[{EXE:?}, 'exec']");
    let cargo = |args: &[&str]| {
        let args = [&["--config", &runner, "test"], args].concat();
        let ran = home.start("cargo", &args).end(LIMIT);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
    };
    cargo(&["--no-run"]);
    until_old(&home.root.join("src/lib.rs"));
    cargo(&[]);
    counted(&home, [2, 0, 0, 2]);
    cargo(&[]);
    counted(&home, [4, 1, 1, 3]);
    let lines = lines(&home, &[]);
    let not_cached = lines.iter().find(|line| line["type"] == "not_cached").unwrap();
    assert_eq!(not_cached["target"], "p::it", "{lines:#?}");
    assert_eq!(not_cached["why"][0], "it left a process behind", "{lines:#?}");
    assert!(home.ok(&["stats"]).contains("not cached p::it: it left a process behind"));
}

/// The names of the elements of a page, after a check that each is closed in its turn.
#[track_caller]
fn elements(page: &str) -> Vec<String> {
    let rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    let (mut open, mut all) = (Vec::new(), Vec::new());
    for part in rest.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("torn: <{part}"));
        assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "<{part}");
        for entity in text.split('&').skip(1).chain(tag.split('&').skip(1)) {
            let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
            assert!(known.iter().any(|known| entity.starts_with(known)), "&{entity}");
        }
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()), "<{part}");
        } else {
            let name = tag.split([' ', '/']).next().unwrap().to_owned();
            if !tag.ends_with('/') {
                open.push(name.clone());
            }
            all.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
    all
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
    let home = workspace();
    let file = home.base.join("out/stats.html");
    let page = |args: &[&str]| {
        let ran = home.run(&[&["stats", "--html", file.to_str().unwrap()], args].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:#?}");
        fs::read_to_string(&file).unwrap()
    };
    elements(&page(&[]));
    home.test(&["--no-daemon"]).green_from("run");
    home.test(&["--no-daemon"]).green_from("cache");
    // Another project of this name, which no command line has to be able to make.
    let entry = fs::read_to_string(today(&home)).unwrap();
    let entry = entry.lines().find(|line| line.contains("\"misses\":2")).unwrap();
    let root = format!("{:?}", home.root);
    let entry = entry.replace(&root, "\"/<script src='http://x/'>&\\\"\\u0007\"");
    let mut today = fs::OpenOptions::new().append(true).open(today(&home)).unwrap();
    today.write_all(format!("\n{entry}").as_bytes()).unwrap();

    let text = page(&["--days", "7"]);
    let elements = elements(&text);
    let count = |name: &str| elements.iter().filter(|other| *other == name).count();
    assert_eq!((count("section"), count("script")), (2, 0), "{text}");
    // Two plots of seven days for each project, one of them with two bars a day.
    assert!(count("svg") >= 4 && count("rect") >= 2 * 3 * 7, "{text}");
    assert!(text.contains("/&lt;script src=&#39;http://x/&#39;&gt;&amp;&quot;\u{fffd}"), "{text}");
    for foreign in ["href", "url(", "@import", "<link", "<img", "<iframe", " src=\"", " onload"] {
        assert!(!text.contains(foreign), "{foreign}: {text}");
    }
    assert_eq!(text.matches("http://").count(), 1, "only in text: {text}");
    let other = page(&["--project", home.root.to_str().unwrap()]);
    assert_eq!(other.matches("<section>").count(), 1, "{other}");

    let nowhere = home.run(&["stats", "--html", "no/such/folder.html"]);
    assert_eq!(nowhere.code, Some(1), "{nowhere:#?}");
    assert!(nowhere.stderr.contains("no/such/folder.html"), "{nowhere:#?}");
}

#[test]
fn a_damaged_history_loses_nothing_but_the_damage() {
    let home = workspace();
    home.test(&["--no-daemon"]).green_from("run");
    for damage in [&b"\n{\"when\":17"[..], b"\n\xff\0{}[]", b"\n{\"type\":\"answered\"}", b"\n7"] {
        let mut file = fs::OpenOptions::new().append(true).open(today(&home)).unwrap();
        file.write_all(damage).unwrap();
    }
    home.test(&["--no-daemon"]).green_from("cache");
    counted(&home, [2, 1, 2, 2]);
    // Old days go, and what is not ours stays.
    let (old, foreign) = (history(&home).join("1.jsonl"), history(&home).join("mine.txt"));
    fs::write(&old, "").unwrap();
    fs::write(&foreign, "").unwrap();
    home.ok(&["cache", "gc", "--dry-run"]);
    assert!(old.exists());
    home.ok(&["cache", "gc"]);
    assert!(!old.exists() && foreign.exists());
    counted(&home, [2, 1, 2, 2]);
}

#[test]
fn a_history_that_cannot_be_written_changes_no_answer() {
    let home = workspace();
    home.test(&["--no-daemon"]).green_from("run");
    let daemon = home.daemon();
    fs::remove_dir_all(history(&home)).unwrap();
    fs::write(history(&home), "no folder").unwrap();
    let answers = |home: &Home| {
        for way in [&["--no-daemon"][..], &[]] {
            let answer = home.test(way);
            answer.green_from("cache");
            assert!(!answer.ran.stderr.contains("history"), "{answer:#?}");
        }
    };
    answers(&home);
    counted(&home, [0, 0, 0, 0]);
    fs::remove_file(history(&home)).unwrap();
    // Root writes where it likes.
    if !is_root() {
        let cache = home.paths().cache_dir;
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o500)).unwrap();
        answers(&home);
        counted(&home, [0, 0, 0, 0]);
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
    }
    answers(&home);
    counted(&home, [2, 2, 4, 0]);
    daemon.stop();
}
