//! From a save to tests that are ready to run.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::stage::Stage;
use super::table::{Pair, Table, median, milliseconds};
use super::workspaces::{Edits, Workspaces};

const ROUNDS: usize = 9;
/// The shipped one.
const DEBOUNCE: Duration = Duration::from_secs(1);

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let Workspaces { real, edited, .. } = workspaces;
    let mut edits = Edits::of(edited);
    let build = ["test", "--workspace", "--no-run"];
    stage.run("cargo", real, &build);
    // Only the daemon's side has the daemon up: by hand, nobody else builds.
    let (mut ours, mut besides) = (Vec::new(), Vec::new());
    let mut peer = Vec::new();
    for _ in 0..=ROUNDS {
        edits.next();
        peer.push(stage.run("cargo", real, &build));
        stage.daemon(&[real]);
        // It knows nothing of this code, so it builds: all of it fresh.
        let last_build = || stage.project(real)["last_build"].clone();
        stage.wait(real, "the first build", || !last_build().is_null());
        let before = last_build();
        let saved = SystemTime::now();
        edits.next();
        let mut build = Value::Null;
        stage.wait(real, "a build", || {
            build = last_build();
            build != before
        });
        assert_eq!(build["success"], true, "{build}");
        // When it was ready, by the daemon's own clock: looking for it takes no part in it.
        let ready = build["when"].as_u64().expect("a time");
        let saved = saved.duration_since(UNIX_EPOCH).expect("a clock");
        let elapsed = Duration::from_millis(ready).saturating_sub(saved).saturating_sub(DEBOUNCE);
        let cargo = build["duration_ms"].as_u64().map_or(elapsed, Duration::from_millis);
        ours.push(elapsed);
        besides.push(elapsed.saturating_sub(cargo));
        stage.end_daemon();
    }
    // The first time warms caches up and counts for neither.
    let (ours, peer) = (&ours[1..], &peer[1..]);
    let pair = Pair::from_times(ours, peer);
    let what = "from save to binaries ready, less the debounce";
    table.slower(what, &pair, "`cargo test --workspace --no-run`", "1.1, hope 1.02");
    // What is left of the ratio on a machine with other work: the daemon's builds make way.
    let share = milliseconds(median(&besides[1..]));
    table.row("of which not in cargo", share, "", "", "");
}
