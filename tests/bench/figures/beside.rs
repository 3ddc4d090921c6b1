//! A compile in the foreground on all cores, with the daemon building another project.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::stage::Stage;
use super::table::{Table, median, milliseconds, print_spread};
use super::workspaces::{Workspaces, write};

/// How often each, unless `KNHK_BENCH_ROUNDS` says otherwise.
const ROUNDS: usize = 20;
/// All libraries: as parallel as the whole, without the seconds in which one program is linked.
const COMPILE: [&str; 4] = ["build", "--workspace", "--lib", "--quiet"];

pub(crate) fn measure(stage: &Stage, workspaces: &Workspaces, table: &mut Table) {
    let rounds = std::env::var("KNHK_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    // What `processors_busy` is set to; several words compare settings in one run.
    let settings = std::env::var("KNHK_BENCH_PROCESSORS_BUSY").unwrap_or("pause".to_owned());
    let settings: Vec<&str> = settings.split_whitespace().collect();
    // The same workspace twice: the one that the daemon builds, and the one in front.
    let copies = Copies { front: stage.dir().join("front"), behind: stage.dir().join("behind") };
    for copy in [&copies.front, &copies.behind] {
        let (from, to) = (workspaces.real.display(), copy.display());
        let args = ["clone", "-q", "--no-hardlinks", &from.to_string(), &to.to_string()];
        stage.run("git", stage.dir(), &args);
    }
    let mut without = Vec::new();
    let mut with = vec![Vec::new(); settings.len()];
    // The first round warms caches up.
    for round in 0..=rounds {
        let alone = copies.alone(stage);
        for (times, setting) in with.iter_mut().zip(&settings) {
            let time = copies.beside(stage, setting);
            if round > 0 {
                times.push(time);
            }
        }
        if round > 0 {
            without.push(alone);
        }
    }
    print_spread("without", &without);
    for (times, setting) in with.iter().zip(&settings) {
        print_spread(setting, times);
        let ratio = |with: Duration, without: Duration| with.as_secs_f64() / without.as_secs_f64();
        let mut ratios: Vec<_> = times.iter().zip(&without).map(|(a, b)| ratio(*a, *b)).collect();
        ratios.sort_by(f64::total_cmp);
        let all: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!("  ratios of single rounds: {}", all.join(" "));
        let peer = format!("{} (without)", milliseconds(median(&without)));
        let what = format!(
            "a foreground compile, with the daemon building another project ({setting}), median"
        );
        let middle = format!("{:.2}", ratio(median(times), median(&without)));
        table.row(&what, milliseconds(median(times)), peer, middle, "1.05, hope 1.0");
        let worst = format!("{:.2}", ratios.last().copied().unwrap_or_default());
        table.row("the same, worst of all rounds", "", "", worst, "");
    }
}

/// Two workspaces that differ in nothing.
struct Copies {
    front: PathBuf,
    behind: PathBuf,
}

impl Copies {
    fn alone(&self, stage: &Stage) -> Duration {
        let _ = fs::remove_dir_all(self.front.join("target"));
        stage.run("cargo", &self.front, &COMPILE)
    }

    fn beside(&self, stage: &Stage, setting: &str) -> Duration {
        let _ = fs::remove_dir_all(self.behind.join("target"));
        stage.forget();
        let config = format!("[background]\nprocessors_busy = \"{setting}\"\n");
        write(&stage.dir().join("f/knhk-test-cache/config.toml"), config.as_bytes());
        stage.daemon_busy(&self.behind);
        let time = self.alone(stage);
        // It was at it all the time, or this compares nothing.
        let project = stage.project(&self.behind);
        let state = &project["state"];
        assert!(*state == "building" || *state == "paused", "{state}");
        println!(
            "  {setting}: {}, suspended for {} ms of it",
            milliseconds(time),
            project["courtesy"]["stood_ms"]
        );
        stage.end_daemon();
        time
    }
}
