//! What a developer's own cargo pays for a daemon that builds ahead, and what the daemon throws
//! away to keep that small.

use std::fs;
use std::time::{Duration, Instant};

use super::stage::{Stage, pause};
use super::table::{Table, median, milliseconds, print_spread};
use super::workspaces::{Edits, Workspaces};

/// How often a foreground check meets a build of the daemon's, and none.
const ROUNDS: usize = 20;
/// A check begins at most so long after the daemon's build.
const LATEST: u64 = 4_000;
const CHECK: [&str; 3] = ["check", "--workspace", "--quiet"];
/// Saves of an editor that checks at every one of them, and the time between two.
const SAVES: usize = 20;
const BETWEEN: Duration = Duration::from_secs(5);

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    added(stage, workspaces, table);
    thrown_away(stage, workspaces, table);
}

/// A check that starts at some moment of our build, against one after the same edit with nobody
/// else about.
fn added(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let root = &workspaces.real;
    let mut edits = Edits::of(&workspaces.edited);
    stage.run("cargo", root, &CHECK);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let mut moment = 7_919;
    while with.len() <= ROUNDS {
        edits.next();
        without.push(stage.run("cargo", root, &CHECK));
        stage.daemon(&[root]);
        edits.next();
        stage.wait(root, "a build", || stage.project(root)["state"] == "building");
        moment = moment * 31 % 10_007;
        pause(Duration::from_millis(moment * LATEST / 10_007));
        // A build that has ended meanwhile would make it too easy.
        if stage.project(root)["state"] == "building" {
            with.push(stage.run("cargo", root, &CHECK));
        } else {
            without.pop();
        }
        stage.end_daemon();
    }
    // The first round warms caches up.
    let (with, without) = (&with[1..], &without[1..]);
    print_spread("with a build of ours", with);
    print_spread("alone", without);
    let alone = median(without);
    let added: Vec<_> = with.iter().map(|time| time.saturating_sub(alone)).collect();
    let worst = added.iter().max().copied().unwrap_or_default();
    table.row(
        "time added to a foreground `cargo check` that meets our build, median",
        milliseconds(median(&added)),
        format!("{} (alone)", milliseconds(alone)),
        "",
        "150 ms, hope 50 ms",
    );
    table.row("the same, worst of 20", milliseconds(worst), "", "", "400 ms");
}

/// An editor that checks at every save, and a daemon that wants to build all the time.
fn thrown_away(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let root = &workspaces.real;
    let mut edits = Edits::of(&workspaces.edited);
    stage.daemon(&[root]);
    let begun = Instant::now();
    for save in 1..=SAVES {
        edits.next();
        stage.run("cargo", root, &CHECK);
        let next = BETWEEN * u32::try_from(save).expect("few");
        pause(next.saturating_sub(begun.elapsed()));
    }
    let courtesy = stage.project(root)["courtesy"].clone();
    stage.end_daemon();
    let number = |name: &str| courtesy[name].as_u64().unwrap_or_default();
    let (spent, lost) = (number("spent_ms"), number("lost_ms"));
    let share = 100.0 * lost as f64 / spent.max(1) as f64;
    table.row(
        "background work thrown away by giving way, an editor checking every 5 s",
        format!("{share:.0} % of {:.1} s", spent as f64 / 1e3),
        "",
        "",
        "30 %, hope 10 %",
    );
}

/// Units that a build by hand finds stale after one of ours, and the other way round.
pub(crate) fn alternate(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let root = &workspaces.real;
    let build = ["test", "--workspace", "--no-run", "--message-format=json"];
    stage.run("cargo", root, &build);
    stage.daemon(&[root]);
    let mut rebuilt = 0;
    for _ in 0..10 {
        stage.ours(root, &["rebuild"]);
        let told = stage.output("cargo", root, &build);
        rebuilt += told.lines().filter(|line| line.contains(r#""fresh":false"#)).count();
        let before = fingerprints(root);
        stage.ours(root, &["rebuild"]);
        rebuilt += usize::from(fingerprints(root) != before);
    }
    stage.end_daemon();
    table.row("units rebuilt, our build and theirs alternating 10 times", rebuilt, "", "", "0");
}

/// When cargo last built something here, by the files in which it keeps why.
fn fingerprints(root: &std::path::Path) -> Vec<std::time::SystemTime> {
    let list = fs::read_dir(root.join("target/debug/.fingerprint")).expect("a built workspace");
    let mut times: Vec<_> = list
        .flatten()
        .flat_map(|unit| fs::read_dir(unit.path()).into_iter().flatten().flatten())
        .filter(|file| !file.file_name().to_string_lossy().starts_with("invoked"))
        .filter_map(|file| file.metadata().ok()?.modified().ok())
        .collect();
    times.sort_unstable();
    times
}
