//! The table of one play, and what it comes to.

use std::time::Duration;

use crate::players::Said;

/// A wait that is longer than cargo's by more than this factor counts as slower.
const SLOWER: f64 = 1.05;
/// The most characters of a title in a row.
const TITLE_WIDTH: usize = 48;

/// One save.
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) ours: Said,
    pub(crate) cargo: Duration,
    pub(crate) nextest: Option<Duration>,
    pub(crate) agreed: bool,
}

/// All saves, by think time.
#[derive(Default)]
pub(crate) struct Report {
    passes: Vec<(Duration, Vec<Row>)>,
}

impl Report {
    /// Begins a pass with this think time.
    pub(crate) fn begin(&mut self, think: Duration) {
        println!("\n## Think {} s\n", think.as_secs_f64());
        println!(
            "| save | ours, s | cargo, s | nextest, s | ours / cargo | run | kept | what ran |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|---|");
        self.passes.push((think, Vec::new()));
    }

    /// Prints and adds a save.
    pub(crate) fn add(&mut self, row: Row) {
        let title: String = row.title.chars().take(TITLE_WIDTH).collect();
        let nextest = row.nextest.map_or("-".to_owned(), seconds);
        let mark = if row.agreed { "" } else { " **disagrees with cargo**" };
        let ran = if row.ours.ran.len() > 3 { String::new() } else { row.ours.ran.join(", ") };
        println!(
            "| {title}{mark} | {} | {} | {nextest} | {:.2} | {} | {} | {ran} |",
            seconds(row.ours.took),
            seconds(row.cargo),
            ratio(row.ours.took, row.cargo),
            row.ours.run,
            row.ours.kept,
        );
        self.passes.last_mut().expect("a pass has begun").1.push(row);
    }

    /// Prints the sums; the number of disagreements.
    pub(crate) fn finish(&self) -> usize {
        println!(
            "\n| think | saves | ours, median s | cargo | nextest | ours / cargo | worst | ours / nextest | slower than cargo by 5 % | disagreements |"
        );
        println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
        let mut disagreements = 0;
        for (think, rows) in &self.passes {
            let wrong = rows.iter().filter(|row| !row.agreed).count();
            disagreements += wrong;
            let against_cargo: Vec<_> =
                rows.iter().map(|row| ratio(row.ours.took, row.cargo)).collect();
            let against_nextest: Vec<_> =
                rows.iter().filter_map(|row| Some(ratio(row.ours.took, row.nextest?))).collect();
            let slower = against_cargo.iter().filter(|ratio| **ratio > SLOWER).count();
            let waits = |of: &dyn Fn(&Row) -> Option<Duration>| {
                let all = rows.iter().filter_map(of).map(|wait| wait.as_secs_f64());
                median(all.collect()).map_or("-".to_owned(), |wait| format!("{wait:.2}"))
            };
            let shown = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |r| format!("{r:.2}"));
            println!(
                "| {} s | {} | {} | {} | {} | {} | {} | {} | {slower} | {wrong} |",
                think.as_secs_f64(),
                rows.len(),
                waits(&|row| Some(row.ours.took)),
                waits(&|row| Some(row.cargo)),
                waits(&|row| row.nextest),
                shown(median(against_cargo.clone())),
                shown(against_cargo.iter().copied().reduce(f64::max)),
                shown(median(against_nextest)),
            );
        }
        disagreements
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64())
}

fn ratio(ours: Duration, peer: Duration) -> f64 {
    ours.as_secs_f64() / peer.as_secs_f64().max(0.001)
}

fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    match all.len() {
        0 => None,
        length if length % 2 == 1 => Some(all[middle]),
        _ => Some(f64::midpoint(all[middle - 1], all[middle])),
    }
}
