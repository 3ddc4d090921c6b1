//! A daemon with many projects.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::idle::{IDLE, Used, bytes, memory};
use super::stage::{Stage, pause};
use super::table::{Table, median, milliseconds};
use super::workspaces::{commit, write};

const PROJECTS: usize = 30;
const FILES: usize = 2_000;
const STARTS: usize = 20;

pub(crate) fn measure(stage: &Stage, table: &mut Table) {
    let roots: Vec<PathBuf> = (0..PROJECTS).map(|number| project(stage, number)).collect();
    let roots: Vec<_> = roots.iter().map(PathBuf::as_path).collect();
    stage.forget();
    stage.daemon(&roots);
    // All of them are built and known.
    for root in &roots {
        stage.warm(root, &[]);
    }
    stage.stop_daemon();
    let mut ready = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        stage.spawn_daemon();
        stage.wait_ready();
        ready.push(begun.elapsed());
        if ready.len() < STARTS {
            stage.stop_daemon();
        }
    }
    let id = stage.daemon_id();
    pause(Duration::from_secs(15));
    let resident = bytes(memory(id, "VmRSS:"));
    let before = Used::by(id);
    pause(IDLE);
    let used = before.zip(Used::by(id)).and_then(|(before, after)| after.since(&before));
    stage.end_daemon();
    let used = used.map_or("not told here".to_owned(), |(time, switches)| {
        format!("{:.2} ms, {switches} wake-ups", time.as_secs_f64() * 1e3)
    });
    let worst = ready.iter().max().copied().unwrap_or_default();
    let ready = format!("{} (worst {})", milliseconds(median(&ready)), milliseconds(worst));
    let of = format!("{PROJECTS} projects of {FILES} files");
    table.row(&format!("{of}: resident memory"), resident, "", "", "80 MB, hope 40 MB");
    table.row(&format!("{of}: processor time, 60 s idle"), used, "", "", "30 ms, hope 15 ms");
    table.row(&format!("{of}: start to ready, warm memo"), ready, "", "", "1 s, hope 0.5 s");
}

fn project(stage: &Stage, number: usize) -> PathBuf {
    let root = stage.dir().join(format!("many/m{number:02}"));
    write(
        &root.join("Cargo.toml"),
        format!("[package]\nname = 'm{number:02}'\nversion = '0.1.0'\nedition = '2021'\n")
            .as_bytes(),
    );
    write(&root.join("src/lib.rs"), b"#[test]\nfn holds() {}\n");
    for file in 0..FILES {
        let path = root.join(format!("data/d{:02}/f{file:04}.txt", file % 40));
        write(&path, format!("{number} {file}\n").repeat(40).as_bytes());
    }
    commit(stage, &root);
    fs::canonicalize(root).expect("it was just made")
}
