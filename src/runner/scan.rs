//! Reads a test binary's standard output as it comes and gathers what it claims.
//!
//! Every line can be a lie: tests write to the real standard output too, and so do the programs
//! that they start. So nothing is decided here; claims for and against a test are only counted,
//! and [`super::evidence`] judges them at the end.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::BufRead as _;

use crate::model::Outcome;

use super::lines::{self, Summary};

/// Lines are looked at up to this length, in bytes; longer ones are noise.
const LINE: usize = 8 * 1024;
/// How many different names are remembered where any name could be one.
const NAMES: usize = 200_000;
/// How many headers and summaries are remembered, the latest ones.
const MARKS: usize = 64;

/// Which names can be a test's.
#[derive(Clone, Debug)]
pub(super) enum Names {
    /// Exactly these, in the order in which they are run.
    Known(Listing),
    /// What rustdoc could have made up.
    Doctests,
    /// Anything: a harness of another kind that prints as libtest does.
    Any,
    /// The list could not be had: no name is believed.
    Unknown,
}

/// The tests of a binary as `--list` gave them.
#[derive(Clone, Debug, Default)]
pub(super) struct Listing {
    /// In the order in which they are run.
    pub(super) names: Vec<String>,
    known: HashSet<String>,
}

impl Listing {
    /// Reads the terse list; `None` if a name comes twice, which libtest never prints.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let name = |line| {
            let line = std::str::from_utf8(line).ok()?;
            line.strip_suffix(": test").or_else(|| line.strip_suffix(": benchmark"))
        };
        let names: Vec<String> =
            text.split(|byte| *byte == b'\n').filter_map(name).map(str::to_owned).collect();
        let known: HashSet<String> = names.iter().cloned().collect();
        (known.len() == names.len()).then_some(Self { names, known })
    }

    /// The list of a single test.
    pub(super) fn one(name: &str) -> Self {
        Self { names: vec![name.to_owned()], known: HashSet::from([name.to_owned()]) }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    pub(super) fn len(&self) -> u64 {
        self.names.len() as u64
    }
}

/// How often the output said what about one test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claims {
    /// `ok`.
    pub(super) ok: u32,
    /// `FAILED`, or named in a list of failures.
    pub(super) failed: u32,
    /// `ignored`.
    pub(super) ignored: u32,
}

/// A line that opens or closes a block of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OutputMark {
    /// `running N tests`.
    Header(u64),
    /// `test result: …`, and the names between it and the last `failures:` before it; `None` if
    /// there is anything else between them.
    Summary(Summary, Option<Vec<String>>),
}

/// What stands below a `failures:` line. Only a list without anything else in it counts: what
/// tears a name's line apart leaves something behind.
#[derive(Debug, Default)]
struct FailureList {
    /// There was such a line.
    begun: bool,
    torn: bool,
    names: Vec<String>,
}

/// The state of reading.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) names: Names,
    pub(super) claims: HashMap<String, Claims>,
    pub(super) marks: VecDeque<OutputMark>,
    /// More was claimed than is remembered.
    pub(super) overflow: bool,
    /// Headers and summaries of exactly the known number of tests.
    pub(super) matching_headers: u64,
    pub(super) matching_summaries: u64,
    json: bool,
    line: Vec<u8>,
    /// The line is longer than what is kept of it.
    cut: bool,
    /// A test whose line has begun and whose outcome has not come yet.
    open: Option<String>,
    /// The lines since the last `failures:`.
    failures: FailureList,
}

impl Scan {
    pub(super) fn new(names: Names, json: bool) -> Self {
        Self {
            names,
            claims: HashMap::new(),
            marks: VecDeque::new(),
            overflow: false,
            matching_headers: 0,
            matching_summaries: 0,
            json,
            line: Vec::new(),
            cut: false,
            open: None,
            failures: FailureList::default(),
        }
    }

