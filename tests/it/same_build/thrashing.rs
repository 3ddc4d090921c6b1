//! Two cargos that differ in a variable and invalidate each other's artifacts.

use super::{at_rest, by_hand, by_service, workspace};
use crate::home::{Home, takes_long, until};

/// Edits, and waits until the service has built it (`idle`) or refuses to (`paused`); gives the
/// status.
fn edit(home: &Home, round: usize, state: &str) -> serde_json::Value {
    let before = home.project_status();
    home.write(
        "src/lib.rs",
        &format!("#[test] fn one() {{ assert_eq!(q::q(), 1) }}\n// {round}\n"),
    );
    until("the edit is seen", || {
        (home.project_status()["code_hash"] != before["code_hash"]).then_some(())
    });
    until("the edit is dealt with", || {
        let status = at_rest(home);
        let built = status["last_build"]["when"] != before["last_build"]["when"];
        // A build that waits for its turn is paused for a moment, too.
        let held = status["reason"].as_str().is_some_and(|reason| reason.contains("builds q"));
        (status["state"] == state && if state == "paused" { held } else { built }).then_some(status)
    })
}

#[test]
fn the_service_backs_off_and_names_the_difference() {
    if takes_long() {
        return;
    }
    let mut home = workspace("FLAVOUR");
    home.config("", "debounce = '20ms'");
    let daemon = home.daemon();
    at_rest(&home);
    let plain = home.environment.clone();
    let mut shell = plain.clone();
    shell.set("FLAVOUR", "vanilla");
    let mut status = serde_json::Value::Null;
    for round in 0..2 {
        home.environment = shell.clone();
        assert_ne!(by_hand(&home), 0, "theirs");
        status = edit(&home, round, ["idle", "paused"][round]);
        assert_ne!(status["last_build"]["rebuilt"], 0, "{status:#?}");
    }
    assert_eq!(status["state"], "paused", "{status:#?}");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("builds q with another FLAVOUR"), "{reason}");
    assert!(home.ok(&["status"]).contains("FLAVOUR"));
    assert!(daemon.stderr().contains("FLAVOUR"), "{}", daemon.stderr());
    // The developer's artifacts stay fresh.
    by_hand(&home);
    let last = status["last_build"]["when"].clone();
    status = edit(&home, 10, "paused");
    assert_eq!(status["last_build"]["when"], last, "{status:#?}");
    assert_eq!(by_hand(&home), 3, "the edited library and what is linked with it");
    // After a question from that shell the service builds like it.
    home.test(&[]).green();
    status = edit(&home, 11, "idle");
    assert_ne!(status["last_build"]["when"], last, "{status:#?}");
    assert_eq!(status["state"], "idle", "{status:#?}");
    assert_eq!(by_hand(&home), 0);
    daemon.stop();
}

#[test]
fn a_foreground_build_ends_the_thrashing() {
    if takes_long() {
        return;
    }
    let mut home = workspace("FLAVOUR");
    home.config("", "debounce = '20ms'");
    let daemon = home.daemon();
    at_rest(&home);
    let plain = home.environment.clone();
    for round in 0..2 {
        home.environment.set("FLAVOUR", "vanilla");
        by_hand(&home);
        home.environment = plain.clone();
        edit(&home, round, ["idle", "paused"][round]);
    }
    assert_eq!(at_rest(&home)["state"], "paused");
    // The other shell is gone.
    by_hand(&home);
    assert_eq!(by_service(&home), 0);
    edit(&home, 2, "idle");
    assert_eq!(by_hand(&home), 0);
    daemon.stop();
}
