//! The table at the end, and the numbers in it.

use std::fmt::Display;
use std::time::Duration;

/// The rows so far.
pub(crate) struct Table(Vec<String>);

impl Table {
    /// An empty table about the workspace of this name.
    pub(crate) fn new(workspace: &str) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(vec![
            format!("Medians; {cores} cores; the workspace is {workspace}."),
            String::new(),
            "| what | ours | peer | ratio | bar |".to_owned(),
            "|---|---|---|---|---|".to_owned(),
        ])
    }

    /// A row of times, of which the ratio is how much longer ours takes.
    pub(crate) fn slower(&mut self, what: &str, pair: &Pair, peer: &str, bar: &str) {
        let ratio = pair.ours.as_secs_f64() / pair.peer.as_secs_f64();
        self.times(what, pair, peer, &format!("{ratio:.2}"), bar);
    }

    /// A row of times, of which the ratio is how much longer the peer takes.
    pub(crate) fn faster(&mut self, what: &str, pair: &Pair, peer: &str, bar: &str) {
        let ratio = pair.peer.as_secs_f64() / pair.ours.as_secs_f64();
        self.times(what, pair, peer, &format!("{ratio:.1}x faster"), bar);
    }

    fn times(&mut self, what: &str, pair: &Pair, peer: &str, ratio: &str, bar: &str) {
        let (ours, theirs) = (milliseconds(pair.ours), milliseconds(pair.peer));
        self.row(what, &ours, format!("{theirs} ({peer})"), ratio, bar);
    }

    /// A row of anything.
    pub(crate) fn row(
        &mut self,
        what: &str,
        ours: impl Display,
        peer: impl Display,
        ratio: impl Display,
        bar: &str,
    ) {
        let row = format!("| {what} | {ours} | {peer} | {ratio} | {bar} |");
        println!("{row}");
        self.0.push(row);
    }

    /// Prints it.
    pub(crate) fn print(&self) {
        println!("\n{}", self.0.join("\n"));
    }
}

/// A duration with the digits that mean something.
pub(crate) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 100.0 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{milliseconds:.0} ms")
    }
}

/// Two medians from one run.
pub(crate) struct Pair {
    pub(crate) ours: Duration,
    pub(crate) peer: Duration,
}

impl Pair {
    /// Times both, one after the other, `rounds` times; the first time counts for neither.
    pub(crate) fn of(
        rounds: usize,
        mut ours: impl FnMut() -> Duration,
        mut peer: impl FnMut() -> Duration,
    ) -> Self {
        ours();
        peer();
        let times: Vec<_> = (0..rounds).map(|_| (ours(), peer())).collect();
        let (ours, peer): (Vec<_>, Vec<_>) = times.into_iter().unzip();
        Self::from_times(&ours, &peer)
    }

    /// The medians of times that were taken alternately.
    pub(crate) fn from_times(ours: &[Duration], peer: &[Duration]) -> Self {
        print_spread("ours", ours);
        print_spread("peer", peer);
        Self { ours: median(ours), peer: median(peer) }
    }
}

/// The middle one.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

/// A line with the extremes: a machine with other work shows here.
pub(crate) fn print_spread(name: &str, times: &[Duration]) {
    let [least, most] =
        [times.iter().min(), times.iter().max()].map(|time| time.copied().unwrap_or_default());
    let (least, most) = (milliseconds(least), milliseconds(most));
    println!(
        "  {name}: {} times, {} ({least} to {most})",
        times.len(),
        milliseconds(median(times))
    );
}
