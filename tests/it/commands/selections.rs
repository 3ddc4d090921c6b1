//! Selections mean what they mean to `cargo test`.

use crate::home::{Home, can_observe, takes_long, until_old};
use crate::replay::workspace::make;

#[test]
fn selections_mean_what_they_mean_to_cargo() {
    if takes_long() {
        return;
    }
    let home = make();
    // No snapshot holds this file, and a run that reads a young file is uncacheable.
    until_old(&home.root.join("util/generated.txt"));
    // Cargo's line and whether every test in it passes.
    let lines: &[(&[&str], bool)] = &[
        (&["-p", "util"], true),
        (&["-p", "util", "--test", "reads"], true),
        (&["-p", "util", "--doc"], true),
        (&["--workspace", "--lib"], true),
        (&["--workspace", "--bins"], true),
        (&["--workspace", "--exclude", "app"], true),
        (&["--workspace", "--all-targets"], true),
        (&["--workspace", "double"], true),
        (&["--workspace", "no_test_is_called_so"], true),
        (&["-p", "util", "--all-features"], true),
        (&["-p", "util", "--test", "reads", "--", "--ignored"], false),
        (&["-p", "util", "--test", "reads", "--", "--include-ignored", "--skip", "ignored"], true),
        (&["-p", "util", "--lib", "--", "--nocapture"], true),
        (&["-p", "util", "--lib", "--release"], true),
        (&["-p", "app", "--example", "demo"], true),
        (&["--manifest-path", "util/Cargo.toml", "--lib"], true),
    ];
    for (line, green) in lines {
        let ours = home.test(&[&["--no-daemon"], *line].concat());
        // Cargo's own flags come before `--`.
        let mut whole = vec!["test", "--no-fail-fast"];
        whole.extend(*line);
        let real = home.cargo(&whole);
        let expected = real.results();
        assert_eq!(ours.results(), expected, "{line:?}: {ours:#?}\n{real:#?}");
        assert_eq!(ours.verdict() == "pass", *green, "{line:?}: {ours:#?}");
        let again = home.test(&[&["--no-daemon"], *line].concat());
        if *green {
            again.green_from("cache");
        } else {
            again.red();
        }
    }
}

#[test]
fn one_selection_never_answers_for_another() {
    if takes_long() {
        return;
    }
    if !can_observe("answers for a part of another selection") {
        return;
    }
    let home = Home::with(&[
        ("src/lib.rs", "#[test] fn one() {}\n#[test] #[ignore] fn broken() { panic!() }\n"),
        ("tests/it.rs", "#[test] fn it() {}\n"),
    ]);
    home.config("", "debounce = '1h'");
    let daemon = home.daemon();
    home.test(&["one"]).green_from("run");
    home.test(&["--lib"]).green_from("run");
    home.test(&["--", "--ignored"]).red();
    home.test(&["--", "--include-ignored"]).red();
    // The library was run as it is asked for now.
    home.test(&[]).green_from("mixed");
    home.test(&["--release", "--lib"]).green_from("run");
    for line in [&["one"][..], &["--lib"], &[], &["--release", "--lib"]] {
        home.test(line).green_from("cache");
    }
    // What only changes speed or display is the same question.
    home.test(&["--lib", "-j", "1"]).green_from("cache");
    home.test(&["--", "--ignored"]).red();
    daemon.stop();
}

#[test]
fn the_configured_selection_applies_everywhere_in_the_project() {
    let home = Home::with(&[("tests/it.rs", "#[test] fn it() {}\n")]);
    home.config("", "args = ['--test', 'it']");
    let whole = home.test(&["--no-daemon"]);
    whole.green_from("run");
    assert_eq!(whole.targets.len(), 1);
    let line = ["test", "--format", "json", "--no-daemon"];
    let below = home.start_in(&home.root.join("src"), crate::home::EXE, &line, false);
    crate::home::answered(below.end(crate::home::LIMIT)).green_from("cache");
    let root = home.root.display().to_string();
    let line = [&line[..], &["--project", &root]].concat();
    let elsewhere = home.start_in(&home.base, crate::home::EXE, &line, false);
    crate::home::answered(elsewhere.end(crate::home::LIMIT)).green_from("cache");
}
