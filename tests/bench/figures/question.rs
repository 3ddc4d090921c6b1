//! `test` when nothing has changed.

use super::stage::Stage;
use super::table::{Pair, Table};
use super::workspaces::Workspaces;

const ROUNDS: usize = 41;
const SLOW_ROUNDS: usize = 15;

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let Workspaces { real, large, real_name, .. } = workspaces;
    println!("building and testing {} and {}", real.display(), large.display());
    stage.daemon(&[real, large]);
    stage.warm(real, &[]);
    stage.warm(large, &[]);
    // What a developer types, with nothing to do.
    let build = ["test", "--workspace", "--no-run"];
    stage.run("cargo", real, &build);

    let pair =
        Pair::of(ROUNDS, || stage.ours(real, &["test"]), || stage.run("cargo", real, &build));
    let what = format!("`test`, nothing changed, daemon, {real_name}");
    table.faster(&what, &pair, "`cargo test --workspace --no-run`", "5x, hope 15x");

    let pair = Pair::of(ROUNDS, || stage.ours(large, &["test"]), || stage.ours(real, &["test"]));
    let peer = format!("the same on {real_name}");
    table.slower("the same, 100,000 files", &pair, &peer, "under 2, hope 1");
    stage.end_daemon();

    stage.warm(large, &["--no-daemon"]);
    stage.run("git", large, &["status"]);
    let pair = Pair::of(
        SLOW_ROUNDS,
        || stage.ours(large, &["test", "--no-daemon"]),
        || stage.run("git", large, &["status"]),
    );
    let what = "`test --no-daemon`, nothing changed, 100,000 files";
    table.slower(what, &pair, "`git status`", "1.5, hope 1");
}