    /// Reads the next piece, cut anywhere, and calls `heard` for each test at its first outcome:
    /// a hint for a progress line, no evidence.
    pub(super) fn feed(&mut self, mut bytes: &[u8], heard: &mut dyn FnMut(&str, Outcome)) {
        while let Some(end) = line_end(bytes) {
            if self.line.is_empty() && !self.cut && end <= LINE {
                self.one_line(&bytes[..end], heard);
            } else {
                self.keep(&bytes[..end]);
                self.end_line(heard);
            }
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// The output is at its end: a last line without an end counts too.
    pub(super) fn finish(&mut self, heard: &mut dyn FnMut(&str, Outcome)) {
        if !self.line.is_empty() {
            self.end_line(heard);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE - self.line.len();
        self.cut |= bytes.len() > room;
        self.line.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    fn end_line(&mut self, heard: &mut dyn FnMut(&str, Outcome)) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.cut) {
            self.cut_line(&line);
        } else {
            self.one_line(&line, heard);
        }
        self.line = line;
        self.line.clear();
    }

    /// Scans the beginning of a line that is too long: only that can be libtest's.
    fn cut_line(&mut self, line: &[u8]) {
        self.failures.torn = true;
        let text = String::from_utf8_lossy(line);
        if let Some(name) = lines::claims(&text).find_map(|(name, _)| self.resolve(name)) {
            self.open = Some(name);
        }
    }

    fn one_line(&mut self, line: &[u8], heard: &mut dyn FnMut(&str, Outcome)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !self.may_matter(line) {
            self.failures.torn |= !line.is_empty();
            return;
        }
        let line = lines::plain(line);
        // Noise may be of any bytes; a line of libtest's own is text, and behind noise it is
        // still found in what the lossy conversion leaves.
        let line = String::from_utf8_lossy(&line);
        let line = &*line;
        if self.json && line.starts_with('{') {
            return self.json_line(line, heard);
        }
        if let Some(count) = lines::header(line) {
            self.failures.torn = true;
            return self.header(count);
        }
        if let Some(summary) = lines::summary(line) {
            return self.summary(summary);
        }
        if line == "failures:" {
            self.failures = FailureList { begun: true, ..FailureList::default() };
            return;
        }
        if let Some(name) = line.strip_prefix("    ").filter(|_| self.failures.begun) {
            self.listed_failure(name);
            return;
        }
        self.failures.torn |= !line.is_empty();
        if self.failures.begun && matches!(self.names, Names::Any) {
            // What failed tests have printed: all outcomes stand above it.
            return;
        }
        if let Some(outcome) = lines::outcome(line)
            && let Some(open) = self.open.clone()
        {
            // Kept open: what contradicts it may follow.
            return self.claim(&open, outcome, heard);
        }
        if let Some(name) = lines::terse_failure(line).and_then(|name| self.resolve(name)) {
            return self.claim(&name, Outcome::Failed, heard);
        }
        self.test_line(line, heard);
    }

    /// Whether `line` can be any of libtest's: most of what a test prints by the gigabyte is
    /// seen by its ends not to be.
    fn may_matter(&self, line: &[u8]) -> bool {
        let (Some(first), Some(last)) = (line.first(), line.last()) else { return false };
        // `tests`, `test`, `failures:`, `ok`, `FAILED`, `ignored`, `finished in 0.00s`,
        // `filtered out`, and the end of a colour; any end may follow `ignored, `.
        b"st:kDdm".contains(last)
            || matches!(first, b'{' | 0x1b)
            || (self.open.is_some() && b"oFib".contains(first))
            || (self.failures.begun && *first == b' ')
            || line.starts_with(b"test ")
    }

    fn test_line(&mut self, line: &str, heard: &mut dyn FnMut(&str, Outcome)) {
        let mut open = None;
        for (name, rest) in lines::claims(line) {
            let Some(name) = self.resolve(name) else { continue };
            if let Some(outcome) = lines::outcome(rest) {
                self.open = None;
                return self.claim(&name, outcome, heard);
            }
            // A known name is the name; otherwise a longer one may fit better.
            open = open.or(Some(name));
            if matches!(self.names, Names::Known(_)) {
                break;
            }
        }
        if open.is_some() && !matches!(self.names, Names::Any) {
            self.open = open;
        }
        if matches!(self.names, Names::Any) {
            return;
        }
        for later in lines::later_claims(line) {
            for (name, rest) in lines::claims(later) {
                let outcome = lines::outcome(rest);
                if let (Some(name), Some(outcome)) = (self.resolve(name), outcome) {
                    return self.claim(&name, outcome, heard);
                }
            }
        }
    }

    /// The test's name as it is listed, if it can be one.
    fn resolve(&self, name: &str) -> Option<String> {
        let name = name.trim_end();
        let base = lines::base_name(name);
        match &self.names {
            Names::Known(listing) => {
                [name, base].into_iter().find(|name| listing.contains(name)).map(str::to_owned)
            }
            Names::Doctests => lines::is_doctest_name(base).then(|| base.to_owned()),
            Names::Any => {
                Some(lines::without_kind(base)).filter(|name| !name.is_empty()).map(str::to_owned)
            }
            Names::Unknown => None,
        }
    }

    fn claim(&mut self, name: &str, outcome: Outcome, heard: &mut dyn FnMut(&str, Outcome)) {
        let Some(claims) = self.claims_of(name) else { return };
        if *claims == Claims::default() {
            heard(name, outcome);
        }
        let count = match outcome {
            Outcome::Ok => &mut claims.ok,
            Outcome::Failed => &mut claims.failed,
            Outcome::Ignored => &mut claims.ignored,
        };
        *count = count.saturating_add(1);
    }

    fn claims_of(&mut self, name: &str) -> Option<&mut Claims> {
        if self.claims.len() >= NAMES
            && !matches!(self.names, Names::Known(_))
            && !self.claims.contains_key(name)
        {
            self.overflow = true;
            return None;
        }
        Some(self.claims.entry(name.to_owned()).or_default())
    }

    fn listed_failure(&mut self, name: &str) {
        let Some(name) = self.resolve(name) else {
            self.failures.torn = true;
            return;
        };
        // Where any text could be a name, the captured output between the two lists would count.
        if !matches!(self.names, Names::Any) {
            let Some(claims) = self.claims_of(&name) else { return };
            claims.failed = claims.failed.saturating_add(1);
        }
        if self.failures.names.len() < NAMES {
            self.failures.names.push(name);
        } else {
            self.failures.torn = true;
        }
    }

    fn header(&mut self, count: u64) {
        if let Names::Known(listing) = &self.names {
            self.matching_headers += u64::from(count == listing.len());
        }
        self.mark(OutputMark::Header(count));
    }

    fn summary(&mut self, summary: Summary) {
        if let Names::Known(listing) = &self.names {
            self.matching_summaries += u64::from(summary.total() == listing.len());
        }
        self.open = None;
        let failures = std::mem::take(&mut self.failures);
        let names = (failures.begun && !failures.torn).then_some(failures.names);
        self.mark(OutputMark::Summary(summary, names));
    }

    fn mark(&mut self, mark: OutputMark) {
        if self.marks.len() == MARKS {
            self.marks.pop_front();
            self.overflow |= !matches!(self.names, Names::Known(_));
        }
        self.marks.push_back(mark);
    }

    /// One object of `--format json`, which nightly's libtest prints.
    fn json_line(&mut self, line: &str, heard: &mut dyn FnMut(&str, Outcome)) {
        let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return };
        let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
        let number = |key: &str| value.get(key).and_then(serde_json::Value::as_u64);
        match (text("type"), text("event")) {
            (Some("suite"), Some("started")) => self.header(number("test_count").unwrap_or(0)),
            (Some("suite"), Some(event @ ("ok" | "failed"))) => {
                let figure = |key| number(key).unwrap_or(0);
                let counts = crate::model::TestCounts {
                    passed: figure("passed").saturating_add(figure("measured")),
                    failed: figure("failed"),
                    ignored: figure("ignored"),
                    filtered: figure("filtered_out"),
                };
                // JSON has no list of failures: the failed tests' own events stand for it.
                let failed = self.claims.iter().filter(|(_, claims)| claims.failed > 0);
                let names = failed.map(|(name, _)| name.clone()).collect();
                self.failures = FailureList { begun: true, torn: false, names };
                if (event == "ok") == (counts.failed == 0) {
                    self.summary(Summary { ok: event == "ok", counts });
                }
            }
            (Some("test"), Some(event)) => {
                let outcome = match event {
                    "ok" => Outcome::Ok,
                    "failed" | "timeout" => Outcome::Failed,
                    "ignored" => Outcome::Ignored,
                    _ => return,
                };
                if let Some(name) = text("name").and_then(|name| self.resolve(name)) {
                    self.claim(&name, outcome, heard);
                }
            }
            _ => {}
        }
    }

    /// The tests that are running now as far as the output tells: the one whose line has begun,
    /// or the first unfinished ones of the list, which libtest starts in order.
    pub(super) fn running(&self, concurrency: usize, in_order: bool) -> Vec<String> {
        let mut line = None;
        if !self.line.is_empty() {
            let text = String::from_utf8_lossy(&self.line);
            line = lines::claims(&text).find_map(|(name, _)| self.resolve(name));
        }
        let open = line.or_else(|| self.open.clone());
        if concurrency == 1
            && let Some(open) = open.filter(|name| !self.claims.contains_key(name))
        {
            return vec![open];
        }
        let Names::Known(listing) = &self.names else { return Vec::new() };
        let unfinished = listing.names.iter().filter(|name| !self.claims.contains_key(*name));
        let unfinished: Vec<String> = unfinished.take(concurrency + 1).cloned().collect();
        if in_order || unfinished.len() <= concurrency {
            unfinished.into_iter().take(concurrency).collect()
        } else {
            Vec::new()
        }
    }
}

/// Where the first line of `bytes` ends, found as fast as the system's C library finds it.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    let length = rest.skip_until(b'\n').ok()?;
    bytes[..length].ends_with(b"\n").then(|| length - 1)
}
