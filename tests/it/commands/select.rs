//! `select`: what would run, for pipelines of one's own.

use serde_json::Value;

use crate::home::{Home, LIMIT, Ran, can_observe, skip};

const RED: &str = "#[test] fn bad() { panic!() }\n";

fn workspace() -> Home {
    Home::with(&[
        ("tests/it.rs", "#[test] fn it() {}\n"),
        ("src/main.rs", "fn main() {}\n#[test] fn of_bin() {}\n"),
    ])
}

fn filter(home: &Home) -> String {
    home.ok(&["select", "--format", "nextest-filter"]).trim_end().to_owned()
}

/// `cargo nextest` with the filter.
fn nextest(home: &Home, filter: &str) -> Ran {
    home.start("cargo", &["nextest", "run", "--no-tests", "pass", "-E", filter]).end(LIMIT)
}

#[test]
fn nextest_runs_what_is_selected() {
    let home = workspace();
    let version = home.start("cargo", &["nextest", "--version"]).end(LIMIT);
    if version.code != Some(0) {
        return skip("a filter for nextest", &version.stderr);
    }
    // Nothing is known: everything.
    assert_eq!(filter(&home), "all()");
    let ran = nextest(&home, &filter(&home));
    assert!(ran.code == Some(0) && ran.stderr.contains("4 passed"), "{ran:#?}");
    home.test(&["--no-daemon"]).green_from("run");
    // Everything is known: nothing.
    assert_eq!(filter(&home), "none()");
    let ran = nextest(&home, &filter(&home));
    assert!(ran.code == Some(0) && ran.stderr.contains("0 tests run"), "{ran:#?}");
    // A new target is known to nobody.
    home.write("tests/new.rs", RED);
    let ran = nextest(&home, &filter(&home));
    assert!(ran.code == Some(100) && ran.stderr.contains("p::new bad"), "{ran:#?}");
    home.write("tests/new.rs", "#[test] fn good() {}\n");
    home.write("tests/it.rs", RED);
    let ran = nextest(&home, &filter(&home));
    assert!(ran.code == Some(100) && ran.stderr.contains("p::it bad"), "{ran:#?}");
}

/// A filter that leaves targets out by name is one that nextest understands.
#[test]
fn nextest_knows_our_names_of_targets() {
    let home = workspace();
    let version = home.start("cargo", &["nextest", "--version"]).end(LIMIT);
    if version.code != Some(0) {
        return skip("a filter for nextest", &version.stderr);
    }
    let ran = nextest(&home, r"not binary_id(/^(p|p::bin\/p|p::it|p::gone)$/)");
    assert!(ran.code == Some(0) && ran.stderr.contains("0 tests run"), "{ran:#?}");
}

#[test]
fn json_says_of_each_target_whether_it_is_selected() {
    if !can_observe("a selection") {
        return;
    }
    let home = workspace();
    let lines = || -> Vec<Value> {
        let text = home.ok(&["select", "--format", "json"]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let nothing = lines();
    assert_eq!(nothing.len(), 1, "{nothing:#?}");
    assert_eq!(
        (&nothing[0]["type"], &nothing[0]["selects_unknown"]),
        (&"summary".into(), &true.into())
    );
    let answer = home.test(&["--no-daemon"]);
    answer.green_from("run");
    let all = lines();
    assert_eq!(all.last().unwrap()["code_hash"], answer.code_hash());
    assert_eq!(all.last().unwrap()["selects_unknown"], false);
    assert_eq!(all.len(), answer.targets.len() + 1, "{all:#?}");
    assert!(all.iter().rev().skip(1).all(|target| target["selected"] == false), "{all:#?}");
    home.write("tests/it.rs", RED);
    let stale = lines();
    let it = stale.iter().find(|target| target["target"] == "it").unwrap();
    assert_eq!(
        (&it["package"], &it["kind"], &it["selected"]),
        (&"p".into(), &"test".into(), &true.into())
    );
    assert!(!it["reason"].as_str().unwrap().is_empty(), "{it}");
    assert_eq!(stale.last().unwrap()["selects_unknown"], true);
}
