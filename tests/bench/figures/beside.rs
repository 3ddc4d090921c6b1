//! A compile in the foreground on all cores, with the daemon building another project.

use std::fs;

use super::stage::Stage;
use super::table::{Pair, Table};
use super::workspaces::Workspaces;

/// How often each, unless `KNHK_BENCH_ROUNDS` says otherwise.
const ROUNDS: usize = 20;

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let rounds = std::env::var("KNHK_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    // The same workspace twice: the one that the daemon builds, and the one in front.
    let (theirs, ours) = (stage.dir().join("front"), stage.dir().join("behind"));
    for copy in [&theirs, &ours] {
        let (from, to) = (workspaces.real.display(), copy.display());
        let args = ["clone", "-q", "--no-hardlinks", &from.to_string(), &to.to_string()];
        stage.run("git", stage.dir(), &args);
    }
    let compile = |with: bool| {
        let _ = fs::remove_dir_all(theirs.join("target"));
        if with {
            let _ = fs::remove_dir_all(ours.join("target"));
            stage.forget();
            stage.daemon_busy(&ours);
        }
        let time = stage.run("cargo", &theirs, &["build", "--workspace", "--quiet"]);
        if with {
            // It was at it all the time, or this compares nothing.
            let state = stage.project(&ours)["state"].clone();
            assert!(state == "building" || state == "paused", "{state}");
            stage.end_daemon();
        }
        time
    };
    let pair = Pair::of(rounds.unwrap_or(ROUNDS), || compile(true), || compile(false));
    let what = "a foreground compile, with the daemon building another project";
    table.slower(what, &pair, "without", "1.05, hope 1.0");
}
