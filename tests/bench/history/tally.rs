//! The table and its sums.

use std::fmt;
use std::time::Duration;

use crate::players::{Commit, Said};
use crate::results::Results;

/// The head of the table.
pub(crate) const HEAD: &str = "\
| commit | ours | cargo | run | cached | ours, s | cargo, s | title |
|---|---|---|--:|--:|--:|--:|---|";

impl Results {
    fn verdict(&self) -> &'static str {
        match self {
            Self { error: true, .. } => "error",
            Self { failed, .. } if failed.is_empty() => "pass",
            Self { .. } => "fail",
        }
    }
}

/// One commit.
pub(crate) struct Row<'a> {
    pub(crate) commit: &'a Commit,
    pub(crate) answer: Said,
    pub(crate) judgement: Said,
    pub(crate) agreed: bool,
    /// The judge said two things about one tree.
    pub(crate) flaky: bool,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commit, answer, judgement, .. } = self;
        let mut title: String = commit.title.replace('|', "/").chars().take(40).collect();
        if self.flaky {
            title.push_str(" (FLAKY: the judge disagreed with itself)");
        }
        if !self.agreed {
            title.push_str(" **DISAGREE**");
        }
        write!(
            f,
            "| {} | {} | {} | {} | {} | {:.2} | {:.2} | {title} |",
            &commit.hash[..10.min(commit.hash.len())],
            answer.results.verdict(),
            judgement.results.verdict(),
            answer.run,
            answer.kept,
            answer.took.as_secs_f64(),
            judgement.took.as_secs_f64(),
        )?;
        if !self.agreed {
            write!(f, "\n\nours: {:#?}\ncargo: {:#?}\n", answer.results, judgement.results)?;
        }
        Ok(())
    }
}

/// All commits.
#[derive(Default)]
pub(crate) struct Tally {
    commits: usize,
    errors: usize,
    pub(crate) disagreements: usize,
    flaky: usize,
    run: u64,
    kept: u64,
    run_time: Duration,
    kept_time: Duration,
    ours: Duration,
    cargo: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, row: &Row<'_>) {
        let Row { answer, judgement, .. } = row;
        self.commits += 1;
        self.errors += usize::from(judgement.results.error);
        self.disagreements += usize::from(!row.agreed);
        self.flaky += usize::from(row.flaky);
        self.run += answer.run;
        self.kept += answer.kept;
        self.run_time += answer.run_time;
        self.kept_time += answer.kept_time;
        self.ours += answer.took;
        self.cargo += judgement.took;
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { 100.0 * part / whole } else { 0.0 }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} commits, {} of which do not build", self.commits, self.errors)?;
        writeln!(f, "disagreements: {} ({} commits flaky)", self.disagreements, self.flaky)?;
        let targets = self.run + self.kept;
        writeln!(
            f,
            "target runs avoided: {} of {targets} ({:.0} %)",
            self.kept,
            share(self.kept as f64, targets as f64)
        )?;
        let (run, kept) = (self.run_time.as_secs_f64(), self.kept_time.as_secs_f64());
        writeln!(
            f,
            "test time avoided: {kept:.1} s of {:.1} s ({:.0} %)",
            run + kept,
            share(kept, run + kept)
        )?;
        let (ours, cargo) = (self.ours.as_secs_f64(), self.cargo.as_secs_f64());
        write!(f, "from question to answer: {ours:.1} s, cargo test {cargo:.1} s (")?;
        write!(f, "{:.2} of it)", if cargo > 0.0 { ours / cargo } else { 0.0 })
    }
}
