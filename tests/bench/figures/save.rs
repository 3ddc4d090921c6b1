//! From a save to tests that are ready to run.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::stage::Stage;
use super::table::{Pair, Table};
use super::workspaces::Workspaces;

const ROUNDS: usize = 9;
/// The shipped one.
const DEBOUNCE: Duration = Duration::from_secs(1);

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let Workspaces { real, edited, .. } = workspaces;
    let original = fs::read_to_string(edited).expect("a source file");
    let build = ["test", "--workspace", "--no-run"];
    stage.run("cargo", real, &build);
    let mut edits = 0;
    // A function that grows, so that the code is really another one each time.
    let mut next = || {
        edits += 1;
        let code = format!("\n/// Edit.\n#[doc(hidden)]\npub fn edit() -> u32 {{ {edits} }}\n");
        original.clone() + &code
    };
    // Only the daemon's side has the daemon up: by hand, nobody else builds.
    let mut ours = Vec::new();
    let mut peer = Vec::new();
    for _ in 0..=ROUNDS {
        fs::write(edited, next()).expect("a save");
        peer.push(stage.run("cargo", real, &build));
        stage.daemon(&[real]);
        let before = last_build(&stage.project(real));
        let saved = SystemTime::now();
        fs::write(edited, next()).expect("a save");
        let mut build = Value::Null;
        stage.wait(real, "a build", || {
            build = stage.project(real)["last_build"].clone();
            build != before && !build.is_null()
        });
        assert_eq!(build["success"], true, "{build}");
        // When it was ready, by the daemon's own clock: looking for it takes no part in it.
        let ready = build["when"].as_u64().expect("a time");
        let saved = saved.duration_since(UNIX_EPOCH).expect("a clock");
        ours.push(Duration::from_millis(ready).saturating_sub(saved).saturating_sub(DEBOUNCE));
        stage.end_daemon();
    }
    fs::write(edited, &original).expect("the file as it was");
    // The first time warms caches up and counts for neither.
    let (ours, peer) = (&ours[1..], &peer[1..]);
    let pair = Pair::from_times(ours, peer);
    let what = "from save to binaries ready, less the debounce";
    table.slower(what, &pair, "`cargo test --workspace --no-run`", "1.1, hope 1.02");
}

fn last_build(project: &Value) -> Value {
    project["last_build"].clone()
}
